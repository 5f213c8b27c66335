//! Hybrid key switching with any number of digits.
//!
//! A polynomial x mod Q_level is cut into digits, the groups of `digit_limbs` consecutive primes;
//! digit d is the centred integer with the residues of x there, lifted to all primes of Q_level P.
//! The key holds for each digit an encryption of P g_d s', with g_d = 1 modulo the primes of digit
//! d and 0 modulo the others, so the inner product is an encryption of P x s' and its rounded
//! division by P one of x s'. Because g_d does not depend on the level, a key serves every level up
//! to its own.
//!
//! Rows of Q_level P are numbered 0..=level for the ciphertext primes, then the special ones.
//! Everything runs row by row, so that the working set is one row per digit.
//!
//! Source: Han, Ki 2020, "Better bootstrapping for approximate homomorphic encryption" (hybrid
//!     form); differs in that digits are lifted exactly and centred, so the noise has no overflow
//!     term.

use std::ops::Range;

use scuro_polyring::sampling::Seed;
use scuro_polyring::{AlignedBuffer, Ntt, PairProducts, PairRow, Permutation, Poly, RowPairs};

use crate::context::Context;
use crate::rlwe::{Purpose, division, seed};

/// An encryption of P g_d s' under s for every digit d, over Q_level P.
#[derive(Clone)]
pub(crate) struct SwitchingKey {
    pub(crate) seed: Seed,
    pub(crate) level: usize,
    /// b_d = -a_d s + e_d + P g_d s' and a_d, which is expanded from the seed
    pairs: RowPairs,
}

impl SwitchingKey {
    /// Puts a key together from (b_d, a_d) for every digit in order.
    pub(crate) fn from_parts<E>(
        context: &Context,
        seed: Seed,
        level: usize,
        parts: impl Iterator<Item = Result<[Poly<Ntt>; 2], E>>,
    ) -> Result<Self, E> {
        let rows = level + 1 + context.special_count();
        let digits = context.parameters().digit_count(level);
        let bits = context.bits(&context.extended_basis(level));
        let mut pairs = RowPairs::packed(bits, context.ring().degree(), digits);
        for (digit, parts) in parts.enumerate() {
            for (half, part) in parts?.iter().enumerate() {
                (0..rows).for_each(|row| pairs.set(row, digit, half, part.limb(row)));
            }
        }
        Ok(Self { seed, level, pairs })
    }

    /// The stored half.
    pub(crate) fn bodies(&self, context: &Context) -> impl Iterator<Item = Poly<Ntt>> {
        let basis = context.extended_basis(self.level);
        (0..self.pairs.terms()).map(move |digit| {
            let mut body = Poly::recycled(context.ring(), basis.clone());
            for row in 0..basis.len() {
                self.pairs.get(row, digit, 0, body.limb_mut(row));
            }
            body
        })
    }

    /// Bytes that the key takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(self.pairs.words())
    }

    /// The uniform polynomial of digit `digit`.
    pub(crate) fn mask(context: &Context, seed: &Seed, level: usize, digit: usize) -> Poly<Ntt> {
        let basis = context.extended_basis(level);
        seed::uniform(context.ring(), basis, seed, Purpose::SwitchingKey, digit)
    }

    /// The pairs of one row of Q_level P, `level` at most the key's.
    fn row(&self, row: usize, level: usize) -> PairRow<'_> {
        assert!(
            self.level >= level,
            "key of level {} used at level {level}",
            self.level
        );
        let own = if row <= level {
            row
        } else {
            row - level + self.level
        };
        self.pairs.row(own)
    }
}

/// The digits of a polynomial as coefficients, ready to be lifted to any prime.
struct Prepared<'a> {
    /// Rows of the polynomial itself, evaluation form.
    x: &'a [u64],
    level: usize,
    rows: AlignedBuffer,
    /// Where the rows of each digit begin, and the end.
    starts: Vec<usize>,
}

impl<'a> Prepared<'a> {
    fn new(context: &Context, x: &'a [u64], level: usize) -> Self {
        let (ring, n) = (context.ring(), context.ring().degree());
        let converters = &context.tables(level).digits;
        let mut starts = vec![0];
        for converter in converters {
            starts.push(starts[starts.len() - 1] + converter.prepared_rows() * n);
        }
        let mut rows = AlignedBuffer::recycled(starts[converters.len()]);
        for (digit, converter) in converters.iter().enumerate() {
            let rows = &mut rows[starts[digit]..starts[digit + 1]];
            for (row, i) in rows
                .chunks_exact_mut(n)
                .zip(own_rows(context, digit, level))
            {
                ring.prime(i).inverse_from(row, &x[i * n..(i + 1) * n]);
            }
            converter.prepare(ring, rows);
        }
        Self {
            x,
            level,
            rows,
            starts,
        }
    }

    fn digits(&self) -> usize {
        self.starts.len() - 1
    }

    /// The row of the polynomial itself, if its prime is one of the digit's.
    fn own(&self, context: &Context, digit: usize, row: usize) -> Option<&'a [u64]> {
        let n = context.ring().degree();
        let own = own_rows(context, digit, self.level).contains(&row);
        own.then(|| &self.x[row * n..(row + 1) * n])
    }

    /// Digit `digit` modulo the prime of `row`, in evaluation form.
    fn lift(&self, context: &Context, digit: usize, row: usize, out: &mut [u64]) {
        if let Some(own) = self.own(context, digit, row) {
            out.copy_from_slice(own);
            return;
        }
        let own = own_rows(context, digit, self.level);
        let target = if row < own.start {
            row
        } else {
            row - own.len()
        };
        let prepared = &self.rows[self.starts[digit]..self.starts[digit + 1]];
        let converter = &context.tables(self.level).digits[digit];
        converter.transform_row(context.ring(), target, out, prepared);
    }
}

/// Words between lifted rows, an odd number of cache lines: rows a power of two apart would share
/// the sets of the nearest cache.
const PADDING: usize = 9 * 8;

/// Rows of the primes of a digit.
fn own_rows(context: &Context, digit: usize, level: usize) -> Range<usize> {
    let digit_limbs = context.parameters().digit_limbs();
    digit * digit_limbs..((digit + 1) * digit_limbs).min(level + 1)
}

/// Digits that are lifted row by row as they are needed: for one key, or for several that take
/// turns in each row.
pub(crate) struct Streamed<'a> {
    prepared: Prepared<'a>,
    lifted: AlignedBuffer,
    /// The row that `lifted` holds.
    row: Option<usize>,
}

impl<'a> Streamed<'a> {
    /// Cuts the polynomial with rows `x` over Q_level.
    pub(crate) fn new(context: &Context, x: &'a [u64], level: usize) -> Self {
        let prepared = Prepared::new(context, x, level);
        let lifted =
            AlignedBuffer::recycled(prepared.digits() * (context.ring().degree() + PADDING));
        Self {
            prepared,
            lifted,
            row: None,
        }
    }

    /// Level of the polynomial.
    pub(crate) fn level(&self) -> usize {
        self.prepared.level
    }

    /// outs = Σ_d digit_d * (b_d, a_d) in row `row` of Q_level P.
    pub(crate) fn inner_product(
        &mut self,
        context: &Context,
        key: &SwitchingKey,
        row: usize,
        outs: [&mut [u64]; 2],
    ) {
        sum_of_switches(context, std::slice::from_mut(self), &[key], row, outs);
    }

    /// All digits modulo the prime of `row`.
    fn digits_of_row(&mut self, context: &Context, row: usize) -> Vec<&[u64]> {
        let n = context.ring().degree();
        if self.row != Some(row) {
            for (digit, out) in self.lifted.chunks_exact_mut(n + PADDING).enumerate() {
                if self.prepared.own(context, digit, row).is_none() {
                    self.prepared.lift(context, digit, row, &mut out[..n]);
                }
            }
            self.row = Some(row);
        }
        let lifted = self.lifted.chunks_exact(n + PADDING).enumerate();
        let digits = lifted.map(|(digit, lifted)| {
            let own = self.prepared.own(context, digit, row);
            own.unwrap_or(&lifted[..n])
        });
        digits.collect()
    }
}

/// outs = Σ Σ_d digit_d * (b_d, a_d) in row `row` of Q_level P: several polynomials of one level,
/// each with its key, in one sum that is reduced once.
pub(crate) fn sum_of_switches(
    context: &Context,
    switched: &mut [Streamed<'_>],
    keys: &[&SwitchingKey],
    row: usize,
    outs: [&mut [u64]; 2],
) {
    assert_eq!(switched.len(), keys.len(), "one key for each polynomial");
    let Some(level) = switched.first().map(Streamed::level) else {
        outs.into_iter().for_each(|out| out.fill(0));
        return;
    };
    let prime = context.ring().prime(context.modulus_index(row, level));
    let digits = switched
        .iter_mut()
        .map(|streamed| streamed.digits_of_row(context, row));
    let digits: Vec<Vec<&[u64]>> = digits.collect();
    let products = digits.iter().zip(keys).map(|(shared, key)| PairProducts {
        shared,
        pairs: key.row(row, level),
    });
    prime.dot_row_pairs(outs, &products.collect::<Vec<_>>());
}

/// How a key switch ends: division by P, the ciphertext's own parts added, an automorphism.
pub(crate) struct Finish<'a> {
    /// Parts added to body and mask, over Q_level, before the automorphism.
    pub(crate) own: [Option<&'a Poly<Ntt>>; 2],
    /// Automorphism applied last.
    pub(crate) permutation: Option<&'a Permutation>,
    /// Whether q_level is divided out together with P; `level` is then above 0.
    pub(crate) rescale: bool,
}

impl Finish<'_> {
    /// Runs a key switch to two polynomials over Q_level, or Q_(level-1).
    pub(crate) fn switch(
        &self,
        context: &Context,
        mut digits: Streamed<'_>,
        key: &SwitchingKey,
    ) -> [Poly<Ntt>; 2] {
        let (ring, n, level) = (context.ring(), context.ring().degree(), digits.level());
        let division = context.division(level, self.rescale);
        let remaining = division.inverses.len();
        let prepared_rows = division.converter.prepared_rows();
        let mut prepared = AlignedBuffer::recycled(2 * prepared_rows * n);
        let (body, mask) = prepared.split_at_mut(prepared_rows * n);
        for (at, row) in (remaining..level + 1 + context.special_count()).enumerate() {
            let range = at * n..(at + 1) * n;
            let mut outs = [&mut body[range.clone()], &mut mask[range]];
            digits.inner_product(context, key, row, outs.each_mut().map(|out| &mut **out));
            for (out, own) in outs.into_iter().zip(self.own) {
                self.add_own(context, out, own, row, level, true);
                ring.prime(context.modulus_index(row, level)).inverse(out);
            }
        }
        division.converter.prepare(ring, body);
        division.converter.prepare(ring, mask);
        let basis = context.basis(remaining - 1);
        let mut results = [0; 2].map(|_| Poly::recycled(ring, basis.clone()));
        let mut work = AlignedBuffer::recycled(3 * n);
        for row in 0..remaining {
            let (sums, lifted) = work.split_at_mut(2 * n);
            let (sum_body, sum_mask) = sums.split_at_mut(n);
            digits.inner_product(context, key, row, [sum_body, sum_mask]);
            for (part, sum) in sums.chunks_exact_mut(n).enumerate() {
                self.add_own(context, sum, self.own[part], row, level, true);
                let prepared = &prepared[part * prepared_rows * n..(part + 1) * prepared_rows * n];
                let out = results[part].limb_mut(row);
                let Some(permutation) = self.permutation else {
                    division::difference(
                        context,
                        division,
                        row,
                        [&mut *out, lifted],
                        [sum, prepared],
                    );
                    self.add_own(context, out, self.own[part], row, level, false);
                    continue;
                };
                division::subtract_lifted(context, division, row, sum, prepared, lifted);
                self.add_own(context, sum, self.own[part], row, level, false);
                permutation.apply(out, sum);
            }
        }
        results
    }

    /// Adds the own part: times P before a division that takes q_level along, else plain after it.
    fn add_own(
        &self,
        context: &Context,
        sum: &mut [u64],
        own: Option<&Poly<Ntt>>,
        row: usize,
        level: usize,
        before: bool,
    ) {
        let Some(own) = own.filter(|_| before == self.rescale && row <= level) else {
            return;
        };
        let prime = context.ring().prime(row);
        if self.rescale {
            prime.mul_scalar_add_assign(sum, own.limb(row), context.special_residue(row));
        } else {
            prime.add_assign(sum, own.limb(row));
        }
    }
}
