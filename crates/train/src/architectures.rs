//! Untrained networks by name, with seeded initial weights.

use crate::error::{Error, Result};
use crate::random::{Purpose, normal, stream};
use scuro_nn::activation::{Function, Interval, Replacement};
use scuro_nn::graph::{Graph, GraphBuilder, Op, Padding, Window};
use scuro_nn::tensor::Tensor;
use std::collections::BTreeMap;
use std::fmt;

/// Every name [`architecture`] knows.
pub const NAMES: [&str; 7] = [
    "cryptonets",
    "lenet",
    "lenet5",
    "mlp",
    "cifar10-cnn",
    "cifar10-he",
    "cifar10-shallow",
];

/// The activation function between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`; not evaluable under encryption.
    Relu,
    /// `x^2`.
    Square,
    /// `c + b x + a x^2` with learned coefficients, one triple a layer.
    Quadratic,
    /// Hyperbolic tangent.
    Tanh,
    /// What stands for ReLU, fitted on [`INTERVAL`] where it takes one.
    Replaced(Replacement),
}

/// Half the width of the interval on which architectures fit replacements: the limit of the
/// recipes' range penalty.
pub const INTERVAL: f64 = 4.0;

impl Activation {
    /// `x^2 / 4 + x / 2`, what Gomez et al. 2019 put in place of the last ReLU.
    pub const MODIFIED_SQUARE: Self = Self::Replaced(Replacement::ModifiedSquare);

    /// The operator; none for an activation that is skipped.
    fn op(self) -> Result<Option<Op>> {
        Ok(Some(match self {
            Self::Relu => Op::Relu,
            Self::Square => Op::Square,
            Self::Quadratic => Op::Polynomial {
                coefficients: vec![0.0, 0.5, 0.25],
            },
            Self::Tanh => Op::Tanh,
            Self::Replaced(replacement) => {
                let interval = Interval::new(-INTERVAL, INTERVAL)?;
                let fit = replacement.fit(Function::Relu, interval)?;
                return Ok(replacement.op(&fit));
            }
        }))
    }

    /// Whether training changes its coefficients.
    pub fn is_learned(self) -> bool {
        match self {
            Self::Replaced(replacement) => replacement.is_learned(),
            _ => self == Self::Quadratic,
        }
    }
}

/// The name that the command line takes.
impl fmt::Display for Activation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relu => out.write_str("relu"),
            Self::Square => out.write_str("square"),
            Self::Quadratic => out.write_str("quadratic"),
            Self::Tanh => out.write_str("tanh"),
            Self::Replaced(replacement) => replacement.fmt(out),
        }
    }
}

/// An untrained network and its dropout, which exists in training only.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// The network.
    pub graph: Graph,
    /// Dropout rates by the name of the node they follow.
    pub dropout: BTreeMap<String, f32>,
}

/// The network called `name`; `activation` replaces its usual one. Biases are zero, weights
/// He-normal.
///
/// # Errors
/// [`Error::UnknownArchitecture`].
pub fn architecture(name: &str, activation: Option<Activation>, seed: u64) -> Result<Architecture> {
    architecture_for(name, None, activation, seed)
}

/// As [`architecture`], for examples of shape `input`: `cifar10-cnn` and `cifar10-he` take
/// `[1, 28, 28]` too, with as many inputs of the first dense layer as there are then.
///
/// # Errors
/// [`Error::UnknownArchitecture`]; [`Error::ExampleShape`] for a shape that the network has no
/// layers for.
pub fn architecture_for(
    name: &str,
    input: Option<&[usize]>,
    activation: Option<Activation>,
    seed: u64,
) -> Result<Architecture> {
    let made = build(name, input, activation, seed)?;
    match input {
        Some(found) if found != made.graph.input_shape() => Err(Error::ExampleShape {
            expected: made.graph.input_shape().to_vec(),
            found: found.to_vec(),
        }),
        _ => Ok(made),
    }
}

fn build(
    name: &str,
    input: Option<&[usize]>,
    activation: Option<Activation>,
    seed: u64,
) -> Result<Architecture> {
    let build = match name {
        "cryptonets" => cryptonets,
        "lenet" => lenet,
        "lenet5" => lenet5,
        "mlp" => mlp,
        "cifar10-shallow" => shallow,
        "cifar10-cnn" => {
            let usual = [Activation::Relu, Activation::MODIFIED_SQUARE];
            let activations = activation.map_or(usual, |same| [same; 2]);
            return keras_cnn(name, input, activations, seed);
        }
        "cifar10-he" => {
            let activation = activation.unwrap_or(Activation::Quadratic);
            return keras_cnn(name, input, [activation; 2], seed);
        }
        _ => {
            let (name, known) = (name.to_owned(), NAMES.join(", "));
            return Err(Error::UnknownArchitecture { name, known });
        }
    };
    build(activation, seed)
}

/// The network of CryptoNets (Gilad-Bachrach et al. 2016) as LoLa (Brutzkus et al. 2019) has it: 28
/// x 28 -> 5 maps of 13 x 13 -> square -> 100 -> square -> 10. Batch normalisation before each
/// square folds away after training.
fn cryptonets(activation: Option<Activation>, seed: u64) -> Result<Architecture> {
    let activation = activation.unwrap_or(Activation::Square);
    let mut net = Builder::new("cryptonets", &[1, 28, 28], seed);
    // One row above and one column at the left make 13 x 13.
    let padding = Padding {
        top: 1,
        left: 1,
        ..Padding::default()
    };
    net.conv(
        1,
        5,
        Window {
            kernel: [5, 5],
            stride: [2, 2],
            padding,
        },
    )
    .norm(5)
    .act(activation);
    net.flatten()
        .dense(845, 100)
        .norm(100)
        .act(activation)
        .dense(100, 10);
    net.finish()
}

/// 32 and 64 maps of 5 x 5, then 512 and 10. The convolutions have stride 2 instead of a pooling
/// layer: a quarter of the products, and no level for an average. 28 x 28 -> 14 x 14 -> 7 x 7.
fn lenet(activation: Option<Activation>, seed: u64) -> Result<Architecture> {
    let activation = activation.unwrap_or(Activation::Square);
    let mut net = Builder::new("lenet", &[1, 28, 28], seed);
    let window = Window {
        kernel: [5, 5],
        stride: [2, 2],
        padding: around(2),
    };
    net.conv(1, 32, window).norm(32).act(activation);
    net.conv(32, 64, window).norm(64).act(activation);
    net.flatten()
        .dense(3136, 512)
        .norm(512)
        .act(activation)
        .drop(0.4)
        .dense(512, 10);
    net.finish()
}

/// LeNet-5 (LeCun et al. 1998) with full connections between maps: 6 and 16 maps of 5 x 5, 120, 84,
/// 10.
fn lenet5(activation: Option<Activation>, seed: u64) -> Result<Architecture> {
    let activation = activation.unwrap_or(Activation::Tanh);
    let mut net = Builder::new("lenet5", &[1, 28, 28], seed);
    let valid = Window::valid([5, 5], [1, 1]);
    let half = Op::AvgPool {
        window: Window::valid([2, 2], [2, 2]),
        count_padding: true,
    };
    net.conv(
        1,
        6,
        Window {
            padding: around(2),
            ..valid
        },
    )
    .act(activation)
    .push(half.clone());
    net.conv(6, 16, valid).act(activation).push(half);
    net.flatten()
        .dense(400, 120)
        .act(activation)
        .dense(120, 84)
        .act(activation)
        .dense(84, 10);
    net.finish()
}

/// 784, 128, 64, 10.
fn mlp(activation: Option<Activation>, seed: u64) -> Result<Architecture> {
    let activation = activation.unwrap_or(Activation::Relu);
    let mut net = Builder::new("mlp", &[1, 28, 28], seed);
    net.flatten()
        .dense(784, 128)
        .act(activation)
        .dense(128, 64)
        .act(activation)
        .dense(64, 10);
    net.finish()
}

/// Photographs through two activations, as in LoLa (Brutzkus et al. 2019): 3 x 32 x 32 -> 32 maps
/// of 16 x 16 -> 64 maps of 8 x 8 -> 10. Strides instead of pooling layers and the classifier right
/// behind the second activation make it three products deep, so that flooded replies leave it
/// enough precision.
fn shallow(activation: Option<Activation>, seed: u64) -> Result<Architecture> {
    let activation = activation.unwrap_or(Activation::Quadratic);
    let mut net = Builder::new("cifar10-shallow", &[3, 32, 32], seed);
    let window = Window {
        kernel: [6, 6],
        stride: [2, 2],
        padding: around(2),
    };
    net.conv(3, 32, window).norm(32).act(activation);
    net.conv(32, 64, window).norm(64).act(activation);
    net.flatten().drop(0.2).dense(4096, 10);
    net.finish()
}

/// The layers of the Keras example `cifar10_cnn`, with batch normalisation before each activation
/// in training, which folds away. Its dropout is gentler than the example's for that reason. The
/// second of `activations` is the last, which Gomez et al. 2019 replace, so that the classifier
/// can be encrypted.
///
/// `cifar10-he` halves by averages instead of maxima, so that with its quadratic activations it is
/// a polynomial throughout.
fn keras_cnn(
    name: &str,
    input: Option<&[usize]>,
    [activation, last]: [Activation; 2],
    seed: u64,
) -> Result<Architecture> {
    let shape = input.filter(|shape| **shape == [1, 28, 28]);
    let shape = shape.unwrap_or(&[3, 32, 32]);
    // Two pools and two convolutions without padding: ((32 - 2) / 2 - 2) / 2 = 6.
    let side = ((shape[1] - 2) / 2 - 2) / 2;
    let mut net = Builder::new(name, shape, seed);
    let valid = Window::valid([3, 3], [1, 1]);
    let same = Window {
        padding: around(1),
        ..valid
    };
    let window = Window::valid([2, 2], [2, 2]);
    let half = if name == "cifar10-he" {
        Op::AvgPool {
            window,
            count_padding: true,
        }
    } else {
        Op::MaxPool { window }
    };
    for (inputs, maps) in [(shape[0], 32), (32, 64)] {
        net.conv(inputs, maps, same).norm(maps).act(activation);
        net.conv(maps, maps, valid).norm(maps).act(activation);
        net.push(half.clone()).drop(0.1);
    }
    net.flatten()
        .dense(64 * side * side, 512)
        .norm(512)
        .act(last)
        .drop(0.3)
        .dense(512, 10);
    net.finish()
}

fn around(pixels: usize) -> Padding {
    Padding {
        top: pixels,
        left: pixels,
        bottom: pixels,
        right: pixels,
    }
}

/// Appends layers with initial weights.
struct Builder {
    graph: GraphBuilder,
    dropout: BTreeMap<String, f32>,
    seed: u64,
    /// Layers of each kind so far, for names like `conv2`.
    counts: BTreeMap<&'static str, usize>,
    last_name: String,
    layers: u64,
    /// The first error, told at the end so that layers can be chained.
    fault: Option<Error>,
}

impl Builder {
    fn new(name: &str, input: &[usize], seed: u64) -> Self {
        Self {
            graph: GraphBuilder::new(name, input),
            dropout: BTreeMap::new(),
            seed,
            counts: BTreeMap::new(),
            last_name: "input".into(),
            layers: 0,
            fault: None,
        }
    }

    fn push(&mut self, op: Op) -> &mut Self {
        let kind = match op {
            Op::Conv2d { .. } => "conv",
            Op::Dense { .. } => "dense",
            Op::BatchNorm { .. } => "norm",
            Op::AvgPool { .. } | Op::MaxPool { .. } => "pool",
            Op::Flatten => "flatten",
            _ => "activation",
        };
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        self.last_name = format!("{kind}{count}");
        let last = self.graph.last();
        self.graph.push(self.last_name.clone(), op, &[last]);
        self
    }

    /// He-normal weights: variance `2 / fan_in` (He et al. 2015).
    fn weight(&mut self, shape: Vec<usize>) -> Tensor {
        let fan_in: usize = shape[1..].iter().product();
        let deviation = (2.0 / fan_in as f32).sqrt();
        let mut rng = stream(self.seed, Purpose::Weights, self.layers);
        self.layers += 1;
        let len = shape.iter().product();
        let data = (0..len).map(|_| deviation * normal(&mut rng)).collect();
        Tensor { shape, data }
    }

    fn conv(&mut self, inputs: usize, outputs: usize, window: Window) -> &mut Self {
        let weight = self.weight(vec![outputs, inputs, window.kernel[0], window.kernel[1]]);
        let bias = Some(Tensor::zeros([outputs]));
        self.push(Op::Conv2d {
            weight,
            bias,
            window,
            dilation: [1, 1],
            groups: 1,
        })
    }

    fn dense(&mut self, inputs: usize, outputs: usize) -> &mut Self {
        let weight = self.weight(vec![outputs, inputs]);
        self.push(Op::Dense {
            weight,
            bias: Some(Tensor::zeros([outputs])),
        })
    }

    fn norm(&mut self, channels: usize) -> &mut Self {
        let filled = |value| Tensor::vector(vec![value; channels]);
        self.push(Op::BatchNorm {
            scale: filled(1.0),
            shift: filled(0.0),
            mean: filled(0.0),
            variance: filled(1.0),
            epsilon: 1e-3,
        })
    }

    fn act(&mut self, activation: Activation) -> &mut Self {
        match activation.op() {
            Ok(Some(op)) => _ = self.push(op),
            Ok(None) => {}
            Err(error) => self.fault = self.fault.take().or(Some(error)),
        }
        self
    }

    fn flatten(&mut self) -> &mut Self {
        self.push(Op::Flatten)
    }

    fn drop(&mut self, rate: f32) -> &mut Self {
        self.dropout.insert(self.last_name.clone(), rate);
        self
    }

    fn finish(self) -> Result<Architecture> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        Ok(Architecture {
            graph: self.graph.finish()?,
            dropout: self.dropout,
        })
    }
}
