//! A program's flooding in the library's words.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_fhe::flooding::Flooding;
use scuro_fhe::noise::Noise;
use scuro_program::Flood;

use crate::error::RuntimeError;

pub(crate) fn flooding(flood: &Flood) -> Flooding {
    match flood.flooding {
        scuro_program::Flooding::Statistical { bits } => Flooding::Statistical { bits },
        scuro_program::Flooding::Relaxed { bits, decryptions } => {
            Flooding::Relaxed { bits, decryptions }
        }
    }
}

/// The error of the reply before it is flooded, as the program bounds it.
pub(crate) fn worst_case(flood: &Flood) -> Noise {
    let bound = flood.bound_log2.exp2();
    Noise { std: 0.0, bound }
}

/// Randomness that a decryptor cannot guess, from the operating system.
pub(crate) fn generator() -> Result<ChaCha20Rng, RuntimeError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| RuntimeError::Randomness {
        reason: error.to_string(),
    })?;
    Ok(ChaCha20Rng::from_seed(seed))
}
