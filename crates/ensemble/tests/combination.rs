//! Combinations in clear give what their rules say, for any number of holders.

use proptest::prelude::*;
use scuro_ensemble::{
    Confidence, Error, Exponents, Rule, SoftVote, Stacking, Weights, combination,
};
use scuro_program::{
    Estimate, Gather, InputSpec, KeyManifest, NO_ELEMENT, Operation, OutputSpec, Packing,
    ParameterPlan, PostOperation, Program, Ring, Scheme, SecurityTable, SlotAddress, SlotVector,
    Step, ValueId, interpret_all,
};

const CLASSES: usize = 3;
const LOG_N: u32 = 11;
/// Level of the replies of the face: one below the top.
const LEVEL: u32 = 1;

/// A face whose replies hold three scores in every four slots.
fn face() -> Program {
    let estimate = Estimate {
        level: LEVEL,
        scale_log2: 20.0,
        max_abs: 16.0,
        ..Estimate::default()
    };
    let step = |input, operation, level| Step {
        layer: "face".into(),
        inputs: vec![ValueId(input)],
        operation,
        estimate: Estimate { level, ..estimate },
    };
    let address = |slot| SlotAddress {
        ciphertext: 0,
        slot,
    };
    let values = vec![SlotVector::default()];
    Program {
        name: "face".into(),
        model_digest: [0; 32],
        notes: Vec::new(),
        parameters: ParameterPlan {
            scheme: Scheme::Ckks,
            ring: Ring::ConjugateInvariant,
            log_n: LOG_N,
            q_bits: vec![40, 45, 50],
            p_bits: vec![40],
            security_bits: 128,
            table: SecurityTable::Guideline2024,
        },
        packing: Packing::SingleImage,
        weights: scuro_program::Weights::Plain,
        input: InputSpec {
            shape: vec![2],
            examples: 1,
            gather: Gather::Slots(vec![(0..1 << LOG_N).map(|slot| slot % 2).collect()]),
            level: 2,
            traced: None,
            scale_log2: 20.0,
            minimum: 0.0,
            maximum: 1.0,
        },
        steps: vec![
            step(0, Operation::AddConstant { values }, 2),
            step(1, Operation::ModDrop { level: LEVEL }, LEVEL),
        ],
        result: ValueId(2),
        output: OutputSpec {
            shape: vec![CLASSES as u32],
            addresses: (0..CLASSES as u32).map(address).collect(),
            factor: 0.5,
            post: PostOperation::None,
        },
        keys: KeyManifest::default(),
    }
}

/// Scores of `holders` holders by a combination's steps in clear; they lie as replies do.
fn combined(program: &Program, predictions: &[Vec<f64>]) -> Vec<f64> {
    let Gather::Slots(maps) = &program.input.gather else {
        panic!("single images");
    };
    let flat = predictions.concat();
    let slot = |&element: &u32| match element {
        NO_ELEMENT => 0.0,
        element => flat[element as usize],
    };
    let query = maps
        .iter()
        .map(|map| map.iter().map(slot).collect())
        .collect();
    let result = interpret_all(&program.steps, query).pop().expect("a value");
    let [slots] = &result[..] else {
        panic!("one ciphertext");
    };
    // Every period says the same, so that nothing else is told.
    for (at, value) in slots.iter().enumerate() {
        assert!(
            (value - slots[at % 4]).abs() <= 1e-9 * value.abs().max(1.0),
            "slot {at}"
        );
    }
    let read = |a: &SlotAddress| slots[a.slot as usize] * program.output.factor;
    program.output.addresses.iter().map(read).collect()
}

/// Every rule that ciphertexts can compute, for so many holders.
fn rules(holders: usize) -> Vec<Rule> {
    let small = |i: usize| (i * 37 % 19) as f64 / 8.0 - 1.0;
    let row = |class: usize| {
        (0..holders * CLASSES)
            .map(|i| small(i + 5 * class))
            .collect()
    };
    let weights: Vec<Vec<f64>> = (0..CLASSES).map(row).collect();
    let stacking = Stacking::new(weights, vec![0.5, -0.25, 0.0], vec![0.0; holders * CLASSES]);
    let integers: Vec<u8> = (0..holders).map(|holder| 1 + 50 * holder as u8).collect();
    vec![
        Rule::Mean,
        Rule::Weighted(Weights::new(integers.clone()).expect("weights")),
        Rule::LogOpinion(Exponents::new(integers, 0.125).expect("exponents")),
        Rule::Stacking(stacking.expect("a model")),
        Rule::SoftVote(SoftVote::new(16.0, 0.5, 1.0, 0.125).expect("a vote")),
        Rule::Confidence(Confidence::new(16.0).expect("a bound")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_combination_in_clear_is_its_rule(
        scores in proptest::collection::vec(
            proptest::collection::vec(-16.0f64..16.0, CLASSES), 1..5),
    ) {
        let face = face();
        for rule in rules(scores.len()) {
            let program = combination::program(&face, &rule, scores.len()).expect("a program");
            // Replies hold scores in units of the face.
            let unit = |scores: &Vec<f64>| scores.iter().map(|s| s / face.output.factor).collect();
            let replies: Vec<Vec<f64>> = scores.iter().map(unit).collect();
            let expected = rule.combine(&scores).expect("combined");
            for (found, expected) in combined(&program, &replies).iter().zip(&expected) {
                prop_assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0));
            }
            prop_assert_eq!(program.input.level, LEVEL);
            prop_assert_eq!(scores.len(), program.input.ciphertexts());
        }
    }
}

#[test]
fn what_cannot_be_computed_is_an_error_that_says_why() {
    let found = combination::program(&face(), &Rule::Majority, 2);
    assert!(matches!(found, Err(Error::NotOnCiphertexts)));
    let found = combination::program(&face(), &rules(3)[3], 2);
    assert!(matches!(
        found,
        Err(Error::Holders {
            expected: 3,
            found: 2
        })
    ));
    assert!(matches!(
        combination::program(&face(), &Rule::Mean, 0),
        Err(Error::NoPredictions)
    ));
    // 2^20 times 16 has 24 bits: its cube does not fit 65, its square does.
    let mut small = face();
    small.parameters.q_bits = vec![30, 35, 40];
    let cube = combination::program(&small, &rules(2)[5], 2);
    assert!(matches!(cube, Err(Error::NoRoom { .. })));
    assert!(combination::program(&small, &rules(2)[4], 2).is_ok());
    let mut elsewhere = face();
    elsewhere.output.addresses.swap(0, 1);
    let found = combination::program(&elsewhere, &Rule::Mean, 2);
    assert!(matches!(found, Err(Error::Reply { .. })));
}

/// The face of exact programs: scores of 16 bits under a plaintext prime of 25 bits.
fn exact_face() -> Program {
    let mut face = face();
    face.parameters.scheme = Scheme::Bfv { plain_bits: 25 };
    face.steps
        .iter_mut()
        .for_each(|step| step.estimate.scale_log2 = 12.0);
    face.input.scale_log2 = 12.0;
    face
}

#[test]
fn sums_of_exact_replies_stay_below_their_prime_and_say_what_rounding_costs() {
    let face = exact_face();
    let mean = combination::program(&face, &Rule::Mean, 64).expect("64 holders have room");
    assert_eq!(mean.output.factor, face.output.factor / 64.0);
    let last = &mean.steps[mean.steps.len() - 1];
    assert_eq!(last.estimate.error, 0.0);
    // Primes stay: the noise takes them.
    assert_eq!(mean.steps.len(), 1);
    let too_many = combination::program(&face, &Rule::Mean, 200);
    assert!(matches!(too_many, Err(Error::NoRoom { .. })));

    let scores = vec![
        vec![16.0, -16.0, 3.0],
        vec![-16.0, 16.0, 5.0],
        vec![16.0, 1.0, 2.0],
    ];
    for integers in [vec![1, 20, 100], vec![255, 128, 64], vec![255, 1, 255]] {
        let weights = Rule::Weighted(Weights::new(integers.clone()).expect("weights"));
        let pool = Rule::LogOpinion(Exponents::new(integers.clone(), 0.125).expect("exponents"));
        let fits = integers.iter().map(|&w| u32::from(w)).sum::<u32>() <= 181;
        for rule in [weights, pool] {
            let program = combination::program(&face, &rule, 3).expect("a program");
            let step = &program.steps[0];
            let Operation::ScalarLinear(matrix) = &step.operation else {
                panic!("a sum");
            };
            let total = matrix.weight.iter().sum::<i32>();
            assert!(total <= 181, "{total}");
            assert_eq!(step.estimate.error == 0.0, fits);
            let unit = face.output.factor;
            let replies: Vec<Vec<f64>> = scores
                .iter()
                .map(|scores| scores.iter().map(|s| s / unit).collect())
                .collect();
            let found = combined(&program, &replies);
            let expected = rule.combine(&scores).expect("combined");
            // What the weights are divided by in the end moves by their rounding too.
            let stated = 2.0 * step.estimate.error * program.output.factor + 1e-9;
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= stated, "{found} for {expected}");
            }
        }
    }
}

#[test]
fn products_of_exact_replies_and_replies_of_other_factors_are_refused() {
    let face = exact_face();
    for rule in &rules(2)[3..] {
        let refused = combination::program(&face, rule, 2);
        assert!(
            matches!(refused, Err(Error::NoRoom { .. })),
            "{}",
            rule.kind()
        );
    }
    let mut other = exact_face();
    other.parameters.scheme = Scheme::Bgv { plain_bits: 25 };
    let refused = combination::program(&other, &Rule::Mean, 2);
    assert!(matches!(refused, Err(Error::Reply { .. })));
}

#[test]
fn sums_say_their_weights_and_other_combinations_have_none() {
    let weights = |rule: &Rule, holders| combination::fixed_weights(&face(), rule, holders);
    let expected = [
        Some(vec![1, 1, 1]),
        Some(vec![1, 51, 101]),
        Some(vec![1, 51, 101]),
        None,
        None,
        None,
    ];
    for (rule, expected) in rules(3).iter().zip(expected) {
        assert_eq!(weights(rule, 3), expected, "{}", rule.kind());
        let Some(all) = expected else {
            continue;
        };
        // Whoever is absent changes nothing for the others.
        let rest = rule.restricted(&[0, 2], 3).expect("two of three");
        assert_eq!(weights(&rest, 2), Some(vec![all[0], all[2]]));
    }
    let silent = Rule::Weighted(Weights::new(vec![3, 0, 1]).expect("weights"));
    assert_eq!(weights(&silent, 3), None);
}

#[test]
fn weights_that_depend_on_who_is_there_are_not_fixed() {
    let face = exact_face();
    let weighted = |weights: Vec<u8>| Rule::Weighted(Weights::new(weights).expect("weights"));
    let found = combination::fixed_weights(&face, &weighted(vec![1, 20, 100]), 3);
    assert_eq!(found, Some(vec![1, 20, 100]));
    // 447 does not fit: all three are rounded, two of them less.
    let large = weighted(vec![255, 128, 64]);
    assert!(combination::program(&face, &large, 3).is_ok());
    assert_eq!(combination::fixed_weights(&face, &large, 3), None);
    let mean = combination::fixed_weights(&face, &Rule::Mean, 64);
    assert_eq!(mean, Some(vec![1; 64]));
}
