//! One panel of an integer matrix over tiles: a few rows, all their columns.

#[cfg(target_arch = "x86_64")]
mod avx512;

use super::Kernel;
use crate::lanes::{PANEL_ROWS, TILE};
use crate::modulus::{Modulus, subtract_once};

/// Rows of a matrix with the same columns.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    /// which outputs the rows are, at most [`PANEL_ROWS`]
    pub(crate) rows: &'a [u32],
    /// w + 2^offset_bits, by column and then row
    pub(crate) weights: &'a [u64],
    pub(crate) offset_bits: u32,
    /// bound of Σ_c |w_c| for each row
    pub(crate) norm: u64,
}

/// How a sum of a panel is reduced.
///
/// Math:   the sums s = Σ (w_c + 2^o)·x_c and t = Σ x_c wrap modulo 2^64, but v = s - 2^o·t = Σ
///         w_c·x_c fits a signed word; u = v + bias, with a multiple of q for bias, is positive.
///         With h = floor(u / 2^shift), floor(h·factor / 2^52) is at most two below floor(u/q)
/// Bounds: 0 <= u < 2^63 and u < 2^(51 + shift); the remainder is below 3q < 2^52
#[derive(Clone, Copy)]
pub(super) struct Reduction {
    pub(super) q: u64,
    pub(super) bias: u64,
    pub(super) shift: u32,
    pub(super) factor: u64,
    pub(super) offset_bits: u32,
}

impl Reduction {
    fn new(q: Modulus, panel: &Panel<'_>) -> Self {
        let shift = q.bits() - 2;
        Self {
            q: q.value(),
            bias: q.value() * panel.norm.max(1).next_power_of_two(),
            shift,
            factor: ((1u128 << (52 + shift)) / u128::from(q.value())) as u64,
            offset_bits: panel.offset_bits,
        }
    }

    #[inline(always)]
    fn reduce(&self, sum: u64, plain: u64) -> u64 {
        let word = sum
            .wrapping_sub(plain << self.offset_bits)
            .wrapping_add(self.bias);
        let quotient = (u128::from(word >> self.shift) * u128::from(self.factor)) >> 52;
        let rest = word.wrapping_sub((quotient as u64).wrapping_mul(self.q));
        subtract_once(subtract_once(rest, self.q), self.q)
    }
}

/// outs[rows_i] = Σ_c w_ic·xs_c; `fast` says that products fit 52 bits and sums a word.
pub(crate) fn matrix_panel(
    kernel: Kernel,
    q: Modulus,
    fast: bool,
    panel: Panel<'_>,
    outs: &mut [[u64; TILE]],
    xs: &[&[u64; TILE]],
) {
    assert_eq!(
        panel.weights.len(),
        panel.rows.len() * xs.len(),
        "weights of a panel"
    );
    if !fast {
        return wide(q, panel, outs, xs);
    }
    let reduction = Reduction::new(q, &panel);
    match panel.rows.len() {
        0 => {}
        1 => words::<1>(kernel, reduction, panel, outs, xs),
        2 => words::<2>(kernel, reduction, panel, outs, xs),
        3 => words::<3>(kernel, reduction, panel, outs, xs),
        4 => words::<4>(kernel, reduction, panel, outs, xs),
        PANEL_ROWS => words::<PANEL_ROWS>(kernel, reduction, panel, outs, xs),
        rows => unreachable!("a panel has at most {PANEL_ROWS} rows, not {rows}"),
    }
}

fn words<const ROWS: usize>(
    kernel: Kernel,
    reduction: Reduction,
    panel: Panel<'_>,
    outs: &mut [[u64; TILE]],
    xs: &[&[u64; TILE]],
) {
    #[cfg(target_arch = "x86_64")]
    if kernel.name() == "avx512ifma" {
        // SAFETY: holding the IFMA kernel proves that the processor has the instructions.
        let sums = unsafe { avx512::panel::<ROWS>(reduction, panel.weights, xs) };
        return store(panel.rows, &sums, outs);
    }
    let _ = kernel;
    let mut sums = [[0; TILE]; ROWS];
    portable(reduction, panel.weights, xs, &mut sums);
    store(panel.rows, &sums, outs);
}

fn store<const ROWS: usize>(rows: &[u32], sums: &[[u64; TILE]; ROWS], outs: &mut [[u64; TILE]]) {
    for (&row, sum) in rows.iter().zip(sums) {
        outs[row as usize] = *sum;
    }
}

/// Positions whose sums stay in registers.
const CHUNK: usize = 8;

fn portable<const ROWS: usize>(
    reduction: Reduction,
    weights: &[u64],
    xs: &[&[u64; TILE]],
    sums: &mut [[u64; TILE]; ROWS],
) {
    for start in (0..TILE).step_by(CHUNK) {
        let mut accumulators = [[0u64; CHUNK]; ROWS];
        let mut plain = [0u64; CHUNK];
        for (x, weights) in xs.iter().zip(weights.chunks_exact(ROWS)) {
            let x = &x[start..start + CHUNK];
            plain
                .iter_mut()
                .zip(x)
                .for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
            for (accumulator, &w) in accumulators.iter_mut().zip(weights) {
                for (sum, &x) in accumulator.iter_mut().zip(x) {
                    *sum = sum.wrapping_add(w.wrapping_mul(x));
                }
            }
        }
        for (sums, accumulator) in sums.iter_mut().zip(&accumulators) {
            for (i, &sum) in accumulator.iter().enumerate() {
                sums[start + i] = reduction.reduce(sum, plain[i]);
            }
        }
    }
}

/// Any weights and moduli: exact in 128-bit words.
///
/// Bounds: 2^17 terms below 2^33·2^50 stay below 2^100
fn wide(q: Modulus, panel: Panel<'_>, outs: &mut [[u64; TILE]], xs: &[&[u64; TILE]]) {
    let offset = 1i128 << panel.offset_bits;
    for (i, &row) in panel.rows.iter().enumerate() {
        let mut sums = [0i128; TILE];
        for (x, weights) in xs.iter().zip(panel.weights.chunks_exact(panel.rows.len())) {
            let w = i128::from(weights[i]) - offset;
            sums.iter_mut()
                .zip(*x)
                .for_each(|(sum, &x)| *sum += w * i128::from(x));
        }
        for (out, &sum) in outs[row as usize].iter_mut().zip(&sums) {
            *out = q.reduce_signed_wide(sum);
        }
    }
}
