//! Protocols between three parties in one process.

mod common;
mod network;
mod relu;
mod views;
