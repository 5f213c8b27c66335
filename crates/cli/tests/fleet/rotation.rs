//! A key is rotated while frames wait, and the version before is taken out of use.

use serde_json::Value;

use super::site::DEPLOY;
use super::{Fleet, LABELS, NETWORK, until};

/// Frames of each part.
const FEW: usize = 4;

#[test]
fn a_model_gets_new_keys_while_frames_wait_and_none_is_lost() {
    let fleet = Fleet::new();
    fleet.set_up();
    let desk = &fleet.desk;
    std::fs::create_dir(desk.path("frames")).expect("folder");
    let vault = fleet.vault();
    let edge = fleet.edge(&["--watch", "frames"]);
    let deploy = || until("deployment", || (desk.run(&DEPLOY).code == 0).then_some(()));
    deploy();
    fleet.frames(0..FEW);
    until("first answers", || {
        (fleet.results().len() >= FEW).then_some(())
    });
    desk.write("again.onnx", NETWORK);
    let rotate = ["vault", "rotate", "letters", "again.onnx"];
    assert_eq!(desk.failure(&rotate), (4, "vault.not-found".into()));
    let rotate = ["vault", "rotate", "digits", "again.onnx"];
    let stored = desk.data(&[&rotate[..], &["--calibration", "32"]].concat());
    assert_eq!(stored["stored"]["model"], "digits:2");
    the_new_version_has_other_keys(&fleet);
    fleet.frames(FEW..2 * FEW);
    deploy();
    fleet.frames(2 * FEW..3 * FEW);
    let results = until("all answers", || {
        let results = fleet.results();
        (results.len() >= 3 * FEW).then_some(results)
    });
    let versions: Vec<&Value> = results.iter().map(|result| &result["version"]).collect();
    assert_eq!(*versions[0], 1);
    assert!(versions.iter().filter(|version| ***version == 2).count() >= FEW);
    results_come_in_pages(&fleet, 3 * FEW);
    let back = ["deploy", "rollback", "--device", "cam-7"];
    desk.data(&["vault", "retire", "digits:1"]);
    assert_eq!(desk.failure(&back), (6, "model.retired".into()));
    edge.kill().expect("killed");
    vault.kill().expect("killed");
}

fn the_new_version_has_other_keys(fleet: &Fleet) {
    let manifest = |model| fleet.desk.data(&["vault", "show", model])["manifest"].clone();
    let (old, new) = (manifest("digits:1"), manifest("digits:2"));
    assert_ne!(old["key_id"], new["key_id"]);
    let labels = old["labels"].as_array().expect("a list");
    let labels: Vec<&str> = labels.iter().filter_map(Value::as_str).collect();
    assert_eq!(labels.join(","), LABELS);
    assert_eq!(old["labels"], new["labels"]);
    assert_eq!(
        (&old["encrypted"], &new["encrypted"]),
        (&"classifier".into(), &"classifier".into())
    );
}

fn results_come_in_pages(fleet: &Fleet, count: usize) {
    let page = |after: usize, limit: usize| {
        let (after, limit) = (after.to_string(), limit.to_string());
        let words = ["vault", "results", "--after", &after, "--limit", &limit];
        (fleet.desk.data(&words), fleet.desk.run(&words).stdout)
    };
    let (first, text) = page(0, count - 1);
    assert_eq!(
        (&first["more"], &first["next_after"]),
        (&true.into(), &(count - 1).into())
    );
    assert!(text.contains(&format!("--after {}", count - 1)), "{text}");
    let (last, text) = page(count - 1, count);
    assert_eq!(last["more"], false);
    assert!(!text.contains("--after"), "{text}");
}
