//! Vectors of numbers to plaintext polynomials and back.

use std::borrow::Cow;
use std::sync::Arc;

use scuro_polyring::slots::{SlotScratch, round, round_wide};
use scuro_polyring::{Basis, Coeff, Ntt, Poly, RingKind};

use super::Plaintext;
use super::ciphertext::check_scale;
use crate::context::Context;
use crate::error::Error;
use crate::subring;

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
    /// Timing: independent of the values, except that magnitudes from 2^61 on take another path
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for more values than slots, [`Error::NotFinite`],
    /// [`Error::ValueTooLarge`] if scale * max|value| reaches Q_level / 2, [`Error::BadScale`],
    /// [`Error::LevelTooHigh`].
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
        let coefficients = centred_coefficients(&self.context, plaintext.poly.clone());
        Ok(self.slots_of(&coefficients, plaintext.scale))
    }

    /// Real and imaginary parts of the slots of a polynomial, divided by `scale`.
    pub(crate) fn slots_of(&self, coefficients: &[f64], scale: f64) -> (Vec<f64>, Vec<f64>) {
        let context = &*self.context;
        let transform = context.slot_transform();
        let mut real = vec![0.0; transform.slots()];
        let mut imaginary = match context.parameters().ring() {
            RingKind::Standard => vec![0.0; transform.slots()],
            RingKind::ConjugateInvariant => Vec::new(),
        };
        let (factor, mut scratch) = (scale.recip(), SlotScratch::default());
        transform.coefficients_to_slots(
            &mut real,
            &mut imaginary,
            coefficients,
            factor,
            &mut scratch,
        );
        (real, imaginary)
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
        let largest = largest_magnitude(real).max(largest_magnitude(imaginary));
        let modulus_bits = (context.parameters().log_q(level) - 1.0).min(MAGNITUDE_BITS_MAX);
        let magnitude_bits = (largest * scale).log2();
        if magnitude_bits >= modulus_bits {
            return Err(Error::ValueTooLarge {
                magnitude_bits,
                modulus_bits,
                level,
            });
        }
        let transform = context.slot_transform();
        let mut coefficients = vec![0.0; transform.degree()];
        let real = padded(real, transform.slots());
        let imaginary = match imaginary {
            [] => Cow::Borrowed(imaginary),
            _ => padded(imaginary, transform.slots()),
        };
        let mut scratch = SlotScratch::default();
        transform.slots_to_coefficients(&mut coefficients, &real, &imaginary, scale, &mut scratch);
        // Of slots that repeat the others are zero, whatever doubles make of them.
        let period = subring::period(&real).max(subring::period(&imaginary));
        let stride = transform.slots() / period;
        let between = coefficients.iter_mut().enumerate();
        let between = between.filter(|(at, _)| at % stride != 0);
        between.for_each(|(_, coefficient)| *coefficient = 0.0);
        Ok(round_to_ring(context, &coefficients, basis).into_ntt(context.ring()))
    }
}

fn padded(values: &[f64], slots: usize) -> Cow<'_, [f64]> {
    if values.len() == slots {
        return Cow::Borrowed(values);
    }
    let mut padded = values.to_vec();
    padded.resize(slots, 0.0);
    Cow::Owned(padded)
}

fn check_values(values: &[f64], slots: usize) -> Result<(), Error> {
    if values.len() > slots {
        return Err(Error::LengthMismatch {
            what: "values",
            found: values.len(),
            expected: slots,
        });
    }
    // The common case without a way out of the loop is many values at a time.
    if values
        .iter()
        .fold(true, |all, value| all & value.is_finite())
    {
        return Ok(());
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(slot) => Err(Error::NotFinite { slot }),
        None => Ok(()),
    }
}

/// max |values|, 0 for none; NaN does not count.
fn largest_magnitude(values: &[f64]) -> f64 {
    // Independent maxima, each a chain of its own.
    const CHAINS: usize = 16;
    let larger = |max: f64, value: f64| if value > max { value } else { max };
    let mut maxima = [0.0; CHAINS];
    for values in values.chunks(CHAINS) {
        for (max, value) in maxima.iter_mut().zip(values) {
            *max = larger(*max, value.abs());
        }
    }
    maxima.into_iter().fold(0.0, larger)
}

/// Largest scale times magnitude that is encoded: two words of 60 bits.
const MAGNITUDE_BITS_MAX: f64 = 120.0;
/// Magnitudes below this are rounded to one word.
const ONE_WORD: f64 = (1u64 << 61) as f64;

/// Rounds coefficients to integers modulo the primes of `basis`.
fn round_to_ring(context: &Context, coefficients: &[f64], basis: Basis) -> Poly<Coeff> {
    let ring = context.ring();
    let (kernel, n) = (ring.kernel(), ring.degree());
    let mut low = vec![0i64; n];
    if largest_magnitude(coefficients) < ONE_WORD {
        round(kernel, &mut low, coefficients);
        return Poly::from_signed(ring, basis, &low);
    }
    let mut high = vec![0i64; n];
    round_wide(kernel, &mut high, &mut low, coefficients);
    let mut poly = Poly::zero(ring, basis);
    for (i, row) in poly.rows_mut() {
        ring.prime(i).reduce_wide(row, &high, &low);
    }
    poly
}

/// The coefficients in (-Q/2, Q/2) as doubles.
pub(crate) fn centred_coefficients(context: &Context, poly: Poly<Ntt>) -> Vec<f64> {
    let ring = context.ring();
    let rows = poly.into_coeff(ring);
    let mut out = vec![0.0; ring.degree()];
    let limbs: Vec<&[u64]> = rows.rows().map(|(_, row)| row).collect();
    context
        .tables(limbs.len() - 1)
        .mixed_radix
        .to_f64(ring, &mut out, &limbs);
    out
}
