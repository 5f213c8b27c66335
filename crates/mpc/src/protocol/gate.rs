//! Products of several masked bits without a message.
//!
//! A bit v is masked: A and B know `m = v + l mod 2`, C knows l, of which A and B hold summands. A
//! product of bits is a sum over subsets of products of m, which are public to A and B, times
//! products of l, of which C deals summands: A and B get summands of the product each by itself.
//!
//! Math:   prod_(j in T) v_j = sum_(S in T) prod_(j in T - S) m_j prod_(j in S) l_j  mod 2
//! Source: Patra, Schneider, Suresh, Yalame 2021, "ABY2.0", section 3.1.4 (two parties); Chaudhari,
//!     Choudhury, Patra, Suresh 2019, "ASTRA" (three parties, products of two)

use super::seat::Seat;
use crate::error::Error;
use crate::party::Role;
use crate::planes::{Plane, and_assign};

/// Words that are worked on at once.
const LANES: usize = 8;
/// Most factors of a product.
const FACTORS_MAX: usize = 4;

/// Variables, one bit each.
pub(super) type Monomial = u8;

/// The masks of some variables and of their products: C's own, or a summand of them.
pub(super) struct Gate {
    masks: Vec<Plane>,
    products: Vec<(Monomial, Plane)>,
}

impl Gate {
    /// Deals what the products `monomials` of variables with these masks take.
    pub(super) fn new(
        seat: &mut Seat<'_>,
        masks: Vec<Plane>,
        monomials: &[Monomial],
    ) -> Result<Self, Error> {
        let words = masks.first().map_or(0, Vec::len);
        let inside = |set: &Monomial| monomials.iter().any(|monomial| set & !monomial == 0);
        let sets = (1..=Monomial::MAX >> (Monomial::BITS as usize - masks.len()))
            .filter(|set| set.count_ones() > 1)
            .filter(inside);
        let mut products = Vec::new();
        for set in sets {
            let product = || {
                let mut product = vec![!0; words];
                let factors = masks.iter().enumerate().filter(|(j, _)| set >> j & 1 == 1);
                factors.for_each(|(_, mask)| and_assign(&mut product, mask));
                product
            };
            products.push((set, seat.deal_bits(words, product)?));
        }
        Ok(Self { masks, products })
    }

    /// The party's summand of a product of at most [`FACTORS_MAX`] variables; `masked` are all.
    pub(super) fn product(&self, role: Role, masked: &[&[u64]], monomial: Monomial) -> Plane {
        let variables: Vec<usize> = (0..self.masks.len())
            .filter(|j| monomial >> j & 1 == 1)
            .collect();
        // By sets of the monomial's variables, numbered among themselves.
        let masks: Vec<Option<&Plane>> = (0..1 << variables.len())
            .map(|set| self.mask(&variables, set))
            .collect();
        let ones = if role == Role::A { !0 } else { 0 };
        let words = self.masks.first().map_or(0, Vec::len);
        let mut product = vec![0; words];
        for (at, out) in product.chunks_mut(LANES).enumerate() {
            let lanes = |plane: &[u64]| lanes(plane, at * LANES, out.len());
            let mut table = [[0; LANES]; 1 << FACTORS_MAX];
            for (entry, mask) in table.iter_mut().zip(&masks) {
                *entry = mask.map_or([ones; LANES], |mask| lanes(mask));
            }
            for (bit, &variable) in variables.iter().enumerate().rev() {
                let factor = lanes(masked[variable]);
                let (without, with) = table.split_at_mut(1 << bit);
                for (entry, with) in without.iter_mut().zip(with) {
                    let joined = entry.iter_mut().zip(with.iter()).zip(&factor);
                    joined.for_each(|((entry, with), factor)| *entry = *entry & factor ^ with);
                }
            }
            out.copy_from_slice(&table[0][..out.len()]);
        }
        product
    }

    /// The mask of a set of the variables, nothing for the empty one.
    fn mask(&self, variables: &[usize], set: usize) -> Option<&Plane> {
        let chosen = (0..variables.len()).filter(|bit| set >> bit & 1 == 1);
        let chosen: Vec<usize> = chosen.map(|bit| variables[bit]).collect();
        match chosen[..] {
            [] => None,
            [single] => Some(&self.masks[single]),
            _ => {
                let wanted = chosen.iter().fold(0, |set, j| set | 1 << j);
                let found = self.products.iter().find(|(set, _)| *set == wanted);
                Some(
                    &found
                        .unwrap_or_else(|| unreachable!("all subsets are dealt"))
                        .1,
                )
            }
        }
    }
}

/// Words of a plane from `start` on, `len` of them.
fn lanes(plane: &[u64], start: usize, len: usize) -> [u64; LANES] {
    let mut lanes = [0; LANES];
    lanes[..len].copy_from_slice(&plane[start..start + len]);
    lanes
}
