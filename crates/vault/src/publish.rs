//! Passes results on to backend systems: a file of JSON lines, an MQTT topic.
//!
//! Results are a log in the database; each sink has a cursor in it. The cursor moves after the sink
//! has taken a result, so a result may be published twice but never lost; `seq` tells. While a
//! broker is away its results wait in the log.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use scuro_wire::metrics::Metrics;
use scuro_wire::results::InferenceResult;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::error::VaultError;
use crate::vault::Vault;

/// Counter of published results by sink.
pub const PUBLISHED_METRIC: &str = "scuro_vault_published_total";
/// Gauge: results that a sink has not taken yet.
pub const WAITING_METRIC: &str = "scuro_vault_publish_waiting";
/// Counter of broken connections to a broker.
pub const BROKER_LOST_METRIC: &str = "scuro_vault_broker_lost_total";

/// Results handed over at a time.
const PAGE: usize = 50;
/// Longest wait before the log is read again without a nudge.
const IDLE: Duration = Duration::from_secs(2);
/// Longest wait for a broker's receipt.
const RECEIPT: Duration = Duration::from_secs(15);
/// Pause before a broker is tried again; it doubles up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// Longest line read back from a result file.
const LINE_BYTES: u64 = 1 << 20;

/// An MQTT topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Topic; the model's name is added to it.
    pub topic: String,
}

impl std::str::FromStr for Topic {
    type Err = String;

    /// `mqtt://HOST[:PORT]/TOPIC`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not mqtt://HOST[:PORT]/TOPIC");
        let rest = text.strip_prefix("mqtt://").ok_or_else(wrong)?;
        let (address, topic) = rest.split_once('/').ok_or_else(wrong)?;
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (address, 1883),
        };
        let plain = !topic.is_empty() && !topic.contains(['+', '#', '\0']);
        if host.is_empty() || !plain || topic.ends_with('/') {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_string(),
            port,
            topic: topic.to_string(),
        })
    }
}

/// What every sink needs.
#[derive(Debug, Clone)]
pub struct Source {
    /// The log.
    pub vault: Arc<Vault>,
    /// Where numbers go.
    pub metrics: Arc<Metrics>,
    /// Changes when results are added.
    pub news: watch::Receiver<u64>,
    /// Leaves the scores out: exact decrypted values can help whoever has the ciphertexts too.
    pub labels_only: bool,
}

impl Source {
    async fn page(&self, cursor: u64) -> Result<Vec<InferenceResult>, VaultError> {
        let vault = Arc::clone(&self.vault);
        let page = move || vault.results(cursor, PAGE);
        let mut results = blocking(page).await?.results;
        if self.labels_only {
            let answers = results.iter_mut().flat_map(|result| &mut result.answers);
            answers.for_each(|answer| answer.scores.clear());
        }
        Ok(results)
    }

    async fn advance(&self, sink: &'static str, seq: u64, count: usize) -> Result<(), VaultError> {
        let vault = Arc::clone(&self.vault);
        let last = blocking(move || {
            vault.set_published(sink, seq)?;
            vault.last_result()
        });
        let waiting = last.await?.saturating_sub(seq);
        let labels = [("sink", sink)];
        self.metrics.add(PUBLISHED_METRIC, &labels, count as u64);
        self.metrics.set(WAITING_METRIC, &labels, waiting as f64);
        Ok(())
    }

    /// Waits for news; false once the vault stops.
    async fn wait(&mut self) -> bool {
        match timeout(IDLE, self.news.changed()).await {
            Ok(changed) => changed.is_ok(),
            Err(_) => true,
        }
    }
}

/// Runs blocking work of ours; its panics go on here.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VaultError> + Send + 'static,
) -> Result<T, VaultError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(VaultError::Crypto {
                what: "a task of a stopping vault",
            }),
        },
    }
}

/// Name of the file sink in the database.
const FILE_SINK: &str = "file";

/// Appends every result to a file, one JSON object a line, until the vault stops.
///
/// # Errors
/// None: a full disk is logged and tried again.
pub async fn to_file(mut source: Source, path: PathBuf) {
    let mut sink: Option<(FileSink, u64)> = None;
    loop {
        let step = file_step(&source, &path, sink.take()).await;
        let idle = match step {
            Ok((open, more)) => {
                sink = Some(open);
                !more
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "results are not written");
                true
            }
        };
        if idle && !source.wait().await {
            return;
        }
    }
}

/// Writes one page; says whether there may be more.
async fn file_step(
    source: &Source,
    path: &Path,
    open: Option<(FileSink, u64)>,
) -> Result<((FileSink, u64), bool), VaultError> {
    let (sink, cursor) = match open {
        Some(open) => open,
        None => {
            let (path, vault) = (path.to_path_buf(), Arc::clone(&source.vault));
            blocking(move || {
                let (sink, last) = FileSink::open(&path)?;
                // The file is ahead of its cursor after a crash between the two.
                let cursor = vault.published(FILE_SINK)?.max(last);
                Ok((sink, cursor))
            })
            .await?
        }
    };
    let page = source.page(cursor).await?;
    let Some(last) = page.last().map(|result| result.seq) else {
        return Ok(((sink, cursor), false));
    };
    let count = page.len();
    let sink = blocking(move || sink.append(&page)).await?;
    source.advance(FILE_SINK, last, count).await?;
    Ok(((sink, last), true))
}

/// A file of JSON lines.
struct FileSink {
    file: File,
    path: PathBuf,
    /// Bytes that are whole lines.
    length: u64,
}

impl FileSink {
    /// Opens a file, cuts off a line that was not finished, and reads the last number.
    fn open(path: &Path) -> Result<(Self, u64), VaultError> {
        let fail = |error| VaultError::file("open", path, error);
        let mut options = File::options();
        let options = options.read(true).append(true).create(true).mode(0o600);
        let file = options.open(path).map_err(fail)?;
        let (length, last) = last_line(&file).map_err(fail)?;
        file.set_len(length).map_err(fail)?;
        let sink = Self {
            file,
            path: path.to_path_buf(),
            length,
        };
        Ok((sink, last))
    }

    /// Appends lines; they are on disk when this returns, or none of them is.
    fn append(mut self, page: &[InferenceResult]) -> Result<Self, VaultError> {
        let mut lines = Vec::new();
        for result in page {
            serde_json::to_writer(&mut lines, result).map_err(|error| VaultError::Database {
                message: format!("a result is not JSON: {error}"),
            })?;
            lines.push(b'\n');
        }
        let written = self
            .file
            .write_all(&lines)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            let _ = self.file.set_len(self.length);
            return Err(VaultError::file("write", &self.path, error));
        }
        self.length += lines.len() as u64;
        Ok(self)
    }
}

/// Bytes up to the last line feed, and the number in the line before it.
fn last_line(mut file: &File) -> std::io::Result<(u64, u64)> {
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(end.saturating_sub(LINE_BYTES)))?;
    let start = end.saturating_sub(LINE_BYTES);
    let mut reader = BufReader::new(file);
    let (mut place, mut whole, mut last) = (start, start, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        if count == 0 {
            return Ok((whole, last));
        }
        place += count as u64;
        if line.ends_with(b"\n") {
            whole = place;
            let parsed: Option<InferenceResult> = serde_json::from_slice(&line).ok();
            last = parsed.map_or(last, |result| result.seq);
        }
    }
}

/// Name of the MQTT sink in the database.
const MQTT_SINK: &str = "mqtt";

/// Publishes every result to a broker with quality of service 1, until the vault stops.
pub async fn to_mqtt(mut source: Source, topic: Topic) {
    let mut backoff = BACKOFF;
    loop {
        let before = source
            .metrics
            .count(PUBLISHED_METRIC, &[("sink", MQTT_SINK)]);
        let Err(error) = mqtt_session(&mut source, &topic).await else {
            return;
        };
        source.metrics.add(BROKER_LOST_METRIC, &[], 1);
        tracing::warn!(%error, "results wait for the MQTT broker");
        let after = source
            .metrics
            .count(PUBLISHED_METRIC, &[("sink", MQTT_SINK)]);
        if after > before {
            backoff = BACKOFF;
        }
        sleep(backoff).await;
        if source.news.has_changed().is_err() {
            return;
        }
        backoff = (2 * backoff).min(BACKOFF_MAX);
    }
}

/// One connection. Whatever breaks it, the next one starts at the cursor.
async fn mqtt_session(source: &mut Source, topic: &Topic) -> Result<(), VaultError> {
    let client_id = format!("scuro-vault-{}", std::process::id());
    let mut options = MqttOptions::new(client_id, topic.host.as_str(), topic.port);
    options.set_keep_alive(Duration::from_secs(15));
    let (client, mut events) = AsyncClient::new(options, PAGE + 1);
    let vault = Arc::clone(&source.vault);
    let mut cursor = blocking(move || vault.published(MQTT_SINK)).await?;
    loop {
        let page = source.page(cursor).await?;
        let Some(last) = page.last().map(|result| result.seq) else {
            if !mqtt_idle(source, topic, &mut events).await? {
                return Ok(());
            }
            continue;
        };
        for result in &page {
            publish(&client, topic, result).await?;
        }
        mqtt_receipts(topic, &mut events, page.len()).await?;
        source.advance(MQTT_SINK, last, page.len()).await?;
        cursor = last;
    }
}

async fn publish(
    client: &AsyncClient,
    topic: &Topic,
    result: &InferenceResult,
) -> Result<(), VaultError> {
    let body = serde_json::to_vec(result).map_err(|error| broken(topic, &error))?;
    let name = format!("{}/{}", topic.topic, result.model);
    let sent = client.publish(name, QoS::AtLeastOnce, false, body).await;
    sent.map_err(|error| broken(topic, &error))
}

/// Reads until the broker has taken `count` messages.
async fn mqtt_receipts(
    topic: &Topic,
    events: &mut EventLoop,
    count: usize,
) -> Result<(), VaultError> {
    let mut taken = 0;
    while taken < count {
        let event = timeout(RECEIPT, events.poll()).await;
        let event = event.map_err(|_| broken(topic, &"no receipt in time"))?;
        if let Event::Incoming(Packet::PubAck(_)) = event.map_err(|error| broken(topic, &error))? {
            taken += 1;
        }
    }
    Ok(())
}

/// Keeps the connection alive until there is news; false once the vault stops.
async fn mqtt_idle(
    source: &mut Source,
    topic: &Topic,
    events: &mut EventLoop,
) -> Result<bool, VaultError> {
    tokio::select! {
        news = source.wait() => Ok(news),
        event = events.poll() => match event {
            Ok(_) => Ok(true),
            Err(error) => Err(broken(topic, &error)),
        },
    }
}

fn broken(topic: &Topic, error: &dyn std::fmt::Display) -> VaultError {
    VaultError::Broker {
        address: format!("{}:{}", topic.host, topic.port),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scuro_wire::inference::Timings;
    use scuro_wire::{Digest, Name, QueryId};

    fn result(seq: u64) -> InferenceResult {
        InferenceResult {
            seq,
            query_id: QueryId([1; 16]),
            query_digest: Digest([2; 32]),
            deployment: Digest([3; 32]),
            model: Name::new("digits").expect("a name"),
            version: 1,
            device: Name::new("cam-7").expect("a name"),
            answers: Vec::new(),
            timings: Timings::default(),
            received_ms: 0,
            decrypt_us: 0,
        }
    }

    #[test]
    fn a_result_file_goes_on_after_its_last_whole_line() {
        let desk = tempfile::tempdir().expect("folder");
        let path = desk.path().join("results.jsonl");
        let (sink, last) = FileSink::open(&path).expect("new");
        assert_eq!(last, 0);
        drop(sink.append(&[result(1), result(2)]).expect("written"));
        let whole = std::fs::read(&path).expect("file");
        let mut torn = whole.clone();
        torn.extend_from_slice(b"{\"seq\":3,");
        std::fs::write(&path, &torn).expect("torn");
        let (sink, last) = FileSink::open(&path).expect("again");
        assert_eq!(last, 2);
        assert_eq!(std::fs::read(&path).expect("file"), whole);
        drop(sink.append(&[result(3)]).expect("written"));
        assert_eq!(FileSink::open(&path).expect("again").1, 3);
    }

    #[test]
    fn topics_are_parsed_and_wild_cards_refused() {
        let topic: Topic = "mqtt://broker:2000/scuro/results".parse().expect("a topic");
        assert_eq!((topic.port, topic.topic.as_str()), (2000, "scuro/results"));
        let plain: Topic = "mqtt://broker/a".parse().expect("a topic");
        assert_eq!(plain.port, 1883);
        for bad in [
            "broker/a",
            "mqtt://broker",
            "mqtt:///a",
            "mqtt://b/a/#",
            "mqtt://b:x/a",
        ] {
            assert!(bad.parse::<Topic>().is_err(), "{bad}");
        }
    }
}
