//! `scuro vault ...`: the backend of protected models.

mod manage;
mod open;
mod people;
mod serve;

use std::path::PathBuf;

use scuro_wire::{ModelReference, Name};

use crate::context::Context;
use crate::errors::Failure;
use crate::output::Reply;
use crate::verbs::protect;

pub(crate) use open::{KeyArguments, open};

/// Arguments of `scuro vault`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// Which vault, and what opens it.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// Folder of the vault.
    #[arg(long, default_value = "vault", value_name = "DIR", env = "SCURO_VAULT")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) key: KeyArguments,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a vault: key, database, certificate authority.
    Init {
        /// Folder of the vault.
        #[arg(default_value = "vault", env = "SCURO_VAULT")]
        dir: PathBuf,
        #[command(flatten)]
        key: KeyArguments,
    },
    /// Run the vault: take encrypted inferences of devices, decrypt, publish.
    Serve(serve::ServeArguments),
    /// Issue a certificate to a device, or to a user of the results.
    Enroll(people::EnrollArguments),
    /// Take a device's or user's certificate back, at once.
    Revoke {
        /// Its name.
        name: Name,
        #[command(flatten)]
        place: Place,
    },
    /// List devices and users, and what is deployed where.
    Devices {
        #[command(flatten)]
        place: Place,
    },
    /// Store a compiled model with its keys as the next version of a name.
    Add(manage::AddArguments),
    /// Protect a model again under new keys, as the next version of a name that is there.
    Rotate(Box<protect::RotateArguments>),
    /// List protected models.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Show the manifest of a protected model.
    Show {
        /// Model.
        #[arg(value_name = "NAME[:VERSION]")]
        model: ModelReference,
        #[command(flatten)]
        place: Place,
    },
    /// Take a version, or all versions of a name, out of use for good.
    Retire {
        /// Model.
        #[arg(value_name = "NAME[:VERSION]")]
        model: ModelReference,
        #[command(flatten)]
        place: Place,
    },
    /// Put every secret under a new vault key or passphrase.
    Rekey(manage::RekeyArguments),
    /// Print decrypted results.
    Results(manage::ResultsArguments),
}

/// Runs the action.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    match arguments.action {
        Action::Init { dir, key } => manage::init(&dir, &key, context),
        Action::Serve(serve) => serve::run(serve, context),
        Action::Enroll(enroll) => people::enroll(&enroll, context),
        Action::Revoke { name, place } => people::revoke(&name, &place),
        Action::Devices { place } => people::devices(&place, context),
        Action::Add(add) => manage::add(&add),
        Action::Rotate(rotate) => protect::rotate(*rotate, context),
        Action::List { place } => manage::list(&place, context),
        Action::Show { model, place } => manage::show(&model, &place, context),
        Action::Retire { model, place } => manage::retire(&model, &place),
        Action::Rekey(rekey) => manage::rekey(&rekey),
        Action::Results(results) => manage::results(&results, context),
    }
}
