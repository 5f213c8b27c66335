//! Slots to ciphertexts and back, whichever scheme the program uses.

use std::sync::Arc;

use rand_core::CryptoRng;
use scuro_fhe::bgv::{self, BgvContext};
use scuro_fhe::keys::PublicKey;
use scuro_fhe::owner::{Decryptor, Encryptor, SecretKey, bgv as exact_owner};
use scuro_fhe::{AnyCiphertext, AnyContext, Context, ckks};

use crate::error::Error;

/// Encodes slots in the scheme of a program.
#[derive(Debug, Clone)]
pub(crate) enum Encoder {
    /// Real numbers.
    Approximate(ckks::Encoder),
    /// Fixed-point numbers as integers.
    Exact(bgv::Encoder),
}

/// Encoded slots.
pub(crate) enum Plaintext {
    /// Real numbers.
    Approximate(ckks::Plaintext),
    /// Integers.
    Exact(bgv::Plaintext),
}

impl Encoder {
    /// An encoder of the scheme.
    pub(crate) fn new(scheme: &AnyContext) -> Self {
        match scheme {
            AnyContext::Approximate(context) => Self::Approximate(ckks::Encoder::new(context)),
            AnyContext::Exact(context) => Self::Exact(bgv::Encoder::new(context)),
        }
    }

    /// Encodes slots at a level and a scale; exact ones as integers times a factor.
    pub(crate) fn encode(
        &self,
        slots: &[f64],
        level: usize,
        scale: f64,
        factor: u64,
    ) -> Result<Plaintext, Error> {
        Ok(match self {
            Self::Approximate(encoder) => {
                Plaintext::Approximate(encoder.encode(slots, level, scale)?)
            }
            Self::Exact(encoder) => {
                let integer = |value: &f64| (value * scale).round() as i64;
                let integers: Vec<i64> = slots.iter().map(integer).collect();
                Plaintext::Exact(encoder.encode_with_factor(&integers, level, factor)?)
            }
        })
    }
}

impl Plaintext {
    /// Encrypts under the secret key: seeded, half the size.
    pub(crate) fn seal(
        &self,
        scheme: &AnyContext,
        secret: &SecretKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Error> {
        match (self, scheme) {
            (Self::Approximate(plain), AnyContext::Approximate(context)) => {
                let encryptor = Encryptor::new(context, secret)?;
                Ok(encryptor.encrypt(plain, rng)?.to_bytes(context))
            }
            (Self::Exact(plain), AnyContext::Exact(context)) => {
                let encryptor = exact_owner::Encryptor::new(context, secret)?;
                Ok(encryptor.encrypt(plain, rng)?.to_bytes(context))
            }
            _ => Err(Error::WrongScheme),
        }
    }

    /// Encrypts under the public key.
    pub(crate) fn seal_public(
        &self,
        scheme: &AnyContext,
        public: &PublicKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Error> {
        match (self, scheme) {
            (Self::Approximate(plain), AnyContext::Approximate(context)) => {
                Ok(public.encrypt(context, plain, rng)?.to_bytes(context))
            }
            (Self::Exact(plain), AnyContext::Exact(context)) => {
                Ok(public.encrypt_exact(context, plain, rng)?.to_bytes(context))
            }
            _ => Err(Error::WrongScheme),
        }
    }
}

/// The slots of a ciphertext; those of an exact one divided by `scale`.
pub(crate) fn reveal(
    scheme: &AnyContext,
    secret: &SecretKey,
    ciphertext: &AnyCiphertext,
    scale: f64,
) -> Result<Vec<f64>, Error> {
    match (ciphertext, scheme) {
        (AnyCiphertext::Approximate(ciphertext), AnyContext::Approximate(context)) => {
            let decryptor = Decryptor::new(context, secret)?;
            Ok(ckks::Encoder::new(context).decode(&decryptor.decrypt(ciphertext)?)?)
        }
        (AnyCiphertext::Exact(ciphertext), AnyContext::Exact(context)) => {
            let decryptor = exact_owner::Decryptor::new(context, secret)?;
            let integers = decryptor.decrypt(ciphertext)?;
            Ok(integers.into_iter().map(|v| v as f64 / scale).collect())
        }
        _ => Err(Error::WrongScheme),
    }
}

/// Bits that the noise of a ciphertext may still grow by before it cannot be decrypted.
pub(crate) fn noise_budget(
    scheme: &AnyContext,
    secret: &SecretKey,
    ciphertext: &AnyCiphertext,
) -> Result<Option<f64>, Error> {
    match (ciphertext, scheme) {
        (AnyCiphertext::Exact(ciphertext), AnyContext::Exact(context)) => {
            let decryptor = exact_owner::Decryptor::new(context, secret)?;
            Ok(Some(decryptor.noise_budget(ciphertext)?))
        }
        // Approximate numbers have no budget that runs out; their noise shows in the values.
        _ => Ok(None),
    }
}

/// Whether a key belongs to the parameters.
pub(crate) fn check_key(context: &Arc<Context>, secret: &SecretKey) -> Result<(), Error> {
    Decryptor::new(context, secret)?;
    Ok(())
}

/// The plaintext prime of an exact scheme.
pub(crate) fn plain_modulus(scheme: &AnyContext) -> Option<u64> {
    match scheme {
        AnyContext::Approximate(_) => None,
        AnyContext::Exact(context) => Some(BgvContext::plain_modulus(context).value()),
    }
}
