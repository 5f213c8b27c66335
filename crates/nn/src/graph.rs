//! The network as a graph of typed operators.
//!
//! Shapes never include the batch dimension: an image is `[channels, height, width]`, a vector `[n]`.
//! Importers translate channels-last models into this form, so that every later stage knows one layout only.

use crate::tensor::Tensor;

/// Index of a node in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// A directed acyclic graph of operators with one input and one output, in topological order.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Name of the network, for messages and reports.
    pub name: String,
    /// Nodes; a node only refers to nodes before it.
    pub nodes: Vec<Node>,
    /// The node whose value is the network's answer.
    pub output: NodeId,
}

/// One operator application.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name from the source file, or a generated one; unique in the graph.
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// Operands, all before this node.
    pub inputs: Vec<NodeId>,
}

/// Zero padding of the two spatial axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Padding {
    /// Rows added above.
    pub top: usize,
    /// Columns added at the left.
    pub left: usize,
    /// Rows added below.
    pub bottom: usize,
    /// Columns added at the right.
    pub right: usize,
}

/// A sliding window: kernel size, stride and padding, `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Zero padding.
    pub padding: Padding,
}

/// The closed set of operators.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The network's input.
    Input {
        /// Shape of one example.
        shape: Vec<usize>,
    },
    /// A constant operand (elementwise addition or multiplication).
    Constant(Tensor),
    /// Cross-correlation. `weight` is `[out, in / groups, kernel_h, kernel_w]`, `bias` is `[out]`.
    Conv2d {
        /// Kernel weights.
        weight: Tensor,
        /// One bias per output map.
        bias: Option<Tensor>,
        /// Window; `kernel` equals the last two axes of `weight`.
        window: Window,
        /// Dilation, `[height, width]`.
        dilation: [usize; 2],
        /// Channel groups.
        groups: usize,
    },
    /// Mean over windows.
    AvgPool {
        /// Window.
        window: Window,
        /// Whether padded zeros count in the divisor.
        count_padding: bool,
    },
    /// Maximum over windows (padding never wins).
    MaxPool {
        /// Window.
        window: Window,
    },
    /// Mean over all positions of each map: `[c, h, w] -> [c, 1, 1]`.
    GlobalAvgPool,
    /// Maximum over all positions of each map: `[c, h, w] -> [c, 1, 1]`.
    GlobalMaxPool,
    /// Matrix product with `weight` of shape `[out, in]`, plus `bias` `[out]`.
    Dense {
        /// Matrix.
        weight: Tensor,
        /// One bias per output.
        bias: Option<Tensor>,
    },
    /// `scale * (x - mean) / sqrt(variance + epsilon) + shift`, per channel (axis 0).
    BatchNorm {
        /// Multiplier, `[c]`.
        scale: Tensor,
        /// Offset, `[c]`.
        shift: Tensor,
        /// Running mean, `[c]`.
        mean: Tensor,
        /// Running variance, `[c]`.
        variance: Tensor,
        /// Added to the variance.
        epsilon: f32,
    },
    /// Any shape to a vector, row-major.
    Flatten,
    /// Row-major reshape.
    Reshape {
        /// New shape of one example.
        shape: Vec<usize>,
    },
    /// Axis permutation of one example.
    Transpose {
        /// `output axis i = input axis permutation[i]`.
        permutation: Vec<usize>,
    },
    /// Elementwise sum of two operands of the same shape (or a constant broadcast to it).
    Add,
    /// Elementwise difference, first minus second.
    Sub,
    /// Elementwise product. `Mul(x, x)` is imported as [`Op::Square`].
    Mul,
    /// Joins operands along `axis`.
    Concat {
        /// Axis of one example (0 = channels).
        axis: usize,
    },
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x^2`.
    Square,
    /// `sum_i coefficients[i] * x^i`.
    Polynomial {
        /// Lowest degree first.
        coefficients: Vec<f32>,
    },
    /// Softmax over `axis` of one example.
    Softmax {
        /// Axis of one example.
        axis: usize,
    },
    /// Logarithm of softmax over `axis`.
    LogSoftmax {
        /// Axis of one example.
        axis: usize,
    },
}
