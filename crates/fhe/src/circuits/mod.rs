//! Computations built from the evaluator's operations.

pub mod fold;
pub mod linear;
pub mod slotwise;
