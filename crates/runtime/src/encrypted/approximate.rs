//! CKKS.

use std::borrow::Cow;
use std::sync::Arc;

use scuro_fhe::circuits::linear::encrypted::{EncryptedDiagonal, EncryptedTransform};
use scuro_fhe::circuits::linear::{Diagonal, LinearTransform, PreparedTransform, SlotValues};
use scuro_fhe::ckks::{Ciphertext, Encoder, Evaluator, Plaintext};
use scuro_fhe::keys::EvaluationKeys;
use scuro_fhe::noise::Operand;
use scuro_fhe::{AnyCiphertext, Context, Error};
use scuro_program::SlotVector;

use super::Workers;
use super::arithmetic::{Arithmetic, Combination, ConstantPlace, FloodPlace, LinearPlace};
use crate::error::RuntimeError;
use crate::flood::{flooding, worst_case};
use crate::observe::Observed;
use crate::random::Generator;

/// Real or complex numbers with a small error.
pub(crate) struct Approximate {
    encoder: Encoder,
    pub(super) evaluator: Evaluator,
}

impl Approximate {
    /// Arithmetic under one parameter set.
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        Self {
            encoder: Encoder::new(context),
            evaluator: Evaluator::new(context),
        }
    }
}

/// A linear map whose operands may have different scales.
pub(crate) struct Scaled<T> {
    map: T,
    /// The scale that every input is declared to have; the weights make up for the difference.
    scale: f64,
}

impl<T> Scaled<T> {
    /// The inputs, all declared to have that scale.
    fn align<'a>(
        &self,
        inputs: &[&'a Ciphertext],
    ) -> Result<Vec<Cow<'a, Ciphertext>>, RuntimeError> {
        let one = |&input: &&'a Ciphertext| {
            if input.scale() == self.scale {
                return Ok(Cow::Borrowed(input));
            }
            let mut aligned = input.clone();
            aligned.set_scale(self.scale)?;
            Ok(Cow::Owned(aligned))
        };
        inputs.iter().map(one).collect()
    }
}

impl Arithmetic for Approximate {
    type Ciphertext = Ciphertext;
    /// Nothing for a vector of zeros.
    type Constant = Option<Plaintext>;
    type Transform = Scaled<PreparedTransform>;
    type Private = Scaled<EncryptedTransform>;

    fn own(ciphertext: AnyCiphertext) -> Option<Ciphertext> {
        match ciphertext {
            AnyCiphertext::Approximate(ciphertext) => Some(ciphertext),
            AnyCiphertext::Exact(_) => None,
        }
    }

    fn any(ciphertext: Ciphertext) -> AnyCiphertext {
        ciphertext.into()
    }

    fn observed(value: &[Ciphertext]) -> Observed<'_> {
        Observed::Approximate(value)
    }

    fn transform(&self, place: &LinearPlace<'_>) -> Result<Self::Transform, RuntimeError> {
        let scale = place.operand_scales[0];
        let diagonal = |d: &scuro_program::Diagonal| Diagonal {
            output: d.output as usize,
            input: place.input(d),
            giant: d.giant as usize,
            baby: d.baby as usize,
            values: runs(&d.values, scale / place.operand_scales[d.operand as usize]),
        };
        let transform = LinearTransform {
            inputs: place.inputs,
            outputs: place.linear.outputs as usize,
            scale: place.linear.weight_scale_log2.exp2(),
            diagonals: place.linear.diagonals.iter().map(diagonal).collect(),
        };
        let map = transform.prepare(&self.encoder, place.level)?;
        Ok(Scaled { map, scale })
    }

    fn private(
        &self,
        place: &LinearPlace<'_>,
        weights: Vec<Ciphertext>,
    ) -> Result<Self::Private, RuntimeError> {
        let mut outputs: Vec<Vec<EncryptedDiagonal>> = Vec::new();
        outputs.resize_with(place.linear.outputs as usize, Vec::new);
        for (d, mut weights) in place.linear.diagonals.iter().zip(weights) {
            weights.set_scale(place.weight_scale(0))?;
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

    fn constant(&self, place: &ConstantPlace<'_>) -> Result<Self::Constant, RuntimeError> {
        if place.values.is_zero() {
            return Ok(None);
        }
        let dense = place.values.to_dense(self.encoder.slots());
        Ok(Some(self.encoder.encode(
            &dense,
            place.level,
            place.scale,
        )?))
    }

    fn transform_bytes(transform: &Self::Transform) -> usize {
        transform.map.memory_bytes()
    }

    fn private_bytes(private: &Self::Private) -> usize {
        private.map.memory_bytes()
    }

    fn constant_bytes(constant: &Self::Constant) -> usize {
        constant
            .as_ref()
            .map_or(0, |plain| size_of_val(plain.poly().words()))
    }

    fn apply(
        &self,
        transform: &Self::Transform,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
        rescale: bool,
        workers: &Workers,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        let inputs = transform.align(inputs)?;
        let inputs: Vec<&Ciphertext> = inputs.iter().map(AsRef::as_ref).collect();
        let (map, evaluator) = (&transform.map, &self.evaluator);
        if map.outputs() == 1 {
            return Ok(match rescale {
                true => map.apply_rescaled(evaluator, &inputs, keys)?,
                false => map.apply(evaluator, &inputs, keys)?,
            });
        }
        let operands = map.operands(evaluator, &inputs, keys)?;
        workers.map(map.outputs(), |output| {
            Ok(map.output(evaluator, &operands, output, keys, rescale)?)
        })
    }

    fn apply_private(
        &self,
        private: &Self::Private,
        inputs: &[&Ciphertext],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        let inputs = private.align(inputs)?;
        let inputs: Vec<&Ciphertext> = inputs.iter().map(AsRef::as_ref).collect();
        Ok(private.map.apply(&self.evaluator, &inputs, keys, rescale)?)
    }

    fn apply_private_block(
        &self,
        private: &Self::Private,
        queries: &[Vec<&Ciphertext>],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Vec<Ciphertext>>, RuntimeError> {
        let aligned = queries.iter().map(|inputs| private.align(inputs));
        let aligned = aligned.collect::<Result<Vec<_>, _>>()?;
        let borrowed = aligned
            .iter()
            .map(|inputs| inputs.iter().map(AsRef::as_ref));
        let borrowed: Vec<Vec<&Ciphertext>> = borrowed.map(Iterator::collect).collect();
        let views: Vec<&[&Ciphertext]> = borrowed.iter().map(Vec::as_slice).collect();
        let evaluator = &self.evaluator;
        Ok(private.map.apply_batch(evaluator, &views, keys, rescale)?)
    }

    fn apply_features(
        &self,
        private: &Self::Private,
        inputs: &[Vec<f64>],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Ciphertext>, RuntimeError> {
        let level = private.map.level();
        let encode = |slots: &[f64]| self.encoder.encode(slots, level, private.scale);
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

    fn add_constant(&self, x: &Ciphertext, constant: &Self::Constant) -> Result<Ciphertext, Error> {
        match constant {
            Some(constant) => self.evaluator.add_plain(x, constant),
            None => Ok(x.clone()),
        }
    }

    fn add_scalar(&self, x: &Ciphertext, value: f64, _: f64) -> Result<Ciphertext, Error> {
        self.evaluator.add_constant(x, value)
    }

    fn multiply(&self, x: &Ciphertext, y: &Ciphertext) -> Result<Ciphertext, Error> {
        self.evaluator.mul(x, y)
    }

    fn relinearize(&self, x: &Ciphertext, keys: &EvaluationKeys) -> Result<Ciphertext, Error> {
        self.evaluator.relinearize(x, keys)
    }

    fn relinearize_rescale(
        &self,
        x: &Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext, Error> {
        self.evaluator.relinearize_rescale(x, keys)
    }

    fn rescale(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        self.evaluator.rescale(x)
    }

    fn mod_drop(&self, x: &Ciphertext, level: usize) -> Result<Ciphertext, Error> {
        self.evaluator.mod_drop(x, level)
    }

    fn trace(&self, x: &Ciphertext, period: usize, scale: f64) -> Result<Ciphertext, Error> {
        let mut out = self.evaluator.trace(x, period)?;
        out.set_scale(scale)?;
        Ok(out)
    }

    fn flood(
        &self,
        x: &Ciphertext,
        place: &FloodPlace,
        keys: &EvaluationKeys,
        rng: &mut Generator,
    ) -> Result<Ciphertext, Error> {
        let operand = Operand {
            magnitude: place.magnitude,
            noise: worst_case(&place.flood),
        };
        let (public, how) = (keys.public_key()?, flooding(&place.flood));
        match place.traced {
            Some(period) => self
                .evaluator
                .flood_traced(x, operand, period, public, how, rng),
            None => self.evaluator.flood(x, operand, public, how, rng),
        }
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
            let mut term = self
                .evaluator
                .mul_constant(&operand[index], factor, scale)?;
            term.set_scale(combination.scale)?;
            sum = Some(match sum {
                Some(sum) => self.evaluator.add(&sum, &term)?,
                None => term,
            });
        }
        sum.ok_or(Error::EmptyOutput { output: index })
    }
}

fn runs(vector: &SlotVector, factor: f64) -> SlotValues {
    let run = |run: &scuro_program::Run| {
        let values = run.values.iter().map(|&v| f64::from(v) * factor).collect();
        (run.start as usize, values)
    };
    SlotValues::Runs(vector.runs.iter().map(run).collect())
}
