//! Which rotations to allow, if there may only be so many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::{Allowed, Keys, Planned, Rotating};
use crate::error::CompileError;

/// Exchanges of one rotation for another at most.
const EXCHANGES: usize = 8;

impl Rotating<'_> {
    /// At most `budget` rotations that serve, at little predicted time.
    ///
    /// # Errors
    /// [`CompileError::TooFewRotations`], with a number that is enough.
    pub(crate) fn choose(&self, budget: usize) -> Result<BTreeSet<u32>, CompileError> {
        let mut choice = Choice::new(self, self.rotations())?;
        if choice.shrink(budget).is_err() {
            // Powers of two stand in for what cannot be left out.
            let mut all = self.candidates();
            all.extend(choice.rotations);
            choice = Choice::new(self, all)?;
            let left = choice.shrink(budget);
            left.map_err(|least| CompileError::TooFewRotations {
                found: budget,
                least,
            })?;
        }
        choice.exchange();
        Ok(choice.rotations)
    }
}

/// A set of rotations, and what it comes to.
struct Choice<'a> {
    rotating: &'a Rotating<'a>,
    rotations: BTreeSet<u32>,
    planned: BTreeMap<usize, Planned>,
}

/// Time that a change takes more, ordered.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Micros(f64);

impl Eq for Micros {}

impl PartialOrd for Micros {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Micros {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl<'a> Choice<'a> {
    fn new(rotating: &'a Rotating<'a>, rotations: BTreeSet<u32>) -> Result<Self, CompileError> {
        Ok(Self {
            rotating,
            planned: rotating.all_planned(&Keys::of(rotations.iter().copied()))?,
            rotations,
        })
    }

    fn without(&self, rotation: u32) -> BTreeSet<u32> {
        let mut fewer = self.rotations.clone();
        fewer.remove(&rotation);
        fewer
    }

    /// The steps that use a rotation, planned without it, and what that takes more.
    fn removal(&self, rotation: u32) -> Option<(f64, BTreeMap<usize, Planned>)> {
        let fewer = self.without(rotation);
        let keys = Keys::of(fewer);
        let mut allowed = Allowed::new(&keys);
        let mut more = 0.0;
        let mut found = BTreeMap::new();
        for (&index, before) in &self.planned {
            if before.rotations.contains(&rotation) {
                let planned = self.rotating.planned(index, &mut allowed)?;
                more += planned.micros - before.micros;
                found.insert(index, planned);
            }
        }
        Some((more, found))
    }

    /// Leaves out rotations, the cheapest first, until `budget` are left; else how many cannot be
    /// left out.
    ///
    /// What leaving out one takes more only grows when others are gone, or nearly so: it is
    /// computed again for the one that was cheapest alone.
    fn shrink(&mut self, budget: usize) -> Result<(), usize> {
        let price = |choice: &Self, rotation: u32| {
            choice
                .removal(rotation)
                .map_or(f64::INFINITY, |(more, _)| more)
        };
        let all = self.rotations.iter();
        let mut queue: BinaryHeap<Reverse<(Micros, usize, u32)>> = all
            .map(|&r| Reverse((Micros(price(self, r)), self.rotations.len(), r)))
            .collect();
        while self.rotations.len() > budget {
            let Some(Reverse((more, when, rotation))) = queue.pop() else {
                return Err(self.rotations.len());
            };
            if more.0.is_infinite() {
                return Err(self.rotations.len());
            }
            if when > self.rotations.len() {
                let again = Micros(price(self, rotation));
                queue.push(Reverse((again, self.rotations.len(), rotation)));
                continue;
            }
            self.remove(rotation);
        }
        Ok(())
    }

    fn remove(&mut self, rotation: u32) {
        if let Some((_, planned)) = self.removal(rotation) {
            self.rotations.remove(&rotation);
            self.planned.extend(planned);
        }
    }

    fn micros(&self) -> f64 {
        self.planned.values().map(|planned| planned.micros).sum()
    }

    /// Exchanges rotations for others as long as that saves time.
    fn exchange(&mut self) {
        for _ in 0..EXCHANGES {
            let Some(better) = self.exchanged() else {
                return;
            };
            *self = better;
        }
    }

    /// With the rotation that saves most, without the one that is then cheapest to leave out.
    fn exchanged(&self) -> Option<Self> {
        let candidates = self.rotating.candidates();
        let with = |&rotation: &u32| {
            let mut more = self.rotations.clone();
            more.insert(rotation);
            Choice::new(self.rotating, more).ok()
        };
        let added = candidates.difference(&self.rotations).filter_map(with);
        let mut best = added.min_by(|a, b| a.micros().total_cmp(&b.micros()))?;
        best.shrink(self.rotations.len()).ok()?;
        (best.micros() < self.micros()).then_some(best)
    }
}
