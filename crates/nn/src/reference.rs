//! The reference executor: the plain evaluation that every protected backend is compared with.
//!
//! Values are `f32`; sums over windows, normalisation constants and softmax are taken in `f64`.
//! Batches are cut into blocks of images, one block per task, and each block is computed by one
//! thread, so results do not depend on the number of threads.

mod conv;
mod ops;
#[cfg(test)]
mod tests;

use std::mem;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op};
use crate::tensor::{Tensor, strides, walk_strided};

/// Values that one block of images may hold over all nodes; bounds the memory of a thread to about
/// 32 MiB.
const BLOCK_VALUES: usize = 1 << 23;
/// Images per block at most; more brings nothing.
const BLOCK_IMAGES: usize = 32;

/// Smallest and largest value seen at a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
}

impl Range {
    /// Contains nothing.
    pub const EMPTY: Self = Self {
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
    };

    /// The larger of the two magnitudes.
    pub fn magnitude(&self) -> f32 {
        self.min.abs().max(self.max.abs())
    }

    /// The smallest range that holds both.
    pub fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// Evaluates one example.
///
/// # Errors
/// A fault of the graph, or [`Error::InputShape`].
pub fn run(graph: &Graph, image: &Tensor) -> Result<Tensor> {
    Executor::new(graph)?.run(image)
}

/// Evaluates many examples on all cores.
///
/// # Errors
/// As [`run`].
pub fn run_batch(graph: &Graph, images: &[Tensor]) -> Result<Vec<Tensor>> {
    Executor::new(graph)?.run_batch(images)
}

/// Evaluates one example and returns each node's value, in the order of [`Graph::nodes`].
///
/// # Errors
/// As [`run`].
pub fn run_traced(graph: &Graph, image: &Tensor) -> Result<Vec<Tensor>> {
    Executor::new(graph)?.run_traced(image)
}

/// A checked network ready to be evaluated many times.
#[derive(Debug)]
pub struct Executor<'g> {
    graph: &'g Graph,
    shapes: Vec<Vec<usize>>,
    lengths: Vec<usize>,
    /// Constant operands of `Add`, `Sub` and `Mul`, broadcast to the result's shape.
    broadcast: Vec<[Option<Vec<f32>>; 2]>,
    /// Whether the node may overwrite its operand: pointwise or a view, and the only use.
    in_place: Vec<bool>,
    block: usize,
}

/// Values of one block of images, one buffer a node, reused from block to block.
#[derive(Debug, Default)]
struct Workspace {
    values: Vec<Vec<f32>>,
    scratch: Vec<f32>,
}

impl<'g> Executor<'g> {
    /// Checks `graph` and prepares its evaluation.
    ///
    /// # Errors
    /// As [`Graph::validate`].
    pub fn new(graph: &'g Graph) -> Result<Self> {
        graph.validate()?;
        let shapes = graph.shapes()?;
        let lengths: Vec<usize> = shapes.iter().map(|shape| shape.iter().product()).collect();
        let uses = graph.use_counts();
        let in_place = graph
            .nodes
            .iter()
            .map(|node| may_overwrite(node, graph, &uses))
            .collect();
        let broadcast = graph.nodes.iter().zip(&shapes);
        let broadcast = broadcast.map(|(node, shape)| expand_constants(graph, node, shape));
        let block = (BLOCK_VALUES / lengths.iter().sum::<usize>()).clamp(1, BLOCK_IMAGES);
        Ok(Self {
            graph,
            broadcast: broadcast.collect(),
            shapes,
            lengths,
            in_place,
            block,
        })
    }

    /// The network.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// Shape of each node's value.
    pub fn shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    /// Shape of one example.
    pub fn input_shape(&self) -> &[usize] {
        self.graph.input_shape()
    }

    /// Shape of one answer.
    pub fn output_shape(&self) -> &[usize] {
        &self.shapes[self.graph.output.0]
    }

    /// Evaluates one example.
    ///
    /// # Errors
    /// [`Error::InputShape`].
    pub fn run(&self, image: &Tensor) -> Result<Tensor> {
        self.check_input(image)?;
        let data = self.run_each(1, |_, input| input.copy_from_slice(&image.data));
        Tensor::new(self.output_shape(), data)
    }

    /// Evaluates many examples.
    ///
    /// # Errors
    /// [`Error::InputShape`].
    pub fn run_batch(&self, images: &[Tensor]) -> Result<Vec<Tensor>> {
        images
            .iter()
            .try_for_each(|image| self.check_input(image))?;
        let data = self.run_each(images.len(), |i, input| {
            input.copy_from_slice(&images[i].data)
        });
        let answers = data.chunks_exact(self.lengths[self.graph.output.0]);
        answers
            .map(|answer| Tensor::new(self.output_shape(), answer.to_vec()))
            .collect()
    }

    /// Evaluates `count` examples; `fill(i, input)` writes example `i`. Answers follow each other
    /// in the result.
    pub fn run_each(&self, count: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
        let length = self.lengths[self.graph.output.0];
        let mut out = vec![0.0; count * length];
        let blocks = out.par_chunks_mut(self.block * length).enumerate();
        blocks.for_each_init(Workspace::default, |workspace, (block, out)| {
            let images = out.len() / length;
            let first = block * self.block;
            self.run_block(workspace, images, true, |i, input| fill(first + i, input));
            out.copy_from_slice(&workspace.values[self.graph.output.0]);
        });
        out
    }

    /// Smallest and largest value of each node over `count` examples written by `fill`.
    pub fn ranges(&self, count: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<Range> {
        let nothing = || vec![Range::EMPTY; self.lengths.len()];
        let of_block = |workspace: &mut Workspace, block: usize| {
            let first = block * self.block;
            let images = self.block.min(count - first);
            self.run_block(workspace, images, false, |i, input| fill(first + i, input));
            workspace
                .values
                .iter()
                .map(|values| range_of(values))
                .collect::<Vec<_>>()
        };
        let merge = |a: Vec<Range>, b: Vec<Range>| {
            a.into_iter()
                .zip(b)
                .map(|(a, b)| a.union(b))
                .collect::<Vec<_>>()
        };
        let blocks = (0..count.div_ceil(self.block)).into_par_iter();
        blocks
            .map_init(Workspace::default, of_block)
            .reduce(nothing, merge)
    }

    /// Evaluates one example and returns each node's value.
    ///
    /// # Errors
    /// [`Error::InputShape`].
    pub fn run_traced(&self, image: &Tensor) -> Result<Vec<Tensor>> {
        self.check_input(image)?;
        let mut workspace = Workspace::default();
        self.run_block(&mut workspace, 1, false, |_, input| {
            input.copy_from_slice(&image.data)
        });
        let values = workspace.values.into_iter().zip(&self.shapes);
        values
            .map(|(data, shape)| Tensor::new(shape.clone(), data))
            .collect()
    }

    fn check_input(&self, image: &Tensor) -> Result<()> {
        let expected = self.input_shape();
        if image.shape == expected && image.data.len() == expected.iter().product::<usize>() {
            return Ok(());
        }
        Err(Error::InputShape {
            expected: expected.to_vec(),
            found: image.shape.clone(),
        })
    }

    /// Computes every node for `images` examples; buffers hold `[images][values of the node]`.
    fn run_block(
        &self,
        workspace: &mut Workspace,
        images: usize,
        overwrite: bool,
        mut fill: impl FnMut(usize, &mut [f32]),
    ) {
        workspace
            .values
            .resize_with(self.graph.nodes.len(), Vec::new);
        for (position, node) in self.graph.nodes.iter().enumerate() {
            let mut out = mem::take(&mut workspace.values[position]);
            if overwrite && self.in_place[position] {
                mem::swap(&mut out, &mut workspace.values[node.inputs[0].0]);
                ops::overwrite(&node.op, &mut out);
            } else {
                out.resize(images * self.lengths[position], 0.0);
                match &node.op {
                    Op::Input { .. } => {
                        let inputs = out.chunks_exact_mut(self.lengths[position]);
                        inputs.enumerate().for_each(|(i, input)| fill(i, input));
                    }
                    _ => self.compute(position, node, workspace, images, &mut out),
                }
            }
            workspace.values[position] = out;
        }
    }

    fn compute(
        &self,
        position: usize,
        node: &Node,
        workspace: &mut Workspace,
        images: usize,
        out: &mut [f32],
    ) {
        let Workspace { values, scratch } = workspace;
        let operand = |i: usize| {
            let id = node.inputs[i].0;
            ops::Operand {
                shape: &self.shapes[id],
                values: &values[id],
            }
        };
        let shape = &self.shapes[position];
        match &node.op {
            Op::Conv2d {
                weight,
                bias,
                window,
                dilation,
                groups,
            } => {
                let layer = conv::Conv {
                    weight,
                    bias: bias.as_ref(),
                    window,
                    dilation,
                    groups,
                };
                conv::conv2d(&layer, operand(0), shape, out, scratch);
            }
            Op::Dense { weight, bias } => {
                ops::dense(weight, bias.as_ref(), operand(0), images, out);
            }
            Op::Concat { axis } => {
                let operands: Vec<_> = (0..node.inputs.len()).map(operand).collect();
                ops::concat(&operands, *axis, shape, out);
            }
            Op::Add | Op::Sub | Op::Mul => {
                let side = |i: usize| match &self.broadcast[position][i] {
                    Some(constant) => constant.as_slice(),
                    None => operand(i).values,
                };
                ops::binary(&node.op, side(0), side(1), out);
            }
            Op::Constant(value) => {
                out.chunks_exact_mut(value.len())
                    .for_each(|o| o.copy_from_slice(&value.data));
            }
            op => ops::unary(op, operand(0), shape, out),
        }
    }
}

/// Views and pointwise functions overwrite their operand if nothing else reads it.
fn may_overwrite(node: &Node, graph: &Graph, uses: &[usize]) -> bool {
    let local = node.op.is_pointwise() || matches!(node.op, Op::Flatten | Op::Reshape { .. });
    let kept = |id: usize| matches!(graph.nodes[id].op, Op::Constant(_)) || uses[id] > 1;
    local && node.inputs.first().is_some_and(|id| !kept(id.0))
}

fn expand_constants(graph: &Graph, node: &Node, shape: &[usize]) -> [Option<Vec<f32>>; 2] {
    if !matches!(node.op, Op::Add | Op::Sub | Op::Mul) {
        return [None, None];
    }
    [0, 1].map(|side| match &graph.nodes[node.inputs[side].0].op {
        Op::Constant(value) => Some(broadcast(value, shape)),
        _ => None,
    })
}

/// `value` repeated along the axes where it has extent 1 (or none) until it has `shape`.
pub(crate) fn broadcast(value: &Tensor, shape: &[usize]) -> Vec<f32> {
    let missing = shape.len() - value.shape.len();
    let mut source = vec![0; missing];
    source.extend(strides(&value.shape));
    for (axis, &extent) in value.shape.iter().enumerate() {
        if extent == 1 {
            source[missing + axis] = 0;
        }
    }
    let mut out = vec![0.0; shape.iter().product()];
    walk_strided(shape, &source, |i, from| out[i] = value.data[from]);
    out
}

fn range_of(values: &[f32]) -> Range {
    let range = Range::EMPTY;
    values.iter().fold(range, |r, &v| Range {
        min: r.min.min(v),
        max: r.max.max(v),
    })
}
