//! `scuro vault serve`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use scuro_vault::service::{self, Listening, ServeOptions};
use scuro_vault::{KeySource, Vault};
use scuro_wire::mqtt::Topic;
use serde_json::json;

use super::KeyArguments;
use crate::brokers::BrokerArguments;
use crate::context::Context;
use crate::errors::Failure;
use crate::output::Reply;
use crate::{logging, services};

/// Arguments of `scuro vault serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArguments {
    /// Folder of the vault; made if it is not there.
    #[arg(default_value = "vault", env = "SCURO_VAULT")]
    dir: PathBuf,
    #[command(flatten)]
    key: KeyArguments,
    /// Where devices and users connect, with certificates.
    #[arg(long, default_value = "127.0.0.1:8470", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Metrics and health, without certificates: keep it on loopback.
    #[arg(long, default_value = "127.0.0.1:9470", value_name = "ADDRESS")]
    metrics: SocketAddr,
    /// File of JSON lines for the results; `results.jsonl` in the folder by default.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// MQTT topic for the results; the model's name is added to it. A user's password comes from
    /// --mqtt-password-file or $SCURO_MQTT_PASSWORD.
    #[arg(long, value_name = "mqtt[s]://[USER@]HOST[:PORT]/TOPIC")]
    mqtt: Option<String>,
    #[command(flatten)]
    broker: BrokerArguments,
    /// Publish labels and rounded confidences without the scores; the vault's database keeps them.
    #[arg(long)]
    labels_only: bool,
}

/// Serves until the process is told to stop.
pub(crate) fn run(arguments: ServeArguments, context: &Context) -> Result<Reply, Failure> {
    let mqtt = topic(&arguments)?;
    let source = arguments.key.source(&arguments.dir)?;
    let vault = open_or_init(&arguments, &source, context)?;
    logging::start(context);
    let options = ServeOptions {
        listen: arguments.listen,
        metrics: Some(arguments.metrics),
        results_file: Some(match arguments.results {
            Some(path) => path,
            None => arguments.dir.join("results.jsonl"),
        }),
        mqtt,
        labels_only: arguments.labels_only,
    };
    let started = |listening: Listening| {
        context.note(format!(
            "vault listens on {}; stop with Ctrl-C",
            listening.https
        ));
    };
    let served = service::serve(Arc::new(vault), options, started, services::told_to_stop());
    services::runtime()?.block_on(served)?;
    Ok(Reply::new(json!({ "stopped": true }), ""))
}

/// The topic that results go to.
fn topic(arguments: &ServeArguments) -> Result<Option<Topic>, Failure> {
    let access = arguments.broker.access()?;
    let url = arguments.mqtt.as_deref();
    let topic = url.map(|url| Topic::for_publisher(url, &access));
    Ok(topic.transpose()?)
}

fn open_or_init(
    arguments: &ServeArguments,
    source: &KeySource,
    context: &Context,
) -> Result<Vault, Failure> {
    if Vault::exists(&arguments.dir)? {
        return Ok(Vault::open(&arguments.dir, source)?);
    }
    let vault = Vault::init(&arguments.dir, source, scuro_vault::now())?;
    let place = arguments.dir.display();
    context.note(format!(
        "made a new vault in {place}; enrol devices with `scuro vault enroll`"
    ));
    Ok(vault)
}
