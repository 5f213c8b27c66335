//! Parameter sets: what the caller asks for, the primes that were found, and the proof that the
//! security table admits them.

mod choose;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt;

use scuro_polyring::RingKind;

pub use choose::ParameterRequest;
pub use tables::{LOG_N_MAX, LOG_N_MIN, SecurityLevel, SecurityTable, max_log_qp, smallest_log_n};

use crate::error::Error;

/// Largest prime size: the vector kernels multiply in 52-bit lanes and keep two bits of slack.
pub const PRIME_BITS_MAX: u32 = 50;
/// Most ciphertext primes of a set.
pub const Q_COUNT_MAX: usize = 40;
/// Most special primes of a set.
pub const P_COUNT_MAX: usize = 10;
/// Standard deviation of the error distribution.
pub const ERROR_SIGMA: f64 = 3.19;

/// What a caller asks for: a ring, prime sizes, and the security to certify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Standard (complex slots) or conjugate-invariant (real slots) ring.
    pub ring: RingKind,
    /// log2 of the ring degree.
    pub log_n: u32,
    /// Bits of each ciphertext prime, `q_0` (the last one left) first.
    pub q_bits: Vec<u32>,
    /// Bits of each special prime.
    pub p_bits: Vec<u32>,
    /// Limbs per key-switching digit; `None`: as many as there are special primes.
    pub digit_limbs: Option<usize>,
    /// Security to certify.
    pub level: SecurityLevel,
    /// Table that certifies it.
    pub table: SecurityTable,
}

impl ParameterSpec {
    /// A conjugate-invariant set at 128 bits under the 2024 table.
    pub fn new(log_n: u32, q_bits: &[u32], p_bits: &[u32]) -> Self {
        Self {
            ring: RingKind::ConjugateInvariant,
            log_n,
            q_bits: q_bits.to_vec(),
            p_bits: p_bits.to_vec(),
            digit_limbs: None,
            level: SecurityLevel::Bits128,
            table: SecurityTable::Guideline2024,
        }
    }
}

/// Blake3 digest of a parameter set: ring, degree, primes, digits and error width.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A checked parameter set: exists only if its table certifies log2(QP).
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    spec: ParameterSpec,
    digit_limbs: usize,
    q: Vec<u64>,
    p: Vec<u64>,
    log_qp: f64,
    bound: u32,
    digest: Digest,
}

impl Parameters {
    /// Finds the primes and checks the set against its security table.
    ///
    /// The primes of `b` bits are the largest below `2^b` that are 1 mod 2N (standard ring) or 1
    /// mod 4N (conjugate-invariant ring), handed out in the order of `q_bits` and then `p_bits`, so
    /// that the same specification always gives the same set.
    ///
    /// # Errors
    /// [`Error::InsecureParameters`] if log2 of the product of all primes, special primes included,
    /// is above the table's bound; other variants for sizes and counts out of range.
    pub fn new(spec: ParameterSpec) -> Result<Self, Error> {
        let digit_limbs = check_shape(&spec)?;
        let primes = find_primes(&spec)?;
        let (q, p) = primes.split_at(spec.q_bits.len());
        let log_qp: f64 = primes.iter().map(|&prime| (prime as f64).log2()).sum();
        let bound = check_security(&spec, log_qp)?;
        let (q, p) = (q.to_vec(), p.to_vec());
        let digest = digest(&spec, digit_limbs, &q, &p);
        Ok(Self {
            spec,
            digit_limbs,
            q,
            p,
            log_qp,
            bound,
            digest,
        })
    }

    /// The specification that the set was made from.
    pub fn spec(&self) -> &ParameterSpec {
        &self.spec
    }

    /// Ring kind.
    pub fn ring(&self) -> RingKind {
        self.spec.ring
    }

    /// log2 of the ring degree.
    pub fn log_n(&self) -> u32 {
        self.spec.log_n
    }

    /// Ring degree N.
    pub fn n(&self) -> usize {
        1 << self.spec.log_n
    }

    /// Number of slots: N real ones (conjugate-invariant) or N/2 complex ones (standard).
    pub fn slots(&self) -> usize {
        match self.spec.ring {
            RingKind::ConjugateInvariant => self.n(),
            RingKind::Standard => self.n() / 2,
        }
    }

    /// Ciphertext primes, `q_0` first.
    pub fn q(&self) -> &[u64] {
        &self.q
    }

    /// Special primes.
    pub fn p(&self) -> &[u64] {
        &self.p
    }

    /// Highest level: one less than the number of ciphertext primes.
    pub fn max_level(&self) -> usize {
        self.q.len() - 1
    }

    /// Limbs per key-switching digit.
    pub fn digit_limbs(&self) -> usize {
        self.digit_limbs
    }

    /// Number of key-switching digits at `level`.
    pub fn digit_count(&self, level: usize) -> usize {
        (level + 1).div_ceil(self.digit_limbs)
    }

    /// log2 of the product of all primes.
    pub fn log_qp(&self) -> f64 {
        self.log_qp
    }

    /// log2 of `q_0 ... q_level`.
    pub fn log_q(&self, level: usize) -> f64 {
        self.q
            .iter()
            .take(level + 1)
            .map(|&q| (q as f64).log2())
            .sum()
    }

    /// Largest log2(QP) that the table certifies here.
    pub fn log_qp_bound(&self) -> u32 {
        self.bound
    }

    /// Certified security.
    pub fn security_level(&self) -> SecurityLevel {
        self.spec.level
    }

    /// Certifying table.
    pub fn security_table(&self) -> SecurityTable {
        self.spec.table
    }

    /// Digest over everything that two parties must agree on.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

fn check_shape(spec: &ParameterSpec) -> Result<usize, Error> {
    if !(LOG_N_MIN..=LOG_N_MAX).contains(&spec.log_n) {
        return Err(Error::DegreeOutOfRange {
            found: spec.log_n,
            min: LOG_N_MIN,
            max: LOG_N_MAX,
        });
    }
    check_count("ciphertext", spec.q_bits.len(), Q_COUNT_MAX)?;
    check_count("special", spec.p_bits.len(), P_COUNT_MAX)?;
    let min = root_log(spec.ring, spec.log_n) + 2;
    if let Some(&found) = spec
        .q_bits
        .iter()
        .chain(&spec.p_bits)
        .find(|&&b| !(min..=PRIME_BITS_MAX).contains(&b))
    {
        return Err(Error::PrimeSizeOutOfRange {
            found,
            min,
            max: PRIME_BITS_MAX,
        });
    }
    let digit_limbs = spec
        .digit_limbs
        .unwrap_or(spec.p_bits.len().min(spec.q_bits.len()));
    if !(1..=spec.q_bits.len()).contains(&digit_limbs) {
        return Err(Error::DigitSizeOutOfRange {
            found: digit_limbs,
            max: spec.q_bits.len(),
        });
    }
    Ok(digit_limbs)
}

fn check_count(what: &'static str, found: usize, max: usize) -> Result<(), Error> {
    if (1..=max).contains(&found) {
        return Ok(());
    }
    Err(Error::PrimeCountOutOfRange {
        what,
        found,
        min: 1,
        max,
    })
}

/// log2 of the order of the root of unity that every prime must have.
fn root_log(ring: RingKind, log_n: u32) -> u32 {
    match ring {
        RingKind::Standard => log_n + 1,
        RingKind::ConjugateInvariant => log_n + 2,
    }
}

/// The primes of `bits` bits, at most [`PRIME_BITS_MAX`], in the order in which sets of a ring take
/// them: for whoever predicts what a set can do before there is one.
pub fn primes_of_size(ring: RingKind, log_n: u32, bits: u32) -> impl Iterator<Item = u64> {
    candidates(ring, log_n, bits).filter(|&c| scuro_polyring::primes::is_prime(c))
}

/// Numbers of `bits` bits that a set may use if they are primes, the largest first.
fn candidates(ring: RingKind, log_n: u32, bits: u32) -> impl Iterator<Item = u64> {
    let (step, end) = (1u64 << root_log(ring, log_n), 1u64 << bits);
    (1..)
        .map_while(move |i| end.checked_sub(i * step))
        .map(|multiple| multiple + 1)
        .take_while(move |&candidate| candidate > end / 2)
}

fn find_primes(spec: &ParameterSpec) -> Result<Vec<u64>, Error> {
    let mut found: Vec<u64> = Vec::new();
    for &bits in spec.q_bits.iter().chain(&spec.p_bits) {
        let smallest = 1u64 << (bits - 1);
        let wanted = 1 + found
            .iter()
            .filter(|&&prime| prime >= smallest && prime < 2 * smallest)
            .count();
        let prime = candidates(spec.ring, spec.log_n, bits)
            .find(|&c| !found.contains(&c) && scuro_polyring::primes::is_prime(c));
        found.push(prime.ok_or(Error::NotEnoughPrimes { bits, wanted })?);
    }
    Ok(found)
}

fn check_security(spec: &ParameterSpec, log_qp: f64) -> Result<u32, Error> {
    let &ParameterSpec {
        log_n,
        level,
        table,
        ..
    } = spec;
    let smallest_log_n = smallest_log_n(log_qp, level, table);
    let bound = max_log_qp(log_n, level, table).ok_or(Error::NoSecurityBound {
        log_n,
        level,
        table,
        smallest_log_n,
    })?;
    if log_qp > f64::from(bound) {
        return Err(Error::InsecureParameters {
            found: log_qp,
            bound,
            log_n,
            level,
            table,
            smallest_log_n,
        });
    }
    Ok(bound)
}

/// The canonical encoding is fixed-width and length-prefixed, so no two sets share one. The
/// security level and table are left out: they certify a set, they do not change what it computes.
fn digest(spec: &ParameterSpec, digit_limbs: usize, q: &[u64], p: &[u64]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("scuro fhe parameters v1");
    let ring = match spec.ring {
        RingKind::Standard => 1u64,
        RingKind::ConjugateInvariant => 2,
    };
    let head = [
        ring,
        u64::from(spec.log_n),
        digit_limbs as u64,
        ERROR_SIGMA.to_bits(),
    ];
    for word in head
        .into_iter()
        .chain([q.len() as u64])
        .chain(q.iter().copied())
    {
        hasher.update(&word.to_le_bytes());
    }
    for word in [p.len() as u64].into_iter().chain(p.iter().copied()) {
        hasher.update(&word.to_le_bytes());
    }
    Digest(*hasher.finalize().as_bytes())
}
