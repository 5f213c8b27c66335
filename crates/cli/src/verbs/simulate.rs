//! `scuro simulate model.onnx --data mnist`: what encryption would answer, without encrypting.

use serde_json::json;

use crate::compiled::{self, CompileArguments, ModelArguments};
use crate::context::Context;
use crate::errors::Failure;
use crate::inputs::{self, InputArguments};
use crate::output::Reply;
use crate::scoring::Mode;
use crate::table::Table;
use crate::units;
use crate::verbs::{accuracy, inspect};

/// Arguments of `scuro simulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Images to simulate [default: mnist:test if present, else generated].
    #[arg(long, value_name = "NAME[:split]")]
    data: Option<String>,
    /// Number of images.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    input: InputArguments,
    /// Data set for the ranges, if the model must be compiled [default: its training part].
    #[arg(long, value_name = "NAME[:split]")]
    calibrate_on: Option<String>,
    #[command(flatten)]
    compile: CompileArguments,
}

/// Simulates.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let source = arguments.model.source();
    let usual = || inputs::training_part(context, arguments.data.as_deref()?);
    let calibration = arguments.calibrate_on.clone().or_else(usual);
    let compiled = compiled::open(
        context,
        &source,
        calibration.as_deref(),
        &arguments.input,
        &arguments.compile,
    )?;
    let data = match &arguments.data {
        Some(name) => inputs::load(context, name, Some(arguments.limit))?,
        None => inputs::digits(context, arguments.limit)?,
    };
    let score = accuracy::score_compiled(context, &compiled, data, Mode::Simulate)?;
    let program = compiled.model.program();
    let predicted = program.steps.last().map_or(0.0, |step| step.estimate.error);
    let mut table = Table::new(&[]);
    table.row(["images", &format!("{} of {}", score.images, score.data)]);
    table.row(["simulated accuracy", &units::percent(score.accuracy)]);
    table.row(["clear accuracy", &units::percent(score.clear_accuracy)]);
    table.row(["agreement", &units::percent(score.agreement)]);
    table.row([
        "worst score error",
        &units::significant(score.worst_logit_error),
    ]);
    table.row([
        "predicted error (standard deviation)",
        &format!("{predicted:.1e}"),
    ]);
    let steps = inspect::step_table(context, program);
    let data = json!({ "score": score, "predicted_error": predicted });
    Ok(Reply::new(
        data,
        format!("{}\n{steps}", table.render(context.style)),
    ))
}
