//! Weights that are ciphertexts.

use scuro_fhe::{AnyCiphertext, AnyContext};
use scuro_program::{Program, WeightPlace};

use super::arithmetic::Arithmetic;
use crate::check;
use crate::error::RuntimeError;

/// The encrypted weights of a program, read step by step: decoded they take more memory than ready
/// for use, and all at once gigabytes.
pub(super) struct Supplied<'a> {
    places: Vec<WeightPlace>,
    weights: Box<dyn Iterator<Item = Result<AnyCiphertext, scuro_fhe::Error>> + 'a>,
    /// How many were taken.
    taken: usize,
    first: Option<scuro_fhe::KeyId>,
}

impl<'a> Supplied<'a> {
    /// One weight for every place, in their order.
    ///
    /// # Errors
    /// [`RuntimeError::WeightCount`].
    pub(super) fn new<I>(
        program: &Program,
        context: &AnyContext,
        weights: I,
    ) -> Result<Self, RuntimeError>
    where
        I: ExactSizeIterator<Item = Result<AnyCiphertext, scuro_fhe::Error>> + 'a,
    {
        let plain = match context {
            AnyContext::Approximate(_) => None,
            AnyContext::Exact(context) => Some(context.plain_modulus().value()),
        };
        let places = program.weight_places(context.core().parameters().q(), plain)?;
        if weights.len() != places.len() {
            let (found, expected) = (weights.len(), places.len());
            return Err(RuntimeError::WeightCount { found, expected });
        }
        Ok(Self {
            places,
            weights: Box::new(weights),
            taken: 0,
            first: None,
        })
    }

    /// The weights of a step, which must be later than those before.
    ///
    /// # Errors
    /// [`RuntimeError::WeightLevel`], [`RuntimeError::WeightScale`],
    /// [`RuntimeError::WeightFactor`], [`RuntimeError::WrongScheme`]; [`RuntimeError::Fhe`] for
    /// damaged ones, and for those under another key than the first.
    pub(super) fn take<A: Arithmetic>(
        &mut self,
        step: usize,
    ) -> Result<Vec<A::Ciphertext>, RuntimeError> {
        let of_step = self.places.iter().filter(|place| place.step == step);
        let count = of_step.count();
        let mut taken = Vec::with_capacity(count);
        for weight in self.weights.by_ref().take(count) {
            let (weight, index) = (weight?, self.taken);
            check::weight(&weight, &self.places[index], index)?;
            let (found, expected) = (weight.key_id(), *self.first.get_or_insert(weight.key_id()));
            if found != expected {
                return Err(scuro_fhe::Error::KeyMismatch { found, expected }.into());
            }
            taken.push(A::own(weight).ok_or(RuntimeError::WrongScheme { index })?);
            self.taken += 1;
        }
        Ok(taken)
    }
}
