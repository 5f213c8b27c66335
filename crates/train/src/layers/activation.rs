//! Elementwise functions and softmax.

use super::{Gradients, Operands, for_chunks, size, slice_chunk, sum_over_chunks};
use scuro_nn::graph::Op;

pub(super) fn forward(op: &Op, operands: &Operands<'_>, out: &mut [f32]) {
    for_chunks(out, operands.output_size(), |chunk, out| {
        let x = operands.chunk(0, chunk);
        let pairs = out.iter_mut().zip(x);
        match op {
            // Unlike `max`, this keeps NaN, so that divergence shows in the loss.
            Op::Relu => pairs.for_each(|(o, x)| *o = if *x < 0.0 { 0.0 } else { *x }),
            Op::Sigmoid => pairs.for_each(|(o, x)| *o = sigmoid(*x)),
            Op::Tanh => pairs.for_each(|(o, x)| *o = tanh(*x)),
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
                let y = tanh(*x);
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
    0.5 + 0.5 * tanh(0.5 * x)
}

/// Hyperbolic tangent within 4e-7 of the exact value, without branches, so that it vectorises.
///
/// Math: odd polynomial of degree 13 over even polynomial of degree 6, on `|x| <= 9`
/// Source: the rational approximation of Eigen (`MathFunctionsImpl.h`)
fn tanh(x: f32) -> f32 {
    const ODD: [f32; 7] = [
        4.893_524_6e-3,
        6.372_619_3e-4,
        1.485_722_4e-5,
        5.122_297_1e-8,
        -8.604_672e-11,
        2.000_188e-13,
        -2.760_768_5e-16,
    ];
    const EVEN: [f32; 4] = [4.893_525e-3, 2.268_434_6e-3, 1.185_347e-4, 1.198_258_4e-6];
    let x = x.clamp(-9.0, 9.0);
    x * horner(&ODD, x * x) / horner(&EVEN, x * x)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hyperbolic_tangent_is_close_everywhere_and_keeps_nan() {
        for i in -40_000..=40_000 {
            let x = i as f32 * 5e-4;
            let (found, exact) = (f64::from(tanh(x)), f64::from(x).tanh());
            assert!((found - exact).abs() < 4e-7, "{x}: {found} {exact}");
        }
        assert!(tanh(f32::NAN).is_nan());
        assert!((sigmoid(-30.0)).abs() < 1e-6 && (sigmoid(1.5) - 0.817_574_5).abs() < 1e-6);
    }
}
