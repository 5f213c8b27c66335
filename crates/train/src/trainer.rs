//! The training loop.

use crate::augment::Augmentation;
use crate::config::TrainConfig;
use crate::data::Examples;
use crate::error::{Error, Result};
use crate::history::{EpochRecord, History};
use crate::layers::size;
use crate::loss::{SoftTargets, cross_entropy};
use crate::network::{Network, ParameterGradients};
use crate::optimiser::{Updates, clip_norm};
use crate::picture::Picture;
use crate::progress::{BatchReport, Progress};
use crate::random::{Purpose, permutation, stream};
use rayon::prelude::*;
use scuro_nn::graph::Graph;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Examples of one batch when scoring.
const SCORING_BATCH: usize = 256;

/// A trained network and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The network with its final weights: the best on the held-out examples, or the last.
    pub graph: Graph,
    /// Loss and accuracy of each epoch.
    pub history: History,
}

/// Accuracy and mean loss of a network on labelled examples, and what enters its activation
/// functions.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Largest magnitude entering each activation function, by node name.
    pub activation_ranges: Vec<(String, f32)>,
}

/// Trains `graph` on `examples`. Equal arguments give equal weights, whatever the number of
/// threads.
///
/// # Errors
/// [`Error`] for a network, examples or settings that do not fit, or a loss that is no longer
/// finite.
pub fn train(
    graph: Graph,
    examples: &Examples,
    config: &TrainConfig,
    progress: &mut (dyn Progress + Send),
) -> Result<Trained> {
    config.check()?;
    in_pool(config.threads, || {
        Job::new(graph, examples, config)?.run(progress)
    })
}

/// Scores `graph` on `examples`, with running statistics.
///
/// # Errors
/// [`Error`] if the network and the examples do not fit.
pub fn score(graph: &Graph, examples: &Examples) -> Result<Score> {
    let mut network = Network::new(graph.clone(), &BTreeMap::new())?;
    examples.check(network.input_shape(), network.classes())?;
    Ok(score_network(&mut network, examples))
}

/// Scores of `graph` for every example, one example after another, with running statistics.
///
/// # Errors
/// [`Error`] if the network and the examples do not fit.
pub fn logits(graph: &Graph, examples: &Examples) -> Result<Vec<f32>> {
    let mut network = Network::new(graph.clone(), &BTreeMap::new())?;
    examples.check(network.input_shape(), network.classes())?;
    let batches = examples
        .values()
        .chunks(SCORING_BATCH * size(examples.shape()));
    let mut all = Vec::with_capacity(examples.len() * network.classes());
    batches.for_each(|images| all.extend_from_slice(network.predict(images)));
    Ok(all)
}

fn in_pool<T: Send>(threads: Option<usize>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let Some(threads) = threads else {
        return work();
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|source| Error::Threads { threads, source })?
        .install(work)
}

fn score_network(network: &mut Network, examples: &Examples) -> Score {
    let (classes, indices) = (network.classes(), (0..examples.len()).collect::<Vec<_>>());
    let (mut loss, mut correct) = (0.0, 0);
    let mut ranges: Vec<(String, f32)> = Vec::new();
    for batch in indices.chunks(SCORING_BATCH) {
        let batch = examples.select(batch);
        let logits = network.predict(batch.values());
        let found = cross_entropy(logits, batch.labels(), classes, None);
        loss += found.mean * batch.len() as f64;
        correct += found.correct;
        let seen = network.activation_ranges();
        if ranges.is_empty() {
            ranges = seen;
        } else {
            ranges
                .iter_mut()
                .zip(seen)
                .for_each(|(r, s)| r.1 = r.1.max(s.1));
        }
    }
    let count = examples.len().max(1) as f64;
    Score {
        accuracy: correct as f64 / count,
        loss: loss / count,
        activation_ranges: ranges,
    }
}

/// One run of the loop.
struct Job<'a> {
    config: &'a TrainConfig,
    network: Network,
    teacher: Option<Network>,
    training: Examples,
    validation: Examples,
    updates: Updates,
    gradients: ParameterGradients,
    images: Vec<f32>,
    labels: Vec<usize>,
    step: usize,
}

/// Sums over an epoch.
#[derive(Default)]
struct Sums {
    images: usize,
    loss: f64,
    correct: usize,
    penalty: f64,
}

impl<'a> Job<'a> {
    fn new(graph: Graph, examples: &Examples, config: &'a TrainConfig) -> Result<Self> {
        let mut network = Network::new(graph, &config.dropout)?;
        examples.check(network.input_shape(), network.classes())?;
        if let Some(prior) = &config.log_prior {
            let (expected, found) = (network.classes(), prior.len());
            if expected != found {
                return Err(Error::PriorClasses { expected, found });
            }
        }
        let teacher = config.distillation.as_ref().map(|d| d.teacher.clone());
        let teacher = teacher
            .map(|graph| Network::new(graph, &BTreeMap::new()))
            .transpose()?;
        if let Some(teacher) = &teacher {
            examples.check(teacher.input_shape(), teacher.classes())?;
            let (expected, found) = (network.classes(), teacher.classes());
            if expected != found {
                return Err(Error::TeacherClasses { expected, found });
            }
        }
        let (training, validation) = examples.split(config.validation, config.seed)?;
        let gradients = network.zero_gradients(config.learn_polynomials);
        let updates = Updates::new(config.optimiser, config.weight_decay, gradients.clone());
        let (images, labels) = (Vec::new(), Vec::new());
        let job = Self {
            config,
            network,
            teacher,
            training,
            validation,
            updates,
            gradients,
            images,
            labels,
            step: 0,
        };
        Ok(job)
    }

    fn run(mut self, progress: &mut (dyn Progress + Send)) -> Result<Trained> {
        progress.phase(&self.network.graph.name, self.config.epochs);
        let mut history = History::default();
        let mut best: Option<(f64, Graph)> = None;
        for epoch in 1..=self.config.epochs {
            let record = self.epoch(epoch, progress)?;
            history.epochs.push(record);
            let score = record.validation_accuracy.unwrap_or(epoch as f64);
            if best.as_ref().is_none_or(|(top, _)| score >= *top) {
                best = Some((score, self.network.graph.clone()));
                history.best = epoch;
            }
            let stop = progress.epoch(&record, &self.network.graph).is_break();
            let tired = self
                .config
                .patience
                .is_some_and(|p| epoch - history.best >= p);
            if stop || tired {
                break;
            }
        }
        let graph = best.map_or(self.network.graph, |(_, graph)| graph);
        Ok(Trained { graph, history })
    }

    fn batches(&self) -> usize {
        self.training.len().div_ceil(self.config.batch)
    }

    fn epoch(&mut self, epoch: usize, progress: &mut (dyn Progress + Send)) -> Result<EpochRecord> {
        let mut rng = stream(self.config.seed, Purpose::Order, epoch as u64);
        let order = permutation(&mut rng, self.training.len());
        let batches = self.batches();
        let mut sums = Sums::default();
        for (batch, indices) in order.chunks(self.config.batch).enumerate() {
            self.load(epoch, indices);
            self.update(&mut sums);
            let (images, count) = (sums.images, sums.images as f64);
            let loss = sums.loss / count;
            if !loss.is_finite() {
                return Err(Error::Diverged {
                    epoch,
                    batch: batch + 1,
                });
            }
            let accuracy = sums.correct as f64 / count;
            let (epochs, batch) = (self.config.epochs, batch + 1);
            progress.batch(&BatchReport {
                epoch,
                epochs,
                batch,
                batches,
                images,
                loss,
                accuracy,
            });
        }
        Ok(self.record(epoch, &sums))
    }

    fn record(&mut self, epoch: usize, sums: &Sums) -> EpochRecord {
        let count = sums.images.max(1) as f64;
        let held_out = !self.validation.is_empty();
        let score = held_out.then(|| score_network(&mut self.network, &self.validation));
        EpochRecord {
            epoch,
            learning_rate: self.rate(self.step.saturating_sub(1)),
            loss: sums.loss / count,
            accuracy: sums.correct as f64 / count,
            penalty: sums.penalty / count,
            validation_loss: score.as_ref().map(|score| score.loss),
            validation_accuracy: score.as_ref().map(|score| score.accuracy),
        }
    }

    fn rate(&self, step: usize) -> f32 {
        let batches = self.batches();
        let warm_up = (self.config.warm_up_epochs * batches as f32).round() as usize;
        let steps = self.config.epochs * batches;
        self.config.learning_rate * self.config.schedule.share(step, steps, batches, warm_up)
    }

    /// Gathers and distorts the examples at `indices`.
    fn load(&mut self, epoch: usize, indices: &[usize]) {
        let len = size(self.training.shape());
        self.labels.clear();
        self.labels
            .extend(indices.iter().map(|&i| self.training.labels()[i]));
        self.images.resize(indices.len() * len, 0.0);
        let (training, seed) = (&self.training, self.config.seed);
        let augmentation = self.config.augmentation.zip(training.picture());
        let images = self.images.par_chunks_exact_mut(len).with_min_len(8);
        images
            .zip(indices)
            .for_each(|(out, &index)| match augmentation {
                Some((augmentation, picture)) => {
                    let number = (epoch * training.len() + index) as u64;
                    distort(
                        &augmentation,
                        training.image(index),
                        picture,
                        seed,
                        number,
                        out,
                    );
                }
                None => out.copy_from_slice(training.image(index)),
            });
    }

    /// One step of the optimiser on the loaded batch.
    fn update(&mut self, sums: &mut Sums) {
        let config = self.config;
        let classes = self.network.classes();
        let soft = match (&config.distillation, &mut self.teacher) {
            (Some(d), Some(teacher)) => {
                let logits = teacher.predict(&self.images);
                Some(SoftTargets {
                    logits,
                    temperature: d.temperature,
                    weight: d.weight,
                })
            }
            _ => None,
        };
        let logits = self
            .network
            .forward(&self.images, config.seed, self.step as u64);
        let logits = with_prior(logits, config.log_prior.as_deref());
        let loss = cross_entropy(&logits, &self.labels, classes, soft);
        let penalty =
            self.network
                .backward(loss.gradient, config.range_penalty, &mut self.gradients);
        if let Some(limit) = config.clip_norm {
            clip_norm(&mut self.gradients, limit);
        }
        let rate = self.rate(self.step);
        self.updates
            .apply(&mut self.network.graph, &self.gradients, rate);
        self.network.update_statistics(config.statistics_momentum);
        self.step += 1;
        let count = self.labels.len();
        sums.images += count;
        sums.loss += (loss.mean + penalty) * count as f64;
        sums.correct += loss.correct;
        sums.penalty += penalty * count as f64;
    }
}

/// Scores with the prior of their class added.
fn with_prior<'a>(logits: &'a [f32], prior: Option<&[f32]>) -> Cow<'a, [f32]> {
    let Some(prior) = prior else {
        return Cow::Borrowed(logits);
    };
    let sums = logits.iter().zip(prior.iter().cycle());
    Cow::Owned(sums.map(|(score, added)| score + added).collect())
}

fn distort(
    augmentation: &Augmentation,
    image: &[f32],
    picture: &Picture,
    seed: u64,
    number: u64,
    out: &mut [f32],
) {
    let mut rng = stream(seed, Purpose::Augmentation, number);
    augmentation.apply_into(image, picture, &mut rng, out);
}
