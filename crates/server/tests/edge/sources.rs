//! What sources do with what is too much, too slow, gone or private.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::site::Site;
use crate::support::{PATIENCE, World, eventually, first, json, loopback, pixels, post, run};
use scuro_server::edge::frame::MAX_FRAME_BYTES;
use scuro_server::edge::service::Options;
use scuro_server::edge::sources::{Http, Source};
use scuro_server::edge::spool::FILE;

/// A device with a model, whose inferences stay.
async fn started(world: World, with: impl FnOnce(&mut Options)) -> Site {
    let site = Site::alone(world, with).await;
    site.deploy(first()).await;
    site
}

/// One that watches a folder.
async fn watching() -> (Site, PathBuf) {
    let world = World::new();
    let folder = world.folder.path().join("camera");
    let site = started(world, |options| options.watch = vec![folder.clone()]).await;
    (site, folder)
}

fn refused(reason: &str, source: &str, count: usize) -> String {
    format!("frames_refused_total{{reason=\"{reason}\",source=\"{source}\"}} {count}\n")
}

/// The head of a request whose body does not tell its length.
const CHUNKED: &[u8] = b"POST /v1/frames HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\
    expect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n";
/// What is sent once somebody reads the body.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Begins to post a frame; its body is waited for.
async fn slow_camera(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(CHUNKED).await.expect("a head");
    let mut go_on = [0; CONTINUE.len()];
    stream.read_exact(&mut go_on).await.expect("let in");
    assert_eq!(go_on, CONTINUE);
    stream
}

#[test]
fn a_body_larger_than_any_frame_is_refused_counted_and_told() {
    run(async {
        let site = started(World::new(), |_| {}).await;
        let large = vec![b'x'; MAX_FRAME_BYTES + 1];
        let (status, text) = site.post(&[], &large).await;
        assert!(status == 413 && text.contains("frame.malformed"), "{text}");
        assert!(site.shows(&refused("too-large", "http", 1)));
        let mut stream = slow_camera(site.http()).await;
        let chunk = format!("{:x}\r\n", large.len()).into_bytes();
        // The device may end the connection before it has all.
        let _ = stream.write_all(&[chunk, large].concat()).await;
        site.comes_to_show(&refused("too-large", "http", 2)).await;
        let largest = vec![b'x'; MAX_FRAME_BYTES];
        let (status, _) = site.post(&[], &largest).await;
        assert_eq!(status, 400, "no frame, but not too large");
        site.stop().await;
    });
}

#[test]
fn json_is_known_by_a_content_type_with_parameters_and_by_its_brace() {
    run(async {
        let site = started(World::new(), |_| {}).await;
        let typed = [("content-type", "application/json; charset=utf-8")];
        let cases: [&[(&str, &str)]; 2] = [&typed, &[]];
        for (number, headers) in cases.into_iter().enumerate() {
            let body = format!(" \r\n{}", json(&format!("f{number}"), 1));
            let (status, text) = site.post(headers, body.as_bytes()).await;
            assert_eq!(status, 202, "{text}");
        }
        site.stop().await;
    });
}

/// An HTTP source of its own, with room for one body whose length is not told, and so much time
/// for it.
async fn narrow(site: &Site, time: Duration) -> SocketAddr {
    let http = Http::bind(loopback(), axum::Router::new()).await;
    let http = http.expect("bound").bounded(MAX_FRAME_BYTES, time);
    let address = http.address().expect("address");
    tokio::spawn(Box::new(http).acquire(site.edge.intake().clone()));
    address
}

#[test]
fn bodies_beyond_the_room_come_again() {
    run(async {
        let site = started(World::new(), |_| {}).await;
        let address = narrow(&site, 2 * PATIENCE).await;
        let slow = slow_camera(address).await;
        let body = json("one", 1);
        let (status, busy) = post(address, &[], body.as_bytes()).await.expect("post");
        assert_eq!(status, 503, "{busy}");
        assert!(busy.contains("retry-after: 1\r\n"), "{busy}");
        assert!(busy.contains("queue.busy"), "{busy}");
        assert!(site.shows(&refused("queue.busy", "http", 1)));
        assert!(!site.shows("interrupted"));
        // Until it is noticed that the slow one is gone.
        drop(slow);
        let start = Instant::now();
        while post(address, &[], body.as_bytes()).await.expect("post").0 != 202 {
            assert!(start.elapsed() < PATIENCE, "it still has its room");
        }
        site.stop().await;
    });
}

#[test]
fn slow_bodies_are_given_up_and_make_room() {
    run(async {
        let site = started(World::new(), |_| {}).await;
        let address = narrow(&site, Duration::from_secs(1)).await;
        let mut slow = slow_camera(address).await;
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(site.shows(&refused("interrupted", "http", 1)));
        let body = json("one", 1);
        let (status, text) = post(address, &[], body.as_bytes()).await.expect("post");
        assert_eq!(status, 202, "{text}");
        site.stop().await;
    });
}

#[test]
fn a_folder_that_is_gone_is_told_once_and_watched_when_it_is_back() {
    run(async {
        let (site, folder) = watching().await;
        let away = folder.with_file_name("away");
        let shown = folder.display();
        let up = |up| format!("scuro_edge_folder_up{{folder=\"{shown}\"}} {up}\n");
        let failures =
            |count| format!("scuro_edge_folder_failures_total{{folder=\"{shown}\"}} {count}\n");
        site.comes_to_show(&up(1)).await;
        for round in 1..=2 {
            std::fs::rename(&folder, &away).expect("moved away");
            site.comes_to_show(&up(0)).await;
            // Some looks later. A device that has looked less often by then is not wrong either.
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(site.shows(&failures(round)));
            std::fs::rename(&away, &folder).expect("moved back");
            site.comes_to_show(&up(1)).await;
        }
        std::fs::write(folder.join("a.raw"), pixels(1)).expect("raw");
        site.holds_inferences(1).await;
        site.stop().await;
    });
}

#[test]
fn a_file_that_cannot_be_moved_away_does_not_keep_the_next_of_its_name_from_being_taken() {
    run(async {
        let (site, folder) = watching().await;
        let done = folder.join("done");
        std::fs::remove_dir(&done).expect("gone");
        std::fs::write(folder.join("a.raw"), pixels(1)).expect("raw");
        site.holds_inferences(1).await;
        // Some looks later.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let again = "scuro_edge_frames_duplicate_total{source=\"directory\"}";
        assert!(!site.shows(again), "it is taken once");
        std::fs::create_dir(&done).expect("back");
        std::fs::write(folder.join("a.raw"), pixels(2)).expect("the next of this name");
        site.holds_inferences(2).await;
        eventually("it put away", || done.join("a.raw").exists()).await;
        site.stop().await;
    });
}

#[test]
fn files_whose_names_are_no_text_are_frames_too() {
    run(async {
        let (site, folder) = watching().await;
        let name = |bytes: &[u8]| folder.join(OsStr::from_bytes(bytes));
        let unfinished = [name(b"caf\xe9.raw.tmp"), name(b".caf\xe9.raw")];
        for path in &unfinished {
            std::fs::write(path, pixels(2)).expect("unfinished");
        }
        std::fs::write(name(b"caf\xe9.raw"), pixels(1)).expect("raw");
        let done = folder.join("done").join(OsStr::from_bytes(b"caf\xe9.raw"));
        eventually("it put away", || done.exists()).await;
        // What comes later and is taken was seen no more often than what is left alone.
        std::fs::write(folder.join("later.raw"), pixels(3)).expect("raw");
        site.holds_inferences(2).await;
        assert!(unfinished.iter().all(|path| path.exists()));
        site.stop().await;
    });
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("there");
    metadata.permissions().mode() & 0o777
}

#[test]
fn frames_lie_where_only_the_devices_user_reads_them() {
    run(async {
        let site = started(World::new(), |_| {}).await;
        let folder = site.world.folder.path().join("device");
        let (spool, log) = (folder.join(FILE), folder.join(format!("{FILE}-wal")));
        assert_eq!(mode(&folder), 0o700);
        assert_eq!((mode(&spool), mode(&log)), (0o600, 0o600));
        // As versions before left it.
        let site = site.restart(|_| {
            let open = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(&spool, open).expect("opened to others");
        });
        let site = site.await;
        assert_eq!((mode(&spool), mode(&log)), (0o600, 0o600));
        site.stop().await;
    });
}
