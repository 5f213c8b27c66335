//! A case and its outcome, in the form of the JSON that `scuro bench` prints.

use std::cell::OnceCell;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::errors::Failure;
use crate::units;
use crate::verbs::accuracy::Score;

/// Which direction is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// Times, sizes, errors.
    Lower,
    /// Rates, accuracies.
    Higher,
}

/// A figure of another tool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Tool.
    pub(crate) name: String,
    /// In the unit of the case.
    pub(crate) value: f64,
    /// Where the figure is from.
    pub(crate) source: String,
}

/// What a run is asked to do.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    /// How the program was called.
    pub(crate) context: &'a Context,
    /// Samples of each case; the case's own number if not given.
    pub(crate) samples: Option<usize>,
    /// Threads.
    pub(crate) threads: usize,
    /// Whole test sets and long runs too.
    pub(crate) full: bool,
    /// Model for the LeNet cases.
    pub(crate) lenet: Option<PathBuf>,
    /// Model for the CryptoNets cases instead of the built-in one.
    pub(crate) cryptonets: Option<PathBuf>,
    /// Folder of networks for the cases with encrypted weights.
    pub(crate) models: Option<PathBuf>,
    /// The encrypted scoring that two cases share: it takes minutes.
    pub(crate) encrypted: OnceCell<Result<Score, Failure>>,
    /// What cases with encrypted weights share.
    pub(crate) gomez: super::gomez::Shared,
    /// What cases of ensembles share.
    pub(crate) ensemble: super::ensemble::Shared,
}

impl<'a> Settings<'a> {
    /// The settings of a quick run.
    pub(crate) fn new(context: &'a Context) -> Self {
        Self {
            context,
            samples: None,
            threads: context.threads.max(1),
            full: false,
            lenet: None,
            cryptonets: None,
            models: None,
            encrypted: OnceCell::new(),
            gomez: super::gomez::Shared::default(),
            ensemble: super::ensemble::Shared::default(),
        }
    }
}

impl Settings<'_> {
    /// Samples to take where a case usually takes `usual`.
    pub(crate) fn samples(&self, usual: usize) -> usize {
        self.samples.unwrap_or(usual).max(1)
    }
}

/// Measured values.
#[derive(Debug, Clone)]
pub(crate) struct Sampling {
    /// Sorted.
    values: Vec<f64>,
    threads: usize,
    note: String,
}

impl Sampling {
    /// Of values in the unit of the case.
    pub(crate) fn new(mut values: Vec<f64>, threads: usize) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            values,
            threads,
            note: String::new(),
        }
    }

    /// A single value.
    pub(crate) fn single(value: f64, threads: usize) -> Self {
        Self::new(vec![value], threads)
    }

    /// All values times `factor`, for another unit or a share of a batch.
    pub(crate) fn scaled(mut self, factor: f64) -> Self {
        self.values.iter_mut().for_each(|value| *value *= factor);
        self
    }

    /// Adds a remark to the outcome.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// The value of the case.
    pub(super) fn median(&self) -> f64 {
        let middle = self.values.len() / 2;
        match self.values.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => self.values[middle],
            _ => (self.values[middle - 1] + self.values[middle]) / 2.0,
        }
    }
}

/// Measures a case.
pub(crate) type Measure = fn(&Settings<'_>) -> Result<Sampling, Failure>;

/// A figure with a name.
#[derive(Debug)]
pub(crate) struct Case {
    /// Stable name, `group.what.size`.
    pub(crate) id: &'static str,
    /// One line for people.
    pub(crate) about: &'static str,
    /// Unit of the value.
    pub(crate) unit: &'static str,
    /// What it should reach.
    pub(crate) target: Option<f64>,
    /// Which direction is good.
    pub(crate) better: Better,
    /// Measures it.
    pub(crate) measure: Measure,
}

/// One line of the result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Name of the case.
    pub(crate) id: String,
    /// The median; absent if it could not run.
    pub(crate) value: Option<f64>,
    /// Unit.
    pub(crate) unit: String,
    /// What it should reach.
    pub(crate) target: Option<f64>,
    /// Which direction is good.
    pub(crate) better: Better,
    /// Whether the value reaches the target; no value never does.
    pub(crate) holds: bool,
    /// Threads used.
    pub(crate) threads: usize,
    /// Number of samples.
    pub(crate) samples: usize,
    /// Median of the samples.
    pub(crate) median: Option<f64>,
    /// Smallest sample.
    pub(crate) min: Option<f64>,
    /// Largest sample.
    pub(crate) max: Option<f64>,
    /// Figures of other tools.
    pub(crate) peers: Vec<Peer>,
    /// Remark, or why it could not run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
    /// What is measured.
    #[serde(default)]
    pub(crate) about: String,
}

impl Case {
    /// A case of which less is better.
    pub(crate) const fn lower(
        id: &'static str,
        about: &'static str,
        unit: &'static str,
        target: f64,
        measure: Measure,
    ) -> Self {
        Self {
            id,
            about,
            unit,
            target: Some(target),
            better: Better::Lower,
            measure,
        }
    }

    /// A case of which more is better.
    pub(crate) const fn higher(
        id: &'static str,
        about: &'static str,
        unit: &'static str,
        target: f64,
        measure: Measure,
    ) -> Self {
        Self {
            id,
            about,
            unit,
            target: Some(target),
            better: Better::Higher,
            measure,
        }
    }

    /// A figure that nobody set a target for; less is better.
    pub(crate) const fn untargeted(
        id: &'static str,
        about: &'static str,
        unit: &'static str,
        measure: Measure,
    ) -> Self {
        Self {
            id,
            about,
            unit,
            target: None,
            better: Better::Lower,
            measure,
        }
    }

    /// Measures and judges.
    pub(crate) fn run(&self, settings: &Settings<'_>) -> Outcome {
        match (self.measure)(settings) {
            Ok(sampling) => self.outcome(&sampling),
            Err(failure) => self.unable(settings, &failure),
        }
    }

    fn outcome(&self, sampling: &Sampling) -> Outcome {
        let median = sampling.median();
        Outcome {
            value: Some(median),
            holds: self
                .target
                .is_none_or(|target| self.reaches(median, target)),
            threads: sampling.threads,
            samples: sampling.values.len(),
            median: Some(median),
            min: sampling.values.first().copied(),
            max: sampling.values.last().copied(),
            note: sampling.note.clone(),
            ..self.blank()
        }
    }

    fn unable(&self, settings: &Settings<'_>, failure: &Failure) -> Outcome {
        let hint = failure
            .hint
            .as_deref()
            .map(|hint| format!(" ({hint})"))
            .unwrap_or_default();
        let note = format!("could not run: {failure}{hint}");
        Outcome {
            threads: settings.threads,
            note,
            ..self.blank()
        }
    }

    fn blank(&self) -> Outcome {
        Outcome {
            id: self.id.to_string(),
            value: None,
            unit: self.unit.to_string(),
            target: self.target,
            better: self.better,
            holds: false,
            threads: 1,
            samples: 0,
            median: None,
            min: None,
            max: None,
            peers: super::peers::of(self.id),
            note: String::new(),
            about: self.about.to_string(),
        }
    }

    /// A value for people: shares with four decimals, since 0.9985 is not 0.999.
    pub(crate) fn shown(unit: &str, value: f64) -> String {
        if unit == "share" {
            format!("{value:.4}")
        } else {
            units::significant(value)
        }
    }

    fn reaches(&self, value: f64, target: f64) -> bool {
        match self.better {
            Better::Lower => value <= target,
            Better::Higher => value >= target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(better: Better) -> Case {
        Case {
            id: "x.y",
            about: "",
            unit: "ms",
            target: Some(2.0),
            better,
            measure: |_| Err(Failure::bad_input("no.data", "no data")),
        }
    }

    #[test]
    fn the_value_is_the_median_and_is_judged_by_its_direction() {
        let sampling = Sampling::new(vec![9.0, 1.0, 2.0], 1);
        let lower = case(Better::Lower).outcome(&sampling);
        assert_eq!(
            (lower.value, lower.min, lower.max),
            (Some(2.0), Some(1.0), Some(9.0))
        );
        assert!(lower.holds && case(Better::Higher).outcome(&sampling).holds);
        assert!(!case(Better::Lower).outcome(&Sampling::single(2.1, 1)).holds);
    }

    #[test]
    fn a_case_that_cannot_run_says_why_and_does_not_hold() {
        let failure = Failure::bad_input("no.data", "no data").hint("fetch it");
        let context = crate::context::Context {
            format: crate::context::Format::Json,
            quiet: true,
            verbose: 0,
            style: crate::style::Style { color: false },
            data_dir: None,
            threads: 1,
        };
        let settings = Settings::new(&context);
        let outcome = case(Better::Lower).unable(&settings, &failure);
        assert!(!outcome.holds && outcome.note.contains("no data (fetch it)"));
    }
}
