//! Randomness for keys and ciphertexts.

use scuro_runtime::random::Generator;

use crate::errors::Failure;

/// A generator fit for keys.
pub(crate) fn generator() -> Result<Generator, Failure> {
    Ok(Generator::new()?)
}
