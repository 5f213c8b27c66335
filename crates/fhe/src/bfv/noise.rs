//! Prediction of noise.

use std::ops::Deref;

use super::BfvContext;
use crate::bgv;
use crate::noise::{self, Noise};

/// Predicts noise for one parameter set and plaintext prime.
///
/// A [`Noise`] is here that of phase - (Q/t) m, rounding of (Q/t) m included: what
/// [`bgv::NoiseModel`] counts for the same ciphertext, so that all its predictions hold here as
/// well, apart from products of ciphertexts.
#[derive(Debug, Clone)]
pub struct NoiseModel {
    exact: bgv::NoiseModel,
    core: noise::NoiseModel,
    plain: f64,
}

impl Deref for NoiseModel {
    type Target = bgv::NoiseModel;

    fn deref(&self) -> &bgv::NoiseModel {
        &self.exact
    }
}

impl NoiseModel {
    /// The model of a context.
    pub fn new(context: &BfvContext) -> Self {
        Self {
            exact: bgv::NoiseModel::new(context.exact()),
            core: noise::NoiseModel::new(context.context().parameters()),
            plain: context.exact().plain_modulus().value() as f64,
        }
    }

    /// Product of a ciphertext and a plaintext.
    pub fn mul_plain(&self, ciphertext: Noise) -> Noise {
        self.exact.mul(ciphertext, self.exact.plaintext())
    }

    /// Product of two ciphertexts at `level`: three parts.
    ///
    /// As integers the phases are (Q/t) m_i + e_i + Q k_i, where k_i is the overflow of c_0 + c_1 s
    /// with coefficients up to Q/2, so t/Q times the product is (Q/t) m_1 m_2 and
    /// (m_1 + t k_1) e_2 + (m_2 + t k_2) e_1 + (t/Q) e_1 e_2, up to multiples of Q, and rounding.
    pub fn mul_ciphertexts(&self, left: Noise, right: Noise, level: usize) -> Noise {
        // k is (c_0 + c_1 s) / Q - m/t - e/Q, and the parts over Q have coefficients of at most
        // 1/2, as rounding errors do.
        let (message, wrap) = (self.exact.plaintext(), self.core.rescale());
        let around = message.plus(message).plus(wrap);
        let factor = Noise {
            std: self.plain * around.std,
            bound: self.plain * (around.bound + 1.0),
        };
        let cross = self.plain / self.exact.modulus(level);
        let sides = left.plus(right);
        Noise {
            std: factor.std * sides.std + cross * left.std * right.std,
            bound: factor.bound * sides.bound + cross * left.bound * right.bound,
        }
        .plus(self.core.rescale_unrelinearized())
    }
}
