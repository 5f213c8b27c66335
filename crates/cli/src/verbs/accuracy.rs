//! `scuro accuracy model.onnx --data mnist --mode encrypted`

use std::time::Instant;

use scuro_client::Prediction;
use serde_json::json;

use crate::compiled::{self, CompileArguments, Compiled, ModelArguments, Source};
use crate::context::Context;
use crate::errors::Failure;
use crate::inputs::{self, Examples, InputArguments};
use crate::output::Reply;
use crate::report::{argmax, worst_difference};
use crate::scoring::{self, Mode, Scores};
use crate::table::Table;
use crate::{machine, units};

/// Arguments of `scuro accuracy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Data set: `mnist`, `mnist:train`, `cifar10`, `generated`, or a folder before it.
    #[arg(long, value_name = "NAME[:split]")]
    data: String,
    /// How the model is run.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Only the first images.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    #[command(flatten)]
    input: InputArguments,
    /// Data set for the ranges, if the model must be compiled [default: its training part].
    #[arg(long, value_name = "NAME[:split]")]
    calibrate_on: Option<String>,
    #[command(flatten)]
    compile: CompileArguments,
}

/// What a scoring found.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Score {
    /// Name of the model.
    pub(crate) model: String,
    /// Name of the data set.
    pub(crate) data: String,
    /// How the model was run.
    pub(crate) mode: String,
    /// Images scored.
    pub(crate) images: usize,
    /// Images classified right.
    pub(crate) correct: usize,
    /// Share of images classified right.
    pub(crate) accuracy: f64,
    /// Share classified right by the clear model.
    pub(crate) clear_accuracy: f64,
    /// Share of images with the clear model's answer.
    pub(crate) agreement: f64,
    /// Images with another answer than the clear model's, or none.
    pub(crate) disagreements: Vec<usize>,
    /// Images without an answer: their values grew beyond the modulus.
    #[serde(default)]
    pub(crate) overflowed: Vec<usize>,
    /// Largest |score - clear score| of the images with an answer.
    pub(crate) worst_logit_error: f64,
    /// Seconds it took.
    pub(crate) seconds: f64,
    /// Threads used.
    pub(crate) threads: usize,
}

/// Scores the model.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let source = arguments.model.source();
    let score = if arguments.mode == Mode::Clear && !is_program(&source)? {
        score_network(context, &source, &arguments)?
    } else {
        let calibration = arguments.calibrate_on.clone();
        let calibration = calibration.or_else(|| inputs::training_part(context, &arguments.data));
        let compiled = compiled::open(
            context,
            &source,
            calibration.as_deref(),
            &arguments.input,
            &arguments.compile,
        )?;
        let data = inputs::load(context, &arguments.data, arguments.limit)?;
        score_compiled(context, &compiled, data, arguments.mode)?
    };
    reply(context, &score)
}

fn is_program(source: &Source<'_>) -> Result<bool, Failure> {
    match source {
        Source::File { path, .. } => Ok(compiled::read_program(path)?.is_some()),
        Source::BuiltIn => Ok(false),
    }
}

fn score_network(
    context: &Context,
    source: &Source<'_>,
    arguments: &Arguments,
) -> Result<Score, Failure> {
    let graph = source.network()?;
    arguments.input.check_resize(graph.input_shape())?;
    let data = inputs::load(context, &arguments.data, arguments.limit)?;
    let preprocess = arguments.input.preprocess(graph.preprocess.as_ref());
    let examples = Examples::new(data, &preprocess, graph.input_shape())?;
    let start = Instant::now();
    let scores = scoring::reference(&graph, &examples)?;
    check_classes(&scores, &examples)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(count(
        &graph.name,
        &examples,
        Mode::Clear,
        &answers(scores.clone()),
        &scores,
        seconds,
        context,
    ))
}

/// Scores a compiled model, against its network if there is one, else against its clear program.
pub(crate) fn score_compiled(
    context: &Context,
    compiled: &Compiled,
    data: scuro_nn::data::Dataset,
    mode: Mode,
) -> Result<Score, Failure> {
    let model = &compiled.model;
    let examples = compiled.examples(data)?;
    let clear = match &compiled.graph {
        Some(graph) => scoring::reference(&scoring::without_softmax(graph), &examples)?,
        None => scoring::clear_program(context, model, &examples)?,
    };
    check_classes(&clear, &examples)?;
    let start = Instant::now();
    let found = match mode {
        Mode::Clear => answers(scoring::clear_program(context, model, &examples)?),
        Mode::Simulate => scoring::simulated(context, model, &examples)?,
        Mode::Encrypted => scoring::encrypted(context, model, &examples)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    Ok(count(
        &model.program().name,
        &examples,
        mode,
        &found,
        &clear,
        seconds,
        context,
    ))
}

fn check_classes(scores: &Scores, examples: &Examples) -> Result<(), Failure> {
    let (found, classes) = (
        scores.first().map_or(0, Vec::len),
        examples.data.classes.len(),
    );
    if scores.is_empty() || found == classes {
        return Ok(());
    }
    let message = format!("the model gives {found} values, the data has {classes} classes");
    Err(Failure::bad_input("accuracy.classes", message)
        .hint("choose the data set it was trained on"))
}

fn answers(scores: Scores) -> Vec<Prediction> {
    scores.into_iter().map(Prediction::from_scores).collect()
}

fn count(
    model: &str,
    examples: &Examples,
    mode: Mode,
    answers: &[Prediction],
    clear: &Scores,
    seconds: f64,
    context: &Context,
) -> Score {
    let images = examples.len();
    let which = |holds: &dyn Fn(usize) -> bool| (0..images).filter(|&i| holds(i)).collect();
    let answer = |i: usize| (!answers[i].overflowed).then_some(answers[i].label);
    let overflowed: Vec<usize> = which(&|i| answer(i).is_none());
    let disagreements: Vec<usize> = which(&|i| answer(i) != Some(argmax(&clear[i])));
    let right: Vec<usize> = which(&|i| answer(i) == Some(examples.label(i)));
    let right_in_clear: Vec<usize> = which(&|i| argmax(&clear[i]) == examples.label(i));
    let share = |part: usize| part as f64 / images.max(1) as f64;
    let answered = answers.iter().zip(clear).filter(|(a, _)| !a.overflowed);
    let errors = answered.map(|(a, b)| worst_difference(&a.scores, b));
    Score {
        model: model.to_string(),
        data: examples.data.name.to_string(),
        mode: mode.to_string(),
        images,
        correct: right.len(),
        accuracy: share(right.len()),
        clear_accuracy: share(right_in_clear.len()),
        agreement: share(images - disagreements.len()),
        disagreements,
        overflowed,
        worst_logit_error: errors.fold(0.0, f64::max),
        seconds,
        threads: context.thread_count(),
    }
}

/// Says that images have no answer, and what to do about it.
pub(crate) fn note_overflow(context: &Context, score: &Score) {
    let lost = score.overflowed.len();
    if lost > 0 {
        context.note(format!(
            "note: {lost} of {} images have no answer, as their values grew beyond the modulus: \
             compile with more --calibration data like them, or a larger --margin",
            score.images
        ));
    }
}

fn reply(context: &Context, score: &Score) -> Result<Reply, Failure> {
    let mut table = Table::new(&[]);
    let correct = format!("{} of {} right", score.correct, score.images);
    table.row(["model", score.model.as_str()]);
    table.row(["data", &score.data]);
    table.row(["mode", &score.mode]);
    table.row(["accuracy", &format!("{:.4}  ({correct})", score.accuracy)]);
    if score.mode != "clear" || score.worst_logit_error > 0.0 {
        table.row(["clear accuracy", &format!("{:.4}", score.clear_accuracy)]);
        table.row(["agreement with clear", &format!("{:.4}", score.agreement)]);
        table.row([
            "worst score error",
            &units::significant(score.worst_logit_error),
        ]);
        table.row(["without an answer", &score.overflowed.len().to_string()]);
    }
    note_overflow(context, score);
    let rate = score.images as f64 / score.seconds.max(1e-9);
    table.row([
        "time",
        &format!(
            "{:.1} s  ({} images/s)",
            score.seconds,
            units::significant(rate)
        ),
    ]);
    let mut data = serde_json::to_value(score)
        .map_err(|error| Failure::internal(format!("the score is not JSON: {error}")))?;
    data["machine"] = json!(machine::Machine::detect());
    Ok(Reply::new(data, table.render(context.style)))
}
