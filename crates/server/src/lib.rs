//! Services that compute on ciphertexts.
//!
//! [`edge`] is the device that a vendor does not trust: it takes a data stream, encrypts each frame
//! under the vendor's public key, runs the vendor's program on the ciphertexts and sends the
//! encrypted inferences to the vault.
//!
//! Nothing here can name a secret key; `cargo xtask tidy` checks it.

pub mod edge;
mod error;

pub use error::Error;
