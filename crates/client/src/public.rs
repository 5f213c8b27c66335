//! Encryption without the secret key. Nothing here can name one: a device that the vendor does not
//! trust uses this module and [`crate::model`] alone.

use rand_core::CryptoRng;
use scuro_fhe::AnyCiphertext;
use scuro_fhe::keys::PublicKey;

use crate::bundle::{Bundle, BundleKind};
use crate::encoding::{check_image, gather, images_per_run};
use crate::error::Error;
use crate::model::Model;
use crate::scheme::{Encoder, Plaintext};

/// Encrypts with the public key; cannot decrypt.
#[derive(Debug)]
pub struct PublicClient {
    model: Model,
    public: PublicKey,
    encoder: Encoder,
}

impl PublicClient {
    /// A client of `model` that holds the public key only.
    pub fn new(model: &Model, public: PublicKey) -> Self {
        Self {
            model: model.clone(),
            public,
            encoder: Encoder::new(model.scheme()),
        }
    }

    /// Encrypts images into one query.
    ///
    /// # Errors
    /// As [`gather`], or [`Error::Fhe`].
    pub fn encrypt(&self, images: &[&[f32]], rng: &mut impl CryptoRng) -> Result<Bundle, Error> {
        let seal = |slots: &[f64], rng: &mut _| {
            let plain = encode(&self.model, &self.encoder, slots)?;
            let scheme = self.model.scheme();
            Ok(plain.encrypt(scheme, &self.public, rng)?.to_bytes(scheme)?)
        };
        query(&self.model, images, rng, seal)
    }

    /// Whether an image can be encrypted, alone or with others.
    ///
    /// # Errors
    /// [`Error::ImageShape`], [`Error::ImageNotFinite`], [`Error::ImageOutOfRange`].
    pub fn check(&self, image: &[f32]) -> Result<(), Error> {
        check_image(&self.model.program().input, 0, image)
    }

    /// Encrypts the images of one run into its ciphertexts, for an evaluator in the same process.
    ///
    /// # Errors
    /// As [`gather`], or [`Error::Fhe`].
    pub fn encrypt_run(
        &self,
        images: &[&[f32]],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<AnyCiphertext>, Error> {
        let seal = |slots: Vec<f64>| {
            let plain = encode(&self.model, &self.encoder, &slots)?;
            plain.encrypt(self.model.scheme(), &self.public, rng)
        };
        gather(self.model.program(), images)?
            .into_iter()
            .map(seal)
            .collect()
    }
}

/// Slots as the plaintext that a query of `model` starts with.
pub(crate) fn encode(model: &Model, encoder: &Encoder, slots: &[f64]) -> Result<Plaintext, Error> {
    let program = model.program();
    let level = program.input.level as usize;
    let (scale, factor) = (program.input.scale_log2.exp2(), model.query_factor());
    encoder.encode(slots, level, scale, factor)
}

/// Encodes the images run by run and has each ciphertext made by `seal`.
pub(crate) fn query<R: CryptoRng>(
    model: &Model,
    images: &[&[f32]],
    rng: &mut R,
    seal: impl Fn(&[f64], &mut R) -> Result<Vec<u8>, Error>,
) -> Result<Bundle, Error> {
    let program = model.program();
    let mut ciphertexts = Vec::new();
    if images.is_empty() {
        return Err(Error::NoImages);
    }
    for run in images.chunks(images_per_run(program)) {
        for slots in gather(program, run)? {
            ciphertexts.push(seal(&slots, rng)?);
        }
    }
    Ok(Bundle {
        kind: BundleKind::Query,
        program: model.digest(),
        images: images.len() as u32,
        group: program.input.ciphertexts() as u32,
        ciphertexts,
    })
}
