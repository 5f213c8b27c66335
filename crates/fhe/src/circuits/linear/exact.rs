//! Linear maps on integers modulo t: the same sums on the same keys, for [`crate::bgv`].
//!
//! Rotations turn each row of slots in itself, so in the standard ring a map acts on both rows,
//! each with its own values of a diagonal.

use std::collections::BTreeSet;

use super::encrypted::{self, QUERIES_MAX};
use super::prepare::{Shape, Source};
use super::{Diagonal, Operand};
use crate::bgv::{BgvContext, Ciphertext, Encoder, Evaluator, Plaintext};
use crate::ckks;
use crate::error::Error;
use crate::keys::{EvaluationKeys, KeyManifest};
use crate::params::Digest;

/// A linear map as a list of diagonals of integers, which count modulo t.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LinearTransform {
    /// Number of input ciphertexts.
    pub inputs: usize,
    /// Number of output ciphertexts.
    pub outputs: usize,
    /// The diagonals; several with the same place are added.
    pub diagonals: Vec<Diagonal<i64>>,
}

impl LinearTransform {
    /// Rotation steps that need a key, at the level of the transform.
    pub fn rotation_steps(&self) -> BTreeSet<usize> {
        let diagonals = self.diagonals.iter();
        let steps = diagonals.flat_map(|diagonal| [diagonal.giant, diagonal.baby]);
        steps.filter(|&step| step != 0).collect()
    }

    /// Encodes the diagonals at `level`.
    ///
    /// # Errors
    /// As [`super::LinearTransform::prepare`].
    pub fn prepare(&self, encoder: &Encoder, level: usize) -> Result<PreparedTransform, Error> {
        let context = encoder.context();
        let t = context.plain_modulus();
        let source = Source {
            context: context.context(),
            shape: Shape {
                inputs: self.inputs,
                outputs: self.outputs,
                rows: context.rows(),
            },
            diagonals: &self.diagonals,
        };
        let add = |sum: &mut i64, value| {
            *sum = t.centre(t.add(t.reduce_signed(*sum), t.reduce_signed(value)));
        };
        let encode = |values: &[i64], basis| encoder.polynomial(values, 1, basis);
        Ok(PreparedTransform {
            core: source.prepare(level, 1.0, add, encode)?,
            digest: context.digest(),
        })
    }
}

/// A linear map with its diagonals encoded at one level.
pub struct PreparedTransform {
    core: super::PreparedTransform,
    digest: Digest,
}

impl PreparedTransform {
    /// Level of inputs and outputs.
    pub fn level(&self) -> usize {
        self.core.level()
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.core.outputs()
    }

    /// Bytes of the encoded diagonals.
    pub fn memory_bytes(&self) -> usize {
        self.core.memory_bytes()
    }

    /// All outputs; `switch` takes the last prime along in the division by P, as
    /// [`Evaluator::mod_switch`] does.
    ///
    /// Level: l, or l -> l - 1     Factor: unchanged, or divided by q_l
    ///
    /// # Errors
    /// [`Error::FactorMismatch`] between inputs; else as [`super::PreparedTransform::apply`].
    pub fn apply(
        &self,
        evaluator: &Evaluator,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
        switch: bool,
    ) -> Result<Vec<Ciphertext>, Error> {
        evaluator.context().check_digest(self.digest)?;
        let factor = common_factor(evaluator, inputs)?;
        let inputs: Vec<&ckks::Ciphertext> = inputs.iter().map(|input| &input.rlwe).collect();
        let core = evaluator.core();
        let outputs = match switch {
            false => self.core.apply(core, &inputs, keys)?,
            true => self.core.apply_rescaled(core, &inputs, keys)?,
        };
        let exact = |rlwe| evaluator.exact(rlwe, factor, switch);
        Ok(outputs.into_iter().map(exact).collect())
    }
}

/// One encrypted diagonal of one output, as [`encrypted::EncryptedDiagonal`].
#[derive(Debug, Clone, PartialEq)]
pub struct EncryptedDiagonal {
    /// Input ciphertext.
    pub input: usize,
    /// Rotation after the product.
    pub giant: usize,
    /// Rotation of the input before the product.
    pub baby: usize,
    /// The diagonal rotated by -giant, encrypted; two parts.
    pub weights: Ciphertext,
}

/// A linear map with encrypted diagonals of one level, factor and key.
pub struct EncryptedTransform {
    core: encrypted::EncryptedTransform,
    factor: u64,
    digest: Digest,
}

impl EncryptedTransform {
    /// Lays out the diagonals of each output.
    ///
    /// # Errors
    /// [`Error::FactorMismatch`] between weights; else as
    /// [`encrypted::EncryptedTransform::new`].
    pub fn new(
        context: &BgvContext,
        inputs: usize,
        outputs: Vec<Vec<EncryptedDiagonal>>,
    ) -> Result<Self, Error> {
        let mut factor = None;
        for EncryptedDiagonal { weights, .. } in outputs.iter().flatten() {
            context.check_digest(weights.digest())?;
            let left = *factor.get_or_insert(weights.factor());
            check_factors(left, weights.factor())?;
        }
        let strip = |diagonal: EncryptedDiagonal| encrypted::EncryptedDiagonal {
            input: diagonal.input,
            giant: diagonal.giant,
            baby: diagonal.baby,
            weights: diagonal.weights.rlwe,
        };
        let strip_all = |list: Vec<_>| list.into_iter().map(strip).collect();
        let outputs = outputs.into_iter().map(strip_all).collect();
        // Products of ciphertexts are multiplied by t, weights beforehand.
        let factors = Some(context.plain_residues());
        let core = context.context();
        Ok(Self {
            core: encrypted::EncryptedTransform::with_factors(core, inputs, outputs, factors)?,
            factor: factor.unwrap_or(1),
            digest: context.digest(),
        })
    }

    /// Level of inputs and outputs.
    pub fn level(&self) -> usize {
        self.core.level()
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.core.outputs()
    }

    /// As [`encrypted::EncryptedTransform::operands`].
    pub fn operands(&self) -> &[Operand] {
        self.core.operands()
    }

    /// Bytes of the weights.
    pub fn memory_bytes(&self) -> usize {
        self.core.memory_bytes()
    }

    /// The keys that [`EncryptedTransform::apply`] needs.
    pub fn key_manifest(&self) -> KeyManifest {
        self.core.key_manifest()
    }

    /// The keys that [`EncryptedTransform::apply_plain_inputs`] needs.
    pub fn plain_key_manifest(&self) -> KeyManifest {
        self.core.plain_key_manifest()
    }

    /// All outputs for one query; `switch` takes the last prime along in the division by P.
    ///
    /// Level: l, or l -> l - 1     Factor: product with the weights', divided by q_l if `switch`
    ///
    /// # Errors
    /// [`Error::FactorMismatch`] between inputs; else as
    /// [`encrypted::EncryptedTransform::apply`].
    pub fn apply(
        &self,
        evaluator: &Evaluator,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
        switch: bool,
    ) -> Result<Vec<Ciphertext>, Error> {
        let outputs = self.apply_batch(evaluator, &[inputs], keys, switch)?;
        Ok(outputs.into_iter().flatten().collect())
    }

    /// All outputs for several queries under one key, at most [`QUERIES_MAX`].
    ///
    /// # Errors
    /// As [`EncryptedTransform::apply`]; [`Error::TooManyQueries`].
    pub fn apply_batch(
        &self,
        evaluator: &Evaluator,
        queries: &[&[&Ciphertext]],
        keys: &EvaluationKeys,
        switch: bool,
    ) -> Result<Vec<Vec<Ciphertext>>, Error> {
        evaluator.context().check_digest(self.digest)?;
        let mut factors = Vec::with_capacity(queries.len().min(QUERIES_MAX));
        let mut inputs: Vec<Vec<&ckks::Ciphertext>> = Vec::with_capacity(factors.capacity());
        for query in queries {
            let factor = common_factor(evaluator, query)?;
            factors.push(evaluator.factor_product(factor, self.factor));
            inputs.push(query.iter().map(|input| &input.rlwe).collect());
        }
        let inputs: Vec<&[&ckks::Ciphertext]> = inputs.iter().map(Vec::as_slice).collect();
        let outputs = self
            .core
            .apply_batch(evaluator.core(), &inputs, keys, switch)?;
        let exact = |(outputs, factor): (Vec<_>, _)| {
            let exact = |rlwe| evaluator.exact(rlwe, factor, switch);
            outputs.into_iter().map(exact).collect()
        };
        Ok(outputs.into_iter().zip(factors).map(exact).collect())
    }

    /// All outputs for plaintext features, as
    /// [`encrypted::EncryptedTransform::apply_plain_inputs`].
    ///
    /// # Errors
    /// As there; [`Error::FactorMismatch`] between plaintexts.
    pub fn apply_plain_inputs(
        &self,
        evaluator: &Evaluator,
        rotated: &[&Plaintext],
        keys: &EvaluationKeys,
        switch: bool,
    ) -> Result<Vec<Ciphertext>, Error> {
        let context = evaluator.context();
        context.check_digest(self.digest)?;
        let mut factor = None;
        for plaintext in rotated {
            context.check_digest(plaintext.digest)?;
            let left = *factor.get_or_insert(plaintext.factor());
            check_factors(left, plaintext.factor())?;
        }
        let factor = evaluator.factor_product(factor.unwrap_or(1), self.factor);
        // Weights are times t already, which the plaintexts' t^-1 undoes.
        let divided = rotated.iter().map(|plaintext| plaintext.divided(context));
        let divided: Vec<ckks::Plaintext> = divided.collect();
        let divided: Vec<&ckks::Plaintext> = divided.iter().collect();
        let core = evaluator.core();
        let outputs = self.core.apply_plain_inputs(core, &divided, keys, switch)?;
        let exact = |rlwe| evaluator.exact(rlwe, factor, switch);
        Ok(outputs.into_iter().map(exact).collect())
    }
}

/// The factor that all inputs have.
fn common_factor(evaluator: &Evaluator, inputs: &[&Ciphertext]) -> Result<u64, Error> {
    let factor = inputs.first().map_or(1, |input| input.factor());
    for input in inputs {
        evaluator.check(input)?;
        check_factors(factor, input.factor())?;
    }
    Ok(factor)
}

fn check_factors(left: u64, right: u64) -> Result<(), Error> {
    if left != right {
        return Err(Error::FactorMismatch { left, right });
    }
    Ok(())
}
