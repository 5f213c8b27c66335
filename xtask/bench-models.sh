#!/usr/bin/env bash
# Trains the networks that `scuro bench gomez --models DIR` measures: about an hour on two cores. What is there is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
cargo build --release -p scuro-cli
scuro=$PWD/target/release/scuro
[ -z "${CARGO_TARGET_DIR:-}" ] || scuro=$CARGO_TARGET_DIR/release/scuro
mkdir -p "$1"
cd "$1"

# train FILE ARGUMENTS...: writes FILE unless it is there.
train() {
    local file=$1
    shift
    [ -f "$file" ] || "$scuro" train "$@" -o "$file"
}

train cifar10-cnn-relu.onnx cifar10-cnn --activation relu --data cifar10 --epochs 6 --seed 1
train mnist-cnn-relu.onnx cifar10-cnn --activation relu --data mnist --epochs 3 --seed 1
# Wholly polynomial: averages for maxima, every activation a learned quadratic.
train cifar10-he.onnx --from cifar10-cnn-relu.onnx --replace learned-quadratic --replace-which all --average-pools \
    --interval=-4,4 --distil --data cifar10 --epochs 14
# The last activation replaced, as in the paper.
for data in mnist cifar10; do
    train "$data-cnn-modified-square.onnx" --from "$data-cnn-relu.onnx" --replace modified-square --epochs 2 --data "$data"
done
train cifar10-cnn-none.onnx --from cifar10-cnn-relu.onnx --replace none --epochs 2 --data cifar10
