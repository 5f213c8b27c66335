//! Real numbers as integers modulo 2^64.

use crate::error::Error;

/// Bits below the point that are usual.
pub const FRACTION_BITS: u32 = 16;
/// Numbers of the protocols stay below `2^MAGNITUDE_BITS` in units of the last place.
pub const MAGNITUDE_BITS: u32 = 31;

/// Numbers times `2^fraction_bits`, rounded.
///
/// # Errors
/// [`Error::OutOfRange`] for what is no number, or from `2^(31 - fraction_bits)` on.
pub fn encode(values: &[f32], fraction_bits: u32) -> Result<Vec<u64>, Error> {
    let bits = MAGNITUDE_BITS.saturating_sub(fraction_bits);
    let bound = f64::from(1u32 << MAGNITUDE_BITS);
    let encode = |(at, value): (usize, &f32)| {
        let scaled = (f64::from(*value) * f64::from(fraction_bits).exp2()).round();
        match scaled.abs() < bound {
            true => Ok(scaled as i64 as u64),
            false => Err(Error::OutOfRange { at, bits }),
        }
    };
    values.iter().enumerate().map(encode).collect()
}

/// The reverse of [`encode`].
pub fn decode(values: &[u64], fraction_bits: u32) -> Vec<f32> {
    let unit = (-f64::from(fraction_bits)).exp2();
    values
        .iter()
        .map(|&value| (value as i64 as f64 * unit) as f32)
        .collect()
}
