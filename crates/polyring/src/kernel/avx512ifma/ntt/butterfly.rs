//! Butterflies, and trees of them in registers.
//!
//! Bounds: where the sums of low halves are not masked, bits from 52 on are garbage: products read
//! the low 52 bits only, sums carry none of it down, and whoever compares values masks them.

use std::arch::x86_64::*;

use super::VECTORS;
use crate::kernel::avx512ifma::lanes::load;
use crate::modulus::Modulus;

/// A constant and its quotient for 52-bit words, in all lanes.
pub(super) type Factor = [__m512i; 2];

/// The modulus in all lanes, and its multiples.
#[derive(Clone, Copy)]
pub(super) struct Constants {
    pub(super) q: __m512i,
    q2: __m512i,
    q4: __m512i,
    q8: __m512i,
    /// 2^52 - q
    minus_q: __m512i,
    mask: __m512i,
    /// floor(2^52 / q)
    barrett: __m512i,
    zero: __m512i,
    two: __m512i,
}

impl Constants {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn new(modulus: Modulus) -> Self {
        let q = modulus.value();
        let all = |x: u64| _mm512_set1_epi64(x as i64);
        Self {
            q: all(q),
            q2: all(2 * q),
            q4: all(4 * q),
            q8: all(8 * q),
            minus_q: all((1 << 52) - q),
            mask: all((1 << 52) - 1),
            barrett: all((1 << 52) / q),
            zero: _mm512_setzero_si512(),
            two: all(2),
        }
    }

    /// x + y·w without a mask, where the product counts as one in [0, 2q)
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn add_product(&self, x: __m512i, y: __m512i, w: Factor) -> __m512i {
        let quotient = _mm512_madd52hi_epu64(self.zero, y, w[1]);
        let sum = _mm512_madd52lo_epu64(x, y, w[0]);
        _mm512_madd52lo_epu64(sum, quotient, self.minus_q)
    }

    /// The low 52 bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn masked(&self, x: __m512i) -> __m512i {
        _mm512_and_si512(x, self.mask)
    }

    /// x, less `bound` if that is not negative
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn subtract_once(&self, x: __m512i, bound: __m512i) -> __m512i {
        _mm512_min_epu64(x, _mm512_sub_epi64(x, bound))
    }

    /// The low 52 bits of x, mod q in [0, 2q)
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn barrett(&self, x: __m512i) -> __m512i {
        let quotient = _mm512_madd52hi_epu64(self.zero, x, self.barrett);
        self.masked(_mm512_madd52lo_epu64(x, quotient, self.minus_q))
    }

    /// The result of a forward transform: all bits of what its last stage gave, mod q.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn finish<const LAZY: bool>(&self, x: __m512i) -> __m512i {
        let partly = if LAZY {
            self.barrett(x)
        } else {
            self.subtract_once(x, self.q2)
        };
        self.subtract_once(partly, self.q)
    }

    /// Reduces the sums and products of the last stage of an inverse pass: to [0, 2q), or to [0, q)
    /// and scaled if `LAST`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn finish_pass<const LAZY: bool, const LAST: bool>(
        &self,
        v: &mut [__m512i; VECTORS],
        scale: Factor,
    ) {
        let (sums, products) = v.split_at_mut(VECTORS / 2);
        if LAST {
            for sum in sums {
                let product = self.masked(self.add_product(self.zero, *sum, scale));
                *sum = self.subtract_once(product, self.q);
            }
            for product in products {
                *product = self.subtract_once(self.masked(*product), self.q);
            }
        } else if LAZY {
            for sum in sums {
                *sum = self.barrett(*sum);
            }
        }
    }

    /// (x + w·y, x - w·y); not lazy: [0, 4q) -> [0, 4q), lazy: up to 2q more to both sides
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn split<const LAZY: bool>(&self, x: __m512i, y: __m512i, w: Factor) -> [__m512i; 2] {
        if LAZY {
            let sum = self.add_product(x, y, w);
            return [sum, _mm512_sub_epi64(_mm512_add_epi64(x, x), sum)];
        }
        let x = self.subtract_once(x, self.q2);
        let sum = self.masked(self.add_product(x, y, w));
        // Two sums in one instruction.
        let twice = _mm512_madd52lo_epu64(self.q2, x, self.two);
        [sum, _mm512_sub_epi64(twice, sum)]
    }

    /// (x + y, w·(x - y)); not lazy: [0, 2q) -> [0, 2q), lazy: [0, bound) -> [0, 2·bound)
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn merge<const LAZY: bool>(
        &self,
        x: __m512i,
        y: __m512i,
        w: Factor,
        bound: __m512i,
    ) -> [__m512i; 2] {
        let sum = _mm512_add_epi64(x, y);
        let bound = if LAZY { bound } else { self.q2 };
        let difference = _mm512_sub_epi64(_mm512_add_epi64(x, bound), y);
        let product = self.add_product(self.zero, difference, w);
        if LAZY {
            return [sum, product];
        }
        [self.subtract_once(sum, self.q2), self.masked(product)]
    }
}

/// The pair of constants at place `at`: one for all lanes, or one per lane if `VECTOR`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) unsafe fn constant<const VECTOR: bool>(table: *const u64, at: usize) -> Factor {
    // SAFETY: the caller's table has pairs for all nodes of its subtree.
    unsafe {
        if VECTOR {
            [load(table.add(16 * at)), load(table.add(16 * at + 8))]
        } else {
            [
                _mm512_set1_epi64(*table.add(2 * at) as i64),
                _mm512_set1_epi64(*table.add(2 * at + 1) as i64),
            ]
        }
    }
}

/// `BLOCKS` splittings of `2·HALF` vectors each, with the constants from place `at` on.
///
/// # Safety
/// `table` has `at + BLOCKS` pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn split_stage<
    const LAZY: bool,
    const VECTOR: bool,
    const HALF: usize,
    const BLOCKS: usize,
>(
    c: &Constants,
    v: &mut [__m512i],
    table: *const u64,
    at: usize,
) {
    for (block, v) in v.chunks_exact_mut(2 * HALF).take(BLOCKS).enumerate() {
        // SAFETY: the contract of this function.
        let w = unsafe { constant::<VECTOR>(table, at + block) };
        for i in 0..HALF {
            [v[i], v[i + HALF]] = c.split::<LAZY>(v[i], v[i + HALF], w);
        }
    }
}

/// `BLOCKS` mergings to `2·HALF` vectors each, with the constants from place `at` on.
///
/// # Safety
/// `table` has `at + BLOCKS` pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn merge_stage<
    const LAZY: bool,
    const VECTOR: bool,
    const HALF: usize,
    const BLOCKS: usize,
>(
    c: &Constants,
    v: &mut [__m512i],
    table: *const u64,
    at: usize,
    stage: u32,
) {
    // Lazy sums double in every stage of a pass, from 2q. After three stages only the first of
    // eight values has been a sum each time, the others are below 8q.
    if LAZY && stage == 3 {
        [v[0], v[8]] = [c.barrett(v[0]), c.barrett(v[8])];
    }
    let bound = match stage {
        0 => c.q2,
        1 => c.q4,
        _ => c.q8,
    };
    for (block, v) in v.chunks_exact_mut(2 * HALF).take(BLOCKS).enumerate() {
        // SAFETY: the contract of this function.
        let w = unsafe { constant::<VECTOR>(table, at + block) };
        for i in 0..HALF {
            [v[i], v[i + HALF]] = c.merge::<LAZY>(v[i], v[i + HALF], w, bound);
        }
    }
}

/// A forward and an inverse tree of butterflies in registers, from the listed stages (half length,
/// count, first constant).
///
/// Expands to `fn $forward` and `fn $inverse` on 16 vectors; both need a table of pairs for all
/// nodes in level order.
macro_rules! tree {
    (
        $forward:ident,
        $inverse:ident,
        [$(($half:literal, $count:literal, $at:literal))*],
        [$(($i_half:literal, $i_count:literal, $i_at:literal, $i_stage:literal))*]
    ) => {
        #[inline]
        #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
        pub(super) unsafe fn $forward<const LAZY: bool, const VECTOR: bool>(
            c: &Constants,
            v: &mut [__m512i],
            table: *const u64,
        ) {
            // SAFETY: the caller's table has all pairs.
            unsafe { $(split_stage::<LAZY, VECTOR, $half, $count>(c, v, table, $at);)* }
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
        pub(super) unsafe fn $inverse<const LAZY: bool, const VECTOR: bool>(
            c: &Constants,
            v: &mut [__m512i],
            table: *const u64,
        ) {
            // SAFETY: the caller's table has all pairs.
            unsafe {
                $(merge_stage::<LAZY, VECTOR, $i_half, $i_count>(c, v, table, $i_at, $i_stage);)*
            }
        }
    };
}

tree!(forward_2, inverse_2, [(8, 1, 0)], [(8, 1, 0, 0)]);
tree!(
    forward_4,
    inverse_4,
    [(8, 1, 0)(4, 2, 1)],
    [(4, 2, 1, 0)(8, 1, 0, 1)]
);
tree!(
    forward_8,
    inverse_8,
    [(8, 1, 0)(4, 2, 1)(2, 4, 3)],
    [(2, 4, 3, 0)(4, 2, 1, 1)(8, 1, 0, 2)]
);
tree!(
    forward_16,
    inverse_16,
    [(8, 1, 0)(4, 2, 1)(2, 4, 3)(1, 8, 7)],
    [(1, 8, 7, 0)(2, 4, 3, 1)(4, 2, 1, 2)(8, 1, 0, 3)]
);
tree!(
    forward_8_twice,
    inverse_8_twice,
    [(4, 2, 0)(2, 4, 2)(1, 8, 6)],
    [(1, 8, 6, 0)(2, 4, 2, 1)(4, 2, 0, 2)]
);
