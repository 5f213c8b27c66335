//! Weighted sums of predictions: the weighted mean and the log-opinion pool.
//!
//! Weights are integers of 8 bits: a ciphertext times a small integer costs no level and hardly
//! any noise. What they are multiples of is public and is put right after decryption.

use crate::error::{Error, Result};
use crate::held_out::HeldOut;
use crate::numeric::{softmax, surprise};
use crate::rule::RuleKind;

/// Largest error or share of right answers that counts as such: log odds stay finite.
const ODDS_EDGE: f64 = 1e-3;
/// Passes over the exponents.
const SWEEPS: usize = 40;
/// Weight of the penalty that keeps exponents finite where all answers are right.
const PENALTY: f64 = 1e-3;
/// Halvings of a step before a coordinate counts as settled.
const HALVINGS: usize = 30;

/// `sum_h w_h z_h / sum_h w_h`.
///
/// Source: Genest and Zidek 1986, section 3 (linear opinion pool), here of scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    values: Vec<u8>,
}

impl Weights {
    /// One weight for each holder.
    ///
    /// # Errors
    /// [`Error::NoWeight`] if all are 0 or there are none.
    pub fn new(values: Vec<u8>) -> Result<Self> {
        some_weight(RuleKind::Weighted, &values)?;
        Ok(Self { values })
    }

    /// Log odds of each holder's accuracy `a` on the held-out examples: with `K` classes
    /// `ln(a / (1 - a)) + ln(K - 1)`, 0 at chance; the largest becomes 255, none less than 1.
    ///
    /// Source: Hastie, Rosset, Zhu, Zou 2009 (SAMME), section 1.1.
    pub fn fitted(held_out: &HeldOut) -> Self {
        let chance = (held_out.classes().max(2) as f64 - 1.0).ln();
        let odds = |holder| {
            let right = held_out.accuracy(holder).clamp(ODDS_EDGE, 1.0 - ODDS_EDGE);
            ((right / (1.0 - right)).ln() + chance).max(0.0)
        };
        let odds: Vec<f64> = (0..held_out.holders()).map(odds).collect();
        let values = quantise(&odds).0.into_iter().map(|value| value.max(1));
        Self {
            values: values.collect(),
        }
    }

    /// The weights.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// What the weighted sum is divided by.
    pub fn divisor(&self) -> f64 {
        self.values.iter().map(|&weight| f64::from(weight)).sum()
    }

    /// For the holders at `present` alone, in that order.
    ///
    /// # Errors
    /// [`Error::NoWeight`] if none of them counts.
    ///
    /// # Panics
    /// If a position names no holder.
    pub(crate) fn restricted(&self, present: &[usize]) -> Result<Self> {
        Self::new(present.iter().map(|&holder| self.values[holder]).collect())
    }

    pub(crate) fn combine(&self, predictions: &[Vec<f64>]) -> Vec<f64> {
        weighted_sum(predictions, &self.values, 1.0 / self.divisor())
    }
}

/// `sum_h t_h z_h`: its softmax is the product of the holders' distributions, each to the power of
/// its exponent, made to sum to 1. `t_h = unit * multiple_h`.
///
/// Source: Genest and Zidek 1986, section 3 (logarithmic opinion pool); an exponent is the inverse
/// of a temperature (Guo, Pleiss, Sun, Weinberger 2017, section 4.2).
#[derive(Debug, Clone, PartialEq)]
pub struct Exponents {
    multiples: Vec<u8>,
    unit: f64,
}

impl Exponents {
    /// One multiple of `unit` for each holder.
    ///
    /// # Errors
    /// [`Error::NoWeight`] if all are 0 or there are none; [`Error::Parameter`] unless the unit is
    /// a positive number.
    pub fn new(multiples: Vec<u8>, unit: f64) -> Result<Self> {
        some_weight(RuleKind::LogOpinion, &multiples)?;
        if !(unit.is_finite() && unit > 0.0) {
            return Err(Error::Parameter {
                rule: RuleKind::LogOpinion,
                what: "the unit of the exponents",
                found: unit,
                expected: "positive and finite",
            });
        }
        Ok(Self { multiples, unit })
    }

    /// The exponents under which the held-out labels are most likely, all fitted together, none
    /// negative.
    pub fn fitted(held_out: &HeldOut) -> Self {
        let (multiples, unit) = quantise(&most_likely(held_out));
        Self { multiples, unit }
    }

    /// Multiples of [`unit`](Self::unit).
    pub fn multiples(&self) -> &[u8] {
        &self.multiples
    }

    /// What the exponents are multiples of.
    pub fn unit(&self) -> f64 {
        self.unit
    }

    /// The exponents themselves.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        let unit = self.unit;
        self.multiples.iter().map(move |&m| f64::from(m) * unit)
    }

    /// As [`Weights::restricted`].
    pub(crate) fn restricted(&self, present: &[usize]) -> Result<Self> {
        let multiples = present.iter().map(|&holder| self.multiples[holder]);
        Self::new(multiples.collect(), self.unit)
    }

    pub(crate) fn combine(&self, predictions: &[Vec<f64>]) -> Vec<f64> {
        weighted_sum(predictions, &self.multiples, self.unit)
    }
}

fn some_weight(rule: RuleKind, values: &[u8]) -> Result<()> {
    match values.iter().any(|&value| value > 0) {
        true => Ok(()),
        false => Err(Error::NoWeight { rule }),
    }
}

fn weighted_sum(predictions: &[Vec<f64>], weights: &[u8], unit: f64) -> Vec<f64> {
    let mut sum = vec![0.0; predictions.first().map_or(0, Vec::len)];
    for (scores, &weight) in predictions.iter().zip(weights) {
        let added = sum.iter_mut().zip(scores);
        added.for_each(|(sum, score)| *sum += f64::from(weight) * score);
    }
    sum.into_iter().map(|score| score * unit).collect()
}

/// Multiples of one unit, the largest 255; all 1 if no value is positive.
fn quantise(values: &[f64]) -> (Vec<u8>, f64) {
    let largest = values.iter().copied().fold(0.0, f64::max);
    if !(largest.is_finite() && largest > 0.0) {
        return (vec![1; values.len()], 1.0 / values.len().max(1) as f64);
    }
    let unit = largest / f64::from(u8::MAX);
    let multiple = |value: &f64| (value / unit).round().clamp(0.0, 255.0) as u8;
    (values.iter().map(multiple).collect(), unit)
}

/// Minimises `mean -ln softmax(sum_h t_h z_h)[label] + PENALTY/2 |t|^2` over `t >= 0`: Newton
/// steps in one exponent after the other, halved until they gain. The function is convex, so that
/// the order does not decide the result.
fn most_likely(held_out: &HeldOut) -> Vec<f64> {
    // In units of the scores' size, so that the penalty means the same for all networks.
    let scale = held_out.root_mean_square();
    let mut pool = Pool::new(held_out, scale);
    for _ in 0..SWEEPS {
        let moves = (0..held_out.holders()).map(|holder| pool.improve(holder));
        if moves.fold(0.0, f64::max) < 1e-6 {
            break;
        }
    }
    pool.exponents.iter().map(|t| t / scale).collect()
}

/// The pooled scores of every example under the exponents so far.
struct Pool<'a> {
    held_out: &'a HeldOut,
    scale: f64,
    exponents: Vec<f64>,
    scores: Vec<Vec<f64>>,
}

impl<'a> Pool<'a> {
    fn new(held_out: &'a HeldOut, scale: f64) -> Self {
        let holders = held_out.holders();
        let mut pool = Self {
            held_out,
            scale,
            exponents: vec![0.0; holders],
            scores: vec![vec![0.0; held_out.classes()]; held_out.examples()],
        };
        (0..holders).for_each(|holder| pool.step(holder, 1.0 / holders as f64));
        pool
    }

    /// Changes one exponent.
    fn step(&mut self, holder: usize, change: f64) {
        self.exponents[holder] += change;
        for (example, pooled) in self.scores.iter_mut().enumerate() {
            let scores = self.held_out.scores(holder, example);
            let added = pooled.iter_mut().zip(scores);
            added.for_each(|(sum, score)| *sum += change * score / self.scale);
        }
    }

    fn cost(&self) -> f64 {
        let pairs = self.scores.iter().zip(self.held_out.labels());
        let sum: f64 = pairs.map(|(scores, &label)| surprise(scores, label)).sum();
        let squares: f64 = self.exponents.iter().map(|t| t * t).sum();
        sum / self.scores.len() as f64 + PENALTY / 2.0 * squares
    }

    /// First and second derivative of the cost by one exponent: `E_p[z] - z_label` and `Var_p[z]`.
    fn slope(&self, holder: usize) -> (f64, f64) {
        let (mut slope, mut curvature) = (0.0, 0.0);
        for (example, pooled) in self.scores.iter().enumerate() {
            let scores = self.held_out.scores(holder, example);
            let shares = softmax(pooled);
            let moment = |power: i32| -> f64 {
                let pairs = shares.iter().zip(scores);
                pairs.map(|(p, z)| p * (z / self.scale).powi(power)).sum()
            };
            let mean = moment(1);
            slope += mean - scores[self.held_out.labels()[example]] / self.scale;
            curvature += moment(2) - mean * mean;
        }
        let count = self.scores.len() as f64;
        let at = self.exponents[holder];
        (slope / count + PENALTY * at, curvature / count + PENALTY)
    }

    /// Moves one exponent towards the minimum; returns how far.
    fn improve(&mut self, holder: usize) -> f64 {
        let (slope, curvature) = self.slope(holder);
        let (before, cost) = (self.exponents[holder], self.cost());
        let wanted = (before - slope / curvature).max(0.0);
        let mut change = wanted - before;
        self.step(holder, change);
        for _ in 0..HALVINGS {
            if self.cost() <= cost {
                return change.abs();
            }
            change /= 2.0;
            self.step(holder, -change);
        }
        self.step(holder, -change);
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held_out::samples::held_out;

    #[test]
    fn sums_are_those_worked_by_hand() {
        let predictions = [vec![1.0, 2.0], vec![4.0, -2.0]];
        let weights = Weights::new(vec![3, 1]).unwrap();
        assert_eq!(weights.combine(&predictions), [7.0 / 4.0, 1.0]);
        let exponents = Exponents::new(vec![2, 1], 0.25).unwrap();
        assert_eq!(exponents.combine(&predictions), [1.5, 0.5]);
        let alone = weights.restricted(&[1]).unwrap();
        assert_eq!(alone.combine(&predictions[1..]), [4.0, -2.0]);
    }

    #[test]
    fn log_odds_weigh_the_better_holder_more() {
        // 9 of 10 right and 5 of 10, two classes: ln 9 and 0.
        let right = |count: usize| -> Vec<Vec<f64>> {
            (0..10)
                .map(|i| vec![f64::from(u8::from(i < count)), 0.5])
                .collect()
        };
        let held_out = HeldOut::new(vec![right(9), right(5)], vec![0; 10]).unwrap();
        assert_eq!(Weights::fitted(&held_out).values(), [255, 1]);
    }

    #[test]
    fn exponents_make_the_labels_most_likely() {
        let held_out = held_out(&[3.0, 1.0, 0.0], 4, 400);
        let cost = |t: &[f64]| {
            let scale = held_out.root_mean_square();
            let mut pool = Pool::new(&held_out, scale);
            for (holder, t) in t.iter().enumerate() {
                let change = t * scale - pool.exponents[holder];
                pool.step(holder, change);
            }
            pool.cost()
        };
        let found = most_likely(&held_out);
        assert!(found[0] > found[1] && found[1] > found[2], "{found:?}");
        for holder in 0..3 {
            for change in [-0.05, 0.05] {
                let mut other = found.clone();
                other[holder] = f64::max(other[holder] + change, 0.0);
                assert!(cost(&other) >= cost(&found), "{holder} {change}");
            }
        }
    }

    #[test]
    fn answers_that_are_all_right_give_finite_exponents() {
        let held_out = held_out(&[50.0, 50.0], 3, 30);
        let exponents = Exponents::fitted(&held_out);
        assert!(exponents.unit().is_finite() && exponents.values().all(|t| t > 0.0));
    }

    #[test]
    fn useless_holders_still_give_a_rule() {
        let held_out = held_out(&[-3.0, -3.0], 3, 60);
        assert_eq!(Weights::fitted(&held_out).values(), [1, 1]);
        assert_eq!(Exponents::fitted(&held_out).multiples(), [1, 1]);
    }

    #[test]
    fn weights_that_count_for_nothing_are_errors() {
        let none = Weights::new(vec![0, 0]);
        assert!(matches!(none, Err(Error::NoWeight { .. })));
        let absent = Weights::new(vec![0, 3]).unwrap().restricted(&[0]);
        assert!(matches!(absent, Err(Error::NoWeight { .. })));
        let unit = Exponents::new(vec![1], f64::NAN);
        assert!(matches!(unit, Err(Error::Parameter { .. })));
    }
}
