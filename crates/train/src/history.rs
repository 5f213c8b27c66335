//! What happened in each epoch.

/// One epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Learning rate of its last batch.
    pub learning_rate: f32,
    /// Mean training loss, penalty included.
    pub loss: f64,
    /// Share of the training examples (distorted, if so configured) that were right.
    pub accuracy: f64,
    /// Mean range penalty per example.
    pub penalty: f64,
    /// Mean loss on the held-out examples.
    pub validation_loss: Option<f64>,
    /// Accuracy on the held-out examples.
    pub validation_accuracy: Option<f64>,
}

/// The epochs of one training job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// One record an epoch, in order.
    pub epochs: Vec<EpochRecord>,
    /// The epoch whose weights were kept.
    pub best: usize,
}
