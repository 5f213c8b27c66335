//! Distributions of the samplers.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_polyring::{Kernel, Modulus, primes, sampling};

const SAMPLES: usize = 1 << 18;

#[test]
fn ternary_values_are_equally_frequent_from_first_to_last() {
    let mut values = vec![0; SAMPLES];
    sampling::ternary(&mut ChaCha20Rng::seed_from_u64(1), &mut values);
    for quarter in values.chunks(SAMPLES / 4) {
        let expected = quarter.len() as f64 / 3.0;
        let deviation = (quarter.len() as f64 * 2.0 / 9.0).sqrt();
        for value in [-1, 0, 1] {
            let count = quarter.iter().filter(|&&v| v == value).count() as f64;
            assert!(
                (count - expected).abs() < 5.0 * deviation,
                "{count} times {value}"
            );
        }
    }
}

#[test]
fn gaussian_values_have_the_stated_moments_and_frequencies() {
    let sigma = sampling::GAUSSIAN_SIGMA;
    let mut values = vec![0; SAMPLES];
    sampling::gaussian(
        &mut ChaCha20Rng::seed_from_u64(2),
        Kernel::detect(),
        &mut values,
    );
    assert!(values.iter().all(|v| v.abs() <= sampling::GAUSSIAN_BOUND));
    let n = SAMPLES as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
    assert!(mean.abs() < 5.0 * sigma / n.sqrt(), "mean {mean}");
    assert!(
        (variance / sigma.powi(2) - 1.0).abs() < 5.0 * (2.0 / n).sqrt(),
        "{variance}"
    );
    let weight = |x: i32| (-f64::from(x * x) / (2.0 * sigma * sigma)).exp();
    let total: f64 = (-60..=60).map(weight).sum();
    let cells = -10..=10;
    let mut chi_square = 0.0;
    for x in cells.clone() {
        let expected = n * weight(x) / total;
        let count = values.iter().filter(|&&v| i32::from(v) == x).count() as f64;
        chi_square += (count - expected).powi(2) / expected;
    }
    // 21 cells; the 0.999999 quantile with 21 degrees of freedom is 67.
    assert!(chi_square < 67.0, "chi-square {chi_square} over {cells:?}");
}

#[test]
fn uniform_residues_are_reduced_and_fill_the_range() {
    let q = primes::ntt_primes(20, 64, 1, &[]).unwrap()[0];
    let mut values = vec![0; SAMPLES];
    let mut xof = sampling::Xof::new(&[3; 32], "test", 0);
    xof.uniform(Modulus::new(q).unwrap(), &mut values);
    assert!(values.iter().all(|&v| v < q));
    let mut cells = [0.0; 64];
    for v in &values {
        cells[(v * 64 / q) as usize] += 1.0;
    }
    let expected = SAMPLES as f64 / 64.0;
    let chi_square: f64 = cells
        .iter()
        .map(|c: &f64| (c - expected).powi(2) / expected)
        .sum();
    // The 0.999999 quantile with 63 degrees of freedom is 129.
    assert!(chi_square < 129.0, "chi-square {chi_square}");
}

#[test]
fn streams_differ_by_seed_domain_and_index_and_repeat_otherwise() {
    let q = Modulus::new(primes::ntt_primes(50, 64, 1, &[]).unwrap()[0]).unwrap();
    let draw = |seed: u8, domain: &str, index: u64| {
        let mut values = [0; 600];
        sampling::Xof::new(&[seed; 32], domain, index).uniform(q, &mut values);
        values
    };
    let first = draw(1, "a", 0);
    assert_eq!(first, draw(1, "a", 0));
    for other in [draw(2, "a", 0), draw(1, "b", 0), draw(1, "a", 1)] {
        assert_ne!(first, other);
    }
}
