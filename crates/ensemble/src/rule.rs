//! Rules by name, and what they make of predictions.

use std::fmt;
use std::str::FromStr;

use crate::confidence::Confidence;
use crate::error::{Error, Result};
use crate::held_out::check_scores;
use crate::linear::{Exponents, Weights};
use crate::majority;
use crate::soft_vote::SoftVote;
use crate::stacking::Stacking;

/// The name of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// The mean of all scores.
    Mean,
    /// A mean with weights.
    Weighted,
    /// A product of distributions with exponents.
    LogOpinion,
    /// A linear model of all predictions.
    Stacking,
    /// Sums of shares, with a polynomial for softmax.
    SoftVote,
    /// Scores weighed by their own magnitude.
    Confidence,
    /// Votes for the largest scores; not on ciphertexts.
    Majority,
}

impl RuleKind {
    /// Every rule, in the order of tables.
    pub const ALL: [Self; 7] = [
        Self::Mean,
        Self::Weighted,
        Self::LogOpinion,
        Self::Stacking,
        Self::SoftVote,
        Self::Confidence,
        Self::Majority,
    ];

    /// The name on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Weighted => "weighted",
            Self::LogOpinion => "log-opinion",
            Self::Stacking => "stacking",
            Self::SoftVote => "soft-vote",
            Self::Confidence => "confidence",
            Self::Majority => "majority",
        }
    }

    /// Whether a coordinator can compute it on ciphertexts; else it is for decrypted predictions.
    pub fn is_polynomial(self) -> bool {
        self != Self::Majority
    }

    /// Whether it has parameters that are fitted on held-out predictions.
    pub fn is_fitted(self) -> bool {
        !matches!(self, Self::Mean | Self::Majority)
    }
}

impl fmt::Display for RuleKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl FromStr for RuleKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| Error::UnknownRule {
            found: text.chars().take(80).collect(),
            known: Self::ALL.map(Self::as_str).join(", "),
        })
    }
}

/// A rule with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// `(1/M) sum_h z_h`.
    Mean,
    /// See [`Weights`].
    Weighted(Weights),
    /// See [`Exponents`].
    LogOpinion(Exponents),
    /// See [`Stacking`].
    Stacking(Stacking),
    /// See [`SoftVote`].
    SoftVote(SoftVote),
    /// See [`Confidence`].
    Confidence(Confidence),
    /// Votes, ties broken by the mean.
    Majority,
}

impl Rule {
    /// Its name.
    pub fn kind(&self) -> RuleKind {
        match self {
            Self::Mean => RuleKind::Mean,
            Self::Weighted(_) => RuleKind::Weighted,
            Self::LogOpinion(_) => RuleKind::LogOpinion,
            Self::Stacking(_) => RuleKind::Stacking,
            Self::SoftVote(_) => RuleKind::SoftVote,
            Self::Confidence(_) => RuleKind::Confidence,
            Self::Majority => RuleKind::Majority,
        }
    }

    /// Number of holders, if the parameters say: the others take any.
    pub fn holders(&self) -> Option<usize> {
        match self {
            Self::Weighted(weights) => Some(weights.values().len()),
            Self::LogOpinion(exponents) => Some(exponents.multiples().len()),
            Self::Stacking(stacking) => Some(stacking.holders()),
            Self::Mean | Self::SoftVote(_) | Self::Confidence(_) | Self::Majority => None,
        }
    }

    /// The rule for the holders at `present` alone, of `holders`; its predictions come in the order
    /// of `present`.
    ///
    /// # Errors
    /// [`Error::Present`] for a position that is wrong or repeated; [`Error::Holders`] if the rule
    /// is for another number of holders; [`Error::NoPredictions`] if nobody is present;
    /// [`Error::NoWeight`] if nobody who is present counts.
    pub fn restricted(&self, present: &[usize], holders: usize) -> Result<Self> {
        if present.is_empty() {
            return Err(Error::NoPredictions);
        }
        for (at, &found) in present.iter().enumerate() {
            if found >= holders || present[..at].contains(&found) {
                return Err(Error::Present { found, holders });
            }
        }
        self.check_holders(holders)?;
        Ok(match self {
            Self::Weighted(weights) => Self::Weighted(weights.restricted(present)?),
            Self::LogOpinion(exponents) => Self::LogOpinion(exponents.restricted(present)?),
            Self::Stacking(stacking) => Self::Stacking(stacking.restricted(present)),
            Self::Mean | Self::SoftVote(_) | Self::Confidence(_) | Self::Majority => self.clone(),
        })
    }

    fn check_holders(&self, found: usize) -> Result<()> {
        match self.holders() {
            Some(expected) if expected != found => Err(Error::Holders { expected, found }),
            _ => Ok(()),
        }
    }

    /// One vector of scores of the predictions of all holders that the rule is for.
    ///
    /// # Errors
    /// [`Error::NoPredictions`], [`Error::Holders`], [`Error::Classes`], [`Error::NotFinite`].
    pub fn combine(&self, predictions: &[Vec<f64>]) -> Result<Vec<f64>> {
        self.check(predictions)?;
        let sum_of = |value: &dyn Fn(f64) -> f64| -> Vec<f64> {
            let classes = 0..predictions[0].len();
            let of_class = |class: usize| predictions.iter().map(|p| value(p[class])).sum();
            classes.map(of_class).collect()
        };
        let mean = || -> Vec<f64> {
            let sums = sum_of(&|score| score).into_iter();
            sums.map(|sum| sum / predictions.len() as f64).collect()
        };
        Ok(match self {
            Self::Mean => mean(),
            Self::Weighted(weights) => weights.combine(predictions),
            Self::LogOpinion(exponents) => exponents.combine(predictions),
            Self::Stacking(stacking) => stacking.combine(predictions),
            Self::SoftVote(vote) => sum_of(&|score| vote.value(score)),
            Self::Confidence(confidence) => sum_of(&|score| confidence.value(score)),
            Self::Majority => majority::scores(&majority::votes(predictions), &mean()),
        })
    }

    fn check(&self, predictions: &[Vec<f64>]) -> Result<()> {
        let first = predictions.first().filter(|scores| !scores.is_empty());
        let first = first.ok_or(Error::NoPredictions)?.len();
        self.check_holders(predictions.len())?;
        let classes = match self {
            Self::Stacking(stacking) => stacking.classes(),
            _ => first,
        };
        let mut holders = predictions.iter().enumerate();
        holders.try_for_each(|(holder, scores)| check_scores(holder, scores, classes))
    }
}

/// How many holders vote for each class; what a majority counts.
///
/// # Errors
/// As [`Rule::combine`].
pub fn votes(predictions: &[Vec<f64>]) -> Result<Vec<usize>> {
    Rule::Majority.check(predictions)?;
    Ok(majority::votes(predictions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held_out::samples::{Noise, held_out};
    use crate::numeric::argmax;
    use crate::rules::Rules;
    use proptest::prelude::*;

    fn all_rules(holders: usize, classes: usize) -> Vec<Rule> {
        let names = (1..=holders).map(|h| format!("holder-{h}")).collect();
        let classes_names = (0..classes).map(|class| class.to_string()).collect();
        let strengths: Vec<f64> = (0..holders).map(|h| 1.0 + h as f64).collect();
        let held_out = held_out(&strengths, classes, 60);
        let rules = Rules::fitted(names, classes_names, &held_out).unwrap();
        RuleKind::ALL.map(|kind| rules.rule(kind).unwrap()).to_vec()
    }

    fn noise(holders: usize, classes: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut noise = Noise(seed);
        let mut scores = || (0..classes).map(|_| 3.0 * noise.next()).collect();
        (0..holders).map(|_| scores()).collect()
    }

    #[test]
    fn names_are_read_and_written() {
        for kind in RuleKind::ALL {
            assert_eq!(kind.to_string().parse::<RuleKind>().unwrap(), kind);
        }
        let unknown = "median".parse::<RuleKind>().unwrap_err().to_string();
        assert!(
            unknown.contains("median") && unknown.contains("log-opinion"),
            "{unknown}"
        );
    }

    #[test]
    fn the_mean_and_a_majority_worked_by_hand() {
        let predictions = [vec![5.0, 0.0], vec![-1.0, 0.0], vec![-1.0, 0.0]];
        assert_eq!(Rule::Mean.combine(&predictions).unwrap(), [1.0, 0.0]);
        assert_eq!(Rule::Majority.combine(&predictions).unwrap(), [1.5, 2.0]);
        assert_eq!(votes(&predictions).unwrap(), [1, 2]);
    }

    #[test]
    fn faults_of_predictions_are_errors() {
        for rule in all_rules(2, 3) {
            assert!(matches!(rule.combine(&[]), Err(Error::NoPredictions)));
            let narrow = rule.combine(&[vec![0.0; 3], vec![0.0; 2]]);
            assert!(matches!(
                narrow,
                Err(Error::Classes {
                    holder: 1,
                    found: 2,
                    ..
                })
            ));
            let nan = rule.combine(&[vec![0.0; 3], vec![0.0, f64::NAN, 0.0]]);
            assert!(matches!(
                nan,
                Err(Error::NotFinite {
                    holder: 1,
                    class: 1
                })
            ));
            let many = rule.combine(&vec![vec![0.0; 3]; 3]);
            match rule.holders() {
                Some(_) => {
                    let wanted = matches!(
                        many,
                        Err(Error::Holders {
                            expected: 2,
                            found: 3
                        })
                    );
                    assert!(wanted);
                }
                None => assert!(many.is_ok()),
            }
        }
    }

    #[test]
    fn who_is_present_is_checked() {
        for rule in all_rules(3, 2) {
            let nobody = rule.restricted(&[], 3);
            assert!(matches!(nobody, Err(Error::NoPredictions)));
            for wrong in [&[0, 3][..], &[1, 1]] {
                let restricted = rule.restricted(wrong, 3);
                assert!(matches!(restricted, Err(Error::Present { .. })));
            }
        }
        let weighted = &all_rules(3, 2)[1];
        let other = weighted.restricted(&[0], 4);
        assert!(matches!(
            other,
            Err(Error::Holders {
                expected: 3,
                found: 4
            })
        ));
    }

    proptest! {
        #[test]
        fn everybody_present_changes_nothing(seed in any::<u64>(), classes in 2usize..5) {
            let predictions = noise(3, classes, seed);
            for rule in all_rules(3, classes) {
                let whole = rule.combine(&predictions).unwrap();
                prop_assert_eq!(whole.len(), classes);
                let same = rule.restricted(&[0, 1, 2], 3).unwrap();
                prop_assert_eq!(same.combine(&predictions).unwrap(), whole.clone());
                // In another order the same sum, up to rounding.
                let turned = rule.restricted(&[2, 0, 1], 3).unwrap();
                let order = [2, 0, 1].map(|h: usize| predictions[h].clone());
                let turned = turned.combine(&order).unwrap();
                for (a, b) in turned.iter().zip(&whole) {
                    let close = (a - b).abs() < 1e-9 * (1.0 + b.abs());
                    prop_assert!(close, "{} {} {}", rule.kind(), a, b);
                }
            }
        }

        #[test]
        fn holders_that_agree_are_followed(seed in any::<u64>(), classes in 2usize..6) {
            let scores = noise(1, classes, seed).remove(0);
            let predictions = vec![scores.clone(); 3];
            let linear = all_rules(3, classes).into_iter().filter(|rule| {
                // A stacking may have learned otherwise; a soft vote is increasing where the
                // held-out scores were.
                !matches!(rule, Rule::Stacking(_) | Rule::SoftVote(_))
            });
            for rule in linear {
                let combined = rule.combine(&predictions).unwrap();
                prop_assert_eq!(argmax(&combined), argmax(&scores), "{}", rule.kind());
            }
        }

        #[test]
        fn equal_exponents_choose_as_the_mean_does(seed in any::<u64>()) {
            let predictions = noise(4, 5, seed);
            let pool = Rule::LogOpinion(Exponents::new(vec![9; 4], 0.1).unwrap());
            let mean = Rule::Mean.combine(&predictions).unwrap();
            let pooled = pool.combine(&predictions).unwrap();
            for (p, m) in pooled.iter().zip(&mean) {
                prop_assert!((p - 3.6 * m).abs() < 1e-9);
            }
        }
    }
}
