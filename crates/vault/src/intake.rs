//! The decryption agent: takes registrations and encrypted inferences of one device.
//!
//! An inference is decrypted only if this device registered its query, for a deployment that it
//! was given and that is neither retired nor expired, with the same digest, it was not answered
//! before, and the very same image of the same ciphertexts answered no other query. The answer and
//! the mark on the query are one transaction, which looks at the query once more: what is
//! acknowledged is on disk, and nothing is there twice.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, params};
use scuro_wire::inference::{
    Inference, InferenceAck, InferenceBatch, InferenceBatchReply, Outcome,
};
use scuro_wire::metrics::Metrics;
use scuro_wire::query::{
    QueryAck, QueryBatch, QueryBatchReply, QueryRegistration, Registration, WithdrawalBatch,
    WithdrawalReply,
};
use scuro_wire::results::InferenceResult;
use scuro_wire::{Digest, Name, QueryId};

use crate::decryption::{OpenModel, OpenModels, ReplyFault};
use crate::deploy::was_given;
use crate::error::VaultError;
use crate::results;
use crate::vault::Vault;

/// Most unanswered queries of one device.
pub const OPEN_QUERIES: u64 = 1_000_000;
/// Days that an unanswered query is kept.
pub const OPEN_QUERY_DAYS: u64 = 30;
/// Counter of inferences by device and outcome.
pub const INFERENCES_METRIC: &str = "scuro_vault_inferences_total";
/// Counter of registrations and withdrawals by device and outcome.
pub const QUERIES_METRIC: &str = "scuro_vault_queries_total";
/// Gauge: unanswered queries by device.
pub const OPEN_METRIC: &str = "scuro_vault_open_queries";
/// Counter of queries without an answer, because their scores overflowed, by device.
pub const DROPPED_METRIC: &str = "scuro_vault_answers_dropped_total";
/// Histogram of parsing, decrypting and decoding one reply.
pub const DECRYPT_METRIC: &str = "scuro_vault_decrypt_seconds";

/// What stands in the way of an inference.
const NOT_REGISTERED: &str = "query.unknown";
const OTHER_DEVICE: &str = "query.of-another-device";
const OTHER_DIGEST: &str = "query.other-digest";
const OTHER_DEPLOYMENT: &str = "query.other-deployment";
const ID_TAKEN: &str = "query.id-taken";
const TOO_MANY: &str = "query.too-many";
const NOT_DEPLOYED: &str = "deployment.not-on-this-device";
const RETIRED: &str = "model.retired";
const EXPIRED: &str = "model.key-expired";
const UNREADABLE: &str = "model.unreadable";
const REPLAYED: &str = "reply.replayed";

/// The agent; shared by all requests.
#[derive(Debug)]
pub struct Intake {
    vault: Arc<Vault>,
    metrics: Arc<Metrics>,
    models: OpenModels,
    /// Most unanswered queries of one device.
    open_queries: u64,
    /// Queries that a request is decrypting now.
    under_way: Mutex<HashSet<QueryId>>,
}

/// A model that may decrypt for this device, or the code of why not.
type Permission = Result<Arc<OpenModel>, Refused>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// For good.
    Never(&'static str),
    /// The vault cannot read its own files: the device keeps the inference.
    Later(&'static str),
}

impl Intake {
    /// An agent on a vault.
    pub fn new(vault: Arc<Vault>, metrics: Arc<Metrics>) -> Self {
        Self {
            vault,
            metrics,
            models: OpenModels::default(),
            open_queries: OPEN_QUERIES,
            under_way: Mutex::default(),
        }
    }

    /// With another limit than [`OPEN_QUERIES`].
    #[must_use]
    pub fn with_open_queries(mut self, limit: u64) -> Self {
        self.open_queries = limit;
        self
    }

    /// Registers queries of `device`; they are on disk when this returns. What is known already is
    /// so at the limit of open queries too; only new ones have to wait there.
    ///
    /// # Errors
    /// [`VaultError::DiskFull`], [`VaultError::Database`]: then nothing of the batch is registered.
    pub fn register(
        &self,
        device: &Name,
        batch: &QueryBatch,
        now_ms: u64,
    ) -> Result<QueryBatchReply, VaultError> {
        let outcomes = self.vault.database.write(|db| {
            let mut room = self.open_queries.saturating_sub(open_queries(db, device)?);
            let mut known = HashMap::new();
            let mut outcomes = Vec::with_capacity(batch.queries.len());
            for query in &batch.queries {
                let allowed = match known.get(&query.deployment) {
                    Some(code) => *code,
                    None => self.usable(db, device, &query.deployment, now_ms / 1000)?,
                };
                known.insert(query.deployment, allowed);
                outcomes.push(register_one(db, device, query, allowed, &mut room, now_ms)?);
            }
            Ok(outcomes)
        })?;
        let each = batch.queries.iter().zip(outcomes);
        let acks = each.map(|(query, outcome)| {
            self.count_registration(device, query, outcome);
            outcome.ack(query.query_id)
        });
        Ok(QueryBatchReply {
            acks: acks.collect(),
        })
    }

    /// Forgets open queries of `device` that it will not answer; never those of another device, and
    /// never an answered one.
    ///
    /// # Errors
    /// [`VaultError::DiskFull`], [`VaultError::Database`]: then nothing is forgotten.
    pub fn withdraw(
        &self,
        device: &Name,
        batch: &WithdrawalBatch,
    ) -> Result<WithdrawalReply, VaultError> {
        let sql = "DELETE FROM queries WHERE id = ?1 AND device = ?2 AND result IS NULL";
        let withdrawn = self.vault.database.write(|db| {
            let mut delete = db.prepare(sql)?;
            let mut withdrawn = 0;
            for query in &batch.queries {
                withdrawn += delete.execute(params![query.0, device.as_str()])? as u64;
            }
            Ok(withdrawn)
        })?;
        let labels = [("device", device.as_str()), ("outcome", "withdrawn")];
        self.metrics.add(QUERIES_METRIC, &labels, withdrawn);
        Ok(WithdrawalReply { withdrawn })
    }

    /// Sets the gauge of open queries, one for every device that is enrolled.
    ///
    /// # Errors
    /// [`VaultError::Database`].
    pub fn measure(&self) -> Result<(), VaultError> {
        let sql = "SELECT name, (SELECT count(*) FROM queries
                 WHERE device = name AND result IS NULL) FROM peers WHERE role = 'device'";
        let counts = self.vault.database.read(|db| {
            let mut find = db.prepare(sql)?;
            let rows = find.query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })?;
        for (device, open) in counts {
            self.metrics
                .set(OPEN_METRIC, &[("device", &device)], open as f64);
        }
        Ok(())
    }

    /// Decrypts what belongs to open queries of `device` and stores the answers; everything that is
    /// acknowledged is on disk when this returns.
    ///
    /// # Errors
    /// [`VaultError::DiskFull`], [`VaultError::Database`]: then nothing is acknowledged.
    pub fn accept(
        &self,
        device: &Name,
        batch: InferenceBatch,
        now_ms: u64,
    ) -> Result<InferenceBatchReply, VaultError> {
        let claim = self.claim(&batch);
        let permissions = self.permissions(device, &batch, now_ms / 1000)?;
        let mut verdicts = Vec::with_capacity(batch.inferences.len());
        for (place, inference) in batch.inferences.iter().enumerate() {
            let owned = claim.owns(place);
            verdicts.push(self.judge(device, inference, owned, &permissions, now_ms)?);
        }
        let acks = self.vault.database.write(|db| {
            let each = batch.inferences.iter().zip(&verdicts);
            each.map(|(inference, verdict)| settle(db, device, inference, verdict))
                .collect::<Result<Vec<_>, _>>()
        })?;
        drop(claim);
        for (ack, verdict) in acks.iter().zip(&verdicts) {
            self.report(device, ack, verdict);
        }
        Ok(InferenceBatchReply { acks })
    }

    /// Forgets queries that were never answered.
    ///
    /// # Errors
    /// [`VaultError::Database`].
    pub fn prune(&self, now_ms: u64) -> Result<usize, VaultError> {
        let oldest = now_ms.saturating_sub(OPEN_QUERY_DAYS * crate::authority::DAY * 1000);
        // By the index of open ones: those that were answered are kept for ever.
        let sql = "DELETE FROM queries INDEXED BY open_queries
             WHERE result IS NULL AND registered_ms < ?1";
        self.vault
            .database
            .write(|db| Ok(db.execute(sql, [oldest as i64])?))
    }

    /// Takes the batch's queries, so that no other request decrypts one of them meanwhile.
    fn claim(&self, batch: &InferenceBatch) -> Claim<'_> {
        let mut under_way = lock(&self.under_way);
        let ids = batch.inferences.iter();
        let owned = ids.map(|i| under_way.insert(i.query_id).then_some(i.query_id));
        Claim {
            owned: owned.collect(),
            under_way: &self.under_way,
        }
    }

    /// For every deployment of the batch: the open model, or why there is none.
    fn permissions(
        &self,
        device: &Name,
        batch: &InferenceBatch,
        now: u64,
    ) -> Result<HashMap<Digest, Permission>, VaultError> {
        let mut permissions = HashMap::new();
        for inference in &batch.inferences {
            let deployment = inference.deployment;
            if permissions.contains_key(&deployment) {
                continue;
            }
            let database = &self.vault.database;
            let allowed = database.read(|db| self.usable(db, device, &deployment, now))?;
            let permission = match allowed {
                Err(code) => Err(Refused::Never(code)),
                Ok(()) => self.open(&deployment),
            };
            permissions.insert(deployment, permission);
        }
        Ok(permissions)
    }

    fn open(&self, deployment: &Digest) -> Permission {
        let database = &self.vault.database;
        let record = database.read(|db| self.vault.model_of(db, deployment));
        let unreadable = |error: VaultError| {
            tracing::error!(deployment = deployment.short(), %error, "model cannot be opened");
            Refused::Later(UNREADABLE)
        };
        let record = record.map_err(unreadable)?;
        let record = record.ok_or(Refused::Never(NOT_DEPLOYED))?;
        self.models.open(&self.vault, &record).map_err(unreadable)
    }

    /// Whether a deployment may be used on a device; the inner error is the code of why not.
    fn usable(
        &self,
        db: &Connection,
        device: &Name,
        deployment: &Digest,
        now: u64,
    ) -> Result<Result<(), &'static str>, VaultError> {
        let Some(record) = self.vault.model_of(db, deployment)? else {
            return Ok(Err(NOT_DEPLOYED));
        };
        if !was_given(db, device, deployment)? {
            return Ok(Err(NOT_DEPLOYED));
        }
        Ok(match record.check_usable(now) {
            Ok(()) => Ok(()),
            Err(VaultError::Expired { .. }) => Err(EXPIRED),
            Err(_) => Err(RETIRED),
        })
    }

    fn judge(
        &self,
        device: &Name,
        inference: &Inference,
        owned: bool,
        permissions: &HashMap<Digest, Permission>,
        now_ms: u64,
    ) -> Result<Verdict, VaultError> {
        let query = self
            .vault
            .database
            .read(|db| find_query(db, &inference.query_id))?;
        if let Some(code) = mismatch(query.as_ref(), device, inference) {
            return Ok(Verdict::Refused(code, None));
        }
        if query.is_some_and(|query| query.result.is_some()) {
            return Ok(Verdict::Answered);
        }
        if !owned {
            return Ok(Verdict::Busy);
        }
        let permission = permissions.get(&inference.deployment);
        let model = match permission.unwrap_or(&Err(Refused::Never(NOT_DEPLOYED))) {
            Ok(model) => model,
            Err(Refused::Never(code)) => return Ok(Verdict::Refused(code, None)),
            Err(Refused::Later(code)) => return Ok(Verdict::Unreadable(code)),
        };
        let refused = |fault: ReplyFault| Verdict::Refused(fault.code(), Some(fault.to_string()));
        let start = Instant::now();
        let reply = match model.read(&inference.reply, inference.image) {
            Ok(reply) => reply,
            Err(fault) => return Ok(refused(fault)),
        };
        let digest = reply.digest();
        if self.vault.database.read(|db| is_replay(db, &digest))? {
            return Ok(Verdict::Refused(REPLAYED, None));
        }
        let answer = match model.decrypt(&reply) {
            Ok(answer) => answer,
            Err(fault) => return Ok(refused(fault)),
        };
        self.metrics.observe(DECRYPT_METRIC, &[], start.elapsed());
        let result = InferenceResult {
            seq: 0,
            query_id: inference.query_id,
            query_digest: inference.query_digest,
            deployment: inference.deployment,
            model: model.manifest().name.clone(),
            version: model.manifest().version,
            device: device.clone(),
            answers: answer.into_iter().collect(),
            timings: inference.timings,
            received_ms: now_ms,
            decrypt_us: start.elapsed().as_micros() as u64,
        };
        Ok(Verdict::Decrypted(Box::new(result), digest))
    }

    fn count_registration(&self, device: &Name, query: &QueryRegistration, outcome: Registered) {
        let word = outcome.word();
        let labels = [("device", device.as_str()), ("outcome", word)];
        self.metrics.add(QUERIES_METRIC, &labels, 1);
        if let Registered::Refused(code) = outcome {
            tracing::warn!(%device, query = %query.query_id, code, "registration refused");
        }
    }

    fn report(&self, device: &Name, ack: &InferenceAck, verdict: &Verdict) {
        let outcome = match ack.outcome {
            Outcome::Accepted => "accepted",
            Outcome::Duplicate => "duplicate",
            Outcome::Refused => "refused",
            Outcome::Retry => "retry",
        };
        let code = ack.code.as_deref().unwrap_or("none");
        let labels = [
            ("device", device.as_str()),
            ("outcome", outcome),
            ("code", code),
        ];
        self.metrics.add(INFERENCES_METRIC, &labels, 1);
        let query = ack.query_id;
        match verdict {
            Verdict::Refused(code, detail) => {
                let detail = detail.as_deref().unwrap_or("");
                tracing::warn!(%device, %query, code, detail, "inference refused");
            }
            // Its ciphertexts answered another query while it was decrypted.
            _ if ack.outcome == Outcome::Refused => {
                tracing::warn!(%device, %query, code, "inference refused");
            }
            Verdict::Decrypted(result, _) if result.answers.is_empty() => {
                let labels = [("device", device.as_str())];
                self.metrics.add(DROPPED_METRIC, &labels, 1);
                tracing::warn!(%device, %query, "scores overflowed: no answer");
            }
            _ => tracing::debug!(%device, %query, outcome, "inference"),
        }
    }
}

/// What is to be done with one inference.
enum Verdict {
    /// Store it, and the digest of the image of the encrypted reply.
    Decrypted(Box<InferenceResult>, Digest),
    /// It was answered before.
    Answered,
    /// Another request, or another place of this one, has the same query.
    Busy,
    /// The vault cannot open the model now.
    Unreadable(&'static str),
    /// No. The text is for the log alone.
    Refused(&'static str, Option<String>),
}

/// Queries that this request holds; given back when it is dropped.
struct Claim<'a> {
    owned: Vec<Option<QueryId>>,
    under_way: &'a Mutex<HashSet<QueryId>>,
}

impl Claim<'_> {
    fn owns(&self, place: usize) -> bool {
        self.owned.get(place).is_some_and(Option::is_some)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut under_way = lock(self.under_way);
        for id in self.owned.iter().flatten() {
            under_way.remove(id);
        }
    }
}

fn lock(ids: &Mutex<HashSet<QueryId>>) -> std::sync::MutexGuard<'_, HashSet<QueryId>> {
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A registered query.
struct Query {
    device: String,
    deployment: Digest,
    digest: Digest,
    result: Option<u64>,
}

fn find_query(db: &Connection, id: &QueryId) -> Result<Option<Query>, VaultError> {
    let sql = "SELECT device, deployment, digest, result FROM queries WHERE id = ?1";
    let found = db.query_row(sql, [id.0], |row| {
        Ok(Query {
            device: row.get(0)?,
            deployment: Digest(row.get(1)?),
            digest: Digest(row.get(2)?),
            result: row.get::<_, Option<i64>>(3)?.map(|seq| seq as u64),
        })
    });
    Ok(found.optional()?)
}

/// Why an inference does not belong to its query.
fn mismatch(query: Option<&Query>, device: &Name, inference: &Inference) -> Option<&'static str> {
    let Some(query) = query else {
        return Some(NOT_REGISTERED);
    };
    if query.device != device.as_str() {
        return Some(OTHER_DEVICE);
    }
    if query.deployment != inference.deployment {
        return Some(OTHER_DEPLOYMENT);
    }
    (query.digest != inference.query_digest).then_some(OTHER_DIGEST)
}

/// Writes what was decrypted and says what the device may know of it.
fn settle(
    db: &Connection,
    device: &Name,
    inference: &Inference,
    verdict: &Verdict,
) -> Result<InferenceAck, VaultError> {
    let id = &inference.query_id;
    let ack = |outcome, receipt, code: Option<&str>| InferenceAck {
        query_id: *id,
        outcome,
        receipt,
        code: code.map(str::to_string),
    };
    let answered = || -> Result<Option<u64>, VaultError> {
        Ok(find_query(db, id)?.and_then(|query| query.result))
    };
    Ok(match verdict {
        Verdict::Refused(code, _) => ack(Outcome::Refused, None, Some(code)),
        Verdict::Unreadable(code) => ack(Outcome::Retry, None, Some(code)),
        Verdict::Answered => ack(Outcome::Duplicate, answered()?, None),
        // The same query twice in one batch is settled by now; in another request, not yet.
        Verdict::Busy => match answered()? {
            Some(receipt) => ack(Outcome::Duplicate, Some(receipt), None),
            None => ack(Outcome::Retry, None, None),
        },
        Verdict::Decrypted(result, reply) => {
            let query = find_query(db, id)?;
            // While it was decrypted, its query may have been withdrawn or moved.
            if let Some(code) = mismatch(query.as_ref(), device, inference) {
                return Ok(ack(Outcome::Refused, None, Some(code)));
            }
            match query.and_then(|query| query.result) {
                Some(receipt) => ack(Outcome::Duplicate, Some(receipt), None),
                None if !note_reply(db, reply)? => ack(Outcome::Refused, None, Some(REPLAYED)),
                None => {
                    let seq = results::append(db, result)?;
                    let sql = "UPDATE queries SET result = ?2 WHERE id = ?1";
                    db.execute(sql, params![id.0, seq as i64])?;
                    ack(Outcome::Accepted, Some(seq), None)
                }
            }
        }
    })
}

/// Whether this image of these ciphertexts has answered a query.
fn is_replay(db: &Connection, reply: &Digest) -> Result<bool, VaultError> {
    let sql = "SELECT 1 FROM replies WHERE digest = ?1";
    Ok(db
        .query_row(sql, [reply.0], |_| Ok(()))
        .optional()?
        .is_some())
}

/// Notes that this image of these ciphertexts answers a query; false if it has answered another.
fn note_reply(db: &Connection, reply: &Digest) -> Result<bool, VaultError> {
    let sql = "INSERT OR IGNORE INTO replies VALUES (?1)";
    Ok(db.execute(sql, [reply.0])? == 1)
}

/// Unanswered queries of a device.
fn open_queries(db: &Connection, device: &Name) -> Result<u64, VaultError> {
    let sql = "SELECT count(*) FROM queries WHERE device = ?1 AND result IS NULL";
    let open: i64 = db.query_row(sql, [device.as_str()], |row| row.get(0))?;
    Ok(open as u64)
}

/// What became of a registration, in more words than a device gets.
#[derive(Debug, Clone, Copy)]
enum Registered {
    New,
    Moved,
    Known,
    Refused(&'static str),
    /// Too many are open.
    Later,
}

impl Registered {
    /// In the metric.
    fn word(self) -> &'static str {
        match self {
            Self::New => "registered",
            Self::Moved => "moved",
            Self::Known => "known",
            Self::Refused(_) => "refused",
            Self::Later => "later",
        }
    }

    fn ack(self, query_id: QueryId) -> QueryAck {
        let (status, code) = match self {
            Self::New | Self::Moved => (Registration::Registered, None),
            Self::Known => (Registration::Known, None),
            Self::Refused(code) => (Registration::Refused, Some(code)),
            Self::Later => (Registration::Later, Some(TOO_MANY)),
        };
        QueryAck {
            query_id,
            status,
            code: code.map(str::to_string),
        }
    }
}

fn register_one(
    db: &Connection,
    device: &Name,
    query: &QueryRegistration,
    allowed: Result<(), &'static str>,
    room: &mut u64,
    now_ms: u64,
) -> Result<Registered, VaultError> {
    let known = find_query(db, &query.query_id)?;
    if let Some(known) = &known {
        let same = known.device == device.as_str() && known.digest == query.query_digest;
        if same && known.deployment == query.deployment {
            return Ok(Registered::Known);
        }
        if !same || known.result.is_some() {
            return Ok(Registered::Refused(ID_TAKEN));
        }
    }
    if let Err(code) = allowed {
        return Ok(Registered::Refused(code));
    }
    if known.is_some() {
        // Registered when its frame was accepted, run under the version that came after.
        let sql = "UPDATE queries SET deployment = ?2 WHERE id = ?1";
        db.execute(sql, params![query.query_id.0, query.deployment.0])?;
        return Ok(Registered::Moved);
    }
    if *room == 0 {
        return Ok(Registered::Later);
    }
    *room -= 1;
    db.execute(
        "INSERT INTO queries VALUES (?1, ?2, ?3, ?4, ?5, NULL)",
        params![
            query.query_id.0,
            device.as_str(),
            query.deployment.0,
            query.query_digest.0,
            now_ms as i64,
        ],
    )?;
    Ok(Registered::New)
}

#[cfg(test)]
mod tests;
