//! Compact ciphertexts of integers: see [`crate::compact`].

use super::{BgvContext, Ciphertext, NoiseModel};
use crate::ckks;
use crate::compact::{COMPACT_BITS_MAX, COMPACT_BITS_MIN, Compaction};
use crate::error::Error;
use crate::flooding::Flooding;
use crate::key_id::KeyId;
use crate::noise::Noise;
use crate::params::Digest;

/// A ciphertext of integers modulo a power of two that is only decrypted; scale-invariant, as those
/// of [`crate::bfv`] are.
///
/// Math: c_0 + c_1 s = (2^bits / t) factor * message + error  mod 2^bits, at the coefficients that
///     are kept
#[derive(Debug, Clone, PartialEq)]
pub struct CompactCiphertext {
    /// The same polynomials with a scale of 1.
    pub(crate) rlwe: ckks::CompactCiphertext,
    pub(crate) factor: u64,
    pub(crate) digest: Digest,
}

impl Ciphertext {
    /// The same integers, which repeat every [`Compaction::period`] slots in each row, in few bits.
    /// The caller vouches for the period: see [`crate::compact`]. A [`crate::bfv::Ciphertext`] is
    /// compacted as the [exact one](crate::bfv::Ciphertext::exact) that it is.
    ///
    /// Math:  the phase t^-1 (m + t e) is (Q/t) j + (m + t e)/t with j = -m Q^-1 mod t, and j is
    ///     what division by Q keeps
    /// Noise: [`NoiseModel::compacted`]
    /// Timing: independent of the coefficients
    ///
    /// # Errors
    /// [`Error::PartCount`] unless relinearised; [`Error::BadPeriod`];
    /// [`Error::CompactionOutOfRange`], also for any headroom: integers leave none;
    /// [`Error::ParameterMismatch`].
    pub fn compact(
        &self,
        context: &BgvContext,
        compaction: Compaction,
    ) -> Result<CompactCiphertext, Error> {
        context.check_digest(self.digest)?;
        if compaction.headroom_bits != 0 {
            return Err(Error::CompactionOutOfRange {
                what: "bits of headroom",
                found: compaction.headroom_bits,
                min: 0,
                max: 0,
            });
        }
        let rlwe = self.rlwe.compact_parts(context.context(), compaction)?;
        let t = context.plain_modulus();
        let divisor = context.scale_invariant_factor(self.level())?;
        Ok(CompactCiphertext {
            rlwe,
            factor: t.mul(self.factor, t.inv(divisor)?),
            digest: self.digest,
        })
    }
}

impl CompactCiphertext {
    /// Slots of a row after which the message repeats.
    pub fn period(&self) -> usize {
        self.rlwe.period()
    }

    /// Bits of a coefficient.
    pub fn bits(&self) -> u32 {
        self.rlwe.bits()
    }

    /// What the message is multiplied by modulo t.
    pub fn factor(&self) -> u64 {
        self.factor
    }

    /// Id of the secret key that decrypts it.
    pub fn key_id(&self) -> KeyId {
        self.rlwe.key_id()
    }

    /// Digest of its parameter set and plaintext prime.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl NoiseModel {
    /// After [`Ciphertext::compact`] at `level`, still in units of Q: [`NoiseModel::budget`] at the
    /// same level bounds the budget that is measured.
    pub fn compacted(&self, noise: Noise, compaction: Compaction, level: usize) -> Noise {
        noise.plus(self.core().compacted(compaction, level))
    }

    /// A lower bound of the noise budget after [`super::Evaluator::flood`] at `level` of a
    /// ciphertext with this noise, closer than that of the slots.
    pub fn flooded_budget(&self, noise: Noise, flooding: Flooding, level: usize) -> f64 {
        let error = self.error(noise);
        let coefficients = self.core().flooded_coefficients(error, flooding) + 0.5;
        self.core().log_q(level) - 1.0 - (self.plain() * coefficients).log2()
    }

    /// The compaction of fewest bits that keeps `kept` bits of the noise budget of a ciphertext
    /// that has `budget` bits.
    ///
    /// Math: 2^-budget + 2t/2^b |r_0 + r_1 s| <= 2^-kept in every coefficient
    ///
    /// # Errors
    /// [`Error::NoBudgetToCompact`] unless `budget` is above `kept`, by so much that
    /// [`COMPACT_BITS_MAX`] bits are enough; [`Error::BadPeriod`].
    pub fn compaction(
        &self,
        period: usize,
        level: usize,
        budget: f64,
        kept: f64,
    ) -> Result<Compaction, Error> {
        crate::compact::check_period(period, self.core().slots())?;
        let share = (-kept).exp2() - (-budget).exp2();
        let fits = |&bits: &u32| {
            let rounding = self.core().compact_coefficient(bits, level);
            let added = 2.0 * self.plain() * rounding / f64::from(bits).exp2();
            added <= share
        };
        (COMPACT_BITS_MIN..=COMPACT_BITS_MAX)
            .find(fits)
            .map(|bits| Compaction::new(period, bits))
            .ok_or(Error::NoBudgetToCompact { budget, kept })
    }
}
