//! Keys that may leave the owner: encryption and evaluation.

use std::collections::BTreeMap;

use rand_core::CryptoRng;
use scuro_polyring::sampling::{Seed, gaussian, ternary};
use scuro_polyring::{Basis, Ntt, Permutation, Poly};
use zeroize::{Zeroize, Zeroizing};

use crate::ckks::{Ciphertext, Plaintext};
use crate::context::Context;
use crate::error::Error;
use crate::key_id::KeyId;
use crate::params::Digest;
use crate::rlwe::{Purpose, SwitchingKey, division, seed};

/// Which evaluation keys a computation needs, each with the highest level at which it is used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyManifest {
    /// Level of the relinearisation key.
    pub relinearization: Option<usize>,
    /// Level of the rotation key of each step.
    pub rotations: BTreeMap<usize, usize>,
    /// Level of the conjugation key (standard ring only).
    pub conjugation: Option<usize>,
    /// Level of the key that relinearises and rotates at once, for each step; used together with
    /// the rotation key of the step.
    pub relinearized_rotations: BTreeMap<usize, usize>,
    /// The public encryption key, for an evaluator that re-randomises what it answers.
    pub public: bool,
}

impl KeyManifest {
    /// Adds what another computation needs: every key at the higher of both levels.
    pub fn include(&mut self, other: &Self) {
        self.relinearization = self.relinearization.max(other.relinearization);
        self.conjugation = self.conjugation.max(other.conjugation);
        self.public |= other.public;
        let raise = |own: &mut BTreeMap<usize, usize>, other: &BTreeMap<usize, usize>| {
            for (&step, &level) in other {
                let own = own.entry(step).or_insert(level);
                *own = level.max(*own);
            }
        };
        raise(&mut self.rotations, &other.rotations);
        raise(
            &mut self.relinearized_rotations,
            &other.relinearized_rotations,
        );
    }
}

/// Relinearisation and rotation keys of one secret key, and the public key where results are
/// re-randomised.
#[derive(Clone)]
pub struct EvaluationKeys {
    pub(crate) key_id: KeyId,
    pub(crate) digest: Digest,
    pub(crate) relinearization: Option<SwitchingKey>,
    pub(crate) rotations: BTreeMap<usize, GaloisKey>,
    pub(crate) conjugation: Option<GaloisKey>,
    /// s^2 -> phi^-1(s)
    pub(crate) relinearized_rotations: BTreeMap<usize, SwitchingKey>,
    pub(crate) public: Option<PublicKey>,
}

/// A switching key s -> phi^-1(s) and phi as a permutation of evaluations.
#[derive(Clone)]
pub(crate) struct GaloisKey {
    pub(crate) key: SwitchingKey,
    pub(crate) permutation: Permutation,
}

impl EvaluationKeys {
    /// Id of the secret key.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Digest of the parameter set.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What is in here.
    pub fn manifest(&self) -> KeyManifest {
        let rotations = self
            .rotations
            .iter()
            .map(|(&step, key)| (step, key.key.level));
        let merged = self
            .relinearized_rotations
            .iter()
            .map(|(&step, key)| (step, key.level));
        KeyManifest {
            relinearization: self.relinearization.as_ref().map(|key| key.level),
            rotations: rotations.collect(),
            conjugation: self.conjugation.as_ref().map(|key| key.key.level),
            relinearized_rotations: merged.collect(),
            public: self.public.is_some(),
        }
    }

    /// Bytes that the keys take in memory.
    pub fn memory_bytes(&self) -> usize {
        let galois = self
            .rotations
            .values()
            .chain(&self.conjugation)
            .map(|key| &key.key);
        let squares = self
            .relinearized_rotations
            .values()
            .chain(&self.relinearization);
        let switching = galois.chain(squares).map(SwitchingKey::memory_bytes);
        let public = self.public.iter().flat_map(|key| [&key.body, &key.mask]);
        switching.sum::<usize>() + public.map(|p| size_of_val(p.words())).sum::<usize>()
    }

    /// The public encryption key.
    ///
    /// # Errors
    /// [`Error::MissingPublicKey`].
    pub fn public_key(&self) -> Result<&PublicKey, Error> {
        self.public.as_ref().ok_or(Error::MissingPublicKey)
    }

    /// The same with the public key, for who re-randomises results that need no such key.
    ///
    /// # Errors
    /// [`Error::KeyMismatch`] for the key of another owner, [`Error::ParameterMismatch`].
    pub fn with_public_key(mut self, public: PublicKey) -> Result<Self, Error> {
        if public.key_id != self.key_id {
            return Err(Error::KeyMismatch {
                found: public.key_id,
                expected: self.key_id,
            });
        }
        if public.digest != self.digest {
            return Err(Error::ParameterMismatch {
                found: public.digest,
                expected: self.digest,
            });
        }
        self.public = Some(public);
        Ok(self)
    }

    pub(crate) fn relinearization_key(&self, level: usize) -> Result<&SwitchingKey, Error> {
        let key = self
            .relinearization
            .as_ref()
            .ok_or(Error::MissingRelinearizationKey)?;
        check_key_level(key, None, level)?;
        Ok(key)
    }

    pub(crate) fn rotation_key(&self, step: usize, level: usize) -> Result<&GaloisKey, Error> {
        let key = self
            .rotations
            .get(&step)
            .ok_or(Error::MissingRotationKey { step })?;
        check_key_level(&key.key, Some(step), level)?;
        Ok(key)
    }

    pub(crate) fn relinearized_rotation_key(
        &self,
        step: usize,
        level: usize,
    ) -> Result<&SwitchingKey, Error> {
        let key = self.relinearized_rotations.get(&step);
        let key = key.ok_or(Error::MissingRelinearizedRotationKey { step })?;
        check_key_level(key, Some(step), level)?;
        Ok(key)
    }

    pub(crate) fn conjugation_key(&self, level: usize) -> Result<&GaloisKey, Error> {
        let key = self
            .conjugation
            .as_ref()
            .ok_or(Error::MissingConjugationKey)?;
        check_key_level(&key.key, None, level)?;
        Ok(key)
    }
}

impl std::fmt::Debug for EvaluationKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let manifest = self.manifest();
        f.debug_struct("EvaluationKeys")
            .field("key_id", &self.key_id)
            .field("manifest", &manifest)
            .finish()
    }
}

fn check_key_level(key: &SwitchingKey, step: Option<usize>, found: usize) -> Result<(), Error> {
    if key.level < found {
        return Err(Error::KeyLevelTooLow {
            step,
            found,
            max: key.level,
        });
    }
    Ok(())
}

/// An encryption key that may be published: an encryption of zero modulo all primes, the special
/// ones included, so that what is encrypted under it can be divided by P.
#[derive(Debug, Clone, PartialEq)]
pub struct PublicKey {
    pub(crate) key_id: KeyId,
    pub(crate) digest: Digest,
    pub(crate) seed: Seed,
    pub(crate) body: Poly<Ntt>,
    pub(crate) mask: Poly<Ntt>,
}

impl PublicKey {
    pub(crate) fn from_body(context: &Context, key_id: KeyId, seed: Seed, body: Poly<Ntt>) -> Self {
        let mask = Self::mask(context, &seed);
        Self {
            key_id,
            digest: context.digest(),
            seed,
            body,
            mask,
        }
    }

    pub(crate) fn mask(context: &Context, seed: &Seed) -> Poly<Ntt> {
        let basis = Self::basis(context);
        seed::uniform(context.ring(), basis, seed, Purpose::PublicKey, 0)
    }

    pub(crate) fn basis(context: &Context) -> Basis {
        context.extended_basis(context.parameters().max_level())
    }

    /// Id of the secret key that decrypts.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Encrypts under the public key.
    ///
    /// Math:  (round((b u + e_0) / P) + m, round((a u + e_1) / P)), u ternary, e Gaussian
    /// Noise: [`crate::noise::NoiseModel::fresh_public`]
    ///
    /// # Errors
    /// [`Error::ParameterMismatch`].
    pub fn encrypt(
        &self,
        context: &Context,
        plaintext: &Plaintext,
        rng: &mut impl CryptoRng,
    ) -> Result<Ciphertext, Error> {
        context.check_digest(plaintext.digest)?;
        let [mut body, mask] = self.zero(context, plaintext.level, rng)?;
        body.add_assign(context.ring(), &plaintext.poly);
        Ok(Ciphertext {
            parts: vec![body, mask],
            level: plaintext.level,
            scale: plaintext.scale,
            key_id: self.key_id,
            digest: self.digest,
        })
    }

    /// A fresh encryption of zero: ((b u + e_0) / P, (a u + e_1) / P), rounded. What u and e leave
    /// of noise vanishes in the division, only its rounding stays.
    pub(crate) fn zero(
        &self,
        context: &Context,
        level: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<[Poly<Ntt>; 2], Error> {
        context.check_digest(self.digest)?;
        let ring = context.ring();
        let mut small = Zeroizing::new(vec![0i8; ring.degree()]);
        ternary(rng, &mut small);
        let basis = context.extended_basis(level);
        let mut u = Poly::from_small(ring, basis.clone(), &small).into_ntt(ring);
        let mut encrypt = |key: &Poly<Ntt>| {
            gaussian(rng, ring.kernel(), &mut small);
            let mut part = Poly::from_small(ring, basis.clone(), &small).into_ntt(ring);
            // The key has a row for every prime of the ring.
            for ((i, out), (_, u)) in part.rows_mut().zip(u.rows()) {
                ring.prime(i).mul_add_assign(out, u, key.limb(i));
            }
            division::in_place(context, part.words_mut(), level, false);
            context.poly(part.words(), level)
        };
        let parts = [encrypt(&self.body), encrypt(&self.mask)];
        // Whoever learns u learns the plaintext.
        u.zeroize();
        Ok(parts)
    }
}
