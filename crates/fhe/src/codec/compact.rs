//! Compact ciphertexts as bytes: head, then the kept coefficients of c_0, then those of c_1, each
//! at its bits.

use super::exact::{check_unit_scale, content, split};
use super::{CodecError, Kind, Reader, open, pack, packed_len, seal, unpack};
use crate::bgv::{self, BgvContext};
use crate::ckks::{CompactCiphertext, check_compact_scale};
use crate::compact::{COMPACT_BITS_MIN, kept, most_bits};
use crate::context::Context;
use crate::error::Error;
use crate::key_id::KeyId;

/// Coefficients are packed in groups of so many; fewer are followed by zeros.
const GROUP: usize = 8;

impl CompactCiphertext {
    /// The coefficients, packed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut content = self.key_id.0.to_vec();
        content.extend_from_slice(&self.scale.to_bits().to_le_bytes());
        content.push(self.bits as u8);
        content.push(self.period.trailing_zeros() as u8);
        let mut body = self.body.clone();
        body.resize(body.len().next_multiple_of(GROUP), 0);
        pack(&mut content, &body, 1 << self.bits);
        pack(&mut content, &self.mask, 1 << self.bits);
        seal(Kind::CompactCiphertext, self.digest, &content)
    }

    /// Reads [`CompactCiphertext::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Codec`], [`Error::BadScale`].
    pub fn from_bytes(bytes: &[u8], context: &Context) -> Result<Self, Error> {
        let mut reader = open(bytes, Kind::CompactCiphertext, context.digest())?;
        let key_id = KeyId(reader.array()?);
        let scale = reader.scale()?;
        let bits = read_bits(&mut reader, context)?;
        check_compact_scale(scale, bits)?;
        let period = read_period(&mut reader, context)?;
        let (n, kept) = (context.parameters().n(), kept(context, period));
        let padded = kept.next_multiple_of(GROUP);
        reader.require(packed_len(padded + n, 1 << bits))?;
        let mut body = read_words(&mut reader, padded, bits)?;
        let mask = read_words(&mut reader, n, bits)?;
        reader.finish()?;
        if let Some(&found) = body[kept..].iter().find(|&&word| word != 0) {
            let what = "padding of a compact ciphertext";
            return Err(CodecError::BadField { what, found }.into());
        }
        body.truncate(kept);
        if mask.iter().all(|&word| word == 0) {
            return Err(CodecError::Transparent.into());
        }
        Ok(Self {
            body,
            mask,
            period,
            bits,
            scale,
            key_id,
            digest: context.digest(),
        })
    }
}

fn read_bits(reader: &mut Reader<'_>, context: &Context) -> Result<u32, CodecError> {
    let found = u32::from(reader.u8()?);
    if (COMPACT_BITS_MIN..=most_bits(context)).contains(&found) {
        return Ok(found);
    }
    Err(CodecError::BadField {
        what: "bits of a coefficient",
        found: found.into(),
    })
}

fn read_period(reader: &mut Reader<'_>, context: &Context) -> Result<usize, CodecError> {
    let found = reader.u8()?;
    let period = 1usize.checked_shl(found.into());
    period
        .filter(|&period| period <= context.parameters().slots())
        .ok_or(CodecError::BadField {
            what: "period",
            found: found.into(),
        })
}

fn read_words(reader: &mut Reader<'_>, count: usize, bits: u32) -> Result<Vec<u64>, CodecError> {
    let mut words = vec![0; count];
    unpack(reader, &mut words, 1 << bits, 0)?;
    Ok(words)
}

impl bgv::CompactCiphertext {
    /// The factor, then the coefficients as an object of scale 1.
    pub fn to_bytes(&self) -> Vec<u8> {
        let content = content(self.factor, &self.rlwe.to_bytes());
        seal(Kind::ExactCompactCiphertext, self.digest, &content)
    }

    /// Reads [`bgv::CompactCiphertext::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Codec`], [`Error::BadFactor`].
    pub fn from_bytes(bytes: &[u8], context: &BgvContext) -> Result<Self, Error> {
        let digest = context.digest();
        let reader = open(bytes, Kind::ExactCompactCiphertext, digest)?;
        let (factor, rlwe) = split(reader, context)?;
        let rlwe = CompactCiphertext::from_bytes(rlwe, context.context())?;
        check_unit_scale(rlwe.scale)?;
        Ok(Self {
            rlwe,
            factor,
            digest,
        })
    }
}
