//! Frames of an MQTT topic, at quality of service 1.
//!
//! A message is acknowledged only once its frame is on disk (or refused for good), and the session
//! outlives the connection: what the broker took while the device was away, or what was not
//! acknowledged, comes (again) after a reconnect, and the frame's id keeps it from being taken
//! twice. A message without an id is known by its bytes.
//!
//! `mqtts://` is TLS 1.3 to a broker whose certificate is of a named authority and for the name in
//! the address. A password is never part of an address, which others can read in the list of
//! processes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, Publish, QoS, TlsConfiguration, Transport};
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
    /// [`Error::Setting`], also for `mqtts://` without an authority, a user without a password and
    /// a password in the address.
    pub fn new(url: &str, access: &Access, client: &str, seed: [u8; 32]) -> Result<Self, Error> {
        let address = parse(url).ok_or_else(|| setting(url, ADDRESS))?;
        let mut options = MqttOptions::new(client, address.host, address.port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_clean_session(false);
        options.set_manual_acks(true);
        options.set_max_packet_size(MAX_FRAME_BYTES + HEADER_BYTES, HEADER_BYTES);
        if let Some(user) = address.user {
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
            topic: address.topic.to_string(),
            backoff: Backoff::new(seed),
        })
    }

    async fn listen(mut self, intake: Intake) -> Result<(), Error> {
        let (host, port) = self.options.broker_address();
        let (client, mut connection) = AsyncClient::new(self.options, REQUESTS);
        let (sender, frames) = mpsc::channel(AHEAD);
        let taking = tokio::spawn(take_all(frames, client.clone(), intake.clone()));
        let metrics = intake.metrics();
        let mut up = true;
        while !intake.is_stopping() {
            let event = tokio::select! {
                event = connection.poll() => event,
                () = intake.stopped() => break,
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    tracing::info!(
                        host,
                        port,
                        topic = self.topic,
                        "connected to the MQTT broker"
                    );
                    metrics.set(MQTT_UP, &[], 1.0);
                    (up, _) = (true, self.backoff.reset());
                    subscribe(&client, &self.topic);
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    // The receiver ends only when the service stops.
                    let _ = sender.send(message).await;
                }
                Ok(_) => {}
                Err(error) => {
                    if up {
                        tracing::warn!(host, port, %error, "the MQTT broker is gone; trying again");
                    }
                    up = false;
                    metrics.set(MQTT_UP, &[], 0.0);
                    metrics.add(MQTT_FAILURES, &[], 1);
                    tokio::time::sleep(self.backoff.next()).await;
                }
            }
        }
        drop(sender);
        // Its errors are the end of the service.
        let _ = taking.await;
        Ok(())
    }
}

impl Source for Mqtt {
    fn name(&self) -> &'static str {
        NAME
    }

    fn acquire(self: Box<Self>, intake: Intake) -> Acquisition {
        Box::pin(async move { unless_stopping(self.listen(intake).await) })
    }
}

/// After every connect: a broker that lost the session would send nothing.
fn subscribe(client: &AsyncClient, topic: &str) {
    if let Err(error) = client.try_subscribe(topic, QoS::AtLeastOnce) {
        tracing::warn!(topic, %error, "cannot subscribe");
    }
}

/// Takes messages one after the other and acknowledges each.
async fn take_all(
    mut messages: mpsc::Receiver<Publish>,
    client: AsyncClient,
    intake: Intake,
) -> Result<(), Error> {
    while let Some(message) = messages.recv().await {
        let arrival = Arrival {
            id: Some(FrameId::of_bytes(NAME, &message.payload)),
            form: Form::Unknown,
            bytes: message.payload.to_vec(),
        };
        match intake.offer_until_taken(NAME, &arrival).await {
            // A malformed frame is counted and logged; coming again would not mend it.
            Ok(_) | Err(Error::Frame(_)) => {
                if let Err(error) = client.ack(&message).await {
                    tracing::warn!(%error, "a message could not be acknowledged; it comes again");
                }
            }
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

fn parse(url: &str) -> Option<Address<'_>> {
    let (tls, rest) = match url.strip_prefix("mqtts://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("mqtt://")?),
    };
    let (authority, topic) = rest.split_once('/')?;
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let usual = if tls { TLS_PORT } else { PORT };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (place, usual),
    };
    // With a colon it would be a password that every user of this machine can see.
    let good_user = user.is_none_or(|user| !user.is_empty() && !user.contains(':'));
    let good = good_user && !host.is_empty() && !topic.is_empty();
    good.then_some(Address {
        tls,
        user,
        host,
        port,
        topic,
    })
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
            Some(address(false, None, "broker", 1884, "cameras/7"))
        );
        let parsed = parse("mqtts://u@broker/t");
        assert_eq!(
            parsed,
            Some(address(true, Some("u"), "broker", TLS_PORT, "t"))
        );
        assert_eq!(parse("mqtt://broker/t").map(|a| a.port), Some(PORT));
        for bad in [
            "",
            "mqtt://",
            "mqtt://host",
            "mqtt:///t",
            "http://h/t",
            "mqtt://h:x/t",
            "mqtt://u:p@h/t",
            "mqtts://@h/t",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
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
        assert!(refused("mqtts://host/t", &access).contains("authority"));
        assert!(refused("mqtt://user@host/t", &Access::default()).contains("password"));
        let mqtt = Mqtt::new("mqtt://user@host/t", &access, "c", [0; 32]).expect("good");
        assert!(!format!("{mqtt:?} {access:?}").contains("hidden"));
    }
}
