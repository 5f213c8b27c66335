//! Frames of a real broker, which is also killed.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::site::Site;
use crate::support::{PATIENCE, World, first, json, loopback, pixels, pki, run};
use scuro_server::edge::frame::MAX_FRAME_BYTES;
use scuro_server::edge::intake::Form;
use scuro_server::edge::service::Options;
use scuro_testkit::mosquitto::{self, Broker, free_port};
use scuro_wire::mqtt::{Access, Topic};
use scuro_wire::tls::{AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE, foreign_client};

const TOPIC: &str = "cameras/7";

/// The topic at a broker that lets everyone in.
fn topic(port: u16) -> Topic {
    let url = format!("mqtt://127.0.0.1:{port}/{TOPIC}");
    Topic::for_subscriber(&url, &Access::default()).expect("a topic")
}

/// The line of the metrics that tells whether the topic is subscribed to.
fn gauge(host: &str, port: u16, up: u8) -> String {
    format!("scuro_edge_mqtt_up{{broker=\"{host}:{port}\",topic=\"{TOPIC}\"}} {up}\n")
}

/// JSON frames `m0`, `m1`...
fn frames(count: usize) -> Vec<Vec<u8>> {
    let frame = |number| json(&format!("m{number}"), number % 10).into_bytes();
    (0..count).map(frame).collect()
}

/// A publisher that waits until the broker has every message.
async fn publish_as(mut options: rumqttc::MqttOptions, payloads: &[Vec<u8>]) {
    options.set_max_packet_size(1 << 20, 32 << 20);
    let (client, mut connection) = rumqttc::AsyncClient::new(options, 64);
    for payload in payloads {
        let quality = rumqttc::QoS::AtLeastOnce;
        let published = client.publish(TOPIC, quality, false, payload.clone());
        published.await.expect("published");
    }
    let mut acknowledged = 0;
    while acknowledged < payloads.len() {
        let event = connection.poll().await.expect("connected");
        if let rumqttc::Event::Incoming(packet) = event {
            acknowledged += usize::from(matches!(packet, rumqttc::Packet::PubAck(_)));
        }
    }
}

/// A real broker that lets everyone in.
struct OpenBroker {
    program: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    /// None while it is away.
    running: Option<Broker>,
}

/// Runs a test with such a broker; without the program it is skipped.
fn with_broker(test: impl AsyncFnOnce(OpenBroker)) {
    let Some(program) = mosquitto::program() else {
        return;
    };
    let mut broker = OpenBroker {
        program,
        folder: tempfile::tempdir().expect("temporary folder"),
        port: free_port(),
        running: None,
    };
    broker.starts();
    run(test(broker));
}

impl OpenBroker {
    /// It starts, with what it stored before.
    fn starts(&mut self) {
        let folder = self.folder.path();
        let started = Broker::start(&self.program, folder, self.port, mosquitto::OPEN);
        self.running = Some(started);
    }

    fn is_killed(&mut self) {
        self.running = None;
    }

    /// What makes a device listen to it.
    fn option(&self) -> impl Fn(&mut Options) + use<> {
        let port = self.port;
        move |options| options.mqtt = vec![topic(port)]
    }

    /// Waits until the device says that it has subscribed, or that it has not.
    async fn is_up(&self, site: &Site, up: bool) {
        let line = gauge("127.0.0.1", self.port, up.into());
        site.comes_to_show(&line).await;
    }

    /// A device without a vault and with the first version, that has subscribed.
    async fn subscriber(&self, with: impl FnOnce(&mut Options)) -> Site {
        let site = Site::alone(World::new(), |options| {
            self.option()(options);
            with(options);
        });
        let site = site.await;
        site.deploy(first()).await;
        self.is_up(&site, true).await;
        site
    }

    async fn publish(&self, payloads: &[Vec<u8>]) {
        let options = rumqttc::MqttOptions::new("camera", "127.0.0.1", self.port);
        publish_as(options, payloads).await;
    }
}

#[test]
fn frames_of_a_topic_are_taken_once_and_a_broker_that_goes_is_waited_for() {
    with_broker(async |mut broker| {
        let site = Site::new(broker.option()).await;
        broker.is_up(&site, true).await;
        let bad = [b"{\"pixels\":[1]}".to_vec(), b"nonsense".to_vec()];
        // A publisher that got no acknowledgement sends again.
        let again = json("m3", 3).into_bytes();
        broker.publish(&frames(25)).await;
        broker
            .publish(&[vec![pixels(9)], bad.to_vec(), vec![again]].concat())
            .await;
        site.is_answered(26).await;
        site.comes_to_show("{reason=\"length\",source=\"mqtt\"} 1\n")
            .await;
        site.comes_to_show("{reason=\"unrecognised\",source=\"mqtt\"} 1\n")
            .await;
        site.comes_to_show("duplicate_total{source=\"mqtt\"} 1\n")
            .await;
        broker.is_killed();
        broker.is_up(&site, false).await;
        broker.starts();
        broker.is_up(&site, true).await;
        broker.publish(&[json("after", 1).into_bytes()]).await;
        site.is_answered(27).await;
        let world = site.stop().await;
        assert_eq!((world.vault.count(), world.vault.again()), (27, 0));
    });
}

#[test]
fn frames_published_while_the_device_is_away_wait_at_the_broker() {
    with_broker(async |broker| {
        let world = broker.subscriber(|_| {}).await.stop().await;
        broker.publish(&frames(5)).await;
        let site = Site::alone(world, broker.option()).await;
        site.holds_inferences(5).await;
        site.stop().await;
    });
}

#[test]
fn a_message_larger_than_any_frame_is_refused_and_the_ones_behind_it_are_taken() {
    with_broker(async |broker| {
        let site = broker.subscriber(|_| {}).await;
        let large = vec![b'x'; MAX_FRAME_BYTES + (128 << 10)];
        let frames = [json("before", 1).into(), large, json("behind", 2).into()];
        broker.publish(&frames).await;
        site.holds_inferences(2).await;
        let refused = "frames_refused_total{reason=\"too-large\",source=\"mqtt\"} 1\n";
        assert!(site.shows(refused));
        assert!(!site.shows("mqtt_failures_total"));
        // It was acknowledged: it does not come again.
        let site = site.restart(broker.option()).await;
        broker.is_up(&site, true).await;
        broker.publish(&[json("later", 3).into()]).await;
        site.holds_inferences(3).await;
        assert!(!site.shows("too-large"));
        site.stop().await;
    });
}

#[test]
fn raw_messages_whose_form_is_stated_may_look_like_anything() {
    // As many bytes as a raw frame: one begins as JSON does, and one as a JPEG does; the last one
    // is not raw.
    let frame = |start: &[u8]| [start, &pixels(2)[start.len()..]].concat();
    let last = json("last", 1).into_bytes();
    let messages = [frame(b"{\""), frame(b"\xff\xd8\xff"), last];
    let forms: [(_, _, &[&str]); 2] = [
        (Form::Unknown, 1, &["json", "picture"]),
        (Form::Raw, 2, &["length"]),
    ];
    for (form, taken, refused) in forms {
        with_broker(async |broker| {
            let site = broker.subscriber(|options| options.mqtt_form = form).await;
            broker.publish(&messages).await;
            for reason in refused {
                let series = format!("{{reason=\"{reason}\",source=\"mqtt\"}} 1\n");
                site.comes_to_show(&series).await;
            }
            site.holds_inferences(taken).await;
            site.stop().await;
        });
    }
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
        let mut world = World::new();
        let (folder, port) = (world.folder.path().to_path_buf(), free_port());
        let _broker = Broker::start(&program, &folder, port, &guarded(&world));
        pki::write(&pki::authority(), pki::DEVICE, &folder.join("foreign"));
        let [ours, client, foreign] = ["broker", "client", "foreign"].map(|name| folder.join(name));
        // A broker of another authority, a certificate of another authority, a wrong password.
        let wrong = [
            access(&foreign, &client, PASSWORD),
            access(&ours, &foreign, PASSWORD),
            access(&ours, &client, "a guess"),
        ];
        let url = format!("mqtts://{USER}@localhost:{port}/{TOPIC}");
        let with = |access: &Access, name: String| {
            let topic = Topic::for_subscriber(&url, access).expect("a topic");
            let folder = folder.join(name);
            |options: &mut Options| (options.folder, options.mqtt) = (folder, vec![topic])
        };
        for (number, access) in wrong.iter().enumerate() {
            let site = Site::alone(world, with(access, format!("wrong-{number}"))).await;
            site.comes_to_show("scuro_edge_mqtt_failures_total{").await;
            assert!(!site.shows(&gauge("localhost", port, 1)), "{number}");
            world = site.stop().await;
        }
        let right = access(&ours, &client, PASSWORD);
        let site = Site::alone(world, with(&right, "right".to_string())).await;
        site.deploy(first()).await;
        site.comes_to_show(&gauge("localhost", port, 1)).await;
        let topic = Topic::for_publisher(&url, &right).expect("a topic");
        publish_as(topic.options("camera"), &frames(5)).await;
        site.holds_inferences(5).await;
        site.stop().await;
    });
}

/// A connection of the device to a broker that is played by the test.
struct Played(TcpStream);

impl Played {
    /// Takes the next connection: a session that the broker does not remember.
    async fn accept(listener: &TcpListener) -> Self {
        let accepted = timeout(PATIENCE, listener.accept()).await;
        let (stream, _) = accepted.expect("in time").expect("a connection");
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
        let mut body = vec![0, TOPIC.len() as u8];
        body.extend_from_slice(TOPIC.as_bytes());
        body.extend_from_slice(&[0, number]);
        body.extend_from_slice(payload);
        let head = [PUBLISH, u8::try_from(body.len()).expect("short")];
        self.write(&[&head[..], &body].concat()).await;
    }

    /// The body of the next packet of this kind; all are short.
    async fn read(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let mut head = [0; 2];
            let read = timeout(PATIENCE, self.0.read_exact(&mut head)).await;
            read.expect("in time").expect("a packet");
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

/// A device without a version, whose broker is the test.
async fn with_played_broker() -> (Site, TcpListener, u16) {
    let listener = TcpListener::bind(loopback()).await.expect("port");
    let port = listener.local_addr().expect("address").port();
    let site = Site::alone(World::new(), |options| options.mqtt = vec![topic(port)]).await;
    (site, listener, port)
}

#[test]
fn a_subscription_that_the_broker_denies_is_counted_and_tried_again() {
    run(async {
        let (site, listener, port) = with_played_broker().await;
        let is_down = || site.shows(&gauge("127.0.0.1", port, 0));
        for number in 1..=2 {
            let mut broker = Played::accept(&listener).await;
            broker.subscribed(DENIED).await;
            let failures = format!(
                "scuro_edge_mqtt_failures_total{{broker=\"127.0.0.1:{port}\",\
                 reason=\"refused\",topic=\"{TOPIC}\"}} {number}\n"
            );
            site.comes_to_show(&failures).await;
            assert!(is_down());
        }
        let mut broker = Played::accept(&listener).await;
        assert!(is_down(), "connected is not up");
        broker.subscribed(1).await;
        site.comes_to_show(&gauge("127.0.0.1", port, 1)).await;
        site.stop().await;
    });
}

#[test]
fn a_message_of_a_lost_connection_is_acknowledged_on_no_other() {
    run(async {
        let (site, listener, port) = with_played_broker().await;
        let mut broker = Played::accept(&listener).await;
        broker.subscribed(1).await;
        // Without a model it has to wait.
        broker.publish(1, &pixels(1)).await;
        site.comes_to_show("{reason=\"deployment.none\",source=\"mqtt\"}")
            .await;
        drop(broker);
        let mut broker = Played::accept(&listener).await;
        broker.subscribed(1).await;
        site.comes_to_show(&gauge("127.0.0.1", port, 1)).await;
        broker.publish(2, &pixels(2)).await;
        site.deploy(first()).await;
        assert_eq!(broker.read(PUBACK).await, [0, 2]);
        site.holds_inferences(2).await;
        site.stop().await;
    });
}
