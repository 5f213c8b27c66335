//! What every source hands its frames to: parsing, naming, counting, and back-pressure.

use std::sync::Arc;
use std::time::Duration;

use scuro_wire::QueryId;
use scuro_wire::metrics::Metrics;
use tokio::sync::watch;

use super::counters::{DUPLICATES, FRAMES, REFUSED};
use super::frame::{self, FrameFault, FrameId, Layout};
use super::spool::{Accepted, NewFrame, Spool};
use super::version::Version;
use crate::clock;
use crate::error::Error;

pub use super::frame::Form;

/// Pause of a source that waits for room.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes from a source.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Name, if the source has one; a JSON frame's own goes before it.
    pub id: Option<FrameId>,
    /// How to read the bytes.
    pub form: Form,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Hands frames to the spool; cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    spool: Spool,
    active: watch::Receiver<Option<Arc<Version>>>,
    stop: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
}

impl Intake {
    pub(super) fn new(
        spool: Spool,
        active: watch::Receiver<Option<Arc<Version>>>,
        stop: watch::Receiver<bool>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            spool,
            active,
            stop,
            metrics,
        }
    }

    /// What the active model takes.
    ///
    /// # Errors
    /// [`Error::NoModel`].
    pub fn layout(&self) -> Result<Layout, Error> {
        let active = self.active.borrow();
        active
            .as_ref()
            .map(|version| version.layout())
            .ok_or(Error::NoModel)
    }

    /// Takes one frame: returns once it is on disk, or was before.
    ///
    /// # Errors
    /// [`Error::Frame`] for a frame that will never be taken; [`Error::NoModel`],
    /// [`Error::QueueFull`], [`Error::StorageFull`], [`Error::Spool`], [`Error::Stopping`] for one
    /// that may be offered again.
    pub async fn offer(&self, source: &'static str, arrival: &Arrival) -> Result<Accepted, Error> {
        let taken = self.try_offer(source, arrival).await;
        match &taken {
            Ok(accepted) => {
                let counter = if accepted.again { DUPLICATES } else { FRAMES };
                self.metrics.add(counter, &[("source", source)], 1);
            }
            Err(error) => self.count_refusal(source, error),
        }
        taken
    }

    /// As [`Intake::offer`], but waits until there is a model and room.
    ///
    /// # Errors
    /// [`Error::Frame`], or [`Error::Stopping`].
    pub async fn offer_until_taken(
        &self,
        source: &'static str,
        arrival: &Arrival,
    ) -> Result<Accepted, Error> {
        let mut told = false;
        loop {
            match self.offer(source, arrival).await {
                Err(error @ (Error::Frame(_) | Error::Stopping)) => return Err(error),
                Err(error) => {
                    if !told {
                        tracing::warn!(source, %error, "a frame has to wait");
                        told = true;
                    }
                    self.pause().await?;
                }
                Ok(accepted) => return Ok(accepted),
            }
        }
    }

    /// Waits until there is a model.
    ///
    /// # Errors
    /// [`Error::Stopping`].
    pub async fn wait_for_layout(&self) -> Result<Layout, Error> {
        loop {
            match self.layout() {
                Ok(layout) => return Ok(layout),
                Err(_) => self.pause().await?,
            }
        }
    }

    /// Counts and logs a frame that its source could not even hand over.
    pub fn refuse(&self, source: &'static str, fault: FrameFault) {
        self.count_refusal(source, &Error::Frame(fault));
    }

    /// Sleeps a little.
    ///
    /// # Errors
    /// [`Error::Stopping`].
    pub(super) async fn pause(&self) -> Result<(), Error> {
        let mut stop = self.stop.clone();
        // A sender that is gone means the end as well.
        match tokio::time::timeout(PAUSE, stop.wait_for(|stop| *stop)).await {
            Ok(_) => Err(Error::Stopping),
            Err(_) => Ok(()),
        }
    }

    /// Waits for the end of the service.
    pub(super) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // A sender that is gone means the end as well.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    async fn try_offer(&self, source: &'static str, arrival: &Arrival) -> Result<Accepted, Error> {
        if self.is_stopping() {
            return Err(Error::Stopping);
        }
        let (id, record) = read(arrival.clone(), self.layout()?).await?;
        let frame = NewFrame {
            id,
            source,
            query_id: random_query_id()?,
            captured_us: clock::now_us(),
            record,
        };
        self.spool.accept(frame).await
    }

    /// Counts a frame that is not taken; logs one that will never be.
    pub(super) fn count_refusal(&self, source: &'static str, error: &Error) {
        let reason = match error {
            Error::Frame(fault) => {
                tracing::warn!(source, %fault, "frame refused");
                fault.code()
            }
            other => other.code(),
        };
        let labels = [("reason", reason), ("source", source)];
        self.metrics.add(REFUSED, &labels, 1);
    }
}

/// Name and record of a frame, read on a thread where decoding holds nothing up.
async fn read(arrival: Arrival, layout: Layout) -> Result<(FrameId, Vec<u8>), Error> {
    let work = move || {
        let (own, content) = frame::read(&arrival.bytes, arrival.form, layout)?;
        let id = own.or(arrival.id);
        let id = id.unwrap_or_else(|| FrameId::of_bytes("bytes", &arrival.bytes));
        Ok::<_, FrameFault>((id, content.to_record()))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(read) => read.map_err(Error::Frame),
        Err(error) if error.is_panic() => Err(FrameFault::Bug.into()),
        // The runtime is about to end.
        Err(_) => Err(Error::Stopping),
    }
}

fn random_query_id() -> Result<QueryId, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Randomness {
        message: error.to_string(),
    })?;
    Ok(QueryId(bytes))
}
