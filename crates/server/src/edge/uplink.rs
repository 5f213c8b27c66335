//! The way to the vault: sends encrypted inferences, in batches and in the order of their frames,
//! and registers those queries that the [`super::registrar`] has not registered yet.
//!
//! An inference leaves the spool when the vault says that it has it (now or from before), or that
//! it never will. If the vault will not because the version was retired or its key has expired, the
//! frame runs again under the next one. As long as the vault is away, or answers anything else, it
//! waits: with exponential backoff and jitter, one log line when the connection is lost and one
//! when it is back. While there is nothing to send, the vault is asked now and then whether it is
//! there: a device that cannot reach it says so before its first frame.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_wire::https::{Answer, Client};
use scuro_wire::inference::{
    CONTENT_TYPE, Inference, InferenceBatch, InferenceBatchReply, Outcome,
};
use scuro_wire::metrics::Metrics;
use scuro_wire::query::{QueryRegistration, Registration};
use scuro_wire::{QueryId, paths};
use tokio::sync::watch;

use super::counters::{DEAD, RETURNED, SENT, UPLINK_FAILURES, UPLINK_UP};
use super::deployments::{Bar, Deployments};
use super::registrar::{NOT_ON_THIS_DEVICE, Registered, register, success};
use super::spool::{Letter, Spool, WaitingInference};
use crate::error::Error;

/// Most inferences of one request.
const BATCH: usize = 128;
/// Most bytes of one request.
const BATCH_BYTES: usize = 16 << 20;
/// Longest time without a look at the spool.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two looks whether the vault is there, while nothing is sent.
const IDLE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Statuses that say that the request itself is wrong: sent again it stays so.
const WRONG_REQUEST: [u16; 3] = [400, 413, 422];

/// The vault's codes for a query that it does not know, or knows for another version: what was
/// registered early is registered again.
const UNKNOWN: &str = "query.unknown";
const TOO_MANY: &str = "query.too-many";
const OTHER_DEPLOYMENT: &str = "query.other-deployment";

/// The sending side.
pub(super) struct Uplink {
    pub(super) spool: Spool,
    pub(super) deployments: Arc<Deployments>,
    pub(super) client: Client,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) backoff: Backoff,
    pub(super) registered: Arc<Registered>,
}

/// What the vault said to a batch.
#[derive(Debug, Default)]
struct Verdict {
    sent: Vec<u64>,
    dead: Vec<(u64, Letter)>,
    /// Of a version that the vault decrypts nothing of: their frames run again.
    returned: Vec<(u64, Letter)>,
    /// To be sent again later.
    kept: usize,
    retry_after: Option<u64>,
}

impl Uplink {
    /// Sends until the end.
    pub(super) async fn run(mut self) {
        let mut link = Link::default();
        while !*self.stop.borrow() {
            let seen = self.spool.changed().rings();
            let step = match self.step(&mut link).await {
                Ok(Step::Nothing) if link.is_due() => self.probe().await,
                step => step,
            };
            match step {
                Ok(Step::Nothing) => self.wait_for_work(seen).await,
                Ok(Step::Progress) => {
                    link.works();
                    self.backoff.reset();
                }
                Ok(Step::Later(after)) => {
                    link.works();
                    self.rest(after).await;
                }
                Err(error) => {
                    match is_own(&error) {
                        // Nothing is said of the vault by that.
                        true => tracing::warn!(%error, "inferences wait for the spool"),
                        false => link.fails(&error),
                    }
                    let reason = error.code();
                    self.metrics.add(UPLINK_FAILURES, &[("reason", reason)], 1);
                    self.metrics.set(UPLINK_UP, &[], link.level());
                    self.rest(None).await;
                }
            }
            self.metrics.set(UPLINK_UP, &[], link.level());
        }
    }

    /// Asks whether the vault is there, and takes this device's certificate.
    async fn probe(&mut self) -> Result<Step, Error> {
        let path = paths::LIVE;
        let asked = self.client.send(hyper::Method::GET, path, &[], Vec::new());
        success(path, asked.await?)?;
        Ok(Step::Progress)
    }

    async fn step(&mut self, link: &mut Link) -> Result<Step, Error> {
        let spool = self.spool.clone();
        let read = move || spool.next_inferences(BATCH, BATCH_BYTES);
        let waiting = tokio::task::spawn_blocking(read).await;
        let waiting = waiting.map_err(|_| Error::Panicked)??;
        if waiting.is_empty() {
            return Ok(Step::Nothing);
        }
        let verdict = match self.deliver(&waiting).await {
            Err(Error::Vault {
                status, message, ..
            }) if WRONG_REQUEST.contains(&status) => self.deliver_singly(waiting, &message).await?,
            verdict => verdict?,
        };
        // Whatever the spool says to it.
        link.works();
        self.note(&verdict).await?;
        let progress = verdict.settled();
        if progress > 0 {
            self.backoff.reset();
        }
        if verdict.kept > 0 || progress == 0 {
            return Ok(Step::Later(verdict.retry_after));
        }
        Ok(Step::Progress)
    }

    /// Puts on disk what the vault has said, and tells it then: what the spool does not take is
    /// asked again.
    async fn note(&self, verdict: &Verdict) -> Result<(), Error> {
        let (sent, dead) = (&verdict.sent, &verdict.dead);
        self.spool.settle(sent.clone(), dead.clone()).await?;
        self.metrics.add(SENT, &[], sent.len() as u64);
        for (seq, letter) in dead {
            let (code, reason) = (letter.code.as_str(), letter.message.as_str());
            tracing::warn!(seq, code, reason, "inference given up");
            let labels = [("reason", code), ("stage", letter.stage)];
            self.metrics.add(DEAD, &labels, 1);
        }
        if verdict.returned.is_empty() {
            return Ok(());
        }
        self.spool.run_again(verdict.returned.clone()).await?;
        for (seq, letter) in &verdict.returned {
            let reason = letter.code.as_str();
            tracing::info!(seq, reason, "the frame runs again under another version");
            self.metrics.add(RETURNED, &[("reason", reason)], 1);
        }
        Ok(())
    }

    /// One inference that the vault cannot read must not hold up the others.
    async fn deliver_singly(
        &mut self,
        waiting: Vec<WaitingInference>,
        reason: &str,
    ) -> Result<Verdict, Error> {
        tracing::warn!(reason, "the vault refuses a batch; sending one at a time");
        let mut all = Verdict::default();
        for one in waiting {
            let seq = one.seq;
            match self.deliver(std::slice::from_ref(&one)).await {
                Ok(verdict) => {
                    all.sent.extend(verdict.sent);
                    all.dead.extend(verdict.dead);
                    all.returned.extend(verdict.returned);
                    all.kept += verdict.kept;
                }
                Err(Error::Vault {
                    status, message, ..
                }) if WRONG_REQUEST.contains(&status) => {
                    all.dead
                        .push((seq, letter(format!("http.{status}"), message)));
                }
                // What was settled so far is settled; the others are sent again.
                Err(_) if all.settled() > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Registers and sends; `waiting` is not empty.
    async fn deliver(&mut self, waiting: &[WaitingInference]) -> Result<Verdict, Error> {
        let mut verdict = Verdict::default();
        let mut open: BTreeMap<QueryId, &WaitingInference> = waiting
            .iter()
            .map(|waiting| (waiting.inference.query_id, waiting))
            .collect();
        if let Err(error) = self.register_rest(&mut open, &mut verdict).await {
            // What was registered before is taken all the same, and may be what makes room.
            open.retain(|_, waiting| self.registered.holds(&waiting.inference));
            if open.is_empty() {
                return Err(error);
            }
            tracing::debug!(%error, "only what is registered is sent");
            let labels = [("reason", error.code())];
            self.metrics.add(UPLINK_FAILURES, &labels, 1);
        }
        let inferences = waiting.iter().map(|waiting| &waiting.inference);
        let inferences: Vec<_> = inferences
            .filter(|inference| open.contains_key(&inference.query_id))
            .cloned()
            .collect();
        if !inferences.is_empty() {
            let answer = self.send(InferenceBatch { inferences }).await?;
            verdict.retry_after = answer.retry_after();
            for ack in answer.json::<InferenceBatchReply>()?.acks {
                let Some(answered) = open.remove(&ack.query_id) else {
                    continue;
                };
                if ack.outcome != Outcome::Retry {
                    self.registered.forget(&ack.query_id);
                }
                let again = matches!(ack.code.as_deref(), Some(UNKNOWN | OTHER_DEPLOYMENT));
                match ack.outcome {
                    Outcome::Accepted | Outcome::Duplicate => verdict.sent.push(answered.seq),
                    Outcome::Refused if !again => {
                        self.refused(&mut verdict, answered, ack.code, "inference");
                    }
                    Outcome::Refused | Outcome::Retry => {}
                }
            }
        }
        verdict.kept = waiting.len() - verdict.settled();
        Ok(verdict)
    }

    /// Notes something refused: given up, unless its frame can run under another version, or it is
    /// only too early: a vault that is cut off while it deploys does not know yet what the device
    /// has.
    fn refused(
        &self,
        verdict: &mut Verdict,
        refused: &WaitingInference,
        code: Option<String>,
        what: &str,
    ) {
        let deployment = &refused.inference.deployment;
        let bar = Bar::of_code(code.as_deref());
        let code = code.unwrap_or_else(|| format!("{what}.refused"));
        if code == NOT_ON_THIS_DEVICE && self.deployments.is_fresh(deployment) {
            tracing::debug!(%deployment, "the vault does not know of its deployment yet");
            return;
        }
        let letter = letter(code, format!("the vault refuses the {what}"));
        match bar {
            Some(bar) => {
                self.deployments.bar(deployment, bar);
                verdict.returned.push((refused.seq, letter));
            }
            None => verdict.dead.push((refused.seq, letter)),
        }
    }

    /// Registers what is not registered for its deployment; what is refused or has to wait leaves
    /// `open`.
    async fn register_rest(
        &mut self,
        open: &mut BTreeMap<QueryId, &WaitingInference>,
        verdict: &mut Verdict,
    ) -> Result<(), Error> {
        let rest = open.values().map(|waiting| &waiting.inference);
        let rest: Vec<_> = rest
            .filter(|inference| !self.registered.holds(inference))
            .collect();
        if rest.is_empty() {
            return Ok(());
        }
        let registration = |inference: &&Inference| QueryRegistration {
            query_id: inference.query_id,
            deployment: inference.deployment,
            query_digest: inference.query_digest,
        };
        let queries = rest.iter().map(registration).collect();
        for ack in register(&mut self.client, queries).await?.acks {
            match ack.status {
                Registration::Registered | Registration::Known => {
                    if let Some(known) = open.get(&ack.query_id) {
                        let deployment = known.inference.deployment;
                        self.registered.insert(ack.query_id, deployment);
                    }
                }
                Registration::Refused => {
                    if let Some(refused) = open.remove(&ack.query_id) {
                        self.refused(verdict, refused, ack.code, "registration");
                    }
                }
                Registration::Later => {
                    open.remove(&ack.query_id);
                    let reason = ack.code.unwrap_or_default();
                    tracing::debug!(query = %ack.query_id, reason, "registered later");
                    self.metrics
                        .add(UPLINK_FAILURES, &[("reason", TOO_MANY)], 1);
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, batch: InferenceBatch) -> Result<Answer, Error> {
        let headers = [("content-type", CONTENT_TYPE.to_string())];
        let sent = self.client.send(
            hyper::Method::POST,
            paths::INFERENCES,
            &headers,
            batch.to_bytes(),
        );
        success(paths::INFERENCES, sent.await?)
    }

    async fn wait_for_work(&self, seen: u64) {
        self.spool.changed().wait_async(seen, LOOK).await;
    }

    async fn rest(&mut self, after: Option<u64>) {
        let pause = match after {
            Some(seconds) => Duration::from_secs(seconds).min(LONGEST_PAUSE),
            None => self.backoff.next(),
        };
        // A sender that is gone means the end as well.
        let _ = tokio::time::timeout(pause, self.stop.wait_for(|stop| *stop)).await;
    }
}

impl Verdict {
    /// How many are not to be sent again.
    fn settled(&self) -> usize {
        self.sent.len() + self.dead.len() + self.returned.len()
    }
}

/// Whether an error is of this device's disk.
fn is_own(error: &Error) -> bool {
    matches!(error, Error::Spool { .. } | Error::StorageFull { .. })
}

/// What is known of the way to the vault; nothing at first.
#[derive(Debug, Default)]
struct Link {
    up: Option<bool>,
    asked: Option<Instant>,
}

impl Link {
    /// Whether it is time to look.
    fn is_due(&self) -> bool {
        self.up != Some(true) || self.asked.is_none_or(|asked| asked.elapsed() >= IDLE)
    }

    fn works(&mut self) {
        match self.up {
            None => tracing::info!("the vault answers"),
            Some(false) => tracing::info!("the vault is back"),
            Some(true) => {}
        }
        (self.up, self.asked) = (Some(true), Some(Instant::now()));
    }

    fn fails(&mut self, error: &Error) {
        if self.up != Some(false) {
            tracing::warn!(%error, "the vault cannot take inferences; they wait");
        }
        self.up = Some(false);
    }

    /// The gauge.
    fn level(&self) -> f64 {
        if self.up == Some(true) { 1.0 } else { 0.0 }
    }
}

enum Step {
    Nothing,
    Progress,
    Later(Option<u64>),
}

fn letter(code: String, message: impl Into<String>) -> Letter {
    Letter {
        stage: "vault",
        code,
        message: message.into(),
    }
}

/// Pauses that double, each drawn between half of it and the whole.
pub(super) struct Backoff {
    pause: Duration,
    rng: ChaCha20Rng,
}

impl Backoff {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self {
            pause: FIRST_PAUSE,
            rng: ChaCha20Rng::from_seed(seed),
        }
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (2 * pause).min(LONGEST_PAUSE);
        let share = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        pause.mul_f64(0.5 + 0.5 * share)
    }

    pub(super) fn reset(&mut self) {
        self.pause = FIRST_PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_never_vanish() {
        let mut backoff = Backoff::new([7; 32]);
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(pauses[0] >= FIRST_PAUSE / 2 && pauses[0] <= FIRST_PAUSE);
        assert!(pauses.iter().all(|pause| *pause >= FIRST_PAUSE / 2));
        assert!(pauses[19] >= LONGEST_PAUSE / 2 && pauses[19] <= LONGEST_PAUSE);
        backoff.reset();
        assert!(backoff.next() <= FIRST_PAUSE);
    }
}
