//! All operators but convolution, on blocks of images.

use crate::graph::{Op, Window};
use crate::matmul::{Matrix, gemm};
use crate::tensor::{Tensor, transpose_into};

/// The value of an operand for a block of images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand<'a> {
    /// Shape of one example.
    pub(super) shape: &'a [usize],
    /// `[images][values]`.
    pub(super) values: &'a [f32],
}

impl<'a> Operand<'a> {
    fn examples(self) -> std::slice::ChunksExact<'a, f32> {
        self.values.chunks_exact(self.shape.iter().product())
    }
}

/// Operators of one operand, other than [`dense`] and convolution.
pub(super) fn unary(op: &Op, input: Operand<'_>, shape: &[usize], out: &mut [f32]) {
    match op {
        Op::AvgPool {
            window,
            count_padding,
        } => {
            pool(input, shape, out, |map, in_hw, y, x| {
                average(map, &clip(window, in_hw, y, x), in_hw[1], *count_padding)
            });
        }
        Op::MaxPool { window } => {
            pool(input, shape, out, |map, in_hw, y, x| {
                maximum(map, &clip(window, in_hw, y, x), in_hw[1])
            });
        }
        Op::GlobalAvgPool => pool(input, shape, out, |map, _, _, _| mean(map)),
        Op::GlobalMaxPool => {
            pool(input, shape, out, |map, _, _, _| {
                map.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            });
        }
        Op::BatchNorm {
            scale,
            shift,
            mean,
            variance,
            epsilon,
        } => {
            let factors = batch_norm_factors([scale, shift, mean, variance], *epsilon);
            batch_norm(&factors, input, out);
        }
        Op::Transpose { permutation } => {
            let examples = input.examples();
            let length = input.shape.iter().product();
            for (from, to) in examples.zip(out.chunks_exact_mut(length)) {
                transpose_into(from, input.shape, permutation, to);
            }
        }
        Op::Softmax { axis } => softmax(input, *axis, out, |x, max, sum| {
            ((x - max).exp() / sum) as f32
        }),
        Op::LogSoftmax { axis } => {
            softmax(input, *axis, out, |x, max, sum| (x - max - sum.ln()) as f32)
        }
        pointwise => {
            out.copy_from_slice(input.values);
            overwrite(pointwise, out);
        }
    }
}

/// Pointwise functions in place; views leave the values as they are.
pub(super) fn overwrite(op: &Op, values: &mut [f32]) {
    match op {
        Op::Relu => values.iter_mut().for_each(|v| *v = v.max(0.0)),
        Op::Sigmoid => values
            .iter_mut()
            .for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
        Op::Tanh => values.iter_mut().for_each(|v| *v = v.tanh()),
        Op::Square => values.iter_mut().for_each(|v| *v *= *v),
        Op::Polynomial { coefficients } => {
            let horner = |x: f32| coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
            values.iter_mut().for_each(|v| *v = horner(*v));
        }
        _ => {}
    }
}

/// `Add`, `Sub`, `Mul`; an operand that is one constant example is repeated for every image.
pub(super) fn binary(op: &Op, a: &[f32], b: &[f32], out: &mut [f32]) {
    let function = match op {
        Op::Add => |a: f32, b: f32| a + b,
        Op::Sub => |a: f32, b: f32| a - b,
        _ => |a: f32, b: f32| a * b,
    };
    let step = a.len().min(b.len());
    for (start, out) in (0..).step_by(step).zip(out.chunks_exact_mut(step)) {
        let a = if a.len() == step {
            a
        } else {
            &a[start..start + step]
        };
        let b = if b.len() == step {
            b
        } else {
            &b[start..start + step]
        };
        for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *o = function(a, b);
        }
    }
}

/// Math:   out[n, o] = bias[o] + sum_i weight[o, i] * in[n, i]
pub(super) fn dense(
    weight: &Tensor,
    bias: Option<&Tensor>,
    input: Operand<'_>,
    images: usize,
    out: &mut [f32],
) {
    let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
    match bias {
        Some(bias) => out
            .chunks_exact_mut(outputs)
            .for_each(|o| o.copy_from_slice(&bias.data)),
        None => out.fill(0.0),
    }
    let weight = Matrix::new(&weight.data, outputs, inputs).transpose();
    gemm(
        1.0,
        Matrix::new(input.values, images, inputs),
        weight,
        1.0,
        out,
    );
}

/// Joins along `axis`: the operands' rows of `inner` values alternate.
pub(super) fn concat(operands: &[Operand<'_>], axis: usize, shape: &[usize], out: &mut [f32]) {
    let row: usize = shape[axis..].iter().product();
    let mut start = 0;
    for operand in operands {
        let width: usize = operand.shape[axis..].iter().product();
        for (to, from) in out
            .chunks_exact_mut(row)
            .zip(operand.values.chunks_exact(width))
        {
            to[start..start + width].copy_from_slice(from);
        }
        start += width;
    }
}

/// Calls `value(map, [h, w], y, x)` for each output position of each map of each image.
fn pool(
    input: Operand<'_>,
    shape: &[usize],
    out: &mut [f32],
    value: impl Fn(&[f32], [usize; 2], usize, usize) -> f32,
) {
    let in_hw = [input.shape[1], input.shape[2]];
    let maps = input.values.chunks_exact(in_hw[0] * in_hw[1]);
    for (map, out) in maps.zip(out.chunks_exact_mut(shape[1] * shape[2])) {
        for (y, line) in out.chunks_exact_mut(shape[2]).enumerate() {
            for (x, o) in line.iter_mut().enumerate() {
                *o = value(map, in_hw, y, x);
            }
        }
    }
}

/// The part of a window that lies on the map, and the number of positions it has in the padded map.
struct Clipped {
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    padded: usize,
}

fn clip(window: &Window, in_hw: [usize; 2], y: usize, x: usize) -> Clipped {
    let p = window.padding;
    let around = [[p.top, p.bottom], [p.left, p.right]];
    let span = |axis: usize, at: usize| {
        let start = at * window.stride[axis];
        let end = start + window.kernel[axis];
        let [before, after] = around[axis];
        let padded = end.min(before + in_hw[axis] + after) - start;
        let on_map = start.saturating_sub(before)..end.saturating_sub(before).min(in_hw[axis]);
        (on_map, padded)
    };
    let ((rows, high), (columns, wide)) = (span(0, y), span(1, x));
    Clipped {
        rows,
        columns,
        padded: high * wide,
    }
}

fn average(map: &[f32], at: &Clipped, width: usize, count_padding: bool) -> f32 {
    let mut sum = 0.0f64;
    for y in at.rows.clone() {
        let line = &map[y * width..][at.columns.clone()];
        sum += line.iter().map(|&v| f64::from(v)).sum::<f64>();
    }
    let count = if count_padding {
        at.padded
    } else {
        at.rows.len() * at.columns.len()
    };
    (sum / count as f64) as f32
}

fn maximum(map: &[f32], at: &Clipped, width: usize) -> f32 {
    let lines = at
        .rows
        .clone()
        .flat_map(|y| &map[y * width..][at.columns.clone()]);
    lines.copied().fold(f32::NEG_INFINITY, f32::max)
}

fn mean(map: &[f32]) -> f32 {
    (map.iter().map(|&v| f64::from(v)).sum::<f64>() / map.len() as f64) as f32
}

/// `scale * (x - mean) / sqrt(variance + epsilon) + shift` as `(factor, offset)` per channel.
pub(crate) fn batch_norm_factors(parameters: [&Tensor; 4], epsilon: f32) -> Vec<(f32, f32)> {
    let [scale, shift, mean, variance] = parameters.map(|t| t.data.iter().map(|&v| f64::from(v)));
    let channels = scale.zip(shift).zip(mean).zip(variance);
    let factors = channels.map(|(((scale, shift), mean), variance)| {
        let factor = scale / (variance + f64::from(epsilon)).sqrt();
        (factor as f32, (shift - mean * factor) as f32)
    });
    factors.collect()
}

fn batch_norm(factors: &[(f32, f32)], input: Operand<'_>, out: &mut [f32]) {
    let length = input.shape[1..].iter().product::<usize>();
    let maps = input
        .values
        .chunks_exact(length)
        .zip(out.chunks_exact_mut(length));
    for ((from, to), (factor, offset)) in maps.zip(factors.iter().cycle()) {
        to.iter_mut()
            .zip(from)
            .for_each(|(t, &f)| *t = f * factor + offset);
    }
}

fn softmax(input: Operand<'_>, axis: usize, out: &mut [f32], value: impl Fn(f64, f64, f64) -> f32) {
    let extent = input.shape[axis];
    let inner: usize = input.shape[axis + 1..].iter().product();
    let slabs = input
        .values
        .chunks_exact(extent * inner)
        .zip(out.chunks_exact_mut(extent * inner));
    for (from, to) in slabs {
        for i in 0..inner {
            let along = || from[i..].iter().step_by(inner).map(|&v| f64::from(v));
            let max = along().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = along().map(|v| (v - max).exp()).sum();
            to[i..]
                .iter_mut()
                .step_by(inner)
                .zip(along())
                .for_each(|(t, x)| *t = value(x, max, sum));
        }
    }
}
