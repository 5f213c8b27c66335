//! The scale of every value, with the primes as they are.

use crate::parameters::Scheme;
use crate::program::{Program, ValueShape, Weights};
use crate::step::{Operation, Step};

/// What half a plaintext prime is divided by for the largest number that is believed.
const EXACT_GUARD: f64 = 1.25;

impl Program {
    /// Scales of all values, the query's first. They follow from the program alone, so weights can
    /// be encoded before there is a query.
    ///
    /// `shapes` are those of [`Program::validate`], `primes` the ciphertext primes, lowest level
    /// first.
    pub fn scales(&self, shapes: &[ValueShape], primes: &[u64]) -> Vec<f64> {
        let mut scales = vec![self.input.scale_log2.exp2()];
        for step in &self.steps {
            let scale = self.scale_of(step, &scales, shapes, primes);
            scales.push(scale);
        }
        scales
    }

    /// Largest magnitude of a number that an exact program answers with, in units of its result,
    /// whose scale is `scale`, under the plaintext prime `plain`.
    ///
    /// Larger ones may have wrapped modulo the prime: the compiler lets outputs fill it, and keeps
    /// this share free above the most extreme calibration data. How large results were planned
    /// bounds them too, unless whoever decrypts is not told: see [`Program::published`].
    pub fn exact_limit(&self, scale: f64, plain: u64) -> f64 {
        let room = plain as f64 / 2.0 / EXACT_GUARD / scale;
        let last = (self.result.0 as usize).checked_sub(1);
        let planned = last.and_then(|step| self.steps.get(step));
        match planned.map(|step| step.estimate.max_abs) {
            Some(planned) if planned > 0.0 && self.weights == Weights::Plain => room.min(planned),
            _ => room,
        }
    }

    fn scale_of(&self, step: &Step, scales: &[f64], shapes: &[ValueShape], primes: &[u64]) -> f64 {
        let operand = |i: usize| scales[step.inputs[i].0 as usize];
        match &step.operation {
            Operation::Linear(linear) => operand(0) * linear.weight_scale_log2.exp2(),
            Operation::ScalarLinear(matrix) => operand(0) * matrix.weight_scale_log2.exp2(),
            Operation::Combine {
                weight_scale_log2, ..
            } => operand(0) * weight_scale_log2.exp2(),
            // The ciphertext holds the mean over all places.
            Operation::Trace { period, copies } => {
                operand(0) * f64::from(*period) * f64::from(*copies) / self.slots() as f64
            }
            Operation::Square => operand(0) * operand(0),
            Operation::Multiply => operand(0) * operand(1),
            // Division by a prime leaves exact integers as they are.
            Operation::Rescale if self.parameters.scheme == Scheme::Ckks => {
                let level = shapes[step.inputs[0].0 as usize].level as usize;
                operand(0) / primes[level] as f64
            }
            Operation::Rescale
            | Operation::Rotate { .. }
            | Operation::Fold { .. }
            | Operation::AddConstant { .. }
            | Operation::AddScalars { .. }
            | Operation::Relinearize
            | Operation::ModDrop { .. }
            | Operation::Flood(_) => operand(0),
        }
    }
}
