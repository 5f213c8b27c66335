//! Predictions about a program.

use std::fmt;

use scuro_program::{KeyManifest, Operation, ParameterPlan, Program, Weights};

use crate::friendliness::Friendliness;

/// What a program will cost and how well it will compute.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Evaluation time on one core, microseconds.
    pub latency_us: f64,
    /// Memory of the evaluator: prepared weights, keys and ciphertexts.
    pub evaluator_bytes: u64,
    /// Evaluation keys, both halves.
    pub key_bytes: u64,
    /// Evaluation keys with seeded halves.
    pub key_bytes_seeded: u64,
    /// Number of rotation keys.
    pub rotations: usize,
    /// Query with seeded halves.
    pub query_bytes: u64,
    /// Reply.
    pub reply_bytes: u64,
    /// Examples that one query carries.
    pub examples_per_query: usize,
    /// Predicted standard deviation of the output error.
    pub output_error: f64,
    /// Share of the calibration examples to which an exact program gives the answer of the network.
    pub agreement: Option<f64>,
    /// Multiplicative depth: products and weighted sums in sequence that use modulus.
    pub levels_used: u32,
    /// What the friendliness pass found.
    pub friendliness: Friendliness,
}

impl Report {
    pub(crate) fn new(
        program: &Program,
        friendliness: Friendliness,
        agreement: Option<f64>,
    ) -> Report {
        let plan = &program.parameters;
        let degree = 1u64 << plan.log_n;
        let query = program.input.ciphertexts() as u64;
        let result = program
            .result
            .0
            .checked_sub(1)
            .map(|i| &program.steps[i as usize]);
        let reply_level = result.map_or(plan.level_max(), |step| step.estimate.level);
        let bytes = |bits: u32, parts: u64| (parts * u64::from(bits) * degree).div_ceil(8);
        let reply = reply_ciphertexts(program) as u64;
        let [key_bytes_seeded, half] = key_bytes(&program.keys, plan);
        let key_bytes = 2 * half;
        Report {
            latency_us: program.steps.iter().map(|s| s.estimate.micros).sum(),
            evaluator_bytes: memory(program) + key_bytes,
            key_bytes,
            key_bytes_seeded,
            rotations: program.keys.galois.len(),
            query_bytes: query * bytes(plan.log_q(program.input.level), 1),
            reply_bytes: reply * bytes(plan.log_q(reply_level), 2),
            examples_per_query: program.input.examples as usize,
            output_error: result.map_or(0.0, |step| step.estimate.error) * program.output.factor,
            agreement,
            levels_used: plan.level_max() - reply_level,
            friendliness,
        }
    }
}

fn reply_ciphertexts(program: &Program) -> usize {
    let last = program.output.addresses.iter().map(|a| a.ciphertext).max();
    last.map_or(0, |ciphertext| ciphertext as usize + 1)
}

/// One half of all evaluation keys: packed to the bits of the primes, and as the evaluator keeps
/// them.
fn key_bytes(keys: &KeyManifest, plan: &ParameterPlan) -> [u64; 2] {
    let special: u32 = plan.p_bits.iter().sum();
    let alpha = plan.p_bits.len().max(1);
    let one = |level: u32| {
        let digits = (level as usize + 1).div_ceil(alpha) as u64;
        let bits = u64::from(plan.log_q(level) + special);
        let bytes = packed(plan.q_bits.iter().take(level as usize + 1)) + packed(&plan.p_bits);
        [
            digits * ((bits << plan.log_n) / 8),
            digits * (bytes << plan.log_n),
        ]
    };
    let rotations = keys.galois.iter().chain(&keys.relinearized);
    let levels = keys
        .relinearize
        .into_iter()
        .chain(rotations.map(|k| k.level));
    let add = |[a, b]: [u64; 2], [x, y]: [u64; 2]| [a + x, b + y];
    let public = match keys.public {
        true => public_key_bytes(plan),
        false => [0; 2],
    };
    levels.map(one).fold(public, add)
}

/// One half of the public key: packed to bits, and in 64-bit words.
fn public_key_bytes(plan: &ParameterPlan) -> [u64; 2] {
    let bits = u64::from(plan.log_qp());
    let words = 8 * (plan.q_bits.len() + plan.p_bits.len()) as u64;
    [(bits << plan.log_n) / 8, words << plan.log_n]
}

/// Bytes of one residue for each prime, as the evaluator keeps them.
fn packed<'a>(bits: impl IntoIterator<Item = &'a u32>) -> u64 {
    let bytes = |bits: &u32| u64::from(bits.div_ceil(8));
    bits.into_iter().map(bytes).sum()
}

/// Prepared diagonals, packed, and the ciphertexts of the widest step, in 64-bit words.
fn memory(program: &Program) -> u64 {
    let plan = &program.parameters;
    let word_bytes = 8u64 << plan.log_n;
    let diagonals: u64 = program
        .steps
        .iter()
        .map(|step| match &step.operation {
            Operation::Linear(linear) => {
                let live = packed(plan.q_bits.iter().take(step.estimate.level as usize + 1));
                let bytes = match program.weights {
                    Weights::Plain => live + packed(&plan.p_bits),
                    _ => 2 * live,
                };
                linear.diagonals.len() as u64 * (bytes << plan.log_n)
            }
            _ => 0,
        })
        .sum();
    let widest = program
        .steps
        .iter()
        .map(|step| match &step.operation {
            Operation::ScalarLinear(matrix) => {
                matrix.columns as u64 + matrix.row_starts.len() as u64
            }
            Operation::Linear(linear) => 8 + u64::from(linear.outputs),
            _ => 4,
        })
        .max();
    diagonals + widest.unwrap_or(0) * 3 * plan.q_bits.len() as u64 * word_bytes
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            out,
            "evaluation       {:.1} ms on one core",
            self.latency_us / 1e3
        )?;
        writeln!(out, "evaluator memory {:.0} MiB", mib(self.evaluator_bytes))?;
        writeln!(
            out,
            "keys             {:.1} MiB ({:.1} MiB seeded), {} rotations",
            mib(self.key_bytes),
            mib(self.key_bytes_seeded),
            self.rotations
        )?;
        writeln!(
            out,
            "query            {:.0} KiB seeded for {} example(s); reply {:.0} KiB",
            mib(self.query_bytes) * 1024.0,
            self.examples_per_query,
            mib(self.reply_bytes) * 1024.0
        )?;
        writeln!(
            out,
            "output error     {:.2e} (standard deviation)",
            self.output_error
        )?;
        match self.agreement {
            Some(share) => writeln!(
                out,
                "answers          {:.2} % of the calibration examples as in clear",
                100.0 * share
            ),
            None => Ok(()),
        }
    }
}
