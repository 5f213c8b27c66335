//! The holders that `scuro bench ensemble` measures, with their coordinator and a user.

use std::path::PathBuf;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use scuro_ensemble::{Confidence, Exponents, Rule, SoftVote, Stacking, Weights};
use scuro_fhe::AnyCiphertext;
use scuro_nn::data::Preprocess;
use scuro_nn::graph::{Graph, Op};
use scuro_nn::tensor::Tensor;
use scuro_train::architectures::architecture;

use crate::bench::case::Settings;
use crate::compiled::{BUILT_IN, CompileArguments};
use crate::ensemble::members::{Members, Session};
use crate::ensemble::{Folder, MANIFEST};
use crate::errors::Failure;
use crate::inputs::{self, Examples};
use crate::membership::{DegreeChoice, MembershipArguments};

/// Holders of networks for digits, and for photographs.
pub(super) const HOLDERS: usize = 10;
const PHOTOGRAPH_HOLDERS: usize = 5;
/// Images that calibrate ranges.
const CALIBRATION: usize = 1024;
/// Relative size of what is added to the weights of copies.
const DISTURBANCE: f32 = 0.02;
/// As folders of ensembles name their data.
const PHOTOGRAPHS: &str = "cifar10";

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    Digits,
    Photographs,
}

/// Holders, coordinator and user, with rules that replies have room for.
#[derive(Debug)]
pub(crate) struct Council {
    pub(super) members: Members,
    pub(super) session: Session,
    pub(super) image: Vec<f32>,
    /// What the networks are.
    pub(super) note: String,
}

impl Council {
    pub(super) fn new(
        settings: &Settings<'_>,
        data: Data,
        degree: DegreeChoice,
    ) -> Result<Self, Failure> {
        let (networks, what) = match data {
            Data::Digits => (copies()?, "disturbed copies of one network".to_string()),
            Data::Photographs => photograph_networks(settings)?,
        };
        let images = images(settings, data)?;
        let options = CompileArguments {
            membership: MembershipArguments::first(degree),
            ..CompileArguments::standard(128)
        };
        let members = Members::compile(&networks, &options.options()?, &images)?;
        let session = Session::new(&members, &rules(degree, networks.len())?)?;
        let image = images.into_iter().next().map(|image| image.data);
        Ok(Self {
            members,
            session,
            image: image.unwrap_or_default(),
            note: format!("{what}; replies flooded"),
        })
    }

    /// Replies of all holders to the image.
    pub(super) fn replies(&self) -> Result<Vec<AnyCiphertext>, Failure> {
        let query = self.session.open(&self.session.encrypt(&self.image)?)?;
        let asked = (0..self.members.programs.len()).map(|holder| self.session.ask(holder, &query));
        let replies = asked.collect::<Result<Vec<_>, _>>()?;
        Ok(replies.into_iter().flatten().collect())
    }
}

/// Networks for photographs: trained ones if there are any, else such with weights at random.
fn photograph_networks(settings: &Settings<'_>) -> Result<(Vec<Graph>, String), Failure> {
    let mut folders = trained(settings)?.into_iter();
    if let Some(folder) = folders.find(|folder| folder.manifest.data == [PHOTOGRAPHS]) {
        let split = &folder.manifest.split;
        let what = format!("networks trained on {split} parts");
        return Ok((folder.networks, what));
    }
    let random = |seed| Ok::<_, Failure>(architecture("cifar10-shallow", None, seed)?.graph);
    let networks = (1..=PHOTOGRAPH_HOLDERS as u64).map(random);
    let networks = networks.collect::<Result<_, _>>()?;
    Ok((networks, "networks with random weights".into()))
}

/// The ensembles in the folder of models, by name.
pub(super) fn trained(settings: &Settings<'_>) -> Result<Vec<Folder>, Failure> {
    let Some(folder) = settings.models.as_ref().map(|m| m.join("ensembles")) else {
        return Ok(Vec::new());
    };
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return Ok(Vec::new());
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let is_ensemble = |path: &&PathBuf| path.join(MANIFEST).is_file();
    paths
        .iter()
        .filter(is_ensemble)
        .map(|path| Folder::open(path))
        .collect()
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

/// Digits, or colours at random where there are no photographs.
fn images(settings: &Settings<'_>, data: Data) -> Result<Vec<Tensor>, Failure> {
    let load = |name| inputs::load(settings.context, name, Some(CALIBRATION));
    let (found, shape) = match data {
        Data::Digits => {
            let digits = load("mnist:train").or_else(|_| load("generated:train"))?;
            (digits, [1, 28, 28])
        }
        Data::Photographs => match load("cifar10:train") {
            Ok(photographs) => (photographs, [3, 32, 32]),
            Err(_) => return colours(),
        },
    };
    let examples = Examples::new(found, &Preprocess::default(), &shape)?;
    examples.tensors(examples.len())
}

/// Pixels in `[0, 1]` at random.
fn colours() -> Result<Vec<Tensor>, Failure> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut image = |_| {
        let pixels = (0..3 * 32 * 32).map(|_| rng.next_u32() as f32 / u32::MAX as f32);
        Ok(Tensor::new(vec![3, 32, 32], pixels.collect())?)
    };
    (0..CALIBRATION).map(&mut image).collect()
}

/// Rules of full size; what their numbers are does not change the time.
fn rules(degree: DegreeChoice, holders: usize) -> Result<Vec<Rule>, Failure> {
    const CLASSES: usize = 10;
    let weights: Vec<u8> = (0..holders).map(|holder| 100 + holder as u8).collect();
    let row = |class: usize| -> Vec<f64> {
        let weight = |column: usize| ((column * 7 + class * 3) % 11) as f64 / 11.0 - 0.4;
        (0..holders * CLASSES).map(weight).collect()
    };
    Ok(match degree {
        DegreeChoice::Linear => vec![
            Rule::Mean,
            Rule::Weighted(Weights::new(weights.clone())?),
            Rule::LogOpinion(Exponents::new(weights, 0.01)?),
            Rule::Stacking(Stacking::new(
                (0..CLASSES).map(row).collect(),
                vec![0.1; CLASSES],
                vec![0.0; holders * CLASSES],
            )?),
        ],
        DegreeChoice::Square => vec![Rule::SoftVote(SoftVote::new(64.0, 0.25, 1.0, 0.0)?)],
        DegreeChoice::Cube => vec![Rule::Confidence(Confidence::new(64.0)?)],
    })
}
