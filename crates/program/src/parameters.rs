//! Encryption parameters as plain numbers; the homomorphic library turns them into primes and
//! checks them.

/// Which ring the ciphertexts live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// Conjugate-invariant ring: `N` real slots in one cyclic row.
    ConjugateInvariant,
    /// Power-of-two cyclotomic ring: `N / 2` slots in one cyclic row.
    Standard,
}

/// Which published table certifies the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityTable {
    /// The 2024 guideline.
    Guideline2024,
    /// The 2018 standard.
    Standard2018,
}

/// What slots hold and which arithmetic multiplies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Approximate real numbers.
    Ckks,
    /// Exact integers modulo a prime; fixed-point numbers by the scales of the steps.
    Bgv {
        /// Bits of the plaintext prime.
        plain_bits: u32,
    },
    /// The same, with products that keep the scale of the message in the modulus: noise grows by
    /// as much wherever the modulus is switched.
    Bfv {
        /// Bits of the plaintext prime.
        plain_bits: u32,
    },
}

impl Scheme {
    /// Bits of the plaintext prime, if numbers are exact.
    pub fn plain_bits(self) -> Option<u32> {
        match self {
            Self::Ckks => None,
            Self::Bgv { plain_bits } | Self::Bfv { plain_bits } => Some(plain_bits),
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ckks => "CKKS",
            Self::Bgv { .. } => "BGV",
            Self::Bfv { .. } => "BFV",
        }
    }
}

/// Sizes from which the primes follow deterministically.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterPlan {
    /// Scheme.
    pub scheme: Scheme,
    /// Ring.
    pub ring: Ring,
    /// Base-two logarithm of the ring degree.
    pub log_n: u32,
    /// Bits of each ciphertext prime, lowest level first.
    pub q_bits: Vec<u32>,
    /// Bits of each special prime.
    pub p_bits: Vec<u32>,
    /// Security level in bits: 128, 192 or 256.
    pub security_bits: u32,
    /// The certifying table.
    pub table: SecurityTable,
}

impl ParameterPlan {
    /// Slots of one ciphertext.
    pub fn slots(&self) -> usize {
        match self.ring {
            Ring::ConjugateInvariant => 1 << self.log_n,
            Ring::Standard => 1 << (self.log_n - 1),
        }
    }

    /// The highest level: number of ciphertext primes less one.
    pub fn level_max(&self) -> u32 {
        self.q_bits.len().saturating_sub(1) as u32
    }

    /// Nominal bits of the modulus at `level`.
    pub fn log_q(&self, level: u32) -> u32 {
        self.q_bits.iter().take(level as usize + 1).sum()
    }

    /// Nominal bits of all primes, special ones included: what the security table bounds.
    pub fn log_qp(&self) -> u32 {
        self.q_bits.iter().sum::<u32>() + self.p_bits.iter().sum::<u32>()
    }
}
