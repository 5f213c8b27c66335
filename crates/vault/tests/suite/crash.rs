//! A server in a process of its own that is killed, or that runs out of disk: what it acknowledged
//! is there, and nothing is there twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use scuro_vault::Vault;
use scuro_vault::decryption::OpenModels;
use scuro_vault::registry::ModelState;
use scuro_vault::service::{ServeOptions, serve};
use scuro_wire::https::Client;
use scuro_wire::inference::{InferenceBatch, InferenceBatchReply, Outcome};
use scuro_wire::limits::RESULTS_PER_PAGE;
use scuro_wire::results::InferenceResult;
use scuro_wire::tls::{Identity, VAULT_NAME};
use scuro_wire::{Digest, QueryId, paths};

use crate::common::{Desk, OURS, inference, key_source, queries, today};
use crate::service::deployed;

/// Names the vault that the child serves.
const FOLDER: &str = "SCURO_TEST_VAULT";
/// Kills of the crash test.
const KILLS: usize = 5;
/// Queries of the crash test; ids are one byte.
const QUERIES: u8 = 250;
/// Queries in one request.
const BATCH: usize = 10;

/// Not a test of its own: the process that the tests below start and kill.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_process_serves_the_vault_that_it_is_told() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let vault = Vault::open(folder, &key_source(folder)).expect("opens");
    let options = ServeOptions {
        listen: "127.0.0.1:0".parse().expect("address"),
        metrics: None,
        results_file: Some(folder.join("results.jsonl")),
        mqtt: None,
        labels_only: false,
    };
    let started = |listening: scuro_vault::service::Listening| {
        let path = folder.join("address");
        std::fs::write(folder.join("address.new"), listening.https.to_string()).expect("written");
        std::fs::rename(folder.join("address.new"), path).expect("renamed");
    };
    let served = serve(Arc::new(vault), options, started, std::future::pending());
    served.await.expect("serves");
}

/// Names the vault in which the child stores one version after the other.
const STORE: &str = "SCURO_TEST_STORE";

/// Not a test of its own either.
#[test]
fn a_child_process_stores_versions_until_it_is_killed() {
    let Some(folder) = std::env::var_os(STORE) else {
        return;
    };
    let folder = Path::new(&folder);
    let vault = Vault::open(folder, &key_source(folder)).expect("opens");
    loop {
        OURS.store(&vault, today()).expect("stored");
    }
}

#[test]
fn a_registry_is_whole_whenever_the_process_that_writes_it_is_killed() {
    let mut desk = Desk::new(today());
    let folder = desk.folder.path().to_path_buf();
    for round in 0..KILLS as u64 {
        let before = desk.vault.models().expect("list").len();
        let executable = std::env::current_exe().expect("this test");
        let mut child = Command::new(executable)
            .args([
                "--exact",
                "crash::a_child_process_stores_versions_until_it_is_killed",
            ])
            .env(STORE, &folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("a child");
        while desk.vault.models().expect("list").len() == before {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(3 * round));
        child.kill().expect("killed");
        child.wait().expect("gone");
        desk.vault = Arc::new(Vault::open(&folder, &key_source(&folder)).expect("opens"));
        check_registry(&desk.vault);
    }
}

/// Versions without a gap, one of them active, each of which still decrypts.
fn check_registry(vault: &Vault) {
    let models = vault.models().expect("list");
    let versions: Vec<u32> = models.iter().rev().map(|m| m.manifest.version).collect();
    assert_eq!(versions, (1..=models.len() as u32).collect::<Vec<_>>());
    let active = models
        .iter()
        .filter(|m| m.state == ModelState::Active)
        .count();
    assert_eq!((active, models[0].state), (1, ModelState::Active));
    for record in &models {
        let open = OpenModels::default().open(vault, record).expect("opens");
        let reply = open.read(&OURS.reply(50), 0).expect("a reply");
        assert!(open.decrypt(&reply).expect("decrypts").is_some());
    }
}

/// The child; killed when it is dropped.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Starts it, with a limit on the size of its files in blocks of 512 bytes.
    async fn start(folder: &Path, file_blocks: Option<u64>) -> Self {
        let _ = std::fs::remove_file(folder.join("address"));
        let executable = std::env::current_exe().expect("this test");
        let limit = file_blocks.map_or("unlimited".to_string(), |blocks| blocks.to_string());
        let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
        let process = Command::new("sh")
            .args(["-c", script, "sh", &limit])
            .arg(executable)
            .args([
                "--exact",
                "crash::a_child_process_serves_the_vault_that_it_is_told",
            ])
            .env(FOLDER, folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("a child");
        let mut server = Self {
            process,
            address: String::new(),
        };
        for _ in 0..600 {
            if let Ok(address) = std::fs::read_to_string(folder.join("address")) {
                server.address = address;
                return server;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the child does not serve");
    }

    fn client(&self, identity: &Identity) -> Client {
        let tls = identity.client_config().expect("client");
        Client::new(&self.address, VAULT_NAME, tls)
    }

    fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A vault with a deployed model, and the device's certificate.
async fn site() -> (Desk, Digest, Identity) {
    let desk = Desk::new(today());
    let record = OURS.store(&desk.vault, today()).expect("stored");
    let (cam, _device) = deployed(&desk, today()).await;
    (desk, record.deployment, cam)
}

async fn post(client: &mut Client, path: &str, body: Vec<u8>) -> Option<(StatusCode, Vec<u8>)> {
    let sent = client.send(Method::POST, path, &[], body).await.ok()?;
    Some((sent.status, sent.body.to_vec()))
}

/// Sends a batch; gives the receipts, or nothing if the connection broke.
async fn send(client: &mut Client, deployment: Digest, numbers: &[u8]) -> Option<Receipts> {
    let one = |n: &u8| inference(deployment, *n, OURS.reply((*n).into()));
    let batch = InferenceBatch {
        inferences: numbers.iter().map(one).collect(),
    };
    let (status, body) = post(client, paths::INFERENCES, batch.to_bytes()).await?;
    if status != StatusCode::OK {
        return Some(Err(status));
    }
    let reply: InferenceBatchReply = serde_json::from_slice(&body).expect("a reply");
    let done = |outcome| matches!(outcome, Outcome::Accepted | Outcome::Duplicate);
    assert!(reply.acks.iter().all(|ack| done(ack.outcome)));
    let receipt =
        |ack: scuro_wire::inference::InferenceAck| (ack.query_id, ack.receipt.expect("a receipt"));
    Some(Ok(reply.acks.into_iter().map(receipt).collect()))
}

type Receipts = Result<Vec<(QueryId, u64)>, StatusCode>;

/// Every receipt is for exactly one result on disk, and the file has the same results.
fn check_books(folder: &Path, receipts: &BTreeMap<QueryId, u64>) {
    let vault = Vault::open(folder, &key_source(folder)).expect("opens");
    let results = vault.results(0, RESULTS_PER_PAGE).expect("page").results;
    let on_disk: BTreeMap<QueryId, u64> = results.iter().map(|r| (r.query_id, r.seq)).collect();
    assert_eq!(on_disk.len(), results.len(), "a query is answered once");
    for (query, receipt) in receipts {
        assert_eq!(on_disk.get(query), Some(receipt));
    }
    let text = std::fs::read_to_string(folder.join("results.jsonl")).expect("file");
    let parse = |line| serde_json::from_str::<InferenceResult>(line).expect("a whole line");
    let lines: Vec<u64> = text.lines().map(|line| parse(line).seq).collect();
    let expected: Vec<u64> = (1..=lines.len() as u64).collect();
    assert_eq!(lines, expected, "every result once, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_or_doubled_by_killing_the_server() {
    let (desk, deployment, cam) = site().await;
    let folder = desk.folder.path();
    let numbers: Vec<u8> = (1..=QUERIES).collect();
    let mut receipts = BTreeMap::new();
    let mut server = Server::start(folder, None).await;
    let mut client = server.client(&cam);
    let registration = serde_json::to_vec(&queries(deployment, &numbers)).expect("JSON");
    let registered = post(&mut client, paths::QUERIES, registration).await;
    assert_eq!(registered.map(|(status, _)| status), Some(StatusCode::OK));
    let batches: Vec<&[u8]> = numbers.chunks(BATCH).collect();
    let between = batches.len() / KILLS;
    for (place, batch) in batches.iter().enumerate() {
        if place % between == between / 2 {
            // The kill comes while the batch is on its way, at another moment each time.
            let sending = send(&mut client, deployment, batch);
            let pause = Duration::from_millis(2 + 7 * (place / between) as u64);
            let (answer, ()) = tokio::join!(sending, async {
                tokio::time::sleep(pause).await;
                server.kill();
            });
            receipts.extend(answer.and_then(Result::ok).unwrap_or_default());
            server = Server::start(folder, None).await;
            client = server.client(&cam);
        }
        let answer = send(&mut client, deployment, batch).await;
        receipts.extend(answer.expect("connected").expect("taken"));
    }
    assert_eq!(receipts.len(), usize::from(QUERIES));
    let whole = || {
        let text = std::fs::read_to_string(folder.join("results.jsonl")).unwrap_or_default();
        text.lines().count() == usize::from(QUERIES)
    };
    for _ in 0..200 {
        if whole() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(server);
    check_books(folder, &receipts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_answered_with_507_and_nothing_acknowledged_is_lost() {
    let (desk, deployment, cam) = site().await;
    let folder = desk.folder.path();
    let numbers: Vec<u8> = (1..=QUERIES).collect();
    let mut server = Server::start(folder, None).await;
    let mut client = server.client(&cam);
    let registration = serde_json::to_vec(&queries(deployment, &numbers)).expect("JSON");
    post(&mut client, paths::QUERIES, registration)
        .await
        .expect("answered");
    server.kill();
    // Room for some results more than the larger of database and log.
    let size = |name| std::fs::metadata(folder.join(name)).map_or(0, |found| found.len());
    let room = size("vault.db").max(size("vault.db-wal")) + (64 << 10);
    let mut server = Server::start(folder, Some(room / 512)).await;
    let mut client = server.client(&cam);
    let mut receipts = BTreeMap::new();
    let mut refused = 0;
    for batch in numbers.chunks(BATCH) {
        match send(&mut client, deployment, batch)
            .await
            .expect("the server lives on")
        {
            Ok(taken) => receipts.extend(taken),
            Err(status) => {
                assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
                refused += 1;
            }
        }
    }
    assert!(
        refused > 0 && !receipts.is_empty(),
        "{refused} batches refused"
    );
    server.kill();
    let server = Server::start(folder, None).await;
    let mut client = server.client(&cam);
    for batch in numbers.chunks(BATCH) {
        let taken = send(&mut client, deployment, batch)
            .await
            .expect("connected");
        for (query, receipt) in taken.expect("taken") {
            assert_eq!(*receipts.entry(query).or_insert(receipt), receipt);
        }
    }
    assert_eq!(receipts.len(), usize::from(QUERIES));
    drop(server);
    check_books(folder, &receipts);
}
