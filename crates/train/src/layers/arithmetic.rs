//! Elementwise sums, differences and products of two operands, with broadcasting of the smaller
//! shape.

use super::{CHUNK, Operands, for_chunks, slice_chunk};
use scuro_nn::graph::Op;

pub(super) fn forward(op: &Op, operands: &Operands<'_>, out: &mut [f32]) {
    let size = operands.output_size();
    let places = [places(operands, 0), places(operands, 1)];
    for_chunks(out, size, |chunk, out| {
        let (a, b) = (operands.chunk(0, chunk), operands.chunk(1, chunk));
        let (na, nb) = (operands.size(0), operands.size(1));
        for (example, out) in out.chunks_exact_mut(size).enumerate() {
            let (a, b) = (&a[example * na..][..na], &b[example * nb..][..nb]);
            for (i, o) in out.iter_mut().enumerate() {
                let (x, y) = (a[place(&places[0], i)], b[place(&places[1], i)]);
                *o = match op {
                    Op::Add => x + y,
                    Op::Sub => x - y,
                    _ => x * y,
                };
            }
        }
    });
}

pub(super) fn backward(
    op: &Op,
    operands: &Operands<'_>,
    upstream: &[f32],
    gradients: &mut [Option<Vec<f32>>],
) {
    let places = [places(operands, 0), places(operands, 1)];
    for (side, gradient) in gradients.iter_mut().enumerate() {
        let Some(out) = gradient else { continue };
        let (size, other) = (operands.size(side), 1 - side);
        for_chunks(out, size, |chunk, out| {
            out.fill(0.0);
            let upstream = slice_chunk(upstream, operands.output_size(), chunk);
            let values = operands.chunk(other, chunk);
            debug_assert!(upstream.len() <= CHUNK * operands.output_size());
            let n = operands.size(other);
            let examples = upstream.chunks_exact(operands.output_size()).enumerate();
            for ((example, upstream), out) in examples.zip(out.chunks_exact_mut(size)) {
                let values = &values[example * n..][..n];
                for (i, u) in upstream.iter().enumerate() {
                    out[place(&places[side], i)] += match op {
                        Op::Add => *u,
                        Op::Sub if side == 0 => *u,
                        Op::Sub => -*u,
                        _ => u * values[place(&places[other], i)],
                    };
                }
            }
        });
    }
}

/// Where each value of the result reads operand `index`; `None` if the shapes are equal.
fn places(operands: &Operands<'_>, index: usize) -> Option<Vec<usize>> {
    let (from, to) = (operands.shapes[index], operands.output);
    if from == to {
        return None;
    }
    // Broadcasting aligns the last axes; a missing or unit axis repeats.
    let lead = to.len() - from.len();
    let mut strides = vec![0; to.len()];
    let mut stride = 1;
    for axis in (0..from.len()).rev() {
        strides[lead + axis] = if from[axis] == 1 { 0 } else { stride };
        stride *= from[axis];
    }
    let offset = |mut i: usize| {
        let mut at = 0;
        for axis in (0..to.len()).rev() {
            at += i % to[axis] * strides[axis];
            i /= to[axis];
        }
        at
    };
    Some((0..operands.output_size()).map(offset).collect())
}

fn place(places: &Option<Vec<usize>>, i: usize) -> usize {
    places.as_ref().map_or(i, |places| places[i])
}
