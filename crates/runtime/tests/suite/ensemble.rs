//! Programs of several holders that answer one query.

use std::sync::LazyLock;

use scuro_client::{Model, gather, scatter};
use scuro_compiler::ensemble::{Degree, Ensemble};
use scuro_compiler::{Arithmetic, CompileError, Options, compile};
use scuro_ensemble::{Confidence, Exponents, Rule, SoftVote, Stacking, combination};
use scuro_fhe::AnyCiphertext;
use scuro_nn::graph::{Graph, GraphBuilder, Op, Window};
use scuro_nn::reference;
use scuro_nn::tensor::Tensor;
use scuro_program::face::{self, CLASSES_NOTE, Mismatch};
use scuro_program::{Flooding, Program, SlotValue};
use scuro_runtime::clear;
use scuro_runtime::encrypted::Prepared;
use scuro_runtime::simulate::Simulator;

use super::common::{Deployment, Random};

const CLASSES: usize = 10;
const FLOODING: Flooding = Flooding::Estimated {
    bits: 10,
    decryptions: 16,
};

/// Convolution, square, dense, square, dense.
fn network(random: &mut Random) -> Graph {
    let window = Window::valid([3, 3], [2, 2]);
    let mut net = GraphBuilder::new("holder", [1, 9, 9]);
    net.then(random.conv(3, 1, window, 1)).then(Op::Square);
    net.then(Op::Flatten)
        .then(random.dense(12, 48))
        .then(Op::Square);
    net.then(random.dense(CLASSES, 12));
    net.finish().unwrap()
}

fn options(face: Option<&Program>, degree: Degree) -> Options {
    Options {
        input_range: Some((-1.0, 1.0)),
        flooding: Some(FLOODING),
        ensemble: Some(Ensemble {
            degree,
            face: face.cloned().map(Box::new),
        }),
        ..Options::default()
    }
}

fn face_of(program: &Program) -> Program {
    let model = Model::new(program.clone()).unwrap();
    program.face(model.context().parameters().q()).unwrap()
}

/// Programs of `count` networks with other weights each, for one face.
fn holders(
    random: &mut Random,
    images: &[Tensor],
    count: usize,
    degree: Degree,
) -> (Program, Vec<Program>) {
    let mut programs: Vec<Program> = Vec::new();
    for _ in 0..count {
        let common = programs.first().map(face_of);
        // A contract says itself what is computed of the replies.
        let asked = if common.is_some() {
            Degree::Linear
        } else {
            degree
        };
        let options = options(common.as_ref(), asked);
        programs.push(compile(&network(random), &options, images).unwrap().program);
    }
    (face_of(&programs[0]), programs)
}

/// An ensemble whose replies are added up, compiled once for all tests.
struct Fixture {
    images: Vec<Tensor>,
    face: Program,
    programs: Vec<Program>,
}

static LINEAR: LazyLock<Fixture> = LazyLock::new(|| fixture(90, 3, Degree::Linear));

fn fixture(seed: u64, count: usize, degree: Degree) -> Fixture {
    let mut random = Random::new(seed);
    let images: Vec<Tensor> = (0..32).map(|_| random.tensor(&[1, 9, 9], 1.0)).collect();
    let (face, programs) = holders(&mut random, &images, count, degree);
    Fixture {
        images,
        face,
        programs,
    }
}

#[test]
fn one_query_and_one_key_set_serve_programs_of_different_weights_and_replies_add_up() {
    let Fixture {
        images,
        face,
        programs,
    } = &*LINEAR;
    // The user has the face alone.
    let mut user = Deployment::new(face);
    let mut worst: f64 = 0.0;
    for image in &images[..4] {
        let query = user.encrypt(image);
        let slots = gather(face, &[&image.data]).unwrap();
        let mut sum = vec![0.0; CLASSES];
        for program in programs {
            let model = Model::new(program.clone()).unwrap();
            let prepared = Prepared::new(model.program(), model.scheme().clone()).unwrap();
            let reply = prepared
                .evaluate(&user.keys, &query, 1, &mut |_| {})
                .unwrap();
            let found = user.decrypt(reply.clone());
            let clear: SlotValue = clear::run(program, &slots).unwrap();
            let expected = scatter(program, &clear, 1).unwrap().remove(0);
            for (a, (b, sum)) in found.iter().zip(expected.iter().zip(&mut sum)) {
                worst = worst.max((a - b).abs());
                *sum += b;
            }
            check_rest(&user, &reply);
        }
        assert!(sum.iter().any(|&score| score != 0.0));
    }
    assert!(worst < 0.05, "{worst}");
}

/// Rules that replies of a degree have room for.
fn rules(degree: Degree, holders: usize) -> Vec<Rule> {
    let small = |i: usize| (i * 37 % 19) as f64 / 8.0 - 1.0;
    let row = |class: usize| {
        (0..holders * CLASSES)
            .map(|i| small(i + 5 * class))
            .collect()
    };
    let weights: Vec<Vec<f64>> = (0..CLASSES).map(row).collect();
    let bias = (0..CLASSES).map(small).collect();
    let stacking = Stacking::new(weights, bias, vec![0.0; holders * CLASSES]).unwrap();
    let integers: Vec<u8> = (0..holders).map(|holder| 5 + 50 * holder as u8).collect();
    let mut rules = vec![
        Rule::Mean,
        Rule::Weighted(scuro_ensemble::Weights::new(integers.clone()).unwrap()),
        Rule::LogOpinion(Exponents::new(integers, 0.125).unwrap()),
        Rule::Stacking(stacking),
    ];
    if degree != Degree::Linear {
        rules.push(Rule::SoftVote(SoftVote::new(4.0, 0.5, 1.0, 0.125).unwrap()));
    }
    if degree == Degree::Cube {
        rules.push(Rule::Confidence(Confidence::new(4.0).unwrap()));
    }
    rules
}

#[test]
fn combinations_of_encrypted_replies_are_those_of_the_scores() {
    let Fixture {
        images,
        face,
        programs,
    } = fixture(93, 2, Degree::Cube);
    let mut user = Deployment::new(&face);
    let query = user.encrypt(&images[0]);
    let mut replies = Vec::new();
    for program in &programs {
        let model = Model::new(program.clone()).unwrap();
        let prepared = Prepared::new(model.program(), model.scheme().clone()).unwrap();
        replies.extend(
            prepared
                .evaluate(&user.keys, &query, 1, &mut |_| {})
                .unwrap(),
        );
    }
    let scores: Vec<Vec<f64>> = replies
        .iter()
        .map(|r| user.decrypt(vec![r.clone()]))
        .collect();
    for rule in rules(Degree::Cube, programs.len()) {
        let program = combination::program(&face, &rule, programs.len()).unwrap();
        let model = Model::new(program).unwrap();
        let prepared = Prepared::new(model.program(), model.scheme().clone()).unwrap();
        let reply = prepared
            .evaluate(&user.keys, &replies, 1, &mut |_| {})
            .unwrap();
        let client = user.client.with_model(&model).unwrap();
        let reply = model.reply(1, &[reply]).unwrap();
        let found = client.decrypt(&reply).unwrap().remove(0).scores;
        let expected = rule.combine(&scores).unwrap();
        let largest = expected
            .iter()
            .fold(1.0f64, |max, score| max.max(score.abs()));
        for (a, b) in found.iter().zip(&expected) {
            // Of integer weights and twelve bits of a meta-model.
            assert!(
                (a - b).abs() < 2e-2 * largest,
                "{}: {a} for {b}",
                rule.kind()
            );
        }
    }
}

/// Whoever decrypts all of a reply finds, beside the scores, noise of the size of the modulus.
fn check_rest(user: &Deployment, reply: &[AnyCiphertext]) {
    let face = user.client.model().program().clone();
    let slots = user.reveal(&face, reply);
    let largest = slots.iter().fold(0.0f64, |max, slot| max.max(slot.abs()));
    assert!(largest > 1e3, "{largest}");
}

#[test]
fn faces_of_one_ensemble_are_equal_and_what_differs_is_named() {
    let Fixture {
        images,
        face,
        programs,
    } = &*LINEAR;
    for program in programs {
        assert_eq!(face::compare(face, &face_of(program)), Ok(()));
        assert_eq!(face.digest(), face_of(program).digest());
    }
    let wider = Options {
        input_range: Some((-2.0, 2.0)),
        ..options(None, Degree::Linear)
    };
    let network = network(&mut Random::new(91));
    let wider = compile(&network, &wider, images).unwrap().program;
    assert!(face::compare(face, &face_of(&wider)).is_err());
    let classes = |names: &str| (CLASSES_NOTE.to_string(), names.to_string());
    let named = |names| {
        let mut program = programs[0].clone();
        program.notes.push(classes(names));
        face_of(&program)
    };
    let found = face::compare(&named("cat\ndog"), &named("dog\ncat"));
    let expected = Mismatch::Classes {
        position: 0,
        found: Some("dog".into()),
        expected: Some("cat".into()),
    };
    assert_eq!(found, Err(expected));
}

/// Flatten, dense, square, dense.
fn dense_network(random: &mut Random) -> Graph {
    let mut net = GraphBuilder::new("dense holder", [1, 9, 9]);
    net.then(Op::Flatten).then(random.dense(12, 81));
    net.then(Op::Square).then(random.dense(CLASSES, 12));
    net.finish().unwrap()
}

#[test]
fn a_network_of_another_architecture_answers_under_the_common_keys() {
    let mut random = Random::new(94);
    let Fixture { images, face, .. } = &*LINEAR;
    let graph = dense_network(&mut random);
    // A first layer that is dense rotates by small steps where a convolution does not: keys for
    // them reach the level of the query.
    let mut face = face.clone();
    let highest = face.parameters.level_max();
    let keys = face.keys.galois.iter_mut();
    keys.for_each(|key| key.level = highest);
    face.keys.relinearize = Some(highest);
    let face = &face;
    let free = Options {
        log_n: Some(face.parameters.log_n),
        ..Options::default()
    };
    let alone = compile(&graph, &free, images).unwrap();
    let held = |program: &Program| {
        let held = face.keys.galois.iter();
        let held: Vec<u32> = held.map(|key| key.step).collect();
        let mut keys = program.keys.galois.iter();
        keys.all(|key| held.contains(&key.step))
    };
    assert!(!held(&alone.program), "it takes other rotations by itself");
    let joined = compile(&graph, &options(Some(face), Degree::Linear), images).unwrap();
    let program = joined.program;
    assert_eq!(face::compare(face, &face_of(&program)), Ok(()));
    let mut user = Deployment::new(face);
    let model = Model::new(program.clone()).unwrap();
    let prepared = Prepared::new(model.program(), model.scheme().clone()).unwrap();
    let most = 6.0 * joined.report.output_error + 1e-5;
    for image in &images[..2] {
        let query = user.encrypt(image);
        let reply = prepared.evaluate(&user.keys, &query, 1, &mut |_| {});
        let found = user.decrypt(reply.unwrap());
        let expected = reference::run(&graph, image).unwrap();
        for (found, &expected) in found.iter().zip(&expected.data) {
            let off = (found - f64::from(expected)).abs();
            assert!(off <= most, "{found} for {expected} ({most})");
        }
    }
}

#[test]
fn a_network_of_other_images_or_classes_does_not_join() {
    let mut random = Random::new(92);
    let Fixture { images, face, .. } = &*LINEAR;
    let dense = |outputs, inputs, random: &mut Random| {
        let mut net = GraphBuilder::new("other", [inputs]);
        net.then(random.dense(outputs, inputs));
        net.finish().unwrap()
    };
    let flat = dense(CLASSES, 81, &mut random);
    let refused = compile(&flat, &options(Some(face), Degree::Linear), &[]).unwrap_err();
    assert!(
        matches!(refused, CompileError::EnsembleShape { what: "input", .. }),
        "{refused}"
    );
    let mut net = GraphBuilder::new("other", [1, 9, 9]);
    net.then(Op::Flatten).then(random.dense(7, 81));
    let seven = net.finish().unwrap();
    let refused = compile(&seven, &options(Some(face), Degree::Linear), images).unwrap_err();
    assert!(
        matches!(refused, CompileError::EnsembleShape { what: "output", .. }),
        "{refused}"
    );
}

/// As [`network`], with another activation: a quadratic that stands for a ReLU.
fn rectified(random: &mut Random) -> Graph {
    let window = Window::valid([3, 3], [2, 2]);
    let relu = || Op::Polynomial {
        coefficients: vec![0.119, 0.5, 0.232],
    };
    let mut net = GraphBuilder::new("rectified holder", [1, 9, 9]);
    net.then(random.conv(3, 1, window, 1)).then(relu());
    net.then(Op::Flatten)
        .then(random.dense(12, 48))
        .then(relu());
    net.then(random.dense(CLASSES, 12));
    net.finish().unwrap()
}

fn exact_options(face: Option<&Program>, flooding: Option<Flooding>) -> Options {
    Options {
        arithmetic: Arithmetic::ScaleInvariant,
        flooding,
        // Answers of random networks lie close together.
        agreement: 0.0,
        tolerance: 1.0 / 16.0,
        ..options(face, Degree::Linear)
    }
}

/// Two holders of squares and one of quadratics, exact.
fn exact_fixture() -> Fixture {
    let mut random = Random::new(95);
    let images: Vec<Tensor> = (0..32).map(|_| random.tensor(&[1, 9, 9], 1.0)).collect();
    let flooding = Some(Flooding::Statistical { bits: 20 });
    // Room for the scores of the others.
    let roomy = Options {
        range_margin: 4.0,
        ..exact_options(None, flooding)
    };
    let first = compile(&network(&mut random), &roomy, &images);
    let mut programs = vec![first.unwrap().program];
    let face = face_of(&programs[0]);
    for graph in [rectified(&mut random), network(&mut random)] {
        // A contract says itself what arithmetic and flooding there is.
        let options = Options {
            arithmetic: Arithmetic::Approximate,
            ..exact_options(Some(&face), None)
        };
        let joined = compile(&graph, &options, &images);
        programs.push(joined.unwrap().program);
    }
    Fixture {
        images,
        face,
        programs,
    }
}

static EXACT: LazyLock<Fixture> = LazyLock::new(exact_fixture);

#[test]
fn exact_programs_of_squares_and_of_quadratics_have_one_face() {
    let Fixture { face, programs, .. } = &*EXACT;
    for program in programs {
        assert_eq!(face::compare(face, &face_of(program)), Ok(()));
        assert_eq!(program.output.factor, face.output.factor);
    }
}

#[test]
fn rules_on_exact_replies_give_the_very_integers_of_the_clear_program() {
    let Fixture {
        images,
        face,
        programs,
    } = &*EXACT;
    let mut user = Deployment::new(face);
    let prepared: Vec<(Model, Prepared)> = programs
        .iter()
        .map(|program| {
            let model = Model::new(program.clone()).unwrap();
            let prepared = Prepared::new(model.program(), model.scheme().clone()).unwrap();
            (model, prepared)
        })
        .collect();
    let refused = &rules(Degree::Cube, programs.len())[3..];
    for rule in refused {
        let found = combination::program(face, rule, programs.len());
        assert!(matches!(found, Err(scuro_ensemble::Error::NoRoom { .. })));
    }
    for image in &images[..2] {
        let query = user.encrypt(image);
        let slots = gather(face, &[&image.data]).unwrap();
        let (mut replies, mut clear) = (Vec::new(), SlotValue::new());
        for (model, prepared) in &prepared {
            let reply = prepared.evaluate(&user.keys, &query, 1, &mut |_| {});
            replies.extend(reply.unwrap());
            clear.extend(clear::run(model.program(), &slots).unwrap());
        }
        for rule in &rules(Degree::Linear, programs.len())[..3] {
            check_exact_rule(&user, face, rule, &replies, &clear);
        }
    }
}

/// Encrypted, clear and simulated give the same integers; the rule gives nearly the same scores.
fn check_exact_rule(
    user: &Deployment,
    face: &Program,
    rule: &Rule,
    replies: &[AnyCiphertext],
    clear: &SlotValue,
) {
    let program = combination::program(face, rule, replies.len()).unwrap();
    let model = Model::new(program).unwrap();
    let program = model.program();
    let prepared = Prepared::new(program, model.scheme().clone()).unwrap();
    let reply = prepared.evaluate(&user.keys, replies, 1, &mut |_| {});
    let whole = model.reply(1, &[reply.unwrap()]).unwrap();
    let (period, precision) = (
        combination::period(program),
        combination::precision(program),
    );
    let compact = model.short_reply(&whole, period, precision).unwrap();
    assert!(compact.to_bytes().len() < whole.to_bytes().len() / 2);
    let client = user.client.with_model(&model).unwrap();
    let slots = clear::run(program, clear).unwrap();
    let simulator = Simulator::new(program, model.context().parameters()).unwrap();
    assert_eq!(simulator.run(clear, 1).unwrap(), slots);
    let expected = scatter(program, &slots, 1).unwrap().remove(0);
    for bundle in [&whole, &compact] {
        let found = client.decrypt(bundle).unwrap().remove(0);
        assert_eq!(found.scores, expected, "{}", rule.kind());
    }
    let scores: Vec<Vec<f64>> = clear
        .iter()
        .map(|slots| {
            scatter(face, std::slice::from_ref(slots), 1)
                .unwrap()
                .remove(0)
        })
        .collect();
    let rounding = program.steps.iter().map(|step| step.estimate.error);
    let stated = 2.0 * rounding.sum::<f64>() * program.output.factor + 1e-9;
    for (found, expected) in expected.iter().zip(rule.combine(&scores).unwrap()) {
        assert!((found - expected).abs() <= stated, "{found} for {expected}");
    }
}

#[test]
fn exact_ensembles_refuse_what_does_not_add_up() {
    let Fixture { images, .. } = &*EXACT;
    let graph = network(&mut Random::new(96));
    let bgv = Options {
        arithmetic: Arithmetic::Exact,
        ..options(None, Degree::Linear)
    };
    let squares = Options {
        arithmetic: Arithmetic::ScaleInvariant,
        ..options(None, Degree::Square)
    };
    for options in [bgv, squares] {
        let refused = compile(&graph, &options, images).unwrap_err();
        assert!(
            matches!(refused, CompileError::EnsembleOption { .. }),
            "{refused}"
        );
    }
}
