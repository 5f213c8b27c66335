//! What the caller may watch.

use std::time::Duration;

use scuro_fhe::{AnyCiphertext, bgv, ckks};

/// The ciphertexts of a value.
#[derive(Debug, Clone, Copy)]
pub enum Observed<'a> {
    /// Of an approximate program.
    Approximate(&'a [ckks::Ciphertext]),
    /// Of an exact program.
    Exact(&'a [bgv::Ciphertext]),
}

impl Observed<'_> {
    /// Number of ciphertexts.
    pub fn len(&self) -> usize {
        match self {
            Self::Approximate(list) => list.len(),
            Self::Exact(list) => list.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies for whoever keeps them.
    pub fn to_vec(&self) -> Vec<AnyCiphertext> {
        match self {
            Self::Approximate(list) => list.iter().cloned().map(Into::into).collect(),
            Self::Exact(list) => list.iter().cloned().map(Into::into).collect(),
        }
    }
}

/// A step that has been done.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// Index of the step whose value `result` is. Steps that are done together with a later one are
    /// not reported on their own; the later one's time covers them.
    pub step: usize,
    /// Time it took.
    pub elapsed: Duration,
    /// The ciphertexts of its value; none where several steps of a batch are done as one.
    pub result: Observed<'a>,
}

/// Called after each step.
pub type Observer<'a> = dyn FnMut(Observation<'_>) + 'a;
