//! ReLU: the sign of a split tensor, and its products with the tensor, in 2^64.
//!
//! The sign b is opened to A and B under a random bit r of C, `e = b xor r`. With
//!
//! ```text
//! b = e + (1 - 2e) r
//! x = alpha + gamma      for 0 <= x, as in [`super::lift`]
//! ```
//!
//! A and B have summands of
//!
//! ```text
//! b x = e alpha + (1 - 2e) alpha r + e gamma + (1 - 2e) r gamma
//! ```
//!
//! once C has dealt r and what gamma and r gamma take. The result is exact: nothing wraps by
//! chance.

use super::Session;
use super::carry::{FIRST, Masks, SECOND};
use super::lift::{Gamma, alpha};
use super::linear::{Split, Summands};
use super::seat::Seat;
use crate::bytes::{self, Message};
use crate::error::Error;
use crate::party::Role;
use crate::planes::{Plane, bit, planes, xor};
use crate::sharing::Share;
use crate::transport::Transport;

const WHOLE: usize = 8;

/// What C dealt for one third: its own values, or summands.
struct Dealt {
    masks: Masks,
    /// r
    flips: Vec<u64>,
    /// Of c.
    gamma: Gamma,
    /// Of r c.
    flipped: Gamma,
}

/// One third in the hands of A or B.
struct Third {
    role: Role,
    dealt: Dealt,
    a: Vec<u32>,
    places: Vec<Plane>,
}

impl Dealt {
    fn new(seat: &mut Seat<'_>, len: usize, c: Option<&[u32]>) -> Result<Self, Error> {
        let words = len.div_ceil(64);
        let masks = Masks::new(seat, words, c.map(planes))?;
        let flip = |at: usize| bit(&masks.sign, at);
        let flips = seat.deal_numbers(len, WHOLE, || (0..len).map(flip).collect())?;
        let gamma = Gamma::new(seat, len, c, |_| 1)?;
        let flipped = Gamma::new(seat, len, c, flip)?;
        Ok(Self {
            masks,
            flips,
            gamma,
            flipped,
        })
    }
}

impl Third {
    /// The summands of b x, for the opened `e`.
    fn selected(&self, opened: &Plane) -> Vec<u64> {
        let dealt = &self.dealt;
        let selected = |(at, &a): (usize, &u32)| {
            let e = bit(opened, at);
            let sign = 1u64.wrapping_sub(2 * e);
            let alpha = alpha(a);
            let (gamma, flipped) = (dealt.gamma.summand(at, a), dealt.flipped.summand(at, a));
            let public = match self.role {
                Role::A => e.wrapping_mul(alpha),
                _ => 0,
            };
            let with_flip = alpha.wrapping_mul(dealt.flips[at]).wrapping_add(flipped);
            public
                .wrapping_add(e.wrapping_mul(gamma))
                .wrapping_add(sign.wrapping_mul(with_flip))
        };
        self.a.iter().enumerate().map(selected).collect()
    }
}

impl<T: Transport> Session<T> {
    /// ReLU of summands divided by `2^fraction_bits`.
    ///
    /// Bounds:   `|z| < 2^(31 + fraction_bits)`; the quotient is rounded up or down
    /// Messages: those of the split; C to B: summands of what C deals, uniform since A's are; A
    ///     and B to each other: masked bits, uniform since C's masks are to them, and masked
    ///     summands of the result
    /// Hops:     5
    ///
    /// # Errors
    /// Those of the transport, [`Error::Message`]; [`Error::FractionBits`] for more than 32.
    pub fn relu_of(&mut self, summands: Summands, fraction_bits: u32) -> Result<Share, Error> {
        let split = self.split(summands, fraction_bits, Self::deal_signs)?;
        self.rectify(&split)
    }

    /// ReLU of a shared tensor, of which nothing has to be exchanged first.
    ///
    /// Bounds: `|x| < 2^31`
    /// Hops:   5, of which the first carries what C deals
    ///
    /// # Errors
    /// As [`Session::relu_of`].
    pub fn relu(&mut self, x: &Share) -> Result<Share, Error> {
        let split = self.split_share(x);
        self.deal_signs(split.third(self.party, Role::C))?;
        self.rectify(&split)
    }

    /// The larger one of each two elements: `y + ReLU(x - y)`.
    ///
    /// Bounds: `|x - y| < 2^31`
    /// Hops:   5
    ///
    /// # Errors
    /// As [`Session::relu_of`], and [`Error::Length`].
    pub fn maximum(&mut self, x: &Share, y: &Share) -> Result<Share, Error> {
        let larger_by = self.relu(&x.minus(y)?)?;
        larger_by.plus(y)
    }

    /// As C, everything that B needs, in one message.
    fn deal_signs(&mut self, c: &[u32]) -> Result<(), Error> {
        let mut seat = Seat::new(Role::C, &mut self.correlated, None);
        Dealt::new(&mut seat, c.len(), Some(c))?;
        let message = seat.finish()?;
        self.send(self.party.previous(), message)
    }

    fn rectify(&mut self, split: &Split) -> Result<Share, Error> {
        let thirds = self.seated(split)?;
        let first = thirds
            .each_ref()
            .map(|t| t.dealt.masks.first(t.role, &t.places));
        let first = self.opened(&thirds, first, FIRST)?;
        let second = [0, 1].map(|i| thirds[i].dealt.masks.second(thirds[i].role, &first[i]));
        let second = self.opened(&thirds, second, SECOND)?;
        let third = [0, 1].map(|i| {
            let third = &thirds[i];
            vec![
                third
                    .dealt
                    .masks
                    .third(third.role, &third.places, &second[i]),
            ]
        });
        let signs = self.opened(&thirds, third, 1)?;
        let selected = [0, 1].map(|i| thirds[i].selected(&signs[i][0]));
        self.share_between(split.0.len(), selected)
    }

    /// The thirds in which this party is A and B, with what C dealt.
    fn seated(&mut self, split: &Split) -> Result<[Third; 2], Error> {
        let party = self.party;
        let dealt = self.receive(party.next())?;
        let mut third = |role: Role, dealt: Option<Message>| {
            let a = split.third(party, role).to_vec();
            let mut seat = Seat::new(role, &mut self.correlated, dealt);
            let dealt = Dealt::new(&mut seat, a.len(), None)?;
            seat.finish()?;
            let places = planes(&a);
            Ok::<_, Error>(Third {
                role,
                dealt,
                a,
                places,
            })
        };
        Ok([third(Role::A, None)?, third(Role::B, Some(dealt))?])
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
