//! Transforms with 52-bit Montgomery products, eight lanes at a time.
//!
//! A constant w is kept as w·2^52 mod q and that times 1/q mod 2^52. With m = low52(y·second), the
//! low halves of y·first and m·q agree, so high52(y·first) - high52(m·q) is exactly (y·first -
//! m·q)/2^52 = y·w mod q, in (-q, q) for any y < 2^52.
//!
//! Two ranges of q. Below 2^50: values in [0, 4q), one conditional subtraction per butterfly. Below
//! 2^46 (`LAZY`): the forward transform lets values grow by q to both sides in every stage from an
//! offset that keeps them positive, and the inverse lets sums double within a pass; one reduction
//! at the end.
//!
//! Passes: up to four stages at a time in registers, across strides of 128 and more; then seven
//! stages on blocks of 128 values, with 8x8 transpositions after the fourth so that all butterflies
//! are between registers. Blocks of 64 would do, but one is a chain of dependent products; two
//! independent halves keep the multipliers busy.

use std::arch::x86_64::*;

use super::arith;
use super::lanes::{load, store, transpose};
use crate::kernel::ops::{NttTables, TwiddleTree};
use crate::kernel::{AlignedBuffer, portable};
use crate::modulus::Modulus;
use crate::ntt::NttPlan;

/// Transforms shorter than this are left to the portable kernel.
const LENGTH_MIN: usize = 256;
/// Values per block of the last forward pass.
const BLOCK: usize = 128;
/// log2 of [`BLOCK`].
const BLOCK_STAGES: u32 = 7;
/// Vectors in registers at once.
const VECTORS: usize = 16;
/// Words of constants per block: 15 pairs and padding, then 14 pairs of eight.
const BLOCK_WORDS: usize = 32 + 28 * 8;
/// Moduli of at most this size are transformed without reductions between stages: (2·16 + 3)·q <
/// 2^52.
const LAZY_BITS: u32 = 46;

/// How many stages each pass takes before the blocks, first pass first.
fn pass_stages(length: usize) -> &'static [u32] {
    match length.trailing_zeros() - BLOCK_STAGES {
        1 => &[1],
        2 => &[2],
        3 => &[3],
        4 => &[4],
        5 => &[3, 2],
        6 => &[3, 3],
        7 => &[3, 4],
        8 => &[3, 3, 2],
        _ => &[3, 3, 3],
    }
}

/// Constants in the order in which the passes read them.
pub(super) fn tables(tree: &TwiddleTree) -> NttTables {
    let length = tree.forward.len();
    if length < LENGTH_MIN {
        return portable::ntt_tables(tree);
    }
    let pair = MontgomeryPair::new(tree.modulus);
    let (mut forward, mut inverse) = (Vec::new(), Vec::new());
    let mut node = 1;
    for &stages in pass_stages(length) {
        for root in node..2 * node {
            for at in subtree(&[root], stages) {
                forward.extend(pair.of(tree.forward[at]));
            }
            forward.extend([0; 2]);
        }
        node <<= stages;
    }
    block_constants(&mut forward, &pair, &tree.forward);
    block_constants(&mut inverse, &pair, &tree.inverse);
    for &stages in pass_stages(length).iter().rev() {
        node >>= stages;
        for root in node..2 * node {
            let scale = if root == 1 { tree.scale } else { 1 };
            for at in subtree(&[root], stages) {
                let scale = if at == 1 { tree.scale } else { 1 };
                inverse.extend(pair.of(tree.modulus.mul(tree.inverse[at], scale)));
            }
            inverse.extend(pair.of(scale));
        }
    }
    NttTables {
        forward: AlignedBuffer::from_slice(&forward),
        inverse: AlignedBuffer::from_slice(&inverse),
    }
}

/// The nodes of `stages` levels below and including `roots`, level after level.
fn subtree(roots: &[usize], stages: u32) -> Vec<usize> {
    let below = |level| {
        roots
            .iter()
            .flat_map(move |root| (root << level)..((root + 1) << level))
    };
    (0..stages).flat_map(below).collect()
}

fn block_constants(out: &mut Vec<u64>, pair: &MontgomeryPair, constants: &[u64]) {
    let blocks = constants.len() / BLOCK;
    for root in blocks..2 * blocks {
        for at in subtree(&[root], 4) {
            out.extend(pair.of(constants[at]));
        }
        out.extend([0; 2]);
        // After the transposition of each half lane r belongs to the r-th of its eight factors.
        let lane_nodes = |lane| subtree(&[16 * root + lane, 16 * root + 8 + lane], 3);
        let lanes: Vec<Vec<usize>> = (0..8).map(lane_nodes).collect();
        for place in 0..14 {
            let pairs = lanes.iter().map(|nodes| pair.of(constants[nodes[place]]));
            let (first, second): (Vec<u64>, Vec<u64>) = pairs.map(<(u64, u64)>::from).unzip();
            out.extend(first.iter().chain(&second));
        }
    }
}

/// Puts constants in Montgomery form.
struct MontgomeryPair {
    modulus: Modulus,
    /// 2^52 mod q
    radix: u64,
    /// 1/q mod 2^52
    inverse: u64,
}

impl MontgomeryPair {
    fn new(modulus: Modulus) -> Self {
        let q = modulus.value();
        // Newton's iteration doubles the number of right bits: q is its own inverse modulo 8.
        let inverse = (0..5).fold(q, |x, _| {
            x.wrapping_mul(2u64.wrapping_sub(q.wrapping_mul(x)))
        });
        Self {
            modulus,
            radix: modulus.reduce(1 << 52),
            inverse: inverse & ((1 << 52) - 1),
        }
    }

    fn of(&self, w: u64) -> [u64; 2] {
        let first = self.modulus.mul(w, self.radix);
        [first, first.wrapping_mul(self.inverse) & ((1 << 52) - 1)]
    }
}

/// The modulus in all lanes, and its multiples.
#[derive(Clone, Copy)]
struct Constants {
    q: __m512i,
    q2: __m512i,
    q4: __m512i,
    q8: __m512i,
    q16: __m512i,
    /// floor(2^52 / q)
    barrett: __m512i,
    zero: __m512i,
}

impl Constants {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn new(modulus: Modulus) -> Self {
        let q = modulus.value();
        let all = |x: u64| _mm512_set1_epi64(x as i64);
        Self {
            q: all(q),
            q2: all(2 * q),
            q4: all(4 * q),
            q8: all(8 * q),
            q16: all(16 * q),
            barrett: all((1 << 52) / q),
            zero: _mm512_setzero_si512(),
        }
    }

    /// y·w in (-q, q)
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn product(&self, y: __m512i, w: [__m512i; 2]) -> __m512i {
        let m = _mm512_madd52lo_epu64(self.zero, y, w[1]);
        let high = _mm512_madd52hi_epu64(self.zero, y, w[0]);
        _mm512_sub_epi64(high, _mm512_madd52hi_epu64(self.zero, m, self.q))
    }

    /// y·w in (0, 2q)
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn positive_product(&self, y: __m512i, w: [__m512i; 2]) -> __m512i {
        let m = _mm512_madd52lo_epu64(self.zero, y, w[1]);
        let high = _mm512_madd52hi_epu64(self.q, y, w[0]);
        _mm512_sub_epi64(high, _mm512_madd52hi_epu64(self.zero, m, self.q))
    }

    /// x, less `bound` if that is not negative
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn subtract_once(&self, x: __m512i, bound: __m512i) -> __m512i {
        _mm512_min_epu64(x, _mm512_sub_epi64(x, bound))
    }

    /// x mod q in [0, 2q) for x < 2^52
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn barrett(&self, x: __m512i) -> __m512i {
        let quotient = _mm512_madd52hi_epu64(self.zero, x, self.barrett);
        _mm512_sub_epi64(x, _mm512_madd52lo_epu64(self.zero, quotient, self.q))
    }

    /// Reduces the sums and products of the last stage of an inverse pass: to [0, 2q), or to [0, q)
    /// and scaled if `LAST`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn finish_pass<const LAZY: bool, const LAST: bool>(
        &self,
        v: &mut [__m512i; VECTORS],
        scale: [__m512i; 2],
    ) {
        let (sums, products) = v.split_at_mut(VECTORS / 2);
        if LAST {
            for sum in sums {
                *sum = self.subtract_once(self.positive_product(*sum, scale), self.q);
            }
            for product in products {
                *product = self.subtract_once(*product, self.q);
            }
        } else if LAZY {
            for sum in sums {
                *sum = self.barrett(*sum);
            }
        }
    }

    /// (x + w·y, x - w·y); not lazy: [0, 4q) -> [0, 4q), lazy: q more to both sides
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn split<const LAZY: bool>(&self, x: __m512i, y: __m512i, w: [__m512i; 2]) -> [__m512i; 2] {
        if LAZY {
            let t = self.product(y, w);
            return [_mm512_add_epi64(x, t), _mm512_sub_epi64(x, t)];
        }
        let x = self.subtract_once(x, self.q2);
        let t = self.positive_product(y, w);
        [
            _mm512_add_epi64(x, t),
            _mm512_sub_epi64(_mm512_add_epi64(x, self.q2), t),
        ]
    }

    /// (x + y, w·(x - y)); not lazy: [0, 2q) -> [0, 2q), lazy: [0, bound) -> [0, 2·bound)
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn merge<const LAZY: bool>(
        &self,
        x: __m512i,
        y: __m512i,
        w: [__m512i; 2],
        bound: __m512i,
    ) -> [__m512i; 2] {
        let sum = _mm512_add_epi64(x, y);
        let bound = if LAZY { bound } else { self.q2 };
        let difference = _mm512_sub_epi64(_mm512_add_epi64(x, bound), y);
        let sum = if LAZY {
            sum
        } else {
            self.subtract_once(sum, self.q2)
        };
        [sum, self.positive_product(difference, w)]
    }
}

/// The pair of constants at place `at`: one for all lanes, or one per lane if `VECTOR`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn constant<const VECTOR: bool>(table: *const u64, at: usize) -> [__m512i; 2] {
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
) {
    // Lazy sums double in every stage of a pass, from 2q, and no pass has more stages than the
    // block.
    let bound = match HALF {
        1 => c.q2,
        2 => c.q4,
        4 => c.q8,
        _ => c.q16,
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
        [$(($i_half:literal, $i_count:literal, $i_at:literal))*]
    ) => {
        #[inline]
        #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
        unsafe fn $forward<const LAZY: bool, const VECTOR: bool>(
            c: &Constants,
            v: &mut [__m512i],
            table: *const u64,
        ) {
            // SAFETY: the caller's table has all pairs.
            unsafe { $(split_stage::<LAZY, VECTOR, $half, $count>(c, v, table, $at);)* }
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
        unsafe fn $inverse<const LAZY: bool, const VECTOR: bool>(
            c: &Constants,
            v: &mut [__m512i],
            table: *const u64,
        ) {
            // SAFETY: the caller's table has all pairs.
            unsafe { $(merge_stage::<LAZY, VECTOR, $i_half, $i_count>(c, v, table, $i_at);)* }
        }
    };
}

tree!(forward_2, inverse_2, [(8, 1, 0)], [(8, 1, 0)]);
tree!(
    forward_4,
    inverse_4,
    [(8, 1, 0)(4, 2, 1)],
    [(4, 2, 1)(8, 1, 0)]
);
tree!(
    forward_8,
    inverse_8,
    [(8, 1, 0)(4, 2, 1)(2, 4, 3)],
    [(2, 4, 3)(4, 2, 1)(8, 1, 0)]
);
tree!(
    forward_16,
    inverse_16,
    [(8, 1, 0)(4, 2, 1)(2, 4, 3)(1, 8, 7)],
    [(1, 8, 7)(2, 4, 3)(4, 2, 1)(8, 1, 0)]
);
tree!(
    forward_8_twice,
    inverse_8_twice,
    [(4, 2, 0)(2, 4, 2)(1, 8, 6)],
    [(1, 8, 6)(2, 4, 2)(4, 2, 0)]
);

/// The same pointer, but the compiler does not know that: it would load the constants of a pass
/// once, before the loop over its steps, and then spill values, for which the registers are needed
/// more.
#[inline]
fn fresh(table: *const u64) -> *const u64 {
    let mut zero = 0usize;
    // SAFETY: no instruction.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) zero, options(nomem, nostack, preserves_flags));
    }
    table.wrapping_add(zero)
}

/// The vectors of one step of a pass: `RADIX` rows `stride` words apart, of 16/`RADIX` vectors
/// each.
///
/// # Safety
/// All rows are in one allocation.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn read_rows<const RADIX: usize>(start: *const u64, stride: usize) -> [__m512i; VECTORS] {
    let mut v = [_mm512_setzero_si512(); VECTORS];
    for (k, v) in v.iter_mut().enumerate() {
        let (row, column) = (k / (VECTORS / RADIX), k % (VECTORS / RADIX));
        // SAFETY: the contract of this function.
        *v = unsafe { load(start.add(row * stride + 8 * column)) };
    }
    v
}

/// As [`read_rows`].
///
/// # Safety
/// All rows are in one allocation.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
unsafe fn write_rows<const RADIX: usize>(start: *mut u64, stride: usize, v: &[__m512i; VECTORS]) {
    for (k, v) in v.iter().enumerate() {
        let (row, column) = (k / (VECTORS / RADIX), k % (VECTORS / RADIX));
        // SAFETY: the contract of this function.
        unsafe { store(start.add(row * stride + 8 * column), *v) };
    }
}

/// One pass of the forward and of the inverse transform over a whole polynomial, `$radix` rows at a
/// time.
///
/// Expands to `fn $forward` and `fn $inverse`, which differ in the tree only. Strides are at least
/// [`BLOCK`] words, so a step of 16 vectors never leaves its rows.
macro_rules! pass {
    ($forward:ident, $inverse:ident, $radix:literal, $split:ident, $merge:ident) => {
        /// Bounds of the first lazy pass: `offset` is added to the values that no constant
        /// multiplies.
        #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
        fn $forward<const LAZY: bool>(
            c: &Constants,
            values: &mut [u64],
            blocks: usize,
            table: &[u64],
            offset: __m512i,
        ) {
            let stride = values.len() / blocks / $radix;
            let tables = table.chunks_exact(2 * $radix);
            for (block, table) in values.chunks_exact_mut(stride * $radix).zip(tables) {
                for j in (0..stride).step_by(8 * VECTORS / $radix) {
                    let start = block[j..].as_mut_ptr();
                    // SAFETY: the block has $radix rows, and j + 128/$radix <= stride.
                    let mut v = unsafe { read_rows::<$radix>(start, stride) };
                    if LAZY {
                        for v in &mut v[..VECTORS / 2] {
                            *v = _mm512_add_epi64(*v, offset);
                        }
                    }
                    // SAFETY: the chunk has $radix - 1 pairs; the rows are those that were read.
                    unsafe {
                        $split::<LAZY, false>(c, &mut v, fresh(table.as_ptr()));
                        write_rows::<$radix>(start, stride, &v);
                    }
                }
            }
        }

        /// Bounds: [0, 2q) -> [0, 2q), or [0, q) in the last pass
        #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
        fn $inverse<const LAZY: bool, const LAST: bool>(
            c: &Constants,
            values: &mut [u64],
            blocks: usize,
            table: &[u64],
        ) {
            let stride = values.len() / blocks / $radix;
            let tables = table.chunks_exact(2 * $radix);
            for (block, table) in values.chunks_exact_mut(stride * $radix).zip(tables) {
                // SAFETY: the last of the $radix pairs is the scale.
                let scale = unsafe { constant::<false>(table.as_ptr(), $radix - 1) };
                for j in (0..stride).step_by(8 * VECTORS / $radix) {
                    let start = block[j..].as_mut_ptr();
                    // SAFETY: the block has $radix rows, and j + 128/$radix <= stride.
                    let mut v = unsafe { read_rows::<$radix>(start, stride) };
                    // SAFETY: the chunk has $radix - 1 pairs.
                    unsafe { $merge::<LAZY, false>(c, &mut v, fresh(table.as_ptr())) };
                    c.finish_pass::<LAZY, LAST>(&mut v, scale);
                    // SAFETY: the rows are those that were read.
                    unsafe { write_rows::<$radix>(start, stride, &v) };
                }
            }
        }
    };
}

pass!(forward_pass_2, inverse_pass_2, 2, forward_2, inverse_2);
pass!(forward_pass_4, inverse_pass_4, 4, forward_4, inverse_4);
pass!(forward_pass_8, inverse_pass_8, 8, forward_8, inverse_8);
pass!(forward_pass_16, inverse_pass_16, 16, forward_16, inverse_16);

/// The last seven stages of the forward transform, on every block of 128; fully reduces.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn forward_blocks<const LAZY: bool>(c: &Constants, values: &mut [u64], table: &[u64]) {
    for (block, table) in values
        .chunks_exact_mut(BLOCK)
        .zip(table.chunks_exact(BLOCK_WORDS))
    {
        // SAFETY: a block has 16 rows of eight words.
        let mut v = unsafe { read_rows::<VECTORS>(block.as_ptr(), 8) };
        let table = table.as_ptr();
        // SAFETY: the chunk has 15 pairs, two words of padding, then 14 pairs of vectors.
        unsafe { forward_16::<LAZY, false>(c, &mut v, table) };
        transpose(&mut v[..8]);
        transpose(&mut v[8..]);
        // SAFETY: as above.
        unsafe { forward_8_twice::<LAZY, true>(c, &mut v, table.add(32)) };
        for v in &mut v {
            let partly = if LAZY {
                c.barrett(*v)
            } else {
                c.subtract_once(*v, c.q2)
            };
            *v = c.subtract_once(partly, c.q);
        }
        // SAFETY: as for the reading.
        unsafe { write_rows::<VECTORS>(block.as_mut_ptr(), 8, &v) };
    }
}

/// The first seven stages of the inverse transform, on every block of 128: [0, q) -> [0, 2q).
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn inverse_blocks<const LAZY: bool>(c: &Constants, values: &mut [u64], table: &[u64]) {
    for (block, table) in values
        .chunks_exact_mut(BLOCK)
        .zip(table.chunks_exact(BLOCK_WORDS))
    {
        // SAFETY: a block has 16 rows of eight words.
        let mut v = unsafe { read_rows::<VECTORS>(block.as_ptr(), 8) };
        let table = table.as_ptr();
        // SAFETY: as in `forward_blocks`.
        unsafe { inverse_8_twice::<LAZY, true>(c, &mut v, table.add(32)) };
        for half in v.chunks_exact_mut(8) {
            if LAZY {
                half[..4].iter_mut().for_each(|v| *v = c.barrett(*v));
            }
            transpose(half);
        }
        // SAFETY: as in `forward_blocks`.
        unsafe { inverse_16::<LAZY, false>(c, &mut v, table) };
        c.finish_pass::<LAZY, false>(&mut v, [c.zero; 2]);
        // SAFETY: as for the reading.
        unsafe { write_rows::<VECTORS>(block.as_mut_ptr(), 8, &v) };
    }
}

/// The first pass runs over the whole polynomial; then each of its parts goes through all others
/// while it is in the nearest cache.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn forward_all<const LAZY: bool>(plan: &NttPlan, values: &mut [u64]) {
    let c = Constants::new(plan.modulus());
    let (length, passes) = (values.len(), pass_stages(values.len()));
    let (table, rest) = plan.tables().forward.split_at(2 << passes[0]);
    // Enough that no later stage makes a value negative; values are below 3q after a fold.
    let offset = u64::from(length.trailing_zeros()) * plan.modulus().value();
    forward_pass::<LAZY>(
        &c,
        values,
        1,
        passes[0],
        table,
        _mm512_set1_epi64(offset as i64),
    );
    let parts = 1 << passes[0];
    for (i, part) in values.chunks_exact_mut(length / parts).enumerate() {
        let (mut table, mut blocks) = (rest, 1);
        for &stages in &passes[1..] {
            let words = (2 * blocks) << stages;
            let (all, rest) = table.split_at(parts * words);
            forward_pass::<LAZY>(&c, part, blocks, stages, &all[i * words..], c.zero);
            (table, blocks) = (rest, blocks << stages);
        }
        forward_blocks::<LAZY>(&c, part, &table[i * blocks * BLOCK_WORDS..]);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn forward_pass<const LAZY: bool>(
    c: &Constants,
    values: &mut [u64],
    blocks: usize,
    stages: u32,
    table: &[u64],
    offset: __m512i,
) {
    match stages {
        1 => forward_pass_2::<LAZY>(c, values, blocks, table, offset),
        2 => forward_pass_4::<LAZY>(c, values, blocks, table, offset),
        3 => forward_pass_8::<LAZY>(c, values, blocks, table, offset),
        _ => forward_pass_16::<LAZY>(c, values, blocks, table, offset),
    }
}

/// As [`forward_all`], backwards.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn inverse_all<const LAZY: bool>(plan: &NttPlan, values: &mut [u64]) {
    let c = Constants::new(plan.modulus());
    let (length, passes) = (values.len(), pass_stages(values.len()));
    let (blocks_table, rest) = plan.tables().inverse.split_at(length / BLOCK * BLOCK_WORDS);
    let parts = 1 << passes[0];
    for (i, part) in values.chunks_exact_mut(length / parts).enumerate() {
        let (mut table, mut blocks) = (rest, part.len() / BLOCK);
        inverse_blocks::<LAZY>(&c, part, &blocks_table[i * blocks * BLOCK_WORDS..]);
        for &stages in passes[1..].iter().rev() {
            blocks >>= stages;
            let words = (2 * blocks) << stages;
            let (all, rest) = table.split_at(parts * words);
            inverse_pass::<LAZY, false>(&c, part, blocks, stages, &all[i * words..]);
            table = rest;
        }
    }
    let last = plan.tables().inverse.len() - (2 << passes[0]);
    inverse_pass::<LAZY, true>(&c, values, 1, passes[0], &plan.tables().inverse[last..]);
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn inverse_pass<const LAZY: bool, const LAST: bool>(
    c: &Constants,
    values: &mut [u64],
    blocks: usize,
    stages: u32,
    table: &[u64],
) {
    match stages {
        1 => inverse_pass_2::<LAZY, LAST>(c, values, blocks, table),
        2 => inverse_pass_4::<LAZY, LAST>(c, values, blocks, table),
        3 => inverse_pass_8::<LAZY, LAST>(c, values, blocks, table),
        _ => inverse_pass_16::<LAZY, LAST>(c, values, blocks, table),
    }
}

/// The forward transform.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn forward(plan: &NttPlan, values: &mut [u64]) {
    if values.len() < LENGTH_MIN {
        return portable::forward(plan, values);
    }
    if let Some(root) = plan.fold_root() {
        arith::fold(plan.modulus(), values, root);
    }
    if plan.modulus().bits() <= LAZY_BITS {
        forward_all::<true>(plan, values);
    } else {
        forward_all::<false>(plan, values);
    }
}

/// The inverse transform.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn inverse(plan: &NttPlan, values: &mut [u64]) {
    if values.len() < LENGTH_MIN {
        return portable::inverse(plan, values);
    }
    if plan.modulus().bits() <= LAZY_BITS {
        inverse_all::<true>(plan, values);
    } else {
        inverse_all::<false>(plan, values);
    }
    if let Some(root) = plan.fold_root() {
        arith::unfold(plan.modulus(), values, root);
    }
}
