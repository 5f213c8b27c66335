//! What passes leave behind, as text.

use std::fmt::Write as _;

use scuro_program::{Program, Step};

/// What a pass left behind, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Name of the pass.
    pub pass: &'static str,
    /// Its result.
    pub text: String,
}

/// Every step with its estimates.
pub(crate) fn steps(steps: &[Step]) -> String {
    let mut text = String::new();
    for (index, step) in steps.iter().enumerate() {
        let inputs: Vec<String> = step.inputs.iter().map(|id| format!("v{}", id.0)).collect();
        let estimate = &step.estimate;
        let _ = writeln!(
            text,
            "v{} = {:<13} {:<10} level {} scale 2^{:<5.1} max {:<9.3e} error {:<8.2e} {:>7.0} us  \
             [{}]",
            index + 1,
            step.operation.name(),
            inputs.join(" "),
            estimate.level,
            estimate.scale_log2,
            estimate.max_abs,
            estimate.error,
            estimate.micros,
            step.layer,
        );
    }
    text
}

/// Ring, primes, security.
pub(crate) fn parameters(program: &Program) -> String {
    let plan = &program.parameters;
    format!(
        "{:?} ring, N = 2^{}, q {:?}, p {:?}, log QP {}, {} bits by {:?}\n",
        plan.ring,
        plan.log_n,
        plan.q_bits,
        plan.p_bits,
        plan.log_qp(),
        plan.security_bits,
        plan.table,
    )
}

/// Evaluation keys.
pub(crate) fn keys(program: &Program) -> String {
    let keys = &program.keys;
    let mut text = format!("relinearise at level {:?}\n", keys.relinearize);
    for key in &keys.galois {
        let _ = writeln!(text, "rotate by {:>6} at level {}", key.step, key.level);
    }
    text
}
