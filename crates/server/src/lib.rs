//! Services that compute on ciphertexts.
//!
//! [`edge`] is the device that a vendor does not trust: it takes a data stream, encrypts each frame
//! under the vendor's public key, runs the vendor's program on the ciphertexts and sends the
//! encrypted inferences to the vault.
//!
//! [`ensemble`] are the holders of networks, who answer a user's encrypted query, and the
//! coordinator, who combines their encrypted answers into one.
//!
//! Nothing here can name a secret key; `cargo xtask tidy` checks it.

mod clock;
pub mod edge;
pub mod ensemble;
mod error;

pub use error::Error;
