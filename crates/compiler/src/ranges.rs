//! Pass: how large the slots of every value grow on calibration data, garbage included.

use scuro_nn::tensor::Tensor;
use scuro_program::{Operation, SlotValue, Step, exposure, interpret};

use crate::error::CompileError;
use crate::layout::Layout;
use crate::rotations;

/// What is known of one value.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Range {
    /// Largest absolute slot, margin included.
    pub(crate) max_abs: f64,
    /// Mean square over the slots that are not zero, of the example where it is largest.
    pub(crate) live_square: f64,
}

/// Ranges of all values (the query first), and the slots of the result for every example.
pub(crate) struct Ranges {
    pub(crate) values: Vec<Range>,
    /// Per linear step and operand of an exact program: the largest exposure of a slot to the
    /// rounding of diagonals, after the fold that follows, if one does.
    pub(crate) exposures: Vec<Vec<f64>>,
    pub(crate) results: Vec<SlotValue>,
}

/// Slot products that calibration may cost.
const WORK_LIMIT: u64 = 3_000_000_000;
/// What the exposure to one diagonal costs, in the same unit.
const EXPOSURE_WORK: u64 = 4096;
/// Most examples run.
const EXAMPLES_LIMIT: usize = 64;
/// Margin above the most extreme calibration data: much of what the usual margin is for has been
/// seen there.
const EXTREME_MARGIN: f64 = 1.25;

/// What is provided for, if values reach `usual` on calibration data and `extreme` on the most
/// extreme of it.
pub(crate) fn with_margin(margin: f64, usual: f64, extreme: f64) -> f64 {
    (margin * usual).max(margin.min(EXTREME_MARGIN) * extreme)
}

/// Runs the steps on calibration examples; `extremes` are those with the largest values of all, the
/// most extreme first; programs whose weights are `rounded` to integers have exposures.
///
/// # Errors
/// Values that are not finite.
pub(crate) fn run(
    steps: &[Step],
    input: &Layout,
    calibration: &[Tensor],
    extremes: &[Tensor],
    margin: f64,
    rounded: bool,
) -> Result<Ranges, CompileError> {
    let exposures = steps.iter().map(|step| vec![0.0; step.inputs.len()]);
    let mut ranges = Ranges {
        values: vec![Range::default(); steps.len() + 1],
        exposures: exposures.collect(),
        results: Vec::new(),
    };
    let affordable = affordable(steps, EXAMPLES_LIMIT);
    let count = calibration.len().clamp(1, affordable);
    // Spread over the calibration data, which may be ordered by class.
    for example in (0..count).map(|i| i * calibration.len() / count) {
        let query = fill(input, &calibration[example].data);
        let (values, exposures) = (&mut ranges.values, &mut ranges.exposures);
        let result = trace(steps, query, |value, operands, result| {
            note(&mut values[value], result);
            if let Some(index) = value.checked_sub(1).filter(|_| rounded) {
                expose(steps, index, operands, &mut exposures[index]);
            }
        })?;
        ranges.results.push(result);
    }
    let extremes = &extremes[..extremes.len().min(affordable)];
    let extreme = largest(steps, input, extremes)?;
    for (range, extreme) in ranges.values.iter_mut().zip(extreme) {
        range.max_abs = with_margin(margin, range.max_abs, extreme);
    }
    Ok(ranges)
}

/// Per value the largest absolute slot of the examples.
fn largest(steps: &[Step], input: &Layout, examples: &[Tensor]) -> Result<Vec<f64>, CompileError> {
    let mut largest = vec![0.0f64; steps.len() + 1];
    for example in examples {
        trace(steps, fill(input, &example.data), |value, _, result| {
            let slots = result.iter().flatten().map(|slot| slot.abs());
            largest[value] = slots.fold(largest[value], f64::max);
        })?;
    }
    Ok(largest)
}

/// How many examples are run, `most` at most.
pub(crate) fn affordable(steps: &[Step], most: usize) -> usize {
    let work = |step: &Step| match &step.operation {
        Operation::Linear(linear) => linear
            .diagonals
            .iter()
            .map(|d| d.values.iter().count() as u64 + EXPOSURE_WORK)
            .sum(),
        Operation::ScalarLinear(matrix) => matrix.column.len() as u64 * 64,
        _ => 0u64,
    };
    let work: u64 = steps.iter().map(work).sum();
    (WORK_LIMIT / work.max(1)).clamp(2, most as u64) as usize
}

/// The query's slots for one example.
pub(crate) fn fill(layout: &Layout, example: &[f32]) -> SlotValue {
    let cell = |&cell: &u32| example.get(cell as usize).map_or(0.0, |&v| f64::from(v));
    layout
        .cells
        .iter()
        .map(|cells| cells.iter().map(cell).collect())
        .collect()
}

/// Runs the steps on a query and shows each value, by number, with its operands.
fn trace(
    steps: &[Step],
    query: SlotValue,
    mut visit: impl FnMut(usize, &[&SlotValue], &SlotValue),
) -> Result<SlotValue, CompileError> {
    visit(0, &[], &query);
    let mut last_use = vec![0; steps.len() + 1];
    for (index, step) in steps.iter().enumerate() {
        step.inputs
            .iter()
            .for_each(|id| last_use[id.0 as usize] = index);
    }
    let mut values = vec![Some(query)];
    for (index, step) in steps.iter().enumerate() {
        let empty = SlotValue::new();
        let operands: Vec<&SlotValue> = step
            .inputs
            .iter()
            .map(|id| values[id.0 as usize].as_ref().unwrap_or(&empty))
            .collect();
        let result = interpret(&step.operation, &operands);
        if result.iter().flatten().any(|v| !v.is_finite()) {
            let (layer, magnitude_log2) = (step.layer.clone(), f64::INFINITY);
            return Err(CompileError::Overflow {
                layer,
                magnitude_log2,
            });
        }
        visit(index + 1, &operands, &result);
        values.push(Some(result));
        for id in &step.inputs {
            if last_use[id.0 as usize] == index {
                values[id.0 as usize] = None;
            }
        }
    }
    Ok(values.pop().flatten().unwrap_or_default())
}

/// Takes in how far the slots of a linear step are exposed to the rounding of its diagonals.
fn expose(steps: &[Step], index: usize, operands: &[&SlotValue], largest: &mut [f64]) {
    let Operation::Linear(linear) = &steps[index].operation else {
        return;
    };
    for (operand, (value, largest)) in (0..).zip(operands.iter().zip(largest)) {
        let exposed = folded(steps, index, exposure(linear, operand, value));
        *largest = exposed.into_iter().flatten().fold(*largest, f64::max);
    }
}

/// The result of a step after the rotations and sums that follow.
fn folded(steps: &[Step], index: usize, result: SlotValue) -> SlotValue {
    let first = index + 1;
    let mut values = vec![result];
    for (at, step) in steps.iter().enumerate().skip(first) {
        let folds = match step.operation {
            Operation::Fold { .. } | Operation::Rotate { .. } => true,
            _ => rotations::is_sum(steps, at),
        };
        let operands = step.inputs.iter().map(|id| {
            let place = (id.0 as usize).checked_sub(first);
            place.and_then(|place| values.get(place))
        });
        let operands: Option<Vec<&SlotValue>> = operands.collect();
        match operands.filter(|_| folds) {
            Some(operands) => values.push(interpret(&step.operation, &operands)),
            None => break,
        }
    }
    values.pop().unwrap_or_default()
}

fn note(range: &mut Range, value: &SlotValue) {
    let (mut sum, mut live) = (0.0, 0usize);
    for &slot in value.iter().flatten() {
        range.max_abs = range.max_abs.max(slot.abs());
        sum += slot * slot;
        live += usize::from(slot != 0.0);
    }
    range.live_square = range.live_square.max(sum / live.max(1) as f64);
}

#[cfg(test)]
mod tests {
    use scuro_program::{Diagonal, Estimate, Linear, SlotVector, ValueId};

    use crate::layout::Grid;

    use super::*;

    /// A step that does nothing to four slots, at a cost that leaves room for two examples.
    fn costly() -> Step {
        let diagonal = |values| Diagonal {
            output: 0,
            operand: 0,
            ciphertext: 0,
            giant: 0,
            baby: 0,
            values,
        };
        let empty = diagonal(SlotVector::from_dense(&[]));
        let mut diagonals = vec![empty; (WORK_LIMIT / EXPOSURE_WORK / 2) as usize];
        diagonals.push(diagonal(SlotVector::from_dense(&[1.0; 4])));
        Step {
            layer: String::new(),
            inputs: vec![ValueId(0)],
            operation: Operation::Linear(Linear {
                outputs: 1,
                weight_scale_log2: 0.0,
                diagonals,
            }),
            estimate: Estimate::default(),
        }
    }

    #[test]
    fn no_more_extreme_examples_are_run_than_there_is_time_for() {
        let steps = [costly()];
        let input = Layout::new(vec![(0..4).collect()], 4, 4, Grid::VECTOR);
        let example = |value: f32| Tensor::new(vec![4], vec![value; 4]).unwrap();
        let usual = [example(1.0), example(0.5)];
        let extremes = [example(8.0), example(4.0), example(16.0)];
        let found = run(&steps, &input, &usual, &extremes, 2.0, false).unwrap();
        // The last one comes too late.
        assert_eq!(found.values[1].max_abs, EXTREME_MARGIN * 8.0);
        assert_eq!(found.values[1].live_square, 1.0);
    }
}
