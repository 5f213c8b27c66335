//! From 32 bits to 64: exact, as what is lifted is known to be small.
//!
//! A sum `a + c mod 2^32` that is below 2^31 passes 2^32 exactly if the highest of the 32 bits of a
//! or of c is set. So
//!
//! ```text
//! x = alpha + gamma,  alpha = a - 2^32 a_31,  gamma = c - 2^32 (1 - a_31) c_31
//! ```
//!
//! with alpha known to A and B, who have summands of gamma once C has dealt c and c_31. Numbers
//! that may be negative are raised by 2^30 before, and lowered after.

use super::Session;
use super::linear::{Split, Summands};
use super::seat::Seat;
use crate::error::Error;
use crate::party::Role;
use crate::planes::BITS;
use crate::sharing::Share;
use crate::transport::Transport;

/// Bytes of a whole word.
const WHOLE: usize = 8;
/// Bytes of what is multiplied by 2^32.
const UPPER: usize = 4;
/// What makes numbers positive.
const RAISED: u32 = 1 << 30;

/// What gamma takes, all of it times a bit: C's own numbers, or summands.
pub(super) struct Gamma {
    /// c
    low: Vec<u64>,
    /// c_31
    top: Vec<u64>,
}

impl Gamma {
    /// Deals for `len` elements; C knows c and the bit of each.
    pub(super) fn new(
        seat: &mut Seat<'_>,
        len: usize,
        c: Option<&[u32]>,
        times: impl Fn(usize) -> u64,
    ) -> Result<Self, Error> {
        let c = c.unwrap_or_default().iter().enumerate();
        let low = || c.clone().map(|(at, c)| times(at) * u64::from(*c)).collect();
        let top = || {
            c.clone()
                .map(|(at, c)| times(at) * u64::from(c >> (BITS - 1)))
                .collect()
        };
        Ok(Self {
            low: seat.deal_numbers(len, WHOLE, low)?,
            top: seat.deal_numbers(len, UPPER, top)?,
        })
    }

    /// A's or B's summand of gamma of an element.
    pub(super) fn summand(&self, at: usize, a: u32) -> u64 {
        let wraps = u64::from(a >> (BITS - 1) == 0) << BITS;
        self.low[at].wrapping_sub(wraps.wrapping_mul(self.top[at]))
    }
}

/// a - 2^32 a_31
pub(super) fn alpha(a: u32) -> u64 {
    i64::from(a as i32) as u64
}

impl<T: Transport> Session<T> {
    /// The sharing of summands divided by `2^fraction_bits`.
    ///
    /// Bounds:   `|z| < 2^(30 + fraction_bits)`; the quotient is rounded up or down
    /// Messages: those of the split; C to B: summands of what C deals, uniform since A's are; A
    ///     and B to each other: masked summands of the result
    /// Hops:     2
    ///
    /// # Errors
    /// As [`Session::relu_of`].
    pub fn quotient(&mut self, summands: Summands, fraction_bits: u32) -> Result<Share, Error> {
        let split = self.split(summands, fraction_bits, |session, c| {
            let mut seat = Seat::new(Role::C, &mut session.correlated, None);
            Gamma::new(&mut seat, c.len(), Some(c), |_| 1)?;
            let message = seat.finish()?;
            session.send(session.party.previous(), message)
        })?;
        self.lift(&split)
    }

    fn lift(&mut self, split: &Split) -> Result<Share, Error> {
        let party = self.party;
        let dealt = self.receive(party.next())?;
        let mut summands = |role, dealt| {
            let a = split.third(party, role);
            let mut seat = Seat::new(role, &mut self.correlated, dealt);
            let gamma = Gamma::new(&mut seat, a.len(), None, |_| 1)?;
            seat.finish()?;
            let summand = |(at, a): (usize, &u32)| {
                let raised = a.wrapping_add(RAISED);
                let own = match role {
                    Role::A => alpha(raised).wrapping_sub(u64::from(RAISED)),
                    _ => 0,
                };
                own.wrapping_add(gamma.summand(at, raised))
            };
            Ok::<Vec<u64>, Error>(a.iter().enumerate().map(summand).collect())
        };
        let both = [summands(Role::A, None)?, summands(Role::B, Some(dealt))?];
        let [share] = self.share_between(split.0.len(), [both])?;
        Ok(share)
    }
}
