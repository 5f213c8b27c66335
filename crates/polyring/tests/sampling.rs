//! Distributions of the samplers.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_polyring::sampling::WideIntegers;
use scuro_polyring::{Basis, Kernel, Modulus, Ring, RingKind, primes, sampling};

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

/// Samples of a wide sampler as numbers, read by their residues modulo three primes.
fn wide_values(wide: &WideIntegers, log_n: u32) -> Vec<f64> {
    let order = RingKind::Standard.root_order(log_n);
    let moduli = primes::ntt_primes(50, order, 3, &[]).unwrap();
    let ring = Ring::new(RingKind::Standard, log_n, &moduli, Kernel::detect()).unwrap();
    let poly = wide.to_poly(&ring, Basis::range(0..3));
    let rows: Vec<&[u64]> = poly.rows().map(|(_, row)| row).collect();
    let mut values = vec![0.0; ring.degree()];
    let radix = scuro_polyring::MixedRadix::new(&ring, Basis::range(0..3)).unwrap();
    radix.to_f64(&ring, &mut values, &rows);
    values
}

/// Largest distance between the empirical distribution and `expected`.
fn kolmogorov_smirnov(values: &mut [f64], expected: impl Fn(f64) -> f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let distance = |(i, &x): (usize, &f64)| {
        let (below, above) = (i as f64 / n, (i as f64 + 1.0) / n);
        (expected(x) - below).abs().max((expected(x) - above).abs())
    };
    values.iter().enumerate().map(distance).fold(0.0, f64::max)
}

#[test]
fn wide_uniform_integers_fill_their_range_above_and_below_a_word() {
    for bits in [0, 1, 30, 47, 48, 49, 96, 130] {
        let mut rng = ChaCha20Rng::seed_from_u64(6);
        let wide = WideIntegers::uniform(&mut rng, bits, 1 << 14);
        let (mut values, bound) = (wide_values(&wide, 14), 2f64.powi(bits as i32));
        assert!(values.iter().all(|x| (-bound..=bound).contains(x)));
        if bits < 30 {
            let smallest = values.iter().filter(|&&x| x == -bound).count() as f64;
            let expected = values.len() as f64 / (2.0 * bound);
            assert!((smallest - expected).abs() < 5.0 * expected.sqrt());
            continue;
        }
        let distance = kolmogorov_smirnov(&mut values, |x| (x / bound + 1.0) / 2.0);
        // The 0.999999 quantile.
        assert!(distance < 2.7 / 128.0, "{bits} bits: {distance}");
    }
}

#[test]
fn wide_gaussians_have_the_stated_distribution_above_and_below_a_word() {
    for doublings in [3, 20, 46, 47, 48, 100, 140] {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let wide = WideIntegers::gaussian(&mut rng, Kernel::detect(), doublings, 1 << 14);
        let (mut values, sigma) = (
            wide_values(&wide, 14),
            WideIntegers::gaussian_deviation(doublings),
        );
        let variance = values.iter().map(|x| (x / sigma).powi(2)).sum::<f64>() / 16384.0;
        assert!((variance - 1.0).abs() < 5.0 * (2.0f64 / 16384.0).sqrt());
        // Half a step: the distribution is discrete.
        let normal = |x: f64| 0.5 * (1.0 + error_function((x + 0.5) / sigma / 2f64.sqrt()));
        let distance = kolmogorov_smirnov(&mut values, normal);
        let steps = 1.0 / sigma;
        assert!(distance < 2.7 / 128.0 + steps, "{doublings}: {distance}");
    }
}

#[test]
fn wide_integers_are_spread_with_zeros_between() {
    let draw = |n| WideIntegers::uniform(&mut ChaCha20Rng::seed_from_u64(8), 60, n);
    let close = wide_values(&draw(1 << 10), 10);
    let apart = wide_values(&draw(1 << 10).spread(4), 12);
    for (at, value) in apart.iter().enumerate() {
        let expected = if at % 4 == 0 { close[at / 4] } else { 0.0 };
        assert_eq!(*value, expected, "{at}");
    }
}

/// Abramowitz, Stegun 7.1.26, within 2e-7.
fn error_function(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let coefficients = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ];
    let tail = coefficients.iter().fold(0.0, |sum, c| (sum + c) * t);
    (1.0 - tail * (-x * x).exp()).copysign(x)
}
