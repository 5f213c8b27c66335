//! Registration of queries: what a device announces when it has accepted a frame, before it has the
//! encrypted answer; and their withdrawal, if it gives the frame up.

use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::hex::{Digest, QueryId};
use crate::limits;

/// One query that a device will answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryRegistration {
    /// Sixteen random bytes, drawn by the device.
    pub query_id: QueryId,
    /// Digest of the manifest that answers it. A query that is open may be registered again with
    /// another one of the same device: a frame runs under the version that is active at its turn.
    pub deployment: Digest,
    /// BLAKE3 of the frame or of the query's bytes.
    pub query_digest: Digest,
}

/// Body of [`crate::paths::QUERIES`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryBatch {
    /// At most [`limits::QUERIES_PER_BATCH`].
    pub queries: Vec<QueryRegistration>,
}

impl QueryBatch {
    /// Reads a batch.
    ///
    /// # Errors
    /// [`WireError::TooLarge`], [`WireError::Json`], [`WireError::AboveLimit`],
    /// [`WireError::Empty`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        WireError::check_size("query batch", bytes.len(), limits::QUERY_BATCH_BYTES)?;
        let batch: Self = WireError::json("query batch", bytes)?;
        if batch.queries.is_empty() {
            return Err(WireError::Empty {
                what: "query batch",
            });
        }
        WireError::check_count("queries", batch.queries.len(), limits::QUERIES_PER_BATCH)?;
        Ok(batch)
    }
}

/// What became of one registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registration {
    /// On disk now, or moved to this deployment.
    Registered,
    /// The very same registration was on disk already.
    Known,
    /// Refused for good: another query has this id, or the deployment is not this device's.
    Refused,
    /// The device has too many unanswered queries: once some are answered or withdrawn, it may
    /// register this one again.
    Later,
}

/// Answer for one registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryAck {
    /// Which.
    pub query_id: QueryId,
    /// What became of it.
    pub status: Registration,
    /// Stable name of the reason, if it was refused or has to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Answer to a batch, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryBatchReply {
    /// One for each registration.
    pub acks: Vec<QueryAck>,
}

/// Body of [`crate::paths::WITHDRAWALS`]: queries that this device will never answer, because it
/// gave up their frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WithdrawalBatch {
    /// At most [`limits::QUERIES_PER_BATCH`].
    pub queries: Vec<QueryId>,
}

impl WithdrawalBatch {
    /// Reads a batch.
    ///
    /// # Errors
    /// [`WireError::TooLarge`], [`WireError::Json`], [`WireError::AboveLimit`],
    /// [`WireError::Empty`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let what = "withdrawal batch";
        WireError::check_size(what, bytes.len(), limits::QUERY_BATCH_BYTES)?;
        let batch: Self = WireError::json(what, bytes)?;
        if batch.queries.is_empty() {
            return Err(WireError::Empty { what });
        }
        WireError::check_count("queries", batch.queries.len(), limits::QUERIES_PER_BATCH)?;
        Ok(batch)
    }
}

/// Answer to withdrawals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawalReply {
    /// How many open queries are forgotten; answered and unknown ones are not counted.
    pub withdrawn: u64,
}
