//! Runs a program on plain slots and adds the noise that encryption would add.
//!
//! Each operation's noise is drawn per slot with the deviation of `scuro_fhe::noise`; what it grows
//! to in later steps is not modelled but happens, because later steps compute with it. Values are
//! checked against the modulus of their level, so that an overflow is an error here and not a wrong
//! answer there.
//!
//! Differs from ciphertexts: noise of different slots is drawn independently; in a ciphertext the
//! slots of one error polynomial are correlated (their deviations are the same).

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_fhe::noise::NoiseModel;
use scuro_fhe::params::Parameters;
use scuro_program::{Linear, Operation, Program, SlotValue, Step, ValueShape, interpret};

use crate::check;
use crate::error::RuntimeError;
use crate::scales;

/// A program with the noise model of its parameters.
#[derive(Debug)]
pub struct Simulator<'a> {
    program: &'a Program,
    shapes: Vec<ValueShape>,
    scales: Vec<f64>,
    modulus_log2: Vec<f64>,
    noise: NoiseModel,
}

impl<'a> Simulator<'a> {
    /// Checks the program and works out the scale of every value.
    ///
    /// # Errors
    /// [`RuntimeError::Program`].
    pub fn new(program: &'a Program, parameters: &Parameters) -> Result<Self, RuntimeError> {
        let shapes = program.validate()?;
        let scales = scales::of(program, &shapes, parameters);
        let modulus_log2 = (0..=parameters.max_level())
            .map(|l| parameters.log_q(l))
            .collect();
        let noise = NoiseModel::new(parameters);
        Ok(Self {
            program,
            shapes,
            scales,
            modulus_log2,
            noise,
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
        let mut normal = Normal::new(seed);
        let mut fresh = query.to_vec();
        normal.disturb(&mut fresh, self.noise.fresh_secret().std / self.scales[0]);
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
        let mut value = interpret(&step.operation, operands);
        match &step.operation {
            Operation::Linear(linear) => {
                let input_scale = self.scales[step.inputs[0].0 as usize];
                self.disturb_linear(linear, operands, &mut value, (input_scale, level), normal);
            }
            Operation::AddConstant { .. } => {
                normal.disturb(&mut value, self.noise.encoding().std / scale);
            }
            Operation::Rotate { .. } | Operation::Relinearize => {
                normal.disturb(&mut value, self.noise.key_switch(level).std / scale);
            }
            Operation::Rescale if input.parts == 3 => {
                normal.disturb(&mut value, self.noise.rescale_unrelinearized().std / scale);
            }
            Operation::Rescale => normal.disturb(&mut value, self.noise.rescale().std / scale),
            _ => {}
        }
        value
    }

    /// Noise of a diagonal transform: the rounding of the encoded diagonals, the key switches of
    /// baby steps (multiplied by the diagonals), those of giant steps, and the last rounding.
    fn disturb_linear(
        &self,
        linear: &Linear,
        operands: &[&SlotValue],
        value: &mut SlotValue,
        (scale, level): (f64, usize),
        normal: &mut Normal,
    ) {
        let weight_scale = linear.weight_scale_log2.exp2();
        let encoding = self.noise.encoding().std / weight_scale;
        let baby = self.noise.key_switch_exact(level).std / scale;
        let giant = baby / weight_scale;
        let rounding = self.noise.rescale().std / (scale * weight_scale);
        let slots = value.first().map_or(0, Vec::len);
        let mut variance = vec![vec![rounding * rounding; slots]; value.len()];
        let mut last = None;
        for diagonal in &linear.diagonals {
            let out = &mut variance[diagonal.output as usize];
            let input = &operands[diagonal.operand as usize][diagonal.ciphertext as usize];
            let mut common = (encoding * root_mean_square(input)).powi(2);
            let group = (diagonal.output, diagonal.giant);
            if diagonal.giant != 0 && last != Some(group) {
                common += giant * giant;
            }
            last = Some(group);
            out.iter_mut().for_each(|v| *v += common);
            if diagonal.baby != 0 {
                let add = |(slot, w): (usize, f32)| out[slot] += (f64::from(w) * baby).powi(2);
                diagonal.values.iter().for_each(add);
            }
        }
        for (row, variance) in value.iter_mut().zip(&variance) {
            row.iter_mut()
                .zip(variance)
                .for_each(|(x, v)| *x += v.sqrt() * normal.draw());
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

fn root_mean_square(x: &[f64]) -> f64 {
    let sum: f64 = x.iter().map(|v| v * v).sum();
    (sum / x.len().max(1) as f64).sqrt()
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
