//! Homomorphic operations end to end, through the public interface only.

mod ckks;
mod common;
mod linear;
mod polynomial;
