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
    /// Per step: the largest constant that it adds.
    pub(crate) constants: Vec<f64>,
}

/// How errors grow in a linear step.
#[derive(Debug, Clone)]
pub(crate) struct WorstLinear {
    /// Per operand: the largest sum of absolute weights of an output slot.
    pub(crate) row_sums: Vec<f64>,
    /// Per operand: the largest weight.
    pub(crate) largest: Vec<f64>,
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
        let (mut linear, mut constants) = (Vec::new(), Vec::new());
        for step in steps {
            let operands = step.operands(&values);
            let absolute = absolute(&step.operation);
            linear.push(match &absolute {
                Operation::Linear(map) => Some(WorstLinear::of(&absolute, map, &operands)),
                _ => None,
            });
            constants.push(match &absolute {
                Operation::AddConstant { values } => {
                    values.iter().map(largest_of).fold(0.0, f64::max)
                }
                _ => 0.0,
            });
            values.push(interpret(&absolute, &operands));
        }
        let largest = |value: &SlotValue| value.iter().flatten().copied().fold(0.0, f64::max);
        Worst {
            magnitudes: values.iter().map(largest).collect(),
            linear,
            constants,
        }
    }
}

fn largest_of(vector: &SlotVector) -> f64 {
    let values = vector.runs.iter().flat_map(|run| &run.values);
    values.fold(0.0, |max, &value| f64::from(value).max(max))
}

impl WorstLinear {
    /// Of a step with absolute weights, which is the map `map`.
    fn of(step: &Operation, map: &Linear, operands: &[&SlotValue]) -> WorstLinear {
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
            let sums = interpret(step, &views);
            sums.into_iter().flatten().fold(0.0, f64::max)
        };
        let own = |operand: usize| {
            let diagonals = map.diagonals.iter();
            diagonals.filter(move |d| d.operand as usize == operand)
        };
        let largest = |operand: usize| {
            let diagonals = own(operand).map(|d| largest_of(&d.values));
            diagonals.fold(0.0, f64::max)
        };
        let most = |operand: usize| {
            let mut counts = vec![0.0f64; map.outputs as usize];
            own(operand).for_each(|d| counts[d.output as usize] += 1.0);
            counts.into_iter().fold(0.0, f64::max)
        };
        let giants: BTreeSet<(u32, u32)> =
            map.diagonals.iter().map(|d| (d.output, d.giant)).collect();
        let giants_of = |output: u32| giants.range((output, 0)..=(output, u32::MAX)).count();
        WorstLinear {
            row_sums: (0..operands.len()).map(row_sum).collect(),
            largest: (0..operands.len()).map(largest).collect(),
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
        Operation::Combine { factors, .. } => factors.iter_mut().for_each(|f| *f = f.abs()),
        Operation::AddScalars { .. } | Operation::ScalarLinear(_) => {
            unreachable!("batch packing goes without flooding")
        }
        _ => {}
    }
    operation
}

#[cfg(test)]
mod tests {
    use scuro_program::{Diagonal, Estimate, ValueId};

    use crate::layout::Grid;

    use super::*;

    const SLOTS: usize = 8;

    /// Numbers in [-1, 1) that look random.
    fn number(seed: &mut u64) -> f64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*seed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn step(input: u32, operation: Operation) -> Step {
        Step {
            layer: String::new(),
            inputs: vec![ValueId(input)],
            operation,
            estimate: Estimate::default(),
        }
    }

    fn vector(seed: &mut u64) -> SlotVector {
        let dense: Vec<f32> = (0..SLOTS).map(|_| number(seed) as f32).collect();
        SlotVector::from_dense(&dense)
    }

    fn program(seed: &mut u64) -> Vec<Step> {
        let diagonals = [(0, 0), (0, 1), (2, 0), (2, 3)].map(|(giant, baby)| Diagonal {
            output: 0,
            operand: 0,
            ciphertext: 0,
            giant,
            baby,
            values: vector(seed),
        });
        let linear = Linear {
            outputs: 1,
            weight_scale_log2: 0.0,
            diagonals: diagonals.into(),
        };
        let constant = vector(seed);
        vec![
            step(0, Operation::Linear(linear)),
            step(
                1,
                Operation::AddConstant {
                    values: vec![constant],
                },
            ),
            step(2, Operation::Square),
            step(
                3,
                Operation::Fold {
                    stages: vec![vec![1, 2]],
                },
            ),
        ]
    }

    #[test]
    fn no_input_of_the_range_leads_to_larger_slots() {
        let mut seed = 5;
        let steps = program(&mut seed);
        let cells = vec![(0..SLOTS as u32).collect()];
        let query = Layout::new(cells, SLOTS, SLOTS, Grid::VECTOR);
        let worst = Worst::of(&steps, &query, 3.0);
        let linear = worst.linear[0].as_ref().expect("the first step is linear");
        assert_eq!((linear.diagonals[0], linear.giants), (4.0, 2.0));
        for _ in 0..200 {
            // Corners of the range, mostly.
            let mut slot = || (4.0 * number(&mut seed)).clamp(-1.0, 1.0) * 3.0;
            let mut values: Vec<SlotValue> = vec![vec![(0..SLOTS).map(|_| slot()).collect()]];
            for (index, step) in steps.iter().enumerate() {
                let value = interpret(&step.operation, &[&values[index]]);
                values.push(value);
            }
            for (value, bound) in values.iter().zip(&worst.magnitudes) {
                assert!(value.iter().flatten().all(|slot| slot.abs() <= *bound));
            }
            let first = values[1].iter().flatten().map(|slot| slot.abs());
            assert!(first.fold(0.0, f64::max) <= 3.0 * linear.row_sums[0]);
        }
    }
}
