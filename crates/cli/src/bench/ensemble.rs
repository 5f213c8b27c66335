//! Ensembles of model holders: what holders, coordinator and user take, and whether encrypted
//! answers are the clear ones.
//!
//! Ten copies of the built-in network with their weights disturbed stand for the holders: times and
//! sizes are those of any ten networks of that form.

mod accuracy;
mod council;
mod services;

use std::hint::black_box;
use std::sync::OnceLock;

use scuro_ensemble::RuleKind;

use super::case::{Case, Sampling, Settings};
use super::clock;
use crate::errors::Failure;
use crate::membership::DegreeChoice;
use council::{Council, Data};

/// Sequences of all holders measured.
const SAMPLES: usize = 15;
const MEGABYTE: f64 = 1e6;
const KILOBYTE: f64 = 1e3;

/// All cases of the group.
pub(super) const CASES: &[Case] = &[
    Case::lower(
        "ensemble.mnist.holders",
        "ten holders in sequence, one core",
        "ms",
        120.0,
        |s| holders(s, council(s, RuleKind::Mean)?),
    ),
    Case::lower(
        "ensemble.cifar10.holders",
        "five holders in sequence, one core",
        "ms",
        2000.0,
        |s| holders(s, photographs(s)?),
    ),
    Case::lower(
        "ensemble.mnist.coordinator.mean",
        "ten replies, one core",
        "ms",
        1.0,
        |s| coordinator(s, RuleKind::Mean),
    ),
    Case::lower(
        "ensemble.mnist.coordinator.weighted",
        "ten replies, one core",
        "ms",
        1.0,
        |s| coordinator(s, RuleKind::Weighted),
    ),
    Case::lower(
        "ensemble.mnist.coordinator.log-opinion",
        "ten replies, one core",
        "ms",
        1.0,
        |s| coordinator(s, RuleKind::LogOpinion),
    ),
    Case::lower(
        "ensemble.mnist.coordinator.stacking",
        "ten replies, one core",
        "ms",
        5.0,
        |s| coordinator(s, RuleKind::Stacking),
    ),
    Case::lower(
        "ensemble.mnist.coordinator.soft-vote",
        "ten replies, one core",
        "ms",
        1.0,
        |s| coordinator(s, RuleKind::SoftVote),
    ),
    Case::lower(
        "ensemble.mnist.coordinator.confidence",
        "ten replies, one core",
        "ms",
        1.0,
        |s| coordinator(s, RuleKind::Confidence),
    ),
    Case::lower(
        "ensemble.mnist.keys",
        "evaluation keys of all holders, as sent",
        "MB",
        50.0,
        keys,
    ),
    Case::untargeted(
        "ensemble.mnist.query",
        "one seeded query for all holders",
        "KB",
        query,
    ),
    Case::lower(
        "ensemble.mnist.reply",
        "the combined reply",
        "KB",
        100.0,
        reply,
    ),
    Case::higher(
        "ensemble.mnist.agreement.mean",
        "encrypted answer = clear answer; whole test set with --full",
        "share",
        0.999,
        |s| accuracy::agreement(s, RuleKind::Mean),
    ),
    Case::higher(
        "ensemble.mnist.agreement.weighted",
        "encrypted answer = clear answer; whole test set with --full",
        "share",
        0.999,
        |s| accuracy::agreement(s, RuleKind::Weighted),
    ),
    Case::higher(
        "ensemble.mnist.agreement.log-opinion",
        "encrypted answer = clear answer; whole test set with --full",
        "share",
        0.999,
        |s| accuracy::agreement(s, RuleKind::LogOpinion),
    ),
    Case::higher(
        "ensemble.mnist.agreement.stacking",
        "encrypted answer = clear answer; whole test set with --full",
        "share",
        0.999,
        |s| accuracy::agreement(s, RuleKind::Stacking),
    ),
    Case::higher(
        "ensemble.mnist.agreement.soft-vote",
        "encrypted answer = clear answer; whole test set with --full",
        "share",
        0.999,
        |s| accuracy::agreement(s, RuleKind::SoftVote),
    ),
    Case::higher(
        "ensemble.mnist.agreement.confidence",
        "encrypted answer = clear answer; whole test set with --full",
        "share",
        0.999,
        |s| accuracy::agreement(s, RuleKind::Confidence),
    ),
    Case::higher(
        "ensemble.mnist.agreement.majority",
        "encrypted answer = clear answer; whole test set with --full",
        "share",
        0.999,
        |s| accuracy::agreement(s, RuleKind::Majority),
    ),
    Case::higher(
        "ensemble.mnist.margin.iid",
        "mean rule less best single network; five seeds with --full",
        "points",
        0.0,
        |s| accuracy::margin(s, accuracy::SPLITS[0]),
    ),
    Case::higher(
        "ensemble.mnist.margin.label-skew",
        "mean rule less best single network; five seeds with --full",
        "points",
        0.0,
        |s| accuracy::margin(s, accuracy::SPLITS[1]),
    ),
    Case::higher(
        "ensemble.mnist.margin.disjoint-classes",
        "mean rule less best single network; five seeds with --full",
        "points",
        0.0,
        |s| accuracy::margin(s, accuracy::SPLITS[2]),
    ),
    Case::higher(
        "ensemble.mnist.margin.size-skew",
        "mean rule less best single network; five seeds with --full",
        "points",
        0.0,
        |s| accuracy::margin(s, accuracy::SPLITS[3]),
    ),
    Case::untargeted(
        "ensemble.services.latency.p50",
        "ten holders and a coordinator as processes, loopback",
        "ms",
        |s| services::latency(s, 0.5),
    ),
    Case::untargeted(
        "ensemble.services.latency.p99",
        "ten holders and a coordinator as processes, loopback",
        "ms",
        |s| services::latency(s, 0.99),
    ),
    Case::untargeted(
        "ensemble.services.up",
        "one query, as the user sends it",
        "KB",
        services::up,
    ),
    Case::lower(
        "ensemble.services.down",
        "its answer, as the user gets it",
        "KB",
        100.0,
        services::down,
    ),
    Case::untargeted(
        "ensemble.services.rate",
        "eight users at the same time",
        "answers/s",
        services::rate,
    ),
    Case::higher(
        "ensemble.services.killed",
        "answers of ten holders, two killed while they compute",
        "holders",
        8.0,
        services::killed,
    ),
];

/// What the cases share: it takes minutes.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Of digits, by the degree of what is computed of replies.
    digits: [OnceLock<Result<Council, Failure>>; 3],
    photographs: OnceLock<Result<Council, Failure>>,
    /// The run of holders and coordinator as processes.
    services: OnceLock<Result<services::Run, Failure>>,
    /// Trained ensembles and their accuracies.
    study: accuracy::Study,
}

/// The council for digits whose replies have room for a rule.
fn council<'a>(settings: &'a Settings<'_>, rule: RuleKind) -> Result<&'a Council, Failure> {
    let (at, degree) = match rule {
        RuleKind::SoftVote => (1, DegreeChoice::Square),
        RuleKind::Confidence => (2, DegreeChoice::Cube),
        _ => (0, DegreeChoice::Linear),
    };
    let make = || Council::new(settings, Data::Digits, degree);
    let made = settings.ensemble.digits[at].get_or_init(make);
    made.as_ref().map_err(Clone::clone)
}

/// The council for photographs.
fn photographs<'a>(settings: &'a Settings<'_>) -> Result<&'a Council, Failure> {
    let make = || Council::new(settings, Data::Photographs, DegreeChoice::Linear);
    let made = settings.ensemble.photographs.get_or_init(make);
    made.as_ref().map_err(Clone::clone)
}

/// All holders one after the other.
fn holders(settings: &Settings<'_>, council: &Council) -> Result<Sampling, Failure> {
    let session = &council.session;
    let query = session.open(&session.encrypt(&council.image)?)?;
    let samples = settings.samples(SAMPLES);
    session.ask(0, &query)?;
    let mut times = Vec::with_capacity(samples);
    for _ in 0..samples {
        let start = clock::thread_seconds();
        for holder in 0..council.members.programs.len() {
            black_box(session.ask(holder, &query)?);
        }
        times.push((clock::thread_seconds() - start) * 1e3);
    }
    Ok(Sampling::new(times, 1).note(council.note.clone()))
}

fn coordinator(settings: &Settings<'_>, rule: RuleKind) -> Result<Sampling, Failure> {
    let council = council(settings, rule)?;
    let (session, replies) = (&council.session, council.replies()?);
    session.combined(rule, &replies)?;
    let samples = settings.samples(SAMPLES);
    let mut times = Vec::with_capacity(samples);
    for _ in 0..samples {
        // As the coordinator has them: they are used up.
        let replies = replies.clone();
        let start = clock::thread_seconds();
        black_box(session.combined(rule, replies)?);
        times.push((clock::thread_seconds() - start) * 1e3);
    }
    Ok(Sampling::new(times, 1))
}

fn keys(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let session = &council(settings, RuleKind::Mean)?.session;
    Ok(Sampling::single(session.key_bytes() as f64 / MEGABYTE, 1))
}

fn query(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let council = council(settings, RuleKind::Mean)?;
    let bytes = council.session.encrypt(&council.image)?.to_bytes().len();
    Ok(Sampling::single(bytes as f64 / KILOBYTE, 1))
}

fn reply(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let council = council(settings, RuleKind::Mean)?;
    let replies = council.replies()?;
    let reply = council.session.combine(RuleKind::Mean, &replies)?;
    let bytes = reply.to_bytes().len();
    Ok(Sampling::single(bytes as f64 / KILOBYTE, 1))
}
