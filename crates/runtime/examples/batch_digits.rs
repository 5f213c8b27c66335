//! Evaluates a digit network on encrypted batches and compares it with the network in clear.
//!
//! `cargo run --release -p scuro-runtime --example batch_digits -- model.onnx [mnist|generated]
//! [log2 of N] [threads] [tolerance]`

#![allow(clippy::print_stdout)] // an example talks to its user

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_compiler::{Options, compile};
use scuro_fhe::Context;
use scuro_fhe::ckks::{Ciphertext, Encoder, SeededCiphertext};
use scuro_fhe::keys::KeyManifest;
use scuro_fhe::owner::{Decryptor, Encryptor, KeyGenerator, SecretKey};
use scuro_fhe::params::{ParameterSpec, Parameters};
use scuro_nn::data::{self, Dataset};
use scuro_nn::graph::Graph;
use scuro_nn::reference::Executor;
use scuro_nn::tensor::{Tensor, argmax};
use scuro_program::{Packing, Program};
use scuro_runtime::Observation;
use scuro_runtime::encrypted::Prepared;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = PathBuf::from(arguments.next().context("which model?")?);
    let name = arguments.next().unwrap_or_else(|| "mnist".to_owned());
    let log_n = arguments
        .next()
        .map(|n| n.parse())
        .transpose()?
        .filter(|&n| n > 0);
    let threads = arguments.next().map_or(Ok(1), |n| n.parse())?;
    let tolerance = arguments
        .next()
        .map_or(Ok(Options::default().tolerance), |t| t.parse())?;
    let graph = scuro_nn::import::open(&model, &scuro_nn::import::Options::default())?;
    let search = data::default_search_paths(None, None, None);
    let dataset = data::load(name.parse()?, &search, None)?;
    let images: Vec<Vec<f32>> = (0..dataset.len()).map(|i| pixels(&dataset, i)).collect();
    let wanted = Options {
        packing: Packing::Batch,
        log_n,
        tolerance,
        ..Options::default()
    };
    let program = plan(&graph, &images, &wanted)?;
    let session = Session::new(program, threads)?;
    let clear = Executor::new(&graph)?;
    let outputs = clear.run_each(images.len(), |i, out| out.copy_from_slice(&images[i]));
    let mut score = Score::default();
    for (batch, images) in images.chunks(session.program.slots()).enumerate() {
        let replies = session.predict(images)?;
        for (i, logits) in replies.iter().enumerate() {
            let index = batch * session.program.slots() + i;
            let expected = &outputs[index * logits.len()..][..logits.len()];
            score.add(logits, expected, dataset.labels[index]);
        }
    }
    println!("{score:?}\npeak memory {} MiB", peak_memory_mib());
    Ok(())
}

fn pixels(dataset: &Dataset, index: usize) -> Vec<f32> {
    dataset
        .image(index)
        .iter()
        .map(|&pixel| f32::from(pixel) / 255.0)
        .collect()
}

fn plan(graph: &Graph, images: &[Vec<f32>], options: &Options) -> Result<Arc<Program>> {
    let shape = graph.input_shape().to_vec();
    let example = |image: &Vec<f32>| Tensor::new(shape.clone(), image.clone());
    let calibration = images
        .iter()
        .take(256)
        .map(example)
        .collect::<Result<Vec<_>, _>>()?;
    let compilation = compile(graph, options, &calibration)?;
    for dump in compilation
        .dumps
        .iter()
        .filter(|dump| dump.pass != "normalise")
    {
        println!("== {}\n{}", dump.pass, dump.text);
    }
    Ok(Arc::new(compilation.program))
}

/// Both sides: who holds the key, and who evaluates.
struct Session {
    program: Arc<Program>,
    context: Arc<Context>,
    secret: SecretKey,
    prepared: Prepared,
    keys: scuro_fhe::keys::EvaluationKeys,
    threads: usize,
}

impl Session {
    fn new(program: Arc<Program>, threads: usize) -> Result<Self> {
        let plan = &program.parameters;
        let spec = ParameterSpec::new(plan.log_n, &plan.q_bits, &plan.p_bits);
        let context = Context::new(Parameters::new(spec)?)?;
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let secret = SecretKey::generate(&context, &mut rng);
        let relinearization = program.keys.relinearize.map(|level| level as usize);
        let manifest = KeyManifest {
            relinearization,
            ..KeyManifest::default()
        };
        let keys = KeyGenerator::new(&context, &secret)?.evaluation_keys(&manifest, &mut rng)?;
        let prepared = Prepared::new(&program, Arc::clone(&context))?;
        println!("kernel {}, {} threads", context.ring().kernel(), threads);
        Ok(Self {
            program,
            context,
            secret,
            prepared,
            keys,
            threads,
        })
    }

    /// Logits per image.
    fn predict(&self, images: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let start = Clocks::now();
        let seeded = self.encrypt(images)?;
        println!("encrypt  {start}");
        let start = Clocks::now();
        let query: Vec<Ciphertext> = seeded
            .iter()
            .map(|c| c.expand(&self.context))
            .collect::<Result<_, _>>()?;
        drop(seeded);
        println!("expand   {start}");
        let start = Clocks::now();
        let mut steps = Vec::new();
        let mut observer = |o: Observation<'_>| steps.push((o.step, o.elapsed));
        let reply = self
            .prepared
            .evaluate(&self.keys, &query, self.threads, &mut observer)?;
        println!("evaluate {start}");
        self.report(start.wall.elapsed(), &steps);
        self.decrypt(&reply, images.len())
    }

    fn report(&self, elapsed: Duration, steps: &[(usize, Duration)]) {
        let rate = self.program.slots() as f64 / elapsed.as_secs_f64();
        println!("  {rate:.0} images/s of a full batch");
        for &(step, elapsed) in steps {
            let step = &self.program.steps[step];
            println!(
                "  {:<14} {:<12} {elapsed:?}",
                step.layer,
                step.operation.name()
            );
        }
    }

    fn encrypt(&self, images: &[Vec<f32>]) -> Result<Vec<SeededCiphertext>> {
        let encoder = Encoder::new(&self.context);
        let encryptor = Encryptor::new(&self.context, &self.secret)?;
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let level = self.context.parameters().max_level();
        let scale = self.program.input.scale_log2.exp2();
        let one = |element: usize| {
            let values: Vec<f64> = images
                .iter()
                .map(|image| f64::from(image[element]))
                .collect();
            encryptor.encrypt(&encoder.encode(&values, level, scale)?, &mut rng)
        };
        Ok((0..self.program.input.elements())
            .map(one)
            .collect::<Result<_, _>>()?)
    }

    fn decrypt(&self, reply: &[Ciphertext], count: usize) -> Result<Vec<Vec<f32>>> {
        let encoder = Encoder::new(&self.context);
        let decryptor = Decryptor::new(&self.context, &self.secret)?;
        let one = |address: &scuro_program::SlotAddress| {
            encoder.decode(&decryptor.decrypt(&reply[address.ciphertext as usize])?)
        };
        let slots: Vec<Vec<f64>> = self
            .program
            .output
            .addresses
            .iter()
            .map(one)
            .collect::<Result<_, _>>()?;
        let image = |i: usize| slots.iter().map(|values| values[i] as f32).collect();
        Ok((0..count).map(image).collect())
    }
}

#[derive(Debug, Default)]
struct Score {
    images: usize,
    correct_clear: usize,
    correct_encrypted: usize,
    agreeing: usize,
    worst_error: f32,
}

impl Score {
    fn add(&mut self, logits: &[f32], expected: &[f32], label: u8) {
        self.images += 1;
        self.correct_clear += usize::from(argmax(expected) == usize::from(label));
        self.correct_encrypted += usize::from(argmax(logits) == usize::from(label));
        self.agreeing += usize::from(argmax(expected) == argmax(logits));
        for (found, expected) in logits.iter().zip(expected) {
            self.worst_error = self.worst_error.max((found - expected).abs());
        }
    }
}

/// Wall time, and the processor time of all threads, which other programs on the machine do not
/// lengthen.
struct Clocks {
    wall: Instant,
    processor: Duration,
}

impl Clocks {
    fn now() -> Self {
        Self {
            wall: Instant::now(),
            processor: processor_time(),
        }
    }
}

impl std::fmt::Display for Clocks {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let processor = processor_time().saturating_sub(self.processor);
        write!(
            out,
            "{:?} ({processor:?} of processor time)",
            self.wall.elapsed()
        )
    }
}

/// User and system time of the process, in hundredths of a second.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

fn peak_memory_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.unwrap_or(0) / 1024
}
