//! Operators that only move values.

use super::{Operands, for_chunks, size, slice_chunk};

/// `out axis i = operand axis permutation[i]`.
pub(super) fn transpose(operands: &Operands<'_>, permutation: &[usize], out: &mut [f32]) {
    let source = transpose_sources(operands, permutation);
    for_chunks(out, source.len(), |chunk, out| {
        let examples = operands.chunk(0, chunk).chunks_exact(source.len());
        for (out, x) in out.chunks_exact_mut(source.len()).zip(examples) {
            out.iter_mut()
                .zip(&source)
                .for_each(|(o, &from)| *o = x[from]);
        }
    });
}

pub(super) fn transpose_back(
    operands: &Operands<'_>,
    permutation: &[usize],
    upstream: &[f32],
    out: &mut [f32],
) {
    let source = transpose_sources(operands, permutation);
    for_chunks(out, source.len(), |chunk, out| {
        let upstream = slice_chunk(upstream, source.len(), chunk).chunks_exact(source.len());
        for (out, up) in out.chunks_exact_mut(source.len()).zip(upstream) {
            up.iter().zip(&source).for_each(|(u, &from)| out[from] = *u);
        }
    });
}

/// For each value of the result, its place in the operand.
fn transpose_sources(operands: &Operands<'_>, permutation: &[usize]) -> Vec<usize> {
    let shape = operands.shapes[0];
    let stride = |axis: usize| size(&shape[axis + 1..]);
    let strides: Vec<usize> = permutation.iter().map(|&axis| stride(axis)).collect();
    (0..size(shape))
        .map(|mut i| {
            let mut at = 0;
            for axis in (0..permutation.len()).rev() {
                at += i % operands.output[axis] * strides[axis];
                i /= operands.output[axis];
            }
            at
        })
        .collect()
}

/// Joins the operands along `axis`: per example, rows of each operand in turn.
pub(super) fn concat(operands: &Operands<'_>, axis: usize, out: &mut [f32]) {
    let total = operands.output_size();
    for_chunks(out, total, |chunk, out| {
        for (example, out) in out.chunks_exact_mut(total).enumerate() {
            for_rows(operands, axis, |operand, from, to, len| {
                let values = operands.chunk(operand, chunk);
                let from = example * operands.size(operand) + from;
                out[to..to + len].copy_from_slice(&values[from..from + len]);
            });
        }
    });
}

/// The gradient of [`concat`]: each operand takes its rows back.
pub(super) fn split(
    operands: &Operands<'_>,
    axis: usize,
    upstream: &[f32],
    gradients: &mut [Option<Vec<f32>>],
) {
    let total = operands.output_size();
    for (wanted, gradient) in gradients.iter_mut().enumerate() {
        let Some(out) = gradient else { continue };
        let size = operands.size(wanted);
        for (out, upstream) in out.chunks_exact_mut(size).zip(upstream.chunks_exact(total)) {
            for_rows(operands, axis, |operand, from, to, len| {
                if operand == wanted {
                    out[from..from + len].copy_from_slice(&upstream[to..to + len]);
                }
            });
        }
    }
}

/// Visits `(operand, offset in it, offset in the result, length)` of each contiguous piece of one
/// example.
fn for_rows(
    operands: &Operands<'_>,
    axis: usize,
    mut visit: impl FnMut(usize, usize, usize, usize),
) {
    let outer = size(&operands.output[..axis]);
    let mut to = 0;
    for row in 0..outer {
        for (operand, shape) in operands.shapes.iter().enumerate() {
            let len = size(&shape[axis..]);
            visit(operand, row * len, to, len);
            to += len;
        }
    }
}
