//! `scuro accuracy` reproduces the figure that is stated for each model that others made.
//!
//! Needs the models and data sets beside the checkout; without them the test says so and passes,
//! unless `SCURO_REQUIRE_DATA=1`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// File, data set, preprocessing, right answers out of 10000.
const FIGURES: [(&str, &str, &[&str], u64); 11] = [
    (
        "mnist-8/mnist-8.onnx",
        "mnist",
        &["--input-scale", "1"],
        9891,
    ),
    ("opt-mnist.onnx", "mnist", &["--input-scale", "1"], 9891),
    (
        "burn-mnist-conv-bn.onnx",
        "mnist",
        &["--mean", "0.1307", "--std", "0.3081"],
        9916,
    ),
    (
        "lenet5-pytorch-b10.onnx",
        "mnist",
        &["--mean", "0.1307", "--std", "0.3081"],
        9913,
    ),
    (
        "onnx2c-mnist14-conv.onnx",
        "mnist",
        &["--input-scale", "1", "--resize", "14"],
        9405,
    ),
    ("mnist2x10.onnx", "mnist", &[], 9226),
    ("cnn_max_mninst2.onnx", "mnist", &[], 9823),
    ("cnn_max_mnist2.h5", "mnist", &[], 9823),
    ("mnist-mlp-64-32.h5", "mnist", &[], 9634),
    (
        "cifar_base_kw.onnx",
        "cifar10",
        &["--mean", "0.485,0.456,0.406", "--std", "0.225"],
        5853,
    ),
    (
        "cifar10-resnet8-mlperf-tiny.h5",
        "cifar10",
        &["--input-scale", "1"],
        8719,
    ),
];

#[test]
#[expect(
    clippy::print_stdout,
    reason = "whoever runs the tests should see what was left out"
)]
fn every_model_reaches_its_stated_accuracy() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let data = std::env::var_os("SCURO_DATA").map_or(shared.join("data"), PathBuf::from);
    let models = shared.join("models");
    if !models.is_dir() || !data.is_dir() {
        let required = std::env::var("SCURO_REQUIRE_DATA").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "no models in {} or no data in {}",
            models.display(),
            data.display()
        );
        println!("skipped: the models of others and the data sets are not here");
        return;
    }
    for (file, set, preprocess, expected) in FIGURES {
        assert_eq!(
            correct(&models.join(file), &data, set, preprocess),
            expected,
            "{file}"
        );
    }
}

fn correct(model: &Path, data: &Path, set: &str, preprocess: &[&str]) -> u64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scuro"));
    command
        .arg("accuracy")
        .arg(model)
        .args(["--data", set])
        .args(preprocess);
    command
        .arg("--data-dir")
        .arg(data)
        .args(["--format", "json", "--quiet"]);
    let output = command.output().expect("the binary runs");
    let envelope: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    envelope["data"]["correct"]
        .as_u64()
        .unwrap_or_else(|| panic!("{envelope}"))
}
