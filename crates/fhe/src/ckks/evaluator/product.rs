//! Products of ciphertexts, without relinearisation.

use scuro_polyring::{Multiplier, Ntt, Poly};

use super::{Evaluator, check_levels, check_scales};
use crate::ckks::Ciphertext;
use crate::error::Error;

impl Evaluator {
    /// left * right, slot by slot: three parts, to relinearise when convenient.
    ///
    /// Math:  (a_0 b_0, a_0 b_1 + a_1 b_0, a_1 b_1)
    /// Level: equal, unchanged     Scale: product     Noise: [`crate::noise::NoiseModel::mul`]
    ///
    /// # Errors
    /// [`Error::PartCount`] unless both have two parts, [`Error::LevelMismatch`],
    /// [`Error::KeyMismatch`].
    pub fn mul(&self, left: &Ciphertext, right: &Ciphertext) -> Result<Ciphertext, Error> {
        self.inner_product(&[left], &[right])
    }

    /// ciphertext squared: three parts.
    ///
    /// # Errors
    /// As [`Evaluator::mul`].
    pub fn square(&self, ciphertext: &Ciphertext) -> Result<Ciphertext, Error> {
        self.inner_product(&[ciphertext], &[ciphertext])
    }

    /// Σ left_i * right_i with one reduction at the end: three parts.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for lists of different or no length; [`Error::ScaleMismatch`] if
    /// the products' scales differ; else as [`Evaluator::mul`].
    pub fn inner_product(
        &self,
        left: &[&Ciphertext],
        right: &[&Ciphertext],
    ) -> Result<Ciphertext, Error> {
        self.scaled_inner_product(left, right, None)
    }

    /// Σ left_i * right_i, times factors_j modulo prime j.
    pub(crate) fn scaled_inner_product(
        &self,
        left: &[&Ciphertext],
        right: &[&Ciphertext],
        factors: Option<&[Multiplier]>,
    ) -> Result<Ciphertext, Error> {
        let first = self.check_inner_product(left, right)?;
        let ring = self.context.ring();
        let basis = self.context.basis(first.level);
        let mut parts: [Poly<Ntt>; 3] =
            std::array::from_fn(|_| Poly::recycled(ring, basis.clone()));
        let [p0, p1, p2] = &mut parts;
        let rows = p0
            .rows_mut()
            .zip(p1.rows_mut())
            .zip(p2.rows_mut())
            .enumerate();
        for (row, (((i, o0), (_, o1)), (_, o2))) in rows {
            let a: Vec<[&[u64]; 2]> = left.iter().map(|c| pair(c, row)).collect();
            let b: Vec<[&[u64]; 2]> = right.iter().map(|c| pair(c, row)).collect();
            let (prime, mut outs) = (ring.prime(i), [o0, o1, o2]);
            prime.tensor(outs.each_mut().map(|out| &mut **out), &a, &b);
            if let Some(factors) = factors {
                let outs = outs.into_iter();
                outs.for_each(|out| prime.mul_scalar_assign(out, factors[i]));
            }
        }
        let scale = first.scale * right[0].scale;
        Ok(Ciphertext {
            parts: parts.into(),
            scale,
            ..*first
        })
    }

    fn check_inner_product<'a>(
        &self,
        left: &[&'a Ciphertext],
        right: &[&Ciphertext],
    ) -> Result<&'a Ciphertext, Error> {
        let Some(&first) = left.first().filter(|_| left.len() == right.len()) else {
            let (found, expected) = (right.len(), left.len().max(1));
            return Err(Error::LengthMismatch {
                what: "factors",
                found,
                expected,
            });
        };
        for (a, b) in left.iter().zip(right) {
            a.check_parts(2)?;
            b.check_parts(2)?;
            self.check_pair(first, a)?;
            self.check_pair(a, b)?;
            check_levels(first.level, b.level)?;
            check_scales(first.scale * right[0].scale, a.scale * b.scale)?;
        }
        Ok(first)
    }
}

fn pair(ciphertext: &Ciphertext, row: usize) -> [&[u64]; 2] {
    [ciphertext.parts[0].limb(row), ciphertext.parts[1].limb(row)]
}
