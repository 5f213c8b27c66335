//! Frames of an MQTT topic, at quality of service 1.
//!
//! A message is acknowledged only once its frame is on disk (or refused for good), and the session
//! outlives the connection: what the broker took while the device was away, or what was not
//! acknowledged, comes (again) after a reconnect, and the frame's id keeps it from being taken
//! twice. A message without an id is known by its bytes.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, Publish, QoS};
use tokio::sync::mpsc;

use super::{Acquisition, Source, unless_stopping};
use crate::edge::counters::{MQTT_FAILURES, MQTT_UP};
use crate::edge::frame::{FrameId, MAX_FRAME_BYTES};
use crate::edge::intake::{Arrival, Form, Intake};
use crate::edge::uplink::Backoff;
use crate::error::Error;

const NAME: &str = "mqtt";
/// Port without encryption.
const PORT: u16 = 1883;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Requests to the broker that may wait: far more than messages read ahead, so that
/// acknowledgements always find room while reading is held up.
const REQUESTS: usize = 4096;
/// Messages read ahead of the queue; brokers keep far fewer unacknowledged.
const AHEAD: usize = 256;
/// Room for topic and header in a packet.
const HEADER_BYTES: usize = 64 << 10;

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
    /// Reads `mqtt://[user:password@]host[:port]/topic`; `client` names the session at the broker.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn new(url: &str, client: &str, seed: [u8; 32]) -> Result<Self, Error> {
        let (credentials, host, port, topic) = parse(url).ok_or_else(|| Error::Setting {
            what: "the MQTT address",
            found: url.rsplit('@').next().unwrap_or_default().to_string(),
            expected: "mqtt://[user:password@]host[:port]/topic",
        })?;
        let mut options = MqttOptions::new(client, host, port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_clean_session(false);
        options.set_manual_acks(true);
        options.set_max_packet_size(MAX_FRAME_BYTES + HEADER_BYTES, HEADER_BYTES);
        if let Some((user, password)) = credentials {
            options.set_credentials(user, password);
        }
        Ok(Self {
            options,
            topic: topic.to_string(),
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

type Address<'a> = (Option<(&'a str, &'a str)>, &'a str, u16, &'a str);

fn parse(url: &str) -> Option<Address<'_>> {
    let (authority, topic) = url.strip_prefix("mqtt://")?.split_once('/')?;
    let (credentials, place) = match authority.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials.split_once(':')?), place),
        None => (None, authority),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (place, PORT),
    };
    let good = !host.is_empty() && !topic.is_empty();
    good.then_some((credentials, host, port, topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_host_port_and_topic() {
        let parsed = parse("mqtt://broker:1884/cameras/7");
        assert_eq!(parsed, Some((None, "broker", 1884, "cameras/7")));
        let parsed = parse("mqtt://u:p@broker/t");
        assert_eq!(parsed, Some((Some(("u", "p")), "broker", PORT, "t")));
        for bad in [
            "",
            "mqtt://",
            "mqtt://host",
            "mqtt:///t",
            "http://h/t",
            "mqtt://h:x/t",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_in_no_message() {
        let error = Mqtt::new("mqtt://user:hidden@host:port/t", "c", [0; 32]);
        let shown = error.expect_err("no port").to_string();
        assert!(!shown.contains("hidden"), "{shown}");
        let mqtt = Mqtt::new("mqtt://user:hidden@host/t", "c", [0; 32]).expect("good");
        assert!(!format!("{mqtt:?}").contains("hidden"));
    }
}
