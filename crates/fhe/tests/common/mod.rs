//! What the integration tests share: keys from fixed seeds and assertions on slots.

mod keyring;
mod tolerance;

pub use keyring::{Keyring, rng};
pub use tolerance::{assert_close, assert_noise_below, test_values};
