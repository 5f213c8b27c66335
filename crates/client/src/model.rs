//! A compiled model with its encryption parameters: what both sides open.

use std::sync::Arc;

use scuro_fhe::bgv::BgvContext;
use scuro_fhe::keys::KeyManifest;
use scuro_fhe::params::{ParameterSpec, Parameters, SecurityLevel, SecurityTable};
use scuro_fhe::{AnyCiphertext, AnyContext, Context, KeyId};
use scuro_program::{GaloisStep, ParameterPlan, Program, Ring};

use crate::bundle::{Bundle, BundleKind};
use crate::error::Error;
use crate::scheme::{self, plain_modulus};

/// A compiled model, checked, with its encryption parameters.
#[derive(Debug, Clone)]
pub struct Model {
    program: Arc<Program>,
    digest: [u8; 32],
    scheme: AnyContext,
    reply_scale: f64,
    /// Slots after which a reply repeats, if it was traced.
    traced: Option<usize>,
    query_factor: u64,
    score_limit: f64,
}

impl Model {
    /// Opens the bytes of a compiled model.
    ///
    /// # Errors
    /// [`Error::Program`] if the bytes are no program; [`Error::Fhe`] if its parameters are
    /// refused: below the security level, above all.
    pub fn open(bytes: &[u8]) -> Result<Self, Error> {
        Self::new(Program::from_bytes(bytes)?)
    }

    /// A model of a program made in this process.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn new(program: Program) -> Result<Self, Error> {
        let parameters = Parameters::new(parameter_spec(&program.parameters)?)?;
        let digest = program.digest();
        let context = Context::new(parameters)?;
        // A ciphertext of BFV is one of BGV with a factor.
        let scheme = match program.parameters.scheme.plain_bits() {
            None => AnyContext::Approximate(context),
            Some(bits) => AnyContext::Exact(BgvContext::with_plain_bits(&context, bits)?),
        };
        let shapes = program.validate()?;
        let primes = scheme.core().parameters().q();
        let scales = program.scales(&shapes, primes);
        let reply_scale = scales[program.result.0 as usize];
        let factors = |plain| program.factors(&shapes, primes, plain);
        let factors = plain_modulus(&scheme).map(factors);
        Ok(Self {
            query_factor: factors.map_or(1, |factors| factors[0]),
            score_limit: score_limit(&program, reply_scale, plain_modulus(&scheme)),
            digest,
            scheme,
            reply_scale,
            traced: shapes[program.result.0 as usize]
                .traced
                .map(|period| period as usize),
            program: Arc::new(program),
        })
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Encryption parameters with their precomputation: what keys belong to.
    pub fn context(&self) -> &Arc<Context> {
        self.scheme.core()
    }

    /// The scheme with its parameters: what ciphertexts belong to.
    pub fn scheme(&self) -> &AnyContext {
        &self.scheme
    }

    /// Digest of the program: names it in bundles.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Scale of the reply, with the primes as they are.
    pub(crate) fn reply_scale(&self) -> f64 {
        self.reply_scale
    }

    /// What the messages of an exact query are multiplied by modulo the plaintext prime.
    pub(crate) fn query_factor(&self) -> u64 {
        self.query_factor
    }

    /// Slots after which a reply repeats, if nothing else of it is to be read.
    pub(crate) fn traced(&self) -> Option<usize> {
        self.traced
    }

    /// Whether a score of an exact program lies beyond what it was planned for: it may have wrapped
    /// modulo the plaintext prime, and the scores then mean nothing. Those of an approximate
    /// program are judged by their slots, when they are decrypted.
    pub fn out_of_range(&self, scores: &[f64]) -> bool {
        scores.iter().any(|score| score.abs() > self.score_limit)
    }

    /// Most images of one run of the program.
    pub fn images_per_run(&self) -> usize {
        crate::encoding::images_per_run(&self.program)
    }

    /// The evaluation keys that the program needs.
    pub fn key_manifest(&self) -> KeyManifest {
        let keys = &self.program.keys;
        let by_step = |steps: &[GaloisStep]| {
            let steps = steps.iter();
            let pairs = steps.map(|key| (key.step as usize, key.level as usize));
            pairs.collect()
        };
        KeyManifest {
            relinearization: keys.relinearize.map(|level| level as usize),
            rotations: by_step(&keys.galois),
            relinearized_rotations: by_step(&keys.relinearized),
            conjugation: None,
            public: keys.public,
        }
    }

    /// The evaluator's side: the ciphertexts of a query, one list a run of the program.
    ///
    /// # Errors
    /// [`Error::WrongKind`], [`Error::WrongProgram`], [`Error::CiphertextCount`]; [`Error::Fhe`]
    /// for a bad ciphertext.
    pub fn open_query(&self, bundle: &Bundle) -> Result<Vec<Vec<AnyCiphertext>>, Error> {
        self.check(bundle, BundleKind::Query)?;
        let expected = self.program.input.ciphertexts();
        if bundle.group as usize != expected {
            return Err(Error::CiphertextCount {
                found: bundle.group as usize,
                expected,
            });
        }
        bundle.runs().map(|run| self.decode_run(run)).collect()
    }

    /// The evaluator's side: the encrypted weights of a program that withholds them, in its order.
    /// The bytes of each are freed once it is read: all together are gigabytes.
    ///
    /// # Errors
    /// As [`Model::open_query`].
    pub fn open_weights(
        &self,
        bundle: Bundle,
    ) -> Result<impl ExactSizeIterator<Item = Result<AnyCiphertext, scuro_fhe::Error>>, Error> {
        self.check(&bundle, BundleKind::Weights)?;
        let decode = |bytes: Vec<u8>| AnyCiphertext::from_bytes(&bytes, &self.scheme);
        Ok(bundle.ciphertexts.into_iter().map(decode))
    }

    /// The evaluator's side: the key that encrypted weights are under, all that the program has.
    ///
    /// # Errors
    /// As [`Model::check_weights`]; [`Error::CiphertextCount`] for none.
    pub fn weights_key(&self, bundle: &Bundle) -> Result<KeyId, Error> {
        let expected = bundle.ciphertexts.len().max(1);
        let first = bundle.ciphertexts.first();
        let first = first.ok_or(Error::CiphertextCount { found: 0, expected })?;
        let key = AnyCiphertext::from_bytes(first, &self.scheme)?.key_id();
        self.check_weights(bundle, key)?;
        Ok(key)
    }

    /// The owner's side: that encrypted weights are those of this program, all of them, and under
    /// `key`. One at a time: all together are gigabytes.
    ///
    /// # Errors
    /// As [`Model::open_weights`]; [`Error::CiphertextCount`], [`Error::WeightLevel`].
    pub fn check_weights(&self, bundle: &Bundle, key: KeyId) -> Result<(), Error> {
        self.check(bundle, BundleKind::Weights)?;
        let primes = self.context().parameters().q();
        let places = self
            .program
            .weight_places(primes, scheme::plain_modulus(&self.scheme))?;
        let (found, expected) = (bundle.ciphertexts.len(), places.len());
        if found != expected {
            return Err(Error::CiphertextCount { found, expected });
        }
        for (index, (bytes, place)) in bundle.ciphertexts.iter().zip(&places).enumerate() {
            let weight = AnyCiphertext::from_bytes(bytes, &self.scheme)?;
            let (found, expected) = (weight.level(), place.level as usize);
            if found != expected {
                return Err(Error::WeightLevel {
                    index,
                    found,
                    expected,
                });
            }
            let (found, expected) = (weight.key_id(), key);
            if found != expected {
                return Err(scuro_fhe::Error::KeyMismatch { found, expected }.into());
            }
        }
        Ok(())
    }

    /// The evaluator's side: closes its answer to `query`.
    ///
    /// # Errors
    /// As [`Model::reply`].
    pub fn seal_reply(&self, query: &Bundle, runs: &[Vec<AnyCiphertext>]) -> Result<Bundle, Error> {
        self.reply(query.images, runs)
    }

    /// The answer for `images` images, from the results of the runs that they took.
    ///
    /// # Errors
    /// [`Error::CiphertextCount`] if there is no answer, or runs differ in size.
    pub fn reply(&self, images: u32, runs: &[Vec<AnyCiphertext>]) -> Result<Bundle, Error> {
        let group = runs.first().map_or(0, Vec::len);
        let uneven = runs
            .iter()
            .map(Vec::len)
            .find(|&length| length != group || length == 0);
        if uneven.is_some() || runs.is_empty() {
            let found = uneven.unwrap_or(0);
            return Err(Error::CiphertextCount {
                found,
                expected: group.max(1),
            });
        }
        Ok(Bundle {
            kind: BundleKind::Reply,
            program: self.digest,
            images,
            group: group as u32,
            ciphertexts: runs
                .iter()
                .flatten()
                .map(|c| c.to_bytes(&self.scheme))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The ciphertexts of one run.
    pub(crate) fn decode_run(&self, run: &[Vec<u8>]) -> Result<Vec<AnyCiphertext>, Error> {
        let decode = |bytes: &Vec<u8>| AnyCiphertext::from_bytes(bytes, &self.scheme);
        Ok(run.iter().map(decode).collect::<Result<_, _>>()?)
    }

    /// That a bundle goes in the right direction and is for this program.
    pub(crate) fn check(&self, bundle: &Bundle, expected: BundleKind) -> Result<(), Error> {
        if bundle.kind != expected {
            return Err(Error::WrongKind {
                found: bundle.kind,
                expected,
            });
        }
        if bundle.program != self.digest {
            return Err(Error::WrongProgram {
                found: bundle.program,
                expected: self.digest,
            });
        }
        Ok(())
    }
}

/// Largest magnitude of a score.
fn score_limit(program: &Program, reply_scale: f64, plain: Option<u64>) -> f64 {
    let limit = plain.map(|plain| program.exact_limit(reply_scale, plain));
    limit.map_or(f64::INFINITY, |limit| limit * program.output.factor.abs())
}

/// The numbers of a program as a request to the homomorphic library, which makes the primes and
/// checks the bound.
///
/// # Errors
/// [`Error::SecurityLevel`] for a level that no table has.
pub fn parameter_spec(plan: &ParameterPlan) -> Result<ParameterSpec, Error> {
    let level = match plan.security_bits {
        128 => SecurityLevel::Bits128,
        192 => SecurityLevel::Bits192,
        256 => SecurityLevel::Bits256,
        found => return Err(Error::SecurityLevel { found }),
    };
    let ring = match plan.ring {
        Ring::ConjugateInvariant => scuro_fhe::RingKind::ConjugateInvariant,
        Ring::Standard => scuro_fhe::RingKind::Standard,
    };
    let table = match plan.table {
        scuro_program::SecurityTable::Guideline2024 => SecurityTable::Guideline2024,
        scuro_program::SecurityTable::Standard2018 => SecurityTable::Standard2018,
    };
    let (q_bits, p_bits) = (plan.q_bits.clone(), plan.p_bits.clone());
    Ok(ParameterSpec {
        ring,
        log_n: plan.log_n,
        q_bits,
        p_bits,
        digit_limbs: None,
        level,
        table,
    })
}
