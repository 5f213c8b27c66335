//! CKKS: approximate arithmetic on vectors of real or complex numbers.

mod ciphertext;
mod compact;
mod encoder;
mod evaluator;

pub use ciphertext::{Ciphertext, LEFT_OUT_MAX, Plaintext, SeededCiphertext};
pub(crate) use ciphertext::{PARTS_MAX, check_left_out, check_scale, ciphertext_mask};
pub use compact::CompactCiphertext;
pub(crate) use compact::check_compact_scale;
pub use encoder::Encoder;
pub(crate) use encoder::centred_coefficients;
pub use evaluator::{Evaluator, SCALE_TOLERANCE};
pub(crate) use evaluator::{MergedSum, check_scales};
