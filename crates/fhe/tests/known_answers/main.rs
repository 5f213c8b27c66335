//! Ciphertexts, products, switches and rotations against Microsoft SEAL (`vectors/`).

mod ckks;
mod exact;

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use scuro_fhe::Context;
use scuro_fhe::codec::{CHECKSUM_BYTES, HEADER_BYTES};
use scuro_fhe::owner::SecretKey;
use scuro_polyring::{Coeff, Ntt, Poly};
use scuro_testkit::vectors::Limbs;

/// Bytes of the key id that leads the content of a secret key.
const KEY_ID_BYTES: usize = 16;

/// Puts SEAL's secret into a key of ours, through the key file.
fn foreign_secret(context: &Arc<Context>, coefficients: &[i8]) -> SecretKey {
    let own = SecretKey::generate(context, &mut ChaCha20Rng::seed_from_u64(2));
    let mut bytes = own.to_bytes().to_vec();
    bytes.truncate(HEADER_BYTES + KEY_ID_BYTES);
    let byte = |four: &[i8]| {
        four.iter()
            .enumerate()
            .fold(0, |byte, (i, &c)| byte | ((c + 1) as u8) << (2 * i))
    };
    bytes.extend(coefficients.chunks_exact(4).map(byte));
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
    SecretKey::from_bytes(&bytes, context).expect("the key file is well formed")
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

/// The polynomial over the first primes with these coefficients.
fn from_coefficients(context: &Context, limbs: &Limbs) -> Poly<Ntt> {
    let mut poly = Poly::<Coeff>::zero(context.ring(), context.basis(limbs.len() - 1));
    for (row, limb) in limbs.iter().enumerate() {
        poly.limb_mut(row).copy_from_slice(limb);
    }
    poly.into_ntt(context.ring())
}

fn coefficients(context: &Context, poly: &Poly<Ntt>) -> Limbs {
    let poly = poly.clone().into_coeff(context.ring());
    poly.rows().map(|(_, row)| row.to_vec()).collect()
}
