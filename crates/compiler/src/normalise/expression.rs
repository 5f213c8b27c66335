//! Affine expressions over variables.

use std::sync::Arc;

use super::{AffineMap, Var};
use crate::sparse::Sparse;

/// Most multiplications spent on composing two maps.
const MAX_COMPOSITION_WORK: usize = 2_000_000_000;
/// Entries by which a composition may exceed twice its parts before it is refused.
const COMPOSITION_SLACK: usize = 100_000;

/// Most entries per row of a local map (pools, scalings).
const LOCAL_ENTRIES: usize = 64;

/// Whether every row reads most columns: more columns then cost no further diagonals.
fn is_full(matrix: &Sparse) -> bool {
    2 * matrix.nonzeros() > matrix.rows() * matrix.columns
}

/// Whether rows read few columns, and no column is read by many rows.
fn is_local(matrix: &Sparse) -> bool {
    matrix.nonzeros() <= LOCAL_ENTRIES * matrix.rows()
        && matrix.columns <= LOCAL_ENTRIES * matrix.rows()
}

/// `sum_i matrix_i * x_i + bias`; a missing matrix is the identity.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    terms: Vec<(Var, Option<Arc<Sparse>>)>,
    bias: Vec<f64>,
}

impl Expression {
    pub(super) fn variable(var: Var, elements: usize) -> Expression {
        Expression {
            terms: vec![(var, None)],
            bias: vec![0.0; elements],
        }
    }

    pub(super) fn constant(values: &[f32]) -> Expression {
        Expression {
            terms: Vec::new(),
            bias: values.iter().map(|&v| f64::from(v)).collect(),
        }
    }

    pub(super) fn mapped(var: Var, matrix: Arc<Sparse>, bias: Vec<f64>) -> Expression {
        Expression {
            terms: vec![(var, Some(matrix))],
            bias,
        }
    }

    /// The variable, if the expression is nothing else.
    pub(super) fn as_variable(&self) -> Option<Var> {
        match self.terms[..] {
            [(var, None)] if self.bias.iter().all(|&b| b == 0.0) => Some(var),
            _ => None,
        }
    }

    /// The values, if no variable occurs.
    pub(super) fn as_constant(&self) -> Option<&[f64]> {
        self.terms.is_empty().then_some(&self.bias)
    }

    /// The sums of `entries` elements of which every row is a multiple, with as much of the bias,
    /// and the factors. The bias stays with the sums, since it centres them.
    pub(super) fn window_sums(&self, entries: usize) -> Option<(Expression, Vec<f64>)> {
        let [(var, Some(matrix))] = &self.terms[..] else {
            return None;
        };
        matrix.row_entries().filter(|&found| found == entries)?;
        let factor = |row: usize| {
            let (_, first) = matrix.row(row).next()?;
            let equal = matrix.row(row).all(|(_, weight)| weight == first);
            equal.then_some(f64::from(first))
        };
        let factors: Vec<f64> = (0..matrix.rows()).map(factor).collect::<Option<_>>()?;
        let mut sums = Sparse::clone(matrix);
        sums.weight.fill(1.0);
        let bias = self.bias.iter().zip(&factors).map(|(b, f)| b / f).collect();
        Some((Expression::mapped(*var, Arc::new(sums), bias), factors))
    }

    pub(super) fn to_affine(&self) -> AffineMap {
        let elements = self.bias.len();
        let explicit = |(var, matrix): &(Var, Option<Arc<Sparse>>)| {
            (
                *var,
                matrix
                    .clone()
                    .unwrap_or_else(|| Arc::new(Sparse::identity(elements))),
            )
        };
        AffineMap {
            terms: self.terms.iter().map(explicit).collect(),
            bias: self.bias.clone(),
        }
    }

    fn map_matrices(&self, bias: Vec<f64>, f: impl Fn(&Sparse) -> Sparse) -> Expression {
        let affine = self.to_affine();
        let terms = affine
            .terms
            .iter()
            .map(|(v, m)| (*v, Some(Arc::new(f(m)))))
            .collect();
        Expression { terms, bias }
    }

    pub(super) fn select_rows(&self, map: &[usize]) -> Expression {
        let bias = map.iter().map(|&row| self.bias[row]).collect();
        self.map_matrices(bias, |matrix| matrix.select_rows(map))
    }

    /// Each row times its factor.
    pub(super) fn scaled(&self, factors: &[f64]) -> Expression {
        let bias = self.bias.iter().zip(factors).map(|(b, f)| b * f).collect();
        self.map_matrices(bias, |matrix| {
            let mut scaled = Sparse::new(matrix.columns);
            for (row, &factor) in factors.iter().enumerate() {
                let scale = |(c, w): (usize, f32)| (c, (f64::from(w) * factor) as f32);
                scaled.push_row(matrix.row(row).map(scale));
            }
            scaled
        })
    }

    /// A constant added to every row.
    pub(super) fn shifted(mut self, offset: f64) -> Expression {
        self.bias.iter_mut().for_each(|b| *b += offset);
        self
    }

    /// `left * self + right * other`.
    pub(super) fn combined(&self, left: f32, other: &Expression, right: f32) -> Expression {
        let (left64, right64) = (f64::from(left), f64::from(right));
        let sum = |(a, b): (&f64, &f64)| left64 * a + right64 * b;
        let bias = self.bias.iter().zip(&other.bias).map(sum).collect();
        let zero = |matrix: &Sparse| {
            let mut empty = Sparse::new(matrix.columns);
            (0..matrix.rows()).for_each(|_| empty.push_row([]));
            empty
        };
        let (a, b) = (self.to_affine(), other.to_affine());
        let mut terms: Vec<(Var, Option<Arc<Sparse>>)> = Vec::new();
        for (var, matrix) in &a.terms {
            let twin = b.terms.iter().find(|(v, _)| v == var);
            let twin = twin.map_or_else(|| Arc::new(zero(matrix)), |(_, m)| m.clone());
            terms.push((*var, Some(Arc::new(matrix.combined(left, &twin, right)))));
        }
        for (var, matrix) in &b.terms {
            if !a.terms.iter().any(|(v, _)| v == var) {
                terms.push((
                    *var,
                    Some(Arc::new(zero(matrix).combined(left, matrix, right))),
                ));
            }
        }
        Expression { terms, bias }
    }

    /// All rows of all parts, in order.
    pub(super) fn stacked(parts: &[Expression]) -> Expression {
        let total: usize = parts.iter().map(|p| p.bias.len()).sum();
        let empty = Expression {
            terms: Vec::new(),
            bias: vec![0.0; total],
        };
        let mut first = 0;
        parts.iter().fold(empty, |sum, part| {
            let count = part.bias.len();
            let placed = part.placed(first, total);
            first += count;
            sum.combined(1.0, &placed, 1.0)
        })
    }

    /// The rows moved to `first ..` of `total` rows, zero elsewhere.
    fn placed(&self, first: usize, total: usize) -> Expression {
        let mut bias = vec![0.0; total];
        bias[first..first + self.bias.len()].copy_from_slice(&self.bias);
        self.map_matrices(bias, |matrix| {
            let mut placed = Sparse::new(matrix.columns);
            for row in 0..total {
                match row.checked_sub(first).filter(|&r| r < matrix.rows()) {
                    Some(own) => placed.push_row(matrix.row(own)),
                    None => placed.push_row([]),
                }
            }
            placed
        })
    }

    /// `matrix * self + bias`, unless the result would be larger than its parts warrant.
    pub(super) fn composed(&self, matrix: &Sparse, bias: &[f64]) -> Option<Expression> {
        let mut terms = Vec::with_capacity(self.terms.len());
        for (var, inner) in &self.terms {
            let product = match inner {
                None => matrix.clone(),
                Some(inner) => {
                    if matrix.product_work(inner) > MAX_COMPOSITION_WORK {
                        return None;
                    }
                    let product = matrix.product(inner);
                    let parts = matrix.nonzeros() + inner.nonzeros();
                    let larger = product.nonzeros() > 2 * parts + COMPOSITION_SLACK;
                    if larger && !(is_full(matrix) && is_local(inner)) {
                        return None;
                    }
                    product
                }
            };
            terms.push((*var, Some(Arc::new(product))));
        }
        let moved = matrix.apply(&self.bias);
        let bias = moved.iter().zip(bias).map(|(a, b)| a + b).collect();
        Some(Expression { terms, bias })
    }
}
