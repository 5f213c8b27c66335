//! The specification: plain Rust, no instruction set assumed.

use super::ops::{NttTables, SliceKernel, TwiddleTree};
use crate::automorphism::Permutation;
use crate::modulus::{Modulus, Multiplier, subtract_once};
use crate::ntt::{self, NttPlan};
use crate::pairs::{FactorRow, PAIR_TILE, PairProducts, PairRow};
use crate::sampling::GAUSSIAN_TABLE;
use crate::slots::WIDE_SHIFT;

/// The kernel that runs everywhere.
pub(super) struct Portable;

impl SliceKernel for Portable {}

/// Interleaves each constant with its quotient for 64-bit words; the last node of the inverse
/// carries the scale.
pub(super) fn ntt_tables(tree: &TwiddleTree) -> NttTables {
    let interleave = |constants: &[u64]| -> Vec<u64> {
        let multipliers = constants.iter().map(|&w| tree.modulus.multiplier(w));
        multipliers
            .flat_map(|m| [m.value(), m.quotient()])
            .collect()
    };
    let mut inverse = tree.inverse.clone();
    // Entries 0 and 1 hold the scale and the scaled constant of the last stage.
    inverse[0] = tree.scale;
    inverse[1] = tree.modulus.mul(inverse[1], tree.scale);
    NttTables {
        forward: super::AlignedBuffer::from_slice(&interleave(&tree.forward)),
        inverse: super::AlignedBuffer::from_slice(&interleave(&inverse)),
        lazy_offsets: None,
    }
}

/// Forward transform by Cooley-Tukey splitting.
///
/// Bounds: with 64-bit quotients w·y is in [0, 2q) for any word y, so values grow by 2q a stage and
///     stay below
///         (1 + 2·16)q < 2^56; one reduction at the end
pub(super) fn forward(plan: &NttPlan, values: &mut [u64]) {
    let q = plan.modulus();
    if let Some(root) = plan.fold_root() {
        fold_edges(q, values, root, values.len() / 2);
    }
    let mut half = values.len() / 2;
    let mut node = 1;
    while half > 0 {
        for (block, w) in values
            .chunks_exact_mut(2 * half)
            .zip(plan.forward_pairs(node))
        {
            let (low, high) = block.split_at_mut(half);
            for (x, y) in low.iter_mut().zip(high) {
                let product = w.mul_lazy(*y, q.value());
                *y = *x + 2 * q.value() - product;
                *x += product;
            }
        }
        node *= 2;
        half /= 2;
    }
    for value in values.iter_mut() {
        *value = q.reduce(*value);
    }
    ntt::transpose_blocks(values);
}

/// Inverse transform by Gentleman-Sande merging.
///
/// Bounds: values stay in [0, 2q)
pub(super) fn inverse(plan: &NttPlan, values: &mut [u64]) {
    let q = plan.modulus().value();
    ntt::transpose_blocks(values);
    let n = values.len();
    let mut half = 1;
    while half < n / 2 {
        let node = n / (2 * half);
        for (block, w) in values
            .chunks_exact_mut(2 * half)
            .zip(plan.inverse_pairs(node))
        {
            let (low, high) = block.split_at_mut(half);
            for (x, y) in low.iter_mut().zip(high) {
                let difference = *x + 2 * q - *y;
                *x = subtract_once(*x + *y, 2 * q);
                *y = w.mul_lazy(difference, q);
            }
        }
        half *= 2;
    }
    let (scale, scaled_root) = plan.inverse_scale();
    let (low, high) = values.split_at_mut(n / 2);
    for (x, y) in low.iter_mut().zip(high) {
        let difference = *x + 2 * q - *y;
        *x = scale.mul(*x + *y, q);
        *y = scaled_root.mul(difference, q);
    }
    if let Some(root) = plan.fold_root() {
        unfold_edges(plan.modulus(), values, root, n / 2);
    }
}

/// a_j -> a_j - ψ^N·a_{N-j} for j below `edge`, for N - j, and for N/2.
pub(super) fn fold_edges(q: Modulus, values: &mut [u64], root: Multiplier, edge: usize) {
    let n = values.len();
    for j in 1..edge {
        let (a, b) = (values[j], values[n - j]);
        values[j] = q.sub(a, root.mul(b, q.value()));
        values[n - j] = q.sub(b, root.mul(a, q.value()));
    }
    values[n / 2] = q.sub(values[n / 2], root.mul(values[n / 2], q.value()));
}

/// Undoes [`fold_edges`] up to a factor of 2, which is in the scale; so a_0 is doubled.
pub(super) fn unfold_edges(q: Modulus, values: &mut [u64], root: Multiplier, edge: usize) {
    let n = values.len();
    values[0] = q.add(values[0], values[0]);
    for j in 1..edge {
        let (a, b) = (values[j], values[n - j]);
        values[j] = q.add(a, root.mul(b, q.value()));
        values[n - j] = q.add(b, root.mul(a, q.value()));
    }
    values[n / 2] = q.add(values[n / 2], root.mul(values[n / 2], q.value()));
}

#[inline(always)]
pub(super) fn add(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) {
    for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
        *out = q.add(x, y);
    }
}

#[inline(always)]
pub(super) fn add_assign(q: Modulus, x: &mut [u64], y: &[u64]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x = q.add(*x, y);
    }
}

#[inline(always)]
pub(super) fn sub(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) {
    for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
        *out = q.sub(x, y);
    }
}

#[inline(always)]
pub(super) fn sub_assign(q: Modulus, x: &mut [u64], y: &[u64]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x = q.sub(*x, y);
    }
}

#[inline(always)]
pub(super) fn neg_assign(q: Modulus, x: &mut [u64]) {
    for x in x.iter_mut() {
        *x = q.neg(*x);
    }
}

pub(super) fn mul(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) {
    for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
        *out = q.mul(x, y);
    }
}

pub(super) fn mul_assign(q: Modulus, x: &mut [u64], y: &[u64]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x = q.mul(*x, y);
    }
}

pub(super) fn mul_add_assign(q: Modulus, acc: &mut [u64], x: &[u64], y: &[u64]) {
    for ((acc, &x), &y) in acc.iter_mut().zip(x).zip(y) {
        *acc = q.reduce_wide(u128::from(x) * u128::from(y) + u128::from(*acc));
    }
}

pub(super) fn mul_scalar(q: Modulus, out: &mut [u64], x: &[u64], w: Multiplier) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = w.mul(x, q.value());
    }
}

pub(super) fn mul_scalar_assign(q: Modulus, x: &mut [u64], w: Multiplier) {
    for x in x.iter_mut() {
        *x = w.mul(*x, q.value());
    }
}

pub(super) fn mul_scalar_add_assign(q: Modulus, acc: &mut [u64], x: &[u64], w: Multiplier) {
    for (acc, &x) in acc.iter_mut().zip(x) {
        *acc = q.add(*acc, w.mul(x, q.value()));
    }
}

pub(super) fn sub_mul_scalar_assign(q: Modulus, x: &mut [u64], y: &[u64], w: Multiplier) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x = w.mul(*x + q.value() - y, q.value());
    }
}

pub(super) fn sub_mul_scalar(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64], w: Multiplier) {
    for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
        *out = w.mul(x + q.value() - y, q.value());
    }
}

/// Positions handled at once by the lazy sums, so that the accumulators stay in the nearest cache.
const LAZY_CHUNK: usize = 64;

/// Lazy sums of products: 4096 terms below 2^100 stay below 2^112.
pub(super) fn dot(q: Modulus, out: &mut [u64], xs: &[&[u64]], ys: &[&[u64]]) {
    for (chunk, out) in out.chunks_mut(LAZY_CHUNK).enumerate() {
        let start = chunk * LAZY_CHUNK;
        let mut sums = [0; LAZY_CHUNK];
        for (x, y) in xs.iter().zip(ys) {
            accumulate(&mut sums, &x[start..], &y[start..], out.len());
        }
        store_sums(q, out, &sums);
    }
}

pub(super) fn dot_row_pairs(
    q: Modulus,
    [out_0, out_1]: [&mut [u64]; 2],
    products: &[PairProducts<'_>],
) {
    let tile = out_0.len().min(PAIR_TILE);
    let outs = out_0
        .chunks_exact_mut(tile)
        .zip(out_1.chunks_exact_mut(tile));
    let mut factor = [0; PAIR_TILE];
    for (place, (out_0, out_1)) in outs.enumerate() {
        let (mut sums_0, mut sums_1) = ([0; PAIR_TILE], [0; PAIR_TILE]);
        for PairProducts { shared, pairs } in products {
            for (term, shared) in shared.iter().enumerate() {
                let shared = &shared[place * tile..];
                pairs.tiles().unpack(place, 2 * term, &mut factor[..tile]);
                accumulate(&mut sums_0, shared, &factor, tile);
                pairs
                    .tiles()
                    .unpack(place, 2 * term + 1, &mut factor[..tile]);
                accumulate(&mut sums_1, shared, &factor, tile);
            }
        }
        store_sums(q, out_0, &sums_0);
        store_sums(q, out_1, &sums_1);
    }
}

pub(super) fn dot_row_factors(
    q: Modulus,
    [out_0, out_1]: [&mut [u64]; 2],
    factors: FactorRow<'_>,
    pairs: PairRow<'_>,
    operands: &[usize],
) {
    let (factors, pairs) = (factors.tiles(), pairs.tiles());
    let tile = pairs.tile;
    let outs = out_0
        .chunks_exact_mut(tile)
        .zip(out_1.chunks_exact_mut(tile));
    let (mut factor, mut pair) = ([0; PAIR_TILE], [0; PAIR_TILE]);
    for (place, (out_0, out_1)) in outs.enumerate() {
        let (mut sums_0, mut sums_1) = ([0; PAIR_TILE], [0; PAIR_TILE]);
        for (term, &operand) in operands.iter().enumerate() {
            factors.unpack(place, term, &mut factor[..tile]);
            pairs.unpack(place, 2 * operand, &mut pair[..tile]);
            accumulate(&mut sums_0, &factor, &pair, tile);
            pairs.unpack(place, 2 * operand + 1, &mut pair[..tile]);
            accumulate(&mut sums_1, &factor, &pair, tile);
        }
        store_sums(q, out_0, &sums_0);
        store_sums(q, out_1, &sums_1);
    }
}

pub(super) fn tensor(
    q: Modulus,
    [out_0, out_1, out_2]: [&mut [u64]; 3],
    a: &[[&[u64]; 2]],
    b: &[[&[u64]; 2]],
) {
    let outs = out_0
        .chunks_mut(LAZY_CHUNK)
        .zip(out_1.chunks_mut(LAZY_CHUNK));
    for (chunk, ((out_0, out_1), out_2)) in outs.zip(out_2.chunks_mut(LAZY_CHUNK)).enumerate() {
        let start = chunk * LAZY_CHUNK;
        let mut sums = [[0; LAZY_CHUNK]; 3];
        for (a, b) in a.iter().zip(b) {
            for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                accumulate(
                    &mut sums[i + j],
                    &a[i][start..],
                    &b[j][start..],
                    out_0.len(),
                );
            }
        }
        for (out, sums) in [out_0, out_1, out_2].into_iter().zip(&sums) {
            store_sums(q, out, sums);
        }
    }
}

pub(super) fn tensor_row_pairs(
    q: Modulus,
    [out_0, out_1, out_2]: [&mut [u64]; 3],
    weights: PairRow<'_>,
    pairs: PairRow<'_>,
    operands: &[usize],
) {
    let (weights, pairs) = (weights.tiles(), pairs.tiles());
    let tile = pairs.tile;
    let outs = out_0
        .chunks_exact_mut(tile)
        .zip(out_1.chunks_exact_mut(tile))
        .zip(out_2.chunks_exact_mut(tile));
    let (mut weight, mut pair) = ([0; PAIR_TILE], [0; PAIR_TILE]);
    for (place, ((out_0, out_1), out_2)) in outs.enumerate() {
        let mut sums = [[0; PAIR_TILE]; 3];
        for (term, &operand) in operands.iter().enumerate() {
            for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                weights.unpack(place, 2 * term + i, &mut weight[..tile]);
                pairs.unpack(place, 2 * operand + j, &mut pair[..tile]);
                accumulate(&mut sums[i + j], &weight, &pair, tile);
            }
        }
        for (out, sums) in [out_0, out_1, out_2].into_iter().zip(&sums) {
            store_sums(q, out, sums);
        }
    }
}

fn accumulate(sums: &mut [u128], x: &[u64], y: &[u64], len: usize) {
    for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y).take(len) {
        *sum += u128::from(x) * u128::from(y);
    }
}

fn store_sums(q: Modulus, out: &mut [u64], sums: &[u128]) {
    for (out, &sum) in out.iter_mut().zip(sums) {
        *out = q.reduce_wide(sum);
    }
}

pub(super) fn reduce(q: Modulus, out: &mut [u64], x: &[u64]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = q.reduce(x);
    }
}

pub(super) fn lift_centred(q: Modulus, out: &mut [u64], x: &[u64], source: Modulus) {
    let half = source.value() / 2;
    // centred(x) + source is in (0, 3/2·source), and taking source mod q away again centres it.
    let offset = q.reduce(source.value());
    for (out, &x) in out.iter_mut().zip(x) {
        // A mask, not a branch: messages come this way.
        let above = u64::from(x > half).wrapping_neg();
        *out = q.sub(q.reduce(x), offset & above);
    }
}

pub(super) fn reduce_signed(q: Modulus, out: &mut [u64], x: &[i64]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = q.reduce_signed(x);
    }
}

pub(super) fn lift_small(q: Modulus, out: &mut [u64], x: &[i8]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = q.reduce_signed(i64::from(x));
    }
}

pub(super) fn permute(out: &mut [u64], x: &[u64], permutation: &Permutation) {
    for (out, &source) in out.iter_mut().zip(permutation.sources()) {
        *out = x[source as usize];
    }
}

pub(super) fn permute_add(q: Modulus, acc: &mut [u64], x: &[u64], permutation: &Permutation) {
    for (acc, &source) in acc.iter_mut().zip(permutation.sources()) {
        *acc = q.add(*acc, x[source as usize]);
    }
}

pub(super) fn permute_tiles(
    out: &mut [u64],
    x: &[u64],
    permutation: &Permutation,
    [tile, stride]: [usize; 2],
) {
    let sources = permutation.sources().chunks_exact(tile);
    for (out, sources) in out.chunks_mut(stride).zip(sources) {
        for (out, &source) in out.iter_mut().zip(sources) {
            *out = x[source as usize];
        }
    }
}

pub(super) fn weighted_sum(q: Modulus, out: &mut [u64], weights: &[u64], xs: &[&[u64]]) {
    for (chunk, out) in out.chunks_mut(LAZY_CHUNK).enumerate() {
        let start = chunk * LAZY_CHUNK;
        let mut sums = [0; LAZY_CHUNK];
        for (x, &w) in xs.iter().zip(weights) {
            for (sum, &x) in sums.iter_mut().zip(&x[start..]).take(out.len()) {
                *sum += u128::from(w) * u128::from(x);
            }
        }
        store_sums(q, out, &sums);
    }
}

/// Positions by the chunk, which compilers turn into vectors.
#[inline(always)]
pub(super) fn round_quotient_sum(out: &mut [u64], digits: &[u64], reciprocals: &[f64]) {
    let n = out.len();
    for (chunk, out) in out.chunks_mut(LAZY_CHUNK).enumerate() {
        let mut sums = [0.5; LAZY_CHUNK];
        for (row, &reciprocal) in digits.chunks_exact(n).zip(reciprocals) {
            let row = &row[chunk * LAZY_CHUNK..];
            for (sum, &digit) in sums.iter_mut().zip(row) {
                *sum += digit as f64 * reciprocal;
            }
        }
        for (out, &sum) in out.iter_mut().zip(&sums) {
            *out = sum as u64;
        }
    }
}

/// Counts for 64 samples at a time, table entry by table entry, which compilers turn into vectors.
#[inline(always)]
pub(super) fn gaussian(out: &mut [i8], words: &[u64], signs: &[u64]) {
    const GROUP: usize = 64;
    for ((out, words), sign_bits) in out.chunks_mut(GROUP).zip(words.chunks(GROUP)).zip(signs) {
        let mut magnitudes = [0u64; GROUP];
        for bound in GAUSSIAN_TABLE {
            for (magnitude, &word) in magnitudes.iter_mut().zip(words) {
                *magnitude += u64::from(word >= bound);
            }
        }
        for (at, (out, &magnitude)) in out.iter_mut().zip(&magnitudes).enumerate() {
            let sign = ((sign_bits >> at) & 1) as i8;
            *out = ((magnitude as i8) ^ -sign) + sign;
        }
    }
}

#[inline(always)]
pub(super) fn round(out: &mut [i64], values: &[f64]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = round_one(value);
    }
}

/// Nearest integer, ties to even; from 2^52 on doubles are integers already.
#[inline(always)]
fn round_one(value: f64) -> i64 {
    const SHIFT: f64 = (1u64 << 52) as f64;
    // For |value| < 2^52 the sum with the sign's 2^52 is in [2^52, 2^53], where doubles are the
    // integers.
    let shift = SHIFT.copysign(value);
    let rounded = (value + shift) - shift;
    let integer = if value.abs() < SHIFT { rounded } else { value };
    integer as i64
}

#[inline(always)]
pub(super) fn round_wide(high: &mut [i64], low: &mut [i64], values: &[f64]) {
    const WEIGHT: f64 = (1u64 << WIDE_SHIFT) as f64;
    for ((high, low), &value) in high.iter_mut().zip(low).zip(values) {
        let top = (value * (1.0 / WEIGHT)) as i64;
        *high = top;
        // Exact: both are multiples of the last place of the value.
        *low = round_one(value - top as f64 * WEIGHT);
    }
}

#[inline(always)]
pub(super) fn horner_centred(q: Modulus, acc: &mut [f64], x: &[u64]) {
    let factor = q.value() as f64;
    for (acc, &x) in acc.iter_mut().zip(x) {
        *acc = *acc * factor + q.centre(x) as f64;
    }
}
