//! Randomness that nobody can guess: a fast generator seeded by the operating system.

use std::convert::Infallible;
use std::hint::black_box;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};

use crate::error::RuntimeError;

/// A generator fit for keys and for encryption.
///
/// Its seed is wiped once it is set up. `rand_chacha` has no way to wipe its state, which the
/// drawn numbers could be computed from again: it is written over with that of a seed of zeros when
/// the generator is dropped, where it lies then; copies that moves have left behind are not.
pub struct Generator(ChaCha20Rng);

impl Generator {
    /// A generator with a seed from the operating system.
    ///
    /// # Errors
    /// [`RuntimeError::Randomness`].
    pub fn new() -> Result<Self, RuntimeError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| RuntimeError::Randomness {
            reason: error.to_string(),
        })?;
        let generator = Self(ChaCha20Rng::from_seed(seed));
        overwrite(&mut seed, [0; 32]);
        Ok(generator)
    }

    fn forget(&mut self) {
        overwrite(&mut self.0, ChaCha20Rng::from_seed([0; 32]));
    }
}

/// Puts `blank` in the place of a secret.
fn overwrite<T>(place: &mut T, blank: T) {
    *place = blank;
    // Else the compiler may leave out a write that nobody reads.
    black_box(place);
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.forget();
    }
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Generator(redacted)")
    }
}

impl TryRng for Generator {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_bytes(out);
        Ok(())
    }
}

impl TryCryptoRng for Generator {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_draws_other_numbers_each_time_and_forgets_its_state() {
        let (mut one, mut other) = (Generator::new().unwrap(), Generator::new().unwrap());
        let first = one.next_u64();
        assert!(first != one.next_u64() && first != other.next_u64());
        one.forget();
        let mut zeros = ChaCha20Rng::from_seed([0; 32]);
        assert_eq!(one.next_u64(), zeros.next_u64());
    }
}
