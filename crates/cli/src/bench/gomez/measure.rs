//! How each figure is taken.

use std::hint::black_box;
use std::sync::Arc;

use scuro_client::{Client, KeySet, Protected, gather};

use super::subject::{Point, Subject};
use crate::bench::case::{Sampling, Settings};
use crate::bench::clock;
use crate::errors::Failure;
use crate::secrets;
use crate::session::Session;
use crate::workspace::Workspace;

/// Evaluations measured.
const SAMPLES: usize = 20;
/// Blocks measured.
const BLOCK_SAMPLES: usize = 5;
/// Queries that share one reading of the weights: few read the weights often, many fall out of the
/// caches themselves.
const BLOCKS: [usize; 4] = [1, 2, 4, 8];
const MEGABYTE: f64 = 1e6;

/// Milliseconds of processor time of one evaluation, input and weights encrypted.
pub(super) fn latency(settings: &Settings<'_>, point: Point) -> Result<Sampling, Failure> {
    let subject = Subject::get(settings, point)?;
    let session = Session::new(&subject.compiled.model, settings.threads)?;
    let query = session.encrypt(&[&subject.inputs[0]])?;
    let runs = session.model().open_query(&query)?;
    let times = milliseconds(settings, || {
        session.evaluator.run_watched(&runs[0], &mut |_| {})
    })?;
    Ok(times.note(subject.describe()))
}

/// The same with features in clear.
pub(super) fn latency_plain(settings: &Settings<'_>, point: Point) -> Result<Sampling, Failure> {
    let subject = Subject::get(settings, point)?;
    let session = Session::new(&subject.compiled.model, settings.threads)?;
    let slots = gather(session.model().program(), &[&subject.inputs[0]])?;
    let times = milliseconds(settings, || {
        session.evaluator.run_features(&slots, &mut |_| {})
    })?;
    Ok(times.note(subject.describe()))
}

/// Milliseconds to decrypt and decode a reply.
pub(super) fn decryption(settings: &Settings<'_>, point: Point) -> Result<Sampling, Failure> {
    let subject = Subject::get(settings, point)?;
    let session = Session::new(&subject.compiled.model, settings.threads)?;
    let query = session.encrypt(&[&subject.inputs[0]])?;
    let runs = session.model().open_query(&query)?;
    let answer = session.evaluator.run_shared(&runs[0])?;
    let reply = session.model().seal_reply(&query, &[answer])?;
    milliseconds(settings, || Ok(session.client.decrypt(&reply)?))
}

/// Milliseconds to make the keys and to encrypt the weights.
pub(super) fn protection(settings: &Settings<'_>, point: Point) -> Result<Sampling, Failure> {
    let subject = Subject::get(settings, point)?;
    let program = subject.compiled.model.program();
    let mut rng = secrets::generator()?;
    milliseconds(settings, || Ok(Protected::new(program, &mut rng)?))
}

/// Encrypted weights on disk as a multiple of 32-bit floats.
pub(super) fn size(settings: &Settings<'_>, point: Point) -> Result<Sampling, Failure> {
    let subject = Subject::get(settings, point)?;
    let program = subject.compiled.model.program();
    let protected = Protected::new(program, &mut secrets::generator()?)?;
    let bytes = protected.weights.to_bytes().len() as f64;
    let note = format!(
        "{:.1} MB for {:.1} MB, {} ciphertexts; {}",
        bytes / MEGABYTE,
        subject.float_bytes()? / MEGABYTE,
        protected.weights.ciphertexts.len(),
        subject.describe()
    );
    Ok(Sampling::single(bytes / subject.float_bytes()?, 1).note(note))
}

/// Megabytes at the peak of a process that only evaluates.
pub(super) fn memory(settings: &Settings<'_>, point: Point) -> Result<Sampling, Failure> {
    let subject = Subject::get(settings, point)?;
    let workspace = Workspace::new(None)?;
    match point.private {
        true => fill(&workspace, &subject)?,
        false => fill_plain(&workspace, &subject)?,
    }
    let account = workspace.evaluate(settings.threads, 1)?;
    let missing = || Failure::bad_input("bench.memory", "this system does not tell peak memory");
    let peak = account.peak_memory_bytes.ok_or_else(missing)?;
    Ok(Sampling::single(peak as f64 / MEGABYTE, settings.threads).note(subject.describe()))
}

/// Writes a protected model and one query.
fn fill(workspace: &Workspace, subject: &Subject) -> Result<(), Failure> {
    let program = subject.compiled.model.program();
    let protected = Protected::new(program, &mut secrets::generator()?)?;
    let (model, keys) = (&protected.model, protected.keys);
    let public = scuro_client::PublicClient::new(model, keys.public.clone());
    let query = public.encrypt(&[&subject.inputs[0]], &mut secrets::generator()?)?;
    workspace.fill(model, &keys, &[query.to_bytes()])?;
    workspace.fill_weights(&protected.weights)
}

/// Writes a model whose weights are not encrypted, and one query.
fn fill_plain(workspace: &Workspace, subject: &Subject) -> Result<(), Failure> {
    let model = &subject.compiled.model;
    let keys = KeySet::generate(model, &mut secrets::generator()?)?;
    let client = Client::new(model, Arc::clone(&keys.secret))?;
    let query = client.encrypt(&[&subject.inputs[0]], &mut secrets::generator()?)?;
    workspace.fill(model, &keys, &[query.to_bytes()])?;
    Ok(())
}

/// Images a second of processor time, in blocks of queries that read the weights once; of the block
/// sizes, the fastest.
pub(super) fn throughput(settings: &Settings<'_>, point: Point) -> Result<Sampling, Failure> {
    let subject = Subject::get(settings, point)?;
    let session = Session::new(&subject.compiled.model, settings.threads)?;
    let images = point.images;
    let count = images * BLOCKS[BLOCKS.len() - 1];
    let inputs = subject.inputs.iter().cycle().take(count);
    let inputs: Vec<&[f32]> = inputs.map(Vec::as_slice).collect();
    let queries = session.model().open_query(&session.encrypt(&inputs)?)?;
    let mut best: Option<(Sampling, usize)> = None;
    for block in BLOCKS {
        let run = || session.evaluator.run_block(&queries[..block]);
        let rates = rates(settings, images * block, run)?;
        if best
            .as_ref()
            .is_none_or(|(b, _)| rates.median() > b.median())
        {
            best = Some((rates, block));
        }
    }
    let (rates, block) = best.ok_or_else(|| Failure::internal("no block sizes"))?;
    let weights = session.evaluator.memory_bytes() as f64 / MEGABYTE;
    let note = format!(
        "{images} images a query, blocks of {block}, weights {weights:.0} MB in memory; {}",
        subject.describe()
    );
    Ok(rates.note(note))
}

/// Images a second of `work`, which takes `images` at a time.
fn rates<T>(
    settings: &Settings<'_>,
    images: usize,
    work: impl FnMut() -> Result<T, Failure>,
) -> Result<Sampling, Failure> {
    let times = milliseconds_of(settings.samples(BLOCK_SAMPLES), work)?;
    let rates = times
        .iter()
        .map(|milliseconds| images as f64 * 1e3 / milliseconds);
    Ok(Sampling::new(rates.collect(), settings.threads))
}

/// Processor time of `work`, after a first call.
fn milliseconds<T>(
    settings: &Settings<'_>,
    work: impl FnMut() -> Result<T, Failure>,
) -> Result<Sampling, Failure> {
    let times = milliseconds_of(settings.samples(SAMPLES), work)?;
    Ok(Sampling::new(times, settings.threads))
}

fn milliseconds_of<T>(
    samples: usize,
    mut work: impl FnMut() -> Result<T, Failure>,
) -> Result<Vec<f64>, Failure> {
    black_box(work()?);
    let mut sample = || {
        let start = clock::process_seconds();
        black_box(work()?);
        Ok((clock::process_seconds() - start) * 1e3)
    };
    (0..samples).map(|_| sample()).collect()
}
