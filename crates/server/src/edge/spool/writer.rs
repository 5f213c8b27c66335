//! The spool's one writing thread: group commit, and what happens when the disk is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use scuro_wire::inference::Inference;
use tokio::sync::{mpsc, oneshot};

use super::store::{Refused, Store};
use super::{Accepted, Depth, Letter, NewFrame};
use crate::clock;
use crate::edge::bell::Bell;
use crate::edge::latency::Latencies;
use crate::edge::told::Told;
use crate::error::Error;

/// Most changes of one transaction.
const COMMANDS_PER_COMMIT: usize = 512;
/// Most bytes of one transaction.
const BYTES_PER_COMMIT: usize = 32 << 20;
/// Pause before changes that must succeed are tried again.
const RETRY: Duration = Duration::from_millis(200);

/// A change of the spool.
pub(super) enum Command {
    Accept {
        frame: NewFrame,
        done: oneshot::Sender<Result<Accepted, Error>>,
    },
    Complete {
        seq: u64,
        captured_us: u64,
        inference: Box<Inference>,
    },
    GiveUp {
        seq: u64,
        letter: Letter,
    },
    Settle {
        sent: Vec<u64>,
        dead: Vec<(u64, Letter)>,
        done: oneshot::Sender<Result<(), Error>>,
    },
    RunAgain {
        places: Vec<(u64, Letter)>,
        done: oneshot::Sender<Result<(), Error>>,
    },
    Withdrawn {
        places: Vec<u64>,
        done: oneshot::Sender<Result<(), Error>>,
    },
}

impl Command {
    fn bytes(&self) -> usize {
        match self {
            Self::Accept { frame, .. } => frame.record.len(),
            Self::Complete { inference, .. } => inference.bytes(),
            Self::GiveUp { .. }
            | Self::Settle { .. }
            | Self::RunAgain { .. }
            | Self::Withdrawn { .. } => 0,
        }
    }

    /// Whether it makes room.
    fn shrinks(&self) -> bool {
        matches!(
            self,
            Self::GiveUp { .. }
                | Self::Settle { .. }
                | Self::RunAgain { .. }
                | Self::Withdrawn { .. }
        )
    }

    /// Tells the caller, or gives the command back if it must succeed.
    fn fail(self, error: &Error) -> Option<Self> {
        let error = match error {
            Error::StorageFull { what } => Error::StorageFull { what },
            Error::Spool { action, message } => Error::Spool {
                action,
                message: message.clone(),
            },
            other => Error::Spool {
                action: "write",
                message: other.to_string(),
            },
        };
        match self {
            Self::Accept { done, .. } => {
                // A caller that has gone away needs no answer.
                let _ = done.send(Err(error));
                None
            }
            Self::Settle { done, .. }
            | Self::RunAgain { done, .. }
            | Self::Withdrawn { done, .. } => {
                let _ = done.send(Err(error));
                None
            }
            // Their frame is still there: nothing is lost while they are tried again.
            kept => Some(kept),
        }
    }
}

/// Depth of the spool, kept by the writer.
#[derive(Debug, Default)]
pub(super) struct Levels {
    frames: AtomicU64,
    frame_bytes: AtomicU64,
    inferences: AtomicU64,
    inference_bytes: AtomicU64,
    /// Whether inferences are ready that found no room.
    stuck: AtomicBool,
    /// Whether inferences may leave before frames that are older.
    overtaking: AtomicBool,
    /// How often inferences became frames again.
    returned: AtomicU64,
}

impl Levels {
    pub(super) fn depth(&self) -> Depth {
        Depth {
            frames: self.frames.load(Ordering::Relaxed),
            frame_bytes: self.frame_bytes.load(Ordering::Relaxed),
            inferences: self.inferences.load(Ordering::Relaxed),
            inference_bytes: self.inference_bytes.load(Ordering::Relaxed),
        }
    }

    /// Whether inferences are ready that found no room.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Whether inferences may leave before frames that are older.
    pub(super) fn is_overtaking(&self) -> bool {
        self.overtaking.load(Ordering::Relaxed)
    }

    pub(super) fn allow_overtaking(&self, allowed: bool) {
        self.overtaking.store(allowed, Ordering::Relaxed);
    }

    /// How often inferences became frames again.
    pub(super) fn returned(&self) -> u64 {
        self.returned.load(Ordering::Relaxed)
    }

    pub(super) fn store(&self, depth: Depth) {
        self.frames.store(depth.frames, Ordering::Relaxed);
        self.frame_bytes.store(depth.frame_bytes, Ordering::Relaxed);
        self.inferences.store(depth.inferences, Ordering::Relaxed);
        self.inference_bytes
            .store(depth.inference_bytes, Ordering::Relaxed);
    }
}

/// The one thread that writes.
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) inbox: mpsc::Receiver<Command>,
    pub(super) levels: Arc<Levels>,
    pub(super) latencies: Arc<Latencies>,
    pub(super) changed: Arc<Bell>,
    /// Whether the log says that the spool cannot be written.
    pub(super) told: Told,
}

impl Writer {
    pub(super) fn run(mut self) {
        let mut kept = Vec::new();
        while let Some(batch) = self.next_batch(std::mem::take(&mut kept)) {
            kept = self.commit(batch);
            if !kept.is_empty() {
                std::thread::sleep(RETRY);
            }
        }
    }

    /// What is kept and everything that waits, up to the bounds of one transaction; nothing at the
    /// end. What is kept counts for no bound: what makes room for it waits behind it. There is no
    /// more of it than was under way when processing came to rest.
    fn next_batch(&mut self, kept: Vec<Command>) -> Option<Vec<Command>> {
        let mut batch = kept;
        let (mut count, mut bytes) = (0, 0);
        if batch.is_empty() {
            let first = self.inbox.blocking_recv()?;
            (count, bytes) = (1, first.bytes());
            batch.push(first);
        } else if self.inbox.is_closed() && self.inbox.is_empty() {
            return None;
        }
        while count < COMMANDS_PER_COMMIT && bytes < BYTES_PER_COMMIT {
            let Ok(command) = self.inbox.try_recv() else {
                break;
            };
            (count, bytes) = (count + 1, bytes + command.bytes());
            batch.push(command);
        }
        Some(batch)
    }

    /// Commits and answers; returns what must be tried again.
    fn commit(&mut self, batch: Vec<Command>) -> Vec<Command> {
        let kept = match self.store.apply(&batch) {
            Ok(answers) => {
                let refuses = |answer: &Result<_, Refused>| matches!(answer, Err(Refused::NoRoom));
                let full = answers.iter().any(refuses);
                self.tell(full.then(|| Refused::NoRoom.into()).as_ref());
                self.answer(batch, answers);
                Vec::new()
            }
            Err(error) => {
                self.tell(Some(&error));
                self.make_room(batch, &error)
            }
        };
        self.levels.stuck.store(!kept.is_empty(), Ordering::Relaxed);
        self.changed.ring();
        kept
    }

    /// Says in the log that the spool cannot be written, or can be again.
    fn tell(&mut self, fault: Option<&Error>) {
        if !self.told.is_news(fault.map(Error::code)) {
            return;
        }
        match fault {
            Some(error) => tracing::warn!(%error, "the spool cannot be written; trying again"),
            None => tracing::info!("the spool is written again"),
        }
    }

    /// A full disk may still have room for what makes room, and for one change at a time.
    fn make_room(&mut self, batch: Vec<Command>, error: &Error) -> Vec<Command> {
        let (shrinking, growing): (Vec<_>, Vec<_>) = batch.into_iter().partition(Command::shrinks);
        let (must, may): (Vec<_>, Vec<_>) = growing
            .into_iter()
            .partition(|command| matches!(command, Command::Complete { .. }));
        may.into_iter()
            .for_each(|command| drop(command.fail(error)));
        let mut kept = Vec::new();
        for command in shrinking.into_iter().chain(must) {
            let alone = [command];
            let applied = self.store.apply(&alone);
            match applied {
                Ok(answers) => self.answer(alone.into(), answers),
                Err(error) => kept.extend(alone.into_iter().filter_map(|c| c.fail(&error))),
            }
        }
        kept
    }

    /// Tells the callers; one answer a command. Whoever has it finds the depth that it made.
    fn answer(&self, batch: Vec<Command>, answers: Vec<Result<Option<Accepted>, Refused>>) {
        self.levels.store(self.store.depth());
        let now = clock::now_us();
        for (command, answer) in batch.into_iter().zip(answers) {
            // A caller that has gone away needs no answer.
            match command {
                Command::Accept { done, .. } => {
                    let unplaced = || Error::Spool {
                        action: "accept",
                        message: "no place was given".to_string(),
                    };
                    let answer = answer.map_err(Error::from);
                    let _ = done.send(answer.and_then(|place| place.ok_or_else(unplaced)));
                }
                Command::Settle { done, .. } | Command::Withdrawn { done, .. } => {
                    let _ = done.send(Ok(()));
                }
                Command::RunAgain { done, .. } => {
                    self.levels.returned.fetch_add(1, Ordering::Relaxed);
                    let _ = done.send(Ok(()));
                }
                Command::Complete { captured_us, .. } => {
                    let took = now.saturating_sub(captured_us);
                    self.latencies.add(Duration::from_micros(took));
                }
                Command::GiveUp { .. } => {}
            }
        }
    }
}
