//! Complex FFT over split real/imaginary arrays, without the bit-reversal pass.
//!
//! The forward transform takes bit-reversed input to natural output, the backward one natural input to
//! bit-reversed output; the caller folds the bit reversal into the slot permutation it has to do anyway.

use std::f64::consts::TAU;

/// Twiddle factors for one power-of-two length.
#[derive(Debug)]
pub(crate) struct Fft {
    n: usize,
    /// For half length h: entries h..2h are exp(-2 pi i k / 2h), k in 0..h.
    cos: Vec<f64>,
    sin: Vec<f64>,
}

impl Fft {
    /// Plans a transform of length `n`, a power of two of at least 4.
    pub(crate) fn new(n: usize) -> Self {
        assert!(n.is_power_of_two() && n >= 4, "FFT length {n}");
        let mut cos = vec![1.0; n];
        let mut sin = vec![0.0; n];
        let mut half = 1;
        while half < n {
            for k in 0..half {
                let (s, c) = unit(k, 2 * half);
                cos[half + k] = c;
                sin[half + k] = s;
            }
            half *= 2;
        }
        Self { n, cos, sin }
    }

    /// X_k = sum_m x_m exp(-2 pi i m k / n): bit-reversed in, natural out.
    pub(crate) fn forward(&self, re: &mut [f64], im: &mut [f64]) {
        assert!(
            re.len() == self.n && im.len() == self.n,
            "FFT of {} and {}",
            re.len(),
            im.len()
        );
        for (re, im) in re.chunks_exact_mut(4).zip(im.chunks_exact_mut(4)) {
            radix4_first(re, im);
        }
        let mut half = 4;
        while half < self.n {
            let (cos, sin) = (&self.cos[half..2 * half], &self.sin[half..2 * half]);
            for (re, im) in re
                .chunks_exact_mut(2 * half)
                .zip(im.chunks_exact_mut(2 * half))
            {
                decimate_time(re, im, cos, sin);
            }
            half *= 2;
        }
    }

    /// x_m = sum_k X_k exp(+2 pi i m k / n): natural in, bit-reversed out; not divided by n.
    pub(crate) fn backward(&self, re: &mut [f64], im: &mut [f64]) {
        assert!(
            re.len() == self.n && im.len() == self.n,
            "FFT of {} and {}",
            re.len(),
            im.len()
        );
        let mut half = self.n / 2;
        while half >= 4 {
            let (cos, sin) = (&self.cos[half..2 * half], &self.sin[half..2 * half]);
            for (re, im) in re
                .chunks_exact_mut(2 * half)
                .zip(im.chunks_exact_mut(2 * half))
            {
                decimate_frequency(re, im, cos, sin);
            }
            half /= 2;
        }
        for (re, im) in re.chunks_exact_mut(4).zip(im.chunks_exact_mut(4)) {
            radix4_last(re, im);
        }
    }
}

/// (sin, cos) of 2 pi k / n, reduced to the first octant so that no large argument loses precision.
pub(crate) fn unit(k: usize, n: usize) -> (f64, f64) {
    let k = k % n;
    let (octant, rest) = (8 * k / n, 8 * k % n);
    let angle = |numerator: usize| TAU * numerator as f64 / (8 * n) as f64;
    let (s, c) = if octant.is_multiple_of(2) {
        angle(rest).sin_cos()
    } else {
        let (s, c) = angle(n - rest).sin_cos();
        (c, s)
    };
    match octant / 2 {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    }
}

/// Bit reversal of `i` in `log` bits.
pub(crate) fn bit_reverse(i: usize, log: u32) -> usize {
    if log == 0 {
        0
    } else {
        i.reverse_bits() >> (usize::BITS - log)
    }
}

fn radix4_first(re: &mut [f64], im: &mut [f64]) {
    let (r0, r1) = (re[0] + re[1], re[0] - re[1]);
    let (i0, i1) = (im[0] + im[1], im[0] - im[1]);
    let (r2, r3) = (re[2] + re[3], re[2] - re[3]);
    let (i2, i3) = (im[2] + im[3], im[2] - im[3]);
    // Times exp(-i pi / 2) = -i: (r3, i3) -> (i3, -r3).
    (re[0], re[1], re[2], re[3]) = (r0 + r2, r1 + i3, r0 - r2, r1 - i3);
    (im[0], im[1], im[2], im[3]) = (i0 + i2, i1 - r3, i0 - i2, i1 + r3);
}

fn radix4_last(re: &mut [f64], im: &mut [f64]) {
    let (r0, r2) = (re[0] + re[2], re[0] - re[2]);
    let (i0, i2) = (im[0] + im[2], im[0] - im[2]);
    let (r1, r3) = (re[1] + re[3], re[1] - re[3]);
    let (i1, i3) = (im[1] + im[3], im[1] - im[3]);
    // Times exp(+i pi / 2) = i: (r3, i3) -> (-i3, r3).
    (re[0], re[1], re[2], re[3]) = (r0 + r1, r0 - r1, r2 - i3, r2 + i3);
    (im[0], im[1], im[2], im[3]) = (i0 + i1, i0 - i1, i2 + r3, i2 - r3);
}

fn decimate_time(re: &mut [f64], im: &mut [f64], cos: &[f64], sin: &[f64]) {
    let half = cos.len();
    let (re_lo, re_hi) = re.split_at_mut(half);
    let (im_lo, im_hi) = im.split_at_mut(half);
    for k in 0..half {
        let (c, s) = (cos[k], sin[k]);
        let (r, i) = (re_hi[k] * c + im_hi[k] * s, im_hi[k] * c - re_hi[k] * s);
        (re_hi[k], im_hi[k]) = (re_lo[k] - r, im_lo[k] - i);
        (re_lo[k], im_lo[k]) = (re_lo[k] + r, im_lo[k] + i);
    }
}

fn decimate_frequency(re: &mut [f64], im: &mut [f64], cos: &[f64], sin: &[f64]) {
    let half = cos.len();
    let (re_lo, re_hi) = re.split_at_mut(half);
    let (im_lo, im_hi) = im.split_at_mut(half);
    for k in 0..half {
        let (c, s) = (cos[k], sin[k]);
        let (r, i) = (re_lo[k] - re_hi[k], im_lo[k] - im_hi[k]);
        (re_lo[k], im_lo[k]) = (re_lo[k] + re_hi[k], im_lo[k] + im_hi[k]);
        (re_hi[k], im_hi[k]) = (r * c - i * s, i * c + r * s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(re: &[f64], im: &[f64], sign: f64) -> Vec<(f64, f64)> {
        let n = re.len();
        (0..n)
            .map(|k| {
                (0..n).fold((0.0, 0.0), |(r, i), m| {
                    let (s, c) = unit(k * m, n);
                    let s = sign * s;
                    (r + re[m] * c - im[m] * s, i + re[m] * s + im[m] * c)
                })
            })
            .collect()
    }

    #[test]
    fn both_directions_agree_with_the_definition() {
        for log in 2..9 {
            let n = 1usize << log;
            let re: Vec<f64> = (0..n)
                .map(|i| ((i * 37 + 11) % 101) as f64 / 50.0 - 1.0)
                .collect();
            let im: Vec<f64> = (0..n)
                .map(|i| ((i * 53 + 7) % 97) as f64 / 48.0 - 1.0)
                .collect();
            let fft = Fft::new(n);
            let reversed =
                |v: &[f64]| -> Vec<f64> { (0..n).map(|i| v[bit_reverse(i, log)]).collect() };
            let (mut r, mut i) = (reversed(&re), reversed(&im));
            fft.forward(&mut r, &mut i);
            for (k, (er, ei)) in naive(&re, &im, -1.0).into_iter().enumerate() {
                assert!(
                    (r[k] - er).abs() < 1e-9 && (i[k] - ei).abs() < 1e-9,
                    "forward {n} {k}"
                );
            }
            let (mut r, mut i) = (re.clone(), im.clone());
            fft.backward(&mut r, &mut i);
            let (r, i) = (reversed(&r), reversed(&i));
            for (k, (er, ei)) in naive(&re, &im, 1.0).into_iter().enumerate() {
                assert!(
                    (r[k] - er).abs() < 1e-9 && (i[k] - ei).abs() < 1e-9,
                    "backward {n} {k}"
                );
            }
        }
    }
}
