//! Polynomials of every slot.
//!
//! Math: Paterson-Stockmeyer. With babies x^1 .. x^(k-1) and giants x^k, x^2k, x^4k, ... a
//!     polynomial is split p = q x^m + r at the largest giant m until its degree is below k, where
//!     it is a sum of babies times constants. Every product's scale is chosen so that sums meet at
//!     one level and, exactly, one scale.
//!
//! Source: Paterson, Stockmeyer 1973; the scale propagation follows Bossuat, Mouchet,
//!     Troncoso-Pastoriza, Hubaux 2021, section 5.

use std::collections::BTreeMap;

use crate::ckks::{Ciphertext, Evaluator};
use crate::error::Error;
use crate::keys::EvaluationKeys;

/// Largest degree that is evaluated.
pub const DEGREE_MAX: usize = 1023;
/// Up to this degree the evaluation takes the fewest levels; above it, fewer products and one level
/// more.
const SHALLOW_DEGREE: usize = 15;

/// Levels that a polynomial of `degree` takes.
pub fn depth(degree: usize) -> usize {
    let plan = Plan::new(degree);
    plan.splits + plan.baby_depth() + 1
}

/// Σ coefficients_i x^i in every slot, lowest coefficient first.
///
/// Level: l -> l - [`depth`]     Scale: that of `x`, exactly     Keys: relinearisation at the level
///     of `x`
///
/// # Errors
/// [`Error::LengthMismatch`] unless the degree, trailing zeros cut, is in 1..=[`DEGREE_MAX`];
/// [`Error::NoLevelLeft`] if `x` has too few levels; errors of products and of the key.
pub fn evaluate(
    evaluator: &Evaluator,
    x: &Ciphertext,
    coefficients: &[f64],
    keys: &EvaluationKeys,
) -> Result<Ciphertext, Error> {
    let used = coefficients
        .iter()
        .rposition(|&c| c != 0.0)
        .map_or(0, |last| last + 1);
    let coefficients = &coefficients[..used];
    if !(2..=DEGREE_MAX + 1).contains(&used) {
        let what = "polynomial coefficients";
        return Err(Error::LengthMismatch {
            what,
            found: used,
            expected: 2,
        });
    }
    if let Some(slot) = coefficients.iter().position(|c| !c.is_finite()) {
        return Err(Error::NotFinite { slot });
    }
    let level = x
        .level()
        .checked_sub(depth(used - 1))
        .ok_or(Error::NoLevelLeft)?;
    let mut powers = Powers {
        evaluator,
        keys,
        known: BTreeMap::from([(1, x.clone())]),
    };
    let plan = Plan::new(used - 1);
    let (sum, constant) = powers.rescaled(&plan, coefficients, plan.splits, level, x.scale())?;
    match sum {
        Some(sum) => evaluator.add_constant(&sum, constant),
        None => Err(Error::LengthMismatch {
            what: "polynomial coefficients",
            found: 1,
            expected: 2,
        }),
    }
}

/// Babies below 2^log_babies, then `splits` giants.
#[derive(Debug, Clone, Copy)]
struct Plan {
    log_babies: usize,
    splits: usize,
}

impl Plan {
    fn new(degree: usize) -> Self {
        let bits = (usize::BITS - degree.leading_zeros()) as usize;
        let log_babies = if degree <= SHALLOW_DEGREE {
            1
        } else {
            bits.div_ceil(2)
        };
        Self {
            log_babies,
            splits: bits.saturating_sub(log_babies),
        }
    }

    /// Levels down to the highest baby.
    fn baby_depth(self) -> usize {
        if self.log_babies == 1 {
            0
        } else {
            self.log_babies
        }
    }
}

/// Powers of x computed so far, each with its own level and scale.
struct Powers<'a> {
    evaluator: &'a Evaluator,
    keys: &'a EvaluationKeys,
    known: BTreeMap<usize, Ciphertext>,
}

/// A ciphertext, if any power takes part, and the constant still to be added.
type Sum = (Option<Ciphertext>, f64);

impl Powers<'_> {
    /// x^i at level(x) - ceil(log2 i).
    fn power(&mut self, i: usize) -> Result<Ciphertext, Error> {
        if let Some(power) = self.known.get(&i) {
            return Ok(power.clone());
        }
        let high = i.next_power_of_two() / 2;
        let (a, b) = (self.power(high)?, self.power(i - high)?);
        let b = self.evaluator.mod_drop(&b, a.level())?;
        let product = self.evaluator.mul(&a, &b)?;
        let power = self.evaluator.relinearize_rescale(&product, self.keys)?;
        self.known.insert(i, power.clone());
        Ok(power)
    }

    /// The polynomial without its constant, at `level` and `scale`, and that constant.
    fn rescaled(
        &mut self,
        plan: &Plan,
        coefficients: &[f64],
        splits: usize,
        level: usize,
        scale: f64,
    ) -> Result<Sum, Error> {
        let wide = scale * self.prime(level + 1);
        let (sum, constant) = self.raw(plan, coefficients, splits, level + 1, wide)?;
        let rescale = |sum| self.evaluator.relinearize_rescale(&sum, self.keys);
        Ok((sum.map(rescale).transpose()?, constant))
    }

    /// The same before its last rescale, perhaps of three parts.
    fn raw(
        &mut self,
        plan: &Plan,
        coefficients: &[f64],
        splits: usize,
        level: usize,
        scale: f64,
    ) -> Result<Sum, Error> {
        if splits == 0 {
            return self.babies(coefficients, level, scale);
        }
        let split = 1 << (plan.log_babies + splits - 1);
        if coefficients.len() <= split {
            return self.raw(plan, coefficients, splits - 1, level, scale);
        }
        let (low, high) = coefficients.split_at(split);
        let giant = self.power(split)?;
        let giant = self.evaluator.mod_drop(&giant, level)?;
        let factor = scale / giant.scale();
        let (high, top) = self.rescaled(plan, high, splits - 1, level, factor)?;
        let mut product = match high {
            Some(high) => {
                let high = self.evaluator.add_constant(&high, top)?;
                self.evaluator.mul(&high, &giant)?
            }
            None => self.evaluator.mul_constant(&giant, top, factor)?,
        };
        let (low, constant) = self.raw(plan, low, splits - 1, level, scale)?;
        if let Some(low) = low {
            self.evaluator.add_assign(&mut product, &low)?;
        }
        Ok((Some(product), constant))
    }

    /// Σ_{i>0} c_i x^i at `level` and `scale`.
    fn babies(&mut self, coefficients: &[f64], level: usize, scale: f64) -> Result<Sum, Error> {
        let constant = coefficients.first().copied().unwrap_or(0.0);
        let mut sum: Option<Ciphertext> = None;
        for (i, &c) in coefficients
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, c)| **c != 0.0)
        {
            let power = self.power(i)?;
            let power = self.evaluator.mod_drop(&power, level)?;
            let term = self
                .evaluator
                .mul_constant(&power, c, scale / power.scale())?;
            match &mut sum {
                Some(sum) => self.evaluator.add_assign(sum, &term)?,
                None => sum = Some(term),
            }
        }
        Ok((sum, constant))
    }

    fn prime(&self, level: usize) -> f64 {
        self.evaluator.context().parameters().q()[level] as f64
    }
}
