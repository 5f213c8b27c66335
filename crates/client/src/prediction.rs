//! What comes out: scores, and what they mean.

use scuro_program::{OutputSpec, PostOperation};

/// The answer for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The network's output before the last softmax, one value a class.
    pub scores: Vec<f64>,
    /// Index of the largest score.
    pub label: usize,
    /// Softmax of the scores at `label`: how sure the network is.
    pub confidence: f64,
    /// Whether values grew beyond the modulus, or in an exact program beyond the range that outputs
    /// were planned for: the scores then mean nothing. It happens to inputs far from the
    /// calibration data.
    pub overflowed: bool,
}

impl Prediction {
    /// The prediction of these scores.
    pub fn from_scores(scores: Vec<f64>) -> Self {
        let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let label = best.map_or(0, |(index, _)| index);
        let confidence = softmax(&scores).get(label).copied().unwrap_or(0.0);
        Self {
            scores,
            label,
            confidence,
            overflowed: false,
        }
    }

    /// The network's output as the model file defines it: with its last softmax, if it has one.
    pub fn output(&self, spec: &OutputSpec) -> Vec<f64> {
        let whole = spec.shape.len() <= 1;
        match spec.post {
            PostOperation::Softmax { .. } if whole => softmax(&self.scores),
            PostOperation::LogSoftmax { .. } if whole => {
                softmax(&self.scores).into_iter().map(f64::ln).collect()
            }
            PostOperation::Sigmoid => self
                .scores
                .iter()
                .map(|s| 1.0 / (1.0 + (-s).exp()))
                .collect(),
            _ => self.scores.clone(),
        }
    }
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_score_is_the_label_and_confidence_is_its_softmax() {
        let prediction = Prediction::from_scores(vec![0.0, 2.0, 1.0]);
        assert_eq!(prediction.label, 1);
        assert!((prediction.confidence - 0.665).abs() < 1e-3);
    }

    #[test]
    fn huge_scores_do_not_overflow() {
        let prediction = Prediction::from_scores(vec![1e300, -1e300]);
        assert_eq!((prediction.label, prediction.confidence), (0, 1.0));
    }
}
