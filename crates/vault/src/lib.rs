//! The backend of a vendor who ships protected models to devices it does not trust.
//!
//! * [`Vault`]: a folder with an SQLite database and artefacts named by their digest.
//! * [`registry`]: versions of protected models; their secret keys rest under the vault key.
//! * [`devices`]: who may connect; the vault is its own certificate authority.
//! * [`deploy`]: pushes a model to a device, resumable, verified by digest.
//! * [`intake`]: the decryption agent: checks that an encrypted inference belongs to a known query
//!   and decrypts it, once; the answer goes to disk in the transaction that marks the query.
//! * [`service`]: the HTTPS API, with bounded work; [`publish`]: file and MQTT, at least once.
//!
//! What a device learns from the vault is a receipt. Decrypted values are in `results` of the
//! database, in the sinks, and nowhere else: not in logs, errors or metrics. Secret keys are
//! opened only to decrypt, and zeroised.
//!
//! This crate decrypts and never evaluates: it does not link against `scuro-runtime`.

mod authority;
mod blobs;
mod clock;
mod database;
pub mod decryption;
pub mod deploy;
pub mod devices;
mod error;
pub mod intake;
pub mod publish;
pub mod registry;
mod results;
pub mod seal;
pub mod service;
mod vault;

pub use clock::{now, now_ms};
pub use error::VaultError;
pub use seal::KeySource;
pub use vault::Vault;
