//! `kill -9` at any moment: what was accepted comes out, once.
//!
//! The victim is this test's own binary, started again with [`VICTIM`] set.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::vault::Vault;
use crate::support::{
    Deployer, FIRST, PATIENCE, Protected, Recipe, SECOND, World, eventually, first, json, label,
    loopback, pki, post, run, second,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_server::edge::deployments;
use scuro_server::edge::frame::{Content, FrameId};
use scuro_server::edge::service::Edge;
use scuro_server::edge::spool::{Depth, Letter, Limits, NewFrame, Reader, Row, Spool};
use scuro_testkit::process::Victim;
use scuro_wire::inference::{Inference, Timings};
use scuro_wire::tls::Identity;
use scuro_wire::{Digest, QueryId, paths};

/// What the victim does: `spool`, `full-disk` or `device`.
const VICTIM: &str = "SCURO_TEST_VICTIM";
/// Its folder.
const FOLDER: &str = "SCURO_TEST_FOLDER";
/// Frames of a device that is killed five times.
const FRAMES: usize = 360;
/// The vault's address.
const VAULT: &str = "SCURO_TEST_VAULT";

/// This test's binary, started again as a victim.
fn victim(role: &str, folder: &Path, vault: &str) -> Victim {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "crash::the_victim", "--nocapture"]);
    command.arg("--test-threads=1");
    command
        .env(VICTIM, role)
        .env(FOLDER, folder)
        .env(VAULT, vault);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Victim::start(command.stderr(Stdio::null()))
}

/// Not a test of its own: the process that the others kill.
#[test]
fn the_victim() {
    let Ok(role) = std::env::var(VICTIM) else {
        return;
    };
    let folder = std::env::var(FOLDER).expect("a folder");
    match role.as_str() {
        "spool" => spool_victim(folder.as_ref()),
        "full-disk" => full_disk_victim(folder.as_ref()),
        _ => device_victim(folder.as_ref()),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .expect("heard");
}

/// Accepts frames as fast as it can, turns them into inferences, and settles some; says what it
/// did once it is sure.
fn spool_victim(folder: &Path) {
    let spool = Spool::open(folder, Limits::default()).expect("opened");
    let start = u64::from_le_bytes(random());
    let worker = spool.clone();
    std::thread::spawn(move || {
        let mut after = 0;
        loop {
            for frame in worker.reader().frames(after, 16).expect("read") {
                after = frame.seq;
                let number: u64 = frame
                    .id
                    .as_str()
                    .rsplit('-')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                if number % 10 == 9 {
                    let letter = Letter {
                        stage: "processing",
                        code: "test".to_string(),
                        message: "every tenth".to_string(),
                    };
                    worker.give_up(frame.seq, letter);
                } else {
                    worker.complete(frame.seq, frame.captured_us, inference(frame.query_id));
                }
            }
        }
    });
    run(async {
        for number in 0.. {
            let id = format!("{start:016x}-{number}");
            let query_id = QueryId(random());
            let frame = NewFrame {
                id: FrameId::new(id.clone()).expect("id"),
                source: "test",
                query_id,
                captured_us: 1,
                record: Content::Pixels(id.clone().into_bytes()).to_record(),
            };
            let accepted = spool.accept(frame).await.expect("accepted");
            assert!(!accepted.again);
            say(&format!("accepted {id} {query_id}"));
            if number % 7 == 0 {
                let waiting = spool.reader().inferences(3, 1 << 20).expect("read");
                let sent: Vec<u64> = waiting.iter().map(|waiting| waiting.seq).collect();
                for waiting in &waiting {
                    say(&format!("settling {}", waiting.inference.query_id));
                }
                spool.settle(sent, Vec::new()).await.expect("settled");
                for waiting in &waiting {
                    say(&format!("settled {}", waiting.inference.query_id));
                }
            }
        }
    });
}

pub(crate) fn inference(query_id: QueryId) -> Inference {
    Inference {
        query_id,
        deployment: Digest([1; 32]),
        query_digest: Digest([2; 32]),
        image: query_id.0[0].into(),
        timings: Timings::default(),
        reply: [query_id.0.as_slice(), &[7; 40_000]].concat(),
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("randomness");
    bytes
}

/// What the victims said.
#[derive(Debug, Default)]
struct Words {
    /// Query and id of each frame that was acknowledged.
    accepted: BTreeMap<String, String>,
    /// Queries that were about to be settled.
    settling: BTreeSet<String>,
    /// Queries that were settled for sure.
    settled: BTreeSet<String>,
}

impl Words {
    /// Runs a victim and kills it `life` after it has accepted so many frames, or after its start
    /// if that is none; takes down what it said.
    fn of_one_more(&mut self, folder: &Path, frames: usize, life: Duration) {
        let mut victim = victim("spool", folder, "");
        let words = victim.words();
        let (sender, enough) = mpsc::channel();
        let listener = std::thread::spawn(move || {
            let (mut lines, mut accepted) = (Vec::new(), 0);
            for line in words {
                // The first one stands behind words of the test harness.
                if line.contains("accepted ") {
                    accepted += 1;
                    if accepted == frames {
                        sender.send(()).expect("waited for");
                    }
                }
                lines.push(line);
            }
            lines
        });
        if frames > 0 {
            enough.recv_timeout(PATIENCE).expect("frames in time");
        }
        std::thread::sleep(life);
        victim.kill();
        for line in listener.join().expect("read") {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["accepted", id, query] => {
                    self.accepted.insert(query.to_string(), id.to_string());
                }
                ["settling", query] => drop(self.settling.insert(query.to_string())),
                ["settled", query] => drop(self.settled.insert(query.to_string())),
                _ => {}
            }
        }
    }

    /// Every accepted frame is in the spool in one state, unless it was settled.
    fn check(&self, rows: &[Row]) {
        let mut states: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for row in rows {
            let query = row.query_id.to_string();
            states.entry(query).or_default().push(row.state);
        }
        for (query, found) in &states {
            assert_eq!(found.len(), 1, "{query} is there as {found:?}");
        }
        for (query, id) in &self.accepted {
            let there = states.contains_key(query);
            let settling = self.settling.contains(query);
            assert!(there || settling, "{id} was accepted and is lost");
        }
        for query in &self.settled {
            let there = states.contains_key(query);
            assert!(!there, "{query} was settled and is back");
        }
    }
}

#[test]
fn a_spool_killed_thirty_times_keeps_every_accepted_frame_exactly_once() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let mut words = Words::default();
    for round in 0..30 {
        // Every fifth is killed while it starts, the others at work.
        let frames = if round % 5 == 4 { 0 } else { 6 };
        let life = Duration::from_millis(u64::from(rng.next_u32() % 400));
        words.of_one_more(folder.path(), frames, life);
    }
    let accepted = words.accepted.len();
    assert!(accepted > 100, "only {accepted} frames were accepted");
    let spool = Spool::open(folder.path(), Limits::default()).expect("opened after it all");
    let rows = spool.reader().rows(usize::MAX >> 1).expect("rows");
    words.check(&rows);
    let depth = spool.depth();
    let count = |state| rows.iter().filter(|row| row.state == state).count() as u64;
    let expected = (count("accepted"), count("waiting"));
    assert_eq!((depth.frames, depth.inferences), expected);
    for frame in spool.reader().frames(0, usize::MAX >> 1).expect("frames") {
        let expected = Content::Pixels(frame.id.as_str().as_bytes().to_vec());
        assert_eq!(frame.content, Ok(expected));
    }
    let waiting = spool.reader().inferences(1 << 20, 1 << 30);
    for waiting in waiting.expect("inferences") {
        assert_eq!(waiting.inference, inference(waiting.inference.query_id));
    }
}

pub(crate) fn frame(number: usize) -> NewFrame {
    NewFrame {
        id: FrameId::new(format!("frame-{number}")).expect("id"),
        source: "test",
        query_id: QueryId(random()),
        captured_us: 1,
        record: Content::Pixels(vec![7; 20_000]).to_record(),
    }
}

/// Fills the small disk that is mounted on `folder`, makes room, and goes on.
fn full_disk_victim(folder: &Path) {
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).expect("ballast");
    let spool = Spool::open(folder, Limits::default()).expect("opened");
    let accepted = run(async {
        let mut accepted = 0;
        let full = loop {
            match spool.accept(frame(accepted)).await {
                Ok(_) => accepted += 1,
                Err(error) => break error,
            }
            assert!(accepted < 1000, "the disk never fills");
        };
        assert_eq!(full.code(), "file.disk-full", "{full}");
        std::fs::remove_file(&ballast).expect("room");
        spool
            .accept(frame(accepted))
            .await
            .expect("accepted when there is room");
        accepted + 1
    });
    drop(spool);
    let spool = Spool::open(folder, Limits::default()).expect("opened again");
    let frames = spool.reader().frames(0, 10_000).expect("frames");
    assert_eq!(frames.len(), accepted);
    assert!(frames.iter().all(|frame| frame.content.is_ok()));
    say(&format!("fine {accepted}"));
}

#[test]
fn a_disk_that_is_really_full_refuses_frames_until_there_is_room() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mount = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", mount])
        .arg(folder.path())
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", "crash::the_victim", "--nocapture"])
        .env(VICTIM, "full-disk")
        .env(FOLDER, folder.path())
        .output();
    let text = match output {
        Ok(output) => format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => format!("unshare: {error}"),
    };
    if text.contains("unshare:") || text.contains("mount:") {
        let line = format!(
            "SKIPPED: no small disk can be mounted here: {}",
            text.trim()
        );
        writeln!(std::io::stderr(), "{line}").expect("told");
        return;
    }
    assert!(text.contains("fine "), "{text}");
}

/// A whole device, until it is killed.
fn device_victim(folder: &Path) {
    run(async {
        let identity = Identity::load(&folder.join("bundle")).expect("bundle");
        let mut options = crate::support::options(&folder.join("device"), identity);
        options.vault = Some(std::env::var(VAULT).expect("a vault"));
        let edge = Edge::start(options).await.expect("started");
        let addresses = edge.addresses();
        say(&format!(
            "ready {} {}",
            addresses.device,
            addresses.http.expect("HTTP")
        ));
        std::future::pending::<()>().await;
    });
}

fn device_folder(world: &World) -> PathBuf {
    world.folder.path().join("device")
}

fn write_bundle(world: &World) {
    let bundle = world.folder.path().join("bundle");
    pki::write(&world.authority, pki::DEVICE, &bundle);
}

/// A device in a process of its own.
struct Device {
    process: Victim,
    /// For deployments.
    at: SocketAddr,
    /// For frames.
    http: SocketAddr,
}

impl Device {
    /// Starts it and waits for its word.
    fn start(world: &World, vault: &str) -> Self {
        let mut process = victim("device", world.folder.path(), vault);
        // The test harness writes its own words before.
        let mut ready = process
            .words()
            .filter_map(|line| Some(line.split_once("ready ")?.1.to_string()));
        let ready = ready.next().expect("a device that starts");
        let (at, http) = ready.split_once(' ').expect("two addresses");
        Self {
            process,
            at: at.parse().expect("address"),
            http: http.parse().expect("address"),
        }
    }
}

#[test]
fn a_device_killed_five_times_with_frames_under_way_loses_none_and_repeats_none() {
    kill_five_times(first(), FIRST);
}

#[test]
fn frames_that_share_queries_are_answered_once_though_the_device_is_killed_five_times() {
    let shared = kill_five_times(second(), SECOND);
    assert!(shared > 0, "no two frames shared a query");
}

/// How many inferences were not the first of their query.
fn kill_five_times(model: &Protected, recipe: Recipe) -> usize {
    let world = World::new();
    write_bundle(&world);
    run(async {
        let mut vault = Vault::start(loopback(), &world.vendor(), &world.vault).await;
        let address = vault.address;
        let mut device = Device::start(&world, &address.to_string());
        model.deploy(&mut world.deployer(device.at)).await;
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let mut kill_at: Vec<usize> = (0..5)
            .map(|k| 30 + 60 * k + rng.next_u32() as usize % 30)
            .collect();
        for number in 0..FRAMES {
            accept(device.http, number).await;
            if kill_at.first() == Some(&(number + 1)) {
                kill_at.remove(0);
                device.process.kill();
                if kill_at.len().is_multiple_of(2) {
                    vault.vanish().await;
                    vault = Vault::start(address, &world.vendor(), &world.vault).await;
                }
                device = Device::start(&world, &address.to_string());
                // What was accepted just before may be asked again: it is taken once.
                let text = accept(device.http, number).await;
                assert!(text.contains("\"again\":true"), "{text}");
            }
        }
        assert!(kill_at.is_empty(), "it was killed five times");
        let spool = Reader::open(&device_folder(&world)).expect("a spool");
        let left = || spool.depth().expect("read");
        eventually("an empty spool", || left() == Depth::default()).await;
        let expected: Vec<usize> = (0..FRAMES).map(|n| label(recipe, n % 10)).collect();
        let found = world.vault.labels(model);
        assert_eq!(found, expected, "each frame once, in their order");
        let inferences = world.vault.inferences();
        assert_eq!(inferences.len(), FRAMES);
        vault.vanish().await;
        inferences.iter().filter(|i| i.image > 0).count()
    })
}

/// Has a device take a frame, which may have to wait; its answer.
async fn accept(http: SocketAddr, number: usize) -> String {
    let frame = json(&format!("frame-{number}"), number % 10);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match post(http, &[], frame.as_bytes()).await {
            Ok((202, text)) => return text,
            Ok((429 | 503, _)) => tokio::time::sleep(Duration::from_millis(100)).await,
            other => panic!("no answer is expected only from a dead device: {other:?}"),
        }
    }
    panic!("frame {number} waits for ever");
}

/// Rounds in which a device is killed while it switches.
const SWITCHES: u32 = 12;

#[test]
fn a_device_killed_while_it_switches_has_the_old_version_or_the_new_one() {
    let world = World::new();
    write_bundle(&world);
    run(async {
        let mut device = Device::start(&world, "127.0.0.1:9");
        let mut deployer = world.deployer(device.at);
        second().send(&mut deployer).await;
        first().send(&mut deployer).await;
        let start = Instant::now();
        assert!(switch(deployer, first()).await);
        let whole = start.elapsed();
        let mut active = FIRST.version;
        for round in 0..=SWITCHES {
            let next = if active == FIRST.version {
                second()
            } else {
                first()
            };
            let switching = tokio::spawn(switch(world.deployer(device.at), next));
            // At another moment each time; after the last one's end.
            let acknowledged = if round < SWITCHES {
                tokio::time::sleep(whole * round / SWITCHES).await;
                device.process.kill();
                switching.await.expect("a task")
            } else {
                let done = switching.await.expect("a task");
                device.process.kill();
                assert!(done, "a device that lives switches");
                done
            };
            device = Device::start(&world, "127.0.0.1:9");
            let ready = world.deployer(device.at).get(paths::READY).await;
            assert_eq!(ready.status, 200, "a version is active after every crash");
            let list = deployments::list(&device_folder(&world)).expect("list");
            let found = list.deployments[0].version;
            assert!([active, next.manifest.version].contains(&found), "{found}");
            if acknowledged {
                assert_eq!(found, next.manifest.version, "it was acknowledged");
            }
            active = found;
        }
    });
}

/// Whether the device says that it runs this version now.
async fn switch(mut deployer: Deployer, next: &Protected) -> bool {
    let manifest = next.manifest.to_bytes();
    deployer.try_call(paths::DEPLOYMENTS, manifest).await
}
