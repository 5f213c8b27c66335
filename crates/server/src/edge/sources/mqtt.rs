//! Frames of an MQTT topic, at quality of service 1.
//!
//! A message is acknowledged only once its frame is on disk (or refused for good), and the session
//! outlives the connection: what the broker took while the device was away, or what was not
//! acknowledged, comes (again) after a reconnect, and the frame's id keeps it from being taken
//! twice. A message without an id is known by its bytes. What came over a connection that is lost
//! is acknowledged on no other: its number may be another message's by then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, Packet, Publish, QoS, SubAck, SubscribeReasonCode};
use scuro_wire::mqtt::Topic;
use tokio::sync::mpsc;

use super::{Acquisition, Source, unless_stopping};
use crate::edge::counters::{MQTT_FAILURES, MQTT_UP};
use crate::edge::frame::{FrameFault, FrameId, MAX_FRAME_BYTES};
use crate::edge::intake::{Arrival, Form, Intake};
use crate::edge::uplink::Backoff;
use crate::error::Error;

const NAME: &str = "mqtt";
/// Why nothing comes from a broker, for logs and metrics.
const GONE: &str = "gone";
const REFUSED: &str = "refused";
/// Requests to the broker that may wait: far more than messages read ahead, so that
/// acknowledgements always find room while reading is held up.
const REQUESTS: usize = 4096;
/// Messages read ahead of the queue; brokers keep far fewer unacknowledged.
const AHEAD: usize = 256;
/// Largest packet that there is. A smaller limit would end the connection before the message is
/// read, and the session would bring it again, for ever.
const PACKET_BYTES: usize = (1 << 28) - 1;
/// Largest packet to the broker: acknowledgements and a subscription.
const REQUEST_BYTES: usize = 64 << 10;
/// A message has to cross within two of these, or the broker counts as gone and sends it again.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A topic of a broker.
pub struct Mqtt {
    topic: Topic,
    form: Form,
    client: String,
    backoff: Backoff,
}

impl Mqtt {
    /// Frames of `topic`, all of one form; `client` names the session at the broker.
    pub fn new(topic: Topic, form: Form, client: String, seed: [u8; 32]) -> Self {
        let backoff = Backoff::new(seed);
        Self {
            topic,
            form,
            client,
            backoff,
        }
    }

    async fn listen(mut self, intake: Intake) -> Result<(), Error> {
        let mut options = self.topic.options(&self.client);
        options.set_clean_session(false);
        options.set_manual_acks(true);
        options.set_max_packet_size(PACKET_BYTES, REQUEST_BYTES);
        options.set_keep_alive(KEEP_ALIVE);
        let link = Link {
            broker: self.topic.broker(),
            topic: self.topic,
            intake: intake.clone(),
        };
        let (client, mut connection) = AsyncClient::new(options, REQUESTS);
        let session = Arc::new(Session::default());
        let (sender, frames) = mpsc::channel(AHEAD);
        let acknowledger = (client.clone(), Arc::clone(&session));
        let taking = take_all(frames, self.form, acknowledger, intake.clone());
        let taking = tokio::spawn(taking);
        let mut lost = None;
        while !intake.is_stopping() {
            let event = tokio::select! {
                event = connection.poll() => event,
                () = intake.stopped() => break,
            };
            let failure = match event {
                // After every connect: a broker that lost the session would send nothing.
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    let subscribed = client.try_subscribe(link.topic.name(), QoS::AtLeastOnce);
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
                    let _ = sender.send(Message::new(session.epoch(), message)).await;
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
    topic: Topic,
    intake: Intake,
}

impl Link {
    fn up(&self) {
        let (broker, topic) = (&self.broker, self.topic.name());
        tracing::info!(broker, topic, "subscribed to the MQTT topic");
        self.set(1.0);
    }

    /// Counts a failure; the same one after another is logged once.
    fn down(&self, reason: &'static str, detail: &str, again: bool) {
        let (broker, topic, user) = (self.broker.as_str(), self.topic.name(), self.topic.user());
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
        let labels = [
            ("broker", self.broker.as_str()),
            ("topic", self.topic.name()),
        ];
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

/// A message that was read.
struct Message {
    /// The connection that it came over.
    epoch: u64,
    publish: Publish,
    /// Why it is no frame, if that is seen before anything reads it.
    fault: Option<FrameFault>,
}

impl Message {
    /// Lets go of a payload that is too large: others wait before this one.
    fn new(epoch: u64, mut publish: Publish) -> Self {
        let (found, limit) = (publish.payload.len(), MAX_FRAME_BYTES);
        let fault = (found > limit).then(|| {
            drop(std::mem::take(&mut publish.payload));
            FrameFault::TooLarge { found, limit }
        });
        Self {
            epoch,
            publish,
            fault,
        }
    }
}

/// Takes messages one after the other and acknowledges each.
async fn take_all(
    mut messages: mpsc::Receiver<Message>,
    form: Form,
    (client, session): (AsyncClient, Arc<Session>),
    intake: Intake,
) -> Result<(), Error> {
    while let Some(message) = messages.recv().await {
        match take(&message, form, &intake).await {
            // A malformed frame is counted and logged; coming again would not mend it.
            Ok(()) | Err(Error::Frame(_)) => {
                session.acknowledge(message.epoch, &client, &message.publish);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn take(message: &Message, form: Form, intake: &Intake) -> Result<(), Error> {
    if let Some(fault) = message.fault {
        intake.refuse(NAME, fault);
        return Err(fault.into());
    }
    let payload = &message.publish.payload;
    let arrival = Arrival {
        id: Some(FrameId::of_bytes(NAME, payload)),
        form,
        bytes: payload.to_vec(),
    };
    intake.offer_until_taken(NAME, &arrival).await.map(drop)
}
