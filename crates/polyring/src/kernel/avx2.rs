//! AVX2 with fused multiply-add: plain Rust compiled for it.

use super::ops::{NttTables, SliceKernel, TwiddleTree};
use super::{fft, fma, portable};
use crate::modulus::{Modulus, Multiplier};
use crate::ntt::NttPlan;
use crate::pairs::{FactorRow, PairProducts, PairRow};
use crate::slots::FftTables;

/// The kernel of processors with AVX2 and FMA.
///
/// [`super::Kernel`] hands it out only after asking the processor for these; that is what every
/// call below rests on.
pub(super) struct Avx2;

/// Whether this processor has the instructions of this kernel.
pub(super) fn runs_here() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Methods that inline a plain function of the same shape under the instruction set of this kernel.
///
/// `fn add(q: Modulus, ...) = portable::add` becomes `fn add(&self, q: Modulus, ...)`.
macro_rules! compile {
    ($(fn $name:ident($($argument:ident: $type:ty),*) = $plain:path;)*) => {$(
        fn $name(&self, $($argument: $type),*) {
            #[target_feature(enable = "avx2,fma")]
            fn compiled($($argument: $type),*) {
                $plain($($argument),*);
            }
            // SAFETY: the processor has the instructions, see `Avx2`.
            unsafe { compiled($($argument),*) }
        }
    )*};
}

#[inline(always)]
fn forward_here(plan: &NttPlan, values: &mut [u64]) {
    if fma::transforms(values.len()) {
        fma::forward(plan, values);
    } else {
        portable::forward(plan, values);
    }
}

#[inline(always)]
fn inverse_here(plan: &NttPlan, values: &mut [u64]) {
    if fma::transforms(values.len()) {
        fma::inverse(plan, values);
    } else {
        portable::inverse(plan, values);
    }
}

impl SliceKernel for Avx2 {
    fn ntt_tables(&self, tree: &TwiddleTree) -> NttTables {
        if fma::transforms(tree.forward.len()) {
            fma::tables(tree)
        } else {
            portable::ntt_tables(tree)
        }
    }

    compile! {
        fn forward(plan: &NttPlan, values: &mut [u64]) = forward_here;
        fn inverse(plan: &NttPlan, values: &mut [u64]) = inverse_here;
        fn add(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) = portable::add;
        fn add_assign(q: Modulus, x: &mut [u64], y: &[u64]) = portable::add_assign;
        fn sub(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) = portable::sub;
        fn sub_assign(q: Modulus, x: &mut [u64], y: &[u64]) = portable::sub_assign;
        fn neg_assign(q: Modulus, x: &mut [u64]) = portable::neg_assign;
        fn mul(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) = fma::mul;
        fn mul_assign(q: Modulus, x: &mut [u64], y: &[u64]) = fma::mul_assign;
        fn mul_add_assign(q: Modulus, acc: &mut [u64], x: &[u64], y: &[u64]) = fma::mul_add_assign;
        fn mul_scalar(q: Modulus, out: &mut [u64], x: &[u64], w: Multiplier) = fma::mul_scalar;
        fn mul_scalar_assign(q: Modulus, x: &mut [u64], w: Multiplier) = fma::mul_scalar_assign;
        fn mul_scalar_add_assign(q: Modulus, acc: &mut [u64], x: &[u64], w: Multiplier)
            = fma::mul_scalar_add_assign;
        fn sub_mul_scalar_assign(q: Modulus, x: &mut [u64], y: &[u64], w: Multiplier)
            = fma::sub_mul_scalar_assign;
        fn sub_mul_scalar(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64], w: Multiplier)
            = fma::sub_mul_scalar;
        fn dot(q: Modulus, out: &mut [u64], xs: &[&[u64]], ys: &[&[u64]]) = fma::dot;
        fn dot_row_pairs(
            q: Modulus,
            outs: [&mut [u64]; 2],
            products: &[PairProducts<'_>]
        ) = fma::dot_row_pairs;
        fn dot_row_factors(
            q: Modulus,
            outs: [&mut [u64]; 2],
            factors: FactorRow<'_>,
            pairs: PairRow<'_>,
            operands: &[usize]
        ) = fma::dot_row_factors;
        fn tensor(q: Modulus, outs: [&mut [u64]; 3], a: &[[&[u64]; 2]], b: &[[&[u64]; 2]])
            = fma::tensor;
        fn tensor_row_pairs(
            q: Modulus,
            outs: [&mut [u64]; 3],
            weights: PairRow<'_>,
            pairs: PairRow<'_>,
            operands: &[usize]
        ) = fma::tensor_row_pairs;
        fn round_quotient_sum(out: &mut [u64], digits: &[u64], reciprocals: &[f64])
            = portable::round_quotient_sum;
        fn gaussian(out: &mut [i8], words: &[u64], signs: &[u64]) = portable::gaussian;
        fn round(out: &mut [i64], values: &[f64]) = portable::round;
        fn round_wide(high: &mut [i64], low: &mut [i64], values: &[f64]) = portable::round_wide;
        fn horner_centred(q: Modulus, acc: &mut [f64], x: &[u64]) = portable::horner_centred;
        fn fft_forward(tables: &FftTables, re: &mut [f64], im: &mut [f64]) = fft::forward;
        fn fft_inverse(tables: &FftTables, re: &mut [f64], im: &mut [f64]) = fft::inverse;
    }
}
