//! Short multipliers that bring two factors together.

use scuro_polyring::Modulus;

/// Integers (a, b), both below about sqrt(t) in magnitude, with a * left = b * right mod t.
///
/// Math:   the first remainder below sqrt(t) in the Euclidean algorithm on t and right/left
/// Timing: depends on the factors, which are public
pub(super) fn short_multipliers(
    t: Modulus,
    left: u64,
    right: u64,
) -> Result<(i64, i64), scuro_polyring::Error> {
    let ratio = t.mul(right, t.inv(left)?);
    // Invariant: remainder = coefficient * ratio mod t.
    let (mut before, mut remainder) = ((t.value() as i64, 0i64), (ratio as i64, 1i64));
    while i128::from(remainder.0).pow(2) > i128::from(t.value()) {
        let quotient = before.0 / remainder.0;
        let next = (
            before.0 - quotient * remainder.0,
            before.1 - quotient * remainder.1,
        );
        (before, remainder) = (remainder, next);
    }
    Ok(remainder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_are_short_and_equalise() {
        for bits in [16, 20, 40, 46] {
            let prime = scuro_polyring::primes::ntt_primes(bits, 1 << 13, 1, &[]).unwrap()[0];
            let t = Modulus::new(prime).unwrap();
            let root = (t.value() as f64).sqrt() + 1.0;
            for k in 1..200u64 {
                let (left, right) = (t.pow(3, k), t.pow(7, 5 * k));
                let (a, b) = short_multipliers(t, left, right).unwrap();
                assert_eq!(
                    t.mul(t.reduce_signed(a), left),
                    t.mul(t.reduce_signed(b), right)
                );
                assert!(a != 0 && b != 0);
                assert!((a.abs() as f64) <= root && (b.abs() as f64) <= root);
            }
        }
    }
}
