//! Transforms with 52-bit products after Shoup, eight lanes at a time.
//!
//! A constant w comes with w' = floor(w·2^52/q). For any y < 2^52, h = floor(y·w' / 2^52) is at
//! most one below floor(y·w/q), so y·w - h·q is in [0, 2q), and its low 52 bits are all of it.
//!
//! Two ranges of q. Below 2^50: values in [0, 4q), one conditional subtraction per butterfly. Where
//! 52 bits have room (`LAZY`, see `lazy_offsets` and [`INVERSE_LAZY_BITS`]): the forward transform
//! lets values grow to both sides in every stage from an offset that keeps them positive, and the
//! inverse lets sums double within a pass; one reduction at the end.
//!
//! Passes: up to four stages at a time in registers, across strides of 128 and more; then seven
//! stages on blocks of 128 values, with 8x8 transpositions after the fourth so that all butterflies
//! are between registers. Blocks of 64 would do, but one is a chain of dependent products; two
//! independent halves keep the multipliers busy.

mod butterfly;
mod lifted;
mod tables;

use std::arch::x86_64::*;

use super::arith;
use super::lanes::{load, store, transpose};
use crate::kernel::portable;
use crate::ntt::NttPlan;
use butterfly::{
    Constants, constant, forward_2, forward_4, forward_8, forward_8_twice, forward_16, inverse_2,
    inverse_4, inverse_8, inverse_8_twice, inverse_16,
};
pub(super) use lifted::forward_lifted;
use tables::BLOCK_WORDS;
pub(super) use tables::tables;

/// Transforms shorter than this are left to the portable kernel.
const LENGTH_MIN: usize = 256;
/// Values per block of the last forward pass.
const BLOCK: usize = 128;
/// Vectors in registers at once.
const VECTORS: usize = 16;
/// Moduli of at most this size are transformed back with one reduction per pass: 16·q < 2^52.
const INVERSE_LAZY_BITS: u32 = 48;

/// How many stages each pass takes before the blocks, first pass first.
fn pass_stages(length: usize) -> &'static [u32] {
    match (length / BLOCK).trailing_zeros() {
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
                        add_offset(&mut v, offset);
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
///
/// Bounds: lazy values are reduced at first if there is an offset to go on with
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn forward_blocks<const LAZY: bool>(c: &Constants, values: &mut [u64], table: &[u64], offset: u64) {
    let blocks = values.chunks_exact_mut(BLOCK);
    for (block, table) in blocks.zip(table.chunks_exact(BLOCK_WORDS)) {
        // SAFETY: a block has 16 rows of eight words.
        let mut v = unsafe { read_rows::<VECTORS>(block.as_ptr(), 8) };
        if LAZY && offset != 0 {
            v.iter_mut().for_each(|v| *v = c.barrett(*v));
            add_offset(&mut v, _mm512_set1_epi64(offset as i64));
        }
        let table = table.as_ptr();
        // SAFETY: the chunk has 15 pairs, two words of padding, then 14 pairs of vectors.
        unsafe { forward_16::<LAZY, false>(c, &mut v, table) };
        transpose(&mut v[..8]);
        transpose(&mut v[8..]);
        // SAFETY: as above.
        unsafe { forward_8_twice::<LAZY, true>(c, &mut v, table.add(32)) };
        v.iter_mut().for_each(|v| *v = c.finish::<LAZY>(*v));
        // SAFETY: as for the reading.
        unsafe { write_rows::<VECTORS>(block.as_mut_ptr(), 8, &v) };
    }
}

/// Adds to the values that the first stage does not multiply.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_offset(v: &mut [__m512i; VECTORS], offset: __m512i) {
    for v in &mut v[..VECTORS / 2] {
        *v = _mm512_add_epi64(*v, offset);
    }
}

/// The first seven stages of the inverse transform, on every block of 128: [0, q) -> [0, 2q). The
/// values come from `x` if it is there.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn inverse_blocks<const LAZY: bool>(
    c: &Constants,
    values: &mut [u64],
    x: Option<&[u64]>,
    table: &[u64],
) {
    let blocks = values.chunks_exact_mut(BLOCK).enumerate();
    for ((at, block), table) in blocks.zip(table.chunks_exact(BLOCK_WORDS)) {
        let from = x.map_or(&*block, |x| &x[at * BLOCK..(at + 1) * BLOCK]);
        // SAFETY: a block has 16 rows of eight words.
        let mut v = unsafe { read_rows::<VECTORS>(from.as_ptr(), 8) };
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
        c.finish_pass::<LAZY, false>(&mut v, [c.q; 2]);
        // SAFETY: as for the reading.
        unsafe { write_rows::<VECTORS>(block.as_mut_ptr(), 8, &v) };
    }
}

/// The first pass runs over the whole polynomial; then each of its parts goes through all others
/// while it is in the nearest cache.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn forward_all<const LAZY: bool>(plan: &NttPlan, values: &mut [u64], offsets: [u64; 2]) {
    let c = Constants::new(plan.modulus());
    let stages = pass_stages(values.len())[0];
    let table = &plan.tables().forward[..2 << stages];
    let offset = _mm512_set1_epi64(offsets[0] as i64);
    forward_pass::<LAZY>(&c, values, 1, stages, table, offset);
    forward_parts::<LAZY>(&c, plan, values, offsets[1]);
}

/// All passes but the first, part by part.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn forward_parts<const LAZY: bool>(c: &Constants, plan: &NttPlan, values: &mut [u64], offset: u64) {
    let (length, passes) = (values.len(), pass_stages(values.len()));
    let (parts, rest) = (1 << passes[0], &plan.tables().forward[2 << passes[0]..]);
    for (i, part) in values.chunks_exact_mut(length / parts).enumerate() {
        let (mut table, mut blocks) = (rest, 1);
        for &stages in &passes[1..] {
            let words = (2 * blocks) << stages;
            let (all, rest) = table.split_at(parts * words);
            forward_pass::<LAZY>(
                c,
                part,
                blocks,
                stages,
                &all[i * words..],
                _mm512_setzero_si512(),
            );
            (table, blocks) = (rest, blocks << stages);
        }
        forward_blocks::<LAZY>(c, part, &table[i * blocks * BLOCK_WORDS..], offset);
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
fn inverse_all<const LAZY: bool>(plan: &NttPlan, values: &mut [u64], x: Option<&[u64]>) {
    let c = Constants::new(plan.modulus());
    let (length, passes) = (values.len(), pass_stages(values.len()));
    let (blocks_table, rest) = plan.tables().inverse.split_at(length / BLOCK * BLOCK_WORDS);
    let parts = 1 << passes[0];
    for (i, part) in values.chunks_exact_mut(length / parts).enumerate() {
        let (mut table, mut blocks) = (rest, part.len() / BLOCK);
        let x = x.map(|x| &x[i * part.len()..(i + 1) * part.len()]);
        inverse_blocks::<LAZY>(&c, part, x, &blocks_table[i * blocks * BLOCK_WORDS..]);
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
    match plan.tables().lazy_offsets {
        Some(offsets) => forward_all::<true>(plan, values, offsets),
        None => forward_all::<false>(plan, values, [0; 2]),
    }
}

/// The inverse transform.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn inverse(plan: &NttPlan, values: &mut [u64]) {
    if values.len() < LENGTH_MIN {
        return portable::inverse(plan, values);
    }
    inverse_of(plan, values, None);
}

/// The inverse transform of `x`.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn inverse_from(plan: &NttPlan, out: &mut [u64], x: &[u64]) {
    assert_eq!(out.len(), x.len(), "words of one polynomial");
    if out.len() < LENGTH_MIN {
        out.copy_from_slice(x);
        return portable::inverse(plan, out);
    }
    inverse_of(plan, out, Some(x));
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn inverse_of(plan: &NttPlan, values: &mut [u64], x: Option<&[u64]>) {
    if plan.modulus().bits() <= INVERSE_LAZY_BITS {
        inverse_all::<true>(plan, values, x);
    } else {
        inverse_all::<false>(plan, values, x);
    }
    if let Some(root) = plan.fold_root() {
        arith::unfold(plan.modulus(), values, root);
    }
}
