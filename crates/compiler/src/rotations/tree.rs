//! Rotations of one value, each made from another by one allowed rotation.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::paths::Paths;
use crate::cost::CostModel;

/// How rotations of a value come about. Amounts are those of [`Paths`]; 0 is the value itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    /// Rotated values, and what each is rotated from.
    pub(super) values: BTreeMap<u32, u32>,
    /// Rotations that need not be values, since whoever reads them can rotate by one allowed
    /// rotation: what of.
    pub(super) leaves: BTreeMap<u32, u32>,
}

impl Tree {
    /// A tree with these values, and with a value one allowed rotation away from each leaf, on
    /// shortest ways that have much in common; `None` if some amount takes too many rotations.
    pub(super) fn new(
        paths: &Paths,
        values: &BTreeSet<u32>,
        leaves: &BTreeSet<u32>,
    ) -> Option<Tree> {
        let mut wanted = Wanted::default();
        for &value in values {
            wanted.values(paths.hops(value)?).insert(value);
        }
        for &leaf in leaves {
            wanted.leaves(paths.hops(leaf)?).insert(leaf);
        }
        let mut tree = Tree::default();
        for hops in (1..wanted.0.len()).rev() {
            let (values, leaves) = std::mem::take(&mut wanted.0[hops]);
            let only_leaves: BTreeSet<u32> = leaves.difference(&values).copied().collect();
            let shared = leaves.intersection(&values).map(|&leaf| (leaf, leaf));
            tree.leaves.extend(shared);
            let children: Vec<u32> = values.iter().chain(&only_leaves).copied().collect();
            for (child, parent) in parents(paths, &children, &wanted.0[hops - 1]) {
                wanted.0[hops - 1].0.insert(parent);
                match values.contains(&child) {
                    true => tree.values.insert(child, parent),
                    false => tree.leaves.insert(child, parent),
                };
            }
        }
        if leaves.contains(&0) {
            tree.leaves.insert(0, 0);
        }
        Some(tree)
    }

    /// Values that are rotated again.
    fn inner(&self) -> BTreeSet<u32> {
        self.values.values().copied().collect()
    }

    /// Values to rotate together: what of, and the amounts that come out; with `together` those
    /// of one value that are not rotated again come in one step, or else each in its own. What is
    /// rotated comes before what comes of it.
    pub(super) fn steps(&self, together: bool) -> Vec<(u32, Vec<u32>)> {
        let inner = self.inner();
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (&value, &parent) in &self.values {
            children.entry(parent).or_default().push(value);
        }
        let (mut steps, mut ready) = (Vec::new(), vec![0]);
        while let Some(parent) = ready.pop() {
            let own = children.remove(&parent).unwrap_or_default();
            let again = |value: &u32| inner.contains(value) || !together;
            let (alone, others): (Vec<u32>, Vec<u32>) = own.into_iter().partition(again);
            steps.extend(alone.iter().map(|&value| (parent, vec![value])));
            ready.extend(alone);
            if !others.is_empty() {
                steps.push((parent, others));
            }
        }
        steps
    }

    /// Predicted time for a value of so many ciphertexts.
    pub(super) fn micros(&self, cost: &CostModel, place: (usize, u32), together: bool) -> f64 {
        let (limbs, ciphertexts) = place;
        let steps = self.steps(together).len() as f64 * cost.decompose(limbs);
        let values = self.values.len() as f64 * (cost.baby(limbs) + cost.mod_down(limbs));
        f64::from(ciphertexts) * (steps + values)
    }

    /// Amounts of the rotations that make its values.
    pub(super) fn rotations<'a>(&'a self, paths: &'a Paths) -> impl Iterator<Item = u32> + 'a {
        let edges = self.values.iter().chain(&self.leaves);
        edges.map(|(&to, &from)| paths.difference(to, from))
    }
}

/// Per number of hops the values and leaves that are so far from the value itself.
#[derive(Default)]
struct Wanted(Vec<(BTreeSet<u32>, BTreeSet<u32>)>);

impl Wanted {
    fn at(&mut self, hops: u8) -> &mut (BTreeSet<u32>, BTreeSet<u32>) {
        let hops = usize::from(hops);
        if self.0.len() <= hops {
            self.0.resize_with(hops + 1, Default::default);
        }
        &mut self.0[hops]
    }

    fn values(&mut self, hops: u8) -> &mut BTreeSet<u32> {
        &mut self.at(hops).0
    }

    fn leaves(&mut self, hops: u8) -> &mut BTreeSet<u32> {
        &mut self.at(hops).1
    }
}

/// What each child is rotated from: a value that is there anyway, or else one that serves many.
fn parents(
    paths: &Paths,
    children: &[u32],
    (values, leaves): &(BTreeSet<u32>, BTreeSet<u32>),
) -> Vec<(u32, u32)> {
    let mut served: BTreeMap<u32, u32> = BTreeMap::new();
    for parent in children.iter().flat_map(|&child| paths.before(child)) {
        *served.entry(parent).or_default() += 1;
    }
    let mut chosen = values.clone();
    let mut found = Vec::with_capacity(children.len());
    for &child in children {
        let rank = |parent: &u32| {
            let near = paths.distance(paths.difference(child, *parent));
            let there = *parent == 0 || chosen.contains(parent);
            (
                there,
                served[parent],
                leaves.contains(parent),
                Reverse(near),
            )
        };
        if let Some(parent) = paths.before(child).max_by_key(rank) {
            chosen.insert(parent);
            found.push((child, parent));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_many_amounts_share_their_first_rotations() {
        let paths = Paths::new(&BTreeSet::from([1, 2, 8, 16]), 64);
        let leaves: BTreeSet<u32> = [0, 1, 2, 3, 24, 25, 26].into();
        let tree = Tree::new(&paths, &BTreeSet::new(), &leaves).unwrap();
        let values: Vec<u32> = tree.values.keys().copied().collect();
        // 3 is 1 or 2 and one more, 25 and 26 are 24 and one more.
        assert!(values.len() == 3 && values[2] == 24, "{values:?}");
        assert_eq!(tree.leaves[&24], 24);
        for (&leaf, &value) in &tree.leaves {
            assert!(value == 0 || tree.values.contains_key(&value), "{leaf}");
            assert!(paths.rotation(paths.difference(leaf, value)).is_some());
        }
    }

    #[test]
    fn what_is_rotated_again_has_a_step_of_its_own_that_comes_first() {
        let paths = Paths::new(&BTreeSet::from([1, 8]), 64);
        let values = BTreeSet::from([1, 8, 16, 17, 24]);
        let tree = Tree::new(&paths, &values, &BTreeSet::new()).unwrap();
        for together in [true, false] {
            let mut there = BTreeSet::from([0]);
            for (parent, amounts) in tree.steps(together) {
                assert!(there.contains(&parent));
                there.extend(amounts);
            }
            assert!(values.is_subset(&there));
        }
    }

    #[test]
    fn amounts_out_of_reach_have_no_tree() {
        let paths = Paths::new(&BTreeSet::from([2]), 64);
        assert!(Tree::new(&paths, &BTreeSet::from([3]), &BTreeSet::new()).is_none());
    }
}
