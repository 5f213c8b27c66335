//! Exact rounding division by primes of the basis: rescale, mod-down, and both at once.

use scuro_polyring::{AlignedBuffer, Ntt, Poly};

use crate::context::{Context, Division};

/// Divides by the special primes, and by the last ciphertext prime too if `rescale`, in place.
///
/// Math:   out = round(x / P) or round(x / (q_level P))
/// Shape:  [level + 1 + k][n] -> the first [level + 1] or [level] rows, evaluation form
/// Level:  level -> level - 1 if `rescale`; `level` is then above 0
/// Noise:  + round-off of 1/2 per coefficient
pub(crate) fn in_place(context: &Context, x: &mut [u64], level: usize, rescale: bool) {
    let (ring, n) = (context.ring(), context.ring().degree());
    let division = context.division(level, rescale);
    let remaining = division.inverses.len();
    let (kept, dropped) = x.split_at_mut(remaining * n);
    let mut prepared = AlignedBuffer::recycled(division.converter.prepared_rows() * n);
    let rows = prepared.chunks_exact_mut(n).zip(dropped.chunks_exact(n));
    for (at, (out, row)) in (remaining..).zip(rows) {
        let prime = ring.prime(context.modulus_index(at, level));
        prime.inverse_from(out, row);
    }
    division.converter.prepare(ring, &mut prepared);
    let mut lifted = AlignedBuffer::recycled(n);
    for (i, row) in kept.chunks_exact_mut(n).enumerate() {
        subtract_lifted(context, division, i, row, &prepared, &mut lifted);
    }
}

/// row = (row - lift(prepared)) * inverse modulo q_i.
pub(crate) fn subtract_lifted(
    context: &Context,
    division: &Division,
    i: usize,
    row: &mut [u64],
    prepared: &[u64],
    lifted: &mut [u64],
) {
    let prime = context.ring().prime(i);
    division
        .converter
        .transform_row(context.ring(), i, lifted, prepared);
    prime.sub_mul_scalar_assign(row, lifted, division.inverses[i]);
}

/// out = (row - lift(prepared)) * inverse modulo q_i, with a row to lift to.
pub(crate) fn difference(
    context: &Context,
    division: &Division,
    i: usize,
    [out, lifted]: [&mut [u64]; 2],
    [row, prepared]: [&[u64]; 2],
) {
    let prime = context.ring().prime(i);
    division
        .converter
        .transform_row(context.ring(), i, lifted, prepared);
    prime.sub_mul_scalar(out, row, lifted, division.inverses[i]);
}

/// Divides by the last ciphertext prime, rounding.
///
/// Math:   out = round(x / q_level)  in R_{Q_(level-1)}
/// Level:  level -> level - 1; `level` is above 0
pub(crate) fn by_last(context: &Context, mut x: Poly<Ntt>, level: usize) -> Poly<Ntt> {
    let (ring, n) = (context.ring(), context.ring().degree());
    let mut last = AlignedBuffer::recycled(n);
    ring.prime(level).inverse_from(&mut last, x.limb(level));
    let source = ring.prime(level).modulus();
    let mut lifted = AlignedBuffer::recycled(n);
    for ((i, row), &inverse) in x.rows_mut().zip(&context.tables(level).last_inverse) {
        let prime = ring.prime(i);
        prime.forward_lifted(&mut lifted, &last, source);
        prime.sub_mul_scalar_assign(row, &lifted, inverse);
    }
    x.truncate(level);
    x
}
