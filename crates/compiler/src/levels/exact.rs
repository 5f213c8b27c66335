//! Scales, modulus switches and primes of exact programs (BGV).
//!
//! Values are integers: fixed-point numbers whose scales only grow. First the scales: bits are
//! given to the query and to the weights where they lower the error of rounding most, as many as
//! the plaintext prime has room for at the end; values in between may wrap, since arithmetic
//! modulo t forgives that. Then the [`modulus`].

mod modulus;

use scuro_program::Operation;

use super::descent::ValueState;
use super::{Chain, LevelPlan, is_weighted, pattern};
use crate::primes::PrimeSet;

/// Why some steps cannot be met here.
pub(super) const NO_SUMS: &str = "`check::exact` refuses sums of several values";

/// Sizes of plaintext primes that are tried.
const PLAIN_BITS: std::ops::RangeInclusive<u32> = 20..=46;
/// Bits of the plaintext prime left above the largest output: its sign.
const OUTPUT_HEADROOM: f64 = 1.0;
/// Scale of everything at the start of the search.
const SCALE_START: f64 = 2.0;
/// Largest scale of weights: quantised weights are exact in single precision.
const WEIGHT_SCALE_MAX: f64 = 20.0;
/// Rounding may err by this many tolerances of an approximate program, a fifth of the spread of the
/// outputs: it is the same for every run and shows in the clear accuracy.
const ROUNDING_TOLERANCES: f64 = 76.8;
/// With the largest plaintext prime it may err by this many.
const ROUNDING_TOLERANCES_MAX: f64 = 1024.0;
/// With less error than this many there is no need for a larger plaintext prime.
const ROUNDING_TOLERANCES_FINE: f64 = 12.0;
/// A larger plaintext prime may take so many times the time.
const PRECISION_COST: f64 = 1.02;

/// The fastest plan of less than `limit` microseconds, with as large a plaintext prime as takes no
/// more time; else the best error reached.
pub(super) fn choose(chain: &Chain<'_>, mut limit: f64) -> Result<LevelPlan, f64> {
    let mut best_error = f64::INFINITY;
    let mut best: Option<LevelPlan> = None;
    for plain_bits in PLAIN_BITS {
        let tolerances = match plain_bits == *PLAIN_BITS.end() {
            true => ROUNDING_TOLERANCES_MAX,
            false => ROUNDING_TOLERANCES,
        };
        let Some(plain) = chain.primes.plain(plain_bits, &PrimeSet::NONE) else {
            continue;
        };
        let Some(scales) = Scales::choose(chain, plain.log2()) else {
            continue;
        };
        if scales.error >= best_error || scales.error > tolerances * chain.bounds.tolerance {
            best_error = best_error.min(scales.error);
            continue;
        }
        best_error = scales.error;
        let Some(plan) = modulus::fastest(chain, &scales, plain_bits, limit) else {
            return best.ok_or(f64::INFINITY);
        };
        if best.is_none() {
            limit = limit.min(PRECISION_COST * plan.micros);
        }
        best = Some(plan);
        if scales.error <= ROUNDING_TOLERANCES_FINE * chain.bounds.tolerance {
            break;
        }
    }
    best.ok_or(best_error)
}

/// Scales and levels of all values under a plan.
pub(super) fn states(chain: &Chain<'_>, plan: &LevelPlan) -> Vec<ValueState> {
    let weights = &plan.weight_scales;
    let (scales, variances) = rounding(chain, plan.input_scale, weights);
    let dropped = pattern::drop_counts(chain, &plan.drops);
    let state = |((scale, variance), dropped)| ValueState {
        dropped,
        scale,
        variance,
    };
    scales
        .into_iter()
        .zip(variances)
        .zip(dropped)
        .map(state)
        .collect()
}

/// Scales of the query and of the weights.
struct Scales {
    input: f64,
    weights: Vec<f64>,
    error: f64,
}

impl Scales {
    /// The scales with the least error whose output fits the plaintext prime.
    fn choose(chain: &Chain<'_>, plain_bits: f64) -> Option<Scales> {
        let weighted: Vec<usize> = (0..chain.steps.len())
            .filter(|&i| is_weighted(&chain.steps[i].operation))
            .collect();
        let mut scales = Scales {
            input: SCALE_START,
            weights: vec![SCALE_START; chain.steps.len()],
            error: f64::INFINITY,
        };
        let room = plain_bits - OUTPUT_HEADROOM - chain.magnitudes[chain.result];
        if scales.evaluate(chain).0 > room {
            return None;
        }
        while let Some(at) = scales.best_bit(chain, &weighted, room) {
            *scales.coordinate(at) += 1.0;
        }
        scales.error = scales.evaluate(chain).1;
        Some(scales)
    }

    fn coordinate(&mut self, at: Option<usize>) -> &mut f64 {
        match at {
            None => &mut self.input,
            Some(step) => &mut self.weights[step],
        }
    }

    /// Scale and error of the output.
    fn evaluate(&self, chain: &Chain<'_>) -> (f64, f64) {
        let (scales, variances) = rounding(chain, self.input, &self.weights);
        (scales[chain.result], variances[chain.result].sqrt())
    }

    /// Where one more bit lowers the error most for what it adds to the output's scale.
    fn best_bit(
        &mut self,
        chain: &Chain<'_>,
        weighted: &[usize],
        room: f64,
    ) -> Option<Option<usize>> {
        let (scale, error) = self.evaluate(chain);
        let places = std::iter::once(None).chain(weighted.iter().copied().map(Some));
        let mut best = (0.0, None);
        for at in places {
            if at.is_some() && *self.coordinate(at) >= WEIGHT_SCALE_MAX {
                continue;
            }
            *self.coordinate(at) += 1.0;
            let (longer, smaller) = self.evaluate(chain);
            *self.coordinate(at) -= 1.0;
            let gain = (error / smaller).log2() / (longer - scale).max(0.5);
            if longer <= room && gain > best.0 {
                best = (gain, Some(at));
            }
        }
        best.1
    }
}

/// Scale of every value, and variance of its error from rounding inputs, weights and constants.
fn rounding(chain: &Chain<'_>, input: f64, weights: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let unit = |scale: f64| (-2.0 * scale).exp2() / 12.0;
    let mut scales = vec![input];
    let mut variances = vec![unit(input)];
    for (index, step) in chain.steps.iter().enumerate() {
        let of = |i: usize| step.inputs[i].0 as usize;
        let operands = || step.inputs.iter().map(|id| scales[id.0 as usize]);
        let largest = operands().fold(f64::MIN, f64::max);
        let scale = match &step.operation {
            Operation::Square => 2.0 * largest,
            Operation::Multiply => operands().sum(),
            operation if is_weighted(operation) => largest + weights[index],
            _ => largest,
        };
        let live = |i: usize| chain.ranges[of(i)].live_square;
        let before = variances[of(0)];
        let variance = match &step.operation {
            Operation::Linear(_) => {
                let gain = &chain.gains[index];
                let operand = |i: usize| {
                    let weight = unit(scale - scales[of(i)]);
                    gain.row_energy[i] * variances[of(i)] + chain.exposures[index][i] * weight
                };
                (0..step.inputs.len()).map(operand).sum()
            }
            Operation::Combine { .. } => unreachable!("{NO_SUMS}"),
            Operation::AddConstant { .. } => before + unit(scale),
            Operation::Square => 4.0 * live(0) * before,
            Operation::Multiply => live(1) * before + live(0) * variances[of(1)],
            _ => before,
        };
        scales.push(scale);
        variances.push(variance);
    }
    (scales, variances)
}
