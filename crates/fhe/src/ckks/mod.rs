//! CKKS: approximate arithmetic on vectors of real or complex numbers.

mod ciphertext;
mod embedding;
mod encoder;
mod evaluator;
mod fft;
mod float;

pub use ciphertext::{Ciphertext, Plaintext, SeededCiphertext};
pub(crate) use ciphertext::{PARTS_MAX, ciphertext_mask};
pub(crate) use embedding::Embedding;
pub use encoder::Encoder;
pub(crate) use encoder::centred_coefficients;
pub(crate) use evaluator::check_scales;
pub use evaluator::{Evaluator, SCALE_TOLERANCE};
