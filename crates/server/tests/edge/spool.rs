//! The spool at its bounds: a disk that is full, or refuses, holds up nothing that makes room, and
//! nothing is told that is not so.

use std::time::Duration;

use rusqlite::Connection;
use scuro_server::Error;
use scuro_server::edge::frame::Content;
use scuro_server::edge::spool::{Accepted, FILE, Limits, Reader, Spool};
use scuro_wire::inference::Inference;

use crate::crash::{frame, inference};
use crate::support::site::{Site, processes_nothing};
use crate::support::{PATIENCE, World, eventually, first, run};

fn small(file_bytes: u64) -> Limits {
    Limits {
        file_bytes,
        ..Limits::default()
    }
}

/// A new spool, and the folder that it is in.
fn opened(limits: Limits) -> (tempfile::TempDir, Spool) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let spool = Spool::open(folder.path(), limits).expect("opened");
    (folder, spool)
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
        let (_folder, spool) = opened(small(8 << 20));
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
        let (_folder, spool) = opened(small(4 << 20));
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
            let (_folder, spool) = opened(limits);
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

#[test]
fn what_the_vault_has_is_counted_once_though_the_spool_cannot_note_it_at_first() {
    run(async {
        let site = Site::new(|_| {}).await;
        let database = database(&site.world);
        site.world.vault.takes_inferences(false);
        site.accept(0..3).await;
        site.holds_inferences(3).await;
        let refuses = "CREATE TRIGGER refuses BEFORE DELETE ON inferences
            BEGIN SELECT RAISE(ABORT, 'refused'); END";
        change(&database, refuses);
        site.world.vault.takes_inferences(true);
        eventually("tries", || site.world.vault.again() >= 4).await;
        // The vault is there again; it is the spool that fails.
        site.comes_to_show("scuro_edge_uplink_up 1").await;
        change(&database, "DROP TRIGGER refuses");
        site.is_answered(3).await;
        site.comes_to_show("scuro_edge_sent_total 3\n").await;
        site.stop().await;
    });
}

/// A device that does not run, with a model and six frames on its disk.
async fn left_with_frames() -> World {
    let site = Site::alone(World::new(), processes_nothing).await;
    site.deploy(first()).await;
    site.accept(0..6).await;
    site.stop().await
}

#[test]
fn processing_rests_while_finished_inferences_cannot_be_written() {
    run(async {
        let world = left_with_frames().await;
        let database = database(&world);
        let refuses = "CREATE TRIGGER refuses BEFORE INSERT ON inferences
            BEGIN SELECT RAISE(ABORT, 'refused'); END";
        change(&database, refuses);
        let site = Site::alone(world, |_| {}).await;
        eventually("a rest", || site.rests("unwritten")).await;
        change(&database, "DROP TRIGGER refuses");
        site.holds_inferences(6).await;
        eventually("no rest", || !site.rests("unwritten")).await;
        site.accept(6..7).await;
        site.holds_inferences(7).await;
        site.stop().await;
    });
}

/// Inferences made, by the device's word.
fn made(site: &Site) -> u64 {
    let metrics = site.edge.metrics().render();
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix("scuro_edge_inferences_total "));
    value.map_or(0, |value| value.parse().expect("a number"))
}

#[test]
fn what_workers_have_finished_is_on_disk_when_the_device_has_stopped() {
    run(async {
        let world = left_with_frames().await;
        let database = database(&world);
        change(&database, "BEGIN IMMEDIATE");
        let site = Site::alone(world, |_| {}).await;
        eventually("one that is not on disk", || made(&site) > 0).await;
        let finished = made(&site);
        let stopping = tokio::spawn(site.stop());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!stopping.is_finished(), "it waits for the disk");
        change(&database, "ROLLBACK");
        let world = stopping.await.expect("stopped");
        let reader = Reader::open(&world.folder.path().join("device")).expect("opened");
        assert!(reader.depth().expect("read").inferences >= finished);
    });
}
