//! Runs a program on ciphertexts.

mod batch;
mod block;
mod features;
mod plan;
mod private;

use std::sync::Arc;
use std::time::Instant;

use rayon::ThreadPool;
use rayon::prelude::*;
use scuro_fhe::Context;
use scuro_fhe::ckks::{Ciphertext, Encoder, Evaluator};
use scuro_fhe::keys::EvaluationKeys;
use scuro_program::{Packing, Program, Weights};

use crate::check;
use crate::error::RuntimeError;
use crate::observe::{Observation, Observer};
use batch::BatchPlan;
use plan::{Action, Task};
use private::Supplied;

/// A program with its weights encoded; shared by any number of evaluations.
pub struct Prepared {
    program: Arc<Program>,
    evaluator: Evaluator,
    encoder: Encoder,
    plan: Plan,
}

enum Plan {
    SingleImage(Vec<Task>),
    Batch(BatchPlan),
}

impl Prepared {
    /// Encodes the weights of a program.
    ///
    /// # Errors
    /// [`RuntimeError::Program`], [`RuntimeError::WrongContext`], [`RuntimeError::Fhe`] for weights
    /// that cannot be encoded.
    pub fn new(program: &Arc<Program>, context: Arc<Context>) -> Result<Self, RuntimeError> {
        check::context(program, &context)?;
        check::wanted_weights(program, Weights::Plain)?;
        let plan = match program.packing {
            Packing::SingleImage => {
                Plan::SingleImage(plan::tasks(program, &Encoder::new(&context), None)?)
            }
            Packing::Batch => Plan::Batch(BatchPlan::new(program, &context)?),
        };
        Ok(Self::with_plan(program, &context, plan))
    }

    /// A program whose weights come as ciphertexts, in the order of
    /// [`Program::weight_places`].
    ///
    /// # Errors
    /// [`RuntimeError::WrongWeights`], [`RuntimeError::WrongContext`],
    /// [`RuntimeError::WeightCount`], [`RuntimeError::WeightLevel`], [`RuntimeError::WeightScale`];
    /// [`RuntimeError::Fhe`] for weights under different keys or other parameters.
    pub fn with_weights(
        program: &Arc<Program>,
        context: Arc<Context>,
        weights: Vec<Ciphertext>,
    ) -> Result<Self, RuntimeError> {
        check::context(program, &context)?;
        check::wanted_weights(program, Weights::Withheld)?;
        check::weights(program, &context, &weights)?;
        let supplied = Supplied::new(program, &context, weights)?;
        let tasks = plan::tasks(program, &Encoder::new(&context), Some(supplied))?;
        Ok(Self::with_plan(program, &context, Plan::SingleImage(tasks)))
    }

    fn with_plan(program: &Arc<Program>, context: &Arc<Context>, plan: Plan) -> Self {
        Self {
            program: Arc::clone(program),
            evaluator: Evaluator::new(context),
            encoder: Encoder::new(context),
            plan,
        }
    }

    /// Bytes of the encoded weights.
    pub fn memory_bytes(&self) -> usize {
        match &self.plan {
            Plan::SingleImage(tasks) => tasks.iter().map(|task| task.action.memory_bytes()).sum(),
            Plan::Batch(batch) => batch.memory_bytes(),
        }
    }

    /// The reply to a query, on `threads` threads (1: the caller's own).
    ///
    /// # Errors
    /// Everything that is wrong with query or keys is found before anything is computed:
    /// [`RuntimeError::QueryLength`], [`RuntimeError::QueryLevel`], [`RuntimeError::QueryScale`],
    /// [`RuntimeError::QueryParts`], [`RuntimeError::MissingRotationKey`],
    /// [`RuntimeError::MissingRelinearizationKey`], [`RuntimeError::Fhe`] for keys of another owner
    /// or other parameters; [`RuntimeError::Threads`].
    pub fn evaluate(
        &self,
        keys: &EvaluationKeys,
        query: &[Ciphertext],
        threads: usize,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        check::keys(&self.program, keys)?;
        check::query(&self.program, query)?;
        let tasks = match &self.plan {
            Plan::SingleImage(tasks) => tasks,
            Plan::Batch(batch) => {
                let pool = pool(threads.max(1))?;
                return batch.run(&self.evaluator, keys, query, &pool, observer);
            }
        };
        let workers = Workers::new(threads)?;
        let run = Run {
            evaluator: &self.evaluator,
            keys,
            workers: &workers,
        };
        let mut values = self.no_values();
        values[0] = Some(query.to_vec());
        self.perform(&run, tasks, values, observer)
    }

    fn no_values(&self) -> Vec<Option<Vec<Ciphertext>>> {
        vec![None; self.program.steps.len() + 1]
    }

    /// Does `tasks` one after the other, beginning with `values`; the value of the result.
    fn perform<'a>(
        &self,
        run: &Run<'_>,
        tasks: impl IntoIterator<Item = &'a Task>,
        mut values: Vec<Option<Vec<Ciphertext>>>,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        for task in tasks {
            let start = Instant::now();
            let result = run.task(task, &values)?;
            observer(Observation {
                step: task.step,
                elapsed: start.elapsed(),
                result: &result,
            });
            values[task.step + 1] = Some(result);
            task.frees.iter().for_each(|&value| values[value] = None);
        }
        let result = self.program.result.0 as usize;
        Ok(values.swap_remove(result).unwrap_or_default())
    }
}

fn pool(threads: usize) -> Result<ThreadPool, RuntimeError> {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
    builder
        .build()
        .map_err(|_| RuntimeError::Threads { threads })
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = &self.program.name;
        out.debug_struct("Prepared")
            .field("program", name)
            .finish_non_exhaustive()
    }
}

/// Runs independent pieces of a step, on threads of its own if there are to be several.
pub(crate) struct Workers {
    pool: Option<ThreadPool>,
}

impl Workers {
    fn new(threads: usize) -> Result<Self, RuntimeError> {
        let pool = if threads > 1 {
            Some(pool(threads)?)
        } else {
            None
        };
        Ok(Self { pool })
    }

    /// `f(0), f(1), ..., f(count - 1)`, in order; the first error in order.
    fn map<T: Send>(
        &self,
        count: usize,
        f: impl Fn(usize) -> Result<T, RuntimeError> + Sync + Send,
    ) -> Result<Vec<T>, RuntimeError> {
        match &self.pool {
            Some(pool) => pool.install(|| (0..count).into_par_iter().map(f).collect()),
            None => (0..count).map(f).collect(),
        }
    }
}

/// One evaluation.
struct Run<'a> {
    evaluator: &'a Evaluator,
    keys: &'a EvaluationKeys,
    workers: &'a Workers,
}

type Values = [Option<Vec<Ciphertext>>];

impl Run<'_> {
    fn task(&self, task: &Task, values: &Values) -> Result<Vec<Ciphertext>, RuntimeError> {
        let operand = |i: usize| {
            let value = task.inputs.get(i).and_then(|&id| values[id].as_deref());
            value.unwrap_or_default()
        };
        let (evaluator, keys, first) = (self.evaluator, self.keys, operand(0));
        let each =
            |f: &(dyn Fn(usize, &Ciphertext) -> Result<Ciphertext, scuro_fhe::Error> + Sync)| {
                self.workers.map(first.len(), |i| Ok(f(i, &first[i])?))
            };
        match &task.action {
            Action::Linear { transform, rescale } => {
                self.linear(transform, &block::inputs(task, values), *rescale)
            }
            Action::PrivateLinear { transform, rescale } => {
                transform.apply(evaluator, &block::inputs(task, values), keys, *rescale)
            }
            Action::Rotate(steps) => self.rotate(first, steps),
            Action::Fold(stages) => each(&|_, x| plan::fold(evaluator, x, stages, keys)),
            Action::AddConstant(constants) => each(&|i, x| match &constants[i] {
                Some(constant) => evaluator.add_plain(x, constant),
                None => Ok(x.clone()),
            }),
            Action::AddPrivate(constants) => each(&|i, x| evaluator.add(x, &constants[i])),
            Action::AddScalars(values) => each(&|i, x| evaluator.add_constant(x, values[i])),
            Action::Square => each(&|_, x| evaluator.square(x)),
            Action::Multiply => {
                let second = operand(1);
                each(&|i, x| evaluator.mul(x, &second[i]))
            }
            Action::Relinearize => each(&|_, x| evaluator.relinearize(x, keys)),
            Action::RelinearizeRescale => each(&|_, x| evaluator.relinearize_rescale(x, keys)),
            Action::Rescale => each(&|_, x| evaluator.rescale(x)),
            Action::ModDrop(level) => each(&|_, x| evaluator.mod_drop(x, *level)),
            Action::Combine(combine) => {
                let operands: Vec<&[Ciphertext]> = (0..task.inputs.len()).map(operand).collect();
                each(&|i, _| combine.apply(evaluator, &operands, i))
            }
        }
    }

    fn rotate(
        &self,
        operand: &[Ciphertext],
        steps: &[usize],
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        let by_operand = self.workers.map(operand.len(), |i| {
            Ok(self
                .evaluator
                .rotate_hoisted(&operand[i], steps, self.keys)?)
        })?;
        let of_step = |step: usize| by_operand.iter().map(move |rotated| rotated[step].clone());
        Ok((0..steps.len()).flat_map(of_step).collect())
    }

    fn linear(
        &self,
        transform: &plan::Transform,
        inputs: &[&Ciphertext],
        rescale: bool,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        let inputs = transform.align(inputs)?;
        let inputs: Vec<&Ciphertext> = inputs.iter().map(AsRef::as_ref).collect();
        let prepared = &transform.prepared;
        let operands = prepared.operands(self.evaluator, &inputs, self.keys)?;
        self.workers.map(prepared.outputs(), |output| {
            Ok(prepared.output(self.evaluator, &operands, output, self.keys, rescale)?)
        })
    }
}
