//! Scales, modulus switches and primes of exact programs (BGV and BFV).
//!
//! Values are integers: fixed-point numbers whose scales only grow. First the scales: bits are
//! given to the query and to the weights where they lower the error of rounding most, as many as
//! the plaintext prime has room for at the end; values in between may wrap, since arithmetic
//! modulo t forgives that. Then the [`modulus`].
//!
//! Programs of an ensemble leave room in the plaintext prime for sums of their replies. What the
//! first one chose is given to the others: the last weights bring the reply to its scale.

mod modulus;

use scuro_program::{Operation, Weights};

use super::descent::ValueState;
use super::{Bounds, Chain, LevelPlan, pattern};
use crate::ensemble::{Common, CommonExact, SUM_BITS_EXACT};
use crate::primes::PrimeSet;

/// Why some steps cannot be met here.
pub(super) const NO_SUMS: &str = "`check::exact` refuses sums of several values";

/// Sizes of plaintext primes that are tried.
const PLAIN_BITS: std::ops::RangeInclusive<u32> = 20..=46;
/// Bits of the plaintext prime left above the largest output: its sign.
const OUTPUT_HEADROOM: f64 = 1.0;
/// Scale of everything at the start of the search.
const SCALE_START: f64 = 2.0;
/// Largest scale of the query.
const INPUT_SCALE_MAX: u32 = 24;
/// Largest scale of weights: quantised weights are exact in single precision.
const WEIGHT_SCALE_MAX: f64 = 20.0;
/// Bits of the largest integer weight, which is exact in single precision.
const WEIGHT_BITS_MAX: f64 = 24.0;
/// Steps of the scales of weights.
const WEIGHT_SCALE_STEP: f64 = 0.25;
/// Rounding may err by this many tolerances of an approximate program, a third of the spread of the
/// outputs: it is the same for every run and shows in the clear accuracy.
const ROUNDING_TOLERANCES: f64 = 128.0;
/// With the largest plaintext prime it may err by this many; whether answers bear it is seen later.
const ROUNDING_TOLERANCES_MAX: f64 = 1024.0;
/// The same of programs of an ensemble, which leave bits of the plaintext prime to sums.
const ROUNDING_TOLERANCES_ENSEMBLE: f64 = 8192.0;
/// With less error than this many there is no need for a larger plaintext prime.
const ROUNDING_TOLERANCES_FINE: f64 = 12.0;
/// A larger plaintext prime may take so many times the time, and encrypted weights so many times
/// the bits.
const PRECISION_COST: f64 = 1.02;

/// The fastest plan of less than `limit` microseconds, with as large a plaintext prime as takes no
/// more time and, where weights are encrypted, no more room; else the best error reached.
pub(super) fn choose(chain: &Chain<'_>, mut limit: f64) -> Result<LevelPlan, f64> {
    let mut best_error = f64::INFINITY;
    let mut best: Option<LevelPlan> = None;
    let mut room = f64::INFINITY;
    for plain_bits in PLAIN_BITS {
        let tolerances = match plain_bits == *PLAIN_BITS.end() {
            true => tolerances_max(&chain.bounds),
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
        let bits = modulus::bits(&plan);
        if bits > room {
            break;
        }
        if best.is_none() {
            limit = limit.min(PRECISION_COST * plan.micros);
            if chain.bounds.weights != Weights::Plain {
                room = PRECISION_COST * bits;
            }
        }
        best = Some(plan);
        if scales.error <= ROUNDING_TOLERANCES_FINE * chain.bounds.tolerance {
            break;
        }
    }
    best.ok_or(best_error)
}

/// Tolerances of an approximate program that rounding may err by at most.
pub(super) fn tolerances_max(bounds: &Bounds) -> f64 {
    match bounds.degree {
        Some(_) => ROUNDING_TOLERANCES_ENSEMBLE,
        None => ROUNDING_TOLERANCES_MAX,
    }
}

/// The fastest plan of less than `limit` microseconds that joins an ensemble; else the error.
pub(super) fn join(
    chain: &Chain<'_>,
    common: &Common,
    exact: CommonExact,
    limit: f64,
) -> Result<LevelPlan, f64> {
    let scales = Scales::joined(chain, common.input_scale, exact.unit).ok_or(f64::INFINITY)?;
    if scales.error > tolerances_max(&chain.bounds) * chain.bounds.tolerance {
        return Err(scales.error);
    }
    modulus::join(chain, common, exact.plain_bits, &scales, limit).ok_or(f64::INFINITY)
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

/// Scales of the numbers that the program means by its integers: whole powers of two, so that all
/// of them are exact. What the plan's scales differ by is in the weights, and in the end a factor
/// of the outputs.
pub(super) fn stored_scales(chain: &Chain<'_>, plan: &LevelPlan) -> Vec<f64> {
    let mut weights: Vec<f64> = plan.weight_scales.iter().map(|s| s.round()).collect();
    let scales = rounding(chain, plan.input_scale, &weights).0;
    let (Some(common), Some(last)) = (chain.common, last_weights(chain)) else {
        return scales;
    };
    weights[last] += common.reply_scale - scales[chain.result];
    rounding(chain, plan.input_scale, &weights).0
}

/// The step of the last weights, after which the result's scale is theirs times that of what they
/// multiply: no products follow.
fn last_weights(chain: &Chain<'_>) -> Option<usize> {
    let steps = chain.steps.iter().enumerate().rev();
    let mut until = steps
        .take_while(|(_, step)| !matches!(step.operation, Operation::Square | Operation::Multiply));
    until.find_map(|(index, _)| chain.weighted[index].then_some(index))
}

/// Scales of the query, a whole power of two, and of the weights.
struct Scales {
    input: f64,
    weights: Vec<f64>,
    error: f64,
}

impl Scales {
    /// The scales with the least error whose output fits the plaintext prime.
    fn choose(chain: &Chain<'_>, plain_bits: f64) -> Option<Scales> {
        let sums = chain.bounds.degree.map_or(0.0, |_| SUM_BITS_EXACT);
        let room = plain_bits - OUTPUT_HEADROOM - sums - chain.magnitudes[chain.result];
        let inputs = (SCALE_START as u32..=INPUT_SCALE_MAX).map(f64::from);
        let settled = inputs.map_while(|input| Self::settled(chain, input, room));
        settled.min_by(|a, b| a.error.total_cmp(&b.error))
    }

    /// The best scales for a query and an output of given ones; none if the last weights would have
    /// to be larger than integers may be.
    fn joined(chain: &Chain<'_>, input: f64, output: f64) -> Option<Scales> {
        let mut scales = Self::settled(chain, input, output)?;
        let Some(last) = last_weights(chain) else {
            return Some(scales);
        };
        scales.weights[last] += output - scales.evaluate(chain).0;
        scales.error = scales.evaluate(chain).1;
        let largest = chain.weight_magnitudes[last].iter().copied();
        let bits = scales.weights[last] + largest.fold(0.0, f64::max);
        (bits <= WEIGHT_BITS_MAX).then_some(scales)
    }

    /// The scales of the weights that are best for one of the query.
    fn settled(chain: &Chain<'_>, input: f64, room: f64) -> Option<Scales> {
        let weighted: Vec<usize> = (0..chain.steps.len())
            .filter(|&i| chain.weighted[i])
            .collect();
        let mut scales = Scales {
            input,
            weights: vec![SCALE_START; chain.steps.len()],
            error: f64::INFINITY,
        };
        if scales.evaluate(chain).0 > room {
            return None;
        }
        while let Some(step) = scales.best_step(chain, &weighted, room) {
            scales.weights[step] += WEIGHT_SCALE_STEP;
        }
        scales.error = scales.evaluate(chain).1;
        Some(scales)
    }

    /// Scale and error of the output.
    fn evaluate(&self, chain: &Chain<'_>) -> (f64, f64) {
        let (scales, variances) = rounding(chain, self.input, &self.weights);
        (scales[chain.result], variances[chain.result].sqrt())
    }

    /// The weights of which more precision lowers the error most for what it adds to the output's
    /// scale.
    fn best_step(&mut self, chain: &Chain<'_>, weighted: &[usize], room: f64) -> Option<usize> {
        let (scale, error) = self.evaluate(chain);
        let mut best = (0.0, None);
        for &step in weighted {
            if self.weights[step] >= WEIGHT_SCALE_MAX {
                continue;
            }
            self.weights[step] += WEIGHT_SCALE_STEP;
            let (longer, smaller) = self.evaluate(chain);
            self.weights[step] -= WEIGHT_SCALE_STEP;
            let gain = (error / smaller).log2() / (longer - scale).max(WEIGHT_SCALE_STEP / 2.0);
            if longer <= room && gain > best.0 {
                best = (gain, Some(step));
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
            _ if chain.weighted[index] => largest + weights[index],
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
            Operation::Combine { .. } if chain.weighted[index] => unreachable!("{NO_SUMS}"),
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
