//! What user, holders and coordinator of an ensemble agree on: the face, and what follows from it
//! for queries and replies.

use axum::body::Bytes;
use scuro_client::{Bundle, BundleKind, Model};
use scuro_fhe::codec::CodecError;
use scuro_fhe::{AnyCiphertext, AnyContext, KeyId};
use scuro_program::Program;
use scuro_program::face::{self, Mismatch};
use scuro_wire::{Digest, WireError, limits};

use super::fault::Fault;
use crate::error::Error;

/// Relative difference up to which two scales are the same.
const SCALE_TOLERANCE: f64 = 1e-9;
/// Bytes of a ciphertext that are not its polynomials, and more.
const CIPHERTEXT_OVERHEAD: usize = 256;
/// Bytes of a bundle that are not its ciphertexts, and more.
const BUNDLE_OVERHEAD: usize = 256;

/// The face of an ensemble, opened.
#[derive(Debug)]
pub struct Contract {
    model: Model,
    bytes: Bytes,
    digest: Digest,
    classes: Vec<String>,
    query: Form,
    reply: Form,
}

/// How ciphertexts of one direction look.
#[derive(Debug, Clone, Copy)]
struct Form {
    ciphertexts: usize,
    level: usize,
    /// Scale of approximate numbers, as they carry it.
    scale: f64,
    /// Factor of exact ones.
    factor: u64,
}

/// Why a ciphertext is not what it should be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Flaw {
    /// Bytes that are no bundle or no ciphertext.
    #[error("it cannot be read: {message}")]
    Malformed {
        /// Why not.
        message: String,
    },
    /// A bundle that goes in the other direction.
    #[error("it is a {found}; expected: {expected}")]
    Kind {
        /// What it is.
        found: BundleKind,
        /// What is needed.
        expected: BundleKind,
    },
    /// Of another ensemble, or of an earlier one of the same holders.
    #[error("it is for the ensemble or parameters {found}; this one has {expected}")]
    OtherEnsemble {
        /// Digest found.
        found: String,
        /// Digest of this one.
        expected: String,
    },
    /// Too many ciphertexts or images, or too few.
    #[error("it has {found} {what}; expected {expected}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// Found.
        found: usize,
        /// Expected, at most.
        expected: usize,
    },
    /// Under another secret key.
    #[error("it is under key {found}; the keys that are named are of {expected}")]
    OtherKey {
        /// Key id found.
        found: KeyId,
        /// Key id of the named keys.
        expected: KeyId,
    },
    /// At another level.
    #[error("it is at level {found}; expected {expected}")]
    Level {
        /// Level found.
        found: usize,
        /// Level expected.
        expected: usize,
    },
    /// Encoded otherwise.
    #[error("it is encoded with {what} {found}; expected {expected}")]
    Scale {
        /// Scale or factor.
        what: &'static str,
        /// Found.
        found: f64,
        /// Expected.
        expected: f64,
    },
    /// Three parts.
    #[error("it has {found} parts; expected 2")]
    Parts {
        /// Found.
        found: usize,
    },
    /// A ciphertext that anyone can read.
    #[error("it is transparent: anyone can read it")]
    Transparent,
}

impl Flaw {
    /// What is wrong, in a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::Kind { .. } => "kind",
            Self::OtherEnsemble { .. } => "other-ensemble",
            Self::Count { .. } => "count",
            Self::OtherKey { .. } => "other-key",
            Self::Level { .. } => "level",
            Self::Scale { .. } => "scale",
            Self::Parts { .. } => "parts",
            Self::Transparent => "transparent",
        }
    }
}

impl Contract {
    /// The contract that the program of a holder offers.
    ///
    /// # Errors
    /// [`Error::Model`] for a program that cannot be used, or not together with others.
    pub fn of(program: &Program) -> Result<Self, Error> {
        let model = Model::new(program.clone())?;
        let face = program.face(model.context().parameters().q());
        let face = face.map_err(scuro_client::Error::from)?;
        Self::open(face.to_bytes().into())
    }

    /// Opens the bytes of a face.
    ///
    /// # Errors
    /// [`Error::Model`], [`Error::Wire`] for too many bytes, [`Fault::NotAFace`].
    pub fn open(bytes: Bytes) -> Result<Self, Error> {
        let (program, digest) = read_face(&bytes)?;
        let model = Model::new(program)?;
        let program = model.program();
        let primes = model.context().parameters().q();
        if program.face(primes).ok().as_ref() != Some(&**program) {
            return Err(Fault::NotAFace.into());
        }
        let shapes = program.validate().map_err(scuro_client::Error::from)?;
        let result = program.result.0 as usize;
        let plain = match model.scheme() {
            AnyContext::Approximate(_) => None,
            AnyContext::Exact(context) => Some(context.plain_modulus().value()),
        };
        let factors = plain.map(|plain| program.factors(&shapes, primes, plain));
        let form = |value: usize, scale: f64| Form {
            ciphertexts: shapes[value].ciphertexts,
            level: shapes[value].level as usize,
            scale,
            factor: factors.as_ref().map_or(1, |factors| factors[value]),
        };
        let scales = program.scales(&shapes, primes);
        let (query, reply) = (form(0, scales[0]), form(result, scales[result]));
        let classes = program.classes().into_iter().map(str::to_string).collect();
        Ok(Self {
            bytes,
            digest,
            classes,
            query,
            reply,
            model,
        })
    }

    /// The face with its parameters: all that a user needs.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The face's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Digest of the face: names the ensemble.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Digest of the encryption parameters.
    pub fn parameters(&self) -> Digest {
        Digest(self.model.scheme().digest().0)
    }

    /// Names of the classes, in order.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What differs in another face, if anything does.
    ///
    /// # Errors
    /// As [`Contract::open`]; the mismatch itself is no error.
    pub(super) fn mismatch(&self, bytes: &[u8]) -> Result<Option<Mismatch>, Error> {
        let (program, digest) = read_face(bytes)?;
        match digest == self.digest {
            true => Ok(None),
            false => Ok(face::compare(self.model.program(), &program).err()),
        }
    }

    /// Most bytes of the bundle of a query.
    pub(super) fn query_bytes(&self) -> usize {
        self.bundle_bytes(&self.query).min(limits::PREDICT_BYTES)
    }

    /// Most bytes of the bundle of a reply.
    pub(super) fn reply_bytes(&self) -> usize {
        self.bundle_bytes(&self.reply).min(limits::PREDICT_BYTES)
    }

    fn bundle_bytes(&self, form: &Form) -> usize {
        let parameters = self.model.context().parameters();
        let primes = parameters.q()[..=form.level].iter();
        let bits: u32 = primes.map(|prime| u64::BITS - prime.leading_zeros()).sum();
        let polynomial = (bits as usize) << parameters.log_n() >> 3;
        BUNDLE_OVERHEAD + form.ciphertexts * (2 * polynomial + CIPHERTEXT_OVERHEAD)
    }

    /// The ciphertexts of a query, and its number of images.
    pub(super) fn open_query(
        &self,
        bundle: &[u8],
        key: KeyId,
    ) -> Result<(u32, Vec<AnyCiphertext>), Flaw> {
        self.ciphertexts(bundle, BundleKind::Query, &self.query, key)
    }

    /// The ciphertexts of a holder's reply, and its number of images.
    pub(super) fn open_reply(
        &self,
        bundle: &[u8],
        key: KeyId,
    ) -> Result<(u32, Vec<AnyCiphertext>), Flaw> {
        self.ciphertexts(bundle, BundleKind::Reply, &self.reply, key)
    }

    fn ciphertexts(
        &self,
        bytes: &[u8],
        kind: BundleKind,
        form: &Form,
        key: KeyId,
    ) -> Result<(u32, Vec<AnyCiphertext>), Flaw> {
        let bundle = Bundle::from_bytes(bytes).map_err(|error| malformed(&error))?;
        if bundle.kind != kind {
            let (found, expected) = (bundle.kind, kind);
            return Err(Flaw::Kind { found, expected });
        }
        let found = Digest(bundle.program);
        if found != self.digest {
            return Err(other_ensemble(&found, &self.digest));
        }
        let count = |what, found, expected| Flaw::Count {
            what,
            found,
            expected,
        };
        let (found, limit) = (bundle.images as usize, self.model.images_per_run());
        if found > limit {
            return Err(count("images", found, limit));
        }
        let found = bundle.ciphertexts.len();
        if found != form.ciphertexts || bundle.group as usize != form.ciphertexts {
            return Err(count("ciphertexts", found, form.ciphertexts));
        }
        let read = |bytes: &Vec<u8>| {
            let ciphertext = AnyCiphertext::from_bytes(bytes, self.model.scheme());
            let ciphertext = ciphertext.map_err(|error| self.unreadable(&error))?;
            form.check(&ciphertext, key).map(|()| ciphertext)
        };
        let ciphertexts = bundle.ciphertexts.iter().map(read);
        Ok((bundle.images, ciphertexts.collect::<Result<_, _>>()?))
    }

    fn unreadable(&self, error: &scuro_fhe::Error) -> Flaw {
        match error {
            scuro_fhe::Error::Codec(CodecError::Transparent) => Flaw::Transparent,
            scuro_fhe::Error::Codec(CodecError::WrongParameters { found, expected }) => {
                other_ensemble(&Digest(found.0), &Digest(expected.0))
            }
            error => malformed(error),
        }
    }
}

impl Form {
    fn check(&self, ciphertext: &AnyCiphertext, key: KeyId) -> Result<(), Flaw> {
        let (found, expected) = (ciphertext.key_id(), key);
        if found != expected {
            return Err(Flaw::OtherKey { found, expected });
        }
        let (found, expected) = (ciphertext.level(), self.level);
        if found != expected {
            return Err(Flaw::Level { found, expected });
        }
        let found = ciphertext.parts().len();
        if found != 2 {
            return Err(Flaw::Parts { found });
        }
        let (what, found, expected, same) = match ciphertext {
            AnyCiphertext::Approximate(real) => {
                let (found, expected) = (real.scale(), self.scale);
                let same = (found / expected - 1.0).abs() <= SCALE_TOLERANCE;
                ("scale", found, expected, same)
            }
            AnyCiphertext::Exact(exact) => {
                let (found, expected) = (exact.factor(), self.factor);
                ("factor", found as f64, expected as f64, found == expected)
            }
        };
        match same {
            true => Ok(()),
            false => Err(Flaw::Scale {
                what,
                found,
                expected,
            }),
        }
    }
}

/// A program that should be a face, and its digest.
fn read_face(bytes: &[u8]) -> Result<(Program, Digest), Error> {
    let (found, limit) = (bytes.len(), limits::FACE_BYTES);
    if found > limit {
        let (what, found, limit) = ("face", found as u64, limit as u64);
        return Err(WireError::TooLarge { what, found, limit }.into());
    }
    let program = Program::from_bytes(bytes).map_err(scuro_client::Error::from)?;
    let digest = Digest(program.digest());
    Ok((program, digest))
}

fn malformed(error: &dyn std::fmt::Display) -> Flaw {
    let message = error.to_string();
    Flaw::Malformed { message }
}

fn other_ensemble(found: &Digest, expected: &Digest) -> Flaw {
    let (found, expected) = (found.short(), expected.short());
    Flaw::OtherEnsemble { found, expected }
}
