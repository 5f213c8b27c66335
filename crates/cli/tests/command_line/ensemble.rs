//! Ensembles from the command line: trained, scored, drawn, put on a page.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::Desk;

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// A desk with a small ensemble of three in `skewed/`, and what training said.
fn desk_with_ensemble() -> (Desk, Value) {
    let desk = Desk::new();
    let train = "ensemble train --holders 3 --split label-skew:0.3 --data generated --limit 900 \
                 --architecture mlp --activation square --epochs 20 --held-out 0.2 --out skewed";
    let data = desk.data(&words(train));
    (desk, data)
}

fn sum(values: &Value) -> u64 {
    let values = values.as_array().expect("a list").iter();
    values.map(|value| value.as_u64().expect("a count")).sum()
}

#[test]
fn an_ensemble_is_trained_scored_drawn_and_reported() {
    let (desk, data) = desk_with_ensemble();
    let names = [
        "ensemble.json",
        "holder-1.onnx",
        "holder-2.onnx",
        "holder-3.onnx",
        "rules.json",
    ];
    assert_eq!(desk.names("skewed"), names);
    assert_eq!(
        (data["held_out"].as_u64(), &data["split"]),
        (Some(180), &"label-skew:0.3".into())
    );
    let holders = data["holders"].as_array().expect("holders");
    // 900 images, none of them dealt twice.
    let dealt: u64 = holders.iter().map(|holder| sum(&holder["histogram"])).sum();
    assert_eq!(dealt, 720);

    let evaluate = "ensemble evaluate skewed skewed --data generated:test --limit 200 \
                    --out evaluation.json --svg figure.svg";
    let found = desk.data(&words(evaluate));
    let rules = found["ensembles"][0]["rules"].as_array().expect("rules");
    let named: BTreeSet<&str> = rules
        .iter()
        .filter_map(|rule| rule["rule"].as_str())
        .collect();
    assert_eq!(named.len(), 7, "{named:?}");
    let best = found["ensembles"][0]["best_single"]
        .as_f64()
        .expect("share");
    for rule in rules {
        let (accuracy, margin) = (rule["accuracy"].as_f64(), rule["margin"].as_f64());
        let (accuracy, margin) = (accuracy.expect("share"), margin.expect("margin"));
        assert!(
            (accuracy - best - margin).abs() < 1e-12 && accuracy > 0.2,
            "{rule}"
        );
    }
    assert_eq!(found["splits"][0]["ensembles"], 2);

    let figure = String::from_utf8(desk.read("figure.svg")).expect("text");
    assert!(figure.starts_with("<svg") && figure.contains("label-skew:0.3"));
    desk.data(&words("report evaluation.json --out page.html"));
    let page = String::from_utf8(desk.read("page.html")).expect("text");
    assert!(page.contains("<svg") && page.contains("log-opinion"));
}

#[test]
fn equal_seeds_give_equal_ensembles() {
    let desk = Desk::new();
    for out in ["a", "b"] {
        let train = "ensemble train --holders 2 --split disjoint-classes --data generated \
                     --limit 300 --architecture mlp --activation square --epochs 1 \
                     --held-out 0.2 --out";
        desk.data(&[&words(train)[..], &[out]].concat());
    }
    for file in [
        "ensemble.json",
        "rules.json",
        "holder-1.onnx",
        "holder-2.onnx",
    ] {
        assert_eq!(
            desk.read(&format!("a/{file}")),
            desk.read(&format!("b/{file}")),
            "{file}"
        );
    }
    assert_ne!(desk.read("a/holder-1.onnx"), desk.read("a/holder-2.onnx"));
}

#[test]
fn what_makes_no_ensemble_is_refused() {
    let desk = Desk::new();
    let train = |more: &str| {
        let start = "ensemble train --data generated --limit 100 --architecture mlp --out x";
        desk.failure(&[words(start), words(more)].concat())
    };
    for wrong in [
        "--holders 0",
        "--holders 65",
        "--split skew",
        "--split label-skew:0",
    ] {
        assert_eq!(train(wrong), (4, "arguments.invalid".into()), "{wrong}");
    }
    assert_eq!(train("--held-out 1"), (4, "ensemble.held-out".into()));
    assert_eq!(train("--holders 20"), (4, "train.split".into()));
    let absent = desk.failure(&words("ensemble evaluate nowhere --data generated:test"));
    assert_eq!(absent, (4, "file.not-found".into()));
}

#[test]
fn files_of_different_ensembles_are_refused() {
    let (desk, _) = desk_with_ensemble();
    let evaluate = words("ensemble evaluate skewed --data generated:test --limit 20");
    let rules = String::from_utf8(desk.read("skewed/rules.json")).expect("text");
    let other = rules.replace("holder-2", "holder-9");
    desk.write("skewed/rules.json", other.as_bytes());
    assert_eq!(desk.failure(&evaluate), (4, "ensemble.mixed".into()));
    desk.write("skewed/rules.json", b"{}");
    assert_eq!(desk.failure(&evaluate), (4, "rules.invalid".into()));
    desk.write("skewed/rules.json", rules.as_bytes());
    let manifest = String::from_utf8(desk.read("skewed/ensemble.json")).expect("text");
    let outside = manifest.replace("holder-2.onnx", "../holder-2.onnx");
    desk.write("skewed/ensemble.json", outside.as_bytes());
    assert_eq!(desk.failure(&evaluate), (4, "ensemble.path".into()));
    for (file, text) in [("rules.json", &rules), ("ensemble.json", &manifest)] {
        let other = text.replace("\"7\"", "\"seven\"");
        desk.write(&format!("skewed/{file}"), other.as_bytes());
    }
    assert_eq!(desk.failure(&evaluate), (4, "ensemble.classes".into()));
    desk.write("skewed/rules.json", rules.as_bytes());
    let kind = manifest.replace("scuro-ensemble", "scuro-run");
    desk.write("skewed/ensemble.json", kind.as_bytes());
    assert_eq!(desk.failure(&evaluate), (4, "ensemble.unreadable".into()));
}
