//! Pairs of rows in the order in which a key switch reads them.
//!
//! A sum Σ_d x_d·(b_d, a_d) over rows that are apart reads two streams per term. Those start at
//! multiples of large powers of two, so they share the sets of every cache, and there are more of
//! them than the processor's prefetcher follows. Interleaved, the pairs are a single stream.

use crate::automorphism::Permutation;
use crate::kernel::AlignedBuffer;

/// Words of one row next to each other: four 512-bit registers.
pub(crate) const PAIR_TILE: usize = 32;

/// For every row of a basis the pairs (b_d, a_d) of all terms d.
///
/// Shape: `[rows][N / tile][terms][2][tile]`, with a tile of 32 words, or N if that is
///     less
#[derive(Clone)]
pub struct RowPairs {
    words: AlignedBuffer,
    degree: usize,
    terms: usize,
}

/// The pairs of one row.
#[derive(Clone, Copy)]
pub struct PairRow<'a> {
    words: &'a [u64],
    tile: usize,
    terms: usize,
}

impl RowPairs {
    /// Pairs of arbitrary content, for those who set all of them; panics for no terms, of which
    /// nobody needs the sum.
    pub fn recycled(rows: usize, degree: usize, terms: usize) -> Self {
        assert!(terms > 0, "pairs of no terms");
        Self {
            words: AlignedBuffer::recycled(rows * degree * terms * 2),
            degree,
            terms,
        }
    }

    /// Number of terms.
    pub fn terms(&self) -> usize {
        self.terms
    }

    /// The words as they lie in memory.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The pairs of row `row`.
    pub fn row(&self, row: usize) -> PairRow<'_> {
        let len = self.degree * self.terms * 2;
        PairRow {
            words: &self.words[row * len..(row + 1) * len],
            tile: self.tile(),
            terms: self.terms,
        }
    }

    /// The pairs of row `row` at the positions from `start` on, `len` of them; both are multiples
    /// of the tile.
    pub fn block(&self, row: usize, start: usize, len: usize) -> PairRow<'_> {
        let stride = 2 * self.terms;
        let from = (row * self.degree + start) * stride;
        PairRow {
            words: &self.words[from..from + len * stride],
            tile: self.tile(),
            terms: self.terms,
        }
    }

    /// Puts `values` in as half `half` (0 or 1) of the pair of term `term` in row `row`.
    pub fn set(&mut self, row: usize, term: usize, half: usize, values: &[u64]) {
        let (degree, tile, stride) = (self.degree, self.tile(), self.terms * 2);
        assert_eq!(values.len(), degree, "one value per coefficient");
        let row = &mut self.words[row * degree * stride..(row + 1) * degree * stride];
        scatter(&mut row[(2 * term + half) * tile..], tile, stride, values);
    }

    /// As [`RowPairs::set`], with the image of `values` under an automorphism of the ring.
    pub fn set_image(
        &mut self,
        row: usize,
        term: usize,
        half: usize,
        values: &[u64],
        permutation: &Permutation,
    ) {
        let (degree, tile, stride) = (self.degree, self.tile(), self.terms * 2);
        assert!(term < self.terms && half < 2, "half {half} of term {term}");
        let row = &mut self.words[row * degree * stride..(row + 1) * degree * stride];
        let out = &mut row[(2 * term + half) * tile..];
        permutation.scatter(out, values, tile, stride * tile);
    }

    /// Copies half `half` of the pair of term `term` in row `row`.
    pub fn get(&self, row: usize, term: usize, half: usize, out: &mut [u64]) {
        let (tile, stride) = (self.tile(), self.terms * 2);
        assert_eq!(out.len(), self.degree, "one value per coefficient");
        let tiles = self.row(row).words.chunks_exact(tile);
        let tiles = tiles.skip(2 * term + half).step_by(stride);
        for (out, values) in out.chunks_exact_mut(tile).zip(tiles) {
            out.copy_from_slice(values);
        }
    }

    fn tile(&self) -> usize {
        self.degree.min(PAIR_TILE)
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

impl<'a> PairProducts<'a> {
    /// What is summed at the positions of one tile: a whole row and the pair's tiles there.
    #[inline]
    pub(crate) fn at(self, tile: usize) -> impl Iterator<Item = (&'a [u64], &'a [u64])> {
        let (
            shared,
            PairRow {
                words,
                tile: len,
                terms,
            },
        ) = (self.shared, self.pairs);
        let pairs = &words[2 * len * terms * tile..][..2 * len * terms];
        let shared = shared.iter().copied();
        shared.zip(pairs.chunks_exact(2 * len))
    }
}

/// For every row of a basis one factor per term of a sum.
///
/// Shape: `[rows][N / tile][terms][tile]`, tiles as in [`RowPairs`]
#[derive(Clone)]
pub struct RowFactors {
    words: AlignedBuffer,
    degree: usize,
    terms: usize,
}

/// The factors of one row, or of some positions of it.
#[derive(Clone, Copy)]
pub struct FactorRow<'a> {
    words: &'a [u64],
    tile: usize,
    terms: usize,
}

impl RowFactors {
    /// As [`RowPairs::recycled`].
    pub fn recycled(rows: usize, degree: usize, terms: usize) -> Self {
        assert!(terms > 0, "factors of no terms");
        Self {
            words: AlignedBuffer::recycled(rows * degree * terms),
            degree,
            terms,
        }
    }

    /// The words as they lie in memory.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Puts `values` in as the factor of term `term` in row `row`.
    pub fn set(&mut self, row: usize, term: usize, values: &[u64]) {
        let (degree, tile) = (self.degree, self.degree.min(PAIR_TILE));
        assert_eq!(values.len(), degree, "one value per coefficient");
        let len = degree * self.terms;
        let row = &mut self.words[row * len..(row + 1) * len];
        scatter(&mut row[term * tile..], tile, self.terms, values);
    }

    /// The factors of the positions from `start` on, `len` of them; both are multiples of the tile.
    pub fn block(&self, row: usize, start: usize, len: usize) -> FactorRow<'_> {
        let from = (row * self.degree + start) * self.terms;
        FactorRow {
            words: &self.words[from..from + len * self.terms],
            tile: self.degree.min(PAIR_TILE),
            terms: self.terms,
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
    /// The words as they lie in memory.
    pub(crate) fn words(self) -> &'a [u64] {
        self.words
    }

    /// Number of terms.
    pub(crate) fn terms(self) -> usize {
        self.terms
    }

    /// Number of factors of each term.
    pub(crate) fn degree(self) -> usize {
        self.words.len() / self.terms
    }

    /// Words of one row next to each other.
    pub(crate) fn tile(self) -> usize {
        self.tile
    }
}

impl<'a> PairRow<'a> {
    /// The words as they lie in memory.
    pub fn words(self) -> &'a [u64] {
        self.words
    }

    /// Number of terms.
    pub fn terms(self) -> usize {
        self.terms
    }

    /// Number of pairs of each term.
    pub(crate) fn degree(self) -> usize {
        self.words.len() / (2 * self.terms)
    }

    /// Words of one row next to each other.
    pub(crate) fn tile(self) -> usize {
        self.tile
    }
}
