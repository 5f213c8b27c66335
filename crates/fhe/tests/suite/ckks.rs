//! CKKS operations end to end, on both rings and several digit shapes.

use crate::common::{Keyring, assert_close, rng, test_values};
use std::collections::BTreeMap;

use scuro_fhe::keys::KeyManifest;
use scuro_fhe::noise::NoiseModel;
use scuro_fhe::params::{ParameterSpec, Parameters, SecurityLevel};
use scuro_fhe::{Error, Kernel, RingKind};

/// Small sets that the 2024 table certifies at 128 bits.
fn specs() -> Vec<ParameterSpec> {
    let ring = RingKind::Standard;
    vec![
        ParameterSpec::new(12, &[36, 32], &[37]),
        ParameterSpec {
            ring,
            ..ParameterSpec::new(12, &[36, 32], &[37])
        },
        ParameterSpec::new(13, &[45, 40, 40, 40], &[48]),
        ParameterSpec {
            ring,
            ..ParameterSpec::new(13, &[45, 40, 40, 40], &[48])
        },
        ParameterSpec::new(14, &[50, 40, 40, 40, 40], &[45, 45]),
        ParameterSpec {
            digit_limbs: Some(3),
            ..ParameterSpec::new(14, &[50, 40, 40, 40], &[45; 3])
        },
        ParameterSpec {
            level: SecurityLevel::Bits192,
            ..ParameterSpec::new(14, &[50; 3], &[50])
        },
    ]
}

const SCALE: f64 = (1u64 << 30) as f64;

fn rotated(values: &[f64], step: usize) -> Vec<f64> {
    (0..values.len())
        .map(|p| values[(p + step) % values.len()])
        .collect()
}

/// Error allowed after a rescale or key switch: 2^18 units of the scaled message, and the inputs'
/// own.
fn tolerance(ciphertext: &scuro_fhe::ckks::Ciphertext) -> f64 {
    2f64.powi(18) / ciphertext.scale() + 2e-5
}

#[test]
fn fresh_ciphertexts_decrypt_to_their_values() {
    for spec in specs() {
        let ring = Keyring::new(spec, &[]);
        let values = test_values(ring.encoder.slots(), 1);
        for level in 0..=ring.context.parameters().max_level() {
            let ciphertext = ring.encrypt(&values, level, SCALE, 11);
            assert_close(&ring.decrypt(&ciphertext), &values, 1e-5);
        }
    }
}

#[test]
fn public_key_ciphertexts_decrypt_to_their_values() {
    for spec in specs() {
        let ring = Keyring::new(spec, &[]);
        let generator = scuro_fhe::owner::KeyGenerator::new(&ring.context, &ring.secret).unwrap();
        let public = generator.public_key(&mut rng(3));
        let values = test_values(ring.encoder.slots(), 1);
        let plain = ring.encoder.encode(&values, 1, SCALE).unwrap();
        let ciphertext = public.encrypt(&ring.context, &plain, &mut rng(4)).unwrap();
        assert_close(&ring.decrypt(&ciphertext), &values, 1e-3);
    }
}

#[test]
fn sums_and_products_with_plaintexts_are_slotwise() {
    for spec in specs() {
        let ring = Keyring::new(spec, &[]);
        let slots = ring.encoder.slots();
        let (a, b) = (test_values(slots, 1), test_values(slots, 2));
        let (x, y) = (ring.encrypt(&a, 1, SCALE, 1), ring.encrypt(&b, 1, SCALE, 2));
        let plain = ring.encoder.encode(&b, 1, SCALE).unwrap();
        let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let difference: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        let product: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a * b).collect();
        let evaluator = &ring.evaluator;
        assert_close(&ring.decrypt(&evaluator.add(&x, &y).unwrap()), &sum, 1e-5);
        assert_close(
            &ring.decrypt(&evaluator.sub(&x, &y).unwrap()),
            &difference,
            1e-5,
        );
        assert_close(
            &ring.decrypt(&evaluator.add_plain(&x, &plain).unwrap()),
            &sum,
            1e-5,
        );
        assert_close(
            &ring.decrypt(&evaluator.sub_plain(&x, &plain).unwrap()),
            &difference,
            1e-5,
        );
        let found = evaluator
            .rescale(&evaluator.mul_plain(&x, &plain).unwrap())
            .unwrap();
        assert_eq!(found.level(), 0);
        assert_close(&ring.decrypt(&found), &product, tolerance(&found));
    }
}

#[test]
fn products_relinearise_and_rescale_in_either_order() {
    for spec in specs() {
        let ring = Keyring::new(spec, &[]);
        let (slots, top) = (ring.encoder.slots(), ring.context.parameters().max_level());
        let (a, b) = (test_values(slots, 1), test_values(slots, 2));
        let (x, y) = (
            ring.encrypt(&a, top, SCALE, 1),
            ring.encrypt(&b, top, SCALE, 2),
        );
        let product: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a * b).collect();
        let evaluator = &ring.evaluator;
        let raw = evaluator.mul(&x, &y).unwrap();
        assert_eq!(raw.parts().len(), 3);
        assert_close(&ring.decrypt(&raw), &product, 1e-4);
        let two = evaluator.relinearize(&raw, &ring.keys).unwrap();
        assert_eq!(two.parts().len(), 2);
        let (rescaled, lazy) = (
            evaluator.rescale(&two).unwrap(),
            evaluator.rescale(&raw).unwrap(),
        );
        for found in [two, rescaled] {
            assert_close(&ring.decrypt(&found), &product, tolerance(&found));
        }
        // Rounding of the third part is multiplied by s^2.
        let model = NoiseModel::new(ring.context.parameters());
        let rounding = model.rescale_unrelinearized().bound / lazy.scale();
        assert_close(&ring.decrypt(&lazy), &product, tolerance(&lazy) + rounding);
        let merged = evaluator.relinearize_rescale(&raw, &ring.keys).unwrap();
        assert_eq!((merged.level(), merged.parts().len()), (top - 1, 2));
        assert_close(&ring.decrypt(&merged), &product, tolerance(&merged));
        let square: Vec<f64> = a.iter().map(|a| a * a).collect();
        assert_close(&ring.decrypt(&evaluator.square(&x).unwrap()), &square, 1e-4);
    }
}

#[test]
fn rotations_move_slot_p_plus_step_to_slot_p_at_every_level() {
    for spec in specs() {
        let ring = Keyring::new(spec, &[1, 3, 64, 1000]);
        let values = test_values(ring.encoder.slots(), 5);
        for level in 0..=ring.context.parameters().max_level() {
            let x = ring.encrypt(&values, level, SCALE, 6);
            for step in [1, 3, 64, 1000] {
                let found = ring.evaluator.rotate(&x, step, &ring.keys).unwrap();
                assert_close(&ring.decrypt(&found), &rotated(&values, step), 1e-3);
            }
            let steps = [3, 0, 1000];
            let hoisted = ring
                .evaluator
                .rotate_hoisted(&x, &steps, &ring.keys)
                .unwrap();
            for (found, step) in hoisted.iter().zip(steps) {
                assert_close(&ring.decrypt(found), &rotated(&values, step), 1e-3);
            }
        }
    }
}

#[test]
fn inner_products_equal_the_sum_of_products() {
    let ring = Keyring::new(ParameterSpec::new(13, &[45, 40, 40, 40], &[48]), &[]);
    let slots = ring.encoder.slots();
    let xs: Vec<Vec<f64>> = (0..5).map(|i| test_values(slots, i)).collect();
    let ys: Vec<Vec<f64>> = (0..5).map(|i| test_values(slots, 10 + i)).collect();
    let encrypt = |list: &[Vec<f64>], seed: u64| -> Vec<_> {
        let numbered = list.iter().zip(seed..);
        numbered
            .map(|(values, seed)| ring.encrypt(values, 2, SCALE, seed))
            .collect()
    };
    let (a, b) = (encrypt(&xs, 20), encrypt(&ys, 40));
    let (a, b): (Vec<_>, Vec<_>) = (a.iter().collect(), b.iter().collect());
    let found = ring.evaluator.inner_product(&a, &b).unwrap();
    let sum = |p: usize| xs.iter().zip(&ys).map(|(x, y)| x[p] * y[p]).sum();
    let expected: Vec<f64> = (0..slots).map(sum).collect();
    assert_close(&ring.decrypt(&found), &expected, 1e-4);
}

#[test]
fn products_relinearise_and_rotate_in_one_sum() {
    for spec in [specs()[2].clone(), specs()[4].clone()] {
        let parameters = Parameters::new(spec).unwrap();
        let top = parameters.max_level();
        let steps = BTreeMap::from([(3, top), (64, top)]);
        let manifest = KeyManifest {
            relinearization: Some(top),
            rotations: steps.clone(),
            relinearized_rotations: steps,
            ..KeyManifest::default()
        };
        let ring = Keyring::with_manifest(parameters, &manifest, Kernel::detect());
        assert_eq!(ring.keys.manifest(), manifest);
        let slots = ring.encoder.slots();
        let (a, b) = (test_values(slots, 1), test_values(slots, 2));
        let (x, y) = (
            ring.encrypt(&a, top, SCALE, 1),
            ring.encrypt(&b, top, SCALE, 2),
        );
        let product = ring.evaluator.mul(&x, &y).unwrap();
        let terms = [(&product, 0), (&product, 3), (&product, 64)];
        let found = ring
            .evaluator
            .relinearize_rotate_sum(&terms, &ring.keys)
            .unwrap();
        assert_eq!((found.parts().len(), found.level()), (2, top));
        let at = |p: usize| a[p % slots] * b[p % slots];
        let expected: Vec<f64> = (0..slots).map(|p| at(p) + at(p + 3) + at(p + 64)).collect();
        assert_close(&ring.decrypt(&found), &expected, tolerance(&found));
        let two = ring
            .evaluator
            .relinearize_rotate_sum(&[(&x, 3)], &ring.keys)
            .unwrap();
        assert_close(&ring.decrypt(&two), &rotated(&a, 3), tolerance(&two));
        let missing = ring
            .evaluator
            .relinearize_rotate_sum(&[(&product, 5)], &ring.keys);
        assert_eq!(missing.unwrap_err(), Error::MissingRotationKey { step: 5 });
    }
}
