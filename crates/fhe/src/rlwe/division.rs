//! Exact rounding division by primes of the basis: rescale, mod-down, and both at once.

use scuro_polyring::{Ntt, Poly};

use crate::context::{Context, Division};

/// Divides by the special primes, rounding.
///
/// Math:   out = round(x / P)  in R_{Q_level}
/// Shape:  [level + 1 + k][n] -> [level + 1][n], evaluation form
/// Noise:  + round-off of 1/2 per coefficient
pub(crate) fn by_special(context: &Context, x: Poly<Ntt>, level: usize) -> Poly<Ntt> {
    divide(context, x, level + 1, &context.tables(level).down)
}

/// Divides by the special primes and the last ciphertext prime at once, rounding.
///
/// Math:   out = round(x / (q_level P))  in R_{Q_(level-1)}
/// Level:  level -> level - 1; `level` is above 0
pub(crate) fn by_special_and_last(context: &Context, x: Poly<Ntt>, level: usize) -> Poly<Ntt> {
    match &context.tables(level).down_rescale {
        Some(division) => divide(context, x, level, division),
        None => unreachable!("callers refuse to rescale at level 0"),
    }
}

/// Divides by the last ciphertext prime, rounding.
///
/// Math:   out = round(x / q_level)  in R_{Q_(level-1)}
/// Level:  level -> level - 1; `level` is above 0
pub(crate) fn by_last(context: &Context, mut x: Poly<Ntt>, level: usize) -> Poly<Ntt> {
    let ring = context.ring();
    let mut last = x.limb(level).to_vec();
    ring.prime(level).inverse(&mut last);
    subtract_and_scale(
        context,
        &mut x,
        &last,
        level,
        &context.tables(level).last_inverse,
    );
    x.truncate(level);
    x
}

fn divide(context: &Context, mut x: Poly<Ntt>, remaining: usize, division: &Division) -> Poly<Ntt> {
    let ring = context.ring();
    let mut dropped: Vec<Vec<u64>> = Vec::with_capacity(x.limbs() - remaining);
    for (i, row) in x.rows().skip(remaining) {
        let mut row = row.to_vec();
        ring.prime(i).inverse(&mut row);
        dropped.push(row);
    }
    if let [row] = dropped.as_slice() {
        let source = x.basis().modulus_index(remaining);
        subtract_and_scale(context, &mut x, row, source, &division.inverses);
    } else {
        subtract_converted(context, &mut x, &dropped, division);
    }
    x.truncate(remaining);
    x
}

/// x_i = (x_i - lift(last)) * inverse_i for one dropped prime: one row at a time stays in cache.
fn subtract_and_scale(
    context: &Context,
    x: &mut Poly<Ntt>,
    last: &[u64],
    source: usize,
    inverses: &[scuro_polyring::Multiplier],
) {
    let ring = context.ring();
    let source = ring.prime(source).modulus();
    let mut lifted = vec![0; last.len()];
    for ((i, row), &inverse) in x.rows_mut().zip(inverses) {
        let prime = ring.prime(i);
        prime.lift_centred(&mut lifted, last, source);
        prime.forward(&mut lifted);
        prime.sub_mul_scalar_assign(row, &lifted, inverse);
    }
}

fn subtract_converted(
    context: &Context,
    x: &mut Poly<Ntt>,
    dropped: &[Vec<u64>],
    division: &Division,
) {
    let ring = context.ring();
    let remaining = division.inverses.len();
    let mut lifted = Poly::<Ntt>::zero(ring, context.basis(remaining - 1));
    {
        let mut outs: Vec<&mut [u64]> = lifted.rows_mut().map(|(_, row)| row).collect();
        let sources: Vec<&[u64]> = dropped.iter().map(Vec::as_slice).collect();
        division.converter.convert(ring, &mut outs, &sources);
    }
    for (((i, row), (_, lifted)), &inverse) in
        x.rows_mut().zip(lifted.rows_mut()).zip(&division.inverses)
    {
        let prime = ring.prime(i);
        prime.forward(lifted);
        prime.sub_mul_scalar_assign(row, lifted, inverse);
    }
}
