//! Security tables: the largest log2(QP) that each ring degree certifies for a uniform ternary
//! secret.
//!
//! Source: Bossuat et al., "Security Guidelines for Implementing Homomorphic Encryption", ePrint
//!     2024/463, Table 5.2 (classical), and the 2018 HomomorphicEncryption.org standard. Error:
//!     discrete Gaussian of sigma 3.19. A conjugate-invariant ring of degree N is certified by row
//!     N.

use std::fmt;

/// Smallest ring degree (log2) that the library builds.
pub const LOG_N_MIN: u32 = 11;
/// Largest ring degree (log2) that the library builds.
pub const LOG_N_MAX: u32 = 16;

/// Classical security that a parameter set must certify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecurityLevel {
    /// 128 bits.
    Bits128,
    /// 192 bits.
    Bits192,
    /// 256 bits.
    Bits256,
}

impl SecurityLevel {
    /// All levels, weakest first.
    pub const ALL: [Self; 3] = [Self::Bits128, Self::Bits192, Self::Bits256];

    /// The level in bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::Bits128 => 128,
            Self::Bits192 => 192,
            Self::Bits256 => 256,
        }
    }

    /// The level of `bits` bits, if it is one of the three.
    pub fn from_bits(bits: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.bits() == bits)
    }

    fn column(self) -> usize {
        match self {
            Self::Bits128 => 0,
            Self::Bits192 => 1,
            Self::Bits256 => 2,
        }
    }
}

impl fmt::Display for SecurityLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-bit", self.bits())
    }
}

/// The table that certifies a parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SecurityTable {
    /// Security guidelines of 2024 (ePrint 2024/463, Table 5.2, classical, ternary secret).
    #[default]
    Guideline2024,
    /// Homomorphic encryption standard of 2018 (laxer; what SEAL ships).
    Standard2018,
}

impl fmt::Display for SecurityTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guideline2024 => "2024 security guidelines (ePrint 2024/463, Table 5.2)",
            Self::Standard2018 => "2018 homomorphic encryption standard",
        })
    }
}

/// One row: log2 N and the bounds for 128, 192 and 256 bits; 0 where the table has no entry.
type Row = (u32, [u32; 3]);

const GUIDELINE_2024_TERNARY: [Row; 8] = [
    (10, [26, 0, 0]),
    (11, [53, 36, 27]),
    (12, [106, 73, 56]),
    (13, [214, 147, 114]),
    (14, [430, 297, 230]),
    (15, [868, 597, 462]),
    (16, [1747, 1199, 929]),
    (17, [3523, 2411, 1866]),
];

const STANDARD_2018_TERNARY: [Row; 6] = [
    (10, [27, 19, 14]),
    (11, [54, 37, 29]),
    (12, [109, 75, 58]),
    (13, [218, 152, 118]),
    (14, [438, 305, 237]),
    (15, [881, 611, 476]),
];

/// Largest certified log2(QP) for degree `2^log_n`, special primes included; `None` if the table
/// has no such row.
pub fn max_log_qp(log_n: u32, level: SecurityLevel, table: SecurityTable) -> Option<u32> {
    let rows: &[Row] = match table {
        SecurityTable::Guideline2024 => &GUIDELINE_2024_TERNARY,
        SecurityTable::Standard2018 => &STANDARD_2018_TERNARY,
    };
    let (_, bounds) = rows.iter().find(|(row, _)| *row == log_n)?;
    Some(bounds[level.column()]).filter(|&bound| bound > 0)
}

/// Smallest degree (log2) whose bound admits `log_qp` bits, if any that the library builds does.
pub fn smallest_log_n(log_qp: f64, level: SecurityLevel, table: SecurityTable) -> Option<u32> {
    (LOG_N_MIN..=LOG_N_MAX)
        .find(|&log_n| max_log_qp(log_n, level, table).is_some_and(|b| log_qp <= f64::from(b)))
}
