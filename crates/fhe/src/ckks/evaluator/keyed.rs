//! Operations that need an evaluation key: relinearise, rotate, conjugate.

use scuro_polyring::{Ntt, Poly};

use super::Evaluator;
use crate::ckks::Ciphertext;
use crate::error::Error;
use crate::keys::{EvaluationKeys, GaloisKey};
use crate::rlwe::{Finish, Streamed, SwitchingKey, hoisted};

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
        let key = keys.relinearization_key(ciphertext.level)?;
        let parts = self.switch_third(ciphertext, key, false);
        Ok(Ciphertext {
            parts,
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
        let level = ciphertext.level;
        if level == 0 {
            return Err(Error::NoLevelLeft);
        }
        let parts = self.switch_third(ciphertext, keys.relinearization_key(level)?, true);
        let scale = ciphertext.scale / self.context.parameters().q()[level] as f64;
        Ok(Ciphertext {
            parts,
            level: level - 1,
            scale,
            ..*ciphertext
        })
    }

    /// (c_0, c_1) + switched c_2.
    fn switch_third(
        &self,
        ciphertext: &Ciphertext,
        key: &SwitchingKey,
        rescale: bool,
    ) -> Vec<Poly<Ntt>> {
        let parts = &ciphertext.parts;
        let own = [Some(&parts[0]), Some(&parts[1])];
        let finish = Finish {
            own,
            permutation: None,
            rescale,
        };
        let digits = Streamed::new(&self.context, parts[2].words(), ciphertext.level);
        finish.switch(&self.context, digits, key).into()
    }

    /// Rotates the slots: out\[p\] = in\[(p + step) mod slots\].
    ///
    /// Level, scale: unchanged     Noise: [`crate::noise::NoiseModel::key_switch`]
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
        let Some(key) = self.galois_key(ciphertext, step, keys)? else {
            return Ok(ciphertext.clone());
        };
        let digits = Streamed::new(&self.context, ciphertext.parts[1].words(), ciphertext.level);
        Ok(self.apply_galois(ciphertext, digits, key))
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
        let (context, level) = (&*self.context, ciphertext.level);
        let keys = self.galois_keys(ciphertext, steps, keys)?;
        let mut rotated = vec![ciphertext.clone(); steps.len()];
        let moved = rotated
            .iter_mut()
            .zip(&keys)
            .filter(|(_, key)| key.is_some());
        let mut outs: Vec<&mut Ciphertext> = moved.map(|(out, _)| out).collect();
        let keys: Vec<&GaloisKey> = keys.iter().copied().flatten().collect();
        let parts = [&ciphertext.parts[0], &ciphertext.parts[1]];
        hoisted::rotate_all(context, &[parts], &keys, level, |at, row| {
            let out = outs[at.key].parts[at.half].limb_mut(at.row);
            keys[at.key].permutation.apply(out, row);
        });
        Ok(rotated)
    }

    /// Complex conjugation of the slots (standard ring; the identity in the conjugate-invariant
    /// ring).
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
        let digits = Streamed::new(&self.context, ciphertext.parts[1].words(), ciphertext.level);
        Ok(self.apply_galois(ciphertext, digits, key))
    }

    /// The key of each step, `None` for step 0.
    pub(super) fn galois_keys<'k>(
        &self,
        ciphertext: &Ciphertext,
        steps: &[usize],
        keys: &'k EvaluationKeys,
    ) -> Result<Vec<Option<&'k GaloisKey>>, Error> {
        steps
            .iter()
            .map(|&step| self.galois_key(ciphertext, step, keys))
            .collect()
    }

    fn galois_key<'k>(
        &self,
        ciphertext: &Ciphertext,
        step: usize,
        keys: &'k EvaluationKeys,
    ) -> Result<Option<&'k GaloisKey>, Error> {
        ciphertext.check_parts(2)?;
        self.check_keys(ciphertext, keys)?;
        match step % self.context.parameters().slots() {
            0 => Ok(None),
            step => keys.rotation_key(step, ciphertext.level).map(Some),
        }
    }

    /// The key is for s -> phi^-1(s), so digits stay as they are and phi is applied to the result.
    fn apply_galois(
        &self,
        ciphertext: &Ciphertext,
        digits: Streamed<'_>,
        key: &GaloisKey,
    ) -> Ciphertext {
        let own = [Some(&ciphertext.parts[0]), None];
        let finish = Finish {
            own,
            permutation: Some(&key.permutation),
            rescale: false,
        };
        let parts = finish.switch(&self.context, digits, &key.key).into();
        Ciphertext {
            parts,
            ..*ciphertext
        }
    }

    /// One row of (body, 0) + switched digits, times P; the key's automorphism is still to be
    /// applied.
    pub(crate) fn switched_row(
        &self,
        body: &Poly<Ntt>,
        digits: &mut Streamed<'_>,
        key: &GaloisKey,
        row: usize,
        [out_body, out_mask]: [&mut [u64]; 2],
    ) {
        let (context, level) = (&*self.context, digits.level());
        digits.inner_product(context, &key.key, row, [&mut *out_body, out_mask]);
        if row <= level {
            let (prime, special) = (context.ring().prime(row), context.special_residue(row));
            prime.mul_scalar_add_assign(out_body, body.limb(row), special);
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
