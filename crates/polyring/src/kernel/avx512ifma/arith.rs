//! Slice arithmetic, eight residues at a time. Slices that end within eight are finished with
//! masked loads and stores.

use std::arch::x86_64::*;

use crate::kernel::portable;
use crate::modulus::{Modulus, Multiplier};

pub(super) const LANES: usize = 8;

/// A modulus in all lanes, with what reductions need.
#[derive(Clone, Copy)]
pub(super) struct Field {
    q: __m512i,
    q2: __m512i,
    pub(super) q4: __m512i,
    /// 2^52 - q
    minus_q: __m512i,
    pub(super) mask: __m512i,
    zero: __m512i,
    /// floor(2^52 / q)
    barrett: __m512i,
    /// floor(2^(51 + bits) / q), which is between 2^51 and 2^52
    wide_barrett: __m512i,
    /// bits - 1, and 52 less that
    shift_right: __m128i,
    shift_left: __m128i,
}

impl Field {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn new(modulus: Modulus) -> Self {
        let (q, bits) = (modulus.value(), modulus.bits());
        let all = |x: u64| _mm512_set1_epi64(x as i64);
        Self {
            q: all(q),
            q2: all(2 * q),
            q4: all(4 * q),
            minus_q: all((1 << 52) - q),
            mask: all((1 << 52) - 1),
            zero: _mm512_setzero_si512(),
            barrett: all((1 << 52) / q),
            wide_barrett: all(((1u128 << (51 + bits)) / u128::from(q)) as u64),
            shift_right: _mm_cvtsi64_si128(i64::from(bits) - 1),
            shift_left: _mm_cvtsi64_si128(53 - i64::from(bits)),
        }
    }

    /// x less `bound` if that is not negative
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn subtract_once(&self, x: __m512i, bound: __m512i) -> __m512i {
        _mm512_min_epu64(x, _mm512_sub_epi64(x, bound))
    }

    /// x + y of residues
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn sum(&self, x: __m512i, y: __m512i) -> __m512i {
        self.subtract_once(_mm512_add_epi64(x, y), self.q)
    }

    /// [0, 4q) -> [0, q)
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn reduce_4q(&self, x: __m512i) -> __m512i {
        self.subtract_once(self.subtract_once(x, self.q2), self.q)
    }

    /// x mod q in [0, 2q) for x < 2^52
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn barrett(&self, x: __m512i) -> __m512i {
        let quotient = _mm512_madd52hi_epu64(self.zero, x, self.barrett);
        _mm512_sub_epi64(x, _mm512_madd52lo_epu64(self.zero, quotient, self.q))
    }

    /// low + 2^52·high mod q in [0, 4q), if that is below 2^(51 + bits).
    ///
    /// With e = bits - 1, the quotient floor(floor(v/2^e)·floor(2^(52+e)/q) / 2^52) is at most
    /// three below floor(v/q).
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn reduce_short(&self, low: __m512i, high: __m512i) -> __m512i {
        let top = _mm512_add_epi64(
            _mm512_sll_epi64(high, self.shift_left),
            _mm512_srl_epi64(low, self.shift_right),
        );
        let quotient = _mm512_madd52hi_epu64(self.zero, top, self.wide_barrett);
        _mm512_and_si512(
            _mm512_madd52lo_epu64(low, quotient, self.minus_q),
            self.mask,
        )
    }

    /// x·w mod q in [0, 2q) for x < 2^52
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn mul_lazy(&self, x: __m512i, w: Shoup) -> __m512i {
        let quotient = _mm512_madd52hi_epu64(self.zero, x, w.quotient);
        let low = _mm512_madd52lo_epu64(self.zero, x, w.value);
        _mm512_and_si512(
            _mm512_madd52lo_epu64(low, quotient, self.minus_q),
            self.mask,
        )
    }

    /// x·y mod q in [0, 4q)
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn mul(&self, x: __m512i, y: __m512i) -> __m512i {
        let low = _mm512_madd52lo_epu64(self.zero, x, y);
        self.reduce_short(low, _mm512_madd52hi_epu64(self.zero, x, y))
    }
}

/// A constant factor in all lanes, with its quotient for 52-bit words.
#[derive(Clone, Copy)]
pub(super) struct Shoup {
    value: __m512i,
    quotient: __m512i,
}

impl Shoup {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new(w: Multiplier) -> Self {
        Self {
            value: _mm512_set1_epi64(w.value() as i64),
            quotient: _mm512_set1_epi64((w.quotient() >> 12) as i64),
        }
    }
}

/// The lanes of the step from `at` on that lie within `len`.
#[inline]
fn lanes(at: usize, len: usize) -> __mmask8 {
    if len - at >= LANES {
        !0
    } else {
        (1 << (len - at)) - 1
    }
}

/// Eight words from `at` on, zeros beyond the end.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn read(x: &[u64], at: usize) -> __m512i {
    // SAFETY: `lanes` leaves out what is beyond the slice, and masked lanes are not accessed.
    unsafe { _mm512_maskz_loadu_epi64(lanes(at, x.len()), x.as_ptr().add(at).cast()) }
}

/// Eight words from `at` on, as far as the slice goes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn write(x: &mut [u64], at: usize, value: __m512i) {
    // SAFETY: `lanes` leaves out what is beyond the slice, and masked lanes are not accessed.
    unsafe {
        _mm512_mask_storeu_epi64(x.as_mut_ptr().add(at).cast(), lanes(at, x.len()), value);
    }
}

/// acc = f(acc, inputs), eight lanes at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn update<const K: usize>(
    acc: &mut [u64],
    inputs: [&[u64]; K],
    f: impl Fn(__m512i, [__m512i; K]) -> __m512i,
) {
    let len = acc.len();
    let inputs = inputs.map(|input| &input[..len]);
    let whole = len - len % LANES;
    for at in (0..whole).step_by(LANES) {
        let start = acc[at..at + LANES].as_mut_ptr();
        // SAFETY: eight words from `at` on are within all slices, which have `len` words.
        unsafe {
            let values = inputs.map(|input| _mm512_loadu_si512(input.as_ptr().add(at).cast()));
            let value = f(_mm512_loadu_si512(start.cast()), values);
            _mm512_storeu_si512(start.cast(), value);
        }
    }
    if whole < len {
        let values = inputs.map(|input| read(input, whole));
        let value = f(read(acc, whole), values);
        write(acc, whole, value);
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn add(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) {
    let f = Field::new(q);
    update(out, [x, y], |_, [x, y]| f.sum(x, y));
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn add_assign(q: Modulus, x: &mut [u64], y: &[u64]) {
    let f = Field::new(q);
    update(x, [y], |x, [y]| f.sum(x, y));
}

/// The difference x - y of residues: negative ones wrap, and adding q makes them the smaller word.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn difference(f: &Field, x: __m512i, y: __m512i) -> __m512i {
    let difference = _mm512_sub_epi64(x, y);
    _mm512_min_epu64(difference, _mm512_add_epi64(difference, f.q))
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn sub(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) {
    let f = Field::new(q);
    update(out, [x, y], |_, [x, y]| difference(&f, x, y));
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn sub_assign(q: Modulus, x: &mut [u64], y: &[u64]) {
    let f = Field::new(q);
    update(x, [y], |x, [y]| difference(&f, x, y));
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn neg_assign(q: Modulus, x: &mut [u64]) {
    let f = Field::new(q);
    update(x, [], |x, []| difference(&f, f.zero, x));
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn mul(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64]) {
    let f = Field::new(q);
    update(out, [x, y], |_, [x, y]| f.reduce_4q(f.mul(x, y)));
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn mul_assign(q: Modulus, x: &mut [u64], y: &[u64]) {
    let f = Field::new(q);
    update(x, [y], |x, [y]| f.reduce_4q(f.mul(x, y)));
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn mul_add_assign(q: Modulus, acc: &mut [u64], x: &[u64], y: &[u64]) {
    let f = Field::new(q);
    update(acc, [x, y], |acc, [x, y]| {
        let product = f.subtract_once(f.mul(x, y), f.q2);
        f.reduce_4q(_mm512_add_epi64(acc, product))
    });
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn mul_scalar(q: Modulus, out: &mut [u64], x: &[u64], w: Multiplier) {
    let (f, w) = (Field::new(q), Shoup::new(w));
    update(out, [x], |_, [x]| f.subtract_once(f.mul_lazy(x, w), f.q));
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn mul_scalar_assign(q: Modulus, x: &mut [u64], w: Multiplier) {
    let (f, w) = (Field::new(q), Shoup::new(w));
    update(x, [], |x, []| f.subtract_once(f.mul_lazy(x, w), f.q));
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn mul_scalar_add_assign(q: Modulus, acc: &mut [u64], x: &[u64], w: Multiplier) {
    let (f, w) = (Field::new(q), Shoup::new(w));
    update(acc, [x], |acc, [x]| {
        f.reduce_4q(_mm512_add_epi64(acc, f.mul_lazy(x, w)))
    });
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn sub_mul_scalar_assign(q: Modulus, x: &mut [u64], y: &[u64], w: Multiplier) {
    let (f, w) = (Field::new(q), Shoup::new(w));
    update(x, [y], |x, [y]| {
        let difference = _mm512_sub_epi64(_mm512_add_epi64(x, f.q), y);
        f.subtract_once(f.mul_lazy(difference, w), f.q)
    });
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn sub_mul_scalar(q: Modulus, out: &mut [u64], x: &[u64], y: &[u64], w: Multiplier) {
    let (f, w) = (Field::new(q), Shoup::new(w));
    update(out, [x, y], |_, [x, y]| {
        let difference = _mm512_sub_epi64(_mm512_add_epi64(x, f.q), y);
        f.subtract_once(f.mul_lazy(difference, w), f.q)
    });
}

/// x mod q for any words: the low 52 bits, and the high 12 times 2^52.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn reduce(q: Modulus, out: &mut [u64], x: &[u64]) {
    let (f, radix) = (Field::new(q), Shoup::new(q.multiplier(1 << 52)));
    update(out, [x], |_, [x]| {
        let high = f.mul_lazy(_mm512_srli_epi64::<52>(x), radix);
        f.reduce_4q(_mm512_add_epi64(
            f.barrett(_mm512_and_si512(x, f.mask)),
            high,
        ))
    });
}

/// x mod q for signed words: as above for x + 2^63, less 2^63.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn reduce_signed(q: Modulus, out: &mut [u64], x: &[i64]) {
    let (f, radix) = (Field::new(q), Shoup::new(q.multiplier(1 << 52)));
    let sign = _mm512_set1_epi64(i64::MIN);
    let offset = _mm512_set1_epi64(q.neg(q.reduce(1 << 63)) as i64);
    let len = out.len();
    let x = &x[..len];
    for at in (0..len).step_by(LANES) {
        // SAFETY: as in `read`.
        let x = unsafe { _mm512_maskz_loadu_epi64(lanes(at, len), x.as_ptr().add(at)) };
        let x = _mm512_xor_si512(x, sign);
        let high = f.mul_lazy(_mm512_srli_epi64::<52>(x), radix);
        let low = f.barrett(_mm512_and_si512(x, f.mask));
        let sum = f.subtract_once(_mm512_add_epi64(low, high), f.q2);
        write(out, at, f.reduce_4q(_mm512_add_epi64(sum, offset)));
    }
}

/// Nearest integers, ties to even.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn round(out: &mut [i64], values: &[f64]) {
    let (whole, rest) = out.split_at_mut(out.len() - out.len() % LANES);
    for (out, values) in whole
        .chunks_exact_mut(LANES)
        .zip(values.chunks_exact(LANES))
    {
        // SAFETY: both chunks have eight values.
        unsafe {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            let values = _mm512_loadu_pd(values.as_ptr());
            let rounded = _mm512_cvt_roundpd_epi64::<NEAREST>(values);
            _mm512_storeu_epi64(out.as_mut_ptr(), rounded);
        }
    }
    portable::round(rest, &values[whole.len()..]);
}

/// centred(x) mod q: x mod q, less the source modulus if x is above its half.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn lift_centred(q: Modulus, out: &mut [u64], x: &[u64], source: Modulus) {
    let f = Field::new(q);
    let half = _mm512_set1_epi64((source.value() / 2) as i64);
    let offset = _mm512_set1_epi64(q.neg(q.reduce(source.value())) as i64);
    update(out, [x], |_, [x]| {
        let above = _mm512_cmpgt_epu64_mask(x, half);
        let lifted = f.barrett(x);
        f.reduce_4q(_mm512_mask_add_epi64(lifted, above, lifted, offset))
    });
}

/// Small signed words: negative ones wrap, and adding q makes them the smaller word.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn lift_small(q: Modulus, out: &mut [u64], x: &[i8]) {
    let f = Field::new(q);
    let (whole, rest) = out.split_at_mut(out.len() - out.len() % LANES);
    for (out, x) in whole.chunks_exact_mut(LANES).zip(x.chunks_exact(LANES)) {
        // SAFETY: both chunks have eight values.
        unsafe {
            let x = _mm512_cvtepi8_epi64(_mm_loadl_epi64(x.as_ptr().cast()));
            let lifted = _mm512_min_epu64(x, _mm512_add_epi64(x, f.q));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), lifted);
        }
    }
    for (out, &x) in rest.iter_mut().zip(&x[whole.len()..]) {
        *out = q.reduce_signed(i64::from(x));
    }
}

/// x_j and x_{n-j} for the eight j from `at` on, in that order, as far as both are in the middle of
/// the slice.
#[inline]
#[target_feature(enable = "avx512f")]
fn read_mirrored(x: &[u64], at: usize) -> [__m512i; 2] {
    let backwards = _mm512_setr_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    let (low, high) = (&x[at..at + LANES], &x[x.len() - at - 7..x.len() - at + 1]);
    // SAFETY: both slices have eight words.
    unsafe {
        let high = _mm512_loadu_si512(high.as_ptr().cast());
        let low = _mm512_loadu_si512(low.as_ptr().cast());
        [low, _mm512_permutexvar_epi64(backwards, high)]
    }
}

/// The reverse of [`read_mirrored`].
#[inline]
#[target_feature(enable = "avx512f")]
fn write_mirrored(x: &mut [u64], at: usize, [low, high]: [__m512i; 2]) {
    let backwards = _mm512_setr_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    let len = x.len();
    // SAFETY: both slices have eight words.
    unsafe {
        _mm512_storeu_si512(x[at..at + LANES].as_mut_ptr().cast(), low);
        let high = _mm512_permutexvar_epi64(backwards, high);
        _mm512_storeu_si512(x[len - at - 7..len - at + 1].as_mut_ptr().cast(), high);
    }
}

/// The fold of the conjugate-invariant ring: x_j -> x_j - w·x_{n-j} for 0 < j < n.
///
/// Bounds: [0, q) -> [0, 3q)
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn fold(q: Modulus, x: &mut [u64], root: Multiplier) {
    let (f, w, n) = (Field::new(q), Shoup::new(root), x.len());
    portable::fold_edges(q, x, root, LANES);
    for at in (LANES..n / 2).step_by(LANES) {
        let [a, b] = read_mirrored(x, at);
        let minus = |a, b| _mm512_sub_epi64(_mm512_add_epi64(a, f.q2), f.mul_lazy(b, w));
        write_mirrored(x, at, [minus(a, b), minus(b, a)]);
    }
}

/// The inverse of [`fold`] but for a factor of 2: x_j -> x_j + w·x_{n-j} for 0 < j < n, and 2·x_0.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn unfold(q: Modulus, x: &mut [u64], root: Multiplier) {
    let (f, w, n) = (Field::new(q), Shoup::new(root), x.len());
    portable::unfold_edges(q, x, root, LANES);
    for at in (LANES..n / 2).step_by(LANES) {
        let [a, b] = read_mirrored(x, at);
        let plus = |a, b| f.reduce_4q(_mm512_add_epi64(a, f.mul_lazy(b, w)));
        write_mirrored(x, at, [plus(a, b), plus(b, a)]);
    }
}
