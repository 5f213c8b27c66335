//! Single-image programs of random networks: ciphertexts, simulation and clear run agree with the
//! network.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_compiler::{Options, compile};
use scuro_fhe::circuits::linear::encrypted::QUERIES_MAX;
use scuro_fhe::ckks::{Ciphertext, Encoder};
use scuro_fhe::keys::{EvaluationKeys, KeyManifest};
use scuro_fhe::owner::{Decryptor, Encryptor, KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters, SecurityLevel};
use scuro_fhe::{Context, RingKind};
use scuro_nn::graph::{Graph, GraphBuilder, Op, Padding, Window};
use scuro_nn::reference;
use scuro_nn::tensor::Tensor;
use scuro_program::{GaloisStep, Gather, ParameterPlan, Program, Ring, WeightPlace, Weights};
use scuro_runtime::clear;
use scuro_runtime::encrypted::Prepared;
use scuro_runtime::simulate::Simulator;
use scuro_runtime::{Observation, RuntimeError};

/// Predicted deviations that an output may be off by; outputs are of size one.
const DEVIATIONS: f64 = 6.0;
/// What an output may be off by in any case: the reference computes in single precision.
const SLACK: f64 = 1e-5;

struct Random(ChaCha20Rng);

impl Random {
    fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.next_u32() as usize % bound
    }

    fn tensor(&mut self, shape: &[usize], scale: f32) -> Tensor {
        let count = shape.iter().product();
        let value = |_| (2.0 * self.unit() - 1.0) * scale;
        Tensor::new(shape.to_vec(), (0..count).map(value).collect()).unwrap()
    }

    fn dense(&mut self, outputs: usize, inputs: usize) -> Op {
        let weight = self.tensor(&[outputs, inputs], (3.0 / inputs as f32).sqrt());
        let bias = Some(self.tensor(&[outputs], 0.2));
        Op::Dense { weight, bias }
    }

    fn conv(&mut self, maps: usize, depth: usize, window: Window, groups: usize) -> Op {
        let [height, width] = window.kernel;
        let fan_in = (depth / groups * height * width) as f32;
        let shape = [maps, depth / groups, height, width];
        let weight = self.tensor(&shape, (3.0 / fan_in).sqrt());
        let (bias, dilation) = (Some(self.tensor(&[maps], 0.2)), [1, 1]);
        Op::Conv2d {
            weight,
            bias,
            window,
            dilation,
            groups,
        }
    }
}

/// A convolution of random form (padding, stride beyond the kernel, groups), an activation of
/// degree two or three, perhaps a residual sum, perhaps a pool, one or two dense layers.
fn network(random: &mut Random) -> Graph {
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
    net.then(match random.below(3) {
        0 => Op::Polynomial {
            coefficients: vec![0.1, 0.5, 0.25],
        },
        1 => Op::Polynomial {
            coefficients: vec![0.2, 0.5, 0.0, -0.05],
        },
        _ => Op::Square,
    });
    if random.below(2) == 0 {
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
    if random.below(2) == 0 {
        net.then(random.dense(7, elements)).then(Op::Square);
        elements = 7;
    }
    net.then(random.dense(3, elements));
    net.finish().unwrap()
}

fn query(program: &Program, image: &Tensor) -> Vec<Vec<f64>> {
    let Gather::Slots(maps) = &program.input.gather else {
        panic!("not a single-image program")
    };
    let cell = |&e: &u32| image.data.get(e as usize).map_or(0.0, |&v| f64::from(v));
    maps.iter()
        .map(|map| map.iter().map(cell).collect())
        .collect()
}

/// Both sides of an encrypted evaluation.
struct Deployment {
    program: Arc<Program>,
    context: Arc<Context>,
    secret: SecretKey,
    keys: EvaluationKeys,
    encoder: Encoder,
    prepared: Prepared,
    rng: ChaCha20Rng,
}

impl Deployment {
    fn new(program: &Arc<Program>, context: &Arc<Context>) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let secret = SecretKey::generate(context, &mut rng);
        let generator = KeyGenerator::new(context, &secret).unwrap();
        let keys = generator.evaluation_keys(&manifest(program), &mut rng);
        let encoder = Encoder::new(context);
        let prepared = match program.weights {
            Weights::Plain => Prepared::new(program, Arc::clone(context)).unwrap(),
            _ => {
                let encryptor = Encryptor::new(context, &secret).unwrap();
                let places = program.weight_places(context.parameters().q()).unwrap();
                let mut weight = |place: &WeightPlace| {
                    let (slots, level) = (program.weight_slots(place), place.level as usize);
                    let plaintext = encoder.encode(&slots, level, place.scale).unwrap();
                    let seeded = encryptor.encrypt(&plaintext, &mut rng).unwrap();
                    seeded.expand(context).unwrap()
                };
                let weights = places.iter().map(&mut weight).collect();
                let published = Arc::new(program.published());
                Prepared::with_weights(&published, Arc::clone(context), weights).unwrap()
            }
        };
        Self {
            program: Arc::clone(program),
            context: Arc::clone(context),
            secret,
            keys: keys.unwrap(),
            encoder,
            prepared,
            rng,
        }
    }

    fn encrypt(&mut self, query: &[Vec<f64>]) -> Vec<Ciphertext> {
        let encryptor = Encryptor::new(&self.context, &self.secret).unwrap();
        let scale = self.program.input.scale_log2.exp2();
        let top = self.program.parameters.level_max() as usize;
        let mut encrypt = |values: &Vec<f64>| {
            let plaintext = self.encoder.encode(values, top, scale).unwrap();
            let seeded = encryptor.encrypt(&plaintext, &mut self.rng).unwrap();
            seeded.expand(&self.context).unwrap()
        };
        query.iter().map(&mut encrypt).collect()
    }

    fn decrypt(&self, reply: &[Ciphertext]) -> Vec<Vec<f64>> {
        let decryptor = Decryptor::new(&self.context, &self.secret).unwrap();
        let decrypt = |c| {
            let plaintext = decryptor.decrypt(c).unwrap();
            self.encoder.decode(&plaintext).unwrap()
        };
        reply.iter().map(decrypt).collect()
    }
}

fn manifest(program: &Program) -> KeyManifest {
    let level = |level: u32| level as usize;
    let by_step = |keys: &[GaloisStep]| {
        let pairs = keys.iter().map(|k| (k.step as usize, level(k.level)));
        pairs.collect()
    };
    KeyManifest {
        relinearization: program.keys.relinearize.map(level),
        rotations: by_step(&program.keys.galois),
        relinearized_rotations: by_step(&program.keys.relinearized),
        ..KeyManifest::default()
    }
}

/// The reply of the encrypted backend, decrypted.
fn encrypted(program: &Arc<Program>, context: &Arc<Context>, query: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut deployment = Deployment::new(program, context);
    let query = deployment.encrypt(query);
    let (prepared, keys) = (&deployment.prepared, &deployment.keys);
    let reply = prepared.evaluate(keys, &query, 1, &mut |_| {}).unwrap();
    deployment.decrypt(&reply)
}

fn spec(plan: &ParameterPlan) -> ParameterSpec {
    let ring = match plan.ring {
        Ring::ConjugateInvariant => RingKind::ConjugateInvariant,
        Ring::Standard => RingKind::Standard,
    };
    let level = match plan.security_bits {
        192 => SecurityLevel::Bits192,
        256 => SecurityLevel::Bits256,
        _ => SecurityLevel::Bits128,
    };
    ParameterSpec {
        ring,
        level,
        ..ParameterSpec::new(plan.log_n, &plan.q_bits, &plan.p_bits)
    }
}

fn context(program: &Program) -> Arc<Context> {
    Context::new(Parameters::new(spec(&program.parameters)).unwrap()).unwrap()
}

fn check(seed: u64, options: &Options) {
    let mut random = Random(ChaCha20Rng::seed_from_u64(seed));
    let graph = network(&mut random);
    let images: Vec<Tensor> = (0..8)
        .map(|_| random.tensor(graph.input_shape(), 1.0))
        .collect();
    let compilation = compile(&graph, options, &images).unwrap();
    let tolerance = SLACK + DEVIATIONS * compilation.report.output_error;
    let program = Arc::new(compilation.program);
    let context = context(&program);
    let simulator = Simulator::new(&program, context.parameters()).unwrap();
    let image = &images[0];
    let expected = reference::run(&graph, image).unwrap();
    let query = query(&program, image);
    let compare = |backend: &str, slots: &[Vec<f64>]| {
        for (address, &want) in program.output.addresses.iter().zip(&expected.data) {
            let got = slots[address.ciphertext as usize][address.slot as usize];
            let off = (got - f64::from(want)).abs();
            assert!(
                off <= tolerance,
                "seed {seed}, {backend}: {got} for {want} ({tolerance})"
            );
        }
    };
    compare("clear", &clear::run(&program, &query).unwrap());
    compare("simulated", &simulator.run(&query, seed).unwrap());
    compare("encrypted", &encrypted(&program, &context, &query));
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
fn classifier(random: &mut Random) -> (Arc<Program>, f64, Vec<Tensor>) {
    let mut net = GraphBuilder::new("classifier", [70]);
    net.then(random.dense(20, 70)).then(Op::Square);
    net.then(random.dense(4, 20));
    let graph = net.finish().unwrap();
    let images: Vec<Tensor> = (0..8).map(|_| random.tensor(&[70], 1.0)).collect();
    let options = Options {
        weights: Weights::Private,
        ..Options::default()
    };
    let compilation = compile(&graph, &options, &images).unwrap();
    let tolerance = SLACK + DEVIATIONS * compilation.report.output_error;
    (Arc::new(compilation.program), tolerance, images)
}

#[test]
fn a_block_of_queries_gets_the_replies_that_each_gets_alone() {
    let mut random = Random(ChaCha20Rng::seed_from_u64(50));
    let (program, _, images) = classifier(&mut random);
    let mut deployment = Deployment::new(&program, &context(&program));
    let encrypt = |image: &Tensor| deployment.encrypt(&query(&program, image));
    let queries: Vec<Vec<Ciphertext>> = images.iter().take(3).map(encrypt).collect();
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

#[test]
fn features_in_clear_give_the_answer_of_encrypted_ones() {
    let mut random = Random(ChaCha20Rng::seed_from_u64(51));
    let (program, tolerance, images) = classifier(&mut random);
    let mut deployment = Deployment::new(&program, &context(&program));
    for image in images.iter().take(2) {
        let features = query(&program, image);
        let sealed = deployment.encrypt(&features);
        let (prepared, keys) = (&deployment.prepared, &deployment.keys);
        let mut steps = Vec::new();
        let mut watch = |event: Observation<'_>| steps.push(event.step);
        let clear = prepared
            .evaluate_features(keys, &features, 1, &mut watch)
            .unwrap();
        assert_eq!(steps.last(), Some(&(program.steps.len() - 1)));
        let hidden = prepared.evaluate(keys, &sealed, 1, &mut |_| {}).unwrap();
        let (clear, hidden) = (deployment.decrypt(&clear), deployment.decrypt(&hidden));
        for (a, b) in clear.iter().flatten().zip(hidden.iter().flatten()) {
            assert!((a - b).abs() <= 2.0 * tolerance, "{a} for {b}");
        }
    }
}

#[test]
fn features_in_clear_are_refused_where_the_first_weights_are_plain() {
    let mut random = Random(ChaCha20Rng::seed_from_u64(52));
    let mut net = GraphBuilder::new("plain", [8]);
    net.then(random.dense(3, 8));
    let images = [random.tensor(&[8], 1.0)];
    let compilation = compile(&net.finish().unwrap(), &Options::default(), &images).unwrap();
    let program = Arc::new(compilation.program);
    let deployment = Deployment::new(&program, &context(&program));
    let features = query(&program, &images[0]);
    let (prepared, keys) = (&deployment.prepared, &deployment.keys);
    let refused = prepared.evaluate_features(keys, &features, 1, &mut |_| {});
    assert!(matches!(refused, Err(RuntimeError::PlainQuery { .. })));
    let short = prepared.evaluate_features(keys, &[], 1, &mut |_| {});
    assert!(matches!(short, Err(RuntimeError::QueryLength { .. })));
}
