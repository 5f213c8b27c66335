//! Linear maps on integers modulo t, with plain and with encrypted diagonals, equal the integers.

use scuro_fhe::bgv::{Ciphertext, Plaintext};
use scuro_fhe::circuits::linear::exact::{EncryptedDiagonal, EncryptedTransform, LinearTransform};
use scuro_fhe::circuits::linear::{Diagonal, Operand, SlotValues};
use scuro_fhe::{Error, Kernel, RingKind};

use crate::common::exact::{Exact, core, over};

/// Output, input, giant and baby step of a diagonal.
type Place = (usize, usize, usize, usize);

const PLACES: [Place; 8] = [
    (0, 0, 0, 0),
    (0, 0, 0, 5),
    (0, 1, 0, 1),
    (0, 1, 700, 0),
    (0, 0, 700, 5),
    (1, 1, 5, 1),
    (1, 0, 700, 0),
    (1, 1, 5, 1),
];

fn settings() -> Vec<Exact> {
    let (kernel, real) = (Kernel::detect(), RingKind::ConjugateInvariant);
    vec![
        Exact::new(&core(13, &[50, 50, 50], &[50], kernel), 20),
        Exact::new(&core(14, &[50; 5], &[50; 2], kernel), 40),
        Exact::new(&over(real, 13, &[50, 50, 50], &[50], kernel), 20),
        Exact::new(&over(real, 14, &[50; 5], &[50; 2], kernel), 40),
    ]
}

struct Case {
    ring: Exact,
    inputs: [Vec<i64>; 2],
    diagonals: Vec<Vec<i64>>,
    expected: [Vec<i64>; 2],
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        Self::with_diagonals(|values, _| values)
    }

    /// Diagonals that repeat in each row of slots, after 32 slots or at once.
    fn repeating() -> impl Iterator<Item = Self> {
        Self::with_diagonals(|values, row_len| {
            let rows = values.chunks_exact(row_len);
            let repeated = |(row, values): (usize, &[i64])| {
                let values = values[..32 >> (5 * row)].iter().copied();
                values.cycle().take(row_len).collect::<Vec<_>>()
            };
            rows.enumerate().flat_map(repeated).collect()
        })
    }

    fn with_diagonals(change: impl Fn(Vec<i64>, usize) -> Vec<i64>) -> impl Iterator<Item = Self> {
        settings().into_iter().map(move |ring| {
            let inputs = [ring.values(1), ring.values(2)];
            let row_len = ring.encoder.slots() / ring.context.rows();
            let diagonals = (0..PLACES.len() as u64).map(|i| change(ring.values(100 + i), row_len));
            let diagonals: Vec<Vec<i64>> = diagonals.collect();
            let mut expected = [0; 2].map(|_| vec![0; ring.encoder.slots()]);
            for (&(output, input, giant, baby), values) in PLACES.iter().zip(&diagonals) {
                let moved = ring.rotated(&inputs[input], giant + baby);
                let product = ring.zip(values, &moved, |a, b| a * b);
                expected[output] = ring.zip(&expected[output], &product, |a, b| a + b);
            }
            Self {
                ring,
                inputs,
                diagonals,
                expected,
            }
        })
    }

    fn encrypted(&self) -> Vec<Ciphertext> {
        let encrypt = |values: &Vec<i64>| self.ring.encrypt(values, self.ring.top(), 7);
        self.inputs.iter().map(encrypt).collect()
    }

    fn check(&self, found: &[Ciphertext], switched: bool) {
        assert_eq!(found.len(), self.expected.len());
        for (found, expected) in found.iter().zip(&self.expected) {
            assert_eq!(found.level(), self.ring.top() - usize::from(switched));
            self.ring.check(found, expected);
        }
    }

    fn encrypted_transform(&self) -> EncryptedTransform {
        let ring = &self.ring;
        let mut lists = vec![Vec::new(), Vec::new()];
        for (&(output, input, giant, baby), values) in PLACES.iter().zip(&self.diagonals) {
            // As many rotations as lead back.
            let row_len = ring.encoder.slots() / ring.context.rows();
            let weights = ring.rotated(values, row_len - giant);
            let weights = ring.encrypt(&weights, ring.top(), 9);
            lists[output].push(EncryptedDiagonal {
                input,
                giant,
                baby,
                weights,
            });
        }
        EncryptedTransform::new(&ring.context, 2, lists).unwrap()
    }
}

#[test]
fn plain_diagonals_are_exact_in_every_row() {
    for case in Case::all().chain(Case::repeating()) {
        let place = |(&(output, input, giant, baby), values): (&Place, &Vec<i64>)| Diagonal {
            output,
            input,
            giant,
            baby,
            values: SlotValues::Dense(values.clone()),
        };
        let diagonals = PLACES.iter().zip(&case.diagonals).map(place).collect();
        let transform = LinearTransform {
            inputs: 2,
            outputs: 2,
            diagonals,
        };
        assert_eq!(Vec::from_iter(transform.rotation_steps()), [1, 5, 700]);
        let (ring, inputs) = (&case.ring, case.encrypted());
        let prepared = transform.prepare(&ring.encoder, ring.top()).unwrap();
        let inputs: Vec<&Ciphertext> = inputs.iter().collect();
        for switch in [false, true] {
            let found = prepared.apply(&ring.evaluator, &inputs, &ring.keys, switch);
            case.check(&found.unwrap(), switch);
        }
        let switched = ring.evaluator.mod_switch(inputs[0]).unwrap();
        let refused = prepared.apply(&ring.evaluator, &[inputs[0], &switched], &ring.keys, true);
        let (left, right) = (1, switched.factor());
        assert_eq!(refused, Err(Error::FactorMismatch { left, right }));
    }
}

#[test]
fn encrypted_diagonals_are_exact_in_every_row() {
    for case in Case::all() {
        let (ring, inputs, transform) = (&case.ring, case.encrypted(), case.encrypted_transform());
        let inputs: Vec<&Ciphertext> = inputs.iter().collect();
        for switch in [false, true] {
            let found = transform.apply(&ring.evaluator, &inputs, &ring.keys, switch);
            let found = found.unwrap();
            case.check(&found, switch);
            let batch: [&[&Ciphertext]; 2] = [&inputs, &inputs];
            let together = transform.apply_batch(&ring.evaluator, &batch, &ring.keys, switch);
            assert_eq!(together.unwrap(), [found.clone(), found]);
        }
    }
}

#[test]
fn encrypted_diagonals_of_another_factor_and_plain_inputs_are_exact() {
    for case in Case::all() {
        let (ring, transform) = (&case.ring, case.encrypted_transform());
        let encode = |operand: &Operand| {
            let values = ring.rotated(&case.inputs[operand.input], operand.baby);
            let (encoder, top) = (&ring.encoder, ring.top());
            encoder.encode_with_factor(&values, top, 4321).unwrap()
        };
        let features: Vec<Plaintext> = transform.operands().iter().map(encode).collect();
        let features: Vec<&Plaintext> = features.iter().collect();
        for switch in [false, true] {
            let (evaluator, keys) = (&ring.evaluator, &ring.keys);
            let found = transform.apply_plain_inputs(evaluator, &features, keys, switch);
            case.check(&found.unwrap(), switch);
        }
    }
}

#[test]
fn encrypted_diagonals_of_different_factors_are_refused() {
    let ring = Exact::new(&core(13, &[50, 50], &[50], Kernel::detect()), 20);
    let fresh = ring.encrypt(&[1], 1, 1);
    let switched = ring.evaluator.mod_switch(&fresh).unwrap();
    let lower = ring.evaluator.mod_drop(&fresh, 0).unwrap();
    let diagonal = |baby, weights: &Ciphertext| EncryptedDiagonal {
        input: 0,
        giant: 0,
        baby,
        weights: weights.clone(),
    };
    let list = vec![vec![diagonal(0, &lower), diagonal(1, &switched)]];
    let refused = EncryptedTransform::new(&ring.context, 1, list).map(|_| ());
    let (left, right) = (1, switched.factor());
    assert_eq!(refused, Err(Error::FactorMismatch { left, right }));
}
