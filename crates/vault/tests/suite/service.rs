//! The API over real TLS: who may do what, limits, and publishing.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use scuro_vault::devices::PeerRole;
use scuro_vault::service::{Listening, ServeOptions, serve};
use scuro_wire::https::{Answer, Client};
use scuro_wire::inference::{InferenceBatch, InferenceBatchReply, Outcome};
use scuro_wire::mqtt::Topic;
use scuro_wire::query::{QueryBatchReply, Registration, WithdrawalBatch, WithdrawalReply};
use scuro_wire::results::{InferenceResult, ResultPage};
use scuro_wire::tls::{Identity, VAULT_NAME};
use scuro_wire::{Digest, limits, paths};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::common::device::Device;
use crate::common::{Desk, OURS, inference, name, queries, query_id};

/// A vault that serves, with `digits:1` on `cam-7`.
pub(crate) struct Site {
    pub(crate) desk: Desk,
    deployment: Digest,
    cam: Identity,
    alice: Identity,
    running: Running,
}

/// Its server.
struct Running {
    listening: Listening,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), scuro_vault::VaultError>>,
}

impl Running {
    async fn start(desk: &Desk, mqtt: Option<Topic>, labels_only: bool) -> Self {
        let options = ServeOptions {
            listen: "127.0.0.1:0".parse().expect("address"),
            metrics: Some("127.0.0.1:0".parse().expect("address")),
            results_file: Some(desk.folder.path().join("results.jsonl")),
            mqtt,
            labels_only,
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
        let now = scuro_vault::now();
        let desk = Desk::new(now);
        let record = OURS.store(&desk.vault, now).expect("stored");
        let (cam, _device) = deployed(&desk, now).await;
        let alice = desk.enrol("alice", PeerRole::User, "", now);
        let running = Running::start(&desk, mqtt, labels_only).await;
        Self {
            deployment: record.deployment,
            desk,
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

    pub(crate) async fn register(&self, numbers: &[u8]) -> QueryBatchReply {
        let body = serde_json::to_vec(&queries(self.deployment, numbers)).expect("JSON");
        let mut client = self.client(&self.cam);
        let answer = client.send(Method::POST, paths::QUERIES, &[], body).await;
        answer.expect("answered").json().expect("a reply")
    }

    async fn withdraw(&self, numbers: &[u8]) -> WithdrawalReply {
        let queries = numbers.iter().map(|number| query_id(*number)).collect();
        let body = serde_json::to_vec(&WithdrawalBatch { queries }).expect("JSON");
        let mut client = self.client(&self.cam);
        let answer = client
            .send(Method::POST, paths::WITHDRAWALS, &[], body)
            .await;
        answer.expect("answered").json().expect("a reply")
    }

    pub(crate) async fn send(&self, numbers: &[u8]) -> InferenceBatchReply {
        let one = |n: &u8| inference(self.deployment, *n, OURS.reply((*n).into()));
        let inferences = numbers.iter().map(one).collect();
        let body = InferenceBatch { inferences }.to_bytes();
        let mut client = self.client(&self.cam);
        let answer = client
            .send(Method::POST, paths::INFERENCES, &[], body)
            .await;
        answer.expect("answered").json().expect("a reply")
    }

    async fn get(&self, identity: &Identity, path: &str) -> Answer {
        let answer = self.client(identity).send(Method::GET, path, &[], "").await;
        answer.expect("answered")
    }

    pub(crate) async fn metrics(&self) -> String {
        let answer = self.get(&self.alice, paths::METRICS).await;
        String::from_utf8(answer.body.to_vec()).expect("text")
    }

    pub(crate) async fn stop(&mut self) {
        self.running
            .stop
            .take()
            .expect("running")
            .send(())
            .expect("runs");
        let ended = tokio::time::timeout(Duration::from_secs(20), &mut self.running.task).await;
        ended
            .expect("in time")
            .expect("no panic")
            .expect("no error");
    }
}

pub(crate) async fn deployed(desk: &Desk, now: u64) -> (Identity, Device) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("port");
    let address = listener.local_addr().expect("address").to_string();
    let identity = desk.enrol("cam-7", PeerRole::Device, &address, now);
    let files = tempfile::tempdir().expect("folder");
    let device = Device::start(&identity, listener, files.path()).await;
    let model = "digits".parse().expect("a reference");
    let sent = desk
        .vault
        .deploy(&model, &name("cam-7"), None, now, |_| ())
        .await;
    sent.expect("deployed");
    (identity, device)
}

fn lines(path: &std::path::Path) -> Vec<InferenceResult> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let parse = |line: &str| serde_json::from_str(line).expect("a result");
    text.lines().map(parse).collect()
}

pub(crate) async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..300 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inferences_come_in_and_results_go_to_users_and_the_file() {
    let mut site = Site::new(None).await;
    let registered = site.register(&[1, 2, 3]).await;
    assert!(
        registered
            .acks
            .iter()
            .all(|ack| ack.status == Registration::Registered)
    );
    let acks = site.send(&[1, 2]).await.acks;
    assert!(acks.iter().all(|ack| ack.outcome == Outcome::Accepted));
    let page: ResultPage = site
        .get(&site.alice, paths::RESULTS)
        .await
        .json()
        .expect("page");
    assert_eq!((page.results.len(), page.next_after), (2, 2));
    site.send(&[3, 1]).await;
    let path = format!("{}?after=2", paths::RESULTS);
    let page: ResultPage = site.get(&site.alice, &path).await.json().expect("page");
    assert_eq!((page.results.len(), page.results[0].seq), (1, 3));
    let file = site.desk.folder.path().join("results.jsonl");
    eventually("three lines", || lines(&file).len() == 3).await;
    assert_eq!(
        lines(&file)[..2],
        site.desk.vault.results(0, 2).expect("page").results
    );
    site.register(&[4, 5]).await;
    let withdrawn = site.withdraw(&[4]).await;
    assert_eq!(withdrawn.withdrawn, 1);
    let text = site.metrics().await;
    let open = "scuro_vault_open_queries{device=\"cam-7\"} 1";
    assert!(text.contains(open), "{text}");
    let accepted = "scuro_vault_inferences_total\
        {device=\"cam-7\",outcome=\"accepted\",code=\"none\"} 3";
    assert!(text.contains(accepted), "{text}");
    assert!(
        text.contains("scuro_vault_decrypt_seconds_count 3"),
        "{text}"
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_stay_in_the_database_if_only_labels_are_published() {
    let mut site = Site::publishing(None, true).await;
    site.register(&[1]).await;
    site.send(&[1]).await;
    let file = site.desk.folder.path().join("results.jsonl");
    eventually("a line", || lines(&file).len() == 1).await;
    let answer = site.get(&site.alice, paths::RESULTS).await;
    let page: ResultPage = answer.json().expect("page");
    let stored = site.desk.vault.results(0, 1).expect("page");
    let stored = &stored.results[0].answers[0];
    assert_eq!(stored.scores.len(), 3);
    for published in [&lines(&file)[0], &page.results[0]] {
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
    let file = site.desk.folder.path().join("results.jsonl");
    eventually("the file is opened", || file.exists()).await;
    std::fs::remove_file(&file).expect("removed");
    std::fs::create_dir(&file).expect("something in the way");
    site.restart(None).await;
    site.register(&[1, 2]).await;
    site.send(&[1, 2]).await;
    let line = "scuro_vault_publish_waiting{sink=\"file\"} 2\n";
    let mut found = String::new();
    for _ in 0..300 {
        found = site.metrics().await;
        if found.contains(line) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(found.contains(line), "{found}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_never_reads_results_and_a_user_never_sends_inferences() {
    let mut site = Site::new(None).await;
    site.register(&[1]).await;
    site.send(&[1]).await;
    for path in [paths::RESULTS, paths::METRICS] {
        let answer = site.get(&site.cam, path).await;
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
    let mut open = site.client(&site.cam);
    let body = serde_json::to_vec(&queries(site.deployment, &[1])).expect("JSON");
    let before = open
        .send(Method::POST, paths::QUERIES, &[], body.clone())
        .await;
    assert_eq!(before.expect("answered").status, StatusCode::OK);
    site.desk.vault.revoke(&name("cam-7")).expect("revoked");
    let after = open.send(Method::POST, paths::QUERIES, &[], body).await;
    let after = after.expect("answered");
    assert_eq!(
        (after.status, after.problem().code.as_str()),
        (StatusCode::FORBIDDEN, "peer.refused")
    );
    let text = site.metrics().await;
    assert!(
        text.contains("scuro_vault_peers_refused_total{reason=\"revoked\"} 1"),
        "{text}"
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_above_their_limit_and_malformed_ones_are_refused() {
    let mut site = Site::new(None).await;
    let mut client = site.client(&site.cam);
    let mut post = async |path: &str, body: Vec<u8>| {
        let answer = client.send(Method::POST, path, &[], body).await;
        answer.expect("answered").status
    };
    let large = vec![b' '; limits::QUERY_BATCH_BYTES + 1];
    assert_eq!(
        post(paths::QUERIES, large).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(
        post(paths::QUERIES, b"{}".to_vec()).await,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        post(paths::INFERENCES, b"SCUROINF".to_vec()).await,
        StatusCode::BAD_REQUEST
    );
    let many: Vec<u8> = (0..limits::QUERIES_PER_BATCH + 1)
        .map(|i| i as u8)
        .collect();
    let many = serde_json::to_vec(&queries(site.deployment, &many)).expect("JSON");
    assert_eq!(
        post(paths::QUERIES, many).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_at_once_than_a_device_may_have_are_told_to_wait() {
    let mut site = Site::new(None).await;
    site.register(&(1..=100).collect::<Vec<u8>>()).await;
    let mut waiting = tokio::task::JoinSet::new();
    for part in 0..20 {
        let numbers = 1 + 5 * part..6 + 5 * part;
        let one = |n: u8| inference(site.deployment, n, OURS.reply(n.into()));
        let inferences = numbers.map(one).collect();
        let body = InferenceBatch { inferences }.to_bytes();
        let mut client = site.client(&site.cam);
        waiting.spawn(async move {
            loop {
                let sent = client
                    .send(Method::POST, paths::INFERENCES, &[], body.clone())
                    .await;
                let answer = sent.expect("answered");
                if answer.status == StatusCode::OK {
                    return false;
                }
                assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
                assert_eq!(answer.retry_after(), Some(1));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    while let Some(done) = waiting.join_next().await {
        done.expect("no panic");
    }
    let page = site.desk.vault.results(0, 1000).expect("page");
    assert_eq!(page.results.len(), 100);
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
    let options = ServeOptions {
        listen: "127.0.0.1:0".parse().expect("address"),
        metrics: None,
        results_file: None,
        mqtt: None,
        labels_only: false,
    };
    let vault = Arc::clone(&site.desk.vault);
    let second = serve(vault, options, |_| (), std::future::pending()).await;
    assert!(second.is_err());
    site.stop().await;
}
