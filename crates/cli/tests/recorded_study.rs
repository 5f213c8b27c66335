//! The how-tos show the recorded figures: their tables hold them, and the drawings of activations
//! are those that `scuro activations --plot` made of them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use scuro_train::figures::{Outcome, accuracies};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The recorded study of each data set.
fn studies() -> Vec<Value> {
    let recorded: Value = serde_json::from_str(&read("benches/results/training-xeon.json"))
        .expect("the recorded figures are JSON");
    let studies = recorded["studies"].as_array().expect("studies").clone();
    assert_eq!(studies.len(), 2);
    studies
}

fn share(value: &Value) -> f64 {
    value.as_f64().expect("a share")
}

fn outcomes(study: &Value) -> Vec<Outcome> {
    let rows = study["replacements"].as_array().expect("replacements");
    let outcome = |row: &Value| Outcome {
        name: row["replacement"].as_str().expect("a name").to_owned(),
        before: share(&row["before"]),
        after: share(&row["after"]),
    };
    rows.iter().map(outcome).collect()
}

#[test]
fn the_drawings_of_the_how_to_show_the_recorded_figures() {
    for study in studies() {
        let (model, data) = (&study["model"], study["data"].as_str().expect("data"));
        let model = model.as_str().expect("model");
        let title = format!("Replacing the last ReLU of {model}: accuracy on {data}");
        let drawing = accuracies(&outcomes(&study), share(&study["original"]), &title);
        let path = root().join(format!("docs/how-to/activations-{data}.svg"));
        let shown = std::fs::read_to_string(&path).unwrap_or_default();
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{data}.svg"));
        std::fs::write(&fresh, &drawing).expect("a fresh drawing");
        let [path, fresh] = [path, fresh].map(|path| path.display().to_string());
        assert!(shown == drawing, "{path} should be {fresh}");
    }
}

#[test]
fn the_tables_of_the_how_to_hold_the_recorded_figures() {
    let page = read("docs/how-to/activations.md");
    for study in studies() {
        let original = 100.0 * share(&study["original"]);
        let mut table =
            String::from("| replacement | original | replaced | fine-tuned |\n|---|--:|--:|--:|\n");
        for Outcome {
            name,
            before,
            after,
        } in outcomes(&study)
        {
            let (before, after) = (100.0 * before, 100.0 * after);
            writeln!(
                table,
                "| `{name}` | {original:.2} % | {before:.2} % | {after:.2} % |"
            )
            .expect("text");
        }
        assert!(page.contains(&table), "the page lacks this table:\n{table}");
    }
}

/// Rows of the how-to on ensembles for one recorded evaluation.
fn ensemble_rows(path: &str) -> String {
    let recorded: Value = serde_json::from_str(&read(path)).expect("an evaluation");
    let mut rows = String::new();
    for split in recorded["splits"].as_array().expect("splits") {
        let (name, best) = (
            split["split"].as_str().expect("a name"),
            &split["best_single"],
        );
        write!(rows, "| `{name}` | {:.2} % |", 100.0 * share(best)).expect("text");
        let rules = split["rules"].as_array().expect("rules");
        for rule in rules {
            write!(rows, " {:.2} % |", 100.0 * share(&rule["accuracy"])).expect("text");
        }
        let (wins, of) = (&rules[0]["wins"], &split["ensembles"]);
        let margin = 100.0 * share(&rules[0]["smallest_margin"]);
        writeln!(rows, " {wins} of {of}, by {margin:+.2} |").expect("text");
    }
    rows
}

#[test]
fn the_tables_of_the_how_to_on_ensembles_hold_the_recorded_figures() {
    let page = read("docs/how-to/ensemble.md");
    for name in ["ensemble-mnist", "ensemble-mnist-plain"] {
        let rows = ensemble_rows(&format!("benches/results/{name}.json"));
        assert!(page.contains(&rows), "the page lacks these rows:\n{rows}");
    }
}
