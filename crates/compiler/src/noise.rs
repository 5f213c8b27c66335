//! Error model: standard deviations of slot errors, in units of the scaled message.

use scuro_program::{Ring, Weights};

/// Standard deviation of the error distribution.
const SIGMA: f64 = 3.19;

/// Slot errors at one ring degree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoiseModel {
    /// Ratio of slot to coefficient standard deviations, squared: `2N` (real ring) or `N`.
    embedding: f64,
}

impl NoiseModel {
    pub(crate) fn new(ring: Ring, log_n: u32) -> NoiseModel {
        let degree = f64::from(log_n).exp2();
        let embedding = match ring {
            Ring::ConjugateInvariant => 2.0 * degree,
            Ring::Standard => degree,
        };
        NoiseModel { embedding }
    }

    /// Variance of a fresh secret-key encryption, encoding included.
    pub(crate) fn fresh(&self) -> f64 {
        SIGMA * SIGMA * self.embedding + self.encoding()
    }

    /// Variance of a fresh public-key encryption, encoding included: of its errors the division by
    /// the special primes leaves its rounding alone.
    pub(crate) fn fresh_public(&self) -> f64 {
        self.rounding() + self.encoding()
    }

    /// Variance of the query: whoever runs a private model encrypts without the secret key.
    pub(crate) fn query(&self, weights: Weights) -> f64 {
        match weights {
            Weights::Plain => self.fresh(),
            _ => self.fresh_public(),
        }
    }

    /// Variance of an encrypted weight: where replies are flooded somebody else than the owner of
    /// the weights decrypts, and they may be encrypted under that user's public key.
    pub(crate) fn weight(&self, flooded: bool) -> f64 {
        match flooded {
            true => self.fresh_public(),
            false => self.fresh(),
        }
    }

    /// Variance of rounding a plaintext to integers.
    pub(crate) fn encoding(&self) -> f64 {
        self.embedding / 12.0
    }

    /// Variance of dividing a two-part ciphertext by a prime (ternary secret).
    pub(crate) fn rounding(&self) -> f64 {
        self.encoding() * (1.0 + 2.0 / 3.0 * self.embedding)
    }

    /// Variance of a key switch before its rounding: `digits` digits of `digit_bits` over special
    /// primes of `special_bits` in all.
    pub(crate) fn key_switch(&self, digits: f64, digit_bits: f64, special_bits: f64) -> f64 {
        let ratio = (2.0 * (digit_bits - special_bits)).exp2();
        digits * ratio * SIGMA * SIGMA * self.embedding * self.embedding / 12.0
    }
}
