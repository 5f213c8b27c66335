//! The matrices of linear operators and the row maps of data movements.

use scuro_nn::graph::{Node, Op, Window};
use scuro_nn::tensor::Tensor;

use crate::error::CompileError;
use crate::sparse::Sparse;

/// Most entries of one operator's matrix.
const MAX_NONZEROS: u64 = 400_000_000;

/// Matrix and bias of a linear operator from `input` to `output` shape.
pub(super) fn matrix(
    node: &Node,
    input: &[usize],
    output: &[usize],
) -> Result<(Sparse, Vec<f64>), CompileError> {
    let rows: usize = output.iter().product();
    let mut bias = vec![0.0; rows];
    let matrix = match &node.op {
        Op::Conv2d {
            weight,
            bias: maps,
            window,
            dilation,
            groups,
        } => {
            let entries = rows as u64 * weight.shape[1..].iter().product::<usize>() as u64;
            check_size(node, entries)?;
            fill_bias(&mut bias, maps.as_ref());
            let grid = Grid::new(input, output, window, *dilation);
            convolution(&grid, weight, *groups)
        }
        Op::Dense {
            weight,
            bias: values,
        } => {
            check_size(node, weight.data.len() as u64)?;
            fill_bias(&mut bias, values.as_ref());
            dense(weight)
        }
        Op::AvgPool {
            window,
            count_padding,
        } => average(&Grid::new(input, output, window, [1, 1]), *count_padding),
        Op::GlobalAvgPool => global_average(input),
        Op::BatchNorm {
            scale,
            shift,
            mean,
            variance,
            epsilon,
        } => {
            let per_map = rows / scale.data.len().max(1);
            let factor = |c: usize| {
                f64::from(scale.data[c])
                    / (f64::from(variance.data[c]) + f64::from(*epsilon)).sqrt()
            };
            let map = |row: usize| row / per_map.max(1);
            for (row, value) in bias.iter_mut().enumerate() {
                let c = map(row);
                *value = f64::from(shift.data[c]) - f64::from(mean.data[c]) * factor(c);
            }
            let factors: Vec<f32> = (0..rows).map(|row| factor(map(row)) as f32).collect();
            Sparse::diagonal(&factors)
        }
        // The friendliness pass has refused every other operator.
        _ => Sparse::identity(rows),
    };
    Ok((matrix, bias))
}

fn check_size(node: &Node, found: u64) -> Result<(), CompileError> {
    if found <= MAX_NONZEROS {
        return Ok(());
    }
    let layer = node.name.clone();
    Err(CompileError::TooLarge {
        layer,
        what: "products",
        found,
        limit: MAX_NONZEROS,
    })
}

/// Spreads one bias per map (or per row) over the rows.
fn fill_bias(rows: &mut [f64], maps: Option<&Tensor>) {
    let Some(maps) = maps.filter(|m| !m.data.is_empty()) else {
        return;
    };
    let per_map = (rows.len() / maps.data.len()).max(1);
    for (row, value) in rows.iter_mut().enumerate() {
        *value = f64::from(maps.data[row / per_map]);
    }
}

/// A sliding window between two `[c, h, w]` shapes.
struct Grid<'a> {
    input: [usize; 3],
    output: [usize; 3],
    window: &'a Window,
    dilation: [usize; 2],
}

impl<'a> Grid<'a> {
    fn new(input: &[usize], output: &[usize], window: &'a Window, dilation: [usize; 2]) -> Self {
        let three = |s: &[usize]| [s[0], s[1], s[2]];
        Grid {
            input: three(input),
            output: three(output),
            window,
            dilation,
        }
    }

    /// The input row (axis 0) or column (axis 1) under kernel position `k` at output position `o`.
    fn position(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        let padding = [self.window.padding.top, self.window.padding.left][axis];
        let at = o * self.window.stride[axis] + k * self.dilation[axis];
        at.checked_sub(padding)
            .filter(|&p| p < self.input[axis + 1])
    }

    /// Input cells under the window at an output position, with the kernel cell of each.
    fn cells(&self, y: usize, x: usize) -> Vec<(usize, usize)> {
        let [kernel_h, kernel_w] = self.window.kernel;
        let mut cells = Vec::with_capacity(kernel_h * kernel_w);
        for ky in 0..kernel_h {
            let Some(row) = self.position(0, y, ky) else {
                continue;
            };
            for kx in 0..kernel_w {
                let Some(column) = self.position(1, x, kx) else {
                    continue;
                };
                cells.push((row * self.input[2] + column, ky * kernel_w + kx));
            }
        }
        cells
    }

    fn positions(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let [_, height, width] = self.output;
        (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
    }
}

fn convolution(grid: &Grid<'_>, weight: &Tensor, groups: usize) -> Sparse {
    let [channels, height, width] = grid.input;
    let plane = height * width;
    let (maps, depth) = (weight.shape[0], weight.shape[1]);
    let kernel = weight.shape[2] * weight.shape[3];
    let cells: Vec<_> = grid.positions().map(|(y, x)| grid.cells(y, x)).collect();
    let mut matrix = Sparse::new(channels * plane);
    for map in 0..maps {
        let first = map / (maps / groups) * depth;
        for under in &cells {
            matrix.push_row((0..depth).flat_map(|d| {
                let weights = &weight.data[(map * depth + d) * kernel..][..kernel];
                under
                    .iter()
                    .map(move |&(cell, k)| ((first + d) * plane + cell, weights[k]))
            }));
        }
    }
    matrix
}

fn dense(weight: &Tensor) -> Sparse {
    let columns = weight.shape[1];
    let mut matrix = Sparse::new(columns);
    weight
        .data
        .chunks(columns)
        .for_each(|row| matrix.push_row(row.iter().copied().enumerate()));
    matrix
}

fn average(grid: &Grid<'_>, count_padding: bool) -> Sparse {
    let [channels, height, width] = grid.input;
    let full = grid.window.kernel[0] * grid.window.kernel[1];
    let mut matrix = Sparse::new(channels * height * width);
    for channel in 0..channels {
        for (y, x) in grid.positions() {
            let cells = grid.cells(y, x);
            let count = if count_padding { full } else { cells.len() };
            let weight = 1.0 / count as f32;
            let entry = |&(cell, _): &(usize, usize)| (channel * height * width + cell, weight);
            matrix.push_row(cells.iter().map(entry));
        }
    }
    matrix
}

fn global_average(input: &[usize]) -> Sparse {
    let plane: usize = input[1..].iter().product();
    let mut matrix = Sparse::new(input.iter().product());
    for channel in 0..input[0] {
        let weight = 1.0 / plane as f32;
        matrix.push_row((0..plane).map(|cell| (channel * plane + cell, weight)));
    }
    matrix
}

/// Row-major strides.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Row-major source index of each element of `shape`, given the source stride of every axis.
fn gather(shape: &[usize], source_strides: &[usize]) -> Vec<usize> {
    let mut rows = vec![0];
    for (&extent, &stride) in shape.iter().zip(source_strides) {
        let spread = |base: &usize| (0..extent).map(|i| base + i * stride).collect::<Vec<_>>();
        rows = rows.iter().flat_map(spread).collect();
    }
    rows
}

/// Source row of each element of the transposed tensor.
pub(super) fn transpose_rows(from: &[usize], permutation: &[usize]) -> Vec<usize> {
    let source = strides(from);
    let shape: Vec<usize> = permutation.iter().map(|&axis| from[axis]).collect();
    let moved: Vec<usize> = permutation.iter().map(|&axis| source[axis]).collect();
    gather(&shape, &moved)
}

/// Source row of each element of `from` broadcast to `to`, axes aligned at the end.
pub(super) fn broadcast_rows(from: &[usize], to: &[usize]) -> Vec<usize> {
    let source = strides(from);
    let missing = to.len() - from.len();
    let stride = |axis: usize| match axis.checked_sub(missing) {
        Some(own) if from[own] > 1 => source[own],
        _ => 0,
    };
    let moved: Vec<usize> = (0..to.len()).map(stride).collect();
    gather(to, &moved)
}

/// Row in the stacked operands of each element of their concatenation along `axis`.
pub(super) fn concat_rows(shapes: &[&[usize]], axis: usize) -> Vec<usize> {
    let outer: usize = shapes[0][..axis].iter().product();
    let mut rows = Vec::new();
    for block in 0..outer {
        let mut first = 0;
        for shape in shapes {
            let inner: usize = shape[axis..].iter().product();
            rows.extend((0..inner).map(|i| first + block * inner + i));
            first += shape.iter().product::<usize>();
        }
    }
    rows
}
