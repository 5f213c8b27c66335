//! What a demo run found: the data behind the HTML report, also written as JSON.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// One run, complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunReport {
    /// Always `scuro-run`, so that `scuro report` recognises the file.
    pub(crate) kind: String,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// The network.
    pub(crate) model: ModelCard,
    /// The images.
    pub(crate) data: DataCard,
    /// Answers image by image.
    pub(crate) images: Vec<ImageResult>,
    /// Answers counted.
    pub(crate) accuracy: AccuracyCard,
    /// Time and noise of each step of the program.
    pub(crate) steps: Vec<StepResult>,
    /// What protects what from whom.
    pub(crate) security: SecurityCard,
    /// Sizes of everything that is stored or sent.
    pub(crate) sizes: Vec<SizeRow>,
    /// Wall time of each stage.
    pub(crate) stages: Vec<StageRow>,
}

/// Value of [`RunReport::kind`].
pub(crate) const RUN_KIND: &str = "scuro-run";

/// The network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ModelCard {
    /// Name.
    pub(crate) name: String,
    /// Where it came from.
    pub(crate) origin: String,
    /// BLAKE3 digest of the file.
    pub(crate) digest: String,
    /// Shape of one input.
    pub(crate) input: Vec<usize>,
    /// Number of classes.
    pub(crate) classes: usize,
    /// Number of weights.
    pub(crate) parameters: usize,
    /// Layers in order.
    pub(crate) layers: Vec<LayerRow>,
}

/// One layer of the network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRow {
    /// Name in the graph.
    pub(crate) name: String,
    /// What it does.
    pub(crate) operator: String,
    /// Shape of its result.
    pub(crate) output: Vec<usize>,
    /// Number of weights.
    pub(crate) parameters: usize,
}

/// The images.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DataCard {
    /// Name of the data set.
    pub(crate) name: String,
    /// Whether it is the real test set or generated digits, and why.
    pub(crate) note: String,
    /// Images that calibrated the ranges.
    pub(crate) calibration: String,
}

/// One image and its answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageResult {
    /// Index in the data set.
    pub(crate) index: usize,
    /// `[channels, height, width]`.
    pub(crate) shape: Vec<usize>,
    /// Pixels of 0..255, channel by channel.
    pub(crate) pixels: Vec<u8>,
    /// The first bytes of the ciphertext, the evaluator's view of this image.
    pub(crate) ciphertext_head: Vec<u8>,
    /// The true label.
    pub(crate) label: usize,
    /// Logits of the reference executor.
    pub(crate) clear: Vec<f64>,
    /// Logits of the simulation.
    pub(crate) simulated: Vec<f64>,
    /// Logits of the encrypted evaluation.
    pub(crate) encrypted: Vec<f64>,
    /// Milliseconds to encode and encrypt.
    pub(crate) encrypt_ms: f64,
    /// Milliseconds of evaluation in the other process.
    pub(crate) evaluate_ms: f64,
    /// Milliseconds to decrypt and decode.
    pub(crate) decrypt_ms: f64,
}

/// Answers counted over the same inputs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AccuracyCard {
    /// Number of images.
    pub(crate) images: usize,
    /// Share of right answers, clear.
    pub(crate) clear: f64,
    /// Share of right answers, simulated.
    pub(crate) simulated: f64,
    /// Share of right answers, encrypted.
    pub(crate) encrypted: f64,
    /// Share of images whose encrypted answer is the clear one.
    pub(crate) agreement: f64,
    /// Largest |encrypted logit - clear logit|.
    pub(crate) worst_logit_error: f64,
    /// Largest |simulated logit - clear logit|.
    pub(crate) worst_simulated_error: f64,
}

/// One step of the program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepResult {
    /// Layer that it belongs to.
    pub(crate) layer: String,
    /// What is computed.
    pub(crate) operation: String,
    /// Median milliseconds.
    pub(crate) milliseconds: f64,
    /// Primes left after it.
    pub(crate) limbs: usize,
    /// log2 of the modulus left.
    pub(crate) log_modulus: f64,
    /// log2 of the scale.
    pub(crate) log_scale: f64,
    /// Largest error of a slot against the clear program, measured by the key holder.
    pub(crate) slot_error: Option<f64>,
    /// Bits between the largest slot error and one unit of the largest value.
    pub(crate) precision_bits: Option<f64>,
    /// Bits between the largest coefficient and the modulus: what noise and values may still grow.
    pub(crate) room_bits: Option<f64>,
}

/// What protects what from whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SecurityCard {
    /// Scheme.
    pub(crate) scheme: String,
    /// Ring.
    pub(crate) ring: String,
    /// Ring degree.
    pub(crate) degree: usize,
    /// log2 of the modulus with special primes.
    pub(crate) log_qp: f64,
    /// Largest log2 that the table allows.
    pub(crate) bound: u32,
    /// Bits of security.
    pub(crate) level: u32,
    /// Table that certifies it.
    pub(crate) table: String,
    /// Distributions of secret and error.
    pub(crate) distributions: String,
    /// Bits of the primes: data primes, then special primes.
    pub(crate) primes: String,
    /// Who sees what.
    pub(crate) parties: Vec<PartyRow>,
    /// What is not protected.
    pub(crate) not_protected: Vec<String>,
}

/// One party.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PartyRow {
    /// Role.
    pub(crate) who: String,
    /// What it holds and sees.
    pub(crate) sees: String,
    /// What it never sees.
    pub(crate) never: String,
}

/// The size of something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SizeRow {
    /// What.
    pub(crate) what: String,
    /// Bytes in the file.
    pub(crate) bytes: u64,
    /// Who holds or sends it.
    pub(crate) note: String,
}

/// The wall time of a stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StageRow {
    /// What.
    pub(crate) what: String,
    /// Milliseconds.
    pub(crate) milliseconds: f64,
}

/// Index of the largest value.
pub(crate) fn argmax(values: &[f64]) -> usize {
    let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(index, _)| index)
}

/// Softmax of logits.
pub(crate) fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|v| (v - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

/// Largest difference of two rows.
pub(crate) fn worst_difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(x, y)| (x - y).abs())
        .fold(0.0, f64::max)
}

impl AccuracyCard {
    /// Counts the answers of `images`.
    pub(crate) fn count(images: &[ImageResult]) -> Self {
        let share = |holds: &dyn Fn(&ImageResult) -> bool| {
            images.iter().filter(|image| holds(image)).count() as f64 / images.len().max(1) as f64
        };
        let worst = |of: &dyn Fn(&ImageResult) -> f64| images.iter().map(of).fold(0.0, f64::max);
        Self {
            images: images.len(),
            clear: share(&|i| argmax(&i.clear) == i.label),
            simulated: share(&|i| argmax(&i.simulated) == i.label),
            encrypted: share(&|i| argmax(&i.encrypted) == i.label),
            agreement: share(&|i| argmax(&i.encrypted) == argmax(&i.clear)),
            worst_logit_error: worst(&|i| worst_difference(&i.encrypted, &i.clear)),
            worst_simulated_error: worst(&|i| worst_difference(&i.simulated, &i.clear)),
        }
    }
}
