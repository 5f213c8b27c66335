//! The scale of every value, with the primes as they are.

use scuro_fhe::params::Parameters;
use scuro_program::{Operation, Program, Step, ValueShape};

/// Scales of all values, the query's first. They follow from the program alone, so weights can be
/// encoded before there is a query.
pub(crate) fn of(program: &Program, shapes: &[ValueShape], parameters: &Parameters) -> Vec<f64> {
    let mut scales = vec![program.input.scale_log2.exp2()];
    for step in &program.steps {
        let scale = of_step(step, &scales, shapes, parameters);
        scales.push(scale);
    }
    scales
}

fn of_step(step: &Step, scales: &[f64], shapes: &[ValueShape], parameters: &Parameters) -> f64 {
    let operand = |i: usize| scales[step.inputs[i].0 as usize];
    match &step.operation {
        Operation::Linear(linear) => operand(0) * linear.weight_scale_log2.exp2(),
        Operation::ScalarLinear(matrix) => operand(0) * matrix.weight_scale_log2.exp2(),
        Operation::Combine {
            weight_scale_log2, ..
        } => operand(0) * weight_scale_log2.exp2(),
        Operation::Square => operand(0) * operand(0),
        Operation::Multiply => operand(0) * operand(1),
        Operation::Rescale => {
            let level = shapes[step.inputs[0].0 as usize].level as usize;
            operand(0) / parameters.q()[level] as f64
        }
        Operation::Rotate { .. }
        | Operation::Fold { .. }
        | Operation::AddConstant { .. }
        | Operation::AddScalars { .. }
        | Operation::Relinearize
        | Operation::ModDrop { .. } => operand(0),
    }
}
