//! Signs of split tensors, opened to A and B under a random bit of C, and what is done with them.
//!
//! The sign b (1 where x is not negative) is opened as `e = b xor r`, r known to C. Since
//! `b = e + (1 - 2e) r`, A and B have summands of the product of b and a number `alpha + gamma`,
//! alpha known to both and gamma to C,
//!
//! ```text
//! b (alpha + gamma) = e alpha + (1 - 2e) alpha r + e gamma + (1 - 2e) r gamma
//! ```
//!
//! once C has dealt r, gamma and r gamma.

use super::Session;
use super::carry::{FIRST, Masks, SECOND};
use super::linear::Split;
use super::seat::Seat;
use crate::bytes;
use crate::error::Error;
use crate::party::Role;
use crate::planes::{Plane, bit, planes, xor};
use crate::transport::Transport;

const WHOLE: usize = 8;

/// What C dealt for the signs of one third: its own values, or summands.
pub(super) struct Signs {
    masks: Masks,
    /// r
    flips: Vec<u64>,
}

/// One third in the hands of A or B, with its signs' values `e` at the end.
pub(super) struct Third {
    pub(super) role: Role,
    pub(super) a: Vec<u32>,
    signs: Signs,
    places: Vec<Plane>,
}

impl Signs {
    /// Draws and deals for `len` elements; C knows c.
    pub(super) fn new(seat: &mut Seat<'_>, len: usize, c: Option<&[u32]>) -> Result<Self, Error> {
        let masks = Masks::new(seat, len.div_ceil(64), c.map(planes))?;
        let flip = |at: usize| bit(&masks.sign, at);
        let flips = seat.deal_numbers(len, WHOLE, || (0..len).map(flip).collect())?;
        Ok(Self { masks, flips })
    }

    /// As C: r of an element.
    pub(super) fn flip(&self, at: usize) -> u64 {
        bit(&self.masks.sign, at)
    }
}

impl Third {
    pub(super) fn new(role: Role, a: &[u32], signs: Signs) -> Self {
        Self {
            role,
            a: a.to_vec(),
            signs,
            places: planes(a),
        }
    }

    /// The summand of `b (alpha + gamma)` for element `at`, with the opened signs and the summands
    /// of gamma and r gamma.
    pub(super) fn product(&self, opened: &Plane, at: usize, alpha: u64, gamma: [u64; 2]) -> u64 {
        let e = bit(opened, at);
        let [gamma, flipped] = gamma;
        let public = match self.role {
            Role::A => e.wrapping_mul(alpha),
            _ => 0,
        };
        let with_flip = alpha
            .wrapping_mul(self.signs.flips[at])
            .wrapping_add(flipped);
        public
            .wrapping_add(e.wrapping_mul(gamma))
            .wrapping_add(1u64.wrapping_sub(2 * e).wrapping_mul(with_flip))
    }
}

impl<T: Transport> Session<T> {
    /// e of both thirds in which this party is A and B.
    ///
    /// Messages: A and B to each other: masked bits, uniform since C's masks are to them
    /// Hops:     3
    pub(super) fn open_signs(&mut self, thirds: &[Third; 2]) -> Result<[Plane; 2], Error> {
        let masks = |third: usize| (&thirds[third].signs.masks, thirds[third].role);
        let first = [0, 1].map(|third| {
            let (masks, role) = masks(third);
            masks.first(role, &thirds[third].places)
        });
        let first = self.opened(thirds, first, FIRST)?;
        let second = [0, 1].map(|third| {
            let (masks, role) = masks(third);
            masks.second(role, &first[third])
        });
        let second = self.opened(thirds, second, SECOND)?;
        let last = [0, 1].map(|third| {
            let (masks, role) = masks(third);
            vec![masks.third(role, &thirds[third].places, &second[third])]
        });
        let signs = self.opened(thirds, last, 1)?;
        Ok(signs.map(|mut planes| planes.swap_remove(0)))
    }

    /// As A and B of a split whose signs were dealt; `deal` follows what C dealt after them.
    pub(super) fn seated<D>(
        &mut self,
        split: &Split,
        deal: impl Fn(&mut Seat<'_>, usize) -> Result<D, Error>,
    ) -> Result<([Third; 2], [D; 2]), Error> {
        let party = self.party;
        let dealt = self.receive(party.next())?;
        let mut third = |role: Role, dealt| {
            let a = split.third(party, role);
            let mut seat = Seat::new(role, &mut self.correlated, dealt);
            let signs = Signs::new(&mut seat, a.len(), None)?;
            let more = deal(&mut seat, a.len())?;
            seat.finish()?;
            Ok::<_, Error>((Third::new(role, a, signs), more))
        };
        let (first, with_first) = third(Role::A, None)?;
        let (second, with_second) = third(Role::B, Some(dealt))?;
        Ok(([first, second], [with_first, with_second]))
    }

    /// Planes of which A and B have summands, `count` of each third.
    fn opened(
        &mut self,
        thirds: &[Third; 2],
        summands: [Vec<Plane>; 2],
        count: usize,
    ) -> Result<[Vec<Plane>; 2], Error> {
        for (third, planes) in thirds.iter().zip(&summands) {
            let mut message = Vec::new();
            planes
                .iter()
                .for_each(|plane| bytes::put(&mut message, plane, WHOLE));
            self.send(self.partner(third.role), message)?;
        }
        let mut opened = summands;
        for (third, planes) in thirds.iter().zip(&mut opened) {
            let words = third.a.len().div_ceil(64);
            let mut received = self.receive(self.partner(third.role))?;
            debug_assert_eq!(planes.len(), count, "planes of one hop");
            for plane in planes {
                *plane = xor(plane, &received.take(words, WHOLE)?);
            }
            received.end()?;
        }
        Ok(opened)
    }
}
