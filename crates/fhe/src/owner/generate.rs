//! Generation of public and evaluation keys.

use std::convert::Infallible;
use std::sync::Arc;

use rand_core::CryptoRng;
use scuro_polyring::{Ntt, Poly, RingKind};
use zeroize::Zeroize;

use super::SecretKey;
use super::encrypt::noise;
use crate::context::Context;
use crate::error::Error;
use crate::keys::{EvaluationKeys, GaloisKey, KeyManifest, PublicKey};
use crate::rlwe::{SwitchingKey, seed};

/// Makes the keys that others compute with.
#[derive(Debug)]
pub struct KeyGenerator<'a> {
    context: Arc<Context>,
    secret: &'a SecretKey,
}

impl<'a> KeyGenerator<'a> {
    /// A generator for `secret`.
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn new(context: &Arc<Context>, secret: &'a SecretKey) -> Result<Self, Error> {
        secret.check(context)?;
        Ok(Self {
            context: Arc::clone(context),
            secret,
        })
    }

    /// The public encryption key.
    pub fn public_key(&self, rng: &mut impl CryptoRng) -> PublicKey {
        let context = &*self.context;
        let seed = seed::draw(rng);
        let mask = PublicKey::mask(context, &seed);
        let mut body = noise(context, mask.basis().clone(), rng);
        subtract(context, &mut body, &mask, &self.secret.poly);
        PublicKey {
            key_id: self.secret.key_id,
            digest: context.digest(),
            seed,
            body,
            mask,
        }
    }

    /// The evaluation keys of a manifest, each only up to its level.
    ///
    /// # Errors
    /// [`Error::LevelTooHigh`]; [`Error::IndexOutOfRange`] for a step of no meaning;
    /// [`Error::RealSlotsOnly`] for conjugation in the conjugate-invariant ring.
    pub fn evaluation_keys(
        &self,
        manifest: &KeyManifest,
        rng: &mut impl CryptoRng,
    ) -> Result<EvaluationKeys, Error> {
        check_manifest(&self.context, manifest)?;
        let relinearization = manifest
            .relinearization
            .map(|level| self.relinearization(level, rng));
        let rotations = manifest.rotations.iter().map(|(&step, &level)| {
            let element = self.context.ring().rotation_element(step as i64);
            let inverse = self.context.ring().rotation_element(-(step as i64));
            Ok((step, self.galois(element, inverse, level, rng)?))
        });
        let rotations = rotations.collect::<Result<_, Error>>()?;
        let merged = manifest
            .relinearized_rotations
            .iter()
            .map(|(&step, &level)| Ok((step, self.relinearized_rotation(step, level, rng)?)));
        let relinearized_rotations = merged.collect::<Result<_, Error>>()?;
        let element = self.context.ring().conjugation_element();
        let conjugation = manifest
            .conjugation
            .map(|level| self.galois(element, element, level, rng));
        Ok(EvaluationKeys {
            key_id: self.secret.key_id,
            digest: self.context.digest(),
            relinearization,
            rotations,
            conjugation: conjugation.transpose()?,
            relinearized_rotations,
            public: manifest.public.then(|| self.public_key(rng)),
        })
    }

    /// s^2 -> s.
    fn relinearization(&self, level: usize, rng: &mut impl CryptoRng) -> SwitchingKey {
        let mut square = self.secret.poly.clone();
        square.mul_assign(self.context.ring(), &self.secret.poly);
        let key = self.switching_key(&square, &self.secret.poly, level, rng);
        square.zeroize();
        key
    }

    /// s^2 -> phi^-1(s).
    fn relinearized_rotation(
        &self,
        step: usize,
        level: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<SwitchingKey, Error> {
        let ring = self.context.ring();
        let inverse = ring.permutation(ring.rotation_element(-(step as i64)))?;
        let mut square = self.secret.poly.clone();
        square.mul_assign(ring, &self.secret.poly);
        let mut target = self.secret.poly.permuted(ring, &inverse);
        let key = self.switching_key(&square, &target, level, rng);
        square.zeroize();
        target.zeroize();
        Ok(key)
    }

    /// s -> phi^-1(s), with phi.
    fn galois(
        &self,
        element: u64,
        inverse: u64,
        level: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<GaloisKey, Error> {
        let ring = self.context.ring();
        let mut target = self.secret.poly.permuted(ring, &ring.permutation(inverse)?);
        let key = self.switching_key(&self.secret.poly, &target, level, rng);
        target.zeroize();
        Ok(GaloisKey {
            key,
            permutation: ring.permutation(element)?,
        })
    }

    /// Both secrets over all primes.
    fn switching_key(
        &self,
        source: &Poly<Ntt>,
        target: &Poly<Ntt>,
        level: usize,
        rng: &mut impl CryptoRng,
    ) -> SwitchingKey {
        let context = &*self.context;
        let seed = seed::draw(rng);
        let digit_limbs = context.parameters().digit_limbs();
        let count = context.parameters().digit_count(level);
        let parts = |digit| {
            let mask = SwitchingKey::mask(context, &seed, level, digit);
            let mut body = noise(context, mask.basis().clone(), rng);
            subtract(context, &mut body, &mask, target);
            let own = digit * digit_limbs..((digit + 1) * digit_limbs).min(level + 1);
            for row in own {
                let factor = context.special_residue(row);
                let prime = context.ring().prime(row);
                prime.mul_scalar_add_assign(body.limb_mut(row), source.limb(row), factor);
            }
            Ok::<_, Infallible>([body, mask])
        };
        let Ok(key) = SwitchingKey::from_parts(context, seed, level, (0..count).map(parts));
        key
    }
}

/// body -= mask * secret; `secret` has a row for every prime of the ring.
fn subtract(context: &Context, body: &mut Poly<Ntt>, mask: &Poly<Ntt>, secret: &Poly<Ntt>) {
    let ring = context.ring();
    body.neg_assign(ring);
    for ((i, out), (_, mask)) in body.rows_mut().zip(mask.rows()) {
        ring.prime(i).mul_add_assign(out, mask, secret.limb(i));
    }
    body.neg_assign(ring);
}

fn check_manifest(context: &Context, manifest: &KeyManifest) -> Result<(), Error> {
    let single = manifest.relinearization.iter().chain(&manifest.conjugation);
    let steps = || {
        manifest
            .rotations
            .iter()
            .chain(&manifest.relinearized_rotations)
    };
    for &level in single.chain(steps().map(|(_, level)| level)) {
        context.check_level(level)?;
    }
    let bound = context.parameters().slots();
    let outside = steps().find(|&(&step, _)| step == 0 || step >= bound);
    if let Some((&found, _)) = outside {
        return Err(Error::IndexOutOfRange {
            what: "rotation step",
            found,
            bound,
        });
    }
    let real = context.parameters().ring() == RingKind::ConjugateInvariant;
    if manifest.conjugation.is_some() && real {
        return Err(Error::RealSlotsOnly);
    }
    Ok(())
}
