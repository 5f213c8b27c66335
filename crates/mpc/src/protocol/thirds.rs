//! Between replicated sharings and thirds of a tensor, in which A and B compute and C deals.

use super::Session;
use super::linear::{Begun, Split, Summands};
use crate::bytes;
use crate::error::Error;
use crate::party::{Role, thirds};
use crate::sharing::Share;
use crate::transport::Transport;

/// Bytes of a whole word.
const WHOLE: usize = 8;

impl<T: Transport> Session<T> {
    /// What summands divided by `2^fraction_bits` are in thirds; `deal` is done as C as early as
    /// can be, with what this party knows as C.
    ///
    /// Hops: 1
    pub(super) fn split(
        &mut self,
        summands: Summands,
        fraction_bits: u32,
        deal: impl FnOnce(&mut Self, &[u32]) -> Result<(), Error>,
    ) -> Result<Split, Error> {
        let begun: Begun = self.begin_split(summands, fraction_bits)?;
        let thirds = thirds(begun.len());
        let c = begun.third(thirds[Role::C.third(self.party)].clone());
        deal(self, &c)?;
        self.end_split(begun)
    }

    /// What a sharing modulo 2^32 is in thirds: `x_i + x_(i+1)` to C, the third summand to A and B.
    ///
    /// Hops: 0
    pub(super) fn split_share(&self, x: &Share) -> Split {
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
        Split(split)
    }

    /// The sharing of what A and B have summands of: each masks its own with what C knows too.
    pub(super) fn share_between(
        &mut self,
        len: usize,
        summands: [Vec<u64>; 2],
    ) -> Result<Share, Error> {
        let (mut own, mut next) = (vec![0; len], vec![0; len]);
        let ranges = thirds(len);
        let c = ranges[Role::C.third(self.party)].clone();
        own[c.clone()].copy_from_slice(&self.correlated.c_with_b(c.len()));
        next[c.clone()].copy_from_slice(&self.correlated.c_with_a(c.len()));
        let roles = [Role::A, Role::B];
        let mut masked = summands;
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
