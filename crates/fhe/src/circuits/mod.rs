//! Computations built from the evaluator's operations.

pub mod linear;
pub mod polynomial;
pub mod slotwise;
