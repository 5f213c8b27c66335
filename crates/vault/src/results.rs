//! The log of decrypted answers.

use rusqlite::{Connection, OptionalExtension, params};
use scuro_wire::QueryId;
use scuro_wire::limits::{RESULTS_PAGE_BYTES, RESULTS_PER_PAGE};
use scuro_wire::results::{InferenceResult, ResultPage};

use crate::error::VaultError;
use crate::vault::Vault;

/// Confidences are published in thousandths where only labels are.
const CONFIDENCE_STEPS: f64 = 1e3;

impl Vault {
    /// Results after `after`, in order, at most `limit`; fewer if they are large.
    ///
    /// # Errors
    /// [`VaultError::Database`].
    pub fn results(&self, after: u64, limit: usize) -> Result<ResultPage, VaultError> {
        let limit = limit.clamp(1, RESULTS_PER_PAGE) as i64;
        let results = self.database.read(|db| {
            let sql = "SELECT seq, body FROM results WHERE seq > ?1 ORDER BY seq LIMIT ?2";
            let mut statement = db.prepare(sql)?;
            let rows = statement.query_map(params![clamp(after), limit], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })?;
            let (mut results, mut bytes) = (Vec::new(), 0);
            for row in rows {
                let (seq, body) = row?;
                results.push(parse(seq as u64, &body)?);
                bytes += body.len();
                if bytes >= RESULTS_PAGE_BYTES {
                    break;
                }
            }
            Ok(results)
        })?;
        let next_after = results.last().map_or(after, |last| last.seq);
        Ok(ResultPage {
            results,
            next_after,
        })
    }

    /// Number of the newest result; 0 if there is none.
    ///
    /// # Errors
    /// [`VaultError::Database`].
    pub fn last_result(&self) -> Result<u64, VaultError> {
        let sql = "SELECT coalesce(max(seq), 0) FROM results";
        self.database
            .read(|db| Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))? as u64))
    }

    /// How far a sink has come.
    ///
    /// # Errors
    /// [`VaultError::Database`].
    pub fn published(&self, sink: &str) -> Result<u64, VaultError> {
        let sql = "SELECT published FROM sinks WHERE name = ?1";
        self.database.read(|db| {
            let found = db.query_row(sql, [sink], |row| row.get::<_, i64>(0));
            Ok(found.optional()?.unwrap_or(0) as u64)
        })
    }

    /// Notes that a sink has taken everything up to `seq`.
    ///
    /// # Errors
    /// [`VaultError::Database`], [`VaultError::DiskFull`].
    pub fn set_published(&self, sink: &str, seq: u64) -> Result<(), VaultError> {
        self.database.write(|db| {
            db.execute(
                "INSERT INTO sinks VALUES (?1, ?2)
                 ON CONFLICT(name) DO UPDATE SET published = excluded.published",
                params![sink, clamp(seq)],
            )?;
            Ok(())
        })
    }
}

/// Leaves out of results what helps whoever has the ciphertexts too: the scores, and all of a
/// confidence but its first decimals.
pub(crate) fn keep_labels_only(results: &mut [InferenceResult]) {
    for answer in results.iter_mut().flat_map(|result| &mut result.answers) {
        answer.scores.clear();
        answer.confidence = (answer.confidence * CONFIDENCE_STEPS).round() / CONFIDENCE_STEPS;
    }
}

/// Appends a result; gives its number. The number stands in the column, not in the body.
pub(crate) fn append(db: &Connection, result: &InferenceResult) -> Result<u64, VaultError> {
    let body = serde_json::to_string(result).map_err(|error| VaultError::Database {
        message: format!("a result is not JSON: {error}"),
    })?;
    let sql = "INSERT INTO results(query, body) VALUES (?1, ?2)";
    db.execute(sql, params![query_key(&result.query_id), body])?;
    Ok(db.last_insert_rowid() as u64)
}

fn query_key(id: &QueryId) -> &[u8] {
    &id.0
}

fn parse(seq: u64, body: &str) -> Result<InferenceResult, VaultError> {
    let result: InferenceResult =
        serde_json::from_str(body).map_err(|error| VaultError::Database {
            message: format!("result {seq} is not JSON: {error}"),
        })?;
    Ok(InferenceResult { seq, ..result })
}

fn clamp(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
