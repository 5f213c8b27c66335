//! Random coefficients of any size, for noise that has to drown other noise.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{GAUSSIAN_SIGMA, expanded, gaussian};
use crate::kernel::Kernel;
use crate::poly::{Basis, Coeff, Poly};
use crate::ring::Ring;

/// Bits of a digit.
const DIGIT_BITS: u32 = 48;

/// Largest magnitude of a sample, in bits.
pub const WIDE_BITS_MAX: u32 = 2000;

/// Secret integers, one per coefficient; zeroised on drop.
///
/// Math: integer = Σ_j digits\[j\]·2^(48 j), all digits below 2^54 in magnitude
pub struct WideIntegers {
    digits: Vec<Zeroizing<Vec<i64>>>,
}

impl WideIntegers {
    /// `n` integers, uniform in [-2^bits, 2^bits); panics above [`WIDE_BITS_MAX`] bits.
    ///
    /// Timing: independent of the values
    pub fn uniform(rng: &mut impl CryptoRng, bits: u32, n: usize) -> Self {
        assert!(bits <= WIDE_BITS_MAX, "uniform integers of {bits} bits");
        let mut stream = expanded(rng, "wide uniform");
        let mut bytes = Zeroizing::new(vec![0; 8 * n]);
        let mut digit = |mask: u64, offset: i64| {
            let mut words = Zeroizing::new(vec![0; n]);
            stream.words(&mut bytes, &mut words);
            let digit = words.iter().map(|word| (word & mask) as i64 - offset);
            Zeroizing::new(digit.collect())
        };
        let mut digits: Vec<_> = (0..bits / DIGIT_BITS)
            .map(|_| digit((1 << DIGIT_BITS) - 1, 0))
            .collect();
        let top = bits % DIGIT_BITS;
        digits.push(digit((2 << top) - 1, 1 << top));
        Self { digits }
    }

    /// `n` integers Σ_{i<=doublings} 2^i·x_i with x_i from [`gaussian`]: a discrete Gaussian of
    /// deviation [`WideIntegers::gaussian_deviation`], as a sum of the narrow one with itself;
    /// panics above [`WIDE_BITS_MAX`] doublings.
    ///
    /// Timing: independent of the values
    /// Source: Peikert 2010, "An efficient and parallel Gaussian sampler for lattices", Theorem
    ///     3.1, over Z and 2Z at every step: (s^-2 + (2s)^-2)^(-1/2) = 7.15 with s = sigma·sqrt(2π)
    ///     is twice the smoothing parameter of Z for 2^-57, which bounds each step's distance
    pub fn gaussian(rng: &mut impl CryptoRng, kernel: Kernel, doublings: u32, n: usize) -> Self {
        assert!(
            doublings <= WIDE_BITS_MAX,
            "a Gaussian doubled {doublings} times"
        );
        let mut small = Zeroizing::new(vec![0; n]);
        let mut digit = |steps: u32| {
            let mut digit = Zeroizing::new(vec![0i64; n]);
            for i in 0..steps {
                gaussian(rng, kernel, &mut small);
                for (sum, &x) in digit.iter_mut().zip(small.iter()) {
                    *sum += i64::from(x) << i;
                }
            }
            digit
        };
        let steps = doublings + 1;
        let whole = steps / DIGIT_BITS;
        let sizes = (0..whole).map(|_| DIGIT_BITS).chain([steps % DIGIT_BITS]);
        Self {
            digits: sizes.map(&mut digit).collect(),
        }
    }

    /// sigma·sqrt((4^(doublings + 1) - 1) / 3)
    pub fn gaussian_deviation(doublings: u32) -> f64 {
        let count = f64::from(doublings + 1);
        GAUSSIAN_SIGMA * ((4f64.powf(count) - 1.0) / 3.0).sqrt()
    }

    /// The same integers `stride` coefficients apart, with zeros between; panics for a stride of 0.
    pub fn spread(self, stride: usize) -> Self {
        assert!(stride > 0, "integers no coefficient apart");
        let apart = |digit: Zeroizing<Vec<i64>>| {
            let mut spread = Zeroizing::new(vec![0; digit.len() * stride]);
            let places = spread.iter_mut().step_by(stride);
            places.zip(digit.iter()).for_each(|(out, &x)| *out = x);
            spread
        };
        Self {
            digits: self.digits.into_iter().map(apart).collect(),
        }
    }

    /// The polynomial with these coefficients; panics unless there are N.
    pub fn to_poly(&self, ring: &Ring, basis: Basis) -> Poly<Coeff> {
        let mut poly = Poly::recycled(ring, basis);
        let mut low = Zeroizing::new(vec![0; ring.degree()]);
        for (i, row) in poly.rows_mut() {
            let prime = ring.prime(i);
            let radix = prime.multiplier(prime.modulus().reduce(1 << DIGIT_BITS));
            row.fill(0);
            for digit in self.digits.iter().rev() {
                prime.mul_scalar_assign(row, radix);
                prime.reduce_signed(&mut low, digit);
                prime.add_assign(row, &low);
            }
        }
        poly
    }
}

impl std::fmt::Debug for WideIntegers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WideIntegers({} digits, redacted)", self.digits.len())
    }
}
