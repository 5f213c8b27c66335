//! The spool: frames that were accepted, encrypted inferences that wait for the vault, and what
//! was refused, in one SQLite file that survives `kill -9` at any point.
//!
//! One thread writes. It takes all changes that wait, puts them into one transaction, and answers
//! them after the commit is on disk (write-ahead log, `synchronous = FULL`): a frame is
//! acknowledged only then, and many share one sync. A frame and its inference never exist at the
//! same time: one transaction deletes the one and inserts the other. The inference keeps the
//! frame's record until the vault has it: if the vault will never decrypt it, as its version was
//! retired meanwhile, it becomes the frame again, for the next version.
//!
//! Bounds: frames, bytes of frames, bytes of inferences, bytes of the file ([`Limits`]); ids
//! remembered ([`REMEMBERED_IDS`]); dead letters, and withdrawals of their queries, kept
//! ([`DEAD_LETTERS`]).

mod store;
mod tables;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use scuro_wire::QueryId;
use scuro_wire::inference::Inference;
use tokio::sync::{mpsc, oneshot};

use super::bell::Bell;
use super::disk;
use super::frame::{Content, FrameFault, FrameId};
use super::latency::Latencies;
use super::told::Told;
use crate::error::Error;
use store::Store;
use writer::{Command, Levels, Writer};

/// Name of the file in the device's folder.
pub const FILE: &str = "spool.db";
/// Ids of frames that are remembered after the frame is gone, so that nothing is taken twice; fewer
/// if the file is so small that they would fill it.
pub const REMEMBERED_IDS: u64 = 1_000_000;
/// Dead letters kept; older ones make room.
pub const DEAD_LETTERS: u64 = 100_000;

/// Bytes of the file for each id that is remembered: all of them take no more than a tenth of it.
const FILE_BYTES_PER_ID: u64 = 4096;
/// Changes that may wait for the writer.
const WAITING_COMMANDS: usize = 1024;

/// Bounds of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most frames that wait to be processed.
    pub frames: u64,
    /// Most bytes of frames that wait to be processed.
    pub frame_bytes: u64,
    /// Bytes of encrypted inferences above which processing pauses.
    pub inference_bytes: u64,
    /// Most bytes of the file.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frames: 20_000,
            frame_bytes: 1 << 30,
            inference_bytes: 8 << 30,
            file_bytes: 12 << 30,
        }
    }
}

impl Limits {
    /// Ids that are remembered after their frames are gone.
    fn remembered_ids(&self) -> u64 {
        REMEMBERED_IDS.min(self.file_bytes / FILE_BYTES_PER_ID)
    }
}

/// A frame to be accepted.
#[derive(Debug)]
pub struct NewFrame {
    /// Its name.
    pub id: FrameId,
    /// Where it came from.
    pub source: &'static str,
    /// Drawn for this frame.
    pub query_id: QueryId,
    /// When it came in, microseconds since 1970.
    pub captured_us: u64,
    /// Its content, as [`Content::to_record`].
    pub record: Vec<u8>,
}

/// A frame that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its place in the stream.
    pub seq: u64,
    /// The id of its query at the vault.
    pub query_id: QueryId,
    /// Whether it had been taken before.
    pub again: bool,
}

/// A frame that waits to be processed.
#[derive(Debug)]
pub struct StoredFrame {
    /// Its place in the stream.
    pub seq: u64,
    /// Its name.
    pub id: FrameId,
    /// The id of its query.
    pub query_id: QueryId,
    /// When it came in, microseconds since 1970.
    pub captured_us: u64,
    /// BLAKE3 of the record.
    pub digest: scuro_wire::Digest,
    /// Its content, or the fault of a damaged record.
    pub content: Result<Content, FrameFault>,
}

/// The query of a frame that waits to be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingQuery {
    /// Place of the frame in the stream.
    pub seq: u64,
    /// The id of its query.
    pub query_id: QueryId,
    /// BLAKE3 of its record.
    pub digest: scuro_wire::Digest,
}

/// An encrypted inference that waits for the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingInference {
    /// Place of its frame in the stream.
    pub seq: u64,
    /// What is sent.
    pub inference: Inference,
}

/// Why a frame or an inference was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// `processing` or `vault`.
    pub stage: &'static str,
    /// Stable name of the reason.
    pub code: String,
    /// The reason for people.
    pub message: String,
}

/// A frame as `scuro edge frames` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the stream.
    pub seq: u64,
    /// Its name.
    pub id: String,
    /// Its query.
    pub query_id: QueryId,
    /// `accepted`, `waiting` or `dead`.
    pub state: &'static str,
    /// When it came in, or was given up; milliseconds since 1970.
    pub at_ms: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Code and reason of a dead letter.
    pub reason: Option<String>,
}

/// A frame that was taken, as `scuro edge frames --taken` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its place in the stream.
    pub seq: u64,
    /// Its name.
    pub id: String,
    /// Its query: the vault's result has the same.
    pub query_id: QueryId,
    /// `accepted`, `waiting`, `dead`, or `answered`: the vault has its inference.
    pub state: &'static str,
}

/// What is in the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Frames that wait to be processed.
    pub frames: u64,
    /// Their bytes.
    pub frame_bytes: u64,
    /// Inferences that wait for the vault.
    pub inferences: u64,
    /// Their bytes.
    pub inference_bytes: u64,
}

/// The spool of a running device; cheap to clone. The writer ends when the last clone is gone.
#[derive(Clone)]
pub struct Spool {
    commands: mpsc::Sender<Command>,
    levels: Arc<Levels>,
    limits: Limits,
    latencies: Arc<Latencies>,
    /// Rung after every commit.
    changed: Arc<Bell>,
    reader: Arc<Reader>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Spool").field(&self.depth()).finish()
    }
}

impl Spool {
    /// Opens or makes the spool in `folder`; a transaction that a crash cut off is undone.
    ///
    /// # Errors
    /// [`Error::SpoolDamaged`], [`Error::Spool`], [`Error::StorageFull`].
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, Error> {
        let path = folder.join(FILE);
        disk::keep_private(&path)?;
        let levels = Arc::new(Levels::default());
        let store = Store::open(&path, limits)?;
        levels.store(store.depth());
        let changed = Arc::new(Bell::default());
        let latencies = Arc::new(Latencies::default());
        let (commands, inbox) = mpsc::channel(WAITING_COMMANDS);
        let writer = Writer {
            store,
            inbox,
            levels: Arc::clone(&levels),
            latencies: Arc::clone(&latencies),
            changed: Arc::clone(&changed),
            // Both may pass with the next change.
            told: Told::new(&["file.disk-full", "spool.failed"]),
        };
        std::thread::Builder::new()
            .name("spool".to_string())
            .spawn(move || writer.run())
            .map_err(Error::io("start the writer of", &path))?;
        Ok(Self {
            commands,
            levels,
            limits,
            latencies,
            changed,
            reader: Arc::new(Reader::open(folder)?),
        })
    }

    /// Puts a frame on disk; returns once it is there.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::StorageFull`], [`FrameFault::IdReused`], [`Error::Spool`].
    pub async fn accept(&self, frame: NewFrame) -> Result<Accepted, Error> {
        self.ask(|done| Command::Accept { frame, done }).await
    }

    /// Replaces a frame by its inference, from a worker's thread. Returns before it is on disk:
    /// until then the frame is, and would be processed again after a crash.
    pub fn complete(&self, seq: u64, captured_us: u64, inference: Inference) {
        // The writer ends only after the workers did.
        let _ = self.commands.blocking_send(Command::Complete {
            seq,
            captured_us,
            inference: Box::new(inference),
        });
    }

    /// Replaces a frame by a dead letter, from a worker's thread.
    pub fn give_up(&self, seq: u64, letter: Letter) {
        let _ = self.commands.blocking_send(Command::GiveUp { seq, letter });
    }

    /// Forgets inferences that the vault has, and turns those that it refuses into dead letters.
    ///
    /// # Errors
    /// [`Error::StorageFull`], [`Error::Spool`]: nothing is forgotten then.
    pub async fn settle(&self, sent: Vec<u64>, dead: Vec<(u64, Letter)>) -> Result<(), Error> {
        self.ask(|done| Command::Settle { sent, dead, done }).await
    }

    /// Makes inferences that the vault will never decrypt frames again; one whose frame was not
    /// kept (a spool of before) becomes the dead letter.
    ///
    /// # Errors
    /// [`Error::StorageFull`], [`Error::Spool`]: nothing is changed then.
    pub async fn run_again(&self, places: Vec<(u64, Letter)>) -> Result<(), Error> {
        self.ask(|done| Command::RunAgain { places, done }).await
    }

    /// Returns once everything that was handed over before is on disk, or is kept to be tried
    /// again: then its frame is.
    ///
    /// # Errors
    /// [`Error::Spool`], [`Error::Stopping`].
    pub(super) async fn flush(&self) -> Result<(), Error> {
        self.settle(Vec::new(), Vec::new()).await
    }

    /// How often inferences became frames again.
    pub(super) fn returned(&self) -> u64 {
        self.levels.returned()
    }

    /// Whether inferences may leave before frames that are older: those wait for a version.
    pub(super) fn allow_overtaking(&self, allowed: bool) {
        self.levels.allow_overtaking(allowed);
    }

    /// Forgets withdrawals that the vault has been told of.
    ///
    /// # Errors
    /// [`Error::StorageFull`], [`Error::Spool`]: nothing is forgotten then.
    pub(super) async fn withdrawn(&self, places: Vec<u64>) -> Result<(), Error> {
        self.ask(|done| Command::Withdrawn { places, done }).await
    }

    /// Hands the writer a command; returns once it is on disk, or refused.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        let sent = self.commands.send(command(done)).await;
        sent.map_err(|_| Error::Stopping)?;
        answer.await.map_err(|_| Error::Stopping)?
    }

    /// What waits.
    pub fn depth(&self) -> Depth {
        self.levels.depth()
    }

    /// Whether so many inferences wait that processing has to pause.
    pub fn is_backed_up(&self) -> bool {
        self.depth().inference_bytes >= self.limits.inference_bytes
    }

    /// Whether inferences are finished that could not be written.
    pub(super) fn is_stuck(&self) -> bool {
        self.levels.is_stuck()
    }

    /// Inferences to send next: in the order of their frames, or in any order if the disk is so
    /// full that only sending makes room, or if frames wait for a version. Bounds as
    /// [`Reader::inferences`].
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub(super) fn next_inferences(
        &self,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<WaitingInference>, Error> {
        let ordered = self.reader.inferences(limit, bytes)?;
        let in_any_order = self.is_stuck() || self.levels.is_overtaking();
        if ordered.is_empty() && in_any_order {
            return store::inferences(&self.reader.lock(), u64::MAX, limit, bytes);
        }
        Ok(ordered)
    }

    /// Times from frame in to encrypted inference on disk, of the newest frames.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// The reading side.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Rung after every commit.
    pub(super) fn changed(&self) -> &Bell {
        &self.changed
    }
}

/// Reads the spool; also while another process writes it.
pub struct Reader {
    connection: Mutex<Connection>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Reader")
    }
}

impl Reader {
    /// Opens the spool in `folder` for reading.
    ///
    /// # Errors
    /// [`Error::Spool`], [`Error::SpoolDamaged`].
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let connection = store::open_reader(&folder.join(FILE))?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    /// Frames after place `after`, in order.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn frames(&self, after: u64, limit: usize) -> Result<Vec<StoredFrame>, Error> {
        store::frames(&self.lock(), after, limit)
    }

    /// Queries of the frames after place `after`, in order.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn queries(&self, after: u64, limit: usize) -> Result<Vec<WaitingQuery>, Error> {
        store::queries(&self.lock(), after, limit)
    }

    /// Places and queries of dead letters that the vault has not been told of.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn withdrawals(&self, limit: usize) -> Result<Vec<(u64, QueryId)>, Error> {
        store::withdrawals(&self.lock(), limit)
    }

    /// Inferences that wait for the vault, in the order of their frames, as far as every frame
    /// before them is done; at most `limit`, and no more than `bytes` unless the first alone is.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn inferences(&self, limit: usize, bytes: usize) -> Result<Vec<WaitingInference>, Error> {
        let connection = self.lock();
        let before = store::first_frame(&connection)?;
        store::inferences(&connection, before, limit, bytes)
    }

    /// The newest frames that were taken and are remembered, with what became of them.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn taken(&self, limit: usize) -> Result<Vec<Taken>, Error> {
        store::taken(&self.lock(), limit)
    }

    /// The newest frames of every state but those that are answered.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn rows(&self, limit: usize) -> Result<Vec<Row>, Error> {
        store::rows(&self.lock(), limit)
    }

    /// Dead letters.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn dead_letters(&self) -> Result<u64, Error> {
        store::dead_letters(&self.lock())
    }

    /// What waits.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn depth(&self) -> Result<Depth, Error> {
        store::depth(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
