//! `scuro coordinator serve`: asks the holders of an ensemble and combines their predictions.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use scuro_server::ensemble::coordinator::{self, HolderAddress, Options};
use scuro_wire::Name;
use serde_json::json;

use super::holder::{identity, read_roster};
use crate::context::Context;
use crate::errors::Failure;
use crate::output::Reply;
use crate::{files, logging, services};

/// Arguments of `scuro coordinator`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Answer encrypted queries with the combined predictions of all holders.
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// The holders, separated by commas; with --identity each with the name in its certificate.
    #[arg(
        long,
        value_name = "[NAME@]HOST:PORT",
        value_delimiter = ',',
        required = true
    )]
    holders: Vec<HolderAddress>,
    /// Where users connect; anything but loopback needs --identity.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7000")]
    listen: SocketAddr,
    /// Certificates of this coordinator, from `scuro vault enroll`; mutual TLS from then on.
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
    /// Name of this coordinator.
    #[arg(long, default_value = "coordinator")]
    name: Name,
    /// How predictions are combined where the user does not say [default: mean].
    #[arg(long)]
    rule: Option<Name>,
    /// Fitted rules; without any there is only the mean.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Only the sum of predictions can be read: the holders are those of this roster, in its order.
    #[arg(long, value_name = "FILE")]
    roster: Option<PathBuf>,
    /// Offer the majority too: users who ask for it decrypt every single prediction.
    #[arg(long)]
    reveal_votes: bool,
    /// How long holders are waited for.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    deadline: f64,
    /// Fewest holders that make an answer [default: more than half].
    #[arg(long, value_name = "N")]
    min_holders: Option<usize>,
    /// The face that holders must have [default: that of the first holder that answers].
    #[arg(long, value_name = "FACE-FILE")]
    contract: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let most = coordinator::DEADLINE_MAX.as_secs_f64();
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= most => Ok(seconds),
        _ => Err(format!("a number above 0, at most {most}")),
    }
}

/// Runs the action.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let Action::Serve(serve) = arguments.action;
    let options = options(serve, context)?;
    logging::start(context);
    let tell = |address| {
        context.note(format!(
            "coordinator listens on {address}; stop with Ctrl-C"
        ));
    };
    let served = coordinator::serve(options, tell, services::told_to_stop());
    services::runtime()?.block_on(served)?;
    Ok(Reply::new(json!({ "stopped": true }), ""))
}

fn options(serve: Serve, context: &Context) -> Result<Options, Failure> {
    Ok(Options {
        name: serve.name,
        holders: serve.holders,
        listen: serve.listen,
        identity: identity(serve.identity.as_deref())?,
        rules: serve.rules.as_deref().map(files::read).transpose()?,
        rule: serve.rule,
        roster: serve.roster.as_deref().map(read_roster).transpose()?,
        reveal_votes: serve.reveal_votes,
        deadline: Duration::from_secs_f64(serve.deadline),
        min_holders: serve.min_holders,
        contract: serve.contract.as_deref().map(files::read).transpose()?,
        threads: context.thread_count(),
    })
}
