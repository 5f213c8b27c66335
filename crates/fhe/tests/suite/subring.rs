//! Traces: means over congruent slots, read without a rotation, and nothing else left to read.

use scuro_fhe::Error;
use scuro_fhe::RingKind;
use scuro_fhe::ckks::Ciphertext;
use scuro_fhe::flooding::Flooding;
use scuro_fhe::noise::{NoiseModel, Operand};
use scuro_fhe::owner::Decryptor;
use scuro_fhe::params::ParameterSpec;

use crate::common::{Keyring, rng, test_values};

const SCALE: f64 = (1u64 << 40) as f64;

fn rings() -> [Keyring; 2] {
    [RingKind::ConjugateInvariant, RingKind::Standard].map(|ring| {
        let spec = ParameterSpec {
            ring,
            ..ParameterSpec::new(13, &[50, 50, 50], &[50])
        };
        Keyring::new(spec, &[1])
    })
}

fn means(values: &[f64], period: usize) -> Vec<f64> {
    let count = (values.len() / period) as f64;
    let mean = |slot| {
        values
            .iter()
            .skip(slot % period)
            .step_by(period)
            .sum::<f64>()
            / count
    };
    (0..values.len()).map(mean).collect()
}

/// What somebody reads who takes the kept coefficients alone.
fn read(ring: &Keyring, ciphertext: &Ciphertext, period: usize) -> Vec<f64> {
    let decryptor = Decryptor::new(&ring.context, &ring.secret).unwrap();
    let plain = decryptor.decrypt(ciphertext).unwrap();
    let plain = plain.trace(&ring.context, period).unwrap();
    ring.encoder.decode(&plain).unwrap()
}

fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    for (slot, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "slot {slot}: {a} for {b}");
    }
}

#[test]
fn the_coefficients_that_are_kept_hold_the_mean() {
    for ring in rings() {
        let slots = ring.context.parameters().slots();
        let values = test_values(slots, 5);
        let x = ring.encrypt(&values, 1, SCALE, 6);
        for period in [1, 2, 16, 256, slots] {
            let traced = ring.evaluator.trace(&x, period).unwrap();
            let expected = means(&values, period);
            assert_close(&read(&ring, &traced, period), &expected, 1e-6);
        }
    }
}

#[test]
fn traces_are_added_and_rotated_and_multiplied_by_what_repeats() {
    for ring in rings() {
        let (slots, period) = (ring.context.parameters().slots(), 16);
        let values = test_values(slots, 8);
        let x = ring.encrypt(&values, 2, SCALE, 9);
        let traced = ring.evaluator.trace(&x, period).unwrap();
        let rotated = ring.evaluator.rotate(&traced, 1, &ring.keys).unwrap();
        let weights: Vec<f64> = (0..slots)
            .map(|slot| (slot % period) as f64 / 8.0)
            .collect();
        let plain = ring.encoder.encode(&weights, 2, SCALE).unwrap();
        let product = ring.evaluator.mul_plain(&rotated, &plain).unwrap();
        let mean = means(&values, period);
        let expected: Vec<f64> = (0..slots)
            .map(|slot| weights[slot] * mean[(slot + 1) % period])
            .collect();
        assert_close(&read(&ring, &product, period), &expected, 1e-6);
    }
}

/// The values that are averaged differ, their means do not: what is left differs by chance only.
#[test]
fn a_flooded_trace_tells_nothing_but_the_mean() {
    for ring in rings() {
        let (slots, period) = (ring.context.parameters().slots(), 16);
        let values: Vec<f64> = (0..slots)
            .map(|slot| if slot / period % 2 == 0 { 3.0 } else { -1.0 })
            .collect();
        let x = ring.encrypt(&values, 1, SCALE, 11);
        let noise = NoiseModel::new(ring.context.parameters()).fresh_secret();
        let operand = Operand {
            magnitude: 4.0 * SCALE,
            noise,
        };
        let flooding = Flooding::Relaxed {
            bits: 10,
            decryptions: 1,
        };
        let public = ring.keys.public_key().unwrap();
        let flood = |seed| {
            let (evaluator, rng) = (&ring.evaluator, &mut rng(seed));
            let traced = evaluator.trace(&x, period).unwrap();
            evaluator.flood_traced(&traced, operand, period, public, flooding, rng)
        };
        let flooded = flood(12).unwrap();
        let stride = slots / period;
        let predicted = NoiseModel::new(ring.context.parameters())
            .traced(stride)
            .flooded(noise, flooding);
        let found = read(&ring, &flooded, period);
        assert_close(&found, &vec![1.0; slots], 8.0 * predicted.std / SCALE);
        let squares = found.iter().map(|mean| ((mean - 1.0) * SCALE).powi(2));
        let deviation = (squares.sum::<f64>() / slots as f64).sqrt();
        assert!(deviation > 0.3 * predicted.std, "{deviation} of noise");
        // Whoever decrypts all of it finds noise of the size of the modulus.
        let whole = ring.decrypt(&flooded);
        let largest = whole.iter().fold(0.0f64, |max, slot| max.max(slot.abs()));
        assert!(largest > 1e6, "{largest}");
        assert_ne!(
            flooded.parts()[1].words(),
            flood(13).unwrap().parts()[1].words()
        );
    }
}

#[test]
fn other_than_powers_of_two_are_refused() {
    let [ring, _] = rings();
    let slots = ring.context.parameters().slots();
    let x = ring.encrypt(&test_values(slots, 1), 0, SCALE, 2);
    for period in [0, 3, 2 * slots] {
        let found = ring.evaluator.trace(&x, period);
        assert!(matches!(found, Err(Error::BadPeriod { found, .. }) if found == period));
    }
}
