//! Homomorphic operations end to end, through the public interface only.

mod bfv;
mod bgv;
mod ckks;
mod codec;
mod common;
mod compact;
mod encrypted;
mod exact_linear;
mod flooding;
mod linear;
mod masking;
mod misuse;
mod noise;
mod polynomial;
mod subring;
