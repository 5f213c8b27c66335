//! Scale-invariant operations end to end against schoolbook arithmetic modulo t, slot by slot.

use std::sync::Arc;

use proptest::prelude::*;
use scuro_fhe::bfv::{BfvContext, Ciphertext, Encoder, Evaluator, SUM_TERMS_MAX, SeededCiphertext};
use scuro_fhe::bgv::NoiseModel;
use scuro_fhe::flooding::Flooding;
use scuro_fhe::noise::Noise;
use scuro_fhe::owner::KeyGenerator;
use scuro_fhe::owner::bfv::{Decryptor, Encryptor};
use scuro_fhe::{Error, Kernel, RingKind};

use crate::common::exact::{Exact, core, over};
use crate::common::rng;

/// The harness of exact arithmetic, whose keys serve, with the scale-invariant objects.
struct Invariant {
    exact: Exact,
    context: Arc<BfvContext>,
    encoder: Encoder,
    evaluator: Evaluator,
    model: NoiseModel,
}

impl Invariant {
    fn new(exact: Exact) -> Self {
        let context = BfvContext::new(&exact.context).unwrap();
        Self {
            encoder: Encoder::new(&context),
            evaluator: Evaluator::new(&context),
            model: NoiseModel::new(&exact.context),
            exact,
            context,
        }
    }

    fn encrypt(&self, values: &[i64], level: usize, seed: u64) -> Ciphertext {
        let plain = self.encoder.encode(values).unwrap();
        let encryptor = Encryptor::new(&self.context, &self.exact.secret).unwrap();
        let seeded = encryptor.encrypt(&plain, level, &mut rng(seed)).unwrap();
        seeded.expand(&self.context).unwrap()
    }

    fn decryptor(&self) -> Decryptor<'_> {
        Decryptor::new(&self.context, &self.exact.secret).unwrap()
    }

    /// Checks slots and the predicted noise.
    #[track_caller]
    fn check(&self, ciphertext: &Ciphertext, expected: &[i64], noise: Noise) {
        let budget = self.decryptor().noise_budget(ciphertext).unwrap();
        let predicted = self.model.budget(noise, ciphertext.level());
        assert!(predicted > 0.0, "the test has no room: {predicted}");
        assert!(budget >= predicted, "{budget} below {predicted}");
        let found = self.decryptor().decrypt(ciphertext).unwrap();
        assert!(found == expected, "decryption is not exact");
    }
}

fn settings() -> Vec<Invariant> {
    let (kernel, real) = (Kernel::detect(), RingKind::ConjugateInvariant);
    let all = [
        Exact::new(&core(13, &[50, 50, 50], &[50], kernel), 20),
        Exact::new(&core(14, &[50; 5], &[50; 2], kernel), 17),
        Exact::new(&core(14, &[50; 6], &[50; 2], kernel), 40),
        Exact::new(&over(real, 13, &[50, 50, 50], &[50], kernel), 18),
        Exact::new(&over(real, 14, &[50; 6], &[50; 2], kernel), 40),
    ];
    all.into_iter().map(Invariant::new).collect()
}

#[test]
fn encryptions_sums_and_plain_products_are_exact() {
    for ring in settings() {
        let (exact, top, evaluator) = (&ring.exact, ring.exact.top(), &ring.evaluator);
        let (a, b) = (exact.values(1), exact.values(2));
        let (x, y) = (ring.encrypt(&a, top, 1), ring.encrypt(&b, top, 2));
        let fresh = ring.model.fresh_secret();
        ring.check(&x, &a, fresh);
        let plain = ring.encoder.encode(&b).unwrap();
        assert_eq!(ring.encoder.decode(&plain).unwrap(), b);
        let sum = exact.zip(&a, &b, |a, b| a + b);
        let difference = exact.zip(&a, &b, |a, b| a - b);
        let twice = fresh.plus(fresh);
        ring.check(&evaluator.add(&x, &y).unwrap(), &sum, twice);
        ring.check(&evaluator.sub(&x, &y).unwrap(), &difference, twice);
        ring.check(&evaluator.add_plain(&x, &plain).unwrap(), &sum, twice);
        ring.check(
            &evaluator.sub_plain(&x, &plain).unwrap(),
            &difference,
            twice,
        );
        let product = exact.zip(&a, &b, |a, b| a * b);
        let noise = ring.model.mul(fresh, ring.model.plaintext());
        ring.check(&evaluator.mul_plain(&x, &plain).unwrap(), &product, noise);
        let tripled = exact.zip(&a, &a, |a, _| -3 * a);
        let found = evaluator.mul_integer(&x, -3).unwrap();
        ring.check(&found, &tripled, fresh.times(3.0));
        let negated = exact.zip(&a, &a, |a, _| -a);
        ring.check(&evaluator.neg(&x).unwrap(), &negated, fresh);
        let generator = KeyGenerator::new(ring.context.context(), &exact.secret).unwrap();
        let public = generator.public_key(&mut rng(3));
        let found = public.encrypt_scale_invariant(&ring.context, &plain, top, &mut rng(4));
        ring.check(&found.unwrap(), &b, ring.model.fresh_public());
        let noise = ring.model.flooded(fresh, Flooding::default());
        let found = evaluator.flood(&x, fresh, &public, Flooding::default(), &mut rng(5));
        ring.check(&found.unwrap(), &a, noise);
    }
}

#[test]
fn products_of_ciphertexts_are_exact_and_keep_the_scale() {
    for ring in settings() {
        let (exact, top, evaluator) = (&ring.exact, ring.exact.top(), &ring.evaluator);
        let (a, b) = (exact.values(1), exact.values(2));
        let (x, y) = (ring.encrypt(&a, top, 1), ring.encrypt(&b, top, 2));
        let fresh = ring.model.fresh_secret();
        let product = exact.zip(&a, &b, |a, b| a * b);
        let raw = evaluator.mul(&x, &y).unwrap();
        assert_eq!((raw.parts().len(), raw.level()), (3, top));
        let noise = ring.model.mul_scale_invariant(fresh, fresh, top);
        ring.check(&raw, &product, noise);
        let two = evaluator.relinearize(&raw, &exact.keys).unwrap();
        let noise = ring.model.key_switch(noise, top);
        ring.check(&two, &product, noise);
        // No modulus switch is needed between products.
        if ring
            .model
            .budget(ring.model.mul_scale_invariant(noise, noise, top), top)
            > 0.0
        {
            let fourth = exact.zip(&product, &product, |a, b| a * b);
            let noise = ring.model.mul_scale_invariant(noise, noise, top);
            ring.check(&evaluator.square(&two).unwrap(), &fourth, noise);
        }
        let lower = evaluator.mod_switch(&two).unwrap();
        ring.check(&lower, &product, ring.model.mod_switch(noise, top));
        let square = exact.zip(&a, &a, |a, _| a * a);
        let noise = ring.model.mul_scale_invariant(fresh, fresh, top);
        ring.check(&evaluator.square(&x).unwrap(), &square, noise);
        let sum = exact.zip(&a, &b, |a, b| a * b + b * b + a * a);
        let found = evaluator
            .inner_product(&[&x, &y, &x], &[&y, &y, &x])
            .unwrap();
        ring.check(&found, &sum, noise.plus(noise).plus(noise));
        let lower = [&x, &y].map(|c| evaluator.mod_switch(c).unwrap());
        let switched = ring.model.mod_switch(fresh, top);
        let noise = ring.model.mul_scale_invariant(switched, switched, top - 1);
        if ring.model.budget(noise, top - 1) > 0.0 {
            let found = evaluator.mul(&lower[0], &lower[1]).unwrap();
            ring.check(&found, &product, noise);
        }
    }
}

#[test]
fn extreme_messages_multiply_exactly() {
    for ring in settings() {
        let (exact, top, half) = (&ring.exact, ring.exact.top(), ring.exact.t() / 2);
        let slots = ring.encoder.slots() as i64;
        let alternating: Vec<i64> = (0..slots)
            .map(|p| if p % 2 == 0 { half } else { -half })
            .collect();
        let one_hot: Vec<i64> = (0..slots).map(|p| if p == 7 { half } else { 0 }).collect();
        let noise = ring.model.fresh_secret();
        let noise = ring.model.mul_scale_invariant(noise, noise, top);
        for values in [
            vec![half; slots as usize],
            vec![-half; slots as usize],
            alternating,
            one_hot,
        ] {
            let x = ring.encrypt(&values, top, 6);
            let square = exact.zip(&values, &values, |a, b| a * b);
            ring.check(&ring.evaluator.square(&x).unwrap(), &square, noise);
        }
    }
}

#[test]
fn rotations_and_row_swaps_move_slots() {
    for ring in settings() {
        let (exact, evaluator) = (&ring.exact, &ring.evaluator);
        let (a, keys) = (exact.values(1), &exact.keys);
        let x = ring.encrypt(&a, exact.top(), 1);
        let noise = ring
            .model
            .key_switch(ring.model.fresh_secret(), exact.top());
        ring.check(
            &evaluator.rotate(&x, 5, keys).unwrap(),
            &exact.rotated(&a, 5),
            noise,
        );
        let hoisted = evaluator.rotate_hoisted(&x, &[1, 700], keys).unwrap();
        for (found, step) in hoisted.iter().zip([1, 700]) {
            ring.check(found, &exact.rotated(&a, step), noise);
        }
        let sum = exact.zip(&a, &exact.rotated(&a, 5), |a, b| a + b);
        let found = evaluator.fold(&x, &[vec![0, 5]], keys).unwrap();
        ring.check(&found, &sum, noise.plus(noise));
        match evaluator.swap_rows(&x, keys) {
            Ok(found) => ring.check(&found, &exact.swapped(&a), noise),
            Err(error) => assert_eq!(
                (error, ring.context.exact().rows()),
                (Error::StandardRingOnly, 1)
            ),
        }
    }
}

#[test]
fn products_do_not_depend_on_the_kernel() {
    let run = |kernel| {
        let exact = Exact::new(&core(13, &[50, 50, 50], &[50], kernel), 20);
        let ring = Invariant::new(exact);
        let x = ring.encrypt(&ring.exact.values(1), 2, 1);
        ring.evaluator.square(&x).unwrap()
    };
    let portable = run(Kernel::named("portable").unwrap());
    for kernel in Kernel::available() {
        assert!(run(kernel) == portable, "{kernel}");
    }
}

#[test]
fn ciphertexts_of_another_factor_and_misuse_are_refused() {
    let ring = settings().remove(0);
    let top = ring.exact.top();
    let exact = ring.exact.encrypt(&[1], top, 1);
    let refused = Ciphertext::from_exact(&ring.context, exact.clone()).unwrap_err();
    let right = ring.exact.context.scale_invariant_factor(top).unwrap();
    assert_eq!(refused, Error::FactorMismatch { left: 1, right });
    let bytes = exact.to_bytes(&ring.exact.context);
    assert!(Ciphertext::from_bytes(&bytes, &ring.context).is_err());
    let x = ring.encrypt(&[1], top, 1);
    let bytes = x.to_bytes(&ring.context);
    assert_eq!(Ciphertext::from_bytes(&bytes, &ring.context).unwrap(), x);
    let encryptor = Encryptor::new(&ring.context, &ring.exact.secret).unwrap();
    let plain = ring.encoder.encode(&[1]).unwrap();
    let seeded = encryptor.encrypt(&plain, top, &mut rng(1)).unwrap();
    let bytes = seeded.to_bytes(&ring.context);
    assert_eq!(
        SeededCiphertext::from_bytes(&bytes, &ring.context).unwrap(),
        seeded
    );
    let raw = ring.evaluator.square(&x).unwrap();
    let same = ring.evaluator.mul_exact(x.exact(), x.exact()).unwrap();
    assert_eq!(&same, raw.exact());
    let unlike = ring.evaluator.mul_exact(x.exact(), &exact).unwrap_err();
    assert_eq!(unlike, Error::FactorMismatch { left: 1, right });
    let parts = Error::PartCount {
        found: 3,
        expected: 2,
    };
    assert_eq!(ring.evaluator.mul(&raw, &x).unwrap_err(), parts);
    let lower = ring.evaluator.mod_switch(&x).unwrap();
    let levels = Error::LevelMismatch {
        left: top,
        right: top - 1,
    };
    assert_eq!(ring.evaluator.mul(&x, &lower).unwrap_err(), levels);
    let many = vec![&x; SUM_TERMS_MAX + 1];
    let refused = ring.evaluator.inner_product(&many, &many).unwrap_err();
    assert!(matches!(refused, Error::LengthMismatch { found, .. } if found == many.len()));
    let none = ring.evaluator.inner_product(&[], &[]).unwrap_err();
    assert!(matches!(none, Error::LengthMismatch { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 10,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn random_chains_of_products_equal_the_integers(
        ops in prop::collection::vec(0u8..5, 6),
        setting in 0usize..4,
        seed in 0u64..1000,
    ) {
        let bits = [17, 40][setting % 2] + 3 * (setting as u32 / 2);
        let kind = [RingKind::Standard, RingKind::ConjugateInvariant][setting / 2];
        let exact = Exact::new(&over(kind, 14, &[50; 6], &[50; 2], Kernel::detect()), bits);
        let ring = Invariant::new(exact);
        let (evaluator, keys, model) = (&ring.evaluator, &ring.exact.keys, &ring.model);
        let start = ring.exact.values(seed);
        let y = ring.encrypt(&start, ring.exact.top(), seed);
        let (mut x, mut values, mut noise) = (y.clone(), start.clone(), model.fresh_secret());
        for op in ops {
            let level = x.level();
            let (next, expected, predicted) = match op {
                0 | 1 => {
                    let raw = evaluator.square(&x).unwrap();
                    let found = evaluator.relinearize(&raw, keys).unwrap();
                    let product = model.mul_scale_invariant(noise, noise, level);
                    let predicted = model.key_switch(product, level);
                    (found, ring.exact.zip(&values, &values, |a, b| a * b), predicted)
                }
                2 => {
                    let found = evaluator.rotate(&x, 5, keys).unwrap();
                    (found, ring.exact.rotated(&values, 5), model.key_switch(noise, level))
                }
                3 if level > 0 => {
                    let found = evaluator.mod_switch(&x).unwrap();
                    (found, values.clone(), model.mod_switch(noise, level))
                }
                _ => {
                    let plain = ring.encoder.encode(&start).unwrap();
                    let found = evaluator.mul_plain(&x, &plain).unwrap();
                    let product = ring.exact.zip(&values, &start, |a, b| a * b);
                    (found, product, model.mul(noise, model.plaintext()))
                }
            };
            if model.budget(predicted, next.level()) <= 0.0 {
                continue;
            }
            ring.check(&next, &expected, predicted);
            (x, values, noise) = (next, expected, predicted);
        }
    }
}
