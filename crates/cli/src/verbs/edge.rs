//! `scuro edge serve | status | frames`: the device that a vendor does not trust.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use scuro_server::Error;
use scuro_server::edge::intake::Form;
use scuro_server::edge::service::{self, Addresses, Options};
use scuro_server::edge::sources::StreamFormat;
use scuro_server::edge::spool::{Limits, Reader, Taken};
use scuro_server::edge::{deployments, spool};
use scuro_wire::deployment::{DeploymentState, DeploymentStatus};
use scuro_wire::mqtt::Topic;
use scuro_wire::tls::Identity;
use serde_json::{Value, json};

use crate::brokers::BrokerArguments;
use crate::context::Context;
use crate::errors::Failure;
use crate::output::Reply;
use crate::table::Table;
use crate::{files, logging, units};

/// Port on which the vault finds a device.
const LISTEN: &str = "0.0.0.0:8471";
/// What `scuro vault enroll` writes beside the certificates: the device's name and the vault.
const DEVICE_FILE: &str = "device.json";
const MIB: u64 = 1 << 20;

/// Arguments of `scuro edge`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Run the device: take frames, compute on ciphertexts, send encrypted inferences.
    Serve(Box<Serve>),
    /// What the device holds: versions, frames and inferences that wait.
    Status {
        /// The device's folder.
        folder: PathBuf,
    },
    /// The newest frames that are not done, and those that were given up, with the reason.
    Frames {
        /// The device's folder.
        folder: PathBuf,
        /// All frames that are remembered, those that were answered too, with the query that the
        /// vault's result names.
        #[arg(long)]
        taken: bool,
        /// Number of frames.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// The device's folder; made if it is not there.
    folder: PathBuf,
    /// Certificates of this device, from `scuro vault enroll`.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// The vault [default: the one that the bundle names]; without any, inferences only gather.
    #[arg(long, value_name = "https://HOST:PORT")]
    vault: Option<String>,
    /// Where the vault finds this device.
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN)]
    listen: SocketAddr,
    /// Take the files of a folder; may be given several times.
    #[arg(long, value_name = "DIR")]
    watch: Vec<PathBuf>,
    /// Take frames from standard input.
    #[arg(long, value_enum, value_name = "FORMAT")]
    stdin: Option<Stream>,
    /// Take frames by HTTP POST, unencrypted: for cameras on this machine or its own network.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Take the messages of a topic; may be given several times. A user's password comes from
    /// --mqtt-password-file or $SCURO_MQTT_PASSWORD.
    #[arg(long, value_name = "mqtt[s]://[USER@]HOST[:PORT]/TOPIC")]
    mqtt: Vec<String>,
    /// What the messages of all these topics are; raw ones should say so, as one that looks like a
    /// picture or like JSON by chance is refused otherwise.
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        default_value = "any",
        requires = "mqtt"
    )]
    mqtt_frames: Frames,
    #[command(flatten)]
    brokers: BrokerArguments,
    /// Frames that may wait to be processed.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().frames)]
    queue: u64,
    /// Disk space for what waits, MiB.
    #[arg(long, value_name = "MIB", default_value_t = Limits::default().file_bytes / MIB)]
    disk: u64,
}

/// Frames in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stream {
    /// One JSON object a line.
    Jsonl,
    /// One byte a pixel, frame after frame.
    Raw,
}

/// Form of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Frames {
    /// What each looks like.
    Any,
    /// JSON objects.
    Json,
    /// One byte a pixel.
    Raw,
    /// PNG or JPEG.
    Picture,
}

impl From<Frames> for Form {
    fn from(frames: Frames) -> Self {
        match frames {
            Frames::Any => Self::Unknown,
            Frames::Json => Self::Json,
            Frames::Raw => Self::Raw,
            Frames::Picture => Self::Picture,
        }
    }
}

/// Runs the action.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    match arguments.action {
        Action::Serve(serve) => serve_until_stopped(*serve, context),
        Action::Status { folder } => status(context, &folder),
        Action::Frames {
            folder,
            taken: true,
            limit,
        } => taken(context, &folder, limit),
        Action::Frames { folder, limit, .. } => frames(context, &folder, limit),
    }
}

fn serve_until_stopped(serve: Serve, context: &Context) -> Result<Reply, Failure> {
    logging::start(context);
    let folder = serve.folder.clone();
    let options = options(serve, context)?;
    let tell = |addresses: Addresses| {
        context.note(format!("device server on {}", addresses.device));
        if let Some(http) = addresses.http {
            context.note(format!("frames by POST on http://{http}/v1/frames"));
        }
    };
    service::run(options, tell)?;
    status(context, &folder)
}

fn options(serve: Serve, context: &Context) -> Result<Options, Failure> {
    let mqtt = topics(&serve)?;
    let vault = match serve.vault {
        Some(url) => Some(url),
        None => named_vault(&serve.bundle)?,
    };
    let vault = vault.as_deref().map(vault_address).transpose()?;
    let disk = serve.disk.saturating_mul(MIB);
    Ok(Options {
        folder: serve.folder,
        identity: Identity::load(&serve.bundle).map_err(Error::from)?,
        vault,
        listen: serve.listen,
        http: serve.http,
        watch: serve.watch,
        stdin: serve.stdin.map(|stream| match stream {
            Stream::Jsonl => StreamFormat::JsonLines,
            Stream::Raw => StreamFormat::Raw,
        }),
        mqtt,
        mqtt_form: serve.mqtt_frames.into(),
        workers: context.threads,
        limits: Limits {
            frames: serve.queue,
            file_bytes: disk,
            // The rest is for frames, and for what is being written.
            inference_bytes: disk / 3 * 2,
            ..Limits::default()
        },
    })
}

/// The topics that frames come from.
fn topics(serve: &Serve) -> Result<Vec<Topic>, Failure> {
    let access = serve.brokers.access()?;
    let topic = |url: &String| Topic::for_subscriber(url, &access);
    Ok(serve.mqtt.iter().map(topic).collect::<Result<_, _>>()?)
}

/// The vault that the bundle names, if it does.
fn named_vault(bundle: &Path) -> Result<Option<String>, Failure> {
    let path = bundle.join(DEVICE_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = files::read(&path)?;
    let facts: Value = serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        Failure::bad_input("edge.bundle", message).hint("enroll the device again")
    })?;
    Ok(facts["vault"].as_str().map(str::to_string))
}

/// `host:port` of `https://host:port`.
fn vault_address(url: &str) -> Result<String, Failure> {
    let address = url
        .strip_prefix("https://")
        .unwrap_or(url)
        .trim_end_matches('/');
    let port = address
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(_))) && !address.contains('/') {
        return Ok(address.to_string());
    }
    Err(Failure::from(Error::Setting {
        what: "--vault",
        found: url.to_string(),
        expected: "https://HOST:PORT",
    }))
}

fn status(context: &Context, folder: &Path) -> Result<Reply, Failure> {
    check_folder(folder)?;
    let versions = deployments::list(folder)?.deployments;
    let reader = Reader::open(folder)?;
    let (depth, dead) = (reader.depth()?, reader.dead_letters()?);
    let running = service::is_running(folder)?;
    let data = json!({
        "running": running, "deployments": versions,
        "frames": depth.frames, "frame_bytes": depth.frame_bytes,
        "inferences": depth.inferences, "inference_bytes": depth.inference_bytes,
        "dead_letters": dead,
    });
    let mut table = Table::new(&[]);
    let waits = |count: u64, bytes: u64| format!("{count} ({})", units::bytes(bytes));
    table
        .row(["running", if running { "yes" } else { "no" }])
        .row(["frames to process", &waits(depth.frames, depth.frame_bytes)])
        .row([
            "inferences to send",
            &waits(depth.inferences, depth.inference_bytes),
        ])
        .row(["given up", &dead.to_string()]);
    let human = format!(
        "{}\n{}",
        version_table(context, &versions),
        table.render(context.style)
    );
    Ok(Reply::new(data, human))
}

fn version_table(context: &Context, versions: &[DeploymentStatus]) -> String {
    if versions.is_empty() {
        return "no model is deployed yet\n".to_string();
    }
    let mut table = Table::new(&["model", "version", "state", "deployment"]);
    for version in versions {
        let state = match version.state {
            DeploymentState::Active => "active",
            DeploymentState::Previous => "previous",
        };
        table.row([
            version.name.as_str(),
            &version.version.to_string(),
            state,
            &version.deployment.short(),
        ]);
    }
    table.render(context.style)
}

fn frames(context: &Context, folder: &Path, limit: usize) -> Result<Reply, Failure> {
    check_folder(folder)?;
    let rows = Reader::open(folder)?.rows(limit)?;
    let mut table = Table::new(&["frame", "id", "state", "size", "query", "reason"]);
    for row in &rows {
        table.row([
            row.seq.to_string(),
            row.id.clone(),
            row.state.to_string(),
            units::bytes(row.bytes),
            row.query_id.to_string(),
            row.reason.clone().unwrap_or_default(),
        ]);
    }
    let values: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "seq": row.seq, "id": row.id, "state": row.state, "bytes": row.bytes,
                "query_id": row.query_id, "at_ms": row.at_ms, "reason": row.reason,
            })
        })
        .collect();
    let human = match rows.is_empty() {
        true => "no frame waits and none was given up\n".to_string(),
        false => table.render(context.style),
    };
    Ok(Reply::new(json!(values), human).with_rows(values))
}

fn taken(context: &Context, folder: &Path, limit: usize) -> Result<Reply, Failure> {
    check_folder(folder)?;
    let rows = Reader::open(folder)?.taken(limit)?;
    let mut table = Table::new(&["frame", "id", "state", "query"]);
    for row in &rows {
        let (seq, query) = (row.seq.to_string(), row.query_id.to_string());
        table.row([seq.as_str(), &row.id, row.state, &query]);
    }
    let value = |row: &Taken| {
        let (id, state) = (&row.id, row.state);
        json!({ "seq": row.seq, "id": id, "state": state, "query_id": row.query_id })
    };
    let values: Vec<Value> = rows.iter().map(value).collect();
    let human = match rows.is_empty() {
        true => "no frame was taken yet\n".to_string(),
        false => table.render(context.style),
    };
    Ok(Reply::new(json!(values), human).with_rows(values))
}

fn check_folder(folder: &Path) -> Result<(), Failure> {
    if folder.join(spool::FILE).exists() {
        return Ok(());
    }
    let message = format!("{} is not the folder of a device", folder.display());
    let failure = Failure::bad_input("edge.no-device", message);
    Err(failure.hint("`scuro edge serve DIR` makes one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vault_is_an_address_with_a_port() {
        for good in ["https://vault:7444", "https://vault:7444/", "10.0.0.1:7444"] {
            assert!(vault_address(good).is_ok(), "{good}");
        }
        for bad in [
            "https://vault",
            "vault",
            "https://vault:x",
            "http://vault:1/x:2",
            "",
        ] {
            assert_eq!(vault_address(bad).expect_err(bad).code, "edge.setting");
        }
    }
}
