//! Masks cancel in the whole sum, bit by bit, and in nothing less.

use scuro_fhe::Error;
use scuro_fhe::ckks::Ciphertext;
use scuro_fhe::masking::PairMask;
use scuro_fhe::params::ParameterSpec;
use scuro_fhe::{AnyCiphertext, AnyContext, Kernel};

use crate::common::exact::{Exact, core};
use crate::common::{Keyring, test_values};

const SCALE: f64 = (1u64 << 30) as f64;
const WEIGHTS: [u64; 4] = [1, 2, 200, 7];

fn keyring() -> Keyring {
    Keyring::new(ParameterSpec::new(12, &[36, 36], &[34]), &[])
}

/// The masks of party `of`, from seeds that are named by their pair.
fn masks(of: usize) -> Vec<PairMask> {
    let pair = |other: usize| {
        let (low, high) = (of.min(other) as u8, of.max(other) as u8);
        let mut seed = [0; 32];
        (seed[0], seed[1]) = (low + 1, high + 1);
        PairMask::new(seed, of < other)
    };
    (0..WEIGHTS.len())
        .filter(|&other| other != of)
        .map(pair)
        .collect()
}

fn weighted(ring: &Keyring, ciphertexts: &[Ciphertext]) -> Ciphertext {
    let term = |(x, &weight): (&Ciphertext, &u64)| {
        ring.evaluator.mul_constant(x, weight as f64, 1.0).unwrap()
    };
    let mut terms = ciphertexts.iter().zip(&WEIGHTS).map(term);
    let first = terms.next().unwrap();
    terms.fold(first, |sum, term| ring.evaluator.add(&sum, &term).unwrap())
}

#[test]
fn a_sum_of_masked_ciphertexts_is_the_sum() {
    let ring = keyring();
    let slots = ring.context.parameters().slots();
    let plain: Vec<Ciphertext> = (0..WEIGHTS.len())
        .map(|party| ring.encrypt(&test_values(slots, party as u64), 1, SCALE, party as u64))
        .collect();
    let masked: Vec<Ciphertext> = plain
        .iter()
        .enumerate()
        .map(|(party, x)| {
            ring.evaluator
                .mask(x, &masks(party), WEIGHTS[party])
                .unwrap()
        })
        .collect();
    let (expected, found) = (weighted(&ring, &plain), weighted(&ring, &masked));
    for (a, b) in found.parts().iter().zip(expected.parts()) {
        assert_eq!(a.words(), b.words());
    }
    let largest = |x: &Ciphertext| {
        ring.decrypt(x)
            .iter()
            .fold(0.0f64, |max, s| max.max(s.abs()))
    };
    assert!(largest(&expected) < 1e3);
    // One alone, and the sum without one, are uniform modulo Q.
    assert!(largest(&masked[0]) > 1e9);
    assert!(largest(&weighted(&ring, &masked[..3])) > 1e9);
}

#[test]
fn a_weight_of_zero_is_refused() {
    let ring = keyring();
    let slots = ring.context.parameters().slots();
    let x = ring.encrypt(&test_values(slots, 1), 0, SCALE, 2);
    let found = ring.evaluator.mask(&x, &masks(0), 0);
    assert!(matches!(found, Err(Error::MaskWeight { weight: 0 })));
    let unmasked = ring.evaluator.mask(&x, &[], 1).unwrap();
    assert_eq!(unmasked.parts()[0].words(), x.parts()[0].words());
    assert_eq!(format!("{:?}", masks(0)[0]), "PairMask { first: true, .. }");
}

#[test]
fn exact_sums_keep_every_integer_and_nothing_less_than_the_sum_is_read() {
    let context = core(12, &[36, 36], &[34], Kernel::detect());
    let ring = Exact::new(&context, 17);
    let (scheme, top) = (AnyContext::from(ring.context.clone()), ring.top());
    let values: Vec<Vec<i64>> = (0..WEIGHTS.len())
        .map(|party| ring.values(party as u64))
        .collect();
    let masked = |party: usize| {
        let plain = AnyCiphertext::from(ring.encrypt(&values[party], top, party as u64));
        let masked = plain
            .masked(&scheme, &masks(party), WEIGHTS[party])
            .unwrap();
        let AnyCiphertext::Exact(masked) = masked else {
            panic!("it stays of its scheme");
        };
        masked
    };
    let term = |party: usize| {
        let weight = WEIGHTS[party] as i64;
        ring.evaluator.mul_integer(&masked(party), weight).unwrap()
    };
    let add = |sum, next| ring.evaluator.add(&sum, &next).unwrap();
    let sum = (1..WEIGHTS.len()).map(term).fold(term(0), add);
    let expected = (0..values[0].len()).map(|slot| {
        let terms = WEIGHTS.iter().zip(&values);
        let total: i64 = terms.map(|(&weight, all)| weight as i64 * all[slot]).sum();
        ring.context
            .plain_modulus()
            .centre(total.rem_euclid(ring.t()) as u64)
    });
    ring.check(&sum, &expected.collect::<Vec<i64>>());
    assert!(ring.decryptor().noise_budget(&masked(0)).unwrap() < 1.0);
}
