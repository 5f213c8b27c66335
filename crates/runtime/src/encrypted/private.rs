//! Weights that are ciphertexts.

use scuro_fhe::Context;
use scuro_fhe::circuits::linear::encrypted::EncryptedTransform;
use scuro_fhe::ckks::{Ciphertext, Evaluator};
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
}
