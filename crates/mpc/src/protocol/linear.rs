//! Products of shared matrices, and their truncation.

use std::mem::take;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Session;
use crate::bytes;
use crate::error::Error;
use crate::party::{Party, Role, thirds};
use crate::planes::BITS;
use crate::sharing::{Share, check_length};
use crate::transport::Transport;

/// Bytes of a whole word.
const WHOLE: usize = 8;

/// Most bits that a division drops.
const FRACTION_BITS_MAX: u32 = u64::BITS - BITS as u32;

/// One party's summands of a tensor modulo 2^64, uniform to the others.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Summands(Vec<u64>);

impl std::fmt::Debug for Summands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Summands {{ {} elements }}", self.0.len())
    }
}

impl Summands {
    /// The tensor, from all parties' summands: what a client does with an answer.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn open(summands: &[Self; 3]) -> Result<Vec<u64>, Error> {
        let [first, second, third] = summands;
        check_length(second.0.len(), first.0.len())?;
        check_length(third.0.len(), first.0.len())?;
        let rows = first.0.iter().zip(&second.0).zip(&third.0);
        let sum = |((x, y), z): ((&u64, &u64), &u64)| x.wrapping_add(*y).wrapping_add(*z);
        Ok(rows.map(sum).collect())
    }

    /// Sums of `terms` elements each, as a pool takes them: result i is the sum of the elements at
    /// positions `terms i` to `terms i + terms - 1` of `positions`.
    ///
    /// # Errors
    /// [`Error::NoElement`]; [`Error::Length`] unless positions are a multiple of the terms.
    pub fn sums(&self, positions: &[usize], terms: usize) -> Result<Self, Error> {
        let bound = self.0.len();
        if let Some(&found) = positions.iter().find(|&&at| at >= bound) {
            return Err(Error::NoElement { found, bound });
        }
        let whole = positions.len() / terms.max(1) * terms;
        check_length(positions.len(), whole)?;
        let sum = |positions: &[usize]| {
            let values = positions.iter().map(|&at| self.0[at]);
            values.fold(0, u64::wrapping_add)
        };
        Ok(Self(
            positions.chunks_exact(terms.max(1)).map(sum).collect(),
        ))
    }
}

/// A tensor as `a + c mod 2^32`, third by third: what this party knows of it, `a` as A and as B,
/// `c` as C.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Split(pub(super) Vec<u32>);

impl Split {
    /// The third in which a party has a role.
    pub(super) fn third(&self, party: Party, role: Role) -> &[u32] {
        &self.0[thirds(self.0.len())[role.third(party)].clone()]
    }
}

/// What is known of a split before the others' messages.
pub(super) struct Begun {
    own: Vec<u64>,
    fraction_bits: u32,
}

impl<T: Transport> Session<T> {
    /// The product of an m x k and a k x n matrix, rows one after the other.
    ///
    /// Math:   z_i = x_i y_i + x_i y_(i+1) + x_(i+1) y_i + r_i,  r_0 + r_1 + r_2 = 0
    /// Hops:   0
    /// Source: Araki et al. 2016, section 2.2
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn matrix_product(
        &mut self,
        x: &Share,
        y: &Share,
        [m, k, n]: [usize; 3],
    ) -> Result<Summands, Error> {
        check_length(x.len(), m * k)?;
        check_length(y.len(), k * n)?;
        let both: Vec<u64> = y
            .own
            .iter()
            .zip(&y.next)
            .map(|(a, b)| a.wrapping_add(*b))
            .collect();
        let mut sums = self.correlated.zeros(m * n);
        if k * n > 0 {
            let rows = x.own.chunks_exact(k).zip(x.next.chunks_exact(k));
            for (sums, (own, next)) in sums.chunks_exact_mut(n).zip(rows) {
                add_row(sums, own, &both);
                add_row(sums, next, &y.own);
            }
        }
        Ok(Summands(sums))
    }

    /// The sharing of summands: every party sends its own to the one before it.
    ///
    /// Messages: to P_(i-1): z_i, uniform since r_i is to it
    /// Hops:     1
    ///
    /// # Errors
    /// Those of the transport.
    pub fn reshare(&mut self, mut summands: Summands) -> Result<Share, Error> {
        let mut message = Vec::with_capacity(summands.0.len() * WHOLE);
        bytes::put(&mut message, &summands.0, WHOLE);
        self.send(self.party.previous(), message)?;
        let mut received = self.receive(self.party.next())?;
        let next = received.take(summands.0.len(), WHOLE)?;
        received.end()?;
        Ok(Share {
            own: take(&mut summands.0),
            next,
        })
    }

    /// First half of a split: A and B send each other their summands.
    ///
    /// Math:     a = (z_A + z_B mod 2^(32+f)) >> f + [f > 0],  c = (z_C mod 2^(32+f)) >> f
    /// Bounds:   `|z| < 2^(31+f)`; a + c is `z / 2^f` rounded up or down: down with the probability
    ///     that makes it right in the mean, up to 2^-f
    /// Messages: A and B to each other: z_A and z_B modulo 2^(32+f), uniform since r is
    /// Hops:     1, with the second half
    /// Proof:    the low f bits of z_C decide which way a result is rounded. They are uniform,
    ///     independent of z and known to C alone, so that the ideal functionality draws them and
    ///     tells C: views are simulated perfectly.
    pub(super) fn begin_split(
        &mut self,
        mut summands: Summands,
        fraction_bits: u32,
    ) -> Result<Begun, Error> {
        if fraction_bits > FRACTION_BITS_MAX {
            return Err(Error::FractionBits {
                found: fraction_bits,
                max: FRACTION_BITS_MAX,
            });
        }
        let (own, width) = (take(&mut summands.0), split_width(fraction_bits));
        let thirds = thirds(own.len());
        for role in [Role::A, Role::B] {
            let mut message = Vec::new();
            bytes::put(
                &mut message,
                &own[thirds[role.third(self.party)].clone()],
                width,
            );
            self.send(self.partner(role), message)?;
        }
        Ok(Begun { own, fraction_bits })
    }

    /// Second half.
    pub(super) fn end_split(&mut self, begun: Begun) -> Result<Split, Error> {
        let (mut own, fraction_bits) = (begun.own, begun.fraction_bits);
        let (thirds, width) = (thirds(own.len()), split_width(fraction_bits));
        for role in [Role::A, Role::B] {
            let own = &mut own[thirds[role.third(self.party)].clone()];
            let mut received = self.receive(self.partner(role))?;
            let others = received.take(own.len(), width)?;
            received.end()?;
            let up = u64::from(fraction_bits > 0) << fraction_bits;
            for (own, other) in own.iter_mut().zip(others) {
                *own = own.wrapping_add(other).wrapping_add(up);
            }
        }
        let shifted = own.iter().map(|value| (value >> fraction_bits) as u32);
        Ok(Split(shifted.collect()))
    }
}

impl Begun {
    /// C's part of the third that is `range`.
    pub(super) fn third(&self, range: std::ops::Range<usize>) -> Vec<u32> {
        let own = self.own[range].iter();
        own.map(|value| (value >> self.fraction_bits) as u32)
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.own.len()
    }
}

/// sums += row y
fn add_row(sums: &mut [u64], row: &[u64], y: &[u64]) {
    for (x, y) in row.iter().zip(y.chunks_exact(sums.len())) {
        for (sum, y) in sums.iter_mut().zip(y) {
            *sum = sum.wrapping_add(x.wrapping_mul(*y));
        }
    }
}

fn split_width(fraction_bits: u32) -> usize {
    (BITS + fraction_bits as usize).div_ceil(8)
}
