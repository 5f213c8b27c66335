//! Sums of rotations, stage after stage.

use scuro_polyring::{AlignedBuffer, Ntt, Poly};

use super::Evaluator;
use crate::ckks::Ciphertext;
use crate::error::Error;
use crate::keys::{EvaluationKeys, GaloisKey};
use crate::rlwe::{Streamed, division};

impl Evaluator {
    /// Replaces the ciphertext by the sum of its rotations by each of a stage's steps, for one
    /// stage after the other: a fold over windows has stages (0, w), (0, 2w), (0, 4w) and so on,
    /// or (0, w, 2w, 3w), (0, 4w, 8w, 12w), which switch half as often.
    ///
    /// A stage decomposes the mask once and divides its sum by P once. The body is divided after
    /// the last stage only: until then it is kept as P c_0 modulo Q_level P.
    ///
    /// Math:   out = Σ_k rotate(in, step_k), stage by stage
    /// Level, scale: unchanged     Noise: one key switch per rotation, one rounding per stage
    ///
    /// # Errors
    /// As [`Evaluator::rotate`].
    pub fn fold(
        &self,
        ciphertext: &Ciphertext,
        stages: &[Vec<usize>],
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        let stage_keys = stages
            .iter()
            .map(|steps| self.galois_keys(ciphertext, steps, keys));
        let stage_keys = stage_keys.collect::<Result<Vec<_>, _>>()?;
        if stages.is_empty() {
            return Ok(ciphertext.clone());
        }
        let (context, level) = (&*self.context, ciphertext.level);
        let mut body = self.times_special(&ciphertext.parts[0], level, 1);
        let mut mask = ciphertext.parts[1].clone();
        for keys in &stage_keys {
            let still = keys.iter().filter(|key| key.is_none()).count() as u64;
            let keys: Vec<&GaloisKey> = keys.iter().copied().flatten().collect();
            mask = self.fold_stage(&mut body, &mask, level, &keys, still);
        }
        division::in_place(context, &mut body, level, false);
        Ok(Ciphertext {
            parts: vec![context.poly_from(body, level), mask],
            ..*ciphertext
        })
    }

    /// One stage, `still` of whose steps are 0: `body` is P c_0 over Q_level P, `mask` is c_1.
    fn fold_stage(
        &self,
        body: &mut [u64],
        mask: &Poly<Ntt>,
        level: usize,
        keys: &[&GaloisKey],
        still: u64,
    ) -> Poly<Ntt> {
        let (context, n) = (&*self.context, self.context.ring().degree());
        let mut sum_mask = self.times_special(mask, level, still);
        let mut digits = Streamed::new(context, mask.words(), level);
        let mut work = AlignedBuffer::recycled(3 * n);
        let (before, switched) = work.split_at_mut(n);
        let (switched_body, switched_mask) = switched.split_at_mut(n);
        // The usual stage adds one rotation to what there is.
        let single = still == 1 && keys.len() == 1;
        let rows = body.chunks_exact_mut(n).zip(sum_mask.chunks_exact_mut(n));
        for (row, (body, mask)) in rows.enumerate() {
            let prime = context.ring().prime(context.modulus_index(row, level));
            let q = prime.modulus();
            if !single {
                before.copy_from_slice(body);
            }
            if still != 1 {
                prime.mul_scalar(body, before, prime.multiplier(q.reduce(still)));
            }
            for key in keys {
                let outs = [&mut *switched_body, &mut *switched_mask];
                digits.inner_product(context, &key.key, row, outs);
                prime.add_assign(switched_body, if single { body } else { before });
                key.permutation.add_image(q, body, switched_body);
                key.permutation.add_image(q, mask, switched_mask);
            }
        }
        division::in_place(context, &mut sum_mask, level, false);
        context.poly_from(sum_mask, level)
    }

    /// factor * P * part over Q_level P: \[rows\]\[n\].
    fn times_special(&self, part: &Poly<Ntt>, level: usize, factor: u64) -> AlignedBuffer {
        let (context, ring) = (&*self.context, self.context.ring());
        let n = ring.degree();
        let mut out = AlignedBuffer::recycled((level + 1 + context.special_count()) * n);
        for (row, out) in out.chunks_exact_mut(n).enumerate() {
            if row > level {
                out.fill(0);
                continue;
            }
            let prime = ring.prime(row);
            let special = context.special_residue(row).value();
            let modulus = prime.modulus();
            let factor = prime.multiplier(modulus.mul(special, modulus.reduce(factor)));
            prime.mul_scalar(out, part.limb(row), factor);
        }
        out
    }
}
