//! Polynomials in residue form: one row of N words per modulus.

use std::marker::PhantomData;
use std::ops::Range;

use zeroize::Zeroize;

use crate::automorphism::Permutation;
use crate::error::Error;
use crate::kernel::AlignedBuffer;
use crate::ring::Ring;

/// Marks a polynomial given by its coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coeff {}

/// Marks a polynomial given by its values at the roots, in evaluation order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ntt {}

/// Which moduli of a ring a polynomial has rows for, in row order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Basis(Vec<u16>);

impl Basis {
    /// The moduli of one index range.
    pub fn range(range: Range<usize>) -> Self {
        Self(range.map(|i| i as u16).collect())
    }

    /// The moduli of two index ranges, one after the other: a prefix of the ciphertext primes and
    /// the special primes.
    pub fn joined(first: Range<usize>, second: Range<usize>) -> Self {
        Self(first.chain(second).map(|i| i as u16).collect())
    }

    /// The moduli at the given indices.
    pub fn indices(indices: &[usize]) -> Self {
        Self(indices.iter().map(|&i| i as u16).collect())
    }

    /// Number of moduli.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no modulus.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ring index of the modulus of row `row`.
    pub fn modulus_index(&self, row: usize) -> usize {
        usize::from(self.0[row])
    }

    /// The ring indices in row order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = usize> + DoubleEndedIterator + '_ {
        self.0.iter().map(|&i| usize::from(i))
    }

    /// The first `rows` moduli.
    pub fn prefix(&self, rows: usize) -> Self {
        Self(self.0[..rows].to_vec())
    }

    /// Checks that every index names a modulus of `ring`.
    ///
    /// # Errors
    /// [`Error::BasisOutOfRange`].
    pub fn check(&self, ring: &Ring) -> Result<(), Error> {
        let moduli = ring.moduli_count();
        match self.iter().find(|&i| i >= moduli) {
            Some(found) => Err(Error::BasisOutOfRange { found, moduli }),
            None => Ok(()),
        }
    }
}

/// A polynomial modulo the primes of its basis, in form `F`: [`Coeff`] or [`Ntt`].
///
/// Shape:  `[basis.len()][N]` u64, contiguous, 64-byte aligned
/// Bounds: every value below the prime of its row; code that writes rows keeps that
#[derive(Clone, PartialEq, Eq)]
pub struct Poly<F> {
    words: AlignedBuffer,
    basis: Basis,
    degree: usize,
    form: PhantomData<F>,
}

impl<F> Poly<F> {
    /// The zero polynomial.
    pub fn zero(ring: &Ring, basis: Basis) -> Self {
        let degree = ring.degree();
        debug_assert!(basis.check(ring).is_ok());
        Self {
            words: AlignedBuffer::zeroed(degree * basis.len()),
            basis,
            degree,
            form: PhantomData,
        }
    }

    /// A polynomial of arbitrary content, for those who write every row.
    pub fn recycled(ring: &Ring, basis: Basis) -> Self {
        let words = AlignedBuffer::recycled(ring.degree() * basis.len());
        Self::from_words(ring, basis, words)
    }

    /// The polynomial with the given words, row after row, without a copy.
    ///
    /// Panics if there are not N words per modulus; the caller answers for the bounds of [`Poly`].
    pub fn from_words(ring: &Ring, basis: Basis, words: AlignedBuffer) -> Self {
        let degree = ring.degree();
        assert_eq!(words.len(), degree * basis.len(), "N words per modulus");
        Self {
            words,
            basis,
            degree,
            form: PhantomData,
        }
    }

    /// The moduli of the rows.
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// N.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// Number of rows.
    pub fn limbs(&self) -> usize {
        self.basis.len()
    }

    /// Row `row`.
    pub fn limb(&self, row: usize) -> &[u64] {
        &self.words[row * self.degree..(row + 1) * self.degree]
    }

    /// Row `row`.
    pub fn limb_mut(&mut self, row: usize) -> &mut [u64] {
        &mut self.words[row * self.degree..(row + 1) * self.degree]
    }

    /// All rows, each with the ring index of its modulus.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &[u64])> {
        self.basis.iter().zip(self.words.chunks_exact(self.degree))
    }

    /// All rows, each with the ring index of its modulus.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = (usize, &mut [u64])> {
        self.basis
            .iter()
            .zip(self.words.chunks_exact_mut(self.degree))
    }

    /// All words, row after row.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// All words, row after row.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Keeps the first `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        if rows < self.limbs() {
            self.words.truncate(rows * self.degree);
            self.basis = self.basis.prefix(rows);
        }
    }

    /// The first `rows` rows as a new polynomial.
    pub fn prefix(&self, rows: usize) -> Self {
        Self {
            words: AlignedBuffer::from_slice(&self.words[..rows * self.degree]),
            basis: self.basis.prefix(rows),
            degree: self.degree,
            form: PhantomData,
        }
    }

    /// self += other
    pub fn add_assign(&mut self, ring: &Ring, other: &Self) {
        self.zip_rows(other, |i, x, y| ring.prime(i).add_assign(x, y));
    }

    /// self -= other
    pub fn sub_assign(&mut self, ring: &Ring, other: &Self) {
        self.zip_rows(other, |i, x, y| ring.prime(i).sub_assign(x, y));
    }

    /// self = -self
    pub fn neg_assign(&mut self, ring: &Ring) {
        self.rows_mut()
            .for_each(|(i, row)| ring.prime(i).neg_assign(row));
    }

    /// self *= the integer w
    pub fn mul_integer_assign(&mut self, ring: &Ring, w: i64) {
        for (i, row) in self.rows_mut() {
            let prime = ring.prime(i);
            prime.mul_scalar_assign(row, prime.multiplier(prime.modulus().reduce_signed(w)));
        }
    }

    /// Runs `row` on every pair of rows; the basis of `other` must begin with that of `self`.
    fn zip_rows(&mut self, other: &Self, mut row: impl FnMut(usize, &mut [u64], &[u64])) {
        let rows = self.limbs();
        assert_eq!(
            self.basis.0[..],
            other.basis.0[..rows],
            "polynomials over different moduli"
        );
        for ((i, x), (_, y)) in self.rows_mut().zip(other.rows()) {
            row(i, x, y);
        }
    }

    fn into_form<G>(self) -> Poly<G> {
        Poly {
            words: self.words,
            basis: self.basis,
            degree: self.degree,
            form: PhantomData,
        }
    }
}

impl Poly<Coeff> {
    /// The polynomial with the given small signed coefficients.
    pub fn from_small(ring: &Ring, basis: Basis, coefficients: &[i8]) -> Self {
        let mut poly = Self::recycled(ring, basis);
        poly.rows_mut()
            .for_each(|(i, row)| ring.prime(i).lift_small(row, coefficients));
        poly
    }

    /// The polynomial with the given signed coefficients.
    pub fn from_signed(ring: &Ring, basis: Basis, coefficients: &[i64]) -> Self {
        let mut poly = Self::recycled(ring, basis);
        poly.rows_mut()
            .for_each(|(i, row)| ring.prime(i).reduce_signed(row, coefficients));
        poly
    }

    /// Transforms every row.
    pub fn into_ntt(mut self, ring: &Ring) -> Poly<Ntt> {
        self.rows_mut()
            .for_each(|(i, row)| ring.prime(i).forward(row));
        self.into_form()
    }
}

impl Poly<Ntt> {
    /// Transforms every row back.
    pub fn into_coeff(mut self, ring: &Ring) -> Poly<Coeff> {
        self.rows_mut()
            .for_each(|(i, row)| ring.prime(i).inverse(row));
        self.into_form()
    }

    /// self *= other
    pub fn mul_assign(&mut self, ring: &Ring, other: &Self) {
        self.zip_rows(other, |i, x, y| ring.prime(i).mul_assign(x, y));
    }

    /// self += x·y
    pub fn mul_add_assign(&mut self, ring: &Ring, x: &Self, y: &Self) {
        let rows = self.limbs();
        assert_eq!(
            self.basis.0[..],
            x.basis.0[..rows],
            "polynomials over different moduli"
        );
        assert_eq!(
            self.basis.0[..],
            y.basis.0[..rows],
            "polynomials over different moduli"
        );
        for (((i, acc), (_, x)), (_, y)) in self.rows_mut().zip(x.rows()).zip(y.rows()) {
            ring.prime(i).mul_add_assign(acc, x, y);
        }
    }

    /// The image under an automorphism.
    pub fn permuted(&self, ring: &Ring, permutation: &Permutation) -> Self {
        let mut image = Self::recycled(ring, self.basis.clone());
        for ((_, out), (_, row)) in image.rows_mut().zip(self.rows()) {
            permutation.apply(out, row);
        }
        image
    }
}

impl<F> Zeroize for Poly<F> {
    fn zeroize(&mut self) {
        self.words.zeroize();
    }
}

impl<F> std::fmt::Debug for Poly<F> {
    /// Shows the shape only: coefficients may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poly")
            .field("basis", &self.basis)
            .field("degree", &self.degree)
            .finish()
    }
}
