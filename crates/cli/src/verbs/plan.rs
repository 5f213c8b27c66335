//! `scuro plan model.onnx`: what it would cost, before anything costly.

use serde_json::{Value, json};

use crate::compiled::{self, CompileArguments, Compiled, ModelArguments};
use crate::context::Context;
use crate::errors::Failure;
use crate::inputs::InputArguments;
use crate::output::Reply;
use crate::table::Table;
use crate::units;
use crate::verbs::inspect;

/// Arguments of `scuro plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Data set for the ranges, its training part unless a part is named [default: what fits].
    #[arg(long, value_name = "NAME[:split]")]
    data: Option<String>,
    #[command(flatten)]
    input: InputArguments,
    #[command(flatten)]
    compile: CompileArguments,
}

/// Compiles in memory and prints the prediction.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let source = arguments.model.source();
    let data = arguments.data.as_deref();
    let compiled = compiled::open(context, &source, data, &arguments.input, &arguments.compile)?;
    let steps = inspect::step_table(context, compiled.model.program());
    let human = format!("{}\n{steps}", summary(context, &compiled));
    Ok(Reply::new(to_json(&compiled), human))
}

/// The prediction as a table.
pub(crate) fn summary(context: &Context, compiled: &Compiled) -> String {
    let program = compiled.model.program();
    let parameters = compiled.model.context().parameters();
    let mut table = Table::new(&[]);
    table.row(["model", program.name.as_str()]);
    table.row(["scheme", &inspect::scheme(program)]);
    table.row(["ring degree", &format!("N = {}", parameters.n())]);
    table.row([
        "security",
        &format!(
            "{} bits: log2 QP = {:.1} of at most {}",
            program.parameters.security_bits,
            parameters.log_qp(),
            parameters.log_qp_bound()
        ),
    ]);
    table.row(["decryptor", &inspect::decryptor(program)]);
    table.row(["rotation keys", &program.keys.galois.len().to_string()]);
    if let Some(compilation) = &compiled.compilation {
        let report = &compilation.report;
        let latency = format!(
            "{} ms on one core",
            units::significant(report.latency_us / 1e3)
        );
        table.row(["predicted time", &latency]);
        if report.examples_per_query > 1 {
            let images = report.examples_per_query;
            let each = units::significant(report.latency_us / 1e3 / images as f64);
            table.row(["images a query", &format!("{images}, {each} ms each")]);
        }
        table.row(["evaluator memory", &units::bytes(report.evaluator_bytes)]);
        table.row(["evaluation keys", &units::bytes(report.key_bytes_seeded)]);
        table.row(["keys in memory", &units::bytes(report.key_bytes)]);
        table.row(["query", &units::bytes(report.query_bytes)]);
        table.row(["reply", &units::bytes(report.reply_bytes)]);
        table.row([
            "predicted score error",
            &format!("{:.1e}", report.output_error),
        ]);
        if let Some(share) = report.agreement {
            let kept = format!("{:.2} % of the calibration images", 100.0 * share);
            table.row(["answers as in clear", &kept]);
        }
    }
    table.render(context.style)
}

/// The prediction as JSON.
pub(crate) fn to_json(compiled: &Compiled) -> Value {
    let program = compiled.model.program();
    let parameters = compiled.model.context().parameters();
    let mut data = json!({
        "model": program.name, "digest": inspect::hex(&compiled.model.digest()),
        "scheme": program.parameters.scheme.name(),
        "degree": parameters.n(), "log_qp": parameters.log_qp(),
        "log_qp_bound": parameters.log_qp_bound(), "security": program.parameters.security_bits,
        "rotation_keys": program.keys.galois.len(), "steps": program.steps.len(),
        "flooding": program.flood().map(|flood| flood.flooding.to_string()),
    });
    if let Some(compilation) = &compiled.compilation {
        let report = &compilation.report;
        data["predicted"] = json!({
            "milliseconds": report.latency_us / 1e3, "images": report.examples_per_query,
            "evaluator_bytes": report.evaluator_bytes,
            "key_bytes": report.key_bytes, "key_bytes_seeded": report.key_bytes_seeded,
            "query_bytes": report.query_bytes, "reply_bytes": report.reply_bytes,
            "score_error": report.output_error, "agreement": report.agreement,
        });
    }
    data
}
