//! The camera and the reader: frames go in by HTTP, published results are read from the vault's
//! file.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use scuro_nn::data::Dataset;
use scuro_wire::QueryId;
use scuro_wire::results::InferenceResult;
use serde::Deserialize;

use super::ledger::Ledger;
use crate::errors::{Exit, Failure};

/// Longest wait for any answer, or for a device that takes no frame.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// One frame in so many is sent twice, as if its acknowledgement had been lost.
const REPEATED: usize = 50;
/// Pause before a frame is sent again.
const AGAIN: Duration = Duration::from_millis(20);
/// Time for one acknowledgement.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(10);
/// Pause between two looks at the file of results: the resolution of the latencies.
const LOOK: Duration = Duration::from_millis(1);
/// Most bytes read from the file of results at a time.
const READ_BYTES: u64 = 1 << 20;

/// Sends frames until the device acknowledges them.
pub(super) struct Camera<'a> {
    url: String,
    agent: ureq::Agent,
    images: &'a Dataset,
    ledger: &'a Ledger,
    in_flight: AtomicUsize,
    /// Frames that were sent more than once.
    pub(super) resent: AtomicUsize,
    /// Frames of these that the device had taken before it could say so.
    pub(super) known: AtomicUsize,
}

/// What the device says to a frame.
#[derive(Debug, Deserialize)]
struct Acknowledgement {
    query_id: QueryId,
    again: bool,
}

impl<'a> Camera<'a> {
    /// For the device whose HTTP source listens on `address`.
    pub(super) fn new(address: &str, images: &'a Dataset, ledger: &'a Ledger) -> Self {
        let agent = ureq::Agent::config_builder().timeout_global(Some(ACKNOWLEDGEMENT));
        Self {
            url: format!("http://{address}/v1/frames"),
            agent: agent.build().into(),
            images,
            ledger,
            in_flight: AtomicUsize::new(0),
            resent: AtomicUsize::new(0),
            known: AtomicUsize::new(0),
        }
    }

    /// Whether a frame is being sent now.
    pub(super) fn is_sending(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Sends `frames` from `cameras` threads, as long as fewer than `window` have no answer.
    pub(super) fn send(
        &self,
        frames: Range<usize>,
        cameras: usize,
        window: usize,
    ) -> Result<(), Failure> {
        let next = AtomicUsize::new(frames.start);
        let one = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= frames.end {
                    return Ok(());
                }
                if !self.ledger.wait_below(window, PATIENCE) {
                    return Err(silent("the vault publishes nothing"));
                }
                self.post(number, Instant::now())?;
                if number.is_multiple_of(REPEATED) {
                    self.repeat(number);
                }
            }
        };
        std::thread::scope(|scope| {
            let cameras: Vec<_> = (0..cameras).map(|_| scope.spawn(one)).collect();
            let ended = cameras.into_iter().map(|camera| match camera.join() {
                Ok(sent) => sent,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ended.collect()
        })
    }

    /// Sends `frames` one a `period`, whatever the device does: a late one counts from its time.
    pub(super) fn send_paced(&self, frames: Range<usize>, period: Duration) -> Result<(), Failure> {
        let start = Instant::now();
        let count = frames.len() as u32;
        for (turn, number) in (0..count).zip(frames) {
            let due = start + period * turn;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.post(number, due)?;
        }
        Ok(())
    }

    fn post(&self, number: usize, due: Instant) -> Result<(), Failure> {
        let start = Instant::now();
        let mut tries = 0;
        loop {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            let answer = self.try_post(number);
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            if let Ok(answer) = answer {
                self.resent
                    .fetch_add(usize::from(tries > 0), Ordering::Relaxed);
                self.known
                    .fetch_add(usize::from(answer.again), Ordering::Relaxed);
                self.ledger.acknowledged(answer.query_id, number, due);
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(silent("the device takes no frame"));
            }
            tries += 1;
            std::thread::sleep(AGAIN);
        }
    }

    /// Sends a frame that is there already; whatever happens to this one does not matter.
    fn repeat(&self, number: usize) {
        if let Ok(answer) = self.try_post(number) {
            self.resent.fetch_add(1, Ordering::Relaxed);
            self.known
                .fetch_add(usize::from(answer.again), Ordering::Relaxed);
            self.ledger
                .acknowledged(answer.query_id, number, Instant::now());
        }
    }

    /// One try; whatever goes wrong, the frame is sent again.
    fn try_post(&self, number: usize) -> Result<Acknowledgement, ureq::Error> {
        let pixels = self.images.image(number % self.images.len());
        let request = self.agent.post(&self.url);
        let request = request.header("content-type", "application/octet-stream");
        let request = request.header("x-scuro-frame-id", format!("frame-{number}"));
        let body = request.send(pixels)?.into_body().read_to_string()?;
        let unread = |error: serde_json::Error| ureq::Error::Other(error.into());
        serde_json::from_str(&body).map_err(unread)
    }
}

fn silent(what: &str) -> Failure {
    let message = format!("{what} for {} s", PATIENCE.as_secs());
    Failure::new(Exit::Timeout, "bench.edge", message).hint("see services.log in its folder")
}

/// Reads the vault's file of results as it grows, until `stop`.
pub(super) fn follow(path: &Path, ledger: &Ledger, stop: &AtomicBool) -> std::io::Result<()> {
    let mut whole = 0;
    while !stop.load(Ordering::Relaxed) {
        let read = whole_lines(path, whole)?;
        let at = Instant::now();
        whole += read.len() as u64;
        for line in read
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            // A line that is no result would be missed in the sums.
            if let Ok(result) = serde_json::from_slice::<InferenceResult>(line) {
                ledger.published(&result, at);
            }
        }
        if read.is_empty() {
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// What the file has after `start`, up to its last line feed: a vault that is killed leaves a torn
/// line, and cuts it off when it starts again.
fn whole_lines(path: &Path, start: u64) -> std::io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() <= start {
        return Ok(Vec::new());
    }
    file.seek(SeekFrom::Start(start))?;
    let mut read = Vec::new();
    file.take(READ_BYTES).read_to_end(&mut read)?;
    let whole = read.iter().rposition(|byte| *byte == b'\n');
    read.truncate(whole.map_or(0, |place| place + 1));
    Ok(read)
}
