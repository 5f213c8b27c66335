//! Operations that need an evaluation key: relinearise, rotate, conjugate.

use scuro_polyring::{Ntt, Poly};

use super::Evaluator;
use crate::ckks::Ciphertext;
use crate::error::Error;
use crate::keys::{EvaluationKeys, GaloisKey};
use crate::rlwe::keyswitch::Extended;
use crate::rlwe::{Decomposed, division, keyswitch};

impl Evaluator {
    /// Three parts to two; a two-part ciphertext is returned as it is.
    ///
    /// Level, scale: unchanged     Noise: [`crate::noise::NoiseModel::key_switch`]
    ///
    /// # Errors
    /// [`Error::MissingRelinearizationKey`], [`Error::KeyLevelTooLow`], [`Error::KeyMismatch`].
    pub fn relinearize(
        &self,
        ciphertext: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        if ciphertext.parts.len() == 2 {
            return Ok(ciphertext.clone());
        }
        self.check_keys(ciphertext, keys)?;
        let (context, level) = (&*self.context, ciphertext.level);
        let key = keys.relinearization_key(level)?;
        let mut parts = keyswitch::switch(context, &ciphertext.parts[2], level, key);
        for (part, own) in parts.iter_mut().zip(&ciphertext.parts) {
            part.add_assign(context.ring(), own);
        }
        Ok(Ciphertext {
            parts: parts.into(),
            ..*ciphertext
        })
    }

    /// Relinearises and rescales in one division by P q_l.
    ///
    /// Level: l -> l - 1     Scale: s -> s / q_l
    ///
    /// # Errors
    /// As [`Evaluator::relinearize`] and [`Evaluator::rescale`].
    pub fn relinearize_rescale(
        &self,
        ciphertext: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        if ciphertext.parts.len() == 2 {
            return self.rescale(ciphertext);
        }
        self.check_keys(ciphertext, keys)?;
        let (context, level) = (&*self.context, ciphertext.level);
        if level == 0 {
            return Err(Error::NoLevelLeft);
        }
        let key = keys.relinearization_key(level)?;
        let switched = Decomposed::new(context, &ciphertext.parts[2], level);
        let mut parts = switched.inner_product(context, key);
        for (part, own) in parts.iter_mut().zip(&ciphertext.parts) {
            self.add_times_special(part, own);
        }
        let parts = parts.map(|part| division::by_special_and_last(context, part, level));
        let scale = ciphertext.scale / context.parameters().q()[level] as f64;
        Ok(Ciphertext {
            parts: parts.into(),
            level: level - 1,
            scale,
            ..*ciphertext
        })
    }

    /// Rotates the slots: out\[p\] = in\[(p + step) mod slots\].
    ///
    /// Level, scale: unchanged     Noise: [`crate::noise::NoiseModel::key_switch`]
    ///
    /// # Errors
    /// [`Error::PartCount`] for a ciphertext that is not relinearised, [`Error::MissingRotationKey`],
    /// [`Error::KeyLevelTooLow`], [`Error::KeyMismatch`].
    pub fn rotate(
        &self,
        ciphertext: &Ciphertext,
        step: usize,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        let mut rotated = self.rotate_hoisted(ciphertext, &[step], keys)?;
        Ok(rotated.swap_remove(0))
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
        let level = ciphertext.level;
        let keys = self.galois_keys(ciphertext, steps, keys)?;
        if keys.iter().all(Option::is_none) {
            return Ok(vec![ciphertext.clone(); steps.len()]);
        }
        let digits = Decomposed::new(&self.context, &ciphertext.parts[1], level);
        let rotate = |key: Option<&GaloisKey>| match key {
            None => ciphertext.clone(),
            Some(key) => self.apply_galois(ciphertext, &digits, key),
        };
        Ok(keys.into_iter().map(rotate).collect())
    }

    /// Σ of several rotations of one ciphertext: one decomposition, one division by P.
    ///
    /// Level, scale: unchanged     Noise: one key switch per rotation, one rounding
    ///
    /// # Errors
    /// As [`Evaluator::rotate`].
    pub fn rotate_sum(
        &self,
        ciphertext: &Ciphertext,
        steps: &[usize],
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        let galois = self.galois_keys(ciphertext, steps, keys)?;
        let (context, level) = (&*self.context, ciphertext.level);
        let ring = context.ring();
        let parts = ciphertext.parts();
        let basis = context.extended_basis(level);
        let mut total = [Poly::zero(ring, basis.clone()), Poly::zero(ring, basis)];
        let still = galois.iter().filter(|key| key.is_none()).count() as i64;
        for (total, part) in total.iter_mut().zip(parts).filter(|_| still > 0) {
            let mut part = part.clone();
            part.mul_integer_assign(ring, still);
            self.add_times_special(total, &part);
        }
        let digits = Decomposed::new(context, &parts[1], level);
        for key in galois.into_iter().flatten() {
            let rotated = self.galois_extended(&parts[0], &digits, key);
            for (total, part) in total.iter_mut().zip(&rotated) {
                total.add_assign(ring, part);
            }
        }
        let parts = total
            .map(|part| division::by_special(context, part, level))
            .into();
        Ok(Ciphertext {
            parts,
            ..*ciphertext
        })
    }

    /// Complex conjugation of the slots (standard ring; the identity in the conjugate-invariant ring).
    ///
    /// # Errors
    /// As [`Evaluator::rotate`], with [`Error::MissingConjugationKey`].
    pub fn conjugate(
        &self,
        ciphertext: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        ciphertext.check_parts(2)?;
        self.check_keys(ciphertext, keys)?;
        if self.context.ring().kind() == scuro_polyring::RingKind::ConjugateInvariant {
            return Ok(ciphertext.clone());
        }
        let key = keys.conjugation_key(ciphertext.level)?;
        let digits = Decomposed::new(&self.context, &ciphertext.parts[1], ciphertext.level);
        Ok(self.apply_galois(ciphertext, &digits, key))
    }

    /// The key of each step, `None` for step 0.
    fn galois_keys<'k>(
        &self,
        ciphertext: &Ciphertext,
        steps: &[usize],
        keys: &'k EvaluationKeys,
    ) -> Result<Vec<Option<&'k GaloisKey>>, Error> {
        ciphertext.check_parts(2)?;
        self.check_keys(ciphertext, keys)?;
        let slots = self.context.parameters().slots();
        let key = |step: &usize| match step % slots {
            0 => Ok(None),
            step => keys.rotation_key(step, ciphertext.level).map(Some),
        };
        steps.iter().map(key).collect()
    }

    /// The key is for s -> phi^-1(s), so digits stay as they are and phi is applied to the result.
    fn apply_galois(
        &self,
        ciphertext: &Ciphertext,
        digits: &Decomposed,
        key: &GaloisKey,
    ) -> Ciphertext {
        let (context, level) = (&*self.context, ciphertext.level);
        let ring = context.ring();
        let switched = digits.inner_product(context, &key.key);
        let [mut body, mask] = switched.map(|part| division::by_special(context, part, level));
        body.add_assign(ring, &ciphertext.parts[0]);
        let parts = [body, mask]
            .map(|part| part.permuted(ring, &key.permutation))
            .into();
        Ciphertext {
            parts,
            ..*ciphertext
        }
    }

    /// The image of (c_0, c_1) under the key's automorphism times P, before division: basis Q_level P.
    pub(crate) fn galois_extended(
        &self,
        body: &Poly<Ntt>,
        digits: &Decomposed,
        key: &GaloisKey,
    ) -> Extended {
        let ring = self.context.ring();
        let [mut switched, mask] = digits.inner_product(&self.context, &key.key);
        self.add_times_special(&mut switched, body);
        [switched, mask].map(|part| part.permuted(ring, &key.permutation))
    }

    /// extended += P * own on the rows of `own`.
    pub(crate) fn add_times_special(&self, extended: &mut Poly<Ntt>, own: &Poly<Ntt>) {
        let ring = self.context.ring();
        for ((i, out), (_, row)) in extended.rows_mut().zip(own.rows()) {
            ring.prime(i)
                .mul_scalar_add_assign(out, row, self.context.special_residue(i));
        }
    }

    pub(crate) fn check_keys(
        &self,
        ciphertext: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<(), Error> {
        self.check(ciphertext)?;
        self.context.check_digest(keys.digest())?;
        ciphertext.check_key(keys.key_id())
    }
}
