//! `scuro completion bash > ...`

use crate::context::Context;
use crate::errors::Failure;
use crate::output::Reply;

/// Arguments of `scuro completion`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: Arguments, _context: &Context) -> Result<Reply, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut crate::app::command(),
        "scuro",
        &mut script,
    );
    let script = String::from_utf8(script)
        .map_err(|_| Failure::internal("the completion script is not UTF-8"))?;
    Ok(Reply::new(serde_json::json!({ "script": script }), script))
}
