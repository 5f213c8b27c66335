//! Envelopes, exit codes and the verbs that need no keys.

#[path = "command_line/activations.rs"]
mod activations;
#[path = "command_line/brokers.rs"]
mod brokers;
#[path = "command_line/ensemble.rs"]
mod ensemble;
mod support;

use support::{Desk, draw_seven};

const NETWORK: &[u8] = include_bytes!("../assets/demo-cryptonets.onnx");

#[test]
fn wrong_arguments_leave_with_code_four_in_every_format() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["no-such-verb"]).code, 4);
    assert_eq!(
        desk.failure(&["demo", "--images", "many"]),
        (4, "arguments.invalid".into())
    );
    let line = desk.run(&["bench", "no.such.case", "--format", "jsonl"]);
    assert_eq!((line.code, line.stdout.lines().count()), (4, 1));
}

#[test]
fn help_names_every_exit_code_and_leaves_with_zero() {
    let desk = Desk::new();
    let help = desk.run(&["--help"]);
    assert_eq!(help.code, 0);
    for text in ["Exit codes", "0  done", "6  refused", "demo", "accuracy"] {
        assert!(help.stdout.contains(text), "{text}");
    }
}

#[test]
fn missing_files_and_missing_data_are_named_with_a_hint() {
    let desk = Desk::new();
    assert_eq!(
        desk.failure(&["inspect", "nothing.onnx"]),
        (4, "file.not-found".into())
    );
    desk.write("model.onnx", NETWORK);
    let missing = desk.failure(&["accuracy", "model.onnx", "--data", "cifar10"]);
    assert_eq!(missing.0, 4);
    let unknown = desk.failure(&["accuracy", "model.onnx", "--data", "imagenet"]);
    assert_eq!(unknown, (4, "data.unknown".into()));
}

#[test]
fn a_device_says_what_it_lacks() {
    let desk = Desk::new();
    let nowhere = desk.failure(&["edge", "status", "nowhere"]);
    assert_eq!(nowhere, (4, "edge.no-device".into()));
    let serve = ["edge", "serve", "device", "--bundle", "bundle"];
    assert_eq!(desk.failure(&serve), (4, "wire.invalid".into()));
    let vault = [&serve[..], &["--vault", "somewhere"]].concat();
    assert_eq!(desk.failure(&vault), (4, "edge.setting".into()));
}

#[test]
fn broken_networks_are_refused_by_name() {
    let desk = Desk::new();
    desk.write("short.onnx", &NETWORK[..NETWORK.len() / 2]);
    assert_eq!(desk.failure(&["inspect", "short.onnx"]).0, 4);
    desk.write("noise.onnx", &[0xff; 4096]);
    assert_eq!(desk.failure(&["import", "noise.onnx"]).0, 4);
    let mut graph = scuro_nn::import::onnx::from_bytes(NETWORK).expect("the built-in network");
    for node in &mut graph.nodes {
        if let scuro_nn::graph::Op::Dense { weight, .. } = &mut node.op {
            weight.data[3] = f32::NAN;
        }
    }
    if let Ok(bytes) = scuro_nn::export::onnx(&graph) {
        desk.write("nan.onnx", &bytes);
        assert_eq!(
            desk.failure(&["compile", "nan.onnx", "-o", "never.scuro"])
                .0,
            4
        );
    }
    assert!(!desk.path("never.scuro").exists());
}

#[test]
fn networks_with_relu_are_refused_with_the_cheapest_fix() {
    let desk = Desk::new();
    let made = scuro_train::architectures::architecture(
        "cryptonets",
        Some(scuro_train::architectures::Activation::Relu),
        1,
    );
    let bytes = scuro_nn::export::onnx(&made.expect("architecture").graph).expect("ONNX");
    desk.write("relu.onnx", &bytes);
    let words = [
        "compile",
        "relu.onnx",
        "--data",
        "generated:train",
        "-o",
        "never.scuro",
    ];
    assert_eq!(desk.failure(&words), (4, "compile.not-friendly".into()));
    assert!(!desk.path("never.scuro").exists());
}

#[test]
fn data_is_listed_shown_and_generated() {
    let desk = Desk::new();
    let sets = desk.data(&["data", "list"]);
    assert!(sets["sets"].as_array().is_some_and(|sets| sets.len() >= 3));
    let shown = desk.run(&["data", "show", "generated", "--count", "2"]);
    assert!(shown.stdout.contains('█') && shown.code == 0);
    desk.data(&[
        "data",
        "generate",
        "--count",
        "30",
        "--split",
        "test",
        "--out",
        "made/mnist",
    ]);
    assert_eq!(desk.names("made/mnist").len(), 2);
    let images = desk.data(&["data", "show", "made/mnist:test", "--count", "3"]);
    assert_eq!(images["images"].as_array().map(Vec::len), Some(3));
}

#[test]
fn an_unreachable_mirror_is_a_connection_error_and_leaves_nothing() {
    let desk = Desk::new();
    let words = [
        "data",
        "fetch",
        "mnist",
        "--mirror",
        "http://127.0.0.1:9",
        "--out",
        "cache",
    ];
    assert_eq!(desk.failure(&words), (2, "data.connection".into()));
    assert!(!desk.path("cache").exists());
}

#[test]
fn predictions_of_a_drawn_digit_agree_in_all_modes() {
    let desk = Desk::new();
    draw_seven(&desk.path("seven.png"));
    for mode in ["clear", "simulate", "encrypted"] {
        let words = [
            "predict",
            "seven.png",
            "--mode",
            mode,
            "--calibration",
            "32",
        ];
        let answer = desk.data(&words);
        assert_eq!(answer["predictions"][0]["label"], 7, "{mode}");
    }
}

#[test]
fn accuracy_and_simulation_score_generated_digits() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    let clear = desk.data(&[
        "accuracy",
        "model.onnx",
        "--data",
        "generated",
        "--limit",
        "200",
    ]);
    assert!(
        clear["accuracy"].as_f64().is_some_and(|share| share > 0.95),
        "{clear}"
    );
    let simulated = desk.data(&["simulate", "model.onnx", "--limit", "20"]);
    assert_eq!(simulated["score"]["agreement"], 1.0);
}

#[test]
fn the_key_holder_measures_noise_after_every_step_of_a_private_model() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    let words = ["simulate", "model.onnx", "--limit", "2", "--measure"];
    let simulated = desk.data(&[&words[..], &["--encrypt", "all"]].concat());
    let measured = simulated["measured"].as_array().expect("rows");
    assert!(measured.len() > 5);
    for row in measured {
        let (room, precision) = (&row["room_bits"], &row["precision_bits"]);
        assert!(room.as_f64().is_some_and(|bits| bits > 0.5), "{row}");
        assert!(precision.as_f64().is_some_and(|bits| bits > 4.0), "{row}");
    }
}

#[test]
fn features_in_clear_meet_encrypted_weights() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    let data = ["--data", "generated:train", "--encrypt", "all"];
    desk.data(&[&["protect", "model.onnx", "--out", "p"][..], &data].concat());
    let image = vec![0.0f32; 784];
    let graph = scuro_nn::import::onnx::from_bytes(NETWORK).expect("network");
    let input = scuro_nn::tensor::Tensor::new(vec![1, 28, 28], image.clone()).expect("image");
    let expected = scuro_nn::reference::run(&graph, &input).expect("scores");
    let device = ["--keys", "p/device", "--weights", "p/device/weights.ct"];
    let program = "p/device/program.scuro";
    let evaluate = ["evaluate", program, "features.json", "--out", "reply.ct"];
    desk.write(
        "features.json",
        serde_json::to_string(&image).expect("JSON").as_bytes(),
    );
    let account = desk.data(&[&evaluate[..], &device].concat());
    let steps = account["steps"].as_array().map_or(0, Vec::len);
    assert!(steps > 5, "{account}");
    let reply = desk.read("reply.ct");
    desk.data(&[&evaluate[..], &device].concat());
    assert_ne!(
        reply,
        desk.read("reply.ct"),
        "guesses could be tested against it"
    );
    let answer = desk.data(&["decrypt", program, "reply.ct", "--key", "p/owner"]);
    let scores = &answer["predictions"][0]["scores"];
    for (i, want) in expected.data.iter().enumerate() {
        let got = scores[i].as_f64().expect("score");
        assert!((got - f64::from(*want)).abs() < 0.2, "{got} for {want}");
    }
    for bad in ["{}", "[1, \"a\"]", "[1, 2]", "["] {
        desk.write("features.json", bad.as_bytes());
        let refused = desk.run(&[&evaluate[..], &device].concat());
        assert_eq!(refused.code, 4, "{bad}: {}", refused.stderr);
        assert!(
            refused.stderr.contains("features.json"),
            "{}",
            refused.stderr
        );
    }
    std::fs::remove_file(desk.path("p/device/public.key")).expect("removed");
    let refused = desk.run(&[&evaluate[..], &device].concat());
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("public.key"), "{}", refused.stderr);
}

#[test]
fn the_tables_of_the_paper_are_measured_and_become_a_page() {
    let desk = Desk::new();
    let words = ["bench", "gomez.last-layer", "--tables", "--samples", "1"];
    let tables = desk.data(&[&words[..], &["-o", "tables.json"]].concat());
    let rows = tables["rows"].as_array().expect("rows");
    assert!(rows.len() >= 3);
    for row in rows {
        let value = |path: &str| row.pointer(path).and_then(serde_json::Value::as_f64);
        for path in [
            "/sealed/usage/milliseconds",
            "/plain/usage/memory_mb",
            "/weights_mb",
        ] {
            assert!(
                value(path).is_some_and(|value| value > 0.0),
                "{path}: {row}"
            );
        }
        assert!(
            value("/sealed/room_bits").is_some_and(|bits| bits > 0.5),
            "{row}"
        );
    }
    desk.data(&["report", "tables.json"]);
    let page = String::from_utf8(desk.read("tables.html")).expect("UTF-8");
    assert!(page.contains("last-layer") && page.contains("SEAL") && !page.contains("<script"));
    for wrong in [
        ["bench", "he", "--tables"],
        ["bench", "gomez.x", "--tables"],
    ] {
        assert_eq!(desk.run(&wrong).code, 4, "{wrong:?}");
    }
}

#[test]
fn the_demo_runs_on_generated_digits_and_writes_one_self_contained_page() {
    let desk = Desk::new();
    let run = desk.data(&[
        "demo",
        "--data",
        "generated",
        "--images",
        "3",
        "--report",
        "out/demo.html",
        "--keep",
        "seen",
    ]);
    assert_eq!(run["accuracy"]["agreement"], 1.0);
    assert!(
        run["data"]["note"]
            .as_str()
            .is_some_and(|note| note.contains("drawn in code"))
    );
    assert!(run["steps"].as_array().is_some_and(|steps| steps.len() > 3));
    let page = String::from_utf8(desk.read("out/demo.html")).expect("UTF-8");
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
    assert!(
        desk.names("seen")
            .iter()
            .all(|name| !name.contains("secret"))
    );
    desk.write("run.json", run.to_string().as_bytes());
    desk.data(&["report", "run.json", "-o", "again.html"]);
    assert_eq!(desk.read("again.html"), page.into_bytes());
}

#[test]
fn a_benchmark_case_prints_its_object_and_becomes_a_page() {
    let desk = Desk::new();
    let listed = desk.run(&["bench", "--list", "--format", "jsonl"]);
    assert!(listed.stdout.lines().count() > 20);
    let words = [
        "bench",
        "he.ntt.n8192",
        "--samples",
        "2",
        "-o",
        "bench.json",
    ];
    let case = desk.data(&words)["cases"][0].clone();
    for key in [
        "id", "value", "unit", "target", "better", "holds", "threads", "samples", "peers",
    ] {
        assert!(!case[key].is_null(), "{key}");
    }
    desk.data(&["report", "bench.json"]);
    assert!(desk.path("bench.html").exists());
}

#[test]
fn training_makes_a_network_and_its_curves() {
    let desk = Desk::new();
    let words = [
        "train",
        "mlp",
        "--data",
        "generated",
        "--limit",
        "300",
        "--epochs",
        "1",
    ];
    let out = [
        "--out",
        "mlp.onnx",
        "--curves",
        "mlp.svg",
        "--test",
        "generated:test",
    ];
    let trained = desk.data(&[&words[..], &out[..]].concat());
    assert_eq!(trained["epochs"].as_array().map(Vec::len), Some(1));
    assert_eq!(desk.data(&["inspect", "mlp.onnx"])["kind"], "network");
    assert!(desk.read("mlp.svg").starts_with(b"<svg"));
}

#[test]
fn preprocessing_is_given_once() {
    let desk = Desk::new();
    let words = "train mlp --data generated --limit 300 --epochs 1 --out mlp.onnx \
                 --standardize=0.5 --mean 0.25";
    let test = ["--test", "generated:test"];
    let words: Vec<&str> = words.split(' ').chain(test).collect();
    let trained = desk.data(&words);
    let stated = &trained["preprocessing"];
    assert_eq!(
        (&stated["standardize"], &stated["mean"][0]),
        (&0.5.into(), &0.25.into())
    );
    assert_eq!(
        &desk.data(&["inspect", "mlp.onnx"])["preprocessing"],
        stated
    );
    desk.data(&["import", "mlp.onnx", "--out", "copy.onnx"]);
    assert_eq!(
        &desk.data(&["inspect", "copy.onnx"])["preprocessing"],
        stated
    );
    let score = |more: &[&str]| {
        let words = ["accuracy", "copy.onnx", "--data", "generated:test"];
        desk.data(&[&words[..], more].concat())["clear_accuracy"].clone()
    };
    assert_eq!(score(&[]), trained["test"]["accuracy"]);
    assert_ne!(score(&["--input-scale=-1/255"]), score(&[]));
    // Layers that are written apart note what was given for them, not what their file did.
    let words = "compile copy.onnx --encrypt last --data generated --calibration 16 --mean 0.5";
    let words: Vec<&str> = words.split(' ').chain(["-o", "last.scuro"]).collect();
    desk.data(&words);
    let noted = desk.data(&["inspect", "last.features.onnx"])["preprocessing"].clone();
    assert_eq!(
        (&noted["mean"][0], &noted["standardize"]),
        (&0.5.into(), &serde_json::Value::Null)
    );
}

#[test]
fn completions_name_the_verbs() {
    let desk = Desk::new();
    assert!(desk.run(&["completion", "bash"]).stdout.contains("keygen"));
}

#[test]
fn a_named_folder_is_the_only_one_looked_at() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    desk.data(&[
        "data",
        "generate",
        "--split",
        "test",
        "--count",
        "20",
        "--out",
        "there/mnist",
    ]);
    let score = |data: &str| {
        [
            "accuracy",
            "model.onnx",
            "--data-dir",
            "there",
            "--data",
            data,
        ]
        .map(str::to_owned)
    };
    let words = |data: &str| desk.run(&score(data).each_ref().map(String::as_str));
    assert_eq!(words("mnist:test").code, 0);
    assert_eq!(words("there/mnist:test").code, 0);
    assert_eq!(words("elsewhere/mnist:test").code, 4);
}

#[test]
fn asking_for_no_images_is_refused() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    let none = [
        "accuracy",
        "model.onnx",
        "--data",
        "generated",
        "--limit",
        "0",
    ];
    assert_eq!(desk.failure(&none), (4, "input.none".into()));
}

#[test]
fn training_that_could_not_be_saved_does_not_start() {
    let desk = Desk::new();
    desk.write("file", b"no folder");
    let words = [
        "train",
        "mlp",
        "--data",
        "generated",
        "--out",
        "file/model.onnx",
    ];
    let outcome = desk.run(&words);
    assert_eq!(outcome.code, 4);
    assert!(!outcome.stderr.contains("epoch"), "{}", outcome.stderr);
}

#[test]
fn the_json_of_a_scoring_becomes_a_page() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    let words = [
        "accuracy",
        "model.onnx",
        "--data",
        "generated",
        "--limit",
        "20",
    ];
    let score = desk.data(&words);
    desk.write("score.json", score.to_string().as_bytes());
    desk.data(&["report", "score.json"]);
    let page = String::from_utf8(desk.read("score.html")).expect("text");
    assert!(page.contains("of 20 images right"), "{page}");
}

#[test]
fn a_picture_without_a_digit_is_named() {
    let desk = Desk::new();
    let blank = image::GrayImage::from_pixel(60, 60, image::Luma([200]));
    blank.save(desk.path("blank.png")).expect("picture");
    let found = desk.run(&[
        "predict",
        "blank.png",
        "--mode",
        "clear",
        "--format",
        "json",
    ]);
    assert_eq!(found.code, 4);
    assert!(found.stdout.contains("input.no-digit") && found.stdout.contains("blank.png"));
    desk.write("words.png", b"not a picture");
    let words = desk.failure(&["predict", "words.png", "--mode", "clear"]);
    assert_eq!(words, (4, "input.picture".into()));
}
