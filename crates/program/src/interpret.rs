//! What each operation means on plain slot vectors: the definition that every backend is held to.

use crate::slots::SlotVector;
use crate::step::{Linear, Operation, ScalarLinear, Step};

/// The slot vectors of one value, one per ciphertext.
pub type SlotValue = Vec<Vec<f64>>;

/// Applies an operation to plain slot vectors. Rescaling and everything else that only concerns the
/// encoding is the identity.
///
/// Shape: operands and result `[ciphertexts][slots]`; the program must have been validated.
pub fn interpret(operation: &Operation, operands: &[&SlotValue]) -> SlotValue {
    let first = operands[0];
    match operation {
        Operation::Linear(linear) => apply_linear(linear, operands),
        Operation::Rotate { steps } => steps
            .iter()
            .flat_map(|&step| first.iter().map(move |x| rotated(x, step)))
            .collect(),
        Operation::Fold { stages } => first.iter().map(|x| apply_fold(stages, x)).collect(),
        Operation::Trace { period, copies } => first
            .iter()
            .map(|x| apply_trace(*period, *copies, x))
            .collect(),
        Operation::AddConstant { values } => first
            .iter()
            .zip(values)
            .map(|(x, v)| add_slots(x, v))
            .collect(),
        Operation::AddScalars { values } => {
            let add = |(x, v): (&Vec<f64>, &f64)| x.iter().map(|a| a + v).collect();
            first.iter().zip(values).map(add).collect()
        }
        Operation::Square => zip(first, first, |a, b| a * b),
        Operation::Multiply => zip(first, operands[1], |a, b| a * b),
        Operation::Relinearize
        | Operation::Rescale
        | Operation::ModDrop { .. }
        | Operation::Flood(_) => first.clone(),
        Operation::Combine { factors, .. } => apply_combine(factors, operands),
        Operation::ScalarLinear(matrix) => apply_scalar_linear(matrix, operands),
    }
}

/// Every value of a chain of steps on plain slots, the query first.
///
/// Shape: as [`interpret`] has them, value by value
pub fn interpret_all(steps: &[Step], query: SlotValue) -> Vec<SlotValue> {
    let mut values = vec![query];
    for step in steps {
        let result = interpret(&step.operation, &step.operands(&values));
        values.push(result);
    }
    values
}

fn zip(a: &SlotValue, b: &SlotValue, f: impl Fn(f64, f64) -> f64) -> SlotValue {
    let one = |(x, y): (&Vec<f64>, &Vec<f64>)| x.iter().zip(y).map(|(&a, &b)| f(a, b)).collect();
    a.iter().zip(b).map(one).collect()
}

fn add_slots(x: &[f64], constant: &SlotVector) -> Vec<f64> {
    let mut sum = x.to_vec();
    for (slot, value) in constant.iter() {
        sum[slot] += f64::from(value);
    }
    sum
}

fn apply_linear(linear: &Linear, operands: &[&SlotValue]) -> SlotValue {
    let slots = operands[0][0].len();
    let mut result = vec![vec![0.0; slots]; linear.outputs as usize];
    for diagonal in &linear.diagonals {
        let input = &operands[diagonal.operand as usize][diagonal.ciphertext as usize];
        let out = &mut result[diagonal.output as usize];
        let step = (diagonal.giant as usize + diagonal.baby as usize) % slots;
        for run in &diagonal.values.runs {
            let start = run.start as usize;
            accumulate(
                &mut out[start..],
                &run.values,
                input,
                (start + step) % slots,
            );
        }
    }
    result
}

/// Per output slot the sum, over the diagonals that read one operand, of the squares of the slots
/// they meet there: what the squared error of a diagonal's slots is multiplied by.
///
/// Unlike weights, that error is in every slot, so slots without weights are counted too.
///
/// Shape: `[ciphertexts][slots]`, operand and result
pub fn exposure(linear: &Linear, operand: u32, value: &SlotValue) -> SlotValue {
    let slots = value.first().map_or(0, Vec::len);
    let square = |x: &Vec<f64>| x.iter().map(|v| v * v).collect();
    let squares: Vec<Vec<f64>> = value.iter().map(square).collect();
    let mut result = vec![vec![0.0; slots]; linear.outputs as usize];
    for diagonal in linear.diagonals.iter().filter(|d| d.operand == operand) {
        let step = (diagonal.giant as usize + diagonal.baby as usize) % slots;
        let (front, back) = squares[diagonal.ciphertext as usize].split_at(step);
        let (head, tail) = result[diagonal.output as usize].split_at_mut(slots - step);
        head.iter_mut().zip(back).for_each(|(r, x)| *r += x);
        tail.iter_mut().zip(front).for_each(|(r, x)| *r += x);
    }
    result
}

/// `out[i] += weights[i] * input[(first + i) mod S]`, in two straight pieces.
fn accumulate(out: &mut [f64], weights: &[f32], input: &[f64], first: usize) {
    let until_wrap = weights.len().min(input.len() - first);
    let (head, tail) = weights.split_at(until_wrap);
    for ((o, &w), &x) in out.iter_mut().zip(head).zip(&input[first..]) {
        *o += f64::from(w) * x;
    }
    for ((o, &w), &x) in out[until_wrap..].iter_mut().zip(tail).zip(input) {
        *o += f64::from(w) * x;
    }
}

fn rotated(x: &[f64], step: u32) -> Vec<f64> {
    let (front, back) = x.split_at(step as usize);
    [back, front].concat()
}

fn apply_trace(period: u32, copies: u32, x: &[f64]) -> Vec<f64> {
    let period = period as usize;
    let sum = |at: usize| x.iter().skip(at).step_by(period).sum::<f64>() / f64::from(copies);
    let one: Vec<f64> = (0..period).map(sum).collect();
    one.into_iter().cycle().take(x.len()).collect()
}

fn apply_fold(stages: &[Vec<u32>], x: &[f64]) -> Vec<f64> {
    let mut sum = x.to_vec();
    for stage in stages {
        let before = sum.clone();
        for &step in stage {
            let (front, back) = before.split_at(step as usize);
            let rotated = back.iter().chain(front);
            sum.iter_mut().zip(rotated).for_each(|(s, &v)| *s += v);
        }
    }
    sum
}

fn apply_combine(factors: &[f64], operands: &[&SlotValue]) -> SlotValue {
    let mut sum: SlotValue = operands[0].iter().map(|x| vec![0.0; x.len()]).collect();
    for (&factor, operand) in factors.iter().zip(operands) {
        for (s, x) in sum.iter_mut().zip(operand.iter()) {
            s.iter_mut().zip(x).for_each(|(s, &v)| *s += factor * v);
        }
    }
    sum
}

fn apply_scalar_linear(matrix: &ScalarLinear, operands: &[&SlotValue]) -> SlotValue {
    let columns: Vec<&Vec<f64>> = operands.iter().flat_map(|o| o.iter()).collect();
    let scale = (-matrix.weight_scale_log2).exp2();
    let row = |bounds: &[u32]| {
        let mut sum = vec![0.0; columns[0].len()];
        for entry in bounds[0] as usize..bounds[1] as usize {
            let weight = f64::from(matrix.weight[entry]) * scale;
            let column = columns[matrix.column[entry] as usize];
            sum.iter_mut()
                .zip(column)
                .for_each(|(s, &v)| *s += weight * v);
        }
        sum
    };
    matrix.row_starts.windows(2).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Diagonal;

    #[test]
    fn a_diagonal_reads_the_slot_that_is_giant_plus_baby_further_on() {
        let input = vec![vec![1.0, 2.0, 3.0, 4.0]];
        let values = SlotVector::from_dense(&[10.0, 0.0, 0.0, 100.0]);
        let diagonal = Diagonal {
            output: 0,
            operand: 0,
            ciphertext: 0,
            giant: 2,
            baby: 1,
            values,
        };
        let linear = Linear {
            outputs: 1,
            weight_scale_log2: 0.0,
            diagonals: vec![diagonal],
        };
        let out = interpret(&Operation::Linear(linear), &[&input]);
        assert_eq!(out, vec![vec![40.0, 0.0, 0.0, 300.0]]);
    }

    #[test]
    fn a_slot_is_exposed_to_what_each_diagonal_meets_there() {
        let input = vec![vec![1.0, 2.0, 3.0, 4.0]];
        let diagonal = |giant, baby| Diagonal {
            output: 0,
            operand: 0,
            ciphertext: 0,
            giant,
            baby,
            values: SlotVector::default(),
        };
        let linear = Linear {
            outputs: 1,
            weight_scale_log2: 0.0,
            diagonals: vec![diagonal(0, 1), diagonal(2, 1)],
        };
        let squares = vec![vec![4.0 + 16.0, 9.0 + 1.0, 16.0 + 4.0, 1.0 + 9.0]];
        assert_eq!(exposure(&linear, 0, &input), squares);
        assert_eq!(exposure(&linear, 1, &input), vec![vec![0.0; 4]]);
    }

    #[test]
    fn a_fold_sums_over_every_subset_of_its_stages() {
        let input = vec![(0..8).map(f64::from).collect::<Vec<_>>()];
        let fold = Operation::Fold {
            stages: vec![vec![1], vec![2, 4, 6]],
        };
        assert_eq!(interpret(&fold, &[&input]), vec![vec![28.0; 8]]);
    }

    #[test]
    fn scalar_rows_divide_by_the_weight_scale() {
        let input = vec![vec![1.0, 2.0], vec![3.0, 5.0]];
        let matrix = ScalarLinear {
            columns: 2,
            row_starts: vec![0, 2, 3],
            column: vec![0, 1, 1],
            weight: vec![4, -8, 2],
            weight_scale_log2: 2.0,
        };
        let out = interpret(&Operation::ScalarLinear(matrix), &[&input]);
        assert_eq!(out, vec![vec![-5.0, -8.0], vec![1.5, 2.5]]);
    }
}
