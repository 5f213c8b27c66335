//! BGV and BFV: fixed-point numbers as integers modulo the plaintext prime.
//!
//! A ciphertext of BFV is one of BGV with a factor that follows from its level, and every operation
//! but the product of ciphertexts is the same.

use std::sync::Arc;

use scuro_fhe::bfv::{self, BfvContext};
use scuro_fhe::bgv::{BgvContext, Ciphertext, Encoder, Evaluator, Plaintext};
use scuro_fhe::circuits::linear::exact::{
    EncryptedDiagonal, EncryptedTransform, LinearTransform, PreparedTransform,
};
use scuro_fhe::circuits::linear::{Diagonal, SlotValues};
use scuro_fhe::keys::EvaluationKeys;
use scuro_fhe::{AnyCiphertext, Error};
use scuro_program::{Program, Scheme, SlotVector};

use super::Workers;
use super::arithmetic::{Arithmetic, Combination, ConstantPlace, FloodPlace, LinearPlace};
use crate::error::RuntimeError;
use crate::flood::{flooding, worst_case};
use crate::observe::Observed;
use crate::random::Generator;

/// Integers without an error.
pub(crate) struct Exact {
    encoder: Encoder,
    evaluator: Evaluator,
    products: Products,
    /// Public factor of every value of the program.
    factors: Vec<u64>,
}

/// How ciphertexts are multiplied.
enum Products {
    /// BGV: factors multiply, noise is brought down by modulus switches.
    Plain,
    /// BFV: factors follow from the level.
    ScaleInvariant(bfv::Evaluator),
}

impl Exact {
    /// Arithmetic of a program under one parameter set and plaintext prime.
    pub(crate) fn new(program: &Program, context: &Arc<BgvContext>) -> Result<Self, RuntimeError> {
        let shapes = program.validate()?;
        let primes = context.context().parameters().q();
        let plain = context.plain_modulus().value();
        let products = match program.parameters.scheme {
            Scheme::Ckks | Scheme::Bgv { .. } => Products::Plain,
            Scheme::Bfv { .. } => {
                let context = BfvContext::new(context)?;
                Products::ScaleInvariant(bfv::Evaluator::new(&context))
            }
        };
        Ok(Self {
            encoder: Encoder::new(context),
            evaluator: Evaluator::new(context),
            products,
            factors: program.factors(&shapes, primes, plain),
        })
    }

    /// Public factor of the query.
    pub(crate) fn query_factor(&self) -> u64 {
        self.factors[0]
    }

    /// Divided by primes until `level`: a factor of BFV belongs to its level.
    fn switched(&self, x: &Ciphertext, level: usize) -> Result<Ciphertext, Error> {
        let mut lower = x.clone();
        while lower.level() > level {
            lower = self.evaluator.mod_switch(&lower)?;
        }
        Ok(lower)
    }
}

/// A linear map with encrypted weights, and the scale of its operands.
pub(crate) struct Scaled {
    map: EncryptedTransform,
    scale: f64,
}

impl Arithmetic for Exact {
    type Ciphertext = Ciphertext;
    type Constant = Plaintext;
    type Transform = PreparedTransform;
    type Private = Scaled;

    fn own(ciphertext: AnyCiphertext) -> Option<Ciphertext> {
        match ciphertext {
            AnyCiphertext::Exact(ciphertext) => Some(ciphertext),
            AnyCiphertext::Approximate(_) => None,
        }
    }

    fn any(ciphertext: Ciphertext) -> AnyCiphertext {
        ciphertext.into()
    }

    fn observed(value: &[Ciphertext]) -> Observed<'_> {
        Observed::Exact(value)
    }

    fn transform(&self, place: &LinearPlace<'_>) -> Result<PreparedTransform, RuntimeError> {
        let diagonal = |d: &scuro_program::Diagonal| Diagonal {
            output: d.output as usize,
            input: place.input(d),
            giant: d.giant as usize,
            baby: d.baby as usize,
            values: runs(&d.values, place.weight_scale(d.operand)),
        };
        let transform = LinearTransform {
            inputs: place.inputs,
            outputs: place.linear.outputs as usize,
            diagonals: place.linear.diagonals.iter().map(diagonal).collect(),
        };
        Ok(transform.prepare(&self.encoder, place.level)?)
    }

    fn private(
        &self,
        place: &LinearPlace<'_>,
        weights: Vec<Ciphertext>,
    ) -> Result<Scaled, RuntimeError> {
        let mut outputs: Vec<Vec<EncryptedDiagonal>> = Vec::new();
        outputs.resize_with(place.linear.outputs as usize, Vec::new);
        for (d, weights) in place.linear.diagonals.iter().zip(weights) {
            outputs[d.output as usize].push(EncryptedDiagonal {
                input: place.input(d),
                giant: d.giant as usize,
                baby: d.baby as usize,
                weights,
            });
        }
        let context = self.encoder.context();
        Ok(Scaled {
            map: EncryptedTransform::new(context, place.inputs, outputs)?,
            scale: place.operand_scales[0],
        })
    }

    fn constant(&self, place: &ConstantPlace<'_>) -> Result<Plaintext, RuntimeError> {
        let dense = place.values.to_dense(self.encoder.slots());
        let integers: Vec<i64> = dense.iter().map(|&v| integer(v, place.scale)).collect();
        let factor = self.factors[place.value];
        Ok(self
            .encoder
            .encode_with_factor(&integers, place.level, factor)?)
    }

    fn transform_bytes(transform: &PreparedTransform) -> usize {
        transform.memory_bytes()
    }

    fn private_bytes(private: &Scaled) -> usize {
        private.map.memory_bytes()
    }

    fn constant_bytes(constant: &Plaintext) -> usize {
        constant.memory_bytes()
    }

    fn apply(
        &self,
        transform: &PreparedTransform,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
        rescale: bool,
        _: &Workers,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        Ok(transform.apply(&self.evaluator, inputs, keys, rescale)?)
    }

    fn apply_private(
        &self,
        private: &Scaled,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        Ok(private.map.apply(&self.evaluator, inputs, keys, rescale)?)
    }

    fn apply_private_block(
        &self,
        private: &Scaled,
        queries: &[Vec<&Ciphertext>],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Vec<Ciphertext>>, RuntimeError> {
        let views: Vec<&[&Ciphertext]> = queries.iter().map(Vec::as_slice).collect();
        let evaluator = &self.evaluator;
        Ok(private.map.apply_batch(evaluator, &views, keys, rescale)?)
    }

    fn apply_features(
        &self,
        private: &Scaled,
        inputs: &[Vec<f64>],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        let level = private.map.level();
        let encode = |slots: &[f64]| {
            let integers = slots.iter().map(|&v| integer(v, private.scale));
            self.encoder.encode(&integers.collect::<Vec<i64>>(), level)
        };
        let rotated = super::features::rotated(private.map.operands(), inputs, encode)?;
        let views: Vec<&Plaintext> = rotated.iter().collect();
        let evaluator = &self.evaluator;
        Ok(private
            .map
            .apply_plain_inputs(evaluator, &views, keys, rescale)?)
    }

    fn rotations(
        &self,
        x: &Ciphertext,
        steps: &[usize],
        keys: &EvaluationKeys,
    ) -> Result<Vec<Ciphertext>, Error> {
        self.evaluator.rotate_hoisted(x, steps, keys)
    }

    fn fold(
        &self,
        x: &Ciphertext,
        stages: &[Vec<usize>],
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        self.evaluator.fold(x, stages, keys)
    }

    fn add(&self, x: &Ciphertext, y: &Ciphertext) -> Result<Ciphertext, Error> {
        self.evaluator.add(x, y)
    }

    fn add_constant(&self, x: &Ciphertext, constant: &Plaintext) -> Result<Ciphertext, Error> {
        self.evaluator.add_plain(x, constant)
    }

    fn add_scalar(&self, x: &Ciphertext, value: f64, scale: f64) -> Result<Ciphertext, Error> {
        self.evaluator.add_constant(x, integer(value, scale))
    }

    fn multiply(&self, x: &Ciphertext, y: &Ciphertext) -> Result<Ciphertext, Error> {
        match &self.products {
            Products::Plain => self.evaluator.mul(x, y),
            Products::ScaleInvariant(evaluator) => evaluator.mul_exact(x, y),
        }
    }

    fn relinearize(&self, x: &Ciphertext, keys: &EvaluationKeys) -> Result<Ciphertext, Error> {
        self.evaluator.relinearize(x, keys)
    }

    fn relinearize_rescale(
        &self,
        x: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        self.evaluator.relinearize_mod_switch(x, keys)
    }

    fn rescale(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        self.evaluator.mod_switch(x)
    }

    fn mod_drop(&self, x: &Ciphertext, level: usize) -> Result<Ciphertext, Error> {
        match &self.products {
            Products::Plain => self.evaluator.mod_drop(x, level),
            Products::ScaleInvariant(_) => self.switched(x, level),
        }
    }

    fn trace(&self, _: &Ciphertext, _: usize, _: f64) -> Result<Ciphertext, Error> {
        unreachable!("validation refuses traces of exact values")
    }

    fn flood(
        &self,
        x: &Ciphertext,
        place: &FloodPlace,
        keys: &EvaluationKeys,
        rng: &mut Generator,
    ) -> Result<Ciphertext, Error> {
        let public = keys.public_key()?;
        let (noise, how) = (worst_case(&place.flood), flooding(&place.flood));
        self.evaluator.flood(x, noise, public, how, rng)
    }

    fn rerandomize(
        &self,
        x: &Ciphertext,
        keys: &EvaluationKeys,
        rng: &mut Generator,
    ) -> Result<Ciphertext, Error> {
        self.evaluator.rerandomize(x, keys.public_key()?, rng)
    }

    fn combine(
        &self,
        combination: &Combination,
        operands: &[&[Ciphertext]],
        index: usize,
    ) -> Result<Ciphertext, Error> {
        let mut sum: Option<Ciphertext> = None;
        for (&(factor, scale), operand) in combination.factors.iter().zip(operands) {
            let factor = integer(factor, scale);
            let term = self.evaluator.mul_integer(&operand[index], factor)?;
            sum = Some(match sum {
                Some(sum) => self.evaluator.add(&sum, &term)?,
                None => term,
            });
        }
        sum.ok_or(Error::EmptyOutput { output: index })
    }
}

/// The fixed-point number as an integer.
fn integer(value: f64, scale: f64) -> i64 {
    (value * scale).round() as i64
}

fn runs(vector: &SlotVector, scale: f64) -> SlotValues<i64> {
    let run = |run: &scuro_program::Run| {
        let values = run.values.iter().map(|&v| integer(f64::from(v), scale));
        (run.start as usize, values.collect())
    };
    SlotValues::Runs(vector.runs.iter().map(run).collect())
}
