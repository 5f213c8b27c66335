//! The worst error of a reply, and the noise that drowns it.
//!
//! Approximate programs: errors in units of the values, bounded slot by slot for every input in the
//! declared range. Bounds of random errors hold except with a probability below 2^-60 each, as in
//! `scuro_fhe::noise`. The rounding of weights counts as an error too, so that nothing but the
//! values of the network is left.

use scuro_fhe::flooding::Flooding;
use scuro_fhe::noise::{Noise, NoiseModel};
use scuro_program::{Operation, Step, Weights};

use super::descent::ValueState;
use super::{Bounds, Chain, LevelPlan};
use crate::worst::Worst;

/// Room above message and noise, in bits: primes are a little smaller than powers of two.
pub(super) const ROOM_BITS: f64 = 0.1;
/// What worst errors are rounded up by, for the same reason.
pub(super) const ROUNDING: f64 = 1.01;

/// The library's word for a flooding.
pub(crate) fn flooding(flooding: scuro_program::Flooding) -> Flooding {
    match flooding {
        scuro_program::Flooding::Statistical { bits } => Flooding::Statistical { bits },
        scuro_program::Flooding::Relaxed { bits, decryptions } => {
            Flooding::Relaxed { bits, decryptions }
        }
    }
}

/// The noise model of primes that are still being chosen: powers of two, lowest level first.
pub(super) fn model(bounds: &Bounds, lowest_first: Vec<f64>, special: (u32, usize)) -> NoiseModel {
    let ring = match bounds.ring {
        scuro_program::Ring::ConjugateInvariant => scuro_fhe::RingKind::ConjugateInvariant,
        scuro_program::Ring::Standard => scuro_fhe::RingKind::Standard,
    };
    let product = f64::from(special.0) * special.1 as f64;
    let degree = 1 << bounds.log_n;
    NoiseModel::planned(ring, degree, lowest_first, product.exp2(), special.1)
}

/// What flooding does to the result of an approximate program.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flooded {
    /// Bound of the error before, in units of the ciphertext.
    pub(super) worst_error: f64,
    /// Deviation of the error that flooding adds, in units of the ciphertext.
    pub(super) deviation: f64,
    /// Bits of modulus that error and noise take.
    pub(super) bits: f64,
}

/// A plan's worst errors, value by value.
pub(super) struct WorstErrors<'a> {
    chain: &'a Chain<'a>,
    plan: &'a LevelPlan,
    worst: &'a Worst,
    model: NoiseModel,
    errors: Vec<f64>,
}

impl<'a> WorstErrors<'a> {
    /// That of a query, however it is encrypted.
    pub(super) fn new(chain: &'a Chain<'a>, plan: &'a LevelPlan) -> Option<WorstErrors<'a>> {
        let worst = chain.worst?;
        let primes = plan.primes.iter().rev().map(|bits| bits.exp2()).collect();
        let model = model(&chain.bounds, primes, plan.special);
        let query = model.fresh_public().bound * (-plan.input_scale).exp2();
        Some(WorstErrors {
            chain,
            plan,
            worst,
            model,
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
        let scales = step.inputs.iter().map(|id| values[id.0 as usize].scale);
        let scales: Vec<f64> = scales.collect();
        let (mut dropped, mut scale) = (state.dropped as usize, state.scale);
        let level = self.plan.primes.len() - 1 - dropped;
        let mut error = self.result(index, &scales, scale, level);
        for _ in 0..self.plan.drops[index] {
            scale -= self.plan.primes[dropped];
            dropped += 1;
            error += self.model.rescale().bound * (-scale).exp2();
        }
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
            Operation::AddConstant { .. } => before + self.weight().bound * unit,
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
            let rounded = map.diagonals[i] * weight * (scales[i] - scale).exp2();
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

    /// The result, of `scale`, flooded.
    pub(super) fn flooded(&self, scale: f64) -> Option<Flooded> {
        let flooding = flooding(self.chain.bounds.flooding?);
        // Whole bits: the bound goes with the program, and is to say little of private weights.
        let error_bits = self.errors[self.chain.result].log2() + scale;
        let worst_error = (error_bits + ROUNDING.log2()).ceil().exp2();
        let noise = Noise {
            std: 0.0,
            bound: worst_error,
        };
        let message = (scale + self.chain.magnitudes[self.chain.result]).exp2();
        let error = self.model.flooded_coefficients(noise, flooding);
        Some(Flooded {
            worst_error,
            deviation: self.model.flooded(noise, flooding).std,
            bits: (message + error).log2() + 1.0 + ROOM_BITS,
        })
    }
}
