//! The panel with 52-bit multiply-add: one instruction per product of eight positions.

use std::arch::x86_64::*;

use super::Reduction;
use crate::lanes::TILE;

const VECTORS: usize = TILE / 8;

/// Σ_c w_rc·xs_c mod q for `ROWS` rows.
///
/// Bounds: w + 2^offset_bits and q together have at most 52 bits, so the low half is the whole
///     product
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn panel<const ROWS: usize>(
    reduction: Reduction,
    weights: &[u64],
    xs: &[&[u64; TILE]],
) -> [[u64; TILE]; ROWS] {
    let zero = _mm512_setzero_si512();
    let mut sums = [[zero; VECTORS]; ROWS];
    let mut plain = [zero; VECTORS];
    for (x, weights) in xs.iter().zip(weights.as_chunks::<ROWS>().0) {
        let mut lanes = [zero; VECTORS];
        for (v, eight) in x.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: `eight` has the 64 bytes that are loaded.
            lanes[v] = unsafe { _mm512_loadu_si512(eight.as_ptr().cast()) };
            plain[v] = _mm512_add_epi64(plain[v], lanes[v]);
        }
        for (sums, &w) in sums.iter_mut().zip(weights) {
            let w = _mm512_set1_epi64(w as i64);
            for (sum, &lane) in sums.iter_mut().zip(&lanes) {
                *sum = _mm512_madd52lo_epu64(*sum, lane, w);
            }
        }
    }
    let mut outs = [[0; TILE]; ROWS];
    for (out, sums) in outs.iter_mut().zip(&sums) {
        let out = out.as_chunks_mut::<8>().0;
        for ((eight, &sum), &plain) in out.iter_mut().zip(sums).zip(&plain) {
            let value = reduce(reduction, sum, plain);
            // SAFETY: `eight` has the 64 bytes that are stored.
            unsafe { _mm512_storeu_si512(eight.as_mut_ptr().cast(), value) };
        }
    }
    outs
}

/// As the portable `Reduction::reduce`, in the low 52 bits.
#[target_feature(enable = "avx512f,avx512ifma")]
fn reduce(reduction: Reduction, sum: __m512i, plain: __m512i) -> __m512i {
    let zero = _mm512_setzero_si512();
    let q = _mm512_set1_epi64(reduction.q as i64);
    let offset = _mm512_sll_epi64(plain, _mm_cvtsi64_si128(i64::from(reduction.offset_bits)));
    let bias = _mm512_set1_epi64(reduction.bias as i64);
    let word = _mm512_add_epi64(_mm512_sub_epi64(sum, offset), bias);
    let high = _mm512_srl_epi64(word, _mm_cvtsi64_si128(i64::from(reduction.shift)));
    let factor = _mm512_set1_epi64(reduction.factor as i64);
    let quotient = _mm512_madd52hi_epu64(zero, high, factor);
    let multiple = _mm512_madd52lo_epu64(zero, quotient, q);
    let mask = _mm512_set1_epi64((1 << 52) - 1);
    let rest = _mm512_and_si512(_mm512_sub_epi64(word, multiple), mask);
    let rest = _mm512_min_epu64(rest, _mm512_sub_epi64(rest, q));
    _mm512_min_epu64(rest, _mm512_sub_epi64(rest, q))
}
