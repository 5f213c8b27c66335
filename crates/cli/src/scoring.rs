//! Scores of many images, clear, simulated or encrypted, on all threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use scuro_client::{Model, gather, scatter};
use scuro_nn::graph::{Graph, Op};
use scuro_nn::reference::Executor;
use scuro_runtime::simulate::Simulator;

use crate::context::Context;
use crate::errors::Failure;
use crate::inputs::Examples;
use crate::progress::Progress;
use crate::session::Session;

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Mode {
    /// The plain network.
    #[default]
    Clear,
    /// The compiled program on plain slots, with the noise that encryption would add.
    Simulate,
    /// The compiled program on ciphertexts.
    Encrypted,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Clear => "clear",
            Self::Simulate => "simulate",
            Self::Encrypted => "encrypted",
        })
    }
}

/// Scores of each image.
pub(crate) type Scores = Vec<Vec<f64>>;

/// Scores of the reference executor.
pub(crate) fn reference(graph: &Graph, examples: &Examples) -> Result<Scores, Failure> {
    let executor = Executor::new(graph)?;
    let classes: usize = executor.output_shape().iter().product();
    let fill = |i: usize, out: &mut [f32]| out.copy_from_slice(&examples.input(i));
    let flat = executor.run_each(examples.len(), fill);
    let row = |scores: &[f32]| scores.iter().map(|&s| f64::from(s)).collect();
    Ok(flat.chunks_exact(classes.max(1)).map(row).collect())
}

/// The network without its last softmax, which the key holder applies: scores before it are what
/// the compiled program gives.
pub(crate) fn without_softmax(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let last = &graph.nodes[graph.output.0];
    if matches!(last.op, Op::Softmax { .. } | Op::LogSoftmax { .. }) {
        graph.output = last.inputs[0];
    }
    graph
}

/// Scores of the compiled program on plain slots, without noise.
pub(crate) fn clear_program(
    context: &Context,
    model: &Model,
    examples: &Examples,
) -> Result<Scores, Failure> {
    let run = |images: &[&[f32]], _: usize| {
        let slots = scuro_runtime::clear::run(model.program(), &gather(model.program(), images)?)?;
        Ok(scatter(model.program(), &slots, images.len())?)
    };
    in_parallel(context, model, examples, "clear program", run)
}

/// Scores of the simulation.
pub(crate) fn simulated(
    context: &Context,
    model: &Model,
    examples: &Examples,
) -> Result<Scores, Failure> {
    let simulator = Simulator::new(model.program(), model.context().parameters())?;
    let run = |images: &[&[f32]], first: usize| {
        let query = gather(model.program(), images)?;
        let slots = simulator.run(&query, first as u64)?;
        Ok(scatter(model.program(), &slots, images.len())?)
    };
    in_parallel(context, model, examples, "simulating", run)
}

/// Scores of the encrypted evaluation, with fresh keys, all in this process.
pub(crate) fn encrypted(
    context: &Context,
    model: &Model,
    examples: &Examples,
) -> Result<Scores, Failure> {
    let session = {
        let _spinner = Progress::spinner(context, "making keys");
        Session::new(model, 1)?
    };
    let (model, client, evaluator) = (session.model(), &session.client, &session.evaluator);
    let run = |images: &[&[f32]], _: usize| {
        let query = session.encrypt(images)?;
        let ciphertexts = model.open_query(&query)?;
        let replies = ciphertexts.iter().map(|run| evaluator.run_shared(run));
        let reply = model.seal_reply(&query, &replies.collect::<Result<Vec<_>, _>>()?)?;
        let predictions = client.decrypt(&reply)?;
        Ok(predictions
            .into_iter()
            .map(|prediction| prediction.scores)
            .collect())
    };
    in_parallel(context, model, examples, "encrypted", run)
}

/// Runs `work` on blocks of as many images as one run of the program takes.
fn in_parallel(
    context: &Context,
    model: &Model,
    examples: &Examples,
    what: &str,
    work: impl Fn(&[&[f32]], usize) -> Result<Scores, Failure> + Sync,
) -> Result<Scores, Failure> {
    let block = model.images_per_run();
    let blocks = examples.len().div_ceil(block);
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Scores>>> = Mutex::new(vec![None; blocks]);
    let fault: Mutex<Option<Failure>> = Mutex::new(None);
    let progress = Progress::bar(context, what, examples.len());
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= blocks || lock(&fault).is_some() {
                return;
            }
            let range = index * block..examples.len().min((index + 1) * block);
            let images: Vec<Vec<f32>> = range.clone().map(|i| examples.input(i)).collect();
            let views: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
            match work(&views, range.start) {
                Ok(scores) => lock(&results)[index] = Some(scores),
                Err(failure) => *lock(&fault) = Some(failure),
            }
            progress.advance(range.len());
        }
    };
    std::thread::scope(|scope| {
        (1..context.thread_count().min(blocks)).for_each(|_| drop(scope.spawn(worker)));
        worker();
    });
    if let Some(failure) = lock(&fault).take() {
        return Err(failure);
    }
    Ok(lock(&results).drain(..).flatten().flatten().collect())
}

/// A poisoned lock means that a worker panicked; the panic itself is reported, so the data is not
/// used.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
