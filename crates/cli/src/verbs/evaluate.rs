//! `scuro evaluate model.scuro --keys evaluation.keys query.ct -o reply.ct`: the untrusted side.

use std::path::{Path, PathBuf};
use std::time::Instant;

use scuro_client::{Bundle, Model, gather};
use scuro_fhe::keys::{EvaluationKeys, PublicKey};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::errors::{At, Failure};
use crate::evaluator::{Evaluator, StepTime};
use crate::output::Reply;
use crate::progress::Progress;
use crate::table::Table;
use crate::verbs::keygen;
use crate::{compiled, files, machine, units};

/// Arguments of `scuro evaluate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Compiled model.
    model: PathBuf,
    /// Queries of `scuro encrypt`, or features in clear as JSON (`.json`: an array of numbers, or
    /// one of such arrays for several images) for a model with encrypted weights; with more than
    /// one, `--out` is a folder.
    #[arg(required = true)]
    queries: Vec<PathBuf>,
    /// Evaluation keys, or the folder of `scuro keygen`; features in clear need the public key
    /// beside them.
    #[arg(long, value_name = "FILE|DIR")]
    keys: PathBuf,
    /// Encrypted weights of `scuro protect`.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The reply.
    #[arg(long, short)]
    out: PathBuf,
}

/// What an evaluation took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Milliseconds to read program and keys and to prepare the weights.
    pub(crate) load_ms: f64,
    /// One entry a query.
    pub(crate) queries: Vec<QueryAccount>,
    /// Median time of each step of the program over all runs.
    pub(crate) steps: Vec<StepTime>,
    /// Most memory held.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Threads used.
    pub(crate) threads: usize,
}

/// What one query took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QueryAccount {
    /// The reply.
    pub(crate) reply: PathBuf,
    /// Images in it.
    pub(crate) images: u32,
    /// Size of the reply.
    pub(crate) bytes: u64,
    /// Milliseconds in the network.
    pub(crate) evaluate_ms: f64,
}

/// Evaluates the queries.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let start = Instant::now();
    let compiled = compiled::open_model(&arguments.model)?;
    let file = match arguments.keys.is_dir() {
        true => arguments.keys.join(keygen::EVALUATION),
        false => arguments.keys.clone(),
    };
    let mut keys = evaluation_keys(&compiled.model, &file)?;
    if arguments.queries.iter().any(|query| in_clear(query)) {
        keys = with_public_key(keys, &compiled.model, &file)?;
    }
    let mut evaluator = evaluator(compiled.model, keys, &arguments, context.thread_count())?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let progress = Progress::bar(context, "evaluating", arguments.queries.len());
    let mut queries = Vec::new();
    for query in &arguments.queries {
        queries.push(one(&mut evaluator, query, &reply_path(&arguments, query))?);
        progress.advance(1);
    }
    drop(progress);
    let account = Account {
        load_ms,
        queries,
        steps: evaluator.step_times(),
        peak_memory_bytes: machine::peak_memory(),
        threads: context.thread_count(),
    };
    answer(context, &account)
}

fn evaluation_keys(model: &Model, file: &Path) -> Result<EvaluationKeys, Failure> {
    let keys = EvaluationKeys::from_bytes(&files::read(file)?, model.context());
    keys.at(file.display())
}

/// The keys with the public one, which re-randomises replies to features in clear; unless it is
/// among them, it lies beside them.
fn with_public_key(
    keys: EvaluationKeys,
    model: &Model,
    file: &Path,
) -> Result<EvaluationKeys, Failure> {
    if keys.public_key().is_ok() {
        return Ok(keys);
    }
    let file = file.with_file_name(keygen::PUBLIC);
    let bytes = files::read(&file).map_err(|failure| {
        failure.hint(
            "replies to features in clear are re-randomised with the public key: put it there",
        )
    })?;
    let public = PublicKey::from_bytes(&bytes, model.context()).at(file.display())?;
    keys.with_public_key(public).at(file.display())
}

/// Whether a query is features in clear.
fn in_clear(query: &Path) -> bool {
    query.extension().is_some_and(|ending| ending == "json")
}

fn evaluator(
    model: Model,
    keys: EvaluationKeys,
    arguments: &Arguments,
    threads: usize,
) -> Result<Evaluator, Failure> {
    let Some(path) = &arguments.weights else {
        return Evaluator::new(model, keys, threads);
    };
    let weights = Bundle::from_bytes(&files::read(path)?).at(path.display())?;
    Evaluator::with_weights(model, keys, weights, threads)
}

/// `--out` itself, or the query's name in it if there are several.
fn reply_path(arguments: &Arguments, query: &Path) -> PathBuf {
    match query.file_name() {
        Some(name) if arguments.queries.len() > 1 => arguments.out.join(name),
        _ => arguments.out.clone(),
    }
}

fn one(evaluator: &mut Evaluator, query: &Path, out: &Path) -> Result<QueryAccount, Failure> {
    let bytes = files::read(query)?;
    let (reply, evaluate_ms) = match in_clear(query) {
        true => features(evaluator, &bytes),
        false => sealed(evaluator, &bytes),
    }
    .at(query.display())?;
    let bytes = reply.to_bytes();
    files::write(out, &bytes)?;
    let (images, bytes) = (reply.images, bytes.len() as u64);
    Ok(QueryAccount {
        reply: out.to_path_buf(),
        images,
        bytes,
        evaluate_ms,
    })
}

/// The reply to an encrypted query, and the milliseconds it took.
fn sealed(evaluator: &mut Evaluator, bytes: &[u8]) -> Result<(Bundle, f64), Failure> {
    let bundle = Bundle::from_bytes(bytes)?;
    let runs = evaluator.model().open_query(&bundle)?;
    let start = Instant::now();
    let answers = runs
        .iter()
        .map(|run| evaluator.run(run))
        .collect::<Result<Vec<_>, _>>()?;
    let evaluate_ms = start.elapsed().as_secs_f64() * 1e3;
    Ok((
        evaluator.model().seal_reply(&bundle, &answers)?,
        evaluate_ms,
    ))
}

/// Features in clear.
#[derive(Deserialize)]
#[serde(untagged)]
enum Features {
    One(Vec<f32>),
    Several(Vec<Vec<f32>>),
}

impl Features {
    fn read(bytes: &[u8]) -> Result<Vec<Vec<f32>>, Failure> {
        match serde_json::from_slice(bytes) {
            Ok(Self::One(image)) => Ok(vec![image]),
            Ok(Self::Several(images)) => Ok(images),
            Err(error) => {
                let message = format!("features are a JSON array of numbers, or of such: {error}");
                Err(Failure::bad_input("evaluate.features", message))
            }
        }
    }
}

/// The same for features in clear.
fn features(evaluator: &mut Evaluator, bytes: &[u8]) -> Result<(Bundle, f64), Failure> {
    let images = Features::read(bytes)?;
    let mut runs = Vec::new();
    for images in images.chunks(evaluator.model().images_per_run()) {
        let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        runs.push(gather(evaluator.model().program(), &images)?);
    }
    let start = Instant::now();
    let mut times = Vec::new();
    let mut answers = Vec::new();
    for slots in &runs {
        answers.push(evaluator.run_features(slots, &mut |event| {
            times.push((event.step, event.elapsed));
        })?);
    }
    let evaluate_ms = start.elapsed().as_secs_f64() * 1e3;
    evaluator.record(&times);
    let reply = evaluator.model().reply(images.len() as u32, &answers)?;
    Ok((reply, evaluate_ms))
}

fn answer(context: &Context, account: &Account) -> Result<Reply, Failure> {
    let mut table = Table::new(&["reply", "images", "size", "time, ms"]);
    for query in &account.queries {
        table.row([
            query.reply.display().to_string(),
            query.images.to_string(),
            units::bytes(query.bytes),
            units::significant(query.evaluate_ms),
        ]);
    }
    let mut steps = Table::new(&["layer", "step", "time, ms"]);
    for step in &account.steps {
        steps.row([
            &step.layer,
            &step.operation,
            &units::significant(step.milliseconds),
        ]);
    }
    let human = format!(
        "{}\n{}",
        table.render(context.style),
        steps.render(context.style)
    );
    let data = serde_json::to_value(account)
        .map_err(|error| Failure::internal(format!("the account is not JSON: {error}")))?;
    Ok(Reply::new(data, human))
}
