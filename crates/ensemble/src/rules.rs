//! The file of rules: what a coordinator must know of an ensemble's fitted rules.
//!
//! ```json
//! {"version":1,"holders":["holder-1","holder-2"],"classes":["0","1"],
//!  "weighted":{"weights":[255,201]},
//!  "log_opinion":{"multiples":[255,180],"unit":0.0031},
//!  "stacking":{"weights":[[..],[..]],"bias":[..],"means":[..]},
//!  "soft_vote":{"bound":31.5,"factor":0.21,"shift":1.1,"offset":0},
//!  "confidence":{"bound":31.5}}
//! ```
//!
//! The mean and the majority have no parameters and are always there; the others may be absent. A
//! file holds what was learned of held-out predictions, and nothing secret.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::confidence::Confidence;
use crate::error::{Error, Result};
use crate::held_out::HeldOut;
use crate::linear::{Exponents, Weights};
use crate::rule::{Rule, RuleKind};
use crate::soft_vote::SoftVote;
use crate::stacking::Stacking;

/// Version of the file.
pub const VERSION: u32 = 1;
/// Most bytes of a file.
pub const RULES_BYTES: usize = 16 << 20;
/// Most holders of an ensemble.
pub const HOLDERS_MAX: usize = 64;
/// Most classes.
const CLASSES_MAX: usize = 4096;
/// Most characters of a holder's name: one label of a domain name.
const NAME_CHARACTERS: usize = 63;
/// Most bytes of the name of a class.
const CLASS_BYTES: usize = 128;

/// The fitted rules of one ensemble.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    holders: Vec<String>,
    classes: Vec<String>,
    weighted: Option<Weights>,
    log_opinion: Option<Exponents>,
    stacking: Option<Stacking>,
    soft_vote: Option<SoftVote>,
    confidence: Option<Confidence>,
}

impl Rules {
    /// No fitted rules: the mean and the majority.
    ///
    /// # Errors
    /// [`Error::TooMany`], [`Error::HolderName`], [`Error::ClassName`].
    pub fn new(holders: Vec<String>, classes: Vec<String>) -> Result<Self> {
        check_count("holders", holders.len(), HOLDERS_MAX)?;
        check_count("classes", classes.len(), CLASSES_MAX)?;
        if holders.is_empty() || classes.is_empty() {
            return Err(Error::NoPredictions);
        }
        if let Some(found) = first_bad(&holders, is_holder_name) {
            return Err(Error::HolderName { found });
        }
        if let Some(found) = first_bad(&classes, is_class_name) {
            return Err(Error::ClassName { found });
        }
        Ok(Self {
            holders,
            classes,
            weighted: None,
            log_opinion: None,
            stacking: None,
            soft_vote: None,
            confidence: None,
        })
    }

    /// Every rule, fitted on the held-out predictions of these holders.
    ///
    /// # Errors
    /// As [`Rules::new`]; [`Error::Holders`] and [`Error::Classes`] if the names are more or fewer
    /// than the predictions have.
    pub fn fitted(holders: Vec<String>, classes: Vec<String>, held_out: &HeldOut) -> Result<Self> {
        let (expected, found) = (holders.len(), held_out.holders());
        if expected != found {
            return Err(Error::Holders { expected, found });
        }
        let (expected, found) = (classes.len(), held_out.classes());
        if expected != found {
            return Err(Error::Classes {
                holder: 0,
                expected,
                found,
            });
        }
        Ok(Self {
            weighted: Some(Weights::fitted(held_out)),
            log_opinion: Some(Exponents::fitted(held_out)),
            stacking: Some(Stacking::fitted(held_out)),
            soft_vote: Some(SoftVote::fitted(held_out)),
            confidence: Some(Confidence::fitted(held_out)),
            ..Self::new(holders, classes)?
        })
    }

    /// Names of the holders, in the order of the parameters.
    pub fn holders(&self) -> &[String] {
        &self.holders
    }

    /// Names of the classes, in the order of the scores.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The rule of that name, for all holders.
    ///
    /// # Errors
    /// [`Error::NotFitted`] if the file has no parameters for it.
    pub fn rule(&self, kind: RuleKind) -> Result<Rule> {
        let rule = match kind {
            RuleKind::Mean => Some(Rule::Mean),
            RuleKind::Majority => Some(Rule::Majority),
            RuleKind::Weighted => self.weighted.clone().map(Rule::Weighted),
            RuleKind::LogOpinion => self.log_opinion.clone().map(Rule::LogOpinion),
            RuleKind::Stacking => self.stacking.clone().map(Rule::Stacking),
            RuleKind::SoftVote => self.soft_vote.map(Rule::SoftVote),
            RuleKind::Confidence => self.confidence.map(Rule::Confidence),
        };
        rule.ok_or(Error::NotFitted { rule: kind })
    }

    /// The file.
    ///
    /// # Panics
    /// Never: there is nothing in it that JSON cannot say.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&File::from(self)).expect("finite numbers and strings are JSON")
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// The first fault: [`Error::TooMany`], [`Error::Malformed`], [`Error::Version`], and those of
    /// [`Rules::new`] and of the parameters.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        check_count("bytes", bytes.len(), RULES_BYTES)?;
        let file: File = serde_json::from_slice(bytes)?;
        file.rules()
    }

    fn check_parameters(&self) -> Result<()> {
        let count = |rule, what, found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => Err(Error::Count {
                rule,
                what,
                expected,
                found,
            }),
        };
        let holders = self.holders.len();
        for kind in RuleKind::ALL {
            let rule = self.rule(kind).ok();
            if let Some(found) = rule.and_then(|rule| rule.holders()) {
                count(kind, "holders", found, holders)?;
            }
        }
        match &self.stacking {
            Some(stacking) => {
                let found = stacking.classes();
                count(RuleKind::Stacking, "classes", found, self.classes.len())
            }
            None => Ok(()),
        }
    }
}

fn check_count(what: &'static str, found: usize, limit: usize) -> Result<()> {
    if found > limit {
        return Err(Error::TooMany { what, found, limit });
    }
    Ok(())
}

/// The first name that is bad or was there before, cut to what an error may show.
fn first_bad(names: &[String], is_good: fn(&str) -> bool) -> Option<String> {
    let mut seen = BTreeSet::new();
    let bad = names
        .iter()
        .find(|name| !is_good(name) || !seen.insert(*name));
    bad.map(|name| name.chars().take(80).collect())
}

fn is_holder_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_CHARACTERS).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_class_name(name: &str) -> bool {
    (1..=CLASS_BYTES).contains(&name.len()) && !name.contains(['\n', '\r'])
}

/// The JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    holders: Vec<String>,
    classes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weighted: Option<WeightedPart>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log_opinion: Option<LogOpinionPart>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stacking: Option<StackingPart>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    soft_vote: Option<SoftVotePart>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confidence: Option<ConfidencePart>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightedPart {
    weights: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogOpinionPart {
    multiples: Vec<u8>,
    unit: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StackingPart {
    weights: Vec<Vec<f64>>,
    bias: Vec<f64>,
    means: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SoftVotePart {
    bound: f64,
    factor: f64,
    shift: f64,
    offset: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfidencePart {
    bound: f64,
}

impl From<&Rules> for File {
    fn from(rules: &Rules) -> Self {
        Self {
            version: VERSION,
            holders: rules.holders.clone(),
            classes: rules.classes.clone(),
            weighted: rules.weighted.as_ref().map(|weights| WeightedPart {
                weights: weights.values().to_vec(),
            }),
            log_opinion: rules.log_opinion.as_ref().map(|pool| LogOpinionPart {
                multiples: pool.multiples().to_vec(),
                unit: pool.unit(),
            }),
            stacking: rules.stacking.as_ref().map(|stacking| StackingPart {
                weights: stacking.weights().to_vec(),
                bias: stacking.bias().to_vec(),
                means: stacking.means().to_vec(),
            }),
            soft_vote: rules.soft_vote.map(|vote| SoftVotePart {
                bound: vote.bound(),
                factor: vote.factor(),
                shift: vote.shift(),
                offset: vote.offset(),
            }),
            confidence: rules.confidence.map(|confidence| ConfidencePart {
                bound: confidence.bound(),
            }),
        }
    }
}

impl File {
    fn rules(self) -> Result<Rules> {
        if self.version != VERSION {
            return Err(Error::Version {
                found: self.version,
                expected: VERSION,
            });
        }
        let weighted = self.weighted.map(|part| Weights::new(part.weights));
        let pool = self.log_opinion;
        let pool = pool.map(|part| Exponents::new(part.multiples, part.unit));
        let stacking = self.stacking;
        let stacking = stacking.map(|part| Stacking::new(part.weights, part.bias, part.means));
        let vote = self.soft_vote;
        let vote = vote.map(|p| SoftVote::new(p.bound, p.factor, p.shift, p.offset));
        let confidence = self.confidence.map(|part| Confidence::new(part.bound));
        let rules = Rules {
            weighted: weighted.transpose()?,
            log_opinion: pool.transpose()?,
            stacking: stacking.transpose()?,
            soft_vote: vote.transpose()?,
            confidence: confidence.transpose()?,
            ..Rules::new(self.holders, self.classes)?
        };
        rules.check_parameters()?;
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held_out::samples::held_out;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn names(prefix: &str, count: usize) -> Vec<String> {
        (1..=count).map(|i| format!("{prefix}{i}")).collect()
    }

    fn fitted() -> Rules {
        let held_out = held_out(&[1.0, 2.0], 3, 60);
        Rules::fitted(names("holder-", 2), names("class ", 3), &held_out).unwrap()
    }

    proptest! {
        #[test]
        fn files_are_read_as_what_was_written(
            strengths in prop::collection::vec(-1.0..9.0f64, 1..4), classes in 2usize..5,
        ) {
            let held_out = held_out(&strengths, classes, 40);
            let holders = names("holder-", strengths.len());
            let rules = Rules::fitted(holders, names("", classes), &held_out).unwrap();
            prop_assert_eq!(Rules::from_bytes(&rules.to_bytes()).unwrap(), rules);
        }
    }

    #[test]
    fn what_was_not_fitted_is_absent() {
        let rules = Rules::new(names("holder-", 2), names("", 2)).unwrap();
        let read = Rules::from_bytes(&rules.to_bytes()).unwrap();
        assert!(read.rule(RuleKind::Mean).is_ok() && read.rule(RuleKind::Majority).is_ok());
        for kind in RuleKind::ALL.into_iter().filter(|kind| kind.is_fitted()) {
            let absent = read.rule(kind);
            assert!(matches!(absent, Err(Error::NotFitted { rule }) if rule == kind));
        }
    }

    /// A change of a good file, and what is said of it.
    fn refused(change: impl FnOnce(&mut Value)) -> Error {
        let mut file: Value = serde_json::from_slice(&fitted().to_bytes()).unwrap();
        change(&mut file);
        Rules::from_bytes(&serde_json::to_vec(&file).unwrap()).unwrap_err()
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let version = refused(|file| file["version"] = json!(2));
        assert!(matches!(version, Error::Version { found: 2, .. }));
        let field = refused(|file| file["median"] = json!({}));
        assert!(matches!(field, Error::Malformed(_)));
        let inner = refused(|file| file["confidence"]["power"] = json!(2));
        assert!(matches!(inner, Error::Malformed(_)));
        let large = refused(|file| file["weighted"]["weights"] = json!([1, 256]));
        assert!(matches!(large, Error::Malformed(_)));
        let few = refused(|file| file["weighted"]["weights"] = json!([1]));
        assert!(matches!(
            few,
            Error::Count {
                found: 1,
                expected: 2,
                ..
            }
        ));
        let zero = refused(|file| file["log_opinion"]["multiples"] = json!([0, 0]));
        assert!(matches!(zero, Error::NoWeight { .. }));
        let classes = refused(|file| file["classes"] = json!(["0", "1"]));
        assert!(matches!(
            classes,
            Error::Count {
                found: 3,
                expected: 2,
                ..
            }
        ));
        let offset = refused(|file| file["soft_vote"]["offset"] = json!(-1));
        assert!(matches!(offset, Error::Parameter { .. }));
        let twice = refused(|file| file["holders"] = json!(["a", "a"]));
        assert!(matches!(twice, Error::HolderName { .. }));
        for name in ["", "-a", "a-", "A", "a b", "ä", &"a".repeat(64)] {
            let bad = refused(|file| file["holders"][0] = json!(name));
            assert!(matches!(bad, Error::HolderName { .. }), "{name}");
        }
        let feed = refused(|file| file["classes"][0] = json!("a\nb"));
        assert!(matches!(feed, Error::ClassName { .. }));
    }

    #[test]
    fn files_have_limits() {
        let spaces = vec![b' '; RULES_BYTES + 1];
        assert!(matches!(
            Rules::from_bytes(&spaces),
            Err(Error::TooMany { .. })
        ));
        let many = Rules::new(names("holder-", HOLDERS_MAX + 1), names("", 2));
        assert!(matches!(
            many,
            Err(Error::TooMany {
                what: "holders",
                ..
            })
        ));
        let nobody = Rules::new(Vec::new(), names("", 2));
        assert!(matches!(nobody, Err(Error::NoPredictions)));
    }
}
