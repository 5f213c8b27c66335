//! Randomness for keys and ciphertexts: a fast generator seeded by the operating system.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::errors::{Exit, Failure};

/// A generator fit for keys.
pub(crate) fn generator() -> Result<ChaCha20Rng, Failure> {
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).map_err(|error| {
        Failure::new(
            Exit::JobFailed,
            "random.unavailable",
            format!("no system randomness: {error}"),
        )
        .hint("keys cannot be made on this machine")
    })?;
    Ok(ChaCha20Rng::from_seed(seed))
}
