//! A context of exact arithmetic with auxiliary primes for products.

use std::sync::Arc;

use scuro_polyring::{
    BaseConverter, Basis, DOT_TERMS_MAX, MODULUS_BITS_MAX, Modulus, Ring, primes,
};

use crate::bgv::BgvContext;
use crate::context::Context;
use crate::error::Error;

/// Most products that are summed before they are scaled.
pub const SUM_TERMS_MAX: usize = DOT_TERMS_MAX / 2;

/// Bits of P above Q: rounding P/Q times a factor then costs a product some hundredth of the noise
/// that two fresh factors give it.
pub(crate) const MARGIN_BITS: f64 = 6.0;

/// A parameter set with a plaintext prime, and the tables of products.
pub struct BfvContext {
    exact: Arc<BgvContext>,
    /// The ring modulo the ciphertext primes and then the auxiliary ones
    ring: Ring,
    levels: Vec<ScaleTables>,
}

/// Conversions between the primes of Q = Q_level and auxiliary primes of product P >= 2^6 Q.
pub(crate) struct ScaleTables {
    /// Left factors: x over Q to x over P.
    pub(crate) lift: BaseConverter,
    /// Right factors: x over Q to round(P/Q x) over P, which is -[P x]_Q / Q.
    pub(crate) scale: BaseConverter,
    /// Scaled right factors: x over P to t/P x over Q, one part of t/P times a product.
    pub(crate) back: BaseConverter,
    /// Products: x over P to -[t x]_P / P over Q, the other part.
    pub(crate) remainder: BaseConverter,
    /// Ring indices of the auxiliary primes.
    pub(crate) auxiliary: Basis,
}

impl BfvContext {
    /// Adds auxiliary primes to a context of integers modulo t.
    ///
    /// # Errors
    /// [`Error::Ring`] if there are not enough primes of this degree.
    pub fn new(exact: &Arc<BgvContext>) -> Result<Arc<Self>, Error> {
        let (core, t) = (exact.context(), exact.plain_modulus().value());
        let parameters = core.parameters();
        let q = parameters.q();
        let used: Vec<u64> = q.iter().chain(parameters.p()).copied().chain([t]).collect();
        let order = parameters.ring().root_order(parameters.log_n());
        let top = parameters.max_level();
        let count = auxiliary_count(core, top);
        let auxiliary = primes::ntt_primes(MODULUS_BITS_MAX, order, count, &used)?;
        let moduli: Vec<u64> = q.iter().copied().chain(auxiliary).collect();
        let (kind, kernel) = (parameters.ring(), core.ring().kernel());
        let ring = Ring::new(kind, parameters.log_n(), &moduli, kernel)?;
        let tables = |level| {
            let first = q.len();
            let auxiliary = Basis::range(first..first + auxiliary_count(core, level));
            ScaleTables::new(&ring, t, level, auxiliary)
        };
        Ok(Arc::new(Self {
            exact: Arc::clone(exact),
            levels: (0..=top).map(tables).collect::<Result<_, _>>()?,
            ring,
        }))
    }

    /// Joins a context and the usable plaintext prime nearest to 2^bits.
    ///
    /// # Errors
    /// As [`BgvContext::with_plain_bits`] and [`BfvContext::new`].
    pub fn with_plain_bits(context: &Arc<Context>, bits: u32) -> Result<Arc<Self>, Error> {
        Self::new(&BgvContext::with_plain_bits(context, bits)?)
    }

    /// The context of BGV, whose objects and keys these are.
    pub fn exact(&self) -> &Arc<BgvContext> {
        &self.exact
    }

    /// The RLWE context.
    pub fn context(&self) -> &Arc<Context> {
        self.exact.context()
    }

    /// -Q_level mod t: the factor of every ciphertext of a level.
    pub(crate) fn factor(&self, level: usize) -> Result<u64, Error> {
        self.exact.scale_invariant_factor(level)
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(crate) fn tables(&self, level: usize) -> &ScaleTables {
        &self.levels[level]
    }
}

impl std::fmt::Debug for BfvContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BfvContext")
            .field("exact", &self.exact)
            .field(
                "auxiliary_primes",
                &(self.ring.moduli_count() - self.levels.len()),
            )
            .finish()
    }
}

/// Auxiliary primes for products at a level.
///
/// A product is only needed modulo QP: t/P times QP is a multiple of Q. So P has no room for its
/// size, nor for the number of terms.
fn auxiliary_count(context: &Context, level: usize) -> usize {
    let bits = context.parameters().log_q(level) + MARGIN_BITS;
    // Primes next below 2^50.
    (bits / (f64::from(MODULUS_BITS_MAX) - 0.01)).ceil() as usize
}

impl ScaleTables {
    fn new(ring: &Ring, t: u64, level: usize, auxiliary: Basis) -> Result<Self, Error> {
        let own = Basis::range(0..level + 1);
        let product = |basis: &Basis, modulus: Modulus| {
            let residues = basis.iter().map(|i| ring.prime(i).modulus().value());
            residues.fold(1, |product, b| modulus.mul(product, modulus.reduce(b)))
        };
        // The primes of a ring are distinct, so that products have inverses.
        let inverse = |basis: &Basis, modulus: Modulus| {
            let inverse = modulus.inv(product(basis, modulus));
            inverse.expect("a product of other primes is invertible")
        };
        let times_t = |modulus: Modulus, x: u64| modulus.mul(x, modulus.reduce(t));
        let to_auxiliary = |before: &dyn Fn(Modulus) -> u64, after: &dyn Fn(Modulus) -> u64| {
            BaseConverter::with_factors(ring, own.clone(), auxiliary.clone(), before, after)
        };
        let to_own = |before: &dyn Fn(Modulus) -> u64, after: &dyn Fn(Modulus) -> u64| {
            BaseConverter::with_factors(ring, auxiliary.clone(), own.clone(), before, after)
        };
        Ok(Self {
            lift: BaseConverter::new(ring, own.clone(), auxiliary.clone())?,
            scale: to_auxiliary(&|q| product(&auxiliary, q), &|p| p.neg(inverse(&own, p)))?,
            back: to_own(&|_| 1, &|q| times_t(q, inverse(&auxiliary, q)))?,
            remainder: to_own(&|p| p.reduce(t), &|q| q.neg(inverse(&auxiliary, q)))?,
            auxiliary: auxiliary.clone(),
        })
    }
}
