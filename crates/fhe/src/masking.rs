//! Masks that cancel in a sum: whoever sees all ciphertexts *and* decrypts still learns the sum
//! alone.
//!
//! Every two of `M` parties share a seed that nobody else has. Party `i` adds to the `c_0` of its
//! ciphertext what its seeds expand to, with one sign for parties before it and the other for those
//! after it:
//!
//! ```text
//! c_0 + w_i^-1 sum_j sgn(j - i) U(s_ij)  mod Q
//! ```
//!
//! In `sum_i w_i c^(i)` the masks cancel exactly, without any noise. A ciphertext for itself, and
//! any sum that leaves somebody out, decrypts to a uniform polynomial. A seed is for one sum: two
//! sums under one seed tell the difference of their terms.
//!
//! Source: Bonawitz et al. 2017, "Practical secure aggregation", section 4.1 (pairwise masks), here
//!     on ciphertexts

use scuro_polyring::sampling::Seed;
use zeroize::Zeroizing;

use crate::ckks::{Ciphertext, Evaluator};
use crate::error::Error;
use crate::rlwe::seed::{self, Purpose};

/// What two parties have in common for one sum.
pub struct PairMask {
    seed: Zeroizing<Seed>,
    /// Whether the other party comes later.
    first: bool,
}

impl PairMask {
    /// A seed that a pair shares; `first` for the party of the two that comes first.
    pub fn new(seed: Seed, first: bool) -> Self {
        Self {
            seed: Zeroizing::new(seed),
            first,
        }
    }
}

impl std::fmt::Debug for PairMask {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = &self.first;
        out.debug_struct("PairMask")
            .field("first", first)
            .finish_non_exhaustive()
    }
}

impl Evaluator {
    /// The ciphertext under the masks of all pairs; they cancel in a sum in which it counts
    /// `weight` times: see [`crate::masking`].
    ///
    /// Level, scale: unchanged     Noise: unchanged, in the whole sum
    /// Timing: independent of the ciphertext and the seeds
    ///
    /// # Errors
    /// [`Error::MaskWeight`] for a weight that is zero modulo a prime, [`Error::PartCount`] unless
    /// relinearised, [`Error::ParameterMismatch`].
    pub fn mask(
        &self,
        ciphertext: &Ciphertext,
        masks: &[PairMask],
        weight: u64,
    ) -> Result<Ciphertext, Error> {
        let context = &**self.context();
        context.check_digest(ciphertext.digest)?;
        ciphertext.check_parts(2)?;
        let (ring, basis) = (context.ring(), context.basis(ciphertext.level));
        let mut out = ciphertext.clone();
        for mask in masks {
            let purpose = Purpose::Mask;
            let mut uniform = seed::uniform(ring, basis.clone(), &mask.seed, purpose, 0);
            for (i, row) in uniform.rows_mut() {
                let modulus = ring.prime(i).modulus();
                let inverse = modulus.inv(weight % modulus.value());
                let inverse = inverse.map_err(|_| Error::MaskWeight { weight })?;
                row.iter_mut().for_each(|x| *x = modulus.mul(*x, inverse));
            }
            match mask.first {
                true => out.parts[0].add_assign(ring, &uniform),
                false => out.parts[0].sub_assign(ring, &uniform),
            }
        }
        Ok(out)
    }
}
