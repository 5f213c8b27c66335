//! Plaintexts, ciphertexts and their encoding.

use std::sync::Arc;

use rand_core::CryptoRng;
use scuro_polyring::{Ntt, Poly};

use super::BfvContext;
use crate::bgv;
use crate::error::Error;
use crate::key_id::KeyId;
use crate::keys::PublicKey;
use crate::params::Digest;

/// An encoded vector: a polynomial with coefficients modulo t, of no level.
#[derive(Debug, Clone, PartialEq)]
pub struct Plaintext {
    pub(crate) row: Vec<u64>,
    pub(crate) digest: Digest,
}

impl Plaintext {
    /// The operand of sums and encryptions at a level: the message times -Q.
    pub(crate) fn scaled(
        &self,
        context: &BfvContext,
        level: usize,
    ) -> Result<bgv::Plaintext, Error> {
        self.at(context, level, context.factor(level)?)
    }

    /// The operand of products at a level: the message itself.
    pub(crate) fn whole(
        &self,
        context: &BfvContext,
        level: usize,
    ) -> Result<bgv::Plaintext, Error> {
        self.at(context, level, 1)
    }

    fn at(&self, context: &BfvContext, level: usize, factor: u64) -> Result<bgv::Plaintext, Error> {
        let exact = context.exact();
        exact.check_digest(self.digest)?;
        let basis = exact.context().basis(level);
        Ok(bgv::Plaintext {
            poly: exact.lift_row(self.row.clone(), factor, basis),
            level,
            factor,
            digest: self.digest,
        })
    }
}

/// Encodes and decodes the N slots, which are those of [`bgv::Encoder`].
#[derive(Debug, Clone)]
pub struct Encoder {
    core: bgv::Encoder,
}

impl Encoder {
    /// An encoder for `context`.
    pub fn new(context: &Arc<BfvContext>) -> Self {
        Self {
            core: bgv::Encoder::new(context.exact()),
        }
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.core.slots()
    }

    /// Encodes integers in [-t/2, t/2]; slots without a value hold 0.
    ///
    /// Timing: independent of the values
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for more values than slots, [`Error::ValueOutsidePlaintext`].
    pub fn encode(&self, values: &[i64]) -> Result<Plaintext, Error> {
        Ok(Plaintext {
            row: self.core.row(values)?,
            digest: self.core.context().digest(),
        })
    }

    /// The slots of a plaintext, in [-t/2, t/2].
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn decode(&self, plaintext: &Plaintext) -> Result<Vec<i64>, Error> {
        self.core.context().check_digest(plaintext.digest)?;
        self.core.slots_of(plaintext.row.clone(), 1)
    }
}

/// An encrypted vector: 2 or 3 polynomials over Q_level in evaluation form.
///
/// Math: c_0 + c_1 s (+ c_2 s^2) = (Q_level / t) message + error  mod Q_level
#[derive(Debug, Clone, PartialEq)]
pub struct Ciphertext {
    /// The same as a ciphertext of factor -Q_level mod t.
    pub(crate) exact: bgv::Ciphertext,
}

impl Ciphertext {
    /// The scale-invariant face of a ciphertext of factor -Q_level mod t.
    ///
    /// # Errors
    /// [`Error::FactorMismatch`] for another factor, [`Error::ParameterMismatch`].
    pub fn from_exact(context: &BfvContext, exact: bgv::Ciphertext) -> Result<Self, Error> {
        context.exact().check_digest(exact.digest())?;
        check_factor(context, exact.level(), exact.factor())?;
        Ok(Self { exact })
    }

    /// The same as a ciphertext of BGV.
    pub fn exact(&self) -> &bgv::Ciphertext {
        &self.exact
    }

    /// The parts, c_0 first.
    pub fn parts(&self) -> &[Poly<Ntt>] {
        self.exact.parts()
    }

    /// Level: index of its last prime.
    pub fn level(&self) -> usize {
        self.exact.level()
    }

    /// Id of the secret key that decrypts it.
    pub fn key_id(&self) -> KeyId {
        self.exact.key_id()
    }

    /// As [`bgv::Ciphertext::to_bytes`].
    pub fn to_bytes(&self, context: &BfvContext) -> Vec<u8> {
        self.exact.to_bytes(context.exact())
    }

    /// Reads [`Ciphertext::to_bytes`].
    ///
    /// # Errors
    /// As [`bgv::Ciphertext::from_bytes`] and [`Ciphertext::from_exact`].
    pub fn from_bytes(bytes: &[u8], context: &BfvContext) -> Result<Self, Error> {
        let exact = bgv::Ciphertext::from_bytes(bytes, context.exact())?;
        Self::from_exact(context, exact)
    }
}

/// A fresh secret-key ciphertext with the seed of c_1 in place of c_1: half the size.
#[derive(Debug, Clone, PartialEq)]
pub struct SeededCiphertext {
    pub(crate) exact: bgv::SeededCiphertext,
}

impl SeededCiphertext {
    /// Level: index of its last prime.
    pub fn level(&self) -> usize {
        self.exact.level()
    }

    /// The whole ciphertext.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`] if it was made under other parameters.
    pub fn expand(&self, context: &BfvContext) -> Result<Ciphertext, Error> {
        let exact = self.exact.expand(context.exact())?;
        Ok(Ciphertext { exact })
    }

    /// As [`bgv::SeededCiphertext::to_bytes`].
    pub fn to_bytes(&self, context: &BfvContext) -> Vec<u8> {
        self.exact.to_bytes(context.exact())
    }

    /// Reads [`SeededCiphertext::to_bytes`].
    ///
    /// # Errors
    /// As [`bgv::SeededCiphertext::from_bytes`] and [`Ciphertext::from_exact`].
    pub fn from_bytes(bytes: &[u8], context: &BfvContext) -> Result<Self, Error> {
        let exact = bgv::SeededCiphertext::from_bytes(bytes, context.exact())?;
        check_factor(context, exact.level(), exact.factor)?;
        Ok(Self { exact })
    }
}

pub(super) fn check_factor(context: &BfvContext, level: usize, left: u64) -> Result<(), Error> {
    let right = context.factor(level)?;
    if left != right {
        return Err(Error::FactorMismatch { left, right });
    }
    Ok(())
}

impl PublicKey {
    /// Encrypts integers under the public key at `level`.
    ///
    /// Math:  (round((b u + e_0) / P) + (Q/t) m, round((a u + e_1) / P)), u ternary, e Gaussian
    /// Noise: [`bgv::NoiseModel::fresh_public`]
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`], [`Error::LevelTooHigh`].
    pub fn encrypt_scale_invariant(
        &self,
        context: &BfvContext,
        plaintext: &Plaintext,
        level: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<Ciphertext, Error> {
        let scaled = plaintext.scaled(context, level)?;
        let exact = self.encrypt_exact(context.exact(), &scaled, rng)?;
        Ok(Ciphertext { exact })
    }
}
