//! `scuro predict digit.png`: pictures, encrypted from end to end.

use std::path::{Path, PathBuf};
use std::time::Instant;

use scuro_client::{Model, Prediction, gather, scatter};
use scuro_nn::data::{digit_photo, picture};
use scuro_program::Program;
use scuro_runtime::simulate::Simulator;
use serde_json::json;

use crate::compiled::{self, CompileArguments, Compiled, Source};
use crate::context::Context;
use crate::errors::{At, Failure};
use crate::inputs::InputArguments;
use crate::output::Reply;
use crate::progress::Progress;
use crate::scoring::{self, Mode};
use crate::session::Session;
use crate::terminal::Picture;
use crate::units;
use crate::verbs::decrypt;

/// Arguments of `scuro predict`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Pictures (PNG or JPEG): drawn or photographed, any size, dark on light or light on dark.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Network or compiled model [default: the built-in digit network].
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// How the model is run.
    #[arg(long, value_enum, default_value = "encrypted")]
    mode: Mode,
    #[command(flatten)]
    input: InputArguments,
    /// Data set for the ranges, if the model must be compiled.
    #[arg(long, value_name = "NAME[:split]")]
    calibrate_on: Option<String>,
    #[command(flatten)]
    compile: CompileArguments,
}

/// Predicts.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let source = match &arguments.model {
        Some(path) => Source::File {
            path,
            architecture: None,
        },
        None => Source::BuiltIn,
    };
    let calibration = arguments.calibrate_on.as_deref();
    let compiled = compiled::open(
        context,
        &source,
        calibration,
        &arguments.input,
        &arguments.compile,
    )?;
    let read = |path: &PathBuf| read_picture(path, &compiled);
    let pictures = arguments
        .images
        .iter()
        .map(read)
        .collect::<Result<Vec<_>, _>>()?;
    let images = pictures.iter().map(|picture| compiled.input(picture));
    let images = images.collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    let mut human = String::new();
    for ((path, image), prediction) in arguments.images.iter().zip(&pictures).zip(predict(
        context,
        &compiled.model,
        &images,
        arguments.mode,
    )?) {
        let mut row = decrypt::row(rows.len(), &prediction.answer);
        row["file"] = json!(path);
        row["milliseconds"] = json!(prediction.milliseconds);
        rows.push(row);
        human.push_str(&show(
            context,
            path,
            image,
            &compiled.image_shape(),
            &prediction,
            arguments.mode,
        ));
    }
    let data = json!({ "mode": arguments.mode.to_string(), "predictions": rows });
    Ok(Reply::new(data, human).with_rows(rows))
}

/// An answer and how long the evaluation of its query took.
#[derive(Clone)]
struct Timed {
    answer: Prediction,
    milliseconds: f64,
}

fn predict(
    context: &Context,
    model: &Model,
    images: &[Vec<f32>],
    mode: Mode,
) -> Result<Vec<Timed>, Failure> {
    if mode == Mode::Encrypted {
        return predict_encrypted(context, model, images);
    }
    let program = model.program();
    let simulator = Simulator::new(program, model.context().parameters())?;
    let query = |images: &[&[f32]]| {
        let start = Instant::now();
        let answers = match mode {
            Mode::Simulate => scoring::simulate(model, &simulator, images, 0)?,
            _ => clear(program, images)?,
        };
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        Ok(timed(answers.into_iter(), milliseconds))
    };
    let queries = queries(model, images).map(|images| query(&images));
    Ok(queries.collect::<Result<Vec<_>, Failure>>()?.concat())
}

fn clear(program: &Program, images: &[&[f32]]) -> Result<Vec<Prediction>, Failure> {
    let slots = scuro_runtime::clear::run(program, &gather(program, images)?)?;
    let scores = scatter(program, &slots, images.len())?.into_iter();
    Ok(scores.map(Prediction::from_scores).collect())
}

fn timed(answers: impl Iterator<Item = Prediction>, milliseconds: f64) -> Vec<Timed> {
    let one = |answer| Timed {
        answer,
        milliseconds,
    };
    answers.map(one).collect()
}

/// Images in groups of as many as share a query.
fn queries<'a>(model: &Model, images: &'a [Vec<f32>]) -> impl Iterator<Item = Vec<&'a [f32]>> {
    let groups = images.chunks(model.images_per_run());
    groups.map(|group| group.iter().map(Vec::as_slice).collect())
}

fn predict_encrypted(
    context: &Context,
    model: &Model,
    images: &[Vec<f32>],
) -> Result<Vec<Timed>, Failure> {
    let progress = Progress::spinner(context, "making keys");
    let mut session = Session::new(model, context.thread_count())?;
    let model = session.model().clone();
    let mut answers = Vec::new();
    for images in queries(&model, images) {
        progress.say("evaluating on ciphertexts");
        let query = session.encrypt(&images)?;
        let runs = model.open_query(&query)?;
        let start = Instant::now();
        let replies = runs
            .iter()
            .map(|run| session.evaluator.run(run))
            .collect::<Result<Vec<_>, _>>()?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        let predictions = session
            .client
            .decrypt(&model.seal_reply(&query, &replies)?)?;
        answers.extend(timed(predictions.into_iter(), milliseconds));
    }
    Ok(answers)
}

fn show(
    context: &Context,
    path: &Path,
    image: &[f32],
    shape: &[usize],
    prediction: &Timed,
    mode: Mode,
) -> String {
    let mut text = String::new();
    let low = image.iter().copied().fold(f32::INFINITY, f32::min);
    let high = image.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let unit = |value: &f32| (value - low) / (high - low).max(1e-6);
    let values: Vec<f32> = image.iter().map(unit).collect();
    if let Some(picture) = Picture::from_planes(shape, &values) {
        for line in picture.fitted(28).lines(context.style) {
            text.push_str(&format!("{line}\n"));
        }
    }
    let answer = &prediction.answer;
    text.push_str(&format!(
        "{}: {}  confidence {}  ({mode}, {} ms in the network)\n\n",
        path.display(),
        context.style.bold(&answer.label.to_string()),
        units::percent(answer.confidence),
        units::significant(prediction.milliseconds),
    ));
    if answer.overflowed {
        text.push_str(
            "The answer means nothing: values grew beyond the modulus. Compile with more \
             --calibration data like this picture, or a larger --margin.\n\n",
        );
    }
    text
}

/// A picture of any size as the network's input: digits are found, centred and scaled as in MNIST.
pub(crate) fn read_picture(path: &Path, compiled: &Compiled) -> Result<Vec<f32>, Failure> {
    let shape = compiled.image_shape();
    let picture = picture::read(path)?;
    let digit = digit_photo::normalise(&picture).at(path.display())?;
    let prepared = compiled
        .preprocess
        .prepare([1, 28, 28], &shape)
        .map_err(|error| {
            Failure::from(error)
                .at("predict reads pictures of digits")
                .hint("use a 28x28 gray model")
        })?;
    let mut values = vec![0.0; shape.iter().product()];
    prepared.fill(&digit, &mut values);
    Ok(values)
}
