//! Encryption, decryption and noise measurement for [`crate::bgv`].

use std::sync::Arc;

use rand_core::CryptoRng;
use scuro_polyring::{Ntt, Poly};

use super::SecretKey;
use crate::bgv::{BgvContext, Ciphertext, Encoder, Plaintext, SeededCiphertext};
use crate::error::Error;

/// Encrypts integers for the owner of a secret key.
#[derive(Debug)]
pub struct Encryptor<'a> {
    context: Arc<BgvContext>,
    core: super::Encryptor<'a>,
}

impl<'a> Encryptor<'a> {
    /// An encryptor for `secret`.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn new(context: &Arc<BgvContext>, secret: &'a SecretKey) -> Result<Self, Error> {
        Ok(Self {
            context: Arc::clone(context),
            core: super::Encryptor::new(context.context(), secret)?,
        })
    }

    /// Encrypts under a seed drawn for this ciphertext alone.
    ///
    /// Math:  c_0 = -a s + e + t^-1 m, a from the seed
    /// Noise: [`crate::bgv::NoiseModel::fresh_secret`]
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn encrypt(
        &self,
        plaintext: &Plaintext,
        rng: &mut impl CryptoRng,
    ) -> Result<SeededCiphertext, Error> {
        self.context.check_digest(plaintext.digest)?;
        Ok(SeededCiphertext {
            rlwe: self.core.encrypt(&plaintext.divided(&self.context), rng)?,
            factor: plaintext.factor,
            digest: plaintext.digest,
        })
    }
}

/// Decrypts integers with a secret key.
#[derive(Debug)]
pub struct Decryptor<'a> {
    pub(super) context: Arc<BgvContext>,
    pub(super) encoder: Encoder,
    pub(super) core: super::Decryptor<'a>,
}

impl<'a> Decryptor<'a> {
    /// A decryptor for `secret`.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn new(context: &Arc<BgvContext>, secret: &'a SecretKey) -> Result<Self, Error> {
        Ok(Self {
            context: Arc::clone(context),
            encoder: Encoder::new(context),
            core: super::Decryptor::new(context.context(), secret)?,
        })
    }

    /// The slots of a ciphertext of any number of parts, in [-t/2, t/2]; exact as long as
    /// [`Decryptor::noise_budget`] is above 0.
    ///
    /// Timing: independent of key and message
    ///
    /// # Errors
    /// [`Error::KeyMismatch`] for a ciphertext under another key, [`Error::ParameterMismatch`].
    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Vec<i64>, Error> {
        self.slots(ciphertext, self.phase(ciphertext)?)
    }

    /// What [`Decryptor::decrypt`] and [`Decryptor::noise_budget`] give, for little more than the
    /// time of one.
    ///
    /// # Errors
    /// As [`Decryptor::decrypt`].
    pub fn decrypt_measured(&self, ciphertext: &Ciphertext) -> Result<(Vec<i64>, f64), Error> {
        let phase = self.phase(ciphertext)?;
        let budget = self.budget(ciphertext, phase.clone());
        Ok((self.slots(ciphertext, phase)?, budget))
    }

    /// log2(Q/2) less log2 of the largest coefficient of factor * message + t * error: the bits
    /// that noise may still grow by.
    ///
    /// # Errors
    /// As [`Decryptor::decrypt`].
    pub fn noise_budget(&self, ciphertext: &Ciphertext) -> Result<f64, Error> {
        Ok(self.budget(ciphertext, self.phase(ciphertext)?))
    }

    fn slots(&self, ciphertext: &Ciphertext, phase: Poly<Ntt>) -> Result<Vec<i64>, Error> {
        let row = self.context.residues(phase, ciphertext.level());
        self.encoder.slots_of(row, ciphertext.factor)
    }

    fn budget(&self, ciphertext: &Ciphertext, phase: Poly<Ntt>) -> f64 {
        let core = self.context.context();
        let coefficients = crate::ckks::centred_coefficients(core, phase);
        let largest = coefficients.iter().fold(1.0f64, |max, x| max.max(x.abs()));
        core.parameters().log_q(ciphertext.level()) - 1.0 - largest.log2()
    }

    /// factor * message + t * error.
    fn phase(&self, ciphertext: &Ciphertext) -> Result<Poly<Ntt>, Error> {
        self.context.check_digest(ciphertext.digest)?;
        let mut phase = self.core.decrypt(&ciphertext.rlwe)?.poly;
        self.context.multiply(&mut phase);
        Ok(phase)
    }
}
