//! What the three roles draw and deal, by one procedure that all of them follow.

use crate::bytes::{self, Message};
use crate::error::Error;
use crate::party::Role;
use crate::planes::{Plane, xor};
use crate::randomness::Correlated;

/// Bytes of a whole word.
const WHOLE: usize = 8;

/// A role with its randomness, and the one message in which C deals to B.
pub(super) struct Seat<'a> {
    pub(super) role: Role,
    correlated: &'a mut Correlated,
    /// What C has dealt so far.
    outgoing: Vec<u8>,
    /// What B was dealt.
    incoming: Option<Message>,
}

impl<'a> Seat<'a> {
    /// `dealt` is what B got from C.
    pub(super) fn new(role: Role, correlated: &'a mut Correlated, dealt: Option<Message>) -> Self {
        Self {
            role,
            correlated,
            outgoing: Vec::new(),
            incoming: dealt,
        }
    }

    /// A uniform mask: A and B get summands modulo 2 of what C gets.
    pub(super) fn mask(&mut self, words: usize) -> Plane {
        match self.role {
            Role::A => self.correlated.a_with_c(words),
            Role::B => self.correlated.b_with_c(words),
            Role::C => {
                let with_a = self.correlated.c_with_a(words);
                xor(&with_a, &self.correlated.c_with_b(words))
            }
        }
    }

    /// Bits that C knows: A and B get summands modulo 2, C gets the bits.
    pub(super) fn deal_bits(
        &mut self,
        words: usize,
        bits: impl FnOnce() -> Plane,
    ) -> Result<Plane, Error> {
        self.deal(words, WHOLE, bits, |bit, summand| bit ^ summand)
    }

    /// Numbers that C knows: A and B get summands modulo 256^`width`, C gets the numbers.
    pub(super) fn deal_numbers(
        &mut self,
        count: usize,
        width: usize,
        numbers: impl FnOnce() -> Vec<u64>,
    ) -> Result<Vec<u64>, Error> {
        self.deal(count, width, numbers, u64::wrapping_sub)
    }

    fn deal(
        &mut self,
        count: usize,
        width: usize,
        values: impl FnOnce() -> Vec<u64>,
        less: impl Fn(u64, u64) -> u64,
    ) -> Result<Vec<u64>, Error> {
        match self.role {
            Role::A => Ok(self.correlated.a_with_c(count)),
            Role::B => match &mut self.incoming {
                Some(message) => message.take(count, width),
                None => Ok(Vec::new()),
            },
            Role::C => {
                let values = values();
                let summands = self.correlated.c_with_a(count);
                let rest = values.iter().zip(&summands).map(|(v, s)| less(*v, *s));
                bytes::put(&mut self.outgoing, &rest.collect::<Vec<_>>(), width);
                Ok(values)
            }
        }
    }

    /// The message of C to B, at the end; that B's is used up.
    pub(super) fn finish(self) -> Result<Vec<u8>, Error> {
        if let Some(message) = self.incoming {
            message.end()?;
        }
        Ok(self.outgoing)
    }
}
