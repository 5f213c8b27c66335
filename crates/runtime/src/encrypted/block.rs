//! Several queries at a time: encrypted weights are read from memory once for all of them.

use scuro_fhe::circuits::linear::encrypted::QUERIES_MAX;
use scuro_fhe::ckks::Ciphertext;
use scuro_fhe::keys::EvaluationKeys;

use super::plan::{Action, Task};
use super::private::PrivateTransform;
use super::{Plan, Prepared, Run, Values, Workers};
use crate::check;
use crate::error::RuntimeError;

impl Prepared {
    /// The replies to several queries under one key, on `threads` threads.
    ///
    /// Math: equal to [`Prepared::evaluate`] of each query; products with encrypted weights are
    ///     done for all queries together, everything else query by query
    ///
    /// # Errors
    /// As [`Prepared::evaluate`]; [`RuntimeError::Fhe`] for more than [`QUERIES_MAX`] queries.
    pub fn evaluate_block(
        &self,
        keys: &EvaluationKeys,
        queries: &[Vec<Ciphertext>],
        threads: usize,
    ) -> Result<Vec<Vec<Ciphertext>>, RuntimeError> {
        let (found, max) = (queries.len(), QUERIES_MAX);
        if found > max {
            return Err(scuro_fhe::Error::TooManyQueries { found, max }.into());
        }
        let Plan::SingleImage(tasks) = &self.plan else {
            let one = |query: &Vec<_>| self.evaluate(keys, query, threads, &mut |_| {});
            return queries.iter().map(one).collect();
        };
        check::keys(&self.program, keys)?;
        let mut values = Vec::with_capacity(queries.len());
        for query in queries {
            check::query(&self.program, query)?;
            let mut own = self.no_values();
            own[0] = Some(query.clone());
            values.push(own);
        }
        let workers = Workers::new(threads)?;
        let run = Run {
            evaluator: &self.evaluator,
            keys,
            workers: &workers,
        };
        for task in tasks {
            let results = run.task_of_block(task, &values)?;
            for (own, result) in values.iter_mut().zip(results) {
                own[task.step + 1] = Some(result);
                task.frees.iter().for_each(|&value| own[value] = None);
            }
        }
        let result = self.program.result.0 as usize;
        let reply = |mut own: Vec<Option<_>>| own.swap_remove(result).unwrap_or_default();
        Ok(values.into_iter().map(reply).collect())
    }
}

impl Run<'_> {
    /// A task for every query, given the values of each.
    fn task_of_block(
        &self,
        task: &Task,
        values: &[Vec<Option<Vec<Ciphertext>>>],
    ) -> Result<Vec<Vec<Ciphertext>>, RuntimeError> {
        match &task.action {
            Action::PrivateLinear { transform, rescale } => {
                self.private_linear_of_block(task, transform, *rescale, values)
            }
            _ => values.iter().map(|own| self.task(task, own)).collect(),
        }
    }

    fn private_linear_of_block(
        &self,
        task: &Task,
        transform: &PrivateTransform,
        rescale: bool,
        values: &[Vec<Option<Vec<Ciphertext>>>],
    ) -> Result<Vec<Vec<Ciphertext>>, RuntimeError> {
        let queries: Vec<Vec<&Ciphertext>> = values.iter().map(|own| inputs(task, own)).collect();
        transform.apply_block(self.evaluator, &queries, self.keys, rescale)
    }
}

/// The ciphertexts of all operands of a task.
pub(super) fn inputs<'a>(task: &Task, values: &'a Values) -> Vec<&'a Ciphertext> {
    let operands = task.inputs.iter().filter_map(|&id| values[id].as_deref());
    operands.flatten().collect()
}
