//! The three parties and what each of them is to a part of a tensor.

use std::ops::Range;

/// One of the three parties, in a circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The first.
    P0,
    /// The second.
    P1,
    /// The third.
    P2,
}

impl Party {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::P0, Self::P1, Self::P2];

    /// 0, 1 or 2.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The one after it.
    pub fn next(self) -> Self {
        Self::ALL[(self.index() + 1) % 3]
    }

    /// The one before it.
    pub fn previous(self) -> Self {
        Self::ALL[(self.index() + 2) % 3]
    }
}

/// What a party does for the elements of one third of a tensor. C is the party whose number the
/// third has, A comes after it, B before it.
///
/// Values are split as `a + c`, `a` known to A and B, `c` to C alone. A and B compute; C deals what
/// depends on `c` and receives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    A,
    B,
    C,
}

impl Role {
    /// The third in which a party has this role.
    pub(crate) fn third(self, party: Party) -> usize {
        let after_c = match self {
            Self::C => 0,
            Self::A => 1,
            Self::B => 2,
        };
        (party.index() + 3 - after_c) % 3
    }
}

/// The elements of the thirds of a tensor: as equal as whole words of 64 bits allow.
pub(crate) fn thirds(len: usize) -> [Range<usize>; 3] {
    let words = len.div_ceil(64);
    let end = |third: usize| ((words * (third + 1)).div_ceil(3) * 64).min(len);
    [0..end(0), end(0)..end(1), end(1)..len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_third_has_every_role_once() {
        for role in [Role::A, Role::B, Role::C] {
            let mut thirds = Party::ALL.map(|party| role.third(party));
            thirds.sort_unstable();
            assert_eq!(thirds, [0, 1, 2]);
        }
        for party in Party::ALL {
            assert_eq!(Role::C.third(party), party.index());
            assert_eq!(Role::A.third(party.next()), party.index());
            assert_eq!(Role::B.third(party.previous()), party.index());
        }
    }

    #[test]
    fn thirds_cover_a_tensor() {
        for len in [0, 1, 63, 64, 65, 200, 2704, 10_000] {
            let [first, second, last] = thirds(len);
            assert_eq!((first.start, first.end, last.end), (0, second.start, len));
            assert_eq!(second.end, last.start);
            assert!(first.len().abs_diff(last.len()) <= 128, "{len}");
        }
    }
}
