//! Fresh ciphertexts in fewer bits: the lowest bits of their coefficients are noise, so some may be
//! left out for a little more of it.
//!
//! What is rounded has been encrypted before, so that nothing about its security changes.

use scuro_polyring::{Coeff, Poly};

use crate::context::Context;

/// Moves every coefficient to one whose residue modulo the first prime q is a multiple of 2^bits.
///
/// Math: c + 2^bits round(r / 2^bits) - r, r = c mod q: by at most 2^(bits - 1), and less than
///     2^bits next to q
pub(crate) fn round(context: &Context, poly: &mut Poly<Coeff>, bits: u32) {
    let ring = context.ring();
    let first = ring.prime(poly.basis().modulus_index(0)).modulus();
    let largest = (first.value() - 1) >> bits;
    let half = (1 << bits) >> 1;
    let shift = |&residue: &u64| {
        let rounded = ((residue + half) >> bits).min(largest) << bits;
        rounded as i64 - residue as i64
    };
    let shifts: Vec<i64> = poly.limb(0).iter().map(shift).collect();
    let shifts = Poly::from_signed(ring, poly.basis().clone(), &shifts);
    poly.add_assign(ring, &shifts);
}
