//! ReLU: the sign of a split tensor times the tensor, lifted from 32 bits to 64 as in
//! [`super::lift`]. The result is exact: nothing wraps by chance.

use super::Session;
use super::lift::{Gamma, alpha};
use super::linear::{Split, Summands};
use super::seat::Seat;
use super::sign::Signs;
use crate::error::Error;
use crate::party::Role;
use crate::sharing::Share;
use crate::transport::Transport;

/// What the lifted tensor takes: gamma, and r gamma.
struct Lifted([Gamma; 2]);

impl Lifted {
    fn new(seat: &mut Seat<'_>, len: usize, c: Option<(&[u32], &Signs)>) -> Result<Self, Error> {
        let (c, signs) = c.unzip();
        let flip = |at| signs.map_or(0, |signs| signs.flip(at));
        let plain = Gamma::new(seat, len, c, |_| 1)?;
        Ok(Self([plain, Gamma::new(seat, len, c, flip)?]))
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
        let split = self.split(summands, fraction_bits, Self::deal_relu)?;
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
        self.deal_relu(split.third(self.party, Role::C))?;
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
    fn deal_relu(&mut self, c: &[u32]) -> Result<(), Error> {
        let mut seat = Seat::new(Role::C, &mut self.correlated, None);
        let signs = Signs::new(&mut seat, c.len(), Some(c))?;
        Lifted::new(&mut seat, c.len(), Some((c, &signs)))?;
        let message = seat.finish()?;
        self.send(self.party.previous(), message)
    }

    fn rectify(&mut self, split: &Split) -> Result<Share, Error> {
        let deal = |seat: &mut Seat<'_>, len| Lifted::new(seat, len, None);
        let (thirds, lifted) = self.seated(split, deal)?;
        let opened = self.open_signs(&thirds)?;
        let products = [0, 1].map(|i| {
            let product = |(at, &a): (usize, &u32)| {
                let gamma = lifted[i].0.each_ref().map(|gamma| gamma.summand(at, a));
                thirds[i].product(&opened[i], at, alpha(a), gamma)
            };
            thirds[i].a.iter().enumerate().map(product).collect()
        });
        let [share] = self.share_between(split.0.len(), [products])?;
        Ok(share)
    }
}
