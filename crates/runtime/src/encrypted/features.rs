//! Queries that are not encrypted: the evaluator computes the features itself, the weights are
//! ciphertexts.

use std::time::Instant;

use scuro_fhe::keys::EvaluationKeys;

use super::plan::{Action, Task};
use super::private::PrivateTransform;
use super::{Plan, Prepared, Run, Workers};
use crate::check;
use crate::error::RuntimeError;
use crate::observe::{Observation, Observer};

/// A product of the query: the step of its value, its weights, whether it is rescaled.
type First<'a> = (usize, &'a PrivateTransform, bool);

/// The number of the query among the values of a program.
const QUERY: usize = 0;

impl Prepared {
    /// The reply to a query of plain slots, for a program whose weights are ciphertexts: products
    /// of plaintexts with ciphertexts have two parts, so nothing of the first layer needs
    /// relinearising.
    ///
    /// Shape: query `[ciphertexts][slots]`
    ///
    /// # Errors
    /// [`RuntimeError::PlainQuery`] unless encrypted linear steps, and only they, read the query
    /// and it alone; [`RuntimeError::QueryLength`], [`RuntimeError::QuerySlots`], and as
    /// [`Prepared::evaluate`] for keys and threads.
    pub fn evaluate_features(
        &self,
        keys: &EvaluationKeys,
        query: &[Vec<f64>],
        threads: usize,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<scuro_fhe::ckks::Ciphertext>, RuntimeError> {
        check::keys(&self.program, keys)?;
        check::query_slots(&self.program, query)?;
        let (first, rest) = self.split_at_query()?;
        let workers = Workers::new(threads)?;
        let run = Run {
            evaluator: &self.evaluator,
            keys,
            workers: &workers,
        };
        let mut values = self.no_values();
        for (step, transform, rescale) in first {
            let start = Instant::now();
            let (evaluator, encoder) = (&self.evaluator, &self.encoder);
            let result = transform.apply_features(evaluator, encoder, query, keys, rescale)?;
            observer(Observation {
                step,
                elapsed: start.elapsed(),
                result: &result,
            });
            values[step + 1] = Some(result);
        }
        self.perform(&run, rest, values, observer)
    }

    /// The products that read the query, and all other tasks.
    fn split_at_query(&self) -> Result<(Vec<First<'_>>, Vec<&Task>), RuntimeError> {
        let Plan::SingleImage(tasks) = &self.plan else {
            return Err(RuntimeError::PlainQuery { step: 0 });
        };
        let (first, rest): (Vec<&Task>, Vec<&Task>) =
            tasks.iter().partition(|task| task.inputs.contains(&QUERY));
        let first: Result<Vec<_>, _> = first.into_iter().map(product_of_query).collect();
        Ok((first?, rest))
    }
}

fn product_of_query(task: &Task) -> Result<First<'_>, RuntimeError> {
    let alone = task.inputs.iter().all(|&value| value == QUERY);
    match &task.action {
        Action::PrivateLinear { transform, rescale } if alone => {
            Ok((task.step, transform, *rescale))
        }
        _ => Err(RuntimeError::PlainQuery { step: task.step }),
    }
}
