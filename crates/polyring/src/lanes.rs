//! Work on a few positions of very many polynomials: integer matrices over polynomials in
//! evaluation form.
//!
//! With one polynomial per network element, a linear layer is one matrix of small integers for all
//! N positions. Whole polynomials would pass through memory once per layer; [`Lanes`] works on
//! [`TILE`] positions of all of them, so that several layers run in the nearest caches.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::kernel::{Kernel, Panel, matrix_panel};
use crate::modulus::Modulus;

/// Positions handled at once: four 512-bit registers.
pub const TILE: usize = 32;

/// Rows that share one pass over the columns: with [`TILE`] positions, 20 sums in registers.
pub(crate) const PANEL_ROWS: usize = 5;

/// A sparse integer matrix, laid out for [`Lanes::matrix`].
///
/// Rows with the same columns are kept together (all maps of a convolution at one position); equal
/// weight panels (one map at many positions) are stored once.
#[derive(Debug, Clone)]
pub struct ScalarMatrix {
    rows: usize,
    columns: usize,
    blocks: Vec<Block>,
    /// per panel the weights plus `offset`, by column and then row
    panels: Vec<Vec<u64>>,
    /// log2 of what is added to every weight so that none is negative
    offset_bits: u32,
    /// max_r Σ_c |w_rc|
    norm: u64,
}

/// Rows of equal column sets.
#[derive(Debug, Clone)]
struct Block {
    columns: Vec<u32>,
    /// per panel its rows and its place in `ScalarMatrix::panels`
    panels: Vec<(Vec<u32>, usize)>,
}

impl ScalarMatrix {
    /// The matrix whose row r has the entries `rows[r]`, pairs of column and weight; columns are
    /// strictly ascending.
    ///
    /// Panics if a column is out of range or out of order: both are bugs of the caller.
    pub fn new(columns: usize, rows: &[Vec<(u32, i32)>]) -> Self {
        let entries = || rows.iter().flatten();
        let largest = entries().map(|&(_, w)| w.unsigned_abs()).max().unwrap_or(0);
        let mut matrix = Self {
            rows: rows.len(),
            columns,
            blocks: Vec::new(),
            panels: Vec::new(),
            offset_bits: u32::BITS - largest.leading_zeros(),
            norm: rows.iter().map(|row| row_norm(row)).max().unwrap_or(0),
        };
        let mut known = HashMap::new();
        for (columns, members) in group_by_columns(columns, rows) {
            let panels = members.chunks(PANEL_ROWS).map(|members| {
                let weights = matrix.panel(&columns, members, rows);
                let next = known.len();
                (members.to_vec(), *known.entry(weights).or_insert(next))
            });
            let panels = panels.collect();
            matrix.blocks.push(Block { columns, panels });
        }
        matrix.panels = vec![Vec::new(); known.len()];
        known
            .into_iter()
            .for_each(|(weights, at)| matrix.panels[at] = weights);
        matrix
    }

    /// Number of rows: outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of the laid out weights.
    pub fn memory_bytes(&self) -> usize {
        let weights: usize = self.panels.iter().map(Vec::len).sum();
        let columns: usize = self.blocks.iter().map(|block| block.columns.len()).sum();
        weights * size_of::<u64>() + columns * size_of::<u32>()
    }

    /// Multiplications for one position, sums over the shared columns not counted.
    pub fn products(&self) -> usize {
        let rows = |block: &Block| {
            block
                .panels
                .iter()
                .map(|(rows, _)| rows.len())
                .sum::<usize>()
        };
        self.blocks
            .iter()
            .map(|block| block.columns.len() * rows(block))
            .sum()
    }

    /// Whether one 52-bit product per term is exact modulo `q` and the sums fit a 64-bit word.
    pub fn fits_words(&self, q: Modulus) -> bool {
        let sum_bits = u64::BITS - self.norm.leading_zeros() + q.bits();
        q.bits() >= 14 && self.offset_bits + 1 + q.bits() <= 52 && sum_bits < 62
    }

    fn panel(&self, columns: &[u32], members: &[u32], rows: &[Vec<(u32, i32)>]) -> Vec<u64> {
        let offset = 1i64 << self.offset_bits;
        let mut weights = vec![offset as u64; columns.len() * members.len()];
        for (i, &row) in members.iter().enumerate() {
            let mut at = 0;
            for &(column, weight) in &rows[row as usize] {
                at += columns[at..].iter().position(|&c| c == column).unwrap_or(0);
                weights[at * members.len() + i] = (i64::from(weight) + offset) as u64;
            }
        }
        weights
    }
}

fn row_norm(row: &[(u32, i32)]) -> u64 {
    row.iter().map(|&(_, w)| u64::from(w.unsigned_abs())).sum()
}

/// Rows grouped by their sets of columns; one group of all columns where that costs no more
/// products.
fn group_by_columns(columns: usize, rows: &[Vec<(u32, i32)>]) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut groups: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
    let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
    for (row, entries) in rows.iter().enumerate() {
        let set: Vec<u32> = entries.iter().map(|&(column, _)| column).collect();
        assert!(
            set.is_sorted_by(|a, b| a < b),
            "columns of row {row} are not ascending"
        );
        assert!(
            set.last().is_none_or(|&c| (c as usize) < columns),
            "column of row {row} is too large"
        );
        let at = *known.entry(set).or_insert_with_key(|set| {
            groups.push((set.clone(), Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(row as u32);
    }
    // A panel costs a load per column next to one product per column and row.
    let cost = |columns: usize, rows: usize| columns * (rows + rows.div_ceil(PANEL_ROWS));
    let grouped: usize = groups.iter().map(|(c, r)| cost(c.len(), r.len())).sum();
    if groups.len() > 1 && grouped >= cost(columns, rows.len()) {
        return vec![(
            (0..columns as u32).collect(),
            (0..rows.len() as u32).collect(),
        )];
    }
    groups
}

/// Arithmetic modulo one prime on any number of tiles.
#[derive(Debug, Clone, Copy)]
pub struct Lanes {
    modulus: Modulus,
    kernel: Kernel,
}

impl Lanes {
    /// Arithmetic modulo `modulus` on `kernel`.
    pub fn new(modulus: Modulus, kernel: Kernel) -> Self {
        Self { modulus, kernel }
    }

    /// The prime.
    pub fn modulus(&self) -> Modulus {
        self.modulus
    }

    /// out_r = Σ_c w_rc·xs_c at each position.
    ///
    /// Bounds: in and out values in [0, q); any weights, fastest if [`ScalarMatrix::fits_words`]
    /// Timing: independent of the values
    ///
    /// Panics if `outs` or `xs` do not have one tile per row or column.
    pub fn matrix(&self, matrix: &ScalarMatrix, outs: &mut [[u64; TILE]], xs: &[&[u64; TILE]]) {
        assert_eq!(outs.len(), matrix.rows, "one tile per row");
        assert_eq!(xs.len(), matrix.columns, "one tile per column");
        let fast = matrix.fits_words(self.modulus);
        let mut gathered: Vec<&[u64; TILE]> = Vec::new();
        for block in &matrix.blocks {
            gathered.clear();
            gathered.extend(block.columns.iter().map(|&column| xs[column as usize]));
            for (rows, panel) in &block.panels {
                let panel = Panel {
                    rows,
                    weights: &matrix.panels[*panel],
                    offset_bits: matrix.offset_bits,
                    norm: matrix.norm,
                };
                matrix_panel(self.kernel, self.modulus, fast, panel, outs, &gathered);
            }
        }
    }

    /// x += w
    pub fn add_constant(&self, x: &mut [u64; TILE], w: u64) {
        self.kernel.ops().add_assign(self.modulus, x, &[w; TILE]);
    }

    /// x += y
    pub fn add_assign(&self, x: &mut [u64], y: &[u64]) {
        assert_eq!(x.len(), y.len(), "lengths differ");
        self.kernel.ops().add_assign(self.modulus, x, y);
    }

    /// acc += w·x
    pub fn multiply_add(&self, acc: &mut [u64], x: &[u64], w: u64) {
        assert_eq!(acc.len(), x.len(), "lengths differ");
        let w = self.modulus.multiplier(w);
        self.kernel
            .ops()
            .mul_scalar_add_assign(self.modulus, acc, x, w);
    }

    /// outs = (a_0·b_0, a_0·b_1 + a_1·b_0, a_1·b_1)
    pub fn tensor(&self, outs: [&mut [u64]; 3], a: [&[u64]; 2], b: [&[u64]; 2]) {
        let len = outs[0].len();
        let lengths = outs
            .iter()
            .map(|out| out.len())
            .chain(a.iter().chain(&b).map(|x| x.len()));
        assert!(lengths.into_iter().all(|l| l == len), "lengths differ");
        self.kernel.ops().tensor(self.modulus, outs, &[a], &[b]);
    }
}
