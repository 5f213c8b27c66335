//! The worst error of a reply, and the noise that drowns it.
//!
//! Approximate programs: errors in units of the values, bounded slot by slot for every input in the
//! declared range. Bounds of random errors hold but for the probabilities that `scuro_fhe::noise`
//! gives. The rounding of weights counts as an error too, so that nothing but the values of the
//! network is left.
//!
//! [`scuro_program::Flooding::Estimated`] takes a multiple of the error that is predicted for the
//! calibration data instead.

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

/// Deviations of a predicted error that its norm stays below. The slots of an error are many and
/// its norm varies little; what varies is how well an error is predicted.
pub(super) const ESTIMATED_DEVIATIONS: f64 = 2.0;
/// What a modulus may be short of the sizes of its primes.
const SMALLER_PRIMES_BITS: f64 = 0.25;

// What a program may ask for, the library does.
const _: () = assert!(LIMIT_DECRYPTIONS == DECRYPTIONS_MAX);
const _: () = assert!(LIMIT_FLOODING_BITS == FLOODING_BITS_MAX);

/// The library's word for a flooding.
pub(crate) fn flooding(flooding: scuro_program::Flooding) -> Flooding {
    match flooding {
        scuro_program::Flooding::Statistical { bits } => Flooding::Statistical { bits },
        scuro_program::Flooding::Relaxed { bits, decryptions }
        | scuro_program::Flooding::Estimated { bits, decryptions } => {
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
            Operation::Combine { .. } if !self.chain.weighted[index] => {
                (0..scales.len()).map(error).sum()
            }
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

    /// An encoded or encrypted weight: under the public key of whoever decrypts, as the owner of
    /// the weights is somebody else.
    fn weight(&self) -> Noise {
        match self.chain.bounds.weights {
            Weights::Plain => self.model.encoding(),
            _ => self.model.fresh_public(),
        }
    }

    /// The result, flooded after `dropped` primes.
    pub(super) fn flooded(&self, dropped: u32) -> Option<Flooded> {
        let result = self.chain.result;
        let log_q = self
            .primes
            .log_q(reply_level(self.chain, self.plan, dropped));
        let error = self.errors[result].log2() + self.scales[result];
        flooded(self.chain, &self.model, error, self.scales[result], log_q)
    }
}

/// The result of a plan, flooded by what is predicted of its error; nothing if it is to be flooded
/// by its worst error, or not at all.
pub(super) fn estimated(
    chain: &Chain<'_>,
    plan: &LevelPlan,
    result: &ValueState,
) -> Option<Flooded> {
    chain.bounds.flooding.filter(|f| !f.is_worst_case())?;
    // As sizes say: the search asks often, and to look primes up would take most of its time.
    let primes = PrimeSet::nominal(&plan.q_bits(), &plan.p_bits());
    let model = chain.primes.model(&primes);
    let level = reply_level(chain, plan, result.dropped);
    let log_q = primes.log_q(level) - SMALLER_PRIMES_BITS;
    let deviation = result.variance.sqrt().log2() + result.scale;
    let error = deviation + ESTIMATED_DEVIATIONS.log2();
    flooded(chain, &model, error, result.scale, log_q)
}

/// Level of the reply to which a result after `dropped` primes is brought: its own, or the one that
/// is given.
fn reply_level(chain: &Chain<'_>, plan: &LevelPlan, dropped: u32) -> usize {
    let own = plan.primes.len() - 1 - dropped as usize;
    chain
        .common
        .map_or(own, |common| own.min(common.reply_level as usize))
}

/// The result at `scale` with an error of `error_bits`, flooded under a modulus of `log_q` bits.
fn flooded(
    chain: &Chain<'_>,
    model: &NoiseModel,
    error_bits: f64,
    scale: f64,
    log_q: f64,
) -> Option<Flooded> {
    let flooding = flooding(chain.bounds.flooding?);
    // Whole bits: the bound goes with the program, and is to say little of private weights.
    let worst_error = (error_bits + ROUNDING.log2()).ceil().exp2();
    let noise = Noise {
        std: 0.0,
        bound: worst_error,
    };
    let model = &model.clone().traced(chain.stride());
    let message = (scale + chain.magnitudes[chain.result]).exp2();
    let error = model.flooded_coefficients(noise, flooding);
    let bits = (message + error).log2() + 1.0 + ROOM_BITS;
    Some(Flooded {
        worst_error,
        deviation: model.flooded(noise, flooding).std * (-scale).exp2(),
        bits,
        missing: (bits - log_q).max(0.0),
    })
}

#[cfg(test)]
mod tests {
    use scuro_fhe::params::{ParameterSpec, Parameters};
    use scuro_program::{Estimate, Ring, SecurityTable, ValueId};

    use super::super::Bounds;
    use super::*;
    use crate::noise;
    use crate::options::Arithmetic;
    use crate::primes::Primes;

    /// A square and its square, each divided by a prime of 25 bits.
    fn plan() -> LevelPlan {
        LevelPlan {
            input_scale: 25.0,
            weight_scales: vec![0.0; 2],
            drops: vec![1, 1],
            primes: vec![25.0; 4],
            special: (38, 1),
            plain_bits: None,
            error: 0.0,
            worst_error: 0.0,
            micros: 0.0,
        }
    }

    fn bounds() -> Bounds {
        Bounds {
            ring: Ring::ConjugateInvariant,
            weights: Weights::Plain,
            arithmetic: Arithmetic::Approximate,
            flooding: Some(scuro_program::Flooding::Statistical { bits: 40 }),
            log_n: 13,
            log_qp: 214,
            security_bits: 128,
            table: SecurityTable::Guideline2024,
            tolerance: 1.0,
            degree: None,
        }
    }

    #[test]
    fn scales_are_those_of_the_primes_and_not_of_powers_of_two() {
        let square = |input| Step {
            layer: String::new(),
            inputs: vec![ValueId(input)],
            operation: Operation::Square,
            estimate: Estimate::default(),
        };
        let (steps, plan, bounds) = ([square(0), square(1)], plan(), bounds());
        let worst = Worst {
            magnitudes: vec![1.0; 3],
            linear: vec![None; 2],
            constants: vec![0.0; 2],
        };
        let chain = Chain {
            steps: &steps,
            gains: &[],
            ranges: &[],
            magnitudes: vec![0.0; 3],
            weight_magnitudes: vec![Vec::new(); 2],
            weighted: vec![false; 2],
            counts: vec![None; 2],
            exposures: &[],
            edges: &[],
            worst: Some(&worst),
            result: 2,
            noise: noise::NoiseModel::new(bounds.ring, bounds.log_n),
            primes: Primes::new(bounds.ring, bounds.log_n),
            common: None,
            bounds,
        };
        let state = |dropped, scale| ValueState {
            dropped,
            scale,
            variance: 0.0,
        };
        let values = [state(0, 25.0), state(1, 25.0), state(2, 25.0)];
        let mut errors = WorstErrors::new(&chain, &plan).unwrap();
        errors.push(&steps[0], 0, &values[..1], &state(0, 50.0));
        errors.push(&steps[1], 1, &values[..2], &state(1, 50.0));
        let parameters = Parameters::new(ParameterSpec::new(13, &[25; 4], &[38])).unwrap();
        let size = |level: usize| (parameters.q()[level] as f64).log2();
        let expected = 2.0 * (50.0 - size(3)) - size(2);
        assert!((errors.scales[2] - expected).abs() < 1e-9);
        assert!(expected > 25.05, "the primes are {expected} off together");
    }
}
