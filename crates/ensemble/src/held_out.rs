//! Predictions on examples that no holder was trained on.

use crate::error::{Error, Result};
use crate::numeric::argmax;

/// Fewest examples that rules are fitted on.
const EXAMPLES_MIN: usize = 10;

/// Predictions of every holder on the same examples, and the right classes: what rules are fitted
/// on.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// `[holder][example][class]`
    predictions: Vec<Vec<Vec<f64>>>,
    labels: Vec<usize>,
    classes: usize,
}

impl HeldOut {
    /// Checks `predictions[holder][example][class]` against the labels.
    ///
    /// # Errors
    /// [`Error::NoPredictions`], [`Error::TooFewExamples`], [`Error::Examples`],
    /// [`Error::Classes`], [`Error::NotFinite`], [`Error::Label`].
    pub fn new(predictions: Vec<Vec<Vec<f64>>>, labels: Vec<usize>) -> Result<Self> {
        let first = predictions.first().and_then(|holder| holder.first());
        let classes = first.ok_or(Error::NoPredictions)?.len();
        let (found, least) = (labels.len(), EXAMPLES_MIN);
        if found < least {
            return Err(Error::TooFewExamples { found, least });
        }
        for (holder, examples) in predictions.iter().enumerate() {
            let (expected, found) = (labels.len(), examples.len());
            if expected != found {
                return Err(Error::Examples {
                    holder,
                    expected,
                    found,
                });
            }
            examples
                .iter()
                .try_for_each(|scores| check_scores(holder, scores, classes))?;
        }
        if let Some(example) = labels.iter().position(|&label| label >= classes) {
            let found = labels[example];
            return Err(Error::Label {
                example,
                found,
                classes,
            });
        }
        Ok(Self {
            predictions,
            labels,
            classes,
        })
    }

    /// Number of holders.
    pub fn holders(&self) -> usize {
        self.predictions.len()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.labels.len()
    }

    /// The right classes.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Scores of one holder for one example.
    ///
    /// # Panics
    /// If there is no such holder or example.
    pub fn scores(&self, holder: usize, example: usize) -> &[f64] {
        &self.predictions[holder][example]
    }

    /// Share of the examples whose largest score is the right one.
    ///
    /// # Panics
    /// If there is no such holder.
    pub fn accuracy(&self, holder: usize) -> f64 {
        let pairs = self.predictions[holder].iter().zip(&self.labels);
        let right = pairs.filter(|(scores, label)| argmax(scores) == **label);
        right.count() as f64 / self.examples() as f64
    }

    /// Every score there is.
    pub(crate) fn all_scores(&self) -> impl Iterator<Item = f64> {
        self.predictions.iter().flatten().flatten().copied()
    }

    /// Largest magnitude of a score, with a quarter more for those of other examples; positive.
    pub(crate) fn bound(&self) -> f64 {
        let largest = self
            .all_scores()
            .fold(0.0, |most: f64, score| most.max(score.abs()));
        1.25 * largest.max(f64::EPSILON)
    }

    /// Root mean square of all scores; positive.
    pub(crate) fn root_mean_square(&self) -> f64 {
        let sum: f64 = self.all_scores().map(|score| score * score).sum();
        let count = self.holders() * self.examples() * self.classes;
        (sum / count as f64).sqrt().max(f64::EPSILON)
    }
}

/// Scores of one holder: one for each class, and numbers.
pub(crate) fn check_scores(holder: usize, scores: &[f64], classes: usize) -> Result<()> {
    if scores.len() != classes {
        return Err(Error::Classes {
            holder,
            expected: classes,
            found: scores.len(),
        });
    }
    match scores.iter().position(|score| !score.is_finite()) {
        Some(class) => Err(Error::NotFinite { holder, class }),
        None => Ok(()),
    }
}

/// Made predictions, for tests of all rules.
#[cfg(test)]
pub(crate) mod samples {
    use super::HeldOut;

    /// Numbers that look random, in `[-1, 1)`.
    pub(crate) struct Noise(pub(crate) u64);

    impl Noise {
        pub(crate) fn next(&mut self) -> f64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) as f64 / (1u64 << 30) as f64 - 1.0
        }
    }

    /// Holder `h` adds `strengths[h]` to the right class's noise of magnitude 1.
    pub(crate) fn held_out(strengths: &[f64], classes: usize, examples: usize) -> HeldOut {
        let mut noise = Noise(7);
        let labels: Vec<usize> = (0..examples).map(|example| example * 7 % classes).collect();
        let mut scores = |strength: f64, label: usize| -> Vec<f64> {
            let right = |class| if class == label { strength } else { 0.0 };
            (0..classes)
                .map(|class| right(class) + noise.next() + noise.next())
                .collect()
        };
        let predictions = strengths
            .iter()
            .map(|&strength| {
                labels
                    .iter()
                    .map(|&label| scores(strength, label))
                    .collect()
            })
            .collect();
        HeldOut::new(predictions, labels).expect("samples are sound")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_labels_and_numbers_are_checked() {
        let good = vec![vec![vec![0.0, 1.0]; 10]; 2];
        let labels = vec![1; 10];
        let held_out = HeldOut::new(good.clone(), labels.clone()).unwrap();
        assert_eq!((held_out.holders(), held_out.classes()), (2, 2));
        assert_eq!(held_out.accuracy(1), 1.0);

        let none = HeldOut::new(Vec::new(), labels.clone());
        assert!(matches!(none, Err(Error::NoPredictions)));
        let few = HeldOut::new(good.clone(), vec![1; 9]);
        assert!(matches!(few, Err(Error::TooFewExamples { found: 9, .. })));
        let label = HeldOut::new(good.clone(), vec![2; 10]);
        assert!(matches!(label, Err(Error::Label { found: 2, .. })));
        let mut wrong = good.clone();
        wrong[1].pop();
        let short = HeldOut::new(wrong, labels.clone());
        assert!(matches!(short, Err(Error::Examples { holder: 1, .. })));
        let mut wrong = good.clone();
        wrong[1][3] = vec![0.0];
        let narrow = HeldOut::new(wrong, labels.clone());
        assert!(matches!(narrow, Err(Error::Classes { holder: 1, .. })));
        let mut wrong = good;
        wrong[0][3][1] = f64::NAN;
        let nan = HeldOut::new(wrong, labels);
        assert!(matches!(
            nan,
            Err(Error::NotFinite {
                holder: 0,
                class: 1
            })
        ));
    }
}
