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
