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
    moves: Option<BlockMoves>,
    element: u64,
    kernel: Kernel,
}

/// Values of a block in transformed polynomials: the exponents of its roots are an arithmetic
/// progression with difference order/64.
const BLOCK: usize = 64;
/// Rows of a block, and lanes of a row.
const SIDE: usize = 8;

/// A permutation that moves whole blocks.
///
/// Math: position 8·r + c of a block belongs to the k-th term of its progression, k = 8·r' + c',
///     with ' for the reversal of three bits. The source of term k is term g·k + s of the source
///     block, that is row g·r' + u and lane (g·c' + s) mod 8 with u = floor((g·c' + s)/8): for all
///     rows the same permutation of lanes, then a rotation of each lane through the rows
#[derive(Clone)]
pub(crate) struct BlockMoves {
    /// source block and s, by block
    pub(crate) blocks: Vec<(u32, u8)>,
    /// by s
    pub(crate) turns: Vec<Turn>,
    /// where row g·r' of what the rotations give goes to, in words
    pub(crate) rows: [usize; SIDE],
}

/// What happens to the lanes of a block.
#[derive(Clone)]
pub(crate) struct Turn {
    /// source lanes
    pub(crate) lanes: [u64; SIDE],
    /// for each bit of u the lanes that have it set
    pub(crate) bits: [u8; 3],
}

/// Reverses three bits.
pub(crate) const fn reversed(x: usize) -> usize {
    (x & 1) << 2 | x & 2 | x >> 2
}

impl BlockMoves {
    /// Describes `table` if it is of that kind for the multiplier `g`.
    fn new(table: &[u32], g: u64) -> Option<Self> {
        if !table.len().is_multiple_of(BLOCK) {
            return None;
        }
        let g = (g % BLOCK as u64) as usize;
        let term = |at: usize| SIDE * reversed(at % BLOCK / SIDE) + reversed(at % SIDE);
        let position = |term: usize| SIDE * reversed(term / SIDE) + reversed(term % SIDE);
        let mut blocks = Vec::with_capacity(table.len() / BLOCK);
        for sources in table.chunks_exact(BLOCK) {
            let first = sources[0] as usize;
            let (block, s) = (first / BLOCK, term(first));
            let source = |at| block * BLOCK + position((g * term(at) + s) % BLOCK);
            if sources
                .iter()
                .enumerate()
                .any(|(at, &from)| from as usize != source(at))
            {
                return None;
            }
            blocks.push((block as u32, s as u8));
        }
        Some(Self {
            blocks,
            turns: (0..BLOCK).map(|s| Turn::new(g, s)).collect(),
            rows: std::array::from_fn(|row| SIDE * reversed(g * row % SIDE)),
        })
    }
}

impl Turn {
    fn new(g: usize, s: usize) -> Self {
        let sum = |lane| g * reversed(lane) + s;
        let turned = |lane: usize, bit: usize| ((sum(lane) / SIDE) >> bit & 1) << lane;
        Self {
            lanes: std::array::from_fn(|lane| reversed(sum(lane) % SIDE) as u64),
            bits: std::array::from_fn(|bit| {
                (0..SIDE).map(|lane| turned(lane, bit)).sum::<usize>() as u8
            }),
        }
    }
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

    /// acc += the image of x, modulo q.
    ///
    /// Shape: as in [`Permutation::apply`]     Bounds: in and out fully reduced
    pub fn add_image(&self, q: Modulus, acc: &mut [u64], x: &[u64]) {
        assert_eq!(
            [acc.len(), x.len()],
            [self.table.len(); 2],
            "slice length differs from the ring degree"
        );
        self.kernel.ops().permute_add(q, acc, x, self);
    }

    /// The image of x as tiles of `tile` words that start `stride` words apart.
    pub(crate) fn scatter(&self, out: &mut [u64], x: &[u64], tile: usize, stride: usize) {
        let n = self.table.len();
        assert_eq!(x.len(), n, "slice length differs from the ring degree");
        assert!(
            tile <= stride && n.is_multiple_of(tile) && out.len() >= (n / tile - 1) * stride + tile,
            "tiles of {tile} words, {stride} apart, in {} words",
            out.len()
        );
        let sizes = [tile, stride];
        self.kernel.ops().permute_tiles(out, x, self, sizes);
    }

    /// For every position where its value comes from; all are below the length of the list.
    pub(crate) fn sources(&self) -> &[u32] {
        &self.table
    }

    /// The same as moves of blocks, for rings of at least one block.
    pub(crate) fn block_moves(&self) -> Option<&BlockMoves> {
        self.moves.as_ref()
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
    let table: Vec<u32> = exponents.iter().map(source).collect();
    Ok(Permutation {
        moves: BlockMoves::new(&table, representative(kind, element, order)),
        table,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;

    #[test]
    fn automorphisms_move_whole_blocks() {
        for kind in [RingKind::Standard, RingKind::ConjugateInvariant] {
            for log_n in [6, 9, 13] {
                let ring = Ring::new(kind, log_n, &[], Kernel::detect()).unwrap();
                for element in [1, 5, 25, 3, ring.conjugation_element()] {
                    let permutation = ring.permutation(element).unwrap();
                    assert!(permutation.block_moves().is_some(), "{kind:?} {element}");
                }
            }
        }
    }
}
