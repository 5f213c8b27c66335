//! Decryption of compact ciphertexts: see [`crate::compact`].

use scuro_polyring::{Basis, MixedRadix, Poly};

use super::{Decryptor, SecretKey, bgv};
use crate::bgv::CompactCiphertext as ExactCompactCiphertext;
use crate::ckks::{CompactCiphertext, Encoder};
use crate::compact::product_bits;
use crate::context::Context;
use crate::error::Error;

impl Decryptor<'_> {
    /// The real parts of all slots.
    ///
    /// Timing: independent of key and message
    ///
    /// # Errors
    /// [`Error::KeyMismatch`] for a ciphertext under another key, [`Error::ParameterMismatch`].
    pub fn decrypt_compact(&self, ciphertext: &CompactCiphertext) -> Result<Vec<f64>, Error> {
        let context = &*self.context;
        let phase = phase(context, self.secret, ciphertext)?;
        let shift = u64::BITS - ciphertext.bits;
        let n = context.parameters().n();
        let mut coefficients = vec![0.0; n];
        let kept = coefficients.iter_mut().step_by(n / phase.len());
        for (out, word) in kept.zip(phase) {
            // The top bit of the coefficient is its sign.
            *out = ((word << shift) as i64 >> shift) as f64;
        }
        let encoder = Encoder::new(&self.context);
        Ok(encoder.slots_of(&coefficients, ciphertext.scale).0)
    }
}

impl bgv::Decryptor<'_> {
    /// The slots of a compact ciphertext, in [-t/2, t/2], and its noise budget: log2(2^bits / (2t))
    /// less log2 of the largest error. The slots are exact as long as that is above 0.
    ///
    /// Timing: independent of key and message
    ///
    /// # Errors
    /// As [`Decryptor::decrypt_compact`].
    pub fn decrypt_compact_measured(
        &self,
        ciphertext: &ExactCompactCiphertext,
    ) -> Result<(Vec<i64>, f64), Error> {
        self.context.check_digest(ciphertext.digest)?;
        let context = &**self.context.context();
        let phase = phase(context, self.core.secret, &ciphertext.rlwe)?;
        let (t, bits) = (self.context.plain_modulus(), ciphertext.bits());
        let n = context.parameters().n();
        let mut row = vec![0; n];
        let mut largest = 1u64;
        let kept = row.iter_mut().step_by(n / phase.len());
        for (out, word) in kept.zip(phase) {
            let scaled = u128::from(t.value()) * u128::from(word);
            let rounded = (scaled + (1 << (bits - 1))) >> bits;
            // t times the error: below 2^(bits - 1) in magnitude.
            let error = scaled.wrapping_sub(rounded << bits) as i64;
            largest = largest.max(error.unsigned_abs());
            *out = t.reduce(rounded as u64);
        }
        let budget = f64::from(bits) - 1.0 - (largest as f64).log2();
        Ok((self.encoder.slots_of(row, ciphertext.factor)?, budget))
    }
}

/// c_0 + c_1 s modulo 2^bits at the coefficients that are kept.
///
/// Math:   c_1 centred, times s over the integers: modulo enough primes that nothing wraps
/// Timing: independent of the secret
fn phase(
    context: &Context,
    secret: &SecretKey,
    ciphertext: &CompactCiphertext,
) -> Result<Vec<u64>, Error> {
    context.check_digest(ciphertext.digest)?;
    secret.check(context)?;
    if ciphertext.key_id != secret.key_id {
        return Err(Error::KeyMismatch {
            found: ciphertext.key_id,
            expected: secret.key_id,
        });
    }
    let ring = context.ring();
    let shift = u64::BITS - ciphertext.bits;
    let centre = |&word: &u64| (word << shift) as i64 >> shift;
    let mask: Vec<i64> = ciphertext.mask.iter().map(centre).collect();
    let basis = product_basis(context, ciphertext.bits);
    let mut product = Poly::from_signed(ring, basis.clone(), &mask).into_ntt(ring);
    for (i, row) in product.rows_mut() {
        ring.prime(i).mul_assign(row, secret.poly.limb(i));
    }
    let product = product.into_coeff(ring);
    let kept = ciphertext.body.len();
    let stride = ring.degree() / kept;
    let rows = product.rows().map(|(_, row)| row);
    let rows: Vec<Vec<u64>> = rows
        .map(|row| row.iter().step_by(stride).copied().collect())
        .collect();
    let rows: Vec<&[u64]> = rows.iter().map(Vec::as_slice).collect();
    let mut phase = vec![0; kept];
    MixedRadix::new(ring, basis)?.to_wrapping(ring, &mut phase, &rows);
    for (word, &body) in phase.iter_mut().zip(&ciphertext.body) {
        *word = word.wrapping_add(body) & ((1 << ciphertext.bits) - 1);
    }
    Ok(phase)
}

/// The first primes of the ring, as many as products of the secret with coefficients of so many
/// bits take.
fn product_basis(context: &Context, bits: u32) -> Basis {
    let needed = product_bits(context, bits);
    let moduli = context.ring().moduli();
    let sizes = moduli.map(|q| (q.value() as f64).log2());
    let sums = sizes.scan(0.0, |sum, size| {
        *sum += size;
        Some(*sum)
    });
    // All of them are enough for the bits that a ciphertext may have.
    let rows = sums.take_while(|&sum| sum < needed).count() + 1;
    Basis::range(0..rows.min(context.ring().moduli_count()))
}
