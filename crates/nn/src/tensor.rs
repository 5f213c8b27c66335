//! Dense row-major arrays of `f32`.

use crate::error::{Error, Result};

/// A dense row-major array; `data.len()` is the product of `shape`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Extent of each axis.
    pub shape: Vec<usize>,
    /// Values, last axis fastest.
    pub data: Vec<f32>,
}

/// Number of values in an array of `shape`, or `None` where it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |count, &extent| count.checked_mul(extent))
}

impl Tensor {
    /// Wraps `data`.
    ///
    /// # Errors
    /// [`Error::TensorLength`] unless `data.len()` is the product of `shape`.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        if element_count(&shape) != Some(data.len()) {
            return Err(Error::TensorLength {
                shape,
                found: data.len(),
            });
        }
        Ok(Self { shape, data })
    }

    /// All zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let len = shape.iter().product();
        Self {
            shape,
            data: vec![0.0; len],
        }
    }

    /// A vector.
    pub fn vector(data: Vec<f32>) -> Self {
        Self {
            shape: vec![data.len()],
            data,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The same values under another shape.
    ///
    /// # Errors
    /// [`Error::TensorLength`] if the number of values differs.
    pub fn reshaped(self, shape: impl Into<Vec<usize>>) -> Result<Self> {
        Self::new(shape, self.data)
    }

    /// Axis permutation: `output axis i = input axis permutation[i]`.
    ///
    /// # Errors
    /// [`Error::NotAPermutation`] unless `permutation` names each axis once.
    pub fn transposed(&self, permutation: &[usize]) -> Result<Self> {
        if !is_permutation(permutation, self.shape.len()) {
            return Err(Error::NotAPermutation {
                permutation: permutation.to_vec(),
                rank: self.shape.len(),
            });
        }
        let mut out = Self::zeros(permuted(&self.shape, permutation));
        transpose_into(&self.data, &self.shape, permutation, &mut out.data);
        Ok(out)
    }

    /// Position of the first value that is NaN or infinite.
    pub fn first_non_finite(&self) -> Option<usize> {
        self.data.iter().position(|v| !v.is_finite())
    }

    /// Position of the largest value (the first of equals); 0 for an empty tensor.
    pub fn argmax(&self) -> usize {
        argmax(&self.data)
    }
}

/// Position of the largest value (the first of equals); NaN never wins; 0 for an empty slice.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, &v) in values.iter().enumerate() {
        if v > values[best] || values[best].is_nan() {
            best = i;
        }
    }
    best
}

/// Whether `permutation` names each of `rank` axes once.
pub(crate) fn is_permutation(permutation: &[usize], rank: usize) -> bool {
    permutation.len() == rank && (0..rank).all(|axis| permutation.contains(&axis))
}

/// `shape` with its axes permuted.
pub(crate) fn permuted(shape: &[usize], permutation: &[usize]) -> Vec<usize> {
    permutation.iter().map(|&axis| shape[axis]).collect()
}

/// Row-major strides.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Writes the permutation of `data` (of `shape`) to `out`; `permutation` is already checked.
pub(crate) fn transpose_into(
    data: &[f32],
    shape: &[usize],
    permutation: &[usize],
    out: &mut [f32],
) {
    let source = permuted(&strides(shape), permutation);
    walk_strided(&permuted(shape, permutation), &source, |i, from| {
        out[i] = data[from]
    });
}

/// Visits each position of `shape` in row-major order with its offset under `source` strides.
pub(crate) fn walk_strided(shape: &[usize], source: &[usize], mut visit: impl FnMut(usize, usize)) {
    let count: usize = shape.iter().product();
    let mut index = vec![0usize; shape.len()];
    let mut offset = 0;
    for i in 0..count {
        visit(i, offset);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            offset += source[axis];
            if index[axis] < shape[axis] {
                break;
            }
            offset -= source[axis] * shape[axis];
            index[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_differs_from_the_shape_is_an_error() {
        let found = Tensor::new([2, 3], vec![0.0; 5]);
        assert!(matches!(found, Err(Error::TensorLength { found: 5, .. })));
    }

    #[test]
    fn transposing_back_restores_the_tensor() {
        let t = Tensor::new([2, 3, 4], (0..24).map(|v| v as f32).collect()).unwrap();
        let there = t.transposed(&[2, 0, 1]).unwrap();
        assert_eq!(there.shape, [4, 2, 3]);
        assert_eq!(there.data[1], 4.0);
        assert_eq!(there.transposed(&[1, 2, 0]).unwrap(), t);
    }

    #[test]
    fn argmax_takes_the_first_of_equals_and_skips_nan() {
        assert_eq!(argmax(&[f32::NAN, 1.0, 3.0, 3.0]), 2);
        assert_eq!(argmax(&[]), 0);
    }
}
