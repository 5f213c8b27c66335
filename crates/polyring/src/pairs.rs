//! Pairs of rows in the order in which a key switch reads them.
//!
//! A sum Σ_d x_d·(b_d, a_d) over rows that are apart reads two streams per term. Those start at
//! multiples of large powers of two, so they share the sets of every cache, and there are more of
//! them than the processor's prefetcher follows. Interleaved, the pairs are a single stream.
//!
//! That stream comes from memory, so rows that are written once and read often are packed: a
//! residue takes as many bytes as its prime.

use std::borrow::Cow;

use crate::automorphism::Permutation;
use crate::kernel::AlignedBuffer;

/// Words of one row next to each other: four 512-bit registers.
pub(crate) const PAIR_TILE: usize = 32;

/// Values that are packed together: eight of `width` bytes each are `width` words.
const GROUP: usize = 8;
/// Words behind the last row, so that a whole vector can be read from the start of every group.
const SLACK: usize = 8;
/// Bytes of a value that is not packed.
const WHOLE: usize = 8;

/// Where rows of values of several widths lie.
#[derive(Clone)]
struct Rows {
    /// Bytes of a value, by row.
    widths: Vec<usize>,
    /// Where each row begins, and the end, in words.
    starts: Vec<usize>,
    degree: usize,
    /// Values of each position.
    depth: usize,
    /// Base-two logarithm of how many neighbouring places share their tiles, which are there once.
    log_shared: u32,
}

impl Rows {
    fn new(widths: Vec<usize>, degree: usize, depth: usize) -> Self {
        Self::shared(widths, degree, depth, 0)
    }

    fn shared(widths: Vec<usize>, degree: usize, depth: usize, log_shared: u32) -> Self {
        let mut starts = vec![0];
        for width in &widths {
            let values = (degree >> log_shared) * depth;
            starts.push(starts[starts.len() - 1] + values * width / WHOLE);
        }
        Self {
            widths,
            starts,
            degree,
            depth,
            log_shared,
        }
    }

    /// One row for each prime, with values of its size; the tiles of short rows stay whole.
    fn packed(bits: impl IntoIterator<Item = u32>, degree: usize, depth: usize) -> Self {
        Self::new(Self::widths(bits, degree), degree, depth)
    }

    fn widths(bits: impl IntoIterator<Item = u32>, degree: usize) -> Vec<usize> {
        let width = |bits: u32| match degree.is_multiple_of(PAIR_TILE) {
            true => (bits.div_ceil(8) as usize).min(WHOLE),
            false => WHOLE,
        };
        bits.into_iter().map(width).collect()
    }

    fn words(&self) -> usize {
        self.starts[self.widths.len()] + SLACK
    }

    fn tile(&self) -> usize {
        self.degree.min(PAIR_TILE)
    }

    /// Values of the positions of row `row` from `start` on, `len` of them.
    fn block<'a>(&self, words: &'a [u64], row: usize, start: usize, len: usize) -> Tiles<'a> {
        let (width, tile) = (self.widths[row], self.tile());
        assert!(
            start + len <= self.degree && start.is_multiple_of(tile) && len.is_multiple_of(tile),
            "positions {start} to {} of {}, in tiles of {tile}",
            start + len,
            self.degree
        );
        let run = tile << self.log_shared;
        assert!(
            start.is_multiple_of(run) || start % run + len <= run,
            "positions {start} to {} begin within one run of {run} and end in another",
            start + len
        );
        let place = |at| self.starts[row] + at * self.depth * tile * width / WHOLE;
        Tiles {
            words: &words[place(start / run)..place((start + len).div_ceil(run)) + SLACK],
            width,
            tile,
            depth: self.depth,
            count: len / tile,
            log_shared: self.log_shared,
        }
    }

    /// That positions have a value `at`: a larger one would be a value of the next position.
    fn check(&self, at: usize) {
        assert!(at < self.depth, "value {at} of {}", self.depth);
    }

    /// Puts `values` in as value `at` of every position.
    fn set(&self, words: &mut [u64], row: usize, at: usize, values: &[u64]) {
        assert_eq!(values.len(), self.degree, "one value per coefficient");
        self.check(at);
        let (width, tile) = (self.widths[row], self.tile());
        let values = &*self.first_of_runs(values);
        let words = &mut words[self.starts[row]..self.starts[row + 1]];
        if width == WHOLE {
            return scatter(&mut words[at * tile..], tile, self.depth, values);
        }
        let len = tile * width / WHOLE;
        let tiles = words.chunks_exact_mut(len).skip(at).step_by(self.depth);
        for (out, values) in tiles.zip(values.chunks_exact(tile)) {
            pack(out, values, width);
        }
    }

    /// One tile for all places that share it.
    fn first_of_runs<'a>(&self, values: &'a [u64]) -> Cow<'a, [u64]> {
        if self.log_shared == 0 {
            return Cow::Borrowed(values);
        }
        let tile = self.tile();
        let first = |run: &'a [u64]| {
            let (first, mut others) = (&run[..tile], run.chunks_exact(tile));
            assert!(others.all(|tile| tile == first), "a run of unequal tiles");
            first
        };
        let runs = values.chunks_exact(tile << self.log_shared);
        Cow::Owned(runs.flat_map(first).copied().collect())
    }

    /// Value `at` of every position.
    fn get(&self, words: &[u64], row: usize, at: usize, out: &mut [u64]) {
        assert_eq!(out.len(), self.degree, "one value per coefficient");
        self.check(at);
        let tiles = self.block(words, row, 0, self.degree);
        for (place, out) in out.chunks_exact_mut(tiles.tile).enumerate() {
            tiles.unpack(place, at, out);
        }
    }
}

/// Tiles of some positions: for each of `count` places `depth` tiles of `tile` values.
#[derive(Clone, Copy)]
pub(crate) struct Tiles<'a> {
    /// With `SLACK` words behind the last tile.
    words: &'a [u64],
    pub(crate) width: usize,
    pub(crate) tile: usize,
    pub(crate) depth: usize,
    pub(crate) count: usize,
    log_shared: u32,
}

impl<'a> Tiles<'a> {
    /// Whether values are words.
    #[inline]
    pub(crate) fn whole(self) -> bool {
        self.width == WHOLE
    }

    /// The `depth` tiles of one place, and the words behind them up to the end.
    #[inline]
    pub(crate) fn place(self, place: usize) -> &'a [u64] {
        let place = place >> self.log_shared;
        &self.words[place * self.depth * self.tile * self.width / WHOLE..]
    }

    /// The words of all whole tiles, which no places share.
    #[inline]
    pub(crate) fn words(self) -> &'a [u64] {
        &self.words[..self.words.len() - SLACK]
    }

    /// Values of tile `at` of a place.
    #[inline]
    pub(crate) fn unpack(self, place: usize, at: usize, out: &mut [u64]) {
        let len = self.tile * self.width / WHOLE;
        let words = &self.place(place)[at * len..][..len];
        match self.whole() {
            true => out.copy_from_slice(words),
            false => unpack(out, words, self.width),
        }
    }
}

/// Eight values of `width` bytes in every `width` words, lowest bytes first.
fn pack(out: &mut [u64], values: &[u64], width: usize) {
    for (out, values) in out.chunks_exact_mut(width).zip(values.chunks_exact(GROUP)) {
        out.fill(0);
        for (i, &value) in values.iter().enumerate() {
            debug_assert!(value >> (8 * width) == 0, "{value} in {width} bytes");
            let (word, shift) = (i * width / WHOLE, i * width % WHOLE * 8);
            out[word] |= value << shift;
            if shift + 8 * width > 64 {
                out[word + 1] |= value >> (64 - shift);
            }
        }
    }
}

/// The reverse of [`pack`].
#[inline]
fn unpack(out: &mut [u64], words: &[u64], width: usize) {
    for (out, words) in out.chunks_exact_mut(GROUP).zip(words.chunks_exact(width)) {
        for (i, out) in out.iter_mut().enumerate() {
            let (word, shift) = (i * width / WHOLE, i * width % WHOLE * 8);
            let mut value = words[word] >> shift;
            if shift + 8 * width > 64 {
                value |= words[word + 1] << (64 - shift);
            }
            *out = value & ((1 << (8 * width)) - 1);
        }
    }
}

/// For every row of a basis the pairs (b_d, a_d) of all terms d.
///
/// Shape: `[rows][N / tile][terms][2][tile]`, with a tile of 32 values, or N if that is
///     less
#[derive(Clone)]
pub struct RowPairs {
    words: AlignedBuffer,
    rows: Rows,
    terms: usize,
}

/// The pairs of one row.
#[derive(Clone, Copy)]
pub struct PairRow<'a> {
    tiles: Tiles<'a>,
}

impl RowPairs {
    /// Pairs of arbitrary content, for those who set all of them; panics for no terms, of which
    /// nobody needs the sum.
    pub fn recycled(rows: usize, degree: usize, terms: usize) -> Self {
        Self::with_rows(Rows::new(vec![WHOLE; rows], degree, 2 * terms), terms)
    }

    /// The same in less memory, one row for each prime of so many bits; slower to set.
    pub fn packed(bits: impl IntoIterator<Item = u32>, degree: usize, terms: usize) -> Self {
        Self::with_rows(Rows::packed(bits, degree, 2 * terms), terms)
    }

    fn with_rows(rows: Rows, terms: usize) -> Self {
        assert!(terms > 0, "pairs of no terms");
        Self {
            words: AlignedBuffer::recycled(rows.words()),
            rows,
            terms,
        }
    }

    /// Number of terms.
    pub fn terms(&self) -> usize {
        self.terms
    }

    /// The words as they lie in memory.
    pub fn words(&self) -> &[u64] {
        &self.words[..self.words.len() - SLACK]
    }

    /// The pairs of row `row`.
    pub fn row(&self, row: usize) -> PairRow<'_> {
        self.block(row, 0, self.rows.degree)
    }

    /// The pairs of row `row` at the positions from `start` on, `len` of them; both are multiples
    /// of the tile.
    pub fn block(&self, row: usize, start: usize, len: usize) -> PairRow<'_> {
        PairRow {
            tiles: self.rows.block(&self.words, row, start, len),
        }
    }

    /// Puts `values` in as half `half` (0 or 1) of the pair of term `term` in row `row`.
    pub fn set(&mut self, row: usize, term: usize, half: usize, values: &[u64]) {
        self.rows.set(&mut self.words, row, 2 * term + half, values);
    }

    /// As [`RowPairs::set`], with the image of `values` under an automorphism of the ring; for
    /// pairs that are not packed.
    pub fn set_image(
        &mut self,
        row: usize,
        term: usize,
        half: usize,
        values: &[u64],
        permutation: &Permutation,
    ) {
        assert!(term < self.terms && half < 2, "half {half} of term {term}");
        assert_eq!(self.rows.widths[row], WHOLE, "bytes of values");
        let (tile, depth) = (self.rows.tile(), self.rows.depth);
        let out = &mut self.words[self.rows.starts[row]..self.rows.starts[row + 1]];
        let out = &mut out[(2 * term + half) * tile..];
        permutation.scatter(out, values, tile, depth * tile);
    }

    /// Copies half `half` of the pair of term `term` in row `row`.
    pub fn get(&self, row: usize, term: usize, half: usize, out: &mut [u64]) {
        self.rows.get(&self.words, row, 2 * term + half, out);
    }
}

/// Σ_i shared_i·pairs_i over the first `shared.len()` of the pairs.
#[derive(Clone, Copy)]
pub struct PairProducts<'a> {
    /// What both halves of a pair are multiplied by.
    pub shared: &'a [&'a [u64]],
    /// At least as many pairs.
    pub pairs: PairRow<'a>,
}

/// For every row of a basis one factor per term of a sum, packed.
///
/// Shape: `[rows][N / run][terms][tile]`, tiles as in [`RowPairs`]; a run is a tile, or a multiple
///     if the tiles of a run are equal, as they are for elements of a subring
///     Z_q\[X^run\]/(X^N + 1)
#[derive(Clone)]
pub struct RowFactors {
    words: AlignedBuffer,
    rows: Rows,
}

/// The factors of one row, or of some positions of it.
#[derive(Clone, Copy)]
pub struct FactorRow<'a> {
    tiles: Tiles<'a>,
}

impl RowFactors {
    /// As [`RowPairs::packed`]; of every `run` neighbouring positions, a power of two, all have the
    /// same factor. Runs that are shorter than a tile are not made use of.
    pub fn packed(
        bits: impl IntoIterator<Item = u32>,
        degree: usize,
        terms: usize,
        run: usize,
    ) -> Self {
        assert!(terms > 0, "factors of no terms");
        assert!(
            run.is_power_of_two() && degree.is_multiple_of(run),
            "runs of {run} positions in {degree}"
        );
        let log_shared = (run / degree.min(PAIR_TILE)).max(1).ilog2();
        let rows = Rows::shared(Rows::widths(bits, degree), degree, terms, log_shared);
        Self {
            words: AlignedBuffer::recycled(rows.words()),
            rows,
        }
    }

    /// The words as they lie in memory.
    pub fn words(&self) -> &[u64] {
        &self.words[..self.words.len() - SLACK]
    }

    /// Puts `values` in as the factor of term `term` in row `row`; panics if they differ within a
    /// run.
    pub fn set(&mut self, row: usize, term: usize, values: &[u64]) {
        self.rows.set(&mut self.words, row, term, values);
    }

    /// The factors of the positions from `start` on, `len` of them; both are multiples of the tile,
    /// and what begins within a run ends there.
    pub fn block(&self, row: usize, start: usize, len: usize) -> FactorRow<'_> {
        FactorRow {
            tiles: self.rows.block(&self.words, row, start, len),
        }
    }
}

/// Puts the tiles of `values` in at every `stride`-th tile.
fn scatter(row: &mut [u64], tile: usize, stride: usize, values: &[u64]) {
    if tile == PAIR_TILE {
        // Of a known length, or each copy would be a call.
        let (tiles, _) = row.as_chunks_mut::<PAIR_TILE>();
        let (values, _) = values.as_chunks();
        for (out, values) in tiles.iter_mut().step_by(stride).zip(values) {
            *out = *values;
        }
        return;
    }
    let tiles = row.chunks_exact_mut(tile).step_by(stride);
    for (out, values) in tiles.zip(values.chunks_exact(tile)) {
        out.copy_from_slice(values);
    }
}

impl<'a> FactorRow<'a> {
    /// As they lie in memory.
    #[inline]
    pub(crate) fn tiles(self) -> Tiles<'a> {
        self.tiles
    }

    /// Number of terms.
    pub(crate) fn terms(self) -> usize {
        self.tiles.depth
    }

    /// Number of factors of each term.
    pub(crate) fn degree(self) -> usize {
        self.tiles.count * self.tiles.tile
    }
}

impl<'a> PairRow<'a> {
    /// As they lie in memory, two for each term.
    #[inline]
    pub(crate) fn tiles(self) -> Tiles<'a> {
        self.tiles
    }

    /// Number of terms.
    pub fn terms(self) -> usize {
        self.tiles.depth / 2
    }

    /// Number of pairs of each term.
    pub(crate) fn degree(self) -> usize {
        self.tiles.count * self.tiles.tile
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_rows_give_back_every_value_of_their_width() {
        for bits in [8, 20, 33, 38, 40, 47, 50, 56, 60, 64] {
            let value = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits);
            let values: Vec<u64> = (0..64).map(value).chain([0; 63]).chain([!0]).collect();
            let mut values: Vec<u64> = values.iter().map(|v| v >> (64 - bits) | v >> 1).collect();
            values
                .iter_mut()
                .for_each(|v| *v &= u64::MAX >> (64 - bits));
            let mut pairs = RowPairs::packed([50, bits], 128, 3);
            for (term, half) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
                pairs.set(1, term, half, &values[..]);
            }
            pairs.set(1, 1, 0, &[0; 128]);
            let mut out = [1; 128];
            pairs.get(1, 0, 1, &mut out);
            assert_eq!(out[..], values[..], "{bits} bits");
            pairs.get(1, 1, 0, &mut out);
            assert_eq!(out, [0; 128], "{bits} bits");
            pairs.get(1, 1, 1, &mut out);
            assert_eq!(out[..], values[..], "{bits} bits");
        }
    }

    #[test]
    #[should_panic(expected = "a run of unequal tiles")]
    fn runs_are_of_equal_values() {
        let values: Vec<u64> = (0..128).map(|at| at / 32).collect();
        RowFactors::packed([50], 128, 1, 64).set(0, 0, &values);
    }

    #[test]
    #[should_panic(expected = "begin within one run of 64")]
    fn blocks_do_not_straddle_runs() {
        RowFactors::packed([50], 128, 1, 64).block(0, 32, 64);
    }

    #[test]
    #[should_panic(expected = "value 6 of 6")]
    fn a_term_that_is_not_there_is_not_read() {
        RowPairs::packed([50, 40], 64, 3).get(0, 3, 0, &mut [0; 64]);
    }

    #[test]
    #[should_panic(expected = "value 3 of 3")]
    fn a_factor_that_is_not_there_is_not_set() {
        RowFactors::packed([50, 40], 64, 3, 1).set(0, 3, &[0; 64]);
    }
}
