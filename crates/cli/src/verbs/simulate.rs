//! `scuro simulate model.onnx --data mnist`: what encryption would answer, without encrypting.

use scuro_nn::data::Dataset;
use scuro_program::Program;
use serde_json::{Value, json};

use crate::compiled::{self, CompileArguments, Compiled, ModelArguments};
use crate::context::Context;
use crate::errors::Failure;
use crate::inputs::{self, InputArguments};
use crate::noise::{self, Input, Probe};
use crate::output::Reply;
use crate::progress::Progress;
use crate::scoring::Mode;
use crate::session::Session;
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
    /// Encrypt the first image too, under a key made here, and measure the noise after every step.
    #[arg(long)]
    measure: bool,
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
    let program = compiled.model.program();
    let probes = match arguments.measure {
        true => measure(context, &compiled, data.clone())?,
        false => Vec::new(),
    };
    let score = accuracy::score_compiled(context, &compiled, data, Mode::Simulate)?;
    let predicted = program.steps.last().map_or(0.0, |step| step.estimate.error);
    let mut table = Table::new(&[]);
    table.row(["images", &format!("{} of {}", score.images, score.data)]);
    table.row(["simulated accuracy", &units::percent(score.accuracy)]);
    table.row(["clear accuracy", &units::percent(score.clear_accuracy)]);
    table.row(["agreement", &units::percent(score.agreement)]);
    table.row(["without an answer", &score.overflowed.len().to_string()]);
    accuracy::note_overflow(context, &score);
    table.row([
        "worst score error",
        &units::significant(score.worst_logit_error),
    ]);
    table.row([
        "predicted error (standard deviation)",
        &format!("{predicted:.1e}"),
    ]);
    let mut steps = inspect::step_table(context, program);
    let mut data = json!({ "score": score, "predicted_error": predicted });
    if arguments.measure {
        data["measured"] = probes.iter().map(|probe| row(program, probe)).collect();
        steps = format!("{steps}\n{}", probe_table(context, program, &probes));
    }
    Ok(Reply::new(
        data,
        format!("{}\n{steps}", table.render(context.style)),
    ))
}

/// Noise after every step of one encrypted evaluation: only who holds the key can see it.
fn measure(context: &Context, compiled: &Compiled, data: Dataset) -> Result<Vec<Probe>, Failure> {
    let spinner = Progress::spinner(context, "making keys and measuring noise");
    let input = compiled.examples(data)?.input(0);
    let session = Session::new(&compiled.model, context.thread_count())?;
    let program = compiled.model.program();
    let probes = noise::measure(&session, program, Input::Sealed(&input));
    drop(spinner);
    probes
}

fn row(program: &Program, probe: &Probe) -> Value {
    let step = &program.steps[probe.step];
    json!({
        "step": probe.step, "layer": step.layer, "operation": step.operation.name(),
        "primes": probe.limbs, "modulus_log2": probe.log_modulus, "scale_log2": probe.log_scale,
        "error": probe.slot_error, "precision_bits": probe.precision_bits(),
        "room_bits": probe.room_bits(),
    })
}

fn probe_table(context: &Context, program: &Program, probes: &[Probe]) -> String {
    let mut table = Table::new(&[
        "layer",
        "measured after",
        "primes",
        "log2 modulus",
        "log2 scale",
        "error",
        "bits above noise",
        "bits of room",
    ]);
    for probe in probes {
        let step = &program.steps[probe.step];
        table.row([
            step.layer.clone(),
            step.operation.name().to_string(),
            probe.limbs.to_string(),
            format!("{:.1}", probe.log_modulus),
            format!("{:.1}", probe.log_scale),
            format!("{:.1e}", probe.slot_error),
            format!("{:.1}", probe.precision_bits()),
            format!("{:.1}", probe.room_bits()),
        ]);
    }
    table.render(context.style)
}
