//! Forward and backward passes of each operator over a batch.
//!
//! Buffers are batch-major: example after example, each row-major in the operator's own shape. Work
//! is split into chunks of [`CHUNK`] examples whatever the number of threads, and partial sums over
//! chunks are added in order, so that a training run gives the same weights on any number of
//! threads.
//!
//! Backward passes read operands and upstream gradients, never outputs: dropout may overwrite an
//! output in place.

mod activation;
mod arithmetic;
mod convolution;
mod dense;
mod direct;
mod normalise;
mod pooling;
mod shape;

use rayon::prelude::*;
use scuro_nn::graph::{Node, Op};

pub(crate) use convolution::Convolution;

/// Examples handled by one task.
pub(crate) const CHUNK: usize = 16;

/// Whether batch statistics (training) or running statistics (inference) are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Batch statistics; they are kept for the backward pass.
    Training,
    /// Running statistics.
    Inference,
}

/// What an operator reads: operand values and shapes of one batch.
#[derive(Debug)]
pub(crate) struct Operands<'a> {
    /// One slice of `batch * size` values per operand.
    pub(crate) values: Vec<&'a [f32]>,
    /// Shape of one example of each operand.
    pub(crate) shapes: Vec<&'a [usize]>,
    /// Shape of one example of the result.
    pub(crate) output: &'a [usize],
    /// Examples in the batch.
    pub(crate) batch: usize,
}

impl Operands<'_> {
    /// Values of one example of operand `index`.
    fn size(&self, index: usize) -> usize {
        size(self.shapes[index])
    }

    /// Values of one example of the result.
    fn output_size(&self) -> usize {
        size(self.output)
    }

    /// Operand `index`, the examples of chunk `chunk`.
    fn chunk(&self, index: usize, chunk: usize) -> &[f32] {
        slice_chunk(self.values[index], self.size(index), chunk)
    }
}

/// Statistics of the batch that a backward pass needs again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Saved {
    /// Mean per channel (batch normalisation).
    pub(crate) mean: Vec<f32>,
    /// Variance per channel.
    pub(crate) variance: Vec<f32>,
}

/// Where a backward pass writes.
#[derive(Debug)]
pub(crate) struct Gradients<'a> {
    /// One buffer per operand whose gradient is wanted; overwritten.
    pub(crate) operands: &'a mut [Option<Vec<f32>>],
    /// One buffer per parameter of the operator, in the order of [`parameters`]; overwritten.
    pub(crate) parameters: &'a mut [Vec<f32>],
}

/// One trainable array of an operator.
#[derive(Debug)]
pub(crate) struct Parameter<'a> {
    /// The values.
    pub(crate) values: &'a mut [f32],
    /// Whether weight decay applies (matrices and kernels only).
    pub(crate) decays: bool,
}

/// The trainable arrays of `op`; empty for operators without any.
pub(crate) fn parameters(op: &mut Op) -> Vec<Parameter<'_>> {
    let free = |values| Parameter {
        values,
        decays: false,
    };
    match op {
        Op::Conv2d { weight, bias, .. } | Op::Dense { weight, bias } => {
            let mut list = vec![Parameter {
                values: &mut weight.data,
                decays: true,
            }];
            list.extend(bias.as_mut().map(|bias| free(&mut bias.data)));
            list
        }
        Op::BatchNorm { scale, shift, .. } => vec![free(&mut scale.data), free(&mut shift.data)],
        Op::Polynomial { coefficients } => vec![free(coefficients)],
        _ => Vec::new(),
    }
}

/// Computes `node` for a batch into `out`.
pub(crate) fn forward(
    node: &Node,
    operands: &Operands<'_>,
    out: &mut [f32],
    mode: Mode,
    saved: &mut Saved,
) {
    match &node.op {
        Op::Input { .. } => {}
        Op::Constant(value) => {
            out.chunks_exact_mut(value.len())
                .for_each(|o| o.copy_from_slice(&value.data));
        }
        Op::Conv2d {
            weight,
            bias,
            window,
            dilation,
            groups,
        } => {
            let layer = Convolution::new(operands, window, *dilation, *groups);
            let bias = bias.as_ref().map(|bias| &bias.data[..]);
            layer.forward(operands, &weight.data, bias, out);
        }
        Op::Dense { weight, bias } => {
            dense::forward(
                operands,
                &weight.data,
                bias.as_ref().map(|b| &b.data[..]),
                out,
            );
        }
        Op::BatchNorm {
            scale,
            shift,
            mean,
            variance,
            epsilon,
        } => {
            if mode == Mode::Training {
                normalise::batch_statistics(operands, saved);
            } else {
                saved.mean.clone_from(&mean.data);
                saved.variance.clone_from(&variance.data);
            }
            normalise::forward(operands, &scale.data, &shift.data, *epsilon, saved, out);
        }
        Op::AvgPool { .. } | Op::MaxPool { .. } | Op::GlobalAvgPool | Op::GlobalMaxPool => {
            pooling::forward(&node.op, operands, out);
        }
        Op::Flatten | Op::Reshape { .. } => out.copy_from_slice(operands.values[0]),
        Op::Transpose { permutation } => shape::transpose(operands, permutation, out),
        Op::Concat { axis } => shape::concat(operands, *axis, out),
        Op::Add | Op::Sub | Op::Mul => arithmetic::forward(&node.op, operands, out),
        Op::Softmax { axis } | Op::LogSoftmax { axis } => {
            activation::softmax(
                operands,
                *axis,
                matches!(node.op, Op::LogSoftmax { .. }),
                out,
            );
        }
        _ => activation::forward(&node.op, operands, out),
    }
}

/// Writes the gradients of `node`'s operands and parameters, given the gradient `upstream` of its
/// result.
pub(crate) fn backward(
    node: &Node,
    operands: &Operands<'_>,
    upstream: &[f32],
    saved: &Saved,
    gradients: &mut Gradients<'_>,
) {
    match &node.op {
        Op::Input { .. } | Op::Constant(_) => {}
        Op::Conv2d {
            weight,
            window,
            dilation,
            groups,
            ..
        } => {
            let layer = Convolution::new(operands, window, *dilation, *groups);
            layer.backward(operands, &weight.data, upstream, gradients);
        }
        Op::Dense { weight, .. } => dense::backward(operands, &weight.data, upstream, gradients),
        Op::BatchNorm { scale, epsilon, .. } => {
            normalise::backward(operands, &scale.data, *epsilon, saved, upstream, gradients);
        }
        Op::AvgPool { .. } | Op::MaxPool { .. } | Op::GlobalAvgPool | Op::GlobalMaxPool => {
            if let Some(out) = &mut gradients.operands[0] {
                pooling::backward(&node.op, operands, upstream, out);
            }
        }
        Op::Flatten | Op::Reshape { .. } => {
            if let Some(out) = &mut gradients.operands[0] {
                out.copy_from_slice(upstream);
            }
        }
        Op::Transpose { permutation } => {
            if let Some(out) = &mut gradients.operands[0] {
                shape::transpose_back(operands, permutation, upstream, out);
            }
        }
        Op::Concat { axis } => shape::split(operands, *axis, upstream, gradients.operands),
        Op::Add | Op::Sub | Op::Mul => {
            arithmetic::backward(&node.op, operands, upstream, gradients.operands);
        }
        Op::Softmax { axis } | Op::LogSoftmax { axis } => {
            if let Some(out) = &mut gradients.operands[0] {
                let log = matches!(node.op, Op::LogSoftmax { .. });
                activation::softmax_back(operands, *axis, log, upstream, out);
            }
        }
        _ => activation::backward(&node.op, operands, upstream, gradients),
    }
}

/// Number of values of a shape.
pub(crate) fn size(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// The examples of chunk `chunk` in `values`, `size` values each.
pub(crate) fn slice_chunk(values: &[f32], size: usize, chunk: usize) -> &[f32] {
    let from = (chunk * CHUNK * size).min(values.len());
    let to = (from + CHUNK * size).min(values.len());
    &values[from..to]
}

/// Runs `work(chunk, values)` over the chunks of `out`, `size` values an example, in parallel.
pub(crate) fn for_chunks(out: &mut [f32], size: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    out.par_chunks_mut((size * CHUNK).max(1))
        .enumerate()
        .for_each(|(i, part)| work(i, part));
}

/// Sums `work(chunk)` over the chunks of a batch, in order: `len` values.
pub(crate) fn sum_over_chunks(
    batch: usize,
    total: &mut [f32],
    work: impl Fn(usize, &mut [f32]) + Sync,
) {
    let partials: Vec<Vec<f32>> = (0..batch.div_ceil(CHUNK))
        .into_par_iter()
        .map(|chunk| {
            let mut partial = vec![0.0; total.len()];
            work(chunk, &mut partial);
            partial
        })
        .collect();
    total.fill(0.0);
    for partial in &partials {
        total.iter_mut().zip(partial).for_each(|(t, p)| *t += p);
    }
}
