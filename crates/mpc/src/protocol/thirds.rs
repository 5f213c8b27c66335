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

    /// The sharings of tensors of which A and B have summands: each masks its own with what C knows
    /// too. All of them go in one message.
    ///
    /// Hops: 1
    pub(super) fn share_between<const N: usize>(
        &mut self,
        len: usize,
        mut summands: [[Vec<u64>; 2]; N],
    ) -> Result<[Share; N], Error> {
        let ranges = thirds(len);
        let range = |role: Role| ranges[role.third(self.party)].clone();
        let (a, b, c) = (range(Role::A), range(Role::B), range(Role::C));
        let mut shares = [(); N].map(|()| Share {
            own: vec![0; len],
            next: vec![0; len],
        });
        let (mut to_b, mut to_a) = (Vec::new(), Vec::new());
        for (share, [as_a, as_b]) in shares.iter_mut().zip(&mut summands) {
            let random = &mut self.correlated;
            share.own[c.clone()].copy_from_slice(&random.c_with_b(c.len()));
            share.next[c.clone()].copy_from_slice(&random.c_with_a(c.len()));
            share.own[a.clone()].copy_from_slice(&random.a_with_c(a.len()));
            share.next[b.clone()].copy_from_slice(&random.b_with_c(b.len()));
            subtract(as_a, &share.own[a.clone()]);
            subtract(as_b, &share.next[b.clone()]);
            bytes::put(&mut to_b, as_a, WHOLE);
            bytes::put(&mut to_a, as_b, WHOLE);
        }
        self.send(self.partner(Role::A), to_b)?;
        self.send(self.partner(Role::B), to_a)?;
        let mut from_b = self.receive(self.partner(Role::A))?;
        let mut from_a = self.receive(self.partner(Role::B))?;
        for (share, [as_a, as_b]) in shares.iter_mut().zip(&summands) {
            let others = from_b.take(a.len(), WHOLE)?;
            add(&mut share.next[a.clone()], as_a, &others);
            let others = from_a.take(b.len(), WHOLE)?;
            add(&mut share.own[b.clone()], as_b, &others);
        }
        from_b.end()?;
        from_a.end()?;
        Ok(shares)
    }
}

fn subtract(values: &mut [u64], masks: &[u64]) {
    let pairs = values.iter_mut().zip(masks);
    pairs.for_each(|(value, mask)| *value = value.wrapping_sub(*mask));
}

fn add(out: &mut [u64], x: &[u64], y: &[u64]) {
    let sums = x.iter().zip(y).map(|(x, y)| x.wrapping_add(*y));
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum);
}
