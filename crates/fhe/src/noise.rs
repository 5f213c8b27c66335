//! Prediction of the noise that each operation adds, in the canonical embedding.
//!
//! Figures are slot values of the error polynomial, in units of the *scaled* message: divide by a
//! ciphertext's scale to get the error of the values. `std` is a standard deviation per slot;
//! `bound` is passed in one slot, by one of the random errors that it sums, with a probability
//! below 2^-68, keys and encryption randomness drawn honestly: in any of the N real slots below
//! 2^-55 at N = 2^13 and 2^-52 at 2^16 (complex slots: below 2^-111), for each of these errors.
//! Secret-dependent measurement is in `owner`.
//!
//! Maths: an error polynomial with independent coefficients of deviation s has slots of deviation
//! s·E, with E = sqrt(2N) in the conjugate-invariant ring, where every X^i comes with X^-i, and
//! E = sqrt(N) in the standard one (of complex slots; real parts have 1/sqrt(2) of it). Slots
//! multiply, so a product has the product of deviations.

use scuro_polyring::RingKind;

use crate::params::{ERROR_SIGMA, Parameters};

/// Deviations from zero of a sum of many independent terms that a real slot passes with probability
/// 2^-68.7, a complex one with 2^-130.
const GAUSSIAN_TAIL: f64 = 9.5;
/// The same for products of two such, whose tail is exponential: 2^-68.0, and 2^-126.
const PRODUCT_TAIL: f64 = 45.0;
/// Deviation of a rounding error, uniform in [-1/2, 1/2].
pub(crate) const ROUNDING_STD: f64 = 0.288_675_134_594_812_9;
/// Rounding of a double, relative to it.
const DOUBLE_ROUNDING: f64 = f64::EPSILON / 2.0;
/// Deviation of a uniform ternary coefficient.
pub(crate) const TERNARY_STD: f64 = 0.816_496_580_927_726;

/// Noise of a ciphertext or plaintext.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Standard deviation per slot.
    pub std: f64,
    /// Largest magnitude in any slot, but for the probability that the module's words give.
    pub bound: f64,
}

impl Noise {
    /// No noise.
    pub const ZERO: Self = Self {
        std: 0.0,
        bound: 0.0,
    };

    /// Noise of a sum or difference; independence is assumed for `std` only.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            std: self.std.hypot(other.std),
            bound: self.bound + other.bound,
        }
    }

    /// Noise of a sum of `count` values of this noise that may be copies of one another.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self {
            std: self.std * factor.abs(),
            bound: self.bound * factor.abs(),
        }
    }

    /// log2 of the bound (0 for less than one unit).
    pub fn bits(self) -> f64 {
        self.bound.max(1.0).log2()
    }

    pub(crate) fn gaussian(std: f64) -> Self {
        Self {
            std,
            bound: GAUSSIAN_TAIL * std,
        }
    }
}

/// A message bound together with its noise; both in scaled units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Operand {
    /// Largest magnitude of a slot of the exact message, times the scale.
    pub magnitude: f64,
    /// Its noise.
    pub noise: Noise,
}

/// Predicts noise for one parameter set.
#[derive(Debug, Clone)]
pub struct NoiseModel {
    ring: RingKind,
    degree: usize,
    embedding: f64,
    primes: Vec<f64>,
    special: f64,
    digit_limbs: usize,
    /// Coefficients that are read.
    kept: usize,
}

impl NoiseModel {
    /// The model of a parameter set.
    pub fn new(parameters: &Parameters) -> Self {
        Self::planned(
            parameters.ring(),
            parameters.n(),
            parameters.q().iter().map(|&q| q as f64).collect(),
            parameters.p().iter().map(|&p| p as f64).product(),
            parameters.digit_limbs(),
        )
    }

    /// The model of parameters that are still being chosen: ciphertext primes, lowest level first,
    /// the product of the special primes, and the primes of a digit.
    pub fn planned(
        ring: RingKind,
        degree: usize,
        primes: Vec<f64>,
        special: f64,
        digit_limbs: usize,
    ) -> Self {
        Self {
            ring,
            degree,
            embedding: embedding(ring, degree),
            primes,
            special,
            digit_limbs,
            kept: degree,
        }
    }

    /// Ciphertext primes, lowest level first.
    pub(crate) fn primes(&self) -> &[f64] {
        &self.primes
    }

    /// The same for [traced](crate::ckks::Evaluator::trace) ciphertexts, of which every `stride`-th
    /// coefficient is read: what floods them.
    pub fn traced(mut self, stride: usize) -> Self {
        self.kept = self.degree / stride.max(1);
        self
    }

    /// Coefficients that are read.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// N.
    pub(crate) fn degree(&self) -> usize {
        self.degree
    }

    /// Slots of a row.
    pub(crate) fn slots(&self) -> usize {
        match self.ring {
            RingKind::Standard => self.degree / 2,
            RingKind::ConjugateInvariant => self.degree,
        }
    }

    /// log2 of Q at `level`.
    pub(crate) fn log_q(&self, level: usize) -> f64 {
        self.primes[..=level].iter().map(|q| q.log2()).sum()
    }

    /// Noise of independent coefficients of a deviation.
    pub(crate) fn independent(&self, std: f64) -> Noise {
        Noise::gaussian(std * self.embedding)
    }

    /// Slot deviation of a polynomial with coefficients of deviation 1.
    pub fn embedding_factor(&self) -> f64 {
        self.embedding
    }

    /// Largest slot of a polynomial with coefficients of at most 1/2: of a message modulo t,
    /// divided by t.
    pub fn largest_plaintext(&self) -> f64 {
        match self.ring {
            RingKind::Standard => self.degree as f64 / 2.0,
            // Every X^i but the first comes with X^-i.
            RingKind::ConjugateInvariant => self.degree as f64 - 0.5,
        }
    }

    /// Rounding of a freshly encoded plaintext.
    pub fn encoding(&self) -> Noise {
        Noise::gaussian(ROUNDING_STD * self.embedding)
    }

    /// Rounding of the doubles with which slots of up to `magnitude`, times the scale, become
    /// coefficients: more than [`NoiseModel::encoding`] from about 56 bits on.
    pub fn transform(&self, magnitude: f64) -> Noise {
        let stages = (self.degree as f64).log2();
        Noise::gaussian(DOUBLE_ROUNDING * stages.sqrt() * magnitude)
    }

    /// A fresh ciphertext under the secret key, encoding included.
    pub fn fresh_secret(&self) -> Noise {
        Noise::gaussian(ERROR_SIGMA * self.embedding).plus(self.encoding())
    }

    /// What [`crate::ckks::SeededCiphertext::leaving_out`] adds.
    pub fn left_out(&self, bits: u32) -> Noise {
        Noise::gaussian(f64::from(bits).exp2() * ROUNDING_STD * self.embedding)
    }

    /// A fresh ciphertext under the public key, encoding included: e u + e_0 + e_1 s divided by P,
    /// and the division's rounding.
    pub fn fresh_public(&self) -> Noise {
        let error = ERROR_SIGMA * self.embedding;
        let products = error * TERNARY_STD * self.embedding * std::f64::consts::SQRT_2;
        Noise {
            std: products,
            bound: PRODUCT_TAIL * products,
        }
        .plus(Noise::gaussian(error))
        .times(self.special.recip())
        .plus(self.rescale())
        .plus(self.encoding())
    }

    /// Rounding when a modulus is divided out: r_0 + r_1 s.
    pub fn rescale(&self) -> Noise {
        let rounding = ROUNDING_STD * self.embedding;
        let product = rounding * TERNARY_STD * self.embedding;
        Noise {
            std: product,
            bound: PRODUCT_TAIL * product,
        }
        .plus(Noise::gaussian(rounding))
    }

    /// Rounding when a modulus is divided out of a three-part ciphertext: r_0 + r_1 s + r_2 s^2.
    pub fn rescale_unrelinearized(&self) -> Noise {
        let secret = TERNARY_STD * self.embedding;
        let square = ROUNDING_STD * self.embedding * secret.powi(2);
        // Three factors: each below its own tail, slot by slot.
        let bound = GAUSSIAN_TAIL.powi(3) * square;
        // The secret's fourth moment in a slot is three (real) times the squared second.
        Noise {
            std: 3f64.sqrt() * square,
            bound,
        }
        .plus(self.rescale())
    }

    /// One key switch at `level` (relinearise, rotate), final rounding included.
    pub fn key_switch(&self, level: usize) -> Noise {
        self.key_switch_exact(level).plus(self.rescale())
    }

    /// A key switch kept in basis QP: what it adds before the final rounding.
    pub fn key_switch_exact(&self, level: usize) -> Noise {
        let live = &self.primes[..self.primes.len().min(level + 1)];
        let digits = live
            .chunks(self.digit_limbs)
            .map(|limbs| limbs.iter().product::<f64>());
        let variance: f64 = digits.map(|digit| (digit * ROUNDING_STD).powi(2)).sum();
        let std = variance.sqrt() * ERROR_SIGMA * self.embedding.powi(2) / self.special;
        Noise {
            std,
            bound: PRODUCT_TAIL * std,
        }
    }

    /// After a sum of rotated and relinearised terms with one division by P: `noise` is that of the
    /// sum of the terms, and `switches` counts two key switches for each rotated term of three
    /// parts, one for every other term that takes a key.
    pub fn merged_sum(&self, noise: Noise, switches: usize, level: usize) -> Noise {
        let mut added = self.key_switch_exact(level);
        added.std *= (switches as f64).sqrt();
        added.bound *= switches as f64;
        noise.plus(added).plus(self.rescale())
    }

    /// Product with a plaintext.
    pub fn mul_plain(&self, ciphertext: Operand, plaintext: Operand) -> Noise {
        product(ciphertext, plaintext)
    }

    /// Product of two ciphertexts, before relinearisation.
    pub fn mul(&self, left: Operand, right: Operand) -> Noise {
        product(left, right)
    }

    /// Division of everything by `divisor` (rescaling), with the rounding it adds.
    pub fn divided(&self, noise: Noise, divisor: f64) -> Noise {
        noise.times(divisor.recip()).plus(self.rescale())
    }
}

/// Slot deviation of a polynomial with independent coefficients of deviation 1.
fn embedding(ring: RingKind, degree: usize) -> f64 {
    match ring {
        RingKind::ConjugateInvariant => (2.0 * degree as f64).sqrt(),
        RingKind::Standard => (degree as f64).sqrt(),
    }
}

/// |m1| e2 + |m2| e1 + e1 e2.
fn product(left: Operand, right: Operand) -> Noise {
    let (l, r) = (left.noise, right.noise);
    let std = (left.magnitude * r.std)
        .hypot(right.magnitude * l.std)
        .hypot(l.std * r.std);
    let bound = left.magnitude * r.bound + right.magnitude * l.bound + l.bound * r.bound;
    Noise { std, bound }
}

/// Deviations from zero that an average of `count` products of two slots passes with a probability
/// below 2^-68: from those of one product to nearly those of a Gaussian.
///
/// Math: the sum S of K products of normal numbers has E exp(x S) = (1 - x^2)^(-K/2), so that
///     log P(|S| > K x / (1 - x^2)) <= log 2 - K x^2 / (1 - x^2) - (K/2) log(1 - x^2), here solved
///     for x. Uniform and ternary coefficients have no larger moments than normal ones.
/// Source: Chernoff 1952
pub(crate) fn averaged_product_tail(count: f64) -> f64 {
    let wanted = 69.0 * std::f64::consts::LN_2;
    let exponent = |x: f64| {
        let rest = 1.0 - x * x;
        count * (x * x / rest + rest.ln() / 2.0)
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if exponent(middle) < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    (count.sqrt() * high / (1.0 - high * high)).min(PRODUCT_TAIL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_of_products_have_tails_from_exponential_to_gaussian() {
        assert_eq!(averaged_product_tail(1.0), PRODUCT_TAIL);
        // sqrt(2 * 69 log 2), from below.
        let many = averaged_product_tail(1e9);
        assert!((9.78..9.79).contains(&many), "{many}");
        let tails: Vec<f64> = (0..17)
            .map(|log| averaged_product_tail(f64::from(1 << log)))
            .collect();
        assert!(tails.is_sorted_by(|few, more| few > more), "{tails:?}");
    }
}
