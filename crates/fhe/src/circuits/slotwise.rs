//! Circuits that act on every slot alike, with one ciphertext per network element.
//!
//! Integer matrices over ciphertexts, constants and products work position by position on
//! polynomials in evaluation form, until a ciphertext must be relinearised or rescaled. So a run of
//! such steps is done for a few positions at a time, modulo one prime at a time, and what lies
//! between the steps never leaves the nearest caches. Three-part ciphertexts pass through matrices
//! like two-part ones.

#[cfg(test)]
mod tests;
mod tile;

use rayon::prelude::*;
pub use scuro_polyring::ScalarMatrix;
use scuro_polyring::{Lanes, Modulus, Ntt, Poly, TILE};

use crate::ckks::{Ciphertext, Evaluator};
use crate::error::Error;
use tile::Workspace;

/// Relative difference up to which the scales of one matrix's operands count as equal: primes of
/// one size differ by less, and the error of a weight is larger.
const SCALE_TOLERANCE: f64 = 1.0 / (1 << 14) as f64;
/// Parts of the positions that are work items of their own.
const CHUNKS: usize = 8;

/// One step on lists of ciphertexts. Operands are value numbers: first the inputs, then the results
/// of the steps.
#[derive(Debug, Clone)]
pub enum SlotwiseStep {
    /// out_r = Σ_c w_rc·in_c, the columns counted through all operands.
    ///
    /// Scale: s -> s·weight_scale     Noise: Σ_c |w_rc|·(noise of in_c)
    Matrix {
        /// Values whose ciphertexts are the columns.
        operands: Vec<usize>,
        /// Integer weights.
        matrix: ScalarMatrix,
        /// What the integer weights are multiples of the true weights by.
        weight_scale: f64,
    },
    /// Adds one number to all slots of each ciphertext.
    AddScalars {
        /// The value.
        operand: usize,
        /// One number per ciphertext.
        values: Vec<f64>,
    },
    /// out_i = Σ_k factors_k·in_k,i, each factor rounded to an integer multiple of 1/(scale / scale
    /// of in_k).
    Combine {
        /// Values of equal counts.
        operands: Vec<usize>,
        /// One per operand.
        factors: Vec<f64>,
        /// Scale of the result.
        scale: f64,
    },
    /// left_i·right_i: three parts. Both need two parts and equal counts.
    Multiply {
        /// Left factors.
        left: usize,
        /// Right factors; the same value for squares.
        right: usize,
    },
}

/// Steps that are run together.
#[derive(Debug, Clone)]
pub struct SlotwiseCircuit {
    /// Number of input lists.
    pub inputs: usize,
    /// Steps in order.
    pub steps: Vec<SlotwiseStep>,
    /// Values to give back; results of steps, not inputs.
    pub outputs: Vec<usize>,
}

/// Called with `None` when a worker starts on some positions and with each step when it is done
/// there; for timing.
pub type SlotwiseObserver<'a> = &'a (dyn Fn(Option<usize>) + Sync);

/// Form of a value.
#[derive(Debug, Clone, Copy)]
struct Form {
    count: usize,
    parts: usize,
    scale: f64,
}

impl SlotwiseCircuit {
    /// Runs the steps on one list of ciphertexts per input, on the threads of the current rayon
    /// pool.
    ///
    /// Level: all inputs equal, unchanged
    /// Timing: independent of ciphertexts; depends on the matrices
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] and [`Error::IndexOutOfRange`] for lists or operands that do not
    /// fit the steps; [`Error::LevelMismatch`], [`Error::ScaleMismatch`], [`Error::KeyMismatch`],
    /// [`Error::ParameterMismatch`], [`Error::PartCount`], [`Error::NotFinite`].
    pub fn apply(
        &self,
        evaluator: &Evaluator,
        inputs: &[&[Ciphertext]],
        observer: SlotwiseObserver<'_>,
    ) -> Result<Vec<Vec<Ciphertext>>, Error> {
        let first = self.check_inputs(evaluator, inputs)?;
        let forms = self.forms(inputs)?;
        let context = evaluator.context();
        let ring = context.ring();
        let zero = || Poly::zero(ring, context.basis(first.level));
        let list = |&value: &usize| {
            let Form {
                count,
                parts,
                scale,
            } = forms[value];
            let one = || Ciphertext {
                parts: (0..parts).map(|_| zero()).collect(),
                scale,
                ..*first
            };
            (0..count).map(|_| one()).collect::<Vec<_>>()
        };
        let mut outputs: Vec<Vec<Ciphertext>> = self.outputs.iter().map(list).collect();
        let constants = self.constants(&forms, |i| ring.prime(i).modulus(), first.level)?;
        let polys = outputs
            .iter_mut()
            .flatten()
            .flat_map(|ciphertext| &mut ciphertext.parts);
        let items = work_items(polys, first.level + 1, ring.degree());
        items.into_par_iter().for_each(|item| {
            let lanes = Lanes::new(ring.prime(item.limb).modulus(), ring.kernel());
            let mut workspace =
                Workspace::new(self, &forms, lanes, &constants[item.limb], observer);
            workspace.run(item, inputs);
        });
        Ok(outputs)
    }

    fn check_inputs<'a>(
        &self,
        evaluator: &Evaluator,
        inputs: &[&'a [Ciphertext]],
    ) -> Result<&'a Ciphertext, Error> {
        let (found, expected) = (inputs.len(), self.inputs);
        let whole_tiles = evaluator.context().ring().degree().is_multiple_of(TILE);
        if found != expected || self.inputs == 0 || !whole_tiles {
            return Err(Error::LengthMismatch {
                what: "input lists",
                found,
                expected,
            });
        }
        let Some(first) = inputs[0].first() else {
            return Err(Error::LengthMismatch {
                what: "ciphertexts",
                found: 0,
                expected: 1,
            });
        };
        for ciphertext in inputs.iter().copied().flatten() {
            evaluator.context().check_digest(ciphertext.digest)?;
            ciphertext.check_key(first.key_id)?;
            if ciphertext.level != first.level {
                return Err(Error::LevelMismatch {
                    left: first.level,
                    right: ciphertext.level,
                });
            }
        }
        Ok(first)
    }

    /// The form of every value; checks what the workers rely on.
    fn forms(&self, inputs: &[&[Ciphertext]]) -> Result<Vec<Form>, Error> {
        let mut forms = Vec::with_capacity(inputs.len() + self.steps.len());
        for list in inputs {
            let scale = list.first().map_or(1.0, |c| c.scale);
            for ciphertext in *list {
                check_scales(scale, ciphertext.scale)?;
            }
            let parts = list.iter().map(|c| c.parts.len()).max().unwrap_or(2);
            forms.push(Form {
                count: list.len(),
                parts,
                scale,
            });
        }
        for step in &self.steps {
            forms.push(step.form(&forms)?);
        }
        for &output in &self.outputs {
            check_index(output.wrapping_sub(self.inputs), self.steps.len())?;
        }
        Ok(forms)
    }

    /// Per limb and step the scaled constants modulo the limb's prime.
    fn constants(
        &self,
        forms: &[Form],
        modulus: impl Fn(usize) -> Modulus,
        level: usize,
    ) -> Result<Vec<Vec<Vec<u64>>>, Error> {
        let step = |step: &SlotwiseStep, q: Modulus| {
            let scaled = step.scaled_constants(forms).into_iter().enumerate();
            let encode = |(slot, value)| residue(value, q).ok_or(Error::NotFinite { slot });
            scaled.map(encode).collect()
        };
        let limb = |i| {
            self.steps
                .iter()
                .map(|s| step(s, modulus(i)))
                .collect::<Result<_, _>>()
        };
        (0..=level).map(limb).collect()
    }
}

impl SlotwiseStep {
    /// Constants in units of the ciphertexts' integers.
    fn scaled_constants(&self, forms: &[Form]) -> Vec<f64> {
        match self {
            Self::AddScalars { operand, values } => values
                .iter()
                .map(|value| value * forms[*operand].scale)
                .collect(),
            Self::Combine {
                operands,
                factors,
                scale,
            } => {
                let scaled = |(f, &operand): (&f64, &usize)| f * scale / forms[operand].scale;
                factors.iter().zip(operands).map(scaled).collect()
            }
            _ => Vec::new(),
        }
    }

    fn operands(&self) -> Vec<usize> {
        match self {
            Self::Matrix { operands, .. } | Self::Combine { operands, .. } => operands.clone(),
            Self::AddScalars { operand, .. } => vec![*operand],
            Self::Multiply { left, right } => vec![*left, *right],
        }
    }

    fn form(&self, forms: &[Form]) -> Result<Form, Error> {
        let operands = self.operands();
        operands
            .iter()
            .try_for_each(|&operand| check_index(operand, forms.len()))?;
        let operands: Vec<Form> = operands.iter().map(|&operand| forms[operand]).collect();
        let Some(&first) = operands.first() else {
            return Err(Error::LengthMismatch {
                what: "operands",
                found: 0,
                expected: 1,
            });
        };
        match self {
            Self::Matrix {
                matrix,
                weight_scale,
                ..
            } => {
                operands
                    .iter()
                    .try_for_each(|form| check_scales(first.scale, form.scale))?;
                let found = operands.iter().map(|form| form.count).sum();
                check_count(found, matrix.columns())?;
                let parts = operands.iter().map(|form| form.parts).max().unwrap_or(2);
                Ok(Form {
                    count: matrix.rows(),
                    parts,
                    scale: first.scale * weight_scale,
                })
            }
            Self::Combine { factors, scale, .. } => {
                check_count(factors.len(), operands.len())?;
                operands
                    .iter()
                    .try_for_each(|form| check_count(form.count, first.count))?;
                let parts = operands.iter().map(|form| form.parts).max().unwrap_or(2);
                Ok(Form {
                    count: first.count,
                    parts,
                    scale: *scale,
                })
            }
            Self::AddScalars { values, .. } => {
                check_count(values.len(), first.count)?;
                Ok(first)
            }
            Self::Multiply { .. } => {
                let second = operands[operands.len() - 1];
                check_count(second.count, first.count)?;
                if let Some(form) = operands.iter().find(|form| form.parts != 2) {
                    return Err(Error::PartCount {
                        found: form.parts,
                        expected: 2,
                    });
                }
                Ok(Form {
                    parts: 3,
                    scale: first.scale * second.scale,
                    ..first
                })
            }
        }
    }
}

fn check_scales(left: f64, right: f64) -> Result<(), Error> {
    if (left - right).abs() <= SCALE_TOLERANCE * left {
        return Ok(());
    }
    Err(Error::ScaleMismatch { left, right })
}

fn check_count(found: usize, expected: usize) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::LengthMismatch {
        what: "ciphertexts",
        found,
        expected,
    })
}

fn check_index(found: usize, bound: usize) -> Result<(), Error> {
    if found < bound {
        return Ok(());
    }
    Err(Error::IndexOutOfRange {
        what: "value",
        found,
        bound,
    })
}

/// round(x) mod q for a finite x of any size.
fn residue(x: f64, q: Modulus) -> Option<u64> {
    if !x.is_finite() {
        return None;
    }
    let mut magnitude = x.abs().round();
    let mut doublings = 0;
    // Above 2^53 a double is an integer times a power of two.
    while magnitude >= (1u64 << 53) as f64 {
        magnitude /= 2.0;
        doublings += 1;
    }
    // The division by two is exact, so an odd mantissa below 2^53 is left.
    let residue = q.mul(q.reduce(magnitude as u64), q.pow(2, doublings));
    Some(if x < 0.0 { q.neg(residue) } else { residue })
}

/// Positions `start ..` of the rows of one prime: of every output polynomial the piece to be
/// filled.
struct Item<'a> {
    limb: usize,
    start: usize,
    outs: Vec<&'a mut [u64]>,
}

fn work_items<'a>(
    polys: impl Iterator<Item = &'a mut Poly<Ntt>>,
    limbs: usize,
    degree: usize,
) -> Vec<Item<'a>> {
    let length = (degree / CHUNKS).max(TILE);
    let chunks = degree / length;
    let item = |i: usize| Item {
        limb: i / chunks,
        start: i % chunks * length,
        outs: Vec::new(),
    };
    let mut items: Vec<Item<'a>> = (0..limbs * chunks).map(item).collect();
    for poly in polys {
        for (row, (_, values)) in poly.rows_mut().enumerate() {
            for (chunk, piece) in values.chunks_exact_mut(length).enumerate() {
                items[row * chunks + chunk].outs.push(piece);
            }
        }
    }
    items
}
