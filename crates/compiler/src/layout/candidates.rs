//! Layouts worth trying: for the query, and for the result of an affine stage.

use std::collections::BTreeMap;

use super::assignment::{Assignment, NO_ROW, Rank};
use super::{Grid, Layout, ZERO};
use crate::sparse::Sparse;

/// Most query ciphertexts of a gathered first layer, as a multiple of the plain layout's.
const GATHER_FACTOR: usize = 2;

/// Extents of a variable as `[channels, height, width]`.
pub(crate) fn extents(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [] => [1, 1, 1],
        [n] => [n, 1, 1],
        [c, h] => [c, 1, h],
        [c, h, w] => [c, h, w],
        [.., h, w] => [shape[..shape.len() - 2].iter().product(), h, w],
    }
}

/// Candidates for the query; `first` are the maps that read it, with the shapes of their results.
pub(crate) fn inputs(shape: &[usize], first: &[(&Sparse, &[usize])], slots: usize) -> Vec<Layout> {
    let plain = plain_input(shape, slots);
    let limit = GATHER_FACTOR * plain.ciphertexts().max(1);
    let mut layouts = vec![plain];
    let elements = shape.iter().product();
    if first
        .iter()
        .all(|(_, output)| extents(output)[1..] == [1, 1])
    {
        layouts.extend(stretched_inputs(elements, slots));
    }
    for (matrix, output) in first {
        if let Some(layout) = gathered_input(shape, matrix, output, slots, limit) {
            layouts.push(layout);
        }
    }
    layouts
}

/// Channels in blocks of a power of two, repeated to fill the ciphertext.
fn plain_input(shape: &[usize], slots: usize) -> Layout {
    let [channels, height, width] = extents(shape);
    let elements = channels * height * width;
    let span = (height * width).next_power_of_two();
    if span > slots || (channels * span > slots && elements <= slots) {
        let grid = Grid {
            row: width,
            span: height * width,
            ..Grid::VECTOR
        };
        return blocks(
            elements,
            elements.next_power_of_two().min(slots),
            slots,
            grid,
            |e| e,
        );
    }
    let grid = Grid {
        row: width,
        span,
        ..Grid::VECTOR
    };
    let period = (channels.next_power_of_two() * span).min(slots);
    let plane = height * width;
    blocks(elements, period, slots, grid, |e| {
        e / plane * span + e % plane
    })
}

/// Vectors for a dense first layer: every element fills a block of slots, so that a rotation by a
/// block reaches the next element. As many full ciphertexts as there are, what is left in one
/// more; and, where that is not nearly a power of two, its largest power of two in one and the
/// rest in another, so that diagonals have no zeros: 2304 = 2048 + 256.
fn stretched_inputs(elements: usize, slots: usize) -> Vec<Layout> {
    let full = elements / slots;
    let left = elements % slots;
    let part = |first: usize, count: usize| {
        let width = slots / count.next_power_of_two();
        let element = |slot: usize| match slot / width {
            e if e < count => (first + e) as u32,
            _ => ZERO,
        };
        (0..slots).map(element).collect::<Vec<u32>>()
    };
    let layout = |cells| Layout::new(cells, slots, elements, Grid::VECTOR);
    let first: Vec<Vec<u32>> = (0..full).map(|i| part(i * slots, slots)).collect();
    let with = |rest: &[Vec<u32>]| layout([&first[..], rest].concat());
    if left == 0 {
        return vec![with(&[])];
    }
    let done = full * slots;
    let mut layouts = vec![with(&[part(done, left)])];
    let whole = left.next_power_of_two();
    let (front, rest) = (whole / 2, left.saturating_sub(whole / 2));
    if rest > 0 && front + rest.next_power_of_two() < whole {
        layouts.push(with(&[part(done, front), part(done + front, rest)]));
    }
    layouts
}

/// Elements at `place(e)`, cut into ciphertexts of `period` slots.
fn blocks(
    elements: usize,
    period: usize,
    slots: usize,
    grid: Grid,
    place: impl Fn(usize) -> usize,
) -> Layout {
    let ciphertexts = (0..elements)
        .map(|e| place(e) / period + 1)
        .max()
        .unwrap_or(1);
    let mut cells = vec![vec![ZERO; period]; ciphertexts];
    for element in 0..elements {
        let at = place(element);
        cells[at / period][at % period] = element as u32;
    }
    Layout::new(cells, slots, elements, grid)
}

/// Every window offset of the first layer in a block of its own: block `o`, position `p` holds the
/// input element that output position `p` multiplies with kernel cell `o`.
fn gathered_input(
    shape: &[usize],
    matrix: &Sparse,
    output: &[usize],
    slots: usize,
    max_ciphertexts: usize,
) -> Option<Layout> {
    let [channels, height, width] = extents(shape);
    let [_, out_h, out_w] = extents(output);
    let plane = out_h * out_w;
    let span = plane.next_power_of_two();
    if plane < 4 || span > slots {
        return None;
    }
    let stride = strides(matrix, shape, output);
    let blocks_per_ciphertext = slots / span;
    let mut offsets: BTreeMap<(usize, i64, i64), usize> = BTreeMap::new();
    for row in 0..matrix.rows() {
        let (y, x) = (row % plane / out_w, row % out_w);
        for (column, _) in matrix.row(row) {
            let (iy, ix) = (column / width % height, column % width);
            let offset = (
                column / (height * width),
                iy as i64 - (y * stride.0) as i64,
                ix as i64 - (x * stride.1) as i64,
            );
            offsets.insert(offset, 0);
            if offsets.len() > blocks_per_ciphertext * max_ciphertexts {
                return None;
            }
        }
    }
    offsets
        .values_mut()
        .enumerate()
        .for_each(|(i, block)| *block = i);
    let used = offsets.len().next_power_of_two().min(blocks_per_ciphertext);
    let mut cells = vec![vec![ZERO; used * span]; offsets.len().div_ceil(used).max(1)];
    for (&(channel, dy, dx), &block) in &offsets {
        for position in 0..plane {
            let y = (position / out_w * stride.0) as i64 + dy;
            let x = (position % out_w * stride.1) as i64 + dx;
            if (0..height as i64).contains(&y) && (0..width as i64).contains(&x) {
                let element = (channel * height + y as usize) * width + x as usize;
                cells[block / used][block % used * span + position] = element as u32;
            }
        }
    }
    let grid = Grid {
        row: out_w,
        span,
        gathered: true,
        ..Grid::VECTOR
    };
    Some(Layout::new(cells, slots, channels * height * width, grid))
}

/// Input rows and columns per output row and column, from the windows' centres.
pub(crate) fn strides(matrix: &Sparse, input: &[usize], output: &[usize]) -> (usize, usize) {
    let [_, height, width] = extents(input);
    let [_, out_h, out_w] = extents(output);
    let centre = |y: usize, x: usize| {
        let cells: Vec<usize> = matrix
            .row(y * out_w + x)
            .map(|(c, _)| c % (height * width))
            .collect();
        let count = cells.len().max(1) as f64;
        let sum = |f: fn(usize, usize) -> usize| {
            cells.iter().map(|&c| f(c, width) as f64).sum::<f64>() / count
        };
        (sum(|c, w| c / w), sum(|c, w| c % w))
    };
    // Away from the border, where padding does not move the centre.
    let (y, x) = (out_h / 2, out_w / 2);
    let step = |a: f64, b: f64| (b - a).abs().round().max(1.0) as usize;
    let down = if out_h > 1 {
        step(centre(y - 1, x).0, centre(y, x).0)
    } else {
        height
    };
    let right = if out_w > 1 {
        step(centre(y, x - 1).1, centre(y, x).1)
    } else {
        width
    };
    (down, right)
}

/// Candidates for the result of an affine stage. `main` is the operand with the most weights,
/// `period` a common period of all operands.
pub(crate) fn outputs(
    main: &Layout,
    matrix: &Sparse,
    input: &[usize],
    output: &[usize],
    period: usize,
) -> Vec<Assignment> {
    let slots = main.slots();
    let [channels, height, width] = extents(output);
    let mut moduli = vec![slots];
    if period < slots {
        moduli.push(period);
    }
    let mut found = Vec::new();
    for &modulus in &moduli {
        if height * width > 1 {
            let stride = match main.grid.gathered {
                true => (1, 1),
                false => strides(matrix, input, output),
            };
            grids(
                main.grid,
                stride,
                [channels, height, width],
                modulus,
                &mut found,
            );
        }
        vectors([channels, height, width], modulus, &mut found);
    }
    if found.is_empty() {
        found.push(Assignment::sequential(
            channels * height * width,
            slots,
            flat_grid(output),
        ));
    }
    found
}

fn flat_grid(shape: &[usize]) -> Grid {
    let [_, height, width] = extents(shape);
    Grid {
        row: width,
        span: height * width,
        ..Grid::VECTOR
    }
}

/// Images on the grid of the operand, channels in blocks and in the gaps that strides leave.
fn grids(
    from: Grid,
    stride: (usize, usize),
    shape: [usize; 3],
    modulus: usize,
    found: &mut Vec<Assignment>,
) {
    let grid = Grid {
        gap_y: from.gap_y * stride.0,
        gap_x: from.gap_x * stride.1,
        gathered: false,
        ..from
    };
    let blocks = modulus / grid.span;
    let gaps = grid.gap_y * grid.gap_x;
    if blocks == 0 {
        return;
    }
    let mut plans = vec![Placing {
        gaps_first: true,
        gaps,
        blocks,
    }];
    if gaps > 1 {
        plans.push(Placing {
            gaps_first: false,
            gaps,
            blocks,
        });
        if shape[0] <= blocks {
            plans.push(Placing {
                gaps_first: false,
                gaps: 1,
                blocks,
            });
        }
    }
    for placing in plans {
        for spread in [true, false] {
            if let Some(assignment) = grid_assignment(grid, placing, shape, modulus, spread) {
                found.push(assignment);
            }
        }
    }
}

/// Where channels go.
#[derive(Debug, Clone, Copy)]
struct Placing {
    gaps_first: bool,
    gaps: usize,
    blocks: usize,
}

impl Placing {
    /// Ciphertext, block and gap of a channel, when `used` blocks are in use.
    fn of(&self, channel: usize, used: usize) -> (usize, usize, usize) {
        let per_ciphertext = self.gaps * used;
        let (ciphertext, inner) = (channel / per_ciphertext, channel % per_ciphertext);
        if self.gaps_first {
            (ciphertext, inner / self.gaps, inner % self.gaps)
        } else {
            (ciphertext, inner % used, inner / used)
        }
    }
}

fn grid_assignment(
    grid: Grid,
    placing: Placing,
    [channels, height, width]: [usize; 3],
    modulus: usize,
    spread: bool,
) -> Option<Assignment> {
    let used = channels
        .div_ceil(placing.gaps)
        .next_power_of_two()
        .min(placing.blocks);
    let ciphertexts = channels.div_ceil(placing.gaps * used);
    let copies = if spread {
        modulus / (used * grid.span)
    } else {
        1
    };
    if spread && (copies < 2 || !(used * grid.span).is_power_of_two()) {
        return None;
    }
    let mut rows = vec![vec![NO_ROW; modulus]; ciphertexts];
    for channel in 0..channels {
        let (ciphertext, block, gap) = placing.of(channel, used);
        let corner = gap / grid.gap_x * grid.row + gap % grid.gap_x;
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let inside = corner + y * grid.gap_y * grid.row + x * grid.gap_x;
            if inside >= grid.span {
                return None;
            }
            for copy in 0..copies {
                let cell = &mut rows[ciphertext][(copy * used + block) * grid.span + inside];
                if *cell != NO_ROW {
                    return None;
                }
                *cell = ((channel * height + y) * width + x) as u32;
            }
        }
    }
    let order = if placing.gaps_first { "gaps" } else { "blocks" };
    let folds = fold_stages(used * grid.span, modulus, copies);
    let rank = if grid.gap_y * grid.gap_x == 1 {
        Rank::Multiple(grid.span)
    } else {
        Rank::Nonnegative
    };
    let name = format!(
        "grid {order}, {used} blocks, {} gaps, {copies} partial sums",
        placing.gaps
    );
    Some(Assignment {
        name,
        rows,
        folds,
        modulus,
        rank,
        grid,
    })
}

/// Stages that sum `copies` slots at distance `first`.
fn fold_stages(first: usize, modulus: usize, copies: usize) -> Vec<Vec<u32>> {
    let mut stages = Vec::new();
    let (mut step, mut left) = (first, copies);
    while left > 1 && step < modulus {
        stages.push(vec![step as u32]);
        step *= 2;
        left /= 2;
    }
    stages
}

/// Rows `low` bits apart, higher bits in copies of the operand, partial sums between.
fn vectors([channels, height, width]: [usize; 3], modulus: usize, found: &mut Vec<Assignment>) {
    let rows_total = channels * height * width;
    let grid = flat_grid(&[channels, height, width]);
    if rows_total > modulus {
        return;
    }
    let mut low = 1;
    while low <= modulus {
        let copies = rows_total.div_ceil(low).next_power_of_two();
        if copies * low <= modulus {
            found.push(vector_assignment(rows_total, low, copies, modulus, grid));
        }
        low *= 2;
    }
}

fn vector_assignment(
    rows_total: usize,
    low: usize,
    copies: usize,
    modulus: usize,
    grid: Grid,
) -> Assignment {
    let window = modulus / copies;
    let row = |slot: usize| {
        let row = slot / window * low + slot % low;
        if row < rows_total && slot % low < rows_total {
            row as u32
        } else {
            NO_ROW
        }
    };
    let rows = vec![(0..modulus).map(row).collect()];
    let folds = fold_stages(low, modulus, window / low);
    let name = format!("vector, rows {low} apart in {copies} windows of {window}");
    let grid = if copies == 1 { grid } else { Grid::VECTOR };
    Assignment {
        name,
        rows,
        folds,
        modulus,
        rank: Rank::Nonnegative,
        grid,
    }
}
