//! A version is retired while frames come in: each is answered, by the next version, of which
//! input and weights are encrypted.

use std::collections::BTreeMap;

use serde_json::Value;

use super::site::{DEPLOY, LOG};
use super::support::Desk;
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
    let deploy = || {
        until("a deployment", || {
            (desk.run(&DEPLOY).code == 0).then_some(())
        })
    };
    deploy();
    fleet.frames(0..FRAMES[0]);
    let answers = |count| {
        until("answers", || {
            let results = fleet.results();
            (results.len() == count).then_some(results)
        })
    };
    answers(FRAMES[0]);
    desk.data(&["vault", "retire", "digits:1"]);
    fleet.frames(FRAMES[0]..FRAMES[1]);
    until("all waiting", || {
        let status = desk.data(&["edge", "status", "device"]);
        assert_eq!(status["dead_letters"], 0);
        (status["frames"] == FRAMES[1] - FRAMES[0]).then_some(())
    });
    // Whatever was under way has come back by then.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let status = desk.data(&["edge", "status", "device"]);
    assert_eq!(status["frames"], FRAMES[1] - FRAMES[0]);
    assert_eq!(status["dead_letters"], 0);
    let protect = [
        "protect",
        "model.onnx",
        "--vault",
        "vault",
        "--name",
        "digits",
    ];
    let whole = ["--encrypt", "all", "--calibration", "32"];
    let reply = desk.data(&[&protect[..], &whole].concat());
    assert_eq!(reply["stored"]["model"], "digits:2");
    deploy();
    let results = answers(FRAMES[1]);
    edge.kill().expect("killed");
    vault.kill().expect("killed");
    it_rested_once(desk);
    each_has_its_answer(desk, &results);
}

fn it_rested_once(desk: &Desk) {
    let log = String::from_utf8(desk.read(LOG)).expect("text");
    let rests = "processing rests; frames wait reason=\"retired\"";
    assert_eq!(log.matches(rests).count(), 1, "{log}");
    assert!(log.contains("processing goes on"), "{log}");
}

/// Answers are found by the names of frames.
fn each_has_its_answer(desk: &Desk, results: &[Value]) {
    let label = |result: &Value| {
        let query = result["query_id"].as_str().expect("text").to_string();
        (
            query,
            (
                result["version"].clone(),
                result["answers"][0]["label"].clone(),
            ),
        )
    };
    let results: BTreeMap<_, _> = results.iter().map(label).collect();
    let taken = desk.data(&["edge", "frames", "device", "--taken", "--limit", "100"]);
    let taken = taken.as_array().expect("a list");
    assert_eq!(taken.len(), FRAMES[1]);
    let patterns = patterns();
    for row in taken {
        let number: usize = row["id"].as_str().expect("text")[1..]
            .parse()
            .expect("a number");
        let (version, found) = &results[row["query_id"].as_str().expect("text")];
        let expected = if number < FRAMES[0] { 1 } else { 2 };
        assert_eq!(
            (&row["state"], version),
            (&"answered".into(), &expected.into())
        );
        assert_eq!(*found, clear_label(patterns[number]));
    }
}
