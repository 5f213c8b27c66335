//! What takes the secret key, whichever scheme the program uses.

use std::sync::Arc;

use rand_core::CryptoRng;
use scuro_fhe::owner::{Decryptor, Encryptor, SecretKey, bgv};
use scuro_fhe::{AnyCiphertext, AnyContext, Context, ckks};

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
    /// As [`noise_budget`] says.
    pub(crate) budget: Option<f64>,
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
            let budget = None;
            Ok(Opened { slots, budget })
        }
        (AnyCiphertext::Exact(ciphertext), AnyContext::Exact(context)) => {
            let decryptor = bgv::Decryptor::new(context, secret)?;
            let (integers, budget) = decryptor.decrypt_measured(ciphertext)?;
            let slots = integers.into_iter().map(|v| v as f64 / scale).collect();
            let budget = Some(budget);
            Ok(Opened { slots, budget })
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
