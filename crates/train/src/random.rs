//! Independent random streams of one seed, so that no use of randomness shifts another.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Initial weights.
    Weights = 1,
    /// Order of the examples.
    Order = 2,
    /// Distortion of the examples.
    Augmentation = 3,
    /// Dropout masks.
    Dropout = 4,
    /// Choice of the validation examples.
    Split = 5,
    /// Examples of the holders of an ensemble.
    Deal = 6,
}

/// The stream number `index` for `purpose` under `seed`.
pub(crate) fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = purpose as u8;
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(index);
    rng
}

/// Uniform in `[0, 1)`, 24 bits.
pub(crate) fn uniform(rng: &mut impl Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// Uniform in `[-bound, bound)`.
pub(crate) fn symmetric(rng: &mut impl Rng, bound: f32) -> f32 {
    (2.0 * uniform(rng) - 1.0) * bound
}

/// Standard normal, by Box and Muller.
pub(crate) fn normal(rng: &mut impl Rng) -> f32 {
    let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
    radius * (std::f32::consts::TAU * uniform(rng)).cos()
}

/// Uniform in `[0, 1)`, 53 bits.
pub(crate) fn uniform_f64(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// As [`normal`], in double precision.
pub(crate) fn normal_f64(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform_f64(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform_f64(rng)).cos()
}

/// A random order of `0..len` (Fisher and Yates).
pub(crate) fn permutation(rng: &mut impl Rng, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    for i in (1..len).rev() {
        // The bias of the modulus is below 2^-32 for any data set that fits in memory.
        let other = (rng.next_u64() % (i as u64 + 1)) as usize;
        order.swap(i, other);
    }
    order
}
