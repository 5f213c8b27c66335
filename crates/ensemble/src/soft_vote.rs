//! Soft vote: the sum of the holders' shares, with a polynomial in the place of softmax.

use crate::confidence::check_bound;
use crate::error::{Error, Result};
use crate::held_out::HeldOut;
use crate::numeric::softmax;
use crate::rule::RuleKind;

/// Steps of the search for the vertex.
const VERTICES: u32 = 64;
/// Lowest place of the vertex, in units of the bound: beyond, the parabola is a line.
const VERTEX_MIN: f64 = -4.0;

/// `sum_h p(z_h / B)` with `p(x) = a (x + b)^2 + c`: one square, `c >= 0`, and the vertex `-b` at
/// or below the lowest held-out score, so that `p` is positive and increases where scores are.
///
/// Math:   `a`, `b`, `c` minimise the mean of `(p(z_k / B) - softmax(z)_k)^2` over holders,
///         examples and classes
/// Bounds: `|z| <= B`; beyond, `p` is still what it is, but stands for softmax no longer
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftVote {
    bound: f64,
    factor: f64,
    shift: f64,
    offset: f64,
}

impl SoftVote {
    /// `factor (z / bound + shift)^2 + offset`.
    ///
    /// # Errors
    /// [`Error::Parameter`]: bound and factor must be positive, the offset not negative, all of
    /// them finite.
    pub fn new(bound: f64, factor: f64, shift: f64, offset: f64) -> Result<Self> {
        check_bound(RuleKind::SoftVote, bound)?;
        let positive = factor.is_finite() && factor > 0.0;
        let not_negative = offset.is_finite() && offset >= 0.0;
        let checks = [
            ("the factor", factor, positive, "positive and finite"),
            ("the shift", shift, shift.is_finite(), "finite"),
            ("the offset", offset, not_negative, "0 or more, and finite"),
        ];
        match checks.into_iter().find(|check| !check.2) {
            Some((what, found, _, expected)) => Err(Error::Parameter {
                rule: RuleKind::SoftVote,
                what,
                found,
                expected,
            }),
            None => Ok(Self {
                bound,
                factor,
                shift,
                offset,
            }),
        }
    }

    /// Fitted to the softmax of the held-out predictions.
    pub fn fitted(held_out: &HeldOut) -> Self {
        let bound = held_out.bound();
        let points = points(held_out, bound);
        let lowest = points.iter().map(|point| point.0).fold(1.0, f64::min);
        // For a given vertex the best factor and offset have a closed form.
        let step = (lowest - VERTEX_MIN) / f64::from(VERTICES);
        let vertices = (0..=VERTICES).map(|i| lowest - step * f64::from(i));
        let best = vertices
            .map(|vertex| (vertex, parabola(&points, vertex)))
            .min_by(|a, b| a.1.error.total_cmp(&b.1.error));
        let (vertex, found) = best.expect("there are vertices");
        Self {
            bound,
            factor: found.factor,
            shift: -vertex,
            offset: found.offset,
        }
    }

    /// `B`: scores are divided by it.
    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// `a`.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// `b`.
    pub fn shift(&self) -> f64 {
        self.shift
    }

    /// `c`.
    pub fn offset(&self) -> f64 {
        self.offset
    }

    /// `p(z / B)`.
    pub fn value(&self, score: f64) -> f64 {
        self.factor * (score / self.bound + self.shift).powi(2) + self.offset
    }
}

/// Scaled score and share of softmax, of every holder, example and class.
fn points(held_out: &HeldOut, bound: f64) -> Vec<(f64, f64)> {
    let mut points = Vec::with_capacity(held_out.holders() * held_out.examples());
    for holder in 0..held_out.holders() {
        for example in 0..held_out.examples() {
            let scores = held_out.scores(holder, example);
            let scaled = scores.iter().map(|score| score / bound);
            points.extend(scaled.zip(softmax(scores)));
        }
    }
    points
}

struct Parabola {
    factor: f64,
    offset: f64,
    error: f64,
}

/// Least squares of `factor (x - vertex)^2 + offset`, both of them not negative.
fn parabola(points: &[(f64, f64)], vertex: f64) -> Parabola {
    let count = points.len() as f64;
    let square = |x: f64| (x - vertex).powi(2);
    let mean =
        |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|&(x, y)| of(x, y)).sum::<f64>() / count;
    let (u, y) = (mean(&|x, _| square(x)), mean(&|_, y| y));
    let (uu, uy) = (mean(&|x, _| square(x).powi(2)), mean(&|x, y| square(x) * y));
    let spread = (uu - u * u).max(f64::MIN_POSITIVE);
    let mut factor = (uy - u * y) / spread;
    let mut offset = y - factor * u;
    if offset < 0.0 || factor <= 0.0 {
        // The best parabola that touches 0: shares are positive, so that its factor is too.
        (factor, offset) = (uy / uu.max(f64::MIN_POSITIVE), 0.0);
    }
    let factor = factor.max(f64::EPSILON);
    let error = mean(&|x, y| (factor * square(x) + offset - y).powi(2));
    Parabola {
        factor,
        offset,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held_out::samples::held_out;
    use proptest::prelude::*;

    #[test]
    fn values_are_those_worked_by_hand() {
        let vote = SoftVote::new(4.0, 2.0, 0.5, 0.25).unwrap();
        // 2 (1/2 + 1/2)^2 + 1/4.
        assert_eq!(vote.value(2.0), 2.25);
        assert_eq!(vote.value(-2.0), 0.25);
    }

    #[test]
    fn a_parabola_is_found_again() {
        let points: Vec<(f64, f64)> = (-10..=10)
            .map(|i| f64::from(i) / 10.0)
            .map(|x| (x, 0.3 * (x + 1.5).powi(2) + 0.1))
            .collect();
        let found = parabola(&points, -1.5);
        assert!((found.factor - 0.3).abs() < 1e-9 && (found.offset - 0.1).abs() < 1e-9);
        assert!(found.error < 1e-18 && parabola(&points, -1.2).error > 1e-6);
    }

    proptest! {
        #[test]
        fn votes_are_positive_and_increase_where_scores_are(
            strengths in prop::collection::vec(-2.0..20.0f64, 1..4), classes in 2usize..6,
        ) {
            let held_out = held_out(&strengths, classes, 40);
            let vote = SoftVote::fitted(&held_out);
            let again = SoftVote::new(vote.bound(), vote.factor(), vote.shift(), vote.offset());
            prop_assert_eq!(again.unwrap(), vote);
            let mut scores: Vec<f64> = held_out.all_scores().collect();
            scores.sort_by(f64::total_cmp);
            prop_assert!(scores.iter().all(|score| score.abs() <= vote.bound()));
            let values: Vec<f64> = scores.iter().map(|&score| vote.value(score)).collect();
            prop_assert!(values.iter().all(|value| *value >= 0.0));
            prop_assert!(values.is_sorted());
        }
    }

    #[test]
    fn parameters_out_of_range_are_errors() {
        for (bound, factor, shift, offset) in [
            (0.0, 1.0, 1.0, 0.0),
            (1.0, 0.0, 1.0, 0.0),
            (1.0, 1.0, f64::NAN, 0.0),
            (1.0, 1.0, 1.0, -0.1),
        ] {
            let vote = SoftVote::new(bound, factor, shift, offset);
            assert!(matches!(vote, Err(Error::Parameter { .. })));
        }
    }
}
