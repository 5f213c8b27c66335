//! What `scuro ensemble evaluate` found, ensemble by ensemble and split by split.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::units;

/// Value of [`Evaluation::kind`].
pub(crate) const EVALUATION_KIND: &str = "scuro-ensemble-evaluation";

/// Accuracies of ensembles on one data set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Evaluation {
    /// Always `scuro-ensemble-evaluation`, so that `scuro report` recognises the file.
    pub(crate) kind: String,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// Name of the data set.
    pub(crate) data: String,
    /// Images before the first that was scored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) from: usize,
    /// Images scored.
    pub(crate) images: usize,
    /// How networks and rules were run.
    pub(crate) mode: String,
    /// Seconds it took.
    pub(crate) seconds: f64,
    /// The ensembles in the order of the command line.
    pub(crate) ensembles: Vec<Member>,
    /// The same by split, the order of first appearance.
    pub(crate) splits: Vec<Summary>,
}

/// One ensemble.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Name of its folder.
    pub(crate) name: String,
    /// How examples were dealt out.
    pub(crate) split: String,
    /// What decided everything.
    pub(crate) seed: u64,
    /// Every network alone.
    pub(crate) holders: Vec<HolderScore>,
    /// The largest accuracy of a single network.
    pub(crate) best_single: f64,
    /// Every rule.
    pub(crate) rules: Vec<RuleScore>,
}

/// One network alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HolderScore {
    /// Name of the holder.
    pub(crate) name: String,
    /// Examples that it has.
    pub(crate) images: usize,
    /// Classes that it has examples of.
    pub(crate) classes_seen: usize,
    /// Share of right answers.
    pub(crate) accuracy: f64,
    /// Share of right answers in clear, where it was run otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clear: Option<f64>,
    /// Share of the answers of the clear network, where it was not run in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agreement: Option<f64>,
}

/// One rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RuleScore {
    /// Its name.
    pub(crate) rule: String,
    /// Share of right answers.
    pub(crate) accuracy: f64,
    /// Accuracy less that of the best single network.
    pub(crate) margin: f64,
    /// Share of right answers in clear, where it was run otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clear: Option<f64>,
    /// Share of the answers of the rule in clear, where it was not run in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agreement: Option<f64>,
}

/// All ensembles of one split.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// How examples were dealt out.
    pub(crate) split: String,
    /// Number of ensembles.
    pub(crate) ensembles: usize,
    /// Accuracy of every single network of all of them.
    pub(crate) singles: Vec<f64>,
    /// The same in clear, where they were run otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) clear_singles: Vec<f64>,
    /// Mean over the ensembles of the best single network's accuracy.
    pub(crate) best_single: f64,
    /// Every rule.
    pub(crate) rules: Vec<RuleSummary>,
}

/// One rule over all ensembles of a split.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RuleSummary {
    /// Its name.
    pub(crate) rule: String,
    /// Mean accuracy.
    pub(crate) accuracy: f64,
    /// Smallest and largest accuracy.
    pub(crate) range: [f64; 2],
    /// Mean margin over the best single network.
    pub(crate) margin: f64,
    /// Smallest margin.
    pub(crate) smallest_margin: f64,
    /// Ensembles in which it is better than the best single network.
    pub(crate) wins: usize,
    /// Mean accuracy in clear, where it was run otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clear: Option<f64>,
    /// Share of its answers that are those in clear, where it was run otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agreement: Option<f64>,
}

/// Heads of the columns that compare with what is answered in clear: accuracy, and share of the
/// same answers.
pub(crate) const COMPARED: [&str; 2] = ["in clear", "same answer"];

/// A share that there may be.
pub(crate) fn share(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_string(), units::percent)
}

impl Evaluation {
    /// Whether it was run otherwise than in clear, and compared with that.
    pub(crate) fn is_compared(&self) -> bool {
        let rules = self.splits.iter().flat_map(|summary| &summary.rules);
        rules.into_iter().any(|rule| rule.clear.is_some())
    }
}

impl Summary {
    /// Groups ensembles by their split.
    pub(crate) fn of(members: &[Member]) -> Vec<Self> {
        let mut splits: Vec<&str> = Vec::new();
        for member in members {
            if !splits.contains(&member.split.as_str()) {
                splits.push(&member.split);
            }
        }
        let group = |split: &str| -> Vec<&Member> {
            let same = members.iter().filter(|member| member.split == split);
            same.collect()
        };
        splits
            .iter()
            .map(|split| Self::of_split(split, &group(split)))
            .collect()
    }

    fn of_split(split: &str, members: &[&Member]) -> Self {
        let rules = members.first().map_or(&[][..], |member| &member.rules);
        let summary = |first: &RuleScore| {
            let same = members.iter().flat_map(|member| &member.rules);
            let same = same.filter(|score| score.rule == first.rule);
            RuleSummary::of(&first.rule, &same.collect::<Vec<_>>())
        };
        let singles = || members.iter().flat_map(|member| &member.holders);
        Self {
            split: split.to_string(),
            ensembles: members.len(),
            singles: singles().map(|holder| holder.accuracy).collect(),
            clear_singles: singles().filter_map(|holder| holder.clear).collect(),
            best_single: mean(members.iter().map(|member| member.best_single)),
            rules: rules.iter().map(summary).collect(),
        }
    }

    /// The summary of one rule.
    pub(crate) fn rule(&self, name: &str) -> Option<&RuleSummary> {
        self.rules.iter().find(|rule| rule.rule == name)
    }
}

impl RuleSummary {
    fn of(rule: &str, scores: &[&RuleScore]) -> Self {
        let accuracies = || scores.iter().map(|score| score.accuracy);
        let margins = || scores.iter().map(|score| score.margin);
        let all = |value: fn(&RuleScore) -> Option<f64>| {
            let values: Option<Vec<f64>> = scores.iter().map(|score| value(score)).collect();
            values.map(|values| mean(values.into_iter()))
        };
        Self {
            rule: rule.to_string(),
            accuracy: mean(accuracies()),
            range: [
                accuracies().fold(f64::INFINITY, f64::min),
                accuracies().fold(f64::NEG_INFINITY, f64::max),
            ],
            margin: mean(margins()),
            smallest_margin: margins().fold(f64::INFINITY, f64::min),
            wins: margins().filter(|margin| *margin > 0.0).count(),
            clear: all(|score| score.clear),
            agreement: all(|score| score.agreement),
        }
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(split: &str, best: f64, mean: f64) -> Member {
        let holder = |accuracy| HolderScore {
            name: "holder-1".into(),
            images: 10,
            classes_seen: 2,
            accuracy,
            clear: None,
            agreement: None,
        };
        Member {
            name: "x".into(),
            split: split.into(),
            seed: 1,
            holders: vec![holder(best), holder(best - 0.1)],
            best_single: best,
            rules: vec![RuleScore {
                rule: "mean".into(),
                accuracy: mean,
                margin: mean - best,
                clear: Some(0.25),
                agreement: Some(1.0),
            }],
        }
    }

    #[test]
    fn ensembles_are_grouped_by_split() {
        let members = [
            member("iid", 0.5, 0.75),
            member("size-skew:1", 0.5, 0.5),
            member("iid", 0.5, 0.25),
        ];
        let splits = Summary::of(&members);
        assert_eq!(splits.len(), 2);
        let iid = &splits[0];
        assert_eq!(
            (iid.ensembles, iid.singles.len(), iid.best_single),
            (2, 4, 0.5)
        );
        let mean = iid.rule("mean").unwrap();
        assert_eq!(
            (mean.accuracy, mean.range, mean.wins),
            (0.5, [0.25, 0.75], 1)
        );
        assert_eq!((mean.margin, mean.smallest_margin), (0.0, -0.25));
        assert_eq!((mean.clear, mean.agreement), (Some(0.25), Some(1.0)));
        assert!(iid.clear_singles.is_empty());
        // Equal is not better.
        assert_eq!(splits[1].rule("mean").unwrap().wins, 0);
        assert!(iid.rule("median").is_none());
    }
}
