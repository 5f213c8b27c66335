//! Relinearisation and rotation in one: sums of rotated products with a single division by P.

use scuro_polyring::{AlignedBuffer, Ntt, Poly};

use super::{Evaluator, check_scales};
use crate::ckks::Ciphertext;
use crate::context::Context;
use crate::error::Error;
use crate::keys::EvaluationKeys;
use crate::rlwe::{Digits, Streamed, SwitchingKey, division};

impl Evaluator {
    /// Σ rotate(relinearise(ciphertext), step) over the terms.
    ///
    /// Math:  Σ phi(c_0) + ks_{phi(s)->s}(phi(c_1)) + ks_{phi(s^2)->s}(phi(c_2)), summed over QP
    ///         Level, scale: those of the terms, which are equal     Noise: two key switches per
    ///         term, one rounding
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for no term, [`Error::LevelMismatch`], [`Error::ScaleMismatch`],
    /// missing keys: of the step's rotation and, for terms of three parts, its
    /// [`crate::keys::KeyManifest::relinearized_rotations`].
    pub fn relinearize_rotate_sum(
        &self,
        terms: &[(&Ciphertext, usize)],
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        let Some(&(first, _)) = terms.first() else {
            return Err(Error::LengthMismatch {
                what: "terms",
                found: 0,
                expected: 1,
            });
        };
        let mut sum = MergedSum::new(&self.context, keys, first.level);
        for &(ciphertext, step) in terms {
            self.check_pair(first, ciphertext)?;
            self.check_keys(ciphertext, keys)?;
            check_scales(first.scale, ciphertext.scale)?;
            let parts: Vec<&[u64]> = ciphertext.parts.iter().map(Poly::words).collect();
            sum.add(&parts, step % self.context.parameters().slots())?;
        }
        Ok(Ciphertext {
            parts: sum.finish(false),
            ..*first
        })
    }
}

/// A sum of rotated ciphertexts over Q_level P, times P.
pub(crate) struct MergedSum<'a> {
    context: &'a Context,
    keys: &'a EvaluationKeys,
    level: usize,
    /// [2][level + 1 + k][n]
    total: AlignedBuffer,
}

impl<'a> MergedSum<'a> {
    /// The empty sum at `level`; keys are of the same context.
    pub(crate) fn new(context: &'a Context, keys: &'a EvaluationKeys, level: usize) -> Self {
        let rows = level + 1 + context.special_count();
        Self {
            context,
            keys,
            level,
            total: AlignedBuffer::zeroed(2 * rows * context.ring().degree()),
        }
    }

    /// Adds the relinearised and rotated ciphertext of two or three parts over Q_level, as rows in
    /// evaluation form; `step` is below the number of slots.
    ///
    /// # Errors
    /// Missing keys, as in [`Evaluator::relinearize_rotate_sum`].
    pub(crate) fn add(&mut self, parts: &[&[u64]], step: usize) -> Result<(), Error> {
        match step {
            0 => self.add_still(parts),
            step => self.add_moved(parts, step),
        }
    }

    /// Divides by P, and by the last prime too if `rescale`; `level` is then above 0.
    pub(crate) fn finish(mut self, rescale: bool) -> Vec<Poly<Ntt>> {
        let len = self.total.len() / 2;
        let level = self.level - usize::from(rescale);
        let parts = self.total.chunks_exact_mut(len).map(|part| {
            division::in_place(self.context, part, self.level, rescale);
            self.context.poly(part, level)
        });
        parts.collect()
    }

    /// total += P (c_0, c_1) + switched c_2.
    fn add_still(&mut self, parts: &[&[u64]]) -> Result<(), Error> {
        let (context, level) = (self.context, self.level);
        let mut switch = match parts.get(2) {
            None => None,
            Some(part) => Some((
                Streamed::new(context, part, level),
                self.keys.relinearization_key(level)?,
            )),
        };
        let mut sum = AlignedBuffer::recycled(2 * context.ring().degree());
        self.for_each_row(|row, totals| {
            sum.fill(0);
            if let Some((digits, key)) = &mut switch {
                inner_product(context, digits, key, row, &mut sum);
            }
            add_own(context, level, &parts[..2], row, &mut sum);
            add_rows(context, row, level, totals, &sum);
        });
        Ok(())
    }

    /// total += phi(P (c_0, 0) + switched c_1 + switched c_2).
    fn add_moved(&mut self, parts: &[&[u64]], step: usize) -> Result<(), Error> {
        let (context, level, keys) = (self.context, self.level, self.keys);
        let n = context.ring().degree();
        let galois = keys.rotation_key(step, level)?;
        let digits = |part: usize| Streamed::new(context, parts[part], level);
        let mut switches = vec![(digits(1), &galois.key)];
        if parts.len() == 3 {
            switches.push((digits(2), keys.relinearized_rotation_key(step, level)?));
        }
        let (mut sum, mut work) = (
            AlignedBuffer::recycled(2 * n),
            AlignedBuffer::recycled(2 * n),
        );
        self.for_each_row(|row, totals| {
            sum.fill(0);
            for (digits, key) in &mut switches {
                inner_product(context, digits, key, row, &mut work);
                let prime = context.ring().prime(context.modulus_index(row, level));
                prime.add_assign(&mut sum, &work);
            }
            add_own(context, level, &parts[..1], row, &mut sum);
            for (out, sum) in work.chunks_exact_mut(n).zip(sum.chunks_exact(n)) {
                galois.permutation.apply(out, sum);
            }
            add_rows(context, row, level, totals, &work);
        });
        Ok(())
    }

    fn for_each_row(&mut self, mut run: impl FnMut(usize, [&mut [u64]; 2])) {
        let n = self.context.ring().degree();
        let len = self.total.len() / 2;
        let (body, mask) = self.total.split_at_mut(len);
        let pairs = body.chunks_exact_mut(n).zip(mask.chunks_exact_mut(n));
        for (row, (body, mask)) in pairs.enumerate() {
            run(row, [body, mask]);
        }
    }
}

/// `sum` += P c, part by part, in a row of a ciphertext prime.
fn add_own(context: &Context, level: usize, parts: &[&[u64]], row: usize, sum: &mut [u64]) {
    if row > level {
        return;
    }
    let (ring, n) = (context.ring(), context.ring().degree());
    let special = context.special_residue(row);
    for (sum, part) in sum.chunks_exact_mut(n).zip(parts) {
        let part = &part[row * n..(row + 1) * n];
        ring.prime(row).mul_scalar_add_assign(sum, part, special);
    }
}

fn inner_product(
    context: &Context,
    digits: &mut Streamed<'_>,
    key: &SwitchingKey,
    row: usize,
    out: &mut AlignedBuffer,
) {
    let (body, mask) = out.split_at_mut(context.ring().degree());
    digits.inner_product(context, key, row, [body, mask]);
}

fn add_rows(
    context: &Context,
    row: usize,
    level: usize,
    totals: [&mut [u64]; 2],
    sum: &AlignedBuffer,
) {
    let prime = context.ring().prime(context.modulus_index(row, level));
    for (total, sum) in totals
        .into_iter()
        .zip(sum.chunks_exact(context.ring().degree()))
    {
        prime.add_assign(total, sum);
    }
}
