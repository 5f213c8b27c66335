//! `scuro ensemble contract m.scuro -o contract.scuro`: what the other holders compile for, and
//! what users and coordinators may hold holders to.

use std::path::PathBuf;

use scuro_client::Model;
use serde_json::json;

use crate::context::Context;
use crate::errors::{At, Failure};
use crate::output::Reply;
use crate::table::Table;
use crate::{compiled, files, membership, units};

/// Arguments of `scuro ensemble contract`.
#[derive(Debug, clap::Args)]
pub(crate) struct ContractArguments {
    /// A program of the ensemble, made with `scuro compile --ensemble` or `--contract`.
    model: PathBuf,
    /// The contract: no weights, no layers.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

/// Writes the face of a program.
pub(crate) fn run(arguments: &ContractArguments, context: &Context) -> Result<Reply, Failure> {
    files::check_writable(&arguments.out)?;
    let program = compiled::open_model(&arguments.model)?.model;
    let face = membership::face(&program).at(arguments.model.display())?;
    let bytes = face.to_bytes();
    let model = Model::new(face)?;
    files::write(&arguments.out, &bytes)?;
    Ok(reply(arguments, &model, bytes.len() as u64, context))
}

fn reply(arguments: &ContractArguments, model: &Model, bytes: u64, context: &Context) -> Reply {
    let program = model.program();
    let digest: String = model
        .digest()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let classes = program.classes();
    let flooding = program.flood().map(|flood| flood.flooding.to_string());
    let mut table = Table::new(&[]);
    table.row(["ensemble", digest.as_str()]);
    table.row([
        "ring degree",
        &format!("N = {}", 1u64 << program.parameters.log_n),
    ]);
    table.row(["classes", &classes.join(", ")]);
    table.row(["rotation keys", &program.keys.galois.len().to_string()]);
    table.row(["replies", flooding.as_deref().unwrap_or("not flooded")]);
    let human = format!(
        "{}\nwrote {} ({}): for `scuro compile --contract`, and for users\n",
        table.render(context.style),
        arguments.out.display(),
        units::bytes(bytes),
    );
    let data = json!({
        "contract": arguments.out, "bytes": bytes, "digest": digest, "classes": classes,
        "rotation_keys": program.keys.galois.len(), "flooding": flooding,
    });
    Reply::new(data, human)
}
