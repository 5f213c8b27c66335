//! What a scheme has to offer, so that one runner serves them all.

use scuro_fhe::AnyCiphertext;
use scuro_fhe::keys::EvaluationKeys;
use scuro_program::{Diagonal, Flood, Linear, SlotVector};

use super::Workers;
use crate::error::RuntimeError;
use crate::observe::Observed;
use crate::random::Generator;

/// A linear step with what its place in the program says about it.
pub(crate) struct LinearPlace<'a> {
    /// The step's map.
    pub(crate) linear: &'a Linear,
    /// Level of its operands.
    pub(crate) level: usize,
    /// Ciphertexts of all operands.
    pub(crate) inputs: usize,
    /// Number of each operand's first ciphertext, counted through the operands.
    pub(crate) firsts: Vec<usize>,
    /// Scale of each operand.
    pub(crate) operand_scales: Vec<f64>,
    /// Scale of the result.
    pub(crate) result_scale: f64,
}

impl LinearPlace<'_> {
    /// Number of the ciphertext that a diagonal reads.
    pub(crate) fn input(&self, diagonal: &Diagonal) -> usize {
        self.firsts[diagonal.operand as usize] + diagonal.ciphertext as usize
    }

    /// Scale of the weights that multiply an operand.
    pub(crate) fn weight_scale(&self, operand: u32) -> f64 {
        self.result_scale / self.operand_scales[operand as usize]
    }
}

/// A constant with its place in the program.
pub(crate) struct ConstantPlace<'a> {
    /// The slots.
    pub(crate) values: &'a SlotVector,
    /// Level of the value that it is added to.
    pub(crate) level: usize,
    /// Scale of that value.
    pub(crate) scale: f64,
    /// Number of that value.
    pub(crate) value: usize,
}

/// A flooding with its place in the program.
pub(crate) struct FloodPlace {
    /// How strongly.
    pub(crate) flood: Flood,
    /// What the message stays below, in units of the ciphertext.
    pub(crate) magnitude: f64,
    /// Slots after which the message repeats, if it was traced.
    pub(crate) traced: Option<usize>,
}

/// Sum of multiples of operands.
pub(crate) struct Combination {
    /// Factor and the scale it is rounded at, one per operand.
    pub(crate) factors: Vec<(f64, f64)>,
    /// Scale of the result.
    pub(crate) scale: f64,
}

/// One scheme: its ciphertexts, its prepared weights, its operations.
pub(crate) trait Arithmetic: Send + Sync {
    /// A ciphertext.
    type Ciphertext: Clone + Send + Sync;
    /// An encoded slot vector.
    type Constant: Send + Sync;
    /// A linear map with encoded weights.
    type Transform: Send + Sync;
    /// A linear map with encrypted weights.
    type Private: Send + Sync;

    /// The scheme's own ciphertext; nothing if it is of the other scheme.
    fn own(ciphertext: AnyCiphertext) -> Option<Self::Ciphertext>;
    /// The other way.
    fn any(ciphertext: Self::Ciphertext) -> AnyCiphertext;
    /// What the caller may watch.
    fn observed(value: &[Self::Ciphertext]) -> Observed<'_>;

    /// Encodes the weights of a linear step.
    fn transform(&self, place: &LinearPlace<'_>) -> Result<Self::Transform, RuntimeError>;
    /// Lays out the encrypted weights of a linear step.
    fn private(
        &self,
        place: &LinearPlace<'_>,
        weights: Vec<Self::Ciphertext>,
    ) -> Result<Self::Private, RuntimeError>;
    /// Encodes a constant.
    fn constant(&self, place: &ConstantPlace<'_>) -> Result<Self::Constant, RuntimeError>;
    /// Bytes of encoded weights.
    fn transform_bytes(transform: &Self::Transform) -> usize;
    /// Bytes of encrypted weights.
    fn private_bytes(private: &Self::Private) -> usize;
    /// Bytes of a constant.
    fn constant_bytes(constant: &Self::Constant) -> usize;

    /// All outputs of a linear step, rescaled if asked.
    fn apply(
        &self,
        transform: &Self::Transform,
        inputs: &[&Self::Ciphertext],
        keys: &EvaluationKeys,
        rescale: bool,
        workers: &Workers,
    ) -> Result<Vec<Self::Ciphertext>, RuntimeError>;
    /// The same with encrypted weights.
    fn apply_private(
        &self,
        private: &Self::Private,
        inputs: &[&Self::Ciphertext],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Self::Ciphertext>, RuntimeError>;
    /// The same for several queries: each weight is read once for all of them.
    fn apply_private_block(
        &self,
        private: &Self::Private,
        queries: &[Vec<&Self::Ciphertext>],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Vec<Self::Ciphertext>>, RuntimeError>;
    /// The same for inputs that are not encrypted, `[ciphertexts][slots]`.
    fn apply_features(
        &self,
        private: &Self::Private,
        inputs: &[Vec<f64>],
        keys: &EvaluationKeys,
        rescale: bool,
    ) -> Result<Vec<Self::Ciphertext>, RuntimeError>;
    /// Several rotations of one ciphertext.
    fn rotations(
        &self,
        x: &Self::Ciphertext,
        steps: &[usize],
        keys: &EvaluationKeys,
    ) -> Result<Vec<Self::Ciphertext>, scuro_fhe::Error>;
    /// Sums of rotations of one ciphertext, stage after stage.
    fn fold(
        &self,
        x: &Self::Ciphertext,
        stages: &[Vec<usize>],
        keys: &EvaluationKeys,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// Sum.
    fn add(
        &self,
        x: &Self::Ciphertext,
        y: &Self::Ciphertext,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// Sum with an encoded constant.
    fn add_constant(
        &self,
        x: &Self::Ciphertext,
        constant: &Self::Constant,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// Sum with one number in every slot, at `scale`.
    fn add_scalar(
        &self,
        x: &Self::Ciphertext,
        value: f64,
        scale: f64,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// Product, three parts.
    fn multiply(
        &self,
        x: &Self::Ciphertext,
        y: &Self::Ciphertext,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// Three parts to two.
    fn relinearize(
        &self,
        x: &Self::Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// Three parts to two, and divided by the last prime.
    fn relinearize_rescale(
        &self,
        x: &Self::Ciphertext,
        keys: &EvaluationKeys,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// Division by the last prime.
    fn rescale(&self, x: &Self::Ciphertext) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// Primes left out until `level`.
    fn mod_drop(
        &self,
        x: &Self::Ciphertext,
        level: usize,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// The mean over all slots that are congruent modulo a period, at `scale`.
    fn trace(
        &self,
        x: &Self::Ciphertext,
        period: usize,
        scale: f64,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// The reply re-randomised and its error drowned.
    fn flood(
        &self,
        x: &Self::Ciphertext,
        place: &FloodPlace,
        keys: &EvaluationKeys,
        rng: &mut Generator,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// Plus a fresh encryption of zero under the public key.
    fn rerandomize(
        &self,
        x: &Self::Ciphertext,
        keys: &EvaluationKeys,
        rng: &mut Generator,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
    /// Ciphertext `index` of a sum of multiples.
    fn combine(
        &self,
        combination: &Combination,
        operands: &[&[Self::Ciphertext]],
        index: usize,
    ) -> Result<Self::Ciphertext, scuro_fhe::Error>;
}
