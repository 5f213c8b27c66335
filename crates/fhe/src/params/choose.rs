//! Picks the smallest ring degree that certifies a prime chain.

use scuro_polyring::RingKind;

use super::{LOG_N_MAX, ParameterSpec, Parameters, SecurityLevel, SecurityTable};
use crate::error::Error;

/// A prime chain that needs a ring degree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterRequest {
    /// Ring kind.
    pub ring: RingKind,
    /// Bits of each ciphertext prime.
    pub q_bits: Vec<u32>,
    /// Bits of each special prime.
    pub p_bits: Vec<u32>,
    /// Limbs per key-switching digit; `None`: as many as there are special primes.
    pub digit_limbs: Option<usize>,
    /// Fewest slots that the computation needs.
    pub min_slots: usize,
    /// Security to certify.
    pub level: SecurityLevel,
    /// Table that certifies it.
    pub table: SecurityTable,
}

impl Parameters {
    /// The set with the smallest degree that holds the slots and certifies the chain.
    ///
    /// # Errors
    /// [`Error::NoDegreeFits`] if no degree does; shape errors as [`Parameters::new`].
    pub fn choose(request: &ParameterRequest) -> Result<Self, Error> {
        for log_n in smallest_for_slots(request)..=LOG_N_MAX {
            match Self::new(request.at(log_n)) {
                Err(Error::InsecureParameters { .. } | Error::NoSecurityBound { .. }) => {}
                other => return other,
            }
        }
        let bits: u32 = request.q_bits.iter().chain(&request.p_bits).sum();
        Err(Error::NoDegreeFits {
            log_qp: f64::from(bits),
            level: request.level,
            largest_log_n: LOG_N_MAX,
        })
    }
}

impl ParameterRequest {
    fn at(&self, log_n: u32) -> ParameterSpec {
        ParameterSpec {
            ring: self.ring,
            log_n,
            q_bits: self.q_bits.clone(),
            p_bits: self.p_bits.clone(),
            digit_limbs: self.digit_limbs,
            level: self.level,
            table: self.table,
        }
    }
}

fn smallest_for_slots(request: &ParameterRequest) -> u32 {
    let coefficients = match request.ring {
        RingKind::ConjugateInvariant => request.min_slots,
        RingKind::Standard => request.min_slots.saturating_mul(2),
    };
    coefficients
        .max(1)
        .checked_next_power_of_two()
        .map_or(u32::MAX, usize::ilog2)
        .max(super::LOG_N_MIN)
}
