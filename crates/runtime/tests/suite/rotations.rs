//! Programs with few rotation keys on ciphertexts, and with those of another program.

use scuro_client::gather;
use scuro_compiler::{Arithmetic, CompileError, Options, Rotations, compile};
use scuro_nn::graph::{Graph, GraphBuilder, Op, Window};
use scuro_nn::import::onnx;
use scuro_nn::tensor::Tensor;
use scuro_program::{Flooding, GaloisStep, Operation, Program, Step, ValueId, Weights};

use super::common::{Deployment, Random};
use super::single_image::{check_network, check_network_within, network};

const CRYPTONETS: &[u8] = include_bytes!("../../../cli/assets/demo-cryptonets.onnx");

/// Predicted deviations that an output may be off by: rotations that are made of several err by
/// more than is predicted of them.
const DEVIATIONS: f64 = 9.0;

fn with_budget(options: &Options, keys: usize) -> Options {
    Options {
        rotations: Rotations::Budget(keys),
        ..options.clone()
    }
}

/// The fewest keys that the compiler names for a network: more at a larger degree.
fn least(graph: &Graph, options: &Options, images: &[Tensor]) -> usize {
    let mut budget = 0;
    loop {
        match compile(graph, &with_budget(options, budget), images) {
            Err(CompileError::TooFewRotations { least, .. }) if least > budget => budget = least,
            Ok(_) => return budget,
            Err(error) => panic!("{error}"),
        }
    }
}

fn check_budgets(seed: u64, options: &Options) {
    let mut random = Random::new(seed);
    let graph = network(&mut random, options.arithmetic);
    let images: Vec<Tensor> = (0..8)
        .map(|_| random.tensor(graph.input_shape(), 1.0))
        .collect();
    let least = least(&graph, options, &images);
    for budget in [least + 2, least + 6] {
        let options = with_budget(options, budget);
        let program = check_network_within(DEVIATIONS, seed, &graph, &mut random, &options);
        let keys = program.keys.galois.len();
        assert!(keys <= budget, "seed {seed}: {keys} of {budget} keys");
    }
}

#[test]
fn networks_on_ciphertexts_compute_the_same_with_few_keys() {
    let usual = Options::default();
    let exact = Options {
        arithmetic: Arithmetic::Exact,
        ..usual.clone()
    };
    let private = |options: &Options| Options {
        weights: Weights::Private,
        ..options.clone()
    };
    let flooded = Options {
        flooding: Some(Flooding::Statistical { bits: 40 }),
        ..exact.clone()
    };
    let shared = Options {
        images_per_query: 4,
        ..usual.clone()
    };
    (200..203).for_each(|seed| check_budgets(seed, &usual));
    check_budgets(203, &private(&usual));
    check_budgets(204, &exact);
    check_budgets(205, &private(&exact));
    check_budgets(206, &flooded);
    check_budgets(207, &shared);
}

#[test]
fn another_network_runs_with_keys_for_the_rotations_of_cryptonets() {
    let mut random = Random::new(210);
    let first = onnx::from_bytes(CRYPTONETS).unwrap();
    let options = Options {
        log_n: Some(13),
        ..Options::default()
    };
    let first = compile(&first, &options, &[]).unwrap().program;
    let level = first.parameters.level_max();
    let steps = first.keys.galois.iter().map(|key| key.step);
    let common: Vec<GaloisStep> = steps.map(|step| GaloisStep { step, level }).collect();
    let mut net = GraphBuilder::new("other", [1, 28, 28]);
    net.then(random.conv(8, 1, Window::valid([4, 4], [3, 3]), 1));
    net.then(Op::Square).then(Op::Flatten);
    net.then(random.dense(32, 8 * 9 * 9)).then(Op::Square);
    net.then(random.dense(10, 32));
    let within = Options {
        rotations: Rotations::Within(common.clone()),
        ..options
    };
    let program = check_network(210, &net.finish().unwrap(), &mut random, &within);
    let held = |key: &GaloisStep| common.iter().any(|held| held.step == key.step);
    assert!(program.keys.galois.iter().all(held));
}

/// Whether the query is rotated before it is multiplied.
fn rotates_query(program: &Program) -> bool {
    let rotates = |step: &Step| matches!(step.operation, Operation::Rotate { .. });
    let mut steps = program.steps.iter();
    steps.any(|step| rotates(step) && step.inputs == [ValueId(0)])
}

#[test]
fn features_in_clear_are_rotated_in_clear() {
    let mut random = Random::new(211);
    let mut net = GraphBuilder::new("classifier", [300]);
    net.then(random.dense(40, 300)).then(Op::Square);
    net.then(random.dense(4, 40));
    let graph = net.finish().unwrap();
    let images: Vec<Tensor> = (0..4).map(|_| random.tensor(&[300], 1.0)).collect();
    let private = Options {
        weights: Weights::Private,
        ..Options::default()
    };
    let options = with_budget(&private, least(&graph, &private, &images));
    let compilation = compile(&graph, &options, &images).unwrap();
    let program = compilation.program;
    assert!(rotates_query(&program));
    let mut deployment = Deployment::new(&program);
    let query = gather(&program, &[&images[0].data]).unwrap();
    let (prepared, keys) = (&deployment.prepared, &deployment.keys);
    let reply = prepared
        .evaluate_features(keys, &query, 1, &mut |_| {})
        .unwrap();
    let plain = deployment.decrypt(reply);
    let encrypted = deployment.encrypt(&images[0]);
    let encrypted = deployment.decrypt(deployment.evaluate(&encrypted));
    let off = plain.iter().zip(&encrypted).map(|(a, b)| (a - b).abs());
    let most = 12.0 * compilation.report.output_error;
    assert!(off.fold(0.0, f64::max) <= most, "{plain:?} {encrypted:?}");
}
