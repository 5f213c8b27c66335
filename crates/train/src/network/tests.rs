//! Gradients of every operator against finite differences, on odd and asymmetric shapes.

use super::*;
use crate::loss::cross_entropy;
use crate::random::{normal, symmetric};
use proptest::prelude::*;
use scuro_nn::graph::{GraphBuilder, Padding, Window};
use scuro_nn::tensor::Tensor;

const CLASSES: usize = 3;
const BATCH: usize = 19;

/// Random tensors of one seed.
struct Draw(rand_chacha::ChaCha8Rng);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(stream(seed, Purpose::Weights, 0))
    }

    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f32;
        let data = (0..size(shape))
            .map(|_| normal(&mut self.0) / fan_in.sqrt())
            .collect();
        Tensor {
            shape: shape.to_vec(),
            data,
        }
    }

    fn positive(&mut self, len: usize) -> Tensor {
        Tensor::vector(
            (0..len)
                .map(|_| 1.0 + symmetric(&mut self.0, 0.5))
                .collect(),
        )
    }

    fn conv(
        &mut self,
        maps: [usize; 2],
        window: Window,
        dilation: [usize; 2],
        groups: usize,
    ) -> Op {
        let shape = [
            maps[1],
            maps[0] / groups,
            window.kernel[0],
            window.kernel[1],
        ];
        let (weight, bias) = (self.tensor(&shape), Some(self.tensor(&[maps[1]])));
        Op::Conv2d {
            weight,
            bias,
            window,
            dilation,
            groups,
        }
    }

    fn dense(&mut self, inputs: usize, outputs: usize) -> Op {
        let (weight, bias) = (
            self.tensor(&[outputs, inputs]),
            Some(self.tensor(&[outputs])),
        );
        Op::Dense { weight, bias }
    }

    fn norm(&mut self, channels: usize) -> Op {
        Op::BatchNorm {
            scale: self.positive(channels),
            shift: self.tensor(&[channels]),
            mean: self.tensor(&[channels]),
            variance: self.positive(channels),
            epsilon: 1e-3,
        }
    }
}

fn window(kernel: [usize; 2], stride: [usize; 2], p: [usize; 4]) -> Window {
    let padding = Padding {
        top: p[0],
        left: p[1],
        bottom: p[2],
        right: p[3],
    };
    Window {
        kernel,
        stride,
        padding,
    }
}

/// A convolution with weights, `middle`, then a dense layer: the gradient of the first shows that
/// of the middle.
fn around(draw: &mut Draw, maps: usize, middle: &[Op]) -> Graph {
    let mut net = GraphBuilder::new("test", [2, 7, 6]);
    net.then(draw.conv([2, maps], window([2, 3], [1, 1], [0, 0, 0, 1]), [1, 1], 1));
    middle.iter().for_each(|op| {
        net.then(op.clone());
    });
    finish(draw, net)
}

fn finish(draw: &mut Draw, mut net: GraphBuilder) -> Graph {
    net.then(Op::Flatten);
    let so_far = net.clone().finish().unwrap();
    let inputs = so_far.shapes().unwrap()[so_far.output.0][0];
    net.then(draw.dense(inputs, CLASSES));
    net.finish().unwrap()
}

struct Check {
    network: Network,
    images: Vec<f32>,
    labels: Vec<usize>,
    penalty: Option<RangePenalty>,
}

impl Check {
    fn new(graph: Graph, draw: &mut Draw) -> Self {
        let len = size(graph.input_shape());
        let images = (0..BATCH * len).map(|_| normal(&mut draw.0)).collect();
        let labels = (0..BATCH).map(|i| i % CLASSES).collect();
        let network = Network::new(graph, &BTreeMap::new()).unwrap();
        Self {
            network,
            images,
            labels,
            penalty: None,
        }
    }

    fn loss(&mut self, gradients: &mut ParameterGradients) -> f64 {
        let classes = self.network.classes();
        let logits = self.network.forward(&self.images, 1, 1);
        let loss = cross_entropy(logits, &self.labels, classes, None);
        loss.mean
            + self
                .network
                .backward(loss.gradient, self.penalty, gradients)
    }

    /// The slope along a random direction of each parameter array equals the gradient's.
    fn run(mut self, draw: &mut Draw, what: &str) {
        let mut gradients = self.network.zero_gradients(true);
        self.loss(&mut gradients);
        let mut scratch = self.network.zero_gradients(true);
        for (node, arrays) in gradients.iter().enumerate() {
            for (array, gradient) in arrays.iter().enumerate() {
                let norm = (gradient.len() as f32).sqrt();
                let along: Vec<f32> = gradient
                    .iter()
                    .map(|_| normal(&mut draw.0) / norm)
                    .collect();
                let mut at = |share: f32| {
                    self.shift(node, array, &along, share);
                    let loss = self.loss(&mut scratch);
                    self.shift(node, array, &along, -share);
                    loss
                };
                let slope = (at(4e-3) - at(-4e-3)) / 8e-3;
                let dot: f64 = gradient
                    .iter()
                    .zip(&along)
                    .map(|(g, d)| f64::from(g * d))
                    .sum();
                let size = gradient
                    .iter()
                    .map(|g| f64::from(g * g))
                    .sum::<f64>()
                    .sqrt();
                let bound = 2e-3 + 0.02 * size / f64::from(norm);
                let name = &self.network.graph.nodes[node].name;
                assert!(
                    (slope - dot).abs() < bound,
                    "{what}: {name}[{array}]: {slope} {dot}"
                );
            }
        }
    }

    fn shift(&mut self, node: usize, array: usize, along: &[f32], share: f32) {
        let op = &mut self.network.graph.nodes[node].op;
        let values = &mut parameters(op)[array].values[..];
        values
            .iter_mut()
            .zip(along)
            .for_each(|(v, d)| *v += share * d);
    }
}

fn check(seed: u64, what: &str, build: impl Fn(&mut Draw) -> Graph) {
    let mut draw = Draw::new(seed);
    let graph = build(&mut draw);
    Check::new(graph, &mut draw).run(&mut draw, what);
}

#[test]
fn gradients_of_smooth_functions_match_finite_differences() {
    let functions = [
        ("sigmoid", Op::Sigmoid),
        ("tanh", Op::Tanh),
        ("square", Op::Square),
        (
            "polynomial",
            Op::Polynomial {
                coefficients: vec![0.1, 0.5, 0.25, -0.1],
            },
        ),
        ("softmax over channels", Op::Softmax { axis: 0 }),
        ("log-softmax over rows", Op::LogSoftmax { axis: 1 }),
        (
            "transpose",
            Op::Transpose {
                permutation: vec![2, 0, 1],
            },
        ),
        ("reshape", Op::Reshape { shape: vec![5, 18] }),
        ("global average", Op::GlobalAvgPool),
    ];
    for (seed, (what, op)) in functions.into_iter().enumerate() {
        check(seed as u64, what, |draw| {
            around(draw, 3, std::slice::from_ref(&op))
        });
    }
}

#[test]
fn gradients_of_kinked_functions_match_finite_differences() {
    let pool = window([3, 2], [2, 1], [1, 0, 0, 1]);
    let functions = [
        ("relu", Op::Relu),
        ("maximum", Op::MaxPool { window: pool }),
        ("global maximum", Op::GlobalMaxPool),
    ];
    for (seed, (what, op)) in functions.into_iter().enumerate() {
        check(seed as u64, what, |draw| {
            around(draw, 3, std::slice::from_ref(&op))
        });
    }
}

#[test]
fn gradients_of_batch_normalisation_match_finite_differences_after_both_layer_kinds() {
    check(1, "norm of maps", |draw| {
        let norm = draw.norm(3);
        around(draw, 3, &[norm, Op::Square])
    });
    check(2, "norm of vectors", |draw| {
        let (dense, norm) = (draw.dense(3 * 6 * 5, 7), draw.norm(7));
        around(draw, 3, &[Op::Flatten, dense, norm, Op::Tanh])
    });
}

#[test]
fn gradients_add_up_where_a_value_is_used_more_than_once() {
    for (seed, op) in [
        Op::Add,
        Op::Sub,
        Op::Mul,
        Op::Concat { axis: 0 },
        Op::Concat { axis: 1 },
    ]
    .into_iter()
    .enumerate()
    {
        check(seed as u64, op.name(), |draw| {
            let mut net = GraphBuilder::new("test", [2, 5, 6]);
            let same = window([3, 1], [1, 1], [1, 0, 1, 0]);
            let trunk = net.push("", draw.conv([2, 3], same, [1, 1], 1), &[net.input()]);
            let left = net.push("", Op::Tanh, &[trunk]);
            let right = net.push("", draw.conv([3, 3], same, [1, 1], 1), &[trunk]);
            net.push("", op.clone(), &[left, right]);
            finish(draw, net)
        });
    }
    check(9, "product with itself", |draw| {
        let mut net = GraphBuilder::new("test", [2, 5, 6]);
        let kernel = draw.conv([2, 3], window([1, 2], [1, 2], [0; 4]), [1, 1], 1);
        let trunk = net.push("", kernel, &[net.input()]);
        net.push("", Op::Mul, &[trunk, trunk]);
        finish(draw, net)
    });
}

#[test]
fn constants_broadcast_and_take_no_gradient() {
    for (seed, op) in [Op::Add, Op::Sub, Op::Mul].into_iter().enumerate() {
        check(seed as u64, op.name(), |draw| {
            let mut net = GraphBuilder::new("test", [2, 5, 6]);
            let kernel = draw.conv([2, 3], window([2, 2], [1, 1], [0; 4]), [1, 1], 1);
            let trunk = net.push("", kernel, &[net.input()]);
            let per_map = net.push("", Op::Constant(draw.tensor(&[3, 1, 1])), &[]);
            let sum = net.push("", op.clone(), &[trunk, per_map]);
            let per_column = net.push("", Op::Constant(draw.tensor(&[5])), &[]);
            net.push("", op.clone(), &[per_column, sum]);
            finish(draw, net)
        });
    }
}

#[test]
fn the_range_penalty_has_its_own_gradient() {
    let mut draw = Draw::new(3);
    let graph = around(&mut draw, 3, &[Op::Square]);
    let mut check = Check::new(graph, &mut draw);
    check.penalty = Some(RangePenalty {
        limit: 0.4,
        weight: 0.02,
    });
    check.run(&mut draw, "penalty");
}

#[test]
fn dropout_scales_what_it_keeps_and_is_off_in_scoring() {
    let mut draw = Draw::new(5);
    let mut net = GraphBuilder::new("test", [4000]);
    net.push("kept", Op::Square, &[net.input()]);
    let graph = {
        net.then(draw.dense(4000, 2));
        net.finish().unwrap()
    };
    let rates = BTreeMap::from([("kept".to_owned(), 0.25)]);
    let mut network = Network::new(graph, &rates).unwrap();
    let images = vec![1.0; 4000];
    network.forward(&images, 1, 1);
    let kept = network.values[1].iter().filter(|v| **v != 0.0).count();
    assert!((2850..3150).contains(&kept), "{kept} of 4000 kept");
    assert!(
        network.values[1]
            .iter()
            .all(|v| *v == 0.0 || (*v - 4.0 / 3.0).abs() < 1e-6)
    );
    network.predict(&images);
    assert_eq!(network.values[1], images);
    let unknown = BTreeMap::from([("nowhere".to_owned(), 0.1)]);
    let found = Network::new(network.graph.clone(), &unknown);
    assert!(matches!(found, Err(Error::UnknownNode { .. })));
}

#[test]
fn a_network_that_does_not_end_in_a_vector_is_refused() {
    let mut net = GraphBuilder::new("test", [1, 4, 4]);
    net.then(Op::Square);
    let found = Network::new(net.finish().unwrap(), &BTreeMap::new());
    assert!(matches!(found, Err(Error::OutputShape { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn gradients_of_convolutions_of_any_geometry_match_finite_differences(
        seed in 0u64..1000,
        kernel in prop::array::uniform2(1usize..4),
        stride in prop::array::uniform2(1usize..4),
        dilation in prop::array::uniform2(1usize..3),
        padding in prop::array::uniform4(0usize..3),
        groups in 1usize..3,
    ) {
        let window = window(kernel, stride, padding);
        check(seed, "convolution", |draw| {
            let layer = draw.conv([4, 6], window, dilation, groups);
            around(draw, 4, &[layer, Op::Square])
        });
    }

    #[test]
    fn gradients_of_averages_over_any_window_match_finite_differences(
        seed in 0u64..1000,
        kernel in prop::array::uniform2(1usize..4),
        stride in prop::array::uniform2(1usize..4),
        padding in prop::array::uniform4(0usize..3),
        count_padding: bool,
    ) {
        let p = [0, 1, 2, 3].map(|side| padding[side].min(kernel[side % 2] - 1));
        let op = Op::AvgPool { window: window(kernel, stride, p), count_padding };
        check(seed, "average", |draw| around(draw, 3, &[op.clone(), Op::Square]));
    }
}
