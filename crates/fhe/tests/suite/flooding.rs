//! Flooded results: exact or within their noise, fresh in their uniform part, independent of how
//! they were computed.

use scuro_fhe::bgv;
use scuro_fhe::ckks::Ciphertext;
use scuro_fhe::flooding::Flooding;
use scuro_fhe::keys::PublicKey;
use scuro_fhe::noise::{NoiseModel, Operand};
use scuro_fhe::owner::{Decryptor, KeyGenerator};
use scuro_fhe::params::ParameterSpec;
use scuro_fhe::{Error, Kernel, RingKind};

use crate::common::exact::{Exact, core, over};
use crate::common::{Keyring, assert_noise_below, rng, test_values};

const SCALE: f64 = (1u64 << 40) as f64;

fn public(ring: &Keyring) -> PublicKey {
    let generator = KeyGenerator::new(&ring.context, &ring.secret).unwrap();
    generator.public_key(&mut rng(31))
}

fn exact_public(ring: &Exact) -> PublicKey {
    let generator = KeyGenerator::new(ring.context.context(), &ring.secret).unwrap();
    generator.public_key(&mut rng(31))
}

#[test]
fn flooded_integers_stay_exact_for_noise_below_and_above_a_word() {
    let (kernel, real) = (Kernel::detect(), RingKind::ConjugateInvariant);
    for ring in [
        Exact::new(&core(14, &[50; 5], &[50; 2], kernel), 20),
        Exact::new(&over(real, 14, &[50; 5], &[50; 2], kernel), 40),
    ] {
        let (values, model) = (ring.values(1), bgv::NoiseModel::new(&ring.context));
        let x = ring.encrypt(&values, ring.top(), 2);
        let product = ring.evaluator.square(&x).unwrap();
        let noise = model.mul(model.fresh_secret(), model.fresh_secret());
        let noise = model.key_switch(noise, ring.top());
        let product = ring.evaluator.relinearize(&product, &ring.keys).unwrap();
        let expected = ring.zip(&values, &values, |a, b| a * b);
        for bits in [1, 20, 40, 80] {
            for flooding in [
                Flooding::Statistical { bits },
                Flooding::Relaxed {
                    bits,
                    decryptions: 1000,
                },
            ] {
                let public = exact_public(&ring);
                let evaluator = &ring.evaluator;
                let flooded = evaluator.flood(&product, noise, &public, flooding, &mut rng(3));
                let flooded = flooded.unwrap();
                ring.check(&flooded, &expected);
                let budget = ring.decryptor().noise_budget(&flooded).unwrap();
                let before = ring.decryptor().noise_budget(&product).unwrap();
                let predicted = model.flooded(noise, flooding);
                assert!(budget >= model.budget(predicted, ring.top()));
                let wanted = f64::from(bits)
                    / if let Flooding::Relaxed { .. } = flooding {
                        2.0
                    } else {
                        1.0
                    };
                assert!(
                    budget < before - wanted,
                    "{budget} of {before} after {flooding:?}"
                );
            }
        }
    }
}

#[test]
fn flooding_without_room_is_refused() {
    let ring = Exact::new(&core(13, &[50, 50], &[50], Kernel::detect()), 40);
    let (model, public) = (bgv::NoiseModel::new(&ring.context), exact_public(&ring));
    let x = ring.encrypt(&ring.values(1), 0, 1);
    let flood = |flooding| {
        let (evaluator, noise) = (&ring.evaluator, model.fresh_secret());
        evaluator.flood(&x, noise, &public, flooding, &mut rng(3))
    };
    let found = flood(Flooding::default());
    assert!(matches!(found, Err(Error::NoRoomToFlood { room_bits, .. }) if room_bits < 10.0));
    let range = |what, found, max| {
        let min = 1;
        Err(Error::FloodingOutOfRange {
            what,
            found,
            min,
            max,
        })
    };
    let found = flood(Flooding::Statistical { bits: 0 });
    assert_eq!(found, range("flooding bits", 0, 128));
    let found = flood(Flooding::Relaxed {
        bits: 30,
        decryptions: 0,
    });
    assert_eq!(found, range("decryptions", 0, 1 << 30));
    let endless = scuro_fhe::noise::Noise {
        std: 1.0,
        bound: f64::NAN,
    };
    let (evaluator, x) = (&ring.evaluator, ring.encrypt(&ring.values(1), 1, 1));
    let found = evaluator.flood(&x, endless, &public, Flooding::default(), &mut rng(3));
    assert!(matches!(found, Err(Error::NoRoomToFlood { .. })));
    let flooded = model.flooded(endless, Flooding::default());
    assert_eq!(flooded.bound, f64::INFINITY, "predicted without a bound");
    let square = evaluator.square(&ring.encrypt(&[1], 1, 1)).unwrap();
    let noise = model.fresh_secret();
    let found = evaluator.flood(&square, noise, &public, Flooding::default(), &mut rng(3));
    assert!(matches!(found, Err(Error::PartCount { .. })));
}

/// Two ciphertexts of one message with errors of different size and shape, and a bound for both.
fn two_computations(ring: &Keyring) -> ([Ciphertext; 2], Operand) {
    let (level, model) = (2, NoiseModel::new(ring.context.parameters()));
    let values = test_values(ring.encoder.slots(), 1);
    let fresh = ring.encrypt(&values, level, SCALE, 4);
    let zero = ring.encrypt(&[0.0], level, SCALE, 5);
    let noisy = ring.evaluator.mul_integer(&zero, 1000).unwrap();
    let noisy = ring.evaluator.add(&fresh, &noisy).unwrap();
    let noise = model
        .fresh_secret()
        .plus(model.fresh_secret().times(1000.0));
    let operand = Operand {
        magnitude: SCALE,
        noise,
    };
    ([fresh, noisy], operand)
}

/// Coefficients of message and error.
fn phase(ring: &Keyring, ciphertext: &Ciphertext) -> Vec<f64> {
    let decryptor = Decryptor::new(&ring.context, &ring.secret).unwrap();
    let poly = decryptor.decrypt(ciphertext).unwrap().poly().clone();
    let modulus = ring.context.ring();
    let poly = poly.into_coeff(modulus);
    let q = modulus.prime(0).modulus();
    poly.limb(0).iter().map(|&x| q.centre(x) as f64).collect()
}

/// Two-sample statistic of Kolmogorov and Smirnov, times sqrt(n m / (n + m)).
fn distance(mut a: Vec<f64>, mut b: Vec<f64>) -> f64 {
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let (mut i, mut j, mut largest) = (0, 0, 0.0f64);
    while i < a.len() && j < b.len() {
        if a[i] <= b[j] {
            i += 1;
        } else {
            j += 1;
        }
        let gap = i as f64 / a.len() as f64 - j as f64 / b.len() as f64;
        largest = largest.max(gap.abs());
    }
    largest * ((a.len() * b.len()) as f64 / (a.len() + b.len()) as f64).sqrt()
}

#[test]
fn decryptions_of_different_computations_are_distributed_alike_once_flooded() {
    let ring = Keyring::new(ParameterSpec::new(13, &[50, 50, 50], &[50]), &[]);
    let (ciphertexts, operand) = two_computations(&ring);
    let (public, exact) = (
        public(&ring),
        ring.encoder.encode(&test_values(8192, 1), 0, SCALE),
    );
    let exact = exact
        .unwrap()
        .poly()
        .clone()
        .into_coeff(ring.context.ring());
    let q = ring.context.ring().prime(0).modulus();
    let errors = |ciphertext: &Ciphertext| -> Vec<f64> {
        let message = exact.limb(0).iter().map(|&x| q.centre(x) as f64);
        let phase = phase(&ring, ciphertext);
        phase.iter().zip(message).map(|(x, m)| x - m).collect()
    };
    // The 0.999999 quantile.
    const QUANTILE: f64 = 2.7;
    let [a, b] = ciphertexts.each_ref().map(errors);
    assert!(distance(a, b) > 10.0 * QUANTILE);
    for flooding in [
        Flooding::Statistical { bits: 12 },
        Flooding::Relaxed {
            bits: 20,
            decryptions: 4,
        },
    ] {
        let mut rng = rng(8);
        let [a, b] = ciphertexts.each_ref().map(|ciphertext| {
            let evaluator = &ring.evaluator;
            let flooded = evaluator.flood(ciphertext, operand, &public, flooding, &mut rng);
            errors(&flooded.unwrap())
        });
        let bound = operand.noise.bound;
        let deviation = (a.iter().map(|x| x * x).sum::<f64>() / a.len() as f64).sqrt();
        assert!(deviation > 2f64.powi(9) * bound, "{deviation} for {bound}");
        let found = distance(a, b);
        assert!(found < QUANTILE, "{flooding:?}: {found}");
    }
}

#[test]
fn the_uniform_part_of_a_flooded_result_is_uncorrelated_with_the_query() {
    let ring = Keyring::new(ParameterSpec::new(13, &[50, 50, 50], &[50]), &[]);
    let ([query, _], operand) = two_computations(&ring);
    let (public, modulus) = (public(&ring), ring.context.ring());
    let flood = |seed| {
        let flooding = Flooding::Statistical { bits: 10 };
        let evaluator = &ring.evaluator;
        let flooded = evaluator.flood(&query, operand, &public, flooding, &mut rng(seed));
        flooded.unwrap()
    };
    let (first, second) = (flood(1), flood(2));
    let q = modulus.prime(0).modulus().value() as f64;
    let unit = |x: u64| x as f64 / q - 0.5;
    for (a, b) in [(&query, &first), (&first, &second), (&query, &second)] {
        let pairs = a.parts()[1].limb(0).iter().zip(b.parts()[1].limb(0));
        let n = pairs.len() as f64;
        let covariance: f64 = pairs.map(|(&x, &y)| unit(x) * unit(y)).sum::<f64>() / n;
        // Uniform values have variance 1/12, their product 1/144.
        assert!((12.0 * covariance).abs() < 5.0 / n.sqrt());
        // What was added is uniform too.
        let mut difference = b.parts()[1].clone();
        difference.sub_assign(modulus, &a.parts()[1]);
        let mut cells = [0f64; 32];
        let row = difference.limb(0).iter();
        row.for_each(|&x| cells[(x as f64 / q * 32.0) as usize] += 32.0 / n);
        let chi_square = cells.iter().map(|c| (c - 1.0).powi(2)).sum::<f64>() * n / 32.0;
        // The 0.999999 quantile with 31 degrees of freedom is 82.
        assert!(chi_square < 82.0, "{chi_square}");
    }
}

#[test]
fn flooded_reals_stay_within_the_predicted_noise() {
    for ring in [RingKind::Standard, RingKind::ConjugateInvariant] {
        let spec = ParameterSpec {
            ring,
            ..ParameterSpec::new(13, &[50, 50, 50], &[50])
        };
        let ring = Keyring::new(spec, &[]);
        let ([_, noisy], operand) = two_computations(&ring);
        let values = test_values(ring.encoder.slots(), 1);
        let model = NoiseModel::new(ring.context.parameters());
        for flooding in [
            Flooding::default(),
            Flooding::Relaxed {
                bits: 30,
                decryptions: 1,
            },
        ] {
            let evaluator = &ring.evaluator;
            let flooded = evaluator.flood(&noisy, operand, &public(&ring), flooding, &mut rng(9));
            let found = ring.decrypt(&flooded.unwrap());
            let predicted = model.flooded(operand.noise, flooding);
            let margin = assert_noise_below(&found, &values, SCALE, predicted);
            assert!(margin < 4.0, "{margin} bits");
        }
    }
}
