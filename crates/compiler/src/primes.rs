//! The primes that sizes stand for: those of a parameter set lie below the powers of two, and a
//! plaintext prime on either side of its own, so that bounds are computed with the primes
//! themselves.

use std::sync::OnceLock;

use scuro_fhe::RingKind;
use scuro_fhe::bgv::plain_prime;
use scuro_fhe::noise::NoiseModel;
use scuro_fhe::params::{P_COUNT_MAX, PRIME_BITS_MAX, Q_COUNT_MAX, primes_of_size};
use scuro_program::{ParameterPlan, Ring};

/// The primes of a ring, by size, found when they are asked for.
pub(crate) struct Primes {
    ring: RingKind,
    log_n: u32,
    sizes: Vec<OnceLock<Vec<u64>>>,
}

impl Primes {
    pub(crate) fn new(ring: Ring, log_n: u32) -> Self {
        let ring = match ring {
            Ring::ConjugateInvariant => RingKind::ConjugateInvariant,
            Ring::Standard => RingKind::Standard,
        };
        let sizes = (0..=PRIME_BITS_MAX).map(|_| OnceLock::new()).collect();
        Self { ring, log_n, sizes }
    }

    /// Those of a set: ciphertext primes, lowest level first, and special primes.
    pub(crate) fn set(&self, q_bits: &[u32], p_bits: &[u32]) -> PrimeSet {
        let mut taken = vec![0; self.sizes.len()];
        let mut next = |&bits: &u32| {
            let taken = &mut taken[bits as usize];
            *taken += 1;
            let found = self.of_size(bits).get(*taken - 1);
            // No set has more primes of a size than there are: it is refused when it is made.
            found.map_or(f64::from(bits).exp2(), |&prime| prime as f64)
        };
        PrimeSet {
            q: q_bits.iter().map(&mut next).collect(),
            p: p_bits.iter().map(next).collect(),
        }
    }

    /// The ciphertext primes of parameters, lowest level first.
    pub(crate) fn of(&self, parameters: &ParameterPlan) -> Vec<u64> {
        let set = self.set(&parameters.q_bits, &parameters.p_bits);
        set.q.iter().map(|&prime| prime as u64).collect()
    }

    fn of_size(&self, bits: u32) -> &[u64] {
        let find = || {
            let primes = primes_of_size(self.ring, self.log_n, bits);
            primes.take(Q_COUNT_MAX + P_COUNT_MAX).collect()
        };
        self.sizes[bits as usize].get_or_init(find)
    }

    /// The plaintext prime of a size beside a set, if there is one and it is of that size: of small
    /// sizes there may be none nearby.
    pub(crate) fn plain(&self, bits: u32, beside: &PrimeSet) -> Option<f64> {
        let used = beside.q.iter().chain(&beside.p).map(|&prime| prime as u64);
        let used: Vec<u64> = used.collect();
        let found = plain_prime(self.ring, self.log_n, bits, &used).ok()? as f64;
        // A context knows its prime by the size that it is nearest to.
        (found.log2().round() as u32 == bits).then_some(found)
    }

    /// The noise under the primes of a set.
    pub(crate) fn model(&self, set: &PrimeSet) -> NoiseModel {
        let (degree, special) = (1 << self.log_n, set.p.iter().product());
        NoiseModel::planned(self.ring, degree, set.q.clone(), special, set.p.len())
    }
}

/// The primes of a parameter set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PrimeSet {
    /// Lowest level first.
    q: Vec<f64>,
    p: Vec<f64>,
}

impl PrimeSet {
    /// No primes.
    pub(crate) const NONE: PrimeSet = PrimeSet {
        q: Vec::new(),
        p: Vec::new(),
    };

    /// Powers of two instead of primes.
    pub(crate) fn nominal(q_bits: &[u32], p_bits: &[u32]) -> PrimeSet {
        let powers = |bits: &[u32]| bits.iter().map(|&b| f64::from(b).exp2()).collect();
        PrimeSet {
            q: powers(q_bits),
            p: powers(p_bits),
        }
    }

    /// The prime that is left out below `level`.
    pub(crate) fn prime(&self, level: usize) -> f64 {
        self.q[level]
    }

    /// Base-two logarithm of the modulus at `level`.
    pub(crate) fn log_q(&self, level: usize) -> f64 {
        self.q[..=level].iter().map(|q| q.log2()).sum()
    }
}

#[cfg(test)]
mod tests {
    use scuro_fhe::Context;
    use scuro_fhe::bgv::BgvContext;
    use scuro_fhe::params::{ParameterSpec, Parameters};

    use super::*;

    #[test]
    fn sizes_stand_for_the_primes_that_a_set_has() {
        let primes = Primes::new(Ring::ConjugateInvariant, 13);
        for (q_bits, p_bits, plain_bits) in [
            (vec![25, 25, 40, 25, 25], vec![40], 20),
            (vec![48, 48], vec![44, 44], 44),
            (vec![50; 3], vec![50], 46),
        ] {
            let set = primes.set(&q_bits, &p_bits);
            let parameters = Parameters::new(ParameterSpec::new(13, &q_bits, &p_bits)).unwrap();
            let exactly = |found: &[u64]| found.iter().map(|&q| q as f64).collect::<Vec<f64>>();
            assert_eq!(set.q, exactly(parameters.q()));
            assert_eq!(set.p, exactly(parameters.p()));
            let level = q_bits.len() - 1;
            assert!((set.log_q(level) - parameters.log_q(level)).abs() < 1e-9);
            let context = Context::new(parameters).unwrap();
            let exact = BgvContext::with_plain_bits(&context, plain_bits).unwrap();
            let t = exact.plain_modulus().value() as f64;
            assert_eq!(primes.plain(plain_bits, &set), Some(t));
        }
    }

    #[test]
    fn a_plaintext_prime_may_be_larger_than_its_size_says() {
        let primes = Primes::new(Ring::ConjugateInvariant, 15);
        let largest = (20..30).filter_map(|bits| {
            let t = primes.plain(bits, &PrimeSet::NONE)?;
            Some(t / f64::from(bits).exp2())
        });
        assert!(largest.fold(0.0, f64::max) > 1.1);
        // The prime nearest to 2^22 is one of 21 bits.
        assert_eq!(primes.plain(22, &PrimeSet::NONE), None);
    }
}
