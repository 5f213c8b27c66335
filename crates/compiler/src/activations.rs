//! Pass: replaces unfriendly operators by polynomials and averages, on demand.
//!
//! Activations are fitted by least squares in the Chebyshev basis over the calibrated range; max
//! pools become average pools. The result is another network: its accuracy must be looked at before
//! it is used.

use scuro_nn::graph::{Graph, Op};
use scuro_nn::reference::Executor;
use scuro_nn::tensor::Tensor;

use crate::error::CompileError;
use crate::friendliness;

/// How unfriendly operators are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replacement {
    /// Degree of the polynomials that stand for activations.
    pub degree: usize,
}

/// Sample points per fit.
const SAMPLES: usize = 512;

/// The graph with every unfriendly operator replaced.
///
/// # Errors
/// Those of the reference executor on the calibration data.
pub fn replace(
    graph: &Graph,
    how: Replacement,
    calibration: &[Tensor],
) -> Result<Graph, CompileError> {
    let mut graph = graph.clone();
    let (output, _) = friendliness::split_post_operation(&graph);
    for index in 0..=output.0 {
        let operand = graph.nodes[index].inputs.first().map(|i| i.0);
        let new = match (&graph.nodes[index].op, operand) {
            (Op::MaxPool { window }, _) => Op::AvgPool {
                window: *window,
                count_padding: false,
            },
            (Op::GlobalMaxPool, _) => Op::GlobalAvgPool,
            (op @ (Op::Relu | Op::Sigmoid | Op::Tanh), Some(operand)) => {
                let function = scalar_function(op);
                let (low, high) = range_of(&graph, operand, calibration)?;
                Op::Polynomial {
                    coefficients: fit(function, low, high, how.degree),
                }
            }
            _ => continue,
        };
        graph.nodes[index].op = new;
    }
    Ok(graph)
}

fn scalar_function(op: &Op) -> fn(f64) -> f64 {
    match op {
        Op::Sigmoid => |x| 1.0 / (1.0 + (-x).exp()),
        Op::Tanh => f64::tanh,
        _ => |x| x.max(0.0),
    }
}

/// Range of a node on the calibration data, after the replacements made so far.
fn range_of(
    graph: &Graph,
    node: usize,
    calibration: &[Tensor],
) -> Result<(f64, f64), CompileError> {
    let executor = Executor::new(graph)?;
    let fill = |i: usize, image: &mut [f32]| image.copy_from_slice(&calibration[i].data);
    let range = executor.ranges(calibration.len(), fill)[node];
    let (low, high) = (f64::from(range.min), f64::from(range.max));
    let width = (high - low).max(1e-3);
    Ok((low - 0.05 * width, high + 0.05 * width))
}

/// Least squares over `low..high` at Chebyshev points, returned in powers of `x`.
fn fit(function: fn(f64) -> f64, low: f64, high: f64, degree: usize) -> Vec<f32> {
    let (middle, half) = ((low + high) / 2.0, (high - low) / 2.0);
    let mut chebyshev = vec![0.0; degree + 1];
    for sample in 0..SAMPLES {
        let angle = std::f64::consts::PI * (sample as f64 + 0.5) / SAMPLES as f64;
        let value = function(middle + half * angle.cos());
        for (k, c) in chebyshev.iter_mut().enumerate() {
            let weight = if k == 0 { 1.0 } else { 2.0 };
            *c += weight * value * (k as f64 * angle).cos() / SAMPLES as f64;
        }
    }
    let unit = chebyshev_to_powers(&chebyshev);
    substitute(&unit, 1.0 / half, -middle / half)
        .iter()
        .map(|&c| c as f32)
        .collect()
}

fn chebyshev_to_powers(chebyshev: &[f64]) -> Vec<f64> {
    let size = chebyshev.len();
    let (mut before, mut current) = (vec![0.0; size], vec![0.0; size]);
    before[0] = 1.0;
    if size > 1 {
        current[1] = 1.0;
    }
    let mut sum = vec![0.0; size];
    for (k, &c) in chebyshev.iter().enumerate() {
        let basis = if k == 0 { &before } else { &current };
        sum.iter_mut().zip(basis).for_each(|(s, b)| *s += c * b);
        if k >= 1 {
            let mut next: Vec<f64> = before.iter().map(|b| -b).collect();
            (1..size).for_each(|i| next[i] += 2.0 * current[i - 1]);
            before = std::mem::replace(&mut current, next);
        }
    }
    sum
}

/// Coefficients of `p(scale * x + offset)`.
fn substitute(p: &[f64], scale: f64, offset: f64) -> Vec<f64> {
    let mut result = vec![0.0; p.len()];
    for &c in p.iter().rev() {
        let mut next = vec![0.0; p.len()];
        for (i, &r) in result.iter().enumerate() {
            next[i] += offset * r;
            if i + 1 < p.len() {
                next[i + 1] += scale * r;
            }
        }
        next[0] += c;
        result = next;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fit_of_degree_seven_follows_the_logistic_function() {
        let coefficients = fit(|x| 1.0 / (1.0 + (-x).exp()), -4.0, 6.0, 7);
        for step in 0..=100 {
            let x = -4.0 + 0.1 * f64::from(step);
            let powers = coefficients
                .iter()
                .rev()
                .fold(0.0, |s, &c| s * x + f64::from(c));
            assert!(
                (powers - 1.0 / (1.0 + (-x).exp())).abs() < 2e-2,
                "at {x}: {powers}"
            );
        }
    }
}
