//! Measured noise against the predicted bound, over random and adversarial inputs.

use crate::common::exact::{Exact, core};
use crate::common::{Keyring, assert_noise_below, rng, test_values};
use scuro_fhe::bfv::{self, BfvContext};
use scuro_fhe::bgv;
use scuro_fhe::circuits::linear::encrypted::{EncryptedDiagonal, EncryptedTransform};
use scuro_fhe::circuits::linear::{Diagonal, LinearTransform, SlotValues, exact};
use scuro_fhe::ckks::Ciphertext;
use scuro_fhe::keys::KeyManifest;
use scuro_fhe::noise::{Noise, NoiseModel, Operand};
use scuro_fhe::owner::{Decryptor, KeyGenerator, bfv as bfv_owner};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Kernel, RingKind};

const SCALE: f64 = (1u64 << 28) as f64;
/// Inputs tried per operation; each fills every slot.
const TRIALS: u64 = 1000;

/// Random vectors, and every seventh one of the extreme shapes.
fn inputs(slots: usize, trial: u64) -> Vec<f64> {
    match trial % 7 {
        0 => vec![1.0; slots],
        1 => (0..slots)
            .map(|i| if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect(),
        2 => {
            let mut one = vec![0.0; slots];
            one[trial as usize % slots] = 1.0;
            one
        }
        3 => vec![-1.0; slots],
        _ => test_values(slots, trial),
    }
}

fn ring() -> Keyring {
    Keyring::new(ParameterSpec::new(12, &[36, 32], &[37]), &[1, 5])
}

/// Runs `trial` on every input and returns the least margin in bits.
fn least_margin(ring: &Keyring, mut trial: impl FnMut(u64, &[f64], &Ciphertext) -> f64) -> f64 {
    let slots = ring.encoder.slots();
    (0..TRIALS)
        .map(|seed| {
            let values = inputs(slots, seed);
            let x = ring.encrypt(&values, 1, SCALE, seed);
            trial(seed, &values, &x)
        })
        .fold(f64::INFINITY, f64::min)
}

fn fresh(ring: &Keyring) -> (NoiseModel, Operand) {
    let model = NoiseModel::new(ring.context.parameters());
    let noise = model.fresh_secret();
    (
        model,
        Operand {
            magnitude: SCALE,
            noise,
        },
    )
}

#[test]
fn fresh_and_added_ciphertexts_stay_below_their_bounds() {
    let ring = ring();
    let (model, operand) = fresh(&ring);
    let public = KeyGenerator::new(&ring.context, &ring.secret)
        .unwrap()
        .public_key(&mut rng(1));
    let margin = least_margin(&ring, |seed, values, x| {
        let plain = ring.encoder.encode(values, 1, SCALE).unwrap();
        let y = public
            .encrypt(&ring.context, &plain, &mut rng(seed))
            .unwrap();
        let sum = ring.evaluator.add(x, &y).unwrap();
        let doubled: Vec<f64> = values.iter().map(|v| 2.0 * v).collect();
        let predicted = operand.noise.plus(model.fresh_public());
        let fresh = assert_noise_below(&ring.decrypt(x), values, SCALE, operand.noise);
        assert_noise_below(&ring.decrypt(&y), values, SCALE, model.fresh_public());
        assert_noise_below(&ring.decrypt(&sum), &doubled, SCALE, predicted);
        fresh
    });
    // A bound that is never approached would be useless for choosing scales.
    assert!(
        margin < 3.0,
        "least margin of fresh ciphertexts: {margin:.1} bits"
    );
}

#[test]
fn products_stay_below_their_bounds() {
    let ring = ring();
    let (model, operand) = fresh(&ring);
    let plain = Operand {
        magnitude: SCALE,
        noise: model.encoding(),
    };
    least_margin(&ring, |seed, values, x| {
        let factors = inputs(values.len(), seed + 3);
        let product: Vec<f64> = values.iter().zip(&factors).map(|(a, b)| a * b).collect();
        let encoded = ring.encoder.encode(&factors, 1, SCALE).unwrap();
        let y = ring.encrypt(&factors, 1, SCALE, seed + 5000);
        let by_plain = ring.decrypt(&ring.evaluator.mul_plain(x, &encoded).unwrap());
        let by_ciphertext = ring.decrypt(&ring.evaluator.mul(x, &y).unwrap());
        let predicted = model.mul_plain(operand, plain);
        let margin = assert_noise_below(&by_plain, &product, SCALE * SCALE, predicted);
        assert_noise_below(
            &by_ciphertext,
            &product,
            SCALE * SCALE,
            model.mul(operand, operand),
        );
        margin
    });
}

#[test]
fn key_switches_and_rescales_stay_below_their_bounds() {
    let ring = ring();
    let (model, operand) = fresh(&ring);
    let q = ring.context.parameters().q()[1] as f64;
    least_margin(&ring, |_, values, x| {
        let slots = values.len();
        let rotated = ring.evaluator.rotate(x, 5, &ring.keys).unwrap();
        let expected: Vec<f64> = (0..slots).map(|p| values[(p + 5) % slots]).collect();
        let predicted = operand.noise.plus(model.key_switch(1));
        let margin = assert_noise_below(&ring.decrypt(&rotated), &expected, SCALE, predicted);
        let square = ring.evaluator.square(x).unwrap();
        let expected: Vec<f64> = values.iter().map(|v| v * v).collect();
        let squared = model.mul(operand, operand);
        let two = ring.evaluator.relinearize(&square, &ring.keys).unwrap();
        let predicted = squared.plus(model.key_switch(1));
        assert_noise_below(&ring.decrypt(&two), &expected, two.scale(), predicted);
        let merged = ring
            .evaluator
            .relinearize_rescale(&square, &ring.keys)
            .unwrap();
        let predicted = model.divided(squared.plus(model.key_switch_exact(1)), q);
        assert_noise_below(&ring.decrypt(&merged), &expected, merged.scale(), predicted);
        let lazy = ring.evaluator.rescale(&square).unwrap();
        let predicted = squared
            .times(q.recip())
            .plus(model.rescale_unrelinearized());
        assert_noise_below(&ring.decrypt(&lazy), &expected, lazy.scale(), predicted);
        margin
    });
}

#[test]
fn linear_transforms_stay_below_their_bound() {
    let ring = ring();
    let (model, operand) = fresh(&ring);
    let slots = ring.encoder.slots();
    let diagonals: Vec<Vec<f64>> = (0..4).map(|i| inputs(slots, i)).collect();
    let place = |i: usize| ([0, 5][i / 2], [0, 1][i % 2]);
    let transform = LinearTransform {
        inputs: 1,
        outputs: 1,
        scale: SCALE,
        diagonals: (0..4)
            .map(|i| {
                let (giant, baby) = place(i);
                let values = SlotValues::Dense(diagonals[i].clone());
                Diagonal {
                    output: 0,
                    input: 0,
                    giant,
                    baby,
                    values,
                }
            })
            .collect(),
    };
    let prepared = transform.prepare(&ring.encoder, 1).unwrap();
    let plain = Operand {
        magnitude: SCALE,
        noise: model.encoding(),
    };
    let baby = operand.noise.plus(model.key_switch_exact(1));
    let term = model.mul_plain(
        Operand {
            noise: baby,
            ..operand
        },
        plain,
    );
    let giants = model.key_switch(1).plus(model.rescale());
    let predicted = [term; 4].into_iter().fold(giants, Noise::plus);
    least_margin(&ring, |_, values, x| {
        let found = prepared.apply(&ring.evaluator, &[x], &ring.keys).unwrap();
        let sum = |p: usize| {
            let source = |i: usize| (p + place(i).0 + place(i).1) % slots;
            (0..4).map(|i| diagonals[i][p] * values[source(i)]).sum()
        };
        let expected: Vec<f64> = (0..slots).map(sum).collect();
        assert_noise_below(
            &ring.decrypt(&found[0]),
            &expected,
            SCALE * SCALE,
            predicted,
        )
    });
}

#[test]
fn standard_deviations_agree_with_the_model() {
    let spec = ParameterSpec::new(13, &[45, 40, 40, 40], &[48]);
    let ring = Keyring::new(spec, &[1]);
    let (model, operand) = fresh(&ring);
    let zeros = vec![0.0; ring.encoder.slots()];
    let decryptor = Decryptor::new(&ring.context, &ring.secret).unwrap();
    let x = ring.encrypt(&zeros, 3, SCALE, 1);
    let std = |x: &Ciphertext| decryptor.noise(x, &zeros).unwrap().noise_std;
    let rotated = ring.evaluator.rotate(&x, 1, &ring.keys).unwrap();
    let mut rescaled = ring.evaluator.rescale(&x).unwrap();
    rescaled.set_scale(SCALE).unwrap();
    let generator = KeyGenerator::new(&ring.context, &ring.secret).unwrap();
    let public = generator.public_key(&mut rng(2));
    let plain = ring.encoder.encode(&zeros, 3, SCALE).unwrap();
    let foreign = public.encrypt(&ring.context, &plain, &mut rng(3));
    let cases = [
        ("fresh", std(&x), operand.noise),
        (
            "fresh under the public key",
            std(&foreign.unwrap()),
            model.fresh_public(),
        ),
        (
            "rotated",
            std(&rotated),
            operand.noise.plus(model.key_switch(3)),
        ),
        ("rescaled", std(&rescaled), model.rescale()),
    ];
    for (name, found, predicted) in cases {
        let ratio = found / predicted.std;
        assert!(
            (0.9..1.1).contains(&ratio),
            "{name}: {found:.0} is {ratio:.2} of the predicted std"
        );
    }
}

#[test]
fn headroom_counts_the_bits_above_message_and_noise() {
    let ring = ring();
    let values = vec![1.0; ring.encoder.slots()];
    let decryptor = Decryptor::new(&ring.context, &ring.secret).unwrap();
    let x = ring.encrypt(&values, 1, SCALE, 1);
    let report = decryptor.noise(&x, &values).unwrap();
    // A constant vector is the constant polynomial of 2^28, so 68 - 1 - 28 bits are left.
    assert!((report.headroom_bits - 39.0).abs() < 0.1, "{report:?}");
    assert!(
        report.noise_bits < 13.0 && report.error < 1e-4,
        "{report:?}"
    );
}

#[test]
fn maps_with_encrypted_diagonals_stay_below_their_bound() {
    const WEIGHT_SCALE: f64 = (1u64 << 18) as f64;
    const PLACES: [(usize, usize); 3] = [(0, 0), (0, 1), (64, 5)];
    let parameters = Parameters::new(ParameterSpec::new(12, &[36, 32], &[37])).unwrap();
    let manifest = KeyManifest {
        relinearization: Some(1),
        rotations: [1, 5, 64].map(|step| (step, 1)).into(),
        relinearized_rotations: [(64, 1)].into(),
        ..KeyManifest::default()
    };
    let ring = Keyring::with_manifest(parameters, &manifest, Kernel::detect());
    let slots = ring.encoder.slots();
    let weights = [0, 1, 2].map(|i| test_values(slots, 70 + i));
    let diagonals = PLACES.iter().zip(&weights).enumerate();
    let diagonals = diagonals.map(|(i, (&(giant, baby), weights))| EncryptedDiagonal {
        input: 0,
        giant,
        baby,
        weights: ring.encrypt(weights, 1, WEIGHT_SCALE, 80 + i as u64),
    });
    let map = EncryptedTransform::new(&ring.context, 1, vec![diagonals.collect()]).unwrap();
    let (model, operand) = fresh(&ring);
    let weight = Operand {
        magnitude: WEIGHT_SCALE,
        noise: operand.noise,
    };
    let rotated = Operand {
        magnitude: SCALE,
        noise: operand.noise.plus(model.key_switch(1)),
    };
    let product = model.mul(weight, rotated);
    let predicted = model.merged_sum(product.plus(product).plus(product), 3, 1);
    let margin = least_margin(&ring, |_, values, x| {
        let found = map.apply(&ring.evaluator, &[x], &ring.keys, false).unwrap();
        let term = |p: usize, (&(giant, baby), weights): (&(usize, usize), &Vec<f64>)| {
            weights[(p + giant) % slots] * values[(p + giant + baby) % slots]
        };
        let sum = |p| {
            PLACES
                .iter()
                .zip(&weights)
                .map(|place| term(p, place))
                .sum()
        };
        let expected: Vec<f64> = (0..slots).map(sum).collect();
        assert_noise_below(
            &ring.decrypt(&found[0]),
            &expected,
            found[0].scale(),
            predicted,
        )
    });
    assert!(margin > 0.0 && margin < 10.0, "{margin} bits");
    let decryptor = Decryptor::new(&ring.context, &ring.secret).unwrap();
    let x = ring.encrypt(&vec![1.0; slots], 1, SCALE, 1);
    let headroom = decryptor.headroom_bits(&x).unwrap();
    // A constant is one coefficient of 2^28.
    let expected = ring.context.parameters().log_q(1) - 1.0 - 28.0;
    assert!((headroom - expected).abs() < 0.01, "{headroom} {expected}");
}

#[test]
fn exact_products_and_maps_stay_above_their_predicted_budget() {
    let ring = Exact::new(&core(12, &[36, 33], &[37], Kernel::detect()), 16);
    let invariant = BfvContext::new(&ring.context).unwrap();
    let (encoder, evaluator) = (
        bfv::Encoder::new(&invariant),
        bfv::Evaluator::new(&invariant),
    );
    let encryptor = bfv_owner::Encryptor::new(&invariant, &ring.secret).unwrap();
    let (half, slots) = (ring.t() as f64 / 2.0 - 1.0, ring.encoder.slots());
    let weights = ring.encrypt(&ring.values(3), 1, 3);
    let diagonal = exact::EncryptedDiagonal {
        input: 0,
        giant: 5,
        baby: 1,
        weights,
    };
    let map = exact::EncryptedTransform::new(&ring.context, 1, vec![vec![diagonal]]).unwrap();
    let model = bgv::NoiseModel::new(&ring.context);
    let fresh = model.fresh_secret();
    let product = model.budget(model.mul_scale_invariant(fresh, fresh, 1), 1);
    let rotated = model.key_switch(fresh, 1);
    let mapped = model.budget(model.merged_sum(model.mul(fresh, rotated), 2, 1), 1);
    assert!(product > 0.0, "{product} {mapped}");
    for trial in 0..TRIALS {
        let values = inputs(slots, trial).into_iter();
        let values: Vec<i64> = values.map(|x| (x * half).round() as i64).collect();
        let plain = encoder.encode(&values).unwrap();
        let seeded = encryptor.encrypt(&plain, 1, &mut rng(trial)).unwrap();
        let x = seeded.expand(&invariant).unwrap();
        let found = evaluator.square(&x).unwrap();
        let budget = ring.decryptor().noise_budget(found.exact()).unwrap();
        assert!(budget >= product, "{budget} below {product} in {trial}");
        let x = ring.encrypt(&values, 1, trial);
        let found = map
            .apply(&ring.evaluator, &[&x], &ring.keys, false)
            .unwrap();
        let budget = ring.decryptor().noise_budget(&found[0]).unwrap();
        assert!(budget >= mapped, "{budget} below {mapped} in {trial}");
    }
}

#[test]
fn rounding_of_doubles_in_an_encoding_is_what_the_model_says() {
    // So wide that the rounding to integers does not count.
    let scale = 2f64.powi(90);
    for ring in [RingKind::ConjugateInvariant, RingKind::Standard] {
        let spec = ParameterSpec {
            ring,
            ..ParameterSpec::new(13, &[50, 50], &[50])
        };
        let ring = Keyring::new(spec, &[]);
        let transform = NoiseModel::new(ring.context.parameters()).transform(1.0);
        let slots = ring.encoder.slots();
        for trial in 0..14 {
            let values = inputs(slots, trial);
            let plain = ring.encoder.encode(&values, 1, scale).unwrap();
            let decoded = ring.encoder.decode(&plain).unwrap();
            let errors = decoded.iter().zip(&values).map(|(a, b)| (a - b).abs());
            let errors: Vec<f64> = errors.collect();
            let largest = errors.iter().copied().fold(0.0, f64::max);
            let square = errors.iter().map(|e| e * e).sum::<f64>() / slots as f64;
            // Decoding is a transform as well.
            assert!(largest <= 2.0 * transform.bound, "{largest}, {transform:?}");
            let std = 2f64.sqrt() * transform.std;
            assert!(square.sqrt() <= std, "{}, {transform:?}", square.sqrt());
        }
    }
}
