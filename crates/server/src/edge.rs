//! The edge device: one process that acquires, encrypts, computes, keeps and sends.
//!
//! ```text
//! sources -> intake -> spool (frames) -> agent -> spool (inferences) -> uplink -> vault
//!                                          ^
//!              vault -> device server -> artefacts -> deployments (active version)
//! ```
//!
//! [`frame`] reads frames, [`intake`] names and counts them, [`spool`] keeps them; `agent` turns
//! them into encrypted inferences under the active [`version`]; `registrar` tells the vault of each
//! query when its frame is accepted, `uplink` sends the inferences.
//! [`artefacts`] and [`deployments`] are what the vault writes to, through the device's server.
//! [`service`] puts it together.
//!
//! What the device sees: its own frames in clear until they are processed, the clear part of the
//! model, public keys, ciphertexts. What it never sees: the secret key, a label, a score, encrypted
//! weights in clear.

mod agent;
pub mod artefacts;
mod bell;
mod counters;
pub mod deployments;
mod device;
mod disk;
pub mod frame;
pub mod intake;
pub mod latency;
mod registrar;
pub mod service;
pub mod sources;
pub mod spool;
mod told;
mod uplink;
pub mod version;
