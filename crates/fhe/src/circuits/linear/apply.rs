//! Evaluation of a prepared linear map.

use std::collections::BTreeMap;

use scuro_polyring::{Ntt, Poly};

use super::{Group, Operand, PreparedTransform, basis};
use crate::ckks::{Ciphertext, Evaluator, check_scales};
use crate::error::Error;
use crate::key_id::KeyId;
use crate::keys::EvaluationKeys;
use crate::rlwe::{Decomposed, division};

/// Bytes of rotated inputs that one pass over the groups keeps in the second-level cache.
const BLOCK_BYTES: usize = 384 << 10;
/// Fewest coefficients of a pass.
const BLOCK_MIN: usize = 256;

/// The rotated inputs of a transform, times P over QP if any is rotated.
pub struct Operands {
    polys: Vec<[Poly<Ntt>; 2]>,
    scale: f64,
    key_id: KeyId,
}

impl PreparedTransform {
    /// Level of inputs and outputs.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// Bytes of the encoded diagonals.
    pub fn memory_bytes(&self) -> usize {
        self.diagonals
            .iter()
            .map(|diagonal| size_of_val(diagonal.words()))
            .sum()
    }

    /// All outputs, not rescaled.
    ///
    /// Level: unchanged     Scale: product with the transform's     Timing: independent of the diagonals
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for a wrong number of inputs, [`Error::LevelMismatch`],
    /// [`Error::ScaleMismatch`] between inputs, [`Error::PartCount`] for an input that is not
    /// relinearised, and missing or unfit keys.
    pub fn apply(
        &self,
        evaluator: &Evaluator,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
    ) -> Result<Vec<Ciphertext>, Error> {
        let operands = self.operands(evaluator, inputs, keys)?;
        (0..self.outputs.len())
            .map(|output| self.output(evaluator, &operands, output, keys, false))
            .collect()
    }

    /// All outputs, rescaled: the division by P takes the last prime along.
    ///
    /// Level: l -> l - 1     Scale: product with the transform's, divided by q_l
    ///
    /// # Errors
    /// As [`PreparedTransform::apply`], and [`Error::NoLevelLeft`].
    pub fn apply_rescaled(
        &self,
        evaluator: &Evaluator,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
    ) -> Result<Vec<Ciphertext>, Error> {
        let operands = self.operands(evaluator, inputs, keys)?;
        (0..self.outputs.len())
            .map(|output| self.output(evaluator, &operands, output, keys, true))
            .collect()
    }

    /// First half of [`PreparedTransform::apply`]: the baby rotations.
    ///
    /// # Errors
    /// As [`PreparedTransform::apply`].
    pub fn operands(
        &self,
        evaluator: &Evaluator,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
    ) -> Result<Operands, Error> {
        let first = self.check(evaluator, inputs, keys)?;
        let mut digits: BTreeMap<usize, Decomposed> = BTreeMap::new();
        let mut polys = Vec::with_capacity(self.operands.len());
        for &Operand { input, baby } in &self.operands {
            let parts = inputs[input].parts();
            if baby == 0 {
                polys.push(self.unrotated(evaluator, parts));
                continue;
            }
            let cut = || Decomposed::new(evaluator.context(), &parts[1], self.level);
            let digits = digits.entry(input).or_insert_with(cut);
            let key = keys.rotation_key(baby, self.level)?;
            polys.push(evaluator.galois_extended(&parts[0], digits, key));
        }
        Ok(Operands {
            polys,
            scale: first.scale(),
            key_id: first.key_id(),
        })
    }

    /// Second half of [`PreparedTransform::apply`]: one output, rescaled if asked.
    ///
    /// # Errors
    /// As [`PreparedTransform::apply`]; [`Error::IndexOutOfRange`]; [`Error::NoLevelLeft`].
    pub fn output(
        &self,
        evaluator: &Evaluator,
        operands: &Operands,
        output: usize,
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Ciphertext, Error> {
        let bound = self.outputs.len();
        let groups = self.outputs.get(output).ok_or(Error::IndexOutOfRange {
            what: "output",
            found: output,
            bound,
        })?;
        if rescale && self.level == 0 {
            return Err(Error::NoLevelLeft);
        }
        let sums = self.group_sums(evaluator, operands, groups);
        let rotates = self.extended || groups.iter().any(|group| group.giant != 0);
        let total = self.rotate_and_add(evaluator, groups, sums, keys)?;
        let (context, level) = (evaluator.context(), self.level);
        let finish = |part| match (rotates, rescale) {
            (true, true) => division::by_special_and_last(context, part, level),
            (true, false) => division::by_special(context, part, level),
            (false, true) => division::by_last(context, part, level),
            (false, false) => part,
        };
        let mut ciphertext = Ciphertext {
            parts: total.map(finish).into(),
            level,
            scale: operands.scale * self.scale,
            key_id: operands.key_id,
            digest: self.digest,
        };
        if rescale {
            ciphertext.level -= 1;
            ciphertext.scale /= context.parameters().q()[level] as f64;
        }
        Ok(ciphertext)
    }

    fn check<'a>(
        &self,
        evaluator: &Evaluator,
        inputs: &[&'a Ciphertext],
        keys: &EvaluationKeys,
    ) -> Result<&'a Ciphertext, Error> {
        evaluator.context().check_digest(self.digest)?;
        let Some(&first) = inputs.first().filter(|_| inputs.len() == self.inputs) else {
            let (found, expected) = (inputs.len(), self.inputs.max(1));
            return Err(Error::LengthMismatch {
                what: "inputs",
                found,
                expected,
            });
        };
        for input in inputs {
            evaluator.check_keys(input, keys)?;
            input.check_parts(2)?;
            check_scales(first.scale(), input.scale())?;
            if input.level() != self.level {
                return Err(Error::LevelMismatch {
                    left: input.level(),
                    right: self.level,
                });
            }
        }
        let giants = self.outputs.iter().flatten().map(|group| group.giant);
        for step in self
            .operands
            .iter()
            .map(|operand| operand.baby)
            .chain(giants)
        {
            if step != 0 {
                keys.rotation_key(step, self.level)?;
            }
        }
        Ok(first)
    }

    /// The input itself: times P over QP if other operands are rotated.
    fn unrotated(&self, evaluator: &Evaluator, parts: &[Poly<Ntt>]) -> [Poly<Ntt>; 2] {
        if !self.extended {
            return [parts[0].clone(), parts[1].clone()];
        }
        [0, 1].map(|part| self.lifted(evaluator, &parts[part]))
    }

    /// Σ diagonal * operand for every group, in blocks of coefficients so that the operands of a block
    /// are read from memory once for all groups.
    fn group_sums(
        &self,
        evaluator: &Evaluator,
        operands: &Operands,
        groups: &[Group],
    ) -> Vec<[Poly<Ntt>; 2]> {
        let context = evaluator.context();
        let ring = context.ring();
        let basis = basis(context, self.level, self.extended);
        let zero = || Poly::zero(ring, basis.clone());
        let mut sums: Vec<[Poly<Ntt>; 2]> = groups.iter().map(|_| [zero(), zero()]).collect();
        let n = ring.degree();
        let fitting = BLOCK_BYTES / (16 * self.operands.len());
        let block = fitting.clamp(BLOCK_MIN, n).next_power_of_two().min(n);
        for (row, i) in basis.iter().enumerate() {
            for start in (0..n).step_by(block) {
                let range = start..start + block;
                for (group, sum) in groups.iter().zip(&mut sums) {
                    // Rows of special primes are zero in operands that are not rotated.
                    let live = |operand: &Operand| row <= self.level || operand.baby != 0;
                    let terms = group
                        .terms
                        .iter()
                        .filter(|t| live(&self.operands[t.operand]));
                    let (mut shared, mut bodies, mut masks) = (Vec::new(), Vec::new(), Vec::new());
                    for term in terms {
                        let [body, mask] = &operands.polys[term.operand];
                        shared.push(&self.diagonals[term.diagonal].limb(row)[range.clone()]);
                        bodies.push(&body.limb(row)[range.clone()]);
                        masks.push(&mask.limb(row)[range.clone()]);
                    }
                    let [body, mask] = sum;
                    let outs = [body, mask].map(|part| &mut part.limb_mut(row)[range.clone()]);
                    ring.prime(i).dot_pair(outs, &shared, [&bodies, &masks]);
                }
            }
        }
        sums
    }

    /// Σ_g rot_g(sum_g): over QP times P, or over Q if nothing rotates.
    fn rotate_and_add(
        &self,
        evaluator: &Evaluator,
        groups: &[Group],
        sums: Vec<[Poly<Ntt>; 2]>,
        keys: &EvaluationKeys,
    ) -> Result<[Poly<Ntt>; 2], Error> {
        let context = evaluator.context();
        let ring = context.ring();
        let rotates = groups.iter().any(|group| group.giant != 0);
        let mut total: Option<[Poly<Ntt>; 2]> = None;
        for (group, sum) in groups.iter().zip(sums) {
            let rotated = match (group.giant, rotates && !self.extended) {
                (0, false) => sum,
                (0, true) => sum.map(|part| self.lifted(evaluator, &part)),
                (giant, _) => self.rotate_sum(evaluator, sum, giant, keys)?,
            };
            total = Some(match total {
                None => rotated,
                Some(mut total) => {
                    for (total, part) in total.iter_mut().zip(&rotated) {
                        total.add_assign(ring, part);
                    }
                    total
                }
            });
        }
        total.ok_or(Error::EmptyOutput { output: 0 })
    }

    fn lifted(&self, evaluator: &Evaluator, part: &Poly<Ntt>) -> Poly<Ntt> {
        let context = evaluator.context();
        let mut lifted = Poly::zero(context.ring(), context.extended_basis(self.level));
        evaluator.add_times_special(&mut lifted, part);
        lifted
    }

    /// One giant rotation: divides the mask by P, switches it, and stays over QP.
    fn rotate_sum(
        &self,
        evaluator: &Evaluator,
        [body, mask]: [Poly<Ntt>; 2],
        giant: usize,
        keys: &EvaluationKeys,
    ) -> Result<[Poly<Ntt>; 2], Error> {
        let (context, level) = (evaluator.context(), self.level);
        let ring = context.ring();
        let key = keys.rotation_key(giant, level)?;
        if !self.extended {
            let digits = Decomposed::new(context, &mask, level);
            return Ok(evaluator.galois_extended(&body, &digits, key));
        }
        let mask = division::by_special(context, mask, level);
        let digits = Decomposed::new(context, &mask, level);
        let [mut switched, mask] = digits.inner_product(context, &key.key);
        switched.add_assign(ring, &body);
        Ok([switched, mask].map(|part| part.permuted(ring, &key.permutation)))
    }
}
