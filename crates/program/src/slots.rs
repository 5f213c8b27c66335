//! Sparse vectors over the slots of a ciphertext.

/// Zeros that separate two runs; shorter gaps are stored.
const GAP: usize = 8;

/// Consecutive slots.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// First slot.
    pub start: u32,
    /// Values from there on.
    pub values: Vec<f32>,
}

/// A slot vector given by its runs; every other slot is zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SlotVector {
    /// Ordered, disjoint, non-empty.
    pub runs: Vec<Run>,
}

impl SlotVector {
    /// The runs of a dense vector; runs start and end with a non-zero value.
    pub fn from_dense(dense: &[f32]) -> SlotVector {
        let mut runs = Vec::new();
        let mut at = 0;
        while let Some(skip) = dense[at..].iter().position(|&v| v != 0.0) {
            let start = at + skip;
            let end = run_end(dense, start);
            runs.push(Run {
                start: start as u32,
                values: dense[start..end].to_vec(),
            });
            at = end;
        }
        SlotVector { runs }
    }

    /// The dense vector of `slots` values. Runs outside are left out; validated programs have none.
    pub fn to_dense(&self, slots: usize) -> Vec<f64> {
        let mut dense = vec![0.0; slots];
        for (slot, value) in self.iter() {
            if let Some(place) = dense.get_mut(slot) {
                *place = f64::from(value);
            }
        }
        dense
    }

    /// Stored slots and their values.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.runs.iter().flat_map(|run| {
            run.values
                .iter()
                .enumerate()
                .map(move |(i, &v)| (run.start as usize + i, v))
        })
    }

    /// Largest absolute value.
    pub fn max_abs(&self) -> f32 {
        self.iter().fold(0.0, |max, (_, v)| max.max(v.abs()))
    }

    /// Whether every slot is zero.
    pub fn is_zero(&self) -> bool {
        self.iter().all(|(_, v)| v == 0.0)
    }

    /// Number of non-zero slots.
    pub fn count_nonzero(&self) -> usize {
        self.iter().filter(|&(_, v)| v != 0.0).count()
    }
}

/// One past the last non-zero value before a gap of [`GAP`] zeros.
fn run_end(dense: &[f32], start: usize) -> usize {
    let mut last = start;
    for (i, &value) in dense.iter().enumerate().skip(start) {
        if value != 0.0 {
            last = i;
        } else if i - last >= GAP {
            break;
        }
    }
    last + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_vectors_survive_the_sparse_form() {
        let mut dense = vec![0.0f32; 64];
        for (i, slot) in [0usize, 3, 20, 21, 40, 63].into_iter().enumerate() {
            dense[slot] = i as f32 + 1.0;
        }
        let sparse = SlotVector::from_dense(&dense);
        let back: Vec<f32> = sparse.to_dense(64).iter().map(|&v| v as f32).collect();
        assert_eq!(back, dense);
        assert_eq!(sparse.count_nonzero(), 6);
        assert_eq!(sparse.runs.len(), 4);
    }

    #[test]
    fn a_zero_vector_has_no_runs() {
        assert!(SlotVector::from_dense(&[0.0; 32]).runs.is_empty());
        assert!(SlotVector::default().is_zero());
    }
}
