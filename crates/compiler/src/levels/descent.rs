//! Descent on the predicted output error over scales and prime sizes.

use scuro_program::{Operation, Step, ValueId, Weights};

use super::flooded::WorstErrors;
use super::{Chain, LevelPlan, PRIME_BITS_MAX, flooded, headroom};
use crate::sensitivity::Edge;

/// Objective per bit by which a value exceeds its modulus.
const OVERFLOW_PENALTY: f64 = 64.0;
/// Largest encoded weight, in bits.
const WEIGHT_BITS_MAX: f64 = 58.0;
/// Smallest scale of anything, in bits.
const SCALE_MIN: f64 = 4.0;
/// Sizes of moves, in bits.
const STEPS: [f64; 4] = [8.0, 4.0, 2.0, 1.0];
/// Rounds of descent at most.
const ROUNDS: usize = 60;
/// Sign of the first move, and the second move as a multiple of the first: squares double what
/// precedes them.
const MOVES: [(f64, f64); 8] = [
    (1.0, 1.0),
    (-1.0, 1.0),
    (1.0, -1.0),
    (-1.0, -1.0),
    (1.0, 2.0),
    (-1.0, 2.0),
    (1.0, -2.0),
    (-1.0, -2.0),
];

/// The best plan of a pattern within `modulus` bits, or `None` if no plan fits.
pub(super) fn run(
    chain: &Chain<'_>,
    drops: &[u32],
    limbs: usize,
    special: (u32, usize),
    modulus: u32,
    warm: Option<&LevelPlan>,
) -> Option<LevelPlan> {
    if modulus < prime_min(chain) * limbs as u32 {
        return None;
    }
    let plan = match warm {
        Some(plan) => restart(plan, modulus),
        None => start(chain, drops, limbs, modulus, special),
    };
    let mut state = State::new(chain, plan, modulus);
    let mut best = state.objective();
    for step in STEPS {
        for _ in 0..ROUNDS {
            if !state.improve(step, &mut best) {
                break;
            }
        }
    }
    state.finish()
}

/// Bits of the smallest prime: there are too few below.
fn prime_min(chain: &Chain<'_>) -> u32 {
    chain.bounds.log_n + 12
}

/// Where the search starts.
fn start(
    chain: &Chain<'_>,
    drops: &[u32],
    limbs: usize,
    modulus: u32,
    special: (u32, usize),
) -> LevelPlan {
    let (each, over) = (modulus / limbs as u32, modulus as usize % limbs);
    let even = (0..limbs).map(|i| f64::from(each + u32::from(i < over)));
    LevelPlan {
        input_scale: chain.common.map_or(18.0, |common| common.input_scale),
        weight_scales: vec![14.0; chain.steps.len()],
        drops: drops.to_vec(),
        primes: chain
            .common
            .map_or(even.collect(), |common| common.primes.clone()),
        special,
        plain_bits: None,
        error: 0.0,
        worst_error: 0.0,
        micros: 0.0,
    }
}

/// An earlier plan, its widest primes narrowed to the modulus.
fn restart(plan: &LevelPlan, modulus: u32) -> LevelPlan {
    let mut plan = plan.clone();
    let primes = &mut plan.primes;
    while primes.iter().sum::<f64>() > f64::from(modulus) {
        let widest = (0..primes.len()).max_by(|&a, &b| primes[a].total_cmp(&primes[b]));
        primes[widest.unwrap_or(0)] -= 1.0;
    }
    plan
}

/// What the search may change.
#[derive(Debug, Clone, Copy)]
enum Coordinate {
    Input,
    Weights(usize),
    Prime(usize),
}

/// A point of the search: the plan's scale of the query, scales of weights, primes.
pub(super) struct State<'a> {
    chain: &'a Chain<'a>,
    /// Steps with a weight scale.
    weighted: Vec<usize>,
    coordinates: Vec<Coordinate>,
    plan: LevelPlan,
    modulus: f64,
    prime_min: f64,
    /// Kept between predictions.
    values: Vec<ValueState>,
}

impl<'a> State<'a> {
    pub(super) fn new(chain: &'a Chain<'a>, plan: LevelPlan, modulus: u32) -> Self {
        let is_weighted = |&step: &usize| chain.weighted[step];
        let weighted: Vec<usize> = (0..chain.steps.len()).filter(is_weighted).collect();
        let mut coordinates: Vec<_> = weighted.iter().map(|&s| Coordinate::Weights(s)).collect();
        match chain.common {
            // The last weights bring the reply to the scale that is given.
            Some(_) => drop(coordinates.pop()),
            None => {
                coordinates.insert(0, Coordinate::Input);
                coordinates.extend((0..plan.primes.len()).map(Coordinate::Prime));
            }
        }
        State {
            chain,
            weighted,
            coordinates,
            plan,
            modulus: f64::from(modulus),
            prime_min: f64::from(prime_min(chain)),
            values: Vec::with_capacity(chain.steps.len() + 1),
        }
    }

    pub(super) fn plan(&self) -> &LevelPlan {
        &self.plan
    }

    /// The plan with what it leads to, or `None` if it does not fit.
    pub(super) fn finish(mut self) -> Option<LevelPlan> {
        let outcome = self.outcome();
        let (limbs, special) = (self.plan.primes.len(), self.plan.special);
        let micros = super::micros(self.chain, &self.plan.drops, limbs, special);
        let plan = LevelPlan {
            error: outcome.error,
            worst_error: outcome.worst_error,
            micros,
            ..self.plan
        };
        (outcome.overflow <= 0.0).then_some(plan)
    }

    pub(super) fn size(&self) -> usize {
        self.coordinates.len()
    }

    fn coordinate(&mut self, index: usize) -> &mut f64 {
        match self.coordinates[index] {
            Coordinate::Input => &mut self.plan.input_scale,
            Coordinate::Weights(step) => &mut self.plan.weight_scales[step],
            Coordinate::Prime(prime) => &mut self.plan.primes[prime],
        }
    }

    /// What the plan leads to, its reply brought to the scale that is given.
    fn outcome(&mut self) -> Outcome {
        if let (Some(common), Some(&last)) = (self.chain.common, self.weighted.last()) {
            predict(self.chain, &self.plan, &mut self.values);
            let off = common.reply_scale - self.values[self.chain.result].scale;
            self.plan.weight_scales[last] += off;
        }
        predict(self.chain, &self.plan, &mut self.values)
    }

    /// One round over all single moves and pairs of moves; whether anything improved.
    fn improve(&mut self, step: f64, best: &mut f64) -> bool {
        let size = self.size();
        let mut improved = false;
        for (i, j) in (0..size).flat_map(|i| (0..=size).map(move |j| (i, j))) {
            for (sign, factor) in MOVES {
                if i == j || (j == size && factor != 1.0) {
                    continue;
                }
                let pair = [(i, sign * step), (j, sign * factor * step)];
                let moves = &pair[..if j < size { 2 } else { 1 }];
                self.shift(moves);
                let value = match self.allowed() {
                    true => self.objective(),
                    false => f64::INFINITY,
                };
                if value < *best - 1e-3 {
                    *best = value;
                    improved = true;
                } else {
                    self.unshift(moves);
                }
            }
        }
        improved
    }

    pub(super) fn shift(&mut self, moves: &[(usize, f64)]) {
        moves.iter().for_each(|&(i, by)| *self.coordinate(i) += by);
    }

    /// Takes moves back, exactly: all coordinates are small integers.
    pub(super) fn unshift(&mut self, moves: &[(usize, f64)]) {
        moves.iter().for_each(|&(i, by)| *self.coordinate(i) -= by);
    }

    pub(super) fn allowed(&self) -> bool {
        let (plan, primes) = (&self.plan, &self.plan.primes);
        // The last weights follow the others.
        let given = self.chain.common.is_some();
        let mut weights = self.weighted.iter().map(|&step| plan.weight_scales[step]);
        primes.iter().sum::<f64>() <= self.modulus
            && plan.input_scale >= SCALE_MIN
            && (given || weights.all(|scale| scale >= SCALE_MIN))
            && (given
                || primes
                    .iter()
                    .all(|&b| b >= self.prime_min && b <= f64::from(PRIME_BITS_MAX)))
    }

    pub(super) fn objective(&mut self) -> f64 {
        let outcome = self.outcome();
        outcome.error.max(1e-30).log2() + OVERFLOW_PENALTY * outcome.overflow
    }
}

/// What a plan leads to.
pub(super) struct Outcome {
    /// Output error, flooding included.
    pub(super) error: f64,
    /// Worst error of the output before it is flooded, in units of the ciphertext.
    pub(super) worst_error: f64,
    /// Bits of modulus that the flooded output takes, 0 if it is not.
    pub(super) flooded_bits: f64,
    /// Bits by which values exceed their moduli, summed.
    pub(super) overflow: f64,
}

/// Level, scale and error of one value.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueState {
    pub(super) dropped: u32,
    pub(super) scale: f64,
    pub(super) variance: f64,
}

/// Propagates scales, errors and overflow through the chain; `values` becomes the state of every
/// value.
pub(super) fn predict(
    chain: &Chain<'_>,
    plan: &LevelPlan,
    values: &mut Vec<ValueState>,
) -> Outcome {
    values.clear();
    values.push(ValueState {
        dropped: 0,
        scale: plan.input_scale,
        variance: chain.noise.query(chain.bounds.weights) * (-2.0 * plan.input_scale).exp2(),
    });
    let mut overflow = excess(chain, plan, 0, 0, plan.input_scale);
    let mut worst = WorstErrors::new(chain, plan);
    for (index, step) in chain.steps.iter().enumerate() {
        let mut state = result_state(chain, plan, index, values, step);
        overflow += weight_excess(chain, index, state.scale, values);
        // Before the primes are dropped the value is largest in relation to its modulus.
        overflow += excess(chain, plan, index + 1, state.dropped, state.scale);
        if let Some(worst) = &mut worst {
            worst.push(step, index, values, &state);
        }
        for _ in 0..plan.drops[index] {
            state.scale -= plan.primes[state.dropped as usize];
            state.dropped += 1;
            state.variance += chain.noise.rounding() * (-2.0 * state.scale).exp2();
        }
        overflow += (SCALE_MIN - state.scale).max(0.0);
        overflow += excess(chain, plan, index + 1, state.dropped, state.scale);
        values.push(state);
    }
    let result = values[chain.result];
    let flooded = match &worst {
        Some(worst) => worst.flooded(result.dropped),
        None => flooded::estimated(chain, plan, &result),
    };
    let flooded = flooded.unwrap_or_default();
    overflow += flooded.missing + missing_room(chain, plan, &result);
    Outcome {
        error: result.variance.sqrt().hypot(flooded.deviation),
        overflow,
        worst_error: flooded.worst_error,
        flooded_bits: flooded.bits,
    }
}

/// Bits that the modulus of a first program's reply is short of for what will be computed of it;
/// for further programs, by which the scales of the weights are too small.
fn missing_room(chain: &Chain<'_>, plan: &LevelPlan, result: &ValueState) -> f64 {
    let Some(degree) = chain.bounds.degree else {
        return 0.0;
    };
    if chain.common.is_some() {
        let scales = chain.weighted.iter().zip(&plan.weight_scales);
        let weighted = scales.filter(|(weighted, _)| **weighted);
        return weighted
            .map(|(_, scale)| (SCALE_MIN - scale).max(0.0))
            .sum();
    }
    let needed = degree.bits(result.scale, chain.magnitudes[chain.result]);
    (needed - modulus(plan, result.dropped)).max(0.0)
}

/// Bits of the modulus left after `dropped` primes.
fn modulus(plan: &LevelPlan, dropped: u32) -> f64 {
    plan.primes[dropped as usize..].iter().sum()
}

/// Bits by which a value exceeds the modulus left after `dropped` primes.
fn excess(chain: &Chain<'_>, plan: &LevelPlan, value: usize, dropped: u32, scale: f64) -> f64 {
    let needed = scale + chain.magnitudes[value].max(-8.0) + headroom();
    (needed - modulus(plan, dropped)).max(0.0)
}

/// Bits by which encoded weights exceed what an encoder takes.
fn weight_excess(chain: &Chain<'_>, index: usize, scale: f64, values: &[ValueState]) -> f64 {
    let excess = |(magnitude, id): (&f64, &ValueId)| {
        let encoded = scale - values[id.0 as usize].scale + magnitude;
        (encoded - WEIGHT_BITS_MAX).max(0.0)
    };
    let magnitudes = chain.weight_magnitudes[index].iter();
    magnitudes.zip(&chain.steps[index].inputs).map(excess).sum()
}

fn result_state(
    chain: &Chain<'_>,
    plan: &LevelPlan,
    index: usize,
    values: &[ValueState],
    step: &Step,
) -> ValueState {
    let operands = || step.inputs.iter().map(|id| &values[id.0 as usize]);
    let dropped = operands().map(|o| o.dropped).max().unwrap_or(0);
    let largest = operands().map(|o| o.scale).fold(f64::MIN, f64::max);
    let scale = match &step.operation {
        Operation::Square => 2.0 * largest,
        Operation::Multiply => operands().map(|o| o.scale).sum(),
        _ if chain.weighted[index] => largest + plan.weight_scales[index],
        Operation::Trace { period, copies } => largest - chain.traced_bits(*period, *copies),
        _ => largest,
    };
    let switching = switching(chain, plan, dropped);
    let place = Place {
        chain,
        plan,
        index,
        scale,
        switching,
        values,
    };
    ValueState {
        dropped,
        scale,
        variance: place.variance(step),
    }
}

/// A step with the scale of its result and the variance of a key switch there.
struct Place<'a> {
    chain: &'a Chain<'a>,
    plan: &'a LevelPlan,
    index: usize,
    scale: f64,
    switching: f64,
    values: &'a [ValueState],
}

impl Place<'_> {
    fn operand(&self, i: usize) -> &ValueState {
        &self.values[self.chain.steps[self.index].inputs[i].0 as usize]
    }

    fn edges(&self) -> &[Edge] {
        &self.chain.edges[self.index]
    }

    /// Error variance of the result: what the operands bring and what the step adds.
    fn variance(&self, step: &Step) -> f64 {
        let edges = self.edges().iter().enumerate();
        let moved = edges.map(|(i, edge)| edge.moved * self.operand(i).variance);
        moved.sum::<f64>() + self.added(step)
    }

    fn added(&self, step: &Step) -> f64 {
        let noise = &self.chain.noise;
        let unit = (-2.0 * self.scale).exp2();
        match &step.operation {
            Operation::Linear(_) => self.linear(),
            Operation::Combine { .. } if self.chain.weighted[self.index] => {
                // One factor is rounded once for all slots and examples: its error does not
                // average out, so the bound stands for the deviation.
                let rounding = (-2.0 * self.plan.weight_scales[self.index]).exp2() / 4.0;
                let ranges = step
                    .inputs
                    .iter()
                    .map(|id| self.chain.ranges[id.0 as usize]);
                rounding * ranges.map(|range| range.max_abs.powi(2)).sum::<f64>()
            }
            Operation::Fold { stages } => {
                let slots: f64 = stages.iter().map(|s| s.len() as f64 + 1.0).product();
                slots * (self.switching + noise.rounding()) * unit
            }
            Operation::AddConstant { .. } => noise.encoding() * unit,
            Operation::Rotate { .. } | Operation::Relinearize => {
                (self.switching + noise.rounding()) * unit
            }
            _ => 0.0,
        }
    }

    fn linear(&self) -> f64 {
        let (noise, gain) = (&self.chain.noise, &self.chain.gains[self.index]);
        let bounds = &self.chain.bounds;
        let private = bounds.weights != Weights::Plain;
        // Encrypted weights multiply rotated operands as ciphertexts, each rounded by itself; they
        // bring the error of an encryption; and their sums are relinearised too.
        let (turned, weight, switches) = match private {
            true => (
                self.switching + noise.rounding(),
                noise.weight(bounds.flooding.is_some()),
                2.0,
            ),
            false => (self.switching, noise.encoding(), 1.0),
        };
        let mut variance = 0.0;
        for (i, edge) in self.edges().iter().enumerate() {
            let scale = self.operand(i).scale;
            variance += edge.turned * turned * (-2.0 * scale).exp2();
            // Each diagonal is rounded to integers, and its error meets every slot of the operand.
            variance += edge.weights * weight * (-2.0 * (self.scale - scale)).exp2();
        }
        let giants = gain.diagonals.iter().sum::<f64>().sqrt();
        let own = switches * giants * self.switching + noise.rounding();
        variance + own * (-2.0 * self.scale).exp2()
    }
}

/// Variance of a key switch at the level after `dropped` primes.
fn switching(chain: &Chain<'_>, plan: &LevelPlan, dropped: u32) -> f64 {
    let live = &plan.primes[dropped as usize..];
    let (bits, count) = plan.special;
    let digits = live.len().div_ceil(count) as f64;
    let widest = live.iter().copied().fold(0.0, f64::max) * count.min(live.len()) as f64;
    chain
        .noise
        .key_switch(digits, widest, f64::from(bits) * count as f64)
}
