//! Sums over windows (pools) by rotations alone.
//!
//! Diagonals of ones would pack the sums as well, for a level of precision; rotations leave them
//! where they are, with garbage in between, for none.

use super::{GARBAGE, Grid, Layout, ZERO, candidates};
use crate::normalise::AffineMap;
use crate::sparse::Sparse;

/// The sums `y(p) = x(p) + sum_o x(p + o)` of every slot, some of which are the rows of a map.
#[derive(Debug, Clone)]
pub(crate) struct WindowSum {
    /// Rotations that are added to the operand.
    pub(crate) offsets: Vec<u32>,
    /// Where the rows are; garbage where a sum is none of them.
    pub(crate) layout: Layout,
}

impl WindowSum {
    /// The rotations that give every row of `map` somewhere, if there are such.
    ///
    /// `input` and `output` are the shapes of operand and result.
    pub(crate) fn find(
        map: &AffineMap,
        from: &Layout,
        input: &[usize],
        output: &[usize],
    ) -> Option<WindowSum> {
        let matrix = map.window_sum()?;
        let offsets = offsets(matrix, from)?;
        let rows = RowsByColumn::new(matrix);
        let sum = |cells: &Vec<u32>| {
            let cell = |slot| rows.sum(window(cells, slot, &offsets));
            (0..cells.len()).map(cell).collect()
        };
        let cells = from.cells.iter().map(sum).collect();
        let grid = grid(matrix, from.grid, input, output);
        let layout = Layout::new(cells, from.slots(), matrix.rows(), grid);
        layout
            .is_complete()
            .then_some(WindowSum { offsets, layout })
    }
}

/// How far the elements of the first row lie from the first of them.
fn offsets(matrix: &Sparse, from: &Layout) -> Option<Vec<u32>> {
    let place = |(column, _): (usize, f32)| from.places(column).first().copied();
    let mut places: Vec<(u32, u32)> = matrix.row(0).map(place).collect::<Option<_>>()?;
    places.sort_unstable();
    let (&(ciphertext, first), others) = places.split_first()?;
    let offset = |&(other, slot): &(u32, u32)| (other == ciphertext).then_some(slot - first);
    others.iter().map(offset).collect()
}

fn window<'a>(cells: &'a [u32], slot: usize, offsets: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
    let offsets = std::iter::once(0).chain(offsets.iter().copied());
    offsets.map(move |offset| cells[(slot + offset as usize) % cells.len()])
}

/// The elements are rows of the operand's grid, `stride` apart.
fn grid(matrix: &Sparse, from: Grid, input: &[usize], output: &[usize]) -> Grid {
    let (down, right) = candidates::strides(matrix, input, output);
    Grid {
        gap_y: from.gap_y * down,
        gap_x: from.gap_x * right,
        gathered: false,
        ..from
    }
}

/// Finds the row that sums given elements.
struct RowsByColumn<'a> {
    matrix: &'a Sparse,
    /// Per column: the row of which it is the first, or none.
    starting: Vec<Option<u32>>,
}

impl<'a> RowsByColumn<'a> {
    fn new(matrix: &'a Sparse) -> Self {
        let mut starting = vec![None; matrix.columns];
        for row in 0..matrix.rows() {
            if let Some((column, _)) = matrix.row(row).next() {
                starting[column] = Some(row as u32);
            }
        }
        Self { matrix, starting }
    }

    /// The row that is the sum of these cells, zero, or garbage.
    fn sum(&self, cells: impl Iterator<Item = u32>) -> u32 {
        let mut elements: Vec<u32> = cells.filter(|&cell| cell != ZERO).collect();
        elements.sort_unstable();
        let Some(&first) = elements.first() else {
            return ZERO;
        };
        let Some(&Some(row)) = self.starting.get(first as usize) else {
            return GARBAGE;
        };
        let columns = self
            .matrix
            .row(row as usize)
            .map(|(column, _)| column as u32);
        match columns.eq(elements) {
            true => row,
            false => GARBAGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SLOTS: usize = 256;

    /// Sums over windows of `size`, next to one another, of `channels` images of `side` by `side`.
    fn pool(channels: usize, side: usize, size: usize) -> AffineMap {
        let out = side / size;
        let mut matrix = Sparse::new(channels * side * side);
        for row in 0..channels * out * out {
            let (c, y, x) = (row / (out * out), row / out % out, row % out);
            let cell = |i| {
                let (dy, dx) = (i / size, i % size);
                let column = (c * side + y * size + dy) * side + x * size + dx;
                (column, 1.0)
            };
            matrix.push_row((0..size * size).map(cell));
        }
        let bias = vec![0.0; matrix.rows()];
        let terms = vec![(0, Arc::new(matrix))];
        AffineMap { terms, bias }
    }

    /// Images on a grid with gaps, from one slot on, garbage everywhere else.
    fn images(channels: usize, side: usize, grid: Grid, first: usize) -> Layout {
        let mut cells = vec![vec![GARBAGE; SLOTS]];
        for element in 0..channels * side * side {
            let (c, y, x) = (
                element / (side * side),
                element / side % side,
                element % side,
            );
            let inside = y * grid.gap_y * grid.row + x * grid.gap_x;
            cells[0][(first + c * grid.span + inside) % SLOTS] = element as u32;
        }
        Layout::new(cells, SLOTS, channels * side * side, grid)
    }

    fn found(
        map: &AffineMap,
        from: &Layout,
        [channels, side, out]: [usize; 3],
    ) -> Option<WindowSum> {
        WindowSum::find(map, from, &[channels, side, side], &[channels, out, out])
    }

    #[test]
    fn every_slot_of_a_row_sums_its_elements_and_nothing_else() {
        let grid = Grid {
            row: 16,
            gap_y: 2,
            gap_x: 2,
            span: 128,
            gathered: false,
        };
        for (size, first) in [(2, 0), (2, 3), (4, 0)] {
            let (map, from) = (pool(2, 4, size), images(2, 4, grid, first));
            let sum = found(&map, &from, [2, 4, 4 / size]).unwrap();
            assert_eq!(sum.offsets.len(), size * size - 1);
            assert_eq!(
                (sum.layout.grid.gap_y, sum.layout.grid.gap_x),
                (2 * size, 2 * size)
            );
            let mut rows = 0;
            for (slot, &cell) in sum.layout.cells[0].iter().enumerate() {
                let mut summed: Vec<u32> = window(&from.cells[0], slot, &sum.offsets).collect();
                summed.sort_unstable();
                let matrix = &map.terms[0].1;
                let is = |row: usize| matrix.row(row).map(|(c, _)| c as u32).eq(summed.clone());
                assert_eq!((cell as usize) < matrix.rows(), (0..matrix.rows()).any(is));
                if (cell as usize) < matrix.rows() {
                    assert!(is(cell as usize));
                    rows += 1;
                }
            }
            assert_eq!(rows, map.bias.len());
        }
    }

    #[test]
    fn elements_that_no_rotation_brings_together_are_not_summed() {
        let grid = Grid {
            row: 4,
            span: 16,
            ..Grid::VECTOR
        };
        let map = pool(1, 4, 2);
        let mut cells = images(1, 4, grid, 0).cells;
        cells[0].swap(5, 15);
        let from = Layout::new(cells, SLOTS, 16, grid);
        assert!(found(&map, &from, [1, 4, 2]).is_none());
        let mut weighted = pool(1, 4, 2);
        let (_, matrix) = &mut weighted.terms[0];
        Arc::make_mut(matrix).weight[3] = 2.0;
        assert!(found(&weighted, &images(1, 4, grid, 0), [1, 4, 2]).is_none());
    }
}
