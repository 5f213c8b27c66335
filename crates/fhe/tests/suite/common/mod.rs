//! What the integration tests share: keys from fixed seeds and assertions on slots.

pub(crate) mod exact;
mod keyring;
mod tolerance;

pub(crate) use keyring::{Keyring, rng};
pub(crate) use tolerance::{assert_close, assert_noise_below, test_values};
