//! The vault on real files, real ciphertexts and real connections.

mod common;
mod crash;
mod deployment;
mod intake;
mod publish;
mod registry;
mod service;
