//! Everything that can name a secret key: generation, encryption under it, decryption, noise
//! measurement.
//!
//! An evaluator never imports this module.

pub mod bfv;
pub mod bgv;
mod codec;
mod compact;
mod decrypt;
mod encrypt;
mod generate;
mod secret;

pub use decrypt::{Decryptor, NoiseReport};
pub use encrypt::Encryptor;
pub use generate::KeyGenerator;
pub use secret::SecretKey;
