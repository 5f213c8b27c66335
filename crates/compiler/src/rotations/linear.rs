//! Linear steps: which of the allowed rotations are giant steps, and how operands are rotated.

use std::collections::{BTreeMap, BTreeSet};

use scuro_program::{Linear, Operation, ValueId};

use super::paths::Paths;
use super::tree::Tree;
use crate::cost::CostModel;

/// A linear step with the rotations of its operands taken into it.
#[derive(Debug, Clone)]
pub(super) struct LinearMap {
    pub(super) operands: Vec<Operand>,
    /// Per diagonal of the step: where it belongs.
    pub(super) places: Vec<Place>,
    /// Per sum of giant and baby step, as values with the period see it: its diagonals.
    totals: BTreeMap<u32, BTreeSet<Spot>>,
    /// Giant steps as they are.
    giants: BTreeSet<u32>,
    period: u32,
    limbs: usize,
    /// Time that does not depend on rotations.
    fixed: f64,
}

/// An operand before it is rotated.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) value: ValueId,
    pub(super) ciphertexts: u32,
    /// Rotations of which the step's operand consists; nothing if it is the value itself.
    pub(super) steps: Option<Vec<u32>>,
}

/// A diagonal's operand, its ciphertext before it is rotated, and all rotations together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) operand: u32,
    pub(super) ciphertext: u32,
    pub(super) total: u32,
}

/// What a diagonal connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    output: u32,
    operand: u32,
    ciphertext: u32,
}

/// A choice of giant steps.
#[derive(Debug, Clone)]
pub(super) struct Split {
    /// Giant step of each total.
    pub(super) giants: BTreeMap<u32, u32>,
    /// Per operand: its rotations.
    pub(super) trees: Vec<Tree>,
    pub(super) micros: f64,
}

impl LinearMap {
    /// Of a step at so many limbs whose values have the period.
    pub(super) fn new(
        linear: &Linear,
        operands: Vec<Operand>,
        period: usize,
        limbs: usize,
        cost: &CostModel,
    ) -> LinearMap {
        let period = period as u32;
        let mut totals: BTreeMap<u32, BTreeSet<Spot>> = BTreeMap::new();
        let mut places = Vec::with_capacity(linear.diagonals.len());
        for diagonal in &linear.diagonals {
            let Operand {
                ciphertexts, steps, ..
            } = &operands[diagonal.operand as usize];
            let (copy, ciphertext) = (
                diagonal.ciphertext / ciphertexts,
                diagonal.ciphertext % ciphertexts,
            );
            let middle = steps.as_ref().map_or(0, |steps| steps[copy as usize]);
            let total = (diagonal.giant + middle + diagonal.baby) % period;
            let (output, operand) = (diagonal.output, diagonal.operand);
            let spot = Spot {
                output,
                operand,
                ciphertext,
            };
            totals.entry(total).or_default().insert(spot);
            places.push(Place {
                operand,
                ciphertext,
                total,
            });
        }
        let diagonals = linear.diagonals.len() as f64 * cost.weighted(limbs);
        let outputs = f64::from(linear.outputs) * cost.closing(limbs);
        let giants = linear.diagonals.iter().map(|d| d.giant % period);
        LinearMap {
            operands,
            places,
            totals,
            giants: giants.collect(),
            period,
            limbs,
            fixed: diagonals + outputs,
        }
    }

    /// The cheapest split found whose rotations are all allowed.
    pub(super) fn split(&self, paths: &Paths, cost: &CostModel) -> Option<Split> {
        let with = |giants: &BTreeSet<u32>| self.with(giants, paths, cost);
        let families = self.families(paths).into_iter();
        let priced = families.filter_map(|giants| Some((with(&giants)?, giants)));
        let mut best = priced.min_by(|a, b| a.0.micros.total_cmp(&b.0.micros))?;
        loop {
            let neighbours = neighbours(&best.1, paths).into_iter();
            let priced = neighbours.filter_map(|giants| Some((with(&giants)?, giants)));
            match priced.min_by(|a, b| a.0.micros.total_cmp(&b.0.micros)) {
                Some(found) if found.0.micros < best.0.micros => best = found,
                _ => return Some(best.0),
            }
        }
    }

    /// Sets of giant steps to start from: what multiples of a power of two are allowed, those that
    /// there are, and all.
    fn families(&self, paths: &Paths) -> BTreeSet<BTreeSet<u32>> {
        let allowed = |giants: &mut dyn Iterator<Item = u32>| -> BTreeSet<u32> {
            giants
                .filter(|&giant| paths.rotation(giant).is_some())
                .collect()
        };
        let mut found = BTreeSet::new();
        let mut width = 1;
        while width <= self.period {
            for shift in [0, width / 2] {
                let below = |&total: &u32| (total + shift) / width * width % self.period;
                found.insert(allowed(&mut self.totals.keys().map(below)));
            }
            width *= 2;
        }
        found.insert(allowed(&mut self.giants.iter().copied()));
        found.insert(allowed(&mut paths.single()));
        let with_zero = |mut giants: BTreeSet<u32>| {
            giants.insert(0);
            giants
        };
        found.into_iter().map(with_zero).collect()
    }

    /// The split with these giant steps.
    fn with(&self, giants: &BTreeSet<u32>, paths: &Paths, cost: &CostModel) -> Option<Split> {
        let giants = self.assign(giants, paths)?;
        let mut leaves = vec![BTreeSet::new(); self.operands.len()];
        let mut turned = BTreeSet::new();
        let mut sums = BTreeSet::new();
        for (&total, spots) in &self.totals {
            let giant = giants[&total];
            let turn = paths.difference(total, giant);
            for spot in spots {
                leaves[spot.operand as usize].insert(turn);
                turned.insert((spot.operand, spot.ciphertext, turn));
                sums.insert((spot.output, giant));
            }
        }
        let none = BTreeSet::new();
        let trees = leaves.iter().map(|leaves| Tree::new(paths, &none, leaves));
        let trees: Vec<Tree> = trees.collect::<Option<_>>()?;
        let (mut babies, mut sources) = (0usize, BTreeSet::new());
        for &(operand, ciphertext, turn) in &turned {
            let value = trees[operand as usize].leaves[&turn];
            if value != turn {
                babies += 1;
                sources.insert((operand, ciphertext, value));
            }
        }
        let rotated = sums.iter().filter(|&&(_, giant)| giant != 0).count();
        let limbs = self.limbs;
        let values = trees.iter().zip(&self.operands);
        let values = values.map(|(tree, o)| tree.micros(cost, (limbs, o.ciphertexts), true));
        let micros = self.fixed
            + values.sum::<f64>()
            + sources.len() as f64 * cost.decompose(limbs)
            + babies as f64 * cost.operand_rotation(limbs)
            + rotated as f64 * cost.sum_rotation(limbs);
        Some(Split {
            giants,
            trees,
            micros,
        })
    }

    /// A giant step for each total: one that leaves a rotation of few hops, which serves many.
    fn assign(&self, giants: &BTreeSet<u32>, paths: &Paths) -> Option<BTreeMap<u32, u32>> {
        let mut served = vec![0u32; self.period as usize];
        for &total in self.totals.keys() {
            for &giant in giants {
                served[paths.difference(total, giant) as usize] += 1;
            }
        }
        let rank = |total: u32, giant: u32| {
            let turn = paths.difference(total, giant);
            let hops = paths.hops(turn)?;
            let others = u32::MAX - served[turn as usize];
            Some((hops, others, paths.distance(turn)))
        };
        let best = |total: u32| {
            let ranked = giants.iter().filter_map(|&g| Some((rank(total, g)?, g)));
            Some((total, ranked.min()?.1))
        };
        self.totals.keys().map(|&total| best(total)).collect()
    }

    /// The amount that no choice of giant steps reaches.
    pub(super) fn unreachable(&self, paths: &Paths) -> Option<u32> {
        let all: BTreeSet<u32> = std::iter::once(0).chain(paths.single()).collect();
        let reached = |total: u32| {
            let mut turns = all.iter().map(|&giant| paths.difference(total, giant));
            turns.any(|turn| paths.hops(turn).is_some())
        };
        self.totals.keys().copied().find(|&total| !reached(total))
    }
}

impl Split {
    /// Amounts of all rotations, some of them more than once.
    pub(super) fn rotations(&self, paths: &Paths) -> BTreeSet<u32> {
        let operands = self.trees.iter().flat_map(|tree| tree.rotations(paths));
        operands.chain(self.giants.values().copied()).collect()
    }
}

/// The set with one giant step less or more.
fn neighbours(giants: &BTreeSet<u32>, paths: &Paths) -> Vec<BTreeSet<u32>> {
    let without = giants.iter().filter(|&&giant| giant != 0).map(|giant| {
        let mut fewer = giants.clone();
        fewer.remove(giant);
        fewer
    });
    let others = paths.single().filter(|giant| !giants.contains(giant));
    let with = others.map(|giant| {
        let mut more = giants.clone();
        more.insert(giant);
        more
    });
    without.chain(with).collect()
}

/// Rotations of a linear step, its own alone.
pub(super) fn rotations(linear: &Linear) -> impl Iterator<Item = u32> + '_ {
    linear.diagonals.iter().flat_map(|d| [d.giant, d.baby])
}

/// Predicted time of the step as it is, the rotations of its operands included.
pub(super) fn micros(map: &LinearMap, linear: &Linear, cost: &CostModel) -> f64 {
    let rotated = |operand: &Operand| match &operand.steps {
        Some(steps) => {
            let ciphertexts = operand.ciphertexts as usize * steps.len();
            let rotate = Operation::Rotate {
                steps: steps.clone(),
            };
            cost.step(&rotate, map.limbs, ciphertexts, 2)
        }
        None => 0.0,
    };
    let own = cost.linear(&crate::cost::LinearCounts::of(linear), map.limbs);
    own + map.operands.iter().map(rotated).sum::<f64>()
}
