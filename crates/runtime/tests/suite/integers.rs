//! Programs of integers of both exact schemes: squares of squares, factors, wrapped numbers.

use scuro_client::{gather, scatter};
use scuro_compiler::{Arithmetic, Options, compile};
use scuro_fhe::AnyCiphertext;
use scuro_nn::graph::{Graph, GraphBuilder, Op};
use scuro_nn::tensor::Tensor;
use scuro_program::{Program, Scheme};
use scuro_runtime::{RuntimeError, clear};

use super::common::{Deployment, Random};
use super::single_image::check_network;

const INPUTS: usize = 40;
const EXACT: [Arithmetic; 2] = [Arithmetic::Exact, Arithmetic::ScaleInvariant];

/// Dense layers with squares between them.
fn network(random: &mut Random, squares: usize) -> Graph {
    let mut net = GraphBuilder::new("squares", [INPUTS]);
    let mut inputs = INPUTS;
    for _ in 0..squares {
        net.then(random.dense(12, inputs)).then(Op::Square);
        inputs = 12;
    }
    net.then(random.dense(3, inputs));
    net.finish().unwrap()
}

/// A value times its square, at different depths: x (x^2) of a dense layer's outputs.
fn cubes(random: &mut Random) -> Graph {
    let mut net = GraphBuilder::new("cubes", [INPUTS]);
    net.then(random.dense(8, INPUTS));
    let first = net.last();
    net.then(Op::Square);
    let square = net.last();
    net.push("cube", Op::Mul, &[first, square]);
    net.then(random.dense(3, 8));
    net.finish().unwrap()
}

fn options(arithmetic: Arithmetic, precision: f64) -> Options {
    Options {
        arithmetic,
        tolerance: Options::default().tolerance / precision,
        ..Options::default()
    }
}

fn images(random: &mut Random, count: usize) -> Vec<Tensor> {
    let image = |_| random.tensor(&[INPUTS], 1.0);
    (0..count).map(image).collect()
}

#[test]
fn networks_of_one_and_two_squares_are_exact_for_small_and_large_plaintext_primes() {
    for arithmetic in EXACT {
        let mut primes = Vec::new();
        for (seed, squares, precision) in [(90, 1, 1.0), (91, 1, 2.0), (92, 2, 1.0)] {
            let mut random = Random::new(seed);
            let graph = network(&mut random, squares);
            let options = options(arithmetic, precision);
            let program = check_network(seed, &graph, &mut random, &options);
            primes.extend(program.parameters.scheme.plain_bits());
        }
        let (least, most) = (primes.iter().min(), primes.iter().max());
        assert!(least < most, "{primes:?} bits");
    }
}

#[test]
fn values_of_different_depth_multiply_exactly() {
    for arithmetic in EXACT {
        let mut random = Random::new(93);
        let graph = cubes(&mut random);
        check_network(93, &graph, &mut random, &options(arithmetic, 1.0));
    }
}

/// A program of one square and its deployment.
fn deployed(arithmetic: Arithmetic) -> (Program, Deployment, Vec<Tensor>) {
    let mut random = Random::new(94);
    let graph = network(&mut random, 1);
    let images = images(&mut random, 4);
    let options = Options {
        input_range: Some((-50.0, 50.0)),
        ..options(arithmetic, 1.0)
    };
    let program = compile(&graph, &options, &images).unwrap().program;
    let deployment = Deployment::new(&program);
    (program, deployment, images)
}

#[test]
fn numbers_wrap_modulo_the_plaintext_prime_in_either_scheme() {
    for arithmetic in EXACT {
        let (program, mut deployment, images) = deployed(arithmetic);
        let far: Vec<f32> = images[0].data.iter().map(|x| 50.0 * x).collect();
        let slots = clear::run(&program, &gather(&program, &[&far]).unwrap()).unwrap();
        let clear = scatter(&program, &slots, 1).unwrap().remove(0);
        let found = deployment.scores_of_all(&[&far]).remove(0);
        let model = deployment.client.model();
        let scheme = model.scheme().clone();
        let scuro_fhe::AnyContext::Exact(context) = scheme else {
            panic!("an exact program");
        };
        let shapes = program.validate().unwrap();
        let scales = program.scales(&shapes, model.context().parameters().q());
        let unit = program.output.factor / scales[program.result.0 as usize];
        let t = context.plain_modulus();
        let integer = |score: f64| t.reduce_signed((score / unit).round() as i64);
        assert_ne!(clear, found, "{arithmetic:?}: they do not fit");
        for (clear, found) in clear.iter().zip(found) {
            assert_eq!(integer(*clear), integer(found), "{arithmetic:?}");
        }
    }
}

#[test]
fn a_query_of_the_other_exact_scheme_is_refused() {
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for arithmetic in EXACT {
        let (program, mut deployment, images) = deployed(arithmetic);
        let query = deployment.encrypt(&images[0]);
        let AnyCiphertext::Exact(ciphertext) = &query[0] else {
            panic!("an exact program");
        };
        let model = deployment.client.model().clone();
        let scuro_fhe::AnyContext::Exact(context) = model.scheme() else {
            panic!("an exact program");
        };
        let invariant = context.scale_invariant_factor(ciphertext.level()).unwrap();
        let (own, other) = match program.parameters.scheme {
            Scheme::Bfv { .. } => (invariant, 1),
            _ => (1, invariant),
        };
        assert_eq!(ciphertext.factor(), own);
        let (parts, key) = (ciphertext.parts().to_vec(), ciphertext.key_id());
        let relabelled = scuro_fhe::bgv::Ciphertext::from_parts(context, parts, other, key);
        let query = [AnyCiphertext::Exact(relabelled.unwrap())];
        let (prepared, keys) = (&deployment.prepared, &deployment.keys);
        found.push(prepared.evaluate(keys, &query, 1, &mut |_| {}).unwrap_err());
        expected.push(RuntimeError::QueryFactor {
            index: 0,
            found: other,
            expected: own,
        });
    }
    assert_eq!(found, expected);
}
