//! Pass: the evaluation keys that the steps need, each at the highest level of its use.

use std::collections::BTreeMap;

use scuro_program::{GaloisStep, KeyManifest, Operation, Step};

/// Collects relinearisation and rotations. The level of a key switch is that of the step's result,
/// which these operations do not change.
pub(crate) fn run(steps: &[Step]) -> KeyManifest {
    let mut relinearize: Option<u32> = None;
    let mut rotations: BTreeMap<u32, u32> = BTreeMap::new();
    for step in steps {
        let level = step.estimate.level;
        let mut rotate = |amount: u32| {
            let highest = rotations.entry(amount).or_insert(level);
            *highest = level.max(*highest);
        };
        match &step.operation {
            Operation::Linear(linear) => {
                linear
                    .diagonals
                    .iter()
                    .flat_map(|d| [d.giant, d.baby])
                    .for_each(&mut rotate);
            }
            Operation::Rotate { steps } => steps.iter().copied().for_each(&mut rotate),
            Operation::Fold { stages } => stages.iter().flatten().copied().for_each(&mut rotate),
            Operation::Relinearize => {
                relinearize = Some(relinearize.map_or(level, |highest| highest.max(level)));
            }
            _ => {}
        }
    }
    rotations.remove(&0);
    let galois = rotations
        .into_iter()
        .map(|(step, level)| GaloisStep { step, level })
        .collect();
    KeyManifest {
        relinearize,
        galois,
    }
}
