//! Operations on ciphertexts that need no secret key.

mod keyed;

use std::sync::Arc;

use rand_core::CryptoRng;

use super::factor::short_multipliers;
use super::{BgvContext, Ciphertext, NoiseModel, Plaintext};
use crate::ckks;
use crate::error::Error;
use crate::flooding::Flooding;
use crate::keys::PublicKey;
use crate::noise::{Noise, Operand};

/// Computes on ciphertexts under one parameter set and plaintext prime.
///
/// All operations are exact modulo t slot by slot while the noise budget lasts.
#[derive(Debug, Clone)]
pub struct Evaluator {
    context: Arc<BgvContext>,
    /// The operations of the ring, which know nothing of t.
    core: ckks::Evaluator,
}

impl Evaluator {
    /// An evaluator for `context`.
    pub fn new(context: &Arc<BgvContext>) -> Self {
        Self {
            context: Arc::clone(context),
            core: ckks::Evaluator::new(context.context()),
        }
    }

    /// The context.
    pub fn context(&self) -> &Arc<BgvContext> {
        &self.context
    }

    /// The operations of the ring.
    pub(crate) fn core(&self) -> &ckks::Evaluator {
        &self.core
    }

    /// left + right; parts may differ in number.
    ///
    /// Level: equal, unchanged
    /// Noise: the sum; if factors differ, both sides times up to sqrt(t) first
    ///
    /// # Errors
    /// [`Error::LevelMismatch`], [`Error::KeyMismatch`], [`Error::ParameterMismatch`].
    pub fn add(&self, left: &Ciphertext, right: &Ciphertext) -> Result<Ciphertext, Error> {
        self.check_pair(left, right)?;
        if left.factor == right.factor {
            let mut sum = left.clone();
            self.core.add_assign(&mut sum.rlwe, &right.rlwe)?;
            return Ok(sum);
        }
        let (mut sum, right) = self.match_factors(left, right)?;
        self.core.add_assign(&mut sum.rlwe, &right.rlwe)?;
        Ok(sum)
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
        self.keep_factor(ciphertext, |rlwe| self.core.neg(rlwe))
    }

    /// ciphertext + plaintext; the plaintext's level may be higher.
    ///
    /// # Errors
    /// [`Error::LevelMismatch`]; [`Error::FactorMismatch`] unless the plaintext was encoded with
    /// the ciphertext's factor.
    pub fn add_plain(
        &self,
        ciphertext: &Ciphertext,
        plaintext: &Plaintext,
    ) -> Result<Ciphertext, Error> {
        self.check_plain(ciphertext, plaintext)?;
        if ciphertext.factor != plaintext.factor {
            return Err(Error::FactorMismatch {
                left: ciphertext.factor,
                right: plaintext.factor,
            });
        }
        let mut sum = ciphertext.clone();
        self.context
            .add_divided(&mut sum.rlwe.parts[0], &plaintext.poly);
        Ok(sum)
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
        self.neg(&self.add_plain(&self.neg(ciphertext)?, plaintext)?)
    }

    /// ciphertext * plaintext, slot by slot.
    ///
    /// Level: unchanged     Factor: product     Noise: [`super::NoiseModel::mul`]
    /// Timing: independent of the plaintext's values
    ///
    /// # Errors
    /// [`Error::LevelMismatch`], [`Error::ParameterMismatch`].
    pub fn mul_plain(
        &self,
        ciphertext: &Ciphertext,
        plaintext: &Plaintext,
    ) -> Result<Ciphertext, Error> {
        self.check_plain(ciphertext, plaintext)?;
        let mut product = ciphertext.clone();
        for part in &mut product.rlwe.parts {
            part.mul_assign(self.context.context().ring(), &plaintext.poly);
        }
        product.factor = self.factor_product(ciphertext.factor, plaintext.factor);
        Ok(product)
    }

    /// ciphertext * w for an integer; noise times |w|.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn mul_integer(&self, ciphertext: &Ciphertext, w: i64) -> Result<Ciphertext, Error> {
        self.keep_factor(ciphertext, |rlwe| self.core.mul_integer(rlwe, w))
    }

    /// ciphertext + value in every slot: no transform needed.
    ///
    /// Level, factor: unchanged     Noise: + t/2 in one coefficient
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn add_constant(&self, ciphertext: &Ciphertext, value: i64) -> Result<Ciphertext, Error> {
        self.check(ciphertext)?;
        let t = self.context.plain_modulus();
        let residue = t.mul(t.reduce_signed(value), ciphertext.factor);
        let mut sum = ciphertext.clone();
        self.context
            .add_divided_constant(&mut sum.rlwe.parts[0], t.centre(residue));
        Ok(sum)
    }

    /// left * right, slot by slot: three parts, to relinearise when convenient.
    ///
    /// Level: equal, unchanged     Factor: product     Noise: [`super::NoiseModel::mul`]
    ///
    /// # Errors
    /// [`Error::PartCount`] unless both have two parts, [`Error::LevelMismatch`],
    /// [`Error::KeyMismatch`].
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

    /// Σ left_i * right_i with one reduction at the end: three parts.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for lists of different or no length; [`Error::FactorMismatch`] if
    /// the products' factors differ; else as [`Evaluator::mul`].
    pub fn inner_product(
        &self,
        left: &[&Ciphertext],
        right: &[&Ciphertext],
    ) -> Result<Ciphertext, Error> {
        let operands = left.iter().chain(right);
        operands.clone().try_for_each(|c| self.check(c))?;
        let mut factors = left
            .iter()
            .zip(right)
            .map(|(a, b)| self.factor_product(a.factor, b.factor));
        let factor = factors.next().unwrap_or(1);
        if let Some(right) = factors.find(|&found| found != factor) {
            let left = factor;
            return Err(Error::FactorMismatch { left, right });
        }
        let (left, right) = (cores(left), cores(right));
        let plain = Some(self.context.plain_residues());
        let rlwe = self.core.scaled_inner_product(&left, &right, plain)?;
        Ok(Ciphertext {
            rlwe,
            factor,
            digest: self.context.digest(),
        })
    }

    /// Divides by the last prime of the level, rounding: less noise in a smaller modulus.
    ///
    /// Math:  c'_i = round(c_i / q_l); see the module's words on why messages stay exact
    /// Level: l -> l - 1     Factor: f -> f / q_l     Noise: [`super::NoiseModel::mod_switch`]
    ///
    /// # Errors
    /// [`Error::NoLevelLeft`] at level 0.
    pub fn mod_switch(&self, ciphertext: &Ciphertext) -> Result<Ciphertext, Error> {
        self.check(ciphertext)?;
        let rlwe = self.core.rescale(&ciphertext.rlwe)?;
        Ok(self.exact(rlwe, ciphertext.factor, true))
    }

    /// Drops limbs without dividing: the noise keeps its size, so the budget shrinks by the
    /// primes dropped.
    ///
    /// Level: -> `level`     Factor, noise: unchanged
    ///
    /// # Errors
    /// [`Error::LevelTooHigh`] if `level` is above the ciphertext's.
    pub fn mod_drop(&self, ciphertext: &Ciphertext, level: usize) -> Result<Ciphertext, Error> {
        self.keep_factor(ciphertext, |rlwe| self.core.mod_drop(rlwe, level))
    }

    /// Brings two ciphertexts to the lower of their levels, by modulus switches, and to one
    /// factor, by integers of at most sqrt(t).
    ///
    /// # Errors
    /// [`Error::KeyMismatch`], [`Error::ParameterMismatch`].
    pub fn align(
        &self,
        left: &Ciphertext,
        right: &Ciphertext,
    ) -> Result<(Ciphertext, Ciphertext), Error> {
        let level = left.level().min(right.level());
        let lower = |ciphertext: &Ciphertext| {
            let mut out = ciphertext.clone();
            while out.level() > level {
                out = self.mod_switch(&out)?;
            }
            Ok::<_, Error>(out)
        };
        let (left, right) = (lower(left)?, lower(right)?);
        self.check_pair(&left, &right)?;
        if left.factor == right.factor {
            return Ok((left, right));
        }
        self.match_factors(&left, &right)
    }

    /// Re-randomises a ciphertext and drowns its error, exactly: see [`crate::flooding`].
    ///
    /// `noise` is the bound of [`NoiseModel`] for the ciphertext.
    ///
    /// Level, factor: unchanged     Noise: [`NoiseModel::flooded`]
    ///
    /// # Errors
    /// As [`ckks::Evaluator::flood`]; there is room where the result decrypts exactly.
    pub fn flood(
        &self,
        ciphertext: &Ciphertext,
        noise: Noise,
        public: &PublicKey,
        flooding: Flooding,
        rng: &mut impl CryptoRng,
    ) -> Result<Ciphertext, Error> {
        self.check(ciphertext)?;
        let parameters = self.context.context().parameters();
        let plain_bits = (self.context.plain_modulus().value() as f64).log2();
        let room_bits = parameters.log_q(ciphertext.level()) - 1.0 - plain_bits;
        // The centred message over t is at most 1/2.
        let operand = Operand {
            magnitude: 0.5,
            noise: NoiseModel::new(&self.context).error(noise),
        };
        let model = crate::noise::NoiseModel::new(parameters);
        let (core, within) = (&self.core, (&model, room_bits));
        let rlwe = core.flood_within(&ciphertext.rlwe, operand, within, public, flooding, rng)?;
        Ok(with(ciphertext, rlwe))
    }

    /// As [`ckks::Evaluator::rerandomize`].
    ///
    /// Level, factor: unchanged     Noise: + t times that of an encryption of zero
    ///
    /// # Errors
    /// As [`ckks::Evaluator::rerandomize`].
    pub fn rerandomize(
        &self,
        ciphertext: &Ciphertext,
        public: &PublicKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Ciphertext, Error> {
        self.keep_factor(ciphertext, |rlwe| self.core.rerandomize(rlwe, public, rng))
    }

    /// An operation of the ring that leaves the factor as it is.
    fn keep_factor(
        &self,
        ciphertext: &Ciphertext,
        operation: impl FnOnce(&ckks::Ciphertext) -> Result<ckks::Ciphertext, Error>,
    ) -> Result<Ciphertext, Error> {
        self.check(ciphertext)?;
        Ok(with(ciphertext, operation(&ciphertext.rlwe)?))
    }

    /// The result of an operation of the ring on messages of `factor`, which the prime after its
    /// level was divided out of if `switched`.
    pub(crate) fn exact(
        &self,
        mut rlwe: ckks::Ciphertext,
        factor: u64,
        switched: bool,
    ) -> Ciphertext {
        rlwe.scale = 1.0;
        let factor = match switched {
            true => self.factor_product(factor, self.context.switch_factor(rlwe.level + 1)),
            false => factor,
        };
        Ciphertext {
            rlwe,
            factor,
            digest: self.context.digest(),
        }
    }

    fn match_factors(
        &self,
        left: &Ciphertext,
        right: &Ciphertext,
    ) -> Result<(Ciphertext, Ciphertext), Error> {
        let t = self.context.plain_modulus();
        let (a, b) = short_multipliers(t, left.factor, right.factor)?;
        let scaled = |ciphertext: &Ciphertext, w: i64| {
            let mut out = self.mul_integer(ciphertext, w)?;
            out.factor = self.factor_product(ciphertext.factor, t.reduce_signed(w));
            Ok::<_, Error>(out)
        };
        Ok((scaled(left, a)?, scaled(right, b)?))
    }

    pub(crate) fn factor_product(&self, left: u64, right: u64) -> u64 {
        self.context.plain_modulus().mul(left, right)
    }

    pub(crate) fn check(&self, ciphertext: &Ciphertext) -> Result<(), Error> {
        self.context.check_digest(ciphertext.digest)
    }

    pub(crate) fn check_pair(&self, left: &Ciphertext, right: &Ciphertext) -> Result<(), Error> {
        self.check(left)?;
        self.check(right)?;
        right.rlwe.check_key(left.key_id())?;
        if left.level() != right.level() {
            return Err(Error::LevelMismatch {
                left: left.level(),
                right: right.level(),
            });
        }
        Ok(())
    }

    fn check_plain(&self, ciphertext: &Ciphertext, plaintext: &Plaintext) -> Result<(), Error> {
        self.check(ciphertext)?;
        self.context.check_digest(plaintext.digest)?;
        if plaintext.level < ciphertext.level() {
            return Err(Error::LevelMismatch {
                left: ciphertext.level(),
                right: plaintext.level,
            });
        }
        Ok(())
    }
}

/// Other polynomials with the same factor.
fn with(ciphertext: &Ciphertext, rlwe: ckks::Ciphertext) -> Ciphertext {
    Ciphertext {
        rlwe,
        factor: ciphertext.factor,
        digest: ciphertext.digest,
    }
}

fn cores<'a>(list: &[&'a Ciphertext]) -> Vec<&'a ckks::Ciphertext> {
    list.iter().map(|ciphertext| &ciphertext.rlwe).collect()
}
