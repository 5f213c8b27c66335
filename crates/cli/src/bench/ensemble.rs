//! Ensembles of model holders: what holders, coordinator and user take, and whether encrypted
//! answers are the clear ones.
//!
//! Ten copies of the built-in network with their weights disturbed stand for the holders: times and
//! sizes are those of any ten networks of that form.

use std::hint::black_box;
use std::sync::OnceLock;

use scuro_ensemble::{Confidence, Exponents, Rule, RuleKind, SoftVote, Stacking, Weights};
use scuro_nn::data::Preprocess;
use scuro_nn::graph::{Graph, Op};
use scuro_nn::tensor::Tensor;

use super::case::{Case, Sampling, Settings};
use super::clock;
use crate::compiled::{BUILT_IN, CompileArguments};
use crate::ensemble::members::{Members, Session};
use crate::errors::Failure;
use crate::inputs::{self, Examples};
use crate::membership::{DegreeChoice, MembershipArguments};

/// Holders of the MNIST cases.
const HOLDERS: usize = 10;
/// Sequences of all holders measured.
const SAMPLES: usize = 15;
/// Images that calibrate ranges.
const CALIBRATION: usize = 1024;
/// Relative size of what is added to the weights of copies.
const DISTURBANCE: f32 = 0.02;
const MEGABYTE: f64 = 1e6;
const KILOBYTE: f64 = 1e3;

/// All cases of the group.
pub(super) const CASES: &[Case] = &[
    Case::lower(
        "ensemble.mnist.holders",
        "ten holders in sequence, one core",
        "ms",
        120.0,
        holders,
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
];

/// What the cases share: compiled once, it takes minutes.
pub(crate) type Shared = [OnceLock<Result<Council, Failure>>; 3];

/// Holders, coordinator and user, with rules that replies have room for.
#[derive(Debug)]
pub(crate) struct Council {
    session: Session,
    image: Vec<f32>,
}

impl Council {
    fn new(settings: &Settings<'_>, degree: DegreeChoice) -> Result<Self, Failure> {
        let networks = copies()?;
        let images = images(settings, networks[0].input_shape())?;
        let tensors = images.tensors(images.len())?;
        let options = CompileArguments {
            membership: MembershipArguments::first(degree),
            ..CompileArguments::standard(128)
        };
        let members = Members::compile(&networks, &options.options()?, &tensors)?;
        let session = Session::new(&members, &rules(degree)?)?;
        let image = images.input(0);
        Ok(Self { session, image })
    }
}

/// The council whose replies have room for a rule.
fn council<'a>(settings: &'a Settings<'_>, rule: RuleKind) -> Result<&'a Council, Failure> {
    let (at, degree) = match rule {
        RuleKind::SoftVote => (1, DegreeChoice::Square),
        RuleKind::Confidence => (2, DegreeChoice::Cube),
        _ => (0, DegreeChoice::Linear),
    };
    let made = settings.ensemble[at].get_or_init(|| Council::new(settings, degree));
    made.as_ref().map_err(Clone::clone)
}

/// The built-in network ten times, each with other weights.
fn copies() -> Result<Vec<Graph>, Failure> {
    let graph = scuro_nn::import::onnx::from_bytes(BUILT_IN)?;
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut disturb = |tensor: &mut Tensor| {
        let largest = tensor.data.iter().fold(0.0f32, |max, w| max.max(w.abs()));
        let values = tensor.data.iter_mut();
        values.for_each(|w| *w += DISTURBANCE * largest * noise());
    };
    let mut copy = |_| {
        let mut graph = graph.clone();
        for node in &mut graph.nodes {
            match &mut node.op {
                Op::Dense { weight, .. } | Op::Conv2d { weight, .. } => disturb(weight),
                _ => {}
            }
        }
        graph
    };
    Ok((0..HOLDERS).map(&mut copy).collect())
}

fn images(settings: &Settings<'_>, shape: &[usize]) -> Result<Examples, Failure> {
    let data = inputs::load(settings.context, "mnist:train", Some(CALIBRATION));
    let data = match data {
        Ok(data) => data,
        Err(_) => inputs::load(settings.context, "generated:train", Some(CALIBRATION))?,
    };
    Examples::new(data, &Preprocess::default(), shape)
}

/// Rules of full size; what their numbers are does not change the time.
fn rules(degree: DegreeChoice) -> Result<Vec<Rule>, Failure> {
    const CLASSES: usize = 10;
    let weights: Vec<u8> = (0..HOLDERS).map(|holder| 100 + holder as u8).collect();
    let row = |class: usize| -> Vec<f64> {
        let weight = |column: usize| ((column * 7 + class * 3) % 11) as f64 / 11.0 - 0.4;
        (0..HOLDERS * CLASSES).map(weight).collect()
    };
    Ok(match degree {
        DegreeChoice::Linear => vec![
            Rule::Mean,
            Rule::Weighted(Weights::new(weights.clone())?),
            Rule::LogOpinion(Exponents::new(weights, 0.01)?),
            Rule::Stacking(Stacking::new(
                (0..CLASSES).map(row).collect(),
                vec![0.1; CLASSES],
                vec![0.0; HOLDERS * CLASSES],
            )?),
        ],
        DegreeChoice::Square => vec![Rule::SoftVote(SoftVote::new(64.0, 0.25, 1.0, 0.0)?)],
        DegreeChoice::Cube => vec![Rule::Confidence(Confidence::new(64.0)?)],
    })
}

fn holders(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let Council { session, image } = council(settings, RuleKind::Mean)?;
    let query = session.open(&session.encrypt(image)?)?;
    let samples = settings.samples(SAMPLES);
    session.ask(0, &query)?;
    let mut times = Vec::with_capacity(samples);
    for _ in 0..samples {
        let start = clock::thread_seconds();
        for holder in 0..HOLDERS {
            black_box(session.ask(holder, &query)?);
        }
        times.push((clock::thread_seconds() - start) * 1e3);
    }
    Ok(Sampling::new(times, 1).note("disturbed copies of one network; replies flooded"))
}

fn coordinator(settings: &Settings<'_>, rule: RuleKind) -> Result<Sampling, Failure> {
    let Council { session, image } = council(settings, rule)?;
    let query = session.open(&session.encrypt(image)?)?;
    let mut replies = Vec::new();
    for holder in 0..HOLDERS {
        replies.extend(session.ask(holder, &query)?);
    }
    session.combined(rule, &replies)?;
    let samples = settings.samples(SAMPLES);
    let mut fault = None;
    let sampling = clock::microseconds(samples, || {
        if let Err(failure) = session.combined(rule, &replies).map(black_box) {
            fault = Some(failure);
        }
    });
    match fault {
        Some(failure) => Err(failure),
        None => Ok(sampling.scaled(1e-3)),
    }
}

fn keys(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let Council { session, .. } = council(settings, RuleKind::Mean)?;
    Ok(Sampling::single(session.key_bytes() as f64 / MEGABYTE, 1))
}

fn query(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let Council { session, image } = council(settings, RuleKind::Mean)?;
    let bytes = session.encrypt(image)?.to_bytes().len();
    Ok(Sampling::single(bytes as f64 / KILOBYTE, 1))
}

fn reply(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let Council { session, image } = council(settings, RuleKind::Mean)?;
    let query = session.open(&session.encrypt(image)?)?;
    let mut replies = Vec::new();
    for holder in 0..HOLDERS {
        replies.extend(session.ask(holder, &query)?);
    }
    let bytes = session.combine(RuleKind::Mean, &replies)?.to_bytes().len();
    Ok(Sampling::single(bytes as f64 / KILOBYTE, 1))
}
