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

use rumqttc::{AsyncClient, Event, EventLoop, Packet, QoS};
use scuro_wire::Digest;
use scuro_wire::metrics::Metrics;
use scuro_wire::mqtt::Topic;
use scuro_wire::results::InferenceResult;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::error::VaultError;
use crate::results::keep_labels_only;
use crate::vault::Vault;

/// Counter of published results by sink.
pub const PUBLISHED_METRIC: &str = "scuro_vault_published_total";
/// Gauge: results that a sink has not taken yet.
pub const WAITING_METRIC: &str = "scuro_vault_publish_waiting";
/// Gauge: 1 while there is a connection to the broker.
pub const BROKER_UP_METRIC: &str = "scuro_vault_broker_up";
/// Counter of broken connections to a broker, and of those that never came to be.
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
/// Longest packet to a broker, which is MQTT's own limit: a result that no packet could hold would
/// be tried for ever.
const PACKET_BYTES: usize = (256 << 20) - 1;
/// Longest packet that a broker sends a publisher.
const RECEIPT_BYTES: usize = 10 << 10;
/// Longest line read back from a result file.
const LINE_BYTES: u64 = 1 << 20;

/// What every sink needs.
#[derive(Debug, Clone)]
pub struct Source {
    /// The log.
    pub vault: Arc<Vault>,
    /// Where numbers go.
    pub metrics: Arc<Metrics>,
    /// Changes when results are added.
    pub news: watch::Receiver<u64>,
    /// Leaves the scores out, and all but three decimals of the confidence: exact decrypted values
    /// can help whoever has the ciphertexts too.
    pub labels_only: bool,
}

impl Source {
    async fn page(&self, cursor: u64) -> Result<Vec<InferenceResult>, VaultError> {
        let vault = Arc::clone(&self.vault);
        let page = move || vault.results(cursor, PAGE);
        let mut results = blocking(page).await?.results;
        if self.labels_only {
            keep_labels_only(&mut results);
        }
        Ok(results)
    }

    async fn advance(&self, sink: &'static str, seq: u64, count: usize) -> Result<(), VaultError> {
        let vault = Arc::clone(&self.vault);
        blocking(move || vault.set_published(sink, seq)).await?;
        let labels = [("sink", sink)];
        self.metrics.add(PUBLISHED_METRIC, &labels, count as u64);
        self.measure(sink).await
    }

    /// Counts what waits for a sink.
    async fn measure(&self, sink: &'static str) -> Result<(), VaultError> {
        let vault = Arc::clone(&self.vault);
        let both = blocking(move || Ok((vault.last_result()?, vault.published(sink)?)));
        let (last, seq) = both.await?;
        let waiting = last.saturating_sub(seq);
        let labels = [("sink", sink)];
        self.metrics.set(WAITING_METRIC, &labels, waiting as f64);
        Ok(())
    }

    /// Counts what waits for a sink that fails; its own failure is a line in the log.
    async fn note_waiting(&self, sink: &'static str) {
        if let Err(error) = self.measure(sink).await {
            tracing::error!(%error, sink, "waiting results could not be counted");
        }
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
                source.note_waiting(FILE_SINK).await;
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
    let mut outage = Outage::default();
    let published = |source: &Source| {
        let labels = [("sink", MQTT_SINK)];
        source.metrics.count(PUBLISHED_METRIC, &labels)
    };
    loop {
        let before = published(&source);
        let Err(error) = mqtt_session(&mut source, &topic, &mut outage).await else {
            return;
        };
        outage.begin(&source, &topic, &error).await;
        if published(&source) > before {
            backoff = BACKOFF;
        }
        sleep(backoff).await;
        if source.news.has_changed().is_err() {
            return;
        }
        backoff = (2 * backoff).min(BACKOFF_MAX);
    }
}

/// Why there is no connection to the broker, for the log; the same reason is told once.
#[derive(Default)]
struct Outage {
    told: Option<String>,
}

impl Outage {
    async fn begin(&mut self, source: &Source, topic: &Topic, error: &VaultError) {
        source.metrics.add(BROKER_LOST_METRIC, &[], 1);
        source.metrics.set(BROKER_UP_METRIC, &[], 0.0);
        source.note_waiting(MQTT_SINK).await;
        let reason = Some(error.to_string());
        if self.told != reason {
            let (topic, user) = (topic.name(), topic.user());
            tracing::warn!(topic, user, %error, "results wait for the MQTT broker; trying again");
            self.told = reason;
        }
    }

    fn end(&mut self, source: &Source, topic: &Topic) {
        let (broker, topic) = (topic.broker(), topic.name());
        tracing::info!(broker, topic, "connected to the MQTT broker for results");
        source.metrics.set(BROKER_UP_METRIC, &[], 1.0);
        self.told = None;
    }
}

/// One connection. Whatever breaks it, the next one starts at the cursor.
async fn mqtt_session(
    source: &mut Source,
    topic: &Topic,
    outage: &mut Outage,
) -> Result<(), VaultError> {
    let vault = Arc::clone(&source.vault);
    let state = blocking(move || Ok((vault.published(MQTT_SINK)?, vault.authority_pem()?)));
    let (mut cursor, authority) = state.await?;
    // One vault, one name: after a crash its dead connection makes room for the new one.
    let name = format!("scuro-vault-{}", Digest::of(&authority).short());
    let mut options = topic.options(&name);
    options.set_max_packet_size(RECEIPT_BYTES, PACKET_BYTES);
    let (client, mut events) = AsyncClient::new(options, PAGE + 1);
    // The first event is the connection. It is waited for without an eye on the log: looking up
    // would start it anew. It gives up by itself.
    let connected = events.poll().await;
    connected.map_err(|error| broken(topic, &error))?;
    outage.end(source, topic);
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
    let name = format!("{}/{}", topic.name(), result.model);
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
        address: topic.broker(),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results;
    use crate::seal::KeySource;
    use scuro_testkit::mosquitto::{self, Broker, free_port};
    use scuro_wire::inference::Timings;
    use scuro_wire::mqtt::Access;
    use scuro_wire::results::Answer;
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

    /// A result longer than the 10 KiB that rumqttc sends by default would be tried for ever, and
    /// hold up all that come after it.
    #[tokio::test]
    async fn a_long_result_holds_up_no_other() {
        let Some(program) = mosquitto::program() else {
            return;
        };
        let (desk, port) = (tempfile::tempdir().expect("folder"), free_port());
        let _broker = Broker::start(&program, desk.path(), port, mosquitto::OPEN);
        let key = KeySource::File(Vault::default_key_file(desk.path()));
        let vault = Vault::init(desk.path(), &key, crate::now()).expect("a vault");
        let mut long = result(1);
        long.answers.push(Answer {
            image: 0,
            label: 0,
            label_name: None,
            confidence: 1.0,
            scores: vec![1.0 / 3.0; 4096],
        });
        let mut short = result(2);
        short.query_id = QueryId([2; 16]);
        let both = [long, short];
        let append = |db: &_| {
            both.iter()
                .try_for_each(|r| results::append(db, r).map(drop))
        };
        vault.database.write(append).expect("written");
        let (_news, subscribed) = watch::channel(0);
        let source = Source {
            vault: Arc::new(vault),
            metrics: Arc::default(),
            news: subscribed,
            labels_only: false,
        };
        let url = format!("mqtt://127.0.0.1:{port}/scuro/results");
        let topic = Topic::for_publisher(&url, &Access::default()).expect("a topic");
        let publisher = tokio::spawn(to_mqtt(source.clone(), topic));
        let published = || source.vault.published(MQTT_SINK).expect("cursor");
        for _ in 0..200 {
            if published() == 2 {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        publisher.abort();
        assert_eq!(published(), 2);
    }
}
