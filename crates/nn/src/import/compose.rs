//! Operators of other tools as compositions of the graph's own.
//!
//! Piecewise linear activations are sums of ReLUs; crops, selections and spreads are convolutions
//! whose weights are zeros and ones. Encryption sees sparse affine maps then, at no extra level.

use super::lowering::Lowering;
use crate::error::{Error, NodeFault, Result};
use crate::graph::{NodeId, Op, Padding, Window};
use crate::tensor::{Tensor, element_count};

/// Most weights of all convolutions and dense layers made here for one network: a short file must
/// not ask for much memory.
const WEIGHTS_MAX: usize = 1 << 24;

/// What of an image is kept: from `start`, every `stride`-th of `extent` rows and columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crop {
    pub(super) start: [usize; 2],
    pub(super) extent: [usize; 2],
    pub(super) stride: [usize; 2],
}

impl Lowering {
    /// `value * factor`.
    pub(super) fn scaled(&mut self, name: &str, value: NodeId, factor: f32) -> Result<NodeId> {
        if factor == 1.0 {
            return Ok(value);
        }
        let factor = self.constant(&format!("{name}_factor"), scalar(factor))?;
        self.push(&format!("{name}_scaled"), Op::Mul, &[value, factor])
    }

    /// `value + offset`.
    pub(super) fn shifted(&mut self, name: &str, value: NodeId, offset: f32) -> Result<NodeId> {
        if offset == 0.0 {
            return Ok(value);
        }
        let offset = self.constant(&format!("{name}_offset"), scalar(offset))?;
        self.push(&format!("{name}_shifted"), Op::Add, &[value, offset])
    }

    /// Values limited to `[low, high]`: `low + relu(x - low) - relu(x - high)`.
    pub(super) fn clamped(
        &mut self,
        name: &str,
        value: NodeId,
        low: Option<f32>,
        high: Option<f32>,
    ) -> Result<NodeId> {
        let above = |lowering: &mut Self, bound: f32, side: &str| {
            let moved = lowering.shifted(&format!("{name}_{side}"), value, -bound)?;
            lowering.push(&format!("{name}_above_{side}"), Op::Relu, &[moved])
        };
        let lower = match low {
            Some(low) => {
                let rest = above(self, low, "low")?;
                self.shifted(&format!("{name}_from_low"), rest, low)?
            }
            None => value,
        };
        match high {
            Some(high) => {
                let excess = above(self, high, "high")?;
                self.push(name, Op::Sub, &[lower, excess])
            }
            None => Ok(lower),
        }
    }

    /// `x` where positive, `slope * x` elsewhere; one slope, or a tensor that broadcasts.
    pub(super) fn leaky(&mut self, name: &str, value: NodeId, slope: &Tensor) -> Result<NodeId> {
        let rest = Tensor {
            shape: slope.shape.clone(),
            data: slope.data.iter().map(|s| 1.0 - s).collect(),
        };
        let factor = self.constant(&format!("{name}_slope"), slope.clone())?;
        let line = self.push(&format!("{name}_line"), Op::Mul, &[value, factor])?;
        let positive = self.push(&format!("{name}_relu"), Op::Relu, &[value])?;
        let factor = self.constant(&format!("{name}_rest"), rest)?;
        let bend = self.push(&format!("{name}_bend"), Op::Mul, &[positive, factor])?;
        self.push(name, Op::Add, &[line, bend])
    }

    /// `max(x, 0) + max(-x, 0)`.
    pub(super) fn absolute(&mut self, name: &str, value: NodeId) -> Result<NodeId> {
        let positive = self.push(&format!("{name}_positive"), Op::Relu, &[value])?;
        let turned = self.scaled(name, value, -1.0)?;
        let negative = self.push(&format!("{name}_negative"), Op::Relu, &[turned])?;
        self.push(name, Op::Add, &[positive, negative])
    }

    /// The larger of two values: `a + relu(b - a)`.
    pub(super) fn larger(&mut self, name: &str, a: NodeId, b: NodeId) -> Result<NodeId> {
        let gap = self.push(&format!("{name}_gap"), Op::Sub, &[b, a])?;
        let excess = self.push(&format!("{name}_excess"), Op::Relu, &[gap])?;
        self.push(name, Op::Add, &[a, excess])
    }

    /// The smaller of two values: `a - relu(a - b)`.
    pub(super) fn smaller(&mut self, name: &str, a: NodeId, b: NodeId) -> Result<NodeId> {
        let gap = self.push(&format!("{name}_gap"), Op::Sub, &[a, b])?;
        let excess = self.push(&format!("{name}_excess"), Op::Relu, &[gap])?;
        self.push(name, Op::Sub, &[a, excess])
    }

    /// `min(max(slope * x + offset, 0), 1)`.
    pub(super) fn hard_sigmoid(
        &mut self,
        name: &str,
        value: NodeId,
        slope: f32,
        offset: f32,
    ) -> Result<NodeId> {
        let line = self.scaled(&format!("{name}_slope"), value, slope)?;
        let line = self.shifted(&format!("{name}_line"), line, offset)?;
        self.clamped(name, line, Some(0.0), Some(1.0))
    }

    /// A dense layer along the last axis of a value of any rank: on more than one axis, a 1x1
    /// convolution with that axis as channels.
    pub(super) fn dense_last(
        &mut self,
        name: &str,
        value: NodeId,
        weight: Tensor,
        bias: Option<Tensor>,
    ) -> Result<NodeId> {
        let shape = self.shape(value).to_vec();
        let rank = shape.len();
        if rank < 2 {
            return self.push(name, Op::Dense { weight, bias }, &[value]);
        }
        let (inputs, outputs) = (shape[rank - 1], weight.shape[0]);
        let positions = shape[..rank - 1].iter().product();
        let turned = self.axis_to_front(&format!("{name}_in"), value, rank - 1)?;
        let rows = self.reshape(&format!("{name}_rows"), turned, vec![inputs, positions, 1])?;
        let weight = weight.clone().reshaped([outputs, weight.shape[1], 1, 1])?;
        let op = Op::Conv2d {
            weight,
            bias,
            window: Window::valid([1, 1], [1, 1]),
            dilation: [1, 1],
            groups: 1,
        };
        let mixed = self.push(name, op, &[rows])?;
        let mut back = vec![outputs];
        back.extend(&shape[..rank - 1]);
        let split = self.reshape(&format!("{name}_split"), mixed, back)?;
        self.front_to_axis(&format!("{name}_out"), split, rank - 1)
    }

    /// Moves `axis` to the front, the others stay in order.
    pub(super) fn axis_to_front(
        &mut self,
        name: &str,
        value: NodeId,
        axis: usize,
    ) -> Result<NodeId> {
        let rank = self.shape(value).len();
        let rest = (0..rank).filter(|&a| a != axis);
        self.permuted(name, value, std::iter::once(axis).chain(rest).collect())
    }

    /// Undoes [`Self::axis_to_front`].
    pub(super) fn front_to_axis(
        &mut self,
        name: &str,
        value: NodeId,
        axis: usize,
    ) -> Result<NodeId> {
        let rank = self.shape(value).len();
        let mut permutation: Vec<usize> = (1..rank).collect();
        permutation.insert(axis, 0);
        self.permuted(name, value, permutation)
    }

    /// A transpose, left out where it changes nothing.
    pub(super) fn permuted(
        &mut self,
        name: &str,
        value: NodeId,
        permutation: Vec<usize>,
    ) -> Result<NodeId> {
        if permutation.is_sorted() {
            return Ok(value);
        }
        self.push(name, Op::Transpose { permutation }, &[value])
    }

    /// Part of an image: a convolution of each map with a kernel of one 1.
    pub(super) fn cropped(&mut self, name: &str, image: NodeId, crop: Crop) -> Result<NodeId> {
        let shape = self.shape(image).to_vec();
        let extent = |axis: usize| shape.get(axis).copied().unwrap_or(1);
        let channels = extent(0);
        let kernel = [0, 1].map(|axis| (extent(1 + axis) + 1).saturating_sub(crop.extent[axis]));
        let mut weight = self.zeros(name, vec![channels, 1, kernel[0], kernel[1]])?;
        for map in weight.data.chunks_exact_mut((kernel[0] * kernel[1]).max(1)) {
            if let Some(weight) = map.get_mut(crop.start[0] * kernel[1] + crop.start[1]) {
                *weight = 1.0;
            }
        }
        let op = Op::Conv2d {
            weight,
            bias: None,
            window: Window::valid(kernel, crop.stride),
            dilation: [1, 1],
            groups: channels,
        };
        self.push(name, op, &[image])
    }

    /// The entries `kept` along the first axis, in that order.
    pub(super) fn selected(&mut self, name: &str, value: NodeId, kept: &[usize]) -> Result<NodeId> {
        let shape = self.shape(value).to_vec();
        let mut weight = self.zeros(name, vec![kept.len(), shape[0]])?;
        for (row, &at) in kept.iter().enumerate() {
            weight.data[row * shape[0] + at] = 1.0;
        }
        let last = self.front_to_axis(&format!("{name}_in"), value, shape.len() - 1)?;
        let picked = self.dense_last(name, last, weight, None)?;
        self.axis_to_front(&format!("{name}_out"), picked, shape.len() - 1)
    }

    /// One value a map, `[c, 1, 1]`, repeated over an image: a convolution with ones over a padding
    /// that leaves exactly one value under each window.
    pub(super) fn spread(
        &mut self,
        name: &str,
        value: NodeId,
        extent: [usize; 2],
    ) -> Result<NodeId> {
        let channels = self.shape(value)[0];
        let [height, width] = extent;
        let mut weight = self.zeros(name, vec![channels, 1, height, width])?;
        weight.data.fill(1.0);
        let op = Op::Conv2d {
            weight,
            bias: None,
            window: Window {
                kernel: extent,
                stride: [1, 1],
                padding: Padding {
                    top: height - 1,
                    left: width - 1,
                    bottom: height - 1,
                    right: width - 1,
                },
            },
            dilation: [1, 1],
            groups: channels,
        };
        self.push(name, op, &[value])
    }

    fn zeros(&mut self, name: &str, shape: Vec<usize>) -> Result<Tensor> {
        let total = element_count(&shape).and_then(|count| self.made.checked_add(count));
        match total {
            Some(total) if total <= WEIGHTS_MAX => {
                self.made = total;
                Ok(Tensor::zeros(shape))
            }
            _ => Err(Error::Node {
                node: name.to_owned(),
                op: "Conv2d",
                fault: Box::new(NodeFault::Size {
                    shape,
                    limit: WEIGHTS_MAX,
                }),
            }),
        }
    }
}

/// A single number as an operand.
pub(super) fn scalar(value: f32) -> Tensor {
    Tensor {
        shape: vec![],
        data: vec![value],
    }
}
