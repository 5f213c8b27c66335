//! Scoring a network on labelled images.

use crate::data::{Dataset, Preprocess};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::reference::Executor;
use crate::tensor::argmax;

/// How well a network classified.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// Images scored.
    pub count: usize,
    /// Images classified right.
    pub correct: usize,
    /// Class scores, image after image.
    pub scores: Vec<f32>,
    /// Predicted class of each image.
    pub predictions: Vec<u8>,
    /// `confusion[label][prediction]`.
    pub confusion: Vec<Vec<usize>>,
    /// Whether images were reduced to half height and width to fit the network.
    pub halved: bool,
}

impl Classification {
    /// Share of images classified right; 0 without images.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count.max(1) as f64
    }
}

/// Runs the reference executor over the first `limit` images of `data`.
///
/// # Errors
/// A fault of the graph; [`Error::ImageShape`] and [`Error::Normalisation`] if the images do not
/// fit; [`Error::Classes`] if the answer is no list of class scores.
pub fn classify(
    graph: &Graph,
    data: &Dataset,
    preprocess: &Preprocess,
    limit: Option<usize>,
) -> Result<Classification> {
    let executor = Executor::new(graph)?;
    let prepared = preprocess.prepare(data.shape, executor.input_shape())?;
    let classes = data.classes.len();
    let outputs: usize = executor.output_shape().iter().product();
    if outputs != classes || classes > 256 {
        return Err(Error::Classes {
            found: executor.output_shape().to_vec(),
            classes,
        });
    }
    let count = limit.unwrap_or(usize::MAX).min(data.len());
    let scores = executor.run_each(count, |i, out| prepared.fill(data.image(i), out));
    let predictions: Vec<u8> = scores
        .chunks_exact(classes)
        .map(|s| argmax(s) as u8)
        .collect();
    let mut confusion = vec![vec![0; classes]; classes];
    for (&label, &prediction) in data.labels.iter().zip(&predictions) {
        confusion[usize::from(label)][usize::from(prediction)] += 1;
    }
    let correct = (0..classes).map(|class| confusion[class][class]).sum();
    let halved = prepared.is_halved();
    Ok(Classification {
        count,
        correct,
        scores,
        predictions,
        confusion,
        halved,
    })
}
