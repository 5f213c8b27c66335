//! Pass: how large things can become for any input in the declared range, not just the calibration
//! data: what a reply is flooded by must drown the error of every query.

use std::collections::BTreeSet;

use scuro_program::{Linear, Operation, SlotValue, SlotVector, Step, interpret};

use crate::layout::{Layout, ZERO};

/// Worst cases of a program without levels.
#[derive(Debug, Clone)]
pub(crate) struct Worst {
    /// Per value (the query first): the largest absolute slot.
    pub(crate) magnitudes: Vec<f64>,
    /// Per step: what multiplies errors, for linear steps.
    pub(crate) linear: Vec<Option<WorstLinear>>,
}

/// How errors grow in a linear step.
#[derive(Debug, Clone)]
pub(crate) struct WorstLinear {
    /// Per operand: the largest sum of absolute weights of an output slot.
    pub(crate) row_sums: Vec<f64>,
    /// Per operand: the most diagonals of an output ciphertext.
    pub(crate) diagonals: Vec<f64>,
    /// The most rotations of inner sums of an output ciphertext, no rotation included.
    pub(crate) giants: f64,
}

impl Worst {
    /// Bounds for inputs of at most `largest` in absolute value.
    ///
    /// Math: |sum_j w_j x_j| <= sum_j |w_j| |x_j|, step by step, slot by slot
    pub(crate) fn of(steps: &[Step], query: &Layout, largest: f64) -> Worst {
        let cell = |&cell: &u32| if cell == ZERO { 0.0 } else { largest };
        let filled = |cells: &Vec<u32>| cells.iter().map(cell).collect();
        let mut values: Vec<SlotValue> = vec![query.cells.iter().map(filled).collect()];
        let mut linear = Vec::with_capacity(steps.len());
        for step in steps {
            let operands: Vec<&SlotValue> = step
                .inputs
                .iter()
                .map(|id| &values[id.0 as usize])
                .collect();
            let absolute = absolute(&step.operation);
            linear.push(match &absolute {
                Operation::Linear(map) => Some(WorstLinear::of(map, &operands)),
                _ => None,
            });
            values.push(interpret(&absolute, &operands));
        }
        let largest = |value: &SlotValue| value.iter().flatten().copied().fold(0.0, f64::max);
        Worst {
            magnitudes: values.iter().map(largest).collect(),
            linear,
        }
    }
}

impl WorstLinear {
    /// Of a map with absolute weights.
    fn of(map: &Linear, operands: &[&SlotValue]) -> WorstLinear {
        let row_sum = |operand: usize| {
            let one = |i: usize, x: &&SlotValue| {
                let value = if i == operand { 1.0 } else { 0.0 };
                x.iter().map(|slots| vec![value; slots.len()]).collect()
            };
            let ones: Vec<SlotValue> = operands
                .iter()
                .enumerate()
                .map(|(i, x)| one(i, x))
                .collect();
            let views: Vec<&SlotValue> = ones.iter().collect();
            let sums = interpret(&Operation::Linear(map.clone()), &views);
            sums.into_iter().flatten().fold(0.0, f64::max)
        };
        let most = |operand: usize| {
            let mut counts = vec![0.0f64; map.outputs as usize];
            let own = map
                .diagonals
                .iter()
                .filter(|d| d.operand as usize == operand);
            own.for_each(|d| counts[d.output as usize] += 1.0);
            counts.into_iter().fold(0.0, f64::max)
        };
        let giants: BTreeSet<(u32, u32)> =
            map.diagonals.iter().map(|d| (d.output, d.giant)).collect();
        let giants_of = |output: u32| giants.range((output, 0)..=(output, u32::MAX)).count();
        WorstLinear {
            row_sums: (0..operands.len()).map(row_sum).collect(),
            diagonals: (0..operands.len()).map(most).collect(),
            giants: (0..map.outputs).map(giants_of).max().unwrap_or(0) as f64,
        }
    }
}

/// The operation with the absolute values of its weights.
fn absolute(operation: &Operation) -> Operation {
    let mut operation = operation.clone();
    let of = |vector: &mut SlotVector| {
        let values = vector.runs.iter_mut().flat_map(|run| &mut run.values);
        values.for_each(|value| *value = value.abs());
    };
    match &mut operation {
        Operation::Linear(map) => map.diagonals.iter_mut().for_each(|d| of(&mut d.values)),
        Operation::AddConstant { values } => values.iter_mut().for_each(of),
        Operation::AddScalars { values } => values.iter_mut().for_each(|v| *v = v.abs()),
        Operation::Combine { factors, .. } => factors.iter_mut().for_each(|f| *f = f.abs()),
        _ => {}
    }
    operation
}
