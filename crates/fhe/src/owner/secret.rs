//! The secret key.

use rand_core::CryptoRng;
use scuro_polyring::sampling::ternary;
use scuro_polyring::{Ntt, Poly};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::context::Context;
use crate::error::Error;
use crate::key_id::KeyId;
use crate::params::Digest;

/// A uniform ternary secret. Not `Clone`, redacted in `Debug`, zeroised on drop.
pub struct SecretKey {
    pub(crate) key_id: KeyId,
    pub(crate) digest: Digest,
    pub(crate) coefficients: Zeroizing<Vec<i8>>,
    /// s over all primes, in evaluation form
    pub(crate) poly: Poly<Ntt>,
}

impl SecretKey {
    /// Draws a secret key and its public id.
    pub fn generate(context: &Context, rng: &mut impl CryptoRng) -> Self {
        let key_id = KeyId::random(rng);
        let mut coefficients = Zeroizing::new(vec![0i8; context.parameters().n()]);
        ternary(rng, &mut coefficients);
        Self::from_coefficients(context, key_id, coefficients)
    }

    pub(crate) fn from_coefficients(
        context: &Context,
        key_id: KeyId,
        coefficients: Zeroizing<Vec<i8>>,
    ) -> Self {
        let ring = context.ring();
        let basis = context.extended_basis(context.parameters().max_level());
        let poly = Poly::from_small(ring, basis, &coefficients).into_ntt(ring);
        Self {
            key_id,
            digest: context.digest(),
            coefficients,
            poly,
        }
    }

    /// Its public id.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    pub(crate) fn check(&self, context: &Context) -> Result<(), Error> {
        context.check_digest(self.digest)
    }

    /// part += x s, on the rows of `part`.
    pub(crate) fn mul_add(&self, context: &Context, part: &mut Poly<Ntt>, x: &Poly<Ntt>) {
        let ring = context.ring();
        for ((i, out), (_, x)) in part.rows_mut().zip(x.rows()) {
            ring.prime(i).mul_add_assign(out, x, self.poly.limb(i));
        }
    }
}

impl ConstantTimeEq for SecretKey {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        let bytes = |key: &Self| -> Zeroizing<Vec<u8>> {
            Zeroizing::new(key.coefficients.iter().map(|&c| c as u8).collect())
        };
        self.key_id.0.ct_eq(&other.key_id.0) & bytes(self).ct_eq(&bytes(other))
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.poly.zeroize();
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({}, redacted)", self.key_id)
    }
}
