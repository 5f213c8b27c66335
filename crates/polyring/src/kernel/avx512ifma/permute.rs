//! Automorphisms of transformed polynomials.

use std::arch::x86_64::*;

use super::arith::LANES;
use super::lanes::{load, store};
use crate::automorphism::{BlockMoves, Permutation, Turn, reversed};
use crate::kernel::portable;

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

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn permute_blocks(out: &mut [u64], x: &[u64], moves: &BlockMoves) {
    for (out, &(block, s)) in out.chunks_exact_mut(BLOCK).zip(&moves.blocks) {
        let source = &x[BLOCK * block as usize..][..BLOCK];
        let rows = turned(source, &moves.turns[usize::from(s)]);
        for (row, &at) in rows.into_iter().zip(&moves.rows) {
            // SAFETY: the slice has a row of words.
            unsafe { store(out[at..at + LANES].as_mut_ptr(), row) };
        }
    }
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
