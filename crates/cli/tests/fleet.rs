//! The whole system, each part its own process: a classifier with encrypted weights goes from the
//! vault to a device, frames go in, both are killed, and every frame has one answer.

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use scuro_nn::tensor::Tensor;
use support::{Desk, draw_seven};

const NETWORK: &[u8] = include_bytes!("../assets/demo-cryptonets.onnx");
/// Frames of the stream.
const FRAMES: usize = 24;
/// Longest wait for the last answer: a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(240);

/// A service that is killed when the test ends.
struct Service(Child);

impl Service {
    fn start(desk: &Desk, words: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scuro"));
        command.args(words).current_dir(desk.path("."));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(desk.path("services.log"))
            .expect("log");
        Self(command.stderr(log).spawn().expect("the binary runs"))
    }

    /// As `kill -9`.
    fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("gone");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address on loopback that was free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

/// Asks until there is an answer that `done` likes.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

struct Fleet {
    desk: Desk,
    vault_address: String,
    metrics: String,
    device_address: String,
}

impl Fleet {
    fn new() -> Self {
        Self {
            desk: Desk::new(),
            vault_address: free_address(),
            metrics: free_address(),
            device_address: free_address(),
        }
    }

    fn vault(&self) -> Service {
        let (listen, metrics) = (&self.vault_address, &self.metrics);
        let words = ["vault", "serve", "vault", "--listen", listen, "--metrics"];
        Service::start(&self.desk, &[&words[..], &[metrics]].concat())
    }

    fn edge(&self) -> Service {
        let words = ["edge", "serve", "device", "--bundle", "bundle", "--listen"];
        let more = [&self.device_address, "--watch", "frames", "--threads", "1"];
        Service::start(&self.desk, &[&words[..], &more[..]].concat())
    }

    /// Keys, certificates, the protected model.
    fn set_up(&self) {
        let desk = &self.desk;
        desk.write("model.onnx", NETWORK);
        desk.data(&["vault", "init"]);
        let (device, vault) = (&self.device_address, &self.vault_address);
        let words = ["vault", "enroll", "cam-7", "--out", "bundle", "--address"];
        desk.data(&[&words[..], &[device, "--vault-address", vault]].concat());
        let words = ["protect", "model.onnx", "--calibration", "32"];
        let stored = ["--vault", "vault", "--name", "digits"];
        let reply = desk.data(&[&words[..], &stored].concat());
        assert_eq!(reply["stored"]["model"], "digits:1");
    }

    /// Frames as files, in one rename each.
    fn frames(&self, range: std::ops::Range<usize>) {
        for frame in range {
            let pixels: Vec<String> = (0..784).map(|i| pixel(frame, i).to_string()).collect();
            let text = format!(r#"{{"id":"f{frame}","pixels":[{}]}}"#, pixels.join(","));
            let (part, whole) = (
                format!("frames/f{frame}.tmp"),
                format!("frames/f{frame}.json"),
            );
            self.desk.write(&part, text.as_bytes());
            std::fs::rename(self.desk.path(&part), self.desk.path(&whole)).expect("renamed");
        }
    }

    fn results(&self) -> Vec<serde_json::Value> {
        let reply = self.desk.data(&["vault", "results"]);
        reply["results"].as_array().cloned().unwrap_or_default()
    }
}

#[test]
fn every_frame_has_one_answer_though_device_and_vault_are_killed() {
    let fleet = Fleet::new();
    fleet.set_up();
    std::fs::create_dir(fleet.desk.path("frames")).expect("folder");
    let (code, _) = fleet
        .desk
        .failure(&["deploy", "digits", "--device", "nobody"]);
    assert_eq!(code, 4);
    // A picture of another size than the network's is no frame.
    draw_seven(&fleet.desk.path("frames/wrong.png"));
    let (vault, edge) = (fleet.vault(), fleet.edge());
    until("deployment", || {
        let words = ["deploy", "digits", "--device", "cam-7", "--format", "json"];
        (fleet.desk.run(&words).code == 0).then_some(())
    });
    fleet.frames(0..FRAMES / 2);
    until("first answers", || {
        (fleet.results().len() > 1).then_some(())
    });
    edge.kill();
    fleet.frames(FRAMES / 2..FRAMES);
    let edge = fleet.edge();
    vault.kill();
    std::thread::sleep(Duration::from_secs(2));
    let vault = fleet.vault();
    let results = until("last answer", || {
        let results = fleet.results();
        (results.len() >= FRAMES).then_some(results)
    });
    assert_eq!(results.len(), FRAMES, "no frame is answered twice");
    let ids: BTreeSet<String> = results.iter().map(|r| r["query_id"].to_string()).collect();
    assert_eq!(ids.len(), FRAMES);
    edge.kill();
    vault.kill();
    assert_eq!(fleet.desk.names("frames/done").len(), FRAMES);
    assert!(
        fleet
            .desk
            .names("frames/failed")
            .contains(&"wrong.png".to_string())
    );
    let log = String::from_utf8(fleet.desk.read("services.log")).expect("text");
    assert!(!log.contains("confidence") && !log.contains("scores"));
    let label = |result: &serde_json::Value| result["answers"][0]["label"].as_u64();
    let mut labels: Vec<u64> = results.iter().filter_map(label).collect();
    let mut clear: Vec<u64> = (0..FRAMES).map(clear_label).collect();
    labels.sort_unstable();
    clear.sort_unstable();
    assert_eq!(labels, clear);
}

fn pixel(frame: usize, place: usize) -> u8 {
    ((place * 7 + frame * 31) % 256) as u8
}

/// The label that the network in clear gives a frame.
fn clear_label(frame: usize) -> u64 {
    let graph = scuro_nn::import::onnx::from_bytes(NETWORK).expect("network");
    let values = (0..784).map(|place| f32::from(pixel(frame, place)) / 255.0);
    let image = Tensor::new(vec![1, 28, 28], values.collect()).expect("image");
    let scores = scuro_nn::reference::run(&graph, &image)
        .expect("scores")
        .data;
    let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.expect("ten scores").0 as u64
}
