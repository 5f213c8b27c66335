//! Decrypted answers, for users of the backend. A device never receives any of this.

use serde::{Deserialize, Serialize};

use crate::hex::{Digest, QueryId};
use crate::inference::Timings;
use crate::name::Name;

/// The answer for one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Which image of the reply, from 0: queries that were run together share one.
    #[serde(default)]
    pub image: u32,
    /// Index of the largest score.
    pub label: u32,
    /// Its name, if the manifest has labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_name: Option<String>,
    /// Softmax of the scores at the label.
    pub confidence: f64,
    /// One score a class.
    pub scores: Vec<f64>,
}

/// The decrypted inference of one query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InferenceResult {
    /// Place in the vault's log, from 1: publishing is at least once, and this number tells.
    pub seq: u64,
    /// The query.
    pub query_id: QueryId,
    /// Digest of what the query was made from.
    pub query_digest: Digest,
    /// Digest of the manifest.
    pub deployment: Digest,
    /// Model.
    pub model: Name,
    /// Version of the model.
    pub version: u32,
    /// Device that sent it.
    pub device: Name,
    /// One answer, or none if its scores are no numbers or overflowed: only the vault's log and
    /// metrics tell of that.
    pub answers: Vec<Answer>,
    /// What the device measured.
    pub timings: Timings,
    /// When the vault took it, milliseconds since 1970.
    pub received_ms: u64,
    /// Microseconds of parsing, decrypting and decoding.
    pub decrypt_us: u64,
}

/// Answer of [`crate::paths::RESULTS`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultPage {
    /// Results with `seq` above what was asked for, in order; at most
    /// [`crate::limits::RESULTS_PER_PAGE`].
    pub results: Vec<InferenceResult>,
    /// Ask for results after this one next.
    pub next_after: u64,
}
