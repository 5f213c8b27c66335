//! Automorphisms of transformed polynomials.

use std::arch::x86_64::*;

use super::arith::{Field, LANES};
use super::lanes::{load, store};
use crate::automorphism::{BlockMoves, Permutation, Turn, reversed};
use crate::kernel::portable;
use crate::modulus::Modulus;

/// Words of a block of moves.
const BLOCK: usize = LANES * LANES;

/// The image of x.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn permute(out: &mut [u64], x: &[u64], permutation: &Permutation) {
    match permutation.block_moves() {
        Some(moves) => permute_blocks(out, x, moves),
        None => portable::permute(out, x, permutation),
    }
}

/// acc += the image of x
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn permute_add(q: Modulus, acc: &mut [u64], x: &[u64], permutation: &Permutation) {
    let Some(moves) = permutation.block_moves() else {
        return portable::permute_add(q, acc, x, permutation);
    };
    let f = Field::new(q);
    for (acc, &(block, s)) in acc.chunks_exact_mut(BLOCK).zip(&moves.blocks) {
        let rows = turned(block_of(x, block), &moves.turns[usize::from(s)]);
        for (row, &at) in rows.into_iter().zip(&moves.rows) {
            let acc = acc[at..at + LANES].as_mut_ptr();
            // SAFETY: the slice has a row of words.
            unsafe { store(acc, f.sum(load(acc), row)) };
        }
    }
}

/// The image of x in tiles.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn permute_tiles(
    out: &mut [u64],
    x: &[u64],
    permutation: &Permutation,
    [tile, stride]: [usize; 2],
) {
    let moves = match permutation.block_moves() {
        Some(moves) if BLOCK.is_multiple_of(tile) && tile.is_multiple_of(LANES) => moves,
        _ => return portable::permute_tiles(out, x, permutation, [tile, stride]),
    };
    let rows = moves.rows.map(|at| at / tile * stride + at % tile);
    let step = BLOCK / tile * stride;
    for (at, &(block, s)) in moves.blocks.iter().enumerate() {
        let images = turned(block_of(x, block), &moves.turns[usize::from(s)]);
        let out = &mut out[at * step..];
        for (image, &at) in images.into_iter().zip(&rows) {
            // SAFETY: the slice has a row of words.
            unsafe { store(out[at..at + LANES].as_mut_ptr(), image) };
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn permute_blocks(out: &mut [u64], x: &[u64], moves: &BlockMoves) {
    for (out, &(block, s)) in out.chunks_exact_mut(BLOCK).zip(&moves.blocks) {
        let rows = turned(block_of(x, block), &moves.turns[usize::from(s)]);
        for (row, &at) in rows.into_iter().zip(&moves.rows) {
            // SAFETY: the slice has a row of words.
            unsafe { store(out[at..at + LANES].as_mut_ptr(), row) };
        }
    }
}

fn block_of(x: &[u64], block: u32) -> &[u64] {
    &x[BLOCK * block as usize..][..BLOCK]
}

/// The rows of a block in order of their reversed numbers, lanes permuted and rotated through them.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn turned(source: &[u64], turn: &Turn) -> [__m512i; LANES] {
    // SAFETY: `lanes` are eight words.
    let lanes = unsafe { load(turn.lanes.as_ptr()) };
    let mut v = [_mm512_setzero_si512(); LANES];
    for (row, v) in v.iter_mut().enumerate() {
        let row = &source[LANES * reversed(row)..][..LANES];
        // SAFETY: a row has eight words.
        *v = _mm512_permutexvar_epi64(lanes, unsafe { load(row.as_ptr()) });
    }
    for (bit, &mask) in turn.bits.iter().enumerate() {
        let from = v;
        for row in 0..LANES {
            v[row] = _mm512_mask_mov_epi64(from[row], mask, from[(row + (1 << bit)) % LANES]);
        }
    }
    v
}
