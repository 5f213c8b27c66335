//! `scuro holder serve`: one network of an ensemble, computed on ciphertexts; `scuro holder
//! identity`: who a holder that masks its predictions is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use scuro_server::Error;
use scuro_server::ensemble::holder::{self, Masks, Options};
use scuro_wire::Name;
use scuro_wire::mask::HolderKey;
use scuro_wire::roster::Roster;
use scuro_wire::tls::Identity;
use serde_json::json;

use crate::context::Context;
use crate::errors::{At, Failure};
use crate::output::Reply;
use crate::{files, logging, secrets, services};

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
    /// Print the line of the roster for a holder that masks its predictions; its identity key is
    /// made if it is not there.
    Identity(Identify),
}

#[derive(Debug, clap::Args)]
struct Identify {
    /// The identity key, mode 0600.
    #[arg(short, long, value_name = "FILE", default_value = "mask.key")]
    out: PathBuf,
    /// Name of the holder in the roster.
    #[arg(long)]
    name: Name,
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
    /// Release predictions only masked, in a sum with others of this roster.
    #[arg(long, value_name = "FILE", requires = "mask_key")]
    roster: Option<PathBuf>,
    /// Identity key of this holder in the roster, from `scuro holder identity`.
    #[arg(long, value_name = "FILE", requires = "roster")]
    mask_key: Option<PathBuf>,
    /// Fewest holders in whose sum the prediction is released [default: all of the roster].
    #[arg(long, value_name = "N", requires = "roster")]
    min_holders: Option<usize>,
    /// Queries that are computed at the same time; they share the threads.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
}

/// Runs the action.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let serve = match arguments.action {
        Action::Serve(serve) => serve,
        Action::Identity(identify) => return identify_holder(&identify),
    };
    let options = options(serve, context)?;
    logging::start(context);
    let tell = |address| context.note(format!("holder listens on {address}; stop with Ctrl-C"));
    let served = holder::serve(options, tell, services::told_to_stop());
    services::runtime()?.block_on(served)?;
    Ok(Reply::new(json!({ "stopped": true }), ""))
}

/// The line of the roster, for whoever puts it together.
fn identify_holder(identify: &Identify) -> Result<Reply, Failure> {
    let bytes = secrets::key_file(&identify.out, HolderKey::generate)?;
    let key = HolderKey::from_bytes(&bytes).at(identify.out.display())?;
    let (name, id) = (&identify.name, key.id());
    let entry = format!("[[holder]]\nname = \"{name}\"\nkey = \"{id}\"\n");
    Ok(Reply::new(json!({ "name": name, "key": id }), entry))
}

/// The roster and the identity in it, if the holder masks.
fn masks(serve: &Serve) -> Result<Option<Masks>, Failure> {
    let Some((roster, key)) = serve.roster.as_deref().zip(serve.mask_key.as_deref()) else {
        return Ok(None);
    };
    let bytes = files::read_secret(key)?;
    scuro_wire::tls::check_mode(key)?;
    let identity = HolderKey::from_bytes(&bytes).at(key.display())?;
    Ok(Some(Masks {
        roster: read_roster(roster)?,
        key: identity,
        min_holders: serve.min_holders,
    }))
}

/// The roster in a file.
pub(crate) fn read_roster(path: &Path) -> Result<Roster, Failure> {
    Roster::from_toml(&files::read(path)?).at(path.display())
}

fn options(serve: Serve, context: &Context) -> Result<Options, Failure> {
    let workers = serve.workers.max(1);
    let masks = masks(&serve)?;
    Ok(Options {
        name: serve.name,
        program: files::read(&serve.model)?,
        weights: serve.weights.as_deref().map(files::read).transpose()?,
        listen: serve.listen,
        identity: identity(serve.identity.as_deref())?,
        masks,
        workers,
        threads: (context.thread_count() / workers).max(1),
    })
}

/// The certificates in a folder, if one is given.
pub(crate) fn identity(folder: Option<&Path>) -> Result<Option<Identity>, Failure> {
    let identity = folder.map(Identity::load).transpose();
    Ok(identity.map_err(Error::from)?)
}
