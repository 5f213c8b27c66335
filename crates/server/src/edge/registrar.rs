//! Registers the query of every frame at the vault as soon as the frame is accepted, not when its
//! answer is ready: the vault knows what was asked before there is an answer, and a frame whose
//! answer never comes is an open query there.
//!
//! Acceptance waits for none of it: a vault that is away is asked again later. What a frame's
//! registration has not reached when its inference leaves, the uplink registers then; a
//! registration can be repeated, and moved to the version that really ran.
//!
//! A version that the vault decrypts nothing of any more is barred: frames wait for another. The
//! vault is asked with one query now and then, as its clock may have been wrong.
//!
//! The query of a frame that is given up is withdrawn: it would stay open for good, and the vault
//! keeps only so many open queries of a device.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scuro_wire::https::{Answer, Client};
use scuro_wire::inference::Inference;
use scuro_wire::metrics::Metrics;
use scuro_wire::query::{
    QueryAck, QueryBatch, QueryBatchReply, QueryRegistration, Registration, WithdrawalBatch,
};
use scuro_wire::{Digest, QueryId, WireError, paths};
use tokio::sync::watch;

use super::counters::{REGISTERED, WITHDRAWN};
use super::deployments::{Bar, Deployments};
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

/// The vault's code for a deployment that its books do not have on this device.
pub(super) const NOT_ON_THIS_DEVICE: &str = "deployment.not-on-this-device";

/// Which queries the vault knows, and for which deployment.
#[derive(Debug, Default)]
pub(super) struct Registered {
    queries: Mutex<BTreeMap<QueryId, Digest>>,
}

impl Registered {
    /// Whether the vault knows the query of this inference for its deployment.
    pub(super) fn holds(&self, inference: &Inference) -> bool {
        self.knows(&inference.query_id, &inference.deployment)
    }

    /// Whether the vault knows this query for this deployment.
    fn knows(&self, query: &QueryId, deployment: &Digest) -> bool {
        self.lock().get(query) == Some(deployment)
    }

    /// The vault knows it; whether that is new.
    pub(super) fn insert(&self, query: QueryId, deployment: Digest) -> bool {
        let mut queries = self.lock();
        if queries.len() >= REMEMBERED {
            queries.clear();
        }
        queries.insert(query, deployment).is_none()
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
    pub(super) deployments: Arc<Deployments>,
    pub(super) client: Client,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) backoff: Backoff,
    pub(super) registered: Arc<Registered>,
}

/// How far registration has come: frames up to a place, for one version.
#[derive(Debug, Default)]
struct Reached {
    deployment: Option<Digest>,
    seq: u64,
}

enum Turn {
    Nothing,
    Progress,
    /// The vault does not take them yet.
    Later,
}

impl Registrar {
    /// Registers until the end. It says nothing of a vault that is away: the uplink does.
    pub(super) async fn run(mut self) {
        let mut reached = Reached::default();
        while !*self.stop.borrow() {
            let seen = self.spool.changed().rings();
            match self.turn(&mut reached).await {
                Ok(Turn::Progress) => self.backoff.reset(),
                Ok(Turn::Nothing) => self.spool.changed().wait_async(seen, LOOK).await,
                Ok(Turn::Later) => self.rest().await,
                Err(error) => {
                    tracing::debug!(%error, "queries are registered later");
                    self.rest().await;
                }
            }
        }
    }

    async fn turn(&mut self, reached: &mut Reached) -> Result<Turn, Error> {
        // First, as it makes room for what is registered; a vault that cannot do it yet still
        // registers.
        let withdrew = self.withdraw().await;
        let turn = self.register_next(reached).await?;
        Ok(if withdrew? { Turn::Progress } else { turn })
    }

    /// Registers frames after the place that was reached.
    async fn register_next(&mut self, reached: &mut Reached) -> Result<Turn, Error> {
        let active = self.active.borrow().as_ref().map(|v| v.deployment());
        let Some(deployment) = active else {
            return Ok(Turn::Nothing);
        };
        if reached.deployment != Some(deployment) {
            // Whatever waits will run under this version.
            *reached = Reached {
                deployment: Some(deployment),
                seq: 0,
            };
        }
        let (spool, after) = (self.spool.clone(), reached.seq);
        let read = move || spool.reader().queries(after, BATCH);
        let waiting = tokio::task::spawn_blocking(read).await;
        let mut waiting = waiting.map_err(|_| Error::Panicked)??;
        let Some(mut last) = waiting.last().map(|waiting| waiting.seq) else {
            return Ok(Turn::Nothing);
        };
        if self.deployments.is_barred(&deployment) {
            // One that the vault does not know is enough to hear whether it still is.
            waiting.retain(|waiting| !self.registered.knows(&waiting.query_id, &deployment));
            waiting.truncate(1);
            last = waiting.last().map_or(last, |waiting| waiting.seq);
        }
        if waiting.is_empty() {
            reached.seq = last;
            return Ok(Turn::Progress);
        }
        let registration = |waiting: &WaitingQuery| QueryRegistration {
            query_id: waiting.query_id,
            deployment,
            query_digest: waiting.digest,
        };
        let queries = waiting.iter().map(registration).collect();
        let acks = register(&mut self.client, queries).await?.acks;
        if self.note(&acks, deployment) {
            return Ok(Turn::Later);
        }
        reached.seq = last;
        Ok(Turn::Progress)
    }

    /// Notes what the vault knows now; whether some of these are to be registered again.
    fn note(&self, acks: &[QueryAck], deployment: Digest) -> bool {
        let (mut new, mut again) = (0, false);
        for ack in acks {
            match ack.status {
                Registration::Registered | Registration::Known => {
                    new += u64::from(self.registered.insert(ack.query_id, deployment));
                    // One that is known was so before, whatever the vault would say now.
                    if ack.status == Registration::Registered {
                        self.deployments.unbar(&deployment);
                    }
                }
                Registration::Later => again = true,
                Registration::Refused => match Bar::of_code(ack.code.as_deref()) {
                    Some(bar) => {
                        self.deployments.bar(&deployment, bar);
                        again = true;
                    }
                    // A vault that is cut off while it deploys does not know yet what is here.
                    None => {
                        again |= ack.code.as_deref() == Some(NOT_ON_THIS_DEVICE)
                            && self.deployments.is_fresh(&deployment);
                    }
                },
            }
        }
        self.metrics.add(REGISTERED, &[], new);
        again
    }

    /// Tells the vault which queries will not be answered; whether there were any.
    async fn withdraw(&mut self) -> Result<bool, Error> {
        let spool = self.spool.clone();
        let read = move || spool.reader().withdrawals(BATCH);
        let waiting = tokio::task::spawn_blocking(read).await;
        let waiting = waiting.map_err(|_| Error::Panicked)??;
        if waiting.is_empty() {
            return Ok(false);
        }
        let (places, queries): (Vec<u64>, Vec<QueryId>) = waiting.into_iter().unzip();
        queries
            .iter()
            .for_each(|query| self.registered.forget(query));
        let body = json("withdrawal batch", &WithdrawalBatch { queries })?;
        let path = paths::WITHDRAWALS;
        let answer = self
            .client
            .send(hyper::Method::POST, path, &[], body)
            .await?;
        success(path, answer)?;
        self.metrics.add(WITHDRAWN, &[], places.len() as u64);
        self.spool.withdrawn(places).await?;
        Ok(true)
    }

    async fn rest(&mut self) {
        let pause = self.backoff.next();
        // A sender that is gone means the end as well.
        let _ = tokio::time::timeout(pause, self.stop.wait_for(|stop| *stop)).await;
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
    let body = json("query batch", &QueryBatch { queries })?;
    let answer = client
        .send(hyper::Method::POST, paths::QUERIES, &[], body)
        .await?;
    Ok(success(paths::QUERIES, answer)?.json()?)
}

fn json(what: &'static str, body: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(body).map_err(|error| {
        let message = error.to_string();
        Error::Wire(WireError::Json { what, message })
    })
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
