//! Relinearisation and rotation in one: sums of rotated products with a single division by P.

use scuro_polyring::AlignedBuffer;

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
        let (context, level) = (&*self.context, first.level);
        let n = context.ring().degree();
        let len = (level + 1 + context.special_count()) * n;
        let mut total = AlignedBuffer::recycled(2 * len);
        total.fill(0);
        for &(ciphertext, step) in terms {
            self.check_pair(first, ciphertext)?;
            self.check_keys(ciphertext, keys)?;
            check_scales(first.scale, ciphertext.scale)?;
            match step % context.parameters().slots() {
                0 => self.add_still(ciphertext, keys, &mut total)?,
                step => self.add_moved(ciphertext, step, keys, &mut total)?,
            }
        }
        let parts = total.chunks_exact_mut(len).map(|part| {
            division::in_place(context, part, level, false);
            context.poly(part, level)
        });
        Ok(Ciphertext {
            parts: parts.collect(),
            ..*first
        })
    }

    /// total += P (c_0, c_1) + switched c_2.
    fn add_still(
        &self,
        ciphertext: &Ciphertext,
        keys: &EvaluationKeys,
        total: &mut [u64],
    ) -> Result<(), Error> {
        let context = &*self.context;
        let level = ciphertext.level;
        let mut switch = match ciphertext.parts.get(2) {
            None => None,
            Some(part) => Some((
                Streamed::new(context, part.words(), level),
                keys.relinearization_key(level)?,
            )),
        };
        let mut sum = AlignedBuffer::recycled(2 * context.ring().degree());
        self.for_each_row(total, level, |row, totals| {
            sum.fill(0);
            if let Some((digits, key)) = &mut switch {
                inner_product(context, digits, key, row, &mut sum);
            }
            self.add_own(ciphertext, row, 2, &mut sum);
            add_rows(context, row, level, totals, &sum);
        });
        Ok(())
    }

    /// total += phi(P (c_0, 0) + switched c_1 + switched c_2).
    fn add_moved(
        &self,
        ciphertext: &Ciphertext,
        step: usize,
        keys: &EvaluationKeys,
        total: &mut [u64],
    ) -> Result<(), Error> {
        let (context, level) = (&*self.context, ciphertext.level);
        let n = context.ring().degree();
        let galois = keys.rotation_key(step, level)?;
        let digits = |part: usize| Streamed::new(context, ciphertext.parts[part].words(), level);
        let mut switches = vec![(digits(1), &galois.key)];
        if ciphertext.parts.len() == 3 {
            switches.push((digits(2), keys.relinearized_rotation_key(step, level)?));
        }
        let (mut sum, mut work) = (
            AlignedBuffer::recycled(2 * n),
            AlignedBuffer::recycled(2 * n),
        );
        self.for_each_row(total, level, |row, totals| {
            sum.fill(0);
            for (digits, key) in &mut switches {
                inner_product(context, digits, key, row, &mut work);
                let prime = context.ring().prime(context.modulus_index(row, level));
                prime.add_assign(&mut sum, &work);
            }
            self.add_own(ciphertext, row, 1, &mut sum);
            for (out, sum) in work.chunks_exact_mut(n).zip(sum.chunks_exact(n)) {
                galois.permutation.apply(out, sum);
            }
            add_rows(context, row, level, totals, &work);
        });
        Ok(())
    }

    /// The first `count` parts of `sum` += P c, in a row of a ciphertext prime.
    fn add_own(&self, ciphertext: &Ciphertext, row: usize, count: usize, sum: &mut AlignedBuffer) {
        if row > ciphertext.level {
            return;
        }
        let ring = self.context.ring();
        let special = self.context.special_residue(row);
        for (sum, part) in sum
            .chunks_exact_mut(ring.degree())
            .zip(&ciphertext.parts)
            .take(count)
        {
            ring.prime(row)
                .mul_scalar_add_assign(sum, part.limb(row), special);
        }
    }

    fn for_each_row(
        &self,
        total: &mut [u64],
        level: usize,
        mut run: impl FnMut(usize, [&mut [u64]; 2]),
    ) {
        let n = self.context.ring().degree();
        let (body, mask) = total.split_at_mut(total.len() / 2);
        let rows = level + 1 + self.context.special_count();
        let pairs = body.chunks_exact_mut(n).zip(mask.chunks_exact_mut(n));
        for (row, (body, mask)) in (0..rows).zip(pairs) {
            run(row, [body, mask]);
        }
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
