//! Replicated sharings of tensors modulo 2^64.

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::Error;
use crate::party::Party;

/// One party's part of a tensor `x = x_0 + x_1 + x_2 mod 2^64`: party i holds `x_i` and `x_(i+1)`.
///
/// Any two parties know the tensor, any one of them two uniform summands.
///
/// Source: Araki et al. 2016, section 2
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Share {
    /// x_i
    pub(crate) own: Vec<u64>,
    /// x_(i+1)
    pub(crate) next: Vec<u64>,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share {{ {} elements }}", self.own.len())
    }
}

impl Share {
    /// Cuts a tensor into the parts of all parties.
    pub fn deal(values: &[u64], rng: &mut impl CryptoRng) -> [Self; 3] {
        let mut uniform = || -> Vec<u64> { values.iter().map(|_| rng.next_u64()).collect() };
        let (x0, x1) = (uniform(), uniform());
        let rest = values.iter().zip(&x0).zip(&x1);
        let x2: Vec<u64> = rest
            .map(|((x, x0), x1)| x.wrapping_sub(*x0).wrapping_sub(*x1))
            .collect();
        let part = |own: &Vec<u64>, next: &Vec<u64>| Self {
            own: own.clone(),
            next: next.clone(),
        };
        [part(&x0, &x1), part(&x1, &x2), part(&x2, &x0)]
    }

    /// The tensor, from the parts of two neighbours.
    ///
    /// # Errors
    /// [`Error::Length`] for parts of different tensors, [`Error::Inconsistent`] if what both hold
    /// differs.
    pub fn open(party: &Self, after: &Self) -> Result<Vec<u64>, Error> {
        check_length(after.len(), party.len())?;
        if party.next != after.own {
            return Err(Error::Inconsistent);
        }
        let summands = party.own.iter().zip(&party.next).zip(&after.next);
        let sum = |((x, y), z): ((&u64, &u64), &u64)| x.wrapping_add(*y).wrapping_add(*z);
        Ok(summands.map(sum).collect())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.own.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// The elements at some positions, in their order: windows of an image, a transpose, copies.
    ///
    /// # Errors
    /// [`Error::NoElement`].
    pub fn gather(&self, positions: &[usize]) -> Result<Self, Error> {
        let beyond = positions.iter().find(|&&at| at >= self.len());
        if let Some(&found) = beyond {
            let bound = self.len();
            return Err(Error::NoElement { found, bound });
        }
        let gather = |x: &[u64]| positions.iter().map(|&at| x[at]).collect();
        Ok(Self {
            own: gather(&self.own),
            next: gather(&self.next),
        })
    }

    /// A tensor that everybody knows.
    pub fn public(party: Party, values: &[u64]) -> Self {
        let of = |holder: bool| match holder {
            true => values.to_vec(),
            false => vec![0; values.len()],
        };
        Self {
            own: of(party == Party::P0),
            next: of(party == Party::P2),
        }
    }

    /// Each of `rows` rows of a tensor with that of another behind it.
    pub(crate) fn beside(&self, other: &Self, rows: usize) -> Result<Self, Error> {
        let widths = [self, other].map(|tensor| tensor.len() / rows.max(1));
        check_length(self.len() + other.len(), rows * (widths[0] + widths[1]))?;
        let join = |x: &[u64], y: &[u64]| -> Vec<u64> {
            let row = |row: usize| {
                let [x, y] = [(x, widths[0]), (y, widths[1])]
                    .map(|(values, width)| &values[row * width..(row + 1) * width]);
                x.iter().chain(y)
            };
            (0..rows).flat_map(row).copied().collect()
        };
        Ok(Self {
            own: join(&self.own, &other.own),
            next: join(&self.next, &other.next),
        })
    }

    /// The sum of two tensors.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn plus(&self, other: &Self) -> Result<Self, Error> {
        self.with(other, u64::wrapping_add)
    }

    /// The difference of two tensors.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn minus(&self, other: &Self) -> Result<Self, Error> {
        self.with(other, u64::wrapping_sub)
    }

    fn with(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Result<Self, Error> {
        check_length(other.len(), self.len())?;
        let each = |x: &[u64], y: &[u64]| x.iter().zip(y).map(|(x, y)| combine(*x, *y)).collect();
        Ok(Self {
            own: each(&self.own, &other.own),
            next: each(&self.next, &other.next),
        })
    }

    /// The tensor with public numbers added.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn plus_public(&self, party: Party, public: &[u64]) -> Result<Self, Error> {
        self.plus(&Self::public(party, public))
    }
}

pub(crate) fn check_length(found: usize, expected: usize) -> Result<(), Error> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::Length { found, expected }),
    }
}
