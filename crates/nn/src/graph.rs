//! The network as a graph of typed operators.
//!
//! Shapes never include the batch dimension: an image is `[channels, height, width]`, a vector
//! `[n]`. Importers translate channels-last models into this form, so that every later stage knows
//! one layout only.

mod builder;
mod shapes;
mod split;
mod summary;
#[cfg(test)]
mod tests;

pub use builder::GraphBuilder;
pub use split::Part;
pub use summary::{SummaryRow, Totals};

use std::fmt;

use crate::data::Preprocess;
use crate::tensor::Tensor;

/// Most nodes of a network.
pub const MAX_NODES: usize = 1 << 16;
/// Most values of one node, per example.
pub const MAX_NODE_VALUES: usize = 1 << 28;

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
    /// How pixels become inputs, where the file says so.
    pub preprocess: Option<Preprocess>,
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

impl Window {
    /// A window without padding.
    pub fn valid(kernel: [usize; 2], stride: [usize; 2]) -> Self {
        Self {
            kernel,
            stride,
            padding: Padding::default(),
        }
    }

    /// Extent of the output, or `None` where the window does not fit or an extent is zero.
    pub fn output_extent(&self, input: [usize; 2], dilation: [usize; 2]) -> Option<[usize; 2]> {
        let p = self.padding;
        let around = [p.top.checked_add(p.bottom)?, p.left.checked_add(p.right)?];
        let mut out = [0; 2];
        for axis in 0..2 {
            let reach = self.kernel[axis]
                .checked_sub(1)?
                .checked_mul(dilation[axis])?;
            let room = input[axis]
                .checked_add(around[axis])?
                .checked_sub(reach.checked_add(1)?)?;
            if dilation[axis] == 0 || input[axis] == 0 {
                return None;
            }
            out[axis] = room.checked_div(self.stride[axis])? + 1;
        }
        Some(out)
    }
}

impl Op {
    /// Name of the operator, as messages and summaries print it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "Input",
            Op::Constant(_) => "Constant",
            Op::Conv2d { .. } => "Conv2d",
            Op::AvgPool { .. } => "AvgPool",
            Op::MaxPool { .. } => "MaxPool",
            Op::GlobalAvgPool => "GlobalAvgPool",
            Op::GlobalMaxPool => "GlobalMaxPool",
            Op::Dense { .. } => "Dense",
            Op::BatchNorm { .. } => "BatchNorm",
            Op::Flatten => "Flatten",
            Op::Reshape { .. } => "Reshape",
            Op::Transpose { .. } => "Transpose",
            Op::Add => "Add",
            Op::Sub => "Sub",
            Op::Mul => "Mul",
            Op::Concat { .. } => "Concat",
            Op::Relu => "Relu",
            Op::Sigmoid => "Sigmoid",
            Op::Tanh => "Tanh",
            Op::Square => "Square",
            Op::Polynomial { .. } => "Polynomial",
            Op::Softmax { .. } => "Softmax",
            Op::LogSoftmax { .. } => "LogSoftmax",
        }
    }

    /// The weights of the operator with their names.
    pub fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        match self {
            Op::Constant(value) => vec![("value", value)],
            Op::Conv2d { weight, bias, .. } | Op::Dense { weight, bias } => {
                let bias = bias.iter().map(|b| ("bias", b));
                std::iter::once(("weight", weight)).chain(bias).collect()
            }
            Op::BatchNorm {
                scale,
                shift,
                mean,
                variance,
                ..
            } => {
                vec![
                    ("scale", scale),
                    ("shift", shift),
                    ("mean", mean),
                    ("variance", variance),
                ]
            }
            _ => Vec::new(),
        }
    }

    /// Whether each output value depends on the input value at the same position only.
    pub fn is_pointwise(&self) -> bool {
        matches!(
            self,
            Op::Relu | Op::Sigmoid | Op::Tanh | Op::Square | Op::Polynomial { .. }
        )
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Conv2d {
                weight,
                window,
                dilation,
                groups,
                ..
            } => {
                write!(
                    f,
                    "Conv2d {} maps {}",
                    weight.shape.first().unwrap_or(&0),
                    window
                )?;
                if *dilation != [1, 1] {
                    write!(f, " dilation {}x{}", dilation[0], dilation[1])?;
                }
                if *groups != 1 {
                    write!(f, " groups {groups}")
                } else {
                    Ok(())
                }
            }
            Op::AvgPool { window, .. } | Op::MaxPool { window } => {
                write!(f, "{} {window}", self.name())
            }
            Op::Dense { weight, .. } => write!(f, "Dense {}", weight.shape.first().unwrap_or(&0)),
            Op::Polynomial { coefficients } => {
                write!(
                    f,
                    "Polynomial degree {}",
                    coefficients.len().saturating_sub(1)
                )
            }
            _ => f.write_str(self.name()),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.kernel[0], self.kernel[1])?;
        if self.stride != [1, 1] {
            write!(f, " stride {}x{}", self.stride[0], self.stride[1])?;
        }
        let p = self.padding;
        if p != Padding::default() {
            write!(f, " pad {},{},{},{}", p.top, p.left, p.bottom, p.right)?;
        }
        Ok(())
    }
}
