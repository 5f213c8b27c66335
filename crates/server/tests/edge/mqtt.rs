//! Frames of a real broker, which is also killed.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::pki;
use crate::support::vault::Vault;
use crate::support::{World, eventually, first, json, pixels, run};
use scuro_server::edge::frame::MAX_FRAME_BYTES;
use scuro_server::edge::intake::Form;
use scuro_server::edge::service::Edge;
use scuro_testkit::mosquitto::{self, Broker, free_port};
use scuro_wire::mqtt::{Access, Topic};
use scuro_wire::tls::{AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE, foreign_client};

/// A topic of a broker that lets everyone in.
fn topic(port: u16) -> Topic {
    let url = format!("mqtt://127.0.0.1:{port}/cameras/7");
    Topic::for_subscriber(&url, &Access::default()).expect("a topic")
}

/// The line of the metrics that tells whether the topic is subscribed to.
fn gauge(host: &str, port: u16, up: u8) -> String {
    format!("scuro_edge_mqtt_up{{broker=\"{host}:{port}\",topic=\"cameras/7\"}} {up}\n")
}

/// A publisher that waits until the broker has every message.
async fn publish(port: u16, topic: &str, payloads: &[Vec<u8>]) {
    let options = rumqttc::MqttOptions::new("camera", "127.0.0.1", port);
    publish_as(options, topic, payloads).await;
}

async fn publish_as(mut options: rumqttc::MqttOptions, topic: &str, payloads: &[Vec<u8>]) {
    options.set_max_packet_size(1 << 20, 32 << 20);
    let (client, mut connection) = rumqttc::AsyncClient::new(options, 64);
    for payload in payloads {
        let quality = rumqttc::QoS::AtLeastOnce;
        client
            .publish(topic, quality, false, payload.clone())
            .await
            .expect("published");
    }
    let mut acknowledged = 0;
    while acknowledged < payloads.len() {
        let event = connection.poll().await.expect("connected");
        if let rumqttc::Event::Incoming(packet) = event {
            acknowledged += usize::from(matches!(packet, rumqttc::Packet::PubAck(_)));
        }
    }
}

#[test]
fn frames_of_a_topic_are_taken_once_and_a_broker_that_goes_is_waited_for() {
    let Some(program) = mosquitto::program() else {
        return;
    };
    run(async {
        let world = World::new();
        let port = free_port();
        let broker = Broker::start(&program, world.folder.path(), port, mosquitto::OPEN);
        let vault = Vault::start(
            "127.0.0.1:0".parse().expect("address"),
            &world.vendor(),
            Arc::clone(&world.vault),
        )
        .await;
        let mut options = world.options();
        options.vault = Some(vault.address.to_string());
        options.mqtt = vec![topic(port)];
        let edge = Edge::start(options).await.expect("started");
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        let shows = |text: &str| edge.metrics().render().contains(text);
        let is_up = |up| shows(&gauge("127.0.0.1", port, up));
        eventually("a subscription", || is_up(1)).await;
        let frames: Vec<Vec<u8>> = (0..25)
            .map(|number| json(&format!("m{number}"), number % 10).into_bytes())
            .chain([
                pixels(9),
                b"{\"pixels\":[1]}".to_vec(),
                b"nonsense".to_vec(),
            ])
            // A publisher that got no acknowledgement sends again.
            .chain([json("m3", 3).into_bytes()])
            .collect();
        publish(port, "cameras/7", &frames).await;
        eventually("26 answers", || world.vault.count() == 26).await;
        eventually("the bad ones", || {
            shows("{reason=\"length\",source=\"mqtt\"} 1")
                && shows("{reason=\"unrecognised\",source=\"mqtt\"} 1")
                && shows("duplicate_total{source=\"mqtt\"} 1")
        })
        .await;
        drop(broker);
        eventually("the loss noticed", || is_up(0)).await;
        let _broker = Broker::start(&program, world.folder.path(), port, mosquitto::OPEN);
        eventually("the broker back", || is_up(1)).await;
        publish(port, "cameras/7", &[json("after", 1).into_bytes()]).await;
        eventually("the frame after", || world.vault.count() == 27).await;
        edge.stop().await;
        assert_eq!(world.vault.count(), 27);
        assert_eq!(world.vault.again(), 0);
    });
}

#[test]
fn frames_published_while_the_device_is_away_wait_at_the_broker() {
    let Some(program) = mosquitto::program() else {
        return;
    };
    run(async {
        let world = World::new();
        let port = free_port();
        let _broker = Broker::start(&program, world.folder.path(), port, mosquitto::OPEN);
        let with = || {
            let mut options = world.options();
            options.mqtt = vec![topic(port)];
            options
        };
        let edge = Edge::start(with()).await.expect("started");
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        eventually("a subscription", || {
            edge.metrics()
                .render()
                .contains(&gauge("127.0.0.1", port, 1))
        })
        .await;
        edge.stop().await;
        let frames: Vec<Vec<u8>> = (0..5)
            .map(|number| json(&format!("m{number}"), number).into_bytes())
            .collect();
        publish(port, "cameras/7", &frames).await;
        let edge = Edge::start(with()).await.expect("started again");
        eventually("all five", || edge.spool().depth().inferences == 5).await;
        edge.stop().await;
    });
}

#[test]
fn a_message_larger_than_any_frame_is_refused_and_the_ones_behind_it_are_taken() {
    let Some(program) = mosquitto::program() else {
        return;
    };
    run(async {
        let world = World::new();
        let port = free_port();
        let _broker = Broker::start(&program, world.folder.path(), port, mosquitto::OPEN);
        let with = || {
            let mut options = world.options();
            options.mqtt = vec![topic(port)];
            options
        };
        let edge = Edge::start(with()).await.expect("started");
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        let up = gauge("127.0.0.1", port, 1);
        eventually("a subscription", || edge.metrics().render().contains(&up)).await;
        let large = vec![b'x'; MAX_FRAME_BYTES + (128 << 10)];
        let frames = [json("before", 1).into(), large, json("behind", 2).into()];
        publish(port, "cameras/7", &frames).await;
        eventually("both frames", || edge.spool().depth().inferences == 2).await;
        let metrics = edge.metrics().render();
        let refused = "frames_refused_total{reason=\"too-large\",source=\"mqtt\"} 1\n";
        assert!(metrics.contains(refused), "{metrics}");
        assert!(!metrics.contains("mqtt_failures_total"), "{metrics}");
        edge.stop().await;
        // It was acknowledged: it does not come again.
        let edge = Edge::start(with()).await.expect("started again");
        eventually("a subscription", || edge.metrics().render().contains(&up)).await;
        publish(port, "cameras/7", &[json("later", 3).into()]).await;
        eventually("the third", || edge.spool().depth().inferences == 3).await;
        assert!(!edge.metrics().render().contains("too-large"));
        edge.stop().await;
    });
}

#[test]
fn raw_messages_whose_form_is_stated_may_look_like_anything() {
    let Some(program) = mosquitto::program() else {
        return;
    };
    run(async {
        let world = World::new();
        // As many bytes as a raw frame: one begins as JSON does, and one as a JPEG does.
        let frame = |start: &[u8]| [start, &pixels(2)[start.len()..]].concat();
        let frames = [frame(b"{\""), frame(b"\xff\xd8\xff")];
        for (form, taken) in [(Form::Unknown, 1), (Form::Raw, 2)] {
            let port = free_port();
            let _broker = Broker::start(&program, world.folder.path(), port, mosquitto::OPEN);
            let mut options = world.options();
            options.folder = world.folder.path().join(format!("{form:?}"));
            options.mqtt = vec![topic(port)];
            options.mqtt_form = form;
            let edge = Edge::start(options).await.expect("started");
            first()
                .deploy(&mut world.deployer(edge.addresses().device))
                .await;
            let shows = |text: &str| edge.metrics().render().contains(text);
            eventually("a subscription", || shows(&gauge("127.0.0.1", port, 1))).await;
            let last = json("last", 1).into_bytes();
            publish(port, "cameras/7", &[&frames[..], &[last]].concat()).await;
            // The last one is not raw.
            let reasons: &[&str] = match form {
                Form::Raw => &["length"],
                _ => &["json", "picture"],
            };
            for reason in reasons {
                let series = format!("{{reason=\"{reason}\",source=\"mqtt\"}} 1\n");
                eventually("a refusal", || shows(&series)).await;
            }
            eventually("answers", || edge.spool().depth().inferences == taken).await;
            edge.stop().await;
        }
    });
}

const USER: &str = "cameras";
const PASSWORD: &str = "a word for cameras";

/// What a broker with TLS, certificates and passwords needs: files, and the lines that name them.
fn guarded(world: &World) -> String {
    let folder = world.folder.path();
    let own = folder.join("broker");
    pki::write(&world.authority, "localhost", &own);
    pki::write(&world.authority, pki::DEVICE, &folder.join("client"));
    let files = [AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE].map(|name| own.join(name));
    let [authority, certificate, key] = &files;
    mosquitto::guarded(folder, [authority, certificate, key], [USER, PASSWORD])
}

/// How the device enters: authority, certificate and password.
fn access(authority: &Path, client: &Path, password: &str) -> Access {
    let (certificate, key) = (client.join(CERTIFICATE_FILE), client.join(KEY_FILE));
    let own = Some((certificate.as_path(), key.as_path()));
    let tls = foreign_client(&authority.join(AUTHORITY_FILE), own);
    Access {
        password: Some(password.to_string().into()),
        tls: Some(tls.expect("certificates")),
    }
}

#[test]
fn a_broker_behind_tls_is_entered_with_certificate_and_password_or_not_at_all() {
    let Some(program) = mosquitto::program() else {
        return;
    };
    run(async {
        let world = World::new();
        let (folder, port) = (world.folder.path(), free_port());
        let lines = guarded(&world);
        let _broker = Broker::start(&program, folder, port, &lines);
        pki::write(&pki::authority(), pki::DEVICE, &folder.join("foreign"));
        let (ours, client) = (folder.join("broker"), folder.join("client"));
        let foreign = folder.join("foreign");
        // A broker of another authority, a certificate of another authority, a wrong password.
        let wrong = [
            access(&foreign, &client, PASSWORD),
            access(&ours, &foreign, PASSWORD),
            access(&ours, &client, "a guess"),
        ];
        let with = |access: &Access, name: &str| {
            let mut options = world.options();
            options.folder = folder.join(name);
            let url = format!("mqtts://{USER}@localhost:{port}/cameras/7");
            options.mqtt = vec![Topic::for_subscriber(&url, access).expect("a topic")];
            options
        };
        for (number, access) in wrong.iter().enumerate() {
            let options = with(access, &format!("wrong-{number}"));
            let edge = Edge::start(options).await.expect("started");
            let shows = |text: &str| edge.metrics().render().contains(text);
            eventually("a refusal", || shows("scuro_edge_mqtt_failures_total{")).await;
            assert!(!shows(&gauge("localhost", port, 1)), "{number}");
            edge.stop().await;
        }
        let right = access(&ours, &client, PASSWORD);
        let edge = Edge::start(with(&right, "right")).await.expect("started");
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        eventually("a subscription", || {
            edge.metrics()
                .render()
                .contains(&gauge("localhost", port, 1))
        })
        .await;
        let url = format!("mqtts://{USER}@localhost:{port}/cameras/7");
        let topic = Topic::for_publisher(&url, &right).expect("a topic");
        let frames: Vec<Vec<u8>> = (0..5)
            .map(|number| json(&format!("m{number}"), number).into_bytes())
            .collect();
        publish_as(topic.options("camera"), "cameras/7", &frames).await;
        eventually("all five", || edge.spool().depth().inferences == 5).await;
        edge.stop().await;
    });
}

/// A connection of the device to a broker that is played by the test.
struct Played(TcpStream);

impl Played {
    /// Takes the next connection: a session that the broker does not remember.
    async fn accept(listener: &tokio::net::TcpListener) -> Self {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut played = Self(stream);
        played.read(CONNECT).await;
        played.write(&[CONNACK, 2, 0, 0]).await;
        played
    }

    /// Answers the subscription with a code.
    async fn subscribed(&mut self, code: u8) {
        let body = self.read(SUBSCRIBE).await;
        self.write(&[SUBACK, 3, body[0], body[1], code]).await;
    }

    /// Sends a message of quality of service 1.
    async fn publish(&mut self, number: u8, payload: &[u8]) {
        let topic = b"cameras/7";
        let mut body = vec![0, topic.len() as u8];
        body.extend_from_slice(topic);
        body.extend_from_slice(&[0, number]);
        body.extend_from_slice(payload);
        let head = [PUBLISH, u8::try_from(body.len()).expect("short")];
        self.write(&[&head[..], &body].concat()).await;
    }

    /// The body of the next packet of this kind; all are short.
    async fn read(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).await.expect("a packet");
            let mut body = vec![0; usize::from(head[1])];
            self.0.read_exact(&mut body).await.expect("its body");
            if head[0] == kind {
                return body;
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("written");
    }
}

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x32;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
/// What a broker answers to a topic that a user may not have.
const DENIED: u8 = 0x80;

/// A device whose broker is the test.
async fn with_played_broker(world: &World) -> (Edge, tokio::net::TcpListener, u16) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("port");
    let port = listener.local_addr().expect("address").port();
    let mut options = world.options();
    options.mqtt = vec![topic(port)];
    let edge = Edge::start(options).await.expect("started");
    (edge, listener, port)
}

#[test]
fn a_subscription_that_the_broker_denies_is_counted_and_tried_again() {
    run(async {
        let world = World::new();
        let (edge, listener, port) = with_played_broker(&world).await;
        let shows = |text: &str| edge.metrics().render().contains(text);
        for number in 1..=2 {
            let mut broker = Played::accept(&listener).await;
            broker.subscribed(DENIED).await;
            let failures = format!(
                "scuro_edge_mqtt_failures_total{{broker=\"127.0.0.1:{port}\",\
                 reason=\"refused\",topic=\"cameras/7\"}} {number}\n"
            );
            eventually("a refusal", || shows(&failures)).await;
            assert!(shows(&gauge("127.0.0.1", port, 0)));
        }
        let mut broker = Played::accept(&listener).await;
        assert!(shows(&gauge("127.0.0.1", port, 0)), "connected is not up");
        broker.subscribed(1).await;
        eventually("up", || shows(&gauge("127.0.0.1", port, 1))).await;
        edge.stop().await;
    });
}

#[test]
fn a_message_of_a_lost_connection_is_acknowledged_on_no_other() {
    run(async {
        let world = World::new();
        let (edge, listener, port) = with_played_broker(&world).await;
        let mut broker = Played::accept(&listener).await;
        broker.subscribed(1).await;
        // Without a model it has to wait.
        broker.publish(1, &pixels(1)).await;
        let waits = "{reason=\"deployment.none\",source=\"mqtt\"}";
        let shows = |text: &str| edge.metrics().render().contains(text);
        eventually("a message that waits", || shows(waits)).await;
        drop(broker);
        let mut broker = Played::accept(&listener).await;
        broker.subscribed(1).await;
        eventually("up again", || shows(&gauge("127.0.0.1", port, 1))).await;
        broker.publish(2, &pixels(2)).await;
        first()
            .deploy(&mut world.deployer(edge.addresses().device))
            .await;
        assert_eq!(broker.read(PUBACK).await, [0, 2]);
        eventually("both", || edge.spool().depth().inferences == 2).await;
        edge.stop().await;
    });
}
