//! The compiled artefact: what an evaluator needs to know to run a network on ciphertexts.
//!
//! A [`Program`] is a straight line of steps over *values*; value 0 is the query, step `i` makes
//! value `i + 1`.
//! A value is a list of ciphertexts, each a cyclic row of `S` slots. With single-image packing a
//! linear map is
//! `out_o[p] = sum_{i,k} d_{o,i,k}[p] * in_i[(p + k) mod S]`, given as its non-zero diagonals `d`;
//! with batch packing a
//! ciphertext holds one element of `S` images, and a linear map is a matrix of integers.
//!
//! Layers: `parameters` (plain numbers), `slots` (sparse slot vectors), `step`, `spec` (query,
//! reply, keys), `program`
//! (the whole and its validation), `weights` (what is encrypted of a private model), `codec`
//! (canonical bytes and digest).
//!
//! Non-goals: this crate knows no networks and no ciphertexts; it is the only thing the compiler
//! and the runtime share.

mod codec;
mod error;
pub mod face;
mod factors;
mod interpret;
mod parameters;
mod program;
mod scales;
mod slots;
mod spec;
mod step;
mod weights;

pub use codec::{FORMAT_VERSION, MAGIC, MAX_PROGRAM_BYTES};
pub use error::{KeyName, ProgramError};
pub use interpret::{SlotValue, exposure, interpret, interpret_all};
pub use parameters::{ParameterPlan, Ring, Scheme, SecurityTable};
pub use program::{
    LIMIT_CIPHERTEXTS, LIMIT_DECRYPTIONS, LIMIT_DIAGONALS, LIMIT_FLOODING_BITS, LIMIT_STEPS,
    Packing, Program, ValueShape, Weights,
};
pub use slots::{Run, SlotVector};
pub use spec::{
    GaloisStep, Gather, InputSpec, KeyManifest, NO_ELEMENT, OutputSpec, PostOperation, SlotAddress,
};
pub use step::{
    Diagonal, Estimate, Flood, Flooding, Linear, Operation, ScalarLinear, Step, ValueId,
};
pub use weights::{EXACT_WEIGHT_BITS_LEFT_OUT, WeightKind, WeightPlace};
