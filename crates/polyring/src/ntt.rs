//! Number-theoretic transforms modulo one prime.
//!
//! Standard ring: Z_q[X]/(X^N + 1), q = 1 mod 2N. Conjugate-invariant ring: the elements a_0 +
//! Σ_{0<i<N} a_i (X^i + X^-i) of Z_q[X]/(X^2N + 1), q = 1 mod 4N. With ψ a root of unity of order
//! 2N or 4N, both transforms evaluate modulo X^N - ψ^N: the first because ψ^N = -1, the second
//! after the fold b_j = a_j - ψ^N·a_{N-j}, which uses X^-j = ψ^-N·X^{N-j} there. The roots are ψ^e,
//! with e odd below 2N, or e = 1 mod 4 below 4N.

use crate::error::Error;
use crate::kernel::{Kernel, NttTables, TwiddleTree};
use crate::modulus::{Modulus, Multiplier};
use crate::ring::RingKind;

/// Blocks of this many outputs are stored transposed as 8x8 matrices.
const BLOCK: usize = 64;

/// The transform of one ring modulo one prime, with constants laid out for one kernel.
#[derive(Clone)]
pub(crate) struct NttPlan {
    modulus: Modulus,
    kernel: Kernel,
    tables: NttTables,
    /// ψ^N, for the conjugate-invariant ring only
    fold: Option<Multiplier>,
}

impl NttPlan {
    pub(crate) fn new(
        modulus: Modulus,
        kind: RingKind,
        log_n: u32,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        let order = kind.root_order(log_n);
        let psi = modulus.root_of_unity(order)?;
        let n = 1u64 << log_n;
        let scale = match kind {
            RingKind::Standard => modulus.inv(n)?,
            RingKind::ConjugateInvariant => modulus.inv(2 * n)?,
        };
        let (forward, inverse) = twiddles(modulus, log_n, order, psi);
        let tree = TwiddleTree {
            modulus,
            forward,
            inverse,
            scale,
        };
        let fold = match kind {
            RingKind::Standard => None,
            RingKind::ConjugateInvariant => Some(modulus.multiplier(modulus.pow(psi, n))),
        };
        Ok(Self {
            modulus,
            kernel,
            tables: kernel.ops().ntt_tables(&tree),
            fold,
        })
    }

    pub(crate) fn forward(&self, values: &mut [u64]) {
        self.kernel.ops().forward(self, values);
    }

    pub(crate) fn forward_lifted(&self, out: &mut [u64], x: &[u64], source: Modulus) {
        self.kernel.ops().forward_lifted(self, out, x, source);
    }

    pub(crate) fn inverse(&self, values: &mut [u64]) {
        self.kernel.ops().inverse(self, values);
    }

    pub(crate) fn inverse_from(&self, out: &mut [u64], x: &[u64]) {
        self.kernel.ops().inverse_from(self, out, x);
    }

    pub(crate) fn tables(&self) -> &NttTables {
        &self.tables
    }

    pub(crate) fn modulus(&self) -> Modulus {
        self.modulus
    }

    /// The constants from node `node` on, as pairs for 64-bit words.
    pub(crate) fn forward_pairs(&self, node: usize) -> impl Iterator<Item = Multiplier> + '_ {
        pairs(&self.tables.forward[2 * node..])
    }

    pub(crate) fn inverse_pairs(&self, node: usize) -> impl Iterator<Item = Multiplier> + '_ {
        pairs(&self.tables.inverse[2 * node..])
    }

    /// The scale, and the constant of the last inverse stage times the scale.
    pub(crate) fn inverse_scale(&self) -> (Multiplier, Multiplier) {
        let pair = |at: usize| Multiplier::from_parts(&self.tables.inverse[at..at + 2]);
        (pair(0), pair(2))
    }

    /// ψ^N in the conjugate-invariant ring, nothing in the standard one.
    pub(crate) fn fold_root(&self) -> Option<Multiplier> {
        self.fold
    }
}

fn pairs(table: &[u64]) -> impl Iterator<Item = Multiplier> + '_ {
    table.chunks_exact(2).map(Multiplier::from_parts)
}

/// ψ^(E/2) for every node of the splitting tree, and its inverse, where the node is X^{2t} - ψ^E.
fn twiddles(modulus: Modulus, log_n: u32, order: u64, psi: u64) -> (Vec<u64>, Vec<u64>) {
    let n = 1usize << log_n;
    let mut powers = Vec::with_capacity(order as usize);
    let mut power = 1;
    for _ in 0..order {
        powers.push(power);
        power = modulus.mul(power, psi);
    }
    let exponents = node_exponents(log_n, order);
    let mut forward = vec![1; n];
    let mut inverse = vec![1; n];
    for node in 1..n {
        let half = exponents[node] / 2;
        forward[node] = powers[half as usize];
        inverse[node] = powers[((order - half) % order) as usize];
    }
    (forward, inverse)
}

/// The exponent E of every node X^{n/m} - ψ^E: index m + i for the i-th of m factors, m up to n
/// (the leaves).
fn node_exponents(log_n: u32, order: u64) -> Vec<u64> {
    let n = 1usize << log_n;
    let mut exponents = vec![0; 2 * n];
    exponents[1] = n as u64;
    for node in 1..n {
        exponents[2 * node] = exponents[node] / 2;
        exponents[2 * node + 1] = exponents[node] / 2 + order / 2;
    }
    exponents
}

/// For every position of a transformed polynomial the exponent e of the root ψ^e that it belongs
/// to.
pub(crate) fn evaluation_exponents(kind: RingKind, log_n: u32) -> Vec<u32> {
    let n = 1usize << log_n;
    let exponents = node_exponents(log_n, kind.root_order(log_n));
    let mut leaves: Vec<u64> = exponents[n..].to_vec();
    transpose_blocks(&mut leaves);
    leaves.into_iter().map(|exponent| exponent as u32).collect()
}

/// Transposes every block of 64 as an 8x8 matrix; shorter transforms keep bit-reversed order.
///
/// Eight-lane kernels do the last three stages on columns, and leaving the result in that form
/// saves them one transposition.
pub(crate) fn transpose_blocks(values: &mut [u64]) {
    for block in values.chunks_exact_mut(BLOCK) {
        for row in 0..8 {
            for column in 0..row {
                block.swap(8 * row + column, 8 * column + row);
            }
        }
    }
}
