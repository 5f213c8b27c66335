//! BGV: exact arithmetic on vectors of integers modulo a prime t.
//!
//! A textbook BGV ciphertext has the phase c_0 + c_1 s = m + t e modulo Q. Here every ciphertext
//! is stored multiplied by t^-1 mod Q, a bijection that anybody can undo:
//!
//! ```text
//! c_0 + c_1 s = t^-1 (m + t e) = t^-1 m + e   mod Q
//! ```
//!
//! In this form errors are plain, not multiples of t, so that encryption, keys, key switching and
//! rounded division are *those of the RLWE core as they stand*, and one set of keys serves this
//! scheme and CKKS. Rounding by P or q_l needs no correction towards a multiple of t: as integers
//! the phase is (Q/t) j + (m + t e)/t with j = -m Q^-1 mod t, and division by q_l leaves j as it
//! is. The message becomes m q_l^-1 mod t with the same error as in textbook BGV; the factor is
//! kept with every ciphertext. Products are multiplied by t once, after the sum.
//!
//! The same identity is the scale-invariant face: with factor -Q mod t
//! ([`BgvContext::scale_invariant_factor`]), j is the message and the ciphertext is one of BFV,
//! which modulus switching keeps.
//!
//! Slots: in the standard ring two rows of N/2 integers modulo t; [`Evaluator::rotate`] turns both
//! rows by X -> X^(5^k), [`Evaluator::swap_rows`] exchanges them by X -> X^-1. In the
//! conjugate-invariant ring one row of N, which rotations turn in one cycle as in CKKS over that
//! ring, so that one layout serves both schemes.
//!
//! Source: Brakerski, Gentry, Vaikuntanathan 2012; Alperin-Sheriff, Peikert 2013, appendix A (the
//!     form with t^-1); Smart, Vercauteren 2014 (slots).

mod ciphertext;
mod compact;
mod context;
mod encoder;
mod evaluator;
mod factor;
mod noise;

pub use ciphertext::{Ciphertext, Plaintext, SeededCiphertext};
pub use compact::CompactCiphertext;
pub use context::{BgvContext, plain_prime};
pub use encoder::Encoder;
pub use evaluator::Evaluator;
pub use noise::NoiseModel;
