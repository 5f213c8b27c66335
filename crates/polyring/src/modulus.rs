//! One odd prime modulus below 2^50 with its precomputed constants.

use crate::error::Error;
use crate::primes;

/// Largest size of a modulus: with 52-bit products this leaves two bits for lazy reduction.
pub const MODULUS_BITS_MAX: u32 = 50;

/// An odd prime q < 2^50.
///
/// Scalar operations here are the specification that the vector kernels are tested against.
/// Operands are fully reduced, results are fully reduced.
/// Timing: independent of the operands except where stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Modulus {
    value: u64,
    /// floor(2^64 / q)
    barrett_64: u64,
    /// floor(2^128 / q), high and low word
    barrett_128: (u64, u64),
}

impl Modulus {
    /// Checks that `value` is an odd prime below 2^50.
    ///
    /// # Errors
    /// [`Error::ModulusOutOfRange`] or [`Error::ModulusNotPrime`].
    pub fn new(value: u64) -> Result<Self, Error> {
        if value < 3 || value & 1 == 0 || value >> MODULUS_BITS_MAX != 0 {
            return Err(Error::ModulusOutOfRange { found: value });
        }
        if !primes::is_prime(value) {
            return Err(Error::ModulusNotPrime { found: value });
        }
        // q is odd, so it does not divide 2^128 and floor((2^128 - 1) / q) = floor(2^128 / q).
        let ratio = u128::MAX / u128::from(value);
        Ok(Self {
            value,
            barrett_64: (ratio >> 64) as u64,
            barrett_128: ((ratio >> 64) as u64, ratio as u64),
        })
    }

    /// The prime itself.
    #[inline(always)]
    pub fn value(self) -> u64 {
        self.value
    }

    /// Number of bits of q: 2^(bits-1) < q < 2^bits.
    #[inline(always)]
    pub fn bits(self) -> u32 {
        64 - self.value.leading_zeros()
    }

    /// x mod q for any 64-bit x.
    #[inline(always)]
    pub fn reduce(self, x: u64) -> u64 {
        let quotient = ((u128::from(x) * u128::from(self.barrett_64)) >> 64) as u64;
        // The quotient is at most one too small, so the remainder is below 2q.
        subtract_once(
            x.wrapping_sub(quotient.wrapping_mul(self.value)),
            self.value,
        )
    }

    /// x mod q for any 128-bit x.
    #[inline(always)]
    pub fn reduce_wide(self, x: u128) -> u64 {
        let (ratio_high, ratio_low) = self.barrett_128;
        let (high, low) = ((x >> 64) as u64, x as u64);
        let carry = (u128::from(low) * u128::from(ratio_low)) >> 64;
        let cross_a = u128::from(low) * u128::from(ratio_high) + carry;
        let cross_b = u128::from(high) * u128::from(ratio_low) + u128::from(cross_a as u64);
        // Only the low word of the quotient matters, since the remainder is below 4q < 2^52.
        let quotient = high
            .wrapping_mul(ratio_high)
            .wrapping_add((cross_a >> 64) as u64)
            .wrapping_add((cross_b >> 64) as u64);
        let remainder = low.wrapping_sub(quotient.wrapping_mul(self.value));
        subtract_once(subtract_once(remainder, 2 * self.value), self.value)
    }

    /// x mod q, in [0, q), for a signed x.
    #[inline(always)]
    pub fn reduce_signed(self, x: i64) -> u64 {
        // Masks, not branches: the coefficients of secrets and errors come this way.
        let sign = (x >> 63) as u64;
        let magnitude = self.reduce((x as u64 ^ sign).wrapping_sub(sign));
        self.neg_if(magnitude, sign)
    }

    /// x mod q, in [0, q), for a signed 128-bit x.
    #[inline(always)]
    pub fn reduce_signed_wide(self, x: i128) -> u64 {
        let sign = (x >> 127) as u128;
        let magnitude = self.reduce_wide((x as u128 ^ sign).wrapping_sub(sign));
        self.neg_if(magnitude, sign as u64)
    }

    /// -x mod q if all bits of `mask` are set, x if none is.
    #[inline(always)]
    fn neg_if(self, x: u64, mask: u64) -> u64 {
        x ^ ((x ^ self.neg(x)) & mask)
    }

    /// The representative of x in (-q/2, q/2).
    #[inline(always)]
    pub fn centre(self, x: u64) -> i64 {
        // A mask, not a branch: decoded secrets come this way.
        x as i64 - (self.value as i64 & -i64::from(x > self.value / 2))
    }

    /// x + y mod q.
    #[inline(always)]
    pub fn add(self, x: u64, y: u64) -> u64 {
        subtract_once(x + y, self.value)
    }

    /// x - y mod q.
    #[inline(always)]
    pub fn sub(self, x: u64, y: u64) -> u64 {
        subtract_once(x + self.value - y, self.value)
    }

    /// -x mod q.
    #[inline(always)]
    pub fn neg(self, x: u64) -> u64 {
        subtract_once(self.value - x, self.value)
    }

    /// x·y mod q.
    #[inline(always)]
    pub fn mul(self, x: u64, y: u64) -> u64 {
        self.reduce_wide(u128::from(x) * u128::from(y))
    }

    /// x^e mod q.
    ///
    /// Timing: depends on the exponent, not on x.
    pub fn pow(self, x: u64, mut exponent: u64) -> u64 {
        let mut base = x;
        let mut result = 1;
        while exponent != 0 {
            if exponent & 1 == 1 {
                result = self.mul(result, base);
            }
            base = self.mul(base, base);
            exponent >>= 1;
        }
        result
    }

    /// 1/x mod q.
    ///
    /// # Errors
    /// [`Error::NotInvertible`] if x is zero modulo q.
    pub fn inv(self, x: u64) -> Result<u64, Error> {
        let reduced = self.reduce(x);
        if reduced == 0 {
            return Err(Error::NotInvertible {
                value: x,
                modulus: self.value,
            });
        }
        Ok(self.pow(reduced, self.value - 2))
    }

    /// Prepares multiplication by the constant w.
    pub fn multiplier(self, w: u64) -> Multiplier {
        let value = self.reduce(w);
        let quotient = ((u128::from(value) << 64) / u128::from(self.value)) as u64;
        Multiplier { value, quotient }
    }

    /// A root of unity of exact order `order` (a power of two): the smallest power-of-generator
    /// candidate.
    ///
    /// # Errors
    /// [`Error::NoRootOfUnity`] if q is not 1 modulo `order`.
    pub fn root_of_unity(self, order: u64) -> Result<u64, Error> {
        let missing = Error::NoRootOfUnity {
            modulus: self.value,
            order,
        };
        if !order.is_power_of_two() || order < 2 || !(self.value - 1).is_multiple_of(order) {
            return Err(missing);
        }
        let cofactor = (self.value - 1) / order;
        // Half of all residues are non-squares, each gives a root of exact order.
        for candidate in 2..self.value.min(10_000) {
            let root = self.pow(candidate, cofactor);
            if self.pow(root, order / 2) == self.value - 1 {
                return Ok(root);
            }
        }
        Err(missing)
    }
}

/// A constant w < q with its quotient floor(w·2^64/q), after Shoup.
///
/// Math:   x·w mod q = x·w - floor(x·quotient / 2^64)·q, less q if needed
/// Bounds: any 64-bit x; the quotient for 52-bit words is this one shifted right by 12
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiplier {
    value: u64,
    quotient: u64,
}

impl Multiplier {
    /// Reads a constant and its quotient, stored next to each other.
    #[inline(always)]
    pub(crate) fn from_parts(parts: &[u64]) -> Self {
        Self {
            value: parts[0],
            quotient: parts[1],
        }
    }

    /// The constant itself.
    #[inline(always)]
    pub fn value(self) -> u64 {
        self.value
    }

    /// floor(w·2^64/q).
    #[inline(always)]
    pub fn quotient(self) -> u64 {
        self.quotient
    }

    /// x·w mod q in [0, 2q), for any 64-bit x.
    #[inline(always)]
    pub fn mul_lazy(self, x: u64, q: u64) -> u64 {
        let quotient = ((u128::from(x) * u128::from(self.quotient)) >> 64) as u64;
        x.wrapping_mul(self.value)
            .wrapping_sub(quotient.wrapping_mul(q))
    }

    /// x·w mod q in [0, q), for any 64-bit x.
    #[inline(always)]
    pub fn mul(self, x: u64, q: u64) -> u64 {
        subtract_once(self.mul_lazy(x, q), q)
    }
}

/// x - bound if x >= bound, else x, without a branch: the wrapped difference is larger than x
/// exactly when x < bound.
#[inline(always)]
pub(crate) fn subtract_once(x: u64, bound: u64) -> u64 {
    x.min(x.wrapping_sub(bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_words_have_the_residues_of_their_integers() {
        for q in [3, 12_289, (1 << 50) - 27] {
            let q = Modulus::new(q).unwrap();
            let expected = |x: i128| x.rem_euclid(i128::from(q.value())) as u64;
            for x in [
                0,
                1,
                -1,
                2,
                -2,
                3,
                -3,
                12_289,
                -12_289,
                i64::MAX,
                i64::MIN,
                i64::MIN + 1,
            ] {
                assert_eq!(
                    q.reduce_signed(x),
                    expected(x.into()),
                    "{x} mod {}",
                    q.value()
                );
                for wide in [i128::from(x), i128::from(x) << 60, i128::from(x) << 63] {
                    assert_eq!(q.reduce_signed_wide(wide), expected(wide), "{wide}");
                }
            }
        }
    }
}
