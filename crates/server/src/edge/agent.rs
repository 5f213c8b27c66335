//! The processing agent: frames become encrypted inferences.
//!
//! One thread reads frames from the spool in order and hands them to the workers; each worker takes
//! one through preprocessing, the clear feature extractor, encryption under the public key and the
//! program. If the program takes several images a query, frames that wait already share one: the
//! reply is the same for all of them, and each is another image of it. A frame runs under the
//! version that is active when a worker takes it, and finishes under it whatever is deployed
//! meanwhile; one whose worker was killed runs again, with whatever frames wait then, under the
//! version that is active then. The vault gets one answer in any case: the spool replaces the frame
//! by its inference in one step.
//!
//! A frame of another size than the active version takes was accepted under one before it, and runs
//! under that. A frame that nothing can run stays on disk, and its turn comes when the versions, or
//! what the vault says of them, have changed: the reader starts a new round then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
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

use super::counters::{DEAD, INFERENCES, RESTING, STAGE};
use super::deployments::{Bar, Deployments};
use super::frame::Content;
use super::spool::{Letter, Spool, StoredFrame};
use super::told::Told;
use super::version::Version;
use crate::clock;
use crate::error::Error;

/// Frames read from the spool at a time.
const READ: usize = 32;
/// Longest time that frames for one query are waited for once there is the first: enough for the
/// reader to hand over what is in the spool, little beside a query.
const GATHER: Duration = Duration::from_millis(10);
/// Longest time without a look at what has changed.
const LOOK: Duration = Duration::from_millis(200);

/// Reasons for which processing rests, besides those of [`Bar`].
const NO_MODEL: &str = "no-model";
const UNWRITTEN: &str = "unwritten";
const VAULT_BEHIND: &str = "vault-behind";

/// What the threads share.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) spool: Spool,
    pub(super) active: watch::Receiver<Option<Arc<Version>>>,
    pub(super) deployments: Arc<Deployments>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) metrics: Arc<Metrics>,
    /// Number of the reader's round: what was handed over before is handed over again.
    pub(super) round: Arc<AtomicU64>,
}

/// A frame on its way to a worker.
struct Offer {
    round: u64,
    frame: StoredFrame,
}

type Queue = Arc<Mutex<Receiver<Offer>>>;

impl Agent {
    /// Starts the reader and `workers` workers; they end when `stop` is true.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no more threads.
    pub(super) fn start(self, workers: usize) -> Result<Vec<JoinHandle<()>>, Error> {
        let workers = workers.max(1);
        let (sender, queue) = sync_channel(workers.max(READ));
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

    fn read(&self, workers: &SyncSender<Offer>) {
        let (mut after, mut told) = (0, Told::new(&[UNWRITTEN, VAULT_BEHIND]));
        let mut known = None;
        while !self.is_stopping() {
            let seen = self.spool.changed().rings();
            let barred = self.bar();
            let now = (barred, self.deployments.changes(), self.spool.returned());
            if known.replace(now) != Some(now) {
                after = 0;
                self.start_round();
            }
            let rests = self.rests(barred);
            if told.is_news(rests) {
                tell(rests);
            }
            if rests.is_some() {
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
            let round = self.round.load(Ordering::Relaxed);
            for frame in frames {
                after = frame.seq;
                if workers.send(Offer { round, frame }).is_err() {
                    return;
                }
            }
        }
    }

    /// From now on all frames are handed over once more, and none is known that cannot run.
    fn start_round(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
        self.spool.allow_overtaking(false);
    }

    /// Why nothing can run under the active version, if there is one.
    fn bar(&self) -> Option<Bar> {
        let active = self.active.borrow();
        let active = active.as_ref()?;
        self.deployments
            .bar_of(active.manifest(), &active.deployment())
    }

    /// Why nothing can be processed now: no model, one that the vault decrypts nothing of, a disk
    /// that does not take what is finished, or a vault too far behind.
    fn rests(&self, barred: Option<Bar>) -> Option<&'static str> {
        // Frames wait for long: inferences of later ones do not wait for theirs.
        if barred.is_some() {
            self.spool.allow_overtaking(true);
        }
        let no_model = self.active.borrow().is_none();
        // What passes by itself is told last.
        let reasons = [
            (NO_MODEL, no_model),
            (Bar::Retired.as_str(), barred == Some(Bar::Retired)),
            (Bar::Expired.as_str(), barred == Some(Bar::Expired)),
            (UNWRITTEN, self.spool.is_stuck()),
            (VAULT_BEHIND, self.spool.is_backed_up()),
        ];
        for (reason, now) in reasons {
            let value = if now { 1.0 } else { 0.0 };
            self.metrics.set(RESTING, &[("reason", reason)], value);
        }
        let first = reasons.into_iter().find(|(_, now)| *now);
        first.map(|(reason, _)| reason)
    }

    /// Takes frames until the end, version after version.
    fn work(&self, queue: &Queue) {
        let mut held = Vec::new();
        while !self.is_stopping() {
            if held.is_empty() {
                // Also while nothing can run: the reader waits for nobody.
                held = match self.gather(queue, 1, Vec::new()) {
                    Ok((offers, _)) => offers,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
            }
            let Some(version) = self.version_for(&held[0].frame) else {
                self.leave(&held.remove(0).frame);
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

    /// Works under one version as long as frames run under it; gives back those that do not.
    fn work_with(
        &self,
        pipeline: &mut Pipeline<'_>,
        queue: &Queue,
        mut held: Vec<Offer>,
    ) -> Vec<Offer> {
        let limit = pipeline.version.frames_per_query();
        while !self.is_stopping() {
            let (mut next, rest) = match self.gather(queue, limit, held) {
                Ok(gathered) => gathered,
                // Under an earlier version there is nothing left to do: it goes.
                Err(_) if !self.is_active(pipeline.version) => return Vec::new(),
                Err(RecvTimeoutError::Timeout) => {
                    held = Vec::new();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Vec::new(),
            };
            held = rest;
            let others = next
                .iter()
                .position(|offer| !self.runs_under(&offer.frame, pipeline.version));
            let others = next.split_off(others.unwrap_or(next.len()));
            if !next.is_empty() {
                let frames: Vec<&StoredFrame> = next.iter().map(|offer| &offer.frame).collect();
                self.process(pipeline, &frames);
            }
            if !others.is_empty() {
                return others.into_iter().chain(held).collect();
            }
        }
        Vec::new()
    }

    /// The next frames: those that are held, and those that wait already; and what is left of the
    /// held ones. At most `limit`.
    fn gather(
        &self,
        queue: &Queue,
        limit: usize,
        mut held: Vec<Offer>,
    ) -> Result<(Vec<Offer>, Vec<Offer>), RecvTimeoutError> {
        let queue = match held.is_empty() {
            true => Some(queue.lock().unwrap_or_else(PoisonError::into_inner)),
            // Another worker that waits for frames does not keep those that are held.
            false => queue.try_lock().ok(),
        };
        if let Some(queue) = queue {
            if held.is_empty() {
                held.push(self.receive(&queue, Instant::now() + LOOK)?);
            }
            let end = Instant::now() + GATHER;
            while held.len() < limit {
                match self.receive(&queue, end) {
                    Ok(offer) => held.push(offer),
                    Err(_) => break,
                }
            }
        }
        let rest = held.split_off(held.len().min(limit));
        Ok((held, rest))
    }

    /// The next frame of this round.
    fn receive(&self, queue: &Receiver<Offer>, end: Instant) -> Result<Offer, RecvTimeoutError> {
        loop {
            let offer = queue.recv_timeout(end.saturating_duration_since(Instant::now()))?;
            if offer.round == self.round.load(Ordering::Relaxed) {
                return Ok(offer);
            }
        }
    }

    /// The version that a frame runs under now, if there is any; what is damaged is given up under
    /// the active one.
    fn version_for(&self, frame: &StoredFrame) -> Option<Arc<Version>> {
        match &frame.content {
            Ok(content) => self.deployments.version_for(content),
            Err(_) => self.active.borrow().clone(),
        }
    }

    fn runs_under(&self, frame: &StoredFrame, version: &Version) -> bool {
        let chosen = self.version_for(frame);
        chosen.is_some_and(|chosen| std::ptr::eq(&*chosen, version))
    }

    /// Leaves a frame on disk that nothing can run now.
    fn leave(&self, frame: &StoredFrame) {
        tracing::debug!(frame = %frame.id, "a frame waits for a version that takes it");
        self.spool.allow_overtaking(true);
    }

    /// Turns frames into inferences of one query; one that cannot be encrypted leaves the others.
    fn process(&self, pipeline: &mut Pipeline<'_>, frames: &[&StoredFrame]) {
        let mut inputs = Vec::with_capacity(frames.len());
        for &frame in frames {
            match unless_panicked(|| pipeline.input(frame, &self.metrics)) {
                Ok(input) => inputs.push(input),
                Err(error) => self.give_up(frame, &error),
            }
        }
        if !inputs.is_empty() {
            self.run(pipeline, &inputs);
        }
    }

    fn run(&self, pipeline: &mut Pipeline<'_>, inputs: &[Input<'_>]) {
        match (
            unless_panicked(|| pipeline.run(inputs, &self.metrics)),
            inputs,
        ) {
            (Ok(inferences), _) => {
                self.metrics.add(INFERENCES, &[], inputs.len() as u64);
                for (Input { frame, .. }, inference) in inputs.iter().zip(inferences) {
                    self.spool.complete(frame.seq, frame.captured_us, inference);
                }
            }
            (Err(error), [Input { frame, .. }]) => self.give_up(frame, &error),
            // Only alone they tell which of them it is.
            (Err(_), _) => inputs
                .iter()
                .for_each(|input| self.run(pipeline, std::slice::from_ref(input))),
        }
    }

    fn give_up(&self, frame: &StoredFrame, error: &Error) {
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

/// Says in the log why processing rests, or that it no longer does.
fn tell(rests: Option<&'static str>) {
    match rests {
        Some(reason) => tracing::warn!(reason, "processing rests; frames wait"),
        None => tracing::info!("processing goes on"),
    }
}

/// A panic as an error.
fn unless_panicked<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::Panicked))
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let path = std::path::PathBuf::from(&name);
    let builder = std::thread::Builder::new().name(name);
    builder
        .spawn(work)
        .map_err(Error::io("start the thread", &path))
}

/// A frame that is ready to be encrypted.
struct Input<'f> {
    frame: &'f StoredFrame,
    values: Vec<f32>,
    queue_us: u64,
    features_us: u64,
}

/// One worker's way from frames to encrypted inferences.
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

    /// What of a frame is encrypted.
    fn input<'f>(&self, frame: &'f StoredFrame, metrics: &Metrics) -> Result<Input<'f>, Error> {
        let queue_us = clock::now_us().saturating_sub(frame.captured_us);
        let mut stages = Stages::start(metrics);
        let values = match &frame.content {
            Ok(Content::Pixels(pixels)) => self.version.preprocess(pixels)?,
            Ok(Content::Values(values)) => values.clone(),
            Err(fault) => return Err(Error::Frame(*fault)),
        };
        let values = self.extract(values)?;
        self.version.encryptor().check(&values)?;
        Ok(Input {
            frame,
            values,
            queue_us,
            features_us: stages.done("features"),
        })
    }

    /// One query for all of the frames; an inference for each.
    fn run(&mut self, inputs: &[Input<'_>], metrics: &Metrics) -> Result<Vec<Inference>, Error> {
        let mut stages = Stages::start(metrics);
        let images: Vec<&[f32]> = inputs.iter().map(|input| &input.values[..]).collect();
        let encryptor = self.version.encryptor();
        let query = encryptor.encrypt_run(&images, &mut self.rng)?;
        let encrypt_us = stages.done("encrypt");
        let (prepared, keys) = (self.version.prepared(), self.version.evaluation());
        let answer = prepared.evaluate(keys, &query, 1, &mut |_| {})?;
        let evaluate_us = stages.done("evaluate");
        let reply = self.version.model().reply(images.len() as u32, &[answer])?;
        let reply = reply.to_bytes();
        let inference = |(image, input): (usize, &Input<'_>)| Inference {
            query_id: input.frame.query_id,
            deployment: self.version.deployment(),
            query_digest: input.frame.digest,
            image: image as u32,
            timings: Timings {
                captured_ms: input.frame.captured_us / 1000,
                queue_us: input.queue_us,
                features_us: input.features_us,
                encrypt_us,
                evaluate_us,
            },
            reply: reply.clone(),
        };
        Ok(inputs.iter().enumerate().map(inference).collect())
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

impl<'a> Stages<'a> {
    fn start(metrics: &'a Metrics) -> Self {
        Self {
            metrics,
            start: Instant::now(),
        }
    }

    /// Microseconds since the last stage.
    fn done(&mut self, stage: &str) -> u64 {
        let took = self.start.elapsed();
        self.start = Instant::now();
        self.metrics.observe(STAGE, &[("stage", stage)], took);
        took.as_micros() as u64
    }
}
