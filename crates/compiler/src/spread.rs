//! How far the outputs of an example lie apart: what errors are measured by.

use scuro_program::SlotValue;

use crate::layout::Layout;

/// One example in so many has outputs closer together than the spread by which errors are measured.
const LOW_QUANTILE: usize = 20;
/// The least spread, relative to the largest: single degenerate examples do not ask for endless
/// precision.
const SMALLEST_SPREAD: f64 = 1.0 / 256.0;

/// Deviation of the outputs of an example whose outputs lie close together.
pub(crate) fn spread(output: &Layout, images: usize, results: &[SlotValue]) -> f64 {
    let elements = output.elements() / images;
    let outputs = |result: &SlotValue, image: usize| -> Vec<f64> {
        let value = |e: usize| {
            let (ciphertext, slot) = output.places(e)[0];
            result[ciphertext as usize][slot as usize]
        };
        (image * elements..(image + 1) * elements)
            .map(value)
            .collect()
    };
    let of_query = |result| (0..images).map(move |image| outputs(result, image));
    low_deviation(results.iter().flat_map(of_query))
}

/// Deviation of the outputs of one example which all but a few of the examples exceed: errors are
/// measured by the examples that they disturb most.
fn low_deviation(examples: impl Iterator<Item = Vec<f64>>) -> f64 {
    let mut deviations: Vec<f64> = examples.map(|outputs| variance(&outputs).sqrt()).collect();
    deviations.sort_by(f64::total_cmp);
    let low = deviations
        .get(deviations.len() / LOW_QUANTILE)
        .copied()
        .unwrap_or(0.0);
    let largest = deviations.last().copied().unwrap_or(0.0);
    low.max(largest * SMALLEST_SPREAD).max(1e-9)
}

/// Root mean square over examples of the deviation of their outputs.
pub(crate) fn deviation(examples: impl Iterator<Item = Vec<f64>>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for outputs in examples {
        sum += variance(&outputs);
        count += 1.0;
    }
    (sum / f64::max(count, 1.0)).sqrt().max(1e-9)
}

/// Variance of the outputs of one example; the square of a single output.
fn variance(outputs: &[f64]) -> f64 {
    let size = outputs.len().max(1) as f64;
    let mean = if size > 1.0 {
        outputs.iter().sum::<f64>() / size
    } else {
        0.0
    };
    outputs.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / size
}
