//! Matrix products on slices: a safe, single-threaded face of the blocked kernels in `matrixmultiply`.
//!
//! Callers parallelise over images, so that results do not depend on the number of threads.

use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

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

    fn view(&self) -> ArrayView2<'a, f32> {
        let view = ArrayView2::from_shape((self.rows, self.columns), self.data);
        let view = view.unwrap_or_else(|_| {
            panic!(
                "{} values for a {} x {} matrix",
                self.data.len(),
                self.rows,
                self.columns
            )
        });
        if self.transposed {
            view.reversed_axes()
        } else {
            view
        }
    }
}

/// `out = alpha * a * b + beta * out`, all row-major; `out` has `a`'s rows and `b`'s columns.
///
/// With `beta == 0` the old values of `out` do not matter (NaN included).
///
/// # Panics
/// If a length does not match its extents: those are the caller's own invariants.
pub fn gemm(alpha: f32, a: Matrix<'_>, b: Matrix<'_>, beta: f32, out: &mut [f32]) {
    let (a, b) = (a.view(), b.view());
    let (rows, columns, found) = (a.nrows(), b.ncols(), out.len());
    let mut out = ArrayViewMut2::from_shape((rows, columns), out)
        .unwrap_or_else(|_| panic!("{found} values for a {rows} x {columns} product"));
    general_mat_mul(alpha, &a, &b, beta, &mut out);
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
