//! `scuro holder serve`: one network of an ensemble, computed on ciphertexts.

use std::net::SocketAddr;
use std::path::PathBuf;

use scuro_server::Error;
use scuro_server::ensemble::holder::{self, Options};
use scuro_wire::Name;
use scuro_wire::tls::Identity;
use serde_json::json;

use crate::context::Context;
use crate::errors::Failure;
use crate::output::Reply;
use crate::{files, logging, services};

/// Arguments of `scuro holder`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Answer encrypted queries with encrypted predictions.
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Compiled model.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Its encrypted weights (`weights.ct` of `scuro protect`), if they are not in the model.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Where the coordinator connects; anything but loopback needs --identity.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7001")]
    listen: SocketAddr,
    /// Certificates of this holder, from `scuro vault enroll`; mutual TLS from then on.
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
    /// Name of this holder in its answers.
    #[arg(long, default_value = "holder")]
    name: Name,
    /// Queries that are computed at the same time; they share the threads.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
}

/// Runs the action.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let Action::Serve(serve) = arguments.action;
    let options = options(serve, context)?;
    logging::start(context);
    let tell = |address| context.note(format!("holder listens on {address}; stop with Ctrl-C"));
    let served = holder::serve(options, tell, services::told_to_stop());
    services::runtime()?.block_on(served)?;
    Ok(Reply::new(json!({ "stopped": true }), ""))
}

fn options(serve: Serve, context: &Context) -> Result<Options, Failure> {
    let workers = serve.workers.max(1);
    Ok(Options {
        name: serve.name,
        program: files::read(&serve.model)?,
        weights: serve.weights.as_deref().map(files::read).transpose()?,
        listen: serve.listen,
        identity: identity(serve.identity.as_deref())?,
        workers,
        threads: (context.thread_count() / workers).max(1),
    })
}

/// The certificates in a folder, if one is given.
pub(crate) fn identity(folder: Option<&std::path::Path>) -> Result<Option<Identity>, Failure> {
    let identity = folder.map(Identity::load).transpose();
    Ok(identity.map_err(Error::from)?)
}
