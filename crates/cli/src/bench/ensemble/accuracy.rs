//! What an ensemble is worth: on ciphertexts as in clear, and against the best of its networks.

use std::path::PathBuf;

use scuro_ensemble::RuleKind;

use super::council;
use crate::bench::case::{Sampling, Settings};
use crate::ensemble::{Evaluation, Summary};
use crate::errors::Failure;
use crate::verbs::ensemble::evaluate::{self, EvaluateArguments, Mode};
use crate::verbs::ensemble::train::{self, TrainArguments};
use crate::workspace::Workspace;
use crate::{inputs, units};

/// How examples are dealt out to holders.
pub(super) const SPLITS: [&str; 4] = ["iid", "label-skew:0.5", "disjoint-classes", "size-skew:1"];
/// The one whose ensemble is scored on ciphertexts.
const ENCRYPTED: &str = SPLITS[1];
/// Ensembles of a split, with seeds from 1, without and with `--full`.
const SEEDS: (u64, u64) = (1, 5);
/// Passes of a holder over its examples: a fifth of the usual.
const EPOCHS: usize = 10;
/// Images without `--full` that are scored on ciphertexts.
const QUICK_IMAGES: usize = 40;
/// Percentage points.
const POINTS: f64 = 100.0;

/// The folders of ensembles, removed at the end if they were trained here.
pub(super) struct Folders {
    data: &'static str,
    paths: Vec<PathBuf>,
    _workspace: Option<Workspace>,
}

impl std::fmt::Debug for Folders {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.paths.fmt(out)
    }
}

impl Folders {
    /// Those in the folder of models, else such that are trained now.
    fn new(settings: &Settings<'_>) -> Result<Self, Failure> {
        let found = council::trained(settings)?.into_iter();
        let found = found.filter(|folder| folder.manifest.data == [MNIST]);
        let paths: Vec<PathBuf> = found.map(|folder| folder.path).collect();
        if !paths.is_empty() {
            return Ok(Self {
                data: MNIST,
                paths,
                _workspace: None,
            });
        }
        Self::train(settings)
    }

    fn train(settings: &Settings<'_>) -> Result<Self, Failure> {
        let data = match inputs::load(settings.context, "mnist:test", Some(1)) {
            Ok(_) => MNIST,
            Err(_) => "generated",
        };
        let workspace = Workspace::new(None)?;
        let seeds = if settings.full { SEEDS.1 } else { SEEDS.0 };
        let mut paths = Vec::new();
        for (split, seed) in SPLITS
            .iter()
            .flat_map(|s| (1..=seeds).map(move |seed| (s, seed)))
        {
            let path = workspace.path(&format!("{}-{seed}", split.replace(':', "-")));
            let arguments = TrainArguments::of(split, seed, data, EPOCHS, path.clone())?;
            train::run(&arguments, settings.context)?;
            paths.push(path);
        }
        Ok(Self {
            data,
            paths,
            _workspace: Some(workspace),
        })
    }
}

/// As the folders name it.
const MNIST: &str = "mnist";

/// The ensembles and what is known of them; the cases share it.
#[derive(Debug, Default)]
pub(super) struct Study {
    folders: std::sync::OnceLock<Result<Folders, Failure>>,
    clear: std::sync::OnceLock<Result<Evaluation, Failure>>,
    encrypted: std::sync::OnceLock<Result<Evaluation, Failure>>,
}

impl Study {
    fn folders(&self, settings: &Settings<'_>) -> Result<&Folders, Failure> {
        let made = self.folders.get_or_init(|| Folders::new(settings));
        made.as_ref().map_err(Clone::clone)
    }

    /// Every ensemble on the whole test set, in clear.
    fn clear(&self, settings: &Settings<'_>) -> Result<&Evaluation, Failure> {
        let folders = self.folders(settings)?;
        let score = || {
            let arguments = EvaluateArguments::of(folders.paths.clone(), folders.data, Mode::Clear);
            evaluate::scored(&arguments, settings.context)
        };
        self.clear.get_or_init(score).as_ref().map_err(Clone::clone)
    }

    /// One ensemble on ciphertexts.
    fn encrypted(&self, settings: &Settings<'_>) -> Result<&Evaluation, Failure> {
        let folders = self.folders(settings)?;
        let clear = self.clear(settings)?;
        let score = || {
            let of_split = clear.ensembles.iter().position(|e| e.split == ENCRYPTED);
            let path = folders.paths[of_split.unwrap_or(0)].clone();
            let arguments = EvaluateArguments::of(vec![path], folders.data, Mode::Encrypted);
            let limit = (!settings.full).then(|| settings.samples(QUICK_IMAGES));
            evaluate::scored(&arguments.limited(limit), settings.context)
        };
        self.encrypted
            .get_or_init(score)
            .as_ref()
            .map_err(Clone::clone)
    }
}

/// Share of test images for which a rule answers on ciphertexts as in clear.
pub(super) fn agreement(settings: &Settings<'_>, kind: RuleKind) -> Result<Sampling, Failure> {
    let found = settings.ensemble.study.encrypted(settings)?;
    let scores = found.ensembles.iter().flat_map(|ensemble| &ensemble.rules);
    let name = kind.to_string();
    let score = scores.into_iter().find(|score| score.rule == name);
    let (agreement, accuracy) = score
        .and_then(|score| Some((score.agreement?, score.accuracy)))
        .ok_or_else(|| Failure::internal(format!("the rule {name} was not scored")))?;
    let note = format!(
        "{} images of {}, {} holders, accuracy {}",
        found.images,
        found.data,
        found.ensembles.first().map_or(0, |e| e.holders.len()),
        units::percent(accuracy)
    );
    Ok(Sampling::single(agreement, settings.threads).note(note))
}

/// Percentage points by which the mean is better than the best single network, mean over seeds.
pub(super) fn margin(settings: &Settings<'_>, split: &str) -> Result<Sampling, Failure> {
    let found = settings.ensemble.study.clear(settings)?;
    let summary = found.splits.iter().find(|summary| summary.split == split);
    let summary = summary.ok_or_else(|| {
        let message = format!("no ensemble of the split {split} in the folder of models");
        Failure::bad_input("bench.model", message)
            .hint("train it there: `scuro ensemble train --split … --out DIR/ensembles/NAME`")
    })?;
    let margin = mean_margin(summary);
    let margin = margin.ok_or_else(|| Failure::internal("the mean was not scored".to_string()))?;
    Ok(margin.note(format!(
        "{} images of {}; {}",
        found.images,
        found.data,
        told(summary)
    )))
}

fn mean_margin(summary: &Summary) -> Option<Sampling> {
    let rule = summary.rules.iter().find(|rule| rule.rule == "mean")?;
    Some(Sampling::single(POINTS * rule.margin, 1))
}

/// Best single network, mean, spread.
fn told(summary: &Summary) -> String {
    let Some(rule) = summary.rules.iter().find(|rule| rule.rule == "mean") else {
        return String::new();
    };
    format!(
        "best single {}, mean rule {} ({} to {} over {} seeds), better in {}, by {:+.2} at least",
        units::percent(summary.best_single),
        units::percent(rule.accuracy),
        units::percent(rule.range[0]),
        units::percent(rule.range[1]),
        summary.ensembles,
        rule.wins,
        POINTS * rule.smallest_margin
    )
}
