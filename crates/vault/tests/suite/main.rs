//! The vault on real files, real ciphertexts and real connections.

mod common;
mod crash;
mod deployment;
mod intake;
mod registry;
mod service;
