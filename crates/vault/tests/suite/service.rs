//! The API over real TLS: who may do what, limits, and publishing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use scuro_vault::VaultError;
use scuro_vault::devices::PeerRole;
use scuro_vault::service::{Listening, ServeOptions, serve};
use scuro_wire::https::{Answer, Client};
use scuro_wire::inference::{InferenceAck, InferenceBatchReply, Outcome};
use scuro_wire::mqtt::Topic;
use scuro_wire::query::{QueryAck, QueryBatchReply, Registration, WithdrawalReply};
use scuro_wire::results::{InferenceResult, ResultPage};
use scuro_wire::tls::{Identity, VAULT_NAME};
use scuro_wire::{Digest, limits, paths};
use tokio::sync::{Barrier, oneshot};
use tokio::task::JoinHandle;

use crate::common::device::Device;
use crate::common::{CAM, Desk, OURS, PATIENCE, answers, eventually, name, queries, withdrawals};

/// A vault that serves, with `digits:1` on `cam-7`.
pub(crate) struct Site {
    pub(crate) desk: Desk,
    deployment: Digest,
    cam: Device,
    alice: Identity,
    running: Running,
}

/// Its server.
struct Running {
    listening: Listening,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), scuro_vault::VaultError>>,
}

/// A vault that listens on loopback and writes a file of results.
pub(crate) fn options(folder: &Path) -> ServeOptions {
    let loopback = "127.0.0.1:0".parse().expect("address");
    ServeOptions {
        listen: loopback,
        metrics: Some(loopback),
        results_file: Some(folder.join("results.jsonl")),
        mqtt: None,
        labels_only: false,
    }
}

impl Running {
    async fn start(desk: &Desk, mqtt: Option<Topic>, labels_only: bool) -> Self {
        let options = ServeOptions {
            mqtt,
            labels_only,
            ..options(desk.folder.path())
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, listening) = oneshot::channel();
        let vault = Arc::clone(&desk.vault);
        let task = tokio::spawn(serve(
            vault,
            options,
            |listening| started.send(listening).expect("awaited"),
            async {
                let _ = stopped.await;
            },
        ));
        Self {
            listening: listening.await.expect("started"),
            stop: Some(stop),
            task,
        }
    }
}

impl Site {
    pub(crate) async fn new(mqtt: Option<Topic>) -> Self {
        Self::publishing(mqtt, false).await
    }

    async fn publishing(mqtt: Option<Topic>, labels_only: bool) -> Self {
        let desk = Desk::new();
        let deployment = desk.store(&OURS).deployment;
        let cam = desk.device().await;
        desk.deploy("digits").await;
        let alice = desk.enrol("alice", PeerRole::User, "");
        let running = Running::start(&desk, mqtt, labels_only).await;
        Self {
            desk,
            deployment,
            cam,
            alice,
            running,
        }
    }

    /// The same vault, with another topic.
    pub(crate) async fn restart(&mut self, mqtt: Option<Topic>) {
        self.stop().await;
        self.running = Running::start(&self.desk, mqtt, false).await;
    }

    fn client(&self, identity: &Identity) -> Client {
        let tls = identity.client_config().expect("client");
        Client::new(&self.running.listening.https.to_string(), VAULT_NAME, tls)
    }

    /// What the vault answers the device.
    async fn post(&self, path: &str, body: Vec<u8>) -> Answer {
        let mut client = self.client(&self.cam.identity);
        let answer = client.send(Method::POST, path, &[], body).await;
        answer.expect("answered")
    }

    pub(crate) async fn register(&self, numbers: impl IntoIterator<Item = u8>) -> Vec<QueryAck> {
        let body = serde_json::to_vec(&queries(self.deployment, numbers)).expect("JSON");
        let reply: QueryBatchReply = self
            .post(paths::QUERIES, body)
            .await
            .json()
            .expect("a reply");
        reply.acks
    }

    async fn withdraw(&self, numbers: impl IntoIterator<Item = u8>) -> u64 {
        let body = serde_json::to_vec(&withdrawals(numbers)).expect("JSON");
        let answer = self.post(paths::WITHDRAWALS, body).await;
        let reply: WithdrawalReply = answer.json().expect("a reply");
        reply.withdrawn
    }

    pub(crate) async fn send(&self, numbers: impl IntoIterator<Item = u8>) -> Vec<InferenceAck> {
        let body = answers(self.deployment, numbers).to_bytes();
        let answer = self.post(paths::INFERENCES, body).await;
        let reply: InferenceBatchReply = answer.json().expect("a reply");
        reply.acks
    }

    /// Results after a number, as the user gets them.
    async fn results(&self, after: u64) -> ResultPage {
        let path = format!("{}?after={after}", paths::RESULTS);
        self.get(&self.alice, &path).await.json().expect("page")
    }

    /// The file of results.
    fn file(&self) -> PathBuf {
        self.desk.folder.path().join("results.jsonl")
    }

    /// Waits until it has so many.
    async fn has_lines(&self, count: usize) -> Vec<InferenceResult> {
        eventually("lines", async || lines(&self.file()).len() == count).await;
        lines(&self.file())
    }

    async fn get(&self, identity: &Identity, path: &str) -> Answer {
        let answer = self.client(identity).send(Method::GET, path, &[], "").await;
        answer.expect("answered")
    }

    /// Whether the metrics have this text.
    async fn shows(&self, text: &str) -> bool {
        let answer = self.get(&self.alice, paths::METRICS).await;
        let metrics = String::from_utf8(answer.body.to_vec()).expect("text");
        metrics.contains(text)
    }

    /// Waits until they do.
    pub(crate) async fn comes_to_show(&self, text: &str) {
        eventually(text, async || self.shows(text).await).await;
    }

    pub(crate) async fn stop(&mut self) {
        self.running
            .stop
            .take()
            .expect("running")
            .send(())
            .expect("runs");
        let ended = tokio::time::timeout(PATIENCE, &mut self.running.task).await;
        ended
            .expect("in time")
            .expect("no panic")
            .expect("no error");
    }
}

pub(crate) fn lines(path: &Path) -> Vec<InferenceResult> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let parse = |line: &str| serde_json::from_str(line).expect("a result");
    text.lines().map(parse).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn inferences_come_in_and_results_go_to_users_and_the_file() {
    let mut site = Site::new(None).await;
    let acks = site.register([1, 2, 3]).await;
    let is_registered = |ack: &QueryAck| ack.status == Registration::Registered;
    assert!(acks.iter().all(is_registered));
    let acks = site.send([1, 2]).await;
    assert!(acks.iter().all(|ack| ack.outcome == Outcome::Accepted));
    let page = site.results(0).await;
    assert_eq!((page.results.len(), page.next_after), (2, 2));
    site.send([3, 1]).await;
    let page = site.results(2).await;
    assert_eq!((page.results.len(), page.results[0].seq), (1, 3));
    assert_eq!(site.has_lines(3).await, site.desk.results());
    site.register([4, 5]).await;
    assert_eq!(site.withdraw([4]).await, 1);
    let accepted = "scuro_vault_inferences_total\
        {device=\"cam-7\",outcome=\"accepted\",code=\"none\"} 3\n";
    for line in [
        "scuro_vault_open_queries{device=\"cam-7\"} 1\n",
        accepted,
        "scuro_vault_decrypt_seconds_count 3\n",
    ] {
        assert!(site.shows(line).await, "{line}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_stay_in_the_database_if_only_labels_are_published() {
    let mut site = Site::publishing(None, true).await;
    site.register([1]).await;
    site.send([1]).await;
    let (lines, page) = (site.has_lines(1).await, site.results(0).await);
    let stored = &site.desk.results()[0].answers[0];
    assert_eq!(stored.scores.len(), 3);
    for published in [&lines[0], &page.results[0]] {
        let published = &published.answers[0];
        assert!(published.scores.is_empty());
        assert_eq!(published.label, stored.label);
        let rounded = (stored.confidence * 1000.0).round() / 1000.0;
        assert_eq!(published.confidence, rounded);
        assert_ne!(published.confidence, stored.confidence);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_wait_for_a_file_that_cannot_be_written_are_counted() {
    let mut site = Site::new(None).await;
    let file = site.file();
    eventually("the file is opened", async || file.exists()).await;
    std::fs::remove_file(&file).expect("removed");
    std::fs::create_dir(&file).expect("something in the way");
    site.restart(None).await;
    site.register([1, 2]).await;
    site.send([1, 2]).await;
    site.comes_to_show("scuro_vault_publish_waiting{sink=\"file\"} 2\n")
        .await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_never_reads_results_and_a_user_never_sends_inferences() {
    let mut site = Site::new(None).await;
    site.register([1]).await;
    site.send([1]).await;
    for path in [paths::RESULTS, paths::METRICS] {
        let answer = site.get(&site.cam.identity, path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.problem().code, "peer.role");
        assert!(!String::from_utf8_lossy(&answer.body).contains("label"));
    }
    let mut alice = site.client(&site.alice);
    for path in [paths::QUERIES, paths::WITHDRAWALS, paths::INFERENCES] {
        let answer = alice
            .send(Method::POST, path, &[], "{}")
            .await
            .expect("answered");
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    let lost = site.get(&site.alice, "/v1/secrets").await;
    assert_eq!(lost.problem().code, "http.not-found");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_is_out_at_its_next_request_on_an_open_connection() {
    let mut site = Site::new(None).await;
    let mut open = site.client(&site.cam.identity);
    let body = serde_json::to_vec(&queries(site.deployment, [1])).expect("JSON");
    let before = open
        .send(Method::POST, paths::QUERIES, &[], body.clone())
        .await;
    assert_eq!(before.expect("answered").status, StatusCode::OK);
    site.desk.vault.revoke(&name(CAM)).expect("revoked");
    let after = open.send(Method::POST, paths::QUERIES, &[], body).await;
    let after = after.expect("answered");
    assert_eq!(
        (after.status, after.problem().code.as_str()),
        (StatusCode::FORBIDDEN, "peer.refused")
    );
    let refused = "scuro_vault_peers_refused_total{reason=\"revoked\"} 1\n";
    assert!(site.shows(refused).await);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_above_their_limit_and_malformed_ones_are_refused() {
    let mut site = Site::new(None).await;
    let many = (0..=limits::QUERIES_PER_BATCH).map(|number| number as u8);
    let many = serde_json::to_vec(&queries(site.deployment, many)).expect("JSON");
    let large = vec![b' '; limits::QUERY_BATCH_BYTES + 1];
    for (path, body, expected) in [
        (paths::QUERIES, large, StatusCode::PAYLOAD_TOO_LARGE),
        (paths::QUERIES, many, StatusCode::PAYLOAD_TOO_LARGE),
        (paths::QUERIES, b"{}".to_vec(), StatusCode::BAD_REQUEST),
        (
            paths::INFERENCES,
            b"SCUROINF".to_vec(),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        assert_eq!(site.post(path, body).await.status, expected);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_at_once_than_a_device_may_have_are_told_to_wait() {
    let mut site = Site::new(None).await;
    site.register(1..=100).await;
    let together = Arc::new(Barrier::new(20));
    let mut waiting = tokio::task::JoinSet::new();
    for part in 0..20 {
        let body = answers(site.deployment, 1 + 5 * part..6 + 5 * part).to_bytes();
        let mut client = site.client(&site.cam.identity);
        let together = Arc::clone(&together);
        waiting.spawn(async move {
            together.wait().await;
            let mut refusals = 0;
            loop {
                let body = body.clone();
                let sent = client
                    .send(Method::POST, paths::INFERENCES, &[], body)
                    .await;
                let answer = sent.expect("answered");
                if answer.status == StatusCode::OK {
                    return refusals;
                }
                assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
                assert_eq!(answer.retry_after(), Some(1));
                refusals += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    let refusals: Vec<usize> = waiting.join_all().await;
    assert!(refusals.iter().sum::<usize>() > 0, "nobody had to wait");
    assert_eq!(site.desk.results().len(), 100);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_needs_no_certificate_on_its_own_port() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut site = Site::new(None).await;
    let address = site.running.listening.metrics.expect("a port");
    for (path, expected) in [
        (paths::READY, "200"),
        (paths::METRICS, "200"),
        (paths::RESULTS, "404"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address)
            .await
            .expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{path}: {answer}"
        );
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_one_vault_is_refused() {
    let mut site = Site::new(None).await;
    let vault = Arc::clone(&site.desk.vault);
    let never = std::future::pending();
    let second = serve(vault, options(site.desk.folder.path()), |_| (), never).await;
    let Err(VaultError::File { action, source, .. }) = second else {
        panic!("{second:?}");
    };
    let expected = ("lock", std::io::ErrorKind::WouldBlock);
    assert_eq!((action, source.kind()), expected);
    site.stop().await;
}
