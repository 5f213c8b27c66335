//! Folds: sums of a value and its rotations.

use std::collections::BTreeSet;

use super::paths::Paths;
use super::tree::Tree;
use crate::cost::CostModel;

/// A fold as it is asked for.
#[derive(Debug, Clone)]
pub(super) struct FoldMap {
    pub(super) stages: Vec<Vec<u32>>,
    pub(super) ciphertexts: u32,
    pub(super) limbs: usize,
}

/// How a stage is computed.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// As a stage: all its rotations are allowed.
    Rotations(Vec<u32>),
    /// As a sum of the value and of rotated values.
    Sum { amounts: Vec<u32>, tree: Tree },
}

impl FoldMap {
    /// The stages with allowed rotations alone, and their predicted time.
    pub(super) fn stages(&self, paths: &Paths, cost: &CostModel) -> Option<(Vec<Stage>, f64)> {
        let mut stages = Vec::new();
        for stage in &self.stages {
            let amounts: Vec<u32> = stage.iter().map(|&amount| paths.reduced(amount)).collect();
            stages.extend(planned(&amounts, paths)?);
        }
        let micros = stages.iter().map(|stage| self.micros(stage, cost)).sum();
        Some((stages, micros))
    }

    fn micros(&self, stage: &Stage, cost: &CostModel) -> f64 {
        let (limbs, ciphertexts) = (self.limbs, f64::from(self.ciphertexts));
        match stage {
            Stage::Rotations(rotations) => ciphertexts * cost.hoisted(limbs, rotations.len()),
            Stage::Sum { amounts, tree } => {
                let terms = (amounts.len() + 1) as f64;
                let values = tree.micros(cost, (limbs, self.ciphertexts), false);
                values + terms * ciphertexts * cost.scalar(limbs, 2)
            }
        }
    }

    /// The amount that allowed rotations do not add up to.
    pub(super) fn unreachable(&self, paths: &Paths) -> Option<u32> {
        let amounts = self.stages.iter().flatten().copied();
        amounts
            .map(|amount| paths.reduced(amount))
            .find(|&amount| paths.hops(amount).is_none())
    }
}

/// A stage that is one, two or a sum.
fn planned(amounts: &[u32], paths: &Paths) -> Option<Vec<Stage>> {
    let allowed = amounts.iter().map(|&amount| paths.rotation(amount));
    if let Some(rotations) = allowed.collect() {
        return Some(vec![Stage::Rotations(rotations)]);
    }
    if let Some([first, second]) = halves(amounts, paths) {
        let mut stages = planned(&[first], paths)?;
        stages.extend(planned(&[second], paths)?);
        return Some(stages);
    }
    let values: BTreeSet<u32> = amounts.iter().copied().collect();
    let tree = Tree::new(paths, &values, &BTreeSet::new())?;
    let amounts = amounts.to_vec();
    Some(vec![Stage::Sum { amounts, tree }])
}

/// Two stages of one rotation each for one of three: x + a + b + (a + b) = (x + a) + b (x + a).
fn halves(amounts: &[u32], paths: &Paths) -> Option<[u32; 2]> {
    let &[a, b, c] = amounts else {
        return None;
    };
    let pairs = [([a, b], c), ([a, c], b), ([b, c], a)];
    let is_sum = |&([x, y], sum): &([u32; 2], u32)| paths.difference(sum, x) == y;
    pairs.into_iter().find(is_sum).map(|(pair, _)| pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(stages: &[&[u32]]) -> FoldMap {
        FoldMap {
            stages: stages.iter().map(|stage| stage.to_vec()).collect(),
            ciphertexts: 1,
            limbs: 3,
        }
    }

    #[test]
    fn stages_are_kept_halved_or_summed() {
        let paths = Paths::new(&BTreeSet::from([1, 7, 16]), 64);
        let fold = fold(&[&[1, 16], &[1, 7, 8], &[32]]);
        let (stages, _) = fold.stages(&paths, &CostModel::new(13, 1)).unwrap();
        let [first, second, third, last] = &stages[..] else {
            panic!("{stages:?}")
        };
        let is = |stage: &Stage, expected: &[u32]| match stage {
            Stage::Rotations(rotations) => rotations == expected,
            Stage::Sum { .. } => false,
        };
        assert!(is(first, &[1, 16]) && is(second, &[1]) && is(third, &[7]));
        assert!(matches!(last, Stage::Sum { amounts, .. } if amounts == &[32]));
    }

    #[test]
    fn an_amount_out_of_reach_is_named() {
        let paths = Paths::new(&BTreeSet::from([2]), 64);
        let fold = fold(&[&[2, 4], &[5]]);
        assert!(fold.stages(&paths, &CostModel::new(13, 1)).is_none());
        assert_eq!(fold.unreachable(&paths), Some(5));
    }
}
