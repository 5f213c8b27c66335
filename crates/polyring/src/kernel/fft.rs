//! The complex transform modulo X^n - i in doubles, written once in plain Rust and compiled for
//! every instruction set.
//!
//! Rust never contracts a product and a sum into one rounding, so all compilations give equal bits.
//! Rows of eight values are handled together: up to three stages at a time across strides, then six
//! stages on blocks of 64 with a transposition in the middle, as in the number-theoretic
//! transforms.

use crate::slots::FftTables;

const LANES: usize = 8;
/// Values of the last pass.
pub(crate) const BLOCK: usize = 64;
/// Constants of a block: seven for all lanes, then seven per lane.
const BLOCK_CONSTANTS: usize = 7 + 7 * LANES;

/// How many stages each pass takes before the blocks, first pass first; transforms shorter than a
/// block have none.
pub(crate) fn pass_stages(length: usize) -> &'static [u32] {
    match (length / BLOCK).checked_ilog2().unwrap_or(0) {
        0 => &[],
        1 => &[1],
        2 => &[2],
        3 => &[3],
        4 => &[2, 2],
        5 => &[3, 2],
        6 => &[3, 3],
        7 => &[3, 2, 2],
        8 => &[3, 3, 2],
        9 => &[3, 3, 3],
        _ => &[3, 3, 2, 2],
    }
}

/// Eight doubles.
type Lanes = [f64; LANES];

/// Eight complex numbers.
#[derive(Clone, Copy)]
struct Row {
    re: Lanes,
    im: Lanes,
}

#[inline(always)]
fn zip(a: Lanes, b: Lanes, f: impl Fn(f64, f64) -> f64) -> Lanes {
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

impl Row {
    const ZERO: Self = Self {
        re: [0.0; LANES],
        im: [0.0; LANES],
    };

    #[inline(always)]
    fn read(re: &[f64], im: &[f64], at: usize) -> Self {
        let mut row = Self::ZERO;
        row.re.copy_from_slice(&re[at..at + LANES]);
        row.im.copy_from_slice(&im[at..at + LANES]);
        row
    }

    #[inline(always)]
    fn write(&self, re: &mut [f64], im: &mut [f64], at: usize) {
        re[at..at + LANES].copy_from_slice(&self.re);
        im[at..at + LANES].copy_from_slice(&self.im);
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let re = zip(self.re, other.re, |a, b| a + b);
        Self {
            re,
            im: zip(self.im, other.im, |a, b| a + b),
        }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        let re = zip(self.re, other.re, |a, b| a - b);
        Self {
            re,
            im: zip(self.im, other.im, |a, b| a - b),
        }
    }

    #[inline(always)]
    fn mul(self, w: Self) -> Self {
        let product = |a, b| zip(a, b, |a, b| a * b);
        let (real, cross) = (product(self.re, w.re), product(self.im, w.im));
        let (left, right) = (product(self.re, w.im), product(self.im, w.re));
        let re = zip(real, cross, |a, b| a - b);
        Self {
            re,
            im: zip(left, right, |a, b| a + b),
        }
    }

    #[inline(always)]
    fn conjugate(self) -> Self {
        Self {
            re: self.re,
            im: self.im.map(|v| -v),
        }
    }
}

/// Constants of a tree of butterflies: one for all lanes, or one per lane.
#[derive(Clone, Copy)]
struct Constants<'a> {
    re: &'a [f64],
    im: &'a [f64],
    per_lane: bool,
}

impl Constants<'_> {
    #[inline(always)]
    fn at(&self, place: usize) -> Row {
        if self.per_lane {
            return Row::read(self.re, self.im, LANES * place);
        }
        Row {
            re: [self.re[place]; LANES],
            im: [self.im[place]; LANES],
        }
    }
}

/// (x, y) -> (x + w·y, x - w·y) in `BLOCKS` groups of `2·HALF` rows.
#[inline(always)]
fn split<const HALF: usize, const BLOCKS: usize>(v: &mut [Row], w: Constants<'_>, at: usize) {
    for block in 0..BLOCKS {
        let w = w.at(at + block);
        for i in 2 * HALF * block..2 * HALF * block + HALF {
            let product = v[i + HALF].mul(w);
            (v[i], v[i + HALF]) = (v[i].add(product), v[i].sub(product));
        }
    }
}

/// (x, y) -> (x + y, (x - y)/w) in `BLOCKS` groups of `2·HALF` rows; 1/w is the conjugate.
#[inline(always)]
fn merge<const HALF: usize, const BLOCKS: usize>(v: &mut [Row], w: Constants<'_>, at: usize) {
    for block in 0..BLOCKS {
        let w = w.at(at + block).conjugate();
        for i in 2 * HALF * block..2 * HALF * block + HALF {
            (v[i], v[i + HALF]) = (v[i].add(v[i + HALF]), v[i].sub(v[i + HALF]).mul(w));
        }
    }
}

/// The splittings of a tree over `ROWS` rows, 2, 4 or 8.
#[inline(always)]
fn split_tree<const ROWS: usize>(v: &mut [Row], w: Constants<'_>) {
    match ROWS {
        2 => split::<1, 1>(v, w, 0),
        4 => {
            split::<2, 1>(v, w, 0);
            split::<1, 2>(v, w, 1);
        }
        _ => {
            split::<4, 1>(v, w, 0);
            split::<2, 2>(v, w, 1);
            split::<1, 4>(v, w, 3);
        }
    }
}

/// The mergings of a tree over `ROWS` rows, 2, 4 or 8.
#[inline(always)]
fn merge_tree<const ROWS: usize>(v: &mut [Row], w: Constants<'_>) {
    match ROWS {
        2 => merge::<1, 1>(v, w, 0),
        4 => {
            merge::<1, 2>(v, w, 1);
            merge::<2, 1>(v, w, 0);
        }
        _ => {
            merge::<1, 4>(v, w, 3);
            merge::<2, 2>(v, w, 1);
            merge::<4, 1>(v, w, 0);
        }
    }
}

/// One pass: a tree on `ROWS` rows a stride apart, in every one of `blocks` blocks.
///
/// The direction is a constant and not a function argument, since functions passed as arguments are
/// compiled for the base instruction set unless they happen to be inlined.
#[inline(always)]
fn pass<const FORWARD: bool, const ROWS: usize>(
    re: &mut [f64],
    im: &mut [f64],
    table: Constants<'_>,
    blocks: usize,
) {
    let stride = re.len() / blocks / ROWS;
    let parts = re.chunks_exact_mut(stride * ROWS);
    for (block, (re, im)) in parts.zip(im.chunks_exact_mut(stride * ROWS)).enumerate() {
        let places = block * (ROWS - 1)..(block + 1) * (ROWS - 1);
        let w = Constants {
            re: &table.re[places.clone()],
            im: &table.im[places],
            per_lane: false,
        };
        for at in (0..stride).step_by(LANES) {
            let mut v = [Row::ZERO; ROWS];
            for (k, row) in v.iter_mut().enumerate() {
                *row = Row::read(re, im, at + k * stride);
            }
            if FORWARD {
                split_tree::<ROWS>(&mut v, w);
            } else {
                merge_tree::<ROWS>(&mut v, w);
            }
            for (k, row) in v.iter().enumerate() {
                row.write(re, im, at + k * stride);
            }
        }
    }
}

#[inline(always)]
fn transpose(v: &mut [Row; LANES]) {
    let rows = *v;
    for (i, row) in v.iter_mut().enumerate() {
        for (j, from) in rows.iter().enumerate() {
            row.re[j] = from.re[i];
            row.im[j] = from.im[i];
        }
    }
}

/// The six stages next to the leaves, on every block of 64.
#[inline(always)]
fn blocks<const FORWARD: bool>(re: &mut [f64], im: &mut [f64], table: Constants<'_>) {
    let tables = table.re.chunks_exact(BLOCK_CONSTANTS);
    let tables = tables.zip(table.im.chunks_exact(BLOCK_CONSTANTS));
    let parts = re.chunks_exact_mut(BLOCK).zip(im.chunks_exact_mut(BLOCK));
    for ((re, im), (table_re, table_im)) in parts.zip(tables) {
        let mut v = [Row::ZERO; LANES];
        for (k, row) in v.iter_mut().enumerate() {
            *row = Row::read(re, im, LANES * k);
        }
        let (all_re, lane_re) = table_re.split_at(7);
        let (all_im, lane_im) = table_im.split_at(7);
        let all = Constants {
            re: all_re,
            im: all_im,
            per_lane: false,
        };
        let per_lane = Constants {
            re: lane_re,
            im: lane_im,
            per_lane: true,
        };
        if FORWARD {
            split_tree::<8>(&mut v, all);
            transpose(&mut v);
            split_tree::<8>(&mut v, per_lane);
        } else {
            merge_tree::<8>(&mut v, per_lane);
            transpose(&mut v);
            merge_tree::<8>(&mut v, all);
        }
        for (k, row) in v.iter().enumerate() {
            row.write(re, im, LANES * k);
        }
    }
}

/// Values at the roots, leaves of the tree in blocks of 64 transposed, from n coefficients.
#[inline(always)]
pub(super) fn forward(tables: &FftTables, re: &mut [f64], im: &mut [f64]) {
    let n = re.len();
    if n < BLOCK {
        return forward_short(tables, re, im);
    }
    let (mut at, mut count) = (0, 1);
    for &stages in pass_stages(n) {
        let end = at + count * ((1 << stages) - 1);
        let w = Constants {
            re: &tables.re[at..end],
            im: &tables.im[at..end],
            per_lane: false,
        };
        match stages {
            1 => pass::<true, 2>(re, im, w, count),
            2 => pass::<true, 4>(re, im, w, count),
            _ => pass::<true, 8>(re, im, w, count),
        }
        (at, count) = (end, count << stages);
    }
    let w = Constants {
        re: &tables.re[at..],
        im: &tables.im[at..],
        per_lane: false,
    };
    blocks::<true>(re, im, w);
}

/// n times the coefficients from the values at the n roots.
#[inline(always)]
pub(super) fn inverse(tables: &FftTables, re: &mut [f64], im: &mut [f64]) {
    let n = re.len();
    if n < BLOCK {
        return inverse_short(tables, re, im);
    }
    let mut count = n / BLOCK;
    let mut end = tables.re.len() - count * BLOCK_CONSTANTS;
    let w = Constants {
        re: &tables.re[end..],
        im: &tables.im[end..],
        per_lane: false,
    };
    blocks::<false>(re, im, w);
    for &stages in pass_stages(n).iter().rev() {
        count >>= stages;
        let at = end - count * ((1 << stages) - 1);
        let w = Constants {
            re: &tables.re[at..end],
            im: &tables.im[at..end],
            per_lane: false,
        };
        match stages {
            1 => pass::<false, 2>(re, im, w, count),
            2 => pass::<false, 4>(re, im, w, count),
            _ => pass::<false, 8>(re, im, w, count),
        }
        end = at;
    }
}

/// Stage by stage, for transforms shorter than a block: the constants are in tree order, from
/// index 1.
#[inline(always)]
fn forward_short(tables: &FftTables, re: &mut [f64], im: &mut [f64]) {
    let n = re.len();
    let (mut half, mut node) = (n / 2, 1);
    while half > 0 {
        for at in (0..n).filter(|at| at & half == 0) {
            let w = node + at / (2 * half);
            let (w_re, w_im) = (tables.re[w], tables.im[w]);
            let t_re = re[at + half] * w_re - im[at + half] * w_im;
            let t_im = re[at + half] * w_im + im[at + half] * w_re;
            (re[at], re[at + half]) = (re[at] + t_re, re[at] - t_re);
            (im[at], im[at + half]) = (im[at] + t_im, im[at] - t_im);
        }
        (half, node) = (half / 2, node * 2);
    }
}

/// The reverse of [`forward_short`], times n.
#[inline(always)]
fn inverse_short(tables: &FftTables, re: &mut [f64], im: &mut [f64]) {
    let n = re.len();
    let (mut half, mut node) = (1, n / 2);
    while half < n {
        for at in (0..n).filter(|at| at & half == 0) {
            let w = node + at / (2 * half);
            let (w_re, w_im) = (tables.re[w], -tables.im[w]);
            let (d_re, d_im) = (re[at] - re[at + half], im[at] - im[at + half]);
            (re[at], im[at]) = (re[at] + re[at + half], im[at] + im[at + half]);
            re[at + half] = d_re * w_re - d_im * w_im;
            im[at + half] = d_re * w_im + d_im * w_re;
        }
        (half, node) = (half * 2, node / 2);
    }
}
