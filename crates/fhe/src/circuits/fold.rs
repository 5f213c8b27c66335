//! Sums over rotations.

use crate::ckks::{Ciphertext, Evaluator};
use crate::error::Error;
use crate::keys::EvaluationKeys;

/// For each step in turn acc += rotate(acc, step): log2(n) rotations sum n slots.
///
/// # Errors
/// As [`Evaluator::rotate`].
pub fn fold(
    evaluator: &Evaluator,
    ciphertext: &Ciphertext,
    steps: &[usize],
    keys: &EvaluationKeys,
) -> Result<Ciphertext, Error> {
    let mut sum = ciphertext.clone();
    for &step in steps {
        let rotated = evaluator.rotate(&sum, step, keys)?;
        evaluator.add_assign(&mut sum, &rotated)?;
    }
    Ok(sum)
}

/// Σ_{j=0..3} rotate(ciphertext, j * step), with one decomposition and one division for the three
/// rotations: two binary fold steps for the price of about one and a half.
///
/// # Errors
/// As [`Evaluator::rotate`]; keys for `step`, `2 step` and `3 step` are needed.
pub fn fold_radix4(
    evaluator: &Evaluator,
    ciphertext: &Ciphertext,
    step: usize,
    keys: &EvaluationKeys,
) -> Result<Ciphertext, Error> {
    evaluator.rotate_sum(ciphertext, &[0, step, 2 * step, 3 * step], keys)
}
