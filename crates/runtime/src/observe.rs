//! What the caller may watch.

use std::time::Duration;

use scuro_fhe::ckks::Ciphertext;

/// A step that has been done.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// Index of the step whose value `result` is. Steps that are done together with a later one are
    /// not reported on their own; the later one's time covers them.
    pub step: usize,
    /// Time it took.
    pub elapsed: Duration,
    /// The ciphertexts of its value; none where several steps of a batch are done as one.
    pub result: &'a [Ciphertext],
}

/// Called after each step.
pub type Observer<'a> = dyn FnMut(Observation<'_>) + 'a;
