//! `scuro demo`: encrypted predictions from start to end, and a report about them.

mod cards;
mod show;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use scuro_client::{Client, KeySet, Prediction};
use serde_json::json;

use crate::compiled::{self, CompileArguments, Compiled, Source};
use crate::context::Context;
use crate::errors::Failure;
use crate::inputs::{self, Examples, InputArguments};
use crate::machine::Machine;
use crate::noise::{self, Input};
use crate::output::Reply;
use crate::progress::Progress;
use crate::report::{AccuracyCard, ImageResult, RUN_KIND, RunReport, StageRow};
use crate::session::Session;
use crate::workspace::Workspace;
use crate::{files, html, scoring, secrets, units};

/// Arguments of `scuro demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Number of images.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    images: u32,
    /// Network instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Images: a data set [default: mnist:test if present, else generated digits].
    #[arg(long, value_name = "NAME[:split]")]
    data: Option<String>,
    /// Bits of security: 128, 192 or 256.
    #[arg(long, default_value = "128", value_parser = ["128", "192", "256"])]
    security: String,
    /// The HTML report.
    #[arg(long, value_name = "FILE", default_value = "scuro-demo.html")]
    report: PathBuf,
    /// Keep what the evaluator was given, for looking at.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Wall times of the stages.
#[derive(Debug, Default)]
struct Stages {
    rows: Vec<StageRow>,
}

impl Stages {
    fn time<T>(
        &mut self,
        what: &str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        let result = work()?;
        self.push(what, start.elapsed());
        Ok(result)
    }

    fn push(&mut self, what: &str, elapsed: Duration) {
        let milliseconds = elapsed.as_secs_f64() * 1e3;
        self.rows.push(StageRow {
            what: what.to_string(),
            milliseconds,
        });
    }
}

/// One encrypted image.
struct Sealed {
    bytes: Vec<u8>,
    milliseconds: f64,
}

/// Runs the demo.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let start = Instant::now();
    let mut stages = Stages::default();
    let (compiled, examples) = prepare(&arguments, context, &mut stages)?;
    let model = &compiled.model;
    let keys = stages.time("make keys", || {
        let _spinner = Progress::spinner(context, "making keys");
        Ok(KeySet::generate(model, &mut secrets::generator()?)?)
    })?;
    let client = Client::new(model, keys.secret.clone())?;
    let sealed = stages.time("encode and encrypt", || encrypt(&client, &examples))?;
    let workspace = Workspace::new(arguments.keep.clone())?;
    let sizes = stages.time("write files for the evaluator", || {
        let queries: Vec<Vec<u8>> = sealed.iter().map(|query| query.bytes.clone()).collect();
        workspace.fill(model, &keys, &queries)
    })?;
    let account = stages.time("evaluator process", || {
        let _spinner = Progress::spinner(context, "evaluating elsewhere");
        workspace.evaluate(context.thread_count(), sealed.len())
    })?;
    let decrypted = stages.time("decrypt and decode", || {
        decrypt(&client, &workspace, &sealed)
    })?;
    let (clear, simulated) = stages.time("clear and simulated runs", || {
        Ok((
            clear(&compiled, &examples)?,
            scoring::simulated(context, model, &examples)?,
        ))
    })?;
    let probed = stages.time("measure noise with the secret key", || {
        // Fresh keys: the noise is of the same size under any.
        let session = Session::new(model, context.thread_count())?;
        noise::measure(&session, model.program(), Input::Sealed(&examples.input(0)))
    })?;
    let images = (0..sealed.len())
        .map(|i| ImageResult {
            index: i,
            shape: examples.data.shape.to_vec(),
            pixels: examples.data.image(i).to_vec(),
            ciphertext_head: cards::ciphertext_head(&sealed[i].bytes),
            label: examples.label(i),
            clear: clear[i].clone(),
            simulated: simulated[i].scores.clone(),
            encrypted: decrypted[i].0.scores.clone(),
            encrypt_ms: sealed[i].milliseconds,
            evaluate_ms: account.queries[i].evaluate_ms,
            decrypt_ms: decrypted[i].1,
        })
        .collect::<Vec<_>>();
    stages.push("everything", start.elapsed());
    let run = RunReport {
        kind: RUN_KIND.to_string(),
        machine: Machine::detect(),
        model: cards::model(&compiled)?,
        data: cards::data(&compiled, &examples),
        accuracy: AccuracyCard::count(&images),
        images,
        steps: cards::steps(&account, &probed),
        security: cards::security(model),
        sizes: cards::sizes(sizes, &account),
        stages: stages.rows,
    };
    finish(context, &arguments.report, &run)
}

/// Compiles the network and loads the images.
fn prepare(
    arguments: &Arguments,
    context: &Context,
    stages: &mut Stages,
) -> Result<(Compiled, Examples), Failure> {
    let source = match &arguments.model {
        Some(path) => Source::File {
            path,
            architecture: None,
        },
        None => Source::BuiltIn,
    };
    let security = arguments.security.parse().unwrap_or(128);
    let graph = source.network()?;
    let compiled = stages.time("compile", || {
        let input = InputArguments::default();
        let standard = CompileArguments::standard(security);
        compiled::compile(context, graph, None, &input, &standard)
    })?;
    let limit = arguments.images as usize;
    let data = match &arguments.data {
        Some(name) => inputs::load(context, name, Some(limit))?,
        None => inputs::digits(context, limit)?,
    };
    let shape = compiled.image_shape();
    let examples = Examples::new(data, &compiled.preprocess, &shape)?;
    Ok((compiled, examples))
}

fn encrypt(client: &Client, examples: &Examples) -> Result<Vec<Sealed>, Failure> {
    let mut rng = secrets::generator()?;
    let mut seal = |i| {
        let image = examples.input(i);
        let start = Instant::now();
        let query = client.encrypt(&[&image], &mut rng)?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        Ok(Sealed {
            bytes: query.to_bytes(),
            milliseconds,
        })
    };
    (0..examples.len()).map(&mut seal).collect()
}

/// The predictions with the milliseconds of each.
fn decrypt(
    client: &Client,
    workspace: &Workspace,
    sealed: &[Sealed],
) -> Result<Vec<(Prediction, f64)>, Failure> {
    let open = |i| {
        let reply = workspace.reply(i)?;
        let start = Instant::now();
        let prediction = client.decrypt(&reply)?.pop();
        let prediction =
            prediction.ok_or_else(|| Failure::internal("a reply without an answer"))?;
        Ok((prediction, start.elapsed().as_secs_f64() * 1e3))
    };
    (0..sealed.len()).map(open).collect()
}

/// Scores of the plain network, before its last softmax.
fn clear(compiled: &Compiled, examples: &Examples) -> Result<Vec<Vec<f64>>, Failure> {
    match &compiled.graph {
        Some(graph) => scoring::reference(&scoring::without_softmax(graph), examples),
        None => Err(Failure::internal(
            "the demo compiles a network, so there is one",
        )),
    }
}

fn finish(context: &Context, path: &Path, run: &RunReport) -> Result<Reply, Failure> {
    let page = html::run_page(run);
    files::write(path, page.as_bytes())?;
    let mut data = serde_json::to_value(run)
        .map_err(|error| Failure::internal(format!("the run is not JSON: {error}")))?;
    data["report"] = json!(path);
    let size = units::bytes(page.len() as u64);
    let human = format!(
        "{}\n{} {} ({size})\n",
        show::run(context, run),
        context.style.bold("report"),
        path.display()
    );
    Ok(Reply::new(data, human))
}
