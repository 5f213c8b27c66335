//! Evaluation of a prepared linear map.

use scuro_polyring::{AlignedBuffer, Ntt, Poly, RowPairs};

use super::{Group, Operand, PreparedTransform};
use crate::ckks::{Ciphertext, Evaluator, check_scales};
use crate::context::Context;
use crate::error::Error;
use crate::key_id::KeyId;
use crate::keys::{EvaluationKeys, GaloisKey};
use crate::rlwe::{Streamed, division};

/// Bytes of rotated inputs that one pass over the groups keeps in the second-level cache.
const BLOCK_BYTES: usize = 384 << 10;
/// Fewest coefficients of a pass.
const BLOCK_MIN: usize = 256;

/// The rotated inputs of a transform, times P over QP if any is rotated.
pub struct Operands {
    pairs: RowPairs,
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
        let groups = self.outputs.iter().flatten();
        groups.map(|group| size_of_val(group.factors.words())).sum()
    }

    /// All outputs, not rescaled.
    ///
    /// Level: unchanged     Scale: product with the transform's     Timing: independent of the
    ///     diagonals
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
        self.all_outputs(evaluator, inputs, keys, false)
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
        self.all_outputs(evaluator, inputs, keys, true)
    }

    fn all_outputs(
        &self,
        evaluator: &Evaluator,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Ciphertext>, Error> {
        if let ([input], [groups]) = (inputs, &self.outputs[..]) {
            let output = self.only_output(evaluator, input, groups, keys, rescale)?;
            return Ok(vec![output]);
        }
        let operands = self.operands(evaluator, inputs, keys)?;
        (0..self.outputs.len())
            .map(|output| self.output(evaluator, &operands, output, keys, rescale))
            .collect()
    }

    /// The output of a transform with one input: row by row, so that rotations are read from the
    /// cache that they were written to.
    fn only_output(
        &self,
        evaluator: &Evaluator,
        input: &Ciphertext,
        groups: &[Group],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Ciphertext, Error> {
        self.check(evaluator, &[input], keys)?;
        self.check_rescale(rescale)?;
        let context = &**evaluator.context();
        let n = context.ring().degree();
        let mut rotations = self.rotations(context, input, (0, &self.operands), keys)?;
        let mut pairs = RowPairs::recycled(1, n, self.operands.len());
        let mut sums = self.empty_sums(context, groups);
        for row in 0..self.rows(context) {
            rotations.fill(evaluator, row, &mut pairs, 0);
            self.sum_row(context, (&pairs, 0), row, groups, &mut sums);
        }
        let total = self.rotate_and_add(context, groups, sums, keys)?;
        let scale = input.scale() * self.scale;
        Ok(self.divided(context, groups, total, (scale, input.key_id()), rescale))
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
        let context = &**evaluator.context();
        let (rows, n) = (self.rows(context), context.ring().degree());
        let mut pairs = RowPairs::recycled(rows, n, self.operands.len());
        let mut first_operand = 0;
        // Operands are sorted by input.
        for operands in self.operands.chunk_by(|a, b| a.input == b.input) {
            let input = inputs[operands[0].input];
            let operands_of = (first_operand, operands);
            let mut rotations = self.rotations(context, input, operands_of, keys)?;
            (0..rows).for_each(|row| rotations.fill(evaluator, row, &mut pairs, row));
            first_operand += operands.len();
        }
        Ok(Operands {
            pairs,
            scale: first.scale(),
            key_id: first.key_id(),
        })
    }

    /// The rotations of one input, which are operands from number `first` on.
    fn rotations<'a>(
        &self,
        context: &Context,
        input: &'a Ciphertext,
        (first, operands): (usize, &[Operand]),
        keys: &'a EvaluationKeys,
    ) -> Result<Rotations<'a>, Error> {
        let [body, mask] = input.parts() else {
            return Err(Error::PartCount {
                found: input.parts().len(),
                expected: 2,
            });
        };
        let (mut still, mut rotated) = (Vec::new(), Vec::with_capacity(operands.len()));
        for (at, operand) in (first..).zip(operands) {
            match operand.baby {
                0 => still.push(at),
                baby => rotated.push((keys.rotation_key(baby, self.level)?, at)),
            }
        }
        let digits = || Streamed::new(context, mask.words(), self.level);
        Ok(Rotations {
            parts: [body, mask],
            level: self.level,
            extended: self.extended,
            still,
            digits: (!rotated.is_empty()).then(digits),
            rotated,
            work: AlignedBuffer::recycled(2 * context.ring().degree()),
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
        self.check_rescale(rescale)?;
        let context = &**evaluator.context();
        let mut sums = self.empty_sums(context, groups);
        for row in 0..self.rows(context) {
            self.sum_row(context, (&operands.pairs, row), row, groups, &mut sums);
        }
        let total = self.rotate_and_add(context, groups, sums, keys)?;
        let scale = operands.scale * self.scale;
        Ok(self.divided(context, groups, total, (scale, operands.key_id), rescale))
    }

    fn check_rescale(&self, rescale: bool) -> Result<(), Error> {
        match rescale && self.level == 0 {
            true => Err(Error::NoLevelLeft),
            false => Ok(()),
        }
    }

    /// The sum of all groups as a ciphertext, rescaled if asked.
    fn divided(
        &self,
        context: &Context,
        groups: &[Group],
        mut total: AlignedBuffer,
        (scale, key_id): (f64, KeyId),
        rescale: bool,
    ) -> Ciphertext {
        let level = self.level;
        let rotates = self.extended || groups.iter().any(|group| group.giant != 0);
        let part_len = total.len() / 2;
        let parts = total
            .chunks_exact_mut(part_len)
            .map(|part| match (rotates, rescale) {
                (true, _) => {
                    division::in_place(context, part, level, rescale);
                    context.poly(part, level - usize::from(rescale))
                }
                (false, true) => division::by_last(context, context.poly(part, level), level),
                (false, false) => context.poly(part, level),
            });
        let mut ciphertext = Ciphertext {
            parts: parts.collect(),
            level,
            scale,
            key_id,
            digest: self.digest,
        };
        if rescale {
            ciphertext.level -= 1;
            ciphertext.scale /= context.parameters().q()[level] as f64;
        }
        ciphertext
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

    /// Rows of diagonals and operands.
    fn rows(&self, context: &Context) -> usize {
        self.level
            + 1
            + if self.extended {
                context.special_count()
            } else {
                0
            }
    }

    /// Words of one part of an operand.
    fn part_len(&self, context: &Context) -> usize {
        self.rows(context) * context.ring().degree()
    }

    /// Room for the sums of all groups, [groups][2][rows][n].
    fn empty_sums(&self, context: &Context, groups: &[Group]) -> AlignedBuffer {
        AlignedBuffer::recycled(groups.len() * 2 * self.part_len(context))
    }

    /// Σ diagonal * operand for every group in one row, in blocks of coefficients so that the
    /// operands of a block are read from memory once for all groups. Row `at` of `pairs` holds
    /// the operands.
    fn sum_row(
        &self,
        context: &Context,
        (pairs, at): (&RowPairs, usize),
        row: usize,
        groups: &[Group],
        sums: &mut [u64],
    ) {
        let (n, part_len) = (context.ring().degree(), self.part_len(context));
        let block = block_len(n, self.operands.len());
        let prime = context.ring().prime(context.modulus_index(row, self.level));
        for start in (0..n).step_by(block) {
            let pairs = pairs.block(at, start, block);
            for (group, sum) in groups.iter().zip(sums.chunks_exact_mut(2 * part_len)) {
                let (body, mask) = sum.split_at_mut(part_len);
                let range = row * n + start..row * n + start + block;
                let outs = [&mut body[range.clone()], &mut mask[range]];
                let factors = group.factors.block(row, start, block);
                prime.dot_row_factors(outs, factors, pairs, &group.operands);
            }
        }
    }

    /// Σ_g rot_g(sum_g), [2][rows][n]: over QP times P, or over Q if nothing rotates.
    fn rotate_and_add(
        &self,
        context: &Context,
        groups: &[Group],
        mut sums: AlignedBuffer,
        keys: &EvaluationKeys,
    ) -> Result<AlignedBuffer, Error> {
        let giants = groups.iter().any(|group| group.giant != 0);
        if !giants {
            // Without giants there is a single group, and its sum is the total.
            return Ok(sums);
        }
        let n = context.ring().degree();
        let full = (self.level + 1 + context.special_count()) * n;
        let part_len = self.part_len(context);
        let mut total = AlignedBuffer::recycled(2 * full);
        total.fill(0);
        for (group, sum) in groups.iter().zip(sums.chunks_exact_mut(2 * part_len)) {
            match group.giant {
                0 => self.add_unrotated(context, sum, &mut total),
                giant => self.add_rotated(context, sum, giant, keys, &mut total)?,
            }
        }
        Ok(total)
    }

    /// total += sum, lifted to QP if it is not there.
    fn add_unrotated(&self, context: &Context, sum: &[u64], total: &mut [u64]) {
        let n = context.ring().degree();
        let (part_len, full) = (self.part_len(context), total.len() / 2);
        for (sum, total) in sum.chunks_exact(part_len).zip(total.chunks_exact_mut(full)) {
            for (row, (sum, total)) in sum
                .chunks_exact(n)
                .zip(total.chunks_exact_mut(n))
                .enumerate()
            {
                let prime = context.ring().prime(context.modulus_index(row, self.level));
                if self.extended {
                    prime.add_assign(total, sum);
                } else {
                    prime.mul_scalar_add_assign(total, sum, context.special_residue(row));
                }
            }
        }
    }

    /// total += one giant rotation of sum: its mask divided by P and switched, staying over QP.
    fn add_rotated(
        &self,
        context: &Context,
        sum: &mut [u64],
        giant: usize,
        keys: &EvaluationKeys,
        total: &mut [u64],
    ) -> Result<(), Error> {
        let (ring, n, level) = (context.ring(), context.ring().degree(), self.level);
        let key = keys.rotation_key(giant, level)?;
        let (body, mask) = sum.split_at_mut(self.part_len(context));
        if self.extended {
            division::in_place(context, mask, level, false);
        }
        let mut digits = Streamed::new(context, mask, level);
        let mut switched = AlignedBuffer::recycled(2 * n);
        for (row, totals) in part_rows(total, n).enumerate() {
            let (out_body, out_mask) = switched.split_at_mut(n);
            let prime = ring.prime(context.modulus_index(row, level));
            digits.inner_product(context, &key.key, row, [&mut *out_body, out_mask]);
            let own = row * n..(row + 1) * n;
            if self.extended {
                prime.add_assign(out_body, &body[own]);
            } else if row <= level {
                let special = context.special_residue(row);
                prime.mul_scalar_add_assign(out_body, &body[own], special);
            }
            for (total, part) in totals.into_iter().zip(switched.chunks_exact(n)) {
                key.permutation.add_image(prime.modulus(), total, part);
            }
        }
        Ok(())
    }
}

/// Coefficients of a pass over rows of `n`, for so many rotated inputs.
pub(super) fn block_len(n: usize, operands: usize) -> usize {
    let fitting = BLOCK_BYTES / (16 * operands);
    fitting.clamp(BLOCK_MIN, n).next_power_of_two().min(n)
}

/// The rows of a pair of parts, two at a time.
fn part_rows(pair: &mut [u64], n: usize) -> impl Iterator<Item = [&mut [u64]; 2]> {
    let (body, mask) = pair.split_at_mut(pair.len() / 2);
    body.chunks_exact_mut(n)
        .zip(mask.chunks_exact_mut(n))
        .map(|(body, mask)| [body, mask])
}

/// The rotations of one input that a transform multiplies, made row by row.
struct Rotations<'a> {
    parts: [&'a Poly<Ntt>; 2],
    level: usize,
    /// Whether operands are times P over QP, as they are where any is rotated.
    extended: bool,
    /// Operands that are the input itself.
    still: Vec<usize>,
    /// The others with their keys.
    rotated: Vec<(&'a GaloisKey, usize)>,
    digits: Option<Streamed<'a>>,
    work: AlignedBuffer,
}

impl Rotations<'_> {
    /// Puts row `row` of all operands in row `at` of `pairs`: the digits of a row are lifted once
    /// and read from the cache for every key.
    fn fill(&mut self, evaluator: &Evaluator, row: usize, pairs: &mut RowPairs, at: usize) {
        let context = &**evaluator.context();
        let n = context.ring().degree();
        if !self.still.is_empty() {
            self.fill_still(context, row, pairs, at);
        }
        let Some(digits) = &mut self.digits else {
            return;
        };
        for &(key, operand) in &self.rotated {
            let (sum_body, sum_mask) = self.work.split_at_mut(n);
            evaluator.switched_row(self.parts[0], digits, key, row, [sum_body, sum_mask]);
            for (half, sum) in self.work.chunks_exact(n).enumerate() {
                pairs.set_image(at, operand, half, sum, &key.permutation);
            }
        }
    }

    /// The same for operands that are not rotated.
    fn fill_still(&mut self, context: &Context, row: usize, pairs: &mut RowPairs, at: usize) {
        let n = context.ring().degree();
        for (half, part) in self.parts.iter().enumerate() {
            let out = &mut self.work[..n];
            let values = match (self.extended, row <= self.level) {
                (true, true) => {
                    let (prime, special) =
                        (context.ring().prime(row), context.special_residue(row));
                    prime.mul_scalar(out, part.limb(row), special);
                    &*out
                }
                // P times anything is 0 modulo the special primes.
                (true, false) => {
                    out.fill(0);
                    &*out
                }
                (false, _) => part.limb(row),
            };
            self.still
                .iter()
                .for_each(|&operand| pairs.set(at, operand, half, values));
        }
    }
}
