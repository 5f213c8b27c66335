//! Coefficients modulo Q rounded to a power of two: see [`crate::compact`].

use scuro_polyring::{Modulus, Ntt, Poly};

use crate::compact::Compaction;
use crate::context::Context;

/// Every `stride`-th coefficient of a polynomial over Q_level, rounded.
///
/// Math:   round(2^(bits + headroom) x / Q)  mod 2^bits
/// Bounds: out below 2^bits; off by at most 1/2 and the error of the fractions, see
///     [`crate::compact`]
/// Timing: independent of the coefficients
pub(crate) fn switch(
    context: &Context,
    poly: Poly<Ntt>,
    stride: usize,
    compaction: Compaction,
) -> Vec<u64> {
    let ring = context.ring();
    let poly = poly.into_coeff(ring);
    let mut sum = vec![0u64; ring.degree() / stride];
    for (i, row) in poly.rows() {
        let prime = ring.prime(i);
        let mut kept: Vec<u64> = row.iter().step_by(stride).copied().collect();
        let factor = factor(context, i, poly.limbs(), compaction.headroom_bits);
        prime.mul_scalar_assign(&mut kept, prime.multiplier(factor));
        add_fractions(&mut sum, &kept, prime.modulus());
    }
    let dropped = u64::BITS - compaction.bits;
    let half = 1 << (dropped - 1);
    // Sums are modulo 1, in units of 2^-64, so that overflow is what is wanted.
    sum.iter_mut()
        .for_each(|x| *x = x.wrapping_add(half) >> dropped);
    sum
}

/// 2^headroom (Q/q_i)^-1 mod q_i.
fn factor(context: &Context, i: usize, limbs: usize, headroom: u32) -> u64 {
    let moduli: Vec<Modulus> = context.ring().moduli().take(limbs).collect();
    let q = moduli[i];
    let others = moduli.iter().filter(|other| other.value() != q.value());
    let product = others.fold(1, |product, other| q.mul(product, q.reduce(other.value())));
    // The primes of a ring are distinct, so that products of others have inverses.
    let inverse = q.pow(product, q.value() - 2);
    q.mul(inverse, q.pow(2, headroom.into()))
}

/// sum += x/q modulo 1, in units of 2^-64.
fn add_fractions(sum: &mut [u64], x: &[u64], q: Modulus) {
    // q is odd, so it does not divide 2^128.
    let reciprocal = u128::MAX / u128::from(q.value());
    let (high, low) = ((reciprocal >> 64) as u64, reciprocal as u64);
    for (sum, &x) in sum.iter_mut().zip(x) {
        let carried = ((u128::from(x) * u128::from(low)) >> 64) as u64;
        *sum = sum.wrapping_add(x.wrapping_mul(high)).wrapping_add(carried);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{ParameterSpec, Parameters};
    use scuro_polyring::Coeff;

    /// A polynomial whose residues look random, with the extreme ones among them.
    fn polynomial(context: &Context, level: usize) -> Poly<Coeff> {
        let mut poly = Poly::zero(context.ring(), context.basis(level));
        let mut state = 1u64;
        for (i, row) in poly.rows_mut() {
            let q = context.ring().prime(i).modulus();
            for (at, x) in row.iter_mut().enumerate() {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(99);
                *x = match at {
                    0 => 0,
                    1 => q.value() - 1,
                    2 => 1,
                    _ => q.reduce(state),
                };
            }
        }
        poly
    }

    #[test]
    fn coefficients_are_rounded_as_integers_are() {
        let parameters = Parameters::new(ParameterSpec::new(12, &[30, 31], &[36])).unwrap();
        let context = Context::new(parameters).unwrap();
        let moduli: Vec<u128> = context.parameters().q().iter().map(|&q| q.into()).collect();
        for (level, bits, headroom_bits) in [(0, 20, 0), (0, 29, 7), (1, 40, 0), (1, 32, 28)] {
            let (poly, q) = (polynomial(&context, level), &moduli[..=level]);
            let product: u128 = q.iter().product();
            let compaction = Compaction {
                period: 256,
                bits,
                headroom_bits,
            };
            let found = switch(
                &context,
                poly.clone().into_ntt(context.ring()),
                16,
                compaction,
            );
            assert_eq!(found.len(), 256);
            for (at, &found) in found.iter().enumerate() {
                let residues: Vec<u128> = poly.rows().map(|(_, row)| row[16 * at].into()).collect();
                // The number in [0, Q) with these residues.
                let x = match level {
                    0 => residues[0],
                    _ => garner(&residues, q),
                };
                let x = (x << headroom_bits) % product;
                let (whole, found) = (x << bits, u128::from(found) * product);
                let modulus = product << bits;
                let distance = whole.abs_diff(found).min(modulus - whole.abs_diff(found));
                // Half, and the error of the fractions.
                assert!(distance <= product / 2 + (product >> 20), "{bits} bits");
            }
        }
    }

    /// x_0 + q_0 ((x_1 - x_0) / q_0 mod q_1)
    fn garner(residues: &[u128], q: &[u128]) -> u128 {
        let difference = (residues[1] + q[1] - residues[0] % q[1]) % q[1];
        let (mut inverse, mut base, mut exponent) = (1, q[0] % q[1], q[1] - 2);
        while exponent > 0 {
            if exponent & 1 == 1 {
                inverse = inverse * base % q[1];
            }
            base = base * base % q[1];
            exponent >>= 1;
        }
        residues[0] + q[0] * (difference * inverse % q[1])
    }
}
