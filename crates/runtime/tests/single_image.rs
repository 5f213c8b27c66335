//! Single-image programs of random networks: ciphertexts, simulation and clear run agree with the
//! network.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_client::{Client, KeySet, Model, Protected, PublicClient, gather, scatter};
use scuro_compiler::{Arithmetic, Options, compile};
use scuro_nn::graph::{Graph, GraphBuilder, Op, Padding, Window};
use scuro_nn::reference;
use scuro_nn::tensor::Tensor;
use scuro_program::{Program, Ring, Scheme, Weights};
use scuro_runtime::clear;
use scuro_runtime::encrypted::Prepared;
use scuro_runtime::simulate::Simulator;

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
fn network(random: &mut Random, arithmetic: Arithmetic) -> Graph {
    let exact = arithmetic == Arithmetic::Exact;
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

/// The scores of the encrypted backend, by fresh keys.
fn encrypted(program: &Program, image: &Tensor) -> Vec<f64> {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let images = [image.data.as_slice()];
    let (client, query, keys, prepared) = match program.weights {
        Weights::Plain => {
            let model = Model::new(program.clone()).unwrap();
            let keys = KeySet::generate(&model, &mut rng).unwrap();
            let client = Client::new(&model, keys.secret).unwrap();
            let query = client.encrypt(&images, &mut rng).unwrap();
            let prepared = Prepared::new(model.program(), model.scheme().clone()).unwrap();
            (client, query, keys.evaluation, prepared)
        }
        _ => {
            let Protected {
                model,
                weights,
                keys,
            } = Protected::new(program, &mut rng).unwrap();
            let weights = model.open_weights(&weights).unwrap();
            let public = PublicClient::new(&model, keys.public);
            let query = public.encrypt(&images, &mut rng).unwrap();
            let scheme = model.scheme().clone();
            let prepared = Prepared::with_weights(model.program(), scheme, weights).unwrap();
            let client = Client::new(&model, keys.secret).unwrap();
            (client, query, keys.evaluation, prepared)
        }
    };
    let model = client.model();
    let runs = model.open_query(&query).unwrap();
    let reply = prepared.evaluate(&keys, &runs[0], 1, &mut |_| {}).unwrap();
    let reply = model.seal_reply(&query, &[reply]).unwrap();
    client.decrypt(&reply).unwrap().remove(0).scores
}

fn check(seed: u64, options: &Options) {
    let mut random = Random(ChaCha20Rng::seed_from_u64(seed));
    let graph = network(&mut random, options.arithmetic);
    let images: Vec<Tensor> = (0..8)
        .map(|_| random.tensor(graph.input_shape(), 1.0))
        .collect();
    let compilation = compile(&graph, options, &images).unwrap();
    let tolerance = SLACK + DEVIATIONS * compilation.report.output_error;
    let program = compilation.program;
    let model = Model::new(program.clone()).unwrap();
    let simulator = Simulator::new(&program, model.context().parameters()).unwrap();
    let image = &images[0];
    let expected = reference::run(&graph, image).unwrap();
    let query = gather(&program, &[&image.data]).unwrap();
    let scores = |slots: Vec<Vec<f64>>| scatter(&program, &slots, 1).unwrap().remove(0);
    let compare = |backend: &str, scores: &[f64]| {
        for (&got, &want) in scores.iter().zip(&expected.data) {
            let off = (got - f64::from(want)).abs();
            assert!(
                off <= tolerance,
                "seed {seed}, {backend}: {got} for {want} ({tolerance})"
            );
        }
    };
    let clear = scores(clear::run(&program, &query).unwrap());
    compare("clear", &clear);
    let encrypted = encrypted(&program, image);
    compare("encrypted", &encrypted);
    compare("simulated", &scores(simulator.run(&query, seed).unwrap()));
    if program.parameters.scheme != Scheme::Ckks {
        assert_eq!(encrypted, clear, "seed {seed}: exact programs are exact");
    }
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
