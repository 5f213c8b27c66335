//! From steps to tasks: weights encoded, steps that are cheaper together joined, values freed
//! early.

use std::borrow::Cow;

use scuro_fhe::circuits::linear::encrypted::{EncryptedDiagonal, EncryptedTransform};
use scuro_fhe::circuits::linear::{Diagonal, LinearTransform, PreparedTransform, SlotValues};
use scuro_fhe::ckks::{Ciphertext, Encoder, Evaluator, Plaintext};
use scuro_fhe::keys::EvaluationKeys;
use scuro_program::{Linear, Operation, Program, SlotVector, Step, ValueId, ValueShape};

use super::private::{PrivateTransform, Supplied};
use crate::error::RuntimeError;

/// A step, or two joined ones, ready to run.
pub(super) struct Task {
    /// The step whose value is the result.
    pub(super) step: usize,
    /// Operands, as value numbers.
    pub(super) inputs: Vec<usize>,
    /// What to do.
    pub(super) action: Action,
    /// Values that nothing reads afterwards.
    pub(super) frees: Vec<usize>,
}

/// What a task does.
pub(super) enum Action {
    Linear {
        transform: Transform,
        rescale: bool,
    },
    PrivateLinear {
        transform: PrivateTransform,
        rescale: bool,
    },
    Rotate(Vec<usize>),
    Fold(Vec<Vec<usize>>),
    AddConstant(Vec<Option<Plaintext>>),
    AddPrivate(Vec<Ciphertext>),
    AddScalars(Vec<f64>),
    Square,
    Multiply,
    Relinearize,
    RelinearizeRescale,
    Rescale,
    ModDrop(usize),
    Combine(Combine),
}

impl Action {
    /// Bytes of what was encoded for it.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Action::Linear { transform, .. } => transform.prepared.memory_bytes(),
            Action::PrivateLinear { transform, .. } => transform.prepared.memory_bytes(),
            Action::AddPrivate(constants) => {
                let parts = constants.iter().flat_map(|c| c.parts());
                parts.map(|part| size_of_val(part.words())).sum()
            }
            Action::AddConstant(constants) => constants
                .iter()
                .flatten()
                .map(|p| size_of_val(p.poly().words()))
                .sum(),
            _ => 0,
        }
    }
}

/// A diagonal transform whose operands may have different scales.
pub(super) struct Transform {
    pub(super) prepared: PreparedTransform,
    /// The scale that every input is declared to have; the diagonals make up for the difference.
    scale: f64,
}

impl Transform {
    /// The inputs, all declared to have the scale of the first operand.
    pub(super) fn align<'a>(
        &self,
        inputs: &[&'a Ciphertext],
    ) -> Result<Vec<Cow<'a, Ciphertext>>, RuntimeError> {
        aligned(inputs, self.scale)
    }
}

/// Ciphertexts declared to have one scale; what they are multiplied with makes up for it.
pub(super) fn aligned<'a>(
    inputs: &[&'a Ciphertext],
    scale: f64,
) -> Result<Vec<Cow<'a, Ciphertext>>, RuntimeError> {
    let one = |&input: &&'a Ciphertext| {
        if input.scale() == scale {
            return Ok(Cow::Borrowed(input));
        }
        let mut aligned = input.clone();
        aligned.set_scale(scale)?;
        Ok(Cow::Owned(aligned))
    };
    inputs.iter().map(one).collect()
}

/// Sum of multiples.
pub(super) struct Combine {
    /// Factor and the scale it is rounded at, one per operand.
    factors: Vec<(f64, f64)>,
    /// Scale of the result.
    scale: f64,
}

impl Combine {
    /// Ciphertext `index` of the result.
    pub(super) fn apply(
        &self,
        evaluator: &Evaluator,
        operands: &[&[Ciphertext]],
        index: usize,
    ) -> Result<Ciphertext, scuro_fhe::Error> {
        let mut sum: Option<Ciphertext> = None;
        for (&(factor, scale), operand) in self.factors.iter().zip(operands) {
            let mut term = evaluator.mul_constant(&operand[index], factor, scale)?;
            term.set_scale(self.scale)?;
            sum = Some(match sum {
                Some(sum) => evaluator.add(&sum, &term)?,
                None => term,
            });
        }
        sum.ok_or(scuro_fhe::Error::EmptyOutput { output: index })
    }
}

/// Sums rotations stage by stage.
pub(super) fn fold(
    evaluator: &Evaluator,
    ciphertext: &Ciphertext,
    stages: &[Vec<usize>],
    keys: &EvaluationKeys,
) -> Result<Ciphertext, scuro_fhe::Error> {
    let mut stages = stages.iter();
    let Some(first) = stages.next() else {
        return Ok(ciphertext.clone());
    };
    let sum = evaluator.rotate_sum(ciphertext, first, keys)?;
    stages.try_fold(sum, |sum, steps| evaluator.rotate_sum(&sum, steps, keys))
}

/// All tasks of a program; `weights` are the ciphertexts of one whose weights are withheld.
pub(super) fn tasks(
    program: &Program,
    encoder: &Encoder,
    weights: Option<Supplied>,
) -> Result<Vec<Task>, RuntimeError> {
    let shapes = program.validate()?;
    let scales = program.scales(&shapes, encoder.context().parameters().q());
    let mut planner = Planner {
        program,
        encoder,
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
fn free_early(tasks: &mut [Task], result: usize) {
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

struct Planner<'a> {
    program: &'a Program,
    encoder: &'a Encoder,
    shapes: Vec<ValueShape>,
    scales: Vec<f64>,
    weights: Option<Supplied>,
}

impl Planner<'_> {
    fn task(&mut self, index: usize) -> Result<Task, RuntimeError> {
        let program = self.program;
        let step = &program.steps[index];
        let rescale = self.rescaled_next(index);
        let (action, joined) = match (&step.operation, &mut self.weights) {
            (Operation::Linear(linear), None) => {
                let transform = self.transform(index, linear)?;
                (Action::Linear { transform, rescale }, rescale)
            }
            (Operation::Linear(linear), Some(weights)) => {
                let weights = weights.take(index);
                let transform = self.private_transform(index, linear, weights)?;
                (Action::PrivateLinear { transform, rescale }, rescale)
            }
            (Operation::AddConstant { .. }, Some(weights)) => {
                (Action::AddPrivate(weights.take(index)), false)
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

    fn plain_action(&self, index: usize, step: &Step) -> Result<Action, RuntimeError> {
        Ok(match &step.operation {
            Operation::Linear(linear) => Action::Linear {
                transform: self.transform(index, linear)?,
                rescale: false,
            },
            Operation::Rotate { steps } => {
                Action::Rotate(steps.iter().map(|&s| s as usize).collect())
            }
            Operation::Fold { stages } => {
                Action::Fold(stages.iter().map(|s| with_self(s)).collect())
            }
            Operation::AddConstant { values } => self.constants(index, values)?,
            Operation::AddScalars { values } => Action::AddScalars(values.clone()),
            Operation::Square => Action::Square,
            Operation::Multiply => Action::Multiply,
            Operation::Relinearize => Action::Relinearize,
            Operation::Rescale => Action::Rescale,
            Operation::ModDrop { level } => Action::ModDrop(*level as usize),
            Operation::Combine { factors, .. } => self.combine(index, step, factors),
            Operation::ScalarLinear(_) => {
                let operation = step.operation.name();
                return Err(RuntimeError::WrongPacking {
                    step: index,
                    operation,
                });
            }
        })
    }

    fn transform(&self, index: usize, linear: &Linear) -> Result<Transform, RuntimeError> {
        let step = &self.program.steps[index];
        let value = |operand: u32| step.inputs[operand as usize].0 as usize;
        let scale = self.scales[value(0)];
        let firsts = self.first_inputs(step);
        let diagonal = |d: &scuro_program::Diagonal| Diagonal {
            output: d.output as usize,
            input: firsts[d.operand as usize] + d.ciphertext as usize,
            giant: d.giant as usize,
            baby: d.baby as usize,
            values: runs(&d.values, scale / self.scales[value(d.operand)]),
        };
        let level = self.shapes[value(0)].level as usize;
        let transform = LinearTransform {
            inputs: step
                .inputs
                .iter()
                .map(|id| self.shapes[id.0 as usize].ciphertexts)
                .sum(),
            outputs: linear.outputs as usize,
            scale: linear.weight_scale_log2.exp2(),
            diagonals: linear.diagonals.iter().map(diagonal).collect(),
        };
        Ok(Transform {
            prepared: transform.prepare(self.encoder, level)?,
            scale,
        })
    }

    /// The transform of a linear step whose diagonals are ciphertexts.
    fn private_transform(
        &self,
        index: usize,
        linear: &Linear,
        weights: Vec<Ciphertext>,
    ) -> Result<PrivateTransform, RuntimeError> {
        let step = &self.program.steps[index];
        let firsts = self.first_inputs(step);
        let input_scale = self.scales[step.inputs[0].0 as usize];
        let scale = self.scales[index + 1] / input_scale;
        let mut outputs: Vec<Vec<EncryptedDiagonal>> = Vec::new();
        outputs.resize_with(linear.outputs as usize, Vec::new);
        for (d, mut weights) in linear.diagonals.iter().zip(weights) {
            weights.set_scale(scale)?;
            outputs[d.output as usize].push(EncryptedDiagonal {
                input: firsts[d.operand as usize] + d.ciphertext as usize,
                giant: d.giant as usize,
                baby: d.baby as usize,
                weights,
            });
        }
        let inputs = firsts.last().copied().unwrap_or(0)
            + step
                .inputs
                .last()
                .map_or(0, |id| self.shapes[id.0 as usize].ciphertexts);
        Ok(PrivateTransform {
            prepared: EncryptedTransform::new(self.encoder.context(), inputs, outputs)?,
            scale: input_scale,
        })
    }

    /// Number of each operand's first ciphertext, counted through the operands.
    fn first_inputs(&self, step: &Step) -> Vec<usize> {
        let count = |id: &ValueId| self.shapes[id.0 as usize].ciphertexts;
        let counts = step.inputs.iter().map(count);
        let first = |next: &mut usize, count| {
            *next += count;
            Some(*next - count)
        };
        counts.scan(0, first).collect()
    }

    fn constants(&self, index: usize, values: &[SlotVector]) -> Result<Action, RuntimeError> {
        let level = self.shapes[index + 1].level as usize;
        let encode = |vector: &SlotVector| {
            if vector.is_zero() {
                return Ok(None);
            }
            let dense = vector.to_dense(self.encoder.slots());
            Ok(Some(self.encoder.encode(
                &dense,
                level,
                self.scales[index + 1],
            )?))
        };
        let constants: Result<_, RuntimeError> = values.iter().map(encode).collect();
        Ok(Action::AddConstant(constants?))
    }

    fn combine(&self, index: usize, step: &Step, factors: &[f64]) -> Action {
        let scale = self.scales[index + 1];
        let at = |i: usize| scale / self.scales[step.inputs[i].0 as usize];
        let factors = factors
            .iter()
            .enumerate()
            .map(|(i, &f)| (f, at(i)))
            .collect();
        Action::Combine(Combine { factors, scale })
    }
}

/// Rotation steps of a fold stage, the unrotated summand included.
fn with_self(steps: &[u32]) -> Vec<usize> {
    std::iter::once(0)
        .chain(steps.iter().map(|&step| step as usize))
        .collect()
}

fn runs(vector: &SlotVector, factor: f64) -> SlotValues {
    let run = |run: &scuro_program::Run| {
        let values = run.values.iter().map(|&v| f64::from(v) * factor).collect();
        (run.start as usize, values)
    };
    SlotValues::Runs(vector.runs.iter().map(run).collect())
}
