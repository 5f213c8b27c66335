//! What a device and a vault refuse or wait out, each its own process: a clear line in the log,
//! nothing lost, nothing decrypted for a stranger.

use std::fs::File;
use std::process::{Command, Stdio};

use scuro_server::edge::spool::Reader;
use scuro_testkit::mosquitto::{self, Broker};
use scuro_vault::registry::NewModel;
use scuro_vault::{KeySource, Vault};
use scuro_wire::inference::{CONTENT_TYPE, Inference, InferenceBatch, InferenceBatchReply};
use scuro_wire::query::{QueryBatch, QueryRegistration};
use scuro_wire::tls::{Identity, VAULT_NAME};
use scuro_wire::{QueryId, https, paths};
use serde_json::json;

use super::site::{DEPLOY, LOG, Service, free_address};
use super::support::{Desk, draw_seven};
use super::{Fleet, pixel, until};

/// Seconds that a key lasts: longer than storing its model takes.
const KEY_LIFE: u64 = 15;
/// Frames of each part.
const FEW: usize = 3;

#[test]
fn bad_input_is_refused_or_waited_out_and_nothing_is_lost() {
    let fleet = Fleet::new();
    fleet.set_up();
    let camera = Camera::new();
    expired_and_mixed_models_are_refused(&fleet.desk);
    let vault = fleet.vault();
    damaged_and_half_transferred_models_do_not_become_active(&fleet, &camera);
    strangers_get_nothing(&fleet);
    vault.kill().expect("killed");
    let recorded = frames_are_taken_while_the_vault_is_away(&fleet, &camera);
    a_full_disk_refuses_and_loses_nothing(&fleet, &camera);
    let (vault, edge) = (fleet.vault(), fleet.edge(&camera.words()));
    until("all answers", || {
        (published(&fleet) == camera.taken()).then_some(())
    });
    replays_and_foreign_ciphertexts_are_refused(&fleet, &recorded);
    assert_eq!(published(&fleet), camera.taken());
    edge.kill().expect("killed");
    a_broker_that_is_gone_is_waited_for(&fleet, &camera);
    vault.kill().expect("killed");
    let log = String::from_utf8(fleet.desk.read(LOG)).expect("text");
    for line in [
        "frame refused",
        "artefact",
        "reply.replayed",
        "query.unknown",
        "received fatal alert: UnknownCA",
        "invalid peer certificate: UnknownIssuer",
        "the vault cannot take inferences",
        "no room on disk for the spool",
        "processing rests; frames wait reason=\"no-model\"",
    ] {
        assert!(log.contains(line), "{line} is not in the log:\n{log}");
    }
}

/// Lines in the vault's file of results.
fn published(fleet: &Fleet) -> usize {
    let file = std::fs::read_to_string(fleet.desk.path("vault/results.jsonl"));
    file.map_or(0, |text| text.lines().count())
}

/// Posts frames and reads metrics.
struct Camera {
    http: String,
    taken: std::cell::Cell<usize>,
}

impl Camera {
    fn new() -> Self {
        Self {
            http: free_address().expect("a free address"),
            taken: std::cell::Cell::new(0),
        }
    }

    fn words(&self) -> [&str; 2] {
        ["--http", &self.http]
    }

    /// Frames that were taken.
    fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Status of a post; nothing if nobody listens.
    fn post(&self, body: &[u8]) -> Option<u16> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = agent.build().into();
        let url = format!("http://{}/v1/frames", self.http);
        Some(agent.post(url).send(body).ok()?.status().as_u16())
    }

    /// Posts frame `number` once there is somebody who answers: as numbers, which are longer than
    /// pixels.
    fn frame(&self, number: usize) -> u16 {
        let values = (0..784).map(|place| f64::from(pixel(number, place)) / 255.0);
        let frame = json!({ "id": format!("f{number}"), "values": values.collect::<Vec<_>>() });
        let status = until("an answer", || self.post(frame.to_string().as_bytes()));
        self.taken
            .set(self.taken.get() + usize::from(status == 202));
        status
    }

    fn metrics(&self) -> String {
        let answer = ureq::get(format!("http://{}/metrics", self.http)).call();
        let text = answer
            .ok()
            .and_then(|answer| answer.into_body().read_to_string().ok());
        text.unwrap_or_default()
    }
}

fn expired_and_mixed_models_are_refused(desk: &Desk) {
    let words = ["protect", "model.onnx", "--calibration", "32", "--security"];
    desk.data(&[&words[..], &["192", "--out", "old"]].concat());
    let compile = ["compile", "model.onnx", "--calibration", "32", "--out"];
    desk.data(&[&compile[..], &["other.scuro"]].concat());
    let mixed = ["vault", "add", "mixed", "other.scuro", "--keys", "old"];
    assert_eq!(desk.failure(&mixed).0, 6);
    let expires = scuro_vault::now() + KEY_LIFE;
    store_until(desk, expires);
    until("the end of the key", || {
        (scuro_vault::now() > expires).then_some(())
    });
    let old = desk.failure(&["deploy", "old", "--device", "cam-7"]);
    assert_eq!(old, (6, "model.key-expired".into()));
}

/// Stores what is in `old` with a key that expires: the command line counts in days.
fn store_until(desk: &Desk, expires: u64) {
    let file = |name: &str| desk.read(&format!("old/{name}"));
    let source = KeySource::File(Vault::default_key_file(&desk.path("vault")));
    let vault = Vault::open(&desk.path("vault"), &source).expect("the vault");
    let new = NewModel {
        name: "old".parse().expect("a name"),
        program: &file("device/program.scuro"),
        features: Some(&file("device/features.onnx")),
        weights: Some(&file("device/weights.ct")),
        public_key: &file("device/public.key"),
        evaluation_keys: &file("device/evaluation.keys"),
        secret_key: &file("owner/secret.key"),
        labels: Vec::new(),
        expires,
    };
    vault.store(&new, scuro_vault::now()).expect("stored");
}

fn damaged_and_half_transferred_models_do_not_become_active(fleet: &Fleet, camera: &Camera) {
    let desk = &fleet.desk;
    let shown = desk.data(&["vault", "show", "digits"]);
    let weights = shown["manifest"]["artefacts"]
        .as_array()
        .expect("list")
        .iter();
    let weights = weights.max_by_key(|artefact| artefact["bytes"].as_u64());
    let digest = weights.expect("artefacts")["digest"]
        .as_str()
        .expect("text")
        .to_string();
    let stored = format!("vault/artefacts/{digest}");
    let good = desk.read(&stored);
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    desk.write(&stored, &bad);
    let edge = fleet.edge(&camera.words());
    until("the device", || {
        (!camera.metrics().is_empty()).then_some(())
    });
    assert_eq!(desk.failure(&DEPLOY), (6, "vault.tampered".into()));
    assert_eq!(camera.post(&[0; 784]), Some(503), "no model is active");
    edge.kill().expect("killed");
    desk.write(&stored, &good);
    // Half of it, and not the right half.
    desk.write(
        &format!("device/artefacts/{digest}.part"),
        &bad[..good.len() / 2 + 1],
    );
    let edge = fleet.edge(&camera.words());
    until("the deployment", || {
        (desk.run(&DEPLOY).code == 0).then_some(())
    });
    let pieces = camera.metrics();
    assert!(
        pieces.contains("scuro_edge_artefact_pieces_total"),
        "{pieces}"
    );
    assert!(desk.read(&format!("device/artefacts/{digest}")) == good);
    edge.kill().expect("killed");
}

fn strangers_get_nothing(fleet: &Fleet) {
    let desk = &fleet.desk;
    desk.data(&["vault", "init", "other"]);
    let enrol = ["vault", "enroll", "cam-7", "--dir", "other", "--out"];
    desk.data(&[&enrol[..], &["strange", "--address", "127.0.0.1:1"]].concat());
    let from = [
        "vault",
        "results",
        "--from",
        &fleet.site.vault,
        "--identity",
    ];
    let stranger = desk.failure(&[&from[..], &["strange"]].concat());
    assert_eq!(stranger.0, 2, "{stranger:?}");
    a_device_with_another_vaults_bundle_says_so(fleet);
    // A device of this vault is no reader.
    let device = desk.failure(&[&from[..], &["bundle"]].concat());
    assert_eq!(device, (6, "peer.role".into()));
    let metrics = ureq::get(format!("http://{}/metrics", fleet.site.metrics)).call();
    let metrics = metrics.expect("metrics").into_body().read_to_string();
    let metrics = metrics.expect("text");
    assert!(metrics.contains("scuro_tls_refused_total"), "{metrics}");
}

/// Before it has a frame, or anything to send.
fn a_device_with_another_vaults_bundle_says_so(fleet: &Fleet) {
    let strange = Camera::new();
    let vault = format!("https://{}", fleet.site.vault);
    let words = ["edge", "serve", "stranger", "--bundle", "strange"];
    let addresses = ["--vault", &vault, "--listen", "127.0.0.1:0"];
    let log = File::options().append(true).open(fleet.desk.path(LOG));
    let stranger = Command::new(env!("CARGO_BIN_EXE_scuro"))
        .args([&words[..], &addresses, &strange.words()].concat())
        .current_dir(fleet.desk.path(""))
        .stderr(log.expect("the log"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let stranger = Service(stranger.expect("the binary runs"));
    let failures = "scuro_edge_uplink_failures_total{reason=\"wire.invalid\"}";
    let metrics = until("a failure", || {
        let metrics = strange.metrics();
        metrics.contains(failures).then_some(metrics)
    });
    assert!(metrics.contains("scuro_edge_uplink_up 0"), "{metrics}");
    stranger.kill().expect("killed");
}

/// What the device made of the frames.
fn frames_are_taken_while_the_vault_is_away(fleet: &Fleet, camera: &Camera) -> Vec<Inference> {
    let edge = fleet.edge(&camera.words());
    assert_eq!(until("an answer", || camera.post(&[0; 783])), 400);
    assert_eq!(camera.post(b"{\"pixels\": [1, 2]}"), Some(400));
    assert_eq!(camera.post(b"{\"id\": "), Some(400));
    let metrics = camera.metrics();
    assert!(
        metrics.contains("frames_refused_total{reason=\"length\""),
        "{metrics}"
    );
    for number in 0..FEW {
        assert_eq!(camera.frame(number), 202);
    }
    let reader = Reader::open(&fleet.desk.path("device")).expect("the spool");
    let waiting = until("the inferences", || {
        let waiting = reader.inferences(FEW, usize::MAX).expect("read");
        (waiting.len() == FEW).then_some(waiting)
    });
    edge.kill().expect("killed");
    waiting
        .into_iter()
        .map(|waiting| waiting.inference)
        .collect()
}

fn a_full_disk_refuses_and_loses_nothing(fleet: &Fleet, camera: &Camera) {
    let edge = fleet.edge(&[&camera.words()[..], &["--disk", "1"]].concat());
    let full = (FEW..5000)
        .map(|number| camera.frame(number))
        .find(|status| *status != 202);
    assert_eq!(full, Some(429), "come again");
    let metrics = camera.metrics();
    assert!(metrics.contains("reason=\"file.disk-full\""), "{metrics}");
    edge.kill().expect("killed");
}

/// Sends as the device does, with its own certificate.
async fn send(fleet: &Fleet, path: &str, kind: &str, body: Vec<u8>) -> https::Answer {
    let identity = Identity::load(&fleet.desk.path("bundle")).expect("the bundle");
    let tls = identity.client_config().expect("certificates");
    let mut client = https::Client::new(&fleet.site.vault, VAULT_NAME, tls);
    let headers = [("content-type", kind.to_string())];
    let sent = client.send(hyper::Method::POST, path, &headers, body);
    sent.await.expect("an answer")
}

/// Codes for these inferences, under a fresh query id each that is registered or not.
fn codes(fleet: &Fleet, inferences: &[Inference], registered: bool) -> Vec<String> {
    let mut inferences = inferences.to_vec();
    for (number, inference) in inferences.iter_mut().enumerate() {
        inference.query_id = QueryId([number as u8 + u8::from(registered) * 100; 16]);
    }
    let registration = |inference: &Inference| QueryRegistration {
        query_id: inference.query_id,
        deployment: inference.deployment,
        query_digest: inference.query_digest,
    };
    let queries = inferences.iter().map(registration).collect();
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        if registered {
            let body = serde_json::to_vec(&QueryBatch { queries }).expect("JSON");
            let answer = send(fleet, paths::QUERIES, "application/json", body).await;
            assert!(answer.status.is_success(), "{}", answer.problem());
        }
        let body = InferenceBatch { inferences }.to_bytes();
        let answer = send(fleet, paths::INFERENCES, CONTENT_TYPE, body).await;
        let reply: InferenceBatchReply = answer.json().expect("a reply");
        let code = |ack: scuro_wire::inference::InferenceAck| ack.code.unwrap_or_default();
        reply.acks.into_iter().map(code).collect()
    })
}

fn replays_and_foreign_ciphertexts_are_refused(fleet: &Fleet, recorded: &[Inference]) {
    assert_eq!(codes(fleet, recorded, false), ["query.unknown"; FEW]);
    assert_eq!(codes(fleet, recorded, true), ["reply.replayed"; FEW]);
    let mut foreign = recorded[..1].to_vec();
    foreign[0].reply = reply_under_another_key(&fleet.desk);
    assert_eq!(codes(fleet, &foreign, true), ["reply.wrong-key"]);
    foreign[0].reply.truncate(1000);
    assert_eq!(codes(fleet, &foreign, true), ["reply.malformed"]);
}

/// A sound reply of the same program, whose keys and weights are another owner's.
fn reply_under_another_key(desk: &Desk) -> Vec<u8> {
    let protect = ["protect", "model.onnx", "--calibration", "32", "--out"];
    desk.data(&[&protect[..], &["foreign"]].concat());
    draw_seven(&desk.path("seven.png"));
    let file = |name: &str| format!("foreign/device/{name}");
    let (program, features) = (file("program.scuro"), file("features.onnx"));
    let (public, weights) = (file("public.key"), file("weights.ct"));
    let encrypt = ["encrypt", &program, "seven.png", "--features", &features];
    desk.data(&[&encrypt[..], &["--keys", &public, "--out", "query.ct"]].concat());
    let (keys, out) = (file("evaluation.keys"), ["--out", "reply.ct"]);
    let evaluate = ["evaluate", &program, "query.ct", "--weights", &weights];
    desk.data(&[&evaluate[..], &["--keys", &keys], &out].concat());
    desk.read("reply.ct")
}

fn a_broker_that_is_gone_is_waited_for(fleet: &Fleet, camera: &Camera) {
    let Some(program) = mosquitto::program() else {
        return;
    };
    let (folder, port) = (fleet.desk.path(""), mosquitto::free_port());
    let address = format!("127.0.0.1:{port}");
    let url = format!("mqtt://{address}/cameras/7");
    let broker = || Broker::start(&program, &folder, port, mosquitto::OPEN);
    let edge = fleet.edge(&[&camera.words()[..], &["--mqtt", &url]].concat());
    let labels = format!("broker=\"{address}\",topic=\"cameras/7\"");
    let gauge = format!("scuro_edge_mqtt_up{{{labels}}}");
    let shows = |line: &str| {
        until(line, || camera.metrics().contains(line).then_some(()));
    };
    for _ in 0..2 {
        shows(&format!("{gauge} 0\n"));
        let before = camera.taken();
        assert_eq!(camera.frame(10_000 + before), 202);
        let up = broker();
        shows(&format!("{gauge} 1\n"));
        drop(up);
    }
    until("all answers", || {
        (published(fleet) == camera.taken()).then_some(())
    });
    edge.kill().expect("killed");
    let log = String::from_utf8(fleet.desk.read(LOG)).expect("text");
    assert!(log.contains("no MQTT messages; trying again"), "{log}");
}
