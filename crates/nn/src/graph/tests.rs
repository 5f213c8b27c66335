use super::*;
use crate::error::{Error, NodeFault};

fn fault(builder: GraphBuilder) -> NodeFault {
    match builder.finish() {
        Err(Error::Node { fault, .. }) => *fault,
        other => panic!("expected a fault at a node, found {other:?}"),
    }
}

fn conv(out: usize, inputs: usize, kernel: [usize; 2], window: Window) -> Op {
    Op::Conv2d {
        weight: Tensor::zeros([out, inputs, kernel[0], kernel[1]]),
        bias: None,
        window,
        dilation: [1, 1],
        groups: 1,
    }
}

fn dense(outputs: usize, inputs: usize) -> Op {
    Op::Dense {
        weight: Tensor::zeros([outputs, inputs]),
        bias: None,
    }
}

#[test]
fn shapes_of_a_small_network_follow_the_definitions() {
    let mut b = GraphBuilder::new("net", [1, 28, 28]);
    b.then(conv(5, 1, [5, 5], Window::valid([5, 5], [2, 2])))
        .then(Op::Square)
        .then(Op::MaxPool {
            window: Window::valid([2, 3], [2, 3]),
        })
        .then(Op::Flatten)
        .then(dense(10, 5 * 6 * 4));
    let graph = b.finish().unwrap();
    let shapes = graph.shapes().unwrap();
    assert_eq!(shapes[1], [5, 12, 12]);
    assert_eq!(shapes[3], [5, 6, 4]);
    assert_eq!(shapes[5], [10]);
    let rows = graph.summary().unwrap();
    assert_eq!((rows[1].parameters, rows[1].macs), (125, 125 * 144));
    assert_eq!(rows[1].op, "Conv2d 5 maps 5x5 stride 2x2");
    assert_eq!(graph.totals().unwrap().parameters, 125 + 1200);
}

#[test]
fn a_dense_layer_of_another_width_is_an_error() {
    let mut b = GraphBuilder::new("net", [7]);
    b.then(dense(3, 8));
    let expected = NodeFault::Parameter {
        parameter: "weight",
        expected: vec![3, 7],
        found: vec![3, 8],
    };
    assert_eq!(fault(b), expected);
}

#[test]
fn a_window_larger_than_its_input_is_an_error() {
    let mut b = GraphBuilder::new("net", [1, 4, 4]);
    b.then(conv(1, 1, [5, 5], Window::valid([5, 5], [1, 1])));
    assert!(matches!(fault(b), NodeFault::Window { .. }));
}

#[test]
fn a_zero_stride_is_an_error() {
    let mut b = GraphBuilder::new("net", [1, 4, 4]);
    b.then(Op::MaxPool {
        window: Window::valid([2, 2], [0, 2]),
    });
    assert!(matches!(fault(b), NodeFault::Window { .. }));
}

#[test]
fn pool_padding_as_large_as_the_kernel_is_an_error() {
    let padding = Padding {
        top: 2,
        ..Padding::default()
    };
    let mut b = GraphBuilder::new("net", [1, 4, 4]);
    b.then(Op::MaxPool {
        window: Window {
            kernel: [2, 2],
            stride: [1, 1],
            padding,
        },
    });
    assert!(matches!(fault(b), NodeFault::Window { .. }));
}

#[test]
fn an_operand_that_comes_later_is_an_error() {
    let mut b = GraphBuilder::new("net", [4]);
    b.push("loop", Op::Relu, &[NodeId(1)]);
    assert_eq!(
        fault(b),
        NodeFault::OperandOrder {
            operand: 1,
            position: 1
        }
    );
}

#[test]
fn tensors_of_different_shapes_do_not_add_but_a_constant_broadcasts() {
    let mut b = GraphBuilder::new("net", [2, 3, 3]);
    let constant = b.push("c", Op::Constant(Tensor::zeros([2, 1, 1])), &[]);
    b.push("sum", Op::Add, &[NodeId(0), constant]);
    assert!(b.clone().finish().is_ok());
    let pooled = b.push("pool", Op::GlobalAvgPool, &[NodeId(0)]);
    b.push("bad", Op::Add, &[NodeId(0), pooled]);
    assert!(matches!(fault(b), NodeFault::OperandShape { .. }));
}

#[test]
fn a_weight_that_is_nan_is_an_error() {
    let mut weight = Tensor::zeros([1, 2]);
    weight.data[1] = f32::NAN;
    let mut b = GraphBuilder::new("net", [2]);
    b.then(Op::Dense { weight, bias: None });
    assert_eq!(
        fault(b),
        NodeFault::NonFinite {
            parameter: "weight",
            position: 1
        }
    );
}

#[test]
fn a_name_used_twice_is_an_error() {
    let mut b = GraphBuilder::new("net", [2]);
    b.push("input", Op::Relu, &[NodeId(0)]);
    assert_eq!(fault(b), NodeFault::DuplicateName);
}

#[test]
fn huge_extents_do_not_overflow() {
    let mut b = GraphBuilder::new("net", [usize::MAX, 2, 2]);
    b.then(Op::Flatten);
    assert!(matches!(fault(b), NodeFault::Size { .. }));
    let padding = Padding {
        top: usize::MAX,
        ..Padding::default()
    };
    let mut b = GraphBuilder::new("net", [1, 2, 2]);
    b.then(conv(
        1,
        1,
        [1, 1],
        Window {
            kernel: [1, 1],
            stride: [1, 1],
            padding,
        },
    ));
    assert!(matches!(fault(b), NodeFault::Window { .. }));
}
