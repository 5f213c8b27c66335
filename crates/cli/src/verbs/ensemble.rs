//! `scuro ensemble ...`: networks of several holders, and what their predictions become together.

mod contract;
pub(crate) mod evaluate;
pub(crate) mod query;
pub(crate) mod train;

use crate::context::Context;
use crate::errors::Failure;
use crate::output::Reply;

/// Arguments of `scuro ensemble`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Train a network for each holder on its own part of the data, and fit the rules.
    Train(Box<train::TrainArguments>),
    /// Write what all programs of an ensemble have in common: for other holders, and for users.
    Contract(contract::ContractArguments),
    /// Score every network and every rule, split by split.
    Evaluate(Box<evaluate::EvaluateArguments>),
    /// Have a picture predicted, encrypted from end to end.
    Query(query::Arguments),
}

/// Runs the action.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    match arguments.action {
        Action::Train(train) => train::run(&train, context),
        Action::Contract(contract) => contract::run(&contract, context),
        Action::Evaluate(evaluate) => evaluate::run(&evaluate, context),
        Action::Query(arguments) => query::run(arguments, context),
    }
}
