//! AVX-512 with 52-bit multiply-add (IFMA).

mod lanes;
mod ntt;

use super::ops::{NttTables, SliceKernel, TwiddleTree};
use crate::ntt::NttPlan;

/// The kernel of processors with AVX-512 F, DQ and IFMA.
///
/// [`super::Kernel`] hands it out only after asking the processor for these; that is what every
/// call below rests on.
pub(super) struct Avx512Ifma;

/// Whether this processor has the instructions of this kernel.
pub(super) fn runs_here() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512ifma")
}

impl SliceKernel for Avx512Ifma {
    fn ntt_tables(&self, tree: &TwiddleTree) -> NttTables {
        ntt::tables(tree)
    }

    fn forward(&self, plan: &NttPlan, values: &mut [u64]) {
        // SAFETY: the processor has the instructions, see `Avx512Ifma`.
        unsafe { ntt::forward(plan, values) }
    }

    fn inverse(&self, plan: &NttPlan, values: &mut [u64]) {
        // SAFETY: the processor has the instructions, see `Avx512Ifma`.
        unsafe { ntt::inverse(plan, values) }
    }
}
