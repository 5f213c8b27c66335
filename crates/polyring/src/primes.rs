//! Search for transform-friendly primes.

use crate::error::Error;
use crate::modulus::MODULUS_BITS_MAX;

/// Smallest prime size that is searched for.
pub const PRIME_BITS_MIN: u32 = 14;

/// Number of candidates looked at on each side of 2^bits before giving up.
const SEARCH_WINDOW: u64 = 1 << 20;

/// Finds `count` primes that are 1 modulo `multiple_of`, nearest to 2^bits first.
///
/// Math:   candidates 2^bits + 1 ± k·multiple_of in order of |distance|, the smaller one first at a
///     tie
/// Bounds: every prime is below 2^50, so sizes of 50 bits look only below; `exclude` lists primes
///     already in use
///
/// # Errors
/// [`Error::PrimeSizeOutOfRange`] or [`Error::TooFewPrimes`].
pub fn ntt_primes(
    bits: u32,
    multiple_of: u64,
    count: usize,
    exclude: &[u64],
) -> Result<Vec<u64>, Error> {
    if !(PRIME_BITS_MIN..=MODULUS_BITS_MAX).contains(&bits) {
        let (min, max) = (PRIME_BITS_MIN, MODULUS_BITS_MAX);
        return Err(Error::PrimeSizeOutOfRange {
            found: bits,
            min,
            max,
        });
    }
    let mut primes = Vec::with_capacity(count);
    let centre = 1u64 << bits;
    let usable = |candidate: u64| {
        candidate >> MODULUS_BITS_MAX == 0
            && candidate % multiple_of == 1
            && !exclude.contains(&candidate)
            && is_prime(candidate)
    };
    for step in 0..SEARCH_WINDOW {
        if primes.len() == count {
            break;
        }
        let offset = step.saturating_mul(multiple_of);
        if offset >= centre / 2 {
            break;
        }
        // centre + 1 - offset is nearer than centre + 1 + offset whenever offset > 0.
        for candidate in [centre + 1 - offset, centre + 1 + offset] {
            if primes.len() < count && !primes.contains(&candidate) && usable(candidate) {
                primes.push(candidate);
            }
        }
    }
    if primes.len() < count {
        let found = primes.len();
        return Err(Error::TooFewPrimes {
            bits,
            multiple_of,
            expected: count,
            found,
        });
    }
    Ok(primes)
}

/// Deterministic Miller-Rabin for 64-bit numbers.
///
/// Source: the first twelve primes are enough witnesses below 3.3·10^24 (Sorenson and Webster 2015)
pub fn is_prime(n: u64) -> bool {
    const WITNESSES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];
    if n < 2 {
        return false;
    }
    if let Some(divisor) = WITNESSES.iter().find(|&&p| n.is_multiple_of(p)) {
        return n == *divisor;
    }
    let twos = (n - 1).trailing_zeros();
    WITNESSES
        .iter()
        .all(|&witness| passes_miller_rabin(n, witness, (n - 1) >> twos, twos))
}

fn passes_miller_rabin(n: u64, witness: u64, odd: u64, twos: u32) -> bool {
    let mul = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(n)) as u64;
    let (mut power, mut base, mut exponent) = (1, witness % n, odd);
    while exponent != 0 {
        if exponent & 1 == 1 {
            power = mul(power, base);
        }
        base = mul(base, base);
        exponent >>= 1;
    }
    if power == 1 || power == n - 1 {
        return true;
    }
    (1..twos).any(|_| {
        power = mul(power, power);
        power == n - 1
    })
}
