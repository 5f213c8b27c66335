//! What a training job tells while it runs. The crate reads no clock: rates are the caller's to
//! compute.

use crate::history::EpochRecord;
use scuro_nn::graph::Graph;
use std::ops::ControlFlow;

/// The state after one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchReport {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Batch of the epoch, from 1.
    pub batch: usize,
    /// Batches of an epoch.
    pub batches: usize,
    /// Examples seen in this epoch.
    pub images: usize,
    /// Mean loss of the epoch so far.
    pub loss: f64,
    /// Accuracy of the epoch so far, on the training examples as the network saw them.
    pub accuracy: f64,
}

/// Listens to a training job. Every method has an empty default; `()` listens to nothing.
pub trait Progress {
    /// A network starts to be trained: a recipe with a teacher has two phases.
    fn phase(&mut self, network: &str, epochs: usize) {
        let _ = (network, epochs);
    }

    /// A batch is done.
    fn batch(&mut self, report: &BatchReport) {
        let _ = report;
    }

    /// An epoch is done; `graph` holds the current weights, for checkpoints. `Break` ends the
    /// training here.
    fn epoch(&mut self, record: &EpochRecord, graph: &Graph) -> ControlFlow<()> {
        let _ = (record, graph);
        ControlFlow::Continue(())
    }
}

impl Progress for () {}
