//! Accuracy and agreement with encrypted weights on whole test sets: only trained networks have
//! any.

use std::path::PathBuf;

use super::subject::{Network, Point, Scheme, Subject};
use crate::bench::case::{Sampling, Settings};
use crate::compiled::{self, Compiled};
use crate::errors::Failure;
use crate::inputs::{self, Examples, InputArguments};
use crate::report::argmax;
use crate::scoring::{self, Mode};
use crate::verbs::accuracy::{self, Score};

/// Images without `--full`.
const QUICK_IMAGES: usize = 200;
/// Images of the whole network, which takes seconds an image.
const WHOLE_IMAGES: usize = 1000;
const WHOLE_QUICK_IMAGES: usize = 4;
/// Percentage points.
const POINTS: f64 = 100.0;

/// A data set and the networks trained on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    Mnist,
    Cifar10,
}

impl Data {
    fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::Cifar10 => "cifar10",
        }
    }

    /// The network with this activation.
    fn network(self, settings: &Settings<'_>, activation: &str) -> Result<PathBuf, Failure> {
        model(settings, &format!("{}-cnn-{activation}.onnx", self.name()))
    }

    fn test(
        self,
        settings: &Settings<'_>,
        limit: usize,
    ) -> Result<scuro_nn::data::Dataset, Failure> {
        let name = format!("{}:test", self.name());
        inputs::load(settings.context, &name, Some(limit))
    }
}

fn model(settings: &Settings<'_>, name: &str) -> Result<PathBuf, Failure> {
    let path = settings.models.as_ref().map(|folder| folder.join(name));
    path.filter(|path| path.is_file()).ok_or_else(|| {
        let message = format!("accuracy needs the trained network {name}");
        Failure::bad_input("bench.model", message)
            .hint("`just bench-models DIR` trains all of them; then --models DIR")
    })
}

fn compiled(
    settings: &Settings<'_>,
    path: &std::path::Path,
    point: Point,
    data: Data,
) -> Result<Compiled, Failure> {
    let graph = inputs::load_network(path, None)?;
    let training = format!("{}:train", data.name());
    let (input, arguments) = (InputArguments::default(), point.arguments());
    compiled::compile(settings.context, graph, Some(&training), &input, &arguments)
}

/// Share of test images with the answer of the same network in clear.
pub(super) fn agreement(settings: &Settings<'_>, data: Data) -> Result<Sampling, Failure> {
    let score = classifier_score(settings, data)?;
    Ok(Sampling::single(score.agreement, score.threads).note(told(&score)))
}

/// Percentage points that the float network with its ReLU is better on the same images.
pub(super) fn loss(settings: &Settings<'_>, data: Data) -> Result<Sampling, Failure> {
    let float = data.network(settings, "relu")?;
    let score = classifier_score(settings, data)?;
    let graph = inputs::load_network(&float, None)?;
    let images = data.test(settings, usize::MAX)?;
    let float = clear_accuracy(&graph, images)?;
    // A few hundred images say little about half a point: without --full the replaced network is
    // scored in clear on all of them, and agreement says what encryption adds.
    let (ours, how) = if settings.full {
        (score.accuracy, "encrypted")
    } else {
        let replaced = inputs::load_network(&data.network(settings, "modified-square")?, None)?;
        let images = data.test(settings, usize::MAX)?;
        (
            clear_accuracy(&replaced, images)?,
            "in clear, encrypted with --full",
        )
    };
    let note = format!("float network {float:.4}, modified square {ours:.4} ({how})");
    Ok(Sampling::single((float - ours) * POINTS, score.threads).note(note))
}

fn clear_accuracy(
    graph: &scuro_nn::graph::Graph,
    data: scuro_nn::data::Dataset,
) -> Result<f64, Failure> {
    let preprocess = graph.preprocess.clone().unwrap_or_default();
    let examples = Examples::new(data, &preprocess, graph.input_shape())?;
    let scores = scoring::reference(graph, &examples)?;
    Ok(share_right(&scores, &examples))
}

fn share_right(scores: &scoring::Scores, examples: &Examples) -> f64 {
    let right = |(i, scores): &(usize, &Vec<f64>)| argmax(scores) == examples.label(*i);
    let right = scores.iter().enumerate().filter(right).count();
    right as f64 / examples.len() as f64
}

/// The encrypted scoring of the classifier, which two cases share.
fn classifier_score(settings: &Settings<'_>, data: Data) -> Result<Score, Failure> {
    let known = settings.gomez.scores.borrow();
    if let Some((_, score)) = known.iter().find(|(known, _)| *known == data) {
        return Ok(score.clone());
    }
    drop(known);
    let path = data.network(settings, "modified-square")?;
    let point = Point::private(Network::Classifier, Scheme::Ckks, 128);
    let compiled = compiled(settings, &path, point, data)?;
    let limit = if settings.full {
        usize::MAX
    } else {
        QUICK_IMAGES
    };
    let images = data.test(settings, limit)?;
    let score = accuracy::score_compiled(settings.context, &compiled, images, Mode::Encrypted)?;
    settings
        .gomez
        .scores
        .borrow_mut()
        .push((data, score.clone()));
    Ok(score)
}

/// What the integer reference makes of the test images: the program on plain slots, whose scores
/// the encrypted ones have to equal.
#[derive(Debug, Clone)]
pub(super) struct Integers {
    accuracy: f64,
    /// Share of images with equal scores, in every digit.
    equal: f64,
    images: usize,
}

fn integers(settings: &Settings<'_>, data: Data) -> Result<Integers, Failure> {
    let known = settings.gomez.integers.borrow();
    if let Some((_, found)) = known.iter().find(|(known, _)| *known == data) {
        return Ok(found.clone());
    }
    drop(known);
    let point = Point::private(Network::Classifier, Scheme::Bgv, 128);
    let path = data.network(settings, "modified-square")?;
    let compiled = compiled(settings, &path, point, data)?;
    let examples = compiled.examples(data.test(settings, usize::MAX)?)?;
    let (context, model) = (settings.context, &compiled.model);
    let reference = scoring::clear_program(context, model, &examples)?;
    let accuracy = share_right(&reference, &examples);
    let limit = if settings.full {
        usize::MAX
    } else {
        QUICK_IMAGES
    };
    let examples = compiled.examples(data.test(settings, limit)?)?;
    let encrypted = scoring::encrypted(context, model, &examples)?;
    let pairs = reference.iter().zip(&encrypted);
    let equal = pairs.filter(|(a, b)| **a == b.scores);
    let found = Integers {
        accuracy,
        equal: equal.count() as f64 / examples.len() as f64,
        images: examples.len(),
    };
    let mut kept = settings.gomez.integers.borrow_mut();
    kept.push((data, found.clone()));
    Ok(found)
}

/// Share of images whose decrypted scores equal the integer reference's in every digit.
pub(super) fn exact(settings: &Settings<'_>, data: Data) -> Result<Sampling, Failure> {
    let found = integers(settings, data)?;
    let note = format!("{} images", found.images);
    Ok(Sampling::single(found.equal, settings.threads).note(note))
}

/// Percentage points that the float network with its ReLU is better than the integers, on all
/// images.
pub(super) fn exact_loss(settings: &Settings<'_>, data: Data) -> Result<Sampling, Failure> {
    let float = inputs::load_network(&data.network(settings, "relu")?, None)?;
    let float = clear_accuracy(&float, data.test(settings, usize::MAX)?)?;
    let found = integers(settings, data)?;
    let note = format!(
        "float network {float:.4}, integers {:.4}, equal to the decrypted ones on {} of {} images",
        found.accuracy,
        (found.equal * found.images as f64).round(),
        found.images
    );
    let loss = (float - found.accuracy) * POINTS;
    Ok(Sampling::single(loss, settings.threads).note(note))
}

/// Share of images for which the wholly encrypted network answers as in clear.
pub(super) fn whole(
    settings: &Settings<'_>,
    point: Point,
    mode: Mode,
) -> Result<Sampling, Failure> {
    // Without it there would be a network with random weights.
    model(settings, "cifar10-he.onnx")?;
    let subject = Subject::get(settings, point)?;
    let limit = match (mode, settings.full) {
        (Mode::Encrypted, true) => WHOLE_IMAGES,
        (Mode::Encrypted, false) => WHOLE_QUICK_IMAGES,
        (_, true) => usize::MAX,
        (_, false) => QUICK_IMAGES,
    };
    let images = Data::Cifar10.test(settings, limit)?;
    let score = accuracy::score_compiled(settings.context, &subject.compiled, images, mode)?;
    Ok(Sampling::single(score.agreement, score.threads).note(told(&score)))
}

/// Percentage points that the ReLU and max-pool original is better in clear than the network that
/// can be encrypted whole.
pub(super) fn whole_loss(settings: &Settings<'_>) -> Result<Sampling, Failure> {
    let accuracy = |name: &str| {
        let graph = inputs::load_network(&model(settings, name)?, None)?;
        clear_accuracy(&graph, Data::Cifar10.test(settings, usize::MAX)?)
    };
    let original = accuracy("cifar10-cnn-relu.onnx")?;
    let friendly = accuracy("cifar10-he.onnx")?;
    let note = format!("original {original:.4}, polynomial {friendly:.4}");
    Ok(Sampling::single((original - friendly) * POINTS, 1).note(note))
}

fn told(score: &Score) -> String {
    format!(
        "{} images in {:.1} s, {} unlike clear, accuracy {:.4}, worst score error {:.2e}",
        score.images,
        score.seconds,
        score.disagreements.len(),
        score.accuracy,
        score.worst_logit_error
    )
}
