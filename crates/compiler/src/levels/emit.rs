//! Steps with levels: rescales and level drops put in, estimates filled.

use scuro_program::{Estimate, Flood, Flooding, Operation, SlotVector, Step, ValueId};

use super::descent::{self, ValueState};
use super::{Chain, LevelPlan, exact, headroom};
use crate::cost::CostModel;
use crate::ensemble::Degree;

/// Steps with levels.
pub(crate) struct Emitted {
    pub(crate) steps: Vec<Step>,
    /// Per step: that of the chain which it belongs to.
    pub(crate) of: Vec<usize>,
    pub(crate) result: ValueId,
    /// What the result's numbers are multiplied by to be those of the network.
    pub(crate) factor: f64,
}

/// The final steps.
pub(crate) fn emit(chain: &Chain<'_>, plan: &LevelPlan, query_ciphertexts: usize) -> Emitted {
    let states = states(chain, plan);
    let scales = match plan.plain_bits {
        Some(_) => exact::stored_scales(chain, plan),
        None => states.iter().map(|state| state.scale).collect(),
    };
    let mut emitter = Emitter {
        chain,
        plan,
        scales,
        cost: chain.bounds.cost(plan.special.1),
        steps: Vec::new(),
        of: Vec::new(),
        moved: vec![Moved {
            value: ValueId(0),
            dropped: 0,
        }],
        query_ciphertexts,
    };
    for index in 0..chain.steps.len() {
        emitter.step(index, &states);
        emitter.of.resize(emitter.steps.len(), index);
    }
    if let Some(flooding) = chain.bounds.flooding {
        emitter.flood(flooding);
    }
    Emitted {
        result: emitter.moved[chain.result].value,
        factor: emitter.factor(chain.result, &states).recip(),
        steps: emitter.steps,
        of: emitter.of,
    }
}

/// Level, scale and error of every value.
fn states(chain: &Chain<'_>, plan: &LevelPlan) -> Vec<ValueState> {
    if plan.plain_bits.is_some() {
        return exact::states(chain, plan);
    }
    let mut states = Vec::new();
    descent::predict(chain, plan, &mut states);
    states
}

/// Where a value of the skeleton went.
#[derive(Debug, Clone, Copy)]
struct Moved {
    value: ValueId,
    dropped: u32,
}

struct Emitter<'a> {
    chain: &'a Chain<'a>,
    plan: &'a LevelPlan,
    /// Per value: base-two logarithm of the scale of the program's numbers.
    scales: Vec<f64>,
    cost: CostModel,
    steps: Vec<Step>,
    of: Vec<usize>,
    moved: Vec<Moved>,
    query_ciphertexts: usize,
}

impl Emitter<'_> {
    fn level(&self, dropped: u32) -> u32 {
        self.plan.primes.len() as u32 - 1 - dropped
    }

    /// What the program's numbers are in units of the network's.
    fn factor(&self, value: usize, states: &[ValueState]) -> f64 {
        (states[value].scale - self.scales[value]).exp2()
    }

    fn push(
        &mut self,
        layer: &str,
        inputs: Vec<ValueId>,
        operation: Operation,
        estimate: Estimate,
    ) -> ValueId {
        self.steps.push(Step {
            layer: layer.to_owned(),
            inputs,
            operation,
            estimate,
        });
        ValueId(self.steps.len() as u32)
    }

    fn step(&mut self, index: usize, states: &[ValueState]) {
        let chain = self.chain;
        let step = &chain.steps[index];
        let state = states[index + 1];
        let operands: Vec<usize> = step.inputs.iter().map(|id| id.0 as usize).collect();
        let dropped = operands
            .iter()
            .map(|&o| self.moved[o].dropped)
            .max()
            .unwrap_or(0);
        let inputs = operands
            .iter()
            .map(|&o| self.aligned(&step.layer, o, dropped, states))
            .collect();
        let operation = self.scaled(index, &operands, states);
        let ciphertexts = ciphertexts(chain.steps, index + 1, self.query_ciphertexts);
        let drops = self.plan.drops[index];
        let primes = &self.plan.primes[dropped as usize..(dropped + drops) as usize];
        // A division leaves the scale of exact integers as it is.
        let exact = self.plan.plain_bits.is_some();
        let lost = |prime: f64| if exact { 0.0 } else { prime };
        let scale_before = self.scales[index + 1] + primes.iter().map(|&p| lost(p)).sum::<f64>();
        let limbs = self.plan.primes.len() - dropped as usize;
        let micros = self.cost.step(&operation, limbs, ciphertexts, 2);
        let factor = self.factor(index + 1, states);
        let estimate = |level, scale_log2, micros| Estimate {
            level,
            scale_log2,
            max_abs: factor * chain.ranges[index + 1].max_abs,
            error: factor * state.variance.sqrt(),
            micros,
        };
        let first = estimate(self.level(dropped), scale_before, micros);
        let mut value = self.push(&step.layer, inputs, operation, first);
        let mut at = Moved { value, dropped };
        let mut scale = scale_before;
        for &prime in primes {
            scale -= lost(prime);
            at.dropped += 1;
            let micros = self.cost.rescale(limbs, 2) * ciphertexts as f64;
            let after = estimate(self.level(at.dropped), scale, micros);
            value = self.push(&step.layer, vec![value], Operation::Rescale, after);
            at.value = value;
        }
        if is_last_product(chain, index) && !exact {
            at = self.lowest(index, at, estimate(0, scale, 0.0));
        }
        self.moved.push(at);
    }

    /// A step's operation with the scale of its weights; those of an exact program rounded to the
    /// integers that it computes with.
    fn scaled(&self, index: usize, operands: &[usize], states: &[ValueState]) -> Operation {
        let mut operation = self.chain.steps[index].operation.clone();
        let first = operands[0];
        if self.plan.plain_bits.is_none() {
            // The plan's weight scales are those of the operand with the largest scale.
            let scale = |&operand: &usize| states[operand].scale;
            let largest = operands.iter().map(scale).fold(f64::MIN, f64::max);
            let ahead = largest - scale(&first);
            if self.chain.weighted[index] {
                set_weight_scale(&mut operation, self.plan.weight_scales[index] + ahead);
            }
            return operation;
        }
        let result = Fixed {
            scale: states[index + 1].scale,
            stored: self.scales[index + 1],
        };
        set_weight_scale(&mut operation, result.stored - self.scales[first]);
        let weights = |&operand: &usize| Fixed {
            scale: result.scale - states[operand].scale,
            stored: result.stored - self.scales[operand],
        };
        let weights: Vec<Fixed> = operands.iter().map(weights).collect();
        quantise(&mut operation, &weights, result);
        operation
    }

    /// Modulus that a flooded reply takes.
    fn flooded_bits(&self) -> f64 {
        let mut values = Vec::new();
        let outcome = descent::predict(self.chain, self.plan, &mut values);
        outcome.flooded_bits
    }

    /// Whether a value that takes `message` bits, and the reply of which takes `flooded`, fit the
    /// modulus left after `dropped` primes.
    fn fits(&self, message: f64, flooded: f64, dropped: u32) -> bool {
        let nominal: f64 = self.plan.primes[dropped as usize..].iter().sum();
        let primes = self.plan.prime_set(&self.chain.primes);
        nominal > message && primes.log_q(self.level(dropped) as usize) > flooded
    }

    /// The last step of a program whose reply somebody else decrypts.
    fn flood(&mut self, flooding: Flooding) {
        let (result, plan) = (self.chain.result, self.plan);
        let at = self.moved[result];
        let Some(last) = (at.value.0 as usize).checked_sub(1) else {
            return;
        };
        let ciphertexts = ciphertexts(self.chain.steps, result, self.query_ciphertexts);
        let limbs = plan.primes.len() - at.dropped as usize;
        let layer = self.steps[last].layer.clone();
        let operation = Operation::Flood(Flood {
            flooding,
            bound_log2: plan.worst_error.log2(),
        });
        let estimate = Estimate {
            error: plan.error,
            micros: self.cost.step(&operation, limbs, ciphertexts, 2),
            ..self.steps[last].estimate
        };
        self.moved[result].value = self.push(&layer, vec![at.value], operation, estimate);
    }

    /// Once nothing is multiplied any more, every prime that the value does not need is left out.
    fn lowest(&mut self, index: usize, at: Moved, mut estimate: Estimate) -> Moved {
        let largest = self.chain.ranges[index + 1..]
            .iter()
            .map(|r| r.max_abs)
            .fold(0.0, f64::max);
        let message = estimate.scale_log2 + largest.max(1e-9).log2() + headroom();
        let magnitude = self.chain.magnitudes[self.chain.result];
        let room = |degree: Degree| degree.bits(estimate.scale_log2, magnitude);
        let (message, last) = match (self.chain.common, self.chain.bounds.degree) {
            (Some(common), _) => (message, common.reply_level),
            (None, Some(degree)) => (message.max(room(degree)), 0),
            (None, None) => (message, 0),
        };
        let flooded = self.flooded_bits();
        let mut dropped = at.dropped;
        while self.level(dropped) > last && self.fits(message, flooded, dropped + 1) {
            dropped += 1;
        }
        if dropped == at.dropped {
            return at;
        }
        estimate.level = self.level(dropped);
        let layer = self.chain.steps[index].layer.clone();
        let operation = Operation::ModDrop {
            level: estimate.level,
        };
        let value = self.push(&layer, vec![at.value], operation, estimate);
        Moved { value, dropped }
    }

    /// An operand at the level after `dropped` primes.
    fn aligned(
        &mut self,
        layer: &str,
        operand: usize,
        dropped: u32,
        states: &[ValueState],
    ) -> ValueId {
        let at = self.moved[operand];
        if at.dropped == dropped {
            return at.value;
        }
        let estimate = Estimate {
            level: self.level(dropped),
            scale_log2: self.scales[operand],
            max_abs: self.factor(operand, states) * self.chain.ranges[operand].max_abs,
            error: self.factor(operand, states) * states[operand].variance.sqrt(),
            micros: 0.0,
        };
        let operation = Operation::ModDrop {
            level: estimate.level,
        };
        self.push(layer, vec![at.value], operation, estimate)
    }
}

/// Whether a step is the last that multiplies: only rotations, sums and constants follow.
fn is_last_product(chain: &Chain<'_>, index: usize) -> bool {
    let additive = |index: usize| match chain.steps[index].operation {
        Operation::Fold { .. }
        | Operation::Rotate { .. }
        | Operation::Trace { .. }
        | Operation::AddConstant { .. }
        | Operation::AddScalars { .. } => true,
        Operation::Combine { .. } => !chain.weighted[index],
        _ => false,
    };
    !additive(index) && (index + 1..chain.steps.len()).all(additive)
}

fn set_weight_scale(operation: &mut Operation, scale: f64) {
    match operation {
        Operation::Linear(linear) => linear.weight_scale_log2 = scale,
        Operation::Combine {
            weight_scale_log2, ..
        } => *weight_scale_log2 = scale,
        Operation::ScalarLinear(matrix) => matrix.weight_scale_log2 = scale,
        _ => {}
    }
}

/// Fixed-point numbers: base-two logarithms of the scale at which numbers of the network become
/// integers, and of that which the integers have in the program.
#[derive(Clone, Copy)]
struct Fixed {
    scale: f64,
    stored: f64,
}

impl Fixed {
    fn round(self, vector: &mut SlotVector) {
        let values = vector.runs.iter_mut().flat_map(|run| &mut run.values);
        values.for_each(|value| {
            let integer = (f64::from(*value) * self.scale.exp2()).round();
            *value = (integer * (-self.stored).exp2()) as f32;
        });
    }
}

/// Rounds weights to the integers that an exact program computes with: those of each operand of a
/// linear step, and constants as the result is.
fn quantise(operation: &mut Operation, weights: &[Fixed], result: Fixed) {
    match operation {
        Operation::Linear(linear) => {
            let diagonals = linear.diagonals.iter_mut();
            diagonals.for_each(|d| weights[d.operand as usize].round(&mut d.values));
        }
        Operation::AddConstant { values } => values.iter_mut().for_each(|v| result.round(v)),
        _ => {}
    }
}

/// Ciphertexts of a value.
pub(crate) fn ciphertexts(steps: &[Step], value: usize, query: usize) -> usize {
    let Some(index) = value.checked_sub(1) else {
        return query;
    };
    match &steps[index].operation {
        Operation::Linear(linear) => linear.outputs as usize,
        Operation::Rotate { steps: amounts } => {
            amounts.len() * ciphertexts(steps, steps[index].inputs[0].0 as usize, query)
        }
        Operation::ScalarLinear(matrix) => matrix.row_starts.len() - 1,
        _ => ciphertexts(steps, steps[index].inputs[0].0 as usize, query),
    }
}
