//! Private weights: which ciphertexts stand for them, and the copy of a program that may be
//! published.
//!
//! Every diagonal of a linear step is one ciphertext of that step's level, and so is every slot
//! vector of an added constant. The order is that of the steps, and within a step that of the
//! program.

use crate::error::ProgramError;
use crate::parameters::Scheme;
use crate::program::{Program, ValueShape, Weights};
use crate::slots::SlotVector;
use crate::step::{Estimate, Operation};

/// Bits a coefficient that the ciphertexts of an exact program's weights leave out. Rounding them
/// away adds half of the variance that the noise has: a third of a bit for three.
pub const EXACT_WEIGHT_BITS_LEFT_OUT: u32 = 3;

/// What the ciphertext of a weight takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightKind {
    /// Diagonal of a linear step, rotated by minus its giant step: it is multiplied before the
    /// giant rotation.
    Diagonal {
        /// Operand that it multiplies.
        operand: u32,
        /// Rotation after the product.
        giant: u32,
    },
    /// Added as it stands.
    Constant,
}

/// One ciphertext of a private model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightPlace {
    /// Step that reads it.
    pub step: usize,
    /// Diagonal or constant of that step.
    pub index: usize,
    /// Its role.
    pub kind: WeightKind,
    /// Level of its encryption.
    pub level: u32,
    /// Scale of its encoding.
    pub scale: f64,
    /// What an exact program multiplies it by modulo the plaintext prime.
    pub factor: u64,
}

impl Program {
    /// Every ciphertext that stands for weights, in order; none if the weights are plain.
    ///
    /// `primes` are the ciphertext primes, lowest level first, `plain` the plaintext prime of an
    /// exact program.
    ///
    /// # Errors
    /// As [`Program::validate`].
    pub fn weight_places(
        &self,
        primes: &[u64],
        plain: Option<u64>,
    ) -> Result<Vec<WeightPlace>, ProgramError> {
        let shapes = self.validate()?;
        if self.weights == Weights::Plain {
            return Ok(Vec::new());
        }
        let scales = self.scales(&shapes, primes);
        let factors = match plain {
            Some(plain) => self.factors(&shapes, primes, plain),
            None => vec![1; shapes.len()],
        };
        let of_step = |step| self.places(step, &shapes, &scales, &factors);
        Ok((0..self.steps.len()).flat_map(of_step).collect())
    }

    fn places(
        &self,
        step: usize,
        shapes: &[ValueShape],
        scales: &[f64],
        factors: &[u64],
    ) -> Vec<WeightPlace> {
        let operation = &self.steps[step].operation;
        let value = |operand: u32| self.steps[step].inputs[operand as usize].0 as usize;
        let level = shapes[value(0)].level;
        let place = |(index, kind): (usize, WeightKind)| {
            let (scale, factor) = match kind {
                WeightKind::Diagonal { operand, .. } => {
                    (scales[step + 1] / scales[value(operand)], 1)
                }
                WeightKind::Constant => (scales[step + 1], factors[step + 1]),
            };
            WeightPlace {
                step,
                index,
                kind,
                level,
                scale,
                factor,
            }
        };
        let kinds: Vec<WeightKind> = match operation {
            Operation::Linear(linear) => {
                let kind = |d: &crate::step::Diagonal| WeightKind::Diagonal {
                    operand: d.operand,
                    giant: d.giant,
                };
                linear.diagonals.iter().map(kind).collect()
            }
            Operation::AddConstant { values } => vec![WeightKind::Constant; values.len()],
            _ => Vec::new(),
        };
        kinds.into_iter().enumerate().map(place).collect()
    }

    /// The slots of a weight, as they are encoded.
    pub fn weight_slots(&self, place: &WeightPlace) -> Vec<f64> {
        let slots = self.slots();
        match (&self.steps[place.step].operation, place.kind) {
            (Operation::Linear(linear), WeightKind::Diagonal { giant, .. }) => {
                let mut dense = linear.diagonals[place.index].values.to_dense(slots);
                dense.rotate_right(giant as usize);
                dense
            }
            (Operation::AddConstant { values }, _) => values[place.index].to_dense(slots),
            _ => vec![0.0; slots],
        }
    }

    /// The copy for whoever must not learn the weights: without them, without the digest of the
    /// network and without what was measured on calibration data. A program with plain weights is
    /// returned as it is.
    pub fn published(&self) -> Program {
        let mut program = self.clone();
        if self.weights == Weights::Plain {
            return program;
        }
        program.weights = Weights::Withheld;
        program.model_digest = [0; 32];
        for step in &mut program.steps {
            vectors_mut(&mut step.operation).for_each(|vector| vector.runs.clear());
            step.estimate = Estimate {
                max_abs: 0.0,
                error: 0.0,
                ..step.estimate
            };
        }
        program
    }

    /// As [`Program::published`], with the bound of the result: of a program that is one of an
    /// ensemble's, its face tells it to everybody.
    pub fn published_to_ensemble(&self) -> Program {
        let mut program = self.published();
        if let Some((published, own)) = program.steps.last_mut().zip(self.steps.last()) {
            published.estimate.max_abs = own.estimate.max_abs;
        }
        program
    }

    /// That weights are absent where they are withheld, and that no step has weights that could
    /// not be.
    pub(crate) fn check_weights(&self) -> Result<(), ProgramError> {
        if self.weights == Weights::Plain {
            return Ok(());
        }
        let scheme = self.parameters.scheme;
        if matches!(scheme, Scheme::Bfv { .. }) {
            let scheme = scheme.name();
            return Err(ProgramError::EncryptedWeights { scheme });
        }
        for (index, step) in self.steps.iter().enumerate() {
            let scalars = matches!(
                step.operation,
                Operation::ScalarLinear(_) | Operation::AddScalars { .. }
            );
            let withheld = self.weights == Weights::Withheld;
            if scalars || (withheld && vectors(&step.operation).any(|v| !v.runs.is_empty())) {
                return Err(ProgramError::WeightsNotWithheld { step: index });
            }
        }
        Ok(())
    }
}

/// The slot vectors that hold weights.
fn vectors(operation: &Operation) -> impl Iterator<Item = &SlotVector> {
    let (diagonals, constants) = match operation {
        Operation::Linear(linear) => (&linear.diagonals[..], &[][..]),
        Operation::AddConstant { values } => (&[][..], &values[..]),
        _ => (&[][..], &[][..]),
    };
    diagonals.iter().map(|d| &d.values).chain(constants)
}

fn vectors_mut(operation: &mut Operation) -> impl Iterator<Item = &mut SlotVector> {
    let (diagonals, constants) = match operation {
        Operation::Linear(linear) => (&mut linear.diagonals[..], &mut [][..]),
        Operation::AddConstant { values } => (&mut [][..], &mut values[..]),
        _ => (&mut [][..], &mut [][..]),
    };
    diagonals.iter_mut().map(|d| &mut d.values).chain(constants)
}
