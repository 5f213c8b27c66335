//! Whole numbers where a sign says so, and the position of the largest of several.

use super::Session;
use super::seat::Seat;
use super::sign::Signs;
use crate::error::Error;
use crate::party::{Role, thirds};
use crate::sharing::{Share, check_length};
use crate::transport::Transport;

/// Bytes of a whole word.
const WHOLE: usize = 8;

/// What a product of signs and numbers modulo 2^64 takes: gamma and r gamma.
struct Numbers {
    gamma: Vec<u64>,
    flipped: Vec<u64>,
}

impl Numbers {
    /// C knows gamma and r.
    fn new(
        seat: &mut Seat<'_>,
        len: usize,
        known: Option<(&[u64], &Signs)>,
    ) -> Result<Self, Error> {
        let (gamma, signs) = known.unzip();
        let gamma = gamma.unwrap_or_default();
        let flip = |at| signs.map_or(0, |signs| signs.flip(at));
        let flipped = || {
            (0..)
                .zip(gamma)
                .map(|(at, gamma)| flip(at) * gamma)
                .collect()
        };
        Ok(Self {
            gamma: seat.deal_numbers(len, WHOLE, || gamma.to_vec())?,
            flipped: seat.deal_numbers(len, WHOLE, flipped)?,
        })
    }
}

impl<T: Transport> Session<T> {
    /// Elements of tensors where those of `x` are not negative, 0 elsewhere.
    ///
    /// Bounds:   `|x| < 2^31`; the tensors are any numbers modulo 2^64
    /// Messages: as [`Session::relu`]
    /// Hops:     5
    ///
    /// # Errors
    /// As [`Session::relu`], and [`Error::Length`].
    pub fn where_not_negative<const N: usize>(
        &mut self,
        x: &Share,
        tensors: [&Share; N],
    ) -> Result<[Share; N], Error> {
        tensors
            .iter()
            .try_for_each(|t| check_length(t.len(), x.len()))?;
        self.deal_selection(x, &tensors)?;
        let split = self.split_share(x);
        let (seats, numbers) = self.seated(&split, |seat, len| {
            let numbers = tensors.iter().map(|_| Numbers::new(seat, len, None));
            numbers.collect::<Result<Vec<_>, _>>()
        })?;
        let opened = self.open_signs(&seats)?;
        let ranges = thirds(x.len());
        let mut tensor = 0;
        let products = tensors.map(|values| {
            let products = [0, 1].map(|i| {
                let (seat, numbers) = (&seats[i], &numbers[i][tensor]);
                let known = match seat.role {
                    Role::A => &values.next,
                    _ => &values.own,
                };
                let alpha = &known[ranges[seat.role.third(self.party)].clone()];
                let product = |(at, &alpha): (usize, &u64)| {
                    let gamma = [numbers.gamma[at], numbers.flipped[at]];
                    seat.product(&opened[i], at, alpha, gamma)
                };
                alpha.iter().enumerate().map(product).collect()
            });
            tensor += 1;
            products
        });
        self.share_between(x.len(), products)
    }

    /// As C, everything that B needs, in one message.
    fn deal_selection(&mut self, x: &Share, tensors: &[&Share]) -> Result<(), Error> {
        let third = thirds(x.len())[Role::C.third(self.party)].clone();
        let split = self.split_share(x);
        let c = split.third(self.party, Role::C);
        let mut seat = Seat::new(Role::C, &mut self.correlated, None);
        let signs = Signs::new(&mut seat, c.len(), Some(c))?;
        for tensor in tensors {
            let summands = tensor.own[third.clone()]
                .iter()
                .zip(&tensor.next[third.clone()]);
            let gamma: Vec<u64> = summands.map(|(x, y)| x.wrapping_add(*y)).collect();
            Numbers::new(&mut seat, c.len(), Some((&gamma, &signs)))?;
        }
        let message = seat.finish()?;
        self.send(self.party.previous(), message)
    }

    /// For every row of `classes` elements the position of the largest, the first of equal ones:
    /// what a client learns who is to learn no more than a label.
    ///
    /// Pairs of neighbours play, and the winners again, with their positions.
    ///
    /// Bounds: differences within a row are below 2^31
    /// Hops:   5 log2 classes, rounded up
    ///
    /// # Errors
    /// As [`Session::relu`]; [`Error::Length`] unless rows are whole and have elements.
    pub fn argmax(&mut self, x: &Share, classes: usize) -> Result<Share, Error> {
        let rows = x.len() / classes.max(1);
        check_length(x.len(), rows * classes)?;
        let positions: Vec<u64> = (0..rows).flat_map(|_| 0..classes as u64).collect();
        let mut values = x.clone();
        let mut places = Share::public(self.party, &positions);
        let mut left = classes;
        while left > 1 {
            let (pairs, odd) = (left / 2, left % 2);
            let at = |start: usize, step: usize, count: usize| -> Vec<usize> {
                let row = |row: usize| (0..count).map(move |i| row * left + start + step * i);
                (0..rows).flat_map(row).collect()
            };
            let (first, second, last) = (at(0, 2, pairs), at(1, 2, pairs), at(left - 1, 1, odd));
            let differences = [&values, &places].map(|tensor| {
                let second = tensor.gather(&second)?;
                Ok::<_, Error>((tensor.gather(&first)?.minus(&second)?, second))
            });
            let [value, place] = differences;
            let ((value, other_value), (place, other_place)) = (value?, place?);
            let won = self.where_not_negative(&value, [&value, &place])?;
            let [value, place] = won;
            let join = |winners: Share, tensor: &Share| -> Result<Share, Error> {
                winners.beside(&tensor.gather(&last)?, rows)
            };
            values = join(value.plus(&other_value)?, &values)?;
            places = join(place.plus(&other_place)?, &places)?;
            left = pairs + odd;
        }
        Ok(places)
    }
}
