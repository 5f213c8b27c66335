//! Operations on ciphertexts that need no secret key.

use std::sync::Arc;

use rand_core::CryptoRng;

use super::ciphertext::check_factor;
use super::product::Products;
use super::{BfvContext, Ciphertext, Plaintext, SUM_TERMS_MAX};
use crate::bgv;
use crate::error::Error;
use crate::flooding::Flooding;
use crate::keys::{EvaluationKeys, PublicKey};
use crate::noise::Noise;

/// Computes on ciphertexts under one parameter set and plaintext prime, exactly modulo t slot by
/// slot while the noise budget lasts.
#[derive(Debug, Clone)]
pub struct Evaluator {
    context: Arc<BfvContext>,
    /// Everything but products of ciphertexts.
    core: bgv::Evaluator,
}

impl Evaluator {
    /// An evaluator for `context`.
    pub fn new(context: &Arc<BfvContext>) -> Self {
        Self {
            context: Arc::clone(context),
            core: bgv::Evaluator::new(context.exact()),
        }
    }

    /// The context.
    pub fn context(&self) -> &Arc<BfvContext> {
        &self.context
    }

    /// left + right; parts may differ in number.
    ///
    /// # Errors
    /// As [`bgv::Evaluator::add`].
    pub fn add(&self, left: &Ciphertext, right: &Ciphertext) -> Result<Ciphertext, Error> {
        wrap(self.core.add(&left.exact, &right.exact))
    }

    /// left - right.
    ///
    /// # Errors
    /// As [`bgv::Evaluator::add`].
    pub fn sub(&self, left: &Ciphertext, right: &Ciphertext) -> Result<Ciphertext, Error> {
        wrap(self.core.sub(&left.exact, &right.exact))
    }

    /// -ciphertext.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn neg(&self, ciphertext: &Ciphertext) -> Result<Ciphertext, Error> {
        wrap(self.core.neg(&ciphertext.exact))
    }

    /// ciphertext + plaintext.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn add_plain(&self, left: &Ciphertext, right: &Plaintext) -> Result<Ciphertext, Error> {
        let scaled = right.scaled(&self.context, left.level())?;
        wrap(self.core.add_plain(&left.exact, &scaled))
    }

    /// ciphertext - plaintext.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn sub_plain(&self, left: &Ciphertext, right: &Plaintext) -> Result<Ciphertext, Error> {
        let scaled = right.scaled(&self.context, left.level())?;
        wrap(self.core.sub_plain(&left.exact, &scaled))
    }

    /// ciphertext * plaintext, slot by slot.
    ///
    /// Noise: [`bgv::NoiseModel::mul`]     Timing: independent of the plaintext's values
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn mul_plain(&self, left: &Ciphertext, right: &Plaintext) -> Result<Ciphertext, Error> {
        let whole = right.whole(&self.context, left.level())?;
        wrap(self.core.mul_plain(&left.exact, &whole))
    }

    /// ciphertext * w for an integer; noise times |w|.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn mul_integer(&self, ciphertext: &Ciphertext, w: i64) -> Result<Ciphertext, Error> {
        wrap(self.core.mul_integer(&ciphertext.exact, w))
    }

    /// left * right, slot by slot: three parts, to relinearise when convenient.
    ///
    /// Math:  round(t/Q (a_0 b_0, a_0 b_1 + a_1 b_0, a_1 b_1)) over the integers
    /// Level: equal, unchanged     Noise: [`bgv::NoiseModel::mul_scale_invariant`]
    /// Timing: independent of the values
    ///
    /// # Errors
    /// [`Error::PartCount`] unless both have two parts, [`Error::LevelMismatch`],
    /// [`Error::KeyMismatch`], [`Error::ParameterMismatch`].
    pub fn mul(&self, left: &Ciphertext, right: &Ciphertext) -> Result<Ciphertext, Error> {
        self.inner_product(&[left], &[right])
    }

    /// ciphertext squared: three parts.
    ///
    /// # Errors
    /// As [`Evaluator::mul`].
    pub fn square(&self, ciphertext: &Ciphertext) -> Result<Ciphertext, Error> {
        self.inner_product(&[ciphertext], &[ciphertext])
    }

    /// Σ left_i * right_i, scaled once: three parts. A right factor costs more than a left one.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for lists of different or no length or of more than
    /// [`SUM_TERMS_MAX`]; else as [`Evaluator::mul`].
    pub fn inner_product(
        &self,
        left: &[&Ciphertext],
        right: &[&Ciphertext],
    ) -> Result<Ciphertext, Error> {
        let exact = self.products(&cores(left), &cores(right))?;
        Ok(Ciphertext { exact })
    }

    /// [`Evaluator::mul`] of ciphertexts of BGV that have the factor of BFV, without copies.
    ///
    /// # Errors
    /// [`Error::FactorMismatch`] for another factor; else as [`Evaluator::mul`].
    pub fn mul_exact(
        &self,
        left: &bgv::Ciphertext,
        right: &bgv::Ciphertext,
    ) -> Result<bgv::Ciphertext, Error> {
        for operand in [left, right] {
            check_factor(&self.context, operand.level(), operand.factor())?;
        }
        self.products(&[left], &[right])
    }

    fn products(
        &self,
        left: &[&bgv::Ciphertext],
        right: &[&bgv::Ciphertext],
    ) -> Result<bgv::Ciphertext, Error> {
        let Some(&first) = left.first().filter(|_| left.len() == right.len()) else {
            return Err(wrong_length(right.len(), left.len().max(1)));
        };
        if left.len() > SUM_TERMS_MAX {
            return Err(wrong_length(left.len(), SUM_TERMS_MAX));
        }
        for operand in left.iter().chain(right) {
            self.core.check_pair(first, operand)?;
            operand.rlwe.check_parts(2)?;
        }
        let mut exact = first.clone();
        exact.rlwe.parts = Products::new(&self.context, left, right).scaled().into();
        Ok(exact)
    }

    /// Three parts to two; a two-part ciphertext is returned as it is.
    ///
    /// # Errors
    /// As [`bgv::Evaluator::relinearize`].
    pub fn relinearize(
        &self,
        ciphertext: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        wrap(self.core.relinearize(&ciphertext.exact, keys))
    }

    /// Rotates the rows.
    ///
    /// # Errors
    /// As [`bgv::Evaluator::rotate`].
    pub fn rotate(
        &self,
        ciphertext: &Ciphertext,
        step: usize,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        wrap(self.core.rotate(&ciphertext.exact, step, keys))
    }

    /// Several rotations of one ciphertext, decomposed once.
    ///
    /// # Errors
    /// As [`bgv::Evaluator::rotate`].
    pub fn rotate_hoisted(
        &self,
        ciphertext: &Ciphertext,
        steps: &[usize],
        keys: &EvaluationKeys,
    ) -> Result<Vec<Ciphertext>, Error> {
        let rotated = self.core.rotate_hoisted(&ciphertext.exact, steps, keys)?;
        Ok(rotated
            .into_iter()
            .map(|exact| Ciphertext { exact })
            .collect())
    }

    /// Sums of rotations, stage after stage.
    ///
    /// # Errors
    /// As [`bgv::Evaluator::rotate`].
    pub fn fold(
        &self,
        ciphertext: &Ciphertext,
        stages: &[Vec<usize>],
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        wrap(self.core.fold(&ciphertext.exact, stages, keys))
    }

    /// Exchanges the two rows of the standard ring.
    ///
    /// # Errors
    /// As [`bgv::Evaluator::swap_rows`].
    pub fn swap_rows(
        &self,
        ciphertext: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        wrap(self.core.swap_rows(&ciphertext.exact, keys))
    }

    /// Divides by the last prime of the level, rounding: smaller ciphertexts, message unchanged.
    ///
    /// # Errors
    /// [`Error::NoLevelLeft`] at level 0.
    pub fn mod_switch(&self, ciphertext: &Ciphertext) -> Result<Ciphertext, Error> {
        wrap(self.core.mod_switch(&ciphertext.exact))
    }

    /// Re-randomises a ciphertext and drowns its error.
    ///
    /// # Errors
    /// As [`bgv::Evaluator::flood`].
    pub fn flood(
        &self,
        ciphertext: &Ciphertext,
        noise: Noise,
        public: &PublicKey,
        flooding: Flooding,
        rng: &mut impl CryptoRng,
    ) -> Result<Ciphertext, Error> {
        let core = &self.core;
        wrap(core.flood(&ciphertext.exact, noise, public, flooding, rng))
    }
}

/// Operations of BGV other than products of ciphertexts keep the factor -Q mod t.
fn wrap(exact: Result<bgv::Ciphertext, Error>) -> Result<Ciphertext, Error> {
    exact.map(|exact| Ciphertext { exact })
}

fn cores<'a>(list: &[&'a Ciphertext]) -> Vec<&'a bgv::Ciphertext> {
    list.iter().map(|ciphertext| &ciphertext.exact).collect()
}

fn wrong_length(found: usize, expected: usize) -> Error {
    Error::LengthMismatch {
        what: "factors",
        found,
        expected,
    }
}
