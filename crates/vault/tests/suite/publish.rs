//! Results at a real broker, which goes away, guards itself, or is not the right one.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, Packet, QoS};
use scuro_testkit::mosquitto::{self, Broker, free_port};
use scuro_vault::devices::{Enrolment, PeerRole};
use scuro_wire::inference::Outcome;
use scuro_wire::mqtt::{Access, Topic};
use scuro_wire::results::InferenceResult;
use scuro_wire::tls::{AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE, foreign_client};
use tokio::sync::{mpsc, oneshot};

use crate::common::{Desk, PATIENCE, eventually, name, today};
use crate::service::Site;

const USER: &str = "results";
const PASSWORD: &str = "a word for results";

fn topic(port: u16) -> Topic {
    let url = format!("mqtt://127.0.0.1:{port}/scuro/results");
    Topic::for_publisher(&url, &Access::default()).expect("a topic")
}

/// Numbers of the results that a subscriber of the broker sees.
async fn subscribe(broker: &Topic) -> mpsc::UnboundedReceiver<u64> {
    let mut options = broker.options("subscriber");
    options.set_clean_session(false);
    options.set_max_packet_size(1 << 20, 1 << 10);
    let (client, mut events) = AsyncClient::new(options, 10);
    let wanted = client.subscribe("scuro/results/+", QoS::AtLeastOnce);
    wanted.await.expect("queued");
    let (ready, subscribed) = oneshot::channel();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let _client = client;
        let mut ready = Some(ready);
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    ready.take().map(|ready| ready.send(()));
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    assert_eq!(message.topic, "scuro/results/digits");
                    let result: InferenceResult =
                        serde_json::from_slice(&message.payload).expect("a result");
                    if sender.send(result.seq).is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    subscribed.await.expect("subscribed");
    receiver
}

/// Waits until results 1 to `last` were seen.
async fn see(seen: &mut mpsc::UnboundedReceiver<u64>, last: u64) {
    let mut missing: BTreeSet<u64> = (1..=last).collect();
    while !missing.is_empty() {
        let next = tokio::time::timeout(PATIENCE, seen.recv()).await;
        missing.remove(&next.expect("in time").expect("a number"));
    }
}

fn published(site: &Site) -> u64 {
    site.desk.vault.published("mqtt").expect("cursor")
}

/// Waits until the broker has taken results up to a number.
async fn has_taken(site: &Site, last: u64) {
    eventually("published results", async || published(site) == last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_wait_for_a_broker_that_is_away_and_none_is_lost() {
    let Some(program) = mosquitto::program() else {
        return;
    };
    let (folder, port) = (tempfile::tempdir().expect("folder"), free_port());
    let start = || Broker::start(&program, folder.path(), port, mosquitto::OPEN);
    let broker = start();
    let mut seen = subscribe(&topic(port)).await;
    let mut site = Site::new(Some(topic(port))).await;
    site.register(1..=30).await;
    site.send(1..=10).await;
    see(&mut seen, 10).await;
    has_taken(&site, 10).await;
    site.comes_to_show("scuro_vault_broker_up 1\n").await;
    drop(broker);
    let acks = site.send(11..=20).await;
    assert!(
        acks.iter().all(|ack| ack.outcome == Outcome::Accepted),
        "devices do not wait"
    );
    site.comes_to_show("scuro_vault_broker_up 0\n").await;
    let waiting = "scuro_vault_publish_waiting{sink=\"mqtt\"} 10\n";
    site.comes_to_show(waiting).await;
    assert_eq!(published(&site), 10);
    let _broker = start();
    site.send(21..=30).await;
    // The subscriber's session may have died with the broker: the vault's books tell.
    has_taken(&site, 30).await;
    site.comes_to_show("scuro_vault_broker_up 1\n").await;
    site.stop().await;
}

/// Authority, certificate and key of a vault's authority for `who`, as files.
fn bundle(desk: &Desk, who: &str, folder: &Path) -> [PathBuf; 3] {
    let enrolment = Enrolment {
        name: name(who),
        role: PeerRole::User,
        days: 300,
        address: None,
    };
    let made = desk.vault.enrol(&enrolment, today());
    let made = made.expect("enrolled");
    let texts = [
        &made.authority_pem[..],
        made.certificate_pem.as_bytes(),
        made.key_pem.as_bytes(),
    ];
    let paths = [AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE];
    let paths = paths.map(|file| folder.join(format!("{who}-{file}")));
    for (path, text) in paths.iter().zip(texts) {
        std::fs::write(path, text).expect("written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, mode).expect("mode");
    }
    paths
}

/// How the vault enters: authority, certificate and password.
fn access(authority: &Path, [_, certificate, key]: &[PathBuf; 3], password: &str) -> Access {
    let tls = foreign_client(authority, Some((certificate, key)));
    Access {
        password: Some(password.to_string().into()),
        tls: Some(tls.expect("certificates")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_behind_tls_is_entered_with_certificate_and_password_or_results_wait() {
    let Some(program) = mosquitto::program() else {
        return;
    };
    let (folder, port) = (tempfile::tempdir().expect("folder"), free_port());
    let mut site = Site::new(None).await;
    let server = bundle(&site.desk, "localhost", folder.path());
    let client = bundle(&site.desk, "publisher", folder.path());
    let foreign = bundle(&Desk::new(), "foreign", folder.path());
    let [authority, certificate, key] = &server;
    let files = [authority.as_path(), certificate, key];
    let lines = mosquitto::guarded(folder.path(), files, [USER, PASSWORD]);
    let _broker = Broker::start(&program, folder.path(), port, &lines);
    let guarded = |access: &Access| {
        let url = format!("mqtts://{USER}@localhost:{port}/scuro/results");
        Topic::for_publisher(&url, access).expect("a topic")
    };
    site.register([1, 2, 3]).await;
    site.send([1, 2, 3]).await;
    // A broker of another authority, a certificate of another authority, a wrong password.
    for wrong in [
        access(&foreign[0], &client, PASSWORD),
        access(authority, &foreign, PASSWORD),
        access(authority, &client, "a guess"),
    ] {
        site.restart(Some(guarded(&wrong))).await;
        // It goes on trying: nobody may look in time to see that it was once.
        site.comes_to_show("\nscuro_vault_broker_lost_total ").await;
        site.comes_to_show("scuro_vault_publish_waiting{sink=\"mqtt\"} 3\n")
            .await;
        assert_eq!(published(&site), 0);
    }
    let right = guarded(&access(authority, &client, PASSWORD));
    let mut seen = subscribe(&right).await;
    site.restart(Some(right)).await;
    see(&mut seen, 3).await;
    has_taken(&site, 3).await;
    site.stop().await;
}
