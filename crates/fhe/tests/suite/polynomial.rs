//! Polynomials of slots against Horner's rule in clear.

use crate::common::{Keyring, assert_close, test_values};
use scuro_fhe::Error;
use scuro_fhe::circuits::polynomial::{depth, evaluate};
use scuro_fhe::params::ParameterSpec;

/// About the size of the primes, so that the powers keep their scale.
const SCALE: f64 = (1u64 << 36) as f64;

fn horner(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

#[test]
fn every_degree_agrees_with_horner() {
    let ring = Keyring::new(
        ParameterSpec::new(14, &[50, 36, 36, 36, 36, 36, 36, 36], &[50]),
        &[],
    );
    let top = ring.context.parameters().max_level();
    let values = test_values(ring.encoder.slots(), 1);
    let x = ring.encrypt(&values, top, SCALE, 1);
    for degree in [1, 2, 3, 4, 5, 7, 8, 15, 16, 27, 31] {
        let coefficients = test_values(degree + 1, degree as u64);
        let found = evaluate(&ring.evaluator, &x, &coefficients, &ring.keys).unwrap();
        assert_eq!(found.level(), top - depth(degree), "degree {degree}");
        assert!((found.scale() / SCALE - 1.0).abs() < 1e-9);
        let expected: Vec<f64> = values.iter().map(|&x| horner(&coefficients, x)).collect();
        assert_close(&ring.decrypt(&found), &expected, 1e-4);
    }
}

#[test]
fn sparse_polynomials_and_zero_halves_work() {
    let ring = Keyring::new(ParameterSpec::new(14, &[50, 36, 36, 36, 36], &[50]), &[]);
    let values = test_values(ring.encoder.slots(), 1);
    let x = ring.encrypt(&values, 4, SCALE, 1);
    let cases: [&[f64]; 5] = [
        &[0.5, 0.0, 0.0, 0.0, 2.0],
        &[0.0, 0.0, 1.0],
        &[1.0, 0.0, 0.0, -0.5, 0.0, 0.0, 0.25],
        &[0.25, 0.5, 0.125, 0.0, 0.0],
        &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0],
    ];
    for coefficients in cases {
        let found = evaluate(&ring.evaluator, &x, coefficients, &ring.keys).unwrap();
        let expected: Vec<f64> = values.iter().map(|&x| horner(coefficients, x)).collect();
        assert_close(&ring.decrypt(&found), &expected, 1e-4);
    }
}

#[test]
fn constants_and_missing_levels_are_refused() {
    let ring = Keyring::new(ParameterSpec::new(12, &[36, 32], &[37]), &[]);
    let x = ring.encrypt(&[0.5], 1, (1u64 << 30) as f64, 1);
    let refused =
        |coefficients: &[f64]| evaluate(&ring.evaluator, &x, coefficients, &ring.keys).unwrap_err();
    assert!(matches!(
        refused(&[1.0, 0.0]),
        Error::LengthMismatch { found: 1, .. }
    ));
    assert!(matches!(
        refused(&[]),
        Error::LengthMismatch { found: 0, .. }
    ));
    assert_eq!(refused(&[1.0, 1.0, 1.0]), Error::NoLevelLeft);
    assert_eq!(refused(&[1.0, f64::NAN]), Error::NotFinite { slot: 1 });
}
