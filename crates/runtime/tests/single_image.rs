//! Single-image programs of random networks: ciphertexts, simulation and clear run agree with the
//! network.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_compiler::{Options, compile};
use scuro_fhe::ckks::Encoder;
use scuro_fhe::keys::KeyManifest;
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

/// The reply of the encrypted backend, decrypted.
fn encrypted(program: &Arc<Program>, context: &Arc<Context>, query: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let secret = SecretKey::generate(context, &mut rng);
    let level = |level: u32| level as usize;
    let by_step = |keys: &[GaloisStep]| {
        let pairs = keys.iter().map(|k| (k.step as usize, level(k.level)));
        pairs.collect()
    };
    let manifest = KeyManifest {
        relinearization: program.keys.relinearize.map(level),
        rotations: by_step(&program.keys.galois),
        relinearized_rotations: by_step(&program.keys.relinearized),
        ..KeyManifest::default()
    };
    let generator = KeyGenerator::new(context, &secret).unwrap();
    let keys = generator.evaluation_keys(&manifest, &mut rng).unwrap();
    let encoder = Encoder::new(context);
    let encryptor = Encryptor::new(context, &secret).unwrap();
    let scale = program.input.scale_log2.exp2();
    let top = program.parameters.level_max() as usize;
    let mut encrypt = |values: &Vec<f64>| {
        let plaintext = encoder.encode(values, top, scale).unwrap();
        encryptor
            .encrypt(&plaintext, &mut rng)
            .unwrap()
            .expand(context)
            .unwrap()
    };
    let query: Vec<_> = query.iter().map(&mut encrypt).collect();
    let prepared = match program.weights {
        Weights::Plain => Prepared::new(program, Arc::clone(context)).unwrap(),
        _ => {
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
    let reply = prepared.evaluate(&keys, &query, 1, &mut |_| {}).unwrap();
    let decryptor = Decryptor::new(context, &secret).unwrap();
    reply
        .iter()
        .map(|c| encoder.decode(&decryptor.decrypt(c).unwrap()).unwrap())
        .collect()
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

fn check(seed: u64, options: &Options) {
    let mut random = Random(ChaCha20Rng::seed_from_u64(seed));
    let graph = network(&mut random);
    let images: Vec<Tensor> = (0..8)
        .map(|_| random.tensor(graph.input_shape(), 1.0))
        .collect();
    let compilation = compile(&graph, options, &images).unwrap();
    let tolerance = SLACK + DEVIATIONS * compilation.report.output_error;
    let program = Arc::new(compilation.program);
    let plan = &program.parameters;
    let context = Context::new(Parameters::new(spec(plan)).unwrap()).unwrap();
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
