//! A parameter set with a plaintext prime, and what is computed once from both.

use std::sync::Arc;

use scuro_polyring::{
    BaseConverter, Basis, Modulus, Multiplier, Ntt, Poly, PrimeRing, ROTATION_GENERATOR, Ring,
    RingKind, primes,
};

use crate::context::Context;
use crate::error::Error;
use crate::params::Digest;

/// Size of the largest plaintext primes, those next to 2^46.
pub(crate) const PLAIN_BITS_MAX: u32 = 46;

/// A context and a plaintext prime t, 1 modulo 2N (standard ring) or 4N (conjugate-invariant ring).
pub struct BgvContext {
    context: Arc<Context>,
    /// The ring modulo the ciphertext primes and, last, t
    ring: Ring,
    /// Per level from Q_level to t
    converters: Vec<BaseConverter>,
    /// Where the transform modulo t has the value of a slot
    positions: Vec<u32>,
    /// t mod q_i
    plain: Vec<Multiplier>,
    /// t^-1 mod q_i
    plain_inverse: Vec<Multiplier>,
    /// q_i^-1 mod t
    prime_inverse: Vec<u64>,
    digest: Digest,
}

impl BgvContext {
    /// Joins a context and a plaintext prime.
    ///
    /// # Errors
    /// [`Error::BadPlainModulus`] unless `t` is a prime below 2^47 and q_0, 1 modulo 2N or 4N as
    /// the ring asks for, and none of the context's primes.
    pub fn new(context: &Arc<Context>, t: u64) -> Result<Arc<Self>, Error> {
        let parameters = context.parameters();
        check_plain_modulus(context, t)?;
        let q = parameters.q();
        let moduli: Vec<u64> = q.iter().copied().chain([t]).collect();
        let kernel = context.ring().kernel();
        let ring = Ring::new(parameters.ring(), parameters.log_n(), &moduli, kernel)?;
        let target = Basis::range(q.len()..q.len() + 1);
        let converter =
            |level| BaseConverter::new(&ring, Basis::range(0..level + 1), target.clone());
        let converters = (0..q.len()).map(converter).collect::<Result<_, _>>()?;
        let modulus = ring.prime(q.len()).modulus();
        let residue = |i: usize| (ring.prime(i).modulus(), ring.prime(i).modulus().reduce(t));
        let plain = (0..q.len()).map(residue).map(|(q, t)| q.multiplier(t));
        let inverses = (0..q.len()).map(residue).map(|(q, t)| {
            let inverse = q.inv(t)?;
            Ok::<_, Error>(q.multiplier(inverse))
        });
        let prime_inverse = q.iter().map(|&q| modulus.inv(modulus.reduce(q)));
        Ok(Arc::new(Self {
            converters,
            positions: positions(&ring),
            plain: plain.collect(),
            plain_inverse: inverses.collect::<Result<_, _>>()?,
            prime_inverse: prime_inverse.collect::<Result<_, _>>()?,
            digest: digest(context, t),
            context: Arc::clone(context),
            ring,
        }))
    }

    /// Joins a context and the usable plaintext prime nearest to 2^bits.
    ///
    /// # Errors
    /// As [`BgvContext::new`]; [`Error::Ring`] if there is no such prime.
    pub fn with_plain_bits(context: &Arc<Context>, bits: u32) -> Result<Arc<Self>, Error> {
        let parameters = context.parameters();
        let used: Vec<u64> = parameters
            .q()
            .iter()
            .chain(parameters.p())
            .copied()
            .collect();
        let (ring, log_n) = (parameters.ring(), parameters.log_n());
        Self::new(context, plain_prime(ring, log_n, bits, &used)?)
    }

    /// The size that the plaintext prime is nearest to, in bits.
    pub fn plain_bits(&self) -> u32 {
        (self.plain_modulus().value() as f64).log2().round() as u32
    }

    /// The RLWE context.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The plaintext prime t.
    pub fn plain_modulus(&self) -> Modulus {
        self.plain_ring().modulus()
    }

    /// Number of slots: N.
    pub fn slots(&self) -> usize {
        self.positions.len()
    }

    /// Number of rows that rotations turn in themselves: two of N/2 slots in the standard ring, one
    /// of N in the conjugate-invariant ring.
    pub fn rows(&self) -> usize {
        self.slots() / self.context.parameters().slots()
    }

    /// Digest of the parameter set and t.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The factor -Q_level mod t, with which a ciphertext is one of BFV: its phase is then
    /// (Q_level/t) m and a small error.
    pub fn scale_invariant_factor(&self, level: usize) -> Result<u64, Error> {
        self.context.check_level(level)?;
        let t = self.plain_modulus();
        let primes = self.context.parameters().q()[..=level].iter();
        Ok(t.neg(primes.fold(1, |product, &q| t.mul(product, t.reduce(q)))))
    }

    pub(crate) fn plain_ring(&self) -> &PrimeRing {
        self.ring.prime(self.ring.moduli_count() - 1)
    }

    pub(crate) fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// q_level^-1 mod t: what division by q_level multiplies messages by.
    pub(crate) fn switch_factor(&self, level: usize) -> u64 {
        self.prime_inverse[level]
    }

    /// t mod q_i for every i.
    pub(crate) fn plain_residues(&self) -> &[Multiplier] {
        &self.plain
    }

    /// poly *= t
    pub(crate) fn multiply(&self, poly: &mut Poly<Ntt>) {
        scale(&self.context, poly, &self.plain);
    }

    /// poly *= t^-1
    pub(crate) fn divide(&self, poly: &mut Poly<Ntt>) {
        scale(&self.context, poly, &self.plain_inverse);
    }

    /// sum += poly t^-1, on the rows of `sum`.
    pub(crate) fn add_divided(&self, sum: &mut Poly<Ntt>, poly: &Poly<Ntt>) {
        for (i, row) in sum.rows_mut() {
            let prime = self.context.ring().prime(i);
            prime.mul_scalar_add_assign(row, poly.limb(i), self.plain_inverse[i]);
        }
    }

    /// sum += w t^-1: a constant polynomial has the same value at every root.
    pub(crate) fn add_divided_constant(&self, sum: &mut Poly<Ntt>, w: i64) {
        for (i, row) in sum.rows_mut() {
            let q = self.context.ring().prime(i).modulus();
            let residue = self.plain_inverse[i].mul(q.reduce_signed(w), q.value());
            row.iter_mut().for_each(|x| *x = q.add(*x, residue));
        }
    }

    /// The centred integer polynomial with the residues of `poly` over Q_level, modulo t, in
    /// coefficient form.
    ///
    /// Timing: independent of the values
    pub(crate) fn residues(&self, poly: Poly<Ntt>, level: usize) -> Vec<u64> {
        let rows = poly.into_coeff(self.context.ring());
        let rows: Vec<&[u64]> = rows.rows().map(|(_, row)| row).collect();
        let mut out = vec![0; self.slots()];
        self.converters[level].convert(&self.ring, &mut [&mut out], &rows);
        out
    }

    /// The polynomial over `basis` whose centred coefficients are `factor * row` modulo t.
    pub(crate) fn lift_row(&self, mut row: Vec<u64>, factor: u64, basis: Basis) -> Poly<Ntt> {
        let (ring, plain) = (self.context.ring(), self.plain_ring());
        let t = plain.modulus();
        plain.mul_scalar_assign(&mut row, t.multiplier(factor));
        let mut poly = Poly::recycled(ring, basis);
        for (i, out) in poly.rows_mut() {
            ring.prime(i).forward_lifted(out, &row, t);
        }
        poly
    }

    pub(crate) fn check_factor(&self, found: u64) -> Result<(), Error> {
        if found == 0 || found >= self.plain_modulus().value() {
            return Err(Error::BadFactor { found });
        }
        Ok(())
    }

    pub(crate) fn check_digest(&self, found: Digest) -> Result<(), Error> {
        let expected = self.digest;
        if found != expected {
            return Err(Error::ParameterMismatch { found, expected });
        }
        Ok(())
    }
}

impl std::fmt::Debug for BgvContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BgvContext")
            .field("context", &self.context)
            .field("plain_modulus", &self.plain_modulus().value())
            .finish()
    }
}

fn scale(context: &Context, poly: &mut Poly<Ntt>, factors: &[Multiplier]) {
    for (i, row) in poly.rows_mut() {
        context.ring().prime(i).mul_scalar_assign(row, factors[i]);
    }
}

/// The prime that [`BgvContext::with_plain_bits`] takes beside the primes `used` of a set: the
/// usable one nearest to 2^bits, below or above.
///
/// # Errors
/// [`Error::Ring`] if there is no such prime.
pub fn plain_prime(ring: RingKind, log_n: u32, bits: u32, used: &[u64]) -> Result<u64, Error> {
    let found = primes::ntt_primes(bits, ring.root_order(log_n), 1, used)?;
    Ok(found[0])
}

/// Primes are 1 modulo this.
fn root_order(context: &Context) -> u64 {
    let parameters = context.parameters();
    parameters.ring().root_order(parameters.log_n())
}

fn check_plain_modulus(context: &Context, t: u64) -> Result<(), Error> {
    let parameters = context.parameters();
    let order = root_order(context);
    let used = parameters.q().iter().chain(parameters.p()).any(|&q| q == t);
    // A plaintext has to fit the last modulus left.
    let fits = t < 1 << (PLAIN_BITS_MAX + 1) && t < parameters.q()[0];
    if used || !fits || t % order != 1 || !primes::is_prime(t) {
        return Err(Error::BadPlainModulus { found: t, order });
    }
    Ok(())
}

/// Row 0 has the values at ψ^(5^p), row 1 of the standard ring those at ψ^(-5^p). In the other
/// ring, values at inverse roots are equal.
fn positions(ring: &Ring) -> Vec<u32> {
    let (kind, log_n) = (ring.kind(), ring.log_degree());
    let order = kind.root_order(log_n) as usize;
    let mut by_exponent = vec![0; order];
    for (position, &exponent) in (0..).zip(ring.exponents()) {
        by_exponent[exponent as usize] = position;
        if kind == RingKind::ConjugateInvariant {
            by_exponent[order - exponent as usize] = position;
        }
    }
    let next = |&exponent: &usize| Some(exponent * ROTATION_GENERATOR as usize % order);
    let row: Vec<usize> = std::iter::successors(Some(1), next)
        .take(ring.slots())
        .collect();
    let first = row.iter().map(|&exponent| by_exponent[exponent]);
    let second = row.iter().map(|&exponent| by_exponent[order - exponent]);
    match kind {
        RingKind::Standard => first.chain(second).collect(),
        RingKind::ConjugateInvariant => first.collect(),
    }
}

fn digest(context: &Context, t: u64) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("scuro fhe bgv parameters v1");
    hasher.update(&context.digest().0);
    hasher.update(&t.to_le_bytes());
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use scuro_polyring::Kernel;

    #[test]
    fn slots_are_in_the_order_of_the_approximate_scheme() {
        let log_n = 5;
        for kind in [RingKind::Standard, RingKind::ConjugateInvariant] {
            let order = kind.root_order(log_n);
            let moduli = primes::ntt_primes(30, order, 1, &[]).unwrap();
            let ring = Ring::new(kind, log_n, &moduli, Kernel::detect()).unwrap();
            let positions = positions(&ring);
            assert_eq!(positions.len(), ring.degree());
            let mut wanted = 1;
            for &position in &positions[..ring.slots()] {
                let found = u64::from(ring.exponents()[position as usize]);
                let real = kind == RingKind::ConjugateInvariant;
                assert!(found == wanted || real && found == order - wanted);
                wanted = wanted * ROTATION_GENERATOR % order;
            }
            let mut sorted = positions;
            sorted.sort_unstable();
            assert!(
                (0..)
                    .zip(sorted)
                    .all(|(i, position): (u32, _)| i == position)
            );
        }
    }
}
