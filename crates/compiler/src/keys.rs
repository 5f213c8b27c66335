//! Pass: the evaluation keys that the steps need, each at the highest level of its use.

use std::collections::BTreeMap;

use scuro_program::{GaloisStep, KeyManifest, Operation, Step, Weights};

/// Collects relinearisation and rotations. The level of a key switch is that of the step's result,
/// which these operations do not change.
pub(crate) fn run(steps: &[Step], weights: Weights) -> KeyManifest {
    let (mut rotations, mut merged) = (Highest::default(), Highest::default());
    let mut public = false;
    for step in steps {
        let level = step.estimate.level;
        match &step.operation {
            Operation::Linear(linear) => {
                for diagonal in &linear.diagonals {
                    rotations.note(diagonal.giant, level);
                    rotations.note(diagonal.baby, level);
                    // Sums of products with encrypted weights have three parts.
                    if weights != Weights::Plain {
                        merged.note(diagonal.giant, level);
                    }
                }
            }
            Operation::Rotate { steps } => steps.iter().for_each(|&s| rotations.note(s, level)),
            Operation::Fold { stages } => {
                let steps = stages.iter().flatten();
                steps.for_each(|&s| rotations.note(s, level));
            }
            Operation::Flood(_) => public = true,
            // A relinearisation rotates by nothing.
            Operation::Relinearize => merged.note(0, level),
            _ => {}
        }
    }
    rotations.0.remove(&0);
    KeyManifest {
        relinearize: merged.0.remove(&0),
        galois: rotations.steps(),
        relinearized: merged.steps(),
        public,
    }
}

/// The highest level at which each rotation is used.
#[derive(Default)]
struct Highest(BTreeMap<u32, u32>);

impl Highest {
    fn note(&mut self, rotation: u32, level: u32) {
        let highest = self.0.entry(rotation).or_insert(level);
        *highest = level.max(*highest);
    }

    fn steps(self) -> Vec<GaloisStep> {
        let step = |(step, level)| GaloisStep { step, level };
        self.0.into_iter().map(step).collect()
    }
}
