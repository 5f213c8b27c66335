//! Development only: known answers of other implementations, as plain numbers, pictures of
//! known bytes, processes that are killed, and a real broker.
//!
//! Product crates never depend on this one; their tests do. It knows no types of theirs, so that a
//! crate under test is built once.

pub mod mosquitto;
pub mod png;
pub mod process;
pub mod vectors;
