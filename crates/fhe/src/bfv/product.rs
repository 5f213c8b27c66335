//! Products of ciphertexts, scaled by t/Q.
//!
//! One factor of every product is taken to P/Q times itself first, rounded, so that t/Q times the
//! product is t/P times what is computed.
//!
//! Math:   t/Q a b  =  t/P a b' + small,   b' = round(P/Q b),   over Q from residues modulo QP:
//!         round(t/P x) = t/P x - [t x]_P / P   (mod q_i)
//! Source: Kim, Polyakov, Zucca 2021, "Revisiting homomorphic encryption schemes for finite
//!         fields", the variant that OpenFHE calls HPSPOVERQ; differs in P >= 2^6 Q and in
//!         conversions of centred integers, which are exact

use scuro_polyring::{AlignedBuffer, BaseConverter, Ntt, Poly, PrimeRing, Ring};

use super::BfvContext;
use super::context::ScaleTables;
use crate::bgv;

/// Sums of products of two-part ciphertexts.
pub(super) struct Products<'a> {
    context: &'a BfvContext,
    tables: &'a ScaleTables,
    level: usize,
    left: Factors<'a>,
    right: Factors<'a>,
}

/// The left or the right factors.
struct Factors<'a> {
    /// Without repetition
    ciphertexts: Vec<&'a bgv::Ciphertext>,
    /// Which of them stands in each product
    indices: Vec<usize>,
}

/// Rows of both parts of every ciphertext, [ciphertexts][2][rows][n].
struct Parts {
    words: AlignedBuffer,
    /// Words of one part
    len: usize,
}

impl<'a> Products<'a> {
    /// The sum of left_i * right_i, all of two parts at one level.
    pub(super) fn new(
        context: &'a BfvContext,
        left: &[&'a bgv::Ciphertext],
        right: &[&'a bgv::Ciphertext],
    ) -> Self {
        let level = left[0].level();
        Self {
            context,
            tables: context.tables(level),
            level,
            left: Factors::new(left),
            right: Factors::new(right),
        }
    }

    /// round(t/Q Σ left_i * right_i), three parts over Q.
    pub(super) fn scaled(&self) -> [Poly<Ntt>; 3] {
        let (ring, tables) = (self.context.ring(), self.tables);
        let mut left = self.coefficients(&self.left, None);
        let mut right = self.coefficients(&self.right, Some(&left));
        left.prepare(ring, &tables.lift);
        right.prepare(ring, &tables.scale);
        let len = tables.back.prepared_rows() * ring.degree();
        let mut scaled = Parts::new(&self.right, len);
        let mut sums = AlignedBuffer::recycled(3 * len);
        self.auxiliary_rows([&left, &right], &mut scaled, &mut sums);
        scaled.prepare(ring, &tables.back);
        let mut out = self.own_rows(&scaled);
        for (part, rows) in out.iter_mut().zip(sums.chunks_exact_mut(len)) {
            self.add_remainder(part, rows);
        }
        out
    }

    /// Coefficients of every ciphertext, with room to prepare them; those of the left factors are
    /// known when the right ones are wanted.
    fn coefficients(&self, factors: &Factors<'_>, known: Option<&Parts>) -> Parts {
        let ring = self.context.ring();
        let n = ring.degree();
        let mut all = Parts::new(factors, self.tables.lift.prepared_rows() * n);
        let len = all.len;
        let pairs = all.words.chunks_exact_mut(2 * len);
        for (ciphertext, pair) in factors.ciphertexts.iter().zip(pairs) {
            if let Some((known, index)) = known.zip(self.left.position(ciphertext)) {
                pair.copy_from_slice(&known.words[2 * index * len..][..2 * len]);
                continue;
            }
            for (part, rows) in ciphertext.parts().iter().zip(pair.chunks_exact_mut(len)) {
                rows[..part.words().len()].copy_from_slice(part.words());
                for (i, row) in rows.chunks_exact_mut(n).take(self.level + 1).enumerate() {
                    ring.prime(i).inverse(row);
                }
            }
        }
        all
    }

    /// Modulo the auxiliary primes, from prepared factors: coefficients of the right ones times P/Q
    /// to `scaled`, those of the sums of products with these to `sums`.
    fn auxiliary_rows(
        &self,
        [left, right]: [&Parts; 2],
        scaled: &mut Parts,
        sums: &mut AlignedBuffer,
    ) {
        let (ring, tables) = (self.context.ring(), self.tables);
        let n = ring.degree();
        let [mut lefts, mut rights] = [&self.left, &self.right].map(|f| f.rows(n));
        for (target, i) in tables.auxiliary.iter().enumerate() {
            let prime = ring.prime(i);
            for (out, part) in lefts.chunks_exact_mut(n).zip(left.iter()) {
                tables.lift.transform_row(ring, target, out, part);
            }
            let parts = right.iter().zip(scaled.iter_mut());
            for (out, (part, scaled)) in rights.chunks_exact_mut(n).zip(parts) {
                let row = &mut scaled[target * n..][..n];
                tables.scale.convert_row(ring, target, row, part);
                out.copy_from_slice(row);
                prime.forward(out);
            }
            let mut outs = rows_of(sums, target * n, n);
            let products = outs.each_mut().map(|out| &mut **out);
            let (left, right) = (|k| pair(&lefts, k, n), |k| pair(&rights, k, n));
            self.multiply(prime, left, right, products);
            outs.into_iter().for_each(|out| prime.inverse(out));
        }
    }

    /// t/P times the sums modulo the ciphertext primes, from right factors that are prepared to
    /// come back.
    fn own_rows(&self, scaled: &Parts) -> [Poly<Ntt>; 3] {
        let (ring, core) = (self.context.ring(), self.context.context());
        let (n, basis) = (ring.degree(), core.basis(self.level));
        let mut out = [(); 3].map(|()| Poly::recycled(core.ring(), basis.clone()));
        let mut rights = self.right.rows(n);
        for row in 0..=self.level {
            for (out, part) in rights.chunks_exact_mut(n).zip(scaled.iter()) {
                self.tables.back.transform_row(ring, row, out, part);
            }
            let left = |k: usize| {
                let parts = self.left.ciphertexts[k].parts();
                [parts[0].limb(row), parts[1].limb(row)]
            };
            let outs = out.each_mut().map(|part| part.limb_mut(row));
            self.multiply(ring.prime(row), left, |k| pair(&rights, k, n), outs);
        }
        out
    }

    /// Adds -[t x]_P / P to the part that has t/P x, from the coefficients of x modulo P.
    fn add_remainder(&self, part: &mut Poly<Ntt>, rows: &mut [u64]) {
        let (ring, remainder) = (self.context.ring(), &self.tables.remainder);
        remainder.prepare(ring, rows);
        let mut lowered = AlignedBuffer::recycled(ring.degree());
        for (i, row) in part.rows_mut() {
            remainder.transform_row(ring, i, &mut lowered, rows);
            ring.prime(i).add_assign(row, &lowered);
        }
    }

    /// The sums modulo one prime, from the rows of each factor.
    fn multiply<'r>(
        &self,
        prime: &PrimeRing,
        left: impl Fn(usize) -> [&'r [u64]; 2],
        right: impl Fn(usize) -> [&'r [u64]; 2],
        outs: [&mut [u64]; 3],
    ) {
        let a: Vec<_> = self.left.indices.iter().map(|&k| left(k)).collect();
        let b: Vec<_> = self.right.indices.iter().map(|&k| right(k)).collect();
        prime.tensor(outs, &a, &b);
    }
}

impl<'a> Factors<'a> {
    fn new(list: &[&'a bgv::Ciphertext]) -> Self {
        let mut factors = Self {
            ciphertexts: Vec::with_capacity(list.len()),
            indices: Vec::with_capacity(list.len()),
        };
        for ciphertext in list {
            let index = factors.position(ciphertext).unwrap_or_else(|| {
                factors.ciphertexts.push(ciphertext);
                factors.ciphertexts.len() - 1
            });
            factors.indices.push(index);
        }
        factors
    }

    fn position(&self, ciphertext: &bgv::Ciphertext) -> Option<usize> {
        let mut known = self.ciphertexts.iter();
        known.position(|&known| std::ptr::eq(known, ciphertext))
    }

    /// Room for one row of every part.
    fn rows(&self, n: usize) -> AlignedBuffer {
        AlignedBuffer::recycled(2 * self.ciphertexts.len() * n)
    }
}

impl Parts {
    fn new(factors: &Factors<'_>, len: usize) -> Self {
        Self {
            words: AlignedBuffer::recycled(2 * factors.ciphertexts.len() * len),
            len,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u64]> {
        self.words.chunks_exact(self.len)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u64]> {
        self.words.chunks_exact_mut(self.len)
    }

    /// Coefficients to what the converter takes.
    fn prepare(&mut self, ring: &Ring, converter: &BaseConverter) {
        self.iter_mut()
            .for_each(|part| converter.prepare(ring, part));
    }
}

/// The rows of both parts of ciphertext `k`.
fn pair(rows: &[u64], k: usize, n: usize) -> [&[u64]; 2] {
    let (first, second) = rows[2 * k * n..][..2 * n].split_at(n);
    [first, second]
}

/// The same `n` words of three parts.
fn rows_of(sums: &mut [u64], start: usize, n: usize) -> [&mut [u64]; 3] {
    let len = sums.len() / 3;
    let (first, rest) = sums.split_at_mut(len);
    let (second, third) = rest.split_at_mut(len);
    [first, second, third].map(|part| &mut part[start..start + n])
}
