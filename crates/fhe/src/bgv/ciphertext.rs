//! Plaintexts and ciphertexts.

use rand_core::CryptoRng;
use scuro_polyring::{Ntt, Poly};

use super::BgvContext;
use crate::ckks;
use crate::error::Error;
use crate::key_id::KeyId;
use crate::keys::PublicKey;
use crate::params::Digest;

/// An encoded vector: the polynomial `factor * message` with coefficients in (-t/2, t/2), over
/// Q_level in evaluation form.
#[derive(Debug, Clone, PartialEq)]
pub struct Plaintext {
    pub(crate) poly: Poly<Ntt>,
    pub(crate) level: usize,
    pub(crate) factor: u64,
    pub(crate) digest: Digest,
}

impl Plaintext {
    /// Level: index of its last prime.
    pub fn level(&self) -> usize {
        self.level
    }

    /// What the message is multiplied by modulo t.
    pub fn factor(&self) -> u64 {
        self.factor
    }

    /// Bytes of the polynomial.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(self.poly.words())
    }

    /// The operand of an encryption: t^-1 times the polynomial.
    pub(crate) fn divided(&self, context: &BgvContext) -> ckks::Plaintext {
        let mut poly = self.poly.clone();
        context.divide(&mut poly);
        ckks::Plaintext {
            poly,
            level: self.level,
            scale: 1.0,
            digest: context.context().digest(),
        }
    }
}

/// An encrypted vector: 2 or 3 polynomials over Q_level in evaluation form.
///
/// Math: t (c_0 + c_1 s (+ c_2 s^2)) = factor * message + t * error  mod Q_level
#[derive(Debug, Clone, PartialEq)]
pub struct Ciphertext {
    /// The same polynomials as a ciphertext of scale 1 of the message t^-1 m.
    pub(crate) rlwe: ckks::Ciphertext,
    pub(crate) factor: u64,
    pub(crate) digest: Digest,
}

impl Ciphertext {
    /// A ciphertext of parts over Q_level in the form of this type, as a computation outside this
    /// crate made them.
    ///
    /// # Errors
    /// [`Error::BadFactor`]; else as [`ckks::Ciphertext::from_parts`].
    pub fn from_parts(
        context: &BgvContext,
        parts: Vec<Poly<Ntt>>,
        factor: u64,
        key_id: KeyId,
    ) -> Result<Self, Error> {
        context.check_factor(factor)?;
        Ok(Self {
            rlwe: ckks::Ciphertext::from_parts(context.context(), parts, 1.0, key_id)?,
            factor,
            digest: context.digest(),
        })
    }

    /// A textbook BGV ciphertext, c_0 + c_1 s = factor * message + t * error, as other
    /// implementations make them.
    ///
    /// # Errors
    /// As [`Ciphertext::from_parts`].
    pub fn from_textbook(
        context: &BgvContext,
        parts: Vec<Poly<Ntt>>,
        factor: u64,
        key_id: KeyId,
    ) -> Result<Self, Error> {
        let mut ciphertext = Self::from_parts(context, parts, factor, key_id)?;
        let parts = ciphertext.rlwe.parts.iter_mut();
        parts.for_each(|part| context.divide(part));
        Ok(ciphertext)
    }

    /// The parts of the textbook ciphertext.
    pub fn textbook_parts(&self, context: &BgvContext) -> Vec<Poly<Ntt>> {
        let mut parts = self.rlwe.parts.clone();
        parts.iter_mut().for_each(|part| context.multiply(part));
        parts
    }

    /// The parts, c_0 first.
    pub fn parts(&self) -> &[Poly<Ntt>] {
        self.rlwe.parts()
    }

    /// Level: index of its last prime.
    pub fn level(&self) -> usize {
        self.rlwe.level()
    }

    /// What the message is multiplied by modulo t.
    pub fn factor(&self) -> u64 {
        self.factor
    }

    /// Id of the secret key that decrypts it.
    pub fn key_id(&self) -> KeyId {
        self.rlwe.key_id()
    }

    /// Digest of its parameter set and plaintext prime.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// A fresh secret-key ciphertext with the seed of c_1 in place of c_1: half the size.
#[derive(Debug, Clone, PartialEq)]
pub struct SeededCiphertext {
    pub(crate) rlwe: ckks::SeededCiphertext,
    pub(crate) factor: u64,
    pub(crate) digest: Digest,
}

impl SeededCiphertext {
    /// Level: index of its last prime.
    pub fn level(&self) -> usize {
        self.rlwe.level()
    }

    /// Id of the secret key that decrypts it.
    pub fn key_id(&self) -> KeyId {
        self.rlwe.key_id()
    }

    /// As [`ckks::SeededCiphertext::leaving_out`].
    ///
    /// # Errors
    /// As there.
    pub fn leaving_out(self, context: &BgvContext, bits: u32) -> Result<Self, Error> {
        context.check_digest(self.digest)?;
        let rlwe = self.rlwe.leaving_out(context.context(), bits)?;
        Ok(Self { rlwe, ..self })
    }

    /// The whole ciphertext.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`] if it was made under other parameters.
    pub fn expand(&self, context: &BgvContext) -> Result<Ciphertext, Error> {
        context.check_digest(self.digest)?;
        Ok(Ciphertext {
            rlwe: self.rlwe.expand(context.context())?,
            factor: self.factor,
            digest: self.digest,
        })
    }
}

impl PublicKey {
    /// Encrypts integers under the public key.
    ///
    /// Math:  (round((b u + e_0) / P) + t^-1 m, round((a u + e_1) / P)), u ternary, e Gaussian
    /// Noise: [`super::NoiseModel::fresh_public`]
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn encrypt_exact(
        &self,
        context: &BgvContext,
        plaintext: &Plaintext,
        rng: &mut impl CryptoRng,
    ) -> Result<Ciphertext, Error> {
        context.check_digest(plaintext.digest)?;
        let rlwe = self.encrypt(context.context(), &plaintext.divided(context), rng)?;
        Ok(Ciphertext {
            rlwe,
            factor: plaintext.factor,
            digest: plaintext.digest,
        })
    }
}
