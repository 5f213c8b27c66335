//! Which rotations allowed ones add up to.

use std::collections::{BTreeMap, BTreeSet};

/// Most rotations in sequence that stand for one: each takes as long, and adds noise.
const HOPS_MAX: u8 = 8;
/// More than that.
const FAR: u8 = u8::MAX;

/// Sums of allowed rotations of values with a period: amounts count modulo it.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    period: u32,
    /// Allowed rotations by what they come to; of several the smallest.
    allowed: BTreeMap<u32, u32>,
    /// Per amount: the fewest allowed rotations that add up to it.
    hops: Vec<u8>,
}

impl Paths {
    pub(super) fn new(allowed: &BTreeSet<u32>, period: usize) -> Paths {
        let mut by_amount = BTreeMap::new();
        for &rotation in allowed.iter().rev() {
            by_amount.insert(rotation % period as u32, rotation);
        }
        by_amount.remove(&0);
        let mut paths = Paths {
            period: period as u32,
            allowed: by_amount,
            hops: vec![FAR; period],
        };
        paths.reach();
        paths
    }

    fn reach(&mut self) {
        self.hops[0] = 0;
        let mut frontier = vec![0];
        for hops in 1..=HOPS_MAX {
            let mut next = Vec::new();
            for &amount in &frontier {
                for &rotation in self.allowed.keys() {
                    let sum = (amount + rotation) % self.period;
                    if self.hops[sum as usize] == FAR {
                        self.hops[sum as usize] = hops;
                        next.push(sum);
                    }
                }
            }
            frontier = next;
        }
    }

    /// How many allowed rotations an amount takes, if they are not too many.
    pub(super) fn hops(&self, amount: u32) -> Option<u8> {
        let hops = self.hops[(amount % self.period) as usize];
        (hops != FAR).then_some(hops)
    }

    /// The amount as values with the period see it.
    pub(super) fn reduced(&self, amount: u32) -> u32 {
        amount % self.period
    }

    /// What `minuend` is ahead of `subtrahend`.
    pub(super) fn difference(&self, minuend: u32, subtrahend: u32) -> u32 {
        (minuend + self.period - subtrahend) % self.period
    }

    /// Slots by which a rotation moves, in whichever direction they are fewer.
    pub(super) fn distance(&self, amount: u32) -> u32 {
        amount.min(self.period - amount)
    }

    /// The allowed rotation of that amount; an amount of 0 needs none.
    pub(super) fn rotation(&self, amount: u32) -> Option<u32> {
        match self.reduced(amount) {
            0 => Some(0),
            amount => self.allowed.get(&amount).copied(),
        }
    }

    /// All amounts for which one rotation is allowed.
    pub(super) fn single(&self) -> impl Iterator<Item = u32> + '_ {
        self.allowed.keys().copied()
    }

    /// Amounts from which one allowed rotation leads to this, on a shortest way.
    pub(super) fn before(&self, amount: u32) -> impl Iterator<Item = u32> + '_ {
        let hops = self.hops[amount as usize];
        let from = move |rotation: u32| self.difference(amount, rotation);
        let earlier = move |&from: &u32| self.hops[from as usize].checked_add(1) == Some(hops);
        self.single().map(from).filter(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_the_fewest_rotations_that_add_up() {
        let paths = Paths::new(&BTreeSet::from([1, 4, 60]), 64);
        let hops = [0, 1, 4, 5, 3, 60, 61, 34].map(|amount| paths.hops(amount));
        let [none, one, two, three] = [0, 1, 2, 3].map(Some);
        assert_eq!(hops, [none, one, one, two, three, one, two, None]);
        assert_eq!(paths.before(3).collect::<Vec<_>>(), vec![2]);
        assert_eq!(paths.before(5).collect::<Vec<_>>(), vec![4, 1]);
    }

    #[test]
    fn rotations_count_modulo_the_period() {
        let paths = Paths::new(&BTreeSet::from([16, 40, 48]), 32);
        assert_eq!(paths.rotation(8), Some(40));
        assert_eq!(paths.rotation(80), Some(16));
        assert_eq!(paths.rotation(64), Some(0));
        assert_eq!(paths.rotation(24), None);
        assert_eq!(paths.hops(24), Some(2));
        assert_eq!(paths.before(24).collect::<Vec<_>>(), vec![16, 8]);
        assert_eq!(paths.hops(1), None);
    }
}
