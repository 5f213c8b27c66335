//! The verbs that pass files to each other, from network to label, and what they refuse.

mod support;

use std::os::unix::fs::PermissionsExt;

use support::{Desk, draw_seven};

const NETWORK: &[u8] = include_bytes!("../assets/demo-cryptonets.onnx");

/// A desk with a compiled model and keys.
fn desk_with_keys() -> Desk {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    desk.data(&[
        "compile",
        "model.onnx",
        "--calibration",
        "32",
        "-o",
        "model.scuro",
    ]);
    desk.data(&["keygen", "model.scuro", "--out", "keys"]);
    desk
}

fn damaged(desk: &Desk, from: &str, to: &str, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = desk.read(from);
    change(&mut bytes);
    desk.write(to, &bytes);
}

/// One desk for everything that needs keys: making them is what takes the time.
#[test]
fn a_picture_goes_through_files_to_its_label_and_bad_files_are_refused() {
    let desk = desk_with_keys();
    a_picture_becomes_its_label(&desk);
    several_images_share_a_query(&desk);
    secret_keys_are_private_and_not_replaced(&desk);
    damaged_files_are_named(&desk);
    foreign_keys_are_refused(&desk);
    wrong_kinds_of_file_are_named(&desk);
    inputs_outside_the_calibrated_range_are_refused(&desk);
    every_file_can_be_inspected(&desk);
    let leftovers = desk
        .names(".")
        .into_iter()
        .filter(|name| name.starts_with(".scuro-"));
    assert_eq!(leftovers.count(), 0, "half-written files");
}

fn a_picture_becomes_its_label(desk: &Desk) {
    draw_seven(&desk.path("seven.png"));
    desk.data(&[
        "encrypt",
        "model.scuro",
        "seven.png",
        "--keys",
        "keys",
        "-o",
        "query.ct",
    ]);
    let keys = "keys/evaluation.keys";
    let account = desk.data(&[
        "evaluate",
        "model.scuro",
        "query.ct",
        "--keys",
        keys,
        "-o",
        "r.ct",
    ]);
    assert!(
        account["steps"]
            .as_array()
            .is_some_and(|steps| !steps.is_empty())
    );
    let answer = desk.data(&["decrypt", "model.scuro", "r.ct", "--key", "keys/secret.key"]);
    assert_eq!(answer["predictions"][0]["label"], 7);
}

fn several_images_share_a_query(desk: &Desk) {
    let data = [
        "--data",
        "generated",
        "--index",
        "2",
        "--count",
        "2",
        "-o",
        "two.ct",
    ];
    let words = ["encrypt", "model.scuro", "--keys", "keys/public.key"];
    let query = desk.data(&[&words[..], &data[..]].concat());
    assert_eq!(query["images"], 2);
    let keys = "keys/evaluation.keys";
    desk.data(&[
        "evaluate",
        "model.scuro",
        "two.ct",
        "--keys",
        keys,
        "-o",
        "two-reply.ct",
    ]);
    let answer = desk.data(&["decrypt", "model.scuro", "two-reply.ct", "--key", "keys"]);
    assert_eq!(answer["predictions"].as_array().map(Vec::len), Some(2));
}

fn secret_keys_are_private_and_not_replaced(desk: &Desk) {
    let mode = std::fs::metadata(desk.path("keys/secret.key"))
        .expect("key")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = desk.read("keys/secret.key");
    let again = desk.failure(&["keygen", "model.scuro", "--out", "keys"]);
    assert_eq!(again, (4, "file.exists".into()));
    assert_eq!(desk.read("keys/secret.key"), before);
}

fn damaged_files_are_named(desk: &Desk) {
    let evaluate = |model: &str, query: &str, keys: &str| {
        desk.failure(&["evaluate", model, query, "--keys", keys, "-o", "never.ct"])
    };
    let keys = "keys/evaluation.keys";
    damaged(desk, "model.scuro", "short.scuro", |bytes| {
        bytes.truncate(bytes.len() / 2)
    });
    assert_eq!(evaluate("short.scuro", "query.ct", keys).0, 4);
    damaged(desk, "model.scuro", "magic.scuro", |bytes| bytes[0] ^= 1);
    assert_eq!(
        evaluate("magic.scuro", "query.ct", keys),
        (4, "program.wrong-magic".into())
    );
    damaged(desk, "model.scuro", "flip.scuro", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    assert_eq!(evaluate("flip.scuro", "query.ct", keys).0, 4);
    damaged(desk, "query.ct", "short.ct", |bytes| {
        bytes.truncate(bytes.len() - 9)
    });
    assert_eq!(
        evaluate("model.scuro", "short.ct", keys),
        (4, "bundle.truncated".into())
    );
    damaged(desk, "query.ct", "version.ct", |bytes| bytes[8] = 99);
    assert_eq!(
        evaluate("model.scuro", "version.ct", keys),
        (4, "bundle.wrong-version".into())
    );
    damaged(desk, "query.ct", "flip.ct", |bytes| bytes[5000] ^= 1);
    assert_eq!(
        evaluate("model.scuro", "flip.ct", keys),
        (4, "bundle.damaged".into())
    );
    damaged(desk, keys, "short.keys", |bytes| bytes.truncate(1000));
    assert_eq!(
        evaluate("model.scuro", "query.ct", "short.keys"),
        (4, "file.truncated".into())
    );
    assert!(!desk.path("never.ct").exists(), "nothing is written half");
}

fn foreign_keys_are_refused(desk: &Desk) {
    desk.data(&["keygen", "model.scuro", "--out", "other"]);
    let keys = "other/evaluation.keys";
    let words = [
        "evaluate",
        "model.scuro",
        "query.ct",
        "--keys",
        keys,
        "-o",
        "never.ct",
    ];
    assert_eq!(desk.failure(&words), (6, "keys.mismatch".into()));
    let words = [
        "decrypt",
        "model.scuro",
        "r.ct",
        "--key",
        "other/secret.key",
    ];
    assert_eq!(desk.failure(&words), (6, "keys.mismatch".into()));
    let compile = [
        "compile",
        "model.onnx",
        "--calibration",
        "40",
        "-o",
        "another.scuro",
    ];
    desk.data(&[&compile[..], &["--security", "192"]].concat());
    let words = [
        "decrypt",
        "another.scuro",
        "r.ct",
        "--key",
        "keys/secret.key",
    ];
    assert_eq!(desk.failure(&words), (6, "keys.other-parameters".into()));
    let words = [
        "evaluate",
        "another.scuro",
        "query.ct",
        "--keys",
        "keys/evaluation.keys",
    ];
    assert_eq!(
        desk.failure(&[&words[..], &["-o", "never.ct"]].concat()).0,
        6
    );
}

fn wrong_kinds_of_file_are_named(desk: &Desk) {
    let words = [
        "evaluate",
        "model.scuro",
        "query.ct",
        "--keys",
        "keys/secret.key",
    ];
    let found = desk.failure(&[&words[..], &["-o", "never.ct"]].concat());
    assert_eq!(found, (4, "file.wrong-kind".into()));
    let words = [
        "evaluate",
        "model.scuro",
        "r.ct",
        "--keys",
        "keys/evaluation.keys",
    ];
    let found = desk.failure(&[&words[..], &["-o", "never.ct"]].concat());
    assert_eq!(found, (4, "bundle.wrong-kind".into()));
    let found = desk.failure(&["keygen", "model.onnx", "--out", "never"]);
    assert_eq!(found, (4, "program.wrong-magic".into()));
    assert!(!desk.path("never").exists() && !desk.path("never.ct").exists());
}

fn inputs_outside_the_calibrated_range_are_refused(desk: &Desk) {
    let compile = [
        "compile",
        "model.onnx",
        "--calibration",
        "32",
        "--input-scale",
        "1/2550",
    ];
    desk.data(&[&compile[..], &["-o", "dim.scuro"]].concat());
    desk.data(&["keygen", "dim.scuro", "--out", "dim"]);
    let mut program =
        scuro_program::Program::from_bytes(&desk.read("dim.scuro")).expect("a program");
    program.notes.retain(|(key, _)| key != "input-scale");
    desk.write("bright.scuro", &program.to_bytes());
    let words = [
        "encrypt",
        "bright.scuro",
        "seven.png",
        "--keys",
        "dim",
        "-o",
        "never.ct",
    ];
    assert_eq!(desk.failure(&words), (4, "input.out-of-range".into()));
    assert!(!desk.path("never.ct").exists());
}

fn every_file_can_be_inspected(desk: &Desk) {
    let kind = |file: &str| {
        let data = desk.data(&["inspect", file]);
        data["kind"].as_str().unwrap_or_default().to_string()
    };
    assert_eq!(kind("model.onnx"), "network");
    assert_eq!(kind("model.scuro"), "compiled model");
    assert_eq!(kind("keys/secret.key"), "secret key");
    assert_eq!(kind("keys/evaluation.keys"), "evaluation-key set");
    assert_eq!(kind("keys/public.key"), "public key");
    assert!(kind("query.ct").starts_with("query"));
    assert!(kind("r.ct").starts_with("reply"));
}

#[test]
fn programs_below_the_security_level_are_refused() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    desk.data(&[
        "compile",
        "model.onnx",
        "--calibration",
        "16",
        "-o",
        "model.scuro",
    ]);
    let mut program =
        scuro_program::Program::from_bytes(&desk.read("model.scuro")).expect("a program");
    program.parameters.security_bits = 256;
    desk.write("weak.scuro", &program.to_bytes());
    let found = desk.failure(&["keygen", "weak.scuro", "--out", "keys"]);
    assert_eq!(found, (6, "security.below-level".into()));
    assert!(!desk.path("keys").exists());
}

#[test]
fn rotation_keys_stay_within_a_budget() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    let words = ["plan", "model.onnx", "--calibration", "16"];
    let plan = |more: &[&str]| desk.data(&[&words[..], more].concat());
    let (free, few) = (plan(&[]), plan(&["--galois-budget", "12"]));
    assert!(free["rotation_keys"].as_u64().is_some_and(|keys| keys > 12));
    assert!(few["rotation_keys"].as_u64().is_some_and(|keys| keys <= 12));
    let bytes = |plan: &serde_json::Value| plan["predicted"]["key_bytes"].as_u64();
    assert!(bytes(&few) < bytes(&free));
    let refused = desk.failure(&[&words[..], &["--galois-budget", "1"]].concat());
    assert_eq!(refused, (4, "compile.rotations".to_string()));
}

#[test]
fn a_key_set_without_a_rotation_is_named() {
    let desk = Desk::new();
    desk.write("model.onnx", NETWORK);
    desk.data(&[
        "compile",
        "model.onnx",
        "--calibration",
        "16",
        "-o",
        "model.scuro",
    ]);
    let model = scuro_client::Model::open(&desk.read("model.scuro")).expect("a model");
    let mut manifest = model.key_manifest();
    manifest.rotations.pop_last();
    let mut rng = <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::from_seed([5; 32]);
    let context = model.context();
    let secret = scuro_fhe::owner::SecretKey::generate(context, &mut rng);
    let generator = scuro_fhe::owner::KeyGenerator::new(context, &secret).expect("generator");
    let keys = generator
        .evaluation_keys(&manifest, &mut rng)
        .expect("keys");
    desk.write("few.keys", &keys.to_bytes(context));
    desk.write("secret.key", &secret.to_bytes());
    draw_seven(&desk.path("seven.png"));
    desk.data(&[
        "encrypt",
        "model.scuro",
        "seven.png",
        "--keys",
        "secret.key",
        "-o",
        "q.ct",
    ]);
    let words = [
        "evaluate",
        "model.scuro",
        "q.ct",
        "--keys",
        "few.keys",
        "-o",
        "never.ct",
    ];
    assert_eq!(desk.failure(&words), (4, "keys.missing-rotation".into()));
    assert!(!desk.path("never.ct").exists());
}
