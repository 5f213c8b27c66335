//! The model owner: encrypts the weights of a private model, under keys made for it or for the
//! user of an ensemble, who has keys.

use std::sync::Arc;

use rand_core::CryptoRng;
use scuro_fhe::AnyContext;
use scuro_fhe::keys::PublicKey;
use scuro_fhe::owner::SecretKey;
use scuro_program::{EXACT_WEIGHT_BITS_LEFT_OUT, Program, Weights};

use crate::bundle::{Bundle, BundleKind};
use crate::error::Error;
use crate::model::Model;
use crate::owner;
use crate::scheme::{self, Encoder, Plaintext};
use crate::session::KeySet;

/// A private model, ready for machines that must not learn it.
#[derive(Debug)]
pub struct Protected {
    /// The program without its weights.
    pub model: Model,
    /// Its weights, encrypted under the secret key.
    pub weights: Bundle,
    /// The keys; all but the secret one go with the model.
    pub keys: KeySet,
}

impl Protected {
    /// Makes keys for a private program and encrypts its weights under them: seeded ciphertexts of
    /// the secret key, each at the level and scale at which the program reads it.
    ///
    /// # Errors
    /// [`Error::NotPrivate`] unless the program was compiled with private weights; [`Error::Fhe`]
    /// for parameters or weights that cannot be.
    pub fn new(program: &Program, rng: &mut impl CryptoRng) -> Result<Self, Error> {
        let model = Model::new(program.published())?;
        let keys = KeySet::generate(&model, rng)?;
        let weights = encrypt_weights(program, &model, &keys.secret, rng)?;
        Ok(Self {
            model,
            weights,
            keys,
        })
    }
}

/// A program of an ensemble without its weights, and those under the public key of a user who
/// decrypts what is computed with them. Twice the size of [`Protected::weights`]: nothing of them
/// is a seed.
///
/// # Errors
/// As [`Protected::new`]; [`Error::Fhe`] also for a key of other parameters.
pub fn protect_for_user(
    program: &Program,
    public: &PublicKey,
    rng: &mut impl CryptoRng,
) -> Result<(Model, Bundle), Error> {
    let model = Model::new(program.published_to_ensemble())?;
    let scheme = model.scheme();
    let weights = seal_weights(program, &model, |plain| {
        Ok(plain.encrypt(scheme, public, rng)?.to_bytes(scheme)?)
    })?;
    Ok((model, weights))
}

/// The weights of `program`, of which `model` is the published copy, under `secret`.
fn encrypt_weights(
    program: &Program,
    model: &Model,
    secret: &Arc<SecretKey>,
    rng: &mut impl CryptoRng,
) -> Result<Bundle, Error> {
    let scheme = model.scheme();
    let left_out = match scheme {
        AnyContext::Approximate(_) => 0,
        AnyContext::Exact(_) => EXACT_WEIGHT_BITS_LEFT_OUT,
    };
    let seal = |plain: &Plaintext| owner::seal(plain, left_out, scheme, secret, rng);
    seal_weights(program, model, seal)
}

/// The weights of `program`, of which `model` is the published copy, each encrypted by `seal`.
fn seal_weights(
    program: &Program,
    model: &Model,
    mut seal: impl FnMut(&Plaintext) -> Result<Vec<u8>, Error>,
) -> Result<Bundle, Error> {
    if program.weights != Weights::Private {
        return Err(Error::NotPrivate);
    }
    let scheme = model.scheme();
    let encoder = Encoder::new(scheme);
    let primes = model.context().parameters().q();
    let places = program.weight_places(primes, scheme::plain_modulus(scheme))?;
    let mut ciphertexts = Vec::with_capacity(places.len());
    for place in &places {
        let slots = program.weight_slots(place);
        let plain = encoder.encode(&slots, place.level as usize, place.scale, place.factor)?;
        ciphertexts.push(seal(&plain)?);
    }
    Ok(Bundle {
        kind: BundleKind::Weights,
        program: model.digest(),
        images: 1,
        group: ciphertexts.len() as u32,
        ciphertexts,
    })
}
