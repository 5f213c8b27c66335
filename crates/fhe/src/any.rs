//! Contexts and ciphertexts of either scheme, for callers that only pass them on.

use std::sync::Arc;

use scuro_polyring::{Ntt, Poly};

use crate::bgv::{self, BgvContext};
use crate::ckks;
use crate::codec::{self, CodecError, Kind};
use crate::compact::Compaction;
use crate::context::Context;
use crate::error::Error;
use crate::key_id::KeyId;
use crate::masking::PairMask;
use crate::params::Digest;

/// A context of approximate or exact arithmetic.
#[derive(Debug, Clone)]
pub enum AnyContext {
    /// CKKS.
    Approximate(Arc<Context>),
    /// BGV.
    Exact(Arc<BgvContext>),
}

impl AnyContext {
    /// The RLWE context, to which keys belong.
    pub fn core(&self) -> &Arc<Context> {
        match self {
            Self::Approximate(context) => context,
            Self::Exact(context) => context.context(),
        }
    }

    /// Digest of the parameter set, plaintext prime included.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Approximate(context) => context.digest(),
            Self::Exact(context) => context.digest(),
        }
    }
}

impl From<Arc<Context>> for AnyContext {
    fn from(context: Arc<Context>) -> Self {
        Self::Approximate(context)
    }
}

impl From<Arc<BgvContext>> for AnyContext {
    fn from(context: Arc<BgvContext>) -> Self {
        Self::Exact(context)
    }
}

/// A ciphertext of either scheme.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyCiphertext {
    /// CKKS.
    Approximate(ckks::Ciphertext),
    /// BGV.
    Exact(bgv::Ciphertext),
}

impl AnyCiphertext {
    /// Reads a ciphertext of the context's scheme; seeded ones are expanded.
    ///
    /// # Errors
    /// [`Error::Codec`], above all [`CodecError::WrongKind`] for a ciphertext of the other scheme;
    /// [`Error::LevelTooHigh`], [`Error::BadScale`], [`Error::BadFactor`].
    pub fn from_bytes(bytes: &[u8], context: &AnyContext) -> Result<Self, Error> {
        let found = codec::describe(bytes)?.kind;
        match (context, found) {
            (AnyContext::Approximate(context), Kind::SeededCiphertext) => {
                let seeded = ckks::SeededCiphertext::from_bytes(bytes, context)?;
                Ok(Self::Approximate(seeded.expand(context)?))
            }
            (AnyContext::Approximate(context), _) => Ok(Self::Approximate(
                ckks::Ciphertext::from_bytes(bytes, context)?,
            )),
            (AnyContext::Exact(context), Kind::ExactSeededCiphertext) => {
                let seeded = bgv::SeededCiphertext::from_bytes(bytes, context)?;
                Ok(Self::Exact(seeded.expand(context)?))
            }
            (AnyContext::Exact(context), _) => {
                Ok(Self::Exact(bgv::Ciphertext::from_bytes(bytes, context)?))
            }
        }
    }

    /// All parts, packed.
    ///
    /// # Errors
    /// [`CodecError::WrongKind`] if the context is of the other scheme.
    pub fn to_bytes(&self, context: &AnyContext) -> Result<Vec<u8>, Error> {
        match (self, context) {
            (Self::Approximate(ciphertext), AnyContext::Approximate(context)) => {
                Ok(ciphertext.to_bytes(context))
            }
            (Self::Exact(ciphertext), AnyContext::Exact(context)) => {
                Ok(ciphertext.to_bytes(context))
            }
            (Self::Approximate(_), _) => Err(wrong_kind(Kind::Ciphertext, Kind::ExactCiphertext)),
            (Self::Exact(_), _) => Err(wrong_kind(Kind::ExactCiphertext, Kind::Ciphertext)),
        }
    }

    /// As [`ckks::Ciphertext::compact`] and [`bgv::Ciphertext::compact`].
    ///
    /// # Errors
    /// As there; [`CodecError::WrongKind`] if the context is of the other scheme.
    pub fn compact(
        &self,
        context: &AnyContext,
        compaction: Compaction,
    ) -> Result<AnyCompactCiphertext, Error> {
        match (self, context) {
            (Self::Approximate(ciphertext), AnyContext::Approximate(context)) => Ok(
                AnyCompactCiphertext::Approximate(ciphertext.compact(context, compaction)?),
            ),
            (Self::Exact(ciphertext), AnyContext::Exact(context)) => Ok(
                AnyCompactCiphertext::Exact(ciphertext.compact(context, compaction)?),
            ),
            (Self::Approximate(_), _) => Err(wrong_kind(Kind::Ciphertext, Kind::ExactCiphertext)),
            (Self::Exact(_), _) => Err(wrong_kind(Kind::ExactCiphertext, Kind::Ciphertext)),
        }
    }

    /// As [`ckks::Evaluator::mask`]; sums of exact ciphertexts are sums of the same polynomials.
    ///
    /// # Errors
    /// As there.
    pub fn masked(
        &self,
        context: &AnyContext,
        masks: &[PairMask],
        weight: u64,
    ) -> Result<Self, Error> {
        let evaluator = ckks::Evaluator::new(context.core());
        Ok(match self {
            Self::Approximate(ciphertext) => {
                Self::Approximate(evaluator.mask(ciphertext, masks, weight)?)
            }
            Self::Exact(ciphertext) => Self::Exact(bgv::Ciphertext {
                rlwe: evaluator.mask(&ciphertext.rlwe, masks, weight)?,
                ..ciphertext.clone()
            }),
        })
    }

    /// Level: index of its last prime.
    pub fn level(&self) -> usize {
        match self {
            Self::Approximate(ciphertext) => ciphertext.level(),
            Self::Exact(ciphertext) => ciphertext.level(),
        }
    }

    /// The parts, c_0 first.
    pub fn parts(&self) -> &[Poly<Ntt>] {
        match self {
            Self::Approximate(ciphertext) => ciphertext.parts(),
            Self::Exact(ciphertext) => ciphertext.parts(),
        }
    }

    /// Id of the secret key that decrypts it.
    pub fn key_id(&self) -> KeyId {
        match self {
            Self::Approximate(ciphertext) => ciphertext.key_id(),
            Self::Exact(ciphertext) => ciphertext.key_id(),
        }
    }
}

impl From<ckks::Ciphertext> for AnyCiphertext {
    fn from(ciphertext: ckks::Ciphertext) -> Self {
        Self::Approximate(ciphertext)
    }
}

impl From<bgv::Ciphertext> for AnyCiphertext {
    fn from(ciphertext: bgv::Ciphertext) -> Self {
        Self::Exact(ciphertext)
    }
}

/// A compact ciphertext of either scheme.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyCompactCiphertext {
    /// CKKS.
    Approximate(ckks::CompactCiphertext),
    /// BGV.
    Exact(bgv::CompactCiphertext),
}

impl AnyCompactCiphertext {
    /// Whether an object is a compact ciphertext, as far as its header tells.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are not one whole object.
    pub fn is_one(bytes: &[u8]) -> Result<bool, CodecError> {
        let kind = codec::describe(bytes)?.kind;
        Ok(matches!(
            kind,
            Kind::CompactCiphertext | Kind::ExactCompactCiphertext
        ))
    }

    /// Reads a compact ciphertext of the context's scheme.
    ///
    /// # Errors
    /// [`Error::Codec`], [`Error::BadScale`], [`Error::BadFactor`].
    pub fn from_bytes(bytes: &[u8], context: &AnyContext) -> Result<Self, Error> {
        Ok(match context {
            AnyContext::Approximate(context) => {
                Self::Approximate(ckks::CompactCiphertext::from_bytes(bytes, context)?)
            }
            AnyContext::Exact(context) => {
                Self::Exact(bgv::CompactCiphertext::from_bytes(bytes, context)?)
            }
        })
    }

    /// The coefficients, packed.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Approximate(ciphertext) => ciphertext.to_bytes(),
            Self::Exact(ciphertext) => ciphertext.to_bytes(),
        }
    }

    /// Id of the secret key that decrypts it.
    pub fn key_id(&self) -> KeyId {
        match self {
            Self::Approximate(ciphertext) => ciphertext.key_id(),
            Self::Exact(ciphertext) => ciphertext.key_id(),
        }
    }
}

fn wrong_kind(found: Kind, expected: Kind) -> Error {
    CodecError::WrongKind { found, expected }.into()
}
