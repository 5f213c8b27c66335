//! Rings modulo one prime and modulo a product of primes.

use crate::automorphism::{Permutation, galois_permutation};
use crate::error::Error;
use crate::kernel::Kernel;
use crate::modulus::{Modulus, Multiplier};
use crate::ntt::{NttPlan, evaluation_exponents};
use crate::pairs::{FactorRow, PairProducts, PairRow};
use crate::slots::WIDE_SHIFT;

/// Smallest supported log2 of the ring degree; such small rings are for tests only.
pub const LOG_DEGREE_MIN: u32 = 4;
/// Largest supported log2 of the ring degree.
pub const LOG_DEGREE_MAX: u32 = 16;
/// Most terms of one lazy sum of products: each is below 2^100, and the two 52-bit halves are
/// summed in 64-bit words.
pub const DOT_TERMS_MAX: usize = 4096;
/// The automorphisms X -> X^(5^k) rotate the slots.
pub const ROTATION_GENERATOR: u64 = 5;

/// Which ring of degree N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RingKind {
    /// `Z_q[X]/(X^N + 1)`: N/2 complex slots, primes 1 mod 2N
    Standard,
    /// The elements a_0 + Σ_{0<i<N} a_i (X^i + X^-i) of `Z_q[X]/(X^2N + 1)`: N real slots in one
    /// cycle, primes 1 mod 4N
    ConjugateInvariant,
}

impl RingKind {
    /// Order of the root of unity ψ whose odd powers are evaluated at: 2N or 4N. Primes are 1
    /// modulo this.
    pub fn root_order(self, log_n: u32) -> u64 {
        match self {
            RingKind::Standard => 2 << log_n,
            RingKind::ConjugateInvariant => 4 << log_n,
        }
    }

    /// Number of slots of degree 2^log_n: the order of the automorphism X -> X^5.
    pub fn slots(self, log_n: u32) -> usize {
        match self {
            RingKind::Standard => 1 << (log_n - 1),
            RingKind::ConjugateInvariant => 1 << log_n,
        }
    }
}

/// The ring modulo one prime: slice operations on vectors of residues.
///
/// Shape:  transforms take N values; the other operations any number, the same for all slices of
///         one call, so that callers can work through a polynomial in blocks that fit a cache;
///         unequal lengths are a bug of the caller and panic
/// Bounds: in and out values in [0, q) unless stated
/// Timing: independent of the values
#[derive(Clone)]
pub struct PrimeRing {
    modulus: Modulus,
    degree: usize,
    kernel: Kernel,
    ntt: NttPlan,
}

impl PrimeRing {
    /// Prepares the transform modulo `modulus`.
    ///
    /// # Errors
    /// [`Error::DegreeOutOfRange`] or [`Error::NoRootOfUnity`].
    pub fn new(
        modulus: Modulus,
        kind: RingKind,
        log_n: u32,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        check_degree(log_n)?;
        let ntt = NttPlan::new(modulus, kind, log_n, kernel)?;
        Ok(Self {
            modulus,
            degree: 1 << log_n,
            kernel,
            ntt,
        })
    }

    /// The prime.
    pub fn modulus(&self) -> Modulus {
        self.modulus
    }

    /// Values at the roots, in evaluation order, from coefficients.
    pub fn forward(&self, values: &mut [u64]) {
        self.check(values.len());
        self.ntt.forward(values);
    }

    /// [`PrimeRing::lift_centred`], then [`PrimeRing::forward`].
    pub fn forward_lifted(&self, out: &mut [u64], x: &[u64], source: Modulus) {
        self.check(out.len());
        check_equal(&[out.len(), x.len()]);
        self.ntt.forward_lifted(out, x, source);
    }

    /// Coefficients from values at the roots.
    pub fn inverse(&self, values: &mut [u64]) {
        self.check(values.len());
        self.ntt.inverse(values);
    }

    /// The same from another row, which stays as it is.
    pub fn inverse_from(&self, out: &mut [u64], x: &[u64]) {
        self.check(out.len());
        check_equal(&[out.len(), x.len()]);
        self.ntt.inverse_from(out, x);
    }

    /// out = x + y
    pub fn add(&self, out: &mut [u64], x: &[u64], y: &[u64]) {
        check_equal(&[out.len(), x.len(), y.len()]);
        self.kernel.ops().add(self.modulus, out, x, y);
    }

    /// x += y
    pub fn add_assign(&self, x: &mut [u64], y: &[u64]) {
        check_equal(&[x.len(), y.len()]);
        self.kernel.ops().add_assign(self.modulus, x, y);
    }

    /// out = x - y
    pub fn sub(&self, out: &mut [u64], x: &[u64], y: &[u64]) {
        check_equal(&[out.len(), x.len(), y.len()]);
        self.kernel.ops().sub(self.modulus, out, x, y);
    }

    /// x -= y
    pub fn sub_assign(&self, x: &mut [u64], y: &[u64]) {
        check_equal(&[x.len(), y.len()]);
        self.kernel.ops().sub_assign(self.modulus, x, y);
    }

    /// x = -x
    pub fn neg_assign(&self, x: &mut [u64]) {
        self.kernel.ops().neg_assign(self.modulus, x);
    }

    /// out = x·y, position by position
    pub fn mul(&self, out: &mut [u64], x: &[u64], y: &[u64]) {
        check_equal(&[out.len(), x.len(), y.len()]);
        self.kernel.ops().mul(self.modulus, out, x, y);
    }

    /// x *= y, position by position
    pub fn mul_assign(&self, x: &mut [u64], y: &[u64]) {
        check_equal(&[x.len(), y.len()]);
        self.kernel.ops().mul_assign(self.modulus, x, y);
    }

    /// acc += x·y, position by position
    pub fn mul_add_assign(&self, acc: &mut [u64], x: &[u64], y: &[u64]) {
        check_equal(&[acc.len(), x.len(), y.len()]);
        self.kernel.ops().mul_add_assign(self.modulus, acc, x, y);
    }

    /// Prepares a constant for the scalar products of this ring.
    pub fn multiplier(&self, w: u64) -> Multiplier {
        self.modulus.multiplier(w)
    }

    /// out = w·x
    pub fn mul_scalar(&self, out: &mut [u64], x: &[u64], w: Multiplier) {
        check_equal(&[out.len(), x.len()]);
        self.kernel.ops().mul_scalar(self.modulus, out, x, w);
    }

    /// x *= w
    pub fn mul_scalar_assign(&self, x: &mut [u64], w: Multiplier) {
        self.kernel.ops().mul_scalar_assign(self.modulus, x, w);
    }

    /// acc += w·x
    pub fn mul_scalar_add_assign(&self, acc: &mut [u64], x: &[u64], w: Multiplier) {
        check_equal(&[acc.len(), x.len()]);
        self.kernel
            .ops()
            .mul_scalar_add_assign(self.modulus, acc, x, w);
    }

    /// x = (x - y)·w: the step of a division by a prime whose residue is y and whose inverse is w.
    pub fn sub_mul_scalar_assign(&self, x: &mut [u64], y: &[u64], w: Multiplier) {
        check_equal(&[x.len(), y.len()]);
        self.kernel
            .ops()
            .sub_mul_scalar_assign(self.modulus, x, y, w);
    }

    /// out = (x - y)·w
    pub fn sub_mul_scalar(&self, out: &mut [u64], x: &[u64], y: &[u64], w: Multiplier) {
        check_equal(&[out.len(), x.len(), y.len()]);
        self.kernel.ops().sub_mul_scalar(self.modulus, out, x, y, w);
    }

    /// out = Σ_i xs_i·ys_i, position by position, reduced once at the end.
    ///
    /// Bounds: any number of terms; sums of more than [`DOT_TERMS_MAX`] are split
    pub fn dot(&self, out: &mut [u64], xs: &[&[u64]], ys: &[&[u64]]) {
        assert_eq!(
            xs.len(),
            ys.len(),
            "a sum of products needs as many left as right factors"
        );
        check_rows(out.len(), xs);
        check_rows(out.len(), ys);
        let ops = self.kernel.ops();
        let (first_xs, rest_xs) = xs.split_at(xs.len().min(DOT_TERMS_MAX));
        let (first_ys, rest_ys) = ys.split_at(xs.len().min(DOT_TERMS_MAX));
        ops.dot(self.modulus, out, first_xs, first_ys);
        if !rest_xs.is_empty() {
            let mut rest = vec![0; out.len()];
            self.dot(&mut rest, rest_xs, rest_ys);
            ops.add_assign(self.modulus, out, &rest);
        }
    }

    /// outs = Σ Σ_i shared_i·pairs_i over all products: the inner products of key switches that are
    /// summed, reading each `shared` once.
    ///
    /// Bounds: at most [`DOT_TERMS_MAX`] terms
    pub fn dot_row_pairs(&self, outs: [&mut [u64]; 2], products: &[PairProducts<'_>]) {
        let mut terms = 0;
        for PairProducts { shared, pairs } in products {
            terms += shared.len();
            assert!(
                shared.len() <= pairs.terms() && terms <= DOT_TERMS_MAX,
                "{terms} terms in one lazy sum, {} of {} pairs",
                shared.len(),
                pairs.terms()
            );
            check_equal(&[outs[0].len(), outs[1].len(), pairs.degree()]);
            check_rows(outs[0].len(), shared);
        }
        self.kernel
            .ops()
            .dot_row_pairs(self.modulus, outs, products);
    }

    /// outs = Σ_i factors_i·pairs_(operands_i), position by position.
    ///
    /// Bounds: at most [`DOT_TERMS_MAX`] terms
    pub fn dot_row_factors(
        &self,
        outs: [&mut [u64]; 2],
        factors: FactorRow<'_>,
        pairs: PairRow<'_>,
        operands: &[usize],
    ) {
        assert!(
            operands.len() == factors.terms() && operands.len() <= DOT_TERMS_MAX,
            "{} operands for {} factors",
            operands.len(),
            factors.terms()
        );
        assert!(operands.iter().all(|&operand| operand < pairs.terms()));
        let tiles = [factors.tiles().tile, pairs.tiles().tile];
        assert_eq!(tiles[0], tiles[1], "tiles of one degree");
        let (len, other) = (outs[0].len(), outs[1].len());
        check_equal(&[len, other, factors.degree(), pairs.degree()]);
        self.kernel
            .ops()
            .dot_row_factors(self.modulus, outs, factors, pairs, operands);
    }

    /// outs = Σ_i (a_i0·b_i0, a_i0·b_i1 + a_i1·b_i0, a_i1·b_i1): products of two-part ciphertexts,
    /// summed lazily.
    ///
    /// Bounds: at most [`DOT_TERMS_MAX`]/2 terms
    pub fn tensor(&self, outs: [&mut [u64]; 3], a: &[[&[u64]; 2]], b: &[[&[u64]; 2]]) {
        assert!(
            2 * a.len() <= DOT_TERMS_MAX,
            "{} terms in one lazy sum",
            2 * a.len()
        );
        assert_eq!(
            a.len(),
            b.len(),
            "a sum of products needs as many left as right factors"
        );
        check_equal(&[outs[0].len(), outs[1].len(), outs[2].len()]);
        a.iter()
            .chain(b)
            .for_each(|pair| check_rows(outs[0].len(), pair));
        self.kernel.ops().tensor(self.modulus, outs, a, b);
    }

    /// outs = Σ_i weights_i ⊗ pairs_(operands_i): products of two-part ciphertexts as in
    /// [`PrimeRing::tensor`], the left ones in the order in which they are read.
    ///
    /// Bounds: at most [`DOT_TERMS_MAX`]/4 terms
    pub fn tensor_row_pairs(
        &self,
        outs: [&mut [u64]; 3],
        weights: PairRow<'_>,
        pairs: PairRow<'_>,
        operands: &[usize],
    ) {
        assert!(
            operands.len() == weights.terms() && 4 * operands.len() <= DOT_TERMS_MAX,
            "{} operands for {} weights",
            operands.len(),
            weights.terms()
        );
        assert!(operands.iter().all(|&operand| operand < pairs.terms()));
        let tiles = [weights.tiles().tile, pairs.tiles().tile];
        assert_eq!(tiles[0], tiles[1], "tiles of one degree");
        let lens = outs.each_ref().map(|out| out.len());
        check_equal(&[lens[0], lens[1], lens[2], weights.degree(), pairs.degree()]);
        let ops = self.kernel.ops();
        ops.tensor_row_pairs(self.modulus, outs, weights, pairs, operands);
    }

    /// out = x mod q for arbitrary words x.
    pub fn reduce(&self, out: &mut [u64], x: &[u64]) {
        check_equal(&[out.len(), x.len()]);
        self.kernel.ops().reduce(self.modulus, out, x);
    }

    /// out = x mod q, where residue x modulo `source` stands for the integer in (-source/2,
    /// source/2).
    pub fn lift_centred(&self, out: &mut [u64], x: &[u64], source: Modulus) {
        check_equal(&[out.len(), x.len()]);
        self.kernel.ops().lift_centred(self.modulus, out, x, source);
    }

    /// out = x mod q for arbitrary signed words x.
    pub fn reduce_signed(&self, out: &mut [u64], x: &[i64]) {
        check_equal(&[out.len(), x.len()]);
        self.kernel.ops().reduce_signed(self.modulus, out, x);
    }

    /// out = high·2^60 + low mod q, as [`crate::slots::round_wide`] gives them.
    pub fn reduce_wide(&self, out: &mut [u64], high: &[i64], low: &[i64]) {
        check_equal(&[out.len(), high.len(), low.len()]);
        let ops = self.kernel.ops();
        let mut top = vec![0; out.len()];
        ops.reduce_signed(self.modulus, &mut top, high);
        ops.reduce_signed(self.modulus, out, low);
        ops.mul_scalar_add_assign(self.modulus, out, &top, self.multiplier(1 << WIDE_SHIFT));
    }

    /// acc = acc·q + x, where residue x stands for the integer in (-q/2, q/2).
    pub fn horner_centred(&self, acc: &mut [f64], x: &[u64]) {
        check_equal(&[acc.len(), x.len()]);
        self.kernel.ops().horner_centred(self.modulus, acc, x);
    }

    /// out = x mod q for small signed x, as the samplers give them.
    pub fn lift_small(&self, out: &mut [u64], x: &[i8]) {
        check_equal(&[out.len(), x.len()]);
        self.kernel.ops().lift_small(self.modulus, out, x);
    }

    /// out = Σ_i weights_i·xs_i with constant weights.
    ///
    /// Bounds: weights in [0, q); words of `xs` below 2^50, not necessarily below q; at most
    ///     [`DOT_TERMS_MAX`] terms
    pub fn weighted_sum(&self, out: &mut [u64], weights: &[u64], xs: &[&[u64]]) {
        assert!(
            xs.len() <= DOT_TERMS_MAX,
            "{} terms in one lazy sum",
            xs.len()
        );
        assert_eq!(weights.len(), xs.len(), "one weight per row");
        check_rows(out.len(), xs);
        self.kernel
            .ops()
            .weighted_sum(self.modulus, out, weights, xs);
    }

    fn check(&self, len: usize) {
        assert_eq!(
            len, self.degree,
            "slice length differs from the ring degree"
        );
    }
}

fn check_equal(lens: &[usize]) {
    assert!(
        lens.iter().all(|&len| len == lens[0]),
        "slices of unequal lengths {lens:?}"
    );
}

fn check_rows(len: usize, rows: &[&[u64]]) {
    assert!(
        rows.iter().all(|row| row.len() == len),
        "rows of other lengths than {len}"
    );
}

/// The ring modulo q_0·q_1···: one [`PrimeRing`] per modulus, one degree, one kernel.
#[derive(Clone)]
pub struct Ring {
    kind: RingKind,
    log_n: u32,
    kernel: Kernel,
    primes: Vec<PrimeRing>,
    exponents: Vec<u32>,
}

impl Ring {
    /// Builds the ring of degree 2^`log_n` with the given primes, in order.
    ///
    /// # Errors
    /// [`Error::DegreeOutOfRange`], [`Error::ModulusRepeated`], [`Error::NoRootOfUnity`] or what
    /// [`Modulus::new`] refuses.
    pub fn new(kind: RingKind, log_n: u32, moduli: &[u64], kernel: Kernel) -> Result<Self, Error> {
        check_degree(log_n)?;
        let mut primes = Vec::with_capacity(moduli.len());
        for (i, &value) in moduli.iter().enumerate() {
            if moduli[..i].contains(&value) {
                return Err(Error::ModulusRepeated { found: value });
            }
            primes.push(PrimeRing::new(Modulus::new(value)?, kind, log_n, kernel)?);
        }
        Ok(Self {
            kind,
            log_n,
            kernel,
            primes,
            exponents: evaluation_exponents(kind, log_n),
        })
    }

    /// Standard or conjugate-invariant.
    pub fn kind(&self) -> RingKind {
        self.kind
    }

    /// log2 N.
    pub fn log_degree(&self) -> u32 {
        self.log_n
    }

    /// N.
    pub fn degree(&self) -> usize {
        1 << self.log_n
    }

    /// Number of slots: N/2 complex ones or N real ones.
    pub fn slots(&self) -> usize {
        self.kind.slots(self.log_n)
    }

    /// Number of moduli.
    pub fn moduli_count(&self) -> usize {
        self.primes.len()
    }

    /// The moduli in order.
    pub fn moduli(&self) -> impl ExactSizeIterator<Item = Modulus> + '_ {
        self.primes.iter().map(PrimeRing::modulus)
    }

    /// The ring modulo the i-th prime.
    pub fn prime(&self, i: usize) -> &PrimeRing {
        &self.primes[i]
    }

    /// The kernel that all operations run on.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// For every position of a transformed polynomial the exponent e of the root ψ^e it is the
    /// value at, ψ as in [`RingKind::root_order`]. Slot p of the encoders belongs to e = 5^p.
    pub fn exponents(&self) -> &[u32] {
        &self.exponents
    }

    /// The Galois element 5^steps of the automorphism X -> X^(5^steps), which moves slot p + steps
    /// to slot p.
    pub fn rotation_element(&self, steps: i64) -> u64 {
        let slots = self.slots() as i64;
        let mask = self.kind.root_order(self.log_n) - 1;
        (0..steps.rem_euclid(slots)).fold(1, |element, _| (element * ROTATION_GENERATOR) & mask)
    }

    /// The Galois element of complex conjugation X -> X^-1; it is trivial on the
    /// conjugate-invariant ring.
    pub fn conjugation_element(&self) -> u64 {
        self.kind.root_order(self.log_n) - 1
    }

    /// How the automorphism X -> X^element permutes transformed polynomials.
    ///
    /// # Errors
    /// [`Error::NotAGaloisElement`] unless the element is odd and below the order of ψ.
    pub fn permutation(&self, element: u64) -> Result<Permutation, Error> {
        galois_permutation(self.kind, self.log_n, &self.exponents, element, self.kernel)
    }
}

fn check_degree(log_n: u32) -> Result<(), Error> {
    if (LOG_DEGREE_MIN..=LOG_DEGREE_MAX).contains(&log_n) {
        return Ok(());
    }
    Err(Error::DegreeOutOfRange {
        found: log_n,
        min: LOG_DEGREE_MIN,
        max: LOG_DEGREE_MAX,
    })
}
