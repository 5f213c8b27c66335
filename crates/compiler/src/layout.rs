//! Pass: where every element of every variable lies in the slots.
//!
//! A layout says for each slot of each ciphertext whether it holds an element, zero, or garbage. An
//! affine stage is given by an [`assignment::Assignment`]: which slot accumulates (a part of) which
//! row, and how partial sums are folded. Every non-zero weight is then put on one diagonal, and the
//! layout of the result follows by computation, so that any assignment is correct and only its cost
//! differs. Garbage is never read: the zeros of the next stage's diagonals remove it.

pub(crate) mod assignment;
pub(crate) mod bsgs;
pub(crate) mod candidates;
pub(crate) mod matching;
pub(crate) mod search;
pub(crate) mod windows;

use std::hash::{Hash, Hasher};

/// The slot holds zero.
pub(crate) const ZERO: u32 = u32::MAX;
/// The slot holds a value that nobody may read.
pub(crate) const GARBAGE: u32 = u32::MAX - 1;

/// How images lie inside a ciphertext; only a hint for candidates, never relied upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Grid {
    /// Slots from one image row of the finest grid to the next.
    pub(crate) row: usize,
    /// Rows of the finest grid between neighbouring elements.
    pub(crate) gap_y: usize,
    /// Columns of the finest grid between neighbouring elements.
    pub(crate) gap_x: usize,
    /// Slots from one block of channels to the next.
    pub(crate) span: usize,
    /// Whether the next stage's windows are already gathered (its stride is spent).
    pub(crate) gathered: bool,
}

impl Grid {
    /// Vectors: one element per block.
    pub(crate) const VECTOR: Grid = Grid {
        row: 1,
        gap_y: 1,
        gap_x: 1,
        span: 1,
        gathered: false,
    };
}

/// The layout of one variable.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Per ciphertext and slot: element, [`ZERO`] or [`GARBAGE`].
    pub(crate) cells: Vec<Vec<u32>>,
    /// Smallest power of two under which every ciphertext is periodic.
    pub(crate) period: usize,
    /// Per ciphertext: the largest power of two such that aligned blocks of so many slots hold one
    /// thing each.
    pub(crate) stretch: Vec<usize>,
    /// Hint for candidates.
    pub(crate) grid: Grid,
    /// Slots of each element, by ciphertext and slot: `starts[e] .. starts[e + 1]`.
    starts: Vec<u32>,
    places: Vec<(u32, u32)>,
}

impl Layout {
    /// Cells may be given for one period only; they are repeated to `slots`.
    pub(crate) fn new(cells: Vec<Vec<u32>>, slots: usize, elements: usize, grid: Grid) -> Layout {
        let repeat = |c: Vec<u32>| c.iter().copied().cycle().take(slots).collect::<Vec<u32>>();
        let cells: Vec<Vec<u32>> = cells.into_iter().map(repeat).collect();
        let mut starts = vec![0u32; elements + 1];
        for &cell in cells.iter().flatten().filter(|&&c| (c as usize) < elements) {
            starts[cell as usize + 1] += 1;
        }
        for element in 0..elements {
            starts[element + 1] += starts[element];
        }
        let mut next = starts.clone();
        let mut places = vec![(0, 0); starts[elements] as usize];
        for (ciphertext, row) in cells.iter().enumerate() {
            for (slot, &cell) in row
                .iter()
                .enumerate()
                .filter(|&(_, &c)| (c as usize) < elements)
            {
                places[next[cell as usize] as usize] = (ciphertext as u32, slot as u32);
                next[cell as usize] += 1;
            }
        }
        let period = period(&cells);
        Layout {
            stretch: cells.iter().map(|row| stretch(row)).collect(),
            cells,
            period,
            grid,
            starts,
            places,
        }
    }

    /// All places of an element, by ciphertext and slot.
    pub(crate) fn places(&self, element: usize) -> &[(u32, u32)] {
        &self.places[self.starts[element] as usize..self.starts[element + 1] as usize]
    }

    /// Whether every element has a place.
    pub(crate) fn is_complete(&self) -> bool {
        self.starts.windows(2).all(|w| w[0] < w[1])
    }

    /// Whether no slot holds garbage.
    pub(crate) fn is_leak_free(&self) -> bool {
        self.cells.iter().flatten().all(|&c| c != GARBAGE)
    }

    pub(crate) fn ciphertexts(&self) -> usize {
        self.cells.len()
    }

    pub(crate) fn slots(&self) -> usize {
        self.cells[0].len()
    }

    pub(crate) fn elements(&self) -> usize {
        self.starts.len() - 1
    }

    /// The layout of a slotwise product.
    pub(crate) fn product(&self, other: &Layout) -> Layout {
        let cell = |(&a, &b): (&u32, &u32)| match (a, b) {
            (ZERO, _) | (_, ZERO) => ZERO,
            (a, b) if a == b => a,
            _ => GARBAGE,
        };
        let pair = |(a, b): (&Vec<u32>, &Vec<u32>)| a.iter().zip(b).map(cell).collect();
        let cells = self.cells.iter().zip(&other.cells).map(pair).collect();
        Layout::new(cells, self.slots(), self.elements(), self.grid)
    }

    /// One line: ciphertexts, period, places per element, garbage.
    pub(crate) fn describe(&self) -> String {
        let garbage = self
            .cells
            .iter()
            .flatten()
            .filter(|&&c| c == GARBAGE)
            .count();
        let copies = self.places.len() as f64 / self.elements().max(1) as f64;
        let Grid {
            row,
            gap_y,
            gap_x,
            span,
            ..
        } = self.grid;
        format!(
            "{} ct, period {}, {copies:.1} places/element, {garbage} garbage slots, grid row {row} \
             gap {gap_y}x{gap_x} span {span}",
            self.ciphertexts(),
            self.period,
        )
    }
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.cells == other.cells
    }
}

impl Eq for Layout {}

impl Hash for Layout {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.cells.hash(state);
    }
}

fn period(cells: &[Vec<u32>]) -> usize {
    let mut period = cells[0].len();
    while period > 1 && cells.iter().all(|row| halves_agree(&row[..period])) {
        period /= 2;
    }
    period
}

fn stretch(row: &[u32]) -> usize {
    let mut stretch = 1;
    let constant = |width: usize| {
        let mut blocks = row.chunks(width);
        blocks.all(|block| block.iter().all(|&cell| cell == block[0]))
    };
    while stretch < row.len() && constant(2 * stretch) {
        stretch *= 2;
    }
    stretch
}

fn halves_agree(row: &[u32]) -> bool {
    let (front, back) = row.split_at(row.len() / 2);
    front == back
}
