//! Replacing activations from the command line: `train --from` and `activations`.

use crate::support::Desk;

/// A desk with a small ReLU network, `relu.onnx`.
fn desk_with_network() -> Desk {
    let desk = Desk::new();
    let words = "train mlp --data generated --limit 400 --epochs 2 --out relu.onnx";
    desk.data(&words.split(' ').collect::<Vec<_>>());
    desk
}

#[test]
fn a_trained_network_is_replaced_scored_and_fine_tuned() {
    let desk = desk_with_network();
    let run = |epochs: &str, out: &str| {
        let words = "train --from relu.onnx --replace square --data generated --limit 400";
        let mut words: Vec<&str> = words.split(' ').collect();
        words.extend(["--epochs", epochs, "--out", out]);
        desk.data(&words)
    };
    let scored = run("0", "scored.onnx");
    let accuracy = |reply: &serde_json::Value, key: &str| {
        reply[key]["accuracy"].as_f64().expect("an accuracy")
    };
    assert_eq!(accuracy(&scored, "replaced"), accuracy(&scored, "test"));
    let tuned = run("2", "tuned.onnx");
    assert_eq!(accuracy(&tuned, "replaced"), accuracy(&scored, "test"));
    assert!(accuracy(&tuned, "test") > accuracy(&tuned, "replaced"));
    run("2", "again.onnx");
    assert_eq!(desk.read("tuned.onnx"), desk.read("again.onnx"));
}

#[test]
fn replacements_are_compared_drawn_and_kept() {
    let desk = desk_with_network();
    std::fs::create_dir(desk.path("kept")).expect("folder");
    let words = "activations relu.onnx --data generated --limit 400 --epochs 1 \
                 --replace none,chebyshev:3 --models kept --plot bars.svg --functions curves.svg \
                 --out study.json";
    let study = desk.data(&words.split_whitespace().collect::<Vec<_>>());
    let rows = study["replacements"].as_array().expect("replacements");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["replacement"], "chebyshev:3");
    assert_eq!(study["model"], "relu.onnx");
    for file in ["kept/none.onnx", "kept/chebyshev-3.onnx", "study.json"] {
        assert!(desk.path(file).exists(), "{file}");
    }
    for drawing in ["bars.svg", "curves.svg"] {
        let text = String::from_utf8(desk.read(drawing)).expect("text");
        assert!(
            text.starts_with("<svg") && text.contains("chebyshev:3"),
            "{drawing}"
        );
    }
}

#[test]
fn replacements_that_make_no_sense_are_refused() {
    let desk = Desk::new();
    let graph = scuro_train::architectures::architecture("cryptonets", None, 1);
    let bytes = scuro_nn::export::onnx(&graph.expect("architecture").graph).expect("ONNX");
    desk.write("square.onnx", &bytes);
    for wrong in [
        "train --out x.onnx",
        "train mlp --replace square --out x.onnx",
        "train mlp --average-pools --out x.onnx",
        "train mlp --from square.onnx --out x.onnx",
        "train --from square.onnx --replace relu --out x.onnx",
        "train --from square.onnx --replace taylor:32 --out x.onnx",
        "train --from square.onnx --replace square --interval=4,-4 --out x.onnx",
        "train mlp --activation nonsense --out x.onnx",
    ] {
        let words: Vec<&str> = wrong.split(' ').collect();
        assert_eq!(
            desk.failure(&words),
            (4, "arguments.invalid".into()),
            "{wrong}"
        );
    }
    let words = "train --from square.onnx --replace none --data generated --limit 50 --out x.onnx";
    let words: Vec<&str> = words.split(' ').collect();
    assert_eq!(desk.failure(&words), (4, "activation.none".into()));
    assert!(!desk.path("x.onnx").exists());
}
