//! Replacing the activations of a trained network, and training what that breaks.

use crate::config::{Distillation, TrainConfig};
use crate::data::Examples;
use crate::error::{Error, Result};
use crate::history::History;
use crate::layers::size;
use crate::network::Network;
use crate::progress::Progress;
use crate::trainer::{Trained, train};
use scuro_nn::activation::{Calibration, Function, Interval, Plan, Which, replace};
use scuro_nn::graph::Graph;
use scuro_nn::tensor::Tensor;
use std::collections::BTreeMap;

/// Examples that calibrate the intervals of fits.
const CALIBRATION: usize = 256;
/// Examples of one batch of features.
const FEATURE_BATCH: usize = 256;

/// A trained network cut where its replacement begins to matter: what comes before never changes,
/// so its answers are computed once.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    extractor: Option<Graph>,
    network: Graph,
}

impl Subject {
    /// Cuts `graph` before its classifier if `plan` changes nothing else, and it has one.
    pub fn new(graph: &Graph, plan: Plan) -> Self {
        let whole = || Self {
            extractor: None,
            network: graph.clone(),
        };
        if plan.which == Which::All || plan.average_pools {
            return whole();
        }
        match graph.split_classifier() {
            Ok((features, network)) if has_activation(&network) => Self {
                extractor: Some(features),
                network,
            },
            _ => whole(),
        }
    }

    /// The part that changes.
    pub fn network(&self) -> &Graph {
        &self.network
    }

    /// Whether a feature extractor was cut off.
    pub fn is_classifier(&self) -> bool {
        self.extractor.is_some()
    }

    /// What enters the part that changes, for each example.
    ///
    /// # Errors
    /// [`Error::ExampleShape`] for examples of another shape than the network takes.
    pub fn features(&self, examples: &Examples) -> Result<Examples> {
        match &self.extractor {
            Some(extractor) => answers(extractor, examples),
            None => Ok(examples.clone()),
        }
    }

    /// The whole network with `changed` in place of the part that changes.
    ///
    /// # Errors
    /// If the two do not fit together.
    pub fn whole(&self, changed: &Graph) -> Result<Graph> {
        let first = self.extractor.as_ref().unwrap_or(&self.network);
        let whole = match &self.extractor {
            Some(extractor) => extractor.joined(changed)?,
            None => changed.clone(),
        };
        Ok(Graph {
            preprocess: first.preprocess.clone(),
            ..whole
        })
    }
}

fn has_activation(graph: &Graph) -> bool {
    let mut nodes = graph.nodes.iter();
    nodes.any(|node| Function::of(&node.op).is_some())
}

/// The answers of `graph`, as examples with the same labels.
fn answers(graph: &Graph, examples: &Examples) -> Result<Examples> {
    let mut network = Network::new(graph.clone(), &BTreeMap::new())?;
    if examples.shape() != network.input_shape() {
        let (expected, found) = (network.input_shape().to_vec(), examples.shape().to_vec());
        return Err(Error::ExampleShape { expected, found });
    }
    let (len, width) = (size(examples.shape()), network.classes());
    let mut values = Vec::with_capacity(examples.len() * width);
    for images in examples.values().chunks(len * FEATURE_BATCH) {
        values.extend_from_slice(network.predict(images));
    }
    Examples::new(vec![width], values, examples.labels().to_vec())
}

/// How a network is adapted.
#[derive(Debug, Clone, PartialEq)]
pub struct Adaptation {
    /// What is replaced.
    pub plan: Plan,
    /// Interval of the fits; without it, what enters each activation of the first examples.
    pub interval: Option<Interval>,
    /// Settings of the training afterwards; `None` only replaces.
    pub config: Option<TrainConfig>,
    /// Learn from the original's answers too: temperature and share of the loss.
    pub distil: Option<(f32, f32)>,
}

/// An adapted network.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapted {
    /// After replacing, before training.
    pub replaced: Graph,
    /// After training; the same without one.
    pub trained: Trained,
}

/// Replaces activations and pools of `graph` as `adaptation` says and trains it on `examples`.
/// Coefficients change only if the replacement is a learned one.
///
/// # Errors
/// As [`replace`] and [`train`].
pub fn adapt(
    graph: &Graph,
    adaptation: &Adaptation,
    examples: &Examples,
    progress: &mut (dyn Progress + Send),
) -> Result<Adapted> {
    let calibration: Vec<Tensor>;
    let intervals = match adaptation.interval {
        Some(interval) => Calibration::Given(interval),
        None => {
            let first = 0..examples.len().min(CALIBRATION);
            let tensor = |i| Tensor::new(examples.shape(), examples.image(i).to_vec());
            calibration = first.map(tensor).collect::<scuro_nn::Result<_>>()?;
            Calibration::Original(&calibration)
        }
    };
    let replaced = replace(graph, adaptation.plan, intervals)?;
    let Some(config) = &adaptation.config else {
        let trained = Trained {
            graph: replaced.clone(),
            history: History::default(),
        };
        return Ok(Adapted { replaced, trained });
    };
    let mut config = config.clone();
    config.learn_polynomials = adaptation.plan.activation.is_some_and(|a| a.is_learned());
    if let Some((temperature, weight)) = adaptation.distil {
        let teacher = graph.clone();
        config.distillation = Some(Distillation {
            teacher,
            temperature,
            weight,
        });
    }
    let trained = train(replaced.clone(), examples, &config, progress)?;
    Ok(Adapted { replaced, trained })
}
