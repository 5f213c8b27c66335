//! One step of a program.

use crate::slots::SlotVector;

/// Index of a value: 0 is the query, `i + 1` the result of step `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u32);

/// One non-zero diagonal: `out[p] += values[p] * in[(p + giant + baby) mod S]`.
///
/// Math: `rot(d' * rot(in, baby), giant)` with `d'[p] = values[(p - giant) mod S]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagonal {
    /// Ciphertext of the result.
    pub output: u32,
    /// Operand position.
    pub operand: u32,
    /// Ciphertext of that operand.
    pub ciphertext: u32,
    /// Rotation applied after the product, shared by a group of diagonals.
    pub giant: u32,
    /// Rotation applied before the product.
    pub baby: u32,
    /// The diagonal, indexed by output slot.
    pub values: SlotVector,
}

/// A linear map between slot layouts.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Ciphertexts of the result.
    pub outputs: u32,
    /// Base-two logarithm of the weights' scale for operand 0; the others are encoded so that all
    /// products have one scale.
    pub weight_scale_log2: f64,
    /// Diagonals, ordered by (output, giant, operand, ciphertext, baby).
    pub diagonals: Vec<Diagonal>,
}

/// A matrix of integers over ciphertexts (batch packing), rows in compressed form.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalarLinear {
    /// Ciphertexts of operands 0, 1, ... counted through.
    pub columns: u32,
    /// `row_starts[r] .. row_starts[r + 1]` are the entries of row `r`.
    pub row_starts: Vec<u32>,
    /// Column of each entry, ascending within a row.
    pub column: Vec<u32>,
    /// Integer weight of each entry: `round(w * 2^weight_scale_log2)`.
    pub weight: Vec<i32>,
    /// Base-two logarithm of the weights' scale.
    pub weight_scale_log2: f64,
}

/// How strongly a reply hides what it was computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flooding {
    /// Replies are within a statistical distance of 2^-bits of replies without any error.
    Statistical {
        /// At least 1, at most [`crate::LIMIT_FLOODING_BITS`].
        bits: u32,
    },
    /// So many bits of security for a number of decryptions under one key; weaker.
    Relaxed {
        /// At least 1, at most [`crate::LIMIT_FLOODING_BITS`].
        bits: u32,
        /// At least 1, at most [`crate::LIMIT_DECRYPTIONS`].
        decryptions: u32,
    },
    /// As [`Flooding::Relaxed`], but drowns the error that is predicted for data like the
    /// calibration data instead of the largest of any input; weaker still.
    Estimated {
        /// At least 1, at most [`crate::LIMIT_FLOODING_BITS`].
        bits: u32,
        /// At least 1, at most [`crate::LIMIT_DECRYPTIONS`].
        decryptions: u32,
    },
}

impl Flooding {
    /// Whether the error that is drowned is the largest of any input in the declared range.
    pub fn is_worst_case(self) -> bool {
        !matches!(self, Flooding::Estimated { .. })
    }
}

impl std::fmt::Display for Flooding {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Flooding::Statistical { bits } => write!(out, "{bits} statistical bits"),
            Flooding::Relaxed { bits, decryptions } => {
                write!(out, "{bits} relaxed bits for {decryptions} decryptions")
            }
            Flooding::Estimated { bits, decryptions } => write!(
                out,
                "{bits} relaxed bits for {decryptions} decryptions, over the estimated error"
            ),
        }
    }
}

/// Noise that drowns the error of a reply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flood {
    /// How strongly.
    pub flooding: Flooding,
    /// Base-two logarithm of what the slots of the error stay below in the worst case, for every
    /// input in the declared range (of [`Flooding::Estimated`]: on data like the calibration data):
    /// in units of the scaled message, or, in an exact program, the phase divided by the plaintext
    /// prime.
    pub bound_log2: f64,
}

/// What a step computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Diagonal linear map of one or more operands of two parts each.
    Linear(Linear),
    /// Ciphertext `j * n + c` of the result is ciphertext `c` of `n`, rotated by `steps[j]`.
    Rotate {
        /// Left rotations; 0 copies.
        steps: Vec<u32>,
    },
    /// For each stage in order, `x <- x + sum_s rot(x, s)`.
    Fold {
        /// Rotations of each stage; the unrotated ciphertext is always a summand.
        stages: Vec<Vec<u32>>,
    },
    /// `y[p] = (1/copies) sum_j x[(p + j period) mod S]`: the result repeats every `period` slots,
    /// and its ciphertext keeps nothing else: see [`crate::ValueShape::traced`].
    Trace {
        /// Slots after which the result repeats, a power of two.
        period: u32,
        /// How often each summand stands in the operand, a power of two.
        copies: u32,
    },
    /// Adds one slot vector per ciphertext.
    AddConstant {
        /// One per ciphertext.
        values: Vec<SlotVector>,
    },
    /// Adds one number to all slots of each ciphertext (batch packing).
    AddScalars {
        /// One per ciphertext.
        values: Vec<f64>,
    },
    /// Slotwise square; the result has three parts.
    Square,
    /// Slotwise product of two operands; the result has three parts.
    Multiply,
    /// From three parts to two.
    Relinearize,
    /// Division by the last prime of the level.
    Rescale,
    /// Leaves out primes until `level`.
    ModDrop {
        /// New level.
        level: u32,
    },
    /// `sum_i factors[i] * operand_i`, slotwise; all operands have as many ciphertexts.
    Combine {
        /// Base-two logarithm of the scale of `factors[0]`; the others are encoded so that all
        /// products have one scale.
        weight_scale_log2: f64,
        /// One per operand.
        factors: Vec<f64>,
    },
    /// Integer matrix over ciphertexts (batch packing).
    ScalarLinear(ScalarLinear),
    /// Re-randomises and drowns the error, so that who decrypts learns nothing but the values: only
    /// as the reply.
    Flood(Flood),
}

impl Operation {
    /// A word for tables and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Linear(_) => "linear",
            Operation::Rotate { .. } => "rotate",
            Operation::Fold { .. } => "fold",
            Operation::Trace { .. } => "trace",
            Operation::AddConstant { .. } | Operation::AddScalars { .. } => "add constant",
            Operation::Square => "square",
            Operation::Multiply => "multiply",
            Operation::Relinearize => "relinearize",
            Operation::Rescale => "rescale",
            Operation::ModDrop { .. } => "mod drop",
            Operation::Combine { .. } => "combine",
            Operation::ScalarLinear(_) => "scalar linear",
            Operation::Flood(_) => "flood",
        }
    }
}

/// What the compiler predicts of a step's result.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// Level of the result.
    pub level: u32,
    /// Base-two logarithm of the result's scale (nominal primes).
    pub scale_log2: f64,
    /// Largest absolute slot value on the calibration data, margin included.
    pub max_abs: f64,
    /// Predicted standard deviation of the result's error, in units of the values.
    pub error: f64,
    /// Predicted time on one core, in microseconds.
    pub micros: f64,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Layer of the network that it belongs to.
    pub layer: String,
    /// Operands, earlier values.
    pub inputs: Vec<ValueId>,
    /// What is computed.
    pub operation: Operation,
    /// Predictions about the result.
    pub estimate: Estimate,
}

impl Step {
    /// The step's operands among all values, which are numbered as [`ValueId`]s are.
    pub fn operands<'a, T>(&self, values: &'a [T]) -> Vec<&'a T> {
        let ids = self.inputs.iter();
        ids.map(|id| &values[id.0 as usize]).collect()
    }
}
