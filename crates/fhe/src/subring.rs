//! Values that repeat: ciphertexts of a subring.
//!
//! A message whose slots repeat every `P` slots is an element of the subring that the rotation by
//! `P` leaves alone; its coefficients are zero but for every `(S/P)`-th, of `S` slots. Of a
//! ciphertext `(c_0, c_1)` of any message, the same coefficients of `c_0 + c_1 s` hold the mean of
//! the message over all slots that are congruent modulo `P`: the trace to the subring, divided by
//! its degree. So a sum over all of them takes no rotation: it is enough to *read* these
//! coefficients alone.
//!
//! What the others hold is partial sums, which are not to be told. Of them `c_0` keeps nothing; as
//! long as `c_1` is uniform and fresh (see [`crate::ckks::Evaluator::rerandomize`]), what is left
//! of them, those of `c_1 s`, depends on nothing but `c_1`. Such ciphertexts are added, rotated,
//! and multiplied by plaintexts that repeat as often; products of two of them mean nothing.
//!
//! Math: `Q(zeta_4N)^+` and `Q(zeta_2N)` are cyclic over the fixed field of the rotation by `P`; it
//!       is the only subfield of its degree, `Z[X^(S/P)]` (conjugate-invariant ring: of
//!       `X^(S/P) + X^-(S/P)`)
//! Source: Gentry, Halevi, Peikert, Smart 2013, "Field switching in BGV-style homomorphic
//!     encryption", section 3 (the trace, and coefficients that it keeps)

use scuro_polyring::{Ntt, Poly};

use crate::ckks::{Ciphertext, Evaluator, Plaintext};
use crate::compact::check_period;
use crate::context::Context;
use crate::error::Error;

/// Every `stride`-th coefficient; the others become zero.
pub(crate) fn keep(context: &Context, poly: &mut Poly<Ntt>, stride: usize) {
    let ring = context.ring();
    let mut coefficients = poly.clone().into_coeff(ring);
    for (_, row) in coefficients.rows_mut() {
        for (at, value) in row.iter_mut().enumerate() {
            if at % stride != 0 {
                *value = 0;
            }
        }
    }
    *poly = coefficients.into_ntt(ring);
}

/// The smallest power of two after which values repeat; their number is one.
pub(crate) fn period<T: PartialEq>(values: &[T]) -> usize {
    let mut period = values.len();
    while period > 1 && values[..period / 2] == values[period / 2..period] {
        period /= 2;
    }
    period
}

/// Coefficients from one that a period of slots leaves to the next.
pub(crate) fn stride(context: &Context, period: usize) -> Result<usize, Error> {
    let slots = context.parameters().slots();
    check_period(period, slots)?;
    Ok(slots / period)
}

impl Plaintext {
    /// The mean over all slots that are congruent modulo `period`, in every one of them.
    ///
    /// # Errors
    /// [`Error::BadPeriod`] unless `period` is a power of two of at most the number of slots.
    pub fn trace(&self, context: &Context, period: usize) -> Result<Self, Error> {
        let mut out = self.clone();
        keep(context, &mut out.poly, stride(context, period)?);
        Ok(out)
    }
}

impl Evaluator {
    /// A ciphertext of the means over all slots that are congruent modulo `period`: see
    /// [`crate::subring`]. It hides what they are means of once it is re-randomised, before or
    /// after.
    ///
    /// Level, scale: unchanged     Noise: that of the means
    /// Timing: independent of the ciphertext
    ///
    /// # Errors
    /// [`Error::BadPeriod`], [`Error::PartCount`] unless relinearised,
    /// [`Error::ParameterMismatch`].
    pub fn trace(&self, ciphertext: &Ciphertext, period: usize) -> Result<Ciphertext, Error> {
        let context = &**self.context();
        context.check_digest(ciphertext.digest)?;
        ciphertext.check_parts(2)?;
        let stride = stride(context, period)?;
        let mut out = ciphertext.clone();
        keep(context, &mut out.parts[0], stride);
        Ok(out)
    }
}
