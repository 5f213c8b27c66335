//! Hybrid key switching with any number of digits.
//!
//! A polynomial x mod Q_level is cut into digits, the groups of `digit_limbs` consecutive primes; digit d
//! is the centred integer with the residues of x there, lifted to all primes of Q_level P. The key holds
//! for each digit an encryption of P g_d s', with g_d = 1 modulo the primes of digit d and 0 modulo the
//! others, so the inner product is an encryption of P x s' and its rounded division by P one of x s'.
//! Because g_d does not depend on the level, a key serves every level up to its own.
//!
//! Source: Han, Ki 2020, "Better bootstrapping for approximate homomorphic encryption" (hybrid form);
//! differs in that digits are lifted exactly and centred, so the noise has no overflow term.

use scuro_polyring::sampling::Seed;
use scuro_polyring::{Ntt, Poly};

use crate::context::Context;
use crate::rlwe::{Purpose, division, seed};

/// A polynomial cut into key-switching digits, each in evaluation form over Q_level P.
#[derive(Debug)]
pub(crate) struct Decomposed {
    level: usize,
    digits: Vec<Poly<Ntt>>,
}

/// An encryption of P g_d s' under s for every digit d, over Q_level P.
#[derive(Debug, Clone)]
pub(crate) struct SwitchingKey {
    pub(crate) seed: Seed,
    pub(crate) level: usize,
    /// b_d = -a_d s + e_d + P g_d s'
    pub(crate) bodies: Vec<Poly<Ntt>>,
    /// a_d, expanded from the seed
    pub(crate) masks: Vec<Poly<Ntt>>,
}

/// The two parts of a key switch before division by P.
pub(crate) type Extended = [Poly<Ntt>; 2];

impl SwitchingKey {
    /// Puts a key together from its stored half.
    pub(crate) fn from_bodies(
        context: &Context,
        seed: Seed,
        level: usize,
        bodies: Vec<Poly<Ntt>>,
    ) -> Self {
        let masks = (0..bodies.len())
            .map(|d| Self::mask(context, &seed, level, d))
            .collect();
        Self {
            seed,
            level,
            bodies,
            masks,
        }
    }

    /// The uniform polynomial of digit `digit`.
    pub(crate) fn mask(context: &Context, seed: &Seed, level: usize, digit: usize) -> Poly<Ntt> {
        let basis = context.extended_basis(level);
        seed::uniform(context.ring(), basis, seed, Purpose::SwitchingKey, digit)
    }

    /// Row of the key that holds the residues of row `row` of a polynomial over Q_level P.
    fn row(&self, row: usize, level: usize) -> usize {
        if row <= level {
            row
        } else {
            row - level + self.level
        }
    }
}

impl Decomposed {
    /// Cuts `x`, over Q_level, into digits.
    pub(crate) fn new(context: &Context, x: &Poly<Ntt>, level: usize) -> Self {
        let ring = context.ring();
        let mut coefficients = x.prefix(level + 1);
        for (i, row) in coefficients.rows_mut() {
            ring.prime(i).inverse(row);
        }
        let digits = context.tables(level).digits.iter().enumerate();
        let digit_limbs = context.parameters().digit_limbs();
        let digits = digits.map(|(digit, converter)| {
            let start = digit * digit_limbs;
            let own = start..(start + digit_limbs).min(level + 1);
            let mut lifted = Poly::<Ntt>::zero(ring, context.extended_basis(level));
            let sources: Vec<&[u64]> = own.clone().map(|row| coefficients.limb(row)).collect();
            {
                let rows = lifted.rows_mut().map(|(_, row)| row).enumerate();
                let mut outs: Vec<&mut [u64]> = rows
                    .filter(|(row, _)| !own.contains(row))
                    .map(|(_, out)| out)
                    .collect();
                converter.convert(ring, &mut outs, &sources);
            }
            for (row, (i, values)) in lifted.rows_mut().enumerate() {
                if own.contains(&row) {
                    values.copy_from_slice(x.limb(row));
                } else {
                    ring.prime(i).forward(values);
                }
            }
            lifted
        });
        Self {
            level,
            digits: digits.collect(),
        }
    }

    /// Σ_d digit_d * (b_d, a_d): an encryption of P x s' over Q_level P.
    ///
    /// The key's level must be at least this level; callers check.
    pub(crate) fn inner_product(&self, context: &Context, key: &SwitchingKey) -> Extended {
        let (ring, level) = (context.ring(), self.level);
        assert!(
            key.level >= level,
            "key of level {} used at level {level}",
            key.level
        );
        let basis = context.extended_basis(level);
        let mut body = Poly::zero(ring, basis.clone());
        let mut mask = Poly::zero(ring, basis);
        let mut digits = Vec::with_capacity(self.digits.len());
        let mut bodies = Vec::with_capacity(self.digits.len());
        let mut masks = Vec::with_capacity(self.digits.len());
        for (row, ((i, body), (_, mask))) in body.rows_mut().zip(mask.rows_mut()).enumerate() {
            let key_row = key.row(row, level);
            digits.clear();
            bodies.clear();
            masks.clear();
            digits.extend(self.digits.iter().map(|digit| digit.limb(row)));
            bodies.extend(
                key.bodies[..self.digits.len()]
                    .iter()
                    .map(|b| b.limb(key_row)),
            );
            masks.extend(
                key.masks[..self.digits.len()]
                    .iter()
                    .map(|a| a.limb(key_row)),
            );
            ring.prime(i)
                .dot_pair([body, mask], &digits, [&bodies, &masks]);
        }
        [body, mask]
    }
}

/// Switches `x` to the key's target: two polynomials over Q_level that decrypt to x s'.
pub(crate) fn switch(
    context: &Context,
    x: &Poly<Ntt>,
    level: usize,
    key: &SwitchingKey,
) -> Extended {
    let extended = Decomposed::new(context, x, level).inner_product(context, key);
    extended.map(|part| division::by_special(context, part, level))
}
