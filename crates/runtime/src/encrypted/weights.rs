//! Weights that are ciphertexts.

use scuro_program::WeightPlace;

/// The encrypted weights of a program, handed out step by step.
pub(super) struct Supplied<C> {
    /// Weights of each step; emptied as they are taken.
    by_step: Vec<Vec<C>>,
}

impl<C> Supplied<C> {
    /// One weight for every place.
    pub(super) fn new(steps: usize, places: &[WeightPlace], weights: Vec<C>) -> Self {
        let mut by_step: Vec<Vec<C>> = Vec::new();
        by_step.resize_with(steps, Vec::new);
        for (place, weight) in places.iter().zip(weights) {
            by_step[place.step].push(weight);
        }
        Self { by_step }
    }

    /// The weights of a step.
    pub(super) fn take(&mut self, step: usize) -> Vec<C> {
        std::mem::take(&mut self.by_step[step])
    }
}
