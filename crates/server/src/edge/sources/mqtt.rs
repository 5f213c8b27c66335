//! Frames of an MQTT topic, at quality of service 1.
//!
//! A message is acknowledged only once its frame is on disk (or refused for good), and the session
//! outlives the connection: what the broker took while the device was away, or what was not
//! acknowledged, comes (again) after a reconnect, and the frame's id keeps it from being taken
//! twice. A message without an id is known by its bytes. What came over a connection that is lost
//! is acknowledged on no other: its number may be another message's by then.
//!
//! `mqtts://` is TLS 1.3 to a broker whose certificate is of a named authority and for the name in
//! the address. A password is never part of an address, which others can read in the list of
//! processes, and crosses no network in clear.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::{
    AsyncClient, Event, MqttOptions, Packet, Publish, QoS, SubAck, SubscribeReasonCode,
    TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::{Acquisition, Source, unless_stopping};
use crate::edge::counters::{MQTT_FAILURES, MQTT_UP};
use crate::edge::frame::{FrameId, MAX_FRAME_BYTES};
use crate::edge::intake::{Arrival, Form, Intake};
use crate::edge::uplink::Backoff;
use crate::error::Error;

const NAME: &str = "mqtt";
/// Port without encryption.
const PORT: u16 = 1883;
/// Port with encryption.
const TLS_PORT: u16 = 8883;
/// What an address looks like.
const ADDRESS: &str = "mqtt[s]://[user@]host[:port]/topic";
const NO_PASSWORD: &str = "an address without a password, which comes from --mqtt-password-file";
const ENCRYPTED: &str = "mqtts:// for a user: the password would cross the network in clear";
/// Why nothing comes from a broker, for logs and metrics.
const GONE: &str = "gone";
const REFUSED: &str = "refused";
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Requests to the broker that may wait: far more than messages read ahead, so that
/// acknowledgements always find room while reading is held up.
const REQUESTS: usize = 4096;
/// Messages read ahead of the queue; brokers keep far fewer unacknowledged.
const AHEAD: usize = 256;
/// Room for topic and header in a packet.
const HEADER_BYTES: usize = 64 << 10;

/// How brokers are entered: the same for all of a device.
#[derive(Clone, Default)]
pub struct Access {
    /// For addresses with a user.
    pub password: Option<Zeroizing<String>>,
    /// For `mqtts://`.
    pub tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Access {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (password, tls) = (self.password.is_some(), self.tls.is_some());
        write!(out, "Access(password: {password}, tls: {tls})")
    }
}

/// A topic of a broker.
pub struct Mqtt {
    options: MqttOptions,
    user: Option<String>,
    topic: String,
    backoff: Backoff,
}

impl std::fmt::Debug for Mqtt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options hold a password.
        let broker = self.options.broker_address();
        out.debug_struct("Mqtt")
            .field("broker", &broker)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Mqtt {
    /// Reads `mqtt[s]://[user@]host[:port]/topic`; `client` names the session at the broker.
    ///
    /// # Errors
    /// [`Error::Setting`], also for `mqtts://` without an authority, a user without a password, a
    /// user on another machine without TLS, and a password in the address.
    pub fn new(url: &str, access: &Access, client: &str, seed: [u8; 32]) -> Result<Self, Error> {
        let address = parse(url).map_err(|expected| setting(url, expected))?;
        let mut options = MqttOptions::new(client, address.host, address.port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_clean_session(false);
        options.set_manual_acks(true);
        options.set_max_packet_size(MAX_FRAME_BYTES + HEADER_BYTES, HEADER_BYTES);
        if let Some(user) = address.user {
            if !address.tls && !is_loopback(address.host) {
                return Err(setting(url, ENCRYPTED));
            }
            let password = access.password.as_ref();
            let password = password.ok_or_else(|| setting(url, "a password for the user"))?;
            options.set_credentials(user, password.as_str());
        }
        if address.tls {
            let tls = access.tls.clone();
            let tls = tls.ok_or_else(|| setting(url, "the broker's authority for mqtts"))?;
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
        }
        Ok(Self {
            options,
            user: address.user.map(str::to_string),
            topic: address.topic.to_string(),
            backoff: Backoff::new(seed),
        })
    }

    async fn listen(mut self, intake: Intake) -> Result<(), Error> {
        let (host, port) = self.options.broker_address();
        let link = Link {
            broker: format!("{host}:{port}"),
            topic: self.topic,
            user: self.user.unwrap_or_default(),
            intake: intake.clone(),
        };
        let (client, mut connection) = AsyncClient::new(self.options, REQUESTS);
        let session = Arc::new(Session::default());
        let (sender, frames) = mpsc::channel(AHEAD);
        let acknowledger = (client.clone(), Arc::clone(&session));
        let taking = tokio::spawn(take_all(frames, acknowledger, intake.clone()));
        let mut lost = None;
        while !intake.is_stopping() {
            let event = tokio::select! {
                event = connection.poll() => event,
                () = intake.stopped() => break,
            };
            let failure = match event {
                // After every connect: a broker that lost the session would send nothing.
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    let subscribed = client.try_subscribe(&link.topic, QoS::AtLeastOnce);
                    subscribed.err().map(|error| (GONE, error.to_string()))
                }
                Ok(Event::Incoming(Packet::SubAck(answer))) if is_refused(&answer) => {
                    Some((REFUSED, "the broker refuses the subscription".to_string()))
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    link.up();
                    lost = None;
                    self.backoff.reset();
                    None
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    // The receiver ends only when the service stops.
                    let _ = sender.send((session.epoch(), message)).await;
                    None
                }
                Ok(_) => None,
                Err(error) => Some((GONE, error.to_string())),
            };
            if let Some((reason, detail)) = failure {
                link.down(reason, &detail, lost == Some(reason));
                lost = Some(reason);
                session.end();
                // Acknowledgements that wait, and messages that were read and not yet handed out:
                // the broker sends all of these again.
                connection.clean();
                connection.state.events.clear();
                link.rest(self.backoff.next()).await;
            }
        }
        drop(sender);
        // Its errors are the end of the service.
        let _ = taking.await;
        Ok(())
    }
}

/// What logs and metrics say of a subscription.
struct Link {
    broker: String,
    topic: String,
    user: String,
    intake: Intake,
}

impl Link {
    fn up(&self) {
        let (broker, topic) = (&self.broker, &self.topic);
        tracing::info!(broker, topic, "subscribed to the MQTT topic");
        self.set(1.0);
    }

    /// Counts a failure; the same one after another is logged once.
    fn down(&self, reason: &'static str, detail: &str, again: bool) {
        let (broker, topic, user) = (self.broker.as_str(), self.topic.as_str(), &self.user);
        if !again {
            tracing::warn!(
                broker,
                topic,
                user,
                reason,
                detail,
                "no MQTT messages; trying again"
            );
        }
        self.set(0.0);
        let labels = [("broker", broker), ("reason", reason), ("topic", topic)];
        self.intake.metrics().add(MQTT_FAILURES, &labels, 1);
    }

    fn set(&self, up: f64) {
        let labels = [("broker", self.broker.as_str()), ("topic", &self.topic)];
        self.intake.metrics().set(MQTT_UP, &labels, up);
    }

    /// Sleeps, but not into the end of the service.
    async fn rest(&self, pause: Duration) {
        // Both outcomes mean the same: look again.
        let _ = tokio::time::timeout(pause, self.intake.stopped()).await;
    }
}

/// Counts connections.
#[derive(Debug, Default)]
struct Session(Mutex<u64>);

impl Session {
    fn epoch(&self) -> u64 {
        *self.lock()
    }

    /// The connection is lost: nothing that came over it is acknowledged from now on.
    fn end(&self) {
        *self.lock() += 1;
    }

    /// Acknowledges a message of connection `epoch`, unless that is lost: then it comes again. The
    /// lock keeps [`Session::end`] from coming between.
    fn acknowledge(&self, epoch: u64, client: &AsyncClient, message: &Publish) {
        let now = self.lock();
        if *now != epoch {
            return;
        }
        if let Err(error) = client.try_ack(message) {
            tracing::warn!(%error, "a message could not be acknowledged; it comes again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_refused(answer: &SubAck) -> bool {
    answer.return_codes.contains(&SubscribeReasonCode::Failure)
}

impl Source for Mqtt {
    fn name(&self) -> &'static str {
        NAME
    }

    fn acquire(self: Box<Self>, intake: Intake) -> Acquisition {
        Box::pin(async move { unless_stopping(self.listen(intake).await) })
    }
}

/// Takes messages one after the other and acknowledges each.
async fn take_all(
    mut messages: mpsc::Receiver<(u64, Publish)>,
    (client, session): (AsyncClient, Arc<Session>),
    intake: Intake,
) -> Result<(), Error> {
    while let Some((epoch, message)) = messages.recv().await {
        let arrival = Arrival {
            id: Some(FrameId::of_bytes(NAME, &message.payload)),
            form: Form::Unknown,
            bytes: message.payload.to_vec(),
        };
        match intake.offer_until_taken(NAME, &arrival).await {
            // A malformed frame is counted and logged; coming again would not mend it.
            Ok(_) | Err(Error::Frame(_)) => session.acknowledge(epoch, &client, &message),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    tls: bool,
    user: Option<&'a str>,
    host: &'a str,
    port: u16,
    topic: &'a str,
}

/// The parts of an address; the error is what was expected instead.
fn parse(url: &str) -> Result<Address<'_>, &'static str> {
    let (tls, rest) = match url.strip_prefix("mqtts://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("mqtt://").ok_or(ADDRESS)?),
    };
    let (authority, topic) = rest.split_once('/').ok_or(ADDRESS)?;
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    // Every user of this machine could see it.
    if user.is_some_and(|user| user.contains(':')) {
        return Err(NO_PASSWORD);
    }
    let usual = if tls { TLS_PORT } else { PORT };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| ADDRESS)?),
        None => (place, usual),
    };
    if user.is_some_and(str::is_empty) || host.is_empty() || topic.is_empty() {
        return Err(ADDRESS);
    }
    Ok(Address {
        tls,
        user,
        host,
        port,
        topic,
    })
}

/// Whether what is sent to this host stays on this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What stands before the host may be a password.
fn setting(url: &str, expected: &'static str) -> Error {
    Error::Setting {
        what: "the MQTT address",
        found: url.rsplit('@').next().unwrap_or_default().to_string(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_host_port_topic_and_user() {
        let address = |tls, user, host, port, topic| Address {
            tls,
            user,
            host,
            port,
            topic,
        };
        let parsed = parse("mqtt://broker:1884/cameras/7");
        assert_eq!(
            parsed,
            Ok(address(false, None, "broker", 1884, "cameras/7"))
        );
        let parsed = parse("mqtts://u@broker/t");
        assert_eq!(
            parsed,
            Ok(address(true, Some("u"), "broker", TLS_PORT, "t"))
        );
        assert_eq!(parse("mqtt://broker/t").map(|a| a.port), Ok(PORT));
        for bad in [
            "",
            "mqtt://",
            "mqtt://host",
            "mqtt:///t",
            "http://h/t",
            "mqtt://h:x/t",
            "mqtts://@h/t",
        ] {
            assert_eq!(parse(bad), Err(ADDRESS), "{bad}");
        }
        for bad in ["mqtt://u:p@h/t", "mqtts://u:p@h:1/t", "mqtt://:@h/t"] {
            assert_eq!(parse(bad), Err(NO_PASSWORD), "{bad}");
        }
    }

    #[test]
    fn a_password_is_in_no_message() {
        let refused = |url: &str, access: &Access| {
            let error = Mqtt::new(url, access, "c", [0; 32]).expect_err("refused");
            error.to_string()
        };
        let access = Access {
            password: Some(Zeroizing::new("hidden".to_string())),
            tls: None,
        };
        let shown = refused("mqtt://user:hidden@host/t", &access);
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(shown.contains("--mqtt-password-file"), "{shown}");
        assert!(refused("mqtts://host/t", &access).contains("authority"));
        assert!(refused("mqtt://user@localhost/t", &Access::default()).contains("a password"));
        let mqtt = Mqtt::new("mqtt://user@localhost/t", &access, "c", [0; 32]).expect("good");
        assert!(!format!("{mqtt:?} {access:?}").contains("hidden"));
    }

    #[test]
    fn a_password_crosses_no_network_in_clear() {
        let access = Access {
            password: Some(Zeroizing::new("hidden".to_string())),
            tls: None,
        };
        for host in ["localhost", "127.0.0.1", "127.8.0.1:1884"] {
            let url = format!("mqtt://user@{host}/t");
            assert!(Mqtt::new(&url, &access, "c", [0; 32]).is_ok(), "{url}");
        }
        for host in [
            "broker",
            "10.0.0.1",
            "localhost.example",
            "127.0.0.1.example",
        ] {
            let url = format!("mqtt://user@{host}/t");
            let error = Mqtt::new(&url, &access, "c", [0; 32]).expect_err(&url);
            assert!(error.to_string().contains("mqtts://"), "{error}");
        }
        assert!(Mqtt::new("mqtt://broker/t", &access, "c", [0; 32]).is_ok());
    }
}
