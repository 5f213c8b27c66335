//! Programs with few rotation keys, and with those of another program.

use std::collections::BTreeSet;

use scuro_compiler::{CompileError, Options, Rotations, compile};
use scuro_nn::graph::{Graph, GraphBuilder, Op, Padding};
use scuro_program::{GaloisStep, Program, Weights};

use super::common::{Random, conv, cryptonets, dense};
use super::{check, random_network};

fn amounts(program: &Program) -> BTreeSet<u32> {
    program.keys.galois.iter().map(|key| key.step).collect()
}

/// The smallest budget that the compiler names.
fn least(graph: &Graph, options: &Options, random: &mut Random) -> usize {
    let options = Options {
        rotations: Rotations::Budget(0),
        ..options.clone()
    };
    let images = [random.image(graph.input_shape())];
    match compile(graph, &options, &images).map(|c| c.program.keys.galois.len()) {
        Err(CompileError::TooFewRotations { found: 0, least }) => least,
        other => panic!("{other:?}"),
    }
}

/// That a network computes the same with fewer and fewer keys.
fn check_budgets(graph: &Graph, options: &Options, random: &mut Random) {
    let free = check(graph, options, random).program.keys.galois.len();
    let least = least(graph, options, random);
    assert!(0 < least && least <= free, "{least} of {free}");
    for budget in [free.midpoint(least), least] {
        let options = Options {
            rotations: Rotations::Budget(budget),
            ..options.clone()
        };
        let program = check(graph, &options, random).program;
        let keys = program.keys.galois.len();
        assert!(keys <= budget, "{keys} of {budget} keys");
    }
}

#[test]
fn random_networks_compute_the_same_with_few_keys() {
    for seed in 100..105 {
        let mut random = Random::new(seed);
        let graph = random_network(&mut random);
        check_budgets(&graph, &Options::default(), &mut random);
    }
}

/// A convolution, a square and a dense layer.
fn small(random: &mut Random) -> Graph {
    let mut net = GraphBuilder::new("small", [2, 9, 9]);
    net.then(conv(random, 4, 2, [3, 3], [2, 2], Padding::default(), 1));
    net.then(Op::Square).then(Op::Flatten);
    net.then(dense(random, 12, 64)).then(Op::Square);
    net.then(dense(random, 5, 12));
    net.finish().unwrap()
}

#[test]
fn few_keys_serve_every_kind_of_single_image_program() {
    let mut random = Random::new(120);
    let graph = small(&mut random);
    let usual = Options::default();
    let private = Options {
        weights: Weights::Private,
        ..usual.clone()
    };
    let shared = Options {
        images_per_query: 2,
        log_n: Some(13),
        ..usual
    };
    check_budgets(&graph, &private, &mut random);
    let keys = |rotations| {
        let options = Options {
            rotations,
            ..shared.clone()
        };
        compile(&graph, &options, &[]).unwrap().program.keys.galois
    };
    let (free, few) = (keys(Rotations::Free), keys(Rotations::Budget(9)));
    assert!(free.len() > 9 && few.len() <= 9);
    assert!(few.iter().all(|key| key.step % 2 == 0), "{few:?}");
}

#[test]
fn a_budget_costs_less_time_the_larger_it_is() {
    let mut random = Random::new(121);
    let graph = cryptonets(&mut random);
    let images = [random.image(graph.input_shape())];
    let micros = |rotations| {
        let options = Options {
            rotations,
            ..Options::default()
        };
        compile(&graph, &options, &images).unwrap().report
    };
    let free = micros(Rotations::Free);
    let mut before = 0.99 * free.latency_us;
    for budget in [free.rotations, 16, 12, 9] {
        let report = micros(Rotations::Budget(budget));
        assert!(report.rotations <= budget && report.latency_us > before);
        before = report.latency_us;
    }
    assert!(before < 2.0 * free.latency_us, "{before}");
}

#[test]
fn another_network_computes_with_the_keys_of_an_ensemble() {
    let mut random = Random::new(122);
    let options = Options {
        log_n: Some(13),
        ..Options::default()
    };
    let graph = cryptonets(&mut random);
    let first = check(&graph, &options, &mut random).program;
    let top = |key: &GaloisStep| GaloisStep {
        step: key.step,
        level: first.parameters.level_max(),
    };
    let common: Vec<GaloisStep> = first.keys.galois.iter().map(top).collect();
    let mut net = GraphBuilder::new("other", [1, 28, 28]);
    net.then(conv(
        &mut random,
        8,
        1,
        [4, 4],
        [3, 3],
        Padding::default(),
        1,
    ));
    net.then(Op::Square).then(Op::Flatten);
    net.then(dense(&mut random, 32, 8 * 9 * 9)).then(Op::Square);
    net.then(dense(&mut random, 10, 32));
    let other = net.finish().unwrap();
    let own = check(&other, &options, &mut random).program;
    assert!(!amounts(&own).is_subset(&amounts(&first)));
    let with = |keys: &[GaloisStep]| Options {
        rotations: Rotations::Within(keys.to_vec()),
        ..options.clone()
    };
    // As they are for the first network they serve that alone.
    let again = check(&graph, &with(&first.keys.galois), &mut random).program;
    assert!(amounts(&again).is_subset(&amounts(&first)));
    let images = [random.image(other.input_shape())];
    let error = compile(&other, &with(&first.keys.galois), &images).unwrap_err();
    assert!(
        matches!(error, CompileError::RotationLevel { .. }),
        "{error}"
    );
    let within = with(&common);
    let program = check(&other, &within, &mut random).program;
    for key in &program.keys.galois {
        let held = common.iter().find(|held| held.step == key.step);
        assert!(held.is_some_and(|held| held.level >= key.level), "{key:?}");
    }
}

#[test]
fn rotations_that_common_keys_do_not_add_up_to_are_named_with_what_helps() {
    let mut random = Random::new(123);
    let graph = small(&mut random);
    let images = [random.image(graph.input_shape())];
    let compiled = |rotations| {
        let options = Options {
            rotations: Rotations::Within(rotations),
            log_n: Some(13),
            ..Options::default()
        };
        compile(&graph, &options, &images)
    };
    let keys = |level: u32| {
        (1..13).map(move |bits| GaloisStep {
            step: 1 << bits,
            level,
        })
    };
    let error = compiled(keys(9).collect()).unwrap_err();
    let CompileError::RotationOutOfReach { fix, amount, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((fix % 2, amount % 2), (1, 1), "all others are even");
    let added = |level| {
        let odd = GaloisStep { step: fix, level };
        let mut all: Vec<GaloisStep> = keys(level).collect();
        all.push(odd);
        all
    };
    compiled(added(9)).unwrap();
    let error = compiled(added(0)).unwrap_err();
    assert!(
        matches!(
            error,
            CompileError::RotationLevel {
                found: 0,
                needed: 1..,
                ..
            }
        ),
        "{error}"
    );
}
