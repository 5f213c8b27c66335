//! Runs a program: on plain slots, on plain slots with simulated noise, on ciphertexts.
//!
//! All three walk over the same steps of the same [`scuro_program::Program`]; what a step means is
//! defined once, by [`scuro_program::interpret`]. `clear` is that definition, `simulate` adds to it
//! the noise that encryption adds and checks for overflow, `encrypted` is held to it.
//!
//! Non-goals: this crate knows no networks, makes no keys and cannot name a secret one. Whoever
//! holds the secret key may look into every step through the observer.

mod check;
pub mod clear;
pub mod encrypted;
mod error;
mod flood;
mod observe;
pub mod random;
pub mod simulate;

pub use check::keys as check_keys;
pub use error::RuntimeError;
pub use observe::{Observation, Observed, Observer};
