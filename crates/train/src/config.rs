//! The settings of a training job.

use crate::augment::Augmentation;
use crate::error::{Error, Result};
use crate::network::RangePenalty;
use crate::optimiser::{Optimiser, Schedule};
use scuro_nn::graph::Graph;
use std::collections::BTreeMap;

/// Learning from the answers of another network beside the labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Distillation {
    /// Network that gives the soft answers.
    pub teacher: Graph,
    /// Softens both networks' answers; 1 leaves them.
    pub temperature: f32,
    /// Share of the soft answers in the loss, 0 to 1.
    pub weight: f32,
}

/// Everything that decides the outcome of a training job, beside the network and the examples.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// Seed of order, distortion, dropout and the choice of validation examples.
    pub seed: u64,
    /// Passes over the examples at most.
    pub epochs: usize,
    /// Examples per step.
    pub batch: usize,
    /// Update rule.
    pub optimiser: Optimiser,
    /// Base learning rate.
    pub learning_rate: f32,
    /// Course of the learning rate.
    pub schedule: Schedule,
    /// Epochs of linear rise at the start.
    pub warm_up_epochs: f32,
    /// Decoupled decay of matrices and kernels.
    pub weight_decay: f32,
    /// Largest Euclidean norm of all gradients together.
    pub clip_norm: Option<f32>,
    /// Share of the examples held out for validation; 0 for none.
    pub validation: f32,
    /// Epochs without a better validation accuracy before stopping.
    pub patience: Option<usize>,
    /// Distortion of the training images.
    pub augmentation: Option<Augmentation>,
    /// Penalty on what enters the activation functions.
    pub range_penalty: Option<RangePenalty>,
    /// Added to the scores in training alone, one number a class: [`log_prior`](crate::log_prior).
    pub log_prior: Option<Vec<f32>>,
    /// A teacher.
    pub distillation: Option<Distillation>,
    /// Dropout rates by the name of the node they follow.
    pub dropout: BTreeMap<String, f32>,
    /// Whether coefficients of polynomials are learned too.
    pub learn_polynomials: bool,
    /// Share that running statistics of batch normalisation keep at each step.
    pub statistics_momentum: f32,
    /// Threads; all cores if `None`. The weights do not depend on it.
    pub threads: Option<usize>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            epochs: 10,
            batch: 128,
            optimiser: Optimiser::adam(),
            learning_rate: 1e-3,
            schedule: Schedule::Constant,
            warm_up_epochs: 0.0,
            weight_decay: 0.0,
            clip_norm: None,
            validation: 0.1,
            patience: None,
            augmentation: None,
            range_penalty: None,
            log_prior: None,
            distillation: None,
            dropout: BTreeMap::new(),
            learn_polynomials: true,
            statistics_momentum: 0.9,
            threads: None,
        }
    }
}

impl TrainConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first setting that is out of range.
    pub fn check(&self) -> Result<()> {
        let (distillation, penalty) = (self.distillation.as_ref(), self.range_penalty);
        let share = |v: f32| (0.0..=1.0).contains(&v);
        let not_negative = |v: f32| v >= 0.0 && v.is_finite();
        let positive = |v: f32| v > 0.0 && v.is_finite();
        let checks = [
            ("epochs", self.epochs as f64, self.epochs > 0, "at least 1"),
            ("batch", self.batch as f64, self.batch > 0, "at least 1"),
            real("learning rate", self.learning_rate, positive, "positive"),
            real("warm-up", self.warm_up_epochs, not_negative, "0 or more"),
            real("weight decay", self.weight_decay, not_negative, "0 or more"),
            real(
                "clip norm",
                self.clip_norm.unwrap_or(1.0),
                positive,
                "positive",
            ),
            real(
                "validation",
                self.validation,
                |v| (0.0..1.0).contains(&v),
                "in [0, 1)",
            ),
            real(
                "statistics momentum",
                self.statistics_momentum,
                share,
                "0 to 1",
            ),
            real(
                "range limit",
                penalty.map_or(0.0, |p| p.limit),
                not_negative,
                "0 or more",
            ),
            real(
                "range weight",
                penalty.map_or(0.0, |p| p.weight),
                not_negative,
                "0 or more",
            ),
            real(
                "temperature",
                distillation.map_or(1.0, |d| d.temperature),
                positive,
                "positive",
            ),
            real(
                "teacher weight",
                distillation.map_or(0.0, |d| d.weight),
                share,
                "0 to 1",
            ),
        ];
        match checks.into_iter().find(|check| !check.2) {
            Some((setting, found, _, expected)) => Err(Error::Setting {
                setting,
                found,
                expected,
            }),
            None => Ok(()),
        }
    }
}

type Check = (&'static str, f64, bool, &'static str);

fn real(name: &'static str, value: f32, holds: impl Fn(f32) -> bool, range: &'static str) -> Check {
    (name, f64::from(value), holds(value), range)
}
