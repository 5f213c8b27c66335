//! Everything that travels between Scuro's services, and how it travels.
//!
//! * [`manifest`]: a protected model as a list of artefacts with digests; its own digest names the
//!   deployment.
//! * [`deployment`]: what a device's server and the vault's deployment agent say to each other.
//! * [`query`], [`inference`]: query registrations, and encrypted replies in a binary frame.
//! * [`results`]: decrypted answers, for users of the backend only.
//! * [`predict`], [`ensemble`], [`user`]: encrypted queries to an ensemble in the Open Inference
//!   Protocol, keys by digest, and users who sign both.
//! * [`roster`], [`mask`]: holders that mask their predictions, and how they agree on masks.
//! * [`paths`], [`limits`], [`problem`]: endpoints, bounds and the one error body.
//! * [`tls`], [`https`]: TLS 1.3 with a certificate on both sides; a server loop and a client,
//!   which also serve loopback without TLS.
//! * [`mqtt`]: topics of brokers, and how brokers are entered.
//! * [`private`]: what nobody but its owner may read while it waits to travel.
//! * [`metrics`]: counters in Prometheus' text format; [`disk`]: what a full disk looks like.
//!
//! This is the only crate that derives serialisation for the network. Cryptographic objects travel
//! inside as bytes of `scuro_fhe::codec`; nothing here opens them, and nothing here can name a
//! secret key that decrypts: [`manifest::Role`] has no such role.

pub mod deployment;
pub mod disk;
pub mod ensemble;
pub mod error;
pub mod hex;
pub mod https;
pub mod inference;
pub mod limits;
pub mod manifest;
pub mod mask;
pub mod metrics;
pub mod mqtt;
pub mod name;
pub mod paths;
pub mod predict;
pub mod private;
pub mod problem;
pub mod query;
pub mod results;
pub mod roster;
pub mod tls;
pub mod user;

pub use error::WireError;
pub use hex::{Digest, HolderId, KeyId, MaskKey, Nonce, QueryId, Signature, UserId};
pub use manifest::{Artefact, Manifest, Role};
pub use name::{ModelReference, Name};
pub use problem::Problem;
