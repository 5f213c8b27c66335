//! AVX-512 with 52-bit multiply-add (IFMA).

mod arith;
mod lanes;
mod ntt;
mod permute;
mod plain;
mod sums;

use super::ops::{NttTables, SliceKernel, TwiddleTree};
use super::portable;
use crate::automorphism::Permutation;
use crate::modulus::{Modulus, Multiplier};
use crate::ntt::NttPlan;
use crate::pairs::{FactorRow, PairProducts, PairRow};
use crate::slots::FftTables;

/// The kernel of processors with AVX-512 F, DQ, IFMA and VBMI; those with IFMA have VBMI too.
///
/// [`super::Kernel`] hands it out only after asking the processor for these; that is what every
/// call below rests on.
pub(super) struct Avx512Ifma;

/// Whether this processor has the instructions of this kernel.
pub(super) fn runs_here() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512ifma")
        && is_x86_feature_detected!("avx512vbmi")
}

/// The smallest modulus above every magnitude that an `i8` can have.
const SMALL_MODULUS_MIN: u64 = 129;

/// Methods that call the function of the same name in a module of this folder.
///
/// `arith: fn add(q: Modulus, ...)` becomes `fn add(&self, q: Modulus, ...) { unsafe {
/// arith::add(q, ...) } }`.
macro_rules! delegate {
    ($($module:ident: fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {$(
        fn $name(&self, $($argument: $type),*) {
            // SAFETY: the processor has the instructions, see `Avx512Ifma`.
            unsafe { $module::$name($($argument),*) }
        }
    )*};
}

impl SliceKernel for Avx512Ifma {
    fn ntt_tables(&self, tree: &TwiddleTree) -> NttTables {
        ntt::tables(tree)
    }

    fn lift_small(&self, q: Modulus, out: &mut [u64], x: &[i8]) {
        if q.value() < SMALL_MODULUS_MIN {
            return portable::lift_small(q, out, x);
        }
        // SAFETY: the processor has the instructions, see `Avx512Ifma`.
        unsafe { arith::lift_small(q, out, x) }
    }

    delegate! {
        ntt: fn forward(plan: &NttPlan, values: &mut [u64]);
        ntt: fn forward_lifted(plan: &NttPlan, out: &mut [u64], x: &[u64], source: Modulus);
        ntt: fn inverse(plan: &NttPlan, values: &mut [u64]);
        ntt: fn inverse_from(plan: &NttPlan, out: &mut [u64], x: &[u64]);
        arith: fn add(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]);
        arith: fn add_assign(q: Modulus, x: &mut [u64], y: &[u64]);
        arith: fn sub(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]);
        arith: fn sub_assign(q: Modulus, x: &mut [u64], y: &[u64]);
        arith: fn neg_assign(q: Modulus, x: &mut [u64]);
        arith: fn mul(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]);
        arith: fn mul_assign(q: Modulus, x: &mut [u64], y: &[u64]);
        arith: fn mul_add_assign(q: Modulus, acc: &mut [u64], x: &[u64], y: &[u64]);
        arith: fn mul_scalar(q: Modulus, out: &mut [u64], x: &[u64], w: Multiplier);
        arith: fn mul_scalar_assign(q: Modulus, x: &mut [u64], w: Multiplier);
        arith: fn mul_scalar_add_assign(q: Modulus, acc: &mut [u64], x: &[u64], w: Multiplier);
        arith: fn sub_mul_scalar_assign(q: Modulus, x: &mut [u64], y: &[u64], w: Multiplier);
        arith: fn sub_mul_scalar(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64], w: Multiplier);
        sums: fn dot(q: Modulus, out: &mut [u64], xs: &[&[u64]], ys: &[&[u64]]);
        sums: fn dot_row_pairs(
            q: Modulus,
            outs: [&mut [u64]; 2],
            products: &[PairProducts<'_>]
        );
        sums: fn dot_row_factors(
            q: Modulus,
            outs: [&mut [u64]; 2],
            factors: FactorRow<'_>,
            pairs: PairRow<'_>,
            operands: &[usize]
        );
        sums: fn tensor(q: Modulus, outs: [&mut [u64]; 3], a: &[[&[u64]; 2]], b: &[[&[u64]; 2]]);
        sums: fn tensor_row_pairs(
            q: Modulus,
            outs: [&mut [u64]; 3],
            weights: PairRow<'_>,
            pairs: PairRow<'_>,
            operands: &[usize]
        );
        arith: fn reduce(q: Modulus, out: &mut [u64], x: &[u64]);
        arith: fn lift_centred(q: Modulus, out: &mut [u64], x: &[u64], source: Modulus);
        arith: fn reduce_signed(q: Modulus, out: &mut [u64], x: &[i64]);
        sums: fn weighted_sum(q: Modulus, out: &mut [u64], weights: &[u64], xs: &[&[u64]]);
        permute: fn permute(out: &mut [u64], x: &[u64], permutation: &Permutation);
        permute: fn permute_add(q: Modulus, acc: &mut [u64], x: &[u64], permutation: &Permutation);
        permute: fn permute_tiles(
            out: &mut [u64],
            x: &[u64],
            permutation: &Permutation,
            sizes: [usize; 2]
        );
        plain: fn round_quotient_sum(out: &mut [u64], digits: &[u64], reciprocals: &[f64]);
        plain: fn gaussian(out: &mut [i8], words: &[u64], signs: &[u64]);
        arith: fn round(out: &mut [i64], values: &[f64]);
        plain: fn round_wide(high: &mut [i64], low: &mut [i64], values: &[f64]);
        plain: fn horner_centred(q: Modulus, acc: &mut [f64], x: &[u64]);
        plain: fn fft_forward(tables: &FftTables, re: &mut [f64], im: &mut [f64]);
        plain: fn fft_inverse(tables: &FftTables, re: &mut [f64], im: &mut [f64]);
    }
}
