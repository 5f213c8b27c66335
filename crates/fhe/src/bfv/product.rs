//! Products of ciphertexts, scaled by t/Q.

use scuro_polyring::{AlignedBuffer, Ntt, Poly, PrimeRing};

use super::BfvContext;
use super::context::ScaleTables;
use crate::bgv;

/// Sums of products of two-part ciphertexts.
pub(super) struct Products<'a> {
    context: &'a BfvContext,
    tables: &'a ScaleTables,
    level: usize,
    /// The ciphertexts without repetition
    operands: Vec<&'a bgv::Ciphertext>,
    /// Left and right operand of every product
    pairs: Vec<[usize; 2]>,
    /// The operands' parts ready to be lifted to auxiliary primes, [operands][2][prepared rows][n]
    prepared: AlignedBuffer,
}

impl<'a> Products<'a> {
    /// Prepares the sum of left_i * right_i, all of two parts at one level.
    pub(super) fn new(
        context: &'a BfvContext,
        left: &[&'a bgv::Ciphertext],
        right: &[&'a bgv::Ciphertext],
    ) -> Self {
        let level = left[0].level();
        let mut operands: Vec<&bgv::Ciphertext> = Vec::with_capacity(2 * left.len());
        let mut index = |ciphertext: &'a bgv::Ciphertext| {
            let found = operands
                .iter()
                .position(|&known| std::ptr::eq(known, ciphertext));
            found.unwrap_or_else(|| {
                operands.push(ciphertext);
                operands.len() - 1
            })
        };
        let pairs = left.iter().zip(right).map(|(a, b)| [index(a), index(b)]);
        let pairs = pairs.collect();
        let mut products = Self {
            context,
            tables: context.tables(level),
            level,
            operands,
            pairs,
            prepared: AlignedBuffer::default(),
        };
        products.prepare();
        products
    }

    fn prepare(&mut self) {
        let (ring, converter) = (self.context.ring(), &self.tables.lift);
        let n = ring.degree();
        let len = converter.prepared_rows() * n;
        let mut prepared = AlignedBuffer::recycled(2 * self.operands.len() * len);
        let parts = self.operands.iter().flat_map(|operand| operand.parts());
        for (part, rows) in parts.zip(prepared.chunks_exact_mut(len)) {
            rows[..part.words().len()].copy_from_slice(part.words());
            for (i, row) in rows.chunks_exact_mut(n).take(self.level + 1).enumerate() {
                ring.prime(i).inverse(row);
            }
            converter.prepare(ring, rows);
        }
        self.prepared = prepared;
    }

    /// round(t/Q Σ left_i * right_i), three parts over Q_level.
    pub(super) fn scaled(&self) -> Vec<Poly<Ntt>> {
        let n = self.context.ring().degree();
        let own = self.tables.lift.prepared_rows() * n;
        let len = own + self.tables.lower.prepared_rows() * n;
        let mut sums = AlignedBuffer::recycled(3 * len);
        self.own_rows(&mut sums);
        self.auxiliary_rows(&mut sums, own);
        sums.chunks_exact_mut(len)
            .map(|part| {
                let (own, auxiliary) = part.split_at_mut(own);
                self.scale(own, auxiliary)
            })
            .collect()
    }

    /// Coefficients of the sums modulo the ciphertext primes.
    fn own_rows(&self, sums: &mut AlignedBuffer) {
        let (ring, n) = (self.context.ring(), self.context.ring().degree());
        for row in 0..=self.level {
            let rows = |operand: usize| {
                let parts = self.operands[operand].parts();
                [parts[0].limb(row), parts[1].limb(row)]
            };
            self.multiply(ring.prime(row), rows, rows_of(sums, row * n, n));
        }
    }

    /// The same modulo the auxiliary primes, the first of which is at `start`.
    fn auxiliary_rows(&self, sums: &mut AlignedBuffer, start: usize) {
        let (ring, n) = (self.context.ring(), self.context.ring().degree());
        let len = self.tables.lift.prepared_rows() * n;
        let mut lifted = AlignedBuffer::recycled(2 * self.operands.len() * n);
        for (target, i) in self.tables.auxiliary.iter().enumerate() {
            let prepared = self.prepared.chunks_exact(len);
            for (out, prepared) in lifted.chunks_exact_mut(n).zip(prepared) {
                self.tables.lift.transform_row(ring, target, out, prepared);
            }
            let rows = |operand: usize| {
                let (first, second) = lifted[2 * operand * n..][..2 * n].split_at(n);
                [first, second]
            };
            let outs = rows_of(sums, start + target * n, n);
            self.multiply(ring.prime(i), rows, outs);
        }
    }

    /// The coefficients of the sums modulo one prime, from the rows of each operand.
    fn multiply<'r>(
        &self,
        prime: &PrimeRing,
        rows: impl Fn(usize) -> [&'r [u64]; 2],
        [first, second, third]: [&mut [u64]; 3],
    ) {
        let a: Vec<_> = self.pairs.iter().map(|pair| rows(pair[0])).collect();
        let b: Vec<_> = self.pairs.iter().map(|pair| rows(pair[1])).collect();
        prime.tensor([&mut *first, &mut *second, &mut *third], &a, &b);
        for out in [first, second, third] {
            prime.inverse(out);
        }
    }

    /// round(t x / Q) over Q from the coefficients of x.
    fn scale(&self, own: &mut [u64], auxiliary: &mut [u64]) -> Poly<Ntt> {
        let (ring, tables) = (self.context.ring(), self.tables);
        let (n, plain) = (ring.degree(), self.context.plain_residues());
        for (i, row) in own.chunks_exact_mut(n).take(self.level + 1).enumerate() {
            ring.prime(i).mul_scalar_assign(row, plain[i]);
        }
        tables.lift.prepare(ring, own);
        let mut remainder = AlignedBuffer::recycled(n);
        let rows = auxiliary.chunks_exact_mut(n).zip(tables.auxiliary.iter());
        for (target, (row, i)) in rows.enumerate() {
            tables.lift.convert_row(ring, target, &mut remainder, own);
            ring.prime(i).mul_scalar_assign(row, plain[i]);
            ring.prime(i)
                .sub_mul_scalar_assign(row, &remainder, tables.inverses[target]);
        }
        tables.lower.prepare(ring, auxiliary);
        let core = self.context.context();
        let mut out = Poly::recycled(core.ring(), core.basis(self.level));
        for (target, row) in out.rows_mut() {
            tables.lower.transform_row(ring, target, row, auxiliary);
        }
        out
    }
}

/// The same `n` words of three parts.
fn rows_of(sums: &mut [u64], start: usize, n: usize) -> [&mut [u64]; 3] {
    let len = sums.len() / 3;
    let (first, rest) = sums.split_at_mut(len);
    let (second, third) = rest.split_at_mut(len);
    [first, second, third].map(|part| &mut part[start..start + n])
}
