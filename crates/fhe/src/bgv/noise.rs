//! Prediction of noise.

use super::BgvContext;
use crate::bfv;
use crate::flooding::Flooding;
use crate::noise::{self, Noise};

/// Predicts noise for one parameter set and plaintext prime.
///
/// A [`Noise`] is here that of the whole phase, message included, in the canonical embedding and
/// divided by t: |factor * message + t * error| / t. Bounds hold for any message; deviations for
/// messages that look random. A ciphertext decrypts as long as its bound is below Q / (2t).
#[derive(Debug, Clone)]
pub struct NoiseModel {
    core: noise::NoiseModel,
    plain: f64,
    primes: Vec<f64>,
}

impl NoiseModel {
    /// The model of a context.
    pub fn new(context: &BgvContext) -> Self {
        let core = noise::NoiseModel::new(context.context().parameters());
        Self::planned(core, context.plain_modulus().value() as f64)
    }

    /// The model of parameters that are still being chosen, and a plaintext prime.
    pub fn planned(core: noise::NoiseModel, plain: f64) -> Self {
        let primes = core.primes().to_vec();
        Self {
            core,
            plain,
            primes,
        }
    }

    pub(crate) fn core(&self) -> &noise::NoiseModel {
        &self.core
    }

    /// t.
    pub(crate) fn plain(&self) -> f64 {
        self.plain
    }

    /// A plaintext: N coefficients of at most t/2.
    pub fn plaintext(&self) -> Noise {
        Noise {
            std: self.core.encoding().std,
            bound: self.core.largest_plaintext(),
        }
    }

    /// A fresh ciphertext under the secret key.
    pub fn fresh_secret(&self) -> Noise {
        self.plaintext().plus(self.core.fresh_secret())
    }

    /// What [`super::SeededCiphertext::leaving_out`] adds.
    pub fn left_out(&self, bits: u32) -> Noise {
        self.core.left_out(bits)
    }

    /// A fresh ciphertext under the public key.
    pub fn fresh_public(&self) -> Noise {
        self.plaintext().plus(self.core.fresh_public())
    }

    /// Product of two ciphertexts, or of one and a plaintext.
    pub fn mul(&self, left: Noise, right: Noise) -> Noise {
        Noise {
            std: self.plain * left.std * right.std,
            bound: self.plain * left.bound * right.bound,
        }
    }

    /// Product of two ciphertexts of [`crate::bfv`] at `level`: three parts.
    ///
    /// As integers the phases are (Q/t) m_i + e_i + Q k_i, where k_i is the overflow of c_0 + c_1 s
    /// with coefficients up to Q/2, so t/Q times the product is (Q/t) m_1 m_2 and
    /// (m_1 + t k_1) e_2 + (m_2 + t k_2) e_1 + (t/Q) e_1 e_2, up to multiples of Q, and rounding.
    /// Rounding P/Q times the second factor, with P >= 2^6 Q, adds (m_1 + t k_1) r Q/P, where r is
    /// the error of a rescaling.
    pub fn mul_scale_invariant(&self, left: Noise, right: Noise, level: usize) -> Noise {
        // k is (c_0 + c_1 s) / Q - m/t - e/Q, and the parts over Q have coefficients of at most
        // 1/2, as rounding errors do.
        let message = self.plaintext();
        let around = message.plus(message).plus(self.core.rescale());
        let factor = Noise {
            std: self.plain * around.std,
            bound: self.plain * (around.bound + 1.0),
        };
        let cross = self.plain / self.primes[..=level].iter().product::<f64>();
        let rounded = self.core.rescale().times((-bfv::MARGIN_BITS).exp2());
        let sides = left.plus(right).plus(rounded);
        Noise {
            std: factor.std * sides.std + cross * left.std * right.std,
            bound: factor.bound * sides.bound + cross * left.bound * right.bound,
        }
        .plus(self.core.rescale_unrelinearized())
    }

    /// After a key switch at `level`: relinearisation, rotation, row swap.
    pub fn key_switch(&self, noise: Noise, level: usize) -> Noise {
        noise.plus(self.core.key_switch(level))
    }

    /// As [`noise::NoiseModel::merged_sum`].
    pub fn merged_sum(&self, noise: Noise, switches: usize, level: usize) -> Noise {
        self.core.merged_sum(noise, switches, level)
    }

    /// After a modulus switch from `level` of a two-part ciphertext.
    pub fn mod_switch(&self, noise: Noise, level: usize) -> Noise {
        self.core.divided(noise, self.primes[level])
    }

    /// After a modulus switch from `level` of a three-part ciphertext.
    pub fn mod_switch_unrelinearized(&self, noise: Noise, level: usize) -> Noise {
        noise
            .times(self.primes[level].recip())
            .plus(self.core.rescale_unrelinearized())
    }

    /// After [`super::Evaluator::flood`].
    pub fn flooded(&self, noise: Noise, flooding: Flooding) -> Noise {
        let message = self.plaintext();
        let error = self.core.flooded(self.error(noise), flooding);
        message.plus(error)
    }

    /// The error alone of a phase that is message and error: |t error| is at most the phase and the
    /// centred message, whose coefficients have a norm of at most sqrt(N) t/2.
    pub(crate) fn error(&self, noise: Noise) -> Noise {
        Noise {
            std: noise.std,
            bound: noise.bound + (self.core.degree() as f64).sqrt() / 2.0,
        }
    }

    /// Bits between the bound and Q/2 at `level`: a lower bound of the noise budget.
    pub fn budget(&self, noise: Noise, level: usize) -> f64 {
        let log_q: f64 = self.primes[..=level].iter().map(|q| q.log2()).sum();
        log_q - 1.0 - (self.plain * noise.bound).log2()
    }
}
