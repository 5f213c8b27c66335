//! Exact operations end to end against schoolbook arithmetic modulo t, slot by slot.

use proptest::prelude::*;
use scuro_fhe::bgv::{BgvContext, Ciphertext, NoiseModel, SeededCiphertext};
use scuro_fhe::ckks::LEFT_OUT_MAX;
use scuro_fhe::codec::{CHECKSUM_BYTES, HEADER_BYTES, Kind, describe};
use scuro_fhe::noise::Noise;
use scuro_fhe::owner::bgv::{Decryptor, Encryptor};
use scuro_fhe::owner::{KeyGenerator, SecretKey};
use scuro_fhe::{Error, Kernel, RingKind};

use crate::common::exact::{Exact, STEPS, core, over};
use crate::common::rng;

/// Plaintext primes of about 17 to 46 bits, three degrees, one or several special primes, both
/// rings.
fn settings() -> Vec<Exact> {
    let (kernel, real) = (Kernel::detect(), RingKind::ConjugateInvariant);
    vec![
        Exact::new(&core(12, &[36, 34], &[36], kernel), 16),
        Exact::new(&core(13, &[50, 50, 50], &[50], kernel), 20),
        Exact::new(&core(13, &[50, 50, 50], &[50], kernel), 40),
        Exact::new(&core(14, &[50; 5], &[50; 2], kernel), 17),
        Exact::new(&core(14, &[50; 5], &[50; 2], kernel), 46),
        Exact::new(&over(real, 13, &[50, 50, 50], &[50], kernel), 18),
        Exact::new(&over(real, 13, &[50, 50, 50], &[50], kernel), 40),
        Exact::new(&over(real, 14, &[50; 5], &[50; 2], kernel), 46),
    ]
}

#[test]
fn encoding_returns_every_integer() {
    for ring in settings() {
        let values = ring.values(1);
        for level in 0..=ring.top() {
            let plain = ring.encoder.encode(&values, level).unwrap();
            assert_eq!(ring.encoder.decode(&plain).unwrap(), values);
            let plain = ring.encoder.encode_with_factor(&values, level, 12345);
            assert_eq!(ring.encoder.decode(&plain.unwrap()).unwrap(), values);
        }
        let half = ring.t() / 2;
        let plain = ring.encoder.encode(&[half, -half, 3], 0).unwrap();
        assert_eq!(
            ring.encoder.decode(&plain).unwrap()[..4],
            [half, -half, 3, 0]
        );
    }
}

#[test]
fn fresh_ciphertexts_decrypt_exactly_within_the_predicted_noise() {
    for ring in settings() {
        let (values, model) = (ring.values(1), NoiseModel::new(&ring.context));
        for level in 0..=ring.top() {
            let fresh = model.fresh_secret();
            if model.budget(fresh, level) <= 0.0 {
                continue;
            }
            let ciphertext = ring.encrypt(&values, level, 11);
            ring.check(&ciphertext, &values);
            let budget = ring.decryptor().noise_budget(&ciphertext).unwrap();
            let predicted = model.budget(fresh, level);
            assert!((predicted..predicted + 12.0).contains(&budget));
        }
        let generator = KeyGenerator::new(ring.context.context(), &ring.secret).unwrap();
        let public = generator.public_key(&mut rng(3));
        let plain = ring.encoder.encode(&values, ring.top()).unwrap();
        let ciphertext = public
            .encrypt_exact(&ring.context, &plain, &mut rng(4))
            .unwrap();
        ring.check(&ciphertext, &values);
        let budget = ring.decryptor().noise_budget(&ciphertext).unwrap();
        assert!(model.budget(model.fresh_public(), ring.top()) <= budget);
    }
}

#[test]
fn sums_and_plain_operands_are_exact() {
    for ring in settings() {
        let (a, b, top) = (ring.values(1), ring.values(2), ring.top());
        let (x, y) = (ring.encrypt(&a, top, 1), ring.encrypt(&b, top, 2));
        let (evaluator, plain) = (&ring.evaluator, ring.encoder.encode(&b, top).unwrap());
        let sum = ring.zip(&a, &b, |a, b| a + b);
        let difference = ring.zip(&a, &b, |a, b| a - b);
        let product = ring.zip(&a, &b, |a, b| a * b);
        ring.check(&evaluator.add(&x, &y).unwrap(), &sum);
        ring.check(&evaluator.sub(&x, &y).unwrap(), &difference);
        ring.check(&evaluator.add_plain(&x, &plain).unwrap(), &sum);
        ring.check(&evaluator.sub_plain(&x, &plain).unwrap(), &difference);
        ring.check(&evaluator.mul_plain(&x, &plain).unwrap(), &product);
        let tripled = ring.zip(&a, &a, |a, _| -3 * a);
        ring.check(&evaluator.mul_integer(&x, -3).unwrap(), &tripled);
    }
}

#[test]
fn products_are_exact_lazily_and_relinearised() {
    for ring in settings().split_off(1) {
        let (a, b, top) = (ring.values(1), ring.values(2), ring.top());
        let (x, y) = (ring.encrypt(&a, top, 1), ring.encrypt(&b, top, 2));
        let (evaluator, model) = (&ring.evaluator, NoiseModel::new(&ring.context));
        let product = ring.zip(&a, &b, |a, b| a * b);
        let raw = evaluator.mul(&x, &y).unwrap();
        assert_eq!(raw.parts().len(), 3);
        ring.check(&raw, &product);
        let lower = evaluator.mod_switch(&raw).unwrap();
        assert_eq!((lower.parts().len(), lower.level()), (3, top - 1));
        ring.check(&lower, &product);
        let two = evaluator.relinearize(&raw, &ring.keys).unwrap();
        ring.check(&two, &product);
        let predicted = model.mul(model.fresh_secret(), model.fresh_secret());
        let predicted = model.key_switch(predicted, top);
        let budget = ring.decryptor().noise_budget(&two).unwrap();
        assert!(model.budget(predicted, top) <= budget);
        let lower = evaluator.mod_switch(&two).unwrap();
        assert_ne!(lower.factor(), 1);
        ring.check(&lower, &product);
        let budget = ring.decryptor().noise_budget(&lower).unwrap();
        assert!(model.budget(model.mod_switch(predicted, top), top - 1) <= budget);
        let merged = evaluator.relinearize_mod_switch(&raw, &ring.keys).unwrap();
        assert_eq!((merged.level(), merged.factor()), (top - 1, lower.factor()));
        ring.check(&merged, &product);
        let square = ring.zip(&a, &a, |a, _| a * a);
        ring.check(&evaluator.square(&x).unwrap(), &square);
        let inner = evaluator.inner_product(&[&x, &y], &[&y, &y]).unwrap();
        ring.check(&inner, &ring.zip(&a, &b, |a, b| a * b + b * b));
        let terms = [(&raw, 0), (&raw, 5), (&raw, 700)];
        let found = evaluator
            .relinearize_rotate_sum(&terms, &ring.keys)
            .unwrap();
        let sum = ring.zip(&product, &ring.rotated(&product, 5), |a, b| a + b);
        let sum = ring.zip(&sum, &ring.rotated(&product, 700), |a, b| a + b);
        ring.check(&found, &sum);
    }
}

#[test]
fn rotations_turn_the_rows_and_swaps_exchange_them() {
    for ring in settings() {
        let (a, evaluator) = (ring.values(1), &ring.evaluator);
        let x = ring.encrypt(&a, ring.top(), 1);
        for step in STEPS {
            let found = evaluator.rotate(&x, step, &ring.keys).unwrap();
            ring.check(&found, &ring.rotated(&a, step));
        }
        let hoisted = evaluator
            .rotate_hoisted(&x, &[0, 5, 1], &ring.keys)
            .unwrap();
        for (found, step) in hoisted.iter().zip([0, 5, 1]) {
            ring.check(found, &ring.rotated(&a, step));
        }
        let found = evaluator.fold(&x, &[vec![0, 5, 1]], &ring.keys).unwrap();
        let sum = ring.zip(&a, &ring.rotated(&a, 5), |a, b| a + b);
        ring.check(&found, &ring.zip(&sum, &ring.rotated(&a, 1), |a, b| a + b));
        let found = evaluator.swap_rows(&x, &ring.keys);
        match ring.context.rows() {
            1 => assert_eq!(found, Err(Error::StandardRingOnly)),
            _ => ring.check(&found.unwrap(), &ring.swapped(&a)),
        }
    }
}

#[test]
fn operands_of_other_levels_and_factors_align() {
    for ring in settings().split_off(1) {
        let (a, b, top) = (ring.values(1), ring.values(2), ring.top());
        let (x, y) = (ring.encrypt(&a, top, 1), ring.encrypt(&b, top, 2));
        let evaluator = &ring.evaluator;
        let refused = evaluator.add(&x, &evaluator.mod_switch(&y).unwrap());
        let (left, right) = (top, top - 1);
        assert_eq!(refused.unwrap_err(), Error::LevelMismatch { left, right });
        let lower = evaluator.mod_drop(&y, top - 1).unwrap();
        let switched = evaluator.mod_switch(&x).unwrap();
        assert_ne!(lower.factor(), switched.factor());
        let sum = ring.zip(&a, &b, |a, b| a + b);
        ring.check(&evaluator.add(&switched, &lower).unwrap(), &sum);
        let (left, right) = evaluator.align(&x, &lower).unwrap();
        assert_eq!((left.level(), left.factor()), (top - 1, right.factor()));
        ring.check(&evaluator.add(&left, &right).unwrap(), &sum);
        let factor = switched.factor();
        let plain = ring.encoder.encode_with_factor(&b, top, factor).unwrap();
        ring.check(&evaluator.add_plain(&switched, &plain).unwrap(), &sum);
        let shifted = ring.zip(&a, &a, |a, _| a - 123_456_789);
        let found = evaluator.add_constant(&switched, -123_456_789).unwrap();
        ring.check(&found, &shifted);
        let plain = ring.encoder.encode(&b, top).unwrap();
        let refused = evaluator.add_plain(&switched, &plain).unwrap_err();
        let (left, right) = (factor, 1);
        assert_eq!(refused, Error::FactorMismatch { left, right });
    }
}

#[test]
fn the_scale_invariant_factor_survives_modulus_switches() {
    for ring in settings().split_off(1) {
        let (a, top) = (ring.values(1), ring.top());
        let factor = ring.context.scale_invariant_factor(top).unwrap();
        let plain = ring.encoder.encode_with_factor(&a, top, factor).unwrap();
        let encryptor = Encryptor::new(&ring.context, &ring.secret).unwrap();
        let seeded = encryptor.encrypt(&plain, &mut rng(1)).unwrap();
        let switched = ring
            .evaluator
            .mod_switch(&seeded.expand(&ring.context).unwrap())
            .unwrap();
        let expected = ring.context.scale_invariant_factor(top - 1).unwrap();
        assert_eq!(switched.factor(), expected);
        ring.check(&switched, &a);
    }
}

#[test]
fn ciphertexts_do_not_depend_on_the_kernel() {
    let run = |kernel: &str| {
        let kernel = Kernel::named(kernel).unwrap();
        let ring = Exact::new(&core(13, &[50, 50, 50], &[50], kernel), 40);
        let x = ring.encrypt(&ring.values(1), 2, 1);
        let raw = ring.evaluator.square(&x).unwrap();
        let found = ring
            .evaluator
            .relinearize_mod_switch(&raw, &ring.keys)
            .unwrap();
        let rotated = ring.evaluator.rotate(&found, 5, &ring.keys).unwrap();
        (ring.decryptor().decrypt(&rotated).unwrap(), rotated)
    };
    let portable = run("portable");
    assert!(portable == run(Kernel::detect().name()));
}

#[test]
fn misuse_is_refused_with_its_reason() {
    let core_context = core(13, &[50, 50], &[50], Kernel::detect());
    let ring = Exact::new(&core_context, 20);
    let other = Exact::new(&core_context, 40);
    let x = ring.encrypt(&[1, 2], 1, 1);
    let y = other.encrypt(&[1, 2], 1, 1);
    let mismatch = |error: Error| matches!(error, Error::ParameterMismatch { .. });
    assert!(mismatch(ring.evaluator.add(&x, &y).unwrap_err()));
    assert!(mismatch(ring.evaluator.mul(&y, &y).unwrap_err()));
    assert!(mismatch(
        ring.evaluator.rotate(&y, 1, &ring.keys).unwrap_err()
    ));
    assert!(mismatch(ring.decryptor().decrypt(&y).unwrap_err()));
    let stranger = SecretKey::generate(&core_context, &mut rng(99));
    let decryptor = Decryptor::new(&ring.context, &stranger).unwrap();
    assert!(matches!(
        decryptor.decrypt(&x),
        Err(Error::KeyMismatch { .. })
    ));
    let missing = ring.evaluator.rotate(&x, 2, &ring.keys).unwrap_err();
    assert_eq!(missing, Error::MissingRotationKey { step: 2 });
    let bottom = ring.evaluator.mod_switch(&x).unwrap();
    assert_eq!(
        ring.evaluator.mod_switch(&bottom).unwrap_err(),
        Error::NoLevelLeft
    );
    let raw = ring.evaluator.square(&x).unwrap();
    let refused = ring.evaluator.rotate(&raw, 1, &ring.keys).unwrap_err();
    assert_eq!(
        refused,
        Error::PartCount {
            found: 3,
            expected: 2
        }
    );
    let bound = (ring.t() / 2) as u64;
    let refused = ring.encoder.encode(&[0, ring.t()], 0).unwrap_err();
    assert_eq!(refused, Error::ValueOutsidePlaintext { slot: 1, bound });
    let refused = ring.encoder.encode_with_factor(&[0], 0, 0).unwrap_err();
    assert_eq!(refused, Error::BadFactor { found: 0 });
    assert!(ring.encoder.encode(&[0], 2).is_err());
}

#[test]
fn a_ciphertext_that_leaves_bits_out_is_shorter_and_no_noisier_than_predicted() {
    for ring in settings() {
        let (context, values) = (&ring.context, ring.values(1));
        let (core, model) = (context.context(), NoiseModel::new(context));
        let encryptor = Encryptor::new(context, &ring.secret).unwrap();
        let plain = ring.encoder.encode(&values, ring.top()).unwrap();
        let whole = encryptor.encrypt(&plain, &mut rng(5)).unwrap();
        let bytes = whole.to_bytes(context).len();
        for bits in [1, 3, LEFT_OUT_MAX] {
            let short = whole.clone().leaving_out(context, bits).unwrap();
            let stored = short.to_bytes(context);
            assert_eq!(
                stored.len(),
                bytes - core.parameters().n() / 8 * bits as usize
            );
            let found = SeededCiphertext::from_bytes(&stored, context).unwrap();
            assert_eq!(found, short);
            let noise = model.fresh_secret().plus(model.left_out(bits));
            let predicted = model.budget(noise, ring.top());
            if predicted <= 0.0 {
                continue;
            }
            let found = found.expand(context).unwrap();
            ring.check(&found, &values);
            let budget = ring.decryptor().noise_budget(&found).unwrap();
            assert!((predicted..predicted + 12.0).contains(&budget));
        }
        let bound = LEFT_OUT_MAX as usize + 1;
        let what = "bits left out";
        let refused = whole.leaving_out(context, LEFT_OUT_MAX + 1).unwrap_err();
        assert_eq!(
            refused,
            Error::IndexOutOfRange {
                what,
                found: bound,
                bound
            }
        );
    }
}

#[test]
fn ciphertexts_survive_the_codec_and_damage_is_refused() {
    let ring = Exact::new(&core(11, &[26], &[26], Kernel::detect()), 16);
    let context = &ring.context;
    let plain = ring.encoder.encode(&[5, -7], 0).unwrap();
    let encryptor = Encryptor::new(context, &ring.secret).unwrap();
    let seeded = encryptor.encrypt(&plain, &mut rng(1)).unwrap();
    let whole = seeded.expand(context).unwrap();
    let bytes = seeded.to_bytes(context);
    let found = SeededCiphertext::from_bytes(&bytes, context).unwrap();
    assert_eq!(found, seeded);
    assert_eq!(describe(&bytes).unwrap().kind, Kind::ExactSeededCiphertext);
    let bytes = whole.to_bytes(context);
    assert_eq!(Ciphertext::from_bytes(&bytes, context).unwrap(), whole);
    assert!(SeededCiphertext::from_bytes(&bytes, context).is_err());
    for at in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(Ciphertext::from_bytes(&damaged, context).is_err());
        assert!(Ciphertext::from_bytes(&bytes[..at], context).is_err());
    }
    // A factor of 0, with the checksum made right again.
    let mut damaged = bytes.clone();
    damaged[HEADER_BYTES..HEADER_BYTES + 8].fill(0);
    let end = damaged.len() - CHECKSUM_BYTES;
    let checksum = blake3::hash(&damaged[..end]);
    damaged[end..].copy_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
    let refused = Ciphertext::from_bytes(&damaged, context).unwrap_err();
    assert_eq!(refused, Error::BadFactor { found: 0 });
    let inner = ckks_object(&bytes);
    let refused = scuro_fhe::ckks::Ciphertext::from_bytes(&bytes, context.context());
    assert!(matches!(refused, Err(Error::Codec(_))));
    assert!(scuro_fhe::ckks::Ciphertext::from_bytes(inner, context.context()).is_ok());
    assert!(Ciphertext::from_bytes(inner, context).is_err());
}

/// The polynomials inside an object.
fn ckks_object(bytes: &[u8]) -> &[u8] {
    &bytes[HEADER_BYTES + 8..bytes.len() - CHECKSUM_BYTES]
}

#[test]
fn unusable_plain_moduli_are_refused() {
    let context = core(13, &[50, 50], &[50], Kernel::detect());
    let q = context.parameters().q()[0];
    // Even, composite, not 1 mod 2N, a ciphertext prime, too large.
    for t in [0, 1, 2, 16384, 32769, 65539, q, u64::MAX] {
        let order = 16384;
        let refused = BgvContext::new(&context, t).unwrap_err();
        assert_eq!(refused, Error::BadPlainModulus { found: t, order });
    }
    let real = RingKind::ConjugateInvariant;
    let context = over(real, 13, &[50, 50], &[50], Kernel::detect());
    // 1 modulo 2N, not 4N.
    let refused = BgvContext::new(&context, 114_689).unwrap_err();
    let (found, order) = (114_689, 32_768);
    assert_eq!(refused, Error::BadPlainModulus { found, order });
    assert!(BgvContext::new(&context, 65_537).is_ok());
}

/// One ciphertext with the integers that it should hold and its predicted noise.
#[derive(Clone)]
struct Tracked {
    ciphertext: Ciphertext,
    values: Vec<i64>,
    noise: Noise,
}

/// Applies operation number `op`; `None` if the noise would not allow it.
fn step(ring: &Exact, model: &NoiseModel, x: &Tracked, y: &Tracked, op: u8) -> Option<Tracked> {
    let (evaluator, level) = (&ring.evaluator, x.ciphertext.level());
    let with = |ciphertext, values, noise| Tracked {
        ciphertext,
        values,
        noise,
    };
    let (c, v) = (&x.ciphertext, &x.values);
    let aligned = || evaluator.align(c, &y.ciphertext).unwrap();
    let switched = model.key_switch(x.noise, level);
    let next = match op {
        0 | 1 => {
            let root = (ring.t() as f64).sqrt() + 1.0;
            let (a, b) = aligned();
            let rounding = model.mod_switch(Noise::ZERO, 0).plus(x.noise);
            let noise = rounding.plus(y.noise).plus(rounding).times(2.0 * root);
            let sum = ring.zip(v, &y.values, |a, b| a + b);
            with(evaluator.add(&a, &b).unwrap(), sum, noise)
        }
        2 => {
            let found = evaluator.rotate(c, 5, &ring.keys).unwrap();
            with(found, ring.rotated(v, 5), switched)
        }
        3 if ring.context.rows() == 1 => return None,
        3 => {
            let found = evaluator.swap_rows(c, &ring.keys).unwrap();
            with(found, ring.swapped(v), switched)
        }
        4 | 5 => {
            let raw = evaluator.square(c).unwrap();
            let found = evaluator.relinearize(&raw, &ring.keys).unwrap();
            let noise = model.key_switch(model.mul(x.noise, x.noise), level);
            with(found, ring.zip(v, v, |a, _| a * a), noise)
        }
        6 => {
            let plain = ring.encoder.encode(&y.values, level).unwrap();
            let noise = model.mul(x.noise, model.plaintext());
            let product = ring.zip(v, &y.values, |a, b| a * b);
            with(evaluator.mul_plain(c, &plain).unwrap(), product, noise)
        }
        _ if level == 0 => return None,
        _ => {
            let noise = model.mod_switch(x.noise, level);
            with(evaluator.mod_switch(c).unwrap(), v.clone(), noise)
        }
    };
    (model.budget(next.noise, next.ciphertext.level()) > 0.0).then_some(next)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn random_programs_equal_the_integers(
        ops in prop::collection::vec(0u8..9, 8),
        setting in 0usize..4,
        seed in 0u64..1000,
    ) {
        let plain_bits = [20, 40][setting % 2];
        let kind = [RingKind::Standard, RingKind::ConjugateInvariant][setting / 2];
        let core = over(kind, 14, &[50; 6], &[50; 2], Kernel::detect());
        let ring = Exact::new(&core, plain_bits);
        let model = NoiseModel::new(&ring.context);
        let values = ring.values(seed);
        let mut x = Tracked {
            ciphertext: ring.encrypt(&values, ring.top(), seed),
            values,
            noise: model.fresh_secret(),
        };
        let y = x.clone();
        for op in ops {
            let Some(next) = step(&ring, &model, &x, &y, op) else { continue };
            let decryptor = ring.decryptor();
            let budget = decryptor.noise_budget(&next.ciphertext).unwrap();
            let predicted = model.budget(next.noise, next.ciphertext.level());
            prop_assert!(budget >= predicted, "{budget} below {predicted} after {op}");
            prop_assert!(decryptor.decrypt(&next.ciphertext).unwrap() == next.values);
            x = next;
        }
    }
}
