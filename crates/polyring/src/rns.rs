//! Conversion between residue bases.

use crate::error::Error;
use crate::kernel::AlignedBuffer;
use crate::modulus::{Modulus, Multiplier};
use crate::poly::Basis;
use crate::ring::Ring;

/// Takes residues modulo the primes b_i of one basis to residues modulo the primes of another.
///
/// Math:   y_i = [x_i·(B/b_i)^-1] mod b_i,  v = round(Σ y_i/b_i),  out_j = Σ y_i·(B/b_i) - v·B  mod
///         p_j, with B = Π b_i. That is the integer in (-B/2, B/2) with residues x_i, exactly,
///         unless it lies within 2^-40·B of ±B/2, where rounding in v may give the other
///         representative. With factors: y_i of f·x_i, and g_j·out_j
/// Source: Halevi, Polyakov, Shoup 2019, section 2.2 (the floating-point form of v)
#[derive(Clone)]
pub struct BaseConverter {
    from: Basis,
    to: Basis,
    /// f·(B/b_i)^-1 mod b_i
    inverses: Vec<Multiplier>,
    /// 1/b_i
    reciprocals: Vec<f64>,
    /// per target prime: g_j·B/b_i mod p_j for every i, then -g_j·B mod p_j
    weights: Vec<Vec<u64>>,
    /// g_j, where there are factors
    factors: Option<Vec<Multiplier>>,
}

impl BaseConverter {
    /// Prepares the conversion.
    ///
    /// # Errors
    /// [`Error::BasisOutOfRange`], or [`Error::BasesNotDisjoint`] if a basis is empty or they share
    /// a prime.
    pub fn new(ring: &Ring, from: Basis, to: Basis) -> Result<Self, Error> {
        Ok(Self {
            factors: None,
            ..Self::with_factors(ring, from, to, |_| 1, |_| 1)?
        })
    }

    /// Prepares the conversion of f·x, whose result is multiplied by g: at no cost, unless there is
    /// a single source prime.
    ///
    /// Bounds: `before` gives f modulo a source prime, `after` g modulo a target prime, reduced
    ///
    /// # Errors
    /// As [`BaseConverter::new`].
    pub fn with_factors(
        ring: &Ring,
        from: Basis,
        to: Basis,
        before: impl Fn(Modulus) -> u64,
        after: impl Fn(Modulus) -> u64,
    ) -> Result<Self, Error> {
        from.check(ring)?;
        to.check(ring)?;
        let shared = from.iter().any(|i| to.iter().any(|j| i == j));
        if shared || from.is_empty() || to.is_empty() {
            return Err(Error::BasesNotDisjoint);
        }
        let sources: Vec<Modulus> = from.iter().map(|i| ring.prime(i).modulus()).collect();
        let mut inverses = Vec::with_capacity(sources.len());
        for (i, &b) in sources.iter().enumerate() {
            let inverse = b.inv(product_except(&sources, Some(i), b))?;
            inverses.push(b.multiplier(b.mul(before(b), inverse)));
        }
        let weights_for = |j| {
            let p = ring.prime(j).modulus();
            let punctured = (0..sources.len()).map(|i| product_except(&sources, Some(i), p));
            let all = punctured.chain([p.neg(product_except(&sources, None, p))]);
            all.map(|weight| p.mul(after(p), weight)).collect()
        };
        let weights = to.iter().map(weights_for).collect();
        let factor = |j| {
            let p = ring.prime(j).modulus();
            p.multiplier(after(p))
        };
        let factors = to.iter().map(factor).collect();
        let reciprocals = sources.iter().map(|b| 1.0 / b.value() as f64).collect();
        Ok(Self {
            from,
            to,
            inverses,
            reciprocals,
            weights,
            factors: Some(factors),
        })
    }

    /// Converts coefficient rows.
    ///
    /// Shape:  `xs` one row per source prime, `outs` one per target prime, N coefficients each
    /// Bounds: in and out fully reduced
    /// Timing: independent of the values
    pub fn convert(&self, ring: &Ring, outs: &mut [&mut [u64]], xs: &[&[u64]]) {
        assert_eq!(xs.len(), self.from.len(), "one row per source prime");
        assert_eq!(outs.len(), self.to.len(), "one row per target prime");
        if let ([x], None) = (xs, &self.factors) {
            for (target, out) in outs.iter_mut().enumerate() {
                self.convert_row(ring, target, out, x);
            }
            return;
        }
        let n = ring.degree();
        let mut rows = AlignedBuffer::recycled(n * self.prepared_rows());
        for (row, x) in rows.chunks_exact_mut(n).zip(xs) {
            row.copy_from_slice(x);
        }
        self.prepare(ring, &mut rows);
        for (target, out) in outs.iter_mut().enumerate() {
            self.convert_row(ring, target, out, &rows);
        }
    }

    /// Number of rows that [`BaseConverter::prepare`] works on: one per source prime, and one for
    /// the overflow unless there is a single source prime.
    pub fn prepared_rows(&self) -> usize {
        match self.from.len() {
            1 => 1,
            sources => sources + 1,
        }
    }

    /// First half of [`BaseConverter::convert`], in place: source coefficients to digits and
    /// overflow.
    ///
    /// Shape:  [`BaseConverter::prepared_rows`] rows, the first ones coefficients, the last
    ///     anything
    pub fn prepare(&self, ring: &Ring, rows: &mut [u64]) {
        let n = ring.degree();
        assert_eq!(rows.len(), n * self.prepared_rows(), "rows to prepare");
        if self.from.len() == 1 {
            if self.factors.is_some() {
                let prime = ring.prime(self.from.modulus_index(0));
                prime.mul_scalar_assign(rows, self.inverses[0]);
            }
            return;
        }
        let (digits, overflow) = rows.split_at_mut(n * self.from.len());
        for (digit, (i, &inverse)) in digits
            .chunks_exact_mut(n)
            .zip(self.from.iter().zip(&self.inverses))
        {
            ring.prime(i).mul_scalar_assign(digit, inverse);
        }
        ring.kernel()
            .ops()
            .round_quotient_sum(overflow, digits, &self.reciprocals);
    }

    /// [`BaseConverter::convert_row`], transformed.
    pub fn transform_row(&self, ring: &Ring, target: usize, out: &mut [u64], prepared: &[u64]) {
        let prime = ring.prime(self.to.modulus_index(target));
        if self.from.len() == 1 && self.factors.is_none() {
            let source = ring.prime(self.from.modulus_index(0)).modulus();
            return prime.forward_lifted(out, prepared, source);
        }
        self.convert_row(ring, target, out, prepared);
        prime.forward(out);
    }

    /// Second half of [`BaseConverter::convert`]: the row of one target prime from prepared rows.
    pub fn convert_row(&self, ring: &Ring, target: usize, out: &mut [u64], prepared: &[u64]) {
        let prime = ring.prime(self.to.modulus_index(target));
        if self.from.len() == 1 {
            let source = ring.prime(self.from.modulus_index(0)).modulus();
            prime.lift_centred(out, prepared, source);
            if let Some(factors) = &self.factors {
                prime.mul_scalar_assign(out, factors[target]);
            }
            return;
        }
        let rows: Vec<&[u64]> = prepared.chunks_exact(ring.degree()).collect();
        prime.weighted_sum(out, &self.weights[target], &rows);
    }
}

/// Reads residues as centred integers, in floating point or modulo 2^64.
///
/// Math:   x = u_0 + q_0·(u_1 + q_1·(u_2 + ...)) with u_i in (-q_i/2, q_i/2), evaluated from the
///     inside; the value is within a few
///         units in the last place, however small x is against the product of the moduli
/// Source: Garner 1959, with centred digits
#[derive(Clone)]
pub struct MixedRadix {
    basis: Basis,
    /// q_i^-1 mod q_j at [j][i], i < j
    inverses: Vec<Vec<Multiplier>>,
}

impl MixedRadix {
    /// Prepares the reading of rows over `basis`.
    ///
    /// # Errors
    /// [`Error::BasisOutOfRange`], or [`Error::NotInvertible`] if the basis names a modulus twice.
    pub fn new(ring: &Ring, basis: Basis) -> Result<Self, Error> {
        basis.check(ring)?;
        let moduli: Vec<Modulus> = basis.iter().map(|i| ring.prime(i).modulus()).collect();
        let mut inverses = Vec::with_capacity(moduli.len());
        for (j, &q) in moduli.iter().enumerate() {
            let row: Result<Vec<_>, _> = moduli[..j]
                .iter()
                .map(|m| q.inv(m.value()).map(|w| q.multiplier(w)))
                .collect();
            inverses.push(row?);
        }
        Ok(Self { basis, inverses })
    }

    /// out = the centred integers with residues `xs`.
    ///
    /// Shape:  one row of N coefficients per prime of the basis -> N
    /// Timing: independent of the values
    pub fn to_f64(&self, ring: &Ring, out: &mut [f64], xs: &[&[u64]]) {
        assert_eq!(out.len(), ring.degree(), "one number per coefficient");
        let n = out.len();
        let digits = self.digits(ring, xs, n);
        out.fill(0.0);
        for (digit, i) in digits.chunks_exact(n).zip(self.basis.iter()).rev() {
            ring.prime(i).horner_centred(out, digit);
        }
    }

    /// out = the centred integers with residues `xs`, modulo 2^64.
    ///
    /// Shape:  one row for every prime of the basis, of any one length, which is that of `out`
    /// Timing: independent of the values
    pub fn to_wrapping(&self, ring: &Ring, out: &mut [u64], xs: &[&[u64]]) {
        if out.is_empty() {
            return;
        }
        let digits = self.digits(ring, xs, out.len());
        out.fill(0);
        for (digit, i) in digits.chunks_exact(out.len()).zip(self.basis.iter()).rev() {
            let q = ring.prime(i).modulus();
            for (x, &u) in out.iter_mut().zip(digit) {
                *x = x.wrapping_mul(q.value()).wrapping_add_signed(q.centre(u));
            }
        }
    }

    /// u_0, then u_1 and so on, as residues; `n` of each.
    fn digits(&self, ring: &Ring, xs: &[&[u64]], n: usize) -> AlignedBuffer {
        assert_eq!(xs.len(), self.basis.len(), "one row per prime");
        let mut digits = AlignedBuffer::recycled(n * xs.len());
        let mut lifted = AlignedBuffer::recycled(n);
        for (j, x) in xs.iter().enumerate() {
            let (known, rest) = digits.split_at_mut(j * n);
            let (digit, prime) = (&mut rest[..n], ring.prime(self.basis.modulus_index(j)));
            digit.copy_from_slice(x);
            for (i, u) in known.chunks_exact(n).enumerate() {
                let source = ring.prime(self.basis.modulus_index(i)).modulus();
                prime.lift_centred(&mut lifted, u, source);
                prime.sub_mul_scalar_assign(digit, &lifted, self.inverses[j][i]);
            }
        }
        digits
    }
}

/// The product of all moduli, or of all but one, modulo p.
fn product_except(moduli: &[Modulus], except: Option<usize>, p: Modulus) -> u64 {
    let factors = moduli
        .iter()
        .enumerate()
        .filter(|&(i, _)| Some(i) != except);
    factors.fold(1, |product, (_, b)| p.mul(product, p.reduce(b.value())))
}
