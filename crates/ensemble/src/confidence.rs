//! Confidence weighting: scores count by their own magnitude.

use crate::error::{Error, Result};
use crate::held_out::HeldOut;
use crate::rule::RuleKind;

/// Every score weighs as much as it is large: `x |x|` of `x = z / B`, which is no polynomial; in
/// its place the odd cubic that is closest on `[-1, 1]`.
///
/// Math:   `q(x) = 5/16 x + 35/48 x^3`, the minimum of `int_-1^1 (q(x) - x |x|)^2 dx`:
///         `c1 / 3 + c3 / 5 = 1/4`, `c1 / 5 + c3 / 7 = 1/6`; increasing everywhere; the largest
///         error on `[-1, 1]` is 1/24, at the ends
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confidence {
    bound: f64,
}

impl Confidence {
    /// Coefficient of `x`.
    pub const LINEAR: f64 = 5.0 / 16.0;
    /// Coefficient of `x^3`.
    pub const CUBIC: f64 = 35.0 / 48.0;

    /// For scores of magnitude up to `bound`.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless the bound is a positive number.
    pub fn new(bound: f64) -> Result<Self> {
        check_bound(RuleKind::Confidence, bound)?;
        Ok(Self { bound })
    }

    /// For scores as large as the held-out ones.
    pub fn fitted(held_out: &HeldOut) -> Self {
        Self {
            bound: held_out.bound(),
        }
    }

    /// `B`: scores are divided by it.
    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// `q(z / B)`.
    pub fn value(&self, score: f64) -> f64 {
        let x = score / self.bound;
        x * (Self::LINEAR + Self::CUBIC * x * x)
    }
}

/// A bound is a positive number.
pub(crate) fn check_bound(rule: RuleKind, found: f64) -> Result<()> {
    if found.is_finite() && found > 0.0 {
        return Ok(());
    }
    Err(Error::Parameter {
        rule,
        what: "the bound of scores",
        found,
        expected: "positive and finite",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cubic_is_the_closest_to_x_times_its_magnitude() {
        let points = || (-1000..=1000).map(|i| f64::from(i) / 1000.0);
        let distance = |c1: f64, c3: f64| -> f64 {
            let error = |x: f64| c1 * x + c3 * x.powi(3) - x * x.abs();
            points().map(|x| error(x).powi(2)).sum()
        };
        let (c1, c3) = (Confidence::LINEAR, Confidence::CUBIC);
        for (d1, d3) in [(0.01, 0.0), (-0.01, 0.0), (0.0, 0.01), (0.0, -0.01)] {
            assert!(distance(c1 + d1, c3 + d3) > distance(c1, c3));
        }
        let confidence = Confidence::new(4.0).unwrap();
        let error = |x: f64| (confidence.value(4.0 * x) - x * x.abs()).abs();
        let largest = points().map(error).fold(0.0, f64::max);
        assert!((largest - 1.0 / 24.0).abs() < 1e-9, "{largest}");
    }

    #[test]
    fn values_are_those_worked_by_hand() {
        let confidence = Confidence::new(2.0).unwrap();
        // x = 1/2: 5/32 + 35/384 = 95/384.
        assert!((confidence.value(1.0) - 95.0 / 384.0).abs() < 1e-15);
        assert_eq!(confidence.value(-1.0), -confidence.value(1.0));
    }

    #[test]
    fn bounds_are_positive_numbers() {
        for bound in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                Confidence::new(bound),
                Err(Error::Parameter { .. })
            ));
        }
    }
}
