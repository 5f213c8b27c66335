//! Conversions between integers and doubles without branches or calls, so that they vectorise.

/// 1.5 * 2^52: adding it leaves the rounded integer in the low mantissa bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;
/// Magnitudes below this convert exactly.
pub(crate) const EXACT: f64 = 2_251_799_813_685_248.0;

/// round(x), ties to even, for |x| < 2^51.
#[inline(always)]
pub(crate) fn round_to_integer(x: f64) -> i64 {
    ((x + MAGIC).to_bits() as i64).wrapping_sub(MAGIC.to_bits() as i64)
}

/// x as a double, for |x| < 2^51.
#[inline(always)]
pub(crate) fn integer_to_double(x: i64) -> f64 {
    f64::from_bits(x.wrapping_add(MAGIC.to_bits() as i64) as u64) - MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_agree_with_the_standard_library() {
        let limit = (EXACT - 1.0) as i64;
        for x in [0i64, 1, -1, 2, -3, 12345, -98765, limit, -limit] {
            assert_eq!(integer_to_double(x), x as f64);
            assert_eq!(round_to_integer(x as f64), x);
        }
        for x in [0.5, 1.5, -0.5, -1.5, 2.49, -2.51, 1e9 + 0.25, -1e15 + 0.5] {
            assert_eq!(round_to_integer(x), x.round_ties_even() as i64, "{x}");
        }
    }
}
