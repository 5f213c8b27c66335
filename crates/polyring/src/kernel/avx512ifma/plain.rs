//! Plain Rust compiled for AVX-512, or for AVX2 where the compiler makes better use of that: the
//! compiler makes the vectors, the results are those of every other compilation.

use crate::kernel::{fft, portable};
use crate::modulus::Modulus;
use crate::slots::FftTables;

/// `fn name(...)` that inlines a plain function of the same shape under the instruction set of this
/// kernel.
macro_rules! compile {
    ($features:literal, $(fn $name:ident($($argument:ident: $type:ty),*) = $plain:path;)*) => {$(
        #[target_feature(enable = $features)]
        pub(super) fn $name($($argument: $type),*) {
            $plain($($argument),*);
        }
    )*};
}

compile! {
    "avx512f,avx512dq,avx512ifma",
    fn round_quotient_sum(out: &mut [u64], digits: &[u64], reciprocals: &[f64])
        = portable::round_quotient_sum;
    fn gaussian(out: &mut [i8], words: &[u64], signs: &[u64]) = portable::gaussian;
    fn round_wide(high: &mut [i64], low: &mut [i64], values: &[f64]) = portable::round_wide;
    fn horner_centred(q: Modulus, acc: &mut [f64], x: &[u64]) = portable::horner_centred;
}

compile! {
    "avx512f,avx512dq,avx512ifma",
    fn fft_forward(tables: &FftTables, re: &mut [f64], im: &mut [f64]) = fft::forward;
    fn fft_inverse(tables: &FftTables, re: &mut [f64], im: &mut [f64]) = fft::inverse;
}
