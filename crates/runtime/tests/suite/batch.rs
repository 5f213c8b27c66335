//! Batch programs on ciphertexts compute what the simulation, the clear run and the network
//! compute.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_compiler::{Options, compile};
use scuro_fhe::AnyCiphertext;
use scuro_fhe::Context;
use scuro_fhe::ckks::Encoder;
use scuro_fhe::keys::{EvaluationKeys, KeyManifest};
use scuro_fhe::owner::{Decryptor, Encryptor, KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_nn::graph::{Graph, GraphBuilder, NodeId, Op, Padding, Window};
use scuro_nn::reference;
use scuro_nn::tensor::Tensor;
use scuro_program::{Operation, Packing, Program};
use scuro_runtime::encrypted::Prepared;
use scuro_runtime::simulate::Simulator;
use scuro_runtime::{RuntimeError, clear};

use super::common::Random;

const EXAMPLES: usize = 24;
/// Predicted deviations that an output may be off by.
const DEVIATIONS: f64 = 10.0;

/// The batch of examples: `[element][slot]`, the slots after the examples zero.
fn query(program: &Program, examples: &[Tensor]) -> Vec<Vec<f64>> {
    let slot = |element: usize, slot: usize| {
        examples
            .get(slot)
            .map_or(0.0, |example| f64::from(example.data[element]))
    };
    let row = |element| (0..program.slots()).map(|s| slot(element, s)).collect();
    (0..program.input.elements()).map(row).collect()
}

struct Owner {
    context: Arc<Context>,
    secret: SecretKey,
    keys: EvaluationKeys,
    rng: ChaCha20Rng,
}

impl Owner {
    fn new(program: &Program) -> Self {
        let plan = &program.parameters;
        let spec = ParameterSpec::new(plan.log_n, &plan.q_bits, &plan.p_bits);
        let context = Context::new(Parameters::new(spec).unwrap()).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let secret = SecretKey::generate(&context, &mut rng);
        let relinearization = program.keys.relinearize.map(|level| level as usize);
        let manifest = KeyManifest {
            relinearization,
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

    fn encrypt(&mut self, program: &Program, query: &[Vec<f64>]) -> Vec<AnyCiphertext> {
        let encoder = Encoder::new(&self.context);
        let encryptor = Encryptor::new(&self.context, &self.secret).unwrap();
        let level = program.input.level as usize;
        let mut one = |values: &Vec<f64>| {
            let plaintext = encoder
                .encode(values, level, program.input.scale_log2.exp2())
                .unwrap();
            encryptor
                .encrypt(&plaintext, &mut self.rng)
                .unwrap()
                .expand(&self.context)
                .unwrap()
                .into()
        };
        query.iter().map(&mut one).collect()
    }

    fn decrypt(&self, reply: &[AnyCiphertext]) -> Vec<Vec<f64>> {
        let encoder = Encoder::new(&self.context);
        let decryptor = Decryptor::new(&self.context, &self.secret).unwrap();
        let decode = |c: &AnyCiphertext| {
            let AnyCiphertext::Approximate(c) = c else {
                panic!("a reply of the other scheme")
            };
            encoder.decode(&decryptor.decrypt(c).unwrap()).unwrap()
        };
        reply.iter().map(decode).collect()
    }
}

/// Compiles, runs on all backends, compares the outputs of every example.
fn check(graph: &Graph, random: &mut Random) -> Program {
    let mut image = || random.tensor(graph.input_shape(), 1.0);
    let examples: Vec<Tensor> = (0..EXAMPLES).map(|_| image()).collect();
    let options = Options {
        packing: Packing::Batch,
        ..Options::default()
    };
    let compilation = compile(graph, &options, &examples).unwrap();
    let program = Arc::new(compilation.program);
    let tolerance = DEVIATIONS * compilation.report.output_error;
    let expected: Vec<Tensor> = examples
        .iter()
        .map(|example| reference::run(graph, example).unwrap())
        .collect();
    let compare = |backend: &str, slots: &[Vec<f64>]| {
        for (slot, expected) in expected.iter().enumerate() {
            for (address, &want) in program.output.addresses.iter().zip(&expected.data) {
                let got = slots[address.ciphertext as usize][slot];
                let off = (got - f64::from(want)).abs();
                assert!(
                    off <= tolerance,
                    "{backend}: {got} for {want}, tolerance {tolerance}"
                );
            }
        }
    };
    let query = query(&program, &examples);
    compare("clear", &clear::run(&program, &query).unwrap());
    let mut owner = Owner::new(&program);
    let simulator = Simulator::new(&program, owner.context.parameters()).unwrap();
    compare("simulated", &simulator.run(&query, 5).unwrap());
    let prepared = Prepared::new(&program, Arc::clone(&owner.context)).unwrap();
    let encrypted = owner.encrypt(&program, &query);
    let mut seen = Vec::new();
    let reply = prepared
        .evaluate(&owner.keys, &encrypted, 1, &mut |o| seen.push(o.step))
        .unwrap();
    compare("encrypted", &owner.decrypt(&reply));
    assert!(seen.is_sorted() && seen.last() == Some(&(program.steps.len() - 1)));
    let again = prepared
        .evaluate(&owner.keys, &encrypted, 2, &mut |_| {})
        .unwrap();
    assert_eq!(reply, again, "two threads give other ciphertexts than one");
    Arc::unwrap_or_clone(program)
}

fn random(seed: u64) -> Random {
    Random::new(seed)
}

#[test]
fn asymmetric_grouped_and_padded_convolutions() {
    let mut random = random(1);
    let mut net = GraphBuilder::new("convolutions", [2, 9, 7]);
    let padding = Padding {
        top: 1,
        left: 0,
        bottom: 0,
        right: 2,
    };
    let window = Window {
        kernel: [3, 2],
        stride: [2, 3],
        padding,
    };
    net.then(random.conv(4, 2, window, 2)).then(Op::Square);
    // A stride that leaves columns out, and a 1x1 kernel.
    net.then(random.conv(3, 4, Window::valid([1, 2], [3, 2]), 1));
    net.then(random.conv(2, 3, Window::valid([1, 1], [1, 1]), 1))
        .then(Op::Square);
    net.then(Op::Flatten);
    let inputs = net.last();
    let graph = net.finish_at(inputs).unwrap();
    let elements = graph.shapes().unwrap().last().unwrap()[0];
    let mut net = GraphBuilder::new("convolutions", [2, 9, 7]);
    net = rebuild(net, &graph);
    net.then(random.dense(5, elements));
    check(&net.finish().unwrap(), &mut random);
}

/// The nodes of `graph` after its input, pushed again.
fn rebuild(mut net: GraphBuilder, graph: &Graph) -> GraphBuilder {
    for node in &graph.nodes[1..] {
        net.push(node.name.clone(), node.op.clone(), &node.inputs);
    }
    net
}

#[test]
fn residual_sums_of_different_scales_and_levels() {
    let mut random = random(2);
    let mut net = GraphBuilder::new("residual", [6]);
    let first = net.push("first", random.dense(6, 6), &[net.input()]);
    let square = net.push("square", Op::Square, &[first]);
    let second = net.push("second", random.dense(6, 6), &[square]);
    let sum = net.push("sum", Op::Add, &[second, first]);
    let outer = net.push("outer", Op::Square, &[sum]);
    let skip = net.push("skip", Op::Sub, &[outer, net.input()]);
    net.push("last", random.dense(3, 6), &[skip]);
    check(&net.finish().unwrap(), &mut random);
}

#[test]
fn branches_that_meet_in_products_and_concatenations() {
    let mut random = random(3);
    let mut net = GraphBuilder::new("branches", [5]);
    let branch = |net: &mut GraphBuilder, op: Op, name: &str, of: NodeId| net.push(name, op, &[of]);
    let input = net.input();
    let left = branch(&mut net, random.dense(4, 5), "left", input);
    let right = branch(&mut net, random.dense(4, 5), "right", input);
    let product = net.push("product", Op::Mul, &[left, right]);
    let cube = Op::Polynomial {
        coefficients: vec![0.1, 0.5, -0.25, 0.125],
    };
    let cube = branch(&mut net, cube, "cube", right);
    let both = net.push("both", Op::Concat { axis: 0 }, &[product, cube]);
    net.push("last", random.dense(2, 8), &[both]);
    check(&net.finish().unwrap(), &mut random);
}

#[test]
fn pools_normalisation_and_quadratics_on_random_shapes() {
    for seed in 4..7 {
        let mut random = random(seed);
        let [height, width] = [6, 5].map(|least| least + (random.unit() * 4.0) as usize);
        let mut net = GraphBuilder::new("pools", [1, height, width]);
        net.then(random.conv(3, 1, Window::valid([2, 3], [1, 1]), 1));
        let positive = |random: &mut Random| {
            let mut tensor = random.tensor(&[3], 0.5);
            tensor.data.iter_mut().for_each(|v| *v = v.abs() + 0.5);
            tensor
        };
        net.then(Op::BatchNorm {
            scale: positive(&mut random),
            shift: random.tensor(&[3], 0.3),
            mean: random.tensor(&[3], 0.3),
            variance: positive(&mut random),
            epsilon: 1e-3,
        });
        net.then(Op::Polynomial {
            coefficients: vec![0.2, 0.6, 0.3],
        });
        let window = Window::valid([2, 2], [2, 1]);
        net.then(Op::AvgPool {
            window,
            count_padding: true,
        });
        net.then(Op::Square)
            .then(Op::GlobalAvgPool)
            .then(Op::Flatten)
            .then(random.dense(4, 3));
        check(&net.finish().unwrap(), &mut random);
    }
}

#[test]
fn a_linear_network_needs_no_keys() {
    let mut random = random(8);
    let mut net = GraphBuilder::new("linear", [7]);
    net.then(random.dense(3, 7));
    let program = check(&net.finish().unwrap(), &mut random);
    assert_eq!(program.keys.relinearize, None);
}

#[test]
fn queries_and_keys_that_do_not_fit_are_refused() {
    let mut random = random(9);
    let mut net = GraphBuilder::new("small", [3]);
    net.then(random.dense(3, 3))
        .then(Op::Square)
        .then(random.dense(2, 3));
    let program = Arc::new(check(&net.finish().unwrap(), &mut random));
    let mut owner = Owner::new(&program);
    let query = query(&program, &[]);
    let encrypted = owner.encrypt(&program, &query);
    let prepared = Prepared::new(&program, Arc::clone(&owner.context)).unwrap();
    let short = prepared.evaluate(&owner.keys, &encrypted[1..], 1, &mut |_| {});
    assert!(matches!(
        short,
        Err(RuntimeError::QueryLength {
            found: 2,
            expected: 3
        })
    ));
    let generator = KeyGenerator::new(&owner.context, &owner.secret).unwrap();
    let none = generator
        .evaluation_keys(&KeyManifest::default(), &mut owner.rng)
        .unwrap();
    let missing = prepared.evaluate(&none, &encrypted, 1, &mut |_| {});
    assert!(matches!(
        missing,
        Err(RuntimeError::MissingRelinearizationKey { .. })
    ));
}

#[test]
fn squares_of_a_convolution_are_relinearised_after_the_dense_layer() {
    let mut random = random(10);
    let mut net = GraphBuilder::new("cryptonets", [1, 28, 28]);
    let padding = Padding {
        top: 1,
        left: 1,
        ..Padding::default()
    };
    let window = Window {
        kernel: [5, 5],
        stride: [2, 2],
        padding,
    };
    net.then(random.conv(5, 1, window, 1)).then(Op::Square);
    net.then(Op::Flatten).then(random.dense(100, 845));
    net.then(Op::Square).then(random.dense(10, 100));
    let graph = net.finish().unwrap();
    let examples: Vec<Tensor> = (0..EXAMPLES)
        .map(|_| random.tensor(graph.input_shape(), 1.0))
        .collect();
    let options = Options {
        packing: Packing::Batch,
        log_n: Some(13),
        ..Options::default()
    };
    let program = compile(&graph, &options, &examples).unwrap().program;
    let shapes = program.validate().unwrap();
    let relinearised = program
        .steps
        .iter()
        .filter(|step| step.operation == Operation::Relinearize)
        .map(|step| shapes[step.inputs[0].0 as usize].ciphertexts);
    assert!(relinearised.max() <= Some(100));
    assert!(program.parameters.q_bits.len() <= 4);
    assert!(program.keys.galois.is_empty());
}
