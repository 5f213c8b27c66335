//! The whole system on loopback: a vault and a device as processes over mutual TLS, frames by HTTP,
//! an encrypted classifier, labels in the vault's file, and both killed while frames come in.

mod ledger;
mod load;
pub(in crate::bench) mod site;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_nn::data::Dataset;

use crate::bench::case::{Sampling, Settings};
use crate::compiled::{BUILT_IN, Source};
use crate::data;
use crate::errors::Failure;
use crate::files;
use crate::inputs::{self, Examples};
use crate::report::argmax;
use crate::scoring;
use crate::workspace::Workspace;
use ledger::{Answer, Ledger, STAGES};
use load::{Camera, PATIENCE};
use site::{Service, Site};

/// The trained network in the folder of models.
const NETWORK: &str = "mnist-cnn-modified-square.onnx";
/// Frames that fill caches and connections.
const WARM_UP: usize = 20;
/// Frames of each part without `--full`.
const FRAMES: usize = 150;
/// Frames of each part with `--full`: at a full queue, at a steady pace, with kills.
const FULL: (usize, usize, usize) = (300, 1000, 10_000);
/// Kills of the device, and of the vault, with `--full`.
const KILLS: usize = 5;
/// Share of the sustained rate at which latency is measured.
const PACE: f64 = 0.8;
/// Frames without an answer above which nothing more is sent for a while: the queue is full, and
/// acceptance goes on as long as processing does.
const WINDOW: usize = 32;
/// The same while services are killed; more wait while the vault is away.
const KILLS_WINDOW: usize = 256;
/// Cameras that send at a time while services are killed.
const CAMERAS: usize = 4;
/// Longest wait for a frame that is under way.
const UNDER_WAY: Duration = Duration::from_secs(5);
/// Longest delay of a kill behind its frame, and longest time that a service stays away.
const DELAY_MS: u32 = 400;
const AWAY_MS: u32 = 2000;
/// Milliseconds of a tick in `/proc`.
const TICK_MS: f64 = 10.0;
/// Time for a second answer to show.
const SETTLE: Duration = Duration::from_secs(3);
const SEED: u64 = 2019;

/// What one run of the system gave; every case reads its figure from it.
#[derive(Debug, Clone)]
pub(super) struct Run {
    rate: f64,
    /// From the time that a frame was due to its published label, sorted.
    latencies_ms: Vec<f64>,
    frames: usize,
    lost: usize,
    surplus: usize,
    /// Answered frames whose label is that of the network in clear.
    agreeing: usize,
    threads: usize,
    /// On the network, on the stages, on the kills.
    notes: [String; 3],
}

/// Frames a second with a full queue.
pub(super) fn rate(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let run = shared(settings)?;
    Ok(run.figure(run.rate).note(run.notes[0].clone()))
}

/// Milliseconds from frame in to label out below which a share of the frames lies.
pub(super) fn latency(settings: &Settings<'_>, share: f64) -> Result<Sampling, Failure> {
    let run = shared(settings)?;
    let last = run.latencies_ms.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    let value = run.latencies_ms.get(place).copied().unwrap_or(f64::NAN);
    let note = format!(
        "{} frames at {:.1}/s, wall time from when each was due; {}",
        run.latencies_ms.len(),
        PACE * run.rate,
        run.notes[1]
    );
    Ok(run.figure(value).note(note))
}

/// Frames without an answer.
pub(super) fn lost(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let run = shared(settings)?;
    Ok(run.figure(run.lost as f64).note(run.notes[2].clone()))
}

/// Answers beyond one a frame.
pub(super) fn twice(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let run = shared(settings)?;
    Ok(run.figure(run.surplus as f64).note(run.notes[2].clone()))
}

/// Share of answered frames with the label of the network in clear.
pub(super) fn agreement(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let run = shared(settings)?;
    let answered = run.frames - run.lost;
    Ok(run.figure(run.agreeing as f64 / answered as f64))
}

impl Run {
    fn figure(&self, value: f64) -> Sampling {
        Sampling::single(value, self.threads)
    }
}

/// The run that all cases share: it takes minutes.
fn shared(settings: &Settings<'_>) -> Result<Run, Failure> {
    let run = || Fleet::new(settings)?.run(&Plan::new(settings));
    settings.gomez.edge.get_or_init(run).clone()
}

/// How many frames each part has.
struct Plan {
    sustained: usize,
    paced: usize,
    killed: usize,
    kills: usize,
}

impl Plan {
    fn new(settings: &Settings<'_>) -> Self {
        // A rate has a first and a last answer.
        let few = settings.samples(FRAMES).max(2);
        let (sustained, paced, killed) = match settings.full {
            true => FULL,
            false => (few, few, few),
        };
        Self {
            sustained,
            paced,
            killed,
            kills: if settings.full { KILLS } else { 1 },
        }
    }
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Vault,
    Edge,
}

/// A kill to come.
#[derive(Debug, Clone, Copy)]
struct Kill {
    victim: Victim,
    /// Frames acknowledged before it.
    after: usize,
    /// Waits for a frame that is under way, so that its acknowledgement is cut off.
    in_acceptance: bool,
    delay: Duration,
    away: Duration,
}

impl Kill {
    /// `each` kills of both, scattered over `frames` frames that come after `first`.
    fn scatter(first: usize, frames: usize, each: usize, rng: &mut ChaCha20Rng) -> Vec<Self> {
        let mut below = |limit: u32| u64::from(rng.next_u32() % limit.max(1));
        let span = frames / each.max(1);
        let mut kills = Vec::new();
        for turn in 0..each {
            for victim in [Victim::Edge, Victim::Vault] {
                kills.push(Self {
                    victim,
                    after: first + turn * span + below(span as u32) as usize,
                    in_acceptance: victim == Victim::Edge && turn % 2 == 0,
                    delay: Duration::from_millis(below(DELAY_MS)),
                    away: Duration::from_millis(below(AWAY_MS)),
                });
            }
        }
        kills.sort_by_key(|kill| kill.after);
        kills
    }
}

/// The two processes with everything around them.
struct Fleet<'a> {
    settings: &'a Settings<'a>,
    workspace: Workspace,
    site: Site,
    http: String,
    images: Dataset,
    /// The network's answers in clear, one an image.
    labels: Vec<usize>,
    vault: Option<Service>,
    edge: Option<Service>,
}

impl<'a> Fleet<'a> {
    /// Protects the network and deploys it.
    fn new(settings: &'a Settings<'a>) -> Result<Self, Failure> {
        let workspace = Workspace::new(None)?;
        let path = trained(settings);
        let bytes = match &path {
            Some(path) => files::read(path)?,
            None => BUILT_IN.to_vec(),
        };
        files::write(&workspace.path("model.onnx"), &bytes)?;
        let limit = if settings.full { FULL.2 } else { FRAMES };
        let images = inputs::digits(settings.context, limit)?;
        let labels = clear_labels(path.as_deref(), &images)?;
        let binary = std::env::current_exe();
        let binary =
            binary.map_err(|error| Failure::internal(format!("where is this program? {error}")))?;
        let started = |error| Failure::io("start services in", &workspace.path(""), &error);
        let site = Site::new(&binary, &workspace.path("")).map_err(started)?;
        let http = site::free_address().map_err(started)?;
        let mut fleet = Self {
            settings,
            workspace,
            site,
            http,
            images,
            labels,
            vault: None,
            edge: None,
        };
        fleet.set_up()?;
        Ok(fleet)
    }

    fn set_up(&mut self) -> Result<(), Failure> {
        let folder = data::locate(self.settings.context, "mnist");
        let folder = folder.and_then(|mnist| mnist.parent()?.canonicalize().ok());
        let folder = folder.map(|folder| folder.display().to_string());
        for words in self.site.set_up() {
            let mut words = words;
            if let Some(folder) = &folder {
                words.extend(["--data-dir", folder]);
            }
            self.workspace.run(words[0], &words[1..], 0)?;
        }
        self.start(Victim::Vault)?;
        self.start(Victim::Edge)?;
        let since = Instant::now();
        let [verb, words @ ..] = site::DEPLOY;
        loop {
            match self.workspace.run(verb, &words, 0) {
                Err(failure) if since.elapsed() > PATIENCE => return Err(failure),
                // Not up yet.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
                Ok(_) => return Ok(()),
            }
        }
    }

    fn start(&mut self, victim: Victim) -> Result<(), Failure> {
        let threads = self.settings.threads.to_string();
        let started = match victim {
            Victim::Vault => self.site.vault(),
            Victim::Edge => self
                .site
                .edge(&["--http", &self.http, "--threads", &threads]),
        };
        let failed = |error| Failure::io("start a service in", &self.workspace.path(""), &error);
        *self.place(victim) = Some(started.map_err(failed)?);
        Ok(())
    }

    fn place(&mut self, victim: Victim) -> &mut Option<Service> {
        match victim {
            Victim::Vault => &mut self.vault,
            Victim::Edge => &mut self.edge,
        }
    }

    fn run(mut self, plan: &Plan) -> Result<Run, Failure> {
        let (ledger, stop) = (Ledger::default(), AtomicBool::new(false));
        let images = self.images.clone();
        let camera = Camera::new(&self.http, &images, &ledger);
        let results = self.workspace.path("vault/results.jsonl");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| load::follow(&results, &ledger, &stop));
            let run = self.measure(plan, &camera, &ledger);
            stop.store(true, Ordering::Relaxed);
            let read = reader.join();
            let read = read.map_err(|_| Failure::internal("the reader of results panicked"))?;
            read.map_err(|error| Failure::io("read", &results, &error))?;
            run.map_err(|failure| failure.at(self.last_words()))
        })
    }

    fn measure(
        &mut self,
        plan: &Plan,
        camera: &Camera<'_>,
        ledger: &Ledger,
    ) -> Result<Run, Failure> {
        let sustained = WARM_UP..WARM_UP + plan.sustained;
        let paced = sustained.end..sustained.end + plan.paced;
        let killed = paced.end..paced.end + plan.killed;
        camera.send(0..WARM_UP, 1, WINDOW)?;
        ledger.wait_below(1, PATIENCE);
        let before = self.processor_ms();
        camera.send(sustained.clone(), 1, WINDOW)?;
        ledger.wait_below(1, PATIENCE);
        let each = |now: f64, then: f64| (now - then) / plan.sustained as f64;
        let spent = self.processor_ms().zip(before);
        let spent = spent.map(|(now, then)| [each(now[0], then[0]), each(now[1], then[1])]);
        let rate = rate_of(&ledger.answers(sustained))?;
        camera.send_paced(paced.clone(), Duration::from_secs_f64(1.0 / (PACE * rate)))?;
        ledger.wait_below(1, PATIENCE);
        let steady = ledger.answers(paced);
        let mut latencies_ms: Vec<f64> = steady.iter().map(milliseconds).collect();
        latencies_ms.sort_by(f64::total_cmp);
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        let kills = Kill::scatter(killed.start, plan.killed, plan.kills, &mut rng);
        let seconds = self.under_kills(killed.clone(), &kills, camera, ledger)?;
        std::thread::sleep(SETTLE);
        let answers = ledger.answers(0..killed.end);
        let agrees =
            |answer: &&Answer| self.labels[answer.number % self.labels.len()] == answer.label;
        let notes = [
            self.origin() + &spent.map(processor).unwrap_or_default(),
            stages(&steady),
            told(&kills, camera, plan.killed, seconds),
        ];
        Ok(Run {
            rate,
            latencies_ms,
            frames: killed.end,
            lost: killed.end - distinct(&answers),
            surplus: ledger.surplus(),
            agreeing: answers.iter().filter(agrees).count(),
            threads: self.settings.threads,
            notes,
        })
    }

    /// Sends frames while services are killed; seconds until the last answer.
    fn under_kills(
        &mut self,
        frames: Range<usize>,
        kills: &[Kill],
        camera: &Camera<'_>,
        ledger: &Ledger,
    ) -> Result<f64, Failure> {
        let start = Instant::now();
        let window = KILLS_WINDOW.min(frames.len() / 8).max(CAMERAS);
        std::thread::scope(|scope| {
            let cameras = scope.spawn(move || camera.send(frames, CAMERAS, window));
            for kill in kills {
                self.kill(kill, camera, ledger)?;
            }
            match cameras.join() {
                Ok(sent) => sent,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })?;
        ledger.wait_below(1, PATIENCE);
        Ok(start.elapsed().as_secs_f64())
    }

    /// Kills one of the two, as `kill -9`, and starts it again.
    fn kill(&mut self, kill: &Kill, camera: &Camera<'_>, ledger: &Ledger) -> Result<(), Failure> {
        let since = Instant::now();
        while ledger.acknowledgements() < kill.after && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(kill.delay);
        let since = Instant::now();
        while kill.in_acceptance && !camera.is_sending() && since.elapsed() < UNDER_WAY {
            std::thread::yield_now();
        }
        if let Some(service) = self.place(kill.victim).take() {
            let failed = |error| Failure::internal(format!("a service cannot be killed: {error}"));
            service.kill().map_err(failed)?;
        }
        std::thread::sleep(kill.away);
        self.start(kill.victim)
    }

    fn origin(&self) -> String {
        let network = match trained(self.settings) {
            Some(_) => NETWORK,
            None => "the built-in network",
        };
        format!("wall time; classifier of {network} encrypted, 128 bits; all on one machine")
    }

    /// Milliseconds of processor time of device and vault so far, if this system tells.
    fn processor_ms(&self) -> Option<[f64; 2]> {
        let of = |service: &Option<Service>| processor_ms(service.as_ref()?.0.id());
        Some([of(&self.edge)?, of(&self.vault)?])
    }

    /// What the services said last.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.workspace.path(site::LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.join(" | ")
    }
}

/// Milliseconds of processor time of a process.
fn processor_ms(id: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field is the name in brackets; user and system time are the 14th and 15th.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks: Option<Vec<f64>> = ticks.map(|ticks| ticks.parse().ok()).collect();
    Some(ticks?.iter().sum::<f64>() * TICK_MS)
}

fn processor([device, vault]: [f64; 2]) -> String {
    format!("; processor time a frame: device {device:.1} ms, vault {vault:.1} ms")
}

fn trained(settings: &Settings<'_>) -> Option<PathBuf> {
    let path = settings.models.as_ref()?.join(NETWORK);
    path.is_file().then_some(path)
}

fn clear_labels(path: Option<&Path>, images: &Dataset) -> Result<Vec<usize>, Failure> {
    let graph = match path {
        Some(path) => inputs::load_network(path, None)?,
        None => Source::BuiltIn.network()?,
    };
    let preprocess = graph.preprocess.clone().unwrap_or_default();
    let examples = Examples::new(images.clone(), &preprocess, graph.input_shape())?;
    let scores = scoring::reference(&graph, &examples)?;
    Ok(scores.iter().map(|scores| argmax(scores)).collect())
}

/// Answers a second between the first and the last.
fn rate_of(answers: &[Answer]) -> Result<f64, Failure> {
    let rate = match answers {
        [first, .., last] => {
            let span = last.published.saturating_duration_since(first.published);
            (answers.len() - 1) as f64 / span.as_secs_f64()
        }
        _ => f64::NAN,
    };
    if rate.is_finite() && rate > 0.0 {
        return Ok(rate);
    }
    let count = answers.len();
    let message = format!("{count} answers do not give a rate: they need two different times");
    Err(Failure::bad_input("bench.no-rate", message).hint("measure with more --samples"))
}

fn milliseconds(answer: &Answer) -> f64 {
    let took = answer.published.saturating_duration_since(answer.offered);
    took.as_secs_f64() * 1e3
}

fn distinct(answers: &[Answer]) -> usize {
    let mut numbers: Vec<usize> = answers.iter().map(|answer| answer.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len()
}

/// Mean times of the stages.
fn stages(answers: &[Answer]) -> String {
    let count = answers.len().max(1) as f64;
    let mean = |stage: usize| {
        let sum: u64 = answers.iter().map(|answer| answer.stages_us[stage]).sum();
        format!("{} {:.1}", STAGES[stage], sum as f64 / count / 1e3)
    };
    let means: Vec<String> = (0..STAGES.len()).map(mean).collect();
    format!("mean ms: {}", means.join(", "))
}

fn told(kills: &[Kill], camera: &Camera<'_>, frames: usize, seconds: f64) -> String {
    format!(
        "{frames} frames in {seconds:.0} s, device and vault killed {} times each; {} frames sent \
         again, of which the device had {} already",
        kills.len() / 2,
        camera.resent.load(Ordering::Relaxed),
        camera.known.load(Ordering::Relaxed),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_answers_at_two_different_times() {
        let start = Instant::now();
        let answer = |number: u64| Answer {
            number: number as usize,
            offered: start,
            published: start + Duration::from_secs(number),
            label: 0,
            stages_us: [0; STAGES.len()],
        };
        let rate = rate_of(&[answer(0), answer(1), answer(4)]);
        assert_eq!(rate.ok(), Some(0.5));
        for answers in [&[][..], &[answer(1)], &[answer(1), answer(1)]] {
            assert!(rate_of(answers).is_err(), "{}", answers.len());
        }
    }
}
