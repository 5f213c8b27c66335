//! From steps to tasks: weights encoded, steps that are cheaper together joined, values freed
//! early.

use scuro_program::{
    Linear, Operation, Program, ScalarLinear, SlotVector, Step, ValueId, ValueShape,
};

use super::arithmetic::{Arithmetic, Combination, ConstantPlace, FloodPlace, LinearPlace};
use super::weights::Supplied;
use crate::error::RuntimeError;

/// A step, or two joined ones, ready to run.
pub(super) struct Task<A: Arithmetic> {
    /// The step whose value is the result.
    pub(super) step: usize,
    /// Operands, as value numbers.
    pub(super) inputs: Vec<usize>,
    /// What to do.
    pub(super) action: Action<A>,
    /// Values that nothing reads afterwards.
    pub(super) frees: Vec<usize>,
}

/// What a task does.
pub(super) enum Action<A: Arithmetic> {
    Linear {
        transform: A::Transform,
        rescale: bool,
    },
    PrivateLinear {
        transform: A::Private,
        rescale: bool,
    },
    Rotate(Vec<usize>),
    Fold(Vec<Vec<usize>>),
    AddConstant(Vec<A::Constant>),
    AddPrivate(Vec<A::Ciphertext>),
    /// Values and the scale of what they are added to.
    AddScalars(Vec<f64>, f64),
    Square,
    Multiply,
    Relinearize,
    RelinearizeRescale,
    Rescale,
    ModDrop(usize),
    Combine(Combination),
    /// One ciphertext each, of the ciphertexts of all operands.
    Sums(Vec<Sum>),
    /// Period, and scale of the result.
    Trace(usize, f64),
    Flood(FloodPlace),
}

/// A sum of multiples of some ciphertexts.
pub(super) struct Sum {
    /// Which, counted through the operands.
    pub(super) inputs: Vec<usize>,
    /// By what.
    pub(super) combination: Combination,
}

impl<A: Arithmetic> Action<A> {
    /// Bytes of what was encoded for it.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Action::Linear { transform, .. } => A::transform_bytes(transform),
            Action::PrivateLinear { transform, .. } => A::private_bytes(transform),
            Action::AddConstant(constants) => constants.iter().map(A::constant_bytes).sum(),
            Action::AddPrivate(constants) => {
                let any = constants.iter().cloned().map(A::any);
                let words = |c: scuro_fhe::AnyCiphertext| {
                    let parts = c.parts().iter();
                    parts.map(|part| size_of_val(part.words())).sum::<usize>()
                };
                any.map(words).sum()
            }
            _ => 0,
        }
    }
}

/// All tasks of a program; `weights` are the ciphertexts of one whose weights are withheld.
pub(super) fn tasks<A: Arithmetic>(
    program: &Program,
    primes: &[u64],
    arithmetic: &A,
    weights: Option<Supplied<'_>>,
) -> Result<Vec<Task<A>>, RuntimeError> {
    let shapes = program.validate()?;
    let scales = program.scales(&shapes, primes);
    let mut planner = Planner {
        program,
        arithmetic,
        shapes,
        scales,
        weights,
    };
    let mut tasks = Vec::with_capacity(program.steps.len());
    let mut step = 0;
    while step < program.steps.len() {
        let task = planner.task(step)?;
        step = task.step + 1;
        tasks.push(task);
    }
    free_early(&mut tasks, program.result.0 as usize);
    Ok(tasks)
}

/// Frees each value after the last task that reads it.
fn free_early<A: Arithmetic>(tasks: &mut [Task<A>], result: usize) {
    let values = tasks.last().map_or(0, |task| task.step + 2);
    let mut last_use = vec![None; values];
    for (at, task) in tasks.iter().enumerate() {
        last_use[task.step + 1] = Some(at);
        task.inputs
            .iter()
            .for_each(|&value| last_use[value] = Some(at));
    }
    last_use[result] = None;
    for (value, at) in last_use.into_iter().enumerate() {
        if let Some(at) = at {
            tasks[at].frees.push(value);
        }
    }
}

struct Planner<'a, A: Arithmetic> {
    program: &'a Program,
    arithmetic: &'a A,
    shapes: Vec<ValueShape>,
    scales: Vec<f64>,
    weights: Option<Supplied<'a>>,
}

impl<A: Arithmetic> Planner<'_, A> {
    fn task(&mut self, index: usize) -> Result<Task<A>, RuntimeError> {
        let program = self.program;
        let step = &program.steps[index];
        let rescale = self.rescaled_next(index);
        let (action, joined) = match (&step.operation, &mut self.weights) {
            (Operation::Linear(linear), None) => {
                let transform = self.arithmetic.transform(&self.place(index, linear))?;
                (Action::Linear { transform, rescale }, rescale)
            }
            (Operation::Linear(linear), Some(weights)) => {
                let weights = weights.take::<A>(index)?;
                let place = self.place(index, linear);
                let transform = self.arithmetic.private(&place, weights)?;
                (Action::PrivateLinear { transform, rescale }, rescale)
            }
            (Operation::AddConstant { .. }, Some(weights)) => {
                (Action::AddPrivate(weights.take::<A>(index)?), false)
            }
            (Operation::Relinearize, _) if rescale => (Action::RelinearizeRescale, true),
            _ => (self.plain_action(index, step)?, false),
        };
        Ok(Task {
            step: index + usize::from(joined),
            inputs: step.inputs.iter().map(|id| id.0 as usize).collect(),
            action,
            frees: Vec::new(),
        })
    }

    /// Whether the next step rescales this one's value and nothing else reads it.
    fn rescaled_next(&self, index: usize) -> bool {
        let value = index + 1;
        let reads = |step: &Step| step.inputs.iter().any(|id| id.0 as usize == value);
        let later = &self.program.steps[value..];
        later
            .first()
            .is_some_and(|next| next.operation == Operation::Rescale && reads(next))
            && later.iter().filter(|step| reads(step)).count() == 1
            && self.program.result.0 as usize != value
    }

    fn plain_action(&self, index: usize, step: &Step) -> Result<Action<A>, RuntimeError> {
        Ok(match &step.operation {
            Operation::Linear(linear) => Action::Linear {
                transform: self.arithmetic.transform(&self.place(index, linear))?,
                rescale: false,
            },
            Operation::Rotate { steps } => {
                Action::Rotate(steps.iter().map(|&s| s as usize).collect())
            }
            Operation::Fold { stages } => {
                Action::Fold(stages.iter().map(|s| with_self(s)).collect())
            }
            Operation::Trace { period, .. } => {
                Action::Trace(*period as usize, self.scales[index + 1])
            }
            Operation::AddConstant { values } => self.constants(index, values)?,
            Operation::AddScalars { values } => {
                Action::AddScalars(values.clone(), self.scales[index + 1])
            }
            Operation::Square => Action::Square,
            Operation::Multiply => Action::Multiply,
            Operation::Relinearize => Action::Relinearize,
            Operation::Rescale => Action::Rescale,
            Operation::ModDrop { level } => Action::ModDrop(*level as usize),
            Operation::Combine { factors, .. } => {
                Action::Combine(self.combination(index, step, factors))
            }
            Operation::Flood(flood) => {
                let traced = self.shapes[index + 1].traced;
                Action::Flood(FloodPlace {
                    flood: *flood,
                    magnitude: step.estimate.max_abs * self.scales[index + 1],
                    traced: traced.map(|period| period as usize),
                })
            }
            Operation::ScalarLinear(matrix) => Action::Sums(self.sums(index, matrix)),
        })
    }

    /// A matrix of integers, row by row.
    fn sums(&self, index: usize, matrix: &ScalarLinear) -> Vec<Sum> {
        let unit = matrix.weight_scale_log2.exp2();
        let row = |bounds: &[u32]| {
            let entries = bounds[0] as usize..bounds[1] as usize;
            let weights = matrix.weight[entries.clone()].iter();
            Sum {
                inputs: matrix.column[entries].iter().map(|&c| c as usize).collect(),
                combination: Combination {
                    factors: weights.map(|&w| (f64::from(w) / unit, unit)).collect(),
                    scale: self.scales[index + 1],
                },
            }
        };
        matrix.row_starts.windows(2).map(row).collect()
    }

    fn place<'s>(&self, index: usize, linear: &'s Linear) -> LinearPlace<'s> {
        let inputs = &self.program.steps[index].inputs;
        let value = |id: &ValueId| id.0 as usize;
        let counts = inputs.iter().map(|id| self.shapes[value(id)].ciphertexts);
        let mut firsts = vec![0];
        for count in counts {
            firsts.push(firsts[firsts.len() - 1] + count);
        }
        let total = firsts.pop().unwrap_or(0);
        LinearPlace {
            linear,
            level: self.shapes[value(&inputs[0])].level as usize,
            inputs: total,
            firsts,
            operand_scales: inputs.iter().map(|id| self.scales[value(id)]).collect(),
            result_scale: self.scales[index + 1],
        }
    }

    fn constants(&self, index: usize, values: &[SlotVector]) -> Result<Action<A>, RuntimeError> {
        let encode = |values| {
            self.arithmetic.constant(&ConstantPlace {
                values,
                level: self.shapes[index + 1].level as usize,
                scale: self.scales[index + 1],
                value: index + 1,
            })
        };
        let constants: Result<_, RuntimeError> = values.iter().map(encode).collect();
        Ok(Action::AddConstant(constants?))
    }

    fn combination(&self, index: usize, step: &Step, factors: &[f64]) -> Combination {
        let scale = self.scales[index + 1];
        let at = |i: usize| scale / self.scales[step.inputs[i].0 as usize];
        let factors = factors
            .iter()
            .enumerate()
            .map(|(i, &f)| (f, at(i)))
            .collect();
        Combination { factors, scale }
    }
}

/// Rotation steps of a fold stage, the unrotated summand included.
fn with_self(steps: &[u32]) -> Vec<usize> {
    std::iter::once(0)
        .chain(steps.iter().map(|&step| step as usize))
        .collect()
}
