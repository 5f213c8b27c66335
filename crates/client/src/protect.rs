//! The model owner: makes the keys of a private model and encrypts its weights.

use std::sync::Arc;

use rand_core::CryptoRng;
use scuro_fhe::AnyContext;
use scuro_fhe::owner::SecretKey;
use scuro_program::{EXACT_WEIGHT_BITS_LEFT_OUT, Program, Weights};

use crate::bundle::{Bundle, BundleKind};
use crate::error::Error;
use crate::model::Model;
use crate::owner;
use crate::scheme::{self, Encoder};
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

/// The weights of `program`, of which `model` is the published copy, under `secret`.
fn encrypt_weights(
    program: &Program,
    model: &Model,
    secret: &Arc<SecretKey>,
    rng: &mut impl CryptoRng,
) -> Result<Bundle, Error> {
    if program.weights != Weights::Private {
        return Err(Error::NotPrivate);
    }
    let scheme = model.scheme();
    let left_out = match scheme {
        AnyContext::Approximate(_) => 0,
        AnyContext::Exact(_) => EXACT_WEIGHT_BITS_LEFT_OUT,
    };
    let encoder = Encoder::new(scheme);
    let primes = model.context().parameters().q();
    let places = program.weight_places(primes, scheme::plain_modulus(scheme))?;
    let mut ciphertexts = Vec::with_capacity(places.len());
    for place in &places {
        let slots = program.weight_slots(place);
        let plain = encoder.encode(&slots, place.level as usize, place.scale, place.factor)?;
        ciphertexts.push(owner::seal(&plain, left_out, scheme, secret, rng)?);
    }
    Ok(Bundle {
        kind: BundleKind::Weights,
        program: model.digest(),
        images: 1,
        group: ciphertexts.len() as u32,
        ciphertexts,
    })
}
