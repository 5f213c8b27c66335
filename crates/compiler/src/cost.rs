//! Times of the homomorphic operations, in microseconds on one core.
//!
//! Measured at `N = 8192` and scaled: transforms by `N log N`, pointwise work by `N`. `limbs`
//! counts the ciphertext primes that are live; the special primes come on top.

use std::collections::BTreeSet;

use scuro_program::{Linear, Operation, Weights};

use crate::options::Arithmetic;

/// Cost constants for one ring degree.
#[derive(Debug, Clone, Copy)]
pub struct CostModel {
    log_n: u32,
    special: usize,
    private: bool,
    scale_invariant: bool,
    /// What keys are worth, as a multiple of the usual.
    keys: f64,
}

/// One forward or inverse transform of one limb, with the arithmetic around it.
const NTT: f64 = 6.2;
/// One multiply-accumulate of one limb whose operands are in a near cache.
const MAC: f64 = 1.6;
/// One multiply-accumulate of one limb of a switching key: bound by memory.
const KEY: f64 = 4.6;
/// One multiply-accumulate of one limb of a diagonal with both parts: bound by memory.
const DIAGONAL: f64 = 4.0;
/// One multiply-accumulate of one limb of an encrypted diagonal, both parts with both parts of the
/// operand: bound by memory.
const PRIVATE_DIAGONAL: f64 = 9.0;
/// One limb of a conversion from several primes.
const CONVERT: f64 = 3.8;
/// One term of one limb of a conversion between many primes, all that is done around it included.
const CONVERT_TERM: f64 = 1.7;
/// One integer multiple of one limb, accumulated in a near cache.
const SCALAR: f64 = 0.8;
/// Drawing the secrets and errors of a public-key encryption, and a flooding noise.
const DRAW: f64 = 250.0;
/// What a further query ciphertext is worth in time at `N = 8192`: the client encrypts and sends
/// it.
const QUERY_PENALTY: f64 = 4000.0;
/// The same for private models: the machine that computes encrypts too, nothing is sent.
const PRIVATE_QUERY_PENALTY: f64 = 500.0;
/// What a mebibyte of rotation keys is worth in time at `N = 8192`; memory runs short at larger
/// degrees.
const KEY_PENALTY_PER_MIB: f64 = 32.0;

impl CostModel {
    /// For ring degree `2^log_n` with `special` key-switching primes.
    pub fn new(log_n: u32, special: usize) -> CostModel {
        CostModel {
            log_n,
            special: special.max(1),
            private: false,
            scale_invariant: false,
            keys: 1.0,
        }
    }

    /// The same where a rotation key is worth so many times as much.
    pub fn with_key_worth(self, keys: f64) -> CostModel {
        CostModel { keys, ..self }
    }

    /// The same, for linear steps whose weights are plain or not.
    pub fn with_weights(self, weights: Weights) -> CostModel {
        let private = weights != Weights::Plain;
        CostModel { private, ..self }
    }

    /// The same for products of ciphertexts in an arithmetic.
    pub fn with_arithmetic(self, arithmetic: Arithmetic) -> CostModel {
        let scale_invariant = arithmetic == Arithmetic::ScaleInvariant;
        CostModel {
            scale_invariant,
            ..self
        }
    }

    fn size(&self) -> f64 {
        (f64::from(self.log_n) - 13.0).exp2()
    }

    fn ntt(&self) -> f64 {
        NTT * self.size() * f64::from(self.log_n) / 13.0
    }

    fn mac(&self) -> f64 {
        MAC * self.size()
    }

    /// Conversion to `targets` primes from the special primes, or from as many others; from a
    /// single prime it happens inside the transforms that follow.
    fn convert(&self, targets: f64) -> f64 {
        match self.special {
            1 => 0.0,
            special => (special as f64 + 1.0 + targets) * CONVERT * self.size(),
        }
    }

    fn digits(&self, limbs: usize) -> f64 {
        limbs.div_ceil(self.special) as f64
    }

    fn extended(&self, limbs: usize) -> f64 {
        (limbs + self.special) as f64
    }

    /// Digits of one part, in the extended basis.
    pub fn decompose(&self, limbs: usize) -> f64 {
        self.digits(limbs) * (self.extended(limbs) * self.ntt() + self.convert(limbs as f64))
    }

    /// One hoisted rotation that stays in the extended basis.
    pub fn baby(&self, limbs: usize) -> f64 {
        2.0 * self.digits(limbs) * self.extended(limbs) * KEY * self.size()
    }

    /// One rotation of an inner sum: both parts stored, one divided by the special primes, then
    /// switched into the outer sum.
    pub fn giant(&self, limbs: usize) -> f64 {
        let stored = 2.0 * self.extended(limbs) * DIAGONAL * self.size();
        stored + self.mod_down(limbs) / 2.0 + self.decompose(limbs) + self.baby(limbs)
    }

    /// One hoisted rotation of a linear step's operand. Encrypted weights multiply it as a
    /// ciphertext, so it cannot stay in the extended basis.
    pub fn operand_rotation(&self, limbs: usize) -> f64 {
        match self.private {
            true => self.baby(limbs) + self.mod_down(limbs),
            false => self.baby(limbs),
        }
    }

    /// One rotation of an inner sum of a linear step; with encrypted weights its three parts are
    /// switched to two on the way.
    pub fn sum_rotation(&self, limbs: usize) -> f64 {
        match self.private {
            true => 2.0 * (self.decompose(limbs) + self.baby(limbs)),
            false => self.giant(limbs),
        }
    }

    /// One diagonal of a linear step.
    pub fn weighted(&self, limbs: usize) -> f64 {
        match self.private {
            true => limbs as f64 * PRIVATE_DIAGONAL * self.size(),
            false => self.diagonal(limbs),
        }
    }

    /// What each output of a linear step costs beside its sums.
    pub fn closing(&self, limbs: usize) -> f64 {
        let unrotated = match self.private {
            true => self.decompose(limbs) + self.baby(limbs),
            false => 0.0,
        };
        unrotated + self.mod_down(limbs)
    }

    /// Division of two parts by the special primes.
    pub fn mod_down(&self, limbs: usize) -> f64 {
        2.0 * (self.extended(limbs) * self.ntt() + self.convert(limbs as f64))
    }

    /// One rotation (or relinearisation) by itself.
    pub fn rotation(&self, limbs: usize) -> f64 {
        self.decompose(limbs) + self.baby(limbs) + self.mod_down(limbs)
    }

    /// Several rotations of one ciphertext, summed.
    pub fn hoisted(&self, limbs: usize, count: usize) -> f64 {
        self.decompose(limbs) + count as f64 * self.baby(limbs) + self.mod_down(limbs)
    }

    /// Product with one prepared diagonal, accumulated in the extended basis.
    pub fn diagonal(&self, limbs: usize) -> f64 {
        self.extended(limbs) * DIAGONAL * self.size()
    }

    /// Product of two operands, or of one with itself, three parts.
    pub fn product(&self, limbs: usize, operands: usize) -> f64 {
        let multiplied = 4.0 * limbs as f64 * self.mac();
        match self.scale_invariant {
            true => self.scaled_product(limbs as f64, operands as f64),
            false => multiplied,
        }
    }

    /// A product of BFV: modulo as many auxiliary primes again, and one more.
    ///
    /// Coefficients of the operands, both factors and the sums there, and back: transforms; nine
    /// parts are converted, whose time grows with both numbers of primes.
    fn scaled_product(&self, limbs: f64, operands: f64) -> f64 {
        let auxiliary = limbs + 1.0;
        let transforms = (5.0 + 2.0 * operands) * limbs + 7.0 * auxiliary;
        let converted = 9.0 * limbs * auxiliary * CONVERT_TERM * self.size();
        let multiplied = 4.0 * (limbs + auxiliary) * self.mac();
        transforms * self.ntt() + converted + multiplied
    }

    /// An encryption of zero under the public key and a wide noise, drawn and added.
    pub fn flood(&self, limbs: usize) -> f64 {
        let transforms = 4.0 * limbs as f64 * self.ntt();
        transforms + DRAW * self.size()
    }

    /// Rescale of `parts` parts.
    pub fn rescale(&self, limbs: usize, parts: usize) -> f64 {
        parts as f64 * limbs as f64 * self.ntt()
    }

    /// Addition of one encoded constant (prepared).
    pub fn add_constant(&self, limbs: usize) -> f64 {
        limbs as f64 * DIAGONAL * self.size()
    }

    /// One integer times one ciphertext of `parts` parts, accumulated.
    pub fn scalar(&self, limbs: usize, parts: usize) -> f64 {
        parts as f64 * limbs as f64 * SCALAR * self.size()
    }

    /// What a further ciphertext of the query is worth in time.
    pub fn query_penalty(&self) -> f64 {
        match self.private {
            true => PRIVATE_QUERY_PENALTY * self.size(),
            false => QUERY_PENALTY * self.size(),
        }
    }

    /// What a further rotation key is worth in time.
    pub fn key_penalty(&self, limbs: usize) -> f64 {
        let words = 2.0 * self.digits(limbs) * self.extended(limbs) * f64::from(self.log_n).exp2();
        self.keys * KEY_PENALTY_PER_MIB * self.size() * words * 8.0 / f64::from(1 << 20)
    }
}

/// What the time of a linear step depends on.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinearCounts {
    /// Input ciphertexts that are rotated.
    sources: usize,
    /// Their rotations.
    babies: usize,
    /// Rotations of inner sums.
    giants: usize,
    outputs: usize,
    diagonals: usize,
}

impl LinearCounts {
    /// Counts the rotations of a linear step.
    pub fn of(linear: &Linear) -> LinearCounts {
        let mut babies = BTreeSet::new();
        let mut giants = BTreeSet::new();
        for diagonal in &linear.diagonals {
            if diagonal.baby != 0 {
                babies.insert((diagonal.operand, diagonal.ciphertext, diagonal.baby));
            }
            if diagonal.giant != 0 {
                giants.insert((diagonal.output, diagonal.giant));
            }
        }
        let sources: BTreeSet<(u32, u32)> = babies.iter().map(|&(o, c, _)| (o, c)).collect();
        LinearCounts {
            sources: sources.len(),
            babies: babies.len(),
            giants: giants.len(),
            outputs: linear.outputs as usize,
            diagonals: linear.diagonals.len(),
        }
    }
}

impl CostModel {
    /// Predicted time of one step whose operands have `limbs` limbs and whose result has
    /// `ciphertexts` ciphertexts.
    pub fn step(
        &self,
        operation: &Operation,
        limbs: usize,
        ciphertexts: usize,
        parts: usize,
    ) -> f64 {
        let count = ciphertexts as f64;
        match operation {
            Operation::Linear(linear) => self.linear(&LinearCounts::of(linear), limbs),
            Operation::Rotate { steps } => {
                let turned = steps.iter().filter(|&&s| s != 0).count() as f64;
                let operands = count / steps.len() as f64;
                operands
                    * (self.decompose(limbs) + turned * (self.baby(limbs) + self.mod_down(limbs)))
            }
            Operation::Fold { stages } => {
                count
                    * stages
                        .iter()
                        .map(|s| self.hoisted(limbs, s.len()))
                        .sum::<f64>()
            }
            Operation::AddConstant { .. } | Operation::AddScalars { .. } => {
                count * self.add_constant(limbs)
            }
            Operation::Square => count * self.product(limbs, 1),
            Operation::Multiply => count * self.product(limbs, 2),
            Operation::Relinearize => count * self.rotation(limbs),
            Operation::Rescale => count * self.rescale(limbs, parts),
            Operation::ModDrop { .. } => 0.0,
            // There and back again, of one part.
            Operation::Trace { .. } => count * self.mod_down(limbs),
            Operation::Flood(_) => count * self.flood(limbs),
            Operation::Combine { factors, .. } => {
                count * factors.len() as f64 * self.scalar(limbs, parts)
            }
            Operation::ScalarLinear(matrix) => {
                matrix.column.len() as f64 * self.scalar(limbs, parts)
            }
        }
    }

    /// Predicted time of a linear step.
    pub fn linear(&self, counts: &LinearCounts, limbs: usize) -> f64 {
        counts.sources as f64 * self.decompose(limbs)
            + counts.babies as f64 * self.operand_rotation(limbs)
            + counts.giants as f64 * self.sum_rotation(limbs)
            + counts.outputs as f64 * self.closing(limbs)
            + counts.diagonals as f64 * self.weighted(limbs)
    }
}
