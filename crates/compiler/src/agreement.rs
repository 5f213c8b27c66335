//! Pass: how often the answers of an exact program are those of the network.
//!
//! Exact programs compute with integers: what rounding weights and query to them costs is the same
//! in every run, and can be seen before anything is encrypted.

use rayon::prelude::*;
use scuro_nn::graph::Graph;
use scuro_nn::reference::Executor;
use scuro_nn::tensor::Tensor;
use scuro_program::{Program, SlotValue, interpret_all};

use crate::error::CompileError;
use crate::layout::Layout;
use crate::ranges;

/// Most queries that are looked at.
const QUERIES: usize = 512;

/// A program whose weights are rounded, and where its elements lie.
pub(crate) struct Rounded<'a> {
    pub(crate) program: &'a Program,
    pub(crate) input: &'a Layout,
    pub(crate) output: &'a Layout,
}

impl Rounded<'_> {
    /// The share of examples to which program and network give the same answer, the index of the
    /// largest output; nothing for networks with a single output, which have no such answer.
    ///
    /// `queries` are examples, several of them one after the other where they share a query.
    pub(crate) fn agreement(
        &self,
        graph: &Graph,
        queries: &[Tensor],
    ) -> Result<Option<f64>, CompileError> {
        if self.outputs() < 2 || queries.is_empty() {
            return Ok(None);
        }
        let executor = Executor::new(graph)?;
        let affordable = ranges::affordable(&self.program.steps, QUERIES);
        let count = queries.len().min(affordable);
        // Spread over the calibration data, which may be ordered by class.
        let agreeing = |i: usize| {
            let query = &queries[i * queries.len() / count];
            let expected = self.expected(&executor, query);
            let pairs = expected.into_iter().zip(self.answers(query));
            pairs.filter(|(expected, found)| expected == found).count()
        };
        let agreeing: usize = (0..count).into_par_iter().map(agreeing).sum();
        Ok(Some(agreeing as f64 / (count * self.images()) as f64))
    }

    fn images(&self) -> usize {
        self.program.input.examples as usize
    }

    /// Of one image.
    fn outputs(&self) -> usize {
        self.output.elements() / self.images()
    }

    /// What the network answers to each image of a query.
    fn expected(&self, executor: &Executor<'_>, query: &Tensor) -> Vec<usize> {
        let length = query.data.len() / self.images();
        let image = |i: usize| &query.data[i * length..(i + 1) * length];
        let fill = |i: usize, out: &mut [f32]| out.copy_from_slice(image(i));
        let scores = executor.run_each(self.images(), fill);
        scores.chunks(self.outputs()).map(largest).collect()
    }

    /// What the program answers to each image of a query.
    fn answers(&self, query: &Tensor) -> Vec<usize> {
        let mut values = interpret_all(&self.program.steps, self.query(&query.data));
        let result = values.swap_remove(self.program.result.0 as usize);
        let score = |element: usize| {
            let (ciphertext, slot) = self.output.places(element)[0];
            result[ciphertext as usize][slot as usize]
        };
        let scores: Vec<f64> = (0..self.output.elements()).map(score).collect();
        scores.chunks(self.outputs()).map(largest).collect()
    }

    /// The slots of a query, rounded as encoding rounds them.
    fn query(&self, query: &[f32]) -> SlotValue {
        let unit = self.program.input.scale_log2.exp2();
        let mut slots = ranges::fill(self.input, query);
        let each = slots.iter_mut().flatten();
        each.for_each(|slot| *slot = (*slot * unit).round() / unit);
        slots
    }
}

/// The index of the largest score, the first of equals.
fn largest<T: PartialOrd>(scores: &[T]) -> usize {
    let larger = |best: usize, next: usize| {
        if scores[next] > scores[best] {
            next
        } else {
            best
        }
    };
    (0..scores.len()).reduce(larger).unwrap_or(0)
}
