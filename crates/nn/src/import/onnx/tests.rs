use super::proto::{Dimension, OperatorSet, Shape, TensorProto, TensorType, TypeProto, data_type};
use super::*;
use crate::error::TensorFault;
use crate::export;
use crate::graph::{GraphBuilder, Padding, Window};

fn info(name: &str, extents: &[i64]) -> ValueInfo {
    let dim = extents
        .iter()
        .map(|&e| Dimension {
            value: Some(Extent::Value(e)),
        })
        .collect();
    let tensor_type = Some(TensorType {
        elem_type: 1,
        shape: Some(Shape { dim }),
    });
    ValueInfo {
        name: name.into(),
        kind: Some(TypeProto { tensor_type }),
    }
}

fn node(kind: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&s| s.to_owned()).collect(),
        output: vec![output.into()],
        name: format!("{kind} of {output}"),
        op_type: kind.into(),
        ..Default::default()
    }
}

fn ints(name: &str, ints: &[i64]) -> Attribute {
    Attribute {
        name: name.into(),
        ints: ints.to_vec(),
        kind: 7,
        ..Default::default()
    }
}

fn tensor(name: &str, dims: &[i64], float_data: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: data_type::FLOAT,
        float_data: float_data.to_vec(),
        name: name.into(),
        ..Default::default()
    }
}

/// A file with input `x` `[1, 2, 4, 4]` and output `y`.
fn model(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Model {
    let graph = GraphProto {
        node,
        name: "test".into(),
        initializer,
        input: vec![info("x", &[1, 2, 4, 4])],
        output: vec![info("y", &[])],
    };
    Model {
        ir_version: 7,
        graph: Some(graph),
        opset_import: vec![OperatorSet {
            domain: String::new(),
            version: 13,
        }],
        ..Default::default()
    }
}

fn import(model: &Model) -> Result<Graph> {
    from_bytes(&model.encode_to_vec())
}

fn refused(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Error {
    import(&model(node, initializer)).expect_err("a refusal")
}

#[test]
fn an_unsupported_operator_is_named_with_a_replacement() {
    let found = refused(vec![node("Elu", &["x"], "y")], vec![]);
    let message = found.to_string();
    assert!(matches!(found, Error::UnsupportedOp { .. }));
    assert!(
        message.contains("Elu of y") && message.contains("polynomial"),
        "{message}"
    );
}

#[test]
fn operators_of_other_domains_are_refused() {
    let mut fused = node("FusedConv", &["x"], "y");
    fused.domain = "com.microsoft".into();
    assert!(matches!(
        refused(vec![fused], vec![]),
        Error::UnsupportedOp { .. }
    ));
}

#[test]
fn what_the_answer_does_not_need_is_not_looked_at() {
    let graph = import(&model(
        vec![node("Einsum", &["x"], "z"), node("Relu", &["x"], "y")],
        vec![],
    ));
    assert_eq!(graph.unwrap().nodes.len(), 2);
}

#[test]
fn a_cycle_is_refused() {
    let found = refused(
        vec![node("Relu", &["b"], "y"), node("Relu", &["y"], "b")],
        vec![],
    );
    assert!(matches!(found, Error::Cycle { .. }));
}

#[test]
fn an_undefined_name_is_refused() {
    let found = refused(vec![node("Relu", &["nothing"], "y")], vec![]);
    assert!(matches!(found, Error::UndefinedName { name, .. } if name == "nothing"));
    let found = refused(vec![node("Relu", &["x"], "z")], vec![]);
    assert!(matches!(found, Error::UndefinedName { name, .. } if name == "y"));
}

#[test]
fn a_name_defined_twice_is_refused() {
    let found = refused(
        vec![node("Relu", &["x"], "y"), node("Tanh", &["x"], "y")],
        vec![],
    );
    assert!(matches!(found, Error::DefinedTwice { .. }));
}

#[test]
fn nodes_may_come_in_any_order() {
    let graph = import(&model(
        vec![node("Relu", &["h"], "y"), node("Tanh", &["x"], "h")],
        vec![],
    ));
    assert_eq!(graph.unwrap().nodes[1].op, Op::Tanh);
}

#[test]
fn a_long_chain_does_not_exhaust_the_stack() {
    let name = |i: usize| {
        if i == 20_000 {
            "y".to_owned()
        } else {
            format!("v{i}")
        }
    };
    let link = |i: usize| {
        let from = if i == 0 { "x".to_owned() } else { name(i) };
        node("Relu", &[&from], &name(i + 1))
    };
    let nodes = (0..20_000).rev().map(link).collect();
    let order = order::topological(model(nodes, vec![]).graph.as_ref().unwrap()).unwrap();
    assert_eq!(order.len(), 20_000);
}

#[test]
fn weights_that_are_nan_or_infinite_name_the_tensor() {
    for bad in [f32::NAN, f32::INFINITY] {
        let found = refused(
            vec![node("Add", &["x", "w"], "y")],
            vec![tensor("w", &[1], &[bad])],
        );
        let Error::StoredTensor { tensor, fault } = found else {
            panic!("{found}")
        };
        assert_eq!(
            (tensor.as_str(), fault),
            ("w", TensorFault::NonFinite { position: 0 })
        );
    }
}

#[test]
fn stored_tensors_of_wrong_length_type_or_place_are_refused() {
    let fault = |w: TensorProto| match refused(vec![node("Add", &["x", "w"], "y")], vec![w]) {
        Error::StoredTensor { fault, .. } => fault,
        other => panic!("{other}"),
    };
    assert!(matches!(
        fault(tensor("w", &[3], &[1.0])),
        TensorFault::Length { found: 1, .. }
    ));
    assert!(matches!(
        fault(tensor("w", &[-1], &[1.0])),
        TensorFault::Extents { .. }
    ));
    assert!(matches!(
        fault(tensor("w", &[1 << 40, 1 << 40], &[])),
        TensorFault::Extents { .. }
    ));
    let odd = TensorProto {
        raw_data: vec![0; 5],
        ..tensor("w", &[1], &[])
    };
    assert!(matches!(fault(odd), TensorFault::Length { .. }));
    let text = TensorProto {
        data_type: 8,
        ..tensor("w", &[1], &[])
    };
    assert!(matches!(fault(text), TensorFault::ElementType { .. }));
    let external = TensorProto {
        data_location: 1,
        ..tensor("w", &[1], &[])
    };
    assert_eq!(fault(external), TensorFault::External);
}

#[test]
fn a_kernel_of_the_wrong_shape_names_the_node() {
    let found = refused(
        vec![node("Conv", &["x", "w"], "y")],
        vec![tensor("w", &[1, 3, 1, 1], &[0.0; 3])],
    );
    assert!(
        matches!(&found, Error::Node { node, .. } if node == "Conv of y"),
        "{found}"
    );
    let found = refused(vec![node("Conv", &["x", "x"], "y")], vec![]);
    assert!(matches!(found, Error::NotConstant { .. }));
}

#[test]
fn settings_without_translation_say_so() {
    let mut pool = node("MaxPool", &["x"], "y");
    pool.attribute = vec![ints("kernel_shape", &[2, 2]), ints("dilations", &[2, 2])];
    let mut one_axis = node("MaxPool", &["x"], "y");
    one_axis.attribute = vec![ints("kernel_shape", &[2])];
    let mut batch = node("Transpose", &["x"], "y");
    batch.attribute = vec![ints("perm", &[1, 0, 2, 3])];
    let mut negative = node("Conv", &["x", "w"], "y");
    negative.attribute = vec![ints("pads", &[-1, 0, 0, 0])];
    for node in [pool, one_axis, batch, negative] {
        let found = refused(vec![node], vec![tensor("w", &[1, 2, 1, 1], &[0.0; 2])]);
        assert!(
            matches!(found, Error::UnsupportedAttribute { .. }),
            "{found}"
        );
    }
}

#[test]
fn open_shapes_and_several_inputs_are_refused() {
    let mut open = model(vec![node("Relu", &["x"], "y")], vec![]);
    open.graph.as_mut().unwrap().input = vec![info("x", &[1, 2, 0, 4])];
    assert!(matches!(import(&open), Err(Error::OpenShape { .. })));
    let mut two = model(vec![node("Relu", &["x"], "y")], vec![]);
    two.graph.as_mut().unwrap().input.push(info("z", &[1, 2]));
    assert!(matches!(
        import(&two),
        Err(Error::Ends { what: "input", .. })
    ));
    let mut none = model(vec![node("Relu", &["x"], "y")], vec![]);
    none.graph.as_mut().unwrap().output.clear();
    assert!(matches!(
        import(&none),
        Err(Error::Ends { what: "output", .. })
    ));
}

#[test]
fn a_reshape_that_touches_the_batch_is_refused() {
    let shape = |name: &str, values: &[i64]| TensorProto {
        dims: vec![values.len() as i64],
        data_type: data_type::INT64,
        int64_data: values.to_vec(),
        name: name.into(),
        ..Default::default()
    };
    for target in [&[2, 16][..], &[32], &[-1, -1], &[1, 5, -1], &[1, -2]] {
        let found = refused(
            vec![node("Reshape", &["x", "s"], "y")],
            vec![shape("s", target)],
        );
        assert!(
            matches!(found, Error::UnsupportedAttribute { .. }),
            "{target:?}: {found}"
        );
    }
    let graph = import(&model(
        vec![node("Reshape", &["x", "s"], "y")],
        vec![shape("s", &[-1, 32])],
    ));
    assert_eq!(graph.unwrap().shapes().unwrap()[1], [32]);
}

#[test]
fn bytes_that_are_no_protobuf_never_panic() {
    let mut bytes = model(
        vec![node("Conv", &["x", "w"], "h"), node("Flatten", &["h"], "y")],
        vec![tensor("w", &[1, 2, 2, 2], &[0.5; 8])],
    )
    .encode_to_vec();
    assert!(from_bytes(&bytes).is_ok());
    for cut in 0..bytes.len() {
        let _ = from_bytes(&bytes[..cut]);
    }
    for position in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            bytes[position] ^= change;
            let _ = from_bytes(&bytes);
            bytes[position] ^= change;
        }
    }
}

#[test]
fn a_flood_of_empty_nodes_is_refused_before_it_is_decoded() {
    // Field 7 (graph) with 2^20 empty nodes (field 1, length 0): 2 MiB that would decode to
    // hundreds.
    let mut bytes = vec![0x3a, 0x80, 0x80, 0x80, 0x01];
    bytes.extend([0x0a, 0x00].repeat(1 << 20));
    assert!(matches!(
        from_bytes(&bytes),
        Err(Error::TooManyFields { .. })
    ));
}

#[test]
fn part_of_a_shape_can_be_asked_for() {
    let mut shape = node("Shape", &["x"], "s");
    let int = |name: &str, i: i64| Attribute {
        name: name.into(),
        i,
        kind: 2,
        ..Default::default()
    };
    shape.attribute = vec![int("start", 0), int("end", -3)];
    let rest = TensorProto {
        dims: vec![1],
        data_type: data_type::INT64,
        int64_data: vec![-1],
        name: "rest".into(),
        ..Default::default()
    };
    let mut join = node("Concat", &["s", "rest"], "to");
    join.attribute = vec![int("axis", 0)];
    let nodes = vec![shape, join, node("Reshape", &["x", "to"], "y")];
    let graph = import(&model(nodes, vec![rest])).unwrap();
    assert_eq!(graph.shapes().unwrap()[1], [32]);
}

#[test]
fn unknown_operator_sets_are_refused() {
    let mut old = model(vec![node("Relu", &["x"], "y")], vec![]);
    old.opset_import[0].version = 99;
    assert!(matches!(
        import(&old),
        Err(Error::OperatorSet { found: 99, .. })
    ));
}

fn uneven(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let data = (0..count)
        .map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0)
        .collect();
    Tensor::new(shape, data).unwrap()
}

/// A network with every operator that ONNX has a word for.
fn every_operator() -> Graph {
    let mut b = GraphBuilder::new("every", [4, 9, 8]);
    let padding = Padding {
        top: 1,
        left: 0,
        bottom: 2,
        right: 1,
    };
    let window = Window {
        kernel: [3, 2],
        stride: [2, 1],
        padding,
    };
    let (weight, bias) = (uneven(&[6, 2, 3, 2]), Some(uneven(&[6])));
    b.then(Op::Conv2d {
        weight,
        bias,
        window,
        dilation: [1, 2],
        groups: 2,
    });
    b.then(Op::BatchNorm {
        scale: uneven(&[6]),
        shift: uneven(&[6]),
        mean: uneven(&[6]),
        variance: Tensor::vector(vec![0.5; 6]),
        epsilon: 1e-3,
    });
    b.then(Op::Square).then(Op::Tanh);
    let left = b.last();
    b.then(Op::Polynomial {
        coefficients: vec![0.25, -1.5, 0.0, 0.125],
    });
    b.then(Op::Sigmoid);
    let right = b.last();
    let sum = b.push("sum", Op::Add, &[left, right]);
    let joined = b.push("joined", Op::Concat { axis: 0 }, &[sum, left]);
    let pool = Window {
        padding: Padding {
            top: 1,
            ..Padding::default()
        },
        ..Window::valid([2, 2], [1, 1])
    };
    after_joining(b, pool, joined)
}

fn after_joining(mut b: GraphBuilder, pool: Window, joined: NodeId) -> Graph {
    b.push("max", Op::MaxPool { window: pool }, &[joined]);
    b.then(Op::AvgPool {
        window: pool,
        count_padding: true,
    })
    .then(Op::Relu);
    let spatial = b.last();
    let global = b.push("global", Op::GlobalAvgPool, &[spatial]);
    b.then(Op::Transpose {
        permutation: vec![1, 2, 0],
    })
    .then(Op::Reshape { shape: vec![3, 4] });
    b.then(Op::Softmax { axis: 1 })
        .then(Op::Flatten)
        .then(Op::Sigmoid);
    let soft = b.last();
    let peak = b.push("peak", Op::GlobalMaxPool, &[spatial]);
    let product = b.push("product", Op::Mul, &[global, peak]);
    let flat = b.push("flat", Op::Flatten, &[product]);
    let shift = b.push("shift", Op::Constant(uneven(&[12])), &[]);
    let shifted = b.push("shifted", Op::Sub, &[flat, shift]);
    b.push("both", Op::Concat { axis: 0 }, &[soft, shifted]);
    b.then(Op::Dense {
        weight: uneven(&[5, 24]),
        bias: None,
    })
    .then(Op::LogSoftmax { axis: 0 });
    b.finish().unwrap()
}

#[test]
fn export_and_import_give_back_the_network() {
    let mut graph = every_operator();
    // The transpose only moves axes of extent 1: the importer writes it as the reshape that it is.
    let again = from_bytes(&export::onnx(&graph).unwrap()).unwrap();
    let turned = graph
        .nodes
        .iter_mut()
        .find(|n| matches!(n.op, Op::Transpose { .. }))
        .unwrap();
    let (name, input) = (turned.name.clone(), turned.inputs[0]);
    let position = graph.nodes.iter().position(|n| n.name == name).unwrap();
    graph.nodes[position + 1].inputs[0] = input;
    graph.nodes.remove(position);
    for node in &mut graph.nodes {
        node.inputs
            .iter_mut()
            .filter(|id| id.0 > position)
            .for_each(|id| id.0 -= 1);
    }
    graph.output.0 -= 1;
    graph.validate().unwrap();
    assert_eq!(again.nodes, graph.nodes);
    assert_eq!(again, graph);
}

#[test]
fn the_preprocessing_is_kept_with_the_network() {
    let mut graph = every_operator();
    graph.preprocess = Some(Preprocess {
        mean: vec![0.4914, 0.4822, 0.4465],
        standardize: Some(0.25),
        ..Preprocess::default()
    });
    let bytes = export::onnx(&graph).unwrap();
    let again = from_bytes(&bytes).unwrap();
    assert_eq!(again.preprocess, graph.preprocess);
    let (features, rest) = again.split(NodeId(2)).unwrap();
    assert_eq!(features.preprocess, graph.preprocess);
    assert_eq!(rest.preprocess, None);
}

#[test]
fn a_preprocessing_that_cannot_be_read_is_an_error() {
    let mut model = Model::decode(&*export::onnx(&every_operator()).unwrap()).unwrap();
    assert_eq!(model.metadata_props, []);
    let entry = |key: &str, value: &str| super::proto::Entry {
        key: key.into(),
        value: value.into(),
    };
    // Other tools' metadata says nothing about pixels to us.
    model.metadata_props = vec![entry("input-mean", "?")];
    let read = |model: &Model| from_bytes(&model.encode_to_vec());
    assert_eq!(read(&model).unwrap().preprocess, None);
    model.metadata_props.push(entry("scuro.input-mean", "0,x"));
    let error = read(&model).unwrap_err().to_string();
    assert!(error.contains("`input-mean` says \"x\""), "{error}");
}

#[test]
fn exported_bytes_are_the_same_each_time() {
    let graph = every_operator();
    assert_eq!(export::onnx(&graph).unwrap(), export::onnx(&graph).unwrap());
}

fn apart(location: &str, offset: &str, length: &str) -> TensorProto {
    let entry = |key: &str, value: &str| super::proto::Entry {
        key: key.into(),
        value: value.into(),
    };
    TensorProto {
        dims: vec![1],
        data_type: data_type::FLOAT,
        name: "w".into(),
        data_location: 1,
        external_data: vec![
            entry("location", location),
            entry("offset", offset),
            entry("length", length),
        ],
        ..Default::default()
    }
}

#[test]
fn weights_in_another_file_are_read_only_from_the_models_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let bytes: Vec<u8> = [0.0f32, 2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(inner.join("w.bin"), &bytes).unwrap();
    std::fs::write(folder.path().join("secret.bin"), &bytes).unwrap();
    let import = |weight: TensorProto| {
        let model = model(vec![node("Add", &["x", "w"], "y")], vec![weight]);
        from_file(&model.encode_to_vec(), &inner.join("model.onnx"))
    };
    let graph = import(apart("w.bin", "4", "4")).unwrap();
    let constant = |n: &crate::graph::Node| matches!(&n.op, Op::Constant(t) if t.data == [2.5]);
    assert!(graph.nodes.iter().any(constant));
    let absolute = folder.path().join("secret.bin");
    for (location, fault) in [
        ("../secret.bin", "external"),
        (absolute.to_str().unwrap(), "external"),
        ("", "external"),
        ("absent.bin", "absent"),
    ] {
        match (
            import(apart(location, "0", "4")).expect_err("a refusal"),
            fault,
        ) {
            (
                Error::StoredTensor {
                    fault: TensorFault::External,
                    ..
                },
                "external",
            )
            | (Error::Io { .. }, "absent") => {}
            (found, _) => panic!("{location}: {found}"),
        }
    }
    for (offset, length) in [("8", "4"), ("0", "9"), ("18446744073709551615", "4")] {
        let found = import(apart("w.bin", offset, length)).expect_err("a refusal");
        let beyond = TensorFault::BeyondFile {
            file: "w.bin".into(),
            found: 8,
        };
        assert!(
            matches!(&found, Error::StoredTensor { fault, .. } if *fault == beyond),
            "{found}"
        );
    }
}

#[test]
fn cuts_of_the_batch_and_without_end_are_refused() {
    let cases = [
        (node("Gather", &["x", "i"], "y"), 7),
        (node("Split", &["x"], "y"), 7),
        (node("Slice", &["x", "i", "i"], "y"), 7),
    ];
    for (node, data_type) in cases {
        let index = TensorProto {
            dims: vec![1],
            data_type,
            int64_data: vec![0],
            name: "i".into(),
            ..Default::default()
        };
        let found = refused(vec![node.clone()], vec![index]);
        assert!(
            matches!(found, Error::UnsupportedAttribute { .. }),
            "{}: {found}",
            node.op_type
        );
    }
}

#[test]
fn a_transpose_that_the_import_adds_does_not_turn_the_input() {
    let weight = tensor("w", &[4, 3], &[0.5; 12]);
    let graph = import(&model(vec![node("MatMul", &["x", "w"], "y")], vec![weight])).unwrap();
    assert_eq!(graph.input_shape(), [2, 4, 4]);
}

#[test]
fn a_short_file_cannot_ask_for_much_memory() {
    // Each node would make a matrix of 2^24 weights.
    let mut nodes = vec![node("Flatten", &["x"], "v0")];
    for i in 0..40 {
        nodes.push(node(
            "Gather",
            &[&format!("v{i}"), "i"],
            &format!("v{}", i + 1),
        ));
        nodes.last_mut().unwrap().attribute = vec![Attribute {
            name: "axis".into(),
            i: 1,
            ..Default::default()
        }];
    }
    nodes.push(node("Relu", &["v40"], "y"));
    let index = TensorProto {
        dims: vec![4096],
        data_type: data_type::INT64,
        int64_data: (0..4096).rev().collect(),
        name: "i".into(),
        ..Default::default()
    };
    let mut large = model(nodes, vec![index]);
    large.graph.as_mut().unwrap().input = vec![info("x", &[1, 1, 64, 64])];
    assert!(matches!(import(&large), Err(Error::Node { .. })));

    let many = TensorProto {
        dims: vec![2],
        data_type: data_type::INT64,
        int64_data: vec![1 << 12, 1 << 13],
        name: "s".into(),
        ..Default::default()
    };
    let mut nodes: Vec<NodeProto> = (0..9)
        .map(|i| node("ConstantOfShape", &["s"], &format!("c{i}")))
        .collect();
    let all: Vec<String> = (0..9).map(|i| format!("c{i}")).collect();
    let mut sum = node("Sum", &["x"], "y");
    sum.input.extend(all);
    nodes.push(sum);
    let found = refused(nodes, vec![many]);
    assert!(
        matches!(
            found,
            Error::UnsupportedAttribute {
                attribute: "size",
                ..
            }
        ),
        "{found}"
    );
}
