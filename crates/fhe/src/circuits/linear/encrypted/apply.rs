//! Evaluation of a linear map with encrypted diagonals.

use std::ops::Range;

use scuro_polyring::{AlignedBuffer, Ntt, PairProducts, Poly, RowPairs};

use super::{EncryptedTransform, Group, Operand};
use crate::circuits::linear::block_len;
use crate::ckks::{Ciphertext, Evaluator, MergedSum, Plaintext, check_scales};
use crate::context::Context;
use crate::error::Error;
use crate::keys::{EvaluationKeys, GaloisKey};
use crate::rlwe::hoisted;

/// Most queries that are evaluated together.
pub const QUERIES_MAX: usize = 64;

/// The rotated inputs of one query.
struct Query {
    pairs: RowPairs,
    scale: f64,
}

impl EncryptedTransform {
    /// All outputs for one query.
    ///
    /// Level: l, or l -> l - 1 if `rescale`     Scale: product with the weights', divided by q_l
    ///     if `rescale`
    /// Noise: products summed, two key switches per giant step, one rounding
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for a wrong number of inputs, [`Error::LevelMismatch`],
    /// [`Error::ScaleMismatch`] between inputs, [`Error::PartCount`], [`Error::KeyMismatch`],
    /// missing keys of [`EncryptedTransform::key_manifest`], [`Error::NoLevelLeft`].
    pub fn apply(
        &self,
        evaluator: &Evaluator,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Ciphertext>, Error> {
        let outputs = self.apply_batch(evaluator, &[inputs], keys, rescale)?;
        Ok(outputs.into_iter().flatten().collect())
    }

    /// All outputs for several queries under one key, query by query: every weight is read from
    /// memory once for all of them.
    ///
    /// # Errors
    /// As [`EncryptedTransform::apply`]; [`Error::TooManyQueries`].
    pub fn apply_batch(
        &self,
        evaluator: &Evaluator,
        queries: &[&[&Ciphertext]],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Vec<Ciphertext>>, Error> {
        if queries.len() > QUERIES_MAX {
            return Err(Error::TooManyQueries {
                found: queries.len(),
                max: QUERIES_MAX,
            });
        }
        for inputs in queries {
            self.check(evaluator, inputs, keys, rescale)?;
        }
        let context = &**evaluator.context();
        let queries = self.rotate_inputs(context, queries, keys)?;
        let mut results: Vec<Vec<Ciphertext>> = queries.iter().map(|_| Vec::new()).collect();
        for groups in &self.outputs {
            let sums = self.group_sums(context, groups, &queries);
            let mut total = MergedSum::new(context, keys, self.level, queries.len());
            for (at, group) in groups.iter().enumerate() {
                let parts = sums.iter().map(|sums| {
                    let sum = &sums[self.group_range(context, at)];
                    sum.chunks_exact(sum.len() / 3).collect()
                });
                total.add(&parts.collect::<Vec<_>>(), group.giant)?;
            }
            let totals = total.finish(rescale).into_iter().zip(&queries);
            for ((parts, query), results) in totals.zip(&mut results) {
                results.push(self.output(context, parts, query.scale, rescale));
            }
        }
        Ok(results)
    }

    /// All outputs for plaintext features: `rotated` holds operand by operand of
    /// [`EncryptedTransform::operands`] the input rotated by the baby step. No product needs
    /// relinearising, so rotation keys of the giant steps suffice.
    ///
    /// Level, scale: as [`EncryptedTransform::apply`]
    /// Timing: independent of the plaintexts' values
    ///
    /// # Errors
    /// As [`EncryptedTransform::apply`]; plaintexts may be of a higher level.
    pub fn apply_plain_inputs(
        &self,
        evaluator: &Evaluator,
        rotated: &[&Plaintext],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Ciphertext>, Error> {
        let first = self.check_plain(evaluator, rotated, keys, rescale)?;
        let context = &**evaluator.context();
        let output = |groups: &Vec<Group>| {
            let mut total = MergedSum::new(context, keys, self.level, 1);
            let mut sums = AlignedBuffer::recycled(self.words(context, 2));
            for group in groups {
                self.plain_sum(context, group, rotated, &mut sums);
                let (body, mask) = sums.split_at(sums.len() / 2);
                total.add(&[vec![body, mask]], group.giant)?;
            }
            Ok(total.finish(rescale))
        };
        let totals: Result<Vec<_>, Error> = self.outputs.iter().map(output).collect();
        let parts = totals?.into_iter().flatten();
        let outputs = parts.map(|parts| self.output(context, parts, first.scale, rescale));
        Ok(outputs.collect())
    }

    /// The baby rotations of all queries, input by input.
    fn rotate_inputs(
        &self,
        context: &Context,
        queries: &[&[&Ciphertext]],
        keys: &EvaluationKeys,
    ) -> Result<Vec<Query>, Error> {
        let (rows, n) = (self.level + 1, context.ring().degree());
        let query = |inputs: &&[&Ciphertext]| Query {
            pairs: RowPairs::recycled(rows, n, self.operands.len()),
            scale: inputs[0].scale,
        };
        let mut rotated: Vec<Query> = queries.iter().map(query).collect();
        let mut first = 0;
        for operands in self.operands.chunk_by(|a, b| a.input == b.input) {
            let input = operands[0].input;
            let inputs: Vec<&Ciphertext> = queries.iter().map(|inputs| inputs[input]).collect();
            self.rotate_input(context, &inputs, first, operands, keys, &mut rotated)?;
            first += operands.len();
        }
        Ok(rotated)
    }

    /// All rotations of one input of every query, operands from number `first` on.
    fn rotate_input(
        &self,
        context: &Context,
        inputs: &[&Ciphertext],
        first: usize,
        operands: &[Operand],
        keys: &EvaluationKeys,
        rotated: &mut [Query],
    ) -> Result<(), Error> {
        let mut moved = Vec::with_capacity(operands.len());
        for (at, operand) in (first..).zip(operands) {
            match operand.baby {
                0 => copy_unrotated(inputs, at, rotated),
                baby => moved.push((at, keys.rotation_key(baby, self.level)?)),
            }
        }
        let galois: Vec<&GaloisKey> = moved.iter().map(|&(_, key)| key).collect();
        let parts: Vec<[&Poly<Ntt>; 2]> = inputs
            .iter()
            .map(|input| [&input.parts[0], &input.parts[1]])
            .collect();
        hoisted::rotate_all(context, &parts, &galois, self.level, |at, row| {
            let (term, permutation) = (moved[at.key].0, &galois[at.key].permutation);
            let pairs = &mut rotated[at.input].pairs;
            pairs.set_image(at.row, term, at.half, row, permutation);
        });
        Ok(())
    }

    /// Σ weights * operand of every group, [groups][3][rows][n] for each query, in blocks of
    /// coefficients: the operands of a block stay in the cache for all groups, the weights of a
    /// group for all queries.
    fn group_sums(
        &self,
        context: &Context,
        groups: &[Group],
        queries: &[Query],
    ) -> Vec<AlignedBuffer> {
        let n = context.ring().degree();
        let buffer = |_| AlignedBuffer::recycled(groups.len() * self.words(context, 3));
        let mut sums: Vec<AlignedBuffer> = queries.iter().map(buffer).collect();
        let block = block_len(n, self.operands.len() * queries.len().max(1));
        for row in 0..=self.level {
            let prime = context.ring().prime(row);
            for start in (0..n).step_by(block) {
                for (at, group) in groups.iter().enumerate() {
                    let weights = group.weights.block(row, start, block);
                    for (query, sums) in queries.iter().zip(&mut sums) {
                        let pairs = query.pairs.block(row, start, block);
                        let sum = &mut sums[self.group_range(context, at)];
                        let outs = row_blocks(sum, row * n + start, block);
                        prime.tensor_row_pairs(outs, weights, pairs, &group.operands);
                    }
                }
            }
        }
        sums
    }

    /// Σ weights * plaintext of one group, [2][rows][n].
    fn plain_sum(
        &self,
        context: &Context,
        group: &Group,
        rotated: &[&Plaintext],
        sums: &mut AlignedBuffer,
    ) {
        let n = context.ring().degree();
        let (body, mask) = sums.split_at_mut(self.words(context, 1));
        let rows = body.chunks_exact_mut(n).zip(mask.chunks_exact_mut(n));
        for (row, (body, mask)) in rows.enumerate() {
            let operand = |&operand: &usize| rotated[operand].poly.limb(row);
            let shared: Vec<&[u64]> = group.operands.iter().map(operand).collect();
            let prime = context.ring().prime(row);
            let (shared, pairs) = (&shared[..], group.weights.row(row));
            prime.dot_row_pairs([body, mask], &[PairProducts { shared, pairs }]);
        }
    }

    fn output(
        &self,
        context: &Context,
        parts: Vec<Poly<Ntt>>,
        scale: f64,
        rescale: bool,
    ) -> Ciphertext {
        let divisor = match rescale {
            true => context.parameters().q()[self.level] as f64,
            false => 1.0,
        };
        Ciphertext {
            parts,
            level: self.level - usize::from(rescale),
            scale: scale * self.scale / divisor,
            key_id: self.key_id,
            digest: self.digest,
        }
    }

    /// Words of some parts of a ciphertext.
    fn words(&self, context: &Context, parts: usize) -> usize {
        parts * (self.level + 1) * context.ring().degree()
    }

    /// Where the sum of group `at` lies among all.
    fn group_range(&self, context: &Context, at: usize) -> Range<usize> {
        let len = self.words(context, 3);
        at * len..(at + 1) * len
    }

    fn check(
        &self,
        evaluator: &Evaluator,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<(), Error> {
        check_count(inputs.len(), self.inputs)?;
        for input in inputs {
            evaluator.check_keys(input, keys)?;
            input.check_parts(2)?;
            input.check_key(self.key_id)?;
            check_scales(inputs[0].scale, input.scale)?;
            self.check_level(input.level)?;
        }
        self.check_rest(evaluator, keys, rescale)?;
        for step in self.operands.iter().map(|operand| operand.baby) {
            if step != 0 {
                keys.rotation_key(step, self.level)?;
            }
        }
        for giant in self.giants() {
            match giant {
                0 => keys.relinearization_key(self.level)?,
                giant => keys.relinearized_rotation_key(giant, self.level)?,
            };
        }
        Ok(())
    }

    fn check_plain<'a>(
        &self,
        evaluator: &Evaluator,
        rotated: &[&'a Plaintext],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<&'a Plaintext, Error> {
        check_count(rotated.len(), self.operands.len())?;
        let first = rotated[0];
        for plaintext in rotated {
            evaluator.context().check_digest(plaintext.digest)?;
            check_scales(first.scale, plaintext.scale)?;
            if plaintext.level < self.level {
                self.check_level(plaintext.level)?;
            }
        }
        self.check_rest(evaluator, keys, rescale)?;
        Ok(first)
    }

    /// What does not depend on the inputs' form.
    fn check_rest(
        &self,
        evaluator: &Evaluator,
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<(), Error> {
        evaluator.context().check_digest(self.digest)?;
        evaluator.context().check_digest(keys.digest())?;
        if keys.key_id() != self.key_id {
            return Err(Error::KeyMismatch {
                found: keys.key_id(),
                expected: self.key_id,
            });
        }
        if rescale && self.level == 0 {
            return Err(Error::NoLevelLeft);
        }
        for giant in self.giants().filter(|&giant| giant != 0) {
            keys.rotation_key(giant, self.level)?;
        }
        Ok(())
    }

    fn check_level(&self, found: usize) -> Result<(), Error> {
        if found != self.level {
            return Err(Error::LevelMismatch {
                left: found,
                right: self.level,
            });
        }
        Ok(())
    }
}

fn check_count(found: usize, expected: usize) -> Result<(), Error> {
    if found != expected || found == 0 {
        return Err(Error::LengthMismatch {
            what: "inputs",
            found,
            expected: expected.max(1),
        });
    }
    Ok(())
}

/// Operand `at` of every query: the input as it is.
fn copy_unrotated(inputs: &[&Ciphertext], at: usize, rotated: &mut [Query]) {
    for (input, query) in inputs.iter().zip(rotated) {
        for (half, part) in input.parts.iter().enumerate() {
            for (row, (_, values)) in part.rows().enumerate() {
                query.pairs.set(row, at, half, values);
            }
        }
    }
}

/// The same block of three parts.
fn row_blocks(sum: &mut [u64], start: usize, len: usize) -> [&mut [u64]; 3] {
    let part_len = sum.len() / 3;
    let (first, rest) = sum.split_at_mut(part_len);
    let (second, third) = rest.split_at_mut(part_len);
    [first, second, third].map(|part| &mut part[start..start + len])
}
