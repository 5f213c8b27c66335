//! CKKS: approximate arithmetic on vectors of real or complex numbers.

mod ciphertext;
mod encoder;
mod evaluator;

pub use ciphertext::{Ciphertext, Plaintext, SeededCiphertext};
pub(crate) use ciphertext::{PARTS_MAX, check_scale, ciphertext_mask};
pub use encoder::Encoder;
pub(crate) use encoder::centred_coefficients;
pub(crate) use evaluator::check_scales;
pub use evaluator::{Evaluator, SCALE_TOLERANCE};
