//! What takes the secret key, whichever scheme the program uses.

use std::sync::Arc;

use rand_core::CryptoRng;
use scuro_fhe::owner::{Decryptor, Encryptor, SecretKey, bgv};
use scuro_fhe::{AnyCiphertext, AnyCompactCiphertext, AnyContext, Context, ckks};

use crate::error::Error;
use crate::scheme::Plaintext;

/// Encrypts under the secret key: seeded, half the size, and `left_out` bits a coefficient less.
pub(crate) fn seal(
    plain: &Plaintext,
    left_out: u32,
    scheme: &AnyContext,
    secret: &SecretKey,
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, Error> {
    match (plain, scheme) {
        (Plaintext::Approximate(plain), AnyContext::Approximate(context)) => {
            let encryptor = Encryptor::new(context, secret)?;
            let sealed = encryptor.encrypt(plain, rng)?;
            Ok(sealed.leaving_out(context, left_out)?.to_bytes(context))
        }
        (Plaintext::Exact(plain), AnyContext::Exact(context)) => {
            let encryptor = bgv::Encryptor::new(context, secret)?;
            let sealed = encryptor.encrypt(plain, rng)?;
            Ok(sealed.leaving_out(context, left_out)?.to_bytes(context))
        }
        _ => Err(Error::WrongScheme),
    }
}

/// What a ciphertext decrypts to.
pub(crate) struct Opened {
    /// Its slots; those of an exact one divided by their scale.
    pub(crate) slots: Vec<f64>,
    measure: Measure,
}

/// What tells whether a decryption means anything.
enum Measure {
    /// As [`noise_budget`] says.
    Budget(f64),
    /// Half of the modulus in units of the slots: those of a message that fits are below. One that
    /// does not comes out as coefficients all over the modulus, and few slots stay below then.
    Limit(f64),
}

impl Opened {
    /// Whether the slots mean nothing; a noise budget has to be `least_budget`.
    pub(crate) fn is_broken(&self, least_budget: f64) -> bool {
        match self.measure {
            Measure::Budget(budget) => budget < least_budget,
            // Not written as `>`: a NaN means nothing as well.
            Measure::Limit(limit) => !self.slots.iter().all(|slot| slot.abs() <= limit),
        }
    }

    fn exact(integers: Vec<i64>, budget: f64, scale: f64) -> Self {
        Self {
            slots: integers.into_iter().map(|v| v as f64 / scale).collect(),
            measure: Measure::Budget(budget),
        }
    }
}

/// Decrypts a ciphertext; the slots of an exact one are divided by `scale`, and of a traced one
/// only what it keeps is read.
pub(crate) fn open(
    scheme: &AnyContext,
    secret: &SecretKey,
    ciphertext: &AnyCiphertext,
    scale: f64,
    traced: Option<usize>,
) -> Result<Opened, Error> {
    match (ciphertext, scheme) {
        (AnyCiphertext::Approximate(ciphertext), AnyContext::Approximate(context)) => {
            let decryptor = Decryptor::new(context, secret)?;
            let plain = decryptor.decrypt(ciphertext)?;
            let plain = match traced {
                Some(period) => plain.trace(context, period)?,
                None => plain,
            };
            let slots = ckks::Encoder::new(context).decode(&plain)?;
            let log_q = context.parameters().log_q(ciphertext.level());
            let measure = Measure::Limit((log_q - 1.0).exp2() / ciphertext.scale());
            Ok(Opened { slots, measure })
        }
        (AnyCiphertext::Exact(ciphertext), AnyContext::Exact(context)) => {
            let decryptor = bgv::Decryptor::new(context, secret)?;
            let (integers, budget) = decryptor.decrypt_measured(ciphertext)?;
            Ok(Opened::exact(integers, budget, scale))
        }
        _ => Err(Error::WrongScheme),
    }
}

/// Decrypts a compact ciphertext; the slots of an exact one are divided by `scale`.
pub(crate) fn open_compact(
    scheme: &AnyContext,
    secret: &SecretKey,
    ciphertext: &AnyCompactCiphertext,
    scale: f64,
) -> Result<Opened, Error> {
    match (ciphertext, scheme) {
        (AnyCompactCiphertext::Approximate(ciphertext), AnyContext::Approximate(context)) => {
            let slots = Decryptor::new(context, secret)?.decrypt_compact(ciphertext)?;
            let measure = Measure::Limit(ciphertext.largest_value());
            Ok(Opened { slots, measure })
        }
        (AnyCompactCiphertext::Exact(ciphertext), AnyContext::Exact(context)) => {
            let decryptor = bgv::Decryptor::new(context, secret)?;
            let (integers, budget) = decryptor.decrypt_compact_measured(ciphertext)?;
            Ok(Opened::exact(integers, budget, scale))
        }
        _ => Err(Error::WrongScheme),
    }
}

/// Bits that the noise of an exact ciphertext may still grow by before it cannot be decrypted.
/// Approximate numbers have no budget that runs out; their noise shows in the values.
pub(crate) fn noise_budget(
    scheme: &AnyContext,
    secret: &SecretKey,
    ciphertext: &AnyCiphertext,
) -> Result<Option<f64>, Error> {
    match (ciphertext, scheme) {
        (AnyCiphertext::Exact(ciphertext), AnyContext::Exact(context)) => {
            let decryptor = bgv::Decryptor::new(context, secret)?;
            Ok(Some(decryptor.noise_budget(ciphertext)?))
        }
        _ => Ok(None),
    }
}

/// Whether a key belongs to the parameters.
pub(crate) fn check_key(context: &Arc<Context>, secret: &SecretKey) -> Result<(), Error> {
    Decryptor::new(context, secret)?;
    Ok(())
}
