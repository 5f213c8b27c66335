//! Random numbers that two parties draw without talking.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

/// A key that two neighbours share.
pub type Seed = Zeroizing<[u8; 32]>;

/// What two neighbours draw, each kind from a stream of its own: both draw every kind in the same
/// order, but not one kind after the other.
struct Pair {
    zeros: ChaCha20Rng,
    /// Where C is the earlier of both.
    c_and_a: ChaCha20Rng,
    /// Where C is the later.
    b_and_c: ChaCha20Rng,
}

impl Pair {
    fn new(seed: &Seed) -> Self {
        let stream = |number| {
            let mut rng = ChaCha20Rng::from_seed(**seed);
            rng.set_stream(number);
            rng
        };
        Self {
            zeros: stream(0),
            c_and_a: stream(1),
            b_and_c: stream(2),
        }
    }
}

fn words(rng: &mut ChaCha20Rng, count: usize) -> Vec<u64> {
    (0..count).map(|_| rng.next_u64()).collect()
}

/// The streams of one party with both others.
///
/// Source: Araki, Furukawa, Lindell, Nof, Ohara 2016, "High-throughput semi-honest secure
///     three-party computation with an honest majority", section 2.2
pub struct Correlated {
    next: Pair,
    previous: Pair,
}

impl std::fmt::Debug for Correlated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Correlated { .. }")
    }
}

impl Correlated {
    /// From the keys that a party shares with the party after it and with the one before it.
    pub fn new(with_next: &Seed, with_previous: &Seed) -> Self {
        Self {
            next: Pair::new(with_next),
            previous: Pair::new(with_previous),
        }
    }

    /// Words of which those of all three parties add up to 0 modulo 2^64; the others' are uniform
    /// to each of them otherwise.
    pub(crate) fn zeros(&mut self, count: usize) -> Vec<u64> {
        let next = words(&mut self.next.zeros, count);
        let previous = words(&mut self.previous.zeros, count);
        let pairs = next.iter().zip(&previous);
        pairs.map(|(n, p)| n.wrapping_sub(*p)).collect()
    }

    /// As C: words that A has too.
    pub(crate) fn c_with_a(&mut self, count: usize) -> Vec<u64> {
        words(&mut self.next.c_and_a, count)
    }

    /// As C: words that B has too.
    pub(crate) fn c_with_b(&mut self, count: usize) -> Vec<u64> {
        words(&mut self.previous.b_and_c, count)
    }

    /// As A: words that C has too.
    pub(crate) fn a_with_c(&mut self, count: usize) -> Vec<u64> {
        words(&mut self.previous.c_and_a, count)
    }

    /// As B: words that C has too.
    pub(crate) fn b_with_c(&mut self, count: usize) -> Vec<u64> {
        words(&mut self.next.b_and_c, count)
    }
}
