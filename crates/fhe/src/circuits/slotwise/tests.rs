use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_polyring::ScalarMatrix;

use super::{SlotwiseCircuit, SlotwiseStep, residue};
use crate::ckks::{Ciphertext, Encoder, Evaluator};
use crate::owner::{Decryptor, Encryptor, KeyGenerator, SecretKey};
use crate::params::{ParameterSpec, Parameters};
use crate::{Context, Error, keys::EvaluationKeys, keys::KeyManifest};

const SCALE: f64 = (1u64 << 28) as f64;

struct Fixture {
    context: Arc<Context>,
    secret: SecretKey,
    keys: EvaluationKeys,
    rng: ChaCha20Rng,
}

impl Fixture {
    fn new() -> Self {
        let parameters = Parameters::new(ParameterSpec::new(13, &[40; 4], &[50])).unwrap();
        let context = Context::new(parameters).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let secret = SecretKey::generate(&context, &mut rng);
        let manifest = KeyManifest {
            relinearization: Some(3),
            ..KeyManifest::default()
        };
        let generator = KeyGenerator::new(&context, &secret).unwrap();
        let keys = generator.evaluation_keys(&manifest, &mut rng).unwrap();
        Self {
            context,
            secret,
            keys,
            rng,
        }
    }

    fn encrypt(&mut self, values: &[Vec<f64>], scale: f64) -> Vec<Ciphertext> {
        let encoder = Encoder::new(&self.context);
        let encryptor = Encryptor::new(&self.context, &self.secret).unwrap();
        let mut one = |values: &Vec<f64>| {
            let plaintext = encoder.encode(values, 3, scale).unwrap();
            encryptor
                .encrypt(&plaintext, &mut self.rng)
                .unwrap()
                .expand(&self.context)
                .unwrap()
        };
        values.iter().map(&mut one).collect()
    }

    fn decrypt(&self, ciphertext: &Ciphertext) -> Vec<f64> {
        let relinearized = Evaluator::new(&self.context)
            .relinearize(ciphertext, &self.keys)
            .unwrap();
        let decryptor = Decryptor::new(&self.context, &self.secret).unwrap();
        Encoder::new(&self.context)
            .decode(&decryptor.decrypt(&relinearized).unwrap())
            .unwrap()
    }

    fn apply(
        &self,
        circuit: &SlotwiseCircuit,
        inputs: &[&[Ciphertext]],
    ) -> Result<Vec<Vec<Ciphertext>>, Error> {
        circuit.apply(&Evaluator::new(&self.context), inputs, &|_| {})
    }
}

fn values(rng: &mut ChaCha20Rng, count: usize, slots: usize) -> Vec<Vec<f64>> {
    let mut one = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
    (0..count)
        .map(|_| (0..slots).map(|_| one()).collect())
        .collect()
}

fn matrix(rows: &[Vec<(u32, i32)>], columns: usize) -> ScalarMatrix {
    ScalarMatrix::new(columns, rows)
}

fn assert_close(found: &[f64], expected: impl Fn(usize) -> f64, tolerance: f64) {
    for (slot, &value) in found.iter().enumerate() {
        let expected = expected(slot);
        assert!(
            (value - expected).abs() < tolerance,
            "slot {slot}: {value} is not {expected}"
        );
    }
}

#[test]
fn fused_layers_equal_the_same_layers_in_clear() {
    let mut fixture = Fixture::new();
    let slots = fixture.context.parameters().slots();
    let x = values(&mut fixture.rng, 3, slots);
    let inputs = fixture.encrypt(&x, SCALE);
    let first = matrix(
        &[
            vec![(0, 1000), (2, -700)],
            vec![(1, 300)],
            vec![(0, -9), (1, 4), (2, 1)],
        ],
        3,
    );
    let second = matrix(&[vec![(0, 500), (1, -200), (2, 90)], vec![(2, 1023)]], 3);
    let circuit = SlotwiseCircuit {
        inputs: 1,
        steps: vec![
            SlotwiseStep::Matrix {
                operands: vec![0],
                matrix: first,
                weight_scale: 1000.0,
            },
            SlotwiseStep::AddScalars {
                operand: 1,
                values: vec![0.25, -1.0, 0.0],
            },
            SlotwiseStep::Multiply { left: 2, right: 2 },
            SlotwiseStep::Matrix {
                operands: vec![3],
                matrix: second,
                weight_scale: 100.0,
            },
            SlotwiseStep::AddScalars {
                operand: 4,
                values: vec![-3.0, 1.5],
            },
        ],
        outputs: vec![5],
    };
    let outputs = fixture.apply(&circuit, &[&inputs]).unwrap();
    assert_eq!(outputs[0].len(), 2);
    assert_eq!((outputs[0][0].parts().len(), outputs[0][0].level()), (3, 3));
    let hidden = |p: usize| {
        let (a, b, c) = (x[0][p], x[1][p], x[2][p]);
        [
            a - 0.7 * c + 0.25,
            0.3 * b - 1.0,
            -0.009 * a + 0.004 * b + 0.001 * c,
        ]
        .map(|h| h * h)
    };
    let first = |p| 5.0 * hidden(p)[0] - 2.0 * hidden(p)[1] + 0.9 * hidden(p)[2] - 3.0;
    assert_close(&fixture.decrypt(&outputs[0][0]), first, 1e-4);
    assert_close(
        &fixture.decrypt(&outputs[0][1]),
        |p| 10.23 * hidden(p)[2] + 1.5,
        1e-4,
    );
}

#[test]
fn values_used_twice_and_products_of_two_values_are_kept_apart() {
    let mut fixture = Fixture::new();
    let slots = fixture.context.parameters().slots();
    let (x, y) = (
        values(&mut fixture.rng, 2, slots),
        values(&mut fixture.rng, 2, slots),
    );
    let inputs = [fixture.encrypt(&x, SCALE), fixture.encrypt(&y, SCALE)];
    let both = matrix(&[vec![(0, 3), (3, -2)], vec![(1, 1), (2, 1)]], 4);
    let mixed = matrix(&[vec![(0, 1), (2, 1)]], 4);
    let circuit = SlotwiseCircuit {
        inputs: 2,
        steps: vec![
            SlotwiseStep::Matrix {
                operands: vec![0, 1],
                matrix: both,
                weight_scale: 1.0,
            },
            SlotwiseStep::Multiply { left: 2, right: 1 },
            SlotwiseStep::Multiply { left: 0, right: 2 },
            SlotwiseStep::AddScalars {
                operand: 2,
                values: vec![1.0, 2.0],
            },
            // Three-part products next to each other.
            SlotwiseStep::Matrix {
                operands: vec![3, 4],
                matrix: mixed,
                weight_scale: 1.0,
            },
        ],
        outputs: vec![6, 5, 3],
    };
    let outputs = fixture.apply(&circuit, &[&inputs[0], &inputs[1]]).unwrap();
    let sums = |p: usize| [3.0 * x[0][p] - 2.0 * y[1][p], x[1][p] + y[0][p]];
    let mixed = |p: usize| sums(p)[0] * (y[0][p] + x[0][p]);
    assert_close(&fixture.decrypt(&outputs[0][0]), mixed, 1e-3);
    assert_close(&fixture.decrypt(&outputs[1][1]), |p| sums(p)[1] + 2.0, 1e-3);
    assert_close(
        &fixture.decrypt(&outputs[2][1]),
        |p| sums(p)[1] * y[1][p],
        1e-3,
    );
}

#[test]
fn combinations_bring_different_scales_and_parts_together() {
    let mut fixture = Fixture::new();
    let slots = fixture.context.parameters().slots();
    let x = values(&mut fixture.rng, 2, slots);
    let y = values(&mut fixture.rng, 2, slots);
    let inputs = [
        fixture.encrypt(&x, SCALE),
        fixture.encrypt(&y, 1000.0 * SCALE),
    ];
    let circuit = SlotwiseCircuit {
        inputs: 2,
        steps: vec![
            SlotwiseStep::Multiply { left: 0, right: 0 },
            SlotwiseStep::Combine {
                operands: vec![1, 2, 0],
                factors: vec![-0.5, 2.0, 1.0],
                scale: SCALE * SCALE * 4096.0,
            },
        ],
        outputs: vec![3],
    };
    let outputs = fixture.apply(&circuit, &[&inputs[0], &inputs[1]]).unwrap();
    let expected = |p: usize| -0.5 * y[1][p] + 2.0 * x[1][p] * x[1][p] + x[1][p];
    assert_close(&fixture.decrypt(&outputs[0][1]), expected, 1e-4);
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let mut fixture = Fixture::new();
    let x = fixture.encrypt(&[vec![1.0], vec![2.0]], SCALE);
    let y = fixture.encrypt(&[vec![1.0]], 2.0 * SCALE);
    let sum = |columns, operands| SlotwiseStep::Matrix {
        operands,
        matrix: matrix(&[vec![(0, 1)]], columns),
        weight_scale: 1.0,
    };
    let circuit = |step| SlotwiseCircuit {
        inputs: 2,
        steps: vec![step],
        outputs: vec![2],
    };
    let apply = |step| fixture.apply(&circuit(step), &[&x, &y]).unwrap_err();
    assert!(matches!(
        apply(sum(3, vec![0])),
        Error::LengthMismatch { .. }
    ));
    assert!(matches!(
        apply(sum(3, vec![0, 1])),
        Error::ScaleMismatch { .. }
    ));
    assert!(matches!(
        apply(sum(2, vec![2])),
        Error::IndexOutOfRange { .. }
    ));
    let product = SlotwiseStep::Multiply { left: 0, right: 1 };
    assert!(matches!(apply(product), Error::LengthMismatch { .. }));
    let constants = SlotwiseStep::AddScalars {
        operand: 0,
        values: vec![f64::NAN, 1.0],
    };
    assert!(matches!(apply(constants), Error::NotFinite { slot: 0 }));
}

#[test]
fn residues_of_large_constants_are_exact() {
    let q = scuro_polyring::Modulus::new(65537).unwrap();
    assert_eq!(residue(-3.4, q), Some(65534));
    assert_eq!(
        residue(2f64.powi(100) + 2f64.powi(60), q),
        Some(q.reduce_wide((1 << 100) + (1 << 60)))
    );
    assert_eq!(residue(f64::INFINITY, q), None);
}
