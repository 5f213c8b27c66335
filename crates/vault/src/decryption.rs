//! Opens encrypted replies with a model's secret key, after checking that they are replies of it.

use std::sync::{Arc, Mutex, PoisonError};

use scuro_client::{Bundle, Client, Model, Prediction};
use scuro_fhe::owner::SecretKey;
use scuro_fhe::{AnyCiphertext, codec};
use scuro_program::Program;
use scuro_wire::limits::IMAGES_PER_REPLY;
use scuro_wire::results::Answer;
use scuro_wire::{Digest, Manifest, Role};

use crate::error::VaultError;
use crate::registry::ModelRecord;
use crate::vault::Vault;

/// Open models that are kept; each holds its tables and its secret key.
pub const OPEN_MODELS: usize = 8;

/// Why a reply is refused. The code goes to the device, so every fault is one of public bytes:
/// none depends on what a ciphertext decrypts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyFault {
    /// Not a reply.
    #[error("not a reply, or damaged")]
    Malformed,
    /// For another program.
    #[error("made by another program")]
    WrongProgram,
    /// Under other parameters.
    #[error("made under other encryption parameters")]
    WrongParameters,
    /// Under another key.
    #[error("encrypted under another key")]
    WrongKey,
    /// At another level than the program's result.
    #[error("a ciphertext is at level {found}; the program ends at {expected}")]
    WrongLevel {
        /// Level found.
        found: usize,
        /// Level of the program's result.
        expected: usize,
    },
    /// More images than one reply may have.
    #[error("for {found} images; the limit is {limit}")]
    TooManyImages {
        /// Images that the reply is for.
        found: usize,
        /// Most.
        limit: usize,
    },
    /// An image that the reply does not have.
    #[error("image {found} of a reply to {images}")]
    NoSuchImage {
        /// Image asked for, from 0.
        found: usize,
        /// Images that the reply is for.
        images: usize,
    },
    /// More or fewer ciphertexts than the program's result, or more images than they hold.
    #[error("{found} ciphertexts in one run, the program gives {expected}")]
    WrongCount {
        /// Ciphertexts in one run.
        found: usize,
        /// Ciphertexts of the program's result.
        expected: usize,
    },
}

impl ReplyFault {
    /// Stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "reply.malformed",
            Self::WrongProgram => "reply.wrong-program",
            Self::WrongParameters => "reply.wrong-parameters",
            Self::WrongKey => "reply.wrong-key",
            Self::WrongLevel { .. } => "reply.wrong-level",
            Self::TooManyImages { .. } => "reply.too-many-images",
            Self::NoSuchImage { .. } => "reply.no-such-image",
            Self::WrongCount { .. } => "reply.wrong-count",
        }
    }
}

/// A model with its secret key, ready to decrypt.
#[derive(Debug)]
pub struct OpenModel {
    client: Client,
    manifest: Manifest,
    ciphertexts: usize,
    level: usize,
}

impl OpenModel {
    /// Opens a model from its program and secret key.
    ///
    /// # Errors
    /// [`VaultError::Model`].
    pub fn new(manifest: Manifest, program: &[u8], secret: &[u8]) -> Result<Self, VaultError> {
        let model = Model::open(program)?;
        let (ciphertexts, level) = result_shape(model.program())?;
        let secret = SecretKey::from_bytes(secret, model.context())?;
        Ok(Self {
            client: Client::new(&model, Arc::new(secret))?,
            manifest,
            ciphertexts,
            level,
        })
    }

    /// What was stored.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads a reply, of which `image` is asked for, and checks all that its public bytes tell.
    ///
    /// # Errors
    /// [`ReplyFault`].
    pub fn read(&self, reply: &[u8], image: u32) -> Result<Reply, ReplyFault> {
        let bundle = Bundle::from_bytes(reply).map_err(|_| ReplyFault::Malformed)?;
        if bundle.program != self.client.model().digest() {
            return Err(ReplyFault::WrongProgram);
        }
        self.check_counts(&bundle)?;
        if image >= bundle.images {
            let (found, images) = (image as usize, bundle.images as usize);
            return Err(ReplyFault::NoSuchImage { found, images });
        }
        let mut each = bundle.ciphertexts.iter();
        each.try_for_each(|bytes| self.check_ciphertext(bytes))?;
        let digest = match self.client.model().images_per_run() {
            1 if bundle.images == 1 => Digest::of(reply),
            _ => digest_of_image(&bundle, image),
        };
        Ok(Reply {
            bundle,
            image: image as usize,
            digest,
        })
    }

    /// Decrypts and decodes the image. Only the slots that the program's layout names are read.
    /// Scores that are no numbers, or overflowed, give no answer, and the device does not hear of
    /// it.
    ///
    /// # Errors
    /// [`ReplyFault`].
    pub fn decrypt(&self, reply: &Reply) -> Result<Option<Answer>, ReplyFault> {
        let mut predictions = self
            .client
            .decrypt(&reply.bundle)
            .map_err(|error| match error {
                scuro_client::Error::WrongProgram { .. } => ReplyFault::WrongProgram,
                _ => ReplyFault::Malformed,
            })?;
        // There is one for each image, and `read` has looked whether there is this one.
        let prediction = predictions.swap_remove(reply.image);
        Ok(answer(reply.image, prediction, &self.manifest.labels))
    }

    fn check_counts(&self, bundle: &Bundle) -> Result<(), ReplyFault> {
        let found = bundle.group as usize;
        let runs = bundle.runs().count();
        let images = bundle.images as usize;
        let limit = IMAGES_PER_REPLY;
        if images > limit {
            let found = images;
            return Err(ReplyFault::TooManyImages { found, limit });
        }
        let per_run = self.client.model().images_per_run();
        if found != self.ciphertexts || images.div_ceil(per_run) != runs {
            let expected = self.ciphertexts;
            return Err(ReplyFault::WrongCount { found, expected });
        }
        Ok(())
    }

    fn check_ciphertext(&self, bytes: &[u8]) -> Result<(), ReplyFault> {
        let scheme = self.client.model().scheme();
        let header = codec::describe(bytes).map_err(|_| ReplyFault::Malformed)?;
        if header.parameters != scheme.digest() {
            return Err(ReplyFault::WrongParameters);
        }
        let ciphertext = AnyCiphertext::from_bytes(bytes, scheme);
        let ciphertext = ciphertext.map_err(|_| ReplyFault::Malformed)?;
        if ciphertext.key_id().0 != self.manifest.key_id.0 {
            return Err(ReplyFault::WrongKey);
        }
        let (found, expected) = (ciphertext.level(), self.level);
        if found != expected {
            return Err(ReplyFault::WrongLevel { found, expected });
        }
        Ok(())
    }
}

/// A reply of a model, of which one image is asked for.
#[derive(Debug)]
pub struct Reply {
    bundle: Bundle,
    image: usize,
    digest: Digest,
}

impl Reply {
    /// Names the image: the same ciphertexts and place have the same digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Names an image of ciphertexts that several share, whatever number of them the reply tells.
fn digest_of_image(bundle: &Bundle, image: u32) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&image.to_le_bytes());
    for ciphertext in &bundle.ciphertexts {
        hasher.update(&(ciphertext.len() as u64).to_le_bytes());
        hasher.update(ciphertext);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// The answer for an image, if it has one.
fn answer(image: usize, prediction: Prediction, labels: &[String]) -> Option<Answer> {
    let finite = prediction.scores.iter().all(|score| score.is_finite());
    (finite && !prediction.overflowed).then(|| Answer {
        image: image as u32,
        label: prediction.label as u32,
        label_name: labels.get(prediction.label).cloned(),
        confidence: prediction.confidence,
        scores: prediction.scores,
    })
}

/// Ciphertexts and level of what a program gives.
fn result_shape(program: &Program) -> Result<(usize, usize), VaultError> {
    let shapes = program.validate().map_err(scuro_client::Error::from)?;
    // `validate` has checked that the result is one of the values.
    let shape = shapes[program.result.0 as usize];
    Ok((shape.ciphertexts, shape.level as usize))
}

/// The models that were used last.
#[derive(Debug, Default)]
pub struct OpenModels {
    recent: Mutex<Vec<(Digest, Arc<OpenModel>)>>,
}

impl OpenModels {
    /// The open model of a record; opens it if it is not there.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::Tampered`], [`VaultError::Model`].
    pub fn open(&self, vault: &Vault, record: &ModelRecord) -> Result<Arc<OpenModel>, VaultError> {
        if let Some(model) = self.touch(&record.deployment) {
            return Ok(model);
        }
        let manifest = record.manifest.clone();
        let program = manifest.artefact(Role::Program);
        let program =
            program.ok_or_else(|| VaultError::not_found("program of", record.reference()))?;
        let program = vault.blobs.read(&program.digest)?;
        let secret = vault.secret_key(&manifest)?;
        let model = Arc::new(OpenModel::new(manifest, &program, &secret)?);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(OPEN_MODELS - 1);
        recent.insert(0, (record.deployment, Arc::clone(&model)));
        Ok(model)
    }

    fn touch(&self, deployment: &Digest) -> Option<Arc<OpenModel>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let place = recent.iter().position(|(found, _)| found == deployment)?;
        let entry = recent.remove(place);
        let model = Arc::clone(&entry.1);
        recent.insert(0, entry);
        Some(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_that_overflowed_or_are_no_numbers_give_no_answer() {
        let answered = |score: f64, overflowed: bool| {
            let prediction = Prediction {
                label: 1,
                confidence: 0.5,
                scores: vec![score; 2],
                overflowed,
            };
            answer(3, prediction, &["zero".to_string()])
        };
        assert_eq!(answered(1e40, true), None);
        assert_eq!(answered(f64::NAN, false), None);
        let found = answered(1.0, false).expect("an answer");
        assert_eq!((found.image, found.label, found.label_name), (3, 1, None));
    }
}
