//! Vectors of numbers to plaintext polynomials and back.

use std::sync::Arc;

use scuro_polyring::{Basis, Coeff, Ntt, Poly, RingKind};

use super::Plaintext;
use super::ciphertext::check_scale;
use super::float::{EXACT, integer_to_double, round_to_integer};
use crate::context::Context;
use crate::error::Error;

/// Encodes and decodes under one parameter set.
#[derive(Debug, Clone)]
pub struct Encoder {
    context: Arc<Context>,
}

impl Encoder {
    /// An encoder for `context`.
    pub fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
        }
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.context.parameters().slots()
    }

    /// The context.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Encodes real values; missing ones are zero.
    ///
    /// Math:  m = round(scale * embedding^-1(values))
    /// Noise: rounding of 1/2 per coefficient
    /// Timing: independent of the values, except that magnitudes above 2^51 take another path
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for more values than slots, [`Error::NotFinite`], [`Error::ValueTooLarge`]
    /// if scale * max|value| reaches Q_level / 2, [`Error::BadScale`], [`Error::LevelTooHigh`].
    pub fn encode(&self, values: &[f64], level: usize, scale: f64) -> Result<Plaintext, Error> {
        self.plaintext(values, &[], level, scale)
    }

    /// Encodes complex values (standard ring).
    ///
    /// # Errors
    /// As [`Encoder::encode`], and [`Error::RealSlotsOnly`] in the conjugate-invariant ring.
    pub fn encode_complex(
        &self,
        real: &[f64],
        imaginary: &[f64],
        level: usize,
        scale: f64,
    ) -> Result<Plaintext, Error> {
        if self.context.parameters().ring() == RingKind::ConjugateInvariant {
            return Err(Error::RealSlotsOnly);
        }
        self.plaintext(real, imaginary, level, scale)
    }

    /// The real parts of all slots.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn decode(&self, plaintext: &Plaintext) -> Result<Vec<f64>, Error> {
        Ok(self.decode_complex(plaintext)?.0)
    }

    /// All slots; the imaginary parts are empty in the conjugate-invariant ring.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn decode_complex(&self, plaintext: &Plaintext) -> Result<(Vec<f64>, Vec<f64>), Error> {
        self.context.check_digest(plaintext.digest)?;
        let mut coefficients = centred_coefficients(&self.context, plaintext.poly.clone());
        let factor = plaintext.scale.recip();
        coefficients.iter_mut().for_each(|x| *x *= factor);
        Ok(self.context.embedding().to_slots(&coefficients))
    }

    fn plaintext(
        &self,
        real: &[f64],
        imaginary: &[f64],
        level: usize,
        scale: f64,
    ) -> Result<Plaintext, Error> {
        let context = &*self.context;
        context.check_level(level)?;
        let poly = self.polynomial(real, imaginary, level, scale, context.basis(level))?;
        Ok(Plaintext {
            poly,
            level,
            scale,
            digest: context.digest(),
        })
    }

    /// Encodes over any basis; the range check is against Q_level.
    pub(crate) fn polynomial(
        &self,
        real: &[f64],
        imaginary: &[f64],
        level: usize,
        scale: f64,
        basis: Basis,
    ) -> Result<Poly<Ntt>, Error> {
        let context = &*self.context;
        check_scale(scale, context, level)?;
        for values in [real, imaginary] {
            check_values(values, self.slots())?;
        }
        let largest = real
            .iter()
            .chain(imaginary)
            .fold(0.0f64, |max, v| max.max(v.abs()));
        let modulus_bits = context.parameters().log_q(level) - 1.0;
        let magnitude_bits = (largest * scale).log2();
        if magnitude_bits >= modulus_bits {
            return Err(Error::ValueTooLarge {
                magnitude_bits,
                modulus_bits,
                level,
            });
        }
        let coefficients = context.embedding().to_coefficients(real, imaginary, scale);
        Ok(round_to_ring(context, &coefficients, basis).into_ntt(context.ring()))
    }
}

fn check_values(values: &[f64], slots: usize) -> Result<(), Error> {
    if values.len() > slots {
        return Err(Error::LengthMismatch {
            what: "values",
            found: values.len(),
            expected: slots,
        });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(slot) => Err(Error::NotFinite { slot }),
        None => Ok(()),
    }
}

/// Rounds coefficients to integers modulo the primes of `basis`.
///
/// Coefficients of 2^51 and more are rounded to 51 significant bits and shifted back, finer than a double.
fn round_to_ring(context: &Context, coefficients: &[f64], basis: Basis) -> Poly<Coeff> {
    let ring = context.ring();
    let largest = coefficients.iter().fold(0.0f64, |max, x| max.max(x.abs()));
    let shift = if largest < EXACT {
        0
    } else {
        (largest / EXACT).log2() as i32 + 1
    };
    let down = 2f64.powi(-shift);
    let integers: Vec<i64> = coefficients
        .iter()
        .map(|&x| round_to_integer(x * down))
        .collect();
    let mut poly = Poly::from_signed(ring, basis, &integers);
    if shift > 0 {
        for (i, row) in poly.rows_mut() {
            let prime = ring.prime(i);
            prime.mul_scalar_assign(row, prime.multiplier(prime.modulus().pow(2, shift as u64)));
        }
    }
    poly
}

/// The coefficients in (-Q/2, Q/2) as doubles, by balanced mixed-radix digits (Garner).
///
/// Math: x = d_0 + q_0 (d_1 + q_1 (d_2 + ...)) with |d_i| < q_i / 2; digits above the size of x are zero,
///       so the sum is as precise as a double whatever the modulus
pub(crate) fn centred_coefficients(context: &Context, poly: Poly<Ntt>) -> Vec<f64> {
    let ring = context.ring();
    let mut digits = poly.into_coeff(ring);
    let mut lifted = vec![0; ring.degree()];
    let mut sum = vec![0.0; ring.degree()];
    for row in 1..digits.limbs() {
        let prime = ring.prime(row);
        let mut current = digits.limb(row).to_vec();
        for lower in 0..row {
            let source = ring.prime(lower).modulus();
            let inverse = context.tables(row).mixed_radix[lower];
            prime.lift_centred(&mut lifted, digits.limb(lower), source);
            prime.sub_mul_scalar_assign(&mut current, &lifted, inverse);
        }
        digits.limb_mut(row).copy_from_slice(&current);
    }
    for row in (0..digits.limbs()).rev() {
        let modulus = ring.prime(row).modulus();
        let (q, half) = (modulus.value(), modulus.value() / 2);
        for (sum, &digit) in sum.iter_mut().zip(digits.limb(row)) {
            let centred = digit as i64 - if digit > half { q as i64 } else { 0 };
            *sum = *sum * q as f64 + integer_to_double(centred);
        }
    }
    sum
}
