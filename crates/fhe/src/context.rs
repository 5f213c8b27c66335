//! A parameter set with everything that is computed once from it.

use std::sync::Arc;

use scuro_polyring::slots::SlotTransform;
use scuro_polyring::{
    AlignedBuffer, BaseConverter, Basis, Kernel, MixedRadix, Multiplier, Ntt, Poly, Ring,
};

use crate::error::Error;
use crate::params::{Digest, Parameters};
use crate::rlwe::keep_freed_memory;

/// Parameters, transforms and conversion tables; shared by every object that computes.
pub struct Context {
    parameters: Parameters,
    ring: Ring,
    slots: SlotTransform,
    levels: Vec<LevelTables>,
    /// P mod q_i
    special: Vec<Multiplier>,
}

/// Tables of one level.
pub(crate) struct LevelTables {
    /// From the limbs of each key-switching digit to all other limbs of Q_level P.
    pub(crate) digits: Vec<BaseConverter>,
    /// Division by P.
    pub(crate) down: Division,
    /// Division by q_level P; `None` at level 0.
    pub(crate) down_rescale: Option<Division>,
    /// q_level^-1 mod q_i, i < level.
    pub(crate) last_inverse: Vec<Multiplier>,
    /// Reads residues modulo Q_level as numbers.
    pub(crate) mixed_radix: MixedRadix,
}

/// Division by a product of primes of the basis.
pub(crate) struct Division {
    pub(crate) converter: BaseConverter,
    /// Inverse of the product modulo each remaining prime.
    pub(crate) inverses: Vec<Multiplier>,
}

impl Context {
    /// Builds the tables, on the fastest kernel that this processor runs.
    ///
    /// # Errors
    /// Those of the ring; none for a checked parameter set.
    pub fn new(parameters: Parameters) -> Result<Arc<Self>, Error> {
        Self::with_kernel(parameters, Kernel::detect())
    }

    /// Builds the tables for a given kernel; results do not depend on it.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub fn with_kernel(parameters: Parameters, kernel: Kernel) -> Result<Arc<Self>, Error> {
        keep_freed_memory();
        let moduli: Vec<u64> = parameters
            .q()
            .iter()
            .chain(parameters.p())
            .copied()
            .collect();
        let ring = Ring::new(parameters.ring(), parameters.log_n(), &moduli, kernel)?;
        let levels = (0..=parameters.max_level())
            .map(|level| level_tables(&parameters, &ring, level))
            .collect::<Result<_, _>>()?;
        let q_count = parameters.q().len();
        let special = (0..q_count)
            .map(|i| product(&ring, q_count..moduli.len(), i))
            .collect();
        let slots = SlotTransform::new(parameters.ring(), parameters.log_n(), kernel)?;
        Ok(Arc::new(Self {
            parameters,
            ring,
            slots,
            levels,
            special,
        }))
    }

    /// The parameter set.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Digest of the parameter set.
    pub fn digest(&self) -> Digest {
        self.parameters.digest()
    }

    /// The ring modulo all primes: ciphertext primes first, then special ones.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Primes q_0 .. q_level.
    pub fn basis(&self, level: usize) -> Basis {
        Basis::range(0..level + 1)
    }

    /// Bits of the primes of a basis.
    pub(crate) fn bits(&self, basis: &Basis) -> Vec<u32> {
        let bits = |i| self.ring().prime(i).modulus().bits();
        basis.iter().map(bits).collect()
    }

    /// Primes q_0 .. q_level and the special ones.
    pub fn extended_basis(&self, level: usize) -> Basis {
        let q_count = self.parameters.q().len();
        Basis::joined(0..level + 1, q_count..self.ring.moduli_count())
    }

    pub(crate) fn slot_transform(&self) -> &SlotTransform {
        &self.slots
    }

    pub(crate) fn tables(&self, level: usize) -> &LevelTables {
        &self.levels[level]
    }

    /// P mod q_i.
    pub(crate) fn special_residue(&self, i: usize) -> Multiplier {
        self.special[i]
    }

    /// Number of special primes.
    pub(crate) fn special_count(&self) -> usize {
        self.parameters.p().len()
    }

    /// Ring index of the prime of row `row` of Q_level P.
    pub(crate) fn modulus_index(&self, row: usize, level: usize) -> usize {
        if row <= level {
            row
        } else {
            row - level - 1 + self.parameters.q().len()
        }
    }

    /// Division by P, and by q_level too if `rescale`.
    pub(crate) fn division(&self, level: usize, rescale: bool) -> &Division {
        let tables = &self.levels[level];
        match (&tables.down_rescale, rescale) {
            (Some(division), true) => division,
            (None, true) => unreachable!("callers refuse to rescale at level 0"),
            (_, false) => &tables.down,
        }
    }

    /// The polynomial over Q_level whose rows begin `words`.
    pub(crate) fn poly(&self, words: &[u64], level: usize) -> Poly<Ntt> {
        let basis = self.basis(level);
        let words = &words[..self.ring.degree() * basis.len()];
        Poly::from_words(&self.ring, basis, AlignedBuffer::from_slice(words))
    }

    /// The same without a copy.
    pub(crate) fn poly_from(&self, mut words: AlignedBuffer, level: usize) -> Poly<Ntt> {
        let basis = self.basis(level);
        words.truncate(self.ring.degree() * basis.len());
        Poly::from_words(&self.ring, basis, words)
    }

    pub(crate) fn check_level(&self, level: usize) -> Result<(), Error> {
        let max = self.parameters.max_level();
        if level > max {
            return Err(Error::LevelTooHigh { found: level, max });
        }
        Ok(())
    }

    pub(crate) fn check_digest(&self, found: Digest) -> Result<(), Error> {
        let expected = self.digest();
        if found != expected {
            return Err(Error::ParameterMismatch { found, expected });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kernel = self.ring.kernel();
        f.debug_struct("Context")
            .field("parameters", &self.parameters)
            .field("kernel", &kernel)
            .finish()
    }
}

fn level_tables(parameters: &Parameters, ring: &Ring, level: usize) -> Result<LevelTables, Error> {
    let (q_count, all) = (parameters.q().len(), ring.moduli_count());
    let digit_limbs = parameters.digit_limbs();
    let digits = (0..parameters.digit_count(level))
        .map(|digit| {
            let start = digit * digit_limbs;
            let end = (start + digit_limbs).min(level + 1);
            let others: Vec<usize> = (0..start)
                .chain(end..level + 1)
                .chain(q_count..all)
                .collect();
            BaseConverter::new(ring, Basis::range(start..end), Basis::indices(&others))
        })
        .collect::<Result<_, _>>()?;
    let down = division(ring, Basis::range(q_count..all), level + 1)?;
    let down_rescale = match level {
        0 => None,
        _ => Some(division(
            ring,
            Basis::joined(level..level + 1, q_count..all),
            level,
        )?),
    };
    let last_inverse = inverses(ring, (0..level).map(|i| (level, i)))?;
    let mixed_radix = MixedRadix::new(ring, Basis::range(0..level + 1))?;
    Ok(LevelTables {
        digits,
        down,
        down_rescale,
        last_inverse,
        mixed_radix,
    })
}

fn division(ring: &Ring, divisor: Basis, remaining: usize) -> Result<Division, Error> {
    let inverses = (0..remaining)
        .map(|i| inverse(ring, product(ring, divisor.iter(), i).value(), i))
        .collect::<Result<_, _>>()?;
    let converter = BaseConverter::new(ring, divisor, Basis::range(0..remaining))?;
    Ok(Division {
        converter,
        inverses,
    })
}

/// Product of the primes at `indices` modulo prime `i`.
fn product(ring: &Ring, indices: impl Iterator<Item = usize>, i: usize) -> Multiplier {
    let modulus = ring.prime(i).modulus();
    let residue = |j: usize| modulus.reduce(ring.prime(j).modulus().value());
    modulus.multiplier(indices.fold(1, |acc, j| modulus.mul(acc, residue(j))))
}

/// For every pair (i, j) the inverse of prime i modulo prime j.
fn inverses(
    ring: &Ring,
    pairs: impl Iterator<Item = (usize, usize)>,
) -> Result<Vec<Multiplier>, Error> {
    pairs
        .map(|(i, j)| inverse(ring, product(ring, i..i + 1, j).value(), j))
        .collect()
}

fn inverse(ring: &Ring, value: u64, i: usize) -> Result<Multiplier, Error> {
    let modulus = ring.prime(i).modulus();
    Ok(modulus.multiplier(modulus.inv(value)?))
}
