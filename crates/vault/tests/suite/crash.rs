//! A server in a process of its own that is killed, or that runs out of disk: what it acknowledged
//! is there, and nothing is there twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use scuro_testkit::process::Victim;
use scuro_vault::Vault;
use scuro_vault::decryption::OpenModels;
use scuro_vault::registry::ModelState;
use scuro_vault::service::{ServeOptions, serve};
use scuro_wire::https::Client;
use scuro_wire::inference::{InferenceAck, InferenceBatchReply, Outcome};
use scuro_wire::tls::{Identity, VAULT_NAME};
use scuro_wire::{Digest, QueryId, paths};

use crate::common::device::Device;
use crate::common::{Desk, OURS, answers, eventually, key_source, queries, today};
use crate::service::{lines, options};

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
        metrics: None,
        ..options(folder)
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
        vault.store(&OURS.as_new(), today()).expect("stored");
    }
}

#[tokio::test]
async fn a_registry_is_whole_whenever_the_process_that_writes_it_is_killed() {
    let mut desk = Desk::new();
    for round in 0..KILLS as u64 {
        let count = || desk.vault.models().expect("list").len();
        let before = count();
        let child = "crash::a_child_process_stores_versions_until_it_is_killed";
        let mut child = Victim::start(
            Command::new(std::env::current_exe().expect("this test"))
                .args(["--exact", child])
                .env(STORE, desk.folder.path())
                .stdout(Stdio::null()),
        );
        eventually("a version is stored", async || count() > before).await;
        // Later in the next one each time.
        tokio::time::sleep(Duration::from_millis(3 * round)).await;
        child.kill();
        desk.reopen();
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

/// A child that serves.
struct Server {
    process: Victim,
    address: String,
}

impl Server {
    /// Starts it, with a limit on the size of its files in blocks of 512 bytes.
    async fn start(folder: &Path, file_blocks: Option<u64>) -> Self {
        let told = folder.join("address");
        let _ = std::fs::remove_file(&told);
        let executable = std::env::current_exe().expect("this test");
        let limit = file_blocks.map_or("unlimited".to_string(), |blocks| blocks.to_string());
        let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
        let process = Victim::start(
            Command::new("sh")
                .args(["-c", script, "sh", &limit])
                .arg(executable)
                .args([
                    "--exact",
                    "crash::a_child_process_serves_the_vault_that_it_is_told",
                ])
                .env(FOLDER, folder)
                .stdout(Stdio::null()),
        );
        eventually("the child serves", async || told.exists()).await;
        let address = std::fs::read_to_string(&told).expect("an address");
        Self { process, address }
    }

    fn client(&self, identity: &Identity) -> Client {
        let tls = identity.client_config().expect("client");
        Client::new(&self.address, VAULT_NAME, tls)
    }
}

/// A vault with a deployed model, and its device.
async fn site() -> (Desk, Digest, Device) {
    let desk = Desk::new();
    let record = desk.store(&OURS);
    let cam = desk.device().await;
    desk.deploy("digits").await;
    (desk, record.deployment, cam)
}

async fn post(client: &mut Client, path: &str, body: Vec<u8>) -> Option<(StatusCode, Vec<u8>)> {
    let sent = client.send(Method::POST, path, &[], body).await.ok()?;
    Some((sent.status, sent.body.to_vec()))
}

/// Registers all queries.
async fn register(client: &mut Client, deployment: Digest) {
    let batch = queries(deployment, 1..=QUERIES);
    let body = serde_json::to_vec(&batch).expect("JSON");
    let registered = post(client, paths::QUERIES, body).await;
    assert_eq!(registered.expect("answered").0, StatusCode::OK);
}

/// Sends a batch; gives the receipts, or nothing if the connection broke.
async fn send(client: &mut Client, deployment: Digest, numbers: &[u8]) -> Option<Receipts> {
    let batch = answers(deployment, numbers.iter().copied());
    let (status, body) = post(client, paths::INFERENCES, batch.to_bytes()).await?;
    if status != StatusCode::OK {
        return Some(Err(status));
    }
    let reply: InferenceBatchReply = serde_json::from_slice(&body).expect("a reply");
    let done = |outcome| matches!(outcome, Outcome::Accepted | Outcome::Duplicate);
    assert!(reply.acks.iter().all(|ack| done(ack.outcome)));
    let receipt = |ack: InferenceAck| (ack.query_id, ack.receipt.expect("a receipt"));
    Some(Ok(reply.acks.into_iter().map(receipt).collect()))
}

type Receipts = Result<Vec<(QueryId, u64)>, StatusCode>;

/// Every query has one result on disk, the one of its receipt, and the file comes to have them too.
async fn check_books(desk: &mut Desk, server: Server, receipts: &BTreeMap<QueryId, u64>) {
    assert_eq!(receipts.len(), usize::from(QUERIES));
    let file = desk.folder.path().join("results.jsonl");
    let has_all = async || {
        // The last line may be under way.
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.ends_with('\n') && text.lines().count() >= receipts.len()
    };
    eventually("a file with all results", has_all).await;
    drop(server);
    desk.reopen();
    let results = desk.results();
    let on_disk: BTreeMap<QueryId, u64> = results.iter().map(|r| (r.query_id, r.seq)).collect();
    assert_eq!(on_disk.len(), results.len(), "a query is answered once");
    assert_eq!(&on_disk, receipts);
    let published: Vec<u64> = lines(&file).iter().map(|result| result.seq).collect();
    let expected: Vec<u64> = (1..=QUERIES.into()).collect();
    assert_eq!(published, expected, "every result once, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_or_doubled_by_killing_the_server() {
    let (mut desk, deployment, cam) = site().await;
    let folder = desk.folder.path();
    let numbers: Vec<u8> = (1..=QUERIES).collect();
    let mut receipts = BTreeMap::new();
    let mut server = Server::start(folder, None).await;
    let mut client = server.client(&cam.identity);
    register(&mut client, deployment).await;
    let batches: Vec<&[u8]> = numbers.chunks(BATCH).collect();
    let between = batches.len() / KILLS;
    for (place, batch) in batches.iter().enumerate() {
        if place % between == between / 2 {
            // The kill comes while the batch is on its way, at another moment each time.
            let sending = send(&mut client, deployment, batch);
            let pause = Duration::from_millis(2 + 7 * (place / between) as u64);
            let (answer, ()) = tokio::join!(sending, async {
                tokio::time::sleep(pause).await;
                server.process.kill();
            });
            receipts.extend(answer.and_then(Result::ok).unwrap_or_default());
            server = Server::start(folder, None).await;
            client = server.client(&cam.identity);
        }
        let answer = send(&mut client, deployment, batch).await;
        for (query, receipt) in answer.expect("connected").expect("taken") {
            assert_eq!(*receipts.entry(query).or_insert(receipt), receipt);
        }
    }
    check_books(&mut desk, server, &receipts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_answered_with_507_and_nothing_acknowledged_is_lost() {
    let (mut desk, deployment, cam) = site().await;
    let folder = desk.folder.path();
    let numbers: Vec<u8> = (1..=QUERIES).collect();
    let mut server = Server::start(folder, None).await;
    register(&mut server.client(&cam.identity), deployment).await;
    server.process.kill();
    // Room for some results more than the larger of database and log.
    let size = |name| std::fs::metadata(folder.join(name)).map_or(0, |found| found.len());
    let room = size("vault.db").max(size("vault.db-wal")) + (64 << 10);
    let mut server = Server::start(folder, Some(room / 512)).await;
    let mut client = server.client(&cam.identity);
    let mut receipts = BTreeMap::new();
    let mut refused = 0;
    for batch in numbers.chunks(BATCH) {
        let sent = send(&mut client, deployment, batch).await;
        match sent.expect("the server lives on") {
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
    server.process.kill();
    let server = Server::start(folder, None).await;
    let mut client = server.client(&cam.identity);
    for batch in numbers.chunks(BATCH) {
        let sent = send(&mut client, deployment, batch).await;
        for (query, receipt) in sent.expect("connected").expect("taken") {
            assert_eq!(*receipts.entry(query).or_insert(receipt), receipt);
        }
    }
    check_books(&mut desk, server, &receipts).await;
}
