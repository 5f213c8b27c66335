//! Slots to ciphertexts, whichever scheme the program uses. Nothing here can name a secret key.

use rand_core::CryptoRng;
use scuro_fhe::bgv::{self, BgvContext};
use scuro_fhe::keys::PublicKey;
use scuro_fhe::{AnyCiphertext, AnyContext, ckks};

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
    /// Encrypts under the public key.
    pub(crate) fn encrypt(
        &self,
        scheme: &AnyContext,
        public: &PublicKey,
        rng: &mut impl CryptoRng,
    ) -> Result<AnyCiphertext, Error> {
        match (self, scheme) {
            (Self::Approximate(plain), AnyContext::Approximate(context)) => {
                Ok(public.encrypt(context, plain, rng)?.into())
            }
            (Self::Exact(plain), AnyContext::Exact(context)) => {
                Ok(public.encrypt_exact(context, plain, rng)?.into())
            }
            _ => Err(Error::WrongScheme),
        }
    }
}

/// The plaintext prime of an exact scheme.
pub(crate) fn plain_modulus(scheme: &AnyContext) -> Option<u64> {
    match scheme {
        AnyContext::Approximate(_) => None,
        AnyContext::Exact(context) => Some(BgvContext::plain_modulus(context).value()),
    }
}
