//! Plaintexts and ciphertexts.

use scuro_polyring::sampling::Seed;
use scuro_polyring::{Ntt, Poly};

use crate::context::Context;
use crate::error::Error;
use crate::key_id::KeyId;
use crate::params::Digest;
use crate::rlwe::{Purpose, rounding, seed};

/// Most parts of a ciphertext: two fresh, three after a product.
pub(crate) const PARTS_MAX: usize = 3;

/// An encoded vector: a polynomial over Q_level in evaluation form.
#[derive(Debug, Clone, PartialEq)]
pub struct Plaintext {
    pub(crate) poly: Poly<Ntt>,
    pub(crate) level: usize,
    pub(crate) scale: f64,
    pub(crate) digest: Digest,
}

impl Plaintext {
    /// Level: index of its last prime.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Factor between values and coefficients.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The polynomial.
    pub fn poly(&self) -> &Poly<Ntt> {
        &self.poly
    }
}

/// An encrypted vector: 2 or 3 polynomials over Q_level in evaluation form.
///
/// Math: c_0 + c_1 s (+ c_2 s^2) = scale * message + error  mod Q_level
#[derive(Debug, Clone, PartialEq)]
pub struct Ciphertext {
    pub(crate) parts: Vec<Poly<Ntt>>,
    pub(crate) level: usize,
    pub(crate) scale: f64,
    pub(crate) key_id: KeyId,
    pub(crate) digest: Digest,
}

impl Ciphertext {
    /// A ciphertext of parts over Q_level, as a computation outside this crate made them.
    ///
    /// # Errors
    /// [`Error::PartCount`], [`Error::LengthMismatch`], [`Error::LevelTooHigh`],
    /// [`Error::BadScale`].
    pub fn from_parts(
        context: &Context,
        parts: Vec<Poly<Ntt>>,
        scale: f64,
        key_id: KeyId,
    ) -> Result<Self, Error> {
        if !(2..=PARTS_MAX).contains(&parts.len()) {
            return Err(Error::PartCount {
                found: parts.len(),
                expected: 2,
            });
        }
        let limbs = parts[0].limbs();
        let level = limbs.saturating_sub(1);
        context.check_level(level)?;
        let basis = context.basis(level);
        if let Some(part) = parts.iter().find(|part| *part.basis() != basis) {
            let found = part.limbs();
            return Err(Error::LengthMismatch {
                what: "limbs",
                found,
                expected: limbs,
            });
        }
        check_scale(scale, context, level)?;
        Ok(Self {
            parts,
            level,
            scale,
            key_id,
            digest: context.digest(),
        })
    }

    /// The parts, c_0 first.
    pub fn parts(&self) -> &[Poly<Ntt>] {
        &self.parts
    }

    /// Level: index of its last prime.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Factor between values and coefficients.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Id of the secret key that decrypts it.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Digest of its parameter set.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Declares another scale, which multiplies the message by old/new at no cost.
    ///
    /// # Errors
    /// [`Error::BadScale`] unless finite and at least 1.
    pub fn set_scale(&mut self, scale: f64) -> Result<(), Error> {
        if !scale.is_finite() || scale < 1.0 {
            return Err(Error::BadScale {
                found: scale,
                modulus_bits: f64::INFINITY,
            });
        }
        self.scale = scale;
        Ok(())
    }

    pub(crate) fn check_parts(&self, expected: usize) -> Result<(), Error> {
        if self.parts.len() != expected {
            return Err(Error::PartCount {
                found: self.parts.len(),
                expected,
            });
        }
        Ok(())
    }

    pub(crate) fn check_key(&self, expected: KeyId) -> Result<(), Error> {
        if self.key_id != expected {
            return Err(Error::KeyMismatch {
                found: self.key_id,
                expected,
            });
        }
        Ok(())
    }
}

/// A fresh secret-key ciphertext with the seed of c_1 in place of c_1: half the size.
#[derive(Debug, Clone, PartialEq)]
pub struct SeededCiphertext {
    pub(crate) body: Poly<Ntt>,
    /// Lowest bits of the coefficients' residues modulo the first prime that are zero.
    pub(crate) left_out: u32,
    pub(crate) seed: Seed,
    pub(crate) level: usize,
    pub(crate) scale: f64,
    pub(crate) key_id: KeyId,
    pub(crate) digest: Digest,
}

impl SeededCiphertext {
    /// Level: index of its last prime.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Factor between values and coefficients.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Id of the secret key that decrypts it.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The seed of the uniform part; public.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// The same message in `bits` bits a coefficient less, with the noise of rounding them away.
    ///
    /// Noise: [`crate::noise::NoiseModel::left_out`] is added
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`]; [`Error::IndexOutOfRange`] for more than [`LEFT_OUT_MAX`].
    pub fn leaving_out(self, context: &Context, bits: u32) -> Result<Self, Error> {
        context.check_digest(self.digest)?;
        check_left_out(bits)?;
        if bits == 0 {
            return Ok(self);
        }
        let ring = context.ring();
        let mut body = self.body.into_coeff(ring);
        rounding::round(context, &mut body, bits);
        Ok(Self {
            body: body.into_ntt(ring),
            left_out: bits,
            ..self
        })
    }

    /// The whole ciphertext.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`] if it was made under other parameters.
    pub fn expand(&self, context: &Context) -> Result<Ciphertext, Error> {
        context.check_digest(self.digest)?;
        let mask = ciphertext_mask(context, &self.seed, self.level);
        Ok(Ciphertext {
            parts: vec![self.body.clone(), mask],
            level: self.level,
            scale: self.scale,
            key_id: self.key_id,
            digest: self.digest,
        })
    }
}

/// Most bits a coefficient that a fresh ciphertext may leave out; primes have more.
pub const LEFT_OUT_MAX: u32 = 8;

pub(crate) fn check_left_out(bits: u32) -> Result<(), Error> {
    if bits <= LEFT_OUT_MAX {
        return Ok(());
    }
    Err(Error::IndexOutOfRange {
        what: "bits left out",
        found: bits as usize,
        bound: LEFT_OUT_MAX as usize + 1,
    })
}

/// The uniform part of a fresh ciphertext.
pub(crate) fn ciphertext_mask(context: &Context, seed: &Seed, level: usize) -> Poly<Ntt> {
    seed::uniform(
        context.ring(),
        context.basis(level),
        seed,
        Purpose::Ciphertext,
        0,
    )
}

pub(crate) fn check_scale(scale: f64, context: &Context, level: usize) -> Result<(), Error> {
    let modulus_bits = context.parameters().log_q(level);
    if scale.is_finite() && scale >= 1.0 && scale.log2() < modulus_bits {
        return Ok(());
    }
    Err(Error::BadScale {
        found: scale,
        modulus_bits,
    })
}
