//! `scuro import model.h5 -o model.onnx`: read, check, write as ONNX.

use std::path::PathBuf;

use serde_json::json;

use crate::compiled::Source;
use crate::context::Context;
use crate::errors::Failure;
use crate::inputs::InputArguments;
use crate::output::Reply;
use crate::verbs::inspect;
use crate::{files, units};

/// Arguments of `scuro import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Network: .onnx, .h5, .keras or .safetensors.
    model: PathBuf,
    /// Architecture file of a .safetensors model.
    #[arg(long, value_name = "FILE")]
    architecture: Option<PathBuf>,
    #[command(flatten)]
    input: InputArguments,
    /// Where to write it as ONNX; without this it is only checked.
    #[arg(long, short)]
    out: Option<PathBuf>,
}

/// Imports.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let architecture = arguments.architecture.as_deref();
    let mut graph = Source::File {
        path: &arguments.model,
        architecture,
    }
    .network()?;
    arguments.input.check_resize(graph.input_shape())?;
    if !arguments.input.is_default() {
        graph.preprocess = Some(arguments.input.preprocess(None));
    }
    let mut reply = inspect::network(context, &graph)?;
    if let Some(out) = arguments.out {
        let bytes = scuro_nn::export::onnx(&graph)?;
        files::write(&out, &bytes)?;
        let size = units::bytes(bytes.len() as u64);
        reply
            .human
            .push_str(&format!("\nwrote {} ({size})\n", out.display()));
        reply.data["written"] = json!({ "file": out, "bytes": bytes.len() });
    }
    Ok(reply)
}
