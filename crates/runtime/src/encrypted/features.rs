//! Queries that are not encrypted: the evaluator computes the features itself, the weights are
//! ciphertexts.

use std::time::Instant;

use scuro_fhe::AnyCiphertext;
use scuro_fhe::circuits::linear::Operand;
use scuro_fhe::keys::EvaluationKeys;

use super::arithmetic::Arithmetic;
use super::plan::{Action, Task};
use super::{Plan, Prepared, Single, Workers, own};
use crate::check;
use crate::error::RuntimeError;
use crate::observe::{Observation, Observer};
use crate::random::Generator;

/// A product of the query: the step of its value, its weights, whether it is rescaled.
type First<'a, A> = (usize, &'a <A as Arithmetic>::Private, bool);
/// The products of the query, and all other tasks.
type Parts<'a, A> = (Vec<First<'a, A>>, Vec<&'a Task<A>>);

/// The number of the query among the values of a program.
const QUERY: usize = 0;

impl Prepared {
    /// The reply to a query of plain slots, for a program whose weights are ciphertexts: products
    /// of plaintexts with ciphertexts have two parts, so nothing of the first layer needs
    /// relinearising.
    ///
    /// The reply is re-randomised: all that comes before is computed from the features without a
    /// coin being tossed, so that whoever has the weights and the keys, and saw the reply, could
    /// test guesses of the features against it.
    ///
    /// Shape: query `[ciphertexts][slots]`
    ///
    /// # Errors
    /// [`RuntimeError::PlainQuery`] unless encrypted linear steps, and only they, read the query
    /// and it alone; [`RuntimeError::QueryLength`], [`RuntimeError::QuerySlots`], and as
    /// [`Prepared::evaluate`] for keys, among which the public one is needed in any case, threads
    /// and randomness.
    pub fn evaluate_features(
        &self,
        keys: &EvaluationKeys,
        query: &[Vec<f64>],
        threads: usize,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<AnyCiphertext>, RuntimeError> {
        check::keys(&self.program, keys)?;
        check::query_slots(&self.program, query)?;
        match &self.plan {
            Plan::Approximate(single) => single.run_features(keys, query, threads, observer),
            Plan::Exact(single) => single.run_features(keys, query, threads, observer),
            Plan::Batch(..) => Err(RuntimeError::PlainQuery { step: 0 }),
        }
    }
}

impl<A: Arithmetic> Single<A> {
    fn run_features(
        &self,
        keys: &EvaluationKeys,
        query: &[Vec<f64>],
        threads: usize,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<AnyCiphertext>, RuntimeError> {
        let (first, rest) = self.split_at_query()?;
        check::public_key(keys)?;
        let workers = Workers::new(threads)?;
        let run = self.start(keys, &workers);
        let mut values = self.no_values();
        for (step, transform, rescale) in first {
            let start = Instant::now();
            let arithmetic = &self.arithmetic;
            let result = arithmetic.apply_features(transform, query, keys, rescale)?;
            observer(Observation {
                step,
                elapsed: start.elapsed(),
                result: A::observed(&result),
            });
            values[step + 1] = Some(result);
        }
        let reply = own::<A>(self.perform(&run, rest, values, observer)?)?;
        workers.map(reply.len(), |i| {
            let rng = &mut Generator::new()?;
            let fresh = self.arithmetic.rerandomize(&reply[i], keys, rng)?;
            Ok(A::any(fresh))
        })
    }

    /// The products that read the query, and all other tasks.
    fn split_at_query(&self) -> Result<Parts<'_, A>, RuntimeError> {
        let tasks = self.tasks.iter();
        let (first, rest): (Vec<_>, Vec<_>) =
            tasks.partition(|task: &&Task<A>| task.inputs.contains(&QUERY));
        let first: Result<Vec<_>, _> = first.into_iter().map(product_of_query).collect();
        Ok((first?, rest))
    }
}

fn product_of_query<A: Arithmetic>(task: &Task<A>) -> Result<First<'_, A>, RuntimeError> {
    let alone = task.inputs.iter().all(|&value| value == QUERY);
    match &task.action {
        Action::PrivateLinear { transform, rescale } if alone => {
            Ok((task.step, transform, *rescale))
        }
        _ => Err(RuntimeError::PlainQuery { step: task.step }),
    }
}

/// Every operand's rotated slots, encoded.
pub(super) fn rotated<P>(
    operands: &[Operand],
    inputs: &[Vec<f64>],
    encode: impl Fn(&[f64]) -> Result<P, scuro_fhe::Error>,
) -> Result<Vec<P>, scuro_fhe::Error> {
    let one = |operand: &Operand| {
        let mut slots = inputs[operand.input].clone();
        slots.rotate_left(operand.baby);
        encode(&slots)
    };
    operands.iter().map(one).collect()
}
