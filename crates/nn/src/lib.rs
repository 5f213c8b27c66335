//! The network model: graph, shapes, operators, importers, data sets and the reference executor.
//!
//! Layers, lower ones first: [`tensor`] and [`matmul`] hold numbers; [`graph`] is the typed
//! network, with shape inference; [`reference`](mod@reference) evaluates it and is the truth that
//! every protected backend is compared with; [`activation`] replaces what ciphertexts cannot
//! compute; [`data`] reads and makes images; [`import`] and
//! [`export`] translate other formats; [`evaluate`] scores.
//!
//! Nothing here opens a network connection, reads a clock or draws from a global random generator.
//! All files are taken as hostile: sizes have named limits, counts are compared and every fault is
//! a typed [`Error`].

pub mod activation;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod graph;
pub mod import;
pub mod matmul;
pub mod reference;
pub mod tensor;

pub use error::{Error, Result};
