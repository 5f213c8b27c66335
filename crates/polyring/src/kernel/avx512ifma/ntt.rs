//! Transforms with 52-bit Montgomery products, eight lanes at a time.
//!
//! A constant w is kept as w·2^52 mod q and that times 1/q mod 2^52. With m = low52(y·second), the low halves of y·first and
//! m·q agree, so high52(y·first) - high52(m·q) is exactly (y·first - m·q)/2^52 = y·w mod q, in (-q, q) for any y < 2^52.
//!
//! Two ranges of q. Below 2^50: values in [0, 4q), one conditional subtraction per butterfly. Below 2^46 (`LAZY`): the
//! forward transform lets values grow by q to both sides in every stage from an offset that keeps them positive, and the
//! inverse lets sums double within a pass; one reduction at the end.
//!
//! Passes: up to four stages at a time in registers, across strides of 128 and more; then seven stages on blocks of 128
//! values, with 8x8 transpositions after the fourth so that all butterflies are between registers. Blocks of 64 would do,
//! but one is a chain of dependent products; two independent halves keep the multipliers busy.

use std::arch::x86_64::*;

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
/// Words of constants per block: 15 pairs and padding, then for both halves seven pairs of eight.
const BLOCK_WORDS: usize = 32 + 2 * HALF_WORDS;
/// Words of constants for the last three stages of half a block.
const HALF_WORDS: usize = 14 * 8;
/// Moduli of at most this size are transformed without reductions between stages: (2·16 + 2)·q < 2^52.
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
        8 => &[4, 4],
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
            for at in subtree(root, stages) {
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
            for at in subtree(root, stages) {
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

/// The nodes of `stages` levels below and including `root`: root, left subtree, right subtree.
fn subtree(root: usize, stages: u32) -> Vec<usize> {
    if stages == 0 {
        return Vec::new();
    }
    let mut nodes = vec![root];
    nodes.extend(subtree(2 * root, stages - 1));
    nodes.extend(subtree(2 * root + 1, stages - 1));
    nodes
}

fn block_constants(out: &mut Vec<u64>, pair: &MontgomeryPair, constants: &[u64]) {
    let blocks = constants.len() / BLOCK;
    for root in blocks..2 * blocks {
        for at in subtree(root, 4) {
            out.extend(pair.of(constants[at]));
        }
        out.extend([0; 2]);
        for half in [2 * root, 2 * root + 1] {
            // After the transposition lane r belongs to the r-th of eight factors.
            let lanes: Vec<Vec<usize>> = (0..8).map(|lane| subtree(8 * half + lane, 3)).collect();
            for place in 0..7 {
                let pairs = lanes.iter().map(|nodes| pair.of(constants[nodes[place]]));
                let (first, second): (Vec<u64>, Vec<u64>) = pairs.map(<(u64, u64)>::from).unzip();
                out.extend(first.iter().chain(&second));
            }
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

/// A forward and an inverse tree of butterflies in registers: one level, then both halves, or the reverse.
///
/// Expands to `fn $forward` and `fn $inverse` on arrays of `2·$half` vectors, which call those of `$half` vectors.
/// SAFETY of both: `table` has the constants of `2·$half - 1` nodes, as [`subtree`] orders them, from place `at` on.
macro_rules! radix {
    ($forward:ident, $inverse:ident, $half:literal, $bound:ident, $($lower:ident, $upper:ident)?) => {
        #[inline]
        #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
        unsafe fn $forward<const LAZY: bool, const VECTOR: bool>(
            c: &Constants,
            v: &mut [__m512i],
            table: *const u64,
            at: usize,
        ) {
            // SAFETY: the contract of the macro.
            let w = unsafe { constant::<VECTOR>(table, at) };
            for i in 0..$half {
                [v[i], v[i + $half]] = c.split::<LAZY>(v[i], v[i + $half], w);
            }
            $(
                // SAFETY: each half has $half - 1 nodes.
                unsafe {
                    $lower::<LAZY, VECTOR>(c, &mut v[..$half], table, at + 1);
                    $lower::<LAZY, VECTOR>(c, &mut v[$half..], table, at + $half);
                }
            )?
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
        unsafe fn $inverse<const LAZY: bool, const VECTOR: bool>(
            c: &Constants,
            v: &mut [__m512i],
            table: *const u64,
            at: usize,
        ) {
            $(
                // SAFETY: each half has $half - 1 nodes.
                unsafe {
                    $upper::<LAZY, VECTOR>(c, &mut v[..$half], table, at + 1);
                    $upper::<LAZY, VECTOR>(c, &mut v[$half..], table, at + $half);
                }
            )?
            // SAFETY: the contract of the macro.
            let w = unsafe { constant::<VECTOR>(table, at) };
            for i in 0..$half {
                [v[i], v[i + $half]] = c.merge::<LAZY>(v[i], v[i + $half], w, c.$bound);
            }
        }
    };
}

radix!(forward_2, inverse_2, 1, q2,);
radix!(forward_4, inverse_4, 2, q4, forward_2, inverse_2);
radix!(forward_8, inverse_8, 4, q8, forward_4, inverse_4);
radix!(forward_16, inverse_16, 8, q16, forward_8, inverse_8);

/// One pass of the forward and of the inverse transform over a whole polynomial, `$radix` vectors at a time.
macro_rules! pass {
    ($forward:ident, $inverse:ident, $radix:literal, $split:ident, $merge:ident, $merge_halves:expr) => {
        /// Bounds of the first lazy pass: `offset` is added to the values that no constant multiplies.
        #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
        fn $forward<const LAZY: bool>(
            c: &Constants,
            values: &mut [u64],
            blocks: usize,
            table: &[u64],
            offset: __m512i,
        ) {
            let length = values.len() / blocks;
            let stride = length / $radix;
            let tables = table.chunks_exact(2 * $radix);
            for (block, table) in values.chunks_exact_mut(length).zip(tables) {
                for j in (0..stride).step_by(8) {
                    let start = block[j..].as_mut_ptr();
                    let mut v = [c.zero; $radix];
                    for (k, v) in v.iter_mut().enumerate() {
                        // SAFETY: j + 8 <= stride, so row k ends within the block of $radix strides.
                        *v = unsafe { load(start.add(k * stride)) };
                    }
                    if LAZY {
                        for v in &mut v[..$radix / 2] {
                            *v = _mm512_add_epi64(*v, offset);
                        }
                    }
                    // SAFETY: the chunk has $radix - 1 pairs.
                    unsafe { $split::<LAZY, false>(c, &mut v, table.as_ptr(), 0) };
                    for (k, v) in v.iter().enumerate() {
                        // SAFETY: as for the loads.
                        unsafe { store(start.add(k * stride), *v) };
                    }
                }
            }
        }

        /// Bounds: [0, 2q) -> [0, 2q), or [0, q) in the last pass
        #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
        fn $inverse<const LAZY: bool>(
            c: &Constants,
            values: &mut [u64],
            blocks: usize,
            table: &[u64],
        ) {
            let length = values.len() / blocks;
            let stride = length / $radix;
            let tables = table.chunks_exact(2 * $radix);
            for (block, table) in values.chunks_exact_mut(length).zip(tables) {
                // SAFETY: the last of the $radix pairs is the scale.
                let scale = unsafe { constant::<false>(table.as_ptr(), $radix - 1) };
                for j in (0..stride).step_by(8) {
                    let start = block[j..].as_mut_ptr();
                    let mut v = [c.zero; $radix];
                    for (k, v) in v.iter_mut().enumerate() {
                        // SAFETY: j + 8 <= stride, so row k ends within the block of $radix strides.
                        *v = unsafe { load(start.add(k * stride)) };
                    }
                    // SAFETY: the chunk has $radix - 1 pairs.
                    unsafe { $merge::<LAZY, false>(c, &mut v, table.as_ptr(), 0) };
                    let (sums, products) = v.split_at_mut($radix / 2);
                    if blocks == 1 {
                        for sum in sums {
                            *sum = c.subtract_once(c.positive_product(*sum, scale), c.q);
                        }
                        for product in products {
                            *product = c.subtract_once(*product, c.q);
                        }
                    } else if LAZY {
                        for sum in sums {
                            *sum = c.barrett(*sum);
                        }
                    }
                    for (k, v) in v.iter().enumerate() {
                        // SAFETY: as for the loads.
                        unsafe { store(start.add(k * stride), *v) };
                    }
                }
            }
        }
    };
}

pass!(forward_pass_2, inverse_pass_2, 2, forward_2, inverse_2, 1);
pass!(forward_pass_4, inverse_pass_4, 4, forward_4, inverse_4, 2);
pass!(forward_pass_8, inverse_pass_8, 8, forward_8, inverse_8, 4);
pass!(
    forward_pass_16,
    inverse_pass_16,
    16,
    forward_16,
    inverse_16,
    8
);

/// The last seven stages of the forward transform, on every block of 128; fully reduces.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn forward_blocks<const LAZY: bool>(c: &Constants, values: &mut [u64], table: &[u64]) {
    for (block, table) in values
        .chunks_exact_mut(BLOCK)
        .zip(table.chunks_exact(BLOCK_WORDS))
    {
        let mut v = read_block(block);
        let table = table.as_ptr();
        // SAFETY: the chunk has 15 pairs, two words of padding, then twice seven pairs of vectors.
        unsafe { forward_16::<LAZY, false>(c, &mut v, table, 0) };
        let (low, high) = v.split_at_mut(8);
        transpose(low);
        transpose(high);
        // SAFETY: as above.
        unsafe {
            forward_8::<LAZY, true>(c, low, table.add(32), 0);
            forward_8::<LAZY, true>(c, high, table.add(32 + HALF_WORDS), 0);
        }
        for v in &mut v {
            let partly = if LAZY {
                c.barrett(*v)
            } else {
                c.subtract_once(*v, c.q2)
            };
            *v = c.subtract_once(partly, c.q);
        }
        write_block(block, &v);
    }
}

/// The first seven stages of the inverse transform, on every block of 128: [0, q) -> [0, 2q).
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn inverse_blocks<const LAZY: bool>(c: &Constants, values: &mut [u64], table: &[u64]) {
    for (block, table) in values
        .chunks_exact_mut(BLOCK)
        .zip(table.chunks_exact(BLOCK_WORDS))
    {
        let mut v = read_block(block);
        let table = table.as_ptr();
        let (low, high) = v.split_at_mut(8);
        // SAFETY: as in `forward_blocks`.
        unsafe {
            inverse_8::<LAZY, true>(c, low, table.add(32), 0);
            inverse_8::<LAZY, true>(c, high, table.add(32 + HALF_WORDS), 0);
        }
        if LAZY {
            low[..4].iter_mut().for_each(|v| *v = c.barrett(*v));
            high[..4].iter_mut().for_each(|v| *v = c.barrett(*v));
        }
        transpose(low);
        transpose(high);
        // SAFETY: as in `forward_blocks`.
        unsafe { inverse_16::<LAZY, false>(c, &mut v, table, 0) };
        if LAZY {
            v[..8].iter_mut().for_each(|v| *v = c.barrett(*v));
        }
        write_block(block, &v);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn read_block(block: &[u64]) -> [__m512i; 16] {
    assert_eq!(block.len(), BLOCK);
    let mut rows = [_mm512_setzero_si512(); 16];
    for (k, row) in rows.iter_mut().enumerate() {
        // SAFETY: 8·k + 8 <= BLOCK.
        *row = unsafe { load(block.as_ptr().add(8 * k)) };
    }
    rows
}

#[inline]
#[target_feature(enable = "avx512f")]
fn write_block(block: &mut [u64], rows: &[__m512i; 16]) {
    assert_eq!(block.len(), BLOCK);
    for (k, row) in rows.iter().enumerate() {
        // SAFETY: 8·k + 8 <= BLOCK.
        unsafe { store(block.as_mut_ptr().add(8 * k), *row) };
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn forward_all<const LAZY: bool>(plan: &NttPlan, values: &mut [u64]) {
    let c = Constants::new(plan.modulus());
    let mut table = &plan.tables().forward[..];
    let mut blocks = 1;
    let stages = u64::from(values.len().trailing_zeros());
    // Enough that no later stage makes a value negative.
    let mut offset = _mm512_set1_epi64((stages * plan.modulus().value()) as i64);
    for &stages in pass_stages(values.len()) {
        let (now, rest) = table.split_at(2 * blocks << stages);
        match stages {
            1 => forward_pass_2::<LAZY>(&c, values, blocks, now, offset),
            2 => forward_pass_4::<LAZY>(&c, values, blocks, now, offset),
            3 => forward_pass_8::<LAZY>(&c, values, blocks, now, offset),
            _ => forward_pass_16::<LAZY>(&c, values, blocks, now, offset),
        }
        (table, blocks, offset) = (rest, blocks << stages, c.zero);
    }
    forward_blocks::<LAZY>(&c, values, table);
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn inverse_all<const LAZY: bool>(plan: &NttPlan, values: &mut [u64]) {
    let c = Constants::new(plan.modulus());
    let mut blocks = values.len() / BLOCK;
    let (now, mut table) = plan.tables().inverse.split_at(blocks * BLOCK_WORDS);
    inverse_blocks::<LAZY>(&c, values, now);
    for &stages in pass_stages(values.len()).iter().rev() {
        blocks >>= stages;
        let (now, rest) = table.split_at(2 * blocks << stages);
        match stages {
            1 => inverse_pass_2::<LAZY>(&c, values, blocks, now),
            2 => inverse_pass_4::<LAZY>(&c, values, blocks, now),
            3 => inverse_pass_8::<LAZY>(&c, values, blocks, now),
            _ => inverse_pass_16::<LAZY>(&c, values, blocks, now),
        }
        table = rest;
    }
}

/// The forward transform.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn forward(plan: &NttPlan, values: &mut [u64]) {
    if values.len() < LENGTH_MIN {
        return portable::forward(plan, values);
    }
    plan.fold(values);
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
    plan.unfold(values);
}
