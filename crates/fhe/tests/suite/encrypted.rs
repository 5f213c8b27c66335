//! Linear maps with encrypted diagonals against the same sums in clear.

use scuro_fhe::circuits::linear::Operand;
use scuro_fhe::circuits::linear::encrypted::{EncryptedDiagonal, EncryptedTransform};
use scuro_fhe::ckks::{Ciphertext, Plaintext};
use scuro_fhe::keys::KeyManifest;
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_fhe::{Error, Kernel, RingKind};

use crate::common::{Keyring, assert_close, test_values};

const SCALE: f64 = (1u64 << 28) as f64;
const WEIGHT_SCALE: f64 = (1u64 << 24) as f64;

/// Output, input, giant and baby step of a diagonal.
type Place = (usize, usize, usize, usize);

fn specs() -> Vec<ParameterSpec> {
    let ring = RingKind::Standard;
    vec![
        ParameterSpec::new(13, &[50, 50, 50], &[50]),
        ParameterSpec {
            ring,
            ..ParameterSpec::new(13, &[50, 45, 45], &[50])
        },
        ParameterSpec::new(14, &[50, 45, 45, 45], &[50, 50]),
    ]
}

struct Case {
    ring: Keyring,
    level: usize,
    inputs: Vec<Vec<f64>>,
    places: Vec<Place>,
    transform: EncryptedTransform,
}

fn rotated(values: &[f64], step: usize) -> Vec<f64> {
    let slots = values.len();
    (0..slots).map(|p| values[(p + step) % slots]).collect()
}

fn diagonal(slots: usize, at: usize) -> Vec<f64> {
    test_values(slots, 900 + at as u64)
}

impl Case {
    fn new(spec: ParameterSpec, inputs: usize, outputs: usize, places: &[Place]) -> Self {
        let parameters = Parameters::new(spec).unwrap();
        let (slots, level) = (parameters.slots(), parameters.max_level());
        let places: Vec<Place> = places
            .iter()
            .map(|&(output, input, giant, baby)| (output, input, giant % slots, baby))
            .collect();
        let moved = || {
            places
                .iter()
                .map(|place| place.2)
                .filter(|&giant| giant != 0)
        };
        let babies = places.iter().map(|place| place.3).filter(|&baby| baby != 0);
        let manifest = KeyManifest {
            relinearization: Some(level),
            rotations: moved().chain(babies).map(|step| (step, level)).collect(),
            relinearized_rotations: moved().map(|step| (step, level)).collect(),
            ..KeyManifest::default()
        };
        let ring = Keyring::with_manifest(parameters, &manifest, Kernel::detect());
        let mut lists = vec![Vec::new(); outputs];
        for (at, &(output, input, giant, baby)) in places.iter().enumerate() {
            let values = rotated(&diagonal(slots, at), slots - giant);
            let weights = ring.encrypt(&values, level, WEIGHT_SCALE, 50 + at as u64);
            lists[output].push(EncryptedDiagonal {
                input,
                giant,
                baby,
                weights,
            });
        }
        let transform = EncryptedTransform::new(&ring.context, inputs, lists).unwrap();
        let inputs = (0..inputs).map(|i| test_values(slots, 100 + i as u64));
        Self {
            inputs: inputs.collect(),
            ring,
            level,
            places,
            transform,
        }
    }

    fn encrypted(&self) -> Vec<Ciphertext> {
        let encrypt = |values: &Vec<f64>| self.ring.encrypt(values, self.level, SCALE, 5);
        self.inputs.iter().map(encrypt).collect()
    }

    fn expected(&self) -> Vec<Vec<f64>> {
        let slots = self.inputs[0].len();
        let mut outputs = vec![vec![0.0; slots]; self.transform.outputs()];
        for (at, &(output, input, giant, baby)) in self.places.iter().enumerate() {
            let values = diagonal(slots, at);
            for (p, out) in outputs[output].iter_mut().enumerate() {
                *out += values[p] * self.inputs[input][(p + giant + baby) % slots];
            }
        }
        outputs
    }

    fn check(&self, found: &[Ciphertext]) {
        assert_eq!(found.len(), self.transform.outputs());
        for (found, expected) in found.iter().zip(self.expected()) {
            assert_eq!(found.level(), self.level);
            assert_eq!(found.parts().len(), 2);
            assert_close(&self.ring.decrypt(found), &expected, 2e-3);
        }
    }

    fn apply(&self, rescale: bool) -> Vec<Ciphertext> {
        let inputs = self.encrypted();
        let inputs: Vec<&Ciphertext> = inputs.iter().collect();
        let (evaluator, keys) = (&self.ring.evaluator, &self.ring.keys);
        let found = self.transform.apply(evaluator, &inputs, keys, rescale);
        found.unwrap()
    }
}

const PLACES: [Place; 9] = [
    (0, 0, 0, 0),
    (0, 0, 0, 5),
    (0, 1, 0, 1),
    (0, 1, 64, 0),
    (0, 0, 64, 5),
    (0, 0, usize::MAX - 63, 1),
    (1, 1, 64, 1),
    (1, 0, 128, 0),
    (1, 1, 64, 1),
];

#[test]
fn encrypted_diagonals_multiply_encrypted_inputs() {
    for spec in specs() {
        let case = Case::new(spec, 2, 2, &PLACES);
        case.check(&case.apply(false));
        // A residue takes as many bytes as its prime.
        let parameters = case.ring.context.parameters();
        let live = &parameters.q()[..=case.level];
        let width = |q: &u64| (u64::BITS - q.leading_zeros()).div_ceil(8) as usize;
        let bytes = 2 * parameters.n() * live.iter().map(width).sum::<usize>();
        assert_eq!(case.transform.memory_bytes(), bytes * PLACES.len());
    }
}

#[test]
fn encrypted_maps_rescale_in_their_last_division() {
    for spec in specs() {
        let case = Case::new(spec, 2, 1, &[(0, 0, 0, 1), (0, 1, 32, 0)]);
        let found = case.apply(true);
        for (found, exact) in found.iter().zip(case.apply(false)) {
            let expected = case.ring.evaluator.rescale(&exact).unwrap();
            assert_eq!(
                (found.level(), found.scale()),
                (expected.level(), expected.scale())
            );
            let difference = case.ring.evaluator.sub(found, &expected).unwrap();
            let error = case.ring.decrypt(&difference);
            let largest = error.iter().fold(0.0f64, |max, x| max.max(x.abs()));
            assert!(largest * found.scale() < 2f64.powi(17), "{largest}");
        }
    }
}

#[test]
fn maps_of_giants_alone_and_of_no_rotation_work() {
    for giants in [vec![0], vec![16], vec![0, 16]] {
        let places: Vec<Place> = giants.iter().map(|&giant| (0, 0, giant, 0)).collect();
        let case = Case::new(specs().remove(0), 1, 1, &places);
        case.check(&case.apply(false));
    }
}

#[test]
fn a_block_of_queries_gives_the_bits_of_single_queries() {
    let case = Case::new(specs().remove(0), 2, 2, &PLACES);
    let inputs = case.encrypted();
    let queries = [
        vec![&inputs[0], &inputs[1]],
        vec![&inputs[1], &inputs[0]],
        vec![&inputs[1], &inputs[1]],
    ];
    let queries: Vec<&[&Ciphertext]> = queries.iter().map(Vec::as_slice).collect();
    let (evaluator, keys) = (&case.ring.evaluator, &case.ring.keys);
    let run = |queries: &[&[&Ciphertext]]| {
        let found = case.transform.apply_batch(evaluator, queries, keys, true);
        found.unwrap()
    };
    let together = run(&queries);
    for (query, found) in queries.iter().zip(&together) {
        assert_eq!(run(&[query])[0], *found);
    }
    let too_many = vec![queries[0]; 65];
    let refused = case.transform.apply_batch(evaluator, &too_many, keys, true);
    assert_eq!(refused, Err(Error::TooManyQueries { found: 65, max: 64 }));
}

#[test]
fn encrypted_diagonals_multiply_plain_inputs_with_rotation_keys_alone() {
    for spec in specs() {
        let case = Case::new(spec, 2, 2, &PLACES);
        let manifest = case.transform.plain_key_manifest();
        assert!(manifest.relinearization.is_none() && manifest.relinearized_rotations.is_empty());
        let parameters = case.ring.context.parameters().clone();
        let ring = Keyring::with_manifest(parameters, &manifest, Kernel::detect());
        let encode = |operand: &Operand| {
            let values = rotated(&case.inputs[operand.input], operand.baby);
            ring.encoder.encode(&values, case.level, SCALE).unwrap()
        };
        let features: Vec<Plaintext> = case.transform.operands().iter().map(encode).collect();
        let features: Vec<&Plaintext> = features.iter().collect();
        // Both key rings draw their secret from one seed.
        let (transform, evaluator) = (&case.transform, &ring.evaluator);
        let found = transform.apply_plain_inputs(evaluator, &features, &ring.keys, false);
        case.check(&found.unwrap());
        let short = transform.apply_plain_inputs(evaluator, &features[1..], &ring.keys, false);
        assert!(matches!(short, Err(Error::LengthMismatch { .. })));
    }
}

#[test]
fn the_key_manifest_is_what_an_evaluation_needs() {
    let case = Case::new(specs().remove(0), 2, 2, &PLACES);
    let manifest = case.transform.key_manifest();
    let slots = case.inputs[0].len();
    let steps: Vec<usize> = manifest.rotations.keys().copied().collect();
    assert_eq!(steps, [1, 5, 64, 128, slots - 64]);
    let merged: Vec<usize> = manifest.relinearized_rotations.keys().copied().collect();
    assert_eq!(merged, [64, 128, slots - 64]);
    assert_eq!(manifest.relinearization, Some(case.level));
    let mut both = case.transform.plain_key_manifest();
    both.rotations.insert(3, 1);
    both.rotations.insert(64, 0);
    both.include(&manifest);
    let mut expected = manifest.clone();
    expected.rotations.insert(3, 1);
    assert_eq!(both, expected);
    let inputs = case.encrypted();
    let inputs: Vec<&Ciphertext> = inputs.iter().collect();
    let parameters = case.ring.context.parameters().clone();
    let apply = |manifest: &KeyManifest| {
        let ring = Keyring::with_manifest(parameters.clone(), manifest, Kernel::detect());
        let transform = &case.transform;
        transform
            .apply(&ring.evaluator, &inputs, &ring.keys, true)
            .map(|_| ())
    };
    assert_eq!(apply(&manifest), Ok(()));
    let mut less = manifest.clone();
    less.relinearized_rotations.remove(&64);
    assert_eq!(
        apply(&less),
        Err(Error::MissingRelinearizedRotationKey { step: 64 })
    );
    let mut less = manifest.clone();
    less.rotations.remove(&5);
    assert_eq!(apply(&less), Err(Error::MissingRotationKey { step: 5 }));
    let mut less = manifest;
    less.relinearization = None;
    assert_eq!(apply(&less), Err(Error::MissingRelinearizationKey));
}

#[test]
fn encrypted_maps_that_do_not_fit_are_refused() {
    let ring = Keyring::new(ParameterSpec::new(12, &[36, 32], &[37]), &[1]);
    let weights = ring.encrypt(&[1.0], 1, WEIGHT_SCALE, 1);
    let diagonal = |input, giant, baby, weights: &Ciphertext| EncryptedDiagonal {
        input,
        giant,
        baby,
        weights: weights.clone(),
    };
    let new = |outputs| EncryptedTransform::new(&ring.context, 1, outputs).map(|_| ());
    let index = |what, found, bound| Err(Error::IndexOutOfRange { what, found, bound });
    let one = |input, giant, baby| new(vec![vec![diagonal(input, giant, baby, &weights)]]);
    assert_eq!(one(1, 0, 0), index("input", 1, 1));
    assert_eq!(one(0, 4096, 0), index("giant step", 4096, 4096));
    assert_eq!(one(0, 0, 4096), index("baby step", 4096, 4096));
    assert_eq!(new(vec![vec![]]), Err(Error::EmptyOutput { output: 0 }));
    assert!(matches!(new(vec![]), Err(Error::LengthMismatch { .. })));
    let second = |other: &Ciphertext| {
        let (first, other) = (diagonal(0, 0, 0, &weights), diagonal(0, 0, 1, other));
        new(vec![vec![first, other]])
    };
    let lower = ring.evaluator.mod_drop(&weights, 0).unwrap();
    assert_eq!(
        second(&lower),
        Err(Error::LevelMismatch { left: 1, right: 0 })
    );
    let mut scaled = weights.clone();
    scaled.set_scale(2.0 * WEIGHT_SCALE).unwrap();
    assert!(matches!(second(&scaled), Err(Error::ScaleMismatch { .. })));
    let square = ring.evaluator.square(&weights).unwrap();
    assert_eq!(
        second(&square),
        Err(Error::PartCount {
            found: 3,
            expected: 2
        })
    );
    let many = vec![diagonal(0, 0, 0, &weights); 1025];
    assert_eq!(
        new(vec![many]),
        Err(Error::TooManyTerms {
            found: 1025,
            max: 1024
        })
    );
}
