//! Compact ciphertexts of real or complex numbers: see [`crate::compact`].

use super::Ciphertext;
use crate::compact::{Compaction, kept};
use crate::context::Context;
use crate::error::Error;
use crate::key_id::KeyId;
use crate::params::Digest;
use crate::rlwe::compact::switch;

/// A ciphertext modulo a power of two that is only decrypted.
///
/// Math: c_0 + c_1 s = scale * message + error  mod 2^bits, at the coefficients that are kept
#[derive(Clone, PartialEq)]
pub struct CompactCiphertext {
    /// c_0, at the coefficients that the message has.
    pub(crate) body: Vec<u64>,
    /// c_1, all N coefficients.
    pub(crate) mask: Vec<u64>,
    pub(crate) period: usize,
    pub(crate) bits: u32,
    pub(crate) scale: f64,
    pub(crate) key_id: KeyId,
    pub(crate) digest: Digest,
}

impl Ciphertext {
    /// The same message, which repeats every [`Compaction::period`] slots, in few bits. The caller
    /// vouches for the period and the headroom: see [`crate::compact`].
    ///
    /// Scale: s -> s 2^(bits + headroom) / Q
    /// Noise: [`crate::noise::NoiseModel::compacted`] is added
    /// Timing: independent of the coefficients
    ///
    /// # Errors
    /// [`Error::PartCount`] unless relinearised; [`Error::BadPeriod`],
    /// [`Error::CompactionOutOfRange`]; [`Error::BadScale`] if rounding would leave nothing of the
    /// message; [`Error::ParameterMismatch`].
    pub fn compact(
        &self,
        context: &Context,
        compaction: Compaction,
    ) -> Result<CompactCiphertext, Error> {
        let compact = self.compact_parts(context, compaction)?;
        let scale = self.scale * unit(context, self.level, compaction);
        check_compact_scale(scale, compaction.bits)?;
        Ok(CompactCiphertext { scale, ..compact })
    }

    /// The same with a scale of 1.
    pub(crate) fn compact_parts(
        &self,
        context: &Context,
        compaction: Compaction,
    ) -> Result<CompactCiphertext, Error> {
        context.check_digest(self.digest)?;
        self.check_parts(2)?;
        compaction.check(context, self.level)?;
        let stride = context.parameters().n() / kept(context, compaction.period);
        Ok(CompactCiphertext {
            body: switch(context, self.parts[0].clone(), stride, compaction),
            mask: switch(context, self.parts[1].clone(), 1, compaction),
            period: compaction.period,
            bits: compaction.bits,
            scale: 1.0,
            key_id: self.key_id,
            digest: self.digest,
        })
    }
}

/// 2^(bits + headroom) / Q.
fn unit(context: &Context, level: usize, compaction: Compaction) -> f64 {
    let mut exponent = f64::from(compaction.bits + compaction.headroom_bits);
    let mut unit = 1.0;
    // Each factor is near 1, so that no product of many primes overflows.
    for &q in &context.parameters().q()[..=level] {
        let bits = (q as f64).log2().round();
        unit *= bits.exp2() / q as f64;
        exponent -= bits;
    }
    unit * exponent.exp2()
}

pub(crate) fn check_compact_scale(scale: f64, bits: u32) -> Result<(), Error> {
    let modulus_bits = f64::from(bits);
    if scale.is_finite() && scale >= 1.0 && scale.log2() < modulus_bits {
        return Ok(());
    }
    Err(Error::BadScale {
        found: scale,
        modulus_bits,
    })
}

impl CompactCiphertext {
    /// Slots after which the message repeats.
    pub fn period(&self) -> usize {
        self.period
    }

    /// Bits of a coefficient.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Factor between values and coefficients.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Half of the modulus in units of the values: the slots of a message that fits are below.
    pub fn largest_value(&self) -> f64 {
        f64::from(self.bits - 1).exp2() / self.scale
    }

    /// Id of the secret key that decrypts it.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Digest of its parameter set.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl std::fmt::Debug for CompactCiphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompactCiphertext")
            .field("period", &self.period)
            .field("bits", &self.bits)
            .field("scale", &self.scale)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}
