//! Wrong keys, wrong parameters, wrong operands: each a typed error.

use crate::common::{Keyring, rng, test_values};
use scuro_fhe::ckks::{Encoder, Evaluator};
use scuro_fhe::keys::KeyManifest;
use scuro_fhe::owner::{Decryptor, Encryptor, KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Context, Error, RingKind};

const SCALE: f64 = (1u64 << 28) as f64;

fn spec() -> ParameterSpec {
    ParameterSpec::new(12, &[36, 32], &[37])
}

#[test]
fn another_secret_key_is_detected_everywhere() {
    let ring = Keyring::new(spec(), &[1]);
    let other = SecretKey::generate(&ring.context, &mut rng(99));
    let x = ring.encrypt(&[1.0], 1, SCALE, 1);
    let mismatch = Error::KeyMismatch {
        found: x.key_id(),
        expected: other.key_id(),
    };
    let decryptor = Decryptor::new(&ring.context, &other).unwrap();
    assert_eq!(decryptor.decrypt(&x).unwrap_err(), mismatch);
    let plain = ring.encoder.encode(&[1.0], 1, SCALE).unwrap();
    let foreign = Encryptor::new(&ring.context, &other).unwrap();
    let y = foreign
        .encrypt(&plain, &mut rng(1))
        .unwrap()
        .expand(&ring.context)
        .unwrap();
    let is_mismatch = |error: Error| matches!(error, Error::KeyMismatch { .. });
    assert!(is_mismatch(ring.evaluator.add(&x, &y).unwrap_err()));
    assert!(is_mismatch(ring.evaluator.mul(&x, &y).unwrap_err()));
    assert!(is_mismatch(
        ring.evaluator.rotate(&y, 1, &ring.keys).unwrap_err()
    ));
    let square = ring.evaluator.square(&y).unwrap();
    assert!(is_mismatch(
        ring.evaluator.relinearize(&square, &ring.keys).unwrap_err()
    ));
}

#[test]
fn another_parameter_set_is_detected_everywhere() {
    let ring = Keyring::new(spec(), &[1]);
    let other = Keyring::new(ParameterSpec::new(12, &[36, 31], &[37]), &[1]);
    let (x, y) = (
        ring.encrypt(&[1.0], 1, SCALE, 1),
        other.encrypt(&[1.0], 1, SCALE, 1),
    );
    let is_mismatch = |error: Error| matches!(error, Error::ParameterMismatch { .. });
    assert!(is_mismatch(ring.evaluator.add(&x, &y).unwrap_err()));
    assert!(is_mismatch(ring.evaluator.rescale(&y).unwrap_err()));
    assert!(is_mismatch(
        ring.evaluator.rotate(&x, 1, &other.keys).unwrap_err()
    ));
    let plain = other.encoder.encode(&[1.0], 1, SCALE).unwrap();
    assert!(is_mismatch(
        ring.evaluator.mul_plain(&x, &plain).unwrap_err()
    ));
    assert!(is_mismatch(ring.encoder.decode(&plain).unwrap_err()));
    assert!(is_mismatch(
        KeyGenerator::new(&ring.context, &other.secret)
            .err()
            .unwrap()
    ));
}

#[test]
fn missing_and_low_keys_name_the_step() {
    let parameters = Parameters::new(spec()).unwrap();
    let rotations = [(3, 0)].into();
    let manifest = KeyManifest {
        relinearization: Some(0),
        rotations,
        ..KeyManifest::default()
    };
    let ring = Keyring::with_manifest(parameters, &manifest, scuro_fhe::Kernel::detect());
    assert_eq!(ring.keys.manifest(), manifest);
    let x = ring.encrypt(&test_values(4096, 1), 1, SCALE, 1);
    let (evaluator, keys) = (&ring.evaluator, &ring.keys);
    let missing = evaluator.rotate(&x, 2, keys).unwrap_err();
    assert_eq!(missing, Error::MissingRotationKey { step: 2 });
    assert!(missing.to_string().contains("step 2"));
    let low = evaluator.rotate(&x, 3, keys).unwrap_err();
    assert_eq!(
        low,
        Error::KeyLevelTooLow {
            step: Some(3),
            found: 1,
            max: 0
        }
    );
    let square = evaluator.square(&x).unwrap();
    let low = evaluator.relinearize(&square, keys).unwrap_err();
    assert_eq!(
        low,
        Error::KeyLevelTooLow {
            step: None,
            found: 1,
            max: 0
        }
    );
    assert_eq!(
        evaluator.rotate(&square, 3, keys).unwrap_err(),
        Error::PartCount {
            found: 3,
            expected: 2
        }
    );
    let dropped = evaluator.mod_drop(&x, 0).unwrap();
    assert!(evaluator.rotate(&dropped, 3, keys).is_ok());
}

#[test]
fn levels_and_scales_must_agree() {
    let ring = Keyring::new(spec(), &[]);
    let evaluator = &ring.evaluator;
    let x = ring.encrypt(&[1.0], 1, SCALE, 1);
    let low = evaluator.mod_drop(&x, 0).unwrap();
    let other = ring.encrypt(&[1.0], 1, SCALE * 1.001, 1);
    let nearly = ring.encrypt(&[1.0], 1, SCALE * (1.0 + 1e-7), 1);
    assert_eq!(
        evaluator.add(&x, &low).unwrap_err(),
        Error::LevelMismatch { left: 1, right: 0 }
    );
    assert!(matches!(
        evaluator.add(&x, &other).unwrap_err(),
        Error::ScaleMismatch { .. }
    ));
    assert!(evaluator.add(&x, &nearly).is_ok());
    assert_eq!(evaluator.rescale(&low).unwrap_err(), Error::NoLevelLeft);
    assert_eq!(
        evaluator.mod_drop(&low, 1).unwrap_err(),
        Error::LevelTooHigh { found: 1, max: 0 }
    );
    let inner = evaluator.inner_product(&[&x], &[]).unwrap_err();
    assert!(matches!(
        inner,
        Error::LengthMismatch {
            found: 0,
            expected: 1,
            ..
        }
    ));
}

#[test]
fn values_that_cannot_be_encoded_are_refused() {
    let ring = Keyring::new(spec(), &[]);
    let encode =
        |values: &[f64], level, scale| ring.encoder.encode(values, level, scale).unwrap_err();
    assert_eq!(
        encode(&[0.0, f64::NAN], 1, SCALE),
        Error::NotFinite { slot: 1 }
    );
    assert_eq!(
        encode(&[f64::INFINITY], 1, SCALE),
        Error::NotFinite { slot: 0 }
    );
    assert!(matches!(
        encode(&[300.0], 0, SCALE),
        Error::ValueTooLarge { level: 0, .. }
    ));
    assert!(ring.encoder.encode(&[100.0], 0, SCALE).is_ok());
    assert!(matches!(
        encode(&[0.0; 4097], 0, SCALE),
        Error::LengthMismatch { found: 4097, .. }
    ));
    assert!(matches!(
        encode(&[1.0], 2, SCALE),
        Error::LevelTooHigh { found: 2, max: 1 }
    ));
    for scale in [0.0, 0.5, -1.0, f64::NAN, f64::INFINITY, 2f64.powi(70)] {
        assert!(matches!(encode(&[1.0], 1, scale), Error::BadScale { .. }));
    }
    let complex = ring
        .encoder
        .encode_complex(&[1.0], &[1.0], 1, SCALE)
        .unwrap_err();
    assert_eq!(complex, Error::RealSlotsOnly);
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    let ring = Keyring::new(spec(), &[]);
    let generator = KeyGenerator::new(&ring.context, &ring.secret).unwrap();
    let refused = |manifest| {
        generator
            .evaluation_keys(&manifest, &mut rng(1))
            .unwrap_err()
    };
    let level = KeyManifest {
        relinearization: Some(2),
        ..KeyManifest::default()
    };
    assert_eq!(refused(level), Error::LevelTooHigh { found: 2, max: 1 });
    for step in [0, 4096] {
        let steps = KeyManifest {
            rotations: [(step, 0)].into(),
            ..KeyManifest::default()
        };
        assert!(matches!(refused(steps), Error::IndexOutOfRange { found, .. } if found == step));
    }
    let conjugation = KeyManifest {
        conjugation: Some(0),
        ..KeyManifest::default()
    };
    assert_eq!(refused(conjugation), Error::RealSlotsOnly);
}

#[test]
fn conjugation_negates_the_imaginary_parts() {
    let parameters = Parameters::new(ParameterSpec {
        ring: RingKind::Standard,
        ..spec()
    })
    .unwrap();
    let manifest = KeyManifest {
        conjugation: Some(1),
        ..KeyManifest::default()
    };
    let ring = Keyring::with_manifest(parameters, &manifest, scuro_fhe::Kernel::detect());
    let (re, im) = (test_values(2048, 1), test_values(2048, 2));
    let plain = ring.encoder.encode_complex(&re, &im, 1, SCALE).unwrap();
    let encryptor = Encryptor::new(&ring.context, &ring.secret).unwrap();
    let x = encryptor
        .encrypt(&plain, &mut rng(1))
        .unwrap()
        .expand(&ring.context)
        .unwrap();
    let found = ring.evaluator.conjugate(&x, &ring.keys).unwrap();
    let decryptor = Decryptor::new(&ring.context, &ring.secret).unwrap();
    let (found_re, found_im) = ring
        .encoder
        .decode_complex(&decryptor.decrypt(&found).unwrap())
        .unwrap();
    let negated: Vec<f64> = im.iter().map(|v| -v).collect();
    crate::common::assert_close(&found_re, &re, 1e-3);
    crate::common::assert_close(&found_im, &negated, 1e-3);
}

#[test]
fn every_ciphertext_has_its_own_seed_and_uniform_part() {
    let ring = Keyring::new(spec(), &[]);
    let plain = ring.encoder.encode(&[1.0], 1, SCALE).unwrap();
    let encryptor = Encryptor::new(&ring.context, &ring.secret).unwrap();
    let mut rng = rng(1);
    let fresh: Vec<_> = (0..64)
        .map(|_| encryptor.encrypt(&plain, &mut rng).unwrap())
        .collect();
    for (i, x) in fresh.iter().enumerate() {
        for y in &fresh[..i] {
            assert_ne!(x.seed(), y.seed());
            let (x, y) = (
                x.expand(&ring.context).unwrap(),
                y.expand(&ring.context).unwrap(),
            );
            assert_ne!(x.parts()[1], y.parts()[1]);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_every_kernel() {
    let bytes: Vec<Vec<u8>> = scuro_fhe::Kernel::available()
        .into_iter()
        .map(|kernel| {
            let ring = Keyring::with_kernel(ParameterSpec::new(13, &[41; 4], &[50]), &[1], kernel);
            let values = test_values(8192, 1);
            let x = ring.encrypt(&values, 3, SCALE, 3);
            let square = ring.evaluator.square(&x).unwrap();
            let y = ring
                .evaluator
                .relinearize_rescale(&square, &ring.keys)
                .unwrap();
            let z = ring.evaluator.rotate(&y, 1, &ring.keys).unwrap();
            let mut bytes = z.to_bytes(&ring.context);
            bytes.extend(ring.keys.to_bytes(&ring.context));
            bytes
        })
        .collect();
    for pair in bytes.windows(2) {
        assert!(pair[0] == pair[1], "kernels differ");
    }
}

#[test]
fn secret_keys_are_redacted_and_everything_else_can_cross_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Context>();
    shared::<Evaluator>();
    shared::<Encoder>();
    shared::<SecretKey>();
    shared::<scuro_fhe::keys::EvaluationKeys>();
    shared::<scuro_fhe::ckks::Ciphertext>();
    shared::<scuro_fhe::circuits::linear::PreparedTransform>();
    shared::<scuro_fhe::circuits::linear::Operands>();
    let ring = Keyring::new(spec(), &[]);
    assert_eq!(
        format!("{:?}", ring.secret),
        format!("SecretKey({}, redacted)", ring.secret.key_id())
    );
}
