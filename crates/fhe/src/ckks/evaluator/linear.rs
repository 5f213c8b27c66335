//! Sums, products with constants, level changes.

use super::{Evaluator, check_scales};
use crate::ckks::{Ciphertext, Plaintext};
use crate::error::Error;
use crate::rlwe::division;

impl Evaluator {
    /// left + right; parts may differ in number.
    ///
    /// Level: equal, unchanged     Scale: equal up to [`super::SCALE_TOLERANCE`]     Noise: the sum
    ///
    /// # Errors
    /// [`Error::LevelMismatch`], [`Error::ScaleMismatch`], [`Error::KeyMismatch`].
    pub fn add(&self, left: &Ciphertext, right: &Ciphertext) -> Result<Ciphertext, Error> {
        let mut sum = left.clone();
        self.add_assign(&mut sum, right)?;
        Ok(sum)
    }

    /// left += right.
    ///
    /// # Errors
    /// As [`Evaluator::add`].
    pub fn add_assign(&self, left: &mut Ciphertext, right: &Ciphertext) -> Result<(), Error> {
        self.check_pair(left, right)?;
        check_scales(left.scale, right.scale)?;
        for (x, y) in left.parts.iter_mut().zip(&right.parts) {
            x.add_assign(self.context.ring(), y);
        }
        let missing = right.parts.iter().skip(left.parts.len()).cloned();
        left.parts.extend(missing.collect::<Vec<_>>());
        Ok(())
    }

    /// left - right.
    ///
    /// # Errors
    /// As [`Evaluator::add`].
    pub fn sub(&self, left: &Ciphertext, right: &Ciphertext) -> Result<Ciphertext, Error> {
        self.add(left, &self.neg(right)?)
    }

    /// -ciphertext.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn neg(&self, ciphertext: &Ciphertext) -> Result<Ciphertext, Error> {
        self.check(ciphertext)?;
        let mut out = ciphertext.clone();
        out.parts
            .iter_mut()
            .for_each(|part| part.neg_assign(self.context.ring()));
        Ok(out)
    }

    /// ciphertext + plaintext; the plaintext's level may be higher.
    ///
    /// # Errors
    /// [`Error::LevelMismatch`], [`Error::ScaleMismatch`].
    pub fn add_plain(
        &self,
        ciphertext: &Ciphertext,
        plaintext: &Plaintext,
    ) -> Result<Ciphertext, Error> {
        let mut out = ciphertext.clone();
        self.add_plain_assign(&mut out, plaintext)?;
        Ok(out)
    }

    /// ciphertext += plaintext.
    ///
    /// # Errors
    /// As [`Evaluator::add_plain`].
    pub fn add_plain_assign(
        &self,
        ciphertext: &mut Ciphertext,
        plaintext: &Plaintext,
    ) -> Result<(), Error> {
        self.check_plain(ciphertext, plaintext)?;
        check_scales(ciphertext.scale, plaintext.scale)?;
        ciphertext.parts[0].add_assign(self.context.ring(), &plaintext.poly);
        Ok(())
    }

    /// ciphertext - plaintext.
    ///
    /// # Errors
    /// As [`Evaluator::add_plain`].
    pub fn sub_plain(
        &self,
        ciphertext: &Ciphertext,
        plaintext: &Plaintext,
    ) -> Result<Ciphertext, Error> {
        self.check_plain(ciphertext, plaintext)?;
        check_scales(ciphertext.scale, plaintext.scale)?;
        let mut out = ciphertext.clone();
        out.parts[0].sub_assign(self.context.ring(), &plaintext.poly);
        Ok(out)
    }

    /// ciphertext * plaintext, slot by slot, without rescaling.
    ///
    /// Level: unchanged     Scale: product     Timing: independent of the plaintext's values
    ///
    /// # Errors
    /// [`Error::LevelMismatch`], [`Error::ParameterMismatch`].
    pub fn mul_plain(
        &self,
        ciphertext: &Ciphertext,
        plaintext: &Plaintext,
    ) -> Result<Ciphertext, Error> {
        self.check_plain(ciphertext, plaintext)?;
        let mut out = ciphertext.clone();
        for part in &mut out.parts {
            part.mul_assign(self.context.ring(), &plaintext.poly);
        }
        out.scale *= plaintext.scale;
        Ok(out)
    }

    /// ciphertext * w for an integer; scale unchanged.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn mul_integer(&self, ciphertext: &Ciphertext, w: i64) -> Result<Ciphertext, Error> {
        self.check(ciphertext)?;
        let mut out = ciphertext.clone();
        out.parts
            .iter_mut()
            .for_each(|part| part.mul_integer_assign(self.context.ring(), w));
        Ok(out)
    }

    /// ciphertext * value for one real constant, rounded at `scale`: no transform needed.
    ///
    /// Scale: product with `scale`
    ///
    /// # Errors
    /// [`Error::ValueTooLarge`] if |value| * scale does not fit 62 bits, [`Error::NotFinite`].
    pub fn mul_constant(
        &self,
        ciphertext: &Ciphertext,
        value: f64,
        scale: f64,
    ) -> Result<Ciphertext, Error> {
        let factor = rounded(value, scale, 62, ciphertext.level)? as i64;
        let mut out = self.mul_integer(ciphertext, factor)?;
        out.scale *= scale;
        Ok(out)
    }

    /// ciphertext + value in every slot, rounded at the ciphertext's scale: no transform needed.
    ///
    /// # Errors
    /// [`Error::ValueTooLarge`] if |value| * scale does not fit 120 bits, [`Error::NotFinite`].
    pub fn add_constant(&self, ciphertext: &Ciphertext, value: f64) -> Result<Ciphertext, Error> {
        self.check(ciphertext)?;
        let rounded = rounded(value, ciphertext.scale, 120, ciphertext.level)?;
        let mut out = ciphertext.clone();
        for (i, row) in out.parts[0].rows_mut() {
            let modulus = self.context.ring().prime(i).modulus();
            // A constant polynomial has the same value at every root.
            let residue = modulus.reduce_signed_wide(rounded as i128);
            row.iter_mut()
                .for_each(|value| *value = modulus.add(*value, residue));
        }
        Ok(out)
    }

    /// Drops limbs without dividing.
    ///
    /// Level: -> `level`     Scale: unchanged     Noise: unchanged
    ///
    /// # Errors
    /// [`Error::LevelTooHigh`] if `level` is above the ciphertext's.
    pub fn mod_drop(&self, ciphertext: &Ciphertext, level: usize) -> Result<Ciphertext, Error> {
        self.check(ciphertext)?;
        if level > ciphertext.level {
            return Err(Error::LevelTooHigh {
                found: level,
                max: ciphertext.level,
            });
        }
        let parts = ciphertext
            .parts
            .iter()
            .map(|part| part.prefix(level + 1))
            .collect();
        Ok(Ciphertext {
            parts,
            level,
            ..*ciphertext
        })
    }

    /// Divides by the last prime of the level, rounding.
    ///
    /// Math:  c'_i = round(c_i / q_l)  in R_{Q/q_l}
    /// Level: l -> l - 1     Scale: s -> s / q_l     Noise: [`crate::noise::NoiseModel::rescale`]
    ///
    /// # Errors
    /// [`Error::NoLevelLeft`] at level 0.
    pub fn rescale(&self, ciphertext: &Ciphertext) -> Result<Ciphertext, Error> {
        self.rescale_owned(ciphertext.clone())
    }

    /// [`Evaluator::rescale`] without the copy.
    ///
    /// # Errors
    /// As [`Evaluator::rescale`].
    pub fn rescale_owned(&self, ciphertext: Ciphertext) -> Result<Ciphertext, Error> {
        self.check(&ciphertext)?;
        let Ciphertext {
            parts,
            level,
            scale,
            ..
        } = ciphertext;
        if level == 0 {
            return Err(Error::NoLevelLeft);
        }
        let divide = |part| division::by_last(&self.context, part, level);
        let parts = parts.into_iter().map(divide).collect();
        let scale = scale / self.context.parameters().q()[level] as f64;
        Ok(Ciphertext {
            parts,
            level: level - 1,
            scale,
            ..ciphertext
        })
    }
}

/// round(value * scale), refused from 2^bits on.
fn rounded(value: f64, scale: f64, bits: u32, level: usize) -> Result<f64, Error> {
    if !value.is_finite() {
        return Err(Error::NotFinite { slot: 0 });
    }
    let scaled = (value * scale).round();
    let (magnitude_bits, modulus_bits) = (scaled.abs().log2(), f64::from(bits));
    if magnitude_bits >= modulus_bits {
        return Err(Error::ValueTooLarge {
            magnitude_bits,
            modulus_bits,
            level,
        });
    }
    Ok(scaled)
}
