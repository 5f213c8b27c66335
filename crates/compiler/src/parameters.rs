//! Pass: which ring degrees may be used, and the modulus that security allows at each.

use scuro_fhe::params::{SecurityLevel, max_log_qp};
use scuro_program::SecurityTable;

use crate::error::CompileError;
use crate::options::Options;

/// Smallest ring degree tried.
const LOG_N_MIN: u32 = 11;
/// Largest ring degree tried.
const LOG_N_MAX: u32 = 16;
/// Modulus bits below which no program of that many multiplications is worth trying: query, special
/// prime, and a scale per multiplication.
const BITS_FIXED: u32 = 56;
const BITS_PER_PRODUCT: u32 = 12;

/// A ring degree with its modulus bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Degree {
    pub(crate) log_n: u32,
    pub(crate) log_qp: u32,
}

/// Degrees to try, smallest first.
///
/// # Errors
/// An unknown security level, a degree outside the tables, or none that carries `depth`
/// multiplications.
pub(crate) fn degrees(options: &Options, depth: u32) -> Result<Vec<Degree>, CompileError> {
    let level = match options.security_bits {
        128 => SecurityLevel::Bits128,
        192 => SecurityLevel::Bits192,
        256 => SecurityLevel::Bits256,
        found => return Err(CompileError::SecurityLevel { found }),
    };
    let table = match options.table {
        SecurityTable::Guideline2024 => scuro_fhe::params::SecurityTable::Guideline2024,
        SecurityTable::Standard2018 => scuro_fhe::params::SecurityTable::Standard2018,
    };
    if let Some(found) = options
        .log_n
        .filter(|n| !(LOG_N_MIN..=LOG_N_MAX).contains(n))
    {
        let (minimum, maximum) = (LOG_N_MIN, LOG_N_MAX);
        return Err(CompileError::RingDegree {
            found,
            minimum,
            maximum,
        });
    }
    let wanted = options.log_n.map_or(LOG_N_MIN..=LOG_N_MAX, |n| n..=n);
    let all: Vec<Degree> = wanted
        .filter_map(|log_n| {
            Some(Degree {
                log_n,
                log_qp: max_log_qp(log_n, level, table)?,
            })
        })
        .collect();
    let needed = BITS_FIXED + BITS_PER_PRODUCT * depth;
    let fit: Vec<Degree> = all.iter().copied().filter(|d| d.log_qp >= needed).collect();
    if fit.is_empty() {
        let largest = all.last().copied().unwrap_or(Degree {
            log_n: LOG_N_MAX,
            log_qp: 0,
        });
        return Err(CompileError::TooDeep {
            depth,
            security_bits: options.security_bits,
            log_n: largest.log_n,
            log_qp_bound: largest.log_qp,
        });
    }
    Ok(fit)
}
