//! Whole networks on MNIST: one image, a batch, accuracy, memory.

use std::hint::black_box;

use scuro_client::{Client, KeySet};
use scuro_nn::data::Preprocess;
use scuro_nn::graph::Graph;
use scuro_train::architectures::Activation;
use scuro_train::recipes;

use super::case::{Case, Sampling, Settings};
use super::clock;
use crate::compiled::{self, CompileArguments, Compiled, PackingChoice, Source};
use crate::errors::Failure;
use crate::evaluator::Evaluator;
use crate::inputs::{self, Examples, InputArguments};
use crate::scoring::Mode;
use crate::secrets;
use crate::verbs::accuracy::{self, Score};
use crate::workspace::Workspace;

/// Evaluations measured.
const SAMPLES: usize = 30;
/// Images of an accuracy without `--full`.
const QUICK_IMAGES: usize = 200;
/// Images and seed of a training that only settles ranges.
const BRIEF_IMAGES: usize = 2048;
const BRIEF_SEED: u64 = 1;
const MEGABYTE: f64 = 1e6;
const MEBIBYTE: f64 = (1u64 << 20) as f64;

/// All cases of the group.
pub(super) const CASES: &[Case] = &[
    Case::lower(
        "mnist.cryptonets.latency",
        "one encrypted image, one core",
        "ms",
        9.0,
        |s| latency(s, &cryptonets(s)?),
    ),
    Case::lower(
        "mnist.cryptonets.keys",
        "evaluation keys, written out",
        "MB",
        75.0,
        keys,
    ),
    Case::lower(
        "mnist.cryptonets.keys-seeded",
        "as stored and sent",
        "MB",
        40.0,
        keys_seeded,
    ),
    Case::lower(
        "mnist.cryptonets.query",
        "one seeded query",
        "KB",
        160.0,
        query,
    ),
    Case::higher(
        "mnist.cryptonets.accuracy",
        "clear, all test images",
        "share",
        0.989,
        |s| {
            Ok(Sampling::single(
                score(s, Mode::Clear, usize::MAX)?.accuracy,
                s.threads,
            ))
        },
    ),
    Case::higher(
        ACCURACY_ENCRYPTED,
        "all test images with --full",
        "share",
        0.989,
        |s| encrypted_share(s, |score| score.accuracy),
    ),
    Case::higher(
        "mnist.cryptonets.agreement",
        "encrypted = clear answer",
        "share",
        0.999,
        |s| encrypted_share(s, |score| score.agreement),
    ),
    Case::higher(
        "mnist.batch.rate",
        "a batch of 8192, one core",
        "images/s",
        15_000.0,
        batch,
    ),
    Case::lower(
        "mnist.batch.memory",
        "evaluator, peak",
        "GB",
        2.0,
        batch_memory,
    ),
    Case::higher(
        "mnist.batch.agreement",
        "= clear answer",
        "share",
        0.999,
        batch_agreement,
    ),
    Case::lower(
        "mnist.lenet.latency",
        "32 and 64 maps, 512, 10; one core",
        "ms",
        100.0,
        |s| latency(s, &lenet(s)?),
    ),
    Case::lower(
        "mnist.lenet.memory",
        "evaluator, peak",
        "MiB",
        1024.0,
        lenet_memory,
    ),
];

const ACCURACY_ENCRYPTED: &str = "mnist.cryptonets.accuracy-encrypted";

/// The network of the CryptoNets cases, compiled for one image.
fn cryptonets(settings: &Settings<'_>) -> Result<Compiled, Failure> {
    compile(settings, PackingChoice::Image)
}

fn compile(settings: &Settings<'_>, packing: PackingChoice) -> Result<Compiled, Failure> {
    let source = match &settings.cryptonets {
        Some(path) => Source::File {
            path,
            architecture: None,
        },
        None => Source::BuiltIn,
    };
    let arguments = CompileArguments {
        packing,
        ..CompileArguments::standard(128)
    };
    let input = InputArguments::default();
    compiled::compile(
        settings.context,
        source.network()?,
        None,
        &input,
        &arguments,
    )
}

/// The LeNet of the command line, or one trained for moments: its time depends on the ranges of
/// its values, which a short training settles, and not on its accuracy.
fn lenet(settings: &Settings<'_>) -> Result<Compiled, Failure> {
    let graph = match &settings.lenet {
        Some(path) => inputs::load_network(path, None)?,
        None => briefly_trained_lenet(settings)?,
    };
    let arguments = CompileArguments::standard(128);
    let input = InputArguments::default();
    compiled::compile(settings.context, graph, None, &input, &arguments)
}

fn briefly_trained_lenet(settings: &Settings<'_>) -> Result<Graph, Failure> {
    let (context, limit) = (settings.context, Some(BRIEF_IMAGES));
    let data = inputs::load(context, "mnist:train", limit)
        .or_else(|_| inputs::load(context, "generated:train", limit))?;
    let mut recipe = recipes::recipe("lenet", BRIEF_SEED)?;
    recipe.activation = Some(Activation::Square);
    recipe.config.epochs = 1;
    recipe.config.batch = 32;
    recipe.config.augmentation = None;
    recipe.config.validation = 0.0;
    Ok(recipes::cook(
        &recipe,
        &scuro_train::Examples::from_dataset(&data),
        &mut (),
    )?
    .graph)
}

/// Images for a compiled model: MNIST's test set, or generated digits.
fn examples(
    settings: &Settings<'_>,
    compiled: &Compiled,
    limit: usize,
) -> Result<Examples, Failure> {
    let data = inputs::digits(settings.context, limit)?;
    Examples::new(data, &Preprocess::default(), &compiled.image_shape())
}

fn latency(settings: &Settings<'_>, compiled: &Compiled) -> Result<Sampling, Failure> {
    let model = &compiled.model;
    let keys = KeySet::generate(model, &mut secrets::generator()?)?;
    let client = Client::new(model, keys.secret)?;
    let image = examples(settings, compiled, 1)?.input(0);
    let query = client.encrypt(&[&image], &mut secrets::generator()?)?;
    let runs = model.open_query(&query)?;
    let mut evaluator = Evaluator::new(model.clone(), keys.evaluation, settings.threads)?;
    evaluator.run(&runs[0])?;
    let mut times = Vec::new();
    for _ in 0..settings.samples(SAMPLES) {
        let start = clock::process_seconds();
        black_box(evaluator.run(&runs[0])?);
        times.push((clock::process_seconds() - start) * 1e3);
    }
    let parameters = model.context().parameters();
    let program = model.program();
    let note = format!(
        "N = {}, {} + {} primes, log2 QP = {:.1}, {} rotation keys",
        parameters.n(),
        program.parameters.q_bits.len(),
        program.parameters.p_bits.len(),
        parameters.log_qp(),
        program.keys.galois.len()
    );
    Ok(Sampling::new(times, settings.threads).note(note))
}

fn keys_seeded(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let compiled = cryptonets(settings)?;
    let keys = KeySet::generate(&compiled.model, &mut secrets::generator()?)?;
    Ok(Sampling::single(
        keys.evaluation.to_bytes(compiled.model.context()).len() as f64 / MEGABYTE,
        1,
    ))
}

fn keys(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let compiled = cryptonets(settings)?;
    let keys = KeySet::generate(&compiled.model, &mut secrets::generator()?)?;
    Ok(Sampling::single(
        keys.evaluation.memory_bytes() as f64 / MEGABYTE,
        1,
    ))
}

fn query(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let compiled = cryptonets(settings)?;
    let keys = KeySet::generate(&compiled.model, &mut secrets::generator()?)?;
    let client = Client::new(&compiled.model, keys.secret)?;
    let image = examples(settings, &compiled, 1)?.input(0);
    let query = client.encrypt(&[&image], &mut secrets::generator()?)?;
    Ok(Sampling::single(query.to_bytes().len() as f64 / 1e3, 1))
}

fn score(settings: &Settings<'_>, mode: Mode, limit: usize) -> Result<Score, Failure> {
    let compiled = cryptonets(settings)?;
    let data = inputs::load(settings.context, "mnist:test", Some(limit))?;
    accuracy::score_compiled(settings.context, &compiled, data, mode)
}

fn encrypted_share(settings: &Settings<'_>, value: fn(&Score) -> f64) -> Result<Sampling, Failure> {
    let limit = if settings.full {
        usize::MAX
    } else {
        QUICK_IMAGES
    };
    let scored = settings
        .encrypted
        .get_or_init(|| score(settings, Mode::Encrypted, limit));
    let score = scored.as_ref().map_err(Failure::clone)?;
    let note = format!(
        "{} images in {:.1} s, {} unlike clear, worst score error {:.2e}",
        score.images,
        score.seconds,
        score.disagreements.len(),
        score.worst_logit_error
    );
    Ok(Sampling::single(value(score), score.threads).note(note))
}

/// A batch as large as the slots, with keys, ready to run.
struct Batch {
    compiled: Compiled,
    keys: KeySet,
    query: scuro_client::Bundle,
}

impl Batch {
    fn new(settings: &Settings<'_>) -> Result<Self, Failure> {
        let compiled = compile(settings, PackingChoice::Batch)?;
        let model = &compiled.model;
        let examples = examples(settings, &compiled, model.images_per_run())?;
        let keys = KeySet::generate(model, &mut secrets::generator()?)?;
        let client = Client::new(model, keys.secret.clone())?;
        let images: Vec<Vec<f32>> = (0..examples.len()).map(|i| examples.input(i)).collect();
        let views: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        let query = client.encrypt(&views, &mut secrets::generator()?)?;
        Ok(Self {
            compiled,
            keys,
            query,
        })
    }
}

fn batch(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let batch = Batch::new(settings)?;
    let model = &batch.compiled.model;
    let runs = model.open_query(&batch.query)?;
    let mut evaluator = Evaluator::new(model.clone(), batch.keys.evaluation, settings.threads)?;
    let images = model.images_per_run() as f64;
    let mut rates = Vec::new();
    for _ in 0..settings.samples(3) {
        let start = clock::process_seconds();
        black_box(evaluator.run(&runs[0])?);
        rates.push(images / (clock::process_seconds() - start));
    }
    Ok(Sampling::new(rates, settings.threads).note(format!("batch of {images}")))
}

fn batch_memory(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let batch = Batch::new(settings)?;
    let peak = peak_memory(&batch.compiled, &batch.keys, &batch.query, settings.threads)?;
    Ok(Sampling::single(peak / 1e9, settings.threads))
}

fn batch_agreement(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let compiled = compile(settings, PackingChoice::Batch)?;
    let data = inputs::digits(settings.context, compiled.model.images_per_run())?;
    let score = accuracy::score_compiled(settings.context, &compiled, data, Mode::Encrypted)?;
    let note = format!(
        "{} images, accuracy {:.4}, worst score error {:.2e}",
        score.images, score.accuracy, score.worst_logit_error
    );
    Ok(Sampling::single(score.agreement, score.threads).note(note))
}

fn lenet_memory(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let compiled = lenet(settings)?;
    let model = &compiled.model;
    let keys = KeySet::generate(model, &mut secrets::generator()?)?;
    let client = Client::new(model, keys.secret.clone())?;
    let image = examples(settings, &compiled, 1)?.input(0);
    let query = client.encrypt(&[&image], &mut secrets::generator()?)?;
    let peak = peak_memory(&compiled, &keys, &query, settings.threads)?;
    Ok(Sampling::single(peak / MEBIBYTE, settings.threads))
}

/// The most memory of a process that only evaluates, keys and weights included.
fn peak_memory(
    compiled: &Compiled,
    keys: &KeySet,
    query: &scuro_client::Bundle,
    threads: usize,
) -> Result<f64, Failure> {
    let workspace = Workspace::new(None)?;
    workspace.fill(&compiled.model, keys, &[query.to_bytes()])?;
    let account = workspace.evaluate(threads, 1)?;
    let missing = || Failure::bad_input("bench.memory", "this system does not tell peak memory");
    Ok(account.peak_memory_bytes.ok_or_else(missing)? as f64)
}
