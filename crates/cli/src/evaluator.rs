//! The evaluator: runs a program on ciphertexts. It holds no secret key and could not name one.

use std::collections::BTreeMap;
use std::time::Duration;

use scuro_client::{Bundle, Model};
use scuro_fhe::AnyCiphertext;
use scuro_fhe::keys::EvaluationKeys;
use scuro_runtime::Observer;
use scuro_runtime::encrypted::Prepared;
use serde::{Deserialize, Serialize};

use crate::errors::Failure;

/// A program with its weights encoded, and the keys it needs.
#[derive(Debug)]
pub(crate) struct Evaluator {
    model: Model,
    keys: EvaluationKeys,
    prepared: Prepared,
    threads: usize,
    /// Times of each step over all runs.
    times: BTreeMap<usize, Vec<f64>>,
}

/// The time of one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepTime {
    /// Index in the program.
    pub(crate) step: usize,
    /// Layer that it belongs to.
    pub(crate) layer: String,
    /// What it computes.
    pub(crate) operation: String,
    /// Median milliseconds.
    pub(crate) milliseconds: f64,
}

impl Evaluator {
    /// Encodes the weights of `model` and checks that `keys` holds every key it needs.
    pub(crate) fn new(model: Model, keys: EvaluationKeys, threads: usize) -> Result<Self, Failure> {
        let prepared = Prepared::new(model.program(), model.scheme().clone())?;
        Ok(Self::around(model, keys, prepared, threads))
    }

    /// The same for a model whose weights are encrypted beside it.
    pub(crate) fn with_weights(
        model: Model,
        keys: EvaluationKeys,
        weights: Bundle,
        threads: usize,
    ) -> Result<Self, Failure> {
        let weights = model.open_weights(weights)?;
        let scheme = model.scheme().clone();
        let prepared = Prepared::with_weights(model.program(), scheme, weights)?;
        Ok(Self::around(model, keys, prepared, threads))
    }

    fn around(model: Model, keys: EvaluationKeys, prepared: Prepared, threads: usize) -> Self {
        Self {
            model,
            keys,
            prepared,
            threads,
            times: BTreeMap::new(),
        }
    }

    /// The model.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Bytes of the weights, as they lie in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.prepared.memory_bytes()
    }

    /// Runs the program once.
    pub(crate) fn run(&mut self, query: &[AnyCiphertext]) -> Result<Vec<AnyCiphertext>, Failure> {
        let times = &mut self.times;
        let mut observe = |event: scuro_runtime::Observation<'_>| {
            times
                .entry(event.step)
                .or_default()
                .push(event.elapsed.as_secs_f64() * 1e3);
        };
        Ok(self
            .prepared
            .evaluate(&self.keys, query, self.threads, &mut observe)?)
    }

    /// Runs the program once without keeping times, from several threads at a time.
    pub(crate) fn run_shared(
        &self,
        query: &[AnyCiphertext],
    ) -> Result<Vec<AnyCiphertext>, Failure> {
        Ok(self.prepared.evaluate(&self.keys, query, 1, &mut |_| {})?)
    }

    /// Runs the program on several queries at a time: encrypted weights are read once for all.
    pub(crate) fn run_block(
        &self,
        queries: &[Vec<AnyCiphertext>],
    ) -> Result<Vec<Vec<AnyCiphertext>>, Failure> {
        let (keys, threads) = (&self.keys, self.threads);
        Ok(self.prepared.evaluate_block(keys, queries, threads)?)
    }

    /// Runs the program on features in clear, as plain slots, and shows every step to `observer`.
    pub(crate) fn run_features(
        &self,
        query: &[Vec<f64>],
        observer: &mut Observer<'_>,
    ) -> Result<Vec<AnyCiphertext>, Failure> {
        let (keys, threads) = (&self.keys, self.threads);
        let prepared = &self.prepared;
        Ok(prepared.evaluate_features(keys, query, threads, observer)?)
    }

    /// Runs the program once and shows every step to `observer`.
    pub(crate) fn run_watched(
        &self,
        query: &[AnyCiphertext],
        observer: &mut Observer<'_>,
    ) -> Result<Vec<AnyCiphertext>, Failure> {
        let (keys, threads) = (&self.keys, self.threads);
        Ok(self.prepared.evaluate(keys, query, threads, observer)?)
    }

    /// Keeps times of steps that somebody else watched.
    pub(crate) fn record(&mut self, times: &[(usize, Duration)]) {
        for (step, elapsed) in times {
            let milliseconds = elapsed.as_secs_f64() * 1e3;
            self.times.entry(*step).or_default().push(milliseconds);
        }
    }

    /// The median time of each step; steps that are done together are one.
    pub(crate) fn step_times(&self) -> Vec<StepTime> {
        let steps = &self.model.program().steps;
        let mut first = 0;
        let mut rows = Vec::new();
        for (&step, times) in &self.times {
            let together = steps.get(first..=step).unwrap_or_default();
            let names: Vec<&str> = together.iter().map(|s| s.operation.name()).collect();
            let layer = together.last().map_or(String::new(), |s| s.layer.clone());
            let (operation, milliseconds) = (names.join(" + "), median(times));
            rows.push(StepTime {
                step,
                layer,
                operation,
                milliseconds,
            });
            first = step + 1;
        }
        rows
    }
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}
