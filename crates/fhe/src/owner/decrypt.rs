//! Decryption and measurement of noise.

use std::sync::Arc;

use super::SecretKey;
use crate::ckks::{Ciphertext, Encoder, Plaintext};
use crate::context::Context;
use crate::error::Error;

/// Decrypts with a secret key.
#[derive(Debug)]
pub struct Decryptor<'a> {
    pub(super) context: Arc<Context>,
    pub(super) secret: &'a SecretKey,
}

/// Noise of one ciphertext, for its owner only: it depends on the secret key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseReport {
    /// log2 of the largest error of a slot, in units of the scaled message.
    pub noise_bits: f64,
    /// Largest error of a slot in units of the values.
    pub error: f64,
    /// Standard deviation of the slots' errors in units of the scaled message.
    pub noise_std: f64,
    /// log2(Q/2) less log2 of the largest coefficient of message and error: bits left before
    /// overflow.
    pub headroom_bits: f64,
}

impl<'a> Decryptor<'a> {
    /// A decryptor for `secret`.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn new(context: &Arc<Context>, secret: &'a SecretKey) -> Result<Self, Error> {
        secret.check(context)?;
        Ok(Self {
            context: Arc::clone(context),
            secret,
        })
    }

    /// Decrypts a ciphertext of any number of parts.
    ///
    /// Math:  m = c_0 + c_1 s + c_2 s^2 (Horner)
    ///
    /// # Errors
    /// [`Error::KeyMismatch`] if it was made under another key, [`Error::ParameterMismatch`].
    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Plaintext, Error> {
        let context = &*self.context;
        context.check_digest(ciphertext.digest)?;
        ciphertext.check_key(self.secret.key_id)?;
        let mut parts = ciphertext.parts.iter().rev();
        let Some(mut sum) = parts.next().cloned() else {
            return Err(Error::PartCount {
                found: 0,
                expected: 2,
            });
        };
        for part in parts {
            let mut next = part.clone();
            self.secret.mul_add(context, &mut next, &sum);
            sum = next;
        }
        Ok(Plaintext {
            poly: sum,
            level: ciphertext.level,
            scale: ciphertext.scale,
            digest: ciphertext.digest,
        })
    }

    /// Decrypts and compares with the values that the ciphertext should hold.
    ///
    /// # Errors
    /// As [`Decryptor::decrypt`]; [`Error::LengthMismatch`] unless there is a value for every slot.
    pub fn noise(&self, ciphertext: &Ciphertext, expected: &[f64]) -> Result<NoiseReport, Error> {
        let slots = self.context.parameters().slots();
        if expected.len() != slots {
            let found = expected.len();
            return Err(Error::LengthMismatch {
                what: "expected values",
                found,
                expected: slots,
            });
        }
        let plaintext = self.decrypt(ciphertext)?;
        let headroom_bits = self.headroom(&plaintext);
        let found = Encoder::new(&self.context).decode(&plaintext)?;
        let errors = found
            .iter()
            .zip(expected)
            .map(|(found, expected)| (found - expected).abs());
        let (error, squares) = errors.fold((0.0f64, 0.0), |(max, sum), error| {
            (max.max(error), sum + error * error)
        });
        let scaled = error * ciphertext.scale;
        Ok(NoiseReport {
            noise_bits: scaled.max(1.0).log2(),
            error,
            noise_std: (squares / slots as f64).sqrt() * ciphertext.scale,
            headroom_bits,
        })
    }

    /// log2(Q/2) less log2 of the largest coefficient of message and error: the bits that a
    /// ciphertext may still grow by before it overflows. Needs no knowledge of the message.
    ///
    /// # Errors
    /// As [`Decryptor::decrypt`].
    pub fn headroom_bits(&self, ciphertext: &Ciphertext) -> Result<f64, Error> {
        Ok(self.headroom(&self.decrypt(ciphertext)?))
    }

    fn headroom(&self, plaintext: &Plaintext) -> f64 {
        let coefficients = crate::ckks::centred_coefficients(&self.context, plaintext.poly.clone());
        let largest = coefficients.iter().fold(1.0f64, |max, x| max.max(x.abs()));
        self.context.parameters().log_q(plaintext.level) - 1.0 - largest.log2()
    }
}
