//! Small networks whose answers onnxruntime and Keras computed (`vectors/onnx/generate.py`).

use std::path::{Path, PathBuf};

use scuro_nn::export;
use scuro_nn::graph::{Graph, Op};
use scuro_nn::import::{self, Options, onnx};
use scuro_nn::reference::run;
use scuro_nn::tensor::Tensor;
use serde_json::Value;

struct Answer {
    input: Tensor,
    output: Vec<f32>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../vectors")
        .join(name)
}

fn answer(path: &Path) -> Answer {
    let text = std::fs::read_to_string(path.with_extension("json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let floats = |key: &str| -> Vec<f32> {
        json[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap() as f32)
            .collect()
    };
    let extents = json["input_shape"].as_array().unwrap();
    let shape: Vec<usize> = extents
        .iter()
        .map(|v| v.as_u64().unwrap() as usize)
        .collect();
    Answer {
        input: Tensor::new(shape, floats("input")).unwrap(),
        output: floats("output"),
    }
}

fn open(path: &Path) -> Graph {
    import::open(path, &Options::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn assert_answers(graph: &Graph, input: &Tensor, expected: &[f32]) {
    let found = run(graph, input).unwrap();
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.data.iter().zip(expected).enumerate() {
        assert!(
            (f - e).abs() <= 2e-5 * (1.0 + e.abs()),
            "value {i}: found {f}, expected {e}"
        );
    }
}

fn check_onnx(name: &str) -> Graph {
    let path = folder("onnx").join(format!("{name}.onnx"));
    let Answer { input, output } = answer(&path);
    let graph = open(&path);
    assert_answers(&graph, &input, &output);
    let again = onnx::from_bytes(&export::onnx(&graph).unwrap()).unwrap();
    assert_answers(&again, &input, &output);
    graph
}

fn check_keras(name: &str) {
    for ending in ["h5", "keras"] {
        let path = folder("keras").join(format!("{name}.{ending}"));
        let Answer { input, output } = answer(&path);
        assert_answers(
            &open(&path),
            &input.transposed(&[2, 0, 1]).unwrap(),
            &output,
        );
    }
}

#[test]
fn groups_dilation_asymmetric_padding_and_same_lower_agree_with_onnxruntime() {
    check_onnx("conv_asymmetric");
}

#[test]
fn pools_with_padding_and_rounding_up_agree_with_onnxruntime() {
    check_onnx("pools");
}

#[test]
fn scalar_products_and_sums_become_one_polynomial() {
    let graph = check_onnx("polynomials");
    let polynomials = graph
        .nodes
        .iter()
        .filter(|n| matches!(&n.op, Op::Polynomial { coefficients } if coefficients.len() == 3));
    assert_eq!(polynomials.count(), 1);
}

#[test]
fn shape_arithmetic_and_old_softmax_agree_with_onnxruntime() {
    let graph = check_onnx("views_opset9");
    let transposes = graph
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Transpose { .. }));
    assert_eq!(
        transposes.count(),
        0,
        "the dense layer absorbs the transpose"
    );
}

#[test]
fn padding_branches_and_batch_norm_agree_with_onnxruntime() {
    check_onnx("residual");
}

#[test]
fn sequential_keras_models_agree_with_keras() {
    check_keras("sequential");
}

#[test]
fn functional_keras_models_agree_with_keras() {
    check_keras("functional");
}

#[test]
fn slices_splits_gathers_and_reductions_agree_with_onnxruntime() {
    check_onnx("parts");
}

#[test]
fn piecewise_linear_activations_agree_with_onnxruntime() {
    check_onnx("bends");
}

#[test]
fn layers_over_one_axis_and_stored_arithmetic_agree_with_onnxruntime() {
    check_onnx("lines");
}

#[test]
fn weights_in_a_file_of_their_own_are_read() {
    check_onnx("weights_apart");
}

#[test]
fn nested_models_shared_layers_and_operators_agree_with_keras() {
    check_keras("nested");
}
