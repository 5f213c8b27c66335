//! Pass: rotations by allowed amounts alone, others made up of them.
//!
//! Runs before ranges and levels, so that noise, flooding and time are those of the rotations that
//! are left.
//!
//! Math: a diagonal d of a linear step stands for rot_g(d' rot_b(x)), whichever g and b add up to
//!     its rotation. Giant steps g are chosen among the allowed ones; operands are rotated in
//!     several steps where no single one is allowed, on ways that have much in common. A fold
//!     x + rot_s(x) by a sum s of allowed amounts rotates x in several steps and adds.
//!
//! Which amounts are allowed is the caller's choice, or that of [`choose`].

mod choice;
mod fold;
mod linear;
mod paths;
mod rewrite;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use scuro_program::{GaloisStep, Operation, Step, ValueId};

use crate::cost::CostModel;
use crate::error::CompileError;
use crate::levels;
use crate::lower::Skeleton;
use fold::{FoldMap, Stage};
use linear::{LinearMap, Operand, Split};
use paths::Paths;

/// Whether a step adds a value and its rotations, as they are: they have one scale, so that the
/// sum needs no weights.
pub(crate) fn is_sum(steps: &[Step], index: usize) -> bool {
    let step = &steps[index];
    let Operation::Combine { factors, .. } = &step.operation else {
        return false;
    };
    let mut origins = step.inputs.iter().map(|&id| origin(steps, id));
    let first = origins.next();
    factors.len() > 1
        && factors.iter().all(|&factor| factor == 1.0)
        && origins.all(|other| Some(other) == first)
}

/// What a value is a rotation of.
fn origin(steps: &[Step], mut value: ValueId) -> ValueId {
    while let Some(index) = (value.0 as usize).checked_sub(1)
        && matches!(steps[index].operation, Operation::Rotate { .. })
    {
        value = steps[index].inputs[0];
    }
    value
}

/// Rotations that there are keys for.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// The highest level of each.
    levels: BTreeMap<u32, u32>,
    /// Per step of a skeleton, if known: its level, below which keys are of no use to it.
    floors: BTreeMap<usize, u32>,
}

impl Keys {
    /// Keys for all levels.
    pub(crate) fn of(rotations: impl IntoIterator<Item = u32>) -> Keys {
        let level = |rotation| (rotation, u32::MAX);
        Keys {
            levels: rotations.into_iter().map(level).collect(),
            floors: BTreeMap::new(),
        }
    }

    fn held(keys: &[GaloisStep]) -> Keys {
        let mut levels = BTreeMap::new();
        for key in keys {
            let highest = levels.entry(key.step).or_insert(key.level);
            *highest = key.level.max(*highest);
        }
        let floors = BTreeMap::new();
        Keys { levels, floors }
    }

    /// The same and another for all levels.
    fn with(&self, rotation: u32) -> Keys {
        let mut more = self.clone();
        more.levels.insert(rotation, u32::MAX);
        more
    }

    /// Rotations with keys for a level.
    fn rotations(&self, level: u32) -> BTreeSet<u32> {
        let keys = self.levels.iter();
        let reaching = keys.filter(|&(_, &highest)| highest >= level);
        reaching.map(|(&rotation, _)| rotation).collect()
    }

    /// Takes in the level of a step.
    pub(crate) fn raise(&mut self, step: usize, level: u32) {
        let floor = self.floors.entry(step).or_insert(level);
        *floor = level.max(*floor);
    }

    /// The first rotation of a step, at a level, for which there is no key, and the level of the
    /// key that there is.
    pub(crate) fn short(&self, step: &Step) -> Option<(u32, u32)> {
        let held = |rotation: u32| self.levels.get(&rotation).copied().unwrap_or(0);
        let low = |&rotation: &u32| rotation != 0 && held(rotation) < step.estimate.level;
        let found = match &step.operation {
            Operation::Linear(linear) => linear::rotations(linear).find(low),
            Operation::Rotate { steps } => steps.iter().copied().find(low),
            Operation::Fold { stages } => stages.iter().flatten().copied().find(low),
            _ => None,
        };
        found.map(|rotation| (rotation, held(rotation)))
    }
}

/// A skeleton with allowed rotations.
pub(crate) struct Within {
    pub(crate) skeleton: Skeleton,
    /// Per step: the step that it was made for.
    pub(crate) of: Vec<usize>,
}

/// The steps of a skeleton that rotate.
pub(crate) struct Rotating<'a> {
    skeleton: &'a Skeleton,
    cost: CostModel,
    /// By step; rotations of operands belong to the linear step that reads them.
    tasks: BTreeMap<usize, Task>,
    /// Time of all other steps.
    others: f64,
}

/// A step that rotates.
struct Task {
    map: Map,
    period: usize,
    /// Amounts that it rotates by as it is, and its predicted time.
    rotations: BTreeSet<u32>,
    micros: f64,
}

enum Map {
    Linear(LinearMap),
    Fold(FoldMap),
}

/// How a step is computed with allowed rotations.
enum How {
    AsItIs,
    Linear(Split),
    Fold(Vec<Stage>),
}

/// A step with allowed rotations.
struct Planned {
    how: How,
    micros: f64,
    /// The rotations that it uses.
    rotations: BTreeSet<u32>,
}

/// Paths of allowed rotations, by what is allowed and by period.
struct Allowed<'a> {
    keys: &'a Keys,
    by_floor: BTreeMap<u32, Floor>,
}

/// Keys of a level at least.
struct Floor {
    rotations: BTreeSet<u32>,
    paths: BTreeMap<usize, Paths>,
}

impl<'a> Allowed<'a> {
    fn new(keys: &'a Keys) -> Self {
        let by_floor = BTreeMap::new();
        Self { keys, by_floor }
    }

    fn floor(&mut self, step: usize) -> &mut Floor {
        let floor = self.keys.floors.get(&step).copied().unwrap_or(0);
        let make = || Floor {
            rotations: self.keys.rotations(floor),
            paths: BTreeMap::new(),
        };
        self.by_floor.entry(floor).or_insert_with(make)
    }

    /// Those for a step of a skeleton.
    fn paths(&mut self, step: usize, period: usize) -> &Paths {
        let Floor { rotations, paths } = self.floor(step);
        let make = || Paths::new(rotations, period);
        paths.entry(period).or_insert_with(make)
    }
}

impl<'a> Rotating<'a> {
    pub(crate) fn new(skeleton: &'a Skeleton, cost: CostModel) -> Self {
        let limbs = limbs(&skeleton.steps);
        let mut found = Self {
            skeleton,
            cost,
            tasks: BTreeMap::new(),
            others: 0.0,
        };
        for (index, step) in skeleton.steps.iter().enumerate() {
            match found.task(index, limbs[index]) {
                Some(task) => {
                    found.tasks.insert(index, task);
                }
                None if matches!(step.operation, Operation::Rotate { .. }) => {}
                None => {
                    let ciphertexts = found.ciphertexts(index + 1);
                    found.others += cost.step(&step.operation, limbs[index], ciphertexts, 2);
                }
            }
        }
        found
    }

    /// Given keys, with guesses at the levels of steps: that each product takes a prime, the first
    /// one at the highest level; and that every key is high enough.
    pub(crate) fn held(&self, keys: &[GaloisStep]) -> [Keys; 2] {
        let all = Keys::held(keys);
        let highest = all.levels.values().copied().max().unwrap_or(0);
        let mut guessed = all.clone();
        let products = products_before(&self.skeleton.steps);
        for &step in self.tasks.keys() {
            guessed.raise(step, highest.saturating_sub(products[step]));
        }
        [guessed, all]
    }

    fn ciphertexts(&self, value: usize) -> usize {
        levels::ciphertexts(&self.skeleton.steps, value, self.skeleton.query)
    }

    fn task(&self, index: usize, limbs: usize) -> Option<Task> {
        let (step, period) = (&self.skeleton.steps[index], self.skeleton.periods[index]);
        match &step.operation {
            Operation::Linear(own) => {
                let operands: Vec<Operand> =
                    step.inputs.iter().map(|&id| self.operand(id)).collect();
                let steps = operands.iter().filter_map(|o| o.steps.clone()).flatten();
                let rotations = steps.chain(linear::rotations(own)).collect();
                let map = LinearMap::new(own, operands, period, limbs, &self.cost);
                Some(Task {
                    micros: linear::micros(&map, own, &self.cost),
                    map: Map::Linear(map),
                    period,
                    rotations: without_zero(rotations),
                })
            }
            Operation::Fold { stages } => {
                let ciphertexts = self.ciphertexts(index + 1);
                let map = FoldMap {
                    stages: stages.clone(),
                    ciphertexts: ciphertexts as u32,
                    limbs,
                };
                Some(Task {
                    micros: self.cost.step(&step.operation, limbs, ciphertexts, 2),
                    map: Map::Fold(map),
                    period,
                    rotations: without_zero(stages.iter().flatten().copied().collect()),
                })
            }
            _ => None,
        }
    }

    /// An operand of a linear step before it is rotated.
    fn operand(&self, id: ValueId) -> Operand {
        let rotate = (id.0 as usize)
            .checked_sub(1)
            .map(|index| &self.skeleton.steps[index]);
        let (value, steps) = match rotate {
            Some(Step {
                operation: Operation::Rotate { steps },
                inputs,
                ..
            }) => (inputs[0], Some(steps.clone())),
            _ => (id, None),
        };
        Operand {
            value,
            ciphertexts: self.ciphertexts(value.0 as usize) as u32,
            steps,
        }
    }

    /// A step with allowed rotations, if they add up to what it needs.
    fn planned(&self, step: usize, allowed: &mut Allowed<'_>) -> Option<Planned> {
        let task = &self.tasks[&step];
        if task.rotations.is_subset(&allowed.floor(step).rotations) {
            return Some(Planned {
                how: How::AsItIs,
                micros: task.micros,
                rotations: task.rotations.clone(),
            });
        }
        let paths = allowed.paths(step, task.period);
        let (how, micros, amounts) = match &task.map {
            Map::Linear(map) => {
                let split = map.split(paths, &self.cost)?;
                let amounts = split.rotations(paths);
                let micros = split.micros;
                (How::Linear(split), micros, amounts)
            }
            Map::Fold(map) => {
                let (stages, micros) = map.stages(paths, &self.cost)?;
                let amounts = stages.iter().flat_map(|stage| match stage {
                    Stage::Rotations(rotations) => rotations.clone(),
                    Stage::Sum { tree, .. } => tree.rotations(paths).collect(),
                });
                let amounts = amounts.collect();
                (How::Fold(stages), micros, amounts)
            }
        };
        let rotations = amounts.into_iter().filter_map(|a| paths.rotation(a));
        Some(Planned {
            how,
            micros,
            rotations: without_zero(rotations.collect()),
        })
    }

    /// Every step with allowed rotations.
    ///
    /// # Errors
    /// [`CompileError::RotationOutOfReach`] for the first amount that they do not add up to.
    fn all_planned(&self, keys: &Keys) -> Result<BTreeMap<usize, Planned>, CompileError> {
        let mut allowed = Allowed::new(keys);
        let mut found = BTreeMap::new();
        for &step in self.tasks.keys() {
            match self.planned(step, &mut allowed) {
                Some(planned) => found.insert(step, planned),
                None => return Err(self.out_of_reach(step, keys)),
            };
        }
        Ok(found)
    }

    /// The skeleton with allowed rotations alone.
    ///
    /// # Errors
    /// [`CompileError::RotationOutOfReach`] if they do not add up to all that it needs.
    pub(crate) fn within(&self, keys: &Keys) -> Result<Within, CompileError> {
        let planned = self.all_planned(keys)?;
        Ok(rewrite::run(self, keys, &planned))
    }

    /// Predicted time of all steps with allowed rotations alone.
    ///
    /// # Errors
    /// As [`Rotating::within`].
    pub(crate) fn micros(&self, keys: &Keys) -> Result<f64, CompileError> {
        let planned = self.all_planned(keys)?;
        Ok(self.others + planned.values().map(|plan| plan.micros).sum::<f64>())
    }

    fn out_of_reach(&self, step: usize, keys: &Keys) -> CompileError {
        let task = &self.tasks[&step];
        let mut allowed = Allowed::new(keys);
        let paths = allowed.paths(step, task.period);
        let amount = match &task.map {
            Map::Linear(map) => map.unreachable(paths),
            Map::Fold(map) => map.unreachable(paths),
        };
        let amount = amount.unwrap_or_default();
        CompileError::RotationOutOfReach {
            layer: self.skeleton.steps[step].layer.clone(),
            amount,
            fix: self.fix(keys).unwrap_or(amount),
        }
    }

    /// The one rotation more with which everything is reached in the least time.
    fn fix(&self, keys: &Keys) -> Option<u32> {
        let candidates = self.candidates();
        let priced = candidates.into_iter().filter_map(|rotation| {
            let more = keys.with(rotation);
            let mut allowed = Allowed::new(&more);
            let steps = self.tasks.keys();
            let micros = steps.map(|&step| Some(self.planned(step, &mut allowed)?.micros));
            Some((micros.sum::<Option<f64>>()?, rotation))
        });
        let cheapest = priced.min_by(|a, b| a.0.total_cmp(&b.0));
        cheapest.map(|(_, rotation)| rotation)
    }

    /// Rotations as they are.
    fn rotations(&self) -> BTreeSet<u32> {
        let tasks = self.tasks.values();
        tasks
            .flat_map(|task| task.rotations.iter().copied())
            .collect()
    }

    /// Rotations worth a key: those that there are, and powers of two either way.
    fn candidates(&self) -> BTreeSet<u32> {
        let slots = self.skeleton.slots as u32;
        let powers = (0..slots.ilog2()).map(|bits| 1 << bits);
        let both = powers.flat_map(|power| [power, slots - power]);
        self.rotations().into_iter().chain(both).collect()
    }
}

fn without_zero(mut amounts: BTreeSet<u32>) -> BTreeSet<u32> {
    amounts.remove(&0);
    amounts
}

fn multiplies(steps: &[Step], index: usize) -> bool {
    match steps[index].operation {
        Operation::Linear(_) | Operation::Square | Operation::Multiply => true,
        Operation::Combine { .. } => !is_sum(steps, index),
        _ => false,
    }
}

/// Per step: the products that what it reads comes of.
fn products_before(steps: &[Step]) -> Vec<u32> {
    let mut values = vec![0u32];
    let mut before = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let read = step.inputs.iter().map(|id| values[id.0 as usize]);
        let own = read.max().unwrap_or(0);
        before.push(own);
        values.push(own + u32::from(multiplies(steps, index)));
    }
    before
}

/// About how many primes are left at each step: two products take one.
fn limbs(steps: &[Step]) -> Vec<usize> {
    let mut after = vec![0usize; steps.len() + 1];
    for (index, step) in steps.iter().enumerate().rev() {
        let own = after[index + 1] + usize::from(multiplies(steps, index));
        for id in &step.inputs {
            let before = &mut after[id.0 as usize];
            *before = own.max(*before);
        }
    }
    after[1..].iter().map(|products| products / 2 + 2).collect()
}
