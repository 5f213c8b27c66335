//! Batch normalisation over the batch and all positions of a channel.

use super::{Gradients, Operands, Saved, for_chunks, slice_chunk};
use rayon::prelude::*;

/// Values of one channel of one example.
fn positions(operands: &Operands<'_>) -> usize {
    operands.shapes[0][1..].iter().product::<usize>().max(1)
}

/// Mean and (biased) variance per channel over the batch, into `saved`.
pub(super) fn batch_statistics(operands: &Operands<'_>, saved: &mut Saved) {
    let (channels, positions) = (operands.shapes[0][0], positions(operands));
    let count = (operands.batch * positions).max(1) as f64;
    let mean = per_channel(operands, operands.values[0], |_, x, _| f64::from(x));
    saved.mean = mean.iter().map(|sum| (sum / count) as f32).collect();
    let means = &saved.mean;
    let squares = per_channel(operands, operands.values[0], |c, x, _| {
        let d = f64::from(x - means[c]);
        d * d
    });
    saved.variance = squares.iter().map(|sum| (sum / count) as f32).collect();
    debug_assert_eq!(saved.variance.len(), channels);
}

pub(super) fn forward(
    operands: &Operands<'_>,
    scale: &[f32],
    shift: &[f32],
    epsilon: f32,
    saved: &Saved,
    out: &mut [f32],
) {
    let (size, positions) = (operands.size(0), positions(operands));
    let factor = factors(scale, epsilon, saved);
    for_chunks(out, size, |chunk, out| {
        let maps = operands.chunk(0, chunk).chunks_exact(positions);
        for ((i, out), map) in out.chunks_exact_mut(positions).enumerate().zip(maps) {
            let c = i % scale.len();
            out.iter_mut()
                .zip(map)
                .for_each(|(o, x)| *o = (x - saved.mean[c]) * factor[c] + shift[c]);
        }
    });
}

/// Math: with `n` values per channel and normalised `h`, `dx = s / sqrt(v + e) * (dy - mean(dy) - h
/// * mean(dy h))`.
pub(super) fn backward(
    operands: &Operands<'_>,
    scale: &[f32],
    epsilon: f32,
    saved: &Saved,
    upstream: &[f32],
    gradients: &mut Gradients<'_>,
) {
    let (size, positions) = (operands.size(0), positions(operands));
    let count = (operands.batch * positions).max(1) as f64;
    let inverse: Vec<f32> = saved
        .variance
        .iter()
        .map(|v| 1.0 / (v + epsilon).sqrt())
        .collect();
    let sum = per_channel(operands, upstream, |_, dy, _| f64::from(dy));
    let product = per_channel(operands, upstream, |c, dy, x| {
        f64::from(dy) * f64::from((x - saved.mean[c]) * inverse[c])
    });
    if let Some(out) = &mut gradients.operands[0] {
        for_chunks(out, size, |chunk, out| {
            let upstream = slice_chunk(upstream, size, chunk).chunks_exact(positions);
            let maps = operands
                .chunk(0, chunk)
                .chunks_exact(positions)
                .zip(upstream);
            for ((i, out), (map, upstream)) in out.chunks_exact_mut(positions).enumerate().zip(maps)
            {
                let c = i % scale.len();
                let (mean, slope) = ((sum[c] / count) as f32, (product[c] / count) as f32);
                for ((o, x), dy) in out.iter_mut().zip(map).zip(upstream) {
                    let normal = (x - saved.mean[c]) * inverse[c];
                    *o = scale[c] * inverse[c] * (dy - mean - normal * slope);
                }
            }
        });
    }
    if let [scale, shift] = gradients.parameters {
        scale
            .iter_mut()
            .zip(&product)
            .for_each(|(g, p)| *g = *p as f32);
        shift.iter_mut().zip(&sum).for_each(|(g, s)| *g = *s as f32);
    }
}

fn factors(scale: &[f32], epsilon: f32, saved: &Saved) -> Vec<f32> {
    scale
        .iter()
        .zip(&saved.variance)
        .map(|(s, v)| s / (v + epsilon).sqrt())
        .collect()
}

/// Sums `term(channel, value, operand value)` per channel over the batch, chunk by chunk in order.
fn per_channel(
    operands: &Operands<'_>,
    values: &[f32],
    term: impl Fn(usize, f32, f32) -> f64 + Sync,
) -> Vec<f64> {
    let (size, positions) = (operands.size(0), positions(operands));
    let channels = operands.shapes[0][0];
    let chunks: Vec<Vec<f64>> = (0..operands.batch.div_ceil(super::CHUNK))
        .into_par_iter()
        .map(|chunk| {
            let mut sums = vec![0.0; channels];
            let values = slice_chunk(values, size, chunk).chunks_exact(positions);
            let maps = operands.chunk(0, chunk).chunks_exact(positions);
            for (i, (values, map)) in values.zip(maps).enumerate() {
                let c = i % channels;
                sums[c] += values
                    .iter()
                    .zip(map)
                    .map(|(v, x)| term(c, *v, *x))
                    .sum::<f64>();
            }
            sums
        })
        .collect();
    chunks.iter().fold(vec![0.0; channels], |mut total, sums| {
        total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
        total
    })
}
