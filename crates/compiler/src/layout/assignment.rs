//! Which slot accumulates which row of an affine map, and how partial sums are folded.

use super::{GARBAGE, Grid, Layout, ZERO};

/// No row accumulates in the slot.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// Which of several possible diagonals a weight goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    /// The smallest rotation.
    Nonnegative,
    /// The smallest multiple of the span, where there is one.
    Multiple(usize),
}

/// Output side of an affine stage.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    /// For dumps.
    pub(crate) name: String,
    /// Per ciphertext and slot modulo [`Assignment::modulus`]: row or [`NO_ROW`].
    pub(crate) rows: Vec<Vec<u32>>,
    /// Fold stages, as in the program.
    pub(crate) folds: Vec<Vec<u32>>,
    /// Slots that are told apart: all, or the common period of the operands (the result then has it
    /// too).
    pub(crate) modulus: usize,
    /// Choice among diagonals.
    pub(crate) rank: Rank,
    /// Hint for the next stage.
    pub(crate) grid: Grid,
}

impl Assignment {
    /// One row per slot, in order, over as many ciphertexts as needed: always possible.
    pub(crate) fn sequential(elements: usize, slots: usize, grid: Grid) -> Assignment {
        let ciphertexts = elements.div_ceil(slots).max(1);
        let row = |e: usize| if e < elements { e as u32 } else { NO_ROW };
        let rows = (0..ciphertexts).map(|c| (0..slots).map(|s| row(c * slots + s)).collect());
        Assignment {
            name: "sequential".into(),
            rows: rows.collect(),
            folds: Vec::new(),
            modulus: slots,
            rank: Rank::Nonnegative,
            grid,
        }
    }

    /// The rows of an existing layout, computed directly in each of its slots (once per element).
    pub(crate) fn like(layout: &Layout) -> Assignment {
        let mut rows = vec![vec![NO_ROW; layout.slots()]; layout.ciphertexts()];
        for element in 0..layout.elements() {
            if let Some(&(ciphertext, slot)) = layout.places(element).first() {
                rows[ciphertext as usize][slot as usize] = element as u32;
            }
        }
        Assignment {
            name: "like".into(),
            rows,
            folds: Vec::new(),
            modulus: layout.slots(),
            rank: Rank::Nonnegative,
            grid: layout.grid,
        }
    }

    /// The layout after folding.
    ///
    /// Math: slot `p` then holds the sum of the pre-fold slots `p + o` over all subset sums `o` of
    ///     the folds. It is the row's value iff these are all slots of that row, each once, and
    ///     otherwise slots without a row.
    pub(crate) fn layout(&self, slots: usize, elements: usize) -> Layout {
        let mut parts = vec![0u32; elements];
        for &row in self.rows.iter().flatten().filter(|&&r| r != NO_ROW) {
            parts[row as usize] += 1;
        }
        let distinct = self.offsets_are_distinct();
        let fold = |rows: &Vec<u32>| self.fold_cells(rows, &parts, distinct);
        let cells = self.rows.iter().map(fold).collect();
        Layout::new(cells, slots, elements, self.grid)
    }

    fn offsets_are_distinct(&self) -> bool {
        let mut offsets = vec![0usize];
        for stage in &self.folds {
            let with = |&o: &usize| {
                let steps = std::iter::once(0).chain(stage.iter().map(|&s| s as usize));
                steps
                    .map(move |s| (o + s) % self.modulus)
                    .collect::<Vec<_>>()
            };
            offsets = offsets.iter().flat_map(with).collect();
        }
        let count = offsets.len();
        offsets.sort_unstable();
        offsets.dedup();
        offsets.len() == count
    }

    fn fold_cells(&self, rows: &[u32], parts: &[u32], distinct: bool) -> Vec<u32> {
        let start = |&row: &u32| {
            if row == NO_ROW {
                Sum::Zero
            } else {
                Sum::Row { row, count: 1 }
            }
        };
        let mut sums: Vec<Sum> = rows.iter().map(start).collect();
        for stage in &self.folds {
            let before = sums.clone();
            for &step in stage {
                for (slot, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.plus(before[(slot + step as usize) % self.modulus]);
                }
            }
        }
        let cell = |sum: Sum| match sum {
            Sum::Zero => ZERO,
            Sum::Row { row, count } if distinct && count == parts[row as usize] => row,
            _ => GARBAGE,
        };
        sums.into_iter().map(cell).collect()
    }
}

/// What a slot holds while folding.
#[derive(Debug, Clone, Copy)]
enum Sum {
    Zero,
    Row { row: u32, count: u32 },
    Mixed,
}

impl Sum {
    fn plus(self, other: Sum) -> Sum {
        match (self, other) {
            (Sum::Zero, sum) | (sum, Sum::Zero) => sum,
            (
                Sum::Row { row, count },
                Sum::Row {
                    row: same,
                    count: more,
                },
            ) if row == same => Sum::Row {
                row,
                count: count + more,
            },
            _ => Sum::Mixed,
        }
    }
}
