//! The verbs `vault` and `deploy`: from a compiled model to a running vault, and what they refuse.

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use scuro_testkit::mosquitto::{self, Broker};
use serde_json::Value;
use support::{Desk, draw_seven};

const NETWORK: &[u8] = include_bytes!("../assets/demo-cryptonets.onnx");

/// One desk: compiling and making keys is what takes the time.
#[test]
fn a_compiled_model_goes_into_a_vault_that_serves_and_guards_it() {
    let desk = Desk::new();
    vaults_are_made_once(&desk);
    models_are_stored_listed_and_shown(&desk);
    protected_models_are_stored_whole_or_not_at_all(&desk);
    a_full_disk_is_named_at_the_start(&desk);
    devices_are_enrolled_and_revoked(&desk);
    deployments_are_refused_before_they_start(&desk);
    a_vault_serves_users_and_refuses_others(&desk);
    the_key_is_changed(&desk);
    retired_models_are_out_of_use(&desk);
}

#[test]
fn a_vault_enters_a_broker_with_certificate_and_password() {
    let Some(program) = mosquitto::program() else {
        return;
    };
    let desk = Desk::new();
    desk.data(&["vault", "init"]);
    for name in ["localhost", "publisher"] {
        desk.data(&["vault", "enroll", name, "--user", "-o", name]);
    }
    let files = ["ca.pem", "certificate.pem", "private-key.pem"];
    let [authority, certificate, key] = files.map(|file| desk.path("localhost").join(file));
    let login = ["results", "a word for results"];
    let files = [authority.as_path(), &certificate, &key];
    let (folder, port) = (desk.path(""), mosquitto::free_port());
    let lines = mosquitto::guarded(&folder, files, login);
    let _broker = Broker::start(&program, &folder, port, &lines);
    desk.write("password", login[1].as_bytes());
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(desk.path("password"), private).expect("mode");
    let url = format!("mqtts://results@localhost:{port}/scuro/results");
    let words = [
        ["--mqtt", &url],
        ["--mqtt-ca", "publisher/ca.pem"],
        ["--mqtt-certificate", "publisher/certificate.pem"],
        ["--mqtt-key", "publisher/private-key.pem"],
        ["--mqtt-password-file", "password"],
    ];
    let connected = "connected to the MQTT broker for results";
    let (_server, event) = Server::start(&desk, &words.concat(), connected);
    assert_eq!(event["fields"]["broker"], format!("localhost:{port}"));
}

fn vaults_are_made_once(desk: &Desk) {
    let missing = desk.failure(&["vault", "list"]);
    assert_eq!(missing, (4, "vault.not-a-vault".into()));
    desk.data(&["vault", "init"]);
    assert_eq!(desk.failure(&["vault", "init"]), (4, "vault.exists".into()));
    let mode = |name: &str| {
        let metadata = std::fs::metadata(desk.path(name)).expect("there");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode("vault"), mode("vault/vault.key")), (0o700, 0o600));
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(desk.path("vault/vault.key"), open).expect("mode");
    let found = desk.failure(&["vault", "list"]);
    assert_eq!(found, (6, "keys.readable-by-others".into()));
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(desk.path("vault/vault.key"), private).expect("mode");
    desk.data(&["vault", "init", "other"]);
    let wrong = desk.failure(&["vault", "list", "--key-file", "other/vault.key"]);
    assert_eq!(wrong, (6, "vault.wrong-key".into()));
}

fn models_are_stored_listed_and_shown(desk: &Desk) {
    desk.write("model.onnx", NETWORK);
    let compile = [
        "compile",
        "model.onnx",
        "--calibration",
        "32",
        "-o",
        "model.scuro",
    ];
    desk.data(&compile);
    desk.data(&["keygen", "model.scuro", "--out", "keys"]);
    let labels = "0,1,2,3,4,5,6,7,8,9";
    let add = [
        "vault",
        "add",
        "digits",
        "model.scuro",
        "--keys",
        "keys",
        "--labels",
        labels,
    ];
    let stored = desk.data(&add);
    assert_eq!(stored["model"], "digits:1");
    let bad = ["vault", "add", "Digits", "model.scuro", "--keys", "keys"];
    assert_eq!(desk.failure(&bad).0, 4);
    let list = desk.data(&["vault", "list"]);
    assert_eq!(list["models"][0]["state"], "active");
    let shown = desk.data(&["vault", "show", "digits"]);
    assert_eq!(shown["manifest"]["labels"][7], "7");
    assert_eq!(shown["deployment"], stored["deployment"]);
    assert_eq!(
        desk.failure(&["vault", "show", "digits:2"]),
        (4, "vault.not-found".into())
    );
    let table = desk.run(&["vault", "list"]).stdout;
    assert!(
        table.contains("digits:1") && table.contains("in 36"),
        "{table}"
    );
}

/// The files of `scuro protect` by hand: what a device may not see does not get as far.
fn protected_models_are_stored_whole_or_not_at_all(desk: &Desk) {
    let protect = ["protect", "model.onnx", "--calibration", "32", "-o", "p"];
    desk.data(&[&protect[..], &["--encrypt", "last"]].concat());
    let add = ["vault", "add", "hidden", "--keys", "p"];
    let refused = |program, more: &[&str]| desk.failure(&[&add[..], &[program], more].concat());
    let (program, weights) = ("p/device/program.scuro", "p/device/weights.ct");
    let in_clear = (6, "model.weights-in-clear".to_string());
    assert_eq!(refused("p/owner/private.scuro", &[]), in_clear);
    let with = ["--weights", weights];
    assert_eq!(refused("p/owner/private.scuro", &with), in_clear);
    let no_file = (4, "model.weights-file".to_string());
    assert_eq!(refused(program, &[]), no_file);
    assert_eq!(refused("model.scuro", &with).0, 6, "keys of another model");
    let other = [&with[..], &["--features", "model.onnx"]].concat();
    assert_eq!(refused(program, &other), (4, "model.features".to_string()));
    let right = [&with[..], &["--features", "p/device/features.onnx"]].concat();
    desk.data(&[&add[..], &[program], &right].concat());
    let shown = desk.data(&["vault", "show", "hidden"]);
    assert_eq!(shown["manifest"]["encrypted"], "last");
    let plain = desk.data(&["vault", "show", "digits"]);
    assert_eq!(plain["manifest"]["encrypted"], "none");
    let late = [
        "protect",
        "model.onnx",
        "--vault",
        "vault",
        "--name",
        "late",
    ];
    let late = desk.failure(&[&late[..], &["--expires", "0"]].concat());
    assert_eq!(late, (4, "arguments.invalid".into()));
}

/// Room for 4096 bytes a file is less than a database needs to be opened.
fn a_full_disk_is_named_at_the_start(desk: &Desk) {
    let serve = ["vault", "serve", "vault", "--listen", "127.0.0.1:0"];
    for words in [&["vault", "list"][..], &serve] {
        let limited = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_scuro"))
            .args(words)
            .args(["--format", "json"])
            .current_dir(desk.path("."))
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&limited.stdout);
        assert_eq!(limited.status.code(), Some(1), "{said}");
        assert!(said.contains("\"file.disk-full\""), "{said}");
    }
    desk.data(&["vault", "list"]);
}

fn devices_are_enrolled_and_revoked(desk: &Desk) {
    // Nothing listens on the discard port.
    let address = ["--address", "127.0.0.1:9"];
    desk.data(&[&["vault", "enroll", "cam-7", "-o", "cam"], &address[..]].concat());
    let mode = std::fs::metadata(desk.path("cam/private-key.pem")).expect("key");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    assert_eq!(desk.names("cam").len(), 4);
    desk.data(&["vault", "enroll", "cam-8", "-o", "cam-8"]);
    desk.data(&["vault", "revoke", "cam-8"]);
    let reserved = desk.failure(&["vault", "enroll", "scuro-vault", "-o", "never"]);
    assert_eq!(reserved, (4, "peer.reserved-name".into()));
    let number = desk.failure(&["vault", "enroll", "42", "-o", "never"]);
    assert_eq!(number, (4, "peer.numeric-name".into()));
    assert_eq!(
        desk.failure(&["vault", "revoke", "cam-9"]),
        (4, "vault.not-found".into())
    );
    let list = desk.data(&["vault", "devices"]);
    let states: Vec<&str> = list["peers"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|peer| peer["state"].as_str())
        .collect();
    assert_eq!(states, ["active", "revoked"]);
}

fn deployments_are_refused_before_they_start(desk: &Desk) {
    let deploy = |model: &str, device: &str| desk.failure(&["deploy", model, "--device", device]);
    assert_eq!(deploy("digits", "cam-9"), (4, "vault.not-found".into()));
    assert_eq!(deploy("letters", "cam-7"), (4, "vault.not-found".into()));
    assert_eq!(deploy("digits", "cam-8"), (6, "peer.refused".into()));
    assert_eq!(desk.failure(&["deploy", "digits"]).0, 4);
    assert_eq!(deploy("digits", "cam-7"), (2, "connection.failed".into()));
    let back = desk.failure(&["deploy", "rollback", "--device", "cam-7"]);
    assert_eq!(back, (2, "connection.failed".into()));
}

/// `scuro vault serve` in a process of its own.
struct Server {
    process: Child,
}

impl Server {
    /// Starts it with more words; gives the line of its log that says `awaited`.
    fn start(desk: &Desk, more: &[&str], awaited: &str) -> (Self, Value) {
        let mut process = Command::new(env!("CARGO_BIN_EXE_scuro"))
            .args(["vault", "serve", "vault", "--listen", "127.0.0.1:0"])
            .args(["--metrics", "127.0.0.1:0", "--format", "json"])
            .args(more)
            .current_dir(desk.path("."))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("serves");
        let log = BufReader::new(process.stderr.take().expect("a log"));
        let mut lines = log.lines().map_while(Result::ok);
        let server = Self { process };
        let event = lines
            .by_ref()
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find(|event| event["fields"]["message"] == awaited || event["level"] == "WARN")
            .expect("a line");
        assert_eq!(event["fields"]["message"], awaited, "{event}");
        // Somebody must read the log, or the server waits for it.
        std::thread::spawn(move || lines.for_each(drop));
        (server, event)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn a_vault_serves_users_and_refuses_others(desk: &Desk) {
    desk.data(&["vault", "enroll", "alice", "--user", "-o", "alice"]);
    let (_server, event) = Server::start(desk, &[], "vault listens");
    let address = event["fields"]["address"].as_str().expect("an address");
    let ask = ["vault", "results", "--from", address, "--identity"];
    let page = desk.data(&[&ask[..], &["alice"]].concat());
    assert_eq!(page["next_after"], 0);
    let device = desk.failure(&[&ask[..], &["cam"]].concat());
    assert_eq!(device, (6, "peer.role".into()));
    desk.data(&[
        "vault", "enroll", "eve", "--user", "-o", "eve", "--dir", "other",
    ]);
    let foreign = desk.failure(&[&ask[..], &["eve"]].concat());
    assert_eq!(foreign, (2, "connection.failed".into()));
    assert_eq!(
        desk.failure(&["vault", "rekey"]),
        (1, "vault.in-use".into())
    );
    let second = desk.failure(&["vault", "serve", "vault", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.1, "vault.in-use");
}

fn the_key_is_changed(desk: &Desk) {
    let before = desk.read("vault/vault.key");
    desk.data(&["vault", "rekey"]);
    assert_ne!(desk.read("vault/vault.key"), before);
    desk.write("passphrase", b"several words of a passphrase\n");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(desk.path("passphrase"), private).expect("mode");
    desk.data(&["vault", "rekey", "--new-passphrase-file", "passphrase"]);
    assert_eq!(
        desk.failure(&["vault", "list"]),
        (4, "vault.key-kind".into())
    );
    let list = desk.data(&["vault", "list", "--passphrase-file", "passphrase"]);
    assert_eq!(list["models"][0]["model"], "digits:1");
    let back = [
        "--passphrase-file",
        "passphrase",
        "--new-key-file",
        "vault/vault.key",
    ];
    desk.data(&[&["vault", "rekey"], &back[..]].concat());
}

fn retired_models_are_out_of_use(desk: &Desk) {
    desk.data(&["vault", "retire", "digits:1"]);
    let found = desk.failure(&["deploy", "digits:1", "--device", "cam-7"]);
    assert_eq!(found, (6, "model.retired".into()));
    // A picture still needs its keys, which are the user's own.
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
}
