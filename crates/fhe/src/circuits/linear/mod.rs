//! Linear maps on slots given by diagonals: many ciphertexts in, many out.
//!
//! Math: out_o\[p\] = Σ diagonal\[p\] * in_i\[(p + giant + baby) mod S\] over the diagonals of
//!     output o.
//!
//! Baby-step giant-step: Σ_g rot_g(Σ_b diagonal'_{g,b} * rot_b(in)) with diagonal' =
//! rot_-g(diagonal). Both loops are hoisted (double hoisting): each input is decomposed once, its
//! baby rotations stay over QP, the inner sums are inner products over QP, and the giants' key
//! switches are summed over QP before the one division by P of each output.
//!
//! Source: Bossuat, Mouchet, Troncoso-Pastoriza, Hubaux 2021, "Efficient bootstrapping for
//!     approximate homomorphic encryption with non-sparse keys", Algorithm 6; differs in that
//!     several inputs share the giants of an output, and in pre-rotated keys.

mod apply;
pub mod encrypted;
pub mod exact;
mod prepare;

use std::collections::BTreeSet;

use scuro_polyring::RowFactors;

pub use apply::Operands;
use apply::block_len;
use prepare::{Shape, Source};

use crate::ckks::Encoder;
use crate::error::Error;
use crate::params::Digest;

/// A linear map as a list of diagonals.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LinearTransform {
    /// Number of input ciphertexts.
    pub inputs: usize,
    /// Number of output ciphertexts.
    pub outputs: usize,
    /// Scale at which the diagonals are encoded.
    pub scale: f64,
    /// The diagonals; several with the same place are added.
    pub diagonals: Vec<Diagonal>,
}

/// One diagonal of one block of the map: of reals, or of integers in [`exact`].
#[derive(Debug, Clone, PartialEq)]
pub struct Diagonal<T = f64> {
    /// Output ciphertext.
    pub output: usize,
    /// Input ciphertext.
    pub input: usize,
    /// Giant part of the rotation.
    pub giant: usize,
    /// Baby part of the rotation.
    pub baby: usize,
    /// Factor of every output slot.
    pub values: SlotValues<T>,
}

/// A vector of slots.
#[derive(Debug, Clone, PartialEq)]
pub enum SlotValues<T = f64> {
    /// One value per slot from slot 0; missing ones are zero.
    Dense(Vec<T>),
    /// (first slot, values) for each run of slots that are not zero.
    Runs(Vec<(usize, Vec<T>)>),
}

/// A linear map with its diagonals encoded at one level.
pub struct PreparedTransform {
    digest: Digest,
    level: usize,
    scale: f64,
    inputs: usize,
    outputs: Vec<Vec<Group>>,
    /// Inputs and baby rotations that terms refer to.
    operands: Vec<Operand>,
    /// Whether diagonals and operands have rows for the special primes.
    extended: bool,
}

/// The inner sum of one giant rotation of one output.
struct Group {
    giant: usize,
    /// index of the operand of each term
    operands: Vec<usize>,
    /// diagonals of the terms
    factors: RowFactors,
}

/// A rotated input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operand {
    /// Input ciphertext.
    pub input: usize,
    /// Its rotation.
    pub baby: usize,
}

/// Counts that a cost model needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinearCost {
    /// Inputs that are decomposed (those with a baby rotation).
    pub decompositions: usize,
    /// Hoisted baby rotations.
    pub baby_rotations: usize,
    /// Giant rotations: a division by P, a decomposition and a key switch each.
    pub giant_rotations: usize,
    /// Products of a ciphertext with a diagonal.
    pub products: usize,
    /// Divisions of a whole ciphertext by P at the end.
    pub divisions: usize,
}

impl LinearTransform {
    /// Rotation steps that need a key, at the level of the transform.
    pub fn rotation_steps(&self) -> BTreeSet<usize> {
        let steps = self
            .diagonals
            .iter()
            .flat_map(|diagonal| [diagonal.giant, diagonal.baby]);
        steps.filter(|&step| step != 0).collect()
    }

    /// Operation counts.
    pub fn cost(&self) -> LinearCost {
        let babies: BTreeSet<_> = self
            .diagonals
            .iter()
            .filter(|d| d.baby != 0)
            .map(|d| (d.input, d.baby))
            .collect();
        let giants: BTreeSet<_> = self
            .diagonals
            .iter()
            .filter(|d| d.giant != 0)
            .map(|d| (d.output, d.giant))
            .collect();
        let places: BTreeSet<_> = self
            .diagonals
            .iter()
            .map(|d| (d.output, d.input, d.giant, d.baby))
            .collect();
        let decomposed: BTreeSet<_> = babies.iter().map(|(input, _)| input).collect();
        let rotates = !babies.is_empty() || !giants.is_empty();
        LinearCost {
            decompositions: decomposed.len(),
            baby_rotations: babies.len(),
            giant_rotations: giants.len(),
            products: places.len(),
            divisions: if rotates { self.outputs } else { 0 },
        }
    }

    /// Encodes the diagonals at `level`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for an output, input, rotation or slot that does not exist,
    /// [`Error::EmptyOutput`] for an output without a diagonal, and the errors of
    /// [`Encoder::encode`].
    pub fn prepare(&self, encoder: &Encoder, level: usize) -> Result<PreparedTransform, Error> {
        let shape = Shape {
            inputs: self.inputs,
            outputs: self.outputs,
            rows: 1,
        };
        let encode =
            |values: &[f64], basis| encoder.polynomial(values, &[], level, self.scale, basis);
        let add = |sum: &mut f64, value| *sum += value;
        let source = Source {
            context: encoder.context(),
            shape,
            diagonals: &self.diagonals,
        };
        source.prepare(level, self.scale, add, encode)
    }
}
