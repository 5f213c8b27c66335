//! Sparse matrices by rows.

/// A matrix by rows; columns of a row ascend.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sparse {
    pub(crate) columns: usize,
    pub(crate) starts: Vec<usize>,
    pub(crate) column: Vec<u32>,
    pub(crate) weight: Vec<f32>,
}

impl Sparse {
    /// An empty matrix to which rows are pushed.
    pub(crate) fn new(columns: usize) -> Sparse {
        Sparse {
            columns,
            starts: vec![0],
            column: Vec::new(),
            weight: Vec::new(),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn nonzeros(&self) -> usize {
        self.column.len()
    }

    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let range = self.starts[row]..self.starts[row + 1];
        let columns = self.column[range.clone()].iter().map(|&c| c as usize);
        columns.zip(self.weight[range].iter().copied())
    }

    /// Entries of every row, if that is one number.
    pub(crate) fn row_entries(&self) -> Option<usize> {
        let mut entries = self.starts.windows(2).map(|w| w[1] - w[0]);
        let first = entries.next()?;
        entries.all(|count| count == first).then_some(first)
    }

    /// Adds a row whose entries ascend by column; zeros are left out.
    pub(crate) fn push_row(&mut self, entries: impl IntoIterator<Item = (usize, f32)>) {
        for (column, weight) in entries.into_iter().filter(|&(_, w)| w != 0.0) {
            self.column.push(column as u32);
            self.weight.push(weight);
        }
        self.starts.push(self.column.len());
    }

    pub(crate) fn identity(size: usize) -> Sparse {
        Sparse::diagonal(&vec![1.0; size])
    }

    pub(crate) fn diagonal(weights: &[f32]) -> Sparse {
        let mut matrix = Sparse::new(weights.len());
        weights
            .iter()
            .enumerate()
            .for_each(|(i, &w)| matrix.push_row([(i, w)]));
        matrix
    }

    /// Row `i` of the result is row `map[i]` of `self`.
    pub(crate) fn select_rows(&self, map: &[usize]) -> Sparse {
        let mut matrix = Sparse::new(self.columns);
        map.iter().for_each(|&row| matrix.push_row(self.row(row)));
        matrix
    }

    /// Multiplications that [`Sparse::product`] would take.
    pub(crate) fn product_work(&self, right: &Sparse) -> usize {
        self.column
            .iter()
            .map(|&c| right.starts[c as usize + 1] - right.starts[c as usize])
            .sum()
    }

    /// `self * right`.
    pub(crate) fn product(&self, right: &Sparse) -> Sparse {
        let mut matrix = Sparse::new(right.columns);
        let mut sums = vec![0.0f64; right.columns];
        let mut seen = vec![false; right.columns];
        let mut touched: Vec<usize> = Vec::new();
        for row in 0..self.rows() {
            for (middle, a) in self.row(row) {
                for (column, b) in right.row(middle) {
                    if !seen[column] {
                        seen[column] = true;
                        touched.push(column);
                    }
                    sums[column] += f64::from(a) * f64::from(b);
                }
            }
            touched.sort_unstable();
            matrix.push_row(touched.iter().map(|&c| (c, sums[c] as f32)));
            for column in touched.drain(..) {
                sums[column] = 0.0;
                seen[column] = false;
            }
        }
        matrix
    }

    /// `left * self + right * other`.
    pub(crate) fn combined(&self, left: f32, other: &Sparse, right: f32) -> Sparse {
        let mut matrix = Sparse::new(self.columns);
        for row in 0..self.rows() {
            let mut entries: Vec<(usize, f32)> =
                self.row(row).map(|(c, w)| (c, left * w)).collect();
            entries.extend(other.row(row).map(|(c, w)| (c, right * w)));
            entries.sort_by_key(|&(c, _)| c);
            let mut merged: Vec<(usize, f32)> = Vec::with_capacity(entries.len());
            for (column, weight) in entries {
                match merged.last_mut() {
                    Some(last) if last.0 == column => last.1 += weight,
                    _ => merged.push((column, weight)),
                }
            }
            matrix.push_row(merged);
        }
        matrix
    }

    /// `self * vector`.
    pub(crate) fn apply(&self, vector: &[f64]) -> Vec<f64> {
        let dot = |row| self.row(row).map(|(c, w)| f64::from(w) * vector[c]).sum();
        (0..self.rows()).map(dot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_equal_application_in_turn() {
        let mut a = Sparse::new(3);
        a.push_row([(0, 1.0), (2, -2.0)]);
        a.push_row([(1, 0.5)]);
        let mut b = Sparse::new(2);
        b.push_row([(0, 3.0)]);
        b.push_row([(0, 1.0), (1, 4.0)]);
        b.push_row([(1, -1.0)]);
        let x = [2.0, 5.0];
        assert_eq!(a.product(&b).apply(&x), a.apply(&b.apply(&x)));
        assert_eq!(a.product_work(&b), 4);
        assert_eq!(b.combined(2.0, &b, 1.0).apply(&x), vec![18.0, 66.0, -15.0]);
    }
}
