//! Sums of products, kept as low and high halves in registers and reduced once.

use std::arch::x86_64::*;

use super::arith::{Field, LANES, Shoup, difference, read, write};
use super::lanes::store;
use crate::kernel::portable;
use crate::modulus::Modulus;
use crate::pairs::{FactorRow, PAIR_TILE, PairProducts, PairRow, Tiles};
use crate::ring::DOT_TERMS_MAX;

/// Vectors that a sum of products keeps in registers.
const TILE: usize = 4;

/// Sums of products as low and high halves, for a tile of vectors.
#[derive(Clone, Copy)]
struct Sums {
    low: [__m512i; TILE],
    high: [__m512i; TILE],
}

impl Sums {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn zero() -> Self {
        Self {
            low: [_mm512_setzero_si512(); TILE],
            high: [_mm512_setzero_si512(); TILE],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn add(&mut self, x: &[__m512i], y: &[__m512i]) {
        for i in 0..x.len() {
            self.add_one(i, x[i], y[i]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn add_one(&mut self, i: usize, x: __m512i, y: __m512i) {
        self.low[i] = _mm512_madd52lo_epu64(self.low[i], x, y);
        self.high[i] = _mm512_madd52hi_epu64(self.high[i], x, y);
    }
}

/// How sums of a number of products are reduced.
#[derive(Clone, Copy)]
struct SumReduction {
    field: Field,
    /// whether `Field::reduce_short` does it
    short: bool,
    /// whether sums are below 2^104, so that the high half has 52 bits once carries are in
    narrow: bool,
    /// words between a tile and the one that is fetched meanwhile
    ahead: usize,
    /// 2^52 and 2^104 mod q
    radix: Shoup,
    radix_squared: Shoup,
}

impl SumReduction {
    /// For sums of `terms` products below q·`bound`, read from `rows` rows.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn new(q: Modulus, terms: usize, bound: u64, rows: usize) -> Self {
        debug_assert!(terms <= DOT_TERMS_MAX);
        let largest = terms as u128 * u128::from(q.value()) * u128::from(bound);
        let radix = q.reduce(1 << 52);
        Self {
            field: Field::new(q),
            short: largest >> (51 + q.bits()) == 0,
            narrow: largest >> 104 == 0,
            ahead: (AHEAD / rows.max(1)).clamp(LANES * TILE / 2, AHEAD_MAX) / LANES * LANES,
            radix: Shoup::new(q.multiplier(radix)),
            radix_squared: Shoup::new(q.multiplier(q.mul(radix, radix))),
        }
    }

    /// low + 2^52·high mod q.
    ///
    /// Bounds: low < 2^64, high < 2^60 + 2^12 after the carry; its upper part is below 2^9
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn reduce(&self, low: __m512i, high: __m512i) -> __m512i {
        let f = &self.field;
        if self.short {
            return f.reduce_4q(f.reduce_short(low, high));
        }
        let high = _mm512_add_epi64(high, _mm512_srli_epi64::<52>(low));
        let low = f.barrett(_mm512_and_si512(low, f.mask));
        let middle = f.mul_lazy(high, self.radix);
        if self.narrow {
            return f.reduce_4q(_mm512_add_epi64(low, middle));
        }
        let top = f.mul_lazy(_mm512_srli_epi64::<52>(high), self.radix_squared);
        let sum = _mm512_add_epi64(_mm512_add_epi64(low, middle), top);
        f.reduce_4q(f.subtract_once(sum, f.q4))
    }

    /// Writes up to a tile of reduced sums.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn store<const V: usize>(&self, out: &mut [u64], at: usize, sums: &Sums) {
        for i in 0..V {
            write(out, at + LANES * i, self.reduce(sums.low[i], sums.high[i]));
        }
    }
}

/// Writes a tile of reduced sums; small enough to be inlined where reductions are `short`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn store_whole(reduction: &SumReduction, out: &mut [u64], at: usize, sums: &Sums) {
    if !reduction.short {
        // A copy, or the sums would be in memory while they are summed.
        let sums = *sums;
        return reduction.store::<TILE>(out, at, &sums);
    }
    let (f, out) = (&reduction.field, &mut out[at..at + PAIR_TILE]);
    for i in 0..TILE {
        let sum = f.reduce_4q(f.reduce_short(sums.low[i], sums.high[i]));
        // SAFETY: a tile of pairs has LANES·TILE words.
        unsafe { store(out.as_mut_ptr().add(LANES * i), sum) };
    }
}

/// `V` vectors of one row; a single one may reach beyond its end.
#[inline]
#[target_feature(enable = "avx512f")]
fn tile<const V: usize>(row: &[u64], at: usize, ahead: usize) -> [__m512i; V] {
    let mut tile = [_mm512_setzero_si512(); V];
    if V == 1 {
        tile[0] = read(row, at);
        return tile;
    }
    prefetch::<V>(row, at, ahead);
    let row = &row[at..at + LANES * V];
    for (i, vector) in tile.iter_mut().enumerate() {
        // SAFETY: LANES·V words from `at` on are in the row.
        *vector = unsafe { _mm512_loadu_si512(row.as_ptr().add(LANES * i).cast()) };
    }
    tile
}

/// Words that all rows of a sum together are fetched ahead: sums read more rows at a time than the
/// processor's own prefetcher follows, and what is fetched must stay in the nearest cache.
const AHEAD: usize = 2048;
/// Most words that a row is fetched ahead.
const AHEAD_MAX: usize = 128;

/// Asks for the tile `ahead` words further on.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch<const V: usize>(row: &[u64], at: usize, ahead: usize) {
    for i in 0..V {
        // A hint: it may name any address, also one beyond the row.
        let address = row.as_ptr().wrapping_add(at + ahead + LANES * i);
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
}

/// Calls `$step::<V>($at, ...)` for tiles of `$wide` vectors, and for single vectors at the end.
macro_rules! for_tiles {
    ($len:expr, $wide:literal, |$at:ident| $step:ident::<V>($($argument:expr),*)) => {{
        let len = $len;
        let whole = len - len % ($wide * LANES);
        for $at in (0..whole).step_by($wide * LANES) {
            $step::<$wide>($($argument),*);
        }
        for $at in (whole..len).step_by(LANES) {
            $step::<1>($($argument),*);
        }
    }};
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn dot_tile<const V: usize>(
    reduction: &SumReduction,
    out: &mut [u64],
    xs: &[&[u64]],
    ys: &[&[u64]],
    at: usize,
) {
    let (ahead, mut sums) = (reduction.ahead, Sums::zero());
    for (x, y) in xs.iter().zip(ys) {
        sums.add(&tile::<V>(x, at, ahead), &tile::<V>(y, at, ahead));
    }
    reduction.store::<V>(out, at, &sums);
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn dot(q: Modulus, out: &mut [u64], xs: &[&[u64]], ys: &[&[u64]]) {
    let reduction = SumReduction::new(q, xs.len(), q.value(), 2 * xs.len());
    for_tiles!(out.len(), 4, |at| dot_tile::<V>(
        &reduction, out, xs, ys, at
    ));
}

/// Words between the pairs that are summed and those that are fetched meanwhile.
const PAIRS_AHEAD: usize = 1024;

/// How the tiles of packed rows are read: eight values of `width` bytes are `width` words.
#[derive(Clone, Copy)]
struct Reader {
    width: usize,
    /// Where each byte of eight words comes from, and which bytes are not zero.
    bytes: __m512i,
    used: __mmask64,
}

impl Reader {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(width: usize) -> Self {
        let (mut bytes, mut used) = ([0u8; 64], 0);
        for at in (0..64).filter(|at| at % 8 < width) {
            bytes[at] = (at / 8 * width + at % 8) as u8;
            used |= 1 << at;
        }
        Self {
            width,
            // SAFETY: the array has the bytes of a vector.
            bytes: unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) },
            used,
        }
    }

    /// Words of a tile.
    #[inline]
    fn tile_words(self) -> usize {
        TILE * self.width
    }

    /// Vector `i` of the tile that `words` begin with; they are at least a tile and a vector.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
    fn vector<const PACKED: bool>(self, words: &[u64], i: usize) -> __m512i {
        if !PACKED {
            let words = &words[LANES * i..][..LANES];
            // SAFETY: the slice has a vector's words.
            return unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
        }
        let words = &words[self.width * i..][..LANES];
        // SAFETY: the slice has a vector's words.
        let packed = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
        _mm512_maskz_permutexvar_epi8(self.used, self.bytes, packed)
    }

    /// All vectors of a tile.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
    fn tile<const PACKED: bool>(self, words: &[u64]) -> [__m512i; TILE] {
        let mut tile = [_mm512_setzero_si512(); TILE];
        for (i, vector) in tile.iter_mut().enumerate() {
            *vector = self.vector::<PACKED>(words, i);
        }
        tile
    }
}

/// Asks for tiles of so many words that are `ahead` of these.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch_words(words: &[u64], ahead: usize, count: usize) {
    for line in (0..count).step_by(LANES) {
        // A hint: it may name any address, also one beyond the row.
        let address = words.as_ptr().wrapping_add(ahead + line);
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
}

/// A tile of vectors from words that follow each other.
#[inline]
#[target_feature(enable = "avx512f")]
fn whole_tile(words: &[u64]) -> [__m512i; TILE] {
    let words = &words[..PAIR_TILE];
    let mut tile = [_mm512_setzero_si512(); TILE];
    for (i, vector) in tile.iter_mut().enumerate() {
        // SAFETY: a tile of pairs has LANES·TILE words.
        *vector = unsafe { _mm512_loadu_si512(words.as_ptr().add(LANES * i).cast()) };
    }
    tile
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
pub(super) fn dot_row_pairs(q: Modulus, outs: [&mut [u64]; 2], products: &[PairProducts<'_>]) {
    let mut widths = products.iter().map(|some| some.pairs.tiles().width);
    let width = widths.next().unwrap_or(LANES);
    if !outs[0].len().is_multiple_of(PAIR_TILE) || widths.any(|other| other != width) {
        portable::dot_row_pairs(q, outs, products);
    } else if width == LANES {
        dot_pairs::<false>(q, outs, products, width);
    } else {
        dot_pairs::<true>(q, outs, products, width);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn dot_pairs<const PACKED: bool>(
    q: Modulus,
    [out_0, out_1]: [&mut [u64]; 2],
    products: &[PairProducts<'_>],
    width: usize,
) {
    let terms = products.iter().map(|some| some.shared.len()).sum();
    let reduction = SumReduction::new(q, terms, q.value(), 3 * terms);
    let reader = Reader::new(width);
    for place in 0..out_0.len() / PAIR_TILE {
        let (at, mut sums) = (place * PAIR_TILE, [Sums::zero(); 2]);
        for PairProducts { shared, pairs } in products {
            let tiles = pairs.tiles();
            let (mut words, pair) = (tiles.place(place), 2 * reader.tile_words());
            // As many pairs that are used ahead, whatever lies between them.
            let places = PAIRS_AHEAD.div_ceil((pair * shared.len()).max(1));
            let ahead = places * tiles.depth * reader.tile_words();
            for shared in *shared {
                prefetch_words(words, ahead, pair);
                let shared = whole_tile(&shared[at..]);
                let second = &words[reader.tile_words()..];
                sums[0].add(&shared, &reader.tile::<PACKED>(words));
                sums[1].add(&shared, &reader.tile::<PACKED>(second));
                words = &second[reader.tile_words()..];
            }
        }
        store_whole(&reduction, out_0, at, &sums[0]);
        store_whole(&reduction, out_1, at, &sums[1]);
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
pub(super) fn dot_row_factors(
    q: Modulus,
    outs: [&mut [u64]; 2],
    factors: FactorRow<'_>,
    pairs: PairRow<'_>,
    operands: &[usize],
) {
    let (tiles, whole) = (pairs.tiles(), factors.tiles().whole());
    if tiles.tile != PAIR_TILE || !tiles.whole() {
        portable::dot_row_factors(q, outs, factors, pairs, operands);
    } else if whole {
        dot_factors::<false>(q, outs, factors.tiles(), tiles, operands);
    } else {
        dot_factors::<true>(q, outs, factors.tiles(), tiles, operands);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn dot_factors<const PACKED: bool>(
    q: Modulus,
    [out_0, out_1]: [&mut [u64]; 2],
    factors: Tiles<'_>,
    pairs: Tiles<'_>,
    operands: &[usize],
) {
    let reduction = SumReduction::new(q, operands.len(), q.value(), operands.len());
    let reader = Reader::new(factors.width);
    let pairs = pairs.words().chunks_exact(PAIR_TILE * pairs.depth);
    for (place, pairs) in pairs.enumerate() {
        let (at, mut sums) = (place * PAIR_TILE, [Sums::zero(); 2]);
        let mut words = factors.place(place);
        for &operand in operands {
            prefetch_words(words, PAIRS_AHEAD, reader.tile_words());
            let factor = reader.tile::<PACKED>(words);
            words = &words[reader.tile_words()..];
            let (first, second) = pairs[2 * PAIR_TILE * operand..].split_at(PAIR_TILE);
            sums[0].add(&factor, &whole_tile(first));
            sums[1].add(&factor, &whole_tile(second));
        }
        store_whole(&reduction, out_0, at, &sums[0]);
        store_whole(&reduction, out_1, at, &sums[1]);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn tensor_tile<const V: usize>(
    reduction: &SumReduction,
    [out_0, out_1, out_2]: [&mut [u64]; 3],
    a: &[[&[u64]; 2]],
    b: &[[&[u64]; 2]],
    at: usize,
) {
    let (ahead, mut sums) = (reduction.ahead, [Sums::zero(); 3]);
    for (a, b) in a.iter().zip(b) {
        let [a_0, a_1] = a.map(|row| tile::<V>(row, at, ahead));
        let [b_0, b_1] = b.map(|row| tile::<V>(row, at, ahead));
        sums[0].add(&a_0, &b_0);
        sums[1].add(&a_0, &b_1);
        sums[1].add(&a_1, &b_0);
        sums[2].add(&a_1, &b_1);
    }
    reduction.store::<V>(out_0, at, &sums[0]);
    reduction.store::<V>(out_1, at, &sums[1]);
    reduction.store::<V>(out_2, at, &sums[2]);
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn tensor(
    q: Modulus,
    [out_0, out_1, out_2]: [&mut [u64]; 3],
    a: &[[&[u64]; 2]],
    b: &[[&[u64]; 2]],
) {
    let reduction = SumReduction::new(q, 2 * a.len(), q.value(), 4 * a.len());
    for_tiles!(out_0.len(), 2, |at| tensor_tile::<V>(
        &reduction,
        [&mut *out_0, &mut *out_1, &mut *out_2],
        a,
        b,
        at
    ));
}

/// A vector of a pair of rows that is `PAIR_TILE` words apart.
#[inline]
#[target_feature(enable = "avx512f")]
fn pair_vectors(pair: &[u64; 2 * PAIR_TILE], i: usize) -> [__m512i; 2] {
    [0, PAIR_TILE].map(|half| {
        let words = &pair[half + LANES * i..][..LANES];
        // SAFETY: the slice has a vector's words.
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    })
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
pub(super) fn tensor_row_pairs(
    q: Modulus,
    outs: [&mut [u64]; 3],
    weights: PairRow<'_>,
    pairs: PairRow<'_>,
    operands: &[usize],
) {
    let (tiles, whole) = (pairs.tiles(), weights.tiles().whole());
    if tiles.tile != PAIR_TILE || !tiles.whole() {
        portable::tensor_row_pairs(q, outs, weights, pairs, operands);
    } else if whole {
        tensor_pairs::<false>(q, outs, weights.tiles(), tiles, operands);
    } else {
        tensor_pairs::<true>(q, outs, weights.tiles(), tiles, operands);
    }
}

/// The middle part by Karatsuba's identity, (a_0 + a_1)(b_0 + b_1) - a_0 b_0 - a_1 b_1: three
/// products in place of four.
///
/// Bounds: sums of two residues are below 2^51, their products below 4q^2 < 2^102
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn tensor_pairs<const PACKED: bool>(
    q: Modulus,
    [out_0, out_1, out_2]: [&mut [u64]; 3],
    weights: Tiles<'_>,
    pairs: Tiles<'_>,
    operands: &[usize],
) {
    let reduction = SumReduction::new(q, 4 * operands.len(), q.value(), operands.len());
    let reader = Reader::new(weights.width);
    let pairs = pairs.words().chunks_exact(PAIR_TILE * pairs.depth);
    for (place, pairs) in pairs.enumerate() {
        let at = place * PAIR_TILE;
        let weights = weights.place(place);
        let [first, both, last] = tensor_sums::<PACKED>(pairs, weights, reader, operands);
        store_whole(&reduction, out_0, at, &first);
        store_whole(&reduction, out_2, at, &last);
        store_whole(&reduction, out_1, at, &both);
        let middle = &mut out_1[at..at + PAIR_TILE];
        for (i, middle) in middle.chunks_exact_mut(LANES).enumerate() {
            let (f, at) = (&reduction.field, at + LANES * i);
            let sum = difference(f, read(middle, 0), read(out_0, at));
            write(middle, 0, difference(f, sum, read(out_2, at)));
        }
    }
}

/// Sums of a_0 b_0, (a_0 + a_1)(b_0 + b_1) and a_1 b_1.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi")]
fn tensor_sums<const PACKED: bool>(
    pairs: &[u64],
    mut weights: &[u64],
    reader: Reader,
    operands: &[usize],
) -> [Sums; 3] {
    let mut sums = [Sums::zero(); 3];
    let (pairs, _) = pairs.as_chunks::<{ 2 * PAIR_TILE }>();
    for &operand in operands {
        let pair = &pairs[operand];
        prefetch_words(weights, PAIRS_AHEAD, 2 * reader.tile_words());
        let second = &weights[reader.tile_words()..];
        for i in 0..TILE {
            let [b_0, b_1] = pair_vectors(pair, i);
            let a_0 = reader.vector::<PACKED>(weights, i);
            let a_1 = reader.vector::<PACKED>(second, i);
            sums[0].add_one(i, a_0, b_0);
            sums[2].add_one(i, a_1, b_1);
            sums[1].add_one(i, _mm512_add_epi64(a_0, a_1), _mm512_add_epi64(b_0, b_1));
        }
        weights = &second[reader.tile_words()..];
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn weighted_tile<const V: usize>(
    reduction: &SumReduction,
    out: &mut [u64],
    weights: &[u64],
    xs: &[&[u64]],
    at: usize,
) {
    let (ahead, mut sums) = (reduction.ahead, Sums::zero());
    for (x, &w) in xs.iter().zip(weights) {
        sums.add(&tile::<V>(x, at, ahead), &[_mm512_set1_epi64(w as i64); V]);
    }
    reduction.store::<V>(out, at, &sums);
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn weighted_sum(q: Modulus, out: &mut [u64], weights: &[u64], xs: &[&[u64]]) {
    let reduction = SumReduction::new(q, xs.len(), 1 << 50, xs.len());
    for_tiles!(out.len(), 4, |at| weighted_tile::<V>(
        &reduction, out, weights, xs, at
    ));
}
