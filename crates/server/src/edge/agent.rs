//! The processing agent: frames become encrypted inferences.
//!
//! One thread reads frames from the spool in order and hands them to the workers; each worker takes
//! one through preprocessing, the clear feature extractor, encryption under the public key and the
//! program. A frame runs under the version that is active when a worker takes it, and finishes
//! under it whatever is deployed meanwhile; one whose worker was killed runs again, under the
//! version that is active then. The vault gets one answer in any case: the spool replaces the frame
//! by its inference in one step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_nn::reference::Executor;
use scuro_nn::tensor::Tensor;
use scuro_wire::inference::{Inference, Timings};
use scuro_wire::metrics::Metrics;
use tokio::sync::watch;

use super::clock;
use super::counters::{DEAD, INFERENCES, RESTING, STAGE};
use super::frame::Content;
use super::spool::{Letter, Spool, StoredFrame};
use super::version::Version;
use crate::error::Error;

/// Frames read from the spool at a time.
const READ: usize = 32;
/// Longest time without a look at what has changed.
const LOOK: Duration = Duration::from_millis(200);

/// What the threads share.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) spool: Spool,
    pub(super) active: watch::Receiver<Option<Arc<Version>>>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) metrics: Arc<Metrics>,
}

type Queue = Arc<Mutex<Receiver<StoredFrame>>>;

impl Agent {
    /// Starts the reader and `workers` workers; they end when `stop` is true.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no more threads.
    pub(super) fn start(self, workers: usize) -> Result<Vec<JoinHandle<()>>, Error> {
        let workers = workers.max(1);
        let (sender, queue) = sync_channel(workers);
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::new();
        for number in 0..workers {
            let (agent, queue) = (self.clone(), Arc::clone(&queue));
            let work = move || agent.work(&queue);
            threads.push(spawn(format!("worker-{number}"), work)?);
        }
        threads.push(spawn("reader".to_string(), move || self.read(&sender))?);
        Ok(threads)
    }

    fn read(&self, workers: &SyncSender<StoredFrame>) {
        let mut after = 0;
        while !self.is_stopping() {
            let seen = self.spool.changed().rings();
            if self.rests() {
                self.spool.changed().wait(seen, LOOK);
                continue;
            }
            let frames = match self.spool.reader().frames(after, READ) {
                Ok(frames) => frames,
                Err(error) => {
                    tracing::warn!(%error, "frames cannot be read");
                    std::thread::sleep(LOOK);
                    continue;
                }
            };
            if frames.is_empty() {
                self.spool.changed().wait(seen, LOOK);
            }
            for frame in frames {
                after = frame.seq;
                if workers.send(frame).is_err() {
                    return;
                }
            }
        }
    }

    /// Whether nothing can be processed now: no model, an expired one, or a vault too far behind.
    fn rests(&self) -> bool {
        let expired = self.active.borrow().as_ref().map(|version| {
            let manifest = version.manifest();
            manifest.is_expired(clock::now())
        });
        let reasons = [
            ("no-model", expired.is_none()),
            ("expired", expired == Some(true)),
            ("vault-behind", self.spool.is_backed_up()),
        ];
        for (reason, now) in reasons {
            let value = if now { 1.0 } else { 0.0 };
            self.metrics.set(RESTING, &[("reason", reason)], value);
        }
        reasons.iter().any(|(_, now)| *now)
    }

    /// Takes frames until the end, version after version.
    fn work(&self, queue: &Queue) {
        let mut held = None;
        while !self.is_stopping() {
            let version = self.active.borrow().clone();
            let Some(version) = version else {
                std::thread::sleep(LOOK);
                continue;
            };
            match Pipeline::new(&version) {
                Ok(mut pipeline) => held = self.work_with(&mut pipeline, queue, held),
                Err(error) => {
                    tracing::error!(%error, "a worker cannot start");
                    std::thread::sleep(LOOK);
                }
            }
        }
    }

    /// Works under one version as long as it is active; gives back a frame that came too late.
    fn work_with(
        &self,
        pipeline: &mut Pipeline<'_>,
        queue: &Queue,
        held: Option<StoredFrame>,
    ) -> Option<StoredFrame> {
        if let Some(frame) = held {
            self.process(pipeline, &frame);
        }
        while !self.is_stopping() {
            let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            let frame = queue.recv_timeout(LOOK);
            drop(queue);
            match frame {
                Ok(frame) if self.is_active(pipeline.version) => self.process(pipeline, &frame),
                Ok(frame) => return Some(frame),
                Err(RecvTimeoutError::Timeout) if self.is_active(pipeline.version) => {}
                Err(_) => return None,
            }
        }
        None
    }

    fn process(&self, pipeline: &mut Pipeline<'_>, frame: &StoredFrame) {
        let run = catch_unwind(AssertUnwindSafe(|| pipeline.run(frame, &self.metrics)));
        match run.unwrap_or(Err(Error::Panicked)) {
            Ok(inference) => {
                self.metrics.add(INFERENCES, &[], 1);
                self.spool.complete(frame.seq, frame.captured_us, inference);
            }
            Err(error) => {
                tracing::warn!(frame = %frame.id, %error, "frame given up");
                let labels = [("reason", error.code()), ("stage", "processing")];
                self.metrics.add(DEAD, &labels, 1);
                let letter = Letter {
                    stage: "processing",
                    code: error.code().to_string(),
                    message: error.to_string(),
                };
                self.spool.give_up(frame.seq, letter);
            }
        }
    }

    fn is_active(&self, version: &Version) -> bool {
        let active = self.active.borrow();
        active
            .as_ref()
            .is_some_and(|active| std::ptr::eq(&**active, version))
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let path = std::path::PathBuf::from(&name);
    let builder = std::thread::Builder::new().name(name);
    builder
        .spawn(work)
        .map_err(Error::io("start the thread", &path))
}

/// One worker's way from a frame to an encrypted inference.
struct Pipeline<'v> {
    version: &'v Version,
    features: Option<Executor<'v>>,
    rng: ChaCha20Rng,
}

impl<'v> Pipeline<'v> {
    fn new(version: &'v Version) -> Result<Self, Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| Error::Randomness {
            message: error.to_string(),
        })?;
        Ok(Self {
            version,
            features: version.features().map(Executor::new).transpose()?,
            rng: ChaCha20Rng::from_seed(seed),
        })
    }

    fn run(&mut self, frame: &StoredFrame, metrics: &Metrics) -> Result<Inference, Error> {
        let queue_us = clock::now_us().saturating_sub(frame.captured_us);
        let mut stages = Stages {
            metrics,
            start: Instant::now(),
        };
        let input = match &frame.content {
            Ok(Content::Pixels(pixels)) => self.version.preprocess(pixels)?,
            Ok(Content::Values(values)) => values.clone(),
            Err(fault) => return Err(Error::Frame(*fault)),
        };
        let input = self.extract(input)?;
        let features_us = stages.done("features");
        let query = self
            .version
            .encryptor()
            .encrypt_run(&input, &mut self.rng)?;
        let encrypt_us = stages.done("encrypt");
        let (prepared, keys) = (self.version.prepared(), self.version.evaluation());
        let answer = prepared.evaluate(keys, &query, 1, &mut |_| {})?;
        let evaluate_us = stages.done("evaluate");
        Ok(Inference {
            query_id: frame.query_id,
            deployment: self.version.deployment(),
            query_digest: frame.digest,
            timings: Timings {
                captured_ms: frame.captured_us / 1000,
                queue_us,
                features_us,
                encrypt_us,
                evaluate_us,
            },
            reply: self.version.model().reply(1, &[answer])?.to_bytes(),
        })
    }

    /// The clear feature extractor, if there is one.
    fn extract(&self, input: Vec<f32>) -> Result<Vec<f32>, Error> {
        match &self.features {
            Some(executor) => {
                let input = Tensor::new(executor.input_shape(), input)?;
                Ok(executor.run(&input)?.data)
            }
            None => Ok(input),
        }
    }
}

/// A stopwatch that feeds the histogram of stages.
struct Stages<'a> {
    metrics: &'a Metrics,
    start: Instant,
}

impl Stages<'_> {
    /// Microseconds since the last stage.
    fn done(&mut self, stage: &str) -> u64 {
        let took = self.start.elapsed();
        self.start = Instant::now();
        self.metrics.observe(STAGE, &[("stage", stage)], took);
        took.as_micros() as u64
    }
}
