//! Linear transforms and folds against the same sums in clear.

use crate::common::{Keyring, assert_close, test_values};
use scuro_fhe::circuits::linear::{Diagonal, LinearTransform, SlotValues};
use scuro_fhe::params::ParameterSpec;
use scuro_fhe::{Error, RingKind};

const SCALE: f64 = (1u64 << 30) as f64;
const WEIGHT_SCALE: f64 = (1u64 << 20) as f64;

fn specs() -> Vec<ParameterSpec> {
    let ring = RingKind::Standard;
    vec![
        ParameterSpec::new(12, &[36, 32], &[37]),
        ParameterSpec {
            ring,
            ..ParameterSpec::new(13, &[45, 40, 40], &[48])
        },
        ParameterSpec::new(14, &[50, 40, 40, 40, 40], &[45, 45]),
    ]
}

fn dense(slots: usize, seed: u64) -> SlotValues {
    SlotValues::Dense(test_values(slots, seed))
}

fn expected(transform: &LinearTransform, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let slots = inputs[0].len();
    let mut outputs = vec![vec![0.0; slots]; transform.outputs];
    for diagonal in &transform.diagonals {
        let mut add = |start: usize, values: &[f64]| {
            for (p, value) in (start..).zip(values) {
                let source = (p + diagonal.giant + diagonal.baby) % slots;
                outputs[diagonal.output][p] += value * inputs[diagonal.input][source];
            }
        };
        match &diagonal.values {
            SlotValues::Dense(values) => add(0, values),
            SlotValues::Runs(runs) => runs.iter().for_each(|(start, values)| add(*start, values)),
        }
    }
    outputs
}

fn check(spec: &ParameterSpec, transform: impl Fn(usize) -> LinearTransform) {
    let slots = match spec.ring {
        RingKind::Standard => 1 << (spec.log_n - 1),
        RingKind::ConjugateInvariant => 1 << spec.log_n,
    };
    let transform = transform(slots);
    let steps: Vec<usize> = transform.rotation_steps().into_iter().collect();
    let ring = Keyring::new(spec.clone(), &steps);
    let level = ring.context.parameters().max_level();
    let values: Vec<Vec<f64>> = (0..transform.inputs)
        .map(|i| test_values(slots, 100 + i as u64))
        .collect();
    let inputs: Vec<_> = values
        .iter()
        .map(|v| ring.encrypt(v, level, SCALE, 5))
        .collect();
    let inputs: Vec<_> = inputs.iter().collect();
    let prepared = transform.prepare(&ring.encoder, level).unwrap();
    let found = prepared
        .apply(&ring.evaluator, &inputs, &ring.keys)
        .unwrap();
    let rescaled = prepared
        .apply_rescaled(&ring.evaluator, &inputs, &ring.keys)
        .unwrap();
    for ((found, rescaled), expected) in found
        .iter()
        .zip(&rescaled)
        .zip(expected(&transform, &values))
    {
        assert_eq!((found.level(), rescaled.level()), (level, level - 1));
        assert_close(&ring.decrypt(found), &expected, 3e-3);
        let tolerance = 3e-3 + 2f64.powi(18) / rescaled.scale();
        assert_close(&ring.decrypt(rescaled), &expected, tolerance);
    }
}

fn transform(inputs: usize, outputs: usize, diagonals: Vec<Diagonal>) -> LinearTransform {
    LinearTransform {
        inputs,
        outputs,
        scale: WEIGHT_SCALE,
        diagonals,
    }
}

#[test]
fn babies_and_giants_sum_to_the_matrix_product() {
    for spec in specs() {
        check(&spec, |slots| {
            let mut diagonals = Vec::new();
            for (i, (giant, baby)) in [(0, 0), (0, 1), (0, 5), (64, 0), (64, 1), (slots - 64, 5)]
                .into_iter()
                .enumerate()
            {
                let values = dense(slots, i as u64);
                diagonals.push(Diagonal {
                    output: 0,
                    input: 0,
                    giant,
                    baby,
                    values,
                });
            }
            transform(1, 1, diagonals)
        });
    }
}

#[test]
fn several_inputs_and_outputs_share_rotations() {
    for spec in specs() {
        check(&spec, |slots| {
            let place = |i: usize| (i % 2, i / 2 % 3, [0, 16][i / 6 % 2], [0, 3, 7][i % 3]);
            let diagonals = (0..12).map(|i| {
                let (output, input, giant, baby) = place(i);
                Diagonal {
                    output,
                    input,
                    giant,
                    baby,
                    values: dense(slots, i as u64),
                }
            });
            transform(3, 2, diagonals.collect())
        });
    }
}

#[test]
fn diagonals_that_repeat_are_kept_once() {
    for spec in specs() {
        for period in [1, 16, 1 << 10] {
            let map = |slots: usize, repeat: bool| {
                let diagonal = |i: usize| {
                    let values = test_values(if repeat { period } else { slots }, i as u64);
                    Diagonal {
                        output: i / 6,
                        input: i % 2,
                        giant: [0, 16, 32][i / 2 % 3],
                        baby: 3 * (i / 6),
                        values: SlotValues::Dense(values.into_iter().cycle().take(slots).collect()),
                    }
                };
                transform(2, 2, (0..12).map(diagonal).collect())
            };
            check(&spec, |slots| map(slots, true));
            let ring = Keyring::new(spec.clone(), &[]);
            let slots = ring.context.parameters().slots();
            // Also at a scale at which doubles are rounded to many units.
            for scale in [WEIGHT_SCALE, 2f64.powi(62)] {
                let bytes = |repeat| {
                    let map = LinearTransform {
                        scale,
                        ..map(slots, repeat)
                    };
                    map.prepare(&ring.encoder, 1).unwrap().memory_bytes()
                };
                let (whole, kept) = (bytes(false), bytes(true));
                // Of every run of equal positions a tile of 32.
                assert_eq!(kept * slots, whole * (32 * period).min(slots));
            }
        }
    }
}

#[test]
fn maps_without_babies_or_without_rotations_work() {
    for spec in specs() {
        for giants in [vec![0, 32], vec![32], vec![0]] {
            check(&spec, |slots| {
                let diagonal = |&giant: &usize| Diagonal {
                    output: 0,
                    input: 0,
                    giant,
                    baby: 0,
                    values: dense(slots, giant as u64),
                };
                transform(1, 1, giants.iter().map(diagonal).collect())
            });
        }
    }
}

#[test]
fn runs_are_placed_at_their_slots_and_equal_places_are_added() {
    for spec in specs() {
        check(&spec, |slots| {
            let runs = SlotValues::Runs(vec![(3, vec![1.0, -0.5]), (slots - 2, vec![0.25, 2.0])]);
            let diagonal = |values| Diagonal {
                output: 0,
                input: 0,
                giant: 8,
                baby: 1,
                values,
            };
            transform(
                1,
                1,
                vec![
                    diagonal(runs.clone()),
                    diagonal(dense(10, 4)),
                    diagonal(runs),
                ],
            )
        });
    }
}

#[test]
fn folds_add_up_rotations() {
    let steps = [16, 32, 48, 64, 128, 192];
    let ring = Keyring::new(ParameterSpec::new(12, &[36, 32], &[37]), &steps);
    let values = test_values(ring.encoder.slots(), 1);
    let x = ring.encrypt(&values, 1, SCALE, 2);
    let slots = values.len();
    let check = |stages: &[Vec<usize>], expected: &[usize]| {
        let found = ring.evaluator.fold(&x, stages, &ring.keys).unwrap();
        let sum = |p| expected.iter().map(|by| values[(p + by) % slots]).sum();
        let expected: Vec<f64> = (0..slots).map(sum).collect();
        assert_close(&ring.decrypt(&found), &expected, 1e-3);
    };
    let windows: Vec<usize> = (0..16).map(|j| 16 * j).collect();
    check(&[], &[0]);
    check(&[vec![0, 16]], &windows[..2]);
    check(&[vec![0, 16], vec![0, 32], vec![0, 64]], &windows[..8]);
    check(&[vec![0, 16, 32, 48], vec![0, 64, 128, 192]], &windows);
    // Stages without the ciphertext itself, and with it more than once.
    check(&[vec![16, 64]], &[16, 64]);
    check(&[vec![0, 0, 32], vec![64]], &[64, 64, 96]);
    let missing = ring.evaluator.fold(&x, &[vec![0, 16], vec![5]], &ring.keys);
    assert_eq!(missing, Err(Error::MissingRotationKey { step: 5 }));
}

#[test]
fn transforms_that_do_not_fit_are_refused() {
    let ring = Keyring::new(ParameterSpec::new(12, &[36, 32], &[37]), &[1]);
    let diagonal = |output, input, giant, baby| Diagonal {
        output,
        input,
        giant,
        baby,
        values: SlotValues::Dense(vec![1.0]),
    };
    let prepare = |diagonals| {
        transform(1, 2, diagonals)
            .prepare(&ring.encoder, 1)
            .map(|_| ())
    };
    let index = |what, found, bound| Err(Error::IndexOutOfRange { what, found, bound });
    assert_eq!(prepare(vec![diagonal(2, 0, 0, 0)]), index("output", 2, 2));
    assert_eq!(prepare(vec![diagonal(0, 1, 0, 0)]), index("input", 1, 1));
    assert_eq!(
        prepare(vec![diagonal(0, 0, 4096, 0)]),
        index("giant step", 4096, 4096)
    );
    assert_eq!(
        prepare(vec![diagonal(0, 0, 0, 0)]),
        Err(Error::EmptyOutput { output: 1 })
    );
    let both = transform(1, 1, vec![diagonal(0, 0, 2, 1)])
        .prepare(&ring.encoder, 1)
        .unwrap();
    let x = ring.encrypt(&[1.0], 1, SCALE, 2);
    let missing = both.apply(&ring.evaluator, &[&x], &ring.keys).unwrap_err();
    assert_eq!(missing, Error::MissingRotationKey { step: 2 });
    let lower = ring.evaluator.mod_drop(&x, 0).unwrap();
    let mismatch = both
        .apply(&ring.evaluator, &[&lower], &ring.keys)
        .unwrap_err();
    assert_eq!(mismatch, Error::LevelMismatch { left: 0, right: 1 });
}
