//! The steps again, with allowed rotations.

use std::collections::BTreeMap;

use scuro_program::{Diagonal, Linear, Operation, SlotVector, ValueId};

use super::fold::Stage;
use super::linear::{LinearMap, Operand, Split};
use super::paths::Paths;
use super::tree::Tree;
use super::{Allowed, How, Keys, Map, Planned, Rotating, Within};
use crate::lower::{Gain, Skeleton};

/// The skeleton of `rotating` with its steps as planned.
pub(super) fn run(
    rotating: &Rotating<'_>,
    keys: &Keys,
    planned: &BTreeMap<usize, Planned>,
) -> Within {
    let old = rotating.skeleton;
    let mut rewriter = Rewriter {
        old,
        new: Skeleton {
            steps: Vec::new(),
            value_of: Vec::new(),
            gains: Vec::new(),
            periods: Vec::new(),
            slots: old.slots,
            query: old.query,
        },
        moved: vec![ValueId(0)],
        of: Vec::new(),
        allowed: Allowed::new(keys),
    };
    for (index, step) in old.steps.iter().enumerate() {
        let planned = planned.get(&index).map(|planned| &planned.how);
        let task = rotating.tasks.get(&index).map(|task| &task.map);
        let value = match (&step.operation, task, planned) {
            // Where it is read.
            (Operation::Rotate { .. }, ..) => ValueId(0),
            (Operation::Linear(linear), Some(Map::Linear(map)), Some(How::Linear(split))) => {
                rewriter.linear(index, linear, map, split)
            }
            (_, Some(Map::Linear(map)), _) => rewriter.linear_as_it_is(index, &map.operands),
            (_, _, Some(How::Fold(stages))) => rewriter.fold(index, stages),
            _ => rewriter.copy(index),
        };
        rewriter.moved.push(value);
    }
    let values = old.value_of.iter();
    rewriter.new.value_of = values.map(|id| rewriter.moved[id.0 as usize]).collect();
    let Rewriter {
        new: skeleton, of, ..
    } = rewriter;
    Within { skeleton, of }
}

struct Rewriter<'a> {
    old: &'a Skeleton,
    new: Skeleton,
    /// Per value of the old skeleton, the query first: where it is now.
    moved: Vec<ValueId>,
    /// Per step of the new skeleton: that of the old which it is for.
    of: Vec<usize>,
    allowed: Allowed<'a>,
}

/// A rotated value: where it is, and which of several rotated together.
type Place = (ValueId, u32);

impl Rewriter<'_> {
    fn push(&mut self, index: usize, inputs: Vec<ValueId>, operation: Operation) -> ValueId {
        let value = self
            .new
            .push(&self.old.steps[index].layer, inputs, operation);
        self.of.push(index);
        if let Some(period) = self.new.periods.last_mut() {
            *period = self.old.periods[index];
        }
        value
    }

    fn inputs(&self, index: usize) -> Vec<ValueId> {
        let inputs = self.old.steps[index].inputs.iter();
        inputs.map(|id| self.moved[id.0 as usize]).collect()
    }

    /// The step with a gain.
    fn push_with(
        &mut self,
        index: usize,
        inputs: Vec<ValueId>,
        operation: Operation,
        gain: Gain,
    ) -> ValueId {
        let value = self.push(index, inputs, operation);
        if let Some(last) = self.new.gains.last_mut() {
            *last = gain;
        }
        value
    }

    fn copy(&mut self, index: usize) -> ValueId {
        let operation = self.old.steps[index].operation.clone();
        let gain = self.old.gains[index].clone();
        self.push_with(index, self.inputs(index), operation, gain)
    }

    fn linear_as_it_is(&mut self, index: usize, operands: &[Operand]) -> ValueId {
        let mut inputs = Vec::with_capacity(operands.len());
        for operand in operands {
            let value = self.moved[operand.value.0 as usize];
            inputs.push(match &operand.steps {
                Some(steps) => {
                    let steps = steps.clone();
                    self.push(index, vec![value], Operation::Rotate { steps })
                }
                None => value,
            });
        }
        let operation = self.old.steps[index].operation.clone();
        let gain = self.old.gains[index].clone();
        self.push_with(index, inputs, operation, gain)
    }

    fn linear(&mut self, index: usize, linear: &Linear, map: &LinearMap, split: &Split) -> ValueId {
        let period = self.old.periods[index];
        let trees = split.trees.iter().zip(&map.operands);
        let places = trees.map(|(tree, o)| self.grow(index, o.value, tree, true));
        let places: Vec<BTreeMap<u32, Place>> = places.collect();
        let mut inputs = Inputs::default();
        let paths = self.allowed.paths(index, period);
        let mut diagonals = Vec::with_capacity(linear.diagonals.len());
        for (diagonal, place) in linear.diagonals.iter().zip(&map.places) {
            let own = place.operand as usize;
            let giant = split.giants[&place.total];
            let turn = paths.difference(place.total, giant);
            let value = split.trees[own].leaves[&turn];
            let (id, copy) = places[own][&value];
            let rotation = |amount| paths.rotation(amount).unwrap_or_default();
            diagonals.push(Diagonal {
                output: diagonal.output,
                operand: inputs.position(id, own),
                ciphertext: copy * map.operands[own].ciphertexts + place.ciphertext,
                giant: rotation(giant),
                baby: rotation(paths.difference(turn, value)),
                values: diagonal.values.clone(),
            });
        }
        let gain = inputs.gain(&self.old.gains[index], &diagonals);
        diagonals.sort_by_key(|d| (d.output, d.giant, d.operand, d.ciphertext, d.baby));
        let linear = Linear {
            diagonals,
            ..*linear
        };
        self.push_with(index, inputs.values, Operation::Linear(linear), gain)
    }

    fn fold(&mut self, index: usize, stages: &[Stage]) -> ValueId {
        let mut value = self.old.steps[index].inputs[0];
        let mut sum = self.moved[value.0 as usize];
        let mut pending: Vec<Vec<u32>> = Vec::new();
        for stage in stages {
            match stage {
                Stage::Rotations(rotations) => pending.push(rotations.clone()),
                Stage::Sum { amounts, tree } => {
                    sum = self.fold_pending(index, sum, &mut pending);
                    sum = self.sum(index, sum, amounts, tree);
                }
            }
        }
        value = self.fold_pending(index, sum, &mut pending);
        value
    }

    fn fold_pending(
        &mut self,
        index: usize,
        value: ValueId,
        pending: &mut Vec<Vec<u32>>,
    ) -> ValueId {
        match std::mem::take(pending) {
            stages if stages.is_empty() => value,
            stages => self.push(index, vec![value], Operation::Fold { stages }),
        }
    }

    /// The value and its rotations, added.
    fn sum(&mut self, index: usize, value: ValueId, amounts: &[u32], tree: &Tree) -> ValueId {
        let places = self.grow_from(index, value, tree, false);
        let rotated = amounts.iter().map(|amount| places[amount].0);
        let inputs: Vec<ValueId> = std::iter::once(value).chain(rotated).collect();
        let factors = vec![1.0; inputs.len()];
        let sum = Operation::Combine {
            weight_scale_log2: 0.0,
            factors,
        };
        self.push(index, inputs, sum)
    }

    /// The values of a tree, by their amounts.
    fn grow(
        &mut self,
        index: usize,
        of: ValueId,
        tree: &Tree,
        together: bool,
    ) -> BTreeMap<u32, Place> {
        self.grow_from(index, self.moved[of.0 as usize], tree, together)
    }

    fn grow_from(
        &mut self,
        index: usize,
        of: ValueId,
        tree: &Tree,
        together: bool,
    ) -> BTreeMap<u32, Place> {
        let period = self.old.periods[index];
        let mut places = BTreeMap::from([(0, (of, 0))]);
        for (parent, amounts) in tree.steps(together) {
            let paths: &Paths = self.allowed.paths(index, period);
            let rotation = |&amount: &u32| paths.rotation(paths.difference(amount, parent));
            let steps = amounts.iter().filter_map(rotation).collect();
            let from = places[&parent].0;
            let value = self.push(index, vec![from], Operation::Rotate { steps });
            places.extend(amounts.into_iter().zip((0..).map(|copy| (value, copy))));
        }
        places
    }
}

/// Operands of a linear step.
#[derive(Default)]
struct Inputs {
    values: Vec<ValueId>,
    /// Per operand: which operand of the step as it was it is a rotation of.
    of: Vec<usize>,
}

impl Inputs {
    fn position(&mut self, value: ValueId, of: usize) -> u32 {
        let known = self.values.iter().zip(&self.of);
        let position = known
            .into_iter()
            .position(|(&id, &own)| (id, own) == (value, of));
        let position = position.unwrap_or_else(|| {
            self.values.push(value);
            self.of.push(of);
            self.values.len() - 1
        });
        position as u32
    }

    /// The gain of a step, divided among the rotations of each operand by their weights.
    fn gain(&self, old: &Gain, diagonals: &[Diagonal]) -> Gain {
        let mut counts = vec![0.0; self.values.len()];
        let mut energies = vec![0.0; self.values.len()];
        for diagonal in diagonals {
            counts[diagonal.operand as usize] += 1.0;
            energies[diagonal.operand as usize] += energy(&diagonal.values);
        }
        let share = |all: &[f64], of: &[f64]| -> Vec<f64> {
            let mut sums = vec![0.0; of.len()];
            let own = || self.of.iter().zip(all);
            own().for_each(|(&of, part)| sums[of] += part);
            let part =
                |(&at, part): (&usize, &f64)| of[at] * part / sums[at].max(f64::MIN_POSITIVE);
            own().map(part).collect()
        };
        Gain {
            row_energy: share(&energies, &old.row_energy),
            diagonals: share(&counts, &old.diagonals),
            largest: self.of.iter().map(|&of| old.largest[of]).collect(),
        }
    }
}

fn energy(vector: &SlotVector) -> f64 {
    let values = vector.runs.iter().flat_map(|run| &run.values);
    values.map(|&value| f64::from(value).powi(2)).sum()
}
