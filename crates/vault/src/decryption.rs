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

    /// Decrypts and decodes. Only the slots that the program's layout names are read. Scores that
    /// are no numbers, or overflowed, give no answer, and the device does not hear of it.
    ///
    /// # Errors
    /// [`ReplyFault`].
    pub fn decrypt(&self, reply: &[u8]) -> Result<Answers, ReplyFault> {
        let bundle = Bundle::from_bytes(reply).map_err(|_| ReplyFault::Malformed)?;
        if bundle.program != self.client.model().digest() {
            return Err(ReplyFault::WrongProgram);
        }
        self.check_counts(&bundle)?;
        let mut each = bundle.ciphertexts.iter();
        each.try_for_each(|bytes| self.check_ciphertext(bytes))?;
        let predictions = self.client.decrypt(&bundle).map_err(|error| match error {
            scuro_client::Error::WrongProgram { .. } => ReplyFault::WrongProgram,
            _ => ReplyFault::Malformed,
        })?;
        Ok(answers(predictions, &self.manifest.labels))
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

/// What one reply decrypts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// At most one an image; each names its own.
    pub answers: Vec<Answer>,
    /// Images whose scores are no numbers, or overflowed.
    pub dropped: usize,
}

/// The answers of the images that have one.
fn answers(predictions: Vec<Prediction>, labels: &[String]) -> Answers {
    let images = predictions.len();
    let answer = |(image, prediction): (usize, Prediction)| {
        let finite = prediction.scores.iter().all(|score| score.is_finite());
        (finite && !prediction.overflowed).then(|| Answer {
            image: image as u32,
            label: prediction.label as u32,
            label_name: labels.get(prediction.label).cloned(),
            confidence: prediction.confidence,
            scores: prediction.scores,
        })
    };
    let answers: Vec<Answer> = predictions
        .into_iter()
        .enumerate()
        .filter_map(answer)
        .collect();
    Answers {
        dropped: images - answers.len(),
        answers,
    }
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
    fn an_image_without_an_answer_leaves_the_others_in_their_place() {
        let prediction = |label: usize, score: f64, overflowed: bool| Prediction {
            label,
            confidence: 0.5,
            scores: vec![score; 2],
            overflowed,
        };
        let predictions = vec![
            prediction(0, 1e40, true),
            prediction(1, 1.0, false),
            prediction(0, f64::NAN, false),
            prediction(0, 2.0, false),
        ];
        let found = answers(predictions, &["zero".to_string()]);
        let places: Vec<_> = found.answers.iter().map(|a| (a.image, a.label)).collect();
        assert_eq!((places, found.dropped), (vec![(1, 1), (3, 0)], 2));
        assert_eq!(found.answers[0].label_name, None);
        assert_eq!(found.answers[1].label_name.as_deref(), Some("zero"));
    }
}
