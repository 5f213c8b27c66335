//! Registers the query of every frame at the vault as soon as the frame is accepted, not when its
//! answer is ready: the vault knows what was asked before there is an answer, and a frame whose
//! answer never comes is an open query there.
//!
//! Acceptance waits for none of it: a vault that is away is asked again later. What a frame's
//! registration has not reached when its inference leaves, the uplink registers then; a
//! registration can be repeated, and moved to the version that really ran.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scuro_wire::https::{Answer, Client};
use scuro_wire::inference::Inference;
use scuro_wire::metrics::Metrics;
use scuro_wire::query::{QueryBatch, QueryBatchReply, QueryRegistration, Registration};
use scuro_wire::{Digest, QueryId, WireError, paths};
use tokio::sync::watch;

use super::counters::REGISTERED;
use super::spool::{Spool, WaitingQuery};
use super::uplink::Backoff;
use super::version::Version;
use crate::error::Error;

/// Most registrations of one request.
const BATCH: usize = 1024;
/// Longest time without a look at the spool.
const LOOK: Duration = Duration::from_secs(1);
/// Registrations remembered; all are forgotten above it, and registered again when they are sent.
const REMEMBERED: usize = 100_000;

/// Which queries the vault knows, and for which deployment.
#[derive(Debug, Default)]
pub(super) struct Registered {
    queries: Mutex<BTreeMap<QueryId, Digest>>,
}

impl Registered {
    /// Whether the vault knows the query of this inference for its deployment.
    pub(super) fn holds(&self, inference: &Inference) -> bool {
        self.lock().get(&inference.query_id) == Some(&inference.deployment)
    }

    /// The vault knows it.
    pub(super) fn insert(&self, query: QueryId, deployment: Digest) {
        let mut queries = self.lock();
        if queries.len() >= REMEMBERED {
            queries.clear();
        }
        queries.insert(query, deployment);
    }

    /// It is answered, or the vault does not know it after all.
    pub(super) fn forget(&self, query: &QueryId) {
        self.lock().remove(query);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<QueryId, Digest>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task.
pub(super) struct Registrar {
    pub(super) spool: Spool,
    pub(super) active: watch::Receiver<Option<Arc<Version>>>,
    pub(super) client: Client,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) backoff: Backoff,
    pub(super) registered: Arc<Registered>,
}

impl Registrar {
    /// Registers until the end. It says nothing of a vault that is away: the uplink does.
    pub(super) async fn run(mut self) {
        let mut after = 0;
        while !*self.stop.borrow() {
            let seen = self.spool.changed().rings();
            match self.step(after).await {
                Ok(Some(last)) => {
                    after = last;
                    self.backoff.reset();
                }
                Ok(None) => self.spool.changed().wait_async(seen, LOOK).await,
                Err(error) => {
                    tracing::debug!(%error, "queries are registered later");
                    let pause = self.backoff.next();
                    // A sender that is gone means the end as well.
                    let _ = tokio::time::timeout(pause, self.stop.wait_for(|stop| *stop)).await;
                }
            }
        }
    }

    /// Registers frames after place `after`; the place of the last, or nothing if there are none.
    async fn step(&mut self, after: u64) -> Result<Option<u64>, Error> {
        let active = self.active.borrow().as_ref().map(|v| v.deployment());
        let Some(deployment) = active else {
            return Ok(None);
        };
        let spool = self.spool.clone();
        let read = move || spool.reader().queries(after, BATCH);
        let waiting = tokio::task::spawn_blocking(read).await;
        let waiting = waiting.map_err(|_| Error::Panicked)??;
        let Some(last) = waiting.last().map(|waiting| waiting.seq) else {
            return Ok(None);
        };
        let registration = |waiting: &WaitingQuery| QueryRegistration {
            query_id: waiting.query_id,
            deployment,
            query_digest: waiting.digest,
        };
        let queries = waiting.iter().map(registration).collect();
        let reply = register(&mut self.client, queries).await?;
        let mut known = reply.acks;
        known.retain(|ack| ack.status != Registration::Refused);
        for ack in &known {
            self.registered.insert(ack.query_id, deployment);
        }
        self.metrics.add(REGISTERED, &[], known.len() as u64);
        Ok(Some(last))
    }
}

/// Registers queries; they are on the vault's disk when this returns.
///
/// # Errors
/// [`Error::Vault`], [`Error::Wire`].
pub(super) async fn register(
    client: &mut Client,
    queries: Vec<QueryRegistration>,
) -> Result<QueryBatchReply, Error> {
    let body = serde_json::to_vec(&QueryBatch { queries }).map_err(|error| {
        Error::Wire(WireError::Json {
            what: "query batch",
            message: error.to_string(),
        })
    })?;
    let answer = client
        .send(hyper::Method::POST, paths::QUERIES, &[], body)
        .await?;
    Ok(success(paths::QUERIES, answer)?.json()?)
}

/// The answer, if it is a success.
pub(super) fn success(path: &'static str, answer: Answer) -> Result<Answer, Error> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(Error::Vault {
        status: answer.status.as_u16(),
        path,
        message: answer.problem().to_string(),
    })
}
