//! A model whose weights are encrypted, from network to label through files, and what is refused.

mod support;

use std::os::unix::fs::PermissionsExt;

use scuro_program::{Operation, Program};
use support::{Desk, draw_seven};

const NETWORK: &[u8] = include_bytes!("../assets/demo-cryptonets.onnx");

/// A desk with a protected model in `NAME/`.
fn protect(desk: &Desk, name: &str, more: &[&str]) {
    desk.write("model.onnx", NETWORK);
    let words = ["protect", "model.onnx", "--calibration", "32", "-o", name];
    desk.data(&[&words[..], more].concat());
}

fn encrypt(desk: &Desk, name: &str) {
    let (program, key) = (
        format!("{name}/device/program.scuro"),
        format!("{name}/device/public.key"),
    );
    let mut words = vec!["encrypt", &program, "seven.png", "--keys", &key];
    let features = format!("{name}/device/features.onnx");
    if desk.path(&features).exists() {
        words.extend(["--features", &features]);
    }
    words.extend(["-o", "query.ct"]);
    desk.data(&words);
}

#[test]
fn a_picture_goes_through_an_encrypted_classifier_to_its_label() {
    let desk = Desk::new();
    draw_seven(&desk.path("seven.png"));
    protect(&desk, "p", &[]);
    encrypt(&desk, "p");
    let words = [
        "evaluate",
        "p/device/program.scuro",
        "query.ct",
        "--weights",
        "p/device/weights.ct",
        "--keys",
        "p/device/evaluation.keys",
        "-o",
        "reply.ct",
    ];
    desk.data(&words);
    let words = ["decrypt", "p/device/program.scuro", "reply.ct", "--key"];
    let answer = desk.data(&[&words[..], &["p/owner/secret.key"]].concat());
    assert_eq!(answer["predictions"][0]["label"], 7);
    nothing_of_the_weights_is_on_the_device(&desk);
    the_owners_files_are_private_and_not_replaced(&desk);
    what_does_not_belong_together_is_refused(&desk);
}

fn nothing_of_the_weights_is_on_the_device(desk: &Desk) {
    let private = Program::from_bytes(&desk.read("p/owner/private.scuro")).expect("program");
    let mut needles = Vec::new();
    for step in &private.steps {
        if let Operation::Linear(linear) = &step.operation {
            let values = &linear.diagonals[0].values.runs[0].values;
            let bytes = values.iter().take(3).flat_map(|v| v.to_le_bytes());
            needles.push(bytes.collect::<Vec<u8>>());
        }
    }
    assert!(needles.len() >= 2);
    for name in desk.names("p/device") {
        let bytes = desk.read(&format!("p/device/{name}"));
        for needle in &needles {
            let found = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!found, "{name} holds weights");
        }
    }
    let public = Program::from_bytes(&desk.read("p/device/program.scuro")).expect("program");
    assert_eq!(public.model_digest, [0; 32]);
    let estimates = public.steps.iter().map(|step| &step.estimate);
    assert!(
        estimates
            .clone()
            .all(|e| e.max_abs == 0.0 && e.error == 0.0)
    );
}

fn the_owners_files_are_private_and_not_replaced(desk: &Desk) {
    for name in desk.names("p/owner") {
        let path = desk.path(&format!("p/owner/{name}"));
        let mode = std::fs::metadata(path).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let before = desk.read("p/owner/secret.key");
    let again = desk.failure(&["protect", "model.onnx", "-o", "p"]);
    assert_eq!(again, (4, "file.exists".into()));
    assert_eq!(desk.read("p/owner/secret.key"), before);
}

fn what_does_not_belong_together_is_refused(desk: &Desk) {
    protect(desk, "other", &[]);
    let evaluate = |weights: &[&str], keys: &str| {
        let words = ["evaluate", "p/device/program.scuro", "query.ct", "--keys"];
        let out = ["-o", "never.ct"];
        desk.failure(&[&words[..], &[keys], weights, &out].concat())
    };
    let keys = "p/device/evaluation.keys";
    let weights = ["--weights", "p/device/weights.ct"];
    // Both programs are the same bytes: only the keys differ.
    let foreign = evaluate(&["--weights", "other/device/weights.ct"], keys);
    assert_eq!(foreign.0, 6, "{foreign:?}");
    assert_eq!(evaluate(&weights, "other/device/evaluation.keys").0, 6);
    assert_eq!(evaluate(&[], keys).0, 4);
    let query = ["--weights", "query.ct"];
    assert_eq!(evaluate(&query, keys).0, 4);
    let words = ["simulate", "p/device/program.scuro", "--data", "generated"];
    assert_eq!(desk.failure(&words).0, 4);
    assert!(!desk.path("never.ct").exists());
}

#[test]
fn an_exact_model_gives_the_scores_of_its_clear_program() {
    let desk = Desk::new();
    protect(&desk, "p", &["--encrypt", "last", "--scheme", "bgv"]);
    let words = [
        "accuracy",
        "model.onnx",
        "--data",
        "generated",
        "--limit",
        "6",
    ];
    let how = [
        "--mode",
        "encrypted",
        "--encrypt",
        "last",
        "--scheme",
        "bgv",
    ];
    let score = desk.data(&[&words[..], &how].concat());
    assert_eq!(score["agreement"], 1.0);
    let parts = desk.data(&["inspect", "p/device/weights.ct"]);
    assert_eq!(
        parts["kind"],
        "weights of a private model, encrypted, for an evaluator"
    );
}

#[test]
fn replies_for_a_decryptor_other_than_the_owner_are_flooded_and_right() {
    let desk = Desk::new();
    let role = ["--encrypt", "last", "--decryptor", "other"];
    protect(&desk, "p", &role);
    let seen = desk.data(&["inspect", "p/device/program.scuro"]);
    assert_eq!(
        seen["decryptor"],
        "anybody: replies are flooded, 40 statistical bits"
    );
    let words = [
        "accuracy",
        "model.onnx",
        "--data",
        "generated",
        "--limit",
        "6",
    ];
    let how = [&words[..], &["--mode", "encrypted"], &role].concat();
    assert_eq!(desk.data(&how)["agreement"], 1.0);
    // Approximate scores are not precise enough to bear the noise.
    let words = ["plan", "model.onnx", "--data", "generated"];
    let approximate = [&words[..], &role, &["--scheme", "ckks"]].concat();
    let (_, code) = desk.failure(&approximate);
    assert_eq!(code, "compile.flooding");
}

#[test]
fn several_pictures_share_a_query_of_a_model_with_encrypted_weights() {
    let desk = Desk::new();
    draw_seven(&desk.path("seven.png"));
    protect(&desk, "p", &["--images-per-query", "4"]);
    let pictures = ["seven.png"; 5];
    let words = ["encrypt", "p/device/program.scuro", "-o", "query.ct"];
    let rest = [
        "--keys",
        "p/device/public.key",
        "--features",
        "p/device/features.onnx",
    ];
    let query = desk.data(&[&words[..], &rest, &pictures].concat());
    let single = desk.data(&["inspect", "p/device/program.scuro"]);
    let ciphertexts = single["query_ciphertexts"].as_str().expect("a count");
    let ciphertexts: u64 = ciphertexts.parse().expect("a number");
    // Four in the first run of the program, one in the second.
    assert_eq!(query["ciphertexts"], 2 * ciphertexts);
    assert_eq!(single["images_a_query"], "4");
    let words = ["evaluate", "p/device/program.scuro", "query.ct"];
    let rest = [
        "--weights",
        "p/device/weights.ct",
        "--keys",
        "p/device",
        "-o",
        "reply.ct",
    ];
    desk.data(&[&words[..], &rest].concat());
    let words = ["decrypt", "p/device/program.scuro", "reply.ct", "--key"];
    let answer = desk.data(&[&words[..], &["p/owner/secret.key"]].concat());
    let predictions = answer["predictions"].as_array().expect("a list");
    assert_eq!(predictions.len(), 5);
    assert!(predictions.iter().all(|one| one["label"] == 7));
    scores_of_several_images_agree(&desk);
    let words = ["plan", "model.onnx", "--images-per-query", "3"];
    let refused = desk.failure(&words);
    assert_eq!(refused, (4, "compile.images-per-query".to_string()));
}

fn scores_of_several_images_agree(desk: &Desk) {
    let words = ["accuracy", "model.onnx", "--data", "generated", "--limit"];
    let how = ["6", "--mode", "encrypted", "--encrypt", "classifier"];
    let more = ["--images-per-query", "4"];
    let score = desk.data(&[&words[..], &how, &more].concat());
    assert_eq!(
        (&score["images"], &score["agreement"]),
        (&6.into(), &1.0.into())
    );
    let words = ["predict", "seven.png", "seven.png", "seven.png"];
    let how = ["--mode", "clear", "--images-per-query", "2"];
    let answer = desk.data(&[&words[..], &how].concat());
    let predictions = answer["predictions"].as_array().expect("a list");
    assert_eq!(predictions.len(), 3);
    assert!(predictions.iter().all(|one| one["label"] == 7));
}
