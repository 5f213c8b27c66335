//! The floating-point side of encoding: slots of a real polynomial, and coefficients as residues.
//!
//! Both rings reduce to one complex transform modulo X^n - i with n slots, whose roots are ζ^e, ζ =
//! exp(2πi/4n), e = 1 mod 4; slot p has e = 5^p. Standard ring: n = N/2 and the complex
//! coefficients a_j + i·a_{j+N/2}. Conjugate-invariant ring: n = N, the complex coefficients a_j -
//! i·a_{N-j} and real slots. Only +, -, ·, / and square roots of IEEE doubles are used, in a fixed
//! order, so results are equal on every kernel and machine.

use crate::error::Error;
use crate::kernel::{Kernel, fft};
use crate::ntt::transpose_blocks;
use crate::ring::{LOG_DEGREE_MAX, LOG_DEGREE_MIN, ROTATION_GENERATOR, RingKind};

/// The transform between slots and coefficients of one ring.
#[derive(Clone)]
pub struct SlotTransform {
    kind: RingKind,
    kernel: Kernel,
    tables: FftTables,
    /// position in evaluation order of every slot
    positions: Vec<u32>,
}

/// Real and imaginary parts of the constants r of a tree of splittings X^{2t} - r^2 = (X^t - r)(X^t
/// + r), in the order in which `kernel::fft` reads them.
#[derive(Clone)]
pub(crate) struct FftTables {
    pub(crate) re: Vec<f64>,
    pub(crate) im: Vec<f64>,
}

impl FftTables {
    fn new(slots: usize, exponents: &[u64], order: u64) -> Self {
        let roots = read_order(slots).into_iter();
        let roots = roots.map(|node| root_of_unity(exponents[node] / 2, order));
        let (re, im) = roots.unzip();
        Self { re, im }
    }
}

/// The nodes of the tree in the order in which the passes of `kernel::fft` read them.
fn read_order(slots: usize) -> Vec<usize> {
    if slots < fft::BLOCK {
        return (0..slots).collect();
    }
    let mut nodes = Vec::new();
    let mut count = 1;
    for &stages in fft::pass_stages(slots) {
        (count..2 * count).for_each(|root| nodes.extend(levels(root, stages)));
        count <<= stages;
    }
    for root in count..2 * count {
        nodes.extend(levels(root, 3));
        // After the transposition lane r belongs to the r-th of eight factors.
        let lanes: Vec<Vec<usize>> = (0..8).map(|lane| levels(8 * root + lane, 3)).collect();
        (0..7).for_each(|place| nodes.extend(lanes.iter().map(|lane| lane[place])));
    }
    nodes
}

/// `stages` levels of the tree from `root` on.
fn levels(root: usize, stages: u32) -> Vec<usize> {
    (0..stages)
        .flat_map(|level| (root << level)..((root + 1) << level))
        .collect()
}

/// Work space of a [`SlotTransform`], kept between calls to save allocations.
#[derive(Clone, Default)]
pub struct SlotScratch {
    re: Vec<f64>,
    im: Vec<f64>,
}

impl SlotScratch {
    fn halves(&mut self, n: usize) -> (&mut [f64], &mut [f64]) {
        self.re.resize(n, 0.0);
        self.im.resize(n, 0.0);
        (&mut self.re, &mut self.im)
    }
}

impl zeroize::Zeroize for SlotScratch {
    fn zeroize(&mut self) {
        self.re.zeroize();
        self.im.zeroize();
    }
}

impl SlotTransform {
    /// Prepares the transform for a ring of degree 2^`log_n`.
    ///
    /// # Errors
    /// [`Error::DegreeOutOfRange`].
    pub fn new(kind: RingKind, log_n: u32, kernel: Kernel) -> Result<Self, Error> {
        if !(LOG_DEGREE_MIN..=LOG_DEGREE_MAX).contains(&log_n) {
            let (min, max) = (LOG_DEGREE_MIN, LOG_DEGREE_MAX);
            return Err(Error::DegreeOutOfRange {
                found: log_n,
                min,
                max,
            });
        }
        let slots = kind.slots(log_n);
        let order = 4 * slots as u64;
        let exponents = tree_exponents(slots);
        let tables = FftTables::new(slots, &exponents, order);
        let mut leaves = exponents[slots..].to_vec();
        transpose_blocks(&mut leaves);
        let mut position = vec![0; order as usize];
        for (at, &exponent) in leaves.iter().enumerate() {
            position[exponent as usize] = at as u32;
        }
        let powers = std::iter::successors(Some(1), |e| Some(e * ROTATION_GENERATOR % order));
        let positions = powers.take(slots).map(|e| position[e as usize]).collect();
        Ok(Self {
            kind,
            kernel,
            tables,
            positions,
        })
    }

    /// Number of slots n.
    pub fn slots(&self) -> usize {
        self.positions.len()
    }

    /// N.
    pub fn degree(&self) -> usize {
        match self.kind {
            RingKind::Standard => 2 * self.slots(),
            RingKind::ConjugateInvariant => self.slots(),
        }
    }

    /// The real coefficients, times `factor`, of the polynomial with the given slots.
    ///
    /// Shape:  n real parts, n imaginary parts or an empty slice for zeros -> N coefficients;
    ///     panics on another length
    /// Math:   in the conjugate-invariant ring the real part of every slot counts
    pub fn slots_to_coefficients(
        &self,
        out: &mut [f64],
        re: &[f64],
        im: &[f64],
        factor: f64,
        scratch: &mut SlotScratch,
    ) {
        let n = self.slots();
        assert_eq!(out.len(), self.degree(), "one coefficient per power");
        assert_eq!(re.len(), n, "one real part per slot");
        assert!(
            im.is_empty() || im.len() == n,
            "one imaginary part per slot, or none"
        );
        let (work_re, work_im) = scratch.halves(n);
        self.scatter(work_re, re);
        match (self.kind, im.is_empty()) {
            (RingKind::Standard, false) => self.scatter(work_im, im),
            _ => work_im.fill(0.0),
        }
        self.kernel
            .ops()
            .fft_inverse(&self.tables, work_re, work_im);
        match self.kind {
            RingKind::Standard => {
                let scale = factor / n as f64;
                let (low, high) = out.split_at_mut(n);
                low.iter_mut()
                    .zip(work_re)
                    .for_each(|(out, v)| *out = *v * scale);
                high.iter_mut()
                    .zip(work_im)
                    .for_each(|(out, v)| *out = *v * scale);
            }
            RingKind::ConjugateInvariant => {
                // a_j = (b_j + i·b_{N-j})/2, and a_0 = b_0.
                let scale = factor / (2 * n) as f64;
                out[0] = 2.0 * work_re[0] * scale;
                for ((out, re), im) in out[1..]
                    .iter_mut()
                    .zip(&work_re[1..])
                    .zip(work_im[1..].iter().rev())
                {
                    *out = (re - im) * scale;
                }
            }
        }
    }

    /// The slots, times `factor`, of the polynomial with the given real coefficients.
    ///
    /// Shape:  N coefficients -> n real parts, and n imaginary parts unless `im` is empty; panics
    ///     on another length
    pub fn coefficients_to_slots(
        &self,
        re: &mut [f64],
        im: &mut [f64],
        coefficients: &[f64],
        factor: f64,
        scratch: &mut SlotScratch,
    ) {
        let n = self.slots();
        assert_eq!(
            coefficients.len(),
            self.degree(),
            "one coefficient per power"
        );
        assert_eq!(re.len(), n, "one real part per slot");
        assert!(
            im.is_empty() || im.len() == n,
            "one imaginary part per slot, or none"
        );
        let (work_re, work_im) = scratch.halves(n);
        match self.kind {
            RingKind::Standard => {
                let (low, high) = coefficients.split_at(n);
                work_re.copy_from_slice(low);
                work_im.copy_from_slice(high);
            }
            RingKind::ConjugateInvariant => {
                work_re.copy_from_slice(coefficients);
                work_im[0] = 0.0;
                for (im, a) in work_im[1..].iter_mut().zip(coefficients[1..].iter().rev()) {
                    *im = -a;
                }
            }
        }
        self.kernel
            .ops()
            .fft_forward(&self.tables, work_re, work_im);
        self.gather(re, work_re, factor);
        if !im.is_empty() {
            self.gather(im, work_im, factor);
        }
    }

    fn scatter(&self, out: &mut [f64], slots: &[f64]) {
        for (&at, slot) in self.positions.iter().zip(slots) {
            out[at as usize] = *slot;
        }
    }

    fn gather(&self, slots: &mut [f64], values: &[f64], factor: f64) {
        for (slot, &at) in slots.iter_mut().zip(&self.positions) {
            *slot = values[at as usize] * factor;
        }
    }
}

/// The exponent E of every node X^{n/m} - ζ^E, index m + i for the i-th of m factors; order of ζ:
/// 4n.
fn tree_exponents(n: usize) -> Vec<u64> {
    let mut exponents = vec![0; 2 * n];
    exponents[1] = n as u64;
    for node in 1..n {
        exponents[2 * node] = exponents[node] / 2;
        exponents[2 * node + 1] = exponents[node] / 2 + 2 * n as u64;
    }
    exponents
}

/// exp(2πi·exponent/order) for a multiple of 8 as order, to about one unit in the last place.
fn root_of_unity(exponent: u64, order: u64) -> (f64, f64) {
    let eighth = order / 8;
    let (octant, rest) = (exponent / eighth % 8, exponent % eighth);
    // Odd octants are mirrored, so the angle is always in [0, π/4].
    let mirrored = octant % 2 == 1;
    let steps = if mirrored { eighth - rest } else { rest };
    let angle = steps as f64 / eighth as f64 * std::f64::consts::FRAC_PI_4;
    let (cos, sin) = cos_sin(angle);
    match octant {
        0 => (cos, sin),
        1 => (sin, cos),
        2 => (-sin, cos),
        3 => (-cos, sin),
        4 => (-cos, -sin),
        5 => (-sin, -cos),
        6 => (sin, -cos),
        _ => (cos, -sin),
    }
}

/// Taylor series on [0, π/4]: the first terms left out are below 2^-60 relative to the sum.
///
/// The library functions differ between platforms in the last place, which would make encodings
/// differ.
fn cos_sin(x: f64) -> (f64, f64) {
    const TERMS: u32 = 9;
    let square = x * x;
    let (mut cos, mut sin) = (1.0, 1.0);
    for k in (1..=TERMS).rev() {
        let k = f64::from(2 * k);
        cos = 1.0 - square / (k * (k - 1.0)) * cos;
        sin = 1.0 - square / (k * (k + 1.0)) * sin;
    }
    (cos, x * sin)
}

/// Rounds to the nearest integers, ties to even.
///
/// Bounds: |values| < 2^62; panics on another length
pub fn round(kernel: Kernel, out: &mut [i64], values: &[f64]) {
    assert_eq!(out.len(), values.len(), "one integer per value");
    kernel.ops().round(out, values);
}

/// 2 to this power is the weight of the high part in [`round_wide`].
pub const WIDE_SHIFT: u32 = 60;

/// Rounds to the nearest integers high·2^60 + low, ties to even.
///
/// Bounds: |values| < 2^122; |low| <= 2^60; panics on another length
pub fn round_wide(kernel: Kernel, high: &mut [i64], low: &mut [i64], values: &[f64]) {
    assert_eq!(high.len(), values.len(), "one integer per value");
    assert_eq!(low.len(), values.len(), "one integer per value");
    kernel.ops().round_wide(high, low, values);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_of_unity_are_right_to_one_place() {
        for exponent in 0..512u64 {
            let (re, im) = root_of_unity(exponent, 512);
            let angle = exponent as f64 / 256.0 * std::f64::consts::PI;
            // The angle of the comparison itself is off by one place of 2π.
            assert!((re - angle.cos()).abs() < 1e-15 && (im - angle.sin()).abs() < 1e-15);
        }
    }
}
