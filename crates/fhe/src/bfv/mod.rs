//! BFV: exact arithmetic modulo t whose products keep the scale of the message.
//!
//! A ciphertext has the phase c_0 + c_1 s = (Q/t) m + e modulo Q. It is a [`crate::bgv`]
//! ciphertext of factor -Q mod t: as integers both phases are (Q/t) m and an error, so that
//! encryption, keys, sums, plain products, rotations, modulus switches, decryption and codec are
//! those of BGV. What differs is the product of ciphertexts: t/Q times the product over the
//! integers, rounded, which keeps the factor and needs no modulus switch to keep noise small.
//!
//! The product: with auxiliary primes of product P somewhat larger than Q, the second operand is
//! scaled to round(P/Q b), both are extended to QP and multiplied there, and x becomes
//! round(t x / P) = (t x - \[t x\]_P) / P modulo Q, exactly.
//!
//! Noise is that of phase - (Q/t) m, rounding of (Q/t) m included. For the same ciphertext that is
//! what [`crate::bgv::NoiseModel`] predicts; products have a prediction of their own there.
//!
//! Source: Brakerski 2012; Fan, Vercauteren 2012; Bajard, Eynard, Hasan, Zucca 2016 and Halevi,
//!     Polyakov, Shoup 2019 (products in residues); Kim, Polyakov, Zucca 2021 (one operand scaled
//!     first); differs in that all conversions are of centred integers and exact.

mod ciphertext;
mod context;
mod evaluator;
mod product;

pub use ciphertext::{Ciphertext, Encoder, Plaintext, SeededCiphertext};
pub(crate) use context::MARGIN_BITS;
pub use context::{BfvContext, SUM_TERMS_MAX};
pub use evaluator::Evaluator;
