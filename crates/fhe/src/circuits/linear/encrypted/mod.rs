//! Linear maps whose diagonals are ciphertexts: encrypted weights.
//!
//! Math: out_o = Σ_g rot_g(Σ_b w_{g,b} * rot_b(in)), where ciphertext w_{g,b} holds the diagonal
//!     already rotated by -g: w\[p\] = diagonal\[(p - g) mod S\].
//!
//! Each input is decomposed once for its baby rotations. The products have three parts and stay
//! so: those of a giant step are summed lazily, and each sum takes two key switches, phi(s) -> s
//! for the second part and phi(s^2) -> s for the third, which are accumulated over QP for all
//! giants of an output before its one division by P. Weights lie in memory once, in the order in
//! which the kernel reads them, and each is read once for a whole block of queries.
//!
//! Source: the merged form of Halevi, Shoup 2018, "Faster homomorphic linear transformations in
//!     HElib", carried to encrypted diagonals.

mod apply;

use std::collections::BTreeSet;

use scuro_polyring::{Multiplier, Ntt, Poly, RowPairs};

pub use apply::QUERIES_MAX;

use super::Operand;
use crate::ckks::{Ciphertext, check_scales};
use crate::context::Context;
use crate::error::Error;
use crate::key_id::KeyId;
use crate::keys::KeyManifest;
use crate::params::Digest;

/// Most products that are summed for one giant step: lazy sums hold that many.
pub const GROUP_TERMS_MAX: usize = scuro_polyring::DOT_TERMS_MAX / 4;

/// One encrypted diagonal of one output.
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

/// A linear map with encrypted diagonals of one level, scale and key.
pub struct EncryptedTransform {
    digest: Digest,
    key_id: KeyId,
    level: usize,
    scale: f64,
    inputs: usize,
    outputs: Vec<Vec<Group>>,
    /// Inputs and baby rotations that terms refer to, ascending.
    operands: Vec<Operand>,
}

/// The inner sum of one giant rotation of one output.
struct Group {
    giant: usize,
    /// index of the operand of each term
    operands: Vec<usize>,
    /// ciphertexts of the terms
    weights: RowPairs,
}

impl EncryptedTransform {
    /// Lays out the diagonals of each output; memory peaks at twice the weights.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for an input or a rotation that does not exist,
    /// [`Error::EmptyOutput`], [`Error::TooManyTerms`] for one giant step, and
    /// [`Error::ParameterMismatch`], [`Error::PartCount`], [`Error::KeyMismatch`],
    /// [`Error::LevelMismatch`], [`Error::ScaleMismatch`] for weights that do not fit together.
    pub fn new(
        context: &Context,
        inputs: usize,
        outputs: Vec<Vec<EncryptedDiagonal>>,
    ) -> Result<Self, Error> {
        Self::with_factors(context, inputs, outputs, None)
    }

    /// As [`EncryptedTransform::new`], with every weight times factors_j modulo prime j.
    pub(crate) fn with_factors(
        context: &Context,
        inputs: usize,
        outputs: Vec<Vec<EncryptedDiagonal>>,
        factors: Option<&[Multiplier]>,
    ) -> Result<Self, Error> {
        if let Some(output) = outputs.iter().position(Vec::is_empty) {
            return Err(Error::EmptyOutput { output });
        }
        let Some(first) = outputs.first().map(|diagonals| &diagonals[0].weights) else {
            return Err(Error::LengthMismatch {
                what: "outputs",
                found: 0,
                expected: 1,
            });
        };
        let (level, scale, key_id) = (first.level, first.scale, first.key_id);
        for diagonal in outputs.iter().flatten() {
            check_diagonal(context, inputs, first, diagonal)?;
        }
        let found: BTreeSet<Operand> = outputs.iter().flatten().map(operand).collect();
        let operands: Vec<Operand> = found.into_iter().collect();
        let outputs = outputs
            .into_iter()
            .map(|diagonals| groups(context, &operands, diagonals, factors));
        Ok(Self {
            digest: context.digest(),
            key_id,
            level,
            scale,
            inputs,
            outputs: outputs.collect::<Result<_, _>>()?,
            operands,
        })
    }

    /// Level of inputs and outputs.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Scale of the weights.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Id of the key of the weights, and so of inputs and outputs.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// The rotated inputs that products are taken with, in the order of
    /// [`EncryptedTransform::apply_plain_inputs`].
    pub fn operands(&self) -> &[Operand] {
        &self.operands
    }

    /// Bytes of the weights.
    pub fn memory_bytes(&self) -> usize {
        let groups = self.outputs.iter().flatten();
        groups.map(|group| size_of_val(group.weights.words())).sum()
    }

    /// The keys that [`EncryptedTransform::apply`] needs.
    pub fn key_manifest(&self) -> KeyManifest {
        let babies = self.operands.iter().map(|operand| operand.baby);
        let rotations = babies.chain(self.giants()).filter(|&step| step != 0);
        let still = self.giants().any(|giant| giant == 0);
        let moved = self.giants().filter(|&giant| giant != 0);
        KeyManifest {
            relinearization: still.then_some(self.level),
            rotations: rotations.map(|step| (step, self.level)).collect(),
            relinearized_rotations: moved.map(|step| (step, self.level)).collect(),
            ..KeyManifest::default()
        }
    }

    /// The keys that [`EncryptedTransform::apply_plain_inputs`] needs.
    pub fn plain_key_manifest(&self) -> KeyManifest {
        let moved = self.giants().filter(|&giant| giant != 0);
        KeyManifest {
            rotations: moved.map(|step| (step, self.level)).collect(),
            ..KeyManifest::default()
        }
    }

    fn giants(&self) -> impl Iterator<Item = usize> {
        self.outputs.iter().flatten().map(|group| group.giant)
    }
}

fn operand(diagonal: &EncryptedDiagonal) -> Operand {
    let &EncryptedDiagonal { input, baby, .. } = diagonal;
    Operand { input, baby }
}

fn check_diagonal(
    context: &Context,
    inputs: usize,
    first: &Ciphertext,
    diagonal: &EncryptedDiagonal,
) -> Result<(), Error> {
    let slots = context.parameters().slots();
    let fields = [
        ("input", diagonal.input, inputs),
        ("giant step", diagonal.giant, slots),
        ("baby step", diagonal.baby, slots),
    ];
    for (what, found, bound) in fields {
        if found >= bound {
            return Err(Error::IndexOutOfRange { what, found, bound });
        }
    }
    let weights = &diagonal.weights;
    context.check_digest(weights.digest)?;
    weights.check_parts(2)?;
    weights.check_key(first.key_id)?;
    if weights.level != first.level {
        return Err(Error::LevelMismatch {
            left: first.level,
            right: weights.level,
        });
    }
    check_scales(first.scale, weights.scale)
}

/// The groups of one output; each ciphertext is freed once it is laid out.
fn groups(
    context: &Context,
    operands: &[Operand],
    mut diagonals: Vec<EncryptedDiagonal>,
    factors: Option<&[Multiplier]>,
) -> Result<Vec<Group>, Error> {
    diagonals.sort_by_key(|diagonal| (diagonal.giant, operand(diagonal)));
    let sizes: Vec<usize> = diagonals
        .chunk_by(|a, b| a.giant == b.giant)
        .map(<[_]>::len)
        .collect();
    let mut rest = diagonals.into_iter();
    sizes
        .into_iter()
        .map(|terms| group(context, operands, rest.by_ref().take(terms), factors))
        .collect()
}

fn group(
    context: &Context,
    operands: &[Operand],
    diagonals: impl ExactSizeIterator<Item = EncryptedDiagonal>,
    factors: Option<&[Multiplier]>,
) -> Result<Group, Error> {
    let terms = diagonals.len();
    if terms > GROUP_TERMS_MAX {
        return Err(Error::TooManyTerms {
            found: terms,
            max: GROUP_TERMS_MAX,
        });
    }
    let mut diagonals = diagonals.peekable();
    let (giant, basis) = match diagonals.peek() {
        None => (0, context.basis(0)),
        Some(first) => (first.giant, context.basis(first.weights.level)),
    };
    let mut group = Group {
        giant,
        operands: Vec::with_capacity(terms),
        weights: RowPairs::packed(context.bits(&basis), context.ring().degree(), terms),
    };
    for (term, diagonal) in diagonals.enumerate() {
        let wanted = operand(&diagonal);
        let at = operands.partition_point(|operand| *operand < wanted);
        group.operands.push(at);
        for (half, mut part) in diagonal.weights.parts.into_iter().enumerate() {
            if let Some(factors) = factors {
                scale(context, &mut part, factors);
            }
            for (row, (_, values)) in part.rows().enumerate() {
                group.weights.set(row, term, half, values);
            }
        }
    }
    Ok(group)
}

fn scale(context: &Context, part: &mut Poly<Ntt>, factors: &[Multiplier]) {
    for (i, row) in part.rows_mut() {
        context.ring().prime(i).mul_scalar_assign(row, factors[i]);
    }
}
