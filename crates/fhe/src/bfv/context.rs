//! A context of exact arithmetic with auxiliary primes for products.

use std::sync::Arc;

use scuro_polyring::{BaseConverter, Basis, MODULUS_BITS_MAX, Multiplier, Ring, primes};

use crate::bgv::BgvContext;
use crate::context::Context;
use crate::error::Error;

/// Most products that are summed before they are scaled.
pub const SUM_TERMS_MAX: usize = 256;

/// A parameter set with a plaintext prime, and the tables of products.
pub struct BfvContext {
    exact: Arc<BgvContext>,
    /// The ring modulo the ciphertext primes and then the auxiliary ones
    ring: Ring,
    levels: Vec<ScaleTables>,
    /// t modulo every prime of the ring
    plain: Vec<Multiplier>,
}

/// From Q_level to round(t x / Q_level).
pub(crate) struct ScaleTables {
    /// From Q_level to the auxiliary primes.
    pub(crate) lift: BaseConverter,
    /// Back.
    pub(crate) lower: BaseConverter,
    /// Ring indices of the auxiliary primes.
    pub(crate) auxiliary: Basis,
    /// Q_level^-1 modulo each.
    pub(crate) inverses: Vec<Multiplier>,
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
        let count = auxiliary_count(core, t, top);
        let auxiliary = primes::ntt_primes(MODULUS_BITS_MAX, order, count, &used)?;
        let moduli: Vec<u64> = q.iter().copied().chain(auxiliary).collect();
        let (kind, kernel) = (parameters.ring(), core.ring().kernel());
        let ring = Ring::new(kind, parameters.log_n(), &moduli, kernel)?;
        let tables = |level| {
            let first = q.len();
            let auxiliary = Basis::range(first..first + auxiliary_count(core, t, level));
            scale_tables(&ring, level, auxiliary)
        };
        let plain = ring.moduli().map(|q| q.multiplier(q.reduce(t)));
        Ok(Arc::new(Self {
            exact: Arc::clone(exact),
            levels: (0..=top).map(tables).collect::<Result<_, _>>()?,
            plain: plain.collect(),
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

    /// t modulo every prime of the ring.
    pub(crate) fn plain_residues(&self) -> &[Multiplier] {
        &self.plain
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

/// Auxiliary primes that hold t/Q times a sum of products.
///
/// Operands are centred, below Q/2. A coefficient of a product has N terms, or 2N in the
/// conjugate-invariant ring, and the middle part is two products: t/Q times that is at most
/// t N Q terms. Half of B must be above, and 2 bits spare keep conversions away from B/2.
fn auxiliary_count(context: &Context, t: u64, level: usize) -> usize {
    let parameters = context.parameters();
    let sum = (parameters.n() as f64 * SUM_TERMS_MAX as f64 * t as f64).log2();
    let bits = parameters.log_q(level) + sum + 3.0;
    // Primes next below 2^50.
    (bits / (f64::from(MODULUS_BITS_MAX) - 0.01)).ceil() as usize
}

fn scale_tables(ring: &Ring, level: usize, auxiliary: Basis) -> Result<ScaleTables, Error> {
    let own = Basis::range(0..level + 1);
    let inverse = |i: usize| {
        let p = ring.prime(i).modulus();
        let residue = |j| p.reduce(ring.prime(j).modulus().value());
        let product = own.iter().fold(1, |product, j| p.mul(product, residue(j)));
        Ok::<_, Error>(p.multiplier(p.inv(product)?))
    };
    Ok(ScaleTables {
        lift: BaseConverter::new(ring, own.clone(), auxiliary.clone())?,
        lower: BaseConverter::new(ring, auxiliary.clone(), own.clone())?,
        inverses: auxiliary.iter().map(inverse).collect::<Result<_, _>>()?,
        auxiliary,
    })
}
