//! The forward transform of residues of another prime: the lift, and the fold of the
//! conjugate-invariant ring, happen where the first pass reads.

use std::arch::x86_64::*;

use super::butterfly::{Constants, Factor, forward_8};
use super::{LENGTH_MIN, VECTORS, add_offset, forward_parts, fresh, pass_stages, write_rows};
use crate::kernel::avx512ifma::arith;
use crate::kernel::avx512ifma::lanes::load;
use crate::modulus::Modulus;
use crate::ntt::NttPlan;

/// Rows of the first pass.
const RADIX: usize = 8;

/// How values of the first pass are read.
struct Lift {
    /// Half of the source modulus, and minus the source modulus mod q.
    half: __m512i,
    offset: __m512i,
    /// Whether lifted residues are too large to go on with.
    reduce: bool,
    /// -ψ^N in the conjugate-invariant ring.
    fold: Option<Factor>,
}

impl Lift {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn new(plan: &NttPlan, source: Modulus) -> Self {
        let (modulus, all) = (plan.modulus(), |x: u64| _mm512_set1_epi64(x as i64));
        let q = modulus.value();
        let lazy = plan.tables().lazy_offsets.is_some();
        // A fold adds up to 2q. Without room for growth all must stay below 4q.
        let bound = if lazy || plan.fold_root().is_none() {
            4 * q
        } else {
            2 * q
        };
        let fold = plan.fold_root().map(|root| {
            let root = modulus.multiplier(modulus.neg(root.value()));
            [all(root.value()), all(root.quotient() >> 12)]
        });
        Self {
            half: all(source.value() / 2),
            offset: all(modulus.neg(modulus.reduce(source.value()))),
            reduce: source.value() + q > bound,
            fold,
        }
    }

    /// The centred integers with residues `x`, as numbers congruent modulo q.
    ///
    /// Bounds: below 4q; with a fold below 2q unless the transform is lazy
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn lift(&self, c: &Constants, x: __m512i) -> __m512i {
        let above = _mm512_cmpgt_epu64_mask(x, self.half);
        let lifted = _mm512_mask_add_epi64(x, above, x, self.offset);
        if self.reduce {
            c.barrett(lifted)
        } else {
            lifted
        }
    }

    /// The values that enter the transform at eight positions from `at` on.
    ///
    /// # Safety
    /// `x` has these positions, and more than eight.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    unsafe fn read<const LAZY: bool>(&self, c: &Constants, x: &[u64], at: usize) -> __m512i {
        // SAFETY: the contract of this function.
        let own = self.lift(c, unsafe { load(x.as_ptr().add(at)) });
        let Some(factor) = self.fold else {
            return own;
        };
        let backwards = _mm512_setr_epi64(7, 6, 5, 4, 3, 2, 1, 0);
        // Position n - at - 7 and the seven after it; the zeroth coefficient has no mirror image.
        let lanes = if at == 0 { 0x7f } else { 0xff };
        // SAFETY: the last lane is position n - at, which is left out if it is n.
        let mirrored =
            unsafe { _mm512_maskz_loadu_epi64(lanes, x.as_ptr().add(x.len() - at - 7).cast()) };
        let mirrored = self.lift(c, _mm512_permutexvar_epi64(backwards, mirrored));
        let sum = c.add_product(own, mirrored, factor);
        if LAZY { sum } else { c.masked(sum) }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn lifted_pass<const LAZY: bool>(
    c: &Constants,
    out: &mut [u64],
    x: &[u64],
    table: &[u64],
    lift: &Lift,
    offset: u64,
) {
    const COLUMNS: usize = VECTORS / RADIX;
    let stride = out.len() / RADIX;
    for j in (0..stride).step_by(8 * COLUMNS) {
        let mut v = [_mm512_setzero_si512(); VECTORS];
        for (k, v) in v.iter_mut().enumerate() {
            let at = k / COLUMNS * stride + j + 8 * (k % COLUMNS);
            // SAFETY: `x` is as long as `out`, which has eight rows of `stride` words.
            *v = unsafe { lift.read::<LAZY>(c, x, at) };
        }
        if LAZY {
            add_offset(&mut v, _mm512_set1_epi64(offset as i64));
        }
        let start = out[j..].as_mut_ptr();
        // SAFETY: the table has seven pairs; the rows are those of `out`.
        unsafe {
            forward_8::<LAZY, false>(c, &mut v, fresh(table.as_ptr()));
            write_rows::<RADIX>(start, stride, &v);
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn lifted_all<const LAZY: bool>(
    plan: &NttPlan,
    out: &mut [u64],
    x: &[u64],
    source: Modulus,
    offsets: [u64; 2],
) {
    let c = Constants::new(plan.modulus());
    let table = &plan.tables().forward[..2 * RADIX];
    lifted_pass::<LAZY>(&c, out, x, table, &Lift::new(plan, source), offsets[0]);
    forward_parts::<LAZY>(&c, plan, out, offsets[1]);
}

/// The forward transform of centred(x mod source).
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(in super::super) fn forward_lifted(
    plan: &NttPlan,
    out: &mut [u64],
    x: &[u64],
    source: Modulus,
) {
    let short = out.len() < LENGTH_MIN;
    if short || 1 << pass_stages(out.len())[0] != RADIX || x.len() != out.len() {
        arith::lift_centred(plan.modulus(), out, x, source);
        return super::forward(plan, out);
    }
    match plan.tables().lazy_offsets {
        Some(offsets) => lifted_all::<true>(plan, out, x, source, offsets),
        None => lifted_all::<false>(plan, out, x, source, [0; 2]),
    }
}
