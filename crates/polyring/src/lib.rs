//! Arithmetic in `Z_q[X]/(X^N+1)`: moduli, number-theoretic transforms, residue number systems,
//! samplers.
//!
//! Two rings ([`RingKind`]): the standard one, X^N = -1, and the conjugate-invariant one, the real
//! elements of degree N in X^2N = -1. A [`Ring`] has primes below 2^50, one [`PrimeRing`] each; a
//! [`Poly`] has one row of N residues per prime of its [`Basis`], either coefficients ([`Coeff`])
//! or values at the N roots ([`Ntt`]), where products and automorphisms ([`Permutation`]) act
//! position by position. [`BaseConverter`] takes residues to other primes.
//!
//! Layers: `modulus`, `primes` (scalars) -> `kernel` (slices, the only `unsafe`) -> `ntt`, `ring`
//! -> `poly`, `rns`, `automorphism`; [`slots`] is the floating-point side of encoding.
//!
//! Kernels: `portable` is the specification; `avx2` computes in doubles with fused multiply-add;
//! `avx512ifma` with 52-bit products. One is chosen when a ring is built, all give equal bytes.
//!
//! Safety: a [`Kernel`] value proves that the processor has its instructions; slice lengths are
//! checked by [`PrimeRing`].
//!
//! Evaluation order of the transform: [`Ring::exponents`]; serialised data must not depend on it
//! without a version.
//!
//! Timing: independent of coefficient values, except for the rejection of random words in the
//! samplers, which does not depend on the words that are kept.
//!
//! Non-goals: schemes, encodings, keys, moduli of more than 50 bits, composite or even moduli.

mod automorphism;
mod error;
mod kernel;
mod lanes;
mod modulus;
mod ntt;
mod pairs;
mod poly;
pub mod primes;
mod ring;
mod rns;
pub mod sampling;
pub mod slots;

pub use automorphism::{Permutation, automorphism_coefficients};
pub use error::Error;
pub use kernel::{AlignedBuffer, Kernel};
pub use lanes::{Lanes, ScalarMatrix, TILE};
pub use modulus::{MODULUS_BITS_MAX, Modulus, Multiplier};
pub use pairs::{FactorRow, PairProducts, PairRow, RowFactors, RowPairs};
pub use poly::{Basis, Coeff, Ntt, Poly};
pub use ring::{
    DOT_TERMS_MAX, LOG_DEGREE_MAX, LOG_DEGREE_MIN, PrimeRing, ROTATION_GENERATOR, Ring, RingKind,
};
pub use rns::{BaseConverter, MixedRadix};
