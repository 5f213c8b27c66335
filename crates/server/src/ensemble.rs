//! An ensemble on ciphertexts: several holders with a network each, and a coordinator.
//!
//! ```text
//! user -> coordinator -> every holder: the same encrypted query
//! user <- coordinator <- every holder: an encrypted prediction, combined into one
//! ```
//!
//! [`contract`] is what all of them share, the face; [`fault`] what is refused. `desk` is the door
//! of both services: it reads messages, knows users ([`keys`], `ledger`) and checks ciphertexts.
//! [`holder`] computes; [`coordinator`] asks, by way of `member`, its picture of one holder, checks
//! what comes back and has it combined ([`combine`]).
//!
//! With a roster, holders hold their predictions until the coordinator has said whose are in the
//! sum, and release them under [`masks`] that cancel in it.
//!
//! What each sees: public and evaluation keys, ciphertexts, who asks and when; a holder its own
//! network. What none sees: an image, a prediction, a secret key.

pub mod combine;
pub mod contract;
pub mod coordinator;
mod counters;
mod desk;
pub mod fault;
pub mod holder;
pub mod keys;
mod ledger;
mod listen;
pub mod masks;
mod member;

pub use fault::Fault;
