//! `scuro inspect FILE`: what is it? Needs no key.

use std::path::{Path, PathBuf};

use scuro_client::{Bundle, BundleKind};
use scuro_fhe::codec::{self, Kind};
use scuro_nn::graph::Graph;
use scuro_program::{Packing, Program, Ring};
use serde_json::{Value, json};

use crate::context::Context;
use crate::errors::{At, Failure};
use crate::output::Reply;
use crate::table::Table;
use crate::{files, inputs, units};

/// Arguments of `scuro inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Network, compiled model, key, query or reply.
    file: PathBuf,
    /// Architecture file of a .safetensors model.
    #[arg(long, value_name = "FILE")]
    architecture: Option<PathBuf>,
    /// Every step of a compiled model.
    #[arg(long)]
    steps: bool,
}

/// Explains the file.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let file = &arguments.file;
    let bytes = files::read(file)?;
    let size = bytes.len() as u64;
    let mut reply = if bytes.starts_with(&scuro_program::MAGIC) {
        program(
            context,
            &Program::from_bytes(&bytes).at(file.display())?,
            arguments.steps,
        )
    } else if bytes.starts_with(&scuro_client::MAGIC) {
        bundle(context, &Bundle::from_bytes(&bytes).at(file.display())?)
    } else if bytes.starts_with(&codec::MAGIC) || bytes.starts_with(&codec::SECRET_MAGIC) {
        object(context, file, &bytes)?
    } else {
        network(
            context,
            &inputs::load_network(file, arguments.architecture.as_deref())?,
        )?
    };
    reply.data["file"] = json!(file);
    reply.data["bytes"] = json!(size);
    reply.human = format!(
        "{} · {}\n\n{}",
        file.display(),
        units::bytes(size),
        reply.human
    );
    Ok(reply)
}

/// A table of facts, as text and as JSON.
fn facts(context: &Context, kind: &str, facts: &[(&str, String)]) -> Reply {
    let mut table = Table::new(&[]);
    table.row(["kind", kind]);
    let mut data = json!({ "kind": kind });
    for (name, value) in facts {
        table.row([*name, value]);
        data[name.replace([' ', '-'], "_")] = json!(value);
    }
    Reply::new(data, table.render(context.style))
}

fn object(context: &Context, file: &Path, bytes: &[u8]) -> Result<Reply, Failure> {
    let found = codec::describe(bytes)
        .map_err(scuro_fhe::Error::from)
        .at(file.display())?;
    let advice = match found.kind {
        Kind::SecretKey => "SECRET: decrypts everything under these keys; never send it",
        Kind::EvaluationKeys => "public: lets the evaluator rotate and relinearise, not decrypt",
        Kind::PublicKey => "public: lets anyone encrypt",
        Kind::Parameters => "public: ring, primes and security level",
        _ => "encrypted: readable only with the secret key",
    };
    let rows = [
        ("format version", found.version.to_string()),
        ("parameters", found.parameters.to_string()),
        ("content bytes", found.content_bytes.to_string()),
        ("meaning", advice.to_string()),
    ];
    Ok(facts(context, &found.kind.to_string(), &rows))
}

fn bundle(context: &Context, bundle: &Bundle) -> Reply {
    let ciphertext = bundle.ciphertexts.first();
    let parameters = ciphertext.and_then(|bytes| codec::describe(bytes).ok());
    let rows = [
        ("images", bundle.images.to_string()),
        ("ciphertexts", bundle.ciphertexts.len().to_string()),
        ("ciphertexts per evaluation", bundle.group.to_string()),
        (
            "form",
            parameters.map_or("unreadable".into(), |found| found.kind.to_string()),
        ),
        ("program", hex(&bundle.program)),
        (
            "parameters",
            parameters.map_or("–".into(), |found| found.parameters.to_string()),
        ),
    ];
    let kind = match bundle.kind {
        BundleKind::Query => "query: encrypted images for an evaluator",
        BundleKind::Reply => "reply: encrypted scores for the key holder",
        BundleKind::Weights => "weights of a private model, encrypted, for an evaluator",
    };
    facts(context, kind, &rows)
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn program(context: &Context, program: &Program, with_steps: bool) -> Reply {
    let plan = &program.parameters;
    let ring = match plan.ring {
        Ring::ConjugateInvariant => "conjugate-invariant (N real slots)",
        Ring::Standard => "power-of-two cyclotomic (N/2 slots)",
    };
    let packing = match program.packing {
        Packing::SingleImage => "few ciphertexts a query",
        Packing::Batch => "a batch, one image a slot",
    };
    let mut rows = vec![
        ("name", program.name.clone()),
        ("digest", hex(&program.digest())),
        ("network digest", hex(&program.model_digest)),
        ("packing", packing.to_string()),
        ("images a query", program.input.examples.to_string()),
        ("input", format!("{:?}", program.input.shape)),
        ("output", format!("{:?}", program.output.shape)),
        (
            "allowed input range",
            format!("{} to {}", program.input.minimum, program.input.maximum),
        ),
        ("query ciphertexts", program.input.ciphertexts().to_string()),
        ("scheme", scheme(program)),
        ("ring", format!("{ring}, N = {}", 1u64 << plan.log_n)),
        (
            "primes",
            format!("{:?} + special {:?} bits", plan.q_bits, plan.p_bits),
        ),
        ("log2 QP", format!("at most {}", plan.log_qp())),
        ("security", format!("{} bits", plan.security_bits)),
        ("rotation keys", program.keys.galois.len().to_string()),
        ("steps", program.steps.len().to_string()),
    ];
    rows.push(("decryptor", decryptor(program)));
    let estimate: f64 = program.steps.iter().map(|step| step.estimate.micros).sum();
    rows.push((
        "predicted time",
        format!("{} ms", units::significant(estimate / 1e3)),
    ));
    let notes: Vec<(String, String)> = program.notes.clone();
    let mut reply = facts(context, "compiled model", &rows);
    reply.data["notes"] = notes
        .iter()
        .map(|(k, v)| json!({ "key": k, "value": v }))
        .collect();
    let list: Vec<Value> = program.steps.iter().map(step_row).collect();
    reply.data["step_list"] = json!(list);
    if with_steps {
        reply
            .human
            .push_str(&format!("\n{}", step_table(context, program)));
    }
    reply
}

/// What a program computes with.
pub(crate) fn scheme(program: &Program) -> String {
    let scheme = program.parameters.scheme;
    match scheme.plain_bits() {
        Some(bits) => format!("{}, integers modulo a prime of {bits} bits", scheme.name()),
        None => format!("{}, approximate numbers", scheme.name()),
    }
}

/// Who may decrypt the replies of a program.
pub(crate) fn decryptor(program: &Program) -> String {
    match program.flood() {
        Some(flood) => format!("anybody: replies are flooded, {}", flood.flooding),
        None => "model owner".to_owned(),
    }
}

fn step_row(step: &scuro_program::Step) -> Value {
    json!({
        "layer": step.layer, "operation": step.operation.name(), "level": step.estimate.level,
        "scale_log2": step.estimate.scale_log2, "max_abs": step.estimate.max_abs,
        "error": step.estimate.error, "micros": step.estimate.micros,
    })
}

/// The steps of a program with their predictions.
pub(crate) fn step_table(context: &Context, program: &Program) -> String {
    let mut table = Table::new(&[
        "layer",
        "operation",
        "primes",
        "log2 scale",
        "largest",
        "error",
        "ms",
    ]);
    for step in &program.steps {
        let estimate = &step.estimate;
        table.row([
            step.layer.clone(),
            step.operation.name().to_string(),
            (estimate.level + 1).to_string(),
            format!("{:.1}", estimate.scale_log2),
            units::significant(estimate.max_abs),
            format!("{:.1e}", estimate.error),
            units::significant(estimate.micros / 1e3),
        ]);
    }
    table.render(context.style)
}

/// A network: its layers.
pub(crate) fn network(context: &Context, graph: &Graph) -> Result<Reply, Failure> {
    let (rows, totals) = (graph.summary()?, graph.totals()?);
    let mut table = Table::new(&["layer", "operator", "result", "weights", "products"]);
    let mut list = Vec::new();
    for row in &rows {
        let shape = format!("{:?}", row.shape);
        table.row([
            row.name.clone(),
            row.op.clone(),
            shape,
            row.parameters.to_string(),
            row.macs.to_string(),
        ]);
        list.push(json!({
            "name": row.name, "operator": row.op, "shape": row.shape,
            "parameters": row.parameters, "macs": row.macs,
        }));
    }
    let friendly = scuro_compiler::friendliness(graph);
    let data = json!({
        "kind": "network", "name": graph.name, "layers": list, "parameters": totals.parameters,
        "macs": totals.macs, "friendliness": friendly.to_string(),
        "preprocessing": graph.preprocess.as_ref().map(inputs::to_json),
    });
    let flags = graph.preprocess.as_ref().and_then(inputs::flags);
    let noted = flags.map_or(String::new(), |flags| format!(" · inputs {flags}"));
    let human = format!(
        "network {} · {} weights · {} products an image{noted}\n\n{}\n{friendly}\n",
        graph.name,
        totals.parameters,
        totals.macs,
        table.render(context.style)
    );
    Ok(Reply::new(data, human).with_rows(list))
}
