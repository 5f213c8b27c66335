//! Automorphisms X -> X^g. On values at roots they are permutations: the image at ψ^e is the
//! original at ψ^(g·e).

use crate::error::Error;
use crate::kernel::Kernel;
use crate::modulus::Modulus;
use crate::ring::RingKind;

/// An automorphism as a permutation of transformed polynomials, the same for every modulus.
#[derive(Clone)]
pub struct Permutation {
    table: Vec<u32>,
    element: u64,
    kernel: Kernel,
}

impl Permutation {
    /// out = the image of x.
    ///
    /// Shape: N values each, in evaluation order; panics on another length
    pub fn apply(&self, out: &mut [u64], x: &[u64]) {
        assert_eq!(
            x.len(),
            self.table.len(),
            "slice length differs from the ring degree"
        );
        assert_eq!(
            out.len(),
            self.table.len(),
            "slice length differs from the ring degree"
        );
        self.kernel.ops().permute(out, x, self);
    }

    /// For every position where its value comes from; all are below the length of the list.
    pub(crate) fn sources(&self) -> &[u32] {
        &self.table
    }

    /// The exponent g of X -> X^g.
    pub fn element(&self) -> u64 {
        self.element
    }
}

pub(crate) fn galois_permutation(
    kind: RingKind,
    log_n: u32,
    exponents: &[u32],
    element: u64,
    kernel: Kernel,
) -> Result<Permutation, Error> {
    let order = kind.root_order(log_n);
    if element & 1 == 0 || element >= order {
        return Err(Error::NotAGaloisElement {
            found: element,
            order,
        });
    }
    let mut position = vec![0; order as usize];
    for (at, &exponent) in exponents.iter().enumerate() {
        position[exponent as usize] = at as u32;
    }
    let source = |&exponent: &u32| {
        let image = u64::from(exponent) * element % order;
        position[representative(kind, image, order) as usize]
    };
    Ok(Permutation {
        table: exponents.iter().map(source).collect(),
        element,
        kernel,
    })
}

/// In the conjugate-invariant ring ψ^e and ψ^-e give the same value, and the one with e = 1 mod 4
/// is kept.
fn representative(kind: RingKind, exponent: u64, order: u64) -> u64 {
    match kind {
        RingKind::ConjugateInvariant if exponent % 4 == 3 => order - exponent,
        _ => exponent,
    }
}

/// The automorphism X -> X^element on coefficients.
///
/// Shape:  N coefficients each; panics on another length of `out`
/// Math:   standard: X^i -> ±X^(g·i mod N); conjugate-invariant: X^i + X^-i -> ±(X^j + X^-j), with
///     the sign from X^2N = -1
pub fn automorphism_coefficients(
    kind: RingKind,
    modulus: Modulus,
    element: u64,
    out: &mut [u64],
    x: &[u64],
) {
    let n = x.len() as u64;
    assert_eq!(
        out.len(),
        x.len(),
        "slice length differs from the ring degree"
    );
    for (i, &value) in x.iter().enumerate() {
        let (at, negative) = match kind {
            RingKind::Standard => {
                let power = i as u64 * element % (2 * n);
                (power % n, power >= n)
            }
            RingKind::ConjugateInvariant => {
                // X^(2N-j) + X^-(2N-j) = -(X^j + X^-j), and X^(2N+j) = -X^j.
                let power = i as u64 * element % (4 * n);
                match power / n {
                    0 => (power, false),
                    1 => (2 * n - power, true),
                    2 => (power - 2 * n, true),
                    _ => (4 * n - power, false),
                }
            }
        };
        out[at as usize] = if negative { modulus.neg(value) } else { value };
    }
}
