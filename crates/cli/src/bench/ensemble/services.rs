//! Holders and a coordinator as processes on loopback: how long an answer takes, what travels, how
//! many a second there are for several users, and what is left when holders are killed.

use std::path::Path;
use std::time::{Duration, Instant};

use scuro_client::Model;
use scuro_server::ensemble::coordinator::HolderAddress;
use scuro_wire::WireError;
use scuro_wire::ensemble::Caller;
use scuro_wire::predict::{PredictQuery, PredictReply};
use tokio::runtime::Runtime;

use super::council::{Council, HOLDERS};
use crate::bench::case::{Sampling, Settings};
use crate::bench::gomez::edge::site::{self, Service};
use crate::context::Context;
use crate::errors::Failure;
use crate::verbs::ensemble::query::{self, User};
use crate::workspace::Workspace;
use crate::{files, services};

/// Queries, one after the other, that latencies are taken of.
const QUERIES: usize = 50;
/// Users who ask at the same time, and queries of each.
const USERS: usize = 8;
const QUERIES_EACH: usize = 5;
/// Holders killed while they compute, and further ones that make it fewer than the quorum.
const KILLED: usize = 2;
const FURTHER: usize = 4;
/// Longest wait for all processes to be up.
const PATIENCE: Duration = Duration::from_secs(120);
/// What users are told below the quorum.
const QUORUM: &str = "ensemble.quorum";
const KILOBYTE: f64 = 1e3;

/// What one run of the processes gave; every case reads its figure from it.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// From the encrypted query to the decrypted answer, sorted.
    latencies_ms: Vec<f64>,
    /// Bytes of a query and of its answer, without the heads of HTTP.
    up: usize,
    down: usize,
    /// Answers a second.
    rate: f64,
    /// What the answer said after holders were killed while they computed.
    kills: Kills,
}

/// What users were told when holders were killed.
#[derive(Debug, Clone)]
struct Kills {
    answered: usize,
    left_out: Vec<String>,
    same_label: bool,
    /// Code of the error below the quorum.
    quorum: String,
}

/// Milliseconds of the share of the queries.
pub(super) fn latency(settings: &Settings<'_>, share: f64) -> Result<Sampling, Failure> {
    let run = shared(settings)?;
    let last = run.latencies_ms.len().saturating_sub(1);
    let value = run.latencies_ms[(last as f64 * share).round() as usize];
    let note = format!(
        "{} queries one after the other, wall time from pixels to scores; {}",
        run.latencies_ms.len(),
        cores()
    );
    Ok(Sampling::single(value, settings.threads).note(note))
}

/// What the processes share.
fn cores() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{HOLDERS} holders of one thread each on {cores} cores")
}

/// Kilobytes of a query.
pub(super) fn up(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    Ok(kilobytes(settings, shared(settings)?.up))
}

/// Kilobytes of an answer.
pub(super) fn down(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    Ok(kilobytes(settings, shared(settings)?.down))
}

fn kilobytes(settings: &Settings<'_>, bytes: usize) -> Sampling {
    Sampling::single(bytes as f64 / KILOBYTE, settings.threads)
}

/// Answers a second while several users ask.
pub(super) fn rate(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let run = shared(settings)?;
    let each = format!("{USERS} users with keys of their own, {QUERIES_EACH} queries each");
    let note = format!("{each}; {}", cores());
    Ok(Sampling::single(run.rate, settings.threads).note(note))
}

/// Holders in the answer to a query during which some were killed; 0 if the answer does not say so,
/// if it is another, or if there is one below the quorum.
pub(super) fn killed(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let kills = shared(settings)?.kills;
    let as_before = match kills.same_label {
        true => "the same label",
        false => "another label",
    };
    let note = format!(
        "{KILLED} of {HOLDERS} killed: {as_before}, left out as {}; below the quorum: {}",
        kills.left_out.join(", "),
        kills.quorum
    );
    let told = kills.left_out.len() == KILLED && kills.quorum == QUORUM;
    let answered = match told && kills.same_label {
        true => kills.answered,
        false => 0,
    };
    Ok(Sampling::single(answered as f64, settings.threads).note(note))
}

/// The run that all cases share.
fn shared(settings: &Settings<'_>) -> Result<Run, Failure> {
    let run = || {
        let council = super::council(settings, scuro_ensemble::RuleKind::Mean)?;
        Network::start(settings, council)?.run(council)
    };
    settings.ensemble.services.get_or_init(run).clone()
}

/// The processes.
struct Network<'a> {
    settings: &'a Settings<'a>,
    workspace: Workspace,
    runtime: Runtime,
    holders: Vec<Service>,
    coordinator: HolderAddress,
    /// Killed when it is dropped.
    _hub: Service,
}

/// One user with a connection.
struct Asker {
    user: User,
    caller: Caller,
}

impl<'a> Network<'a> {
    /// Starts a holder for each program, and the coordinator.
    fn start(settings: &'a Settings<'a>, council: &Council) -> Result<Self, Failure> {
        let workspace = Workspace::new(None)?;
        let folder = workspace.path("");
        let binary = std::env::current_exe()
            .map_err(|error| Failure::internal(format!("where is this program? {error}")))?;
        let failed = |error| Failure::io("start services in", &folder, &error);
        let start = |words: &[&str]| {
            let words = [words, &["--threads", "1", "--quiet"]].concat();
            site::start(&binary, &folder, &words).map_err(failed)
        };
        let (mut holders, mut addresses) = (Vec::new(), Vec::new());
        for (at, program) in council.members.programs.iter().enumerate() {
            let file = format!("holder-{}.scuro", at + 1);
            files::write(&workspace.path(&file), &program.program().to_bytes())?;
            let listen = site::free_address().map_err(failed)?;
            let words = ["holder", "serve", "--model", &file, "--listen", &listen];
            holders.push(start(&words)?);
            addresses.push(listen);
        }
        let listen = site::free_address().map_err(failed)?;
        let list = addresses.join(",");
        let words = ["coordinator", "serve", "--holders", &list];
        let hub = start(&[&words[..], &["--listen", &listen]].concat())?;
        let coordinator = listen.parse();
        Ok(Self {
            settings,
            runtime: services::runtime()?,
            holders,
            coordinator: coordinator.map_err(|error| Failure::internal(format!("{error}")))?,
            _hub: hub,
            workspace,
        })
    }

    fn run(mut self, council: &Council) -> Result<Run, Failure> {
        let mut first = self.asker(council, 0)?;
        self.wait_for_all(&mut first, council)?;
        let mut latencies_ms = Vec::new();
        let (mut up, mut down) = (0, 0);
        for _ in 0..self.settings.samples(QUERIES) {
            let start = Instant::now();
            let (query, reply) = self.ask(&mut first, council)?;
            first.user.read(&query, &reply, None)?;
            latencies_ms.push(start.elapsed().as_secs_f64() * 1e3);
            (up, down) = (query.to_bytes().1.len(), reply.to_bytes().1.len());
        }
        latencies_ms.sort_by(f64::total_cmp);
        let rate = self.rate(council)?;
        let half = Duration::from_secs_f64(latencies_ms[latencies_ms.len() / 2] / 2e3);
        Ok(Run {
            latencies_ms,
            up,
            down,
            rate,
            kills: self.kill(&mut first, council, half)?,
        })
    }

    /// A user with keys of its own.
    fn asker(&self, council: &Council, index: usize) -> Result<Asker, Failure> {
        let folder = self.workspace.path(&format!("user-{index}"));
        std::fs::create_dir_all(&folder).map_err(|e| Failure::io("create", &folder, &e))?;
        let quiet = Context {
            quiet: true,
            ..self.settings.context.clone()
        };
        Ok(Asker {
            user: User::open(&folder, &council.members.face, &quiet)?,
            caller: query::caller(&self.coordinator, None)?,
        })
    }

    /// Asks until all holders answer.
    fn wait_for_all(&self, asker: &mut Asker, council: &Council) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            match self.ask(asker, council) {
                Ok((_, reply)) if reply.answered.len() == HOLDERS => return Ok(()),
                Err(failure) if start.elapsed() > PATIENCE => return Err(failure),
                Ok(_) if start.elapsed() > PATIENCE => {
                    let log = self.workspace.path(site::LOG);
                    let log = std::fs::read_to_string(log).unwrap_or_default();
                    return Err(Failure::internal(format!("holders do not come up: {log}")));
                }
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn ask(
        &self,
        asker: &mut Asker,
        council: &Council,
    ) -> Result<(PredictQuery, PredictReply), Failure> {
        self.runtime.block_on(asker.ask(council))
    }

    /// Answers a second of several users at the same time; their keys are there before.
    fn rate(&self, council: &Council) -> Result<f64, Failure> {
        let askers = (1..=USERS).map(|index| self.asker(council, index));
        let mut askers: Vec<Asker> = askers.collect::<Result<_, _>>()?;
        for asker in &mut askers {
            self.ask(asker, council)?;
        }
        let start = Instant::now();
        let runtime = &self.runtime;
        let ask_all = |asker: &mut Asker| -> Result<(), Failure> {
            (0..QUERIES_EACH).try_for_each(|_| runtime.block_on(asker.ask(council)).map(drop))
        };
        std::thread::scope(|scope| {
            let users = askers.iter_mut();
            let users: Vec<_> = users.map(|user| scope.spawn(|| ask_all(user))).collect();
            let ended = |_| Failure::internal("a user's thread ended".to_string());
            let mut users = users.into_iter();
            users.try_for_each(|user| user.join().map_err(ended)?)
        })?;
        Ok((USERS * QUERIES_EACH) as f64 / start.elapsed().as_secs_f64())
    }

    /// Kills holders while they compute, then so many that the rest is no quorum.
    fn kill(
        &mut self,
        asker: &mut Asker,
        council: &Council,
        after: Duration,
    ) -> Result<Kills, Failure> {
        let (query, reply) = self.ask(asker, council)?;
        let before = asker.user.read(&query, &reply, None)?.prediction.label;
        let victims = self.holders.split_off(HOLDERS - KILLED);
        let (query, reply) = std::thread::scope(|scope| {
            let killer = scope.spawn(move || {
                std::thread::sleep(after);
                victims.into_iter().try_for_each(Service::kill)
            });
            let answer = self.runtime.block_on(asker.ask(council));
            match killer.join() {
                Ok(Ok(())) => answer,
                _ => Err(Failure::internal("a holder cannot be killed".to_string())),
            }
        })?;
        let label = asker.user.read(&query, &reply, None)?.prediction.label;
        for holder in self.holders.drain(..FURTHER) {
            holder
                .kill()
                .map_err(|e| Failure::io("kill a process in", Path::new("."), &e))?;
        }
        let quorum = match self.ask(asker, council) {
            Ok(_) => "an answer".to_string(),
            Err(failure) => failure.code.to_string(),
        };
        Ok(Kills {
            answered: reply.answered.len(),
            left_out: reply.left_out.into_iter().map(|left| left.code).collect(),
            same_label: label == before,
            quorum,
        })
    }
}

impl Asker {
    /// Encrypts and asks.
    async fn ask(&mut self, council: &Council) -> Result<(PredictQuery, PredictReply), Failure> {
        let model: &Model = &council.members.face;
        let query = self.user.query(model, &council.image, None)?;
        let reply = query::ask(&mut self.caller, &self.user, model, &query).await;
        let (reply, _) = reply.map_err(|error: WireError| Failure::from(error))?;
        Ok((query, reply))
    }
}
