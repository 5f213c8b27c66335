//! Pass: weights of exact programs are rounded so that their errors cancel.
//!
//! Rounded one by one to the nearest multiple of a unit, the weights of a row of a dense layer add
//! `unit^2 / 12 * sum_j E[x_j^2]` of error to its result. The inputs of a layer go together, so
//! what the rounding of one weight does can be made good by those not yet rounded: with the
//! covariance `H = (I + U) D (I + U)^T` of the inputs, `U` strictly upper triangular,
//!
//! `w'_k = round(w_k + sum_(i < k) (w_i - w'_i) u_ik)`
//!
//! leaves `unit^2 / 12 * sum_j D_j` on the data that `H` is of, several times less. What the mean
//! of the inputs makes of the errors is taken from the bias.
//!
//! Sources: Frantar et al., GPTQ (ICLR 2023), section 3; in this form Chee et al., QuIP (NeurIPS
//! 2023), section 3.1; the bias: Nagel et al., Data-free quantization (ICCV 2019), section 4.2.

use std::sync::Arc;

use rayon::prelude::*;
use scuro_nn::matmul::{Matrix, gemm, transpose_into};
use scuro_nn::tensor::Tensor;

use crate::conceal::PLACE_HOLDER;
use crate::normalise::{AffineMap, Network, Stage, StageKind};
use crate::sparse::Sparse;

/// Most inputs of a layer whose covariance is taken.
const COLUMNS_MAX: usize = 4096;
/// Multiplications that running the network on examples may cost.
const WORK_LIMIT: usize = 5_000_000_000;
/// One example in so many is kept out of the covariance, to see what it is worth on others.
const HELD_OUT: usize = 8;
/// Most examples of these that are looked at.
const HELD_OUT_MAX: usize = 256;
/// Part of the mean variance that is added to every variance: directions that the examples do not
/// show may still occur.
const DAMPING: f32 = 0.01;
/// Rows and columns that are worked on together.
const BLOCK: usize = 64;

/// How errors of rounding are passed on within the rows of a dense layer.
#[derive(Debug, Clone)]
pub(crate) struct Feedback {
    /// Columns in the order in which they are rounded.
    order: Vec<usize>,
    /// Row `k` begins with column `k` of `U`; the rest has no meaning.
    factors: Vec<f32>,
    /// Means of the inputs; zero if there is no bias to take them.
    mean: Vec<f64>,
    /// Variance of the error on examples held out, relative to that of rounding to nearest.
    pub(crate) gain: f64,
}

/// Feedback for the dense layers of a network where it helps, by stage.
pub(crate) fn run(network: &Network, calibration: &[Tensor]) -> Vec<Option<Feedback>> {
    let layers: Vec<Option<&AffineMap>> = network.stages.iter().map(dense).collect();
    let Some(last) = layers.iter().rposition(Option::is_some) else {
        return vec![None; layers.len()];
    };
    let count = WORK_LIMIT / work(&network.stages[..last]).max(1);
    let calibration = &calibration[..count.clamp(1, calibration.len().max(1))];
    let values: Vec<Vec<Vec<f64>>> = calibration
        .par_iter()
        .map(|example| network.evaluate(&example.data, last))
        .collect();
    let feedback = |map: &AffineMap| {
        let (var, matrix) = &map.terms[0];
        let inputs: Vec<&[f64]> = values.iter().map(|values| &values[*var][..]).collect();
        let corrected = map.bias.iter().any(|&b| b != 0.0);
        Feedback::of(&inputs, matrix.columns, corrected)
    };
    layers
        .into_iter()
        .map(|map| map.and_then(feedback))
        .collect()
}

/// The map of a stage if it is one matrix without zeros, of a size that is worth it.
fn dense(stage: &Stage) -> Option<&AffineMap> {
    let StageKind::Affine(map) = &stage.kind else {
        return None;
    };
    let full = |matrix: &Sparse| {
        let size = matrix.rows() * matrix.columns;
        matrix.columns <= COLUMNS_MAX && matrix.nonzeros() == size
    };
    matches!(&map.terms[..], [(_, matrix)] if full(matrix)).then_some(map)
}

/// Multiplications of some stages.
fn work(stages: &[Stage]) -> usize {
    let of = |stage: &Stage| match &stage.kind {
        StageKind::Affine(map) => map.terms.iter().map(|(_, m)| m.nonzeros()).sum(),
        _ => 0usize,
    };
    stages.iter().map(of).sum()
}

impl Feedback {
    /// From examples of `columns` inputs each; nothing if it does not help.
    fn of(examples: &[&[f64]], columns: usize, corrected: bool) -> Option<Feedback> {
        let every = |part: fn(usize) -> bool| -> Vec<&[f64]> {
            let own = examples.iter().enumerate().filter(|&(i, _)| part(i));
            own.map(|(_, &example)| example).collect()
        };
        let inside = every(|i| i % HELD_OUT != HELD_OUT - 1);
        let outside = every(|i| i % HELD_OUT == HELD_OUT - 1);
        let mut feedback = Feedback::fit(&inside, columns, corrected);
        feedback.gain = feedback.measure(&outside[..outside.len().min(HELD_OUT_MAX)]);
        // Of no examples it is not a number.
        (feedback.gain < 1.0).then_some(feedback)
    }

    fn fit(examples: &[&[f64]], columns: usize, corrected: bool) -> Feedback {
        let mean = match corrected {
            true => moments(examples, columns, |x| x),
            false => vec![0.0; columns],
        };
        let square = moments(examples, columns, |x| x * x);
        let variance = |j: usize| square[j] - mean[j] * mean[j];
        let mut order: Vec<usize> = (0..columns).collect();
        order.sort_by(|&a, &b| variance(b).total_cmp(&variance(a)));
        let mut feedback = Feedback {
            order,
            factors: Vec::new(),
            mean,
            gain: 0.0,
        };
        let centred = examples
            .iter()
            .flat_map(|example| feedback.centred(example));
        let mut factors = covariance(&centred.collect::<Vec<f32>>(), columns);
        factorise(&mut factors, columns);
        feedback.factors = factors;
        feedback
    }

    /// Variance of the error on examples, relative to that of rounding to nearest.
    fn measure(&self, examples: &[&[f64]]) -> f64 {
        let errors = |example: &&[f64]| {
            let passed = self.passed_on(self.centred(example)).into_iter();
            let passed: f64 = passed.map(|x| f64::from(x).powi(2)).sum();
            (passed, example.iter().map(|x| x * x).sum::<f64>())
        };
        let each: Vec<(f64, f64)> = examples.par_iter().map(errors).collect();
        let (passed, nearest): (Vec<f64>, Vec<f64>) = each.into_iter().unzip();
        passed.iter().sum::<f64>() / nearest.iter().sum::<f64>()
    }

    /// An input less the mean, in the order of rounding.
    fn centred(&self, example: &[f64]) -> Vec<f32> {
        let value = |&j: &usize| (example[j] - self.mean[j]) as f32;
        self.order.iter().map(value).collect()
    }

    /// `(I + U)^-1 x`: what an input makes of the errors of single roundings.
    fn passed_on(&self, mut x: Vec<f32>) -> Vec<f32> {
        for k in (0..x.len()).rev() {
            let (before, rest) = x.split_at_mut(k);
            let factors = &self.factors[k * self.order.len()..][..k];
            before
                .iter_mut()
                .zip(factors)
                .for_each(|(x, u)| *x -= u * rest[0]);
        }
        x
    }

    /// The map of the layer with weights that are multiples of `2^-scale`.
    pub(crate) fn round(&self, map: &AffineMap, scale: f64) -> AffineMap {
        let (var, matrix) = &map.terms[0];
        let columns = matrix.columns;
        let unit = (-scale).exp2() as f32;
        let mut rounded = Sparse::clone(matrix);
        let mut bias = map.bias.clone();
        let rows = rounded.weight.par_chunks_mut(BLOCK * columns);
        rows.zip(bias.par_chunks_mut(BLOCK))
            .for_each(|(weights, bias)| {
                self.round_rows(weights, bias, unit);
            });
        AffineMap {
            terms: vec![(*var, Arc::new(rounded))],
            bias,
        }
    }

    /// Rounds some rows, block of columns by block of columns.
    fn round_rows(&self, weights: &mut [f32], bias: &mut [f64], unit: f32) {
        let (columns, rows) = (self.order.len(), bias.len());
        // Errors of what is rounded, column by column.
        let mut errors: Vec<f32> = Vec::with_capacity(columns * rows);
        for start in (0..columns).step_by(BLOCK) {
            let end = columns.min(start + BLOCK);
            let mut passed = self.passed_to(start..end, &errors, rows);
            for (k, passed) in (start..end).zip(passed.chunks_exact_mut(rows)) {
                self.add_within(start..k, &errors, passed);
                let column = self.order[k];
                let own = weights[column..].iter_mut().step_by(columns);
                for ((weight, passed), bias) in own.zip(passed).zip(&mut *bias) {
                    let error = round_to(weight, *passed, unit);
                    *bias += f64::from(error) * self.mean[column];
                    errors.push(error);
                }
            }
        }
    }

    /// What the errors so far add to the weights of a block of columns, column by column.
    fn passed_to(&self, block: std::ops::Range<usize>, errors: &[f32], rows: usize) -> Vec<f32> {
        let (columns, before) = (self.order.len(), block.start);
        let mut passed = vec![0.0; block.len() * rows];
        if before > 0 {
            let factors: Vec<f32> = block
                .clone()
                .flat_map(|k| &self.factors[k * columns..][..before])
                .copied()
                .collect();
            let factors = Matrix::new(&factors, block.len(), before);
            gemm(
                1.0,
                factors,
                Matrix::new(errors, before, rows),
                0.0,
                &mut passed,
            );
        }
        passed
    }

    /// Adds what the errors of the columns `done` of a block add to the weights of the next.
    fn add_within(&self, done: std::ops::Range<usize>, errors: &[f32], passed: &mut [f32]) {
        let (columns, rows, next) = (self.order.len(), passed.len(), done.end);
        for i in done {
            let factor = self.factors[next * columns + i];
            let errors = &errors[i * rows..][..rows];
            passed
                .iter_mut()
                .zip(errors)
                .for_each(|(p, e)| *p += factor * e);
        }
    }
}

/// Rounds a weight and what is passed on to it to a multiple of `unit`; returns the weight's error.
fn round_to(weight: &mut f32, passed: f32, unit: f32) -> f32 {
    let rounded = ((*weight + passed) / unit).round() * unit;
    let error = *weight - rounded;
    // A weight that is zero keeps its place.
    *weight = if rounded == 0.0 {
        PLACE_HOLDER
    } else {
        rounded
    };
    error
}

/// Means over examples of a function of each column.
fn moments(examples: &[&[f64]], columns: usize, f: fn(f64) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; columns];
    for example in examples {
        let terms = sums.iter_mut().zip(*example);
        terms.for_each(|(sum, &x)| *sum += f(x));
    }
    let count = examples.len().max(1) as f64;
    sums.into_iter().map(|sum| sum / count).collect()
}

/// Damped covariance of rows without a mean.
fn covariance(rows: &[f32], columns: usize) -> Vec<f32> {
    let count = rows.len() / columns;
    let mut turned = vec![0.0; rows.len()];
    transpose_into(rows, columns, &mut turned);
    let mut covariance = vec![0.0; columns * columns];
    let right = Matrix::new(rows, count, columns);
    let blocks = covariance.par_chunks_mut(BLOCK * columns);
    blocks
        .zip(turned.par_chunks(BLOCK * count))
        .for_each(|(out, left)| {
            let left = Matrix::new(left, left.len() / count, count);
            gemm((count as f32).recip(), left, right, 0.0, out);
        });
    let variances = || (0..columns).map(|j| j * (columns + 1));
    let mean = variances().map(|at| covariance[at]).sum::<f32>() / columns as f32;
    let damping = (DAMPING * mean).max(f32::MIN_POSITIVE);
    for at in variances() {
        covariance[at] += damping;
    }
    covariance
}

/// Turns `H = (I + U) D (I + U)^T` into the columns of `U` as rows, from the last to the first.
fn factorise(matrix: &mut [f32], columns: usize) {
    let mut end = columns;
    while end > 0 {
        let start = (end - 1) / BLOCK * BLOCK;
        let (before, block) = matrix[..end * columns].split_at_mut(start * columns);
        let scaled = factorise_block(block, columns, start);
        let (count, rows) = (end - start, Matrix::new(block, end - start, columns));
        let chunks = before.par_chunks_mut(BLOCK * columns).enumerate();
        chunks.for_each(|(chunk, out)| {
            let first = chunk * BLOCK;
            let size = out.len() / columns;
            let left: Vec<f32> = (first..first + size)
                .flat_map(|j| (0..count).map(move |k| (j, k)))
                .map(|(j, k)| scaled[k * start + j])
                .collect();
            gemm(-1.0, Matrix::new(&left, size, count), rows, 1.0, out);
        });
        end = start;
    }
}

/// The same for the last rows of a matrix, of which the first is row `start`. Returns, row by row,
/// the first `start` values times D.
fn factorise_block(block: &mut [f32], columns: usize, start: usize) -> Vec<f32> {
    let count = block.len() / columns;
    let mut scaled = vec![0.0; count * start];
    for k in (0..count).rev() {
        let (before, rest) = block.split_at_mut(k * columns);
        let row = &mut rest[..columns];
        let pivot = row[start + k].max(f32::MIN_POSITIVE);
        scaled[k * start..(k + 1) * start].copy_from_slice(&row[..start]);
        for (j, out) in before.chunks_exact_mut(columns).enumerate() {
            let factor = row[start + j] / pivot;
            let used = start + j + 1;
            out[..used]
                .iter_mut()
                .zip(&row[..used])
                .for_each(|(o, r)| *o -= factor * r);
        }
        row[..start + k]
            .iter_mut()
            .for_each(|value| *value /= pivot);
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: usize = 150;
    const ROWS: usize = 70;
    const SCALE: f64 = 3.0;

    /// Fixed numbers in [-1, 1] without a pattern.
    fn numbers(seed: usize, count: usize) -> Vec<f32> {
        let number = |i: usize| ((seed * 7919 + i * 104_729) as f64 * 0.618_034).sin();
        (0..count).map(|i| number(i * i + i) as f32).collect()
    }

    /// Inputs above zero that follow from a few numbers each, but for a little noise.
    fn inputs(seed: usize, examples: usize) -> Vec<f32> {
        let mixing = numbers(1, 6 * COLUMNS);
        let example = |i: usize| -> Vec<f32> {
            let few = numbers(seed + i, 6);
            let noise = numbers(seed + i + 50_000, COLUMNS);
            let value = |j: usize| {
                let mixed: f32 = (0..6).map(|k| few[k] * mixing[k * COLUMNS + j]).sum();
                2.0 + mixed + 0.05 * noise[j]
            };
            (0..COLUMNS).map(value).collect()
        };
        (0..examples).flat_map(example).collect()
    }

    fn map() -> AffineMap {
        let weights = numbers(3, ROWS * COLUMNS);
        let mut matrix = Sparse::new(COLUMNS);
        for row in weights.chunks(COLUMNS) {
            matrix.push_row(row.iter().copied().enumerate());
        }
        let bias = numbers(4, ROWS).into_iter().map(f64::from).collect();
        AffineMap {
            terms: vec![(0, Arc::new(matrix))],
            bias,
        }
    }

    /// Feedback from inputs.
    fn feedback(inputs: &[f32], corrected: bool) -> Option<Feedback> {
        let inputs: Vec<f64> = inputs.iter().map(|&x| f64::from(x)).collect();
        let examples: Vec<&[f64]> = inputs.chunks(COLUMNS).collect();
        Feedback::of(&examples, COLUMNS, corrected)
    }

    /// Mean square of the difference of two maps on some inputs.
    fn difference(a: &AffineMap, b: &AffineMap, inputs: &[f32]) -> f64 {
        let apply = |map: &AffineMap, x: &[f64]| -> Vec<f64> {
            let products = map.terms[0].1.apply(x).into_iter();
            products.zip(&map.bias).map(|(y, b)| y + b).collect()
        };
        let of = |x: &[f32]| {
            let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let pairs = apply(a, &x).into_iter().zip(apply(b, &x));
            pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>()
        };
        inputs.chunks(COLUMNS).map(of).sum::<f64>() / (inputs.len() / COLUMNS * ROWS) as f64
    }

    fn nearest(map: &AffineMap) -> AffineMap {
        let mut matrix = Sparse::clone(&map.terms[0].1);
        let unit = (-SCALE).exp2() as f32;
        let round = |w: &mut f32| *w = (*w / unit).round() * unit;
        matrix.weight.iter_mut().for_each(round);
        AffineMap {
            terms: vec![(0, Arc::new(matrix))],
            bias: map.bias.clone(),
        }
    }

    #[test]
    fn errors_cancel_on_inputs_that_were_not_seen() {
        let map = map();
        let feedback = feedback(&inputs(100, 600), true).unwrap();
        let rounded = feedback.round(&map, SCALE);
        for &weight in &rounded.terms[0].1.weight {
            let steps = f64::from(weight) * SCALE.exp2();
            assert!((steps - steps.round()).abs() < 1e-9, "{weight}");
        }
        let unseen = inputs(30_000, 200);
        let found = difference(&map, &rounded, &unseen);
        let expected = difference(&map, &nearest(&map), &unseen);
        assert!(found < 0.1 * expected, "{found} of {expected}");
        // What is predicted is what comes.
        let ratio = found / (feedback.gain * expected);
        assert!((0.5..2.0).contains(&ratio), "{ratio} of the prediction");
    }

    #[test]
    fn without_a_bias_no_mean_is_made_good() {
        let mut map = map();
        map.bias = vec![0.0; ROWS];
        let feedback = feedback(&inputs(100, 600), false).unwrap();
        assert_eq!(feedback.round(&map, SCALE).bias, map.bias);
    }

    #[test]
    fn inputs_that_tell_nothing_of_others_are_no_help() {
        // Twelve examples of independent numbers.
        let few = numbers(9, 12 * COLUMNS);
        assert!(feedback(&few, true).is_none());
    }

    #[test]
    fn factors_multiply_to_the_covariance() {
        let rows = numbers(5, 400 * COLUMNS);
        let expected = covariance(&rows, COLUMNS);
        let mut factors = expected.clone();
        factorise(&mut factors, COLUMNS);
        let unit = |i: usize, k: usize| match i.cmp(&k) {
            std::cmp::Ordering::Less => factors[k * COLUMNS + i],
            std::cmp::Ordering::Equal => 1.0,
            std::cmp::Ordering::Greater => 0.0,
        };
        let pivot = |k: usize| factors[k * (COLUMNS + 1)];
        for (i, j) in [(0, 0), (3, 90), (64, 64), (149, 2), (120, 127), (149, 149)] {
            let product: f32 = (0..COLUMNS)
                .map(|k| unit(i, k) * pivot(k) * unit(j, k))
                .sum();
            let expected = expected[i * COLUMNS + j];
            assert!(
                (product - expected).abs() < 1e-4,
                "{product} for {expected}"
            );
        }
    }
}
