//! The key holder: makes keys, encrypts, decrypts.

use std::sync::Arc;

use rand_core::CryptoRng;
use scuro_fhe::keys::{EvaluationKeys, PublicKey};
use scuro_fhe::owner::{KeyGenerator, SecretKey};
use scuro_fhe::{AnyCiphertext, AnyCompactCiphertext};

use crate::bundle::{Bundle, BundleKind};
use crate::compact::LEAST_BUDGET;
use crate::encoding::{images_per_run, scatter};
use crate::error::Error;
use crate::model::Model;
use crate::owner::{self, Opened};
use crate::prediction::Prediction;
use crate::public::{encode, query};
use crate::scheme::Encoder;

/// Fresh keys for a model.
#[derive(Debug)]
pub struct KeySet {
    /// Decrypts: never leaves the key holder.
    pub secret: Arc<SecretKey>,
    /// For the evaluator.
    pub evaluation: EvaluationKeys,
    /// For data owners without the secret key.
    pub public: PublicKey,
}

impl KeySet {
    /// Makes the keys that `model` needs.
    ///
    /// # Errors
    /// [`Error::Fhe`] if the program asks for keys that cannot be.
    pub fn generate(model: &Model, rng: &mut impl CryptoRng) -> Result<Self, Error> {
        let secret = SecretKey::generate(model.context(), rng);
        let generator = KeyGenerator::new(model.context(), &secret)?;
        let evaluation = generator.evaluation_keys(&model.key_manifest(), rng)?;
        let public = generator.public_key(rng);
        Ok(Self {
            secret: Arc::new(secret),
            evaluation,
            public,
        })
    }
}

/// Encrypts and decrypts with the secret key.
#[derive(Debug)]
pub struct Client {
    model: Model,
    secret: Arc<SecretKey>,
    encoder: Encoder,
}

impl Client {
    /// A client of `model` that holds `secret`.
    ///
    /// # Errors
    /// [`Error::Fhe`] if the key was made under other parameters.
    pub fn new(model: &Model, secret: Arc<SecretKey>) -> Result<Self, Error> {
        owner::check_key(model.context(), &secret)?;
        Ok(Self {
            model: model.clone(),
            secret,
            encoder: Encoder::new(model.scheme()),
        })
    }

    /// A client of another model under the same key, to read its replies: what a coordinator makes
    /// of the replies of several models is one.
    ///
    /// # Errors
    /// [`Error::Fhe`] if the other model has other parameters.
    pub fn with_model(&self, model: &Model) -> Result<Self, Error> {
        Self::new(model, Arc::clone(&self.secret))
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Encrypts images into one query; ciphertexts are seeded, so they are half as large.
    ///
    /// # Errors
    /// As [`crate::gather`], or [`Error::Fhe`].
    pub fn encrypt(&self, images: &[&[f32]], rng: &mut impl CryptoRng) -> Result<Bundle, Error> {
        let seal = |slots: &[f64], rng: &mut _| {
            let plain = encode(&self.model, &self.encoder, slots)?;
            owner::seal(&plain, 0, self.model.scheme(), &self.secret, rng)
        };
        query(&self.model, images, rng, seal)
    }

    /// Decrypts a reply: one prediction an image.
    ///
    /// # Errors
    /// [`Error::WrongKind`], [`Error::WrongProgram`], or [`Error::Fhe`]: above all a reply under
    /// another key.
    pub fn decrypt(&self, reply: &Bundle) -> Result<Vec<Prediction>, Error> {
        self.model.check(reply, BundleKind::Reply)?;
        let program = self.model.program();
        let per_run = images_per_run(program);
        let mut predictions = Vec::new();
        let mut left = reply.images as usize;
        for run in reply.runs() {
            let images = left.min(per_run);
            left -= images;
            let (slots, broken) = self.decrypt_run(run)?;
            let answer = |scores: Vec<f64>| Prediction {
                overflowed: broken || self.model.out_of_range(&scores),
                ..Prediction::from_scores(scores)
            };
            let scores = scatter(program, &slots, images)?;
            predictions.extend(scores.into_iter().map(answer));
        }
        if left > 0 {
            return Err(Error::ImagesMissing {
                found: predictions.len(),
                expected: predictions.len() + left,
            });
        }
        Ok(predictions)
    }

    /// Slots of any ciphertext under this key, for measuring noise inside a program; those of an
    /// exact program are divided by `scale`.
    ///
    /// # Errors
    /// [`Error::Fhe`] for a ciphertext under another key.
    pub fn reveal(&self, ciphertext: &AnyCiphertext, scale: f64) -> Result<Vec<f64>, Error> {
        let scheme = self.model.scheme();
        Ok(owner::open(scheme, &self.secret, ciphertext, scale, None)?.slots)
    }

    /// Bits that the noise of an exact program's ciphertext may still grow by; nothing for an
    /// approximate one. Depends on the secret key: for the key holder only.
    ///
    /// # Errors
    /// [`Error::Fhe`] for a ciphertext under another key.
    pub fn noise_budget(&self, ciphertext: &AnyCiphertext) -> Result<Option<f64>, Error> {
        owner::noise_budget(self.model.scheme(), &self.secret, ciphertext)
    }

    /// The slots of a run's reply, and whether they mean nothing.
    fn decrypt_run(&self, run: &[Vec<u8>]) -> Result<(Vec<Vec<f64>>, bool), Error> {
        let (mut all, mut broken) = (Vec::new(), false);
        for bytes in run {
            let opened = self.open(bytes)?;
            broken |= opened.is_broken(self.least_budget());
            all.push(opened.slots);
        }
        Ok((all, broken))
    }

    /// Decrypts a ciphertext of a reply, compact or whole.
    fn open(&self, bytes: &[u8]) -> Result<Opened, Error> {
        let (scheme, scale) = (self.model.scheme(), self.model.reply_scale());
        if AnyCompactCiphertext::is_one(bytes).map_err(scuro_fhe::Error::from)? {
            let compact = AnyCompactCiphertext::from_bytes(bytes, scheme)?;
            return owner::open_compact(scheme, &self.secret, &compact, scale);
        }
        let whole = AnyCiphertext::from_bytes(bytes, scheme)?;
        owner::open(scheme, &self.secret, &whole, scale, self.model.traced())
    }

    /// What is left of the noise budget of a reply that can be believed. Noise that wrapped modulo
    /// Q is all over it and leaves next to nothing, and so does noise that floods a reply.
    fn least_budget(&self) -> f64 {
        match self.model.program().flood() {
            Some(_) => 0.0,
            None => LEAST_BUDGET,
        }
    }
}
