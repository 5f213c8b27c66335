//! The errors of this crate: all are mistakes in parameters, none depends on coefficient values.

use thiserror::Error;

/// What can be wrong with a modulus, a ring, a basis or a kernel choice.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The modulus is even, below 3, or not below 2^50.
    #[error("modulus {found} is not an odd number between 3 and 2^50")]
    ModulusOutOfRange {
        /// The refused modulus.
        found: u64,
    },
    /// The modulus is not prime.
    #[error("modulus {found} is not prime")]
    ModulusNotPrime {
        /// The refused modulus.
        found: u64,
    },
    /// The modulus has no primitive root of unity of the order that the transform needs.
    #[error("modulus {modulus} is not 1 modulo {order}, so the transform has no root of unity")]
    NoRootOfUnity {
        /// The refused modulus.
        modulus: u64,
        /// The order of the root of unity that is missing.
        order: u64,
    },
    /// The same modulus was given twice.
    #[error("modulus {found} appears twice")]
    ModulusRepeated {
        /// The repeated modulus.
        found: u64,
    },
    /// The ring degree is outside the supported range.
    #[error("ring degree 2^{found} is outside 2^{min} to 2^{max}")]
    DegreeOutOfRange {
        /// Base-two logarithm of the refused degree.
        found: u32,
        /// Smallest accepted logarithm.
        min: u32,
        /// Largest accepted logarithm.
        max: u32,
    },
    /// Fewer primes of the wanted shape exist than were asked for.
    #[error("only {found} of {expected} primes near 2^{bits} are 1 modulo {multiple_of}")]
    TooFewPrimes {
        /// Wanted size in bits.
        bits: u32,
        /// The primes must be 1 modulo this.
        multiple_of: u64,
        /// How many were asked for.
        expected: usize,
        /// How many exist in the searched window.
        found: usize,
    },
    /// A prime size outside the supported range was asked for.
    #[error("prime size of {found} bits is outside {min} to {max}")]
    PrimeSizeOutOfRange {
        /// The refused size.
        found: u32,
        /// Smallest accepted size.
        min: u32,
        /// Largest accepted size.
        max: u32,
    },
    /// No kernel of that name exists.
    #[error("no kernel is named {found:?}; known: portable, avx2, avx512ifma")]
    UnknownKernel {
        /// The refused name.
        found: String,
    },
    /// The kernel exists, but this processor cannot run it.
    #[error("this processor cannot run the {kernel} kernel")]
    KernelUnavailable {
        /// The kernel that was asked for.
        kernel: &'static str,
    },
    /// A Galois element is even or not below the order of the root of unity.
    #[error("{found} is not an odd Galois element below {order}")]
    NotAGaloisElement {
        /// The refused element.
        found: u64,
        /// The order of the root of unity of the ring.
        order: u64,
    },
    /// A basis names a modulus that the ring does not have.
    #[error("basis names modulus {found}, but the ring has {moduli}")]
    BasisOutOfRange {
        /// The refused index.
        found: usize,
        /// Number of moduli of the ring.
        moduli: usize,
    },
    /// Two bases share a modulus or one of them is empty.
    #[error("base conversion needs non-empty, disjoint bases")]
    BasesNotDisjoint,
    /// A value is zero modulo a prime, where an inverse is needed.
    #[error("{value} has no inverse modulo {modulus}")]
    NotInvertible {
        /// The value without inverse.
        value: u64,
        /// The modulus.
        modulus: u64,
    },
}
