//! The worst error of a reply, and the noise that drowns it.
//!
//! Approximate programs: errors in units of the values, bounded slot by slot for every input in the
//! declared range. Bounds of random errors hold except with a probability below 2^-60 each, as in
//! `scuro_fhe::noise`. The rounding of weights counts as an error too, so that nothing but the
//! values of the network is left.

use scuro_fhe::flooding::{DECRYPTIONS_MAX, FLOODING_BITS_MAX, Flooding};
use scuro_fhe::noise::{Noise, NoiseModel};
use scuro_program::{LIMIT_DECRYPTIONS, LIMIT_FLOODING_BITS, Operation, Step, Weights};

use super::descent::ValueState;
use super::{Chain, LevelPlan};
use crate::primes::PrimeSet;
use crate::worst::Worst;

/// Room above message and noise, in bits: compiler and evaluator round doubles differently.
pub(super) const ROOM_BITS: f64 = 0.001;
/// What worst errors are rounded up by, for the same reason.
pub(super) const ROUNDING: f64 = 1.000_001;

// What a program may ask for, the library does.
const _: () = assert!(LIMIT_DECRYPTIONS == DECRYPTIONS_MAX);
const _: () = assert!(LIMIT_FLOODING_BITS == FLOODING_BITS_MAX);

/// The library's word for a flooding.
pub(crate) fn flooding(flooding: scuro_program::Flooding) -> Flooding {
    match flooding {
        scuro_program::Flooding::Statistical { bits } => Flooding::Statistical { bits },
        scuro_program::Flooding::Relaxed { bits, decryptions } => {
            Flooding::Relaxed { bits, decryptions }
        }
    }
}

/// What flooding does to the result of an approximate program.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flooded {
    /// Bound of the error before, in units of the ciphertext.
    pub(super) worst_error: f64,
    /// Deviation of the error that flooding adds, in units of the values.
    pub(super) deviation: f64,
    /// Bits of modulus that error and noise take.
    pub(super) bits: f64,
    /// Bits of it that are missing.
    pub(super) missing: f64,
}

/// A plan's worst errors, value by value.
pub(super) struct WorstErrors<'a> {
    chain: &'a Chain<'a>,
    plan: &'a LevelPlan,
    worst: &'a Worst,
    primes: PrimeSet,
    model: NoiseModel,
    /// Base-two logarithms of the scales, by the primes themselves.
    scales: Vec<f64>,
    errors: Vec<f64>,
}

impl<'a> WorstErrors<'a> {
    /// That of a query, however it is encrypted.
    pub(super) fn new(chain: &'a Chain<'a>, plan: &'a LevelPlan) -> Option<WorstErrors<'a>> {
        let worst = chain.worst?;
        let primes = plan.prime_set(&chain.primes);
        let model = chain.primes.model(&primes);
        let encrypted = model.fresh_public().bound * (-plan.input_scale).exp2();
        let query = encrypted + model.transform(worst.magnitudes[0]).bound;
        Some(WorstErrors {
            chain,
            plan,
            worst,
            primes,
            model,
            scales: vec![plan.input_scale],
            errors: vec![query],
        })
    }

    /// Takes in a step, whose result is `state` before primes are dropped.
    pub(super) fn push(
        &mut self,
        step: &Step,
        index: usize,
        values: &[ValueState],
        state: &ValueState,
    ) {
        let scales = step.inputs.iter().map(|id| self.scales[id.0 as usize]);
        let scales: Vec<f64> = scales.collect();
        let mut scale = match &step.operation {
            Operation::Square => 2.0 * scales[0],
            Operation::Multiply => scales.iter().sum(),
            // Weights have the scale by which the plan's scales differ.
            _ => scales[0] + state.scale - values[step.inputs[0].0 as usize].scale,
        };
        let mut level = self.plan.primes.len() - 1 - state.dropped as usize;
        let mut error = self.result(index, &scales, scale, level);
        for _ in 0..self.plan.drops[index] {
            scale -= self.primes.prime(level).log2();
            level -= 1;
            error += self.model.rescale().bound * (-scale).exp2();
        }
        self.scales.push(scale);
        self.errors.push(error);
    }

    /// The worst error of a step's result.
    fn result(&self, index: usize, scales: &[f64], scale: f64, level: usize) -> f64 {
        let step = &self.chain.steps[index];
        let of = |i: usize| step.inputs[i].0 as usize;
        let (error, largest) = (
            |i: usize| self.errors[of(i)],
            |i: usize| self.worst.magnitudes[of(i)],
        );
        let unit = (-scale).exp2();
        let switch = self.model.key_switch(level).bound;
        let before = error(0);
        match &step.operation {
            Operation::Linear(_) => self.linear(index, scales, scale, level),
            Operation::Fold { stages } => stages.iter().fold(before, |error, stage| {
                (stage.len() as f64 + 1.0) * (error + switch * unit)
            }),
            Operation::AddConstant { .. } => {
                let largest = self.worst.constants[index];
                before + self.weight().bound * unit + self.model.transform(largest).bound
            }
            Operation::Square => 2.0 * largest(0) * before + before * before,
            Operation::Multiply => largest(0) * error(1) + largest(1) * before + before * error(1),
            Operation::Combine { factors, .. } => {
                let term = |(i, factor): (usize, &f64)| {
                    let rounded = (scales[i] - scale).exp2() / 2.0;
                    factor.abs() * error(i) + rounded * (largest(i) + error(i))
                };
                factors.iter().enumerate().map(term).sum()
            }
            Operation::Rotate { .. } | Operation::Relinearize => before + switch * unit,
            _ => before,
        }
    }

    fn linear(&self, index: usize, scales: &[f64], scale: f64, level: usize) -> f64 {
        let Some(map) = &self.worst.linear[index] else {
            return 0.0;
        };
        let inputs = &self.chain.steps[index].inputs;
        let (switch, weight) = (self.model.key_switch(level).bound, self.weight().bound);
        let operand = |i: usize| {
            let value = inputs[i].0 as usize;
            let turned = self.errors[value] + switch * (-scales[i]).exp2();
            let encoded = self.model.transform(map.largest[i]).bound;
            let rounded = map.diagonals[i] * (weight * (scales[i] - scale).exp2() + encoded);
            map.row_sums[i] * turned + rounded * (self.worst.magnitudes[value] + turned)
        };
        let products: f64 = (0..inputs.len()).map(operand).sum();
        // With encrypted weights inner sums are relinearised too.
        let switches = match self.chain.bounds.weights {
            Weights::Plain => map.giants + 1.0,
            _ => 2.0 * map.giants + 1.0,
        };
        products + switches * switch * (-scale).exp2()
    }

    /// An encoded or encrypted weight.
    fn weight(&self) -> Noise {
        match self.chain.bounds.weights {
            Weights::Plain => self.model.encoding(),
            _ => self.model.fresh_secret(),
        }
    }

    /// The result, flooded after `dropped` primes.
    pub(super) fn flooded(&self, dropped: u32) -> Option<Flooded> {
        let flooding = flooding(self.chain.bounds.flooding?);
        let scale = self.scales[self.chain.result];
        // Whole bits: the bound goes with the program, and is to say little of private weights.
        let error_bits = self.errors[self.chain.result].log2() + scale;
        let worst_error = (error_bits + ROUNDING.log2()).ceil().exp2();
        let noise = Noise {
            std: 0.0,
            bound: worst_error,
        };
        let message = (scale + self.chain.magnitudes[self.chain.result]).exp2();
        let error = self.model.flooded_coefficients(noise, flooding);
        let bits = (message + error).log2() + 1.0 + ROOM_BITS;
        let level = self.plan.primes.len() - 1 - dropped as usize;
        Some(Flooded {
            worst_error,
            deviation: self.model.flooded(noise, flooding).std * (-scale).exp2(),
            bits,
            missing: (bits - self.primes.log_q(level)).max(0.0),
        })
    }
}
