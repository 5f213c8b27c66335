//! The canonical embedding: slot values <-> real polynomial coefficients, in double precision.
//!
//! Conjugate-invariant ring: m = a_0 + sum a_i (X^i + X^-i), slot j = m(zeta^(5^j)) with zeta a primitive
//! 4N-th root, a real number. With 5^j = +-(2t+1) mod 4N this is the DCT-III
//! v_t = a_0 + 2 sum a_i cos(pi i (2t+1) / 2N), done as a complex FFT of N/2 (Makhoul 1980).
//!
//! Standard ring: slot j = m(zeta^(5^j)) with zeta a primitive 2N-th root; 5^j = 4t+1, so with
//! b_k = a_k + i a_{k+N/2} the slots are the twisted FFT sum_k b_k zeta^k exp(2 pi i t k / (N/2)).

use scuro_polyring::RingKind;

use super::fft::{Fft, bit_reverse, unit};

/// Tables of the embedding for one ring.
#[derive(Debug)]
pub(crate) struct Embedding {
    kind: RingKind,
    n: usize,
    fft: Fft,
    /// `order[i]`: slot (conjugate-invariant: of real, imaginary interleaved) at FFT position `i`.
    order: Vec<u32>,
    /// Rotations of the post-processing pass: (cos, sin).
    twist: Vec<(f64, f64)>,
    /// exp(-2 pi i k / N), k <= N/4 (conjugate-invariant ring only).
    split: Vec<(f64, f64)>,
}

impl Embedding {
    pub(crate) fn new(kind: RingKind, log_n: u32) -> Self {
        let n = 1usize << log_n;
        let unit = |k, m| {
            let (s, c) = unit(k, m);
            (c, s)
        };
        let (order, twist, split) = match kind {
            RingKind::ConjugateInvariant => (
                real_order(log_n),
                (0..=n / 2).map(|k| unit(k, 4 * n)).collect(),
                (0..=n / 4).map(|k| unit(k, n)).collect(),
            ),
            RingKind::Standard => (
                complex_order(log_n),
                (0..n / 2).map(|k| unit(k, 2 * n)).collect(),
                Vec::new(),
            ),
        };
        Self {
            kind,
            n,
            fft: Fft::new(n / 2),
            order,
            twist,
            split,
        }
    }

    /// Coefficients of the polynomial whose slots are `re + i im`, times `scale`.
    ///
    /// In the conjugate-invariant ring `im` is empty. Slices shorter than the slot count are extended
    /// by zeros.
    pub(crate) fn to_coefficients(&self, re: &[f64], im: &[f64], scale: f64) -> Vec<f64> {
        match self.kind {
            RingKind::ConjugateInvariant => self.real_to_coefficients(re, scale),
            RingKind::Standard => self.complex_to_coefficients(re, im, scale),
        }
    }

    /// Slots (real parts, imaginary parts) of a polynomial; imaginary parts are empty in the
    /// conjugate-invariant ring.
    pub(crate) fn to_slots(&self, coefficients: &[f64]) -> (Vec<f64>, Vec<f64>) {
        assert_eq!(coefficients.len(), self.n, "coefficient count");
        match self.kind {
            RingKind::ConjugateInvariant => (self.real_to_slots(coefficients), Vec::new()),
            RingKind::Standard => self.complex_to_slots(coefficients),
        }
    }

    fn real_to_coefficients(&self, slots: &[f64], scale: f64) -> Vec<f64> {
        let (n, half) = (self.n, self.n / 2);
        let value = |slot: u32| slots.get(slot as usize).copied().unwrap_or(0.0);
        let mut re: Vec<f64> = self
            .order
            .chunks_exact(2)
            .map(|pair| value(pair[0]))
            .collect();
        let mut im: Vec<f64> = self
            .order
            .chunks_exact(2)
            .map(|pair| value(pair[1]))
            .collect();
        self.fft.forward(&mut re, &mut im);
        let factor = scale / n as f64;
        let mut out = vec![0.0; n];
        out[0] = (re[0] + im[0]) * factor;
        // Y_{N/2} = Re Z_0 - Im Z_0, twisted by exp(-i pi / 4).
        out[half] = (re[0] - im[0]) * std::f64::consts::FRAC_1_SQRT_2 * factor;
        for k in 1..=half / 2 {
            let m = half - k;
            let (er, ei) = ((re[k] + re[m]) / 2.0, (im[k] - im[m]) / 2.0);
            let (dr, di) = ((im[k] + im[m]) / 2.0, (re[m] - re[k]) / 2.0);
            let (c, s) = self.split[k];
            let (or, oi) = (dr * c + di * s, di * c - dr * s);
            self.store_pair(&mut out, k, (er + or, ei + oi), factor);
            self.store_pair(&mut out, m, (er - or, oi - ei), factor);
        }
        out
    }

    /// a_k - i a_{N-k} = exp(-i pi k / 2N) Y_k.
    #[inline]
    fn store_pair(&self, out: &mut [f64], k: usize, (yr, yi): (f64, f64), factor: f64) {
        let (c, s) = self.twist[k];
        out[k] = (yr * c + yi * s) * factor;
        out[self.n - k] = (yr * s - yi * c) * factor;
    }

    fn real_to_slots(&self, a: &[f64]) -> Vec<f64> {
        let (n, half) = (self.n, self.n / 2);
        // Y_k = exp(+i pi k / 2N) (a_k - i a_{N-k}).
        let spectrum = |k: usize| {
            let ((c, s), x, y) = (self.twist[k], a[k], a[n - k]);
            (x * c + y * s, x * s - y * c)
        };
        let (mut re, mut im) = (vec![0.0; half], vec![0.0; half]);
        let middle = a[half] * std::f64::consts::SQRT_2;
        (re[0], im[0]) = (a[0] + middle, a[0] - middle);
        for k in 1..=half / 2 {
            let m = half - k;
            let ((kr, ki), (mr, mi)) = (spectrum(k), spectrum(m));
            let (er, ei) = (kr + mr, ki - mi);
            let (dr, di) = (kr - mr, ki + mi);
            let (c, s) = self.split[k];
            let (or, oi) = (dr * c - di * s, di * c + dr * s);
            (re[k], im[k]) = (er - oi, ei + or);
            (re[m], im[m]) = (er + oi, or - ei);
        }
        self.fft.backward(&mut re, &mut im);
        let mut slots = vec![0.0; n];
        for (pair, (r, i)) in self.order.chunks_exact(2).zip(re.iter().zip(&im)) {
            slots[pair[0] as usize] = *r;
            slots[pair[1] as usize] = *i;
        }
        slots
    }

    fn complex_to_coefficients(&self, re: &[f64], im: &[f64], scale: f64) -> Vec<f64> {
        let half = self.n / 2;
        let gather = |values: &[f64]| -> Vec<f64> {
            self.order
                .iter()
                .map(|&slot| values.get(slot as usize).copied().unwrap_or(0.0))
                .collect()
        };
        let (mut r, mut i) = (gather(re), gather(im));
        self.fft.forward(&mut r, &mut i);
        let factor = scale / half as f64;
        let mut out = vec![0.0; self.n];
        for (k, &(c, s)) in self.twist.iter().enumerate() {
            out[k] = (r[k] * c + i[k] * s) * factor;
            out[half + k] = (i[k] * c - r[k] * s) * factor;
        }
        out
    }

    fn complex_to_slots(&self, a: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let half = self.n / 2;
        let (mut re, mut im) = (vec![0.0; half], vec![0.0; half]);
        for (k, &(c, s)) in self.twist.iter().enumerate() {
            let (x, y) = (a[k], a[half + k]);
            (re[k], im[k]) = (x * c - y * s, x * s + y * c);
        }
        self.fft.backward(&mut re, &mut im);
        let (mut slots_re, mut slots_im) = (vec![0.0; half], vec![0.0; half]);
        for (&slot, (r, i)) in self.order.iter().zip(re.iter().zip(&im)) {
            slots_re[slot as usize] = *r;
            slots_im[slot as usize] = *i;
        }
        (slots_re, slots_im)
    }
}

/// Slot of each real number that enters the FFT, in (real, imaginary) pairs at bit-reversed positions.
fn real_order(log_n: u32) -> Vec<u32> {
    let n = 1usize << log_n;
    let mut slot_of = vec![0u32; n];
    let mut power = 1usize;
    for slot in 0..n {
        let angle = power.min(4 * n - power);
        slot_of[(angle - 1) / 2] = slot as u32;
        power = power * 5 % (4 * n);
    }
    // Makhoul's reordering: even samples forwards, odd samples backwards.
    let sample = |i: usize| {
        if i < n / 2 {
            2 * i
        } else {
            2 * (n - 1 - i) + 1
        }
    };
    (0..n / 2)
        .map(|position| bit_reverse(position, log_n - 1))
        .flat_map(|m| [slot_of[sample(2 * m)], slot_of[sample(2 * m + 1)]])
        .collect()
}

/// Slot at each bit-reversed FFT position.
fn complex_order(log_n: u32) -> Vec<u32> {
    let half = 1usize << (log_n - 1);
    let mut order = vec![0u32; half];
    let mut power = 1usize;
    for slot in 0..half {
        order[bit_reverse((power - 1) / 4, log_n - 1)] = slot as u32;
        power = power * 5 % (4 * half);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    fn values(n: usize, seed: usize) -> Vec<f64> {
        (0..n)
            .map(|i| ((i * 7919 + seed * 31 + 5) % 1009) as f64 / 504.5 - 1.0)
            .collect()
    }

    #[test]
    fn real_slots_are_evaluations_at_powers_of_five() {
        let (log_n, n) = (5, 32);
        let a = values(n, 1);
        let embedding = Embedding::new(RingKind::ConjugateInvariant, log_n);
        let (slots, _) = embedding.to_slots(&a);
        let mut power = 1;
        for (j, slot) in slots.iter().enumerate() {
            let angle = |i: usize| PI * (i * power % (4 * n)) as f64 / (2 * n) as f64;
            let expected = a[0] + 2.0 * (1..n).map(|i| a[i] * angle(i).cos()).sum::<f64>();
            assert!(
                (slot - expected).abs() < 1e-10,
                "slot {j}: {slot} {expected}"
            );
            power = power * 5 % (4 * n);
        }
    }

    #[test]
    fn complex_slots_are_evaluations_at_powers_of_five() {
        let (log_n, n) = (5, 32);
        let a = values(n, 2);
        let embedding = Embedding::new(RingKind::Standard, log_n);
        let (re, im) = embedding.to_slots(&a);
        let mut power = 1;
        for j in 0..n / 2 {
            let angle = |i: usize| PI * (i * power % (2 * n)) as f64 / n as f64;
            let er: f64 = (0..n).map(|i| a[i] * angle(i).cos()).sum();
            let ei: f64 = (0..n).map(|i| a[i] * angle(i).sin()).sum();
            assert!(
                (re[j] - er).abs() < 1e-10 && (im[j] - ei).abs() < 1e-10,
                "slot {j}"
            );
            power = power * 5 % (2 * n);
        }
    }

    #[test]
    fn coefficients_and_slots_are_inverse() {
        for log_n in [3, 4, 11, 13] {
            let n = 1usize << log_n;
            let embedding = Embedding::new(RingKind::ConjugateInvariant, log_n);
            let slots = values(n, 3);
            let (back, _) = embedding.to_slots(&embedding.to_coefficients(&slots, &[], 4.0));
            assert!(
                slots
                    .iter()
                    .zip(&back)
                    .all(|(a, b)| (4.0 * a - b).abs() < 1e-10)
            );
            let embedding = Embedding::new(RingKind::Standard, log_n);
            let (re, im) = (values(n / 2, 4), values(n / 2, 5));
            let (back_re, back_im) = embedding.to_slots(&embedding.to_coefficients(&re, &im, 4.0));
            assert!(
                re.iter()
                    .zip(&back_re)
                    .all(|(a, b)| (4.0 * a - b).abs() < 1e-10)
            );
            assert!(
                im.iter()
                    .zip(&back_im)
                    .all(|(a, b)| (4.0 * a - b).abs() < 1e-10)
            );
        }
    }
}
