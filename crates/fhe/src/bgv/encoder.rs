//! Vectors of integers modulo t to plaintext polynomials and back.

use std::sync::Arc;

use scuro_polyring::{Basis, Ntt, Poly};

use super::{BgvContext, Plaintext};
use crate::error::Error;

/// Encodes and decodes the N slots: row 0 first, then row 1 if there are two.
#[derive(Debug, Clone)]
pub struct Encoder {
    context: Arc<BgvContext>,
}

impl Encoder {
    /// An encoder for `context`.
    pub fn new(context: &Arc<BgvContext>) -> Self {
        Self {
            context: Arc::clone(context),
        }
    }

    /// The context.
    pub fn context(&self) -> &Arc<BgvContext> {
        &self.context
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.context.slots()
    }

    /// Encodes integers in [-t/2, t/2]; slots without a value hold 0.
    ///
    /// Timing: independent of the values
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for more values than slots, [`Error::ValueOutsidePlaintext`],
    /// [`Error::LevelTooHigh`].
    pub fn encode(&self, values: &[i64], level: usize) -> Result<Plaintext, Error> {
        self.encode_with_factor(values, level, 1)
    }

    /// Encodes `factor * values` modulo t: to be added to a ciphertext of that factor.
    ///
    /// # Errors
    /// As [`Encoder::encode`]; [`Error::BadFactor`] unless 0 < factor < t.
    pub fn encode_with_factor(
        &self,
        values: &[i64],
        level: usize,
        factor: u64,
    ) -> Result<Plaintext, Error> {
        let context = &*self.context;
        context.context().check_level(level)?;
        context.check_factor(factor)?;
        let basis = context.context().basis(level);
        Ok(Plaintext {
            poly: self.polynomial(values, factor, basis)?,
            level,
            factor,
            digest: context.digest(),
        })
    }

    /// The polynomial of `factor * values` over any basis of the context's primes.
    pub(crate) fn polynomial(
        &self,
        values: &[i64],
        factor: u64,
        basis: Basis,
    ) -> Result<Poly<Ntt>, Error> {
        Ok(self.context.lift_row(self.row(values)?, factor, basis))
    }

    /// The coefficients modulo t of the polynomial with these slots.
    pub(crate) fn row(&self, values: &[i64]) -> Result<Vec<u64>, Error> {
        let plain = self.context.plain_ring();
        self.check_values(values)?;
        let (mut row, mut residues) = (vec![0; self.slots()], vec![0; values.len()]);
        plain.reduce_signed(&mut residues, values);
        for (&residue, &position) in residues.iter().zip(self.context.positions()) {
            row[position as usize] = residue;
        }
        plain.inverse(&mut row);
        Ok(row)
    }

    /// The slots of a plaintext, in [-t/2, t/2].
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn decode(&self, plaintext: &Plaintext) -> Result<Vec<i64>, Error> {
        self.context.check_digest(plaintext.digest)?;
        let row = self
            .context
            .residues(plaintext.poly.clone(), plaintext.level);
        self.slots_of(row, plaintext.factor)
    }

    /// The slots of a polynomial modulo t, divided by `factor`.
    pub(crate) fn slots_of(&self, mut row: Vec<u64>, factor: u64) -> Result<Vec<i64>, Error> {
        let plain = self.context.plain_ring();
        let t = plain.modulus();
        plain.forward(&mut row);
        let inverse = t.inv(factor)?;
        plain.mul_scalar_assign(&mut row, t.multiplier(inverse));
        let slot = |&position: &u32| t.centre(row[position as usize]);
        Ok(self.context.positions().iter().map(slot).collect())
    }

    fn check_values(&self, values: &[i64]) -> Result<(), Error> {
        if values.len() > self.slots() {
            return Err(Error::LengthMismatch {
                what: "values",
                found: values.len(),
                expected: self.slots(),
            });
        }
        let bound = self.context.plain_modulus().value() / 2;
        let outside = |value: &i64| value.unsigned_abs() > bound;
        // All are looked at, so that time does not tell where one fails.
        if !values.iter().fold(false, |any, value| any | outside(value)) {
            return Ok(());
        }
        let slot = values.iter().position(outside).unwrap_or_default();
        Err(Error::ValueOutsidePlaintext { slot, bound })
    }
}
