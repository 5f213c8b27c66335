//! What sources do with what is too much, too slow, gone or private.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{World, eventually, first, json, pixels, post, run};
use scuro_server::edge::frame::MAX_FRAME_BYTES;
use scuro_server::edge::service::{Edge, Options};
use scuro_server::edge::sources::{Http, Source};
use scuro_server::edge::spool::FILE;

/// A device with a model.
async fn started(world: &World, with: impl FnOnce(&mut Options)) -> Edge {
    let mut options = world.options();
    with(&mut options);
    let edge = Edge::start(options).await.expect("started");
    first()
        .deploy(&mut world.deployer(edge.addresses().device))
        .await;
    edge
}

fn shows(edge: &Edge, text: &str) -> bool {
    edge.metrics().render().contains(text)
}

fn refused(reason: &str, source: &str, count: usize) -> String {
    format!("frames_refused_total{{reason=\"{reason}\",source=\"{source}\"}} {count}\n")
}

/// The head of a request whose body does not tell its length.
const CHUNKED: &[u8] = b"POST /v1/frames HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\
    transfer-encoding: chunked\r\n\r\n";

#[test]
fn a_body_larger_than_any_frame_is_refused_counted_and_told() {
    run(async {
        let world = World::new();
        let edge = started(&world, |_| {}).await;
        let address = edge.addresses().http.expect("HTTP");
        let large = vec![b'x'; MAX_FRAME_BYTES + 1];
        let (status, text) = post(address, &[], &large).await.expect("post");
        assert!(status == 413 && text.contains("frame.malformed"), "{text}");
        assert!(shows(&edge, &refused("too-large", "http", 1)));
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let chunk = format!("{:x}\r\n", large.len()).into_bytes();
        // The device may end the connection before it has all.
        let _ = stream.write_all(&[CHUNKED, &chunk, &large].concat()).await;
        eventually("the second", || {
            shows(&edge, &refused("too-large", "http", 2))
        })
        .await;
        let largest = vec![b'x'; MAX_FRAME_BYTES];
        let (status, _) = post(address, &[], &largest).await.expect("post");
        assert_eq!(status, 400, "no frame, but not too large");
        edge.stop().await;
    });
}

#[test]
fn json_is_known_by_a_content_type_with_parameters_and_by_its_brace() {
    run(async {
        let world = World::new();
        let edge = started(&world, |_| {}).await;
        let address = edge.addresses().http.expect("HTTP");
        let typed = [("content-type", "application/json; charset=utf-8")];
        let cases: [&[(&str, &str)]; 2] = [&typed, &[]];
        for (number, headers) in cases.into_iter().enumerate() {
            let body = format!(" \r\n{}", json(&format!("f{number}"), 1));
            let posted = post(address, headers, body.as_bytes()).await;
            let (status, text) = posted.expect("post");
            assert_eq!(status, 202, "{text}");
        }
        edge.stop().await;
    });
}

/// An HTTP source of its own, with little room and little time.
async fn narrow(edge: &Edge, time: Duration) -> SocketAddr {
    let anywhere = "127.0.0.1:0".parse().expect("address");
    let http = Http::bind(anywhere, axum::Router::new()).await;
    let http = http.expect("bound").bounded(MAX_FRAME_BYTES, time);
    let address = http.address().expect("address");
    tokio::spawn(Box::new(http).acquire(edge.intake().clone()));
    address
}

#[test]
fn bodies_beyond_the_room_come_again_and_slow_ones_are_given_up() {
    run(async {
        let world = World::new();
        let edge = started(&world, |_| {}).await;
        let address = narrow(&edge, Duration::from_secs(2)).await;
        let mut slow = TcpStream::connect(address).await.expect("connected");
        slow.write_all(CHUNKED).await.expect("a head");
        // Until the slow one is let in.
        let busy = loop {
            let body = json("one", 1);
            let (status, text) = post(address, &[], body.as_bytes()).await.expect("post");
            if status != 202 {
                break text;
            }
            assert!(!shows(&edge, "interrupted"), "it holds nothing up");
        };
        assert!(busy.starts_with("HTTP/1.1 503"), "{busy}");
        assert!(
            busy.contains("retry-after: 1") && busy.contains("queue.busy"),
            "{busy}"
        );
        assert!(shows(&edge, &refused("queue.busy", "http", 1)));
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(shows(&edge, &refused("interrupted", "http", 1)));
        let body = json("two", 2);
        let (status, text) = post(address, &[], body.as_bytes()).await.expect("post");
        assert_eq!(status, 202, "{text}");
        edge.stop().await;
    });
}

#[test]
fn a_folder_that_is_gone_is_told_once_and_watched_when_it_is_back() {
    run(async {
        let world = World::new();
        let folder = world.folder.path().join("camera");
        let away = world.folder.path().join("away");
        let edge = started(&world, |options| options.watch = vec![folder.clone()]).await;
        let shown = folder.display();
        let up = |up| format!("scuro_edge_folder_up{{folder=\"{shown}\"}} {up}\n");
        let failures =
            |count| format!("scuro_edge_folder_failures_total{{folder=\"{shown}\"}} {count}\n");
        eventually("the folder", || shows(&edge, &up(1))).await;
        for round in 1..=2 {
            std::fs::rename(&folder, &away).expect("moved away");
            eventually("its loss", || shows(&edge, &up(0))).await;
            // Some looks later.
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(shows(&edge, &failures(round)));
            std::fs::rename(&away, &folder).expect("moved back");
            eventually("its return", || shows(&edge, &up(1))).await;
        }
        std::fs::write(folder.join("a.raw"), pixels(1)).expect("raw");
        eventually("a frame", || edge.spool().depth().inferences == 1).await;
        edge.stop().await;
    });
}

#[test]
fn files_whose_names_are_no_text_are_frames_too() {
    run(async {
        let world = World::new();
        let folder = world.folder.path().join("camera");
        let edge = started(&world, |options| options.watch = vec![folder.clone()]).await;
        let name = |bytes: &[u8]| folder.join(OsStr::from_bytes(bytes));
        std::fs::write(name(b"caf\xe9.raw"), pixels(1)).expect("raw");
        std::fs::write(name(b"caf\xe9.raw.tmp"), pixels(2)).expect("unfinished");
        std::fs::write(name(b".caf\xe9.raw"), pixels(3)).expect("hidden");
        eventually("the one", || edge.spool().depth().inferences == 1).await;
        let done = folder.join("done").join(OsStr::from_bytes(b"caf\xe9.raw"));
        eventually("it put away", || done.exists()).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(name(b"caf\xe9.raw.tmp").exists() && name(b".caf\xe9.raw").exists());
        edge.stop().await;
    });
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("there");
    metadata.permissions().mode() & 0o777
}

#[test]
fn frames_lie_where_only_the_devices_user_reads_them() {
    run(async {
        let world = World::new();
        let folder = world.folder.path().join("device");
        let spool = folder.join(FILE);
        let edge = started(&world, |_| {}).await;
        assert_eq!(mode(&folder), 0o700);
        let log = folder.join(format!("{FILE}-wal"));
        assert_eq!((mode(&spool), mode(&log)), (0o600, 0o600));
        edge.stop().await;
        // As versions before left it.
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&spool, open).expect("opened to others");
        let edge = started(&world, |_| {}).await;
        assert_eq!((mode(&spool), mode(&log)), (0o600, 0o600));
        edge.stop().await;
    });
}
