//! Elementwise functions and softmax.

use super::{Gradients, Operands, for_chunks, size, slice_chunk, sum_over_chunks};
use scuro_nn::graph::Op;

pub(super) fn forward(op: &Op, operands: &Operands<'_>, out: &mut [f32]) {
    for_chunks(out, operands.output_size(), |chunk, out| {
        let x = operands.chunk(0, chunk);
        let pairs = out.iter_mut().zip(x);
        match op {
            Op::Relu => pairs.for_each(|(o, x)| *o = x.max(0.0)),
            Op::Sigmoid => pairs.for_each(|(o, x)| *o = sigmoid(*x)),
            Op::Tanh => pairs.for_each(|(o, x)| *o = x.tanh()),
            Op::Square => pairs.for_each(|(o, x)| *o = x * x),
            Op::Polynomial { coefficients } => {
                pairs.for_each(|(o, x)| *o = horner(coefficients, *x));
            }
            _ => out.copy_from_slice(x),
        }
    });
}

pub(super) fn backward(
    op: &Op,
    operands: &Operands<'_>,
    upstream: &[f32],
    gradients: &mut Gradients<'_>,
) {
    if let Some(out) = &mut gradients.operands[0] {
        slope(op, operands, upstream, out);
    }
    if let [coefficients] = gradients.parameters {
        // d/dc_k = sum of upstream * x^k.
        sum_over_chunks(operands.batch, coefficients, |chunk, partial| {
            let upstream = slice_chunk(upstream, operands.output_size(), chunk);
            let mut sums = vec![0.0f64; partial.len()];
            for (u, x) in upstream.iter().zip(operands.chunk(0, chunk)) {
                let mut term = f64::from(*u);
                for sum in &mut sums {
                    *sum += term;
                    term *= f64::from(*x);
                }
            }
            partial
                .iter_mut()
                .zip(&sums)
                .for_each(|(p, s)| *p = *s as f32);
        });
    }
}

fn slope(op: &Op, operands: &Operands<'_>, upstream: &[f32], out: &mut [f32]) {
    let derivative: Vec<f32> = match op {
        Op::Polynomial { coefficients } => coefficients
            .iter()
            .enumerate()
            .skip(1)
            .map(|(k, c)| k as f32 * c)
            .collect(),
        _ => Vec::new(),
    };
    for_chunks(out, operands.output_size(), |chunk, out| {
        let upstream = slice_chunk(upstream, operands.output_size(), chunk);
        let x = operands.chunk(0, chunk);
        let triples = out.iter_mut().zip(x).zip(upstream);
        match op {
            Op::Relu => triples.for_each(|((o, x), u)| *o = if *x > 0.0 { *u } else { 0.0 }),
            Op::Sigmoid => triples.for_each(|((o, x), u)| {
                let y = sigmoid(*x);
                *o = u * y * (1.0 - y);
            }),
            Op::Tanh => triples.for_each(|((o, x), u)| {
                let y = x.tanh();
                *o = u * (1.0 - y * y);
            }),
            Op::Square => triples.for_each(|((o, x), u)| *o = 2.0 * x * u),
            Op::Polynomial { .. } => {
                triples.for_each(|((o, x), u)| *o = u * horner(&derivative, *x));
            }
            _ => out.copy_from_slice(upstream),
        }
    });
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn horner(coefficients: &[f32], x: f32) -> f32 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// Softmax over `axis`, or its logarithm.
pub(super) fn softmax(operands: &Operands<'_>, axis: usize, log: bool, out: &mut [f32]) {
    let lines = Lines::new(operands.output, axis);
    for_chunks(out, operands.output_size(), |chunk, out| {
        out.copy_from_slice(operands.chunk(0, chunk));
        for example in out.chunks_exact_mut(lines.size) {
            lines.for_each(|line| softmax_line(example, line, lines.stride, log));
        }
    });
}

/// Math: softmax `dx = y (dy - sum(dy y))`; log-softmax `dx = dy - y sum(dy)`, `y` the softmax.
pub(super) fn softmax_back(
    operands: &Operands<'_>,
    axis: usize,
    log: bool,
    upstream: &[f32],
    out: &mut [f32],
) {
    let lines = Lines::new(operands.output, axis);
    for_chunks(out, lines.size, |chunk, out| {
        out.copy_from_slice(operands.chunk(0, chunk));
        let upstream = slice_chunk(upstream, lines.size, chunk).chunks_exact(lines.size);
        for (y, dy) in out.chunks_exact_mut(lines.size).zip(upstream) {
            lines.for_each(|line| {
                softmax_line(y, line.clone(), lines.stride, false);
                let places = line.step_by(lines.stride);
                let sum: f32 = places
                    .clone()
                    .map(|i| if log { dy[i] } else { dy[i] * y[i] })
                    .sum();
                for i in places {
                    y[i] = if log {
                        dy[i] - y[i] * sum
                    } else {
                        y[i] * (dy[i] - sum)
                    };
                }
            });
        }
    });
}

fn softmax_line(values: &mut [f32], line: std::ops::Range<usize>, stride: usize, log: bool) {
    let places = line.step_by(stride);
    let top = places
        .clone()
        .map(|i| values[i])
        .fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = places.clone().map(|i| (values[i] - top).exp()).sum();
    for i in places {
        values[i] = if log {
            values[i] - top - sum.ln()
        } else {
            (values[i] - top).exp() / sum
        };
    }
}

/// The lines of one example along an axis.
struct Lines {
    size: usize,
    outer: usize,
    extent: usize,
    stride: usize,
}

impl Lines {
    fn new(shape: &[usize], axis: usize) -> Self {
        let stride = size(&shape[axis + 1..]);
        Self {
            size: size(shape),
            outer: size(&shape[..axis]),
            extent: shape[axis],
            stride,
        }
    }

    /// Visits the range of each line; its places are the range's values in steps of `stride`.
    fn for_each(&self, mut visit: impl FnMut(std::ops::Range<usize>)) {
        for outer in 0..self.outer {
            for inner in 0..self.stride {
                let start = outer * self.extent * self.stride + inner;
                visit(start..start + (self.extent - 1) * self.stride + 1);
            }
        }
    }
}
