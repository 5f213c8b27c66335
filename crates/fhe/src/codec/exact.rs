//! Ciphertexts of integers as bytes: the factor, then the polynomials as an object of scale 1.

use super::{CodecError, Kind, Reader, open, seal};
use crate::bgv::{BgvContext, Ciphertext, SeededCiphertext};
use crate::ckks;
use crate::error::Error;

impl Ciphertext {
    /// All parts, packed.
    pub fn to_bytes(&self, context: &BgvContext) -> Vec<u8> {
        let rlwe = self.rlwe.to_bytes(context.context());
        seal(
            Kind::ExactCiphertext,
            self.digest,
            &content(self.factor, &rlwe),
        )
    }

    /// Reads [`Ciphertext::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Codec`], [`Error::LevelTooHigh`], [`Error::BadFactor`].
    pub fn from_bytes(bytes: &[u8], context: &BgvContext) -> Result<Self, Error> {
        let digest = context.digest();
        let reader = open(bytes, Kind::ExactCiphertext, digest)?;
        let (factor, rlwe) = split(reader, context)?;
        let rlwe = ckks::Ciphertext::from_bytes(rlwe, context.context())?;
        check_unit_scale(rlwe.scale)?;
        Ok(Self {
            rlwe,
            factor,
            digest,
        })
    }
}

impl SeededCiphertext {
    /// Body and seed, packed.
    pub fn to_bytes(&self, context: &BgvContext) -> Vec<u8> {
        let rlwe = self.rlwe.to_bytes(context.context());
        let content = content(self.factor, &rlwe);
        seal(Kind::ExactSeededCiphertext, self.digest, &content)
    }

    /// Reads [`SeededCiphertext::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Codec`], [`Error::LevelTooHigh`], [`Error::BadFactor`].
    pub fn from_bytes(bytes: &[u8], context: &BgvContext) -> Result<Self, Error> {
        let digest = context.digest();
        let reader = open(bytes, Kind::ExactSeededCiphertext, digest)?;
        let (factor, rlwe) = split(reader, context)?;
        let rlwe = ckks::SeededCiphertext::from_bytes(rlwe, context.context())?;
        check_unit_scale(rlwe.scale)?;
        Ok(Self {
            rlwe,
            factor,
            digest,
        })
    }
}

pub(super) fn content(factor: u64, rlwe: &[u8]) -> Vec<u8> {
    [&factor.to_le_bytes(), rlwe].concat()
}

pub(super) fn split<'a>(
    mut reader: Reader<'a>,
    context: &BgvContext,
) -> Result<(u64, &'a [u8]), Error> {
    let factor = reader.u64()?;
    context.check_factor(factor)?;
    let rest = reader.remaining();
    Ok((factor, reader.take(rest)?))
}

/// Scales mean nothing here, so that any other would be a second encoding of the same ciphertext.
pub(super) fn check_unit_scale(scale: f64) -> Result<(), CodecError> {
    if scale.to_bits() == 1f64.to_bits() {
        return Ok(());
    }
    Err(CodecError::BadField {
        what: "scale of a ciphertext of integers",
        found: scale.to_bits(),
    })
}
