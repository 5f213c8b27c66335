//! After which steps primes are dropped.

use std::collections::BTreeSet;

use scuro_program::Operation;

use super::Chain;

/// Distinct patterns of greedy rules: drop a prime of `bits` whenever a scale of `floor` remains.
pub(super) fn patterns(chain: &Chain<'_>) -> Vec<Vec<u32>> {
    let mut found = BTreeSet::new();
    // Room for the noise that drowns the error.
    let (floors, more): (_, &[_]) = match chain.bounds.flooding {
        Some(_) => (16..=76, &[(40.0, 38.0), (56.0, 54.0), (80.0, 58.0)]),
        None => (16..=36, &[]),
    };
    let usual = [(18.0, 16.0), (22.0, 20.0), (28.0, 24.0), (30.0, 28.0)];
    for bits in (26..=50).step_by(2) {
        for floor in floors.clone().step_by(4) {
            for &(input, weight) in usual.iter().chain(more) {
                found.insert(greedy(
                    chain,
                    input,
                    weight,
                    f64::from(bits),
                    f64::from(floor),
                ));
            }
        }
    }
    found.into_iter().collect()
}

/// Whether primes may be dropped after a step.
pub(super) fn may_drop(chain: &Chain<'_>, step: usize) -> bool {
    chain.weighted[step] || matches!(chain.steps[step].operation, Operation::Relinearize)
}

fn greedy(chain: &Chain<'_>, input: f64, weight: f64, bits: f64, floor: f64) -> Vec<u32> {
    let mut scales = vec![input];
    let mut drops = Vec::with_capacity(chain.steps.len());
    for (index, step) in chain.steps.iter().enumerate() {
        let operands = step.inputs.iter().map(|id| scales[id.0 as usize]);
        let largest = operands.clone().fold(f64::MIN, f64::max);
        let mut scale = match &step.operation {
            Operation::Square => 2.0 * largest,
            Operation::Multiply => operands.sum(),
            _ if chain.weighted[index] => largest + weight,
            _ => largest,
        };
        let mut dropped = 0;
        while may_drop(chain, index) && scale - bits >= floor {
            scale -= bits;
            dropped += 1;
        }
        scales.push(scale);
        drops.push(dropped);
    }
    drops
}

/// Primes dropped before each value (the query first); operands are brought to the lowest among
/// them.
pub(super) fn drop_counts(chain: &Chain<'_>, drops: &[u32]) -> Vec<u32> {
    let mut counts = vec![0u32];
    for (step, own) in chain.steps.iter().zip(drops) {
        let before = step
            .inputs
            .iter()
            .map(|id| counts[id.0 as usize])
            .max()
            .unwrap_or(0);
        counts.push(before + own);
    }
    counts
}

/// Primes dropped in all.
pub(super) fn dropped(chain: &Chain<'_>, drops: &[u32]) -> usize {
    drop_counts(chain, drops).into_iter().max().unwrap_or(0) as usize
}
