use std::collections::HashMap;

use safetensors::tensor::TensorView;

use super::*;

fn file(tensors: &[(&str, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, data)| data.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views: HashMap<&str, TensorView<'_>> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| {
            (
                *name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        })
        .collect();
    safetensors::serialize(views, None).unwrap()
}

fn weights() -> Vec<u8> {
    file(&[
        ("conv.weight", vec![2, 1, 2, 2], vec![0.5; 8]),
        ("conv.bias", vec![2], vec![1.0, -1.0]),
        ("fc.weight", vec![3, 12], vec![0.25; 36]),
    ])
}

const ARCHITECTURE: &str = r#"{
    "name": "small", "input": [1, 5, 5],
    "layers": [
        {"op": "conv2d", "weight": "conv.weight", "bias": "conv.bias",
         "stride": 2, "padding": [0, 1, 0, 0], "name": "c"},
        {"op": "square"},
        {"op": "polynomial", "coefficients": [0, 1, 2], "inputs": ["c"], "name": "p"},
        {"op": "max_pool", "kernel": 2, "stride": [1, 1], "padding": 1, "name": "m"},
        {"op": "max_pool", "kernel": [2, 2], "stride": [1, 1], "name": "n"},
        {"op": "add", "inputs": ["n", "p"]},
        {"op": "flatten"},
        {"op": "dense", "weight": "fc.weight"}
    ]
}"#;

fn faulty(architecture: &str) -> Error {
    from_bytes(&weights(), architecture.as_bytes()).expect_err("a refusal")
}

#[test]
fn an_architecture_file_builds_the_network() {
    let graph = from_bytes(&weights(), ARCHITECTURE.as_bytes()).unwrap();
    assert_eq!(graph.name, "small");
    let shapes = graph.shapes().unwrap();
    assert_eq!(shapes[1], [2, 2, 3]);
    assert_eq!(shapes.last().unwrap(), &[3]);
}

#[test]
fn unknown_layers_settings_and_names_are_refused() {
    let with = |layer: &str| format!(r#"{{"input": [12], "layers": [{layer}]}}"#);
    assert!(matches!(
        faulty(&with(r#"{"op": "gelu"}"#)),
        Error::Json { .. }
    ));
    assert!(matches!(
        faulty(&with(r#"{"op": "relu", "slope": 1}"#)),
        Error::Json { .. }
    ));
    assert!(matches!(
        faulty(&with(r#"{"op": "relu", "inputs": ["x"]}"#)),
        Error::UndefinedName { .. }
    ));
    let absent = faulty(&with(r#"{"op": "dense", "weight": "w"}"#));
    assert!(matches!(
        absent,
        Error::StoredTensor {
            fault: TensorFault::Absent,
            ..
        }
    ));
    let rank = faulty(&with(r#"{"op": "conv2d", "weight": "fc.weight"}"#));
    assert!(matches!(
        rank,
        Error::StoredTensor {
            fault: TensorFault::Rank { .. },
            ..
        }
    ));
}

#[test]
fn weights_that_are_nan_are_refused() {
    let weights = file(&[("w", vec![1, 2], vec![1.0, f32::NAN])]);
    let architecture = r#"{"input": [2], "layers": [{"op": "dense", "weight": "w"}]}"#;
    let found = from_bytes(&weights, architecture.as_bytes()).unwrap_err();
    assert!(matches!(
        found,
        Error::StoredTensor {
            fault: TensorFault::NonFinite { position: 1 },
            ..
        }
    ));
}

#[test]
fn bytes_that_are_no_safetensors_never_panic() {
    let bytes = weights();
    for cut in 0..bytes.len() {
        assert!(from_bytes(&bytes[..cut], ARCHITECTURE.as_bytes()).is_err());
    }
}
