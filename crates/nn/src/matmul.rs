//! Matrix products on slices: one safe, single-threaded kernel on the widest vectors the processor
//! has.
//!
//! Every value is one chain of fused multiply-adds over the inner extent, in order. Results
//! therefore do not depend on blocking, on vector width or on how callers split rows over threads.
//! Callers parallelise over images or rows.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};

/// Rows of the register block on AVX-512: 8 x 2 accumulators leave half of its 32 registers.
const ROWS_WIDE: usize = 8;
/// Rows of the register block elsewhere: 6 x 2 accumulators fit the 16 registers of AVX2.
const ROWS: usize = 6;
/// Vectors of the register block.
const VECTORS: usize = 2;
/// Terms of a sum between two checks of bounds.
const STEP: usize = 8;
/// Rows and columns of a tile of a transposition.
const TILE: usize = 16;
/// Most lanes of a vector, for the block's copy on the stack.
const LANES_MAX: usize = 16;
/// [`gemm_rows`] reads rows of its second factor up to a multiple of this many values.
pub const ROW_MULTIPLE: usize = VECTORS * LANES_MAX;

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

/// Rows of equal length anywhere in a slice; they may overlap.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The values.
    pub data: &'a [f32],
    /// Where each row starts.
    pub starts: &'a [usize],
}

impl Rows<'_> {
    /// Checks that every row has `len` values.
    fn check(&self, len: usize) {
        let end = self.starts.iter().max().map_or(0, |start| start + len);
        let found = self.data.len();
        assert!(end <= found, "rows end at {end}, values at {found}");
    }
}

/// `out = a * b + beta * out` with factors whose rows lie anywhere, so that shifted copies of an
/// image need not be made.
///
/// Shape: `a` has rows of `b.starts.len()` values; `b` has rows of `columns` values, of which
/// those up to the next multiple of [`ROW_MULTIPLE`] are read but do not count; `out` is
/// row-major `[a.starts.len()][columns]`.
///
/// # Panics
/// If a row reaches beyond its slice or `out` has another length: the caller's own invariants.
pub fn gemm_rows(a: Rows<'_>, b: Rows<'_>, columns: usize, beta: f32, out: &mut [f32]) {
    a.check(b.starts.len());
    b.check(columns.next_multiple_of(ROW_MULTIPLE));
    assert_eq!(out.len(), a.starts.len() * columns, "values of the product");
    Arch::new().dispatch(RowsProduct {
        a,
        b,
        columns,
        beta,
        out,
    });
}

/// The arguments of [`gemm_rows`].
struct RowsProduct<'a> {
    a: Rows<'a>,
    b: Rows<'a>,
    columns: usize,
    beta: f32,
    out: &'a mut [f32],
}

impl WithSimd for RowsProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::F32_LANES == LANES_MAX {
            self.blocks::<S, ROWS_WIDE>(simd);
        } else {
            self.blocks::<S, ROWS>(simd);
        }
    }
}

impl RowsProduct<'_> {
    #[inline(always)]
    fn blocks<S: Simd, const R: usize>(self, simd: S) {
        let (width, inner) = (VECTORS * S::F32_LANES, self.b.starts.len());
        for column in (0..self.columns).step_by(width) {
            let used = width.min(self.columns - column);
            for (block, starts) in self.a.starts.chunks(R).enumerate() {
                let rows = rows_of::<R>(self.a.data, starts, inner);
                let (data, starts) = (self.b.data, self.b.starts);
                let vectors = |p: usize| S::as_simd_f32s(&data[starts[p] + column..][..width]).0;
                let sums = sum_block::<S, R>(simd, rows, inner, vectors);
                let out = self.out[block * R * self.columns..].chunks_mut(self.columns);
                let out = out.map(|row| &mut row[column..column + used]);
                store_block::<S, R>(1.0, &sums, self.beta, out);
            }
        }
    }
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
        if S::F32_LANES == LANES_MAX {
            self.blocks::<S, ROWS_WIDE>(simd);
        } else {
            self.blocks::<S, ROWS>(simd);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn blocks<S: Simd, const R: usize>(self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        self.panel.resize(self.inner * width, 0.0);
        let rows = self.out.len().checked_div(self.columns).unwrap_or(0);
        let starts: Vec<usize> = (0..rows).map(|row| row * self.inner).collect();
        for column in (0..self.columns).step_by(width) {
            let used = width.min(self.columns - column);
            pack(self.b, column, used, width, self.panel);
            let (panel, _) = S::as_simd_f32s(self.panel);
            for (block, starts) in starts.chunks(R).enumerate() {
                let rows = rows_of::<R>(self.a, starts, self.inner);
                let vectors = |p: usize| &panel[p * VECTORS..][..VECTORS];
                let sums = sum_block::<S, R>(simd, rows, self.inner, vectors);
                let out = self.out[block * R * self.columns..].chunks_mut(self.columns);
                let out = out.map(|row| &mut row[column..column + used]);
                store_block::<S, R>(self.alpha, &sums, self.beta, out);
            }
        }
    }
}

/// The `inner` values from each start; rows past the end repeat the last.
#[inline(always)]
fn rows_of<'a, const R: usize>(data: &'a [f32], starts: &[usize], inner: usize) -> [&'a [f32]; R] {
    std::array::from_fn(|r| &data[starts[r.min(starts.len() - 1)]..][..inner])
}

/// The sums over `p` of `rows[..][p] * vectors(p)`.
///
/// Steps of a fixed length need one check of bounds a row, not one a product.
#[inline(always)]
fn sum_block<'a, S: Simd, const R: usize>(
    simd: S,
    rows: [&[f32]; R],
    inner: usize,
    vectors: impl Fn(usize) -> &'a [S::f32s],
) -> [[S::f32s; VECTORS]; R]
where
    S::f32s: 'a,
{
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
    let chunks = rows.map(|row| row.as_chunks::<STEP>().0);
    for start in (0..inner / STEP * STEP).step_by(STEP) {
        let factors: [&[f32; STEP]; R] = std::array::from_fn(|r| &chunks[r][start / STEP]);
        for step in 0..STEP {
            let vectors = vectors(start + step);
            for (sums, factors) in sums.iter_mut().zip(factors) {
                accumulate(simd, factors[step], vectors, sums);
            }
        }
    }
    for p in inner / STEP * STEP..inner {
        let vectors = vectors(p);
        for (sums, row) in sums.iter_mut().zip(rows) {
            accumulate(simd, row[p], vectors, sums);
        }
    }
    sums
}

/// Adds `factor * vectors` to one row of sums.
#[inline(always)]
fn accumulate<S: Simd>(simd: S, factor: f32, vectors: &[S::f32s], sums: &mut [S::f32s; VECTORS]) {
    let factor = simd.splat_f32s(factor);
    for (sum, vector) in sums.iter_mut().zip(vectors) {
        *sum = simd.mul_add_f32s(factor, *vector, *sum);
    }
}

/// Writes as many rows of the block as `out` has.
#[inline(always)]
fn store_block<'a, S: Simd, const R: usize>(
    alpha: f32,
    sums: &[[S::f32s; VECTORS]; R],
    beta: f32,
    out: impl Iterator<Item = &'a mut [f32]>,
) {
    let mut lanes = [0.0; ROWS_WIDE * VECTORS * LANES_MAX];
    let (stored, _) = S::as_mut_simd_f32s(&mut lanes);
    stored[..R * VECTORS].copy_from_slice(sums.as_flattened());
    let width = VECTORS * S::F32_LANES;
    for (out, sums) in out.zip(lanes.chunks_exact(width).take(R)) {
        store(alpha, &sums[..out.len()], beta, out);
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
        fn products_of_rows_anywhere_are_ordered_sums(
            starts in prop::collection::vec(0usize..40, 1..20),
            shifts in prop::collection::vec(0usize..40, 1..50),
            columns in 1usize..70,
            beta in prop::sample::select(vec![0.0f32, 1.0]),
        ) {
            let a: Vec<f32> = (0..100).map(|i| (i % 19) as f32 - 7.3).collect();
            let b: Vec<f32> = (0..150).map(|i| (i % 23) as f32 * 0.17 - 1.0).collect();
            let old: Vec<f32> = (0..starts.len() * columns).map(|i| i as f32).collect();
            let mut out = old.clone();
            let left = Rows { data: &a, starts: &starts };
            let right = Rows { data: &b, starts: &shifts };
            gemm_rows(left, right, columns, beta, &mut out);
            for (i, start) in starts.iter().enumerate() {
                for j in 0..columns {
                    let terms = shifts.iter().enumerate();
                    let sum = terms.fold(0.0f32, |sum, (p, s)| a[start + p].mul_add(b[s + j], sum));
                    let tail = if beta == 0.0 { 0.0 } else { beta * old[i * columns + j] };
                    prop_assert_eq!(out[i * columns + j], sum + tail);
                }
            }
        }

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
