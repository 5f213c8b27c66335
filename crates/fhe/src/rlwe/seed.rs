//! Uniform polynomials from seeds.

use rand_core::CryptoRng;
use scuro_polyring::sampling::{Seed, Xof};
use scuro_polyring::{Basis, Ntt, Poly, Ring};

/// What a seed is used for; part of the stream's domain, so that no two purposes share a stream
/// even if a seed were repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The uniform part of a fresh ciphertext.
    Ciphertext,
    /// The uniform part of the public key.
    PublicKey,
    /// The uniform part of one digit of a switching key.
    SwitchingKey,
    /// A mask that cancels in a sum.
    Mask,
}

impl Purpose {
    fn domain(self) -> &'static str {
        match self {
            Self::Ciphertext => "scuro fhe ciphertext uniform part",
            Self::PublicKey => "scuro fhe public key uniform part",
            Self::SwitchingKey => "scuro fhe switching key uniform part",
            Self::Mask => "scuro fhe pairwise mask",
        }
    }
}

/// A fresh seed.
pub(crate) fn draw(rng: &mut impl CryptoRng) -> Seed {
    let mut seed = Seed::default();
    rng.fill_bytes(&mut seed);
    seed
}

/// The uniform polynomial number `index` of `seed`, in evaluation form.
///
/// The stream of a row depends on the row's modulus and not on the basis, so a key cut to a lower
/// level expands to the same rows.
pub(crate) fn uniform(
    ring: &Ring,
    basis: Basis,
    seed: &Seed,
    purpose: Purpose,
    index: usize,
) -> Poly<Ntt> {
    let mut poly = Poly::recycled(ring, basis);
    for (i, row) in poly.rows_mut() {
        let stream = (index as u64) << 32 | i as u64;
        Xof::new(seed, purpose.domain(), stream).uniform(ring.prime(i).modulus(), row);
    }
    poly
}
