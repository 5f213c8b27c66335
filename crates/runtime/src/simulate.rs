//! Runs a program on plain slots and adds the noise that encryption would add.
//!
//! Each operation's noise is drawn per slot with the deviation of `scuro_fhe::noise`; what it grows
//! to in later steps is not modelled but happens, because later steps compute with it. Values are
//! checked against the modulus of their level, so that an overflow is an error here and not a wrong
//! answer there.
//!
//! Differs from ciphertexts: noise of different slots is drawn independently; in a ciphertext the
//! slots of one error polynomial are correlated (their deviations are the same).

use std::borrow::Cow;
use std::collections::BTreeSet;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_fhe::bgv::plain_prime;
use scuro_fhe::noise::NoiseModel;
use scuro_fhe::params::Parameters;
use scuro_program::{
    Diagonal, Linear, Operation, Program, SlotValue, Step, ValueId, ValueShape, Weights, exposure,
    interpret,
};

use crate::error::RuntimeError;
use crate::flood::{flooding, worst_case};
use crate::{check, clear};

/// A program with the noise model of its parameters.
#[derive(Debug)]
pub struct Simulator<'a> {
    program: &'a Program,
    shapes: Vec<ValueShape>,
    scales: Vec<f64>,
    modulus_log2: Vec<f64>,
    /// Largest number that an exact program answers with.
    exact_limit: Option<f64>,
    noise: NoiseModel,
}

impl<'a> Simulator<'a> {
    /// Checks the program and works out the scale of every value.
    ///
    /// # Errors
    /// [`RuntimeError::Program`]; [`RuntimeError::Fhe`] if there is no plaintext prime.
    pub fn new(program: &'a Program, parameters: &Parameters) -> Result<Self, RuntimeError> {
        let shapes = program.validate()?;
        check::weights_present(program)?;
        let scales = program.scales(&shapes, parameters.q());
        let modulus_log2 = (0..=parameters.max_level())
            .map(|l| parameters.log_q(l))
            .collect();
        let result_scale = scales[program.result.0 as usize];
        let exact_limit = plain_modulus(program, parameters)?
            .map(|plain| program.exact_limit(result_scale, plain));
        Ok(Self {
            program,
            shapes,
            scales,
            modulus_log2,
            exact_limit,
            noise: NoiseModel::new(parameters),
        })
    }

    /// The slots of the reply, with noise drawn from `seed`.
    ///
    /// Shape: `[ciphertexts][slots]`, query and reply
    ///
    /// # Errors
    /// [`RuntimeError::QueryLength`], [`RuntimeError::QuerySlots`], [`RuntimeError::Overflow`].
    pub fn run(&self, query: &[Vec<f64>], seed: u64) -> Result<SlotValue, RuntimeError> {
        check::query_slots(self.program, query)?;
        if let Some(limit) = self.exact_limit {
            return self.exact(query, limit);
        }
        let mut normal = Normal::new(seed);
        let mut fresh = query.to_vec();
        normal.disturb(&mut fresh, self.query_noise() / self.scales[0]);
        let mut values = vec![fresh];
        for (index, step) in self.program.steps.iter().enumerate() {
            let operands: Vec<&SlotValue> = step
                .inputs
                .iter()
                .map(|id| &values[id.0 as usize])
                .collect();
            let value = self.step(index, step, &operands, &mut normal);
            self.check_overflow(index, step, &value)?;
            values.push(value);
        }
        Ok(values.swap_remove(self.program.result.0 as usize))
    }

    /// An exact program computes what the clear one does, as long as its outputs stay in the range
    /// that they were planned for.
    fn exact(&self, query: &[Vec<f64>], limit: f64) -> Result<SlotValue, RuntimeError> {
        let result = clear::run(self.program, query)?;
        let addresses = self.program.output.addresses.iter();
        let outputs = addresses.map(|a| result[a.ciphertext as usize][a.slot as usize].abs());
        let largest = outputs.fold(0.0, f64::max);
        if largest <= limit {
            return Ok(result);
        }
        let value = self.program.result.0 as usize;
        let step = value.saturating_sub(1);
        let layer = self.program.steps.get(step).map(|s| s.layer.clone());
        Err(RuntimeError::Overflow {
            step,
            layer: layer.unwrap_or_default(),
            magnitude_log2: (largest * self.scales[value]).log2(),
            modulus_log2: (limit * self.scales[value]).log2() + 1.0,
        })
    }

    /// Whoever runs a private model encrypts without the secret key.
    fn query_noise(&self) -> f64 {
        match self.program.weights {
            Weights::Plain => self.noise.fresh_secret().std,
            _ => self.noise.fresh_public().std,
        }
    }

    fn step(
        &self,
        index: usize,
        step: &Step,
        operands: &[&SlotValue],
        normal: &mut Normal,
    ) -> SlotValue {
        let scale = self.scales[index + 1];
        let input = self.shapes[step.inputs[0].0 as usize];
        let level = input.level as usize;
        if let Operation::Fold { stages } = &step.operation {
            let switch = self.noise.key_switch(level).std / scale;
            return operands[0]
                .iter()
                .map(|x| fold(stages, x, switch, normal))
                .collect();
        }
        let mut value = interpret(&self.rounded(index, step), operands);
        match &step.operation {
            Operation::Linear(linear) => {
                self.disturb_linear(index, linear, operands, &mut value, normal);
            }
            Operation::AddConstant { .. } => {
                normal.disturb(&mut value, self.weight_noise() / scale);
            }
            Operation::Rotate { .. } | Operation::Relinearize => {
                normal.disturb(&mut value, self.noise.key_switch(level).std / scale);
            }
            Operation::Rescale if input.parts == 3 => {
                normal.disturb(&mut value, self.noise.rescale_unrelinearized().std / scale);
            }
            Operation::Rescale => normal.disturb(&mut value, self.noise.rescale().std / scale),
            Operation::Flood(flood) => {
                let noise = match input.traced {
                    Some(period) => {
                        let stride = self.program.slots() / period as usize;
                        Cow::Owned(self.noise.clone().traced(stride))
                    }
                    None => Cow::Borrowed(&self.noise),
                };
                let flooded = noise.flooded(worst_case(flood), flooding(flood));
                normal.disturb(&mut value, flooded.std / scale);
            }
            _ => {}
        }
        value
    }

    /// The operation with factors as the ciphertexts' integers hold them.
    fn rounded<'s>(&self, index: usize, step: &'s Step) -> Cow<'s, Operation> {
        let Operation::Combine {
            weight_scale_log2,
            factors,
        } = &step.operation
        else {
            return Cow::Borrowed(&step.operation);
        };
        let round = |(factor, input): (&f64, &ValueId)| {
            let unit = self.scales[index + 1] / self.scales[input.0 as usize];
            (factor * unit).round() / unit
        };
        Cow::Owned(Operation::Combine {
            weight_scale_log2: *weight_scale_log2,
            factors: factors.iter().zip(&step.inputs).map(round).collect(),
        })
    }

    /// Deviation of an encoded or encrypted weight, which may be under the public key where replies
    /// are flooded.
    fn weight_noise(&self) -> f64 {
        match self.program.weights {
            Weights::Plain => self.noise.encoding().std,
            _ if self.program.flood().is_some() => self.noise.fresh_public().std,
            _ => self.noise.fresh_secret().std,
        }
    }

    /// Noise of a diagonal transform: that of the encoded or encrypted diagonals, the key switches
    /// of baby steps (multiplied by the diagonals), those of giant steps, and the last rounding.
    fn disturb_linear(
        &self,
        index: usize,
        linear: &Linear,
        operands: &[&SlotValue],
        value: &mut SlotValue,
        normal: &mut Normal,
    ) {
        let inputs = &self.program.steps[index].inputs;
        let (scale, level) = (
            self.scales[index + 1],
            self.shapes[inputs[0].0 as usize].level,
        );
        let switch = self.noise.key_switch_exact(level as usize).std;
        // Encrypted diagonals multiply rotated operands that were rounded by themselves, and the
        // sums of products are relinearised as well as rotated.
        let private = self.program.weights != Weights::Plain;
        let (baby, switches) = match private {
            true => (self.noise.key_switch(level as usize).std, 2.0),
            false => (switch, 1.0),
        };
        let slots = value.first().map_or(0, Vec::len);
        let rounding = (self.noise.rescale().std / scale).powi(2);
        let giants =
            giant_steps(linear).map(|count| switches * count as f64 * (switch / scale).powi(2));
        let mut variance: Vec<Vec<f64>> = giants
            .map(|giants| vec![rounding + giants; slots])
            .collect();
        for (operand, input) in (0..).zip(inputs) {
            let input_scale = self.scales[input.0 as usize];
            let encoding = (self.weight_noise() * input_scale / scale).powi(2);
            let exposed = exposure(linear, operand, operands[operand as usize]);
            for (variance, exposed) in variance.iter_mut().flatten().zip(exposed.iter().flatten()) {
                *variance += encoding * exposed;
            }
            let rotated = |d: &&Diagonal| d.operand == operand && d.baby != 0;
            for diagonal in linear.diagonals.iter().filter(rotated) {
                let out = &mut variance[diagonal.output as usize];
                let add = |(slot, w): (usize, f32)| {
                    out[slot] += (f64::from(w) * baby / input_scale).powi(2);
                };
                diagonal.values.iter().for_each(add);
            }
        }
        for (x, variance) in value.iter_mut().flatten().zip(variance.iter().flatten()) {
            *x += variance.sqrt() * normal.draw();
        }
    }

    fn check_overflow(
        &self,
        index: usize,
        step: &Step,
        value: &SlotValue,
    ) -> Result<(), RuntimeError> {
        let largest = value
            .iter()
            .flatten()
            .fold(0.0f64, |max, v| max.max(v.abs()));
        let magnitude_log2 = (largest * self.scales[index + 1]).log2();
        let modulus_log2 = self.modulus_log2[self.shapes[index + 1].level as usize];
        // Not written as `>`: a NaN must be refused as well.
        if magnitude_log2 < modulus_log2 - 1.0 {
            return Ok(());
        }
        let layer = step.layer.clone();
        Err(RuntimeError::Overflow {
            step: index,
            layer,
            magnitude_log2,
            modulus_log2,
        })
    }
}

/// The plaintext prime of an exact program.
fn plain_modulus(program: &Program, parameters: &Parameters) -> Result<Option<u64>, RuntimeError> {
    let Some(plain_bits) = program.parameters.scheme.plain_bits() else {
        return Ok(None);
    };
    let used = [parameters.q(), parameters.p()].concat();
    let (ring, log_n) = (parameters.ring(), parameters.log_n());
    Ok(Some(plain_prime(ring, log_n, plain_bits, &used)?))
}

fn fold(stages: &[Vec<u32>], x: &[f64], deviation: f64, normal: &mut Normal) -> Vec<f64> {
    let mut sum = x.to_vec();
    for stage in stages {
        let before = sum.clone();
        for &step in stage {
            let (front, back) = before.split_at(step as usize);
            for (s, &v) in sum.iter_mut().zip(back.iter().chain(front)) {
                *s += v + deviation * normal.draw();
            }
        }
    }
    sum
}

/// Per output: its different giant steps other than zero.
fn giant_steps(linear: &Linear) -> impl Iterator<Item = usize> {
    let of = |output| {
        let own = linear.diagonals.iter().filter(move |d| d.output == output);
        let giants: BTreeSet<u32> = own.map(|d| d.giant).filter(|&giant| giant != 0).collect();
        giants.len()
    };
    (0..linear.outputs).map(of)
}

/// Standard normal numbers (Box and Muller 1958). Not for secrets.
struct Normal {
    rng: ChaCha20Rng,
    spare: Option<f64>,
}

impl Normal {
    fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha20Rng::seed_from_u64(seed),
            spare: None,
        }
    }

    fn draw(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // (0, 1], so that the logarithm is finite.
        let mut uniform = || ((self.rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let (radius, angle) = (
            (-2.0 * uniform().ln()).sqrt(),
            std::f64::consts::TAU * uniform(),
        );
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }

    fn disturb(&mut self, value: &mut SlotValue, deviation: f64) {
        value
            .iter_mut()
            .flatten()
            .for_each(|x| *x += deviation * self.draw());
    }
}
