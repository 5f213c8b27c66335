//! Runs a program on ciphertexts.

mod approximate;
mod arithmetic;
mod batch;
mod block;
mod exact;
mod features;
mod plan;
mod weights;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use rayon::ThreadPool;
use rayon::prelude::*;
use scuro_fhe::keys::EvaluationKeys;
use scuro_fhe::{AnyCiphertext, AnyContext, Context};
use scuro_program::{Packing, Program, Weights};

use crate::check;
use crate::error::RuntimeError;
use crate::observe::{Observation, Observer};
use crate::random::Generator;
use approximate::Approximate;
use arithmetic::{Arithmetic, FloodPlace};
use batch::BatchPlan;
use exact::Exact;
use plan::{Action, Sum, Task};
use weights::Supplied;

/// A program with its weights encoded; shared by any number of evaluations.
pub struct Prepared {
    program: Arc<Program>,
    plan: Plan,
}

enum Plan {
    Approximate(Single<Approximate>),
    Exact(Single<Exact>),
    Batch(Approximate, BatchPlan),
}

impl Prepared {
    /// Encodes the weights of a program.
    ///
    /// # Errors
    /// [`RuntimeError::Program`], [`RuntimeError::WrongContext`], [`RuntimeError::WrongWeights`],
    /// [`RuntimeError::Fhe`] for weights that cannot be encoded.
    pub fn new(
        program: &Arc<Program>,
        context: impl Into<AnyContext>,
    ) -> Result<Self, RuntimeError> {
        let context = context.into();
        check::context(program, &context)?;
        check::wanted_weights(program, Weights::Plain)?;
        let plan = match (program.packing, &context) {
            (Packing::SingleImage, AnyContext::Approximate(context)) => {
                let arithmetic = Approximate::new(context);
                Plan::Approximate(Single::new(program, context, arithmetic, None)?)
            }
            (Packing::SingleImage, AnyContext::Exact(context)) => {
                let arithmetic = Exact::new(program, context)?;
                Plan::Exact(Single::new(program, context.context(), arithmetic, None)?)
            }
            (Packing::Batch, context) => {
                let context = context.core();
                Plan::Batch(Approximate::new(context), BatchPlan::new(program, context)?)
            }
        };
        let program = Arc::clone(program);
        Ok(Self { program, plan })
    }

    /// A program whose weights come as ciphertexts, in the order of
    /// [`Program::weight_places`]. They are read step by step: decoded all together they would take
    /// more memory than the program does.
    ///
    /// # Errors
    /// [`RuntimeError::WrongWeights`], [`RuntimeError::WrongContext`],
    /// [`RuntimeError::WeightCount`], [`RuntimeError::WeightLevel`], [`RuntimeError::WeightScale`],
    /// [`RuntimeError::WeightFactor`], [`RuntimeError::WrongScheme`]; [`RuntimeError::Fhe`] for
    /// weights under different keys or other parameters.
    pub fn with_weights(
        program: &Arc<Program>,
        context: impl Into<AnyContext>,
        weights: impl ExactSizeIterator<Item = Result<AnyCiphertext, scuro_fhe::Error>>,
    ) -> Result<Self, RuntimeError> {
        let context = context.into();
        check::context(program, &context)?;
        check::wanted_weights(program, Weights::Withheld)?;
        let weights = Supplied::new(program, &context, weights)?;
        let plan = match &context {
            AnyContext::Approximate(context) => {
                let arithmetic = Approximate::new(context);
                Plan::Approximate(Single::new(program, context, arithmetic, Some(weights))?)
            }
            AnyContext::Exact(context) => {
                let arithmetic = Exact::new(program, context)?;
                let core = context.context();
                Plan::Exact(Single::new(program, core, arithmetic, Some(weights))?)
            }
        };
        let program = Arc::clone(program);
        Ok(Self { program, plan })
    }

    /// Bytes of the encoded weights.
    pub fn memory_bytes(&self) -> usize {
        match &self.plan {
            Plan::Approximate(single) => single.memory_bytes(),
            Plan::Exact(single) => single.memory_bytes(),
            Plan::Batch(_, batch) => batch.memory_bytes(),
        }
    }

    /// Public factor of an exact query.
    fn query_factor(&self) -> u64 {
        match &self.plan {
            Plan::Exact(single) => single.arithmetic.query_factor(),
            Plan::Approximate(_) | Plan::Batch(..) => 1,
        }
    }

    /// That `keys` hold every key that the program needs: what [`Prepared::evaluate`] asks first.
    ///
    /// # Errors
    /// [`RuntimeError::MissingRotationKey`], [`RuntimeError::MissingRelinearizationKey`].
    pub fn check_keys(&self, keys: &EvaluationKeys) -> Result<(), RuntimeError> {
        check::keys(&self.program, keys)
    }

    /// The reply to a query, on `threads` threads (1: the caller's own). A query that is given away
    /// is not copied.
    ///
    /// # Errors
    /// Everything that is wrong with query or keys is found before anything is computed:
    /// [`RuntimeError::QueryLength`], [`RuntimeError::QueryLevel`], [`RuntimeError::QueryScale`],
    /// [`RuntimeError::QueryParts`], [`RuntimeError::QueryFactor`], [`RuntimeError::WrongScheme`],
    /// [`RuntimeError::MissingRotationKey`], [`RuntimeError::MissingRelinearizationKey`],
    /// [`RuntimeError::MissingRelinearizedRotationKey`], [`RuntimeError::MissingPublicKey`],
    /// [`RuntimeError::Fhe`] for keys of another owner or other parameters;
    /// [`RuntimeError::Threads`]. Only after that: [`RuntimeError::Randomness`].
    pub fn evaluate<'q>(
        &self,
        keys: &EvaluationKeys,
        query: impl Into<Cow<'q, [AnyCiphertext]>>,
        threads: usize,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<AnyCiphertext>, RuntimeError> {
        let query = query.into();
        check::keys(&self.program, keys)?;
        check::query(&self.program, &query, self.query_factor())?;
        match &self.plan {
            Plan::Approximate(single) => single.run(keys, query, threads, observer),
            Plan::Exact(single) => single.run(keys, query, threads, observer),
            Plan::Batch(arithmetic, batch) => {
                let query = own::<Approximate>(query.into_owned())?;
                let pool = pool(threads.max(1))?;
                let reply = batch.run(&arithmetic.evaluator, keys, &query, &pool, observer)?;
                Ok(reply.into_iter().map(Approximate::any).collect())
            }
        }
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = &self.program.name;
        out.debug_struct("Prepared")
            .field("program", name)
            .finish_non_exhaustive()
    }
}

/// Ciphertexts of the scheme.
fn own<A: Arithmetic>(list: Vec<AnyCiphertext>) -> Result<Vec<A::Ciphertext>, RuntimeError> {
    let one = |(index, ciphertext)| {
        let own = A::own(ciphertext);
        own.ok_or(RuntimeError::WrongScheme { index })
    };
    list.into_iter().enumerate().map(one).collect()
}

fn pool(threads: usize) -> Result<ThreadPool, RuntimeError> {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
    builder
        .build()
        .map_err(|_| RuntimeError::Threads { threads })
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

/// A program for single images, ready to run.
struct Single<A: Arithmetic> {
    arithmetic: A,
    tasks: Vec<Task<A>>,
    values: usize,
    result: usize,
}

impl<A: Arithmetic> Single<A> {
    fn new(
        program: &Program,
        context: &Context,
        arithmetic: A,
        weights: Option<Supplied<'_>>,
    ) -> Result<Self, RuntimeError> {
        let primes = context.parameters().q();
        Ok(Self {
            tasks: plan::tasks(program, primes, &arithmetic, weights)?,
            arithmetic,
            values: program.steps.len() + 1,
            result: program.result.0 as usize,
        })
    }

    fn memory_bytes(&self) -> usize {
        let tasks = self.tasks.iter();
        tasks.map(|task| task.action.memory_bytes()).sum()
    }

    fn run(
        &self,
        keys: &EvaluationKeys,
        query: Cow<'_, [AnyCiphertext]>,
        threads: usize,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<AnyCiphertext>, RuntimeError> {
        let workers = Workers::new(threads)?;
        let mut values = self.no_values();
        values[0] = Some(own::<A>(query.into_owned())?);
        self.perform(&self.start(keys, &workers), &self.tasks, values, observer)
    }

    fn start<'a>(&'a self, keys: &'a EvaluationKeys, workers: &'a Workers) -> Run<'a, A> {
        Run {
            arithmetic: &self.arithmetic,
            keys,
            workers,
        }
    }

    fn no_values(&self) -> Vec<Option<Vec<A::Ciphertext>>> {
        vec![None; self.values]
    }

    /// Does `tasks` one after the other, beginning with `values`; the value of the result.
    fn perform<'a>(
        &self,
        run: &Run<'_, A>,
        tasks: impl IntoIterator<Item = &'a Task<A>>,
        mut values: Vec<Option<Vec<A::Ciphertext>>>,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<AnyCiphertext>, RuntimeError>
    where
        A: 'a,
    {
        for task in tasks {
            let start = Instant::now();
            let result = run.task(task, &values)?;
            observer(Observation {
                step: task.step,
                elapsed: start.elapsed(),
                result: A::observed(&result),
            });
            values[task.step + 1] = Some(result);
            task.frees.iter().for_each(|&value| values[value] = None);
        }
        Ok(self.reply(values))
    }

    /// The value of the result.
    fn reply(&self, mut values: Vec<Option<Vec<A::Ciphertext>>>) -> Vec<AnyCiphertext> {
        let reply = values.swap_remove(self.result).unwrap_or_default();
        reply.into_iter().map(A::any).collect()
    }
}

/// The values of a program, by number.
type Values<A> = [Option<Vec<<A as Arithmetic>::Ciphertext>>];

/// One evaluation.
struct Run<'a, A: Arithmetic> {
    arithmetic: &'a A,
    keys: &'a EvaluationKeys,
    workers: &'a Workers,
}

impl<A: Arithmetic> Run<'_, A> {
    fn task(&self, task: &Task<A>, values: &Values<A>) -> Result<Vec<A::Ciphertext>, RuntimeError> {
        let operand = |i: usize| {
            let value = task.inputs.get(i).and_then(|&id| values[id].as_deref());
            value.unwrap_or_default()
        };
        let (arithmetic, keys, first) = (self.arithmetic, self.keys, operand(0));
        match &task.action {
            Action::Linear { transform, rescale } => {
                let inputs = block::inputs(task, values);
                arithmetic.apply(transform, &inputs, keys, *rescale, self.workers)
            }
            Action::PrivateLinear { transform, rescale } => {
                let inputs = block::inputs(task, values);
                arithmetic.apply_private(transform, &inputs, keys, *rescale)
            }
            Action::Rotate(steps) => self.rotate(first, steps),
            Action::Flood(place) => self.flood(first, place),
            Action::Multiply => {
                let second = operand(1);
                self.each(first, &|i, x| arithmetic.multiply(x, &second[i]))
            }
            Action::Combine(combination) => {
                let operands: Vec<&[A::Ciphertext]> = (0..task.inputs.len()).map(operand).collect();
                self.each(first, &|i, _| arithmetic.combine(combination, &operands, i))
            }
            Action::Sums(sums) => self.sums(sums, &block::inputs(task, values)),
            action => self.slotwise(action, first),
        }
    }

    fn sums(
        &self,
        sums: &[Sum],
        inputs: &[&A::Ciphertext],
    ) -> Result<Vec<A::Ciphertext>, RuntimeError> {
        self.workers.map(sums.len(), |row| {
            let Sum {
                inputs: columns,
                combination,
            } = &sums[row];
            let operands: Vec<&[A::Ciphertext]> = columns
                .iter()
                .map(|&column| std::slice::from_ref(inputs[column]))
                .collect();
            Ok(self.arithmetic.combine(combination, &operands, 0)?)
        })
    }

    /// What is done to each ciphertext of one operand by itself.
    fn slotwise(
        &self,
        action: &Action<A>,
        operand: &[A::Ciphertext],
    ) -> Result<Vec<A::Ciphertext>, RuntimeError> {
        let (arithmetic, keys) = (self.arithmetic, self.keys);
        self.each(operand, &|i, x| match action {
            Action::Fold(stages) => arithmetic.fold(x, stages, keys),
            Action::Trace(period, scale) => arithmetic.trace(x, *period, *scale),
            Action::AddConstant(constants) => arithmetic.add_constant(x, &constants[i]),
            Action::AddPrivate(constants) => arithmetic.add(x, &constants[i]),
            Action::AddScalars(values, scale) => arithmetic.add_scalar(x, values[i], *scale),
            Action::Square => arithmetic.multiply(x, x),
            Action::Relinearize => arithmetic.relinearize(x, keys),
            Action::RelinearizeRescale => arithmetic.relinearize_rescale(x, keys),
            Action::Rescale => arithmetic.rescale(x),
            Action::ModDrop(level) => arithmetic.mod_drop(x, *level),
            // `task` has taken these.
            Action::Linear { .. }
            | Action::PrivateLinear { .. }
            | Action::Rotate(_)
            | Action::Multiply
            | Action::Flood(..)
            | Action::Sums(_)
            | Action::Combine(_) => Ok(x.clone()),
        })
    }

    fn each<F>(&self, operand: &[A::Ciphertext], f: &F) -> Result<Vec<A::Ciphertext>, RuntimeError>
    where
        F: Fn(usize, &A::Ciphertext) -> Result<A::Ciphertext, scuro_fhe::Error> + Sync,
    {
        self.workers.map(operand.len(), |i| Ok(f(i, &operand[i])?))
    }

    fn flood(
        &self,
        reply: &[A::Ciphertext],
        place: &FloodPlace,
    ) -> Result<Vec<A::Ciphertext>, RuntimeError> {
        self.workers.map(reply.len(), |i| {
            let (mut rng, keys) = (Generator::new()?, self.keys);
            let flooded = self.arithmetic.flood(&reply[i], place, keys, &mut rng);
            Ok(flooded?)
        })
    }

    fn rotate(
        &self,
        operand: &[A::Ciphertext],
        steps: &[usize],
    ) -> Result<Vec<A::Ciphertext>, RuntimeError> {
        let by_operand = self.workers.map(operand.len(), |i| {
            Ok(self.arithmetic.rotations(&operand[i], steps, self.keys)?)
        })?;
        let of_step = |step: usize| by_operand.iter().map(move |rotated| rotated[step].clone());
        Ok((0..steps.len()).flat_map(of_step).collect())
    }
}
