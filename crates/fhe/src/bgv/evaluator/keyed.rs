//! Operations that need an evaluation key: relinearise, rotate, swap rows.

use super::{Evaluator, with};
use crate::bgv::Ciphertext;
use crate::error::Error;
use crate::keys::EvaluationKeys;

impl Evaluator {
    /// Three parts to two; a two-part ciphertext is returned as it is.
    ///
    /// Level, factor: unchanged     Noise: [`crate::bgv::NoiseModel::key_switch`]
    ///
    /// # Errors
    /// [`Error::MissingRelinearizationKey`], [`Error::KeyLevelTooLow`], [`Error::KeyMismatch`].
    pub fn relinearize(
        &self,
        ciphertext: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        self.keep_factor(ciphertext, |rlwe| self.core.relinearize(rlwe, keys))
    }

    /// Relinearises and switches the modulus in one division by P q_l.
    ///
    /// Level: l -> l - 1     Factor: f -> f / q_l
    ///
    /// # Errors
    /// As [`Evaluator::relinearize`] and [`Evaluator::mod_switch`].
    pub fn relinearize_mod_switch(
        &self,
        ciphertext: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        self.check(ciphertext)?;
        let rlwe = self.core.relinearize_rescale(&ciphertext.rlwe, keys)?;
        Ok(self.exact(rlwe, ciphertext.factor, true))
    }

    /// Rotates the rows: out\[r\]\[p\] = in\[r\]\[(p + step) mod row length\].
    ///
    /// Level, factor: unchanged     Noise: [`crate::bgv::NoiseModel::key_switch`]
    ///
    /// # Errors
    /// [`Error::PartCount`] for a ciphertext that is not relinearised,
    /// [`Error::MissingRotationKey`], [`Error::KeyLevelTooLow`], [`Error::KeyMismatch`].
    pub fn rotate(
        &self,
        ciphertext: &Ciphertext,
        step: usize,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        self.keep_factor(ciphertext, |rlwe| self.core.rotate(rlwe, step, keys))
    }

    /// Several rotations of one ciphertext, decomposed once.
    ///
    /// # Errors
    /// As [`Evaluator::rotate`].
    pub fn rotate_hoisted(
        &self,
        ciphertext: &Ciphertext,
        steps: &[usize],
        keys: &EvaluationKeys,
    ) -> Result<Vec<Ciphertext>, Error> {
        self.check(ciphertext)?;
        let rotated = self.core.rotate_hoisted(&ciphertext.rlwe, steps, keys)?;
        Ok(rotated
            .into_iter()
            .map(|rlwe| with(ciphertext, rlwe))
            .collect())
    }

    /// Sums of rotations, stage after stage; see [`crate::ckks::Evaluator::fold`].
    ///
    /// # Errors
    /// As [`Evaluator::rotate`].
    pub fn fold(
        &self,
        ciphertext: &Ciphertext,
        stages: &[Vec<usize>],
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        self.keep_factor(ciphertext, |rlwe| self.core.fold(rlwe, stages, keys))
    }

    /// Exchanges the two rows, with the conjugation key.
    ///
    /// # Errors
    /// As [`Evaluator::rotate`], with [`Error::MissingConjugationKey`];
    /// [`Error::StandardRingOnly`] where there is a single row.
    pub fn swap_rows(
        &self,
        ciphertext: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        if self.context.rows() == 1 {
            return Err(Error::StandardRingOnly);
        }
        self.keep_factor(ciphertext, |rlwe| self.core.conjugate(rlwe, keys))
    }

    /// Σ rotate(relinearise(ciphertext), step) over the terms, with one division by P.
    ///
    /// # Errors
    /// [`Error::FactorMismatch`] for terms of different factors; else as
    /// [`crate::ckks::Evaluator::relinearize_rotate_sum`].
    pub fn relinearize_rotate_sum(
        &self,
        terms: &[(&Ciphertext, usize)],
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        let factor = terms.first().map_or(1, |(first, _)| first.factor);
        for (term, _) in terms {
            self.check(term)?;
            if term.factor != factor {
                let (left, right) = (factor, term.factor);
                return Err(Error::FactorMismatch { left, right });
            }
        }
        let terms: Vec<_> = terms
            .iter()
            .map(|(term, step)| (&term.rlwe, *step))
            .collect();
        Ok(Ciphertext {
            rlwe: self.core.relinearize_rotate_sum(&terms, keys)?,
            factor,
            digest: self.context.digest(),
        })
    }
}
