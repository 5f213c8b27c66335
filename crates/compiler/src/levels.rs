//! Pass: scales, rescales and prime sizes.
//!
//! Rescaling is lazy: a *pattern* says after which steps primes are dropped; patterns come from
//! greedy rules with several thresholds. For a pattern, input scale, weight scales and prime sizes
//! are chosen by descent on the predicted output error, then by annealing, under the constraint
//! that every value fits its modulus. The fewest limbs that meet the tolerance win.

mod annealing;
mod descent;
mod emit;
mod exact;
mod flooded;
mod pattern;

use scuro_program::{
    Flooding, Operation, ParameterPlan, Ring, Scheme, SecurityTable, Step, Weights,
};

use crate::cost::{CostModel, LinearCounts};
use crate::ensemble::{self, Common, Degree};
use crate::error::CompileError;
use crate::lower::{Gain, Skeleton};
use crate::noise::NoiseModel;
use crate::options::Arithmetic;
use crate::primes::{PrimeSet, Primes};
use crate::ranges::{Range, Ranges};
use crate::rotations;
use crate::sensitivity::Edge;
use crate::worst::Worst;
pub(crate) use emit::{Emitted, ciphertexts, emit};

/// Largest prime.
pub(crate) const PRIME_BITS_MAX: u32 = 50;
/// Most ciphertext primes tried.
const LIMBS_MAX: usize = 40;
/// Bits per prime up to which precision is taken for nothing.
const FREE_PRIME_BITS: f64 = 38.0;
/// Keys and weights take whole bytes a residue.
const BYTE: f64 = 8.0;
/// Plans within this factor of the fastest are compared by the size of their queries.
const COMPARABLE: f64 = 1.02;
/// Most of them.
const CLOSE_PLANS: usize = 8;
/// Plans that miss the tolerance by less than this factor are annealed.
const NEAR: f64 = 3.0;
/// Moves tried for those, and for the plan that is taken.
const MOVES_NEAR: u32 = 100_000;
const MOVES_TAKEN: u32 = 300_000;
/// Most primes that are never dropped; with flooding, which needs room.
const LEFT: usize = 2;
const LEFT_FLOODED: usize = 4;
/// Modulus bits left unused below the largest value.
const HEADROOM_BITS: f64 = 1.5;

/// What the pass may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) ring: Ring,
    pub(crate) weights: Weights,
    pub(crate) arithmetic: Arithmetic,
    pub(crate) flooding: Option<Flooding>,
    pub(crate) log_n: u32,
    pub(crate) log_qp: u32,
    pub(crate) security_bits: u32,
    pub(crate) table: SecurityTable,
    /// Largest tolerated output error, in units of the output.
    pub(crate) tolerance: f64,
    /// What will be computed of the reply, if it is not the end.
    pub(crate) degree: Option<Degree>,
}

impl Bounds {
    /// The times of operations with `special` special primes.
    fn cost(&self, special: usize) -> CostModel {
        CostModel::new(self.log_n, special)
            .with_weights(self.weights)
            .with_arithmetic(self.arithmetic)
    }
}

/// Chosen scales, rescales and primes.
#[derive(Debug, Clone)]
pub(crate) struct LevelPlan {
    /// Base-two logarithm of the query's scale.
    pub(crate) input_scale: f64,
    /// Per step: base-two logarithm of the weights' scale (linear steps and combinations).
    pub(crate) weight_scales: Vec<f64>,
    /// Per step: primes dropped after it.
    pub(crate) drops: Vec<u32>,
    /// Ciphertext primes in the order in which they are dropped; the rest stay to the end.
    pub(crate) primes: Vec<f64>,
    /// Bits of each special prime and their number.
    pub(crate) special: (u32, usize),
    /// Bits of the plaintext prime of an exact program.
    pub(crate) plain_bits: Option<u32>,
    /// Predicted output error, flooding included.
    pub(crate) error: f64,
    /// What the error of the result stays below in the worst case, in units of the ciphertext;
    /// known if the reply is to be flooded.
    pub(crate) worst_error: f64,
    /// Predicted time.
    pub(crate) micros: f64,
}

impl LevelPlan {
    /// Bits of all primes.
    pub(crate) fn log_qp(&self) -> f64 {
        let special = self.special.0 * self.special.1 as u32;
        self.primes.iter().sum::<f64>() + f64::from(special)
    }

    fn q_bits(&self) -> Vec<u32> {
        self.primes.iter().rev().map(|&b| b as u32).collect()
    }

    fn p_bits(&self) -> Vec<u32> {
        vec![self.special.0; self.special.1]
    }

    /// The primes that its sizes stand for.
    fn prime_set(&self, primes: &Primes) -> PrimeSet {
        primes.set(&self.q_bits(), &self.p_bits())
    }

    /// The plan's parameters.
    pub(crate) fn parameters(&self, bounds: &Bounds) -> ParameterPlan {
        ParameterPlan {
            scheme: match (self.plain_bits, bounds.arithmetic) {
                (None, _) => Scheme::Ckks,
                (Some(plain_bits), Arithmetic::ScaleInvariant) => Scheme::Bfv { plain_bits },
                (Some(plain_bits), _) => Scheme::Bgv { plain_bits },
            },
            ring: bounds.ring,
            log_n: bounds.log_n,
            q_bits: self.q_bits(),
            p_bits: self.p_bits(),
            security_bits: bounds.security_bits,
            table: bounds.table,
        }
    }
}

/// The steps with everything the descent looks at.
pub(crate) struct Chain<'a> {
    pub(crate) steps: &'a [Step],
    pub(crate) gains: &'a [Gain],
    pub(crate) ranges: &'a [Range],
    /// Per value: base-two logarithm of the largest slot.
    magnitudes: Vec<f64>,
    /// Per step and operand: base-two logarithm of the largest weight.
    weight_magnitudes: Vec<Vec<f64>>,
    /// Per step: whether it has a weight scale.
    weighted: Vec<bool>,
    /// Per linear step: its rotations.
    counts: Vec<Option<LinearCounts>>,
    pub(crate) exposures: &'a [Vec<f64>],
    /// Per step and operand of an approximate program.
    pub(crate) edges: &'a [Vec<Edge>],
    /// Known if the reply is to be flooded for any input.
    pub(crate) worst: Option<&'a Worst>,
    pub(crate) result: usize,
    pub(crate) noise: NoiseModel,
    primes: Primes,
    /// What is given, as several programs have it in common.
    pub(crate) common: Option<&'a Common>,
    pub(crate) bounds: Bounds,
}

impl<'a> Chain<'a> {
    pub(crate) fn new(
        skeleton: &'a Skeleton,
        ranges: &'a Ranges,
        edges: &'a [Vec<Edge>],
        worst: Option<&'a Worst>,
        result: usize,
        bounds: Bounds,
    ) -> Chain<'a> {
        let noise = NoiseModel::new(bounds.ring, bounds.log_n);
        Chain {
            steps: &skeleton.steps,
            gains: &skeleton.gains,
            ranges: &ranges.values,
            magnitudes: ranges.values.iter().map(|r| magnitude(r.max_abs)).collect(),
            weight_magnitudes: weight_magnitudes(skeleton),
            weighted: (0..skeleton.steps.len())
                .map(|index| is_weighted(&skeleton.steps, index))
                .collect(),
            counts: skeleton.steps.iter().map(counts).collect(),
            exposures: &ranges.exposures,
            edges,
            worst,
            result,
            noise,
            primes: Primes::new(bounds.ring, bounds.log_n),
            common: None,
            bounds,
        }
    }

    /// The same for a program of an ensemble: its reply is as large as all programs' may be, and
    /// what they have in common is given.
    pub(crate) fn of_ensemble(mut self, common: Option<&'a Common>) -> Chain<'a> {
        let largest = match common {
            Some(common) => common.largest,
            None => {
                ensemble::common_bound(self.ranges[self.result].max_abs, self.bounds.arithmetic)
            }
        };
        self.magnitudes[self.result] = magnitude(largest);
        Chain { common, ..self }
    }

    /// Bits by which a trace lowers the scale: its ciphertext holds a mean.
    pub(crate) fn traced_bits(&self, period: u32, copies: u32) -> f64 {
        let slots = match self.bounds.ring {
            Ring::ConjugateInvariant => self.bounds.log_n,
            Ring::Standard => self.bounds.log_n - 1,
        };
        f64::from(slots) - f64::from(period * copies).log2()
    }

    /// Slots from one that a traced reply repeats to the next; 1 if it was not.
    pub(crate) fn stride(&self) -> usize {
        let trace = self.steps.iter().find_map(|step| match step.operation {
            Operation::Trace { period, .. } => Some(self.traced_bits(period, 1).exp2() as usize),
            _ => None,
        });
        trace.unwrap_or(1)
    }

    /// The same for a reply that is not flooded.
    fn unflooded(&self) -> Chain<'a> {
        let bounds = Bounds {
            flooding: None,
            ..self.bounds
        };
        Chain {
            worst: None,
            magnitudes: self.magnitudes.clone(),
            weight_magnitudes: self.weight_magnitudes.clone(),
            weighted: self.weighted.clone(),
            counts: self.counts.clone(),
            primes: Primes::new(bounds.ring, bounds.log_n),
            bounds,
            ..*self
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refusal {
    /// The best error reached, above the tolerance.
    TooNoisy(f64),
    /// Some value outgrows the modulus in every plan.
    TooDeep,
    /// There would be one without flooding.
    NoRoomToFlood(Flooding),
}

fn magnitude(value: f64) -> f64 {
    value.abs().max(1e-9).log2()
}

fn weight_magnitudes(skeleton: &Skeleton) -> Vec<Vec<f64>> {
    let of = |(step, gain): (&Step, &Gain)| -> Vec<f64> {
        let largest: &[f64] = match &step.operation {
            Operation::Linear(_) => &gain.largest,
            Operation::Combine { factors, .. } => factors,
            _ => &[],
        };
        largest.iter().map(|&weight| magnitude(weight)).collect()
    };
    skeleton.steps.iter().zip(&skeleton.gains).map(of).collect()
}

fn counts(step: &Step) -> Option<LinearCounts> {
    match &step.operation {
        Operation::Linear(linear) => Some(LinearCounts::of(linear)),
        _ => None,
    }
}

/// Whether a step has a weight scale.
fn is_weighted(steps: &[Step], index: usize) -> bool {
    match steps[index].operation {
        Operation::Linear(_) => true,
        Operation::Combine { .. } => !rotations::is_sum(steps, index),
        _ => false,
    }
}

/// Chooses scales, rescales and primes among plans that take at most `limit`; if no parameters
/// within the bounds meet the tolerance, what is wrong with them.
pub(crate) fn choose(chain: &Chain<'_>, limit: f64) -> Result<LevelPlan, Refusal> {
    let fits = |chain: &Chain<'_>| fastest(chain, f64::INFINITY).is_ok();
    fastest(chain, limit).map_err(|error| match chain.bounds.flooding {
        _ if error.is_finite() => Refusal::TooNoisy(error),
        Some(flooding) if fits(&chain.unflooded()) => Refusal::NoRoomToFlood(flooding),
        _ => Refusal::TooDeep,
    })
}

/// The plan; else the best error seen, infinite if no plan fits its modulus.
fn fastest(chain: &Chain<'_>, limit: f64) -> Result<LevelPlan, f64> {
    if let Some((common, exact)) = chain.common.and_then(|c| Some((c, c.exact?))) {
        return exact::join(chain, common, exact, limit);
    }
    if chain.bounds.arithmetic.is_exact() {
        return exact::choose(chain, limit);
    }
    let patterns = pattern::patterns(chain);
    let mut best_error = f64::INFINITY;
    if let Some(common) = chain.common {
        let limbs = common.primes.len();
        let found = feasible(chain, &patterns, limbs, limit, &mut best_error);
        return found.into_iter().next().ok_or(best_error);
    }
    for limbs in 1..=LIMBS_MAX {
        let found = feasible(chain, &patterns, limbs, limit, &mut best_error);
        if let Some(plan) = smallest(chain, found) {
            return Ok(plan);
        }
    }
    Err(best_error)
}

/// The fastest plans of `limbs` limbs that meet the tolerance.
///
/// The time of a plan is known before its scales are, so the slow ones need no descent.
fn feasible(
    chain: &Chain<'_>,
    patterns: &[Vec<u32>],
    limbs: usize,
    mut limit: f64,
    best_error: &mut f64,
) -> Vec<LevelPlan> {
    let left = match (chain.bounds.flooding, chain.bounds.degree) {
        (None, None) => LEFT,
        _ => LEFT_FLOODED,
    };
    let least = chain.common.map_or(0, |common| common.reply_level as usize);
    let fits = |drops: &&Vec<u32>| {
        let dropped = pattern::dropped(chain, drops);
        dropped + least < limbs && (dropped + left >= limbs || chain.common.is_some())
    };
    let timed = |drops: &'_ Vec<u32>| {
        let drops = drops.clone();
        let choices = match chain.common {
            Some(common) => vec![common.special],
            None => special_choices(limbs),
        };
        let choices = choices.into_iter();
        choices.map(move |special| {
            (
                micros(chain, &drops, limbs, special),
                drops.clone(),
                special,
            )
        })
    };
    let mut candidates: Vec<_> = patterns.iter().filter(fits).flat_map(timed).collect();
    candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut found = Vec::new();
    for (micros, drops, special) in candidates {
        if micros >= limit || found.len() == CLOSE_PLANS {
            break;
        }
        let Some(mut plan) = descend(chain, &drops, limbs, special) else {
            continue;
        };
        let near = (1.0..NEAR).contains(&(plan.error / chain.bounds.tolerance));
        if near && chain.common.is_none() {
            plan = annealing::run(chain, &plan, room(chain, &plan), MOVES_NEAR);
        }
        *best_error = best_error.min(plan.error);
        if plan.error <= chain.bounds.tolerance {
            limit = limit.min(micros * COMPARABLE);
            found.push(plan);
        }
    }
    found
}

/// Of plans that are about as fast the one that can do with the smallest modulus.
fn smallest(chain: &Chain<'_>, found: Vec<LevelPlan>) -> Option<LevelPlan> {
    let settled = found
        .into_iter()
        .map(|plan| spend(chain, shrink(chain, plan)));
    let smallest = settled.min_by(|a, b| {
        let bits = |plan: &LevelPlan| plan.primes.iter().sum::<f64>().max(free_bits(plan));
        bits(a)
            .total_cmp(&bits(b))
            .then(a.error.total_cmp(&b.error))
    })?;
    let modulus = smallest.primes.iter().sum::<f64>() as u32;
    Some(annealing::run(chain, &smallest, modulus, MOVES_TAKEN))
}

/// Modulus bits that cost little: queries stay small, and larger primes fill the bytes that they
/// take anyway.
fn free_bits(plan: &LevelPlan) -> f64 {
    let limbs = plan.primes.len() as f64;
    let average = plan.primes.iter().sum::<f64>() / limbs;
    let bits = match average > FREE_PRIME_BITS {
        true => BYTE * (average / BYTE).ceil(),
        false => FREE_PRIME_BITS,
    };
    limbs * bits
}

/// Modulus bits that the special primes of a plan leave.
fn room(chain: &Chain<'_>, plan: &LevelPlan) -> u32 {
    let special = plan.special.0 * plan.special.1 as u32;
    chain.bounds.log_qp.saturating_sub(special)
}

/// The same pattern at the same speed, with precision to spare where the modulus may still grow.
fn spend(chain: &Chain<'_>, plan: LevelPlan) -> LevelPlan {
    let free = (free_bits(&plan) as u32).min(room(chain, &plan));
    if plan.primes.iter().sum::<f64>() >= f64::from(free) {
        return plan;
    }
    let limbs = plan.primes.len();
    match descent::run(chain, &plan.drops, limbs, plan.special, free, Some(&plan)) {
        Some(finer) if finer.error < plan.error => finer,
        _ => plan,
    }
}

/// Sizes and numbers of special primes worth trying.
fn special_choices(limbs: usize) -> Vec<(u32, usize)> {
    match limbs {
        0..=3 => vec![(50, 1), (44, 1), (38, 1), (50, 2), (44, 2)],
        4..=5 => vec![(50, 1), (44, 1), (38, 1), (50, 2), (44, 2), (50, 3)],
        6..=9 => vec![(50, 1), (44, 1), (50, 2), (50, 3)],
        _ => vec![(50, 2), (50, 3), (50, 4)],
    }
}

fn descend(
    chain: &Chain<'_>,
    drops: &[u32],
    limbs: usize,
    special: (u32, usize),
) -> Option<LevelPlan> {
    let taken = special.0 * special.1 as u32;
    let modulus = chain
        .bounds
        .log_qp
        .checked_sub(taken)?
        .min(PRIME_BITS_MAX * limbs as u32);
    // Primes in common are as they are.
    let modulus = chain
        .common
        .map_or(modulus, |common| common.primes.iter().sum::<f64>() as u32);
    descent::run(chain, drops, limbs, special, modulus, None)
}

/// The same pattern with the smallest modulus that still meets the tolerance: smaller queries.
fn shrink(chain: &Chain<'_>, plan: LevelPlan) -> LevelPlan {
    let mut best = plan;
    for cut in [8, 4, 2, 1] {
        loop {
            let total = best.primes.iter().sum::<f64>() as u32;
            let Some(modulus) = total.checked_sub(cut) else {
                break;
            };
            let (limbs, special) = (best.primes.len(), best.special);
            let smaller = descent::run(chain, &best.drops, limbs, special, modulus, Some(&best));
            match smaller {
                Some(plan) if plan.error <= chain.bounds.tolerance => best = plan,
                _ => break,
            }
        }
    }
    best
}

/// Predicted time of the whole chain.
fn micros(chain: &Chain<'_>, drops: &[u32], limbs: usize, special: (u32, usize)) -> f64 {
    let cost = chain.bounds.cost(special.1);
    let levels = pattern::drop_counts(chain, drops);
    let limbs = |value: usize| limbs - levels[value] as usize;
    let step = |(index, step): (usize, &Step)| {
        let before = limbs(step.inputs.iter().map(|i| i.0 as usize).max().unwrap_or(0));
        let ciphertexts = emit::ciphertexts(chain.steps, index + 1, 1);
        let own = match &chain.counts[index] {
            Some(counts) => cost.linear(counts, before),
            None => cost.step(&step.operation, before, ciphertexts, 2),
        };
        own + f64::from(drops[index]) * cost.rescale(before, 2) * ciphertexts as f64
    };
    chain.steps.iter().enumerate().map(step).sum()
}

/// The error when no parameters fit.
pub(crate) fn failure(chain: &Chain<'_>, refusal: Refusal, depth: u32) -> CompileError {
    let bounds = &chain.bounds;
    let largest = (1..chain.ranges.len())
        .max_by(|&a, &b| chain.ranges[a].max_abs.total_cmp(&chain.ranges[b].max_abs));
    let magnitude = largest.map_or(0.0, |value| chain.ranges[value].max_abs.log2());
    match (largest, refusal) {
        (Some(value), _) if magnitude > 60.0 => {
            let layer = chain.steps[value - 1].layer.clone();
            CompileError::Overflow {
                layer,
                magnitude_log2: magnitude,
            }
        }
        (_, Refusal::TooNoisy(predicted)) => {
            let exact = bounds.arithmetic.is_exact();
            let tolerance = match exact {
                false => bounds.tolerance,
                true => exact::tolerances_max(bounds) * bounds.tolerance,
            };
            match bounds.flooding {
                Some(flooding) if !exact => CompileError::TooNoisyToFlood {
                    flooding,
                    predicted,
                    tolerance,
                },
                _ => CompileError::TooNoisy {
                    predicted,
                    tolerance,
                },
            }
        }
        (_, Refusal::NoRoomToFlood(flooding)) => CompileError::NoRoomToFlood {
            flooding,
            security_bits: bounds.security_bits,
            log_n: bounds.log_n,
            log_qp_bound: bounds.log_qp,
        },
        (_, Refusal::TooDeep) => CompileError::TooDeep {
            depth,
            security_bits: bounds.security_bits,
            log_n: bounds.log_n,
            log_qp_bound: bounds.log_qp,
        },
    }
}

pub(crate) fn headroom() -> f64 {
    HEADROOM_BITS
}
