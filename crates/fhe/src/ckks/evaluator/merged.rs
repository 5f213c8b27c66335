//! Relinearisation and rotation in one: sums of rotated products with a single division by P.

use scuro_polyring::{AlignedBuffer, Ntt, Permutation, Poly};

use super::{Evaluator, check_scales};
use crate::ckks::Ciphertext;
use crate::context::Context;
use crate::error::Error;
use crate::keys::EvaluationKeys;
use crate::rlwe::{Streamed, SwitchingKey, division, keyswitch};

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
        let mut sum = MergedSum::new(&self.context, keys, first.level, 1);
        for &(ciphertext, step) in terms {
            self.check_pair(first, ciphertext)?;
            self.check_keys(ciphertext, keys)?;
            check_scales(first.scale, ciphertext.scale)?;
            let parts: Vec<&[u64]> = ciphertext.parts.iter().map(Poly::words).collect();
            sum.add(&[parts], step % self.context.parameters().slots())?;
        }
        let parts = sum.finish(false).into_iter().flatten().collect();
        Ok(Ciphertext { parts, ..*first })
    }
}

/// Sums of rotated ciphertexts over Q_level P, times P: one for each query of a block.
pub(crate) struct MergedSum<'a> {
    context: &'a Context,
    keys: &'a EvaluationKeys,
    level: usize,
    /// [2][level + 1 + k][n] for each query
    totals: Vec<AlignedBuffer>,
}

/// Two or three parts over Q_level, as rows in evaluation form.
type Parts<'a> = Vec<&'a [u64]>;

impl<'a> MergedSum<'a> {
    /// Empty sums at `level`; keys are of the same context.
    pub(crate) fn new(
        context: &'a Context,
        keys: &'a EvaluationKeys,
        level: usize,
        queries: usize,
    ) -> Self {
        let rows = level + 1 + context.special_count();
        let total = |_| AlignedBuffer::zeroed(2 * rows * context.ring().degree());
        Self {
            context,
            keys,
            level,
            totals: (0..queries).map(total).collect(),
        }
    }

    /// Adds to each sum a relinearised and rotated ciphertext; all have as many parts, and `step`
    /// is below the number of slots.
    ///
    /// # Errors
    /// Missing keys, as in [`Evaluator::relinearize_rotate_sum`].
    pub(crate) fn add(&mut self, terms: &[Parts<'_>], step: usize) -> Result<(), Error> {
        match step {
            0 => self.add_still(terms),
            step => self.add_moved(terms, step),
        }
    }

    /// Divides by P, and by the last prime too if `rescale`; `level` is then above 0.
    pub(crate) fn finish(self, rescale: bool) -> Vec<Vec<Poly<Ntt>>> {
        let (context, level) = (self.context, self.level);
        let remaining = level - usize::from(rescale);
        let divide = |part: &mut [u64]| {
            division::in_place(context, part, level, rescale);
            context.poly(part, remaining)
        };
        let totals = self.totals.into_iter().map(|mut total| {
            let len = total.len() / 2;
            total.chunks_exact_mut(len).map(divide).collect()
        });
        totals.collect()
    }

    /// total += P (c_0, c_1) + switched c_2.
    fn add_still(&mut self, terms: &[Parts<'_>]) -> Result<(), Error> {
        let key = match terms.iter().any(|parts| parts.len() == 3) {
            true => Some(self.keys.relinearization_key(self.level)?),
            false => None,
        };
        let keys: Vec<_> = key.into_iter().map(|key| (2, key)).collect();
        self.add_switched(terms, &keys, 2, None);
        Ok(())
    }

    /// total += phi(P (c_0, 0) + switched c_1 + switched c_2).
    fn add_moved(&mut self, terms: &[Parts<'_>], step: usize) -> Result<(), Error> {
        let galois = self.keys.rotation_key(step, self.level)?;
        let mut keys = vec![(1, &galois.key)];
        if terms.iter().any(|parts| parts.len() == 3) {
            keys.push((2, self.keys.relinearized_rotation_key(step, self.level)?));
        }
        self.add_switched(terms, &keys, 1, Some(&galois.permutation));
        Ok(())
    }

    /// total += phi(P (the first `own` parts) + Σ parts switched with their keys). Row by row, and
    /// in each row query by query, so that a row of a key is read from memory once.
    fn add_switched(
        &mut self,
        terms: &[Parts<'_>],
        keys: &[(usize, &SwitchingKey)],
        own: usize,
        permutation: Option<&Permutation>,
    ) {
        let (context, level) = (self.context, self.level);
        let n = context.ring().degree();
        let mut digits: Vec<Vec<Streamed<'_>>> = Vec::with_capacity(terms.len());
        for parts in terms {
            let switched = keys.iter().map(|&(part, _)| parts[part]);
            let cut = switched.map(|part| Streamed::new(context, part, level));
            digits.push(cut.collect());
        }
        let keys: Vec<&SwitchingKey> = keys.iter().map(|&(_, key)| key).collect();
        let mut sum = AlignedBuffer::recycled(2 * n);
        for row in 0..level + 1 + context.special_count() {
            let prime = context.ring().prime(context.modulus_index(row, level));
            for ((parts, digits), total) in terms.iter().zip(&mut digits).zip(&mut self.totals) {
                let (body, mask) = sum.split_at_mut(n);
                keyswitch::sum_of_switches(context, digits, &keys, row, [body, mask]);
                add_own(context, level, &parts[..own], row, &mut sum);
                let len = total.len() / 2;
                for (total, sum) in total.chunks_exact_mut(len).zip(sum.chunks_exact(n)) {
                    let total = &mut total[row * n..(row + 1) * n];
                    match permutation {
                        Some(permutation) => permutation.add_image(prime.modulus(), total, sum),
                        None => prime.add_assign(total, sum),
                    }
                }
            }
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
