//! Encryption, decryption and noise measurement for [`crate::bfv`].

use std::sync::Arc;

use rand_core::CryptoRng;

use super::{SecretKey, bgv};
use crate::bfv::{BfvContext, Ciphertext, Plaintext, SeededCiphertext};
use crate::error::Error;

/// Encrypts integers for the owner of a secret key.
#[derive(Debug)]
pub struct Encryptor<'a> {
    context: Arc<BfvContext>,
    core: bgv::Encryptor<'a>,
}

impl<'a> Encryptor<'a> {
    /// An encryptor for `secret`.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn new(context: &Arc<BfvContext>, secret: &'a SecretKey) -> Result<Self, Error> {
        Ok(Self {
            context: Arc::clone(context),
            core: bgv::Encryptor::new(context.exact(), secret)?,
        })
    }

    /// Encrypts at `level` under a seed drawn for this ciphertext alone.
    ///
    /// Math:  c_0 = -a s + e + (Q/t) m, a from the seed
    /// Noise: [`crate::bgv::NoiseModel::fresh_secret`]
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`], [`Error::LevelTooHigh`].
    pub fn encrypt(
        &self,
        plaintext: &Plaintext,
        level: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<SeededCiphertext, Error> {
        let scaled = plaintext.scaled(&self.context, level)?;
        let exact = self.core.encrypt(&scaled, rng)?;
        Ok(SeededCiphertext { exact })
    }
}

/// Decrypts integers with a secret key.
#[derive(Debug)]
pub struct Decryptor<'a> {
    core: bgv::Decryptor<'a>,
}

impl<'a> Decryptor<'a> {
    /// A decryptor for `secret`.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn new(context: &Arc<BfvContext>, secret: &'a SecretKey) -> Result<Self, Error> {
        let core = bgv::Decryptor::new(context.exact(), secret)?;
        Ok(Self { core })
    }

    /// The slots of a ciphertext of any number of parts, in [-t/2, t/2]; exact as long as
    /// [`Decryptor::noise_budget`] is above 0.
    ///
    /// # Errors
    /// [`Error::KeyMismatch`] for a ciphertext under another key, [`Error::ParameterMismatch`].
    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Vec<i64>, Error> {
        self.core.decrypt(&ciphertext.exact)
    }

    /// log2(Q / (2t)) less log2 of the largest coefficient of phase - (Q/t) m: the bits that noise
    /// may still grow by.
    ///
    /// # Errors
    /// As [`Decryptor::decrypt`].
    pub fn noise_budget(&self, ciphertext: &Ciphertext) -> Result<f64, Error> {
        self.core.noise_budget(&ciphertext.exact)
    }
}
