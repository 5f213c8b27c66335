//! Several queries at a time: encrypted weights are read from memory once for all of them.

use scuro_fhe::AnyCiphertext;
use scuro_fhe::circuits::linear::encrypted::QUERIES_MAX;
use scuro_fhe::keys::EvaluationKeys;

use super::arithmetic::Arithmetic;
use super::plan::{Action, Task};
use super::{Plan, Prepared, Run, Single, Values, Workers, own};
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
        queries: &[Vec<AnyCiphertext>],
        threads: usize,
    ) -> Result<Vec<Vec<AnyCiphertext>>, RuntimeError> {
        let (found, max) = (queries.len(), QUERIES_MAX);
        if found > max {
            return Err(scuro_fhe::Error::TooManyQueries { found, max }.into());
        }
        check::keys(&self.program, keys)?;
        for query in queries {
            check::query(&self.program, query, self.query_factor())?;
        }
        match &self.plan {
            Plan::Approximate(single) => single.run_block(keys, queries, threads),
            Plan::Exact(single) => single.run_block(keys, queries, threads),
            Plan::Batch(..) => {
                let one = |query: &Vec<_>| self.evaluate(keys, query, threads, &mut |_| {});
                queries.iter().map(one).collect()
            }
        }
    }
}

impl<A: Arithmetic> Single<A> {
    fn run_block(
        &self,
        keys: &EvaluationKeys,
        queries: &[Vec<AnyCiphertext>],
        threads: usize,
    ) -> Result<Vec<Vec<AnyCiphertext>>, RuntimeError> {
        let workers = Workers::new(threads)?;
        let run = self.start(keys, &workers);
        let mut values = Vec::with_capacity(queries.len());
        for query in queries {
            let mut of_query = self.no_values();
            of_query[0] = Some(own::<A>(query.clone())?);
            values.push(of_query);
        }
        for task in &self.tasks {
            let results = run.task_of_block(task, &values)?;
            for (of_query, result) in values.iter_mut().zip(results) {
                of_query[task.step + 1] = Some(result);
                let frees = task.frees.iter();
                frees.for_each(|&value| of_query[value] = None);
            }
        }
        Ok(values.into_iter().map(|own| self.reply(own)).collect())
    }
}

impl<A: Arithmetic> Run<'_, A> {
    /// A task for every query, given the values of each.
    fn task_of_block(
        &self,
        task: &Task<A>,
        values: &[Vec<Option<Vec<A::Ciphertext>>>],
    ) -> Result<Vec<Vec<A::Ciphertext>>, RuntimeError> {
        match &task.action {
            Action::PrivateLinear { transform, rescale } => {
                let queries = values.iter().map(|own| inputs(task, own));
                let queries: Vec<Vec<&A::Ciphertext>> = queries.collect();
                let arithmetic = self.arithmetic;
                arithmetic.apply_private_block(transform, &queries, self.keys, *rescale)
            }
            _ => values.iter().map(|own| self.task(task, own)).collect(),
        }
    }
}

/// The ciphertexts of all operands of a task.
pub(super) fn inputs<'a, A: Arithmetic>(
    task: &Task<A>,
    values: &'a Values<A>,
) -> Vec<&'a A::Ciphertext> {
    let operands = task.inputs.iter().filter_map(|&id| values[id].as_deref());
    operands.flatten().collect()
}
