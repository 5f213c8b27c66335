//! Slots and coefficients against the definition, and integers against residues.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_polyring::slots::{self, SlotScratch, SlotTransform};
use scuro_polyring::{Basis, Kernel, MixedRadix, Poly, Ring, RingKind, primes};

fn unit(rng: &mut ChaCha20Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Slot p of a real polynomial from the definition: its value at ζ^(5^p).
fn slot(kind: RingKind, coefficients: &[f64], p: u32) -> (f64, f64) {
    let n = coefficients.len() as u64;
    let order = match kind {
        RingKind::Standard => 2 * n,
        RingKind::ConjugateInvariant => 4 * n,
    };
    let exponent = (0..p).fold(1, |e, _| e * 5 % order);
    let (mut re, mut im) = (coefficients[0], 0.0);
    for (j, a) in coefficients.iter().enumerate().skip(1) {
        let turns = (j as u64 * exponent % order) as f64 / order as f64;
        let angle = 2.0 * std::f64::consts::PI * turns;
        match kind {
            RingKind::Standard => {
                re += a * angle.cos();
                im += a * angle.sin();
            }
            RingKind::ConjugateInvariant => re += 2.0 * a * angle.cos(),
        }
    }
    (re, im)
}

#[test]
fn slots_are_the_values_at_powers_of_five_and_come_back() {
    for kind in [RingKind::Standard, RingKind::ConjugateInvariant] {
        for log_n in [4, 5, 6, 7, 8, 9, 10, 13] {
            let mut expected: Option<(Vec<f64>, Vec<f64>)> = None;
            for kernel in Kernel::available() {
                let transform = SlotTransform::new(kind, log_n, kernel).unwrap();
                let mut rng = ChaCha20Rng::seed_from_u64(u64::from(log_n));
                let x: Vec<f64> = (0..1 << log_n).map(|_| unit(&mut rng)).collect();
                let n = transform.slots();
                let (mut re, mut im) = (vec![0.0; n], vec![0.0; n]);
                let scratch = &mut SlotScratch::default();
                transform.coefficients_to_slots(&mut re, &mut im, &x, 1.0, scratch);
                for p in [0, 1, 2, 3, n as u32 - 1] {
                    let (slot_re, slot_im) = slot(kind, &x, p);
                    assert!(
                        (re[p as usize] - slot_re).abs() < 1e-10,
                        "{kind:?} 2^{log_n} {p}"
                    );
                    assert!(
                        (im[p as usize] - slot_im).abs() < 1e-10,
                        "{kind:?} 2^{log_n} {p}"
                    );
                }
                let mut back = vec![0.0; x.len()];
                transform.slots_to_coefficients(&mut back, &re, &im, 1.0, scratch);
                assert!(x.iter().zip(&back).all(|(x, y)| (x - y).abs() < 1e-12));
                let found = (re, back);
                assert!(
                    *expected.get_or_insert_with(|| found.clone()) == found,
                    "{kernel}"
                );
            }
        }
    }
}

#[test]
fn rounding_is_exact_at_ties_and_large_values() {
    let values = [
        0.0,
        -0.0,
        0.5,
        1.5,
        -0.5,
        -1.5,
        2.4999,
        1e15,
        4503599627370495.5,
        4503599627370497.0,
        -9007199254740993.0,
        2f64.powi(61) + 1024.0,
        -(2f64.powi(61)),
    ];
    for kernel in Kernel::available() {
        let mut out = [0; 13];
        slots::round(kernel, &mut out, &values);
        for (rounded, value) in out.iter().zip(values) {
            assert_eq!(*rounded, value.round_ties_even() as i64, "{kernel} {value}");
        }
        let wide: Vec<f64> = values
            .iter()
            .flat_map(|v| [*v, v * 2f64.powi(40), v * 2f64.powi(60)])
            .collect();
        let (mut high, mut low) = (vec![0; wide.len()], vec![0; wide.len()]);
        slots::round_wide(kernel, &mut high, &mut low, &wide);
        for ((high, low), value) in high.iter().zip(low).zip(wide) {
            let sum = (i128::from(*high) << slots::WIDE_SHIFT) + i128::from(low);
            assert_eq!(sum, value.round_ties_even() as i128, "{kernel} {value}");
        }
    }
}

#[test]
fn residues_of_wide_integers_read_back_as_floats() {
    let log_n = 6;
    let kind = RingKind::Standard;
    let moduli = primes::ntt_primes(50, kind.root_order(log_n), 5, &[]).unwrap();
    for kernel in Kernel::available() {
        let ring = Ring::new(kind, log_n, &moduli, kernel).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let n = ring.degree();
        for (limbs, log_bound) in [(1, 48), (2, 30), (2, 90), (3, 10), (3, 119), (5, 119)] {
            let bound = 2f64.powi(log_bound);
            let values: Vec<f64> = (0..n).map(|_| (unit(&mut rng) * bound).round()).collect();
            let (mut high, mut low) = (vec![0; n], vec![0; n]);
            slots::round_wide(kernel, &mut high, &mut low, &values);
            let mut poly = Poly::zero(&ring, Basis::range(0..limbs));
            for (i, row) in poly.rows_mut() {
                ring.prime(i).reduce_wide(row, &high, &low);
            }
            let _: &Poly<scuro_polyring::Coeff> = &poly;
            let rows: Vec<&[u64]> = poly.rows().map(|(_, row)| row).collect();
            let mut back = vec![0.0; n];
            let reader = MixedRadix::new(&ring, poly.basis().clone()).unwrap();
            reader.to_f64(&ring, &mut back, &rows);
            for (x, y) in values.iter().zip(&back) {
                assert!(
                    (x - y).abs() <= x.abs() * 1e-15,
                    "{kernel}: {limbs} limbs, {x} {y}"
                );
            }
        }
    }
}

#[test]
fn residues_of_numbers_far_beyond_a_word_are_read_modulo_two_to_the_64() {
    for kernel in Kernel::available() {
        let order = RingKind::Standard.root_order(4);
        let moduli = primes::ntt_primes(50, order, 3, &[]).unwrap();
        let ring = Ring::new(RingKind::Standard, 4, &moduli, kernel).unwrap();
        let product: i128 = moduli[..2].iter().map(|&q| i128::from(q)).product();
        let numbers = [0, 1, -1, 1 << 70, -(1 << 90), product / 2, -product / 2];
        for (limbs, count) in [(2, 1), (2, 7), (3, 5)] {
            let residues = |i: usize| {
                let reduce = |&x: &i128| ring.prime(i).modulus().reduce_signed_wide(x);
                numbers[..count].iter().map(reduce).collect::<Vec<_>>()
            };
            let rows: Vec<Vec<u64>> = (0..limbs).map(residues).collect();
            let rows: Vec<&[u64]> = rows.iter().map(Vec::as_slice).collect();
            let reader = MixedRadix::new(&ring, Basis::range(0..limbs)).unwrap();
            let mut found = vec![0; count];
            reader.to_wrapping(&ring, &mut found, &rows);
            let expected: Vec<u64> = numbers[..count].iter().map(|&x| x as u64).collect();
            assert_eq!(found, expected, "{kernel}: {limbs} limbs");
        }
    }
}
