//! Assertions on vectors of numbers.

use scuro_fhe::noise::Noise;

/// Largest |found - expected|; panics on different lengths.
fn largest_difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len(), "vectors of different lengths");
    found
        .iter()
        .zip(expected)
        .fold(0.0, |max, (a, b)| f64::max(max, (a - b).abs()))
}

/// Panics, naming the worst slot, unless every difference is at most `tolerance`.
#[track_caller]
pub(crate) fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "vectors of different lengths");
    for (slot, (a, b)) in found.iter().zip(expected).enumerate() {
        let difference = (a - b).abs();
        assert!(
            difference <= tolerance,
            "slot {slot}: {a} is not {b} within {tolerance:e}"
        );
    }
}

/// Panics unless the measured error stays below the predicted bound; `scale` turns values into
/// scaled messages. Returns the margin in bits.
#[track_caller]
pub(crate) fn assert_noise_below(
    found: &[f64],
    expected: &[f64],
    scale: f64,
    predicted: Noise,
) -> f64 {
    let measured = largest_difference(found, expected) * scale;
    let (bits, bound) = (measured.log2(), predicted.bound.log2());
    assert!(
        measured <= predicted.bound,
        "noise of {bits:.2} bits is above the bound of {bound:.2}"
    );
    bound - bits
}

/// Deterministic values in [-1, 1] that look random.
pub(crate) fn test_values(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
