//! `scuro accuracy` reproduces the figure that is stated for each model that others made, and what
//! replaces their activations sees the same images.
//!
//! Needs the models and data sets beside the checkout, or in `SCURO_MODELS` and `SCURO_DATA`;
//! without them the tests say so and pass, unless `SCURO_REQUIRE_DATA=1`.

use std::path::{Path, PathBuf};
use std::process::Command;

use scuro_nn::data::load;
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

/// Images of each part that a short test looks at.
const FEW: usize = 200;

/// Folders with the models of others and with the data sets; nothing if they are not here.
#[expect(
    clippy::print_stdout,
    reason = "whoever runs the tests should see what was left out"
)]
fn models_and_data() -> Option<[PathBuf; 2]> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let place = |variable: &str, usual| {
        std::env::var_os(variable).map_or_else(|| shared.join(usual), PathBuf::from)
    };
    let (models, data) = (place("SCURO_MODELS", "models"), place("SCURO_DATA", "data"));
    if models.is_dir() && data.is_dir() {
        return Some([models, data]);
    }
    let required = std::env::var("SCURO_REQUIRE_DATA").is_ok_and(|value| value == "1");
    assert!(
        !required,
        "no models in {} or no data in {}",
        models.display(),
        data.display()
    );
    println!("skipped: the models of others and the data sets are not here");
    None
}

#[test]
fn every_model_reaches_its_stated_accuracy() {
    let Some([models, data]) = models_and_data() else {
        return;
    };
    for (file, set, preprocess, expected) in FIGURES {
        let model = models.join(file);
        assert_eq!(correct(&model, &data, set, preprocess), expected, "{file}");
    }
}

#[test]
fn fine_tuning_sees_the_images_that_scoring_sees() {
    let Some([models, data]) = models_and_data() else {
        return;
    };
    let folder = tempfile::tempdir().expect("temporary folder");
    for set in ["mnist", "cifar10"] {
        few(&data, set, folder.path());
    }
    for (file, set, preprocess, _) in FIGURES {
        let (model, out) = (models.join(file), folder.path().join("replaced.onnx"));
        let right = |model: &Path| correct(model, folder.path(), set, preprocess);
        let train = ["train", "--from", text(&model), "--out", text(&out)];
        let replace = ["--replace", "modified-square", "--epochs", "0"];
        let rest = [&["--data", set][..], preprocess].concat();
        let trained = run(folder.path(), &[&train[..], &replace, &rest].concat());
        let share = |reply: &Value| (reply.as_f64().expect("a share") * FEW as f64).round() as u64;
        let original = right(&model);
        assert_eq!(share(&trained["original"]["accuracy"]), original, "{file}");
        assert_eq!(share(&trained["test"]["accuracy"]), right(&out), "{file}");
        let words = ["activations", text(&model)];
        let study = run(folder.path(), &[&words[..], &replace, &rest].concat());
        assert_eq!(share(&study["original"]), original, "{file}");
        let replaced = &study["replacements"][0]["after"];
        assert_eq!(share(replaced), right(&out), "{file}");
        let stated = |reply: &Value| reply["preprocessing"]["scale"].as_f64();
        let raw = preprocess.contains(&"--input-scale");
        for reply in [&trained, &study] {
            assert_eq!(stated(reply) == Some(1.0), raw, "{file}");
        }
    }
}

/// Writes the first images of both parts of a data set to a folder of its name in `folder`.
fn few(data: &Path, set: &str, folder: &Path) {
    let folder = folder.join(set);
    std::fs::create_dir(&folder).expect("folder");
    let write = |name: &str, parts: &[&[u8]]| {
        std::fs::write(folder.join(name), parts.concat()).expect("file");
    };
    let batches = (1..=5).map(|number| format!("data_batch_{number}.bin"));
    for (part, digits, photographs) in [
        ("train", "train", batches.collect()),
        ("test", "t10k", vec!["test_batch.bin".to_string()]),
    ] {
        let name = format!("{set}:{part}").parse().expect("name");
        let data = load(name, &[data.to_path_buf()], Some(FEW)).expect("data set");
        if set == "mnist" {
            let header = |magic: u32, extents: &[u32]| {
                let words = [&[magic], extents].concat();
                words
                    .into_iter()
                    .flat_map(u32::to_be_bytes)
                    .collect::<Vec<u8>>()
            };
            let images = header(0x0803, &[FEW as u32, 28, 28]);
            let labels = header(0x0801, &[FEW as u32]);
            let [of_images, of_labels] = ["images-idx3-ubyte", "labels-idx1-ubyte"];
            write(&format!("{digits}-{of_images}"), &[&images, &data.images]);
            write(&format!("{digits}-{of_labels}"), &[&labels, &data.labels]);
        } else {
            let record = |i: usize| [&data.labels[i..=i], data.image(i)].concat();
            let records: Vec<u8> = (0..FEW).flat_map(record).collect();
            let files = photographs.iter();
            files.for_each(|file| write(file, &[&records]));
        }
    }
}

fn correct(model: &Path, data: &Path, set: &str, preprocess: &[&str]) -> u64 {
    let words = ["accuracy", text(model), "--data", set];
    let score = run(data, &[&words, preprocess].concat());
    score["correct"].as_u64().expect("a count")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// The data of a success, with the data sets in `data`.
fn run(data: &Path, words: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scuro"));
    command.args(words).arg("--data-dir").arg(data);
    command.args(["--format", "json", "--quiet"]);
    let output = command.output().expect("the binary runs");
    let envelope: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(envelope["status"], "ok", "{words:?}: {envelope}");
    envelope["data"].clone()
}
