//! Arithmetic modulo q < 2^50 in doubles, by fused multiply-add; plain Rust that the compiler turns
//! into vectors.
//!
//! For integers x and w with |x| < 2^53, |w| <= q/2: h = fl(x·w), l = x·w - h (exact, one fused
//! operation), c = round(x·fl(w/q)), and (h - c·q) + l is exactly x·w - c·q, an integer of
//! magnitude at most q·(1/2 + |x|/2^53).
//! Source: van der Hoeven, Lecerf, Quintin 2016, "Modular SIMD arithmetic in Mathemagix", section 3
//!
//! Transforms keep the bits of doubles in the words of the slice. Between reductions magnitudes
//! stay below 8·2^50.

use super::AlignedBuffer;
use super::ops::{NttTables, TwiddleTree};
use crate::modulus::{Modulus, Multiplier};
use crate::ntt::{self, NttPlan};
use crate::pairs::{FactorRow, PAIR_TILE, PairProducts, PairRow};

/// Values of the last two stages, which work within blocks of four, done four blocks at a time.
const TAIL: usize = 16;

/// A modulus and its reciprocal.
#[derive(Clone, Copy)]
struct Field {
    q: f64,
    reciprocal: f64,
}

/// A constant factor, |value| <= q/2, and that divided by q.
#[derive(Clone, Copy)]
struct Factor {
    value: f64,
    quotient: f64,
}

impl Factor {
    #[inline(always)]
    fn new(modulus: Modulus, w: u64) -> Self {
        let value = modulus.centre(w) as f64;
        Self {
            value,
            quotient: value / modulus.value() as f64,
        }
    }

    #[inline(always)]
    fn at(table: &[u64], node: usize) -> Self {
        let value = f64::from_bits(table[2 * node]);
        Self {
            value,
            quotient: f64::from_bits(table[2 * node + 1]),
        }
    }
}

impl Field {
    #[inline(always)]
    fn new(modulus: Modulus) -> Self {
        let q = modulus.value() as f64;
        Self {
            q,
            reciprocal: 1.0 / q,
        }
    }

    /// x·w, at most q·(1/2 + |x|/2^53) in magnitude
    #[inline(always)]
    fn scale(self, x: f64, w: Factor) -> f64 {
        let high = x * w.value;
        let low = x.mul_add(w.value, -high);
        let quotient = (x * w.quotient).round_ties_even();
        (-quotient).mul_add(self.q, high) + low
    }

    /// x·y for |x|, |y| <= q: below q in magnitude
    #[inline(always)]
    fn product(self, x: f64, y: f64) -> f64 {
        let high = x * y;
        let low = x.mul_add(y, -high);
        let quotient = (high * self.reciprocal).round_ties_even();
        (-quotient).mul_add(self.q, high) + low
    }

    /// x less a multiple of q, at most 0.51·q in magnitude
    #[inline(always)]
    fn reduce(self, x: f64) -> f64 {
        let quotient = (x * self.reciprocal).round_ties_even();
        (-quotient).mul_add(self.q, x)
    }

    /// The residue in [0, q) of an x with |x| < q.
    #[inline(always)]
    fn residue(self, x: f64) -> u64 {
        // A mask, not a branch: secrets are transformed too.
        let below = u64::from(x < 0.0).wrapping_neg();
        to_word(x + f64::from_bits(self.q.to_bits() & below))
    }
}

/// 2^52, whose doubles have the unit as last place.
const UNIT_SHIFT: f64 = (1u64 << 52) as f64;

/// A word below 2^52 as a double.
#[inline(always)]
fn to_double(x: u64) -> f64 {
    f64::from_bits(x | UNIT_SHIFT.to_bits()) - UNIT_SHIFT
}

/// A double that is an integer in [0, 2^52) as a word.
#[inline(always)]
fn to_word(x: f64) -> u64 {
    (x + UNIT_SHIFT).to_bits() ^ UNIT_SHIFT.to_bits()
}

/// Whether transforms of this length are done here; shorter ones are left to the portable kernel.
pub(super) fn transforms(length: usize) -> bool {
    length >= 64
}

/// Pairs of factor and quotient, as bits, by node. Nodes 0 and 1 of the inverse hold the scale and
/// the scaled root.
pub(super) fn tables(tree: &TwiddleTree) -> NttTables {
    let pairs = |constants: &[u64]| -> Vec<u64> {
        let factors = constants.iter().map(|&w| Factor::new(tree.modulus, w));
        factors
            .flat_map(|w| [w.value.to_bits(), w.quotient.to_bits()])
            .collect()
    };
    let mut inverse = tree.inverse.clone();
    inverse[0] = tree.scale;
    inverse[1] = tree.modulus.mul(inverse[1], tree.scale);
    NttTables {
        forward: AlignedBuffer::from_slice(&pairs(&tree.forward)),
        inverse: AlignedBuffer::from_slice(&pairs(&inverse)),
        lazy_offsets: None,
    }
}

/// (x + w·y, x - w·y), as bits
#[inline(always)]
fn split(f: Field, x: &mut u64, y: &mut u64, w: Factor) {
    let (sum, product) = (f64::from_bits(*x), f.scale(f64::from_bits(*y), w));
    *x = (sum + product).to_bits();
    *y = (sum - product).to_bits();
}

/// (x + y, w·(x - y)), as bits
#[inline(always)]
fn merge(f: Field, x: &mut u64, y: &mut u64, w: Factor) {
    let (a, b) = (f64::from_bits(*x), f64::from_bits(*y));
    *x = (a + b).to_bits();
    *y = f.scale(a - b, w).to_bits();
}

#[inline(always)]
fn reduce_bits(f: Field, x: &mut u64) {
    *x = f.reduce(f64::from_bits(*x)).to_bits();
}

/// Forward transform. Magnitudes: a pass of two stages starts at most at 2.4·2^50 and ends below
/// 4.1·2^50; the values that no constant multiplies are reduced at its start.
#[inline(always)]
pub(super) fn forward(plan: &NttPlan, values: &mut [u64]) {
    let (f, table) = (Field::new(plan.modulus()), &plan.tables().forward[..]);
    let n = values.len();
    values.iter_mut().for_each(|x| *x = to_double(*x).to_bits());
    if let Some(root) = plan.fold_root() {
        fold(f, values, Factor::new(plan.modulus(), root.value()), -1.0);
    }
    let mut blocks = 1;
    if n.trailing_zeros() % 2 == 1 {
        let (low, high) = values.split_at_mut(n / 2);
        let w = Factor::at(table, 1);
        low.iter_mut()
            .zip(high)
            .for_each(|(x, y)| split(f, x, y, w));
        blocks = 2;
    }
    while blocks < n / 4 {
        let length = n / blocks;
        for (i, block) in values.chunks_exact_mut(length).enumerate() {
            let node = blocks + i;
            let w = [node, 2 * node, 2 * node + 1].map(|node| Factor::at(table, node));
            split_quarters(f, block, w);
        }
        blocks *= 4;
    }
    for (i, block) in values.chunks_exact_mut(TAIL).enumerate() {
        forward_tail(f, block, table, n / 4 + 4 * i);
    }
    ntt::transpose_blocks(values);
}

#[inline(always)]
fn split_quarters(f: Field, block: &mut [u64], w: [Factor; 3]) {
    let (low, high) = block.split_at_mut(block.len() / 2);
    let (a, b) = low.split_at_mut(low.len() / 2);
    let (c, d) = high.split_at_mut(high.len() / 2);
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        reduce_bits(f, a);
        reduce_bits(f, b);
        split(f, a, c, w[0]);
        split(f, b, d, w[0]);
        split(f, a, b, w[1]);
        split(f, c, d, w[2]);
    }
}

/// The last two stages of four blocks of four values, transposed so that the blocks are lanes;
/// fully reduces.
#[inline(always)]
fn forward_tail(f: Field, block: &mut [u64], table: &[u64], node: usize) {
    let mut rows = transposed(block);
    let at = |place: usize| move |lane: usize| Factor::at(table, place * (node + lane));
    let right = |lane: usize| Factor::at(table, 2 * (node + lane) + 1);
    let [a, b, c, d] = &mut rows;
    for lane in 0..4 {
        split(f, &mut a[lane], &mut c[lane], at(1)(lane));
        split(f, &mut b[lane], &mut d[lane], at(1)(lane));
        split(f, &mut a[lane], &mut b[lane], at(2)(lane));
        split(f, &mut c[lane], &mut d[lane], right(lane));
    }
    for (row, values) in rows.iter().enumerate() {
        for (lane, &value) in values.iter().enumerate() {
            block[4 * lane + row] = f.residue(f.reduce(f64::from_bits(value)));
        }
    }
}

#[inline(always)]
fn transposed(block: &[u64]) -> [[u64; 4]; 4] {
    let mut rows = [[0; 4]; 4];
    for (lane, values) in block.chunks_exact(4).enumerate() {
        for (row, &value) in values.iter().enumerate() {
            rows[row][lane] = value;
        }
    }
    rows
}

/// Inverse transform. Magnitudes: sums grow fourfold in a pass of two stages, from at most
/// 1.1·2^50, and are then reduced.
#[inline(always)]
pub(super) fn inverse(plan: &NttPlan, values: &mut [u64]) {
    let (f, table) = (Field::new(plan.modulus()), &plan.tables().inverse[..]);
    let n = values.len();
    ntt::transpose_blocks(values);
    for (i, block) in values.chunks_exact_mut(TAIL).enumerate() {
        inverse_tail(f, block, table, n / 4 + 4 * i);
    }
    let mut blocks = n / 16;
    while blocks >= 2 {
        let length = n / blocks;
        for (i, block) in values.chunks_exact_mut(length).enumerate() {
            let node = blocks + i;
            let w = [node, 2 * node, 2 * node + 1].map(|node| Factor::at(table, node));
            merge_quarters(f, block, w);
        }
        blocks /= 4;
    }
    let [scale, scaled_root] = [0, 1].map(|node| Factor::at(table, node));
    if blocks == 1 {
        let nodes = [2, 3].map(|node| Factor::at(table, node));
        for (half, w) in values.chunks_exact_mut(n / 2).zip(nodes) {
            let (low, high) = half.split_at_mut(n / 4);
            low.iter_mut()
                .zip(high)
                .for_each(|(x, y)| merge(f, x, y, w));
        }
    }
    let (low, high) = values.split_at_mut(n / 2);
    for (x, y) in low.iter_mut().zip(high) {
        let (a, b) = (f64::from_bits(*x), f64::from_bits(*y));
        *x = f.scale(a + b, scale).to_bits();
        *y = f.scale(a - b, scaled_root).to_bits();
    }
    if let Some(root) = plan.fold_root() {
        let first = 2.0 * f64::from_bits(values[0]);
        fold(f, values, Factor::new(plan.modulus(), root.value()), 1.0);
        values[0] = first.to_bits();
    }
    values
        .iter_mut()
        .for_each(|x| *x = f.residue(f.reduce(f64::from_bits(*x))));
}

#[inline(always)]
fn merge_quarters(f: Field, block: &mut [u64], w: [Factor; 3]) {
    let (low, high) = block.split_at_mut(block.len() / 2);
    let (a, b) = low.split_at_mut(low.len() / 2);
    let (c, d) = high.split_at_mut(high.len() / 2);
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        merge(f, a, b, w[1]);
        merge(f, c, d, w[2]);
        merge(f, a, c, w[0]);
        merge(f, b, d, w[0]);
        reduce_bits(f, a);
        reduce_bits(f, b);
    }
}

/// The first two stages of four blocks of four residues.
#[inline(always)]
fn inverse_tail(f: Field, block: &mut [u64], table: &[u64], node: usize) {
    let mut rows = transposed(block);
    rows.as_flattened_mut()
        .iter_mut()
        .for_each(|x| *x = to_double(*x).to_bits());
    let [a, b, c, d] = &mut rows;
    for lane in 0..4 {
        let node = node + lane;
        let w = [node, 2 * node, 2 * node + 1].map(|node| Factor::at(table, node));
        merge(f, &mut a[lane], &mut b[lane], w[1]);
        merge(f, &mut c[lane], &mut d[lane], w[2]);
        merge(f, &mut a[lane], &mut c[lane], w[0]);
        merge(f, &mut b[lane], &mut d[lane], w[0]);
        reduce_bits(f, &mut a[lane]);
        reduce_bits(f, &mut b[lane]);
    }
    for (row, values) in rows.iter().enumerate() {
        for (lane, &value) in values.iter().enumerate() {
            block[4 * lane + row] = value;
        }
    }
}

/// x_j -> x_j + sign·w·x_{n-j} for 0 < j < n, as bits; magnitudes grow by 0.7·q.
#[inline(always)]
fn fold(f: Field, values: &mut [u64], w: Factor, sign: f64) {
    let w = Factor {
        value: sign * w.value,
        quotient: sign * w.quotient,
    };
    let (low, high) = values.split_at_mut(values.len() / 2);
    let middle = f64::from_bits(high[0]);
    high[0] = (middle + f.scale(middle, w)).to_bits();
    for (x, y) in low[1..].iter_mut().zip(high[1..].iter_mut().rev()) {
        let (a, b) = (f64::from_bits(*x), f64::from_bits(*y));
        *x = (a + f.scale(b, w)).to_bits();
        *y = (b + f.scale(a, w)).to_bits();
    }
}

#[inline(always)]
pub(super) fn mul(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) {
    let f = Field::new(q);
    for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
        *out = f.residue(f.product(to_double(x), to_double(y)));
    }
}

#[inline(always)]
pub(super) fn mul_assign(q: Modulus, x: &mut [u64], y: &[u64]) {
    let f = Field::new(q);
    for (x, &y) in x.iter_mut().zip(y) {
        *x = f.residue(f.product(to_double(*x), to_double(y)));
    }
}

#[inline(always)]
pub(super) fn mul_add_assign(q: Modulus, acc: &mut [u64], x: &[u64], y: &[u64]) {
    let f = Field::new(q);
    for ((acc, &x), &y) in acc.iter_mut().zip(x).zip(y) {
        let sum = to_double(*acc) + f.product(to_double(x), to_double(y));
        *acc = f.residue(f.reduce(sum));
    }
}

#[inline(always)]
pub(super) fn mul_scalar(q: Modulus, out: &mut [u64], x: &[u64], w: Multiplier) {
    let (f, w) = (Field::new(q), Factor::new(q, w.value()));
    for (out, &x) in out.iter_mut().zip(x) {
        *out = f.residue(f.reduce(f.scale(to_double(x), w)));
    }
}

#[inline(always)]
pub(super) fn mul_scalar_assign(q: Modulus, x: &mut [u64], w: Multiplier) {
    let (f, w) = (Field::new(q), Factor::new(q, w.value()));
    for x in x.iter_mut() {
        *x = f.residue(f.reduce(f.scale(to_double(*x), w)));
    }
}

#[inline(always)]
pub(super) fn mul_scalar_add_assign(q: Modulus, acc: &mut [u64], x: &[u64], w: Multiplier) {
    let (f, w) = (Field::new(q), Factor::new(q, w.value()));
    for (acc, &x) in acc.iter_mut().zip(x) {
        *acc = f.residue(f.reduce(to_double(*acc) + f.scale(to_double(x), w)));
    }
}

#[inline(always)]
pub(super) fn sub_mul_scalar_assign(q: Modulus, x: &mut [u64], y: &[u64], w: Multiplier) {
    let (f, w) = (Field::new(q), Factor::new(q, w.value()));
    for (x, &y) in x.iter_mut().zip(y) {
        *x = f.residue(f.reduce(f.scale(to_double(*x) - to_double(y), w)));
    }
}

#[inline(always)]
pub(super) fn sub_mul_scalar(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64], w: Multiplier) {
    let (f, w) = (Field::new(q), Factor::new(q, w.value()));
    for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
        *out = f.residue(f.reduce(f.scale(to_double(x) - to_double(y), w)));
    }
}

/// Positions handled at once by the sums, so that they stay in the nearest cache.
const CHUNK: usize = 64;

/// Sums of products, each product reduced; the sum is reduced before it exceeds 5·q.
struct Sums([f64; CHUNK], usize);

impl Sums {
    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; CHUNK], 0)
    }

    #[inline(always)]
    fn add(&mut self, f: Field, x: &[u64], y: &[u64]) {
        const TERMS: usize = 4;
        for ((sum, &x), &y) in self.0.iter_mut().zip(x).zip(y) {
            *sum += f.product(to_double(x), to_double(y));
        }
        self.1 += 1;
        if self.1 == TERMS {
            self.0.iter_mut().for_each(|sum| *sum = f.reduce(*sum));
            self.1 = 0;
        }
    }

    #[inline(always)]
    fn store(&self, f: Field, out: &mut [u64]) {
        for (out, &sum) in out.iter_mut().zip(&self.0) {
            *out = f.residue(f.reduce(sum));
        }
    }
}

#[inline(always)]
fn from(row: &[u64], start: usize) -> &[u64] {
    &row[start..row.len().min(start + CHUNK)]
}

#[inline(always)]
pub(super) fn dot(q: Modulus, out: &mut [u64], xs: &[&[u64]], ys: &[&[u64]]) {
    let f = Field::new(q);
    for (chunk, out) in out.chunks_mut(CHUNK).enumerate() {
        let mut sums = Sums::zero();
        for (x, y) in xs.iter().zip(ys) {
            sums.add(f, from(x, chunk * CHUNK), from(y, chunk * CHUNK));
        }
        sums.store(f, out);
    }
}

#[inline(always)]
pub(super) fn dot_row_pairs(
    q: Modulus,
    [out_0, out_1]: [&mut [u64]; 2],
    products: &[PairProducts<'_>],
) {
    let (f, tile) = (Field::new(q), out_0.len().min(PAIR_TILE));
    let outs = out_0
        .chunks_exact_mut(tile)
        .zip(out_1.chunks_exact_mut(tile));
    let mut factor = [0; PAIR_TILE];
    for (place, (out_0, out_1)) in outs.enumerate() {
        let mut sums = [Sums::zero(), Sums::zero()];
        for PairProducts { shared, pairs } in products {
            for (term, shared) in shared.iter().enumerate() {
                let shared = &shared[place * tile..];
                for (half, sum) in sums.iter_mut().enumerate() {
                    let factor = &mut factor[..tile];
                    pairs.tiles().unpack(place, 2 * term + half, factor);
                    sum.add(f, shared, factor);
                }
            }
        }
        sums[0].store(f, out_0);
        sums[1].store(f, out_1);
    }
}

#[inline(always)]
pub(super) fn dot_row_factors(
    q: Modulus,
    [out_0, out_1]: [&mut [u64]; 2],
    factors: FactorRow<'_>,
    pairs: PairRow<'_>,
    operands: &[usize],
) {
    let (factors, pairs) = (factors.tiles(), pairs.tiles());
    let (f, tile) = (Field::new(q), pairs.tile);
    let outs = out_0
        .chunks_exact_mut(tile)
        .zip(out_1.chunks_exact_mut(tile));
    let (mut factor, mut pair) = ([0; PAIR_TILE], [0; PAIR_TILE]);
    let (factor, pair) = (&mut factor[..tile], &mut pair[..tile]);
    for (place, (out_0, out_1)) in outs.enumerate() {
        let mut sums = [Sums::zero(), Sums::zero()];
        for (term, &operand) in operands.iter().enumerate() {
            factors.unpack(place, term, factor);
            for (half, sum) in sums.iter_mut().enumerate() {
                pairs.unpack(place, 2 * operand + half, pair);
                sum.add(f, factor, pair);
            }
        }
        sums[0].store(f, out_0);
        sums[1].store(f, out_1);
    }
}

#[inline(always)]
pub(super) fn tensor(
    q: Modulus,
    [out_0, out_1, out_2]: [&mut [u64]; 3],
    a: &[[&[u64]; 2]],
    b: &[[&[u64]; 2]],
) {
    let f = Field::new(q);
    let outs = out_0.chunks_mut(CHUNK).zip(out_1.chunks_mut(CHUNK));
    for (chunk, ((out_0, out_1), out_2)) in outs.zip(out_2.chunks_mut(CHUNK)).enumerate() {
        let mut sums = [Sums::zero(), Sums::zero(), Sums::zero()];
        for (a, b) in a.iter().zip(b) {
            let [a, b] = [a, b].map(|pair| pair.map(|row| from(row, chunk * CHUNK)));
            for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                sums[i + j].add(f, a[i], b[j]);
            }
        }
        for (out, sums) in [out_0, out_1, out_2].into_iter().zip(&sums) {
            sums.store(f, out);
        }
    }
}

#[inline(always)]
pub(super) fn tensor_row_pairs(
    q: Modulus,
    [out_0, out_1, out_2]: [&mut [u64]; 3],
    weights: PairRow<'_>,
    pairs: PairRow<'_>,
    operands: &[usize],
) {
    let (weights, pairs) = (weights.tiles(), pairs.tiles());
    let (f, tile) = (Field::new(q), pairs.tile);
    let outs = out_0
        .chunks_exact_mut(tile)
        .zip(out_1.chunks_exact_mut(tile))
        .zip(out_2.chunks_exact_mut(tile));
    let (mut weight, mut pair) = ([0; PAIR_TILE], [0; PAIR_TILE]);
    let (weight, pair) = (&mut weight[..tile], &mut pair[..tile]);
    for (place, ((out_0, out_1), out_2)) in outs.enumerate() {
        let mut sums = [Sums::zero(), Sums::zero(), Sums::zero()];
        for (term, &operand) in operands.iter().enumerate() {
            for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                weights.unpack(place, 2 * term + i, weight);
                pairs.unpack(place, 2 * operand + j, pair);
                sums[i + j].add(f, weight, pair);
            }
        }
        for (out, sums) in [out_0, out_1, out_2].into_iter().zip(&sums) {
            sums.store(f, out);
        }
    }
}
