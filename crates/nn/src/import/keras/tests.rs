use std::io::Write;

use super::*;

fn archive(config: &str) -> Vec<u8> {
    let vector = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../vectors/keras/sequential.keras"
    );
    let original = std::fs::read(vector).unwrap();
    let mut read = zip::ZipArchive::new(std::io::Cursor::new(original)).unwrap();
    let mut weights = Vec::new();
    std::io::copy(&mut read.by_name("model.weights.h5").unwrap(), &mut weights).unwrap();
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, bytes) in [
        ("config.json", config.as_bytes()),
        ("model.weights.h5", &weights),
    ] {
        writer.start_file(name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn sequential(layers: &str) -> String {
    let input =
        r#"{"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [null, 9, 8, 2]}}"#;
    format!(
        r#"{{"class_name": "Sequential",
            "config": {{"name": "m", "layers": [{input}, {layers}]}}}}"#
    )
}

fn refused(config: &str) -> Error {
    from_archive(&archive(config)).expect_err("a refusal")
}

#[test]
fn an_unsupported_layer_is_named_with_a_replacement() {
    let found = refused(&sequential(
        r#"{"class_name": "ELU", "config": {"name": "leak"}}"#,
    ));
    let message = found.to_string();
    assert!(matches!(found, Error::UnsupportedOp { .. }));
    assert!(
        message.contains("leak") && message.contains("use linear, relu"),
        "{message}"
    );
}

#[test]
fn settings_without_translation_say_so() {
    for layer in [
        r#"{"class_name": "Activation", "config": {"name": "a", "activation": "gelu"}}"#,
        r#"{"class_name": "ReLU", "config": {"name": "a", "threshold": 0.5}}"#,
        r#"{"class_name": "Flatten", "config": {"name": "a", "data_format": "channels_first"}}"#,
        r#"{"class_name": "MaxPooling2D", "config": {"name": "a", "pool_size": [2, -1]}}"#,
        r#"{"class_name": "Reshape", "config": {"name": "a", "target_shape": [7, -1]}}"#,
        r#"{"class_name": "Softmax", "config": {"name": "a", "axis": 1}}"#,
    ] {
        let found = refused(&sequential(layer));
        assert!(
            matches!(found, Error::UnsupportedAttribute { .. }),
            "{layer}: {found}"
        );
    }
}

#[test]
fn a_layer_without_its_weights_is_refused() {
    let found = refused(&sequential(
        r#"{"class_name": "Dense", "config": {"name": "absent"}}"#,
    ));
    assert!(
        matches!(found, Error::Hdf5 { .. } | Error::StoredTensor { .. }),
        "{found}"
    );
}

#[test]
fn a_model_without_fixed_shape_or_of_another_class_is_refused() {
    let open = r#"{"class_name": "Sequential", "config": {"layers": [{"class_name": "InputLayer",
        "config": {"name": "in", "batch_shape": [null, null, null, 3]}}]}}"#;
    assert!(matches!(refused(open), Error::OpenShape { .. }));
    let custom = r#"{"class_name": "MyModel", "config": {}}"#;
    assert!(matches!(refused(custom), Error::UnsupportedOp { .. }));
    let empty = r#"{"class_name": "Sequential", "config": {"layers": []}}"#;
    assert!(matches!(refused(empty), Error::NoGraph));
}

#[test]
fn layers_that_wait_for_each_other_are_refused() {
    let config = r#"{"class_name": "Functional", "config": {
        "input_layers": [["in", 0, 0]], "output_layers": [["a", 0, 0]], "layers": [
        {"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [null, 4]},
         "inbound_nodes": []},
        {"class_name": "ReLU", "config": {"name": "a"}, "inbound_nodes": [[["b", 0, 0, {}]]]},
        {"class_name": "ReLU", "config": {"name": "b"}, "inbound_nodes": [[["a", 0, 0, {}]]]}]}}"#;
    assert!(matches!(refused(config), Error::Cycle { .. }));
}

#[test]
fn bytes_that_are_neither_hdf5_nor_zip_are_errors() {
    assert!(matches!(
        from_h5(b"\x89HDF\r\n\x1a\n"),
        Err(Error::Hdf5 { .. })
    ));
    assert!(matches!(from_h5(b""), Err(Error::Hdf5 { .. })));
    assert!(matches!(
        from_archive(b"PK\x03\x04"),
        Err(Error::Zip { .. })
    ));
    assert!(matches!(refused("{"), Error::Json { .. }));
}

/// A functional model of one input and `layers`, whose answer is `last`.
fn functional(layers: &str, last: &str) -> String {
    format!(
        r#"{{"class_name": "Functional", "config": {{"name": "m",
        "input_layers": [["in", 0, 0]], "output_layers": [["{last}", 0, 0]], "layers": [
        {{"class_name": "InputLayer", "config": {{"name": "in", "batch_shape": [null, 4]}},
         "inbound_nodes": []}}, {layers}]}}}}"#
    )
}

const TENSOR: &str =
    r#"{"class_name": "__keras_tensor__", "config": {"keras_history": ["in", 0, 0]}}"#;

#[test]
fn numbers_beside_an_operand_are_never_dropped() {
    let layer = |class: &str, args: &str, kwargs: &str| {
        let layer = format!(
            r#"{{"class_name": "{class}", "config": {{"name": "a"}},
            "inbound_nodes": [{{"args": [{args}], "kwargs": {{{kwargs}}}}}]}}"#
        );
        from_archive(&archive(&functional(&layer, "a")))
    };
    let two = format!("{TENSOR}, 2.0");
    let graph = layer("Multiply", &two, "").unwrap();
    let input = crate::tensor::Tensor::vector(vec![1.0, 2.0, 3.0, 4.0]);
    let found = crate::reference::run(&graph, &input).unwrap();
    assert_eq!(found.data, [2.0, 4.0, 6.0, 8.0]);
    for refused in [
        layer("Multiply", TENSOR, r#""x2": 2.0"#),
        layer("Multiply", TENSOR, ""),
        layer("ReLU", &two, ""),
        layer("Divide", &format!("2.0, {TENSOR}"), ""),
        layer("Power", &format!("{TENSOR}, 0.5"), ""),
    ] {
        let found = refused.expect_err("a refusal");
        assert!(found.to_string().contains("`a`"), "{found}");
    }
}

#[test]
fn a_shared_layer_that_waits_is_not_taken_from_another_use() {
    let relu = |reads: &str| format!(r#"[["{reads}", 0, 0, {{}}]]"#);
    let layers = format!(
        r#"{{"class_name": "Add", "config": {{"name": "sum"}}, "inbound_nodes":
            [[["r", 0, 0, {{}}], ["r", 1, 0, {{}}]]]}},
        {{"class_name": "ReLU", "config": {{"name": "r"}}, "inbound_nodes": [{}, {}]}},
        {{"class_name": "Activation", "config": {{"name": "late", "activation": "square"}},
          "inbound_nodes": [{}]}}"#,
        relu("in"),
        relu("late"),
        relu("in")
    );
    let graph = from_archive(&archive(&functional(&layers, "sum"))).unwrap();
    let input = crate::tensor::Tensor::vector(vec![-3.0, 2.0, 0.0, 1.0]);
    let found = crate::reference::run(&graph, &input).unwrap();
    assert_eq!(found.data, [9.0, 6.0, 0.0, 2.0]);
}

#[test]
fn models_nested_too_deeply_are_refused() {
    let mut model = r#"{"class_name": "ReLU", "config": {"name": "r"}}"#.to_owned();
    for depth in 0..12 {
        model = format!(
            r#"{{"class_name": "Sequential",
                "config": {{"name": "m{depth}", "layers": [{model}]}}}}"#
        );
    }
    let found = refused(&sequential(&model));
    assert!(matches!(found, Error::UnsupportedOp { .. }), "{found}");
}

#[test]
fn a_normalisation_without_axis_takes_one_mean_for_all_values() {
    let layer = r#"{"class_name": "Normalization",
        "config": {"name": "n", "axis": [], "mean": 1.0, "variance": 4.0}}"#;
    let graph = from_archive(&archive(&sequential(layer))).unwrap();
    let input = crate::tensor::Tensor::new([2, 9, 8], vec![5.0; 144]).unwrap();
    let found = crate::reference::run(&graph, &input).unwrap();
    assert!(found.data.iter().all(|v| (v - 2.0).abs() < 1e-6));
}
