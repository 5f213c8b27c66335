//! Constants in the order in which the passes read them.

use super::{BLOCK, LENGTH_MIN, pass_stages};
use crate::kernel::ops::{NttTables, TwiddleTree};
use crate::kernel::{AlignedBuffer, portable};
use crate::modulus::Modulus;

/// Words of constants per block: 15 pairs and padding, then 14 pairs of eight.
pub(super) const BLOCK_WORDS: usize = 32 + 28 * 8;
/// log2 of [`BLOCK`].
const BLOCK_STAGES: u32 = BLOCK.trailing_zeros();

/// The tables of one transform.
pub(in super::super) fn tables(tree: &TwiddleTree) -> NttTables {
    let length = tree.forward.len();
    if length < LENGTH_MIN {
        return portable::ntt_tables(tree);
    }
    let q = tree.modulus;
    let (mut forward, mut inverse) = (Vec::new(), Vec::new());
    let mut node = 1;
    for &stages in pass_stages(length) {
        for root in node..2 * node {
            for at in subtree(&[root], stages) {
                forward.extend(pair(q, tree.forward[at]));
            }
            forward.extend([0; 2]);
        }
        node <<= stages;
    }
    block_constants(&mut forward, q, &tree.forward);
    block_constants(&mut inverse, q, &tree.inverse);
    for &stages in pass_stages(length).iter().rev() {
        node >>= stages;
        for root in node..2 * node {
            let scale = if root == 1 { tree.scale } else { 1 };
            for at in subtree(&[root], stages) {
                let scale = if at == 1 { tree.scale } else { 1 };
                inverse.extend(pair(q, q.mul(tree.inverse[at], scale)));
            }
            inverse.extend(pair(q, scale));
        }
    }
    NttTables {
        forward: AlignedBuffer::from_slice(&forward),
        inverse: AlignedBuffer::from_slice(&inverse),
        lazy_offsets: lazy_offsets(q, length),
    }
}

/// The nodes of `stages` levels below and including `roots`, level after level.
fn subtree(roots: &[usize], stages: u32) -> Vec<usize> {
    let below = |level| {
        roots
            .iter()
            .flat_map(move |root| (root << level)..((root + 1) << level))
    };
    (0..stages).flat_map(below).collect()
}

fn block_constants(out: &mut Vec<u64>, q: Modulus, constants: &[u64]) {
    let blocks = constants.len() / BLOCK;
    for root in blocks..2 * blocks {
        for at in subtree(&[root], 4) {
            out.extend(pair(q, constants[at]));
        }
        out.extend([0; 2]);
        // After the transposition of each half lane r belongs to the r-th of its eight factors.
        let lane_nodes = |lane| subtree(&[16 * root + lane, 16 * root + 8 + lane], 3);
        let lanes: Vec<Vec<usize>> = (0..8).map(lane_nodes).collect();
        for place in 0..14 {
            let pairs = lanes.iter().map(|nodes| pair(q, constants[nodes[place]]));
            let (first, second): (Vec<u64>, Vec<u64>) = pairs.map(<(u64, u64)>::from).unzip();
            out.extend(first.iter().chain(&second));
        }
    }
}

/// w and floor(w·2^52 / q).
fn pair(q: Modulus, w: u64) -> [u64; 2] {
    let multiplier = q.multiplier(w);
    [multiplier.value(), multiplier.quotient() >> 12]
}

/// What a lazy forward transform adds to keep values positive: where it begins, and where its
/// blocks begin if values are reduced there. `None` if 52 bits have no room for that.
fn lazy_offsets(q: Modulus, length: usize) -> Option<[u64; 2]> {
    // Inputs below 4q, and 2q more by the fold.
    let (first, stages) = (6 * q.value(), length.trailing_zeros());
    if let Some(offset) = lazy_offset(q.value(), first, stages) {
        return Some([offset, 0]);
    }
    let begin = lazy_offset(q.value(), first, stages - BLOCK_STAGES)?;
    Some([begin, lazy_offset(q.value(), 2 * q.value(), BLOCK_STAGES)?])
}

/// The sum of bounds of the products of all stages: what is taken away from a value at most.
///
/// Bounds: values start below `first` plus the offset; the product of y < 2^52 is below q·(1 +
///     y/2^52) < 2q, so a bound of y that follows from a bound of the offset gives a better one
fn lazy_offset(q: u64, first: u64, stages: u32) -> Option<u64> {
    const REFINEMENTS: usize = 4;
    let (mut offset, mut bound) = (2 * q * u64::from(stages), 0);
    for _ in 0..REFINEMENTS {
        bound = first + offset;
        offset = 0;
        for _ in 0..stages {
            let y = u128::from(bound.min(1 << 52));
            let product = q + ((y * u128::from(q)) >> 52) as u64 + 1;
            (bound, offset) = (bound + product, offset + product);
        }
    }
    // A multiple of q changes no residue.
    (bound + q < 1 << 52).then(|| offset.next_multiple_of(q))
}
