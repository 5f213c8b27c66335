//! Puts every weight on one diagonal.

use super::Layout;
use super::assignment::{Assignment, NO_ROW, Rank};
use crate::sparse::Sparse;

/// Weights looked at when a candidate is only compared with others.
const SAMPLED_WEIGHTS: usize = 60_000;

/// One operand of an affine stage.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) matrix: &'a Sparse,
}

/// The place of one weight: `out[output][slot] += weight * in[operand][ciphertext][(slot + step)
/// mod modulus]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) output: u32,
    pub(crate) operand: u32,
    pub(crate) ciphertext: u32,
    pub(crate) step: u32,
    pub(crate) slot: u32,
    pub(crate) weight: f32,
}

/// Visits the place of every weight. `sampled`: only some rows, for estimates.
/// Returns `false` if some row or element has no place.
pub(crate) fn place(
    assignment: &Assignment,
    operands: &[Operand<'_>],
    sampled: bool,
    mut visit: impl FnMut(Placed),
) -> bool {
    let rows = operands.first().map_or(0, |o| o.matrix.rows());
    let slots_of_rows = slots_by_row(assignment, rows);
    let nonzeros: usize = operands.iter().map(|o| o.matrix.nonzeros()).sum();
    let every = if sampled {
        (nonzeros / SAMPLED_WEIGHTS).max(1) as u32
    } else {
        1
    };
    for row in 0..rows {
        if every > 1 && !scatter(row as u32).is_multiple_of(every) {
            continue;
        }
        for (index, operand) in operands.iter().enumerate() {
            for (column, weight) in operand.matrix.row(row) {
                let sources = operand.layout.places(column);
                let stretch = &operand.layout.stretch;
                let targets = slots_of_rows.of(row);
                let Some(mut best) = nearest(assignment, targets, sources, stretch) else {
                    return false;
                };
                best.operand = index as u32;
                best.weight = weight;
                visit(best);
            }
        }
    }
    true
}

/// Spreads row numbers, so that sampled rows are not all of one residue.
fn scatter(row: u32) -> u32 {
    (row.wrapping_mul(0x9E37_79B9) ^ 0x5bd1_e995).wrapping_mul(0x85EB_CA6B) >> 8
}

struct SlotsByRow {
    starts: Vec<u32>,
    places: Vec<(u32, u32)>,
}

impl SlotsByRow {
    fn of(&self, row: usize) -> &[(u32, u32)] {
        &self.places[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

fn slots_by_row(assignment: &Assignment, rows: usize) -> SlotsByRow {
    let mut starts = vec![0u32; rows + 1];
    for &row in assignment.rows.iter().flatten().filter(|&&r| r != NO_ROW) {
        starts[row as usize + 1] += 1;
    }
    for row in 0..rows {
        starts[row + 1] += starts[row];
    }
    let mut next = starts.clone();
    let mut places = vec![(0, 0); starts[rows] as usize];
    for (ciphertext, slots) in assignment.rows.iter().enumerate() {
        for (slot, &row) in slots.iter().enumerate().filter(|&(_, &r)| r != NO_ROW) {
            places[next[row as usize] as usize] = (ciphertext as u32, slot as u32);
            next[row as usize] += 1;
        }
    }
    SlotsByRow { starts, places }
}

/// The best pair of an accumulating slot and a source slot. Where elements are stretched over
/// blocks of slots (by ciphertext), rotations by whole blocks serve most weights.
fn nearest(
    assignment: &Assignment,
    targets: &[(u32, u32)],
    sources: &[(u32, u32)],
    stretch: &[usize],
) -> Option<Placed> {
    let modulus = assignment.modulus as u32;
    let mut best: Option<(u64, Placed)> = None;
    let mut left = sources;
    while let Some(&(ciphertext, first)) = left.first() {
        let width = stretch[ciphertext as usize];
        left = &left[width..];
        if first >= modulus {
            continue;
        }
        let mut consider = |&(output, slot): &(u32, u32)| {
            let source = first + slot % width as u32;
            let step = (source + modulus - slot) % modulus;
            let key = key(assignment.rank, step);
            if best.is_none_or(|(least, _)| key < least) {
                let placed = Placed {
                    output,
                    operand: 0,
                    ciphertext,
                    step,
                    slot,
                    weight: 0.0,
                };
                best = Some((key, placed));
            }
        };
        match assignment.rank {
            Rank::Nonnegative if width == 1 && targets.len() > 4 && same_output(targets) => {
                // The smallest rotation comes from the last target at or before the source,
                // cyclically.
                let after = targets.partition_point(|&(_, slot)| slot <= first);
                consider(&targets[(after + targets.len() - 1) % targets.len()]);
            }
            _ => targets.iter().for_each(consider),
        }
    }
    best.map(|(_, placed)| placed)
}

fn same_output(targets: &[(u32, u32)]) -> bool {
    targets[0].0 == targets[targets.len() - 1].0
}

fn key(rank: Rank, step: u32) -> u64 {
    match rank {
        Rank::Nonnegative => step.into(),
        Rank::Multiple(span) => {
            let odd = u64::from(!(step as usize).is_multiple_of(span));
            odd << 32 | u64::from(step)
        }
    }
}
