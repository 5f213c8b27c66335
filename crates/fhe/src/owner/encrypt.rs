//! Encryption under the secret key.

use std::sync::Arc;

use rand_core::CryptoRng;
use scuro_polyring::sampling::gaussian;
use scuro_polyring::{Basis, Ntt, Poly};
use zeroize::Zeroizing;

use super::SecretKey;
use crate::ckks::{Plaintext, SeededCiphertext, ciphertext_mask};
use crate::context::Context;
use crate::error::Error;
use crate::rlwe::seed;

/// Encrypts for the owner of a secret key: less noise and half the size of public-key encryption.
#[derive(Debug)]
pub struct Encryptor<'a> {
    context: Arc<Context>,
    secret: &'a SecretKey,
}

impl<'a> Encryptor<'a> {
    /// An encryptor for `secret`.
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

    /// Encrypts under a seed drawn for this ciphertext alone.
    ///
    /// Math:  c_0 = -a s + e + m, a from the seed
    /// Noise: [`crate::noise::NoiseModel::fresh_secret`]
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn encrypt(
        &self,
        plaintext: &Plaintext,
        rng: &mut impl CryptoRng,
    ) -> Result<SeededCiphertext, Error> {
        let context = &*self.context;
        context.check_digest(plaintext.digest)?;
        let seed = seed::draw(rng);
        let mask = ciphertext_mask(context, &seed, plaintext.level);
        let mut body = noise(context, context.basis(plaintext.level), rng);
        body.add_assign(context.ring(), &plaintext.poly);
        subtract_product(context, &mut body, &mask, self.secret);
        Ok(SeededCiphertext {
            body,
            left_out: 0,
            seed,
            level: plaintext.level,
            scale: plaintext.scale,
            key_id: self.secret.key_id,
            digest: plaintext.digest,
        })
    }
}

/// A fresh Gaussian error.
pub(crate) fn noise(context: &Context, basis: Basis, rng: &mut impl CryptoRng) -> Poly<Ntt> {
    let ring = context.ring();
    let mut small = Zeroizing::new(vec![0i8; ring.degree()]);
    gaussian(rng, ring.kernel(), &mut small);
    Poly::from_small(ring, basis, &small).into_ntt(ring)
}

/// body -= mask s.
fn subtract_product(context: &Context, body: &mut Poly<Ntt>, mask: &Poly<Ntt>, secret: &SecretKey) {
    let ring = context.ring();
    body.neg_assign(ring);
    secret.mul_add(context, body, mask);
    body.neg_assign(ring);
}
