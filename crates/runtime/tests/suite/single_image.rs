//! Single-image programs of random networks: ciphertexts, simulation and clear run agree with the
//! network.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_client::{Client, Model, Protected, gather, scatter};
use scuro_compiler::{Arithmetic, CompileError, Options, Report, compile};
use scuro_fhe::AnyCiphertext;
use scuro_fhe::circuits::linear::encrypted::QUERIES_MAX;
use scuro_fhe::flooding::Flooding;
use scuro_fhe::noise::{Noise, NoiseModel};
use scuro_fhe::owner::{KeyGenerator, SecretKey};
use scuro_nn::graph::{Graph, GraphBuilder, Op, Padding, Window};
use scuro_nn::reference;
use scuro_nn::tensor::Tensor;
use scuro_program::{Operation, Program, Ring, Scheme, Step, Weights};
use scuro_runtime::clear;
use scuro_runtime::encrypted::Prepared;
use scuro_runtime::simulate::Simulator;
use scuro_runtime::{Observation, RuntimeError};

use super::common::{Deployment, Random};

/// Predicted deviations that an output may be off by; outputs are of size one.
const DEVIATIONS: f64 = 6.0;
/// What an output may be off by in any case: the reference computes in single precision.
const SLACK: f64 = 1e-5;
/// What clear run and decryption may be off by, relative to the values: both compute with doubles.
const DOUBLES: f64 = 2e-14;

/// A convolution of random form (padding, stride beyond the kernel, groups), an activation of
/// degree two or three, perhaps a residual sum, perhaps a pool, one or two dense layers.
pub(crate) fn network(random: &mut Random, arithmetic: Arithmetic) -> Graph {
    let exact = arithmetic.is_exact();
    let [depth, height, width] = [
        1 + random.below(3),
        5 + random.below(5),
        5 + random.below(5),
    ];
    let mut pad = || random.below(2);
    let padding = Padding {
        top: pad(),
        left: pad(),
        bottom: pad(),
        right: pad(),
    };
    let mut extent = || 1 + random.below(4);
    let window = Window {
        kernel: [extent(), extent()],
        stride: [extent(), extent()],
        padding,
    };
    let groups = if random.below(2) == 0 { depth } else { 1 };
    let maps = groups * (1 + random.below(3));
    let [out_h, out_w] = window.output_extent([height, width], [1, 1]).unwrap();
    let mut net = GraphBuilder::new("random", [depth, height, width]);
    net.then(random.conv(maps, depth, window, groups));
    let first = net.last();
    net.then(match random.below(if exact { 1 } else { 3 }) {
        0 => Op::Polynomial {
            coefficients: vec![0.1, 0.5, 0.25],
        },
        1 => Op::Polynomial {
            coefficients: vec![0.2, 0.5, 0.0, -0.05],
        },
        _ => Op::Square,
    });
    if !exact && random.below(2) == 0 {
        let activated = net.last();
        net.push("residual", Op::Add, &[activated, first]);
    }
    let mut elements = maps * out_h * out_w;
    if out_h >= 2 && out_w >= 2 && random.below(2) == 0 {
        let window = Window::valid([2, 2], [2, 2]);
        net.then(Op::AvgPool {
            window,
            count_padding: true,
        });
        elements = maps * (out_h / 2) * (out_w / 2);
    }
    net.then(Op::Flatten);
    // Every square doubles the bits of exact numbers, of which there are 46.
    if !exact && random.below(2) == 0 {
        net.then(random.dense(7, elements)).then(Op::Square);
        elements = 7;
    }
    net.then(random.dense(3, elements));
    net.finish().unwrap()
}

/// The least noise budget of some ciphertexts; none of approximate numbers.
fn least_budget(client: &Client, ciphertexts: &[AnyCiphertext]) -> Option<f64> {
    let budgets = ciphertexts.iter().map(|c| client.noise_budget(c).unwrap());
    let budgets: Option<Vec<f64>> = budgets.collect();
    budgets.map(|all| all.into_iter().fold(f64::INFINITY, f64::min))
}

pub(crate) fn check(seed: u64, options: &Options) {
    let mut random = Random::new(seed);
    let graph = network(&mut random, options.arithmetic);
    check_network(seed, &graph, &mut random, options);
}

/// That all backends compute the network.
pub(crate) fn check_network(
    seed: u64,
    graph: &Graph,
    random: &mut Random,
    options: &Options,
) -> Program {
    check_network_within(DEVIATIONS, seed, graph, random, options)
}

/// The same up to so many predicted deviations.
pub(crate) fn check_network_within(
    deviations: f64,
    seed: u64,
    graph: &Graph,
    random: &mut Random,
    options: &Options,
) -> Program {
    let images: Vec<Tensor> = (0..8)
        .map(|_| random.tensor(graph.input_shape(), 1.0))
        .collect();
    let compilation = compile(graph, options, &images).unwrap();
    let tolerance = SLACK + deviations * compilation.report.output_error;
    let program = compilation.program;
    let model = Model::new(program.clone()).unwrap();
    let simulator = Simulator::new(&program, model.context().parameters()).unwrap();
    let images = &images[..options.images_per_query];
    let inputs: Vec<&[f32]> = images.iter().map(|image| image.data.as_slice()).collect();
    let expected = images.iter().map(|i| reference::run(graph, i).unwrap());
    let expected: Vec<Tensor> = expected.collect();
    let query = gather(&program, &inputs).unwrap();
    let scores = |slots: Vec<Vec<f64>>| scatter(&program, &slots, inputs.len()).unwrap();
    let compare = |backend: &str, scores: &[Vec<f64>]| {
        assert_eq!(scores.len(), expected.len());
        let expected = expected.iter().flat_map(|tensor| &tensor.data);
        for (&got, &want) in scores.iter().flatten().zip(expected) {
            let off = (got - f64::from(want)).abs();
            assert!(
                off <= tolerance,
                "seed {seed}, {backend}: {got} for {want} ({tolerance})"
            );
        }
    };
    let clear = scores(clear::run(&program, &query).unwrap());
    compare("clear", &clear);
    let mut deployment = Deployment::new(&program);
    let query_sent = deployment.encrypt_all(&inputs);
    let reply = deployment.evaluate(&query_sent);
    if let Some(budget) = least_budget(&deployment.client, &reply) {
        // The noise model leaves room for twelve deviations of a coefficient; among thousands
        // some are of more than four.
        // Flooding takes what there is.
        let least = if program.flood().is_some() { 0.0 } else { 0.75 };
        assert!(budget > least, "seed {seed}: {budget} bits of budget");
    }
    let encrypted = deployment.decrypt_all(reply, inputs.len());
    compare("encrypted", &encrypted);
    compare("simulated", &scores(simulator.run(&query, seed).unwrap()));
    if program.parameters.scheme != Scheme::Ckks {
        assert_eq!(encrypted, clear, "seed {seed}: exact programs are exact");
    }
    program
}

#[test]
fn random_networks_on_ciphertexts_compute_what_the_network_computes() {
    (0..20).for_each(|seed| check(seed, &Options::default()));
}

#[test]
fn networks_on_ciphertexts_with_complex_slots_compute_the_same() {
    let options = Options {
        ring: Ring::Standard,
        ..Options::default()
    };
    (20..26).for_each(|seed| check(seed, &options));
}

#[test]
fn networks_with_encrypted_weights_compute_the_same() {
    for (ring, seeds) in [(Ring::ConjugateInvariant, 30..42), (Ring::Standard, 42..46)] {
        let options = Options {
            ring,
            weights: Weights::Private,
            ..Options::default()
        };
        seeds.for_each(|seed| check(seed, &options));
    }
}

#[test]
fn pools_in_place_compute_the_same() {
    let mut random = Random::new(47);
    let mut net = GraphBuilder::new("pooled", [2, 12, 12]);
    let padding = Padding {
        top: 1,
        left: 1,
        bottom: 1,
        right: 1,
    };
    let same = Window {
        padding,
        ..Window::valid([3, 3], [1, 1])
    };
    net.then(random.conv(16, 2, same, 1)).then(Op::Square);
    net.then(Op::AvgPool {
        window: Window::valid([2, 2], [2, 2]),
        count_padding: true,
    });
    // Large enough that pool and convolution are not made one.
    net.then(random.conv(32, 16, Window::valid([3, 3], [1, 1]), 1));
    net.then(Op::Square).then(Op::Flatten);
    net.then(random.dense(3, 32 * 4 * 4));
    let graph = net.finish().unwrap();
    for weights in [Weights::Plain, Weights::Private] {
        let options = Options {
            weights,
            log_n: Some(13),
            ..Options::default()
        };
        let program = check_network(47, &graph, &mut random, &options);
        let in_place = |step: &Step| match &step.operation {
            Operation::Fold { stages } => stages.iter().any(|stage| stage.len() == 3),
            _ => false,
        };
        assert!(program.steps.iter().any(in_place));
    }
}

#[test]
fn networks_of_integers_compute_exactly_what_the_clear_program_computes() {
    for weights in [Weights::Plain, Weights::Private] {
        for ring in [Ring::ConjugateInvariant, Ring::Standard] {
            let options = Options {
                ring,
                weights,
                arithmetic: Arithmetic::Exact,
                ..Options::default()
            };
            (50..54).for_each(|seed| check(seed, &options));
        }
    }
    for ring in [Ring::ConjugateInvariant, Ring::Standard] {
        let options = Options {
            ring,
            arithmetic: Arithmetic::ScaleInvariant,
            ..Options::default()
        };
        (54..58).for_each(|seed| check(seed, &options));
    }
}

#[test]
fn networks_with_several_images_a_query_compute_the_same() {
    for (images_per_query, seeds) in [(2, 70..71), (8, 72..74)] {
        for weights in [Weights::Plain, Weights::Private] {
            for ring in [Ring::ConjugateInvariant, Ring::Standard] {
                for arithmetic in [Arithmetic::Approximate, Arithmetic::Exact] {
                    let options = Options {
                        images_per_query,
                        ring,
                        weights,
                        arithmetic,
                        ..Options::default()
                    };
                    seeds.clone().for_each(|seed| check(seed, &options));
                }
            }
        }
        let options = Options {
            images_per_query,
            arithmetic: Arithmetic::ScaleInvariant,
            ..Options::default()
        };
        seeds.for_each(|seed| check(seed, &options));
    }
}

#[test]
fn networks_at_higher_security_levels_compute_the_same() {
    for security_bits in [192, 256] {
        let options = Options {
            security_bits,
            ..Options::default()
        };
        (26..29).for_each(|seed| check(seed, &options));
    }
}

/// Two dense layers with a square between them, compiled with private weights, and some images.
fn classifier(random: &mut Random, arithmetic: Arithmetic) -> (Program, f64, Vec<Tensor>) {
    shared_classifier(random, arithmetic, 1)
}

/// The same with several images a query.
fn shared_classifier(
    random: &mut Random,
    arithmetic: Arithmetic,
    images_per_query: usize,
) -> (Program, f64, Vec<Tensor>) {
    let mut net = GraphBuilder::new("classifier", [70]);
    net.then(random.dense(20, 70)).then(Op::Square);
    net.then(random.dense(4, 20));
    let graph = net.finish().unwrap();
    let images: Vec<Tensor> = (0..8).map(|_| random.tensor(&[70], 1.0)).collect();
    let options = Options {
        weights: Weights::Private,
        arithmetic,
        images_per_query,
        ..Options::default()
    };
    let compilation = compile(&graph, &options, &images).unwrap();
    let tolerance = SLACK + DEVIATIONS * compilation.report.output_error;
    (compilation.program, tolerance, images)
}

#[test]
fn a_block_of_queries_gets_the_replies_that_each_gets_alone() {
    let mut random = Random::new(60);
    for arithmetic in [Arithmetic::Approximate, Arithmetic::Exact] {
        let (program, _, images) = classifier(&mut random, arithmetic);
        let mut deployment = Deployment::new(&program);
        let queries = images.iter().take(3).map(|image| deployment.encrypt(image));
        let queries: Vec<Vec<AnyCiphertext>> = queries.collect();
        let (prepared, keys) = (&deployment.prepared, &deployment.keys);
        let block = prepared.evaluate_block(keys, &queries, 1).unwrap();
        let alone = |query: &Vec<_>| prepared.evaluate(keys, query, 1, &mut |_| {}).unwrap();
        assert_eq!(block, queries.iter().map(alone).collect::<Vec<_>>());
        assert!(prepared.evaluate_block(keys, &[], 1).unwrap().is_empty());
        let many = vec![queries[0].clone(); QUERIES_MAX + 1];
        let error = prepared.evaluate_block(keys, &many, 1).unwrap_err();
        let (found, max) = (QUERIES_MAX + 1, QUERIES_MAX);
        assert_eq!(
            error,
            scuro_fhe::Error::TooManyQueries { found, max }.into()
        );
    }
}

#[test]
fn features_in_clear_give_the_answer_of_encrypted_ones() {
    let mut random = Random::new(61);
    let (approximate, exact) = (Arithmetic::Approximate, Arithmetic::Exact);
    for (arithmetic, shared) in [(approximate, 1), (exact, 1), (approximate, 4), (exact, 4)] {
        let (program, tolerance, images) = shared_classifier(&mut random, arithmetic, shared);
        let mut deployment = Deployment::new(&program);
        for images in images.chunks(shared).take(2) {
            let images: Vec<&[f32]> = images.iter().map(|i| i.data.as_slice()).collect();
            let features = gather(&program, &images).unwrap();
            let mut steps = Vec::new();
            let mut watch = |event: Observation<'_>| steps.push(event.step);
            let (prepared, keys) = (&deployment.prepared, &deployment.keys);
            let reply = prepared
                .evaluate_features(keys, &features, 1, &mut watch)
                .unwrap();
            assert_eq!(steps.last(), Some(&(program.steps.len() - 1)));
            let clear = deployment.decrypt_all(reply, shared).concat();
            let hidden = deployment.scores_of_all(&images).concat();
            match arithmetic {
                Arithmetic::Exact | Arithmetic::ScaleInvariant => assert_eq!(clear, hidden),
                Arithmetic::Approximate => {
                    for (a, b) in clear.iter().zip(&hidden) {
                        assert!((a - b).abs() <= 2.0 * tolerance, "{a} for {b}");
                    }
                }
            }
        }
    }
}

#[test]
fn features_in_clear_are_refused_where_the_first_weights_are_plain() {
    let mut random = Random::new(62);
    let mut net = GraphBuilder::new("plain", [8]);
    net.then(random.dense(3, 8));
    let images = [random.tensor(&[8], 1.0)];
    let compilation = compile(&net.finish().unwrap(), &Options::default(), &images).unwrap();
    let program = compilation.program;
    let deployment = Deployment::new(&program);
    let features = gather(&program, &[&images[0].data]).unwrap();
    let (prepared, keys) = (&deployment.prepared, &deployment.keys);
    let refused = prepared.evaluate_features(keys, &features, 1, &mut |_| {});
    assert_eq!(refused, Err(RuntimeError::PlainQuery { step: 0 }));
}

#[test]
fn a_reply_decrypted_whole_shows_nothing_but_outputs() {
    let mut random = Random::new(63);
    for arithmetic in [Arithmetic::Approximate, Arithmetic::Exact] {
        let (program, tolerance, images) = classifier(&mut random, arithmetic);
        let mut deployment = Deployment::new(&program);
        let query = deployment.encrypt(&images[0]);
        let reply = deployment.evaluate(&query);
        let slots = deployment.reveal(&program, &reply);
        let scores = deployment.decrypt(reply);
        check_outputs_only(&slots, &scores, tolerance);
    }
}

fn check_outputs_only(slots: &[f64], scores: &[f64], tolerance: f64) {
    let known = scores.iter().copied().chain([0.0]);
    for slot in slots {
        let near = known.clone().map(|score| (slot - score).abs());
        let nearest = near.fold(f64::INFINITY, f64::min);
        assert!(nearest <= 2.0 * tolerance, "slot {slot} is no output");
    }
}

#[test]
fn a_reply_for_several_images_shows_nothing_but_outputs_of_these_images() {
    let mut random = Random::new(65);
    for arithmetic in [Arithmetic::Approximate, Arithmetic::Exact] {
        let (program, tolerance, images) = shared_classifier(&mut random, arithmetic, 4);
        let mut deployment = Deployment::new(&program);
        // The second query is not full.
        for range in [0..4, 4..7] {
            let images: Vec<&[f32]> = images[range].iter().map(|i| i.data.as_slice()).collect();
            let query = deployment.encrypt_all(&images);
            let reply = deployment.evaluate(&query);
            let slots = deployment.reveal(&program, &reply);
            let scores = deployment.decrypt_all(reply, images.len());
            assert_eq!(scores.len(), images.len());
            check_outputs_only(&slots, &scores.concat(), tolerance);
        }
    }
}

#[test]
fn an_answer_depends_neither_on_its_place_nor_on_the_images_beside_it() {
    let mut random = Random::new(66);
    for arithmetic in [Arithmetic::Approximate, Arithmetic::Exact] {
        let (program, _, images) = shared_classifier(&mut random, arithmetic, 4);
        let images: Vec<&[f32]> = images.iter().map(|i| i.data.as_slice()).collect();
        let scores = |images: &[&[f32]]| {
            let slots = clear::run(&program, &gather(&program, images).unwrap()).unwrap();
            scatter(&program, &slots, images.len()).unwrap()
        };
        let all = scores(&images[..4]);
        let turned = scores(&[images[5], images[3], images[0], images[6]]);
        assert_eq!([&turned[1], &turned[2]], [&all[3], &all[0]]);
        assert_eq!(scores(&images[2..3]), all[2..3]);
        let many = gather(&program, &images[..5]).unwrap_err();
        let message = many.to_string();
        assert!(message.contains('5') && message.contains('4'), "{message}");
    }
}

#[test]
fn weights_that_do_not_belong_are_refused_before_anything_is_computed() {
    let mut random = Random::new(64);
    let (program, _, _) = classifier(&mut random, Arithmetic::Approximate);
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let mine = Protected::new(&program, &mut rng).unwrap();
    let other = Protected::new(&program, &mut rng).unwrap();
    let model = &mine.model;
    let opened = |bundle| -> Vec<AnyCiphertext> {
        let weights = model.open_weights(bundle).unwrap();
        weights.map(Result::unwrap).collect()
    };
    let weights = opened(mine.weights.clone());
    let count = weights.len();
    let prepare = |weights: Vec<AnyCiphertext>| {
        let weights = weights.into_iter().map(Ok);
        Prepared::with_weights(model.program(), model.scheme().clone(), weights).map(drop)
    };
    let (found, expected) = (count - 1, count);
    let short = prepare(weights[1..].to_vec());
    assert_eq!(short, Err(RuntimeError::WeightCount { found, expected }));
    // The last one is a constant of another level and scale than the diagonals.
    let mut swapped = weights.clone();
    swapped.swap(0, count - 1);
    let wrong = prepare(swapped).unwrap_err();
    assert!(matches!(wrong, RuntimeError::WeightLevel { index: 0, .. }));
    let mut mixed = weights.clone();
    mixed[1] = opened(other.weights).swap_remove(1);
    let wrong = prepare(mixed).unwrap_err();
    assert!(matches!(wrong, RuntimeError::Fhe(_)), "{wrong}");
    let plain = Prepared::new(model.program(), model.scheme().clone()).map(drop);
    assert!(matches!(plain, Err(RuntimeError::WrongWeights { .. })));
}

/// Noise budgets of the reply before and after it is flooded, and the scores.
fn flooded_reply(deployment: &mut Deployment, image: &Tensor) -> (f64, f64, Vec<f64>) {
    let query = deployment.encrypt(image);
    let (prepared, keys, client) = (&deployment.prepared, &deployment.keys, &deployment.client);
    let mut budgets = Vec::new();
    let mut watch = |observation: Observation<'_>| {
        budgets.extend(least_budget(client, &observation.result.to_vec()));
    };
    let reply = prepared.evaluate(keys, &query, 1, &mut watch).unwrap();
    let &[.., before, after] = budgets.as_slice() else {
        panic!("a flooded program has two steps at least");
    };
    (before, after, deployment.decrypt(reply))
}

/// Bits that flooding leaves of the budget at the reply's level: those of its noise, whatever was
/// computed.
fn budget_of_flooding(deployment: &Deployment) -> (f64, f64) {
    let model = deployment.client.model();
    let (program, parameters) = (model.program(), model.context().parameters());
    let plain_bits = program.parameters.scheme.plain_bits();
    let plain_bits = plain_bits.expect("exact programs only");
    let flood = program.flood().expect("the reply is flooded");
    let level = program.steps[program.result.0 as usize - 1].estimate.level;
    let room = parameters.log_q(level as usize) - 1.0 - f64::from(plain_bits);
    let error = flood.bound_log2.exp2() + (parameters.n() as f64).sqrt() / 2.0;
    let noise = Noise {
        std: 0.0,
        bound: error,
    };
    let flooding = Flooding::Statistical { bits: 40 };
    let coefficients = NoiseModel::new(parameters).flooded_coefficients(noise, flooding);
    (room - flood.bound_log2, room - coefficients.log2())
}

#[test]
fn a_flooded_reply_is_exact_and_its_noise_says_nothing_of_the_weights() {
    let (plain, invariant) = (Arithmetic::Exact, Arithmetic::ScaleInvariant);
    for (seed, weights, arithmetic) in [
        (70, Weights::Plain, plain),
        (71, Weights::Plain, plain),
        (72, Weights::Private, plain),
        (73, Weights::Private, plain),
        (70, Weights::Plain, invariant),
        (71, Weights::Plain, invariant),
    ] {
        let mut random = Random::new(seed);
        let graph = network(&mut random, arithmetic);
        let mut images: Vec<Tensor> = (0..8)
            .map(|_| random.tensor(graph.input_shape(), 1.0))
            .collect();
        // The corners of the declared range.
        images[0].data.fill(1.0);
        images[1].data.fill(-1.0);
        let options = Options {
            weights,
            arithmetic,
            flooding: Some(scuro_program::Flooding::Statistical { bits: 40 }),
            input_range: Some((-1.0, 1.0)),
            ..Options::default()
        };
        let program = compile(&graph, &options, &images).unwrap().program;
        let mut deployment = Deployment::new(&program);
        let (smallest, flooded) = budget_of_flooding(&deployment);
        for image in &images[..3] {
            let query = gather(&program, &[&image.data]).unwrap();
            let clear = clear::run(&program, &query).unwrap();
            let clear = scatter(&program, &clear, 1).unwrap().remove(0);
            let (before, after, scores) = flooded_reply(&mut deployment, image);
            assert_eq!(scores, clear, "seed {seed}: flooding is exact");
            assert!(
                before >= smallest,
                "seed {seed}: {before:.1} bits of budget, the bound promises {smallest:.1}"
            );
            // A uniform noise of 2^40 times the error hides it: what is left of the budget depends
            // on the declared bound alone. The plaintext prime is up to a bit shorter than said.
            assert!(
                (after - flooded).abs() < 1.1,
                "seed {seed}: {after:.2} bits after flooding, {flooded:.2} by its noise"
            );
        }
    }
}

/// That the predicted sizes of keys are those of the keys, the public one included.
fn check_key_sizes(report: &Report, deployment: &Deployment) {
    let keys = &deployment.keys;
    assert!(keys.manifest().public);
    let near = |found: usize, predicted: u64| {
        let ratio = found as f64 / predicted as f64;
        assert!((ratio - 1.0).abs() < 0.01, "{found} for {predicted} bytes");
    };
    near(keys.memory_bytes(), report.key_bytes);
    let bytes = keys.to_bytes(deployment.client.model().context());
    near(bytes.len(), report.key_bytes_seeded);
}

#[test]
fn an_approximate_reply_is_flooded_where_its_precision_bears_it() {
    let mut random = Random::new(74);
    let layer = random.dense(4, 70);
    let Op::Dense { weight, .. } = &layer else {
        panic!("a dense layer");
    };
    // The corners of the declared range, and the one with the largest score.
    let mut images: Vec<Tensor> = (0..8).map(|_| random.tensor(&[70], 1.0)).collect();
    images[0].data.fill(1.0);
    images[1].data.fill(-1.0);
    images[2].data = weight.data[..70].iter().map(|w| w.signum()).collect();
    let mut net = GraphBuilder::new("linear", [70]);
    net.then(layer);
    let graph = net.finish().unwrap();
    let relaxed = |bits| Options {
        input_range: Some((-1.0, 1.0)),
        flooding: Some(scuro_program::Flooding::Relaxed {
            bits,
            decryptions: 1024,
        }),
        ..Options::default()
    };
    let compilation = compile(&graph, &relaxed(20), &images).unwrap();
    let (program, report) = (compilation.program, compilation.report);
    let flood = *program.flood().unwrap();
    let mut deployment = Deployment::new(&program);
    check_key_sizes(&report, &deployment);
    let shapes = program.validate().unwrap();
    let primes = deployment.client.model().context().parameters().q();
    let scale = program.scales(&shapes, primes)[program.result.0 as usize];
    let bound = flood.bound_log2.exp2() / scale;
    let (mut before, mut after, mut largest) = (0.0f64, 0.0f64, 0.0f64);
    for image in &images {
        // With the weights as the program has them.
        let clear = clear::run(&program, &gather(&program, &[&image.data]).unwrap()).unwrap();
        let expected = scatter(&program, &clear, 1).unwrap().remove(0);
        largest = expected.iter().fold(largest, |max, x| max.max(x.abs()));
        let query = deployment.encrypt(image);
        let (prepared, keys) = (&deployment.prepared, &deployment.keys);
        let mut unflooded = Vec::new();
        let mut watch = |o: Observation<'_>| {
            if o.step + 2 == program.result.0 as usize {
                unflooded = o.result.to_vec();
            }
        };
        let reply = prepared.evaluate(keys, &query, 1, &mut watch).unwrap();
        let off = |scores: Vec<f64>| {
            let pairs = scores.into_iter().zip(&expected);
            pairs.fold(0.0f64, |max, (a, b)| max.max((a - b).abs()))
        };
        before = before.max(off(deployment.decrypt(unflooded)));
        after = after.max(off(deployment.decrypt(reply)));
    }
    let slack = DOUBLES * largest;
    assert!(slack < bound / 64.0, "{slack} hides errors above {bound}");
    assert!(before <= bound + slack, "{before}, bounded by {bound}");
    let error = report.output_error;
    assert!(after <= DEVIATIONS * error, "{after} for {error}");
    assert!(after > error / 4.0, "the noise is as wide as it has to be");
    let refused = compile(&graph, &relaxed(128), &images).unwrap_err();
    assert!(
        matches!(refused, CompileError::TooNoisyToFlood { .. }),
        "{refused}"
    );
}

#[test]
fn an_estimated_error_is_drowned_where_the_largest_of_any_input_is_too_large() {
    let mut random = Random::new(76);
    let mut net = GraphBuilder::new("two squares", [24]);
    net.then(random.dense(16, 24)).then(Op::Square);
    net.then(random.dense(16, 16)).then(Op::Square);
    net.then(random.dense(4, 16));
    let graph = net.finish().unwrap();
    let images: Vec<Tensor> = (0..32).map(|_| random.tensor(&[24], 1.0)).collect();
    let options = |flooding, arithmetic| Options {
        input_range: Some((-1.0, 1.0)),
        flooding: Some(flooding),
        arithmetic,
        ..Options::default()
    };
    let (bits, decryptions) = (20, 16);
    let estimated = scuro_program::Flooding::Estimated { bits, decryptions };
    let approximate = options(estimated, Arithmetic::Approximate);
    let compilation = compile(&graph, &approximate, &images).unwrap();
    let (program, report) = (compilation.program, compilation.report);
    let mut deployment = Deployment::new(&program);
    let shapes = program.validate().unwrap();
    let primes = deployment.client.model().context().parameters().q();
    let scale = program.scales(&shapes, primes)[program.result.0 as usize];
    let bound = program.flood().unwrap().bound_log2.exp2() / scale;
    let (mut before, mut after) = (0.0f64, 0.0f64);
    for image in &images[..8] {
        let query = gather(&program, &[&image.data]).unwrap();
        let clear = clear::run(&program, &query).unwrap();
        let encrypted = deployment.encrypt(image);
        let (prepared, keys) = (&deployment.prepared, &deployment.keys);
        let mut unflooded = Vec::new();
        let mut watch = |o: Observation<'_>| {
            if o.step + 2 == program.result.0 as usize {
                unflooded = o.result.to_vec();
            }
        };
        let reply = prepared.evaluate(keys, &encrypted, 1, &mut watch).unwrap();
        // The norm of the error, as its coefficients have it: slots in the root mean square.
        let norm = |ciphertext: &AnyCiphertext| {
            let slots = deployment.client.reveal(ciphertext, scale).unwrap();
            let squares = slots.iter().zip(&clear[0]).map(|(a, b)| (a - b).powi(2));
            (squares.sum::<f64>() / slots.len() as f64).sqrt()
        };
        before = before.max(norm(&unflooded[0]));
        after = after.max(norm(&reply[0]));
    }
    assert!(before <= bound, "{before}, drowned as {bound}");
    assert!(before > bound / 64.0, "{before} is far from {bound}");
    let error = report.output_error;
    let strength = (12.0 * f64::from(decryptions)).sqrt() * f64::from(bits / 2).exp2();
    assert!(error > strength * bound, "noise of {error} over {bound}");
    assert!(
        (error / 2.0..error * 2.0).contains(&after),
        "{after}, predicted {error}"
    );
}

#[test]
fn exact_programs_bear_noise_over_the_estimated_and_over_the_largest_error() {
    let mut random = Random::new(77);
    let mut net = GraphBuilder::new("a square", [24]);
    net.then(random.dense(16, 24)).then(Op::Square);
    net.then(random.dense(4, 16));
    let graph = net.finish().unwrap();
    let images: Vec<Tensor> = (0..32).map(|_| random.tensor(&[24], 1.0)).collect();
    let exact = |flooding| {
        let options = Options {
            input_range: Some((-1.0, 1.0)),
            flooding: Some(flooding),
            arithmetic: Arithmetic::Exact,
            ..Options::default()
        };
        compile(&graph, &options, &images).unwrap().program
    };
    let (bits, decryptions) = (20, 16);
    let over_largest = exact(scuro_program::Flooding::Relaxed { bits, decryptions });
    let program = exact(scuro_program::Flooding::Estimated { bits, decryptions });
    let bound = |program: &Program| program.flood().unwrap().bound_log2;
    assert!(bound(&program) + 4.0 < bound(&over_largest));
    let mut deployment = Deployment::new(&program);
    for image in &images[..2] {
        let query = gather(&program, &[&image.data]).unwrap();
        let clear = clear::run(&program, &query).unwrap();
        let expected = scatter(&program, &clear, 1).unwrap().remove(0);
        assert_eq!(deployment.scores_of_all(&[&image.data])[0], expected);
    }
}

#[test]
fn an_evaluator_without_the_public_key_refuses_to_answer() {
    let mut random = Random::new(75);
    let (program, _, images) = classifier(&mut random, Arithmetic::Exact);
    let mut net = GraphBuilder::new("linear", [70]);
    net.then(random.dense(4, 70));
    let graph = net.finish().unwrap();
    let options = Options {
        arithmetic: Arithmetic::Exact,
        flooding: Some(scuro_program::Flooding::Statistical { bits: 40 }),
        ..Options::default()
    };
    let flooded = compile(&graph, &options, &images).unwrap().program;
    assert!(flooded.keys.public && !program.keys.public);
    let mut deployment = Deployment::new(&flooded);
    let query = deployment.encrypt(&images[0]);
    let model = deployment.client.model();
    let manifest = scuro_fhe::keys::KeyManifest {
        public: false,
        ..model.key_manifest()
    };
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let secret = SecretKey::generate(model.context(), &mut rng);
    let generator = KeyGenerator::new(model.context(), &secret).unwrap();
    let keys = generator.evaluation_keys(&manifest, &mut rng).unwrap();
    let refused = deployment.prepared.evaluate(&keys, &query, 1, &mut |_| {});
    assert_eq!(refused, Err(RuntimeError::MissingPublicKey));
}
