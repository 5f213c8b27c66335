//! Descent on the predicted output error over scales and prime sizes.

use scuro_program::{Operation, Step, ValueId};

use super::{Chain, LevelPlan, PRIME_BITS_MAX, headroom, is_weighted, pattern};

/// Objective per bit by which a value exceeds its modulus.
const OVERFLOW_PENALTY: f64 = 64.0;
/// Largest encoded weight, in bits.
const WEIGHT_BITS_MAX: f64 = 58.0;
/// Smallest scale of anything, in bits.
const SCALE_MIN: f64 = 4.0;
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
    let prime_min = chain.bounds.log_n + 12;
    if modulus < prime_min * limbs as u32 {
        return None;
    }
    let weighted: Vec<usize> = (0..chain.steps.len())
        .filter(|&i| is_weighted(&chain.steps[i].operation))
        .collect();
    let point = match warm {
        Some(plan) => restart(plan, &weighted, modulus),
        None => start(chain, limbs, modulus),
    };
    let mut state = State {
        weighted,
        point,
        limbs,
        modulus,
    };
    let objective = |plan: &LevelPlan| evaluate(chain, plan);
    let template = LevelPlan {
        input_scale: 0.0,
        weight_scales: vec![0.0; chain.steps.len()],
        drops: drops.to_vec(),
        primes: Vec::new(),
        special,
        error: 0.0,
        micros: 0.0,
    };
    let mut best = objective(&state.plan(&template));
    for step in [8.0, 4.0, 2.0, 1.0] {
        for _ in 0..ROUNDS {
            if !state.improve(step, f64::from(prime_min), &template, &objective, &mut best) {
                break;
            }
        }
    }
    let mut plan = state.plan(&template);
    let outcome = predict(chain, &plan);
    plan.error = outcome.error;
    plan.micros = super::micros(chain, &plan);
    (outcome.overflow <= 0.0).then_some(plan)
}

/// Scales, weights' scales, primes: one point of the search.
fn start(chain: &Chain<'_>, limbs: usize, modulus: u32) -> Vec<f64> {
    let weighted = chain
        .steps
        .iter()
        .filter(|s| is_weighted(&s.operation))
        .count();
    let mut point = vec![18.0];
    point.extend(std::iter::repeat_n(14.0, weighted));
    let (each, over) = (modulus / limbs as u32, modulus as usize % limbs);
    point.extend((0..limbs).map(|i| f64::from(each + u32::from(i < over))));
    point
}

/// The point of an earlier plan, its widest primes narrowed to the modulus.
fn restart(plan: &LevelPlan, weighted: &[usize], modulus: u32) -> Vec<f64> {
    let mut point = vec![plan.input_scale];
    point.extend(weighted.iter().map(|&step| plan.weight_scales[step]));
    let mut primes = plan.primes.clone();
    while primes.iter().sum::<f64>() > f64::from(modulus) {
        let widest = (0..primes.len()).max_by(|&a, &b| primes[a].total_cmp(&primes[b]));
        primes[widest.unwrap_or(0)] -= 1.0;
    }
    point.extend(primes);
    point
}

struct State {
    weighted: Vec<usize>,
    point: Vec<f64>,
    limbs: usize,
    modulus: u32,
}

impl State {
    fn first_prime(&self) -> usize {
        self.point.len() - self.limbs
    }

    fn plan(&self, template: &LevelPlan) -> LevelPlan {
        let mut plan = template.clone();
        plan.input_scale = self.point[0];
        for (position, &step) in self.weighted.iter().enumerate() {
            plan.weight_scales[step] = self.point[1 + position];
        }
        plan.primes = self.point[self.first_prime()..].to_vec();
        plan
    }

    /// One round over all single moves and pairs of moves; whether anything improved.
    fn improve(
        &mut self,
        step: f64,
        prime_min: f64,
        template: &LevelPlan,
        objective: &impl Fn(&LevelPlan) -> f64,
        best: &mut f64,
    ) -> bool {
        let size = self.point.len();
        let mut improved = false;
        for (i, j) in (0..size).flat_map(|i| (0..=size).map(move |j| (i, j))) {
            for (sign, factor) in MOVES {
                if i == j || (j == size && factor != 1.0) {
                    continue;
                }
                let (old_i, old_j) = (self.point[i], self.point.get(j).copied());
                self.point[i] += sign * step;
                if j < size {
                    self.point[j] += sign * factor * step;
                }
                let value = match self.allowed(prime_min) {
                    true => objective(&self.plan(template)),
                    false => f64::INFINITY,
                };
                if value < *best - 1e-3 {
                    *best = value;
                    improved = true;
                    continue;
                }
                self.point[i] = old_i;
                if let Some(old) = old_j {
                    self.point[j] = old;
                }
            }
        }
        improved
    }

    fn allowed(&self, prime_min: f64) -> bool {
        let (scales, primes) = self.point.split_at(self.first_prime());
        let total: f64 = primes.iter().sum();
        total <= f64::from(self.modulus)
            && scales.iter().all(|&s| s >= SCALE_MIN)
            && primes
                .iter()
                .all(|&b| b >= prime_min && b <= f64::from(PRIME_BITS_MAX))
    }
}

fn evaluate(chain: &Chain<'_>, plan: &LevelPlan) -> f64 {
    let outcome = predict(chain, plan);
    outcome.error.max(1e-30).log2() + OVERFLOW_PENALTY * outcome.overflow
}

/// What a plan leads to.
pub(super) struct Outcome {
    /// Output error.
    pub(super) error: f64,
    /// Bits by which values exceed their moduli, summed.
    pub(super) overflow: f64,
    /// Per value: drops before it, scale, error variance.
    pub(super) values: Vec<ValueState>,
}

/// Level, scale and error of one value.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueState {
    pub(super) dropped: u32,
    pub(super) scale: f64,
    pub(super) variance: f64,
}

/// Propagates scales, errors and overflow through the chain.
pub(super) fn predict(chain: &Chain<'_>, plan: &LevelPlan) -> Outcome {
    let counts = pattern::drop_counts(chain, &plan.drops);
    let fresh = chain.noise.fresh() * (-2.0 * plan.input_scale).exp2();
    let mut values = vec![ValueState {
        dropped: 0,
        scale: plan.input_scale,
        variance: fresh,
    }];
    let mut overflow = excess(chain, plan, 0, 0, plan.input_scale);
    for (index, step) in chain.steps.iter().enumerate() {
        let mut state = result_state(chain, plan, index, &values, step);
        overflow += weight_excess(chain, index, step, state.scale, &values);
        // Before the primes are dropped the value is largest in relation to its modulus.
        overflow += excess(chain, plan, index + 1, state.dropped, state.scale);
        for _ in 0..plan.drops[index] {
            state.scale -= plan.primes[state.dropped as usize];
            state.dropped += 1;
            state.variance += chain.noise.rounding() * (-2.0 * state.scale).exp2();
        }
        overflow += (SCALE_MIN - state.scale).max(0.0);
        overflow += excess(chain, plan, index + 1, state.dropped, state.scale);
        debug_assert_eq!(state.dropped, counts[index + 1]);
        values.push(state);
    }
    Outcome {
        error: values[chain.result].variance.sqrt(),
        overflow,
        values,
    }
}

/// Bits by which a value exceeds the modulus left after `dropped` primes.
fn excess(chain: &Chain<'_>, plan: &LevelPlan, value: usize, dropped: u32, scale: f64) -> f64 {
    let modulus: f64 = plan.primes[dropped as usize..].iter().sum();
    let magnitude = chain.ranges[value].max_abs.max(1e-9).log2();
    (scale + magnitude.max(-8.0) + headroom() - modulus).max(0.0)
}

/// Bits by which encoded weights exceed what an encoder takes.
fn weight_excess(
    chain: &Chain<'_>,
    index: usize,
    step: &Step,
    scale: f64,
    values: &[ValueState],
) -> f64 {
    let largest: &[f64] = match &step.operation {
        Operation::Linear(_) => &chain.gains[index].largest,
        Operation::Combine { factors, .. } => factors,
        _ => return 0.0,
    };
    let excess = |(&weight, id): (&f64, &ValueId)| {
        let encoded = scale - values[id.0 as usize].scale + weight.abs().max(1e-9).log2();
        (encoded - WEIGHT_BITS_MAX).max(0.0)
    };
    largest.iter().zip(&step.inputs).map(excess).sum()
}

fn result_state(
    chain: &Chain<'_>,
    plan: &LevelPlan,
    index: usize,
    values: &[ValueState],
    step: &Step,
) -> ValueState {
    let operands: Vec<ValueState> = step.inputs.iter().map(|id| values[id.0 as usize]).collect();
    let dropped = operands.iter().map(|o| o.dropped).max().unwrap_or(0);
    let largest = operands.iter().map(|o| o.scale).fold(f64::MIN, f64::max);
    let scale = match &step.operation {
        Operation::Square => 2.0 * largest,
        Operation::Multiply => operands.iter().map(|o| o.scale).sum(),
        operation if is_weighted(operation) => largest + plan.weight_scales[index],
        _ => largest,
    };
    let switching = switching(chain, plan, dropped);
    let place = Place {
        chain,
        plan,
        index,
        scale,
        switching,
    };
    ValueState {
        dropped,
        scale,
        variance: place.variance(step, &operands),
    }
}

/// A step with the scale of its result and the variance of a key switch there.
struct Place<'a> {
    chain: &'a Chain<'a>,
    plan: &'a LevelPlan,
    index: usize,
    scale: f64,
    switching: f64,
}

impl Place<'_> {
    /// Error variance of the result.
    fn variance(&self, step: &Step, operands: &[ValueState]) -> f64 {
        let noise = &self.chain.noise;
        let unit = (-2.0 * self.scale).exp2();
        let range = |i: usize| self.chain.ranges[step.inputs[i].0 as usize];
        let before = operands[0].variance;
        match &step.operation {
            Operation::Linear(_) => self.linear_variance(operands),
            Operation::Combine { factors, .. } => {
                let moved = factors
                    .iter()
                    .zip(operands)
                    .map(|(f, o)| f * f * o.variance);
                // One factor is rounded once for all slots and examples: its error does not
                // average out, so the bound stands for the deviation.
                let rounding = (-2.0 * self.plan.weight_scales[self.index]).exp2() / 4.0;
                let squares = (0..operands.len()).map(|i| range(i).max_abs.powi(2));
                moved.sum::<f64>() + rounding * squares.sum::<f64>()
            }
            Operation::Fold { stages } => {
                let slots: f64 = stages.iter().map(|s| s.len() as f64 + 1.0).product();
                before + slots * (self.switching + noise.rounding()) * unit
            }
            Operation::AddConstant { .. } => before + noise.encoding() * unit,
            Operation::Square => 4.0 * range(0).live_square * before,
            Operation::Multiply => {
                range(1).live_square * before + range(0).live_square * operands[1].variance
            }
            Operation::Rotate { .. } | Operation::Relinearize => {
                before + (self.switching + noise.rounding()) * unit
            }
            _ => before,
        }
    }

    fn linear_variance(&self, operands: &[ValueState]) -> f64 {
        let (noise, gain) = (&self.chain.noise, &self.chain.gains[self.index]);
        let mut variance = 0.0;
        for (i, operand) in operands.iter().enumerate() {
            let moved = self.switching * (-2.0 * operand.scale).exp2();
            variance += gain.row_energy[i] * (operand.variance + moved);
            // Each diagonal is rounded to integers, and its error meets every slot of the operand.
            let weights = noise.encoding() * (-2.0 * (self.scale - operand.scale)).exp2();
            variance += self.chain.exposures[self.index][i] * weights;
        }
        let giants = gain.diagonals.iter().sum::<f64>().sqrt();
        let own = giants * self.switching + noise.rounding();
        variance + gain.folded * own * (-2.0 * self.scale).exp2()
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
