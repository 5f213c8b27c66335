//! The spool at its bounds: a disk that is full, or refuses, holds up nothing that makes room, and
//! nothing is told that is not so.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use scuro_server::Error;
use scuro_server::edge::frame::Content;
use scuro_server::edge::service::Edge;
use scuro_server::edge::spool::{Accepted, FILE, Limits, Reader, Spool};
use scuro_wire::inference::Inference;

use crate::crash::{frame, inference};
use crate::support::vault::Vault;
use crate::support::{World, eventually, first, json, post, run};

/// Longest that one change may take, whatever the disk says.
const PATIENCE: Duration = Duration::from_secs(20);

fn small(file_bytes: u64) -> Limits {
    Limits {
        file_bytes,
        ..Limits::default()
    }
}

async fn accept(spool: &Spool, number: usize) -> Result<Accepted, Error> {
    let accepted = tokio::time::timeout(PATIENCE, spool.accept(frame(number))).await;
    accepted.expect("an answer, also if there is no room")
}

/// Finishes a frame as a worker does, from a thread.
fn complete(spool: &Spool, frame: &Accepted, reply_bytes: usize) {
    let (spool, seq) = (spool.clone(), frame.seq);
    let finished = Inference {
        reply: vec![7; reply_bytes],
        ..inference(frame.query_id)
    };
    let worker = std::thread::spawn(move || spool.complete(seq, 1, finished));
    worker.join().expect("handed over");
}

/// Settles what waits; how many that were.
async fn settle(spool: &Spool) -> usize {
    let waiting = spool.reader().inferences(1 << 20, usize::MAX);
    let sent: Vec<u64> = waiting.expect("read").iter().map(|one| one.seq).collect();
    let count = sent.len();
    let settled = tokio::time::timeout(PATIENCE, spool.settle(sent, Vec::new())).await;
    settled.expect("an answer").expect("settled");
    count
}

#[test]
fn inferences_that_find_no_room_do_not_hold_up_what_makes_room() {
    run(async {
        let folder = tempfile::tempdir().expect("temporary folder");
        let spool = Spool::open(folder.path(), small(8 << 20)).expect("opened");
        let mut accepted = Vec::new();
        for number in 0..44 {
            accepted.push(accept(&spool, number).await.expect("accepted"));
        }
        // More than the file takes, and more than one transaction does.
        for frame in &accepted {
            complete(&spool, frame, 1 << 20);
        }
        eventually("the first", || spool.depth().inferences > 4).await;
        let full = accept(&spool, 44).await.expect_err("no room");
        assert_eq!(full.code(), "file.disk-full", "{full}");
        let mut sent = 0;
        while sent < accepted.len() {
            sent += settle(&spool).await;
            let depth = spool.reader().depth().expect("read");
            assert_eq!(sent as u64 + depth.frames + depth.inferences, 44);
        }
        assert_eq!(spool.depth(), Default::default());
    });
}

#[test]
fn frames_that_fill_the_file_leave_room_for_the_inferences_that_they_become() {
    run(async {
        let folder = tempfile::tempdir().expect("temporary folder");
        let spool = Spool::open(folder.path(), small(4 << 20)).expect("opened");
        let mut accepted = Vec::new();
        let full = loop {
            match accept(&spool, accepted.len()).await {
                Ok(frame) => accepted.push(frame),
                Err(error) => break error,
            }
        };
        assert_eq!(full.code(), "file.disk-full", "{full}");
        assert!(accepted.len() > 100, "{} frames", accepted.len());
        for frame in &accepted {
            complete(&spool, frame, 300_000);
            eventually("its inference", || spool.depth().inferences == 1).await;
            assert_eq!(settle(&spool).await, 1);
        }
        assert_eq!(spool.depth(), Default::default());
    });
}

#[test]
fn the_queue_has_a_bound_in_frames_and_one_in_bytes() {
    run(async {
        let record = Content::Pixels(vec![7; 20_000]).to_record().len() as u64;
        let in_frames = Limits {
            frames: 3,
            ..Limits::default()
        };
        let in_bytes = Limits {
            frame_bytes: 4 * record - 1,
            ..Limits::default()
        };
        for limits in [in_frames, in_bytes] {
            let folder = tempfile::tempdir().expect("temporary folder");
            let spool = Spool::open(folder.path(), limits).expect("opened");
            for number in 0..3 {
                accept(&spool, number).await.expect("accepted");
            }
            let full = accept(&spool, 3).await.expect_err("full");
            assert_eq!(full.code(), "queue.full", "{full}");
            let known = accept(&spool, 2).await.expect("taken before");
            assert!(known.again);
            complete(&spool, &known, 1000);
            eventually("its inference", || spool.depth().inferences == 1).await;
            accept(&spool, 3).await.expect("there is room again");
        }
    });
}

/// The spool's file of a world's device, opened by somebody else.
fn database(world: &World) -> Connection {
    let file = world.folder.path().join("device").join(FILE);
    let database = Connection::open(file).expect("opened");
    database.busy_timeout(PATIENCE).expect("set");
    database
}

fn change(database: &Connection, sql: &str) {
    database.execute_batch(sql).expect("SQL");
}

async fn vault_of(world: &World) -> Vault {
    let anywhere = "127.0.0.1:0".parse().expect("address");
    Vault::start(anywhere, &world.vendor(), Arc::clone(&world.vault)).await
}

async fn accept_by_post(edge: &Edge, names: std::ops::Range<usize>) {
    let address = edge.addresses().http.expect("HTTP");
    for number in names {
        let frame = json(&format!("f{number}"), number % 10);
        let posted = post(address, &[], frame.as_bytes()).await;
        let (status, text) = posted.expect("post");
        assert_eq!(status, 202, "{text}");
    }
}

fn shows(edge: &Edge, text: &str) -> bool {
    edge.metrics().render().contains(text)
}

#[test]
fn what_the_vault_has_is_counted_once_though_the_spool_cannot_note_it_at_first() {
    run(async {
        let world = World::new();
        let vault = vault_of(&world).await;
        let mut options = world.options();
        options.vault = Some(vault.address.to_string());
        let edge = Edge::start(options).await.expect("started");
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        let database = database(&world);
        let refuses = "CREATE TRIGGER refuses BEFORE DELETE ON inferences
            BEGIN SELECT RAISE(ABORT, 'refused'); END";
        change(&database, refuses);
        accept_by_post(&edge, 0..3).await;
        eventually("tries", || world.vault.again() >= 4).await;
        assert!(shows(&edge, "scuro_edge_uplink_up 1"), "the vault is there");
        change(&database, "DROP TRIGGER refuses");
        eventually("an empty spool", || {
            edge.spool().depth() == Default::default()
        })
        .await;
        eventually("three", || shows(&edge, "scuro_edge_sent_total 3\n")).await;
        assert_eq!(world.vault.count(), 3);
        edge.stop().await;
    });
}

/// Leaves frames on the disk of a device that has a model and does not run.
async fn leave_frames(world: &World, count: usize) {
    let mut options = world.options();
    // As if the vault were so far behind that nothing is processed.
    options.limits.inference_bytes = 0;
    let edge = Edge::start(options).await.expect("started");
    first()
        .deploy(&mut world.deployer(edge.addresses().device))
        .await;
    accept_by_post(&edge, 0..count).await;
    edge.stop().await;
}

#[test]
fn processing_rests_while_finished_inferences_cannot_be_written() {
    run(async {
        let world = World::new();
        leave_frames(&world, 6).await;
        let database = database(&world);
        let refuses = "CREATE TRIGGER refuses BEFORE INSERT ON inferences
            BEGIN SELECT RAISE(ABORT, 'refused'); END";
        change(&database, refuses);
        let edge = Edge::start(world.options()).await.expect("started again");
        let rests =
            |value| format!("scuro_edge_processing_rests{{reason=\"unwritten\"}} {value}\n");
        eventually("a rest", || shows(&edge, &rests(1))).await;
        change(&database, "DROP TRIGGER refuses");
        eventually("all inferences", || edge.spool().depth().inferences == 6).await;
        eventually("no rest", || shows(&edge, &rests(0))).await;
        accept_by_post(&edge, 6..7).await;
        eventually("one more", || edge.spool().depth().inferences == 7).await;
        edge.stop().await;
    });
}

/// Inferences made, by the device's word.
fn made(edge: &Edge) -> u64 {
    let metrics = edge.metrics().render();
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix("scuro_edge_inferences_total "));
    value.map_or(0, |value| value.parse().expect("a number"))
}

#[test]
fn what_workers_have_finished_is_on_disk_when_the_device_has_stopped() {
    run(async {
        let world = World::new();
        leave_frames(&world, 6).await;
        let database = database(&world);
        change(&database, "BEGIN IMMEDIATE");
        let edge = Edge::start(world.options()).await.expect("started again");
        eventually("one that is not on disk", || made(&edge) > 0).await;
        let finished = made(&edge);
        let stopping = tokio::spawn(edge.stop());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!stopping.is_finished(), "it waits for the disk");
        change(&database, "ROLLBACK");
        stopping.await.expect("stopped");
        let reader = Reader::open(&world.folder.path().join("device")).expect("opened");
        assert!(reader.depth().expect("read").inferences >= finished);
    });
}
