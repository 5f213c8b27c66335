//! Small numerics: softmax, argmax, and positive definite systems.

/// Shares that sum to 1: `exp(z_c) / sum_k exp(z_k)`.
pub fn softmax(scores: &[f64]) -> Vec<f64> {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Position of the largest score, the first of equal ones; 0 without scores.
pub fn argmax(scores: &[f64]) -> usize {
    let better = |best: usize, at: usize| if scores[at] > scores[best] { at } else { best };
    (1..scores.len()).fold(0, better)
}

/// `-ln softmax(scores)[label]`, without the detour over a share that may be 0.
pub(crate) fn surprise(scores: &[f64], label: usize) -> f64 {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - top).exp()).sum();
    top - scores[label] + sum.ln()
}

/// Cholesky factor of a symmetric positive definite matrix, for solving with it many times.
pub(crate) struct Factor {
    order: usize,
    lower: Vec<f64>,
}

impl Factor {
    /// Factors `matrix`, row by row; only its lower half is read.
    ///
    /// # Panics
    /// If it is not positive definite, which callers rule out by adding to the diagonal.
    pub(crate) fn new(matrix: &[f64], order: usize) -> Self {
        assert_eq!(matrix.len(), order * order);
        let mut lower = vec![0.0; order * order];
        for row in 0..order {
            for column in 0..=row {
                let known: f64 = (0..column)
                    .map(|k| lower[row * order + k] * lower[column * order + k])
                    .sum();
                let rest = matrix[row * order + column] - known;
                lower[row * order + column] = if row == column {
                    assert!(rest > 0.0, "pivot {row} is {rest}");
                    rest.sqrt()
                } else {
                    rest / lower[column * order + column]
                };
            }
        }
        Self { order, lower }
    }

    /// Replaces the right-hand side by the solution.
    pub(crate) fn solve_assign(&self, values: &mut [f64]) {
        let (n, l) = (self.order, &self.lower);
        for row in 0..n {
            let known: f64 = (0..row).map(|k| l[row * n + k] * values[k]).sum();
            values[row] = (values[row] - known) / l[row * n + row];
        }
        for row in (0..n).rev() {
            let known: f64 = (row + 1..n).map(|k| l[k * n + row] * values[k]).sum();
            values[row] = (values[row] - known) / l[row * n + row];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_and_surprise_survive_large_scores() {
        assert_eq!(softmax(&[1000.0, 1000.0]), [0.5, 0.5]);
        assert!((surprise(&[0.0, 800.0], 0) - 800.0).abs() < 1e-9);
        assert!((surprise(&[2.0, 2.0], 1) - 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn the_first_of_equal_scores_is_the_largest() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(argmax(&[]), 0);
    }

    #[test]
    fn a_factored_system_is_solved() {
        // [4 2; 2 3] [1; 2] = [8; 8].
        let mut values = [8.0, 8.0];
        Factor::new(&[4.0, 2.0, 2.0, 3.0], 2).solve_assign(&mut values);
        assert!((values[0] - 1.0).abs() < 1e-12 && (values[1] - 2.0).abs() < 1e-12);
    }
}
