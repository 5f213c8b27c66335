//! The sign of `a + c mod 2^32`, `a` known to A and B, `c` to C: a carry in three hops.
//!
//! Bit i of a and of c give `p_i = a_i + c_i mod 2`, masked by c_i as it is, so that nothing has to
//! be sent for it. Where p_i is 0 the carry out of place i is a_i, else it is the carry in:
//!
//! ```text
//! out = a_i + p_i (in + a_i)
//! four places:  out = G + P in,  P = p_3 p_2 p_1 p_0,
//!     G = a_3 + p_3 (a_3 + a_2) + p_3 p_2 (a_2 + a_1) + p_3 p_2 p_1 (a_1 + a_0) + P a_0
//! ```
//!
//! modulo 2. Two hops join eight groups of places, a third opens the sign under a mask.

use super::gate::{Gate, Monomial};
use super::seat::Seat;
use crate::error::Error;
use crate::party::Role;
use crate::planes::{BITS, Plane, and_assign, xor, xor_assign};

/// Places of a group.
const GROUP: usize = 4;
/// Groups of the places below the sign's.
const GROUPS: usize = (BITS - 1).div_ceil(GROUP);
/// Groups of a half.
const HALF: usize = GROUPS / 2;
/// Planes that A and B open in the first hop: G of all groups, P of all but the lowest.
pub(super) const FIRST: usize = 2 * GROUPS - 1;
/// In the second hop: G of both halves, P of the upper one.
pub(super) const SECOND: usize = 3;

/// Of variables P_3, P_2, P_1, G_0, G_1, G_2 of a half: the products in its G beside G_3.
const GENERATE: [Monomial; 3] = [0b10_0001, 0b01_0011, 0b00_1111];
/// With P_0 as the seventh variable, the product in P.
const PROPAGATE: Monomial = 0b100_0111;
/// Of variables P and G of the upper and of the lower half: P G.
const LAST: Monomial = 0b11;

/// The masks of every bit on the way, and what products of them take: C's own, or summands.
pub(super) struct Masks {
    /// c
    places: Vec<Plane>,
    groups: Vec<Gate>,
    first: Vec<Plane>,
    halves: [Gate; 2],
    second: Vec<Plane>,
    last: Gate,
    /// Of the sign.
    pub(super) sign: Plane,
}

impl Masks {
    /// Draws and deals for `words` words; C knows the places of c.
    pub(super) fn new(
        seat: &mut Seat<'_>,
        words: usize,
        c: Option<Vec<Plane>>,
    ) -> Result<Self, Error> {
        let mut c = c.unwrap_or_default().into_iter();
        let mut places = Vec::with_capacity(BITS);
        for _ in 0..BITS {
            places.push(seat.deal_bits(words, || c.next().unwrap_or_default())?);
        }
        let mut groups = Vec::with_capacity(GROUPS);
        for group in places[..BITS - 1].chunks(GROUP) {
            let highest_first: Vec<Plane> = group.iter().rev().cloned().collect();
            groups.push(Gate::new(seat, highest_first, &prefixes(group.len()))?);
        }
        let first: Vec<Plane> = (0..FIRST).map(|_| seat.mask(words)).collect();
        let [lower, upper] = [0, 1].map(|half| variables(&first, half));
        let all = |more: &[Monomial]| [&GENERATE[..], more].concat();
        let halves = [
            Gate::new(seat, owned(&lower), &all(&[]))?,
            Gate::new(seat, owned(&upper), &all(&[PROPAGATE]))?,
        ];
        let second: Vec<Plane> = (0..SECOND).map(|_| seat.mask(words)).collect();
        let last = Gate::new(seat, owned(&joined(&second)), &[LAST])?;
        let sign = seat.mask(words);
        Ok(Self {
            places,
            groups,
            first,
            halves,
            second,
            last,
            sign,
        })
    }

    /// Summands of the first hop, masked.
    pub(super) fn first(&self, role: Role, a: &[Plane]) -> Vec<Plane> {
        let places = a[..BITS - 1].chunks(GROUP);
        let (mut generates, mut propagates) = (Vec::new(), Vec::new());
        for (gate, a) in self.groups.iter().zip(places) {
            let (generate, propagate) = group(gate, role, a);
            generates.push(generate);
            propagates.push(propagate);
        }
        generates.extend(propagates.into_iter().skip(1));
        masked(generates, &self.first)
    }

    /// Those of the second, from what the first opened.
    pub(super) fn second(&self, role: Role, opened: &[Plane]) -> Vec<Plane> {
        let generate = |half: usize| {
            let variables = variables(opened, half);
            let top = half * HALF + HALF - 1;
            let mut sum = summand(role, &opened[top], &self.first[top]);
            for monomial in GENERATE {
                let product = self.halves[half].product(role, &variables, monomial);
                xor_assign(&mut sum, &product);
            }
            sum
        };
        let upper = variables(opened, 1);
        let propagate = self.halves[1].product(role, &upper, PROPAGATE);
        masked(vec![generate(0), generate(1), propagate], &self.second)
    }

    /// Those of the third: 1 where the sum is not negative.
    pub(super) fn third(&self, role: Role, a: &[Plane], opened: &[Plane]) -> Plane {
        let mut sum = self.last.product(role, &joined(opened), LAST);
        xor_assign(&mut sum, &summand(role, &opened[1], &self.second[1]));
        xor_assign(&mut sum, &self.places[BITS - 1]);
        if role == Role::A {
            let not: Plane = a[BITS - 1].iter().map(|word| !word).collect();
            xor_assign(&mut sum, &not);
        }
        xor(&sum, &self.sign)
    }
}

/// G and P of a group of places.
fn group(gate: &Gate, role: Role, a: &[Plane]) -> (Plane, Plane) {
    let highest_first: Vec<&[u64]> = a.iter().rev().map(|plane| &plane[..]).collect();
    let mut generate = match role {
        Role::A => highest_first[0].to_vec(),
        _ => vec![0; highest_first[0].len()],
    };
    let mut propagate = Vec::new();
    for (at, monomial) in prefixes(a.len()).into_iter().enumerate() {
        propagate = gate.product(role, &highest_first, monomial);
        let mut term = propagate.clone();
        let factor = match highest_first.get(at + 1) {
            Some(below) => xor(highest_first[at], below),
            None => highest_first[at].to_vec(),
        };
        and_assign(&mut term, &factor);
        xor_assign(&mut generate, &term);
    }
    (generate, propagate)
}

/// Products of the first 1, 2, ... of so many variables.
fn prefixes(variables: usize) -> Vec<Monomial> {
    (1..=variables).map(|count| (1 << count) - 1).collect()
}

/// P_3, P_2, P_1, G_0, G_1, G_2 of a half, and P_0 of the upper one.
fn variables(first: &[Plane], half: usize) -> Vec<&[u64]> {
    let generate = |group: usize| &first[half * HALF + group][..];
    let propagate = |group: usize| &first[GROUPS - 1 + half * HALF + group][..];
    let mut variables = vec![
        propagate(3),
        propagate(2),
        propagate(1),
        generate(0),
        generate(1),
        generate(2),
    ];
    if half == 1 {
        variables.push(propagate(0));
    }
    variables
}

/// P of the upper half and G of the lower one.
fn joined(second: &[Plane]) -> Vec<&[u64]> {
    vec![&second[2], &second[0]]
}

fn owned(planes: &[&[u64]]) -> Vec<Plane> {
    planes.iter().map(|plane| plane.to_vec()).collect()
}

/// A's or B's summand of a masked bit.
fn summand(role: Role, masked: &[u64], mask: &[u64]) -> Plane {
    match role {
        Role::A => xor(masked, mask),
        _ => mask.to_vec(),
    }
}

fn masked(summands: Vec<Plane>, masks: &[Plane]) -> Vec<Plane> {
    summands.iter().zip(masks).map(|(s, m)| xor(s, m)).collect()
}
