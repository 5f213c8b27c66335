//! The whole system, each part its own process: a classifier with encrypted weights goes from the
//! vault to a device, frames go in, both are killed, and every frame has one answer.

#[path = "fleet/bad_input.rs"]
mod bad_input;
#[path = "fleet/retirement.rs"]
mod retirement;
#[path = "fleet/rotation.rs"]
mod rotation;
#[path = "../src/bench/gomez/edge/site.rs"]
mod site;
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use scuro_nn::tensor::Tensor;
use site::{DEPLOY, LOG, Service, Site};
use support::{Desk, draw_seven};

const NETWORK: &[u8] = include_bytes!("../assets/demo-cryptonets.onnx");
/// Names of the classes.
const LABELS: &str = "zero,one,two,three,four,five,six,seven,eight,nine";
/// Frames of the stream.
const FRAMES: usize = 24;
/// Longest wait for the last answer: a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(240);

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
    site: Site,
}

impl Fleet {
    fn new() -> Self {
        let desk = Desk::new();
        let binary = Path::new(env!("CARGO_BIN_EXE_scuro"));
        let site = Site::new(binary, &desk.path("")).expect("free addresses");
        Self { desk, site }
    }

    fn vault(&self) -> Service {
        self.site.vault().expect("the binary runs")
    }

    fn edge(&self, more: &[&str]) -> Service {
        let words = [more, &["--threads", "1"]].concat();
        self.site.edge(&words).expect("the binary runs")
    }

    /// Keys, certificates, the protected model.
    fn set_up(&self) {
        self.desk.write("model.onnx", NETWORK);
        let [init, enrol, protect] = self.site.set_up();
        self.desk.data(&init);
        self.desk.data(&enrol);
        let reply = self
            .desk
            .data(&[&protect[..], &["--calibration", "32", "--labels", LABELS]].concat());
        assert_eq!(reply["stored"]["model"], "digits:1");
    }

    /// Frames as files, in one rename each.
    fn frames(&self, range: std::ops::Range<usize>) {
        let patterns = patterns();
        for frame in range {
            let pattern = patterns[frame];
            let pixels: Vec<String> = (0..784).map(|i| pixel(pattern, i).to_string()).collect();
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
    let watch = ["--watch", "frames"];
    let (vault, edge) = (fleet.vault(), fleet.edge(&watch));
    until("deployment", || {
        (fleet.desk.run(&DEPLOY).code == 0).then_some(())
    });
    fleet.frames(0..FRAMES / 2);
    until("first answers", || {
        (fleet.results().len() > 1).then_some(())
    });
    edge.kill().expect("killed");
    fleet.frames(FRAMES / 2..FRAMES);
    let edge = fleet.edge(&watch);
    vault.kill().expect("killed");
    std::thread::sleep(Duration::from_secs(2));
    let vault = fleet.vault();
    let results = until("last answer", || {
        let results = fleet.results();
        (results.len() >= FRAMES).then_some(results)
    });
    assert_eq!(results.len(), FRAMES, "no frame is answered twice");
    let ids: BTreeSet<String> = results.iter().map(|r| r["query_id"].to_string()).collect();
    assert_eq!(ids.len(), FRAMES);
    edge.kill().expect("killed");
    vault.kill().expect("killed");
    assert_eq!(fleet.desk.names("frames/done").len(), FRAMES);
    assert!(
        fleet
            .desk
            .names("frames/failed")
            .contains(&"wrong.png".to_string())
    );
    let log = String::from_utf8(fleet.desk.read(LOG)).expect("text");
    assert!(!log.contains("confidence") && !log.contains("scores"));
    let label = |result: &serde_json::Value| result["answers"][0]["label"].as_u64();
    let mut labels: Vec<u64> = results.iter().filter_map(label).collect();
    let mut clear: Vec<u64> = patterns().into_iter().map(clear_label).collect();
    labels.sort_unstable();
    clear.sort_unstable();
    assert_eq!(labels, clear);
}

/// The frames. Patterns that the network in clear hesitates over are left out, as ciphertexts err
/// by a hundredth of a score.
fn patterns() -> Vec<usize> {
    let decided = |&pattern: &usize| {
        let mut scores = clear_scores(pattern);
        scores.sort_by(f32::total_cmp);
        scores[9] - scores[8] > 0.25
    };
    (0..).filter(decided).take(FRAMES).collect()
}

fn pixel(pattern: usize, place: usize) -> u8 {
    ((place * 7 + pattern * 31) % 256) as u8
}

/// What the network in clear gives a pattern.
fn clear_scores(pattern: usize) -> Vec<f32> {
    let graph = scuro_nn::import::onnx::from_bytes(NETWORK).expect("network");
    let values = (0..784).map(|place| f32::from(pixel(pattern, place)) / 255.0);
    let image = Tensor::new(vec![1, 28, 28], values.collect()).expect("image");
    let answer = scuro_nn::reference::run(&graph, &image);
    answer.expect("scores").data
}

fn clear_label(pattern: usize) -> u64 {
    let scores = clear_scores(pattern);
    let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.expect("ten scores").0 as u64
}
