//! Weights that are ciphertexts.

use scuro_fhe::Context;
use scuro_fhe::circuits::linear::Operand;
use scuro_fhe::circuits::linear::encrypted::EncryptedTransform;
use scuro_fhe::ckks::{Ciphertext, Encoder, Evaluator, Plaintext};
use scuro_fhe::keys::EvaluationKeys;
use scuro_program::Program;

use super::plan::aligned;
use crate::error::RuntimeError;

/// The encrypted weights of a program, handed out step by step.
pub(super) struct Supplied {
    /// Weights of each step; emptied as they are taken.
    by_step: Vec<Vec<Ciphertext>>,
}

impl Supplied {
    /// `weights` in the order of [`Program::weight_places`], already checked against it.
    pub(super) fn new(
        program: &Program,
        context: &Context,
        weights: Vec<Ciphertext>,
    ) -> Result<Self, RuntimeError> {
        let places = program.weight_places(context.parameters().q())?;
        let mut by_step: Vec<Vec<Ciphertext>> = Vec::new();
        by_step.resize_with(program.steps.len(), Vec::new);
        for (place, weight) in places.iter().zip(weights) {
            by_step[place.step].push(weight);
        }
        Ok(Self { by_step })
    }

    /// The weights of a step.
    pub(super) fn take(&mut self, step: usize) -> Vec<Ciphertext> {
        std::mem::take(&mut self.by_step[step])
    }
}

/// A diagonal transform with encrypted diagonals whose operands may have different scales.
pub(super) struct PrivateTransform {
    pub(super) prepared: EncryptedTransform,
    /// The scale that every input is declared to have; the diagonals make up for the difference.
    pub(super) scale: f64,
}

impl PrivateTransform {
    /// All outputs, rescaled if asked.
    pub(super) fn apply(
        &self,
        evaluator: &Evaluator,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        let inputs = aligned(inputs, self.scale)?;
        let inputs: Vec<&Ciphertext> = inputs.iter().map(AsRef::as_ref).collect();
        Ok(self.prepared.apply(evaluator, &inputs, keys, rescale)?)
    }
    /// All outputs of several queries: each weight is read once for all of them.
    pub(super) fn apply_block(
        &self,
        evaluator: &Evaluator,
        queries: &[Vec<&Ciphertext>],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Vec<Ciphertext>>, RuntimeError> {
        let aligned = queries.iter().map(|inputs| aligned(inputs, self.scale));
        let aligned = aligned.collect::<Result<Vec<_>, _>>()?;
        let borrowed = aligned
            .iter()
            .map(|inputs| inputs.iter().map(AsRef::as_ref));
        let borrowed: Vec<Vec<&Ciphertext>> = borrowed.map(Iterator::collect).collect();
        let views: Vec<&[&Ciphertext]> = borrowed.iter().map(Vec::as_slice).collect();
        Ok(self
            .prepared
            .apply_batch(evaluator, &views, keys, rescale)?)
    }

    /// All outputs for inputs that are not encrypted, `[ciphertexts][slots]`.
    pub(super) fn apply_features(
        &self,
        evaluator: &Evaluator,
        encoder: &Encoder,
        inputs: &[Vec<f64>],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        let level = self.prepared.level();
        let rotated = |operand: &Operand| -> Result<Plaintext, RuntimeError> {
            let mut slots = inputs[operand.input].clone();
            slots.rotate_left(operand.baby);
            Ok(encoder.encode(&slots, level, self.scale)?)
        };
        let rotated = self.prepared.operands().iter().map(rotated);
        let rotated = rotated.collect::<Result<Vec<_>, _>>()?;
        let views: Vec<&Plaintext> = rotated.iter().collect();
        Ok(self
            .prepared
            .apply_plain_inputs(evaluator, &views, keys, rescale)?)
    }
}
