//! What is read from and written to the spool's tables.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params};
use scuro_wire::inference::{Inference, Timings};
use scuro_wire::{Digest, QueryId, disk};

use super::tables::{SCHEMA_VERSION, upgrade};
use super::writer::Command;
use super::{
    Accepted, DEAD_LETTERS, Depth, Letter, Limits, NewFrame, Row, StoredFrame, Taken,
    WaitingInference, WaitingQuery,
};
use crate::edge::frame::{self, Content, FrameFault, FrameId};
use crate::error::Error;

const PAGE_BYTES: u32 = 8192;
/// Pages of the write-ahead log after which it is copied into the file.
const CHECKPOINT_PAGES: u32 = 2048;
/// Frames between two prunings of the remembered ids.
const PRUNE_EVERY: u64 = 4096;
/// Milliseconds to wait for another process that reads.
const BUSY_MS: u64 = 10_000;
/// The part of the file that frames leave free: an inference takes more than the frame that it is
/// of, and without room for one the frames would stay for good.
const FREE_SHARE: u64 = 6;

/// Why a frame is not accepted although the disk would take it.
pub(super) enum Refused {
    Full(Depth),
    NoRoom,
    IdReused,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full(depth) => Self::QueueFull {
                frames: depth.frames,
                bytes: depth.frame_bytes,
            },
            Refused::NoRoom => Self::StorageFull { what: "the spool" },
            Refused::IdReused => Self::Frame(FrameFault::IdReused),
        }
    }
}

/// The writing side.
pub(super) struct Store {
    connection: Connection,
    limits: Limits,
    depth: Depth,
    pruned_at: u64,
}

impl Store {
    pub(super) fn open(path: &Path, limits: Limits) -> Result<Self, Error> {
        let damaged = |error: rusqlite::Error| opening(path, &error);
        let mut connection = Connection::open(path).map_err(damaged)?;
        configure(&connection).map_err(damaged)?;
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(damaged)?;
        if version > SCHEMA_VERSION {
            let message = format!("tables of version {version}; this build has {SCHEMA_VERSION}");
            let path = path.to_path_buf();
            return Err(Error::SpoolDamaged { path, message });
        }
        // Not on every start: a full disk would keep the device from starting.
        if version < SCHEMA_VERSION {
            upgrade(&mut connection, version).map_err(damaged)?;
        }
        // After the tables: those of a new version find room in a full spool.
        limit_file(&connection, limits).map_err(damaged)?;
        let depth = depth(&connection)?;
        Ok(Self {
            connection,
            limits,
            depth,
            pruned_at: 0,
        })
    }

    pub(super) fn depth(&self) -> Depth {
        self.depth
    }

    /// Carries out all commands in one transaction: an answer for each, or nothing is done.
    pub(super) fn apply(
        &mut self,
        commands: &[Command],
    ) -> Result<Vec<Result<Option<Accepted>, Refused>>, Error> {
        let failed = |error: rusqlite::Error| failure("write", &error);
        let transaction = self.connection.transaction().map_err(failed)?;
        let mut change = Change {
            transaction: &transaction,
            limits: self.limits,
            depth: self.depth,
            newest: self.pruned_at,
        };
        let answers = commands.iter().map(|command| change.apply(command));
        let answers = answers.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let (depth, newest) = (change.depth, change.newest);
        let remembered = self.limits.remembered_ids();
        let prunes = newest >= self.pruned_at + PRUNE_EVERY.min(remembered).max(1);
        if prunes {
            prune(&transaction, newest, remembered).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        if prunes {
            self.pruned_at = newest;
        }
        self.depth = depth;
        Ok(answers)
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS))?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)
}

fn limit_file(connection: &Connection, limits: Limits) -> rusqlite::Result<()> {
    let pages = limits.file_bytes.div_ceil(PAGE_BYTES.into()).max(1);
    // The answer is the number in force.
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}

/// Opens the file for reading, while another connection may write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| opening(path, &error))?;
    let settings = connection
        .busy_timeout(std::time::Duration::from_millis(BUSY_MS))
        .and_then(|()| connection.pragma_update(None, "query_only", true));
    settings.map_err(|error| opening(path, &error))?;
    Ok(connection)
}

/// One transaction under way.
struct Change<'a> {
    transaction: &'a Transaction<'a>,
    limits: Limits,
    depth: Depth,
    newest: u64,
}

impl Change<'_> {
    fn apply(&mut self, command: &Command) -> rusqlite::Result<Result<Option<Accepted>, Refused>> {
        match command {
            Command::Accept { frame, .. } => return Ok(self.accept(frame)?.map(Some)),
            Command::Complete { seq, inference, .. } => self.complete(*seq, inference)?,
            Command::GiveUp { seq, letter } => self.bury_frame(*seq, letter)?,
            Command::Settle { sent, dead, .. } => {
                for &seq in sent {
                    self.take_inference(seq)?;
                }
                for (seq, letter) in dead {
                    self.bury_inference(*seq, letter)?;
                }
            }
            Command::RunAgain { places, .. } => {
                for (seq, letter) in places {
                    self.run_again(*seq, letter)?;
                }
            }
            Command::Withdrawn { places, .. } => {
                let sql = "DELETE FROM withdrawals WHERE seq = ?";
                let mut delete = self.transaction.prepare(sql)?;
                for &seq in places {
                    delete.execute([seq as i64])?;
                }
            }
        }
        Ok(Ok(None))
    }

    fn accept(&mut self, frame: &NewFrame) -> rusqlite::Result<Result<Accepted, Refused>> {
        let digest = Digest::of(&frame.record);
        let before = self.taken(&frame.id)?;
        match before {
            Some((_, other)) if other != digest => return Ok(Err(Refused::IdReused)),
            Some((accepted, _)) if !self.is_dead(accepted.seq)? => return Ok(Ok(accepted)),
            _ => {}
        }
        let bytes = frame.record.len() as u64;
        if self.depth.frames >= self.limits.frames
            || self.depth.frame_bytes + bytes > self.limits.frame_bytes
        {
            return Ok(Err(Refused::Full(self.depth)));
        }
        let room = self.limits.file_bytes - self.limits.file_bytes / FREE_SHARE;
        if self.bytes_used()? + bytes > room {
            return Ok(Err(Refused::NoRoom));
        }
        // What was given up is a new frame when it comes again.
        if let Some((dead, _)) = before {
            for table in ["taken", "dead"] {
                let sql = format!("DELETE FROM {table} WHERE seq = ?");
                self.transaction.execute(&sql, [dead.seq as i64])?;
            }
        }
        let mut insert = self
            .transaction
            .prepare("INSERT INTO taken(id, query_id, digest) VALUES (?, ?, ?)")?;
        let (id, query) = (frame.id.as_str(), frame.query_id);
        let seq = insert.insert(params![id, query.0, digest.0])?;
        let captured = frame.captured_us as i64;
        self.insert_frame(params![
            seq,
            id,
            frame.source,
            query.0,
            captured,
            frame.record
        ])?;
        self.depth.frame_bytes += bytes;
        self.newest = seq as u64;
        Ok(Ok(Accepted {
            seq: seq as u64,
            query_id: query,
            again: false,
        }))
    }

    /// Bytes of the file that are not free.
    fn bytes_used(&self) -> rusqlite::Result<u64> {
        let pages = |what| {
            self.transaction
                .pragma_query_value(None, what, |row| row.get::<_, i64>(0))
        };
        let used = pages("page_count")? - pages("freelist_count")?;
        Ok(used as u64 * u64::from(PAGE_BYTES))
    }

    fn insert_frame(&mut self, values: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<()> {
        let sql = "INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?)";
        self.transaction.prepare(sql)?.execute(values)?;
        self.depth.frames += 1;
        Ok(())
    }

    fn is_dead(&self, seq: u64) -> rusqlite::Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM dead WHERE seq = ?)";
        self.transaction
            .query_row(sql, [seq as i64], |row| row.get(0))
    }

    fn taken(&self, id: &FrameId) -> rusqlite::Result<Option<(Accepted, Digest)>> {
        let mut find = self
            .transaction
            .prepare("SELECT seq, query_id, digest FROM taken WHERE id = ?")?;
        let found = find.query_row([id.as_str()], |row| {
            let accepted = Accepted {
                seq: row.get::<_, i64>(0)? as u64,
                query_id: QueryId(row.get(1)?),
                again: true,
            };
            Ok((accepted, Digest(row.get(2)?)))
        });
        found.optional()
    }

    fn complete(&mut self, seq: u64, inference: &Inference) -> rusqlite::Result<()> {
        let Some(done) = self.take_frame(seq)? else {
            return Ok(());
        };
        let reply = frame::seal(inference.reply.clone());
        let bytes = (reply.len() + done.record.len()) as u64;
        let times = inference.timings;
        let mut insert = self.transaction.prepare(
            "INSERT INTO inferences VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        insert.execute(params![
            seq as i64,
            done.id,
            inference.query_id.0,
            inference.deployment.0,
            inference.query_digest.0,
            times.captured_ms as i64,
            times.queue_us as i64,
            times.features_us as i64,
            times.encrypt_us as i64,
            times.evaluate_us as i64,
            bytes as i64,
            reply,
            inference.image,
            done.source,
            done.record,
        ])?;
        self.depth.inferences += 1;
        self.depth.inference_bytes += bytes;
        Ok(())
    }

    fn bury_frame(&mut self, seq: u64, letter: &Letter) -> rusqlite::Result<()> {
        match self.take_frame(seq)? {
            Some(frame) => self.bury(seq, &frame.id, frame.query_id, letter),
            None => Ok(()),
        }
    }

    fn bury_inference(&mut self, seq: u64, letter: &Letter) -> rusqlite::Result<()> {
        match self.take_inference(seq)? {
            Some(inference) => self.bury(seq, &inference.id, inference.query_id, letter),
            None => Ok(()),
        }
    }

    /// An inference becomes the frame that it is of, or the dead letter.
    fn run_again(&mut self, seq: u64, letter: &Letter) -> rusqlite::Result<()> {
        let Some(inference) = self.take_inference(seq)? else {
            return Ok(());
        };
        let Some((source, record)) = inference.frame else {
            return self.bury(seq, &inference.id, inference.query_id, letter);
        };
        let captured_us = inference.captured_ms.saturating_mul(1000);
        let (id, query) = (inference.id, inference.query_id);
        self.insert_frame(params![
            seq as i64,
            id,
            source,
            query.0,
            captured_us,
            record
        ])?;
        self.depth.frame_bytes += record.len() as u64;
        Ok(())
    }

    fn bury(
        &mut self,
        seq: u64,
        id: &str,
        query: QueryId,
        letter: &Letter,
    ) -> rusqlite::Result<()> {
        let mut insert = self
            .transaction
            .prepare("INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?)")?;
        let at = crate::clock::now_ms() as i64;
        let (stage, code, message) = (letter.stage, &letter.code, &letter.message);
        insert.execute(params![seq as i64, id, query.0, at, stage, code, message])?;
        let sql = "INSERT OR REPLACE INTO withdrawals VALUES (?, ?)";
        let mut insert = self.transaction.prepare(sql)?;
        insert.execute(params![seq as i64, query.0])?;
        Ok(())
    }

    fn take_frame(&mut self, seq: u64) -> rusqlite::Result<Option<TakenFrame>> {
        let mut delete = self
            .transaction
            .prepare("DELETE FROM frames WHERE seq = ? RETURNING id, query_id, source, record")?;
        let taken = delete.query_row([seq as i64], |row| {
            Ok(TakenFrame {
                id: row.get(0)?,
                query_id: QueryId(row.get(1)?),
                source: row.get(2)?,
                record: row.get(3)?,
            })
        });
        let taken = taken.optional()?;
        if let Some(frame) = &taken {
            let bytes = frame.record.len() as u64;
            self.depth.frames = self.depth.frames.saturating_sub(1);
            self.depth.frame_bytes = self.depth.frame_bytes.saturating_sub(bytes);
        }
        Ok(taken)
    }

    fn take_inference(&mut self, seq: u64) -> rusqlite::Result<Option<TakenInference>> {
        let mut delete = self.transaction.prepare(
            "DELETE FROM inferences WHERE seq = ?
             RETURNING id, query_id, bytes, captured_ms, source, record",
        )?;
        let taken = delete.query_row([seq as i64], |row| {
            let frame = row
                .get::<_, Option<String>>(4)?
                .zip(row.get::<_, Option<Vec<u8>>>(5)?);
            Ok(TakenInference {
                id: row.get(0)?,
                query_id: QueryId(row.get(1)?),
                bytes: row.get::<_, i64>(2)? as u64,
                captured_ms: row.get(3)?,
                frame,
            })
        });
        let taken = taken.optional()?;
        if let Some(TakenInference { bytes, .. }) = &taken {
            self.depth.inferences = self.depth.inferences.saturating_sub(1);
            self.depth.inference_bytes = self.depth.inference_bytes.saturating_sub(*bytes);
        }
        Ok(taken)
    }
}

/// A frame that is no longer in its table.
struct TakenFrame {
    id: String,
    query_id: QueryId,
    source: String,
    record: Vec<u8>,
}

/// An inference that is no longer in its table.
struct TakenInference {
    id: String,
    query_id: QueryId,
    bytes: u64,
    captured_ms: i64,
    /// Source and record of its frame.
    frame: Option<(String, Vec<u8>)>,
}

/// Forgets ids of frames that are gone and not among the newest `remembered`, and the oldest dead
/// letters. Frames that wait for long keep their own ids alone.
fn prune(transaction: &Transaction<'_>, newest: u64, remembered: u64) -> rusqlite::Result<()> {
    let oldest_taken = newest.saturating_sub(remembered) as i64;
    transaction.execute(
        "DELETE FROM taken WHERE seq < ?
             AND NOT EXISTS (SELECT 1 FROM frames WHERE seq = taken.seq)
             AND NOT EXISTS (SELECT 1 FROM inferences WHERE seq = taken.seq)
             AND NOT EXISTS (SELECT 1 FROM dead WHERE seq = taken.seq)",
        [oldest_taken],
    )?;
    let oldest = |table| format!("(SELECT seq FROM {table} ORDER BY seq DESC LIMIT 1 OFFSET ?)");
    // A frame whose dead letter goes may come again.
    let dead = oldest("dead");
    let sql = format!("DELETE FROM taken WHERE seq IN (SELECT seq FROM dead WHERE seq <= {dead})");
    transaction.execute(&sql, [DEAD_LETTERS as i64])?;
    for table in ["dead", "withdrawals"] {
        let sql = format!("DELETE FROM {table} WHERE seq <= {}", oldest(table));
        transaction.execute(&sql, [DEAD_LETTERS as i64])?;
    }
    Ok(())
}

pub(super) fn frames(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<StoredFrame>, Error> {
    let read = || {
        let mut find = connection.prepare(
            "SELECT seq, id, query_id, captured_us, record FROM frames
             WHERE seq > ? ORDER BY seq LIMIT ?",
        )?;
        let rows = find.query_map(params![after as i64, limit as i64], stored_frame)?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(|error| failure("read", &error))
}

fn stored_frame(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredFrame> {
    let id: String = row.get(1)?;
    let record: Vec<u8> = row.get(4)?;
    let unnamed = FrameId::of_bytes("damaged", id.as_bytes());
    Ok(StoredFrame {
        seq: row.get::<_, i64>(0)? as u64,
        id: FrameId::new(id).unwrap_or(unnamed),
        query_id: QueryId(row.get(2)?),
        captured_us: row.get::<_, i64>(3)? as u64,
        digest: Digest::of(&record),
        content: Content::from_record(&record),
    })
}

/// Queries of frames after place `after`; their digests are those of acceptance, as records may be
/// large.
pub(super) fn queries(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<WaitingQuery>, Error> {
    let read = || {
        let mut find = connection.prepare(
            "SELECT frames.seq, frames.query_id, taken.digest FROM frames
             JOIN taken ON taken.seq = frames.seq
             WHERE frames.seq > ? ORDER BY frames.seq LIMIT ?",
        )?;
        let rows = find.query_map(params![after as i64, limit as i64], |row| {
            Ok(WaitingQuery {
                seq: row.get::<_, i64>(0)? as u64,
                query_id: QueryId(row.get(1)?),
                digest: Digest(row.get(2)?),
            })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(|error| failure("read", &error))
}

/// Queries of dead letters that the vault has not been told of, in order.
pub(super) fn withdrawals(
    connection: &Connection,
    limit: usize,
) -> Result<Vec<(u64, QueryId)>, Error> {
    let read = || {
        let sql = "SELECT seq, query_id FROM withdrawals ORDER BY seq LIMIT ?";
        let mut find = connection.prepare(sql)?;
        let rows = find.query_map([limit as i64], |row| {
            Ok((row.get::<_, i64>(0)? as u64, QueryId(row.get(1)?)))
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(|error| failure("read", &error))
}

/// Place of the first frame that is not done; the largest number if all are.
pub(super) fn first_frame(connection: &Connection) -> Result<u64, Error> {
    let first = connection.query_row("SELECT min(seq) FROM frames", [], |row| {
        row.get::<_, Option<i64>>(0)
    });
    let first = first.map_err(|error| failure("read", &error))?;
    Ok(first.map_or(u64::MAX, |seq| seq as u64))
}

/// Inferences of frames before place `before`, in order.
pub(super) fn inferences(
    connection: &Connection,
    before: u64,
    limit: usize,
    bytes: usize,
) -> Result<Vec<WaitingInference>, Error> {
    let read = || {
        let mut find = connection.prepare(
            "SELECT seq, query_id, deployment, query_digest, captured_ms, queue_us, features_us,
                 encrypt_us, evaluate_us, reply, image FROM inferences
             WHERE seq < ? ORDER BY seq LIMIT ?",
        )?;
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let mut rows = find.query(params![before, limit as i64])?;
        let (mut found, mut taken) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let waiting = waiting_inference(row)?;
            taken += waiting.inference.bytes();
            if taken > bytes && !found.is_empty() {
                break;
            }
            found.push(waiting);
        }
        Ok(found)
    };
    read().map_err(|error: rusqlite::Error| failure("read", &error))
}

/// A reply whose checksum is wrong comes back empty: the vault refuses it with a reason.
fn waiting_inference(row: &rusqlite::Row<'_>) -> rusqlite::Result<WaitingInference> {
    let number = |place: usize| row.get::<_, i64>(place).map(|number| number as u64);
    let reply: Vec<u8> = row.get(9)?;
    Ok(WaitingInference {
        seq: number(0)?,
        inference: Inference {
            query_id: QueryId(row.get(1)?),
            deployment: Digest(row.get(2)?),
            query_digest: Digest(row.get(3)?),
            image: row.get(10)?,
            timings: Timings {
                captured_ms: number(4)?,
                queue_us: number(5)?,
                features_us: number(6)?,
                encrypt_us: number(7)?,
                evaluate_us: number(8)?,
            },
            reply: frame::open(&reply).unwrap_or_default().to_vec(),
        },
    })
}

/// The newest ids that are remembered, and what became of their frames.
pub(super) fn taken(connection: &Connection, limit: usize) -> Result<Vec<Taken>, Error> {
    let read = || {
        let mut find = connection.prepare(
            "SELECT seq, id, query_id, CASE
                 WHEN EXISTS (SELECT 1 FROM frames WHERE seq = taken.seq) THEN 'accepted'
                 WHEN EXISTS (SELECT 1 FROM inferences WHERE seq = taken.seq) THEN 'waiting'
                 WHEN EXISTS (SELECT 1 FROM dead WHERE seq = taken.seq) THEN 'dead'
                 ELSE 'answered' END
             FROM taken ORDER BY seq DESC LIMIT ?",
        )?;
        let rows = find.query_map([limit as i64], |row| {
            let state: String = row.get(3)?;
            Ok(Taken {
                seq: row.get::<_, i64>(0)? as u64,
                id: row.get(1)?,
                query_id: QueryId(row.get(2)?),
                state: state_word(&state),
            })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(|error| failure("read", &error))
}

fn state_word(text: &str) -> &'static str {
    let known = ["accepted", "waiting", "dead"];
    let word = known.into_iter().find(|known| *known == text);
    word.unwrap_or("answered")
}

pub(super) fn rows(connection: &Connection, limit: usize) -> Result<Vec<Row>, Error> {
    let read = || {
        let mut find = connection.prepare(
            "SELECT * FROM (
                 SELECT seq, id, query_id, 'accepted', captured_us / 1000, length(record), NULL
                     FROM frames
                 UNION ALL
                 SELECT seq, id, query_id, 'waiting', captured_ms, bytes, NULL FROM inferences
                 UNION ALL
                 SELECT seq, id, query_id, 'dead', at_ms, 0, code || ': ' || message FROM dead)
             ORDER BY seq DESC LIMIT ?",
        )?;
        let rows = find.query_map([limit as i64], |row| {
            let state: String = row.get(3)?;
            Ok(Row {
                seq: row.get::<_, i64>(0)? as u64,
                id: row.get(1)?,
                query_id: QueryId(row.get(2)?),
                state: state_word(&state),
                at_ms: row.get::<_, i64>(4)? as u64,
                bytes: row.get::<_, i64>(5)? as u64,
                reason: row.get(6)?,
            })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(|error| failure("read", &error))
}

pub(super) fn dead_letters(connection: &Connection) -> Result<u64, Error> {
    let count = connection.query_row("SELECT count(*) FROM dead", [], |row| row.get::<_, i64>(0));
    let count = count.map_err(|error| failure("read", &error))?;
    Ok(count as u64)
}

pub(super) fn depth(connection: &Connection) -> Result<Depth, Error> {
    let sums = connection.query_row(
        "SELECT (SELECT count(*) FROM frames),
                (SELECT coalesce(sum(length(record)), 0) FROM frames),
                (SELECT count(*) FROM inferences),
                (SELECT coalesce(sum(bytes), 0) FROM inferences)",
        [],
        |row| {
            let number = |place| row.get::<_, i64>(place).map(|number| number as u64);
            Ok(Depth {
                frames: number(0)?,
                frame_bytes: number(1)?,
                inferences: number(2)?,
                inference_bytes: number(3)?,
            })
        },
    );
    sums.map_err(|error| failure("read", &error))
}

/// An error of a database that was open.
fn failure(action: &'static str, error: &rusqlite::Error) -> Error {
    let code = error.sqlite_error().map(|fault| fault.extended_code);
    if code.is_some_and(disk::is_full_for_sqlite) {
        return Error::StorageFull { what: "the spool" };
    }
    Error::Spool {
        action,
        message: error.to_string(),
    }
}

/// An error of opening a database.
fn opening(path: &Path, error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Error::SpoolDamaged {
            path: path.to_path_buf(),
            message: error.to_string(),
        },
        _ => failure("open", error),
    }
}

#[cfg(test)]
mod tests;
