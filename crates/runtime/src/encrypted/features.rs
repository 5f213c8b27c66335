//! Queries that are not encrypted: the evaluator computes the features itself, the weights are
//! ciphertexts.

use std::collections::BTreeMap;
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

/// A product of plain values: the step of its value, their numbers, its weights, whether it is
/// rescaled.
type First<'a, A> = (usize, &'a [usize], &'a <A as Arithmetic>::Private, bool);

/// What becomes of a query in clear.
struct Parts<'a, A: Arithmetic> {
    /// The query and its rotations, by their numbers: `[ciphertexts][slots]`.
    plain: BTreeMap<usize, Vec<Vec<f64>>>,
    first: Vec<First<'a, A>>,
    /// All tasks of ciphertexts.
    rest: Vec<&'a Task<A>>,
}

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
    /// and its rotations, and these alone; [`RuntimeError::QueryLength`],
    /// [`RuntimeError::QuerySlots`], and as [`Prepared::evaluate`] for keys, among which the public
    /// one is needed in any case, threads and randomness.
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
        let Parts { plain, first, rest } = self.split_at_query(query)?;
        check::public_key(keys)?;
        let workers = Workers::new(threads)?;
        let run = self.start(keys, &workers);
        let mut values = self.no_values();
        for (step, inputs, transform, rescale) in first {
            let start = Instant::now();
            let arithmetic = &self.arithmetic;
            let slots: Vec<Vec<f64>> = inputs.iter().flat_map(|id| plain[id].clone()).collect();
            let result = arithmetic.apply_features(transform, &slots, keys, rescale)?;
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

    /// The query's rotations, the products that read it or them, and all other tasks.
    fn split_at_query(&self, query: &[Vec<f64>]) -> Result<Parts<'_, A>, RuntimeError> {
        let mut parts = Parts {
            plain: BTreeMap::from([(QUERY, query.to_vec())]),
            first: Vec::new(),
            rest: Vec::new(),
        };
        for task in &self.tasks {
            let inputs = task.inputs.iter();
            let plain = inputs.filter(|id| parts.plain.contains_key(id)).count();
            match &task.action {
                _ if plain == 0 => parts.rest.push(task),
                Action::Rotate(steps) => {
                    let slots = &parts.plain[&task.inputs[0]];
                    let rotated = steps
                        .iter()
                        .flat_map(|&step| slots.iter().map(move |slots| turned(slots, step)));
                    let rotated = rotated.collect();
                    parts.plain.insert(task.step + 1, rotated);
                }
                Action::PrivateLinear { transform, rescale } if plain == task.inputs.len() => {
                    let product = (task.step, &task.inputs[..], transform, *rescale);
                    parts.first.push(product);
                }
                _ => return Err(RuntimeError::PlainQuery { step: task.step }),
            }
        }
        Ok(parts)
    }
}

/// Slots rotated to the left.
fn turned(slots: &[f64], step: usize) -> Vec<f64> {
    let mut turned = slots.to_vec();
    turned.rotate_left(step);
    turned
}

/// Every operand's rotated slots, encoded.
pub(super) fn rotated<P>(
    operands: &[Operand],
    inputs: &[Vec<f64>],
    encode: impl Fn(&[f64]) -> Result<P, scuro_fhe::Error>,
) -> Result<Vec<P>, scuro_fhe::Error> {
    let one = |operand: &Operand| encode(&turned(&inputs[operand.input], operand.baby));
    operands.iter().map(one).collect()
}
