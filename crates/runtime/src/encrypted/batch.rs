//! Batch programs: runs of slotwise steps are fused, the others are done ciphertext by ciphertext.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rayon::ThreadPool;
use rayon::prelude::*;
use scuro_fhe::Context;
use scuro_fhe::circuits::slotwise::{ScalarMatrix, SlotwiseCircuit, SlotwiseStep};
use scuro_fhe::ckks::{Ciphertext, Evaluator};
use scuro_fhe::keys::EvaluationKeys;
use scuro_program::{Operation, Program, ScalarLinear, Step, ValueShape};

use crate::error::RuntimeError;
use crate::observe::{Observation, Observed, Observer};

/// The tasks of a batch program, its matrices laid out.
pub(super) struct BatchPlan {
    tasks: Vec<Task>,
    result: usize,
}

struct Task {
    steps: Range<usize>,
    action: Action,
    /// Values that nothing reads afterwards.
    frees: Vec<usize>,
}

enum Action {
    /// Value numbers of the inputs and outputs of the circuit.
    Fused {
        circuit: SlotwiseCircuit,
        inputs: Vec<usize>,
        outputs: Vec<usize>,
    },
    /// One ciphertext after the other.
    Each { input: usize, how: Each },
}

#[derive(Clone, Copy)]
enum Each {
    Relinearize,
    RelinearizeRescale,
    Rescale,
    ModDrop(usize),
}

impl BatchPlan {
    /// Bytes of the laid out matrices.
    pub(super) fn memory_bytes(&self) -> usize {
        let steps = self.tasks.iter().flat_map(|task| match &task.action {
            Action::Fused { circuit, .. } => circuit.steps.as_slice(),
            Action::Each { .. } => &[],
        });
        let bytes = |step: &SlotwiseStep| match step {
            SlotwiseStep::Matrix { matrix, .. } => matrix.memory_bytes(),
            _ => 0,
        };
        steps.map(bytes).sum()
    }

    /// Lays out the program.
    ///
    /// # Errors
    /// [`RuntimeError::Program`], [`RuntimeError::WrongPacking`] for steps that rotate.
    pub(super) fn new(program: &Program, context: &Context) -> Result<Self, RuntimeError> {
        let shapes = program.validate()?;
        let scales = program.scales(&shapes, context.parameters().q());
        let planner = Planner {
            program,
            shapes,
            scales,
        };
        let mut tasks = Vec::new();
        let mut step = 0;
        while step < program.steps.len() {
            let task = planner.task(step)?;
            step = task.steps.end;
            tasks.push(task);
        }
        Ok(Self {
            tasks,
            result: program.result.0 as usize,
        })
    }

    /// The reply to a query of the program's form, with keys that hold what the program names.
    pub(super) fn run(
        &self,
        evaluator: &Evaluator,
        keys: &EvaluationKeys,
        query: &[Ciphertext],
        pool: &ThreadPool,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        let count = self.tasks.last().map_or(0, |task| task.steps.end);
        let mut values: Vec<Option<Vec<Ciphertext>>> = vec![None; count + 1];
        for task in &self.tasks {
            let read = |value: usize| match value {
                0 => query,
                _ => values[value].as_deref().unwrap_or_default(),
            };
            let results = match &task.action {
                Action::Fused {
                    circuit,
                    inputs,
                    outputs,
                } => {
                    let inputs: Vec<&[Ciphertext]> = inputs.iter().map(|&v| read(v)).collect();
                    let (lists, times) = run_fused(circuit, evaluator, &inputs, pool)?;
                    let results = outputs.iter().copied().zip(lists).collect();
                    report(task.steps.clone(), &times, &results, observer);
                    results
                }
                Action::Each { input, how } => {
                    let start = Instant::now();
                    let list = pool.install(|| how.run(read(*input), evaluator, keys))?;
                    let results = vec![(task.steps.end, list)];
                    report(
                        task.steps.end - 1..task.steps.end,
                        &[start.elapsed()],
                        &results,
                        observer,
                    );
                    results
                }
            };
            for (value, list) in results {
                values[value] = Some(list);
            }
            task.frees.iter().for_each(|&value| values[value] = None);
        }
        Ok(values
            .swap_remove(self.result)
            .unwrap_or_else(|| query.to_vec()))
    }
}

type Results = Vec<(usize, Vec<Ciphertext>)>;

fn report(steps: Range<usize>, times: &[Duration], results: &Results, observer: &mut Observer<'_>) {
    for (step, &elapsed) in steps.zip(times) {
        let result = results.iter().find(|(value, _)| *value == step + 1);
        let result = result.map_or(&[][..], |(_, list)| list);
        observer(Observation {
            step,
            elapsed,
            result: Observed::Approximate(result),
        });
    }
}

/// Runs a circuit and says how long each step took: the wall time, divided like the workers' times.
fn run_fused(
    circuit: &SlotwiseCircuit,
    evaluator: &Evaluator,
    inputs: &[&[Ciphertext]],
    pool: &ThreadPool,
) -> Result<(Vec<Vec<Ciphertext>>, Vec<Duration>), RuntimeError> {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let nanos: Vec<AtomicU64> = circuit.steps.iter().map(|_| AtomicU64::new(0)).collect();
    let tick = |step: Option<usize>| {
        let now = Instant::now();
        let last = LAST.replace(Some(now));
        if let (Some(step), Some(last)) = (step, last) {
            nanos[step].fetch_add((now - last).as_nanos() as u64, Ordering::Relaxed);
        }
    };
    let start = Instant::now();
    let lists = pool.install(|| circuit.apply(evaluator, inputs, &tick))?;
    let wall = start.elapsed().as_secs_f64();
    let nanos: Vec<f64> = nanos
        .iter()
        .map(|n| n.load(Ordering::Relaxed) as f64)
        .collect();
    let sum = nanos.iter().sum::<f64>().max(1.0);
    let times = nanos
        .iter()
        .map(|n| Duration::from_secs_f64(wall * n / sum))
        .collect();
    Ok((lists, times))
}

impl Each {
    fn run(
        self,
        list: &[Ciphertext],
        evaluator: &Evaluator,
        keys: &EvaluationKeys,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        let one = |x: &Ciphertext| match self {
            Each::Relinearize => evaluator.relinearize(x, keys),
            Each::RelinearizeRescale => evaluator.relinearize_rescale(x, keys),
            Each::Rescale => evaluator.rescale(x),
            Each::ModDrop(level) => evaluator.mod_drop(x, level),
        };
        Ok(list.par_iter().map(one).collect::<Result<_, _>>()?)
    }
}

struct Planner<'a> {
    program: &'a Program,
    shapes: Vec<ValueShape>,
    scales: Vec<f64>,
}

impl Planner<'_> {
    fn task(&self, start: usize) -> Result<Task, RuntimeError> {
        let step = &self.program.steps[start];
        let input = step.inputs[0].0 as usize;
        let joined = self.rescaled_next(start);
        let (how, end) = match &step.operation {
            Operation::Relinearize if joined => (Each::RelinearizeRescale, start + 2),
            Operation::Relinearize => (Each::Relinearize, start + 1),
            Operation::Rescale => (Each::Rescale, start + 1),
            Operation::ModDrop { level } => (Each::ModDrop(*level as usize), start + 1),
            _ => return self.fused(start),
        };
        let action = Action::Each { input, how };
        Ok(Task {
            steps: start..end,
            action,
            frees: self.frees(start..end),
        })
    }

    /// Whether the next step rescales this one's value and nothing else reads it.
    fn rescaled_next(&self, step: usize) -> bool {
        let next = self.program.steps.get(step + 1);
        next.is_some_and(|next| next.operation == Operation::Rescale && reads(next, step + 1))
            && !self.is_read_after(step + 1, step + 2)
    }

    /// The slotwise steps from `start` on, as long as they stay at one level.
    fn fused(&self, start: usize) -> Result<Task, RuntimeError> {
        let level = self.shapes[start + 1].level;
        let follows = |&step: &usize| {
            let Step {
                inputs, operation, ..
            } = &self.program.steps[step];
            is_slotwise(operation)
                && inputs
                    .iter()
                    .all(|id| self.shapes[id.0 as usize].level == level)
        };
        let length = (start..self.program.steps.len())
            .take_while(follows)
            .count();
        if length == 0 {
            let (step, operation) = (start, self.program.steps[start].operation.name());
            return Err(RuntimeError::WrongPacking { step, operation });
        }
        let steps = start..start + length;
        let mut inputs: Vec<usize> = self.program.steps[steps.clone()]
            .iter()
            .flat_map(|step| step.inputs.iter().map(|id| id.0 as usize))
            .filter(|&value| value <= start)
            .collect();
        inputs.sort_unstable();
        inputs.dedup();
        let made = start + 1..=start + length;
        let outputs: Vec<usize> = made
            .filter(|&value| self.is_read_after(value, steps.end))
            .collect();
        let number = |value: usize| match value.checked_sub(start + 1) {
            Some(step) => inputs.len() + step,
            None => inputs.binary_search(&value).unwrap_or(0),
        };
        let circuit = SlotwiseCircuit {
            inputs: inputs.len(),
            steps: steps
                .clone()
                .map(|step| self.slotwise(step, &number))
                .collect(),
            outputs: outputs.iter().map(|&value| number(value)).collect(),
        };
        let action = Action::Fused {
            circuit,
            inputs,
            outputs,
        };
        Ok(Task {
            frees: self.frees(steps.clone()),
            steps,
            action,
        })
    }

    fn slotwise(&self, index: usize, number: &dyn Fn(usize) -> usize) -> SlotwiseStep {
        let step = &self.program.steps[index];
        let operands: Vec<usize> = step.inputs.iter().map(|id| number(id.0 as usize)).collect();
        match &step.operation {
            Operation::ScalarLinear(linear) => SlotwiseStep::Matrix {
                operands,
                matrix: matrix(linear),
                weight_scale: linear.weight_scale_log2.exp2(),
            },
            Operation::AddScalars { values } => SlotwiseStep::AddScalars {
                operand: operands[0],
                values: values.clone(),
            },
            Operation::Combine { factors, .. } => {
                let scale = self.scales[index + 1];
                SlotwiseStep::Combine {
                    operands,
                    factors: factors.clone(),
                    scale,
                }
            }
            // `fused` lets nothing else through.
            _ => SlotwiseStep::Multiply {
                left: operands[0],
                right: operands[operands.len() - 1],
            },
        }
    }

    /// Whether a step from `end` on reads the value, or the caller does.
    fn is_read_after(&self, value: usize, end: usize) -> bool {
        self.program.result.0 as usize == value
            || self.program.steps[end..]
                .iter()
                .any(|step| reads(step, value))
    }

    /// Values up to those of `steps` that nothing reads afterwards.
    fn frees(&self, steps: Range<usize>) -> Vec<usize> {
        let alive = |&value: &usize| !self.is_read_after(value, steps.end);
        (1..=steps.end).filter(alive).collect()
    }
}

fn reads(step: &Step, value: usize) -> bool {
    step.inputs.iter().any(|id| id.0 as usize == value)
}

fn is_slotwise(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::ScalarLinear(_)
            | Operation::AddScalars { .. }
            | Operation::Square
            | Operation::Multiply
            | Operation::Combine { .. }
    )
}

fn matrix(linear: &ScalarLinear) -> ScalarMatrix {
    let row = |bounds: &[u32]| {
        let range = bounds[0] as usize..bounds[1] as usize;
        let columns = linear.column[range.clone()].iter().copied();
        columns.zip(linear.weight[range].iter().copied()).collect()
    };
    let rows: Vec<Vec<(u32, i32)>> = linear.row_starts.windows(2).map(row).collect();
    ScalarMatrix::new(linear.columns as usize, &rows)
}
