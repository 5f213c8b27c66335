//! ReLU: the sign of a split tensor, and its products with the tensor, in 2^64.
//!
//! The sign b is opened to A and B under a random bit r of C, `e = b xor r`. With
//!
//! ```text
//! b = e + (1 - 2e) r
//! x = alpha + gamma,  alpha = a - 2^32 a_31,  gamma = c - 2^32 (1 - a_31) c_31     for 0 <= x
//! ```
//!
//! (a_31 and c_31 are the highest of 32 bits; where a + c mod 2^32 is below 2^31, the sum passes
//! 2^32 exactly if one of them is set), A and B have summands of
//!
//! ```text
//! b x = e alpha + (1 - 2e) alpha r + e gamma + (1 - 2e) r gamma
//! ```
//!
//! once C has dealt r, c, r c, c_31 and r c_31. The result is exact: nothing wraps by chance.

use super::Session;
use super::carry::{FIRST, Masks, SECOND};
use super::linear::{Split, Summands};
use super::seat::Seat;
use crate::bytes::{self, Message};
use crate::error::Error;
use crate::party::{Role, thirds};
use crate::planes::{BITS, Plane, bit, planes, xor};
use crate::sharing::Share;
use crate::transport::Transport;

const WHOLE: usize = 8;
/// Bytes of what is multiplied by 2^32.
const UPPER: usize = 4;

/// What C dealt for one third: its own values, or summands.
struct Dealt {
    masks: Masks,
    /// r
    flips: Vec<u64>,
    /// c
    low: Vec<u64>,
    /// r c
    low_flipped: Vec<u64>,
    /// c_31
    top: Vec<u64>,
    /// r c_31
    top_flipped: Vec<u64>,
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
        let c = c.unwrap_or_default();
        let flip = |at: usize| bit(&masks.sign, at);
        let of = |value: &dyn Fn(usize) -> u64| (0..len).map(value).collect::<Vec<u64>>();
        let top = |at: usize| u64::from(c[at] >> (BITS - 1));
        let flips = seat.deal_numbers(len, WHOLE, || of(&flip))?;
        let low = seat.deal_numbers(len, WHOLE, || of(&|at| u64::from(c[at])))?;
        let low_flipped =
            seat.deal_numbers(len, WHOLE, || of(&|at| flip(at) * u64::from(c[at])))?;
        let top_bits = seat.deal_numbers(len, UPPER, || of(&top))?;
        let top_flipped = seat.deal_numbers(len, UPPER, || of(&|at| flip(at) * top(at)))?;
        Ok(Self {
            masks,
            flips,
            low,
            low_flipped,
            top: top_bits,
            top_flipped,
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
            let alpha = i64::from(a as i32) as u64;
            let wraps = u64::from(a >> (BITS - 1) == 0) << BITS;
            let gamma = dealt.low[at].wrapping_sub(wraps.wrapping_mul(dealt.top[at]));
            let flipped =
                dealt.low_flipped[at].wrapping_sub(wraps.wrapping_mul(dealt.top_flipped[at]));
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
    /// Those of the transport, [`Error::Message`].
    pub fn relu_of(&mut self, summands: Summands, fraction_bits: u32) -> Result<Share, Error> {
        let begun = self.begin_split(summands, fraction_bits)?;
        let thirds = thirds(begun.len());
        let c = begun.third(thirds[Role::C.third(self.party)].clone());
        self.deal(&c)?;
        let split = self.end_split(begun)?;
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
        let mut split = vec![0; x.len()];
        for role in [Role::A, Role::B, Role::C] {
            let range = thirds(x.len())[role.third(self.party)].clone();
            for at in range {
                split[at] = match role {
                    Role::A => x.next[at],
                    Role::B => x.own[at],
                    Role::C => x.own[at].wrapping_add(x.next[at]),
                } as u32;
            }
        }
        let c = split[thirds(x.len())[Role::C.third(self.party)].clone()].to_vec();
        self.deal(&c)?;
        self.rectify(&Split(split))
    }

    /// As C, everything that B needs, in one message.
    fn deal(&mut self, c: &[u32]) -> Result<(), Error> {
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
        self.share_selected(split.0.len(), selected)
    }

    /// The thirds in which this party is A and B, with what C dealt.
    fn seated(&mut self, split: &Split) -> Result<[Third; 2], Error> {
        let dealt = Message::new(
            self.party.next(),
            self.transport.receive(self.party.next())?,
        );
        let mut third = |role: Role, dealt: Option<Message>| {
            let range = thirds(split.0.len())[role.third(self.party)].clone();
            let a = split.0[range].to_vec();
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

    /// The sharing of what A and B have summands of: each masks its own with what C knows too.
    fn share_selected(&mut self, len: usize, selected: [Vec<u64>; 2]) -> Result<Share, Error> {
        let (mut own, mut next) = (vec![0; len], vec![0; len]);
        let ranges = thirds(len);
        let c = ranges[Role::C.third(self.party)].clone();
        own[c.clone()].copy_from_slice(&self.correlated.c_with_b(c.len()));
        next[c.clone()].copy_from_slice(&self.correlated.c_with_a(c.len()));
        let roles = [Role::A, Role::B];
        let mut masked = selected;
        for (role, values) in roles.into_iter().zip(&mut masked) {
            let range = ranges[role.third(self.party)].clone();
            let (mask, place) = match role {
                Role::A => (self.correlated.a_with_c(range.len()), &mut own),
                _ => (self.correlated.b_with_c(range.len()), &mut next),
            };
            let pairs = values.iter_mut().zip(&mask);
            pairs.for_each(|(value, mask)| *value = value.wrapping_sub(*mask));
            place[range].copy_from_slice(&mask);
            let mut message = Vec::new();
            bytes::put(&mut message, values, WHOLE);
            self.send(self.partner(role), message)?;
        }
        for (role, values) in roles.into_iter().zip(masked) {
            let range = ranges[role.third(self.party)].clone();
            let mut received = self.receive(self.partner(role))?;
            let others = received.take(values.len(), WHOLE)?;
            received.end()?;
            let sums = values.iter().zip(&others).map(|(x, y)| x.wrapping_add(*y));
            let place = if role == Role::A { &mut next } else { &mut own };
            place[range]
                .iter_mut()
                .zip(sums)
                .for_each(|(out, sum)| *out = sum);
        }
        Ok(Share { own, next })
    }
}
