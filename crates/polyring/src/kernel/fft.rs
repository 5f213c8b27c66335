//! The complex transform modulo X^n - i in doubles, written once in plain Rust and compiled for
//! every instruction set.
//!
//! Rust never contracts a product and a sum into one rounding, so all compilations give equal bits.

use crate::slots::FftTables;

/// Values at the roots, in the order of the tree, from n coefficients.
#[inline(always)]
pub(super) fn forward(tables: &FftTables, re: &mut [f64], im: &mut [f64]) {
    let mut half = re.len() / 2;
    let mut node = 1;
    while half > 0 {
        let blocks = re
            .chunks_exact_mut(2 * half)
            .zip(im.chunks_exact_mut(2 * half));
        for ((re, im), w) in blocks.zip(node..) {
            let (w_re, w_im) = (tables.re[w], tables.im[w]);
            let (low_re, high_re) = re.split_at_mut(half);
            let (low_im, high_im) = im.split_at_mut(half);
            for i in 0..half {
                let t_re = high_re[i] * w_re - high_im[i] * w_im;
                let t_im = high_re[i] * w_im + high_im[i] * w_re;
                (high_re[i], high_im[i]) = (low_re[i] - t_re, low_im[i] - t_im);
                (low_re[i], low_im[i]) = (low_re[i] + t_re, low_im[i] + t_im);
            }
        }
        node *= 2;
        half /= 2;
    }
}

/// n times the coefficients from the values at the n roots.
#[inline(always)]
pub(super) fn inverse(tables: &FftTables, re: &mut [f64], im: &mut [f64]) {
    let n = re.len();
    let mut half = 1;
    while half < n {
        let node = n / (2 * half);
        let blocks = re
            .chunks_exact_mut(2 * half)
            .zip(im.chunks_exact_mut(2 * half));
        for ((re, im), w) in blocks.zip(node..) {
            let (w_re, w_im) = (tables.re[w], tables.im[w]);
            let (low_re, high_re) = re.split_at_mut(half);
            let (low_im, high_im) = im.split_at_mut(half);
            for i in 0..half {
                let d_re = low_re[i] - high_re[i];
                let d_im = low_im[i] - high_im[i];
                (low_re[i], low_im[i]) = (low_re[i] + high_re[i], low_im[i] + high_im[i]);
                // Times the conjugate, which is the inverse.
                high_re[i] = d_re * w_re + d_im * w_im;
                high_im[i] = d_im * w_re - d_re * w_im;
            }
        }
        half *= 2;
    }
}
