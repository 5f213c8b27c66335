//! Moving words between memory and registers.

use std::arch::x86_64::*;

/// Eight words from memory.
///
/// # Safety
/// `at` points to eight readable words.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load(at: *const u64) -> __m512i {
    // SAFETY: the contract of this function.
    unsafe { _mm512_loadu_si512(at.cast()) }
}

/// Eight words to memory.
///
/// # Safety
/// `at` points to eight writable words.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn store(at: *mut u64, value: __m512i) {
    // SAFETY: the contract of this function.
    unsafe { _mm512_storeu_si512(at.cast(), value) }
}

/// Transposes an 8x8 matrix of words.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(r: &mut [__m512i]) {
    // Pairs of words, then pairs of 128-bit quarters at distance 1, then at distance 2.
    let low = |a, b| _mm512_unpacklo_epi64(a, b);
    let high = |a, b| _mm512_unpackhi_epi64(a, b);
    let even = |a, b| _mm512_shuffle_i64x2::<0x88>(a, b);
    let odd = |a, b| _mm512_shuffle_i64x2::<0xdd>(a, b);
    let p = [
        low(r[0], r[1]),
        high(r[0], r[1]),
        low(r[2], r[3]),
        high(r[2], r[3]),
        low(r[4], r[5]),
        high(r[4], r[5]),
        low(r[6], r[7]),
        high(r[6], r[7]),
    ];
    // Quarters of s[0]: columns 0 and 4 of rows 0, 1, then of rows 2, 3.
    let s = [
        even(p[0], p[2]),
        even(p[1], p[3]),
        odd(p[0], p[2]),
        odd(p[1], p[3]),
        even(p[4], p[6]),
        even(p[5], p[7]),
        odd(p[4], p[6]),
        odd(p[5], p[7]),
    ];
    let columns = [
        even(s[0], s[4]),
        even(s[1], s[5]),
        even(s[2], s[6]),
        even(s[3], s[7]),
        odd(s[0], s[4]),
        odd(s[1], s[5]),
        odd(s[2], s[6]),
        odd(s[3], s[7]),
    ];
    r.copy_from_slice(&columns);
}
