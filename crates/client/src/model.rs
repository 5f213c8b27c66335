//! A compiled model with its encryption parameters: what both sides open.

use std::sync::Arc;

use scuro_fhe::Context;
use scuro_fhe::ckks::{Ciphertext, SeededCiphertext};
use scuro_fhe::codec;
use scuro_fhe::keys::KeyManifest;
use scuro_fhe::params::{ParameterSpec, Parameters, SecurityLevel, SecurityTable};
use scuro_program::{ParameterPlan, Program, Ring};

use crate::bundle::{Bundle, BundleKind};
use crate::error::Error;

/// A compiled model, checked, with its encryption parameters.
#[derive(Debug, Clone)]
pub struct Model {
    program: Arc<Program>,
    digest: [u8; 32],
    context: Arc<Context>,
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
        Ok(Self {
            digest,
            context: Context::new(parameters)?,
            program: Arc::new(program),
        })
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Encryption parameters with their precomputation.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Digest of the program: names it in bundles.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Most images of one run of the program.
    pub fn images_per_run(&self) -> usize {
        crate::encoding::images_per_run(&self.program)
    }

    /// The evaluation keys that the program needs.
    pub fn key_manifest(&self) -> KeyManifest {
        let keys = &self.program.keys;
        let rotations = keys
            .galois
            .iter()
            .map(|key| (key.step as usize, key.level as usize));
        KeyManifest {
            relinearization: keys.relinearize.map(|level| level as usize),
            rotations: rotations.collect(),
            ..KeyManifest::default()
        }
    }

    /// The evaluator's side: the ciphertexts of a query, one list a run of the program.
    ///
    /// # Errors
    /// [`Error::WrongKind`], [`Error::WrongProgram`], [`Error::CiphertextCount`]; [`Error::Fhe`]
    /// for a bad ciphertext.
    pub fn open_query(&self, bundle: &Bundle) -> Result<Vec<Vec<Ciphertext>>, Error> {
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

    /// The evaluator's side: closes its answer to `query`.
    ///
    /// # Errors
    /// As [`Model::reply`].
    pub fn seal_reply(&self, query: &Bundle, runs: &[Vec<Ciphertext>]) -> Result<Bundle, Error> {
        self.reply(query.images, runs)
    }

    /// The answer for `images` images, from the results of the runs that they took.
    ///
    /// # Errors
    /// [`Error::CiphertextCount`] if there is no answer, or runs differ in size.
    pub fn reply(&self, images: u32, runs: &[Vec<Ciphertext>]) -> Result<Bundle, Error> {
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
                .map(|c| c.to_bytes(&self.context))
                .collect(),
        })
    }

    /// The ciphertexts of one run.
    pub(crate) fn decode_run(&self, run: &[Vec<u8>]) -> Result<Vec<Ciphertext>, Error> {
        run.iter().map(|bytes| self.decode(bytes)).collect()
    }

    /// A ciphertext, seeded or written out.
    fn decode(&self, bytes: &[u8]) -> Result<Ciphertext, Error> {
        let description = codec::describe(bytes).map_err(scuro_fhe::Error::from)?;
        if description.kind == codec::Kind::SeededCiphertext {
            let seeded = SeededCiphertext::from_bytes(bytes, &self.context)?;
            return Ok(seeded.expand(&self.context)?);
        }
        Ok(Ciphertext::from_bytes(bytes, &self.context)?)
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
