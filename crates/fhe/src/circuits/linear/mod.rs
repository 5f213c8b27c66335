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

use std::collections::{BTreeMap, BTreeSet};

use scuro_polyring::RowFactors;

pub use apply::Operands;
use apply::block_len;

use crate::ckks::Encoder;
use crate::context::Context;
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

/// One diagonal of one block of the map.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagonal {
    /// Output ciphertext.
    pub output: usize,
    /// Input ciphertext.
    pub input: usize,
    /// Giant part of the rotation.
    pub giant: usize,
    /// Baby part of the rotation.
    pub baby: usize,
    /// Factor of every output slot.
    pub values: SlotValues,
}

/// A vector of slots.
#[derive(Debug, Clone, PartialEq)]
pub enum SlotValues {
    /// One value per slot from slot 0; missing ones are zero.
    Dense(Vec<f64>),
    /// (first slot, values) for each run of slots that are not zero.
    Runs(Vec<(usize, Vec<f64>)>),
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
        let context = &**encoder.context();
        context.check_level(level)?;
        self.check(encoder.slots())?;
        let places = self.places(encoder.slots())?;
        let extended = places.keys().any(|place| place.operand.baby != 0);
        let found: BTreeSet<Operand> = places.keys().map(|place| place.operand).collect();
        let operands: Vec<Operand> = found.into_iter().collect();
        let basis = basis(context, level, extended);
        let mut outputs: Vec<Vec<Group>> = (0..self.outputs).map(|_| Vec::new()).collect();
        let places: Vec<(Place, Vec<f64>)> = places.into_iter().collect();
        for terms in places.chunk_by(|(a, _), (b, _)| (a.output, a.giant) == (b.output, b.giant)) {
            let (place, degree) = (terms[0].0, context.ring().degree());
            let mut group = Group {
                giant: place.giant,
                operands: Vec::with_capacity(terms.len()),
                factors: RowFactors::recycled(basis.len(), degree, terms.len()),
            };
            for (term, (place, values)) in terms.iter().enumerate() {
                let operand = operands.partition_point(|operand| *operand < place.operand);
                group.operands.push(operand);
                let diagonal = encoder.polynomial(values, &[], level, self.scale, basis.clone())?;
                for (row, (_, values)) in diagonal.rows().enumerate() {
                    group.factors.set(row, term, values);
                }
            }
            outputs[place.output].push(group);
        }
        if let Some(output) = outputs.iter().position(Vec::is_empty) {
            return Err(Error::EmptyOutput { output });
        }
        let (digest, scale, inputs) = (context.digest(), self.scale, self.inputs);
        Ok(PreparedTransform {
            digest,
            level,
            scale,
            inputs,
            outputs,
            operands,
            extended,
        })
    }

    fn check(&self, slots: usize) -> Result<(), Error> {
        for diagonal in &self.diagonals {
            let fields = [
                ("output", diagonal.output, self.outputs),
                ("input", diagonal.input, self.inputs),
                ("giant step", diagonal.giant, slots),
                ("baby step", diagonal.baby, slots),
            ];
            for (what, found, bound) in fields {
                if found >= bound {
                    return Err(Error::IndexOutOfRange { what, found, bound });
                }
            }
        }
        Ok(())
    }

    /// The diagonals rotated by their giant step, those of one place added up.
    fn places(&self, slots: usize) -> Result<BTreeMap<Place, Vec<f64>>, Error> {
        let mut places: BTreeMap<Place, Vec<f64>> = BTreeMap::new();
        for diagonal in &self.diagonals {
            let &Diagonal {
                output,
                input,
                giant,
                baby,
                ..
            } = diagonal;
            let place = Place {
                output,
                giant,
                operand: Operand { input, baby },
            };
            let sum = places.entry(place).or_insert_with(|| vec![0.0; slots]);
            diagonal.values.for_each_run(slots, |start, values| {
                for (slot, value) in (start..).zip(values) {
                    sum[(slot + giant) % slots] += value;
                }
            })?;
        }
        Ok(places)
    }
}

/// Ordered so that the terms of a group are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    output: usize,
    giant: usize,
    operand: Operand,
}

impl SlotValues {
    fn for_each_run(&self, slots: usize, mut run: impl FnMut(usize, &[f64])) -> Result<(), Error> {
        let mut checked = |start: usize, values: &[f64]| match start.checked_add(values.len()) {
            Some(end) if end <= slots => {
                run(start, values);
                Ok(())
            }
            _ => Err(Error::LengthMismatch {
                what: "slots up to the end of a run",
                found: start.saturating_add(values.len()),
                expected: slots,
            }),
        };
        match self {
            Self::Dense(values) => checked(0, values),
            Self::Runs(runs) => runs
                .iter()
                .try_for_each(|(start, values)| checked(*start, values)),
        }
    }
}

fn basis(context: &Context, level: usize, extended: bool) -> scuro_polyring::Basis {
    if extended {
        context.extended_basis(level)
    } else {
        context.basis(level)
    }
}
