//! A version is retired while frames come in: each is answered, by the next version, of which
//! input and weights are encrypted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::site::{DEPLOY, LOG};
use super::{Fleet, clear_label, patterns, until};

/// Frames before the version is retired, and all of them.
const FRAMES: [usize; 2] = [3, 9];

#[test]
fn frames_of_a_retired_version_are_answered_by_the_next_which_is_encrypted_whole() {
    let fleet = Fleet::new();
    fleet.set_up();
    let desk = &fleet.desk;
    std::fs::create_dir(desk.path("frames")).expect("folder");
    let (vault, edge) = (fleet.vault(), fleet.edge(&["--watch", "frames"]));
    deploy(&fleet);
    fleet.frames(0..FRAMES[0]);
    answers(&fleet, FRAMES[0]);
    desk.data(&["vault", "retire", "digits:1"]);
    fleet.frames(FRAMES[0]..FRAMES[1]);
    let waiting = || {
        let status = desk.data(&["edge", "status", "device"]);
        assert_eq!(status["dead_letters"], 0);
        status["frames"] == FRAMES[1] - FRAMES[0]
    };
    until("all waiting", || waiting().then_some(()));
    // Whatever was under way has come back by then.
    std::thread::sleep(Duration::from_secs(3));
    assert!(waiting());
    let protect = ["protect", "model.onnx", "--vault", "vault", "--name"];
    let whole = ["digits", "--encrypt", "all", "--calibration", "32"];
    let reply = desk.data(&[&protect[..], &whole].concat());
    assert_eq!(reply["stored"]["model"], "digits:2");
    deploy(&fleet);
    let results = answers(&fleet, FRAMES[1]);
    edge.kill().expect("killed");
    vault.kill().expect("killed");
    let log = String::from_utf8(desk.read(LOG)).expect("text");
    let rests = "processing rests; frames wait reason=\"retired\"";
    assert_eq!(log.matches(rests).count(), 1, "{log}");
    assert!(log.contains("processing goes on"), "{log}");
    each_frame_has_its_answer(&fleet, &results);
}

fn deploy(fleet: &Fleet) {
    until("a deployment", || {
        (fleet.desk.run(&DEPLOY).code == 0).then_some(())
    });
}

fn answers(fleet: &Fleet, count: usize) -> Vec<Value> {
    until("answers", || {
        let results = fleet.results();
        (results.len() == count).then_some(results)
    })
}

/// Results are matched to frames by the device's list of those that it took.
fn each_frame_has_its_answer(fleet: &Fleet, results: &[Value]) {
    let by_query = |result| {
        let result: &Value = result;
        (result["query_id"].as_str().expect("text"), result)
    };
    let results: BTreeMap<&str, &Value> = results.iter().map(by_query).collect();
    let list = ["edge", "frames", "device", "--taken", "--limit", "100"];
    let taken = fleet.desk.data(&list);
    let taken = taken.as_array().expect("a list");
    assert_eq!(taken.len(), FRAMES[1]);
    let patterns = patterns();
    for row in taken {
        let number = row["id"].as_str().expect("text")[1..].parse();
        let number: usize = number.expect("a number");
        let result = results[row["query_id"].as_str().expect("text")];
        let version = if number < FRAMES[0] { 1 } else { 2 };
        assert_eq!(row["state"], "answered");
        assert_eq!(result["version"], version);
        let label = &result["answers"][0]["label"];
        assert_eq!(*label, clear_label(patterns[number]));
    }
}
