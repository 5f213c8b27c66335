//! The slice operations that every kernel offers. The defaults are the portable ones.

use super::buffer::AlignedBuffer;
use super::{fft, portable};
use crate::automorphism::Permutation;
use crate::modulus::{Modulus, Multiplier};
use crate::ntt::NttPlan;
use crate::pairs::{FactorRow, PairProducts, PairRow};
use crate::slots::FftTables;

/// The constants of one transform, before a kernel lays them out.
///
/// The transform splits X^{2t} - r^2 into (X^t - r)(X^t + r), log2(n) times. Node `m + i` (m a
/// power of two, i < m) holds the r of the i-th of the m factors of degree n/m.
pub(crate) struct TwiddleTree {
    pub(crate) modulus: Modulus,
    /// r per node; index 0 is unused
    pub(crate) forward: Vec<u64>,
    /// 1/r per node
    pub(crate) inverse: Vec<u64>,
    /// factor that the inverse transform multiplies everything by, 1/n or 1/(2n)
    pub(crate) scale: u64,
}

/// The constants in the order in which one kernel reads them.
#[derive(Clone, Default)]
pub(crate) struct NttTables {
    pub(crate) forward: AlignedBuffer,
    pub(crate) inverse: AlignedBuffer,
    /// For kernels that let values grow: what is added to keep them positive.
    pub(crate) lazy_offsets: Option<[u64; 2]>,
}

/// Slice operations modulo one prime. Slices of one call have equal lengths; all values are in [0,
/// q) unless stated.
pub(crate) trait SliceKernel: Sync {
    /// Lays the constants out for this kernel.
    fn ntt_tables(&self, tree: &TwiddleTree) -> NttTables {
        portable::ntt_tables(tree)
    }

    /// Forward transform in place, output in evaluation order.
    fn forward(&self, plan: &NttPlan, values: &mut [u64]) {
        portable::forward(plan, values);
    }

    /// out = forward transform of centred(x mod source)
    fn forward_lifted(&self, plan: &NttPlan, out: &mut [u64], x: &[u64], source: Modulus) {
        self.lift_centred(plan.modulus(), out, x, source);
        self.forward(plan, out);
    }

    /// Inverse transform in place, scaled.
    fn inverse(&self, plan: &NttPlan, values: &mut [u64]) {
        portable::inverse(plan, values);
    }

    /// out = inverse transform of x
    fn inverse_from(&self, plan: &NttPlan, out: &mut [u64], x: &[u64]) {
        out.copy_from_slice(x);
        self.inverse(plan, out);
    }

    /// out = x + y
    fn add(&self, q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) {
        portable::add(q, out, x, y);
    }

    /// x += y
    fn add_assign(&self, q: Modulus, x: &mut [u64], y: &[u64]) {
        portable::add_assign(q, x, y);
    }

    /// out = x - y
    fn sub(&self, q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) {
        portable::sub(q, out, x, y);
    }

    /// x -= y
    fn sub_assign(&self, q: Modulus, x: &mut [u64], y: &[u64]) {
        portable::sub_assign(q, x, y);
    }

    /// x = -x
    fn neg_assign(&self, q: Modulus, x: &mut [u64]) {
        portable::neg_assign(q, x);
    }

    /// out = x·y
    fn mul(&self, q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) {
        portable::mul(q, out, x, y);
    }

    /// x *= y
    fn mul_assign(&self, q: Modulus, x: &mut [u64], y: &[u64]) {
        portable::mul_assign(q, x, y);
    }

    /// acc += x·y
    fn mul_add_assign(&self, q: Modulus, acc: &mut [u64], x: &[u64], y: &[u64]) {
        portable::mul_add_assign(q, acc, x, y);
    }

    /// out = w·x
    fn mul_scalar(&self, q: Modulus, out: &mut [u64], x: &[u64], w: Multiplier) {
        portable::mul_scalar(q, out, x, w);
    }

    /// x *= w
    fn mul_scalar_assign(&self, q: Modulus, x: &mut [u64], w: Multiplier) {
        portable::mul_scalar_assign(q, x, w);
    }

    /// acc += w·x
    fn mul_scalar_add_assign(&self, q: Modulus, acc: &mut [u64], x: &[u64], w: Multiplier) {
        portable::mul_scalar_add_assign(q, acc, x, w);
    }

    /// x = (x - y)·w
    fn sub_mul_scalar_assign(&self, q: Modulus, x: &mut [u64], y: &[u64], w: Multiplier) {
        portable::sub_mul_scalar_assign(q, x, y, w);
    }

    /// out = (x - y)·w
    fn sub_mul_scalar(&self, q: Modulus, out: &mut [u64], x: &[u64], y: &[u64], w: Multiplier) {
        portable::sub_mul_scalar(q, out, x, y, w);
    }

    /// out = Σ_i xs_i·ys_i, at most `DOT_TERMS_MAX` terms
    fn dot(&self, q: Modulus, out: &mut [u64], xs: &[&[u64]], ys: &[&[u64]]) {
        portable::dot(q, out, xs, ys);
    }

    /// outs = Σ Σ_i shared_i·pairs_i over all products, at most `DOT_TERMS_MAX` terms
    fn dot_row_pairs(&self, q: Modulus, outs: [&mut [u64]; 2], products: &[PairProducts<'_>]) {
        portable::dot_row_pairs(q, outs, products);
    }

    /// outs = Σ_i factors_i·pairs_(operands_i)
    fn dot_row_factors(
        &self,
        q: Modulus,
        outs: [&mut [u64]; 2],
        factors: FactorRow<'_>,
        pairs: PairRow<'_>,
        operands: &[usize],
    ) {
        portable::dot_row_factors(q, outs, factors, pairs, operands);
    }

    /// out = Σ_i (a_i0·b_i0, a_i0·b_i1 + a_i1·b_i0, a_i1·b_i1), at most `DOT_TERMS_MAX / 2` terms
    fn tensor(&self, q: Modulus, outs: [&mut [u64]; 3], a: &[[&[u64]; 2]], b: &[[&[u64]; 2]]) {
        portable::tensor(q, outs, a, b);
    }

    /// outs = Σ_i weights_i ⊗ pairs_(operands_i), products as in `tensor`, at most
    /// `DOT_TERMS_MAX / 4` terms
    fn tensor_row_pairs(
        &self,
        q: Modulus,
        outs: [&mut [u64]; 3],
        weights: PairRow<'_>,
        pairs: PairRow<'_>,
        operands: &[usize],
    ) {
        portable::tensor_row_pairs(q, outs, weights, pairs, operands);
    }

    /// out = x mod q for any 64-bit x
    fn reduce(&self, q: Modulus, out: &mut [u64], x: &[u64]) {
        portable::reduce(q, out, x);
    }

    /// out = centred(x mod source) mod q
    fn lift_centred(&self, q: Modulus, out: &mut [u64], x: &[u64], source: Modulus) {
        portable::lift_centred(q, out, x, source);
    }

    /// out = x mod q for signed x
    fn reduce_signed(&self, q: Modulus, out: &mut [u64], x: &[i64]) {
        portable::reduce_signed(q, out, x);
    }

    /// out = x mod q for small signed x
    fn lift_small(&self, q: Modulus, out: &mut [u64], x: &[i8]) {
        portable::lift_small(q, out, x);
    }

    /// out = Σ_i weights_i·xs_i with weights below q and any words below 2^50 in `xs`, at most
    /// `DOT_TERMS_MAX` terms
    fn weighted_sum(&self, q: Modulus, out: &mut [u64], weights: &[u64], xs: &[&[u64]]) {
        portable::weighted_sum(q, out, weights, xs);
    }

    /// out = floor(Σ_i digits_i·reciprocals_i + 1/2) in floating point, summed from left to right
    fn round_quotient_sum(&self, out: &mut [u64], digits: &[u64], reciprocals: &[f64]) {
        portable::round_quotient_sum(out, digits, reciprocals);
    }

    /// Magnitudes by counting the table entries that are not above the words, signs from single
    /// bits.
    fn gaussian(&self, out: &mut [i8], words: &[u64], signs: &[u64]) {
        portable::gaussian(out, words, signs);
    }

    /// Complex values at the roots, in the order of the tree, from coefficients.
    fn fft_forward(&self, tables: &FftTables, re: &mut [f64], im: &mut [f64]) {
        fft::forward(tables, re, im);
    }

    /// n times the coefficients from the values at the n roots.
    fn fft_inverse(&self, tables: &FftTables, re: &mut [f64], im: &mut [f64]) {
        fft::inverse(tables, re, im);
    }

    /// Nearest integers, for values below 2^62.
    fn round(&self, out: &mut [i64], values: &[f64]) {
        portable::round(out, values);
    }

    /// Nearest integers as high·2^60 + low, for values below 2^122.
    fn round_wide(&self, high: &mut [i64], low: &mut [i64], values: &[f64]) {
        portable::round_wide(high, low, values);
    }

    /// acc = acc·q + centred(x)
    fn horner_centred(&self, q: Modulus, acc: &mut [f64], x: &[u64]) {
        portable::horner_centred(q, acc, x);
    }

    /// The image of x.
    fn permute(&self, out: &mut [u64], x: &[u64], permutation: &Permutation) {
        portable::permute(out, x, permutation);
    }

    /// acc += the image of x
    fn permute_add(&self, q: Modulus, acc: &mut [u64], x: &[u64], permutation: &Permutation) {
        portable::permute_add(q, acc, x, permutation);
    }

    /// The image of x as tiles of so many words that start so many words apart.
    fn permute_tiles(
        &self,
        out: &mut [u64],
        x: &[u64],
        permutation: &Permutation,
        sizes: [usize; 2],
    ) {
        portable::permute_tiles(out, x, permutation, sizes);
    }
}
