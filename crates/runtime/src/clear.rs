//! Runs a program on plain slots: the exact meaning of its steps.

use scuro_program::{Program, SlotValue, interpret};

use crate::check;
use crate::error::RuntimeError;

/// The slots of the reply for the slots of a query, `[ciphertexts][slots]` each.
///
/// # Errors
/// [`RuntimeError::Program`], [`RuntimeError::QueryLength`], [`RuntimeError::QuerySlots`].
pub fn run(program: &Program, query: &[Vec<f64>]) -> Result<SlotValue, RuntimeError> {
    program.validate()?;
    check::weights_present(program)?;
    check::query_slots(program, query)?;
    let mut values: Vec<SlotValue> = vec![query.to_vec()];
    for step in &program.steps {
        let operands: Vec<&SlotValue> = step
            .inputs
            .iter()
            .map(|id| &values[id.0 as usize])
            .collect();
        values.push(interpret(&step.operation, &operands));
    }
    Ok(values.swap_remove(program.result.0 as usize))
}
