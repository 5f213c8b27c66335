//! Models that nobody here wrote reproduce their stated accuracy on full test sets.
//!
//! Runs where the models and data are found: `SCURO_MODELS` and `SCURO_DATA`, or the folders
//! `shared/models` and `shared/data` beside the checkout. Says so where it skips.

#![allow(clippy::print_stderr)]

use std::path::{Path, PathBuf};

use scuro_nn::data::{self, Dataset, Preprocess};
use scuro_nn::evaluate::classify;
use scuro_nn::import::{self, Options, onnx};
use scuro_nn::reference::run;
use scuro_nn::tensor::Tensor;

fn beside_checkout(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(folder)
}

fn models() -> PathBuf {
    std::env::var_os("SCURO_MODELS").map_or_else(|| beside_checkout("models"), PathBuf::from)
}

/// Says what is missing; where everything must be there, that is a failure.
fn skipped(missing: &str) {
    let required = std::env::var("SCURO_REQUIRE_DATA").is_ok_and(|value| value == "1");
    assert!(!required, "{missing}");
    eprintln!("skipped: {missing}");
}

fn dataset(name: &str) -> Option<Dataset> {
    let environment = std::env::var_os("SCURO_DATA");
    let beside = beside_checkout("data");
    let search = data::default_search_paths(None, environment.as_deref(), Some(&beside));
    let name = name.parse().unwrap();
    if !data::is_available(name, &search) {
        skipped(&format!("no files of {name} found; set SCURO_DATA"));
        return None;
    }
    Some(data::load(name, &search, None).unwrap())
}

fn found(file: &str) -> Option<PathBuf> {
    let path = models().join(file);
    if !path.is_file() {
        skipped(&format!("{file} not found; set SCURO_MODELS"));
        return None;
    }
    Some(path)
}

fn check(file: &str, data: &str, preprocess: &Preprocess, stated: f64) {
    let (Some(path), Some(data)) = (found(file), dataset(data)) else {
        return;
    };
    let graph = import::open(&path, &Options::default()).unwrap_or_else(|e| panic!("{file}: {e}"));
    let score = classify(&graph, &data, preprocess, None).unwrap();
    let accuracy = score.accuracy();
    eprintln!("{file}: {accuracy:.4}, stated {stated:.4}");
    assert_eq!(score.count, 10_000);
    assert!(
        (accuracy - stated).abs() < 1.01e-4,
        "{file}: {accuracy:.4}, stated {stated:.4}"
    );
}

fn scaled(mean: &[f32], std: &[f32]) -> Preprocess {
    Preprocess {
        scale: 1.0 / 255.0,
        mean: mean.to_vec(),
        std: std.to_vec(),
        ..Preprocess::default()
    }
}

fn unit() -> Preprocess {
    Preprocess::default()
}

#[test]
fn model_zoo_mnist_8_scores_as_stated() {
    check("mnist-8/mnist-8.onnx", "mnist", &Preprocess::raw(), 0.9891);
}

#[test]
fn optimised_mnist_8_scores_as_stated() {
    check("opt-mnist.onnx", "mnist", &Preprocess::raw(), 0.9891);
}

#[test]
fn burn_convolutions_with_batch_norm_score_as_stated() {
    check(
        "burn-mnist-conv-bn.onnx",
        "mnist",
        &scaled(&[0.1307], &[0.3081]),
        0.9916,
    );
}

#[test]
fn lenet5_with_a_fixed_batch_scores_as_stated() {
    check(
        "lenet5-pytorch-b10.onnx",
        "mnist",
        &scaled(&[0.1307], &[0.3081]),
        0.9913,
    );
    check("lenet5-pytorch-b10.onnx", "mnist", &unit(), 0.9905);
}

#[test]
fn convolutions_on_halved_images_score_as_stated() {
    check(
        "onnx2c-mnist14-conv.onnx",
        "mnist",
        &Preprocess::raw(),
        0.9405,
    );
}

#[test]
fn marabou_dense_network_scores_as_stated() {
    check("mnist2x10.onnx", "mnist", &unit(), 0.9226);
}

#[test]
fn marabou_channels_last_network_scores_as_stated() {
    check("cnn_max_mninst2.onnx", "mnist", &unit(), 0.9823);
}

#[test]
fn marabou_keras_network_scores_as_stated() {
    check("cnn_max_mnist2.h5", "mnist", &unit(), 0.9823);
}

#[test]
fn keras_dense_network_scores_as_stated() {
    check("mnist-mlp-64-32.h5", "mnist", &unit(), 0.9634);
}

#[test]
fn keras_residual_network_scores_as_stated() {
    check(
        "cifar10-resnet8-mlperf-tiny.h5",
        "cifar10",
        &Preprocess::raw(),
        0.8719,
    );
}

#[test]
fn oval_cifar_network_scores_as_stated() {
    check(
        "cifar_base_kw.onnx",
        "cifar10",
        &scaled(&[0.485, 0.456, 0.406], &[0.225]),
        0.5853,
    );
}

#[test]
fn mnist_8_reproduces_the_answers_published_with_it() {
    let Some(path) = found("mnist-8/mnist-8.onnx") else {
        return;
    };
    let graph = import::open(&path, &Options::default()).unwrap();
    for set in 0..3 {
        let folder = models().join(format!("mnist-8/test_data_set_{set}"));
        let read = |name: &str| -> Tensor {
            onnx::tensor_from_bytes(&std::fs::read(folder.join(name)).unwrap()).unwrap()
        };
        let input = read("input_0.pb").reshaped([1, 28, 28]).unwrap();
        let answer = run(&graph, &input).unwrap();
        for (found, expected) in answer.data.iter().zip(&read("output_0.pb").data) {
            assert!(
                (found - expected).abs() < 1e-3,
                "set {set}: {found} and {expected}"
            );
        }
    }
}
