//! Matrix products on slices: one safe, single-threaded kernel on the widest vectors the processor
//! has.
//!
//! Every value is one chain of fused multiply-adds over the inner extent, in order. Results
//! therefore do not depend on blocking, on vector width or on how callers split rows over threads.
//! Callers parallelise over images or rows.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};

/// Rows of the register block.
const ROWS: usize = 6;
/// Vectors of the register block: 6 x 2 accumulators fit the 16 registers of AVX2.
const VECTORS: usize = 2;
/// Rows and columns of a tile of a transposition.
const TILE: usize = 16;
/// Most lanes of a vector, for the block's copy on the stack.
const LANES_MAX: usize = 16;

/// A row-major matrix in a slice, possibly read as its transpose.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// `rows * columns` values.
    pub data: &'a [f32],
    /// Rows as stored.
    pub rows: usize,
    /// Columns as stored.
    pub columns: usize,
    /// Whether the product uses the transpose.
    pub transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `data` as `rows` by `columns`.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self {
            data,
            rows,
            columns,
            transposed: false,
        }
    }

    /// The transpose, without moving data.
    pub fn transpose(self) -> Self {
        Self {
            transposed: !self.transposed,
            ..self
        }
    }

    /// Rows and columns as the product reads them.
    fn extents(&self) -> [usize; 2] {
        let (rows, columns) = (self.rows, self.columns);
        assert_eq!(
            self.data.len(),
            rows * columns,
            "values of a {rows} x {columns} matrix"
        );
        if self.transposed {
            [columns, rows]
        } else {
            [rows, columns]
        }
    }
}

/// Writes the transpose of `matrix`, which has `columns` columns, to `out`.
///
/// # Panics
/// If the lengths differ or are not a multiple of `columns`.
pub fn transpose_into(matrix: &[f32], columns: usize, out: &mut [f32]) {
    assert_eq!(matrix.len(), out.len(), "a transpose has as many values");
    if matrix.is_empty() {
        return;
    }
    let rows = matrix.len() / columns;
    assert_eq!(
        matrix.len(),
        rows * columns,
        "a whole number of rows of {columns}"
    );
    // Square tiles keep both the rows read and the rows written in the first-level cache.
    for top in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - top);
        for left in (0..columns).step_by(TILE) {
            for column in left..columns.min(left + TILE) {
                let out = &mut out[column * rows + top..][..height];
                let values = matrix[top * columns + column..].iter().step_by(columns);
                out.iter_mut().zip(values).for_each(|(o, v)| *o = *v);
            }
        }
    }
}

/// `out = alpha * a * b + beta * out`, all row-major; `out` has `a`'s rows and `b`'s columns.
///
/// With `beta == 0` the old values of `out` do not matter (NaN included). Reading `a` or `b` as a
/// transpose costs a copy of it; a caller in a loop does better to keep the transpose.
///
/// # Panics
/// If a length does not match its extents: those are the caller's own invariants.
pub fn gemm(alpha: f32, a: Matrix<'_>, b: Matrix<'_>, beta: f32, out: &mut [f32]) {
    let ([rows, inner], [b_rows, columns]) = (a.extents(), b.extents());
    assert_eq!(
        inner, b_rows,
        "columns of the first factor are rows of the second"
    );
    assert_eq!(
        out.len(),
        rows * columns,
        "values of a {rows} x {columns} product"
    );
    thread_local! {
        static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
    }
    SCRATCH.with_borrow_mut(|[turned, panel]| {
        let a = if a.transposed {
            turned.resize(a.data.len(), 0.0);
            transpose_into(a.data, a.columns, turned);
            &turned[..]
        } else {
            a.data
        };
        Arch::new().dispatch(Product {
            alpha,
            a,
            b,
            beta,
            inner,
            columns,
            panel,
            out,
        });
    });
}

/// The arguments of one product; `a` is row-major.
struct Product<'a> {
    alpha: f32,
    a: &'a [f32],
    b: Matrix<'a>,
    beta: f32,
    inner: usize,
    columns: usize,
    panel: &'a mut Vec<f32>,
    out: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        self.panel.resize(self.inner * width, 0.0);
        for column in (0..self.columns).step_by(width) {
            let used = width.min(self.columns - column);
            pack(self.b, column, used, width, self.panel);
            let (panel, _) = S::as_simd_f32s(self.panel);
            for row in (0..self.out.len() / self.columns).step_by(ROWS) {
                let a = &self.a[row * self.inner..];
                let block = block(simd, a, self.inner, panel);
                let (values, _) = block.as_flattened().split_at(ROWS * VECTORS);
                let mut lanes = [0.0; ROWS * VECTORS * LANES_MAX];
                let (stored, _) = S::as_mut_simd_f32s(&mut lanes);
                stored[..ROWS * VECTORS].copy_from_slice(values);
                let out = self.out[row * self.columns..].chunks_mut(self.columns);
                for (out, sums) in out.zip(lanes.chunks_exact(width).take(ROWS)) {
                    let out = &mut out[column..column + used];
                    store(self.alpha, &sums[..used], self.beta, out);
                }
            }
        }
    }
}

/// Copies columns `column..column + used` of `b` to rows of `width` values, the rest of each row
/// zero.
#[inline(always)]
fn pack(b: Matrix<'_>, column: usize, used: usize, width: usize, panel: &mut [f32]) {
    if b.transposed {
        panel.fill(0.0);
        let rows = b.data[column * b.columns..].chunks_exact(b.columns.max(1));
        for (j, values) in rows.take(used).enumerate() {
            panel[j..]
                .iter_mut()
                .step_by(width)
                .zip(values)
                .for_each(|(p, v)| *p = *v);
        }
    } else {
        for (row, values) in panel
            .chunks_exact_mut(width)
            .zip(b.data.chunks_exact(b.columns))
        {
            row[..used].copy_from_slice(&values[column..column + used]);
            row[used..].fill(0.0);
        }
    }
}

/// The sums of up to [`ROWS`] rows of `a` with one panel; rows past the end repeat the last.
#[inline(always)]
fn block<S: Simd>(
    simd: S,
    a: &[f32],
    inner: usize,
    panel: &[S::f32s],
) -> [[S::f32s; VECTORS]; ROWS] {
    let last = (a.len() / inner.max(1)).clamp(1, ROWS) - 1;
    let rows: [&[f32]; ROWS] = std::array::from_fn(|r| &a[r.min(last) * inner..][..inner]);
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (p, vectors) in panel.chunks_exact(VECTORS).take(inner).enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let factor = simd.splat_f32s(row[p]);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = simd.mul_add_f32s(factor, *vector, *sum);
            }
        }
    }
    sums
}

#[inline(always)]
fn store(alpha: f32, sums: &[f32], beta: f32, out: &mut [f32]) {
    if beta == 0.0 {
        out.iter_mut().zip(sums).for_each(|(o, s)| *o = alpha * s);
    } else {
        out.iter_mut()
            .zip(sums)
            .for_each(|(o, s)| *o = alpha * s + beta * *o);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn products_follow_the_definition_with_and_without_transposes() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, -1.0, 2.0, 1.0, 1.0];
        let mut out = [f32::NAN; 4];
        gemm(
            1.0,
            Matrix::new(&a, 2, 3),
            Matrix::new(&b, 3, 2),
            0.0,
            &mut out,
        );
        assert_eq!(out, [2.0, 7.0, 5.0, 16.0]);
        gemm(
            2.0,
            Matrix::new(&a, 2, 3),
            Matrix::new(&b, 2, 3).transpose(),
            1.0,
            &mut out,
        );
        assert_eq!(out, [-2.0, 21.0, 1.0, 54.0]);
    }

    #[test]
    fn an_empty_inner_extent_gives_zeros_and_empty_outputs_are_left_alone() {
        let mut out = [f32::NAN; 6];
        gemm(
            1.0,
            Matrix::new(&[], 2, 0),
            Matrix::new(&[], 0, 3),
            0.0,
            &mut out,
        );
        assert_eq!(out, [0.0; 6]);
        gemm(
            1.0,
            Matrix::new(&[], 0, 2),
            Matrix::new(&[1.0; 6], 2, 3),
            0.0,
            &mut [],
        );
        gemm(
            1.0,
            Matrix::new(&[1.0; 6], 3, 2),
            Matrix::new(&[], 2, 0),
            0.0,
            &mut [],
        );
    }

    proptest! {
        #[test]
        fn products_of_any_shape_are_ordered_sums(
            extents in prop::array::uniform3(1usize..70),
            turns: [bool; 2],
            beta in prop::sample::select(vec![0.0f32, 1.0, -0.5]),
        ) {
            let [rows, inner, columns] = extents;
            let a: Vec<f32> = (0..rows * inner).map(|i| (i % 19) as f32 - 7.3).collect();
            let b: Vec<f32> = (0..inner * columns).map(|i| (i % 23) as f32 * 0.17 - 1.0).collect();
            let old: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let left = if turns[0] { Matrix::new(&a, inner, rows).transpose() }
                else { Matrix::new(&a, rows, inner) };
            let right = if turns[1] { Matrix::new(&b, columns, inner).transpose() }
                else { Matrix::new(&b, inner, columns) };
            let mut out = old.clone();
            gemm(1.5, left, right, beta, &mut out);
            for i in 0..rows {
                for j in 0..columns {
                    let x = |p: usize| if turns[0] { a[p * rows + i] } else { a[i * inner + p] };
                    let y = |p: usize| if turns[1] { b[j * inner + p] } else { b[p * columns + j] };
                    let sum = (0..inner).fold(0.0f32, |sum, p| x(p).mul_add(y(p), sum));
                    let tail = if beta == 0.0 { 0.0 } else { beta * old[i * columns + j] };
                    prop_assert_eq!(out[i * columns + j], 1.5 * sum + tail);
                }
            }
        }
    }
}
