//! Pass: programs of several holders whose replies are added up.
//!
//! All of them take one query and one set of keys, and their replies have one level, one scale and
//! one layout. The first program of an ensemble is compiled as any other but for the layout of its
//! reply and room for sums; its [face](Program::face) is what the others are compiled for.
//!
//! Exact programs are those of BFV: what multiplies their messages follows from the level alone, so
//! that replies of one level add up. Their plaintext prime, and the noise of their replies, have
//! room for sums and nothing else.

use std::collections::BTreeSet;

use scuro_program::face::{common_scale, compare};
use scuro_program::{
    GaloisStep, Gather, KeyManifest, NO_ELEMENT, Operation, Packing, Program, Scheme, Step,
    ValueShape,
};

use crate::compile::dimensions;
use crate::error::CompileError;
use crate::layout::{Grid, Layout, ZERO};
use crate::options::{Arithmetic, Options, Rotations};
use crate::rotations;

/// Bits by which weighted sums of replies may be larger than replies, and bits of the factors of a
/// linear meta-model.
const SUM_BITS: f64 = 8.0;
/// Bits by which sums of exact replies may be larger: those of 64 holders, under a prime that is
/// smaller than its size says. They are taken from the precision of every holder.
pub(crate) const SUM_BITS_EXACT: f64 = 6.5;
const FACTOR_BITS: f64 = 12.0;
/// The first program is so many times more precise than it has to be, if it is approximate: a
/// plaintext prime has no precision to spare.
const FINER: f64 = 2.0;
/// Scores of an exact ensemble stay below so many times the largest of the first program.
const LARGER_EXACT: f64 = 1.5;

/// What the coordinator of an ensemble computes of the replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Degree {
    /// Sums, and linear meta-models.
    #[default]
    Linear,
    /// Squares too: soft votes.
    Square,
    /// Cubes too: confidence weighting.
    Cube,
}

/// A program is one of several holders'.
#[derive(Debug, Clone, PartialEq)]
pub struct Ensemble {
    /// What is computed of the replies.
    pub degree: Degree,
    /// What the programs have in common; of the first program nothing.
    pub face: Option<Box<Program>>,
}

impl Degree {
    /// Modulus bits that a reply takes, whose largest slot has `scale + magnitude` bits.
    pub(crate) fn bits(self, scale: f64, magnitude: f64) -> f64 {
        let message = scale + magnitude.max(0.0) + 1.0;
        match self {
            Degree::Linear => message + SUM_BITS + FACTOR_BITS,
            Degree::Square => (message + SUM_BITS + FACTOR_BITS).max(2.0 * message + SUM_BITS),
            Degree::Cube => 3.0 * message + SUM_BITS,
        }
    }
}

/// What the level pass takes from the face of an ensemble.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Common {
    /// Bits of the ciphertext primes, in the order in which they are dropped.
    pub(crate) primes: Vec<f64>,
    /// Bits of each special prime and their number.
    pub(crate) special: (u32, usize),
    /// Base-two logarithm of the query's scale.
    pub(crate) input_scale: f64,
    /// Base-two logarithm of the reply's scale.
    pub(crate) reply_scale: f64,
    /// Level of the reply.
    pub(crate) reply_level: u32,
    /// What the scores of all programs stay below.
    pub(crate) largest: f64,
    /// Known of exact programs.
    pub(crate) exact: Option<CommonExact>,
}

/// What exact programs have in common besides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CommonExact {
    /// Bits of the plaintext prime.
    pub(crate) plain_bits: u32,
    /// Base-two logarithm of what scores are multiplied by to be the reply's integers: a multiple
    /// of a quarter.
    pub(crate) unit: f64,
}

/// The options of a program with this one's face.
///
/// # Errors
/// [`CompileError::EnsembleOption`] for what an ensemble goes without.
pub(crate) fn settled(options: &Options) -> Result<Options, CompileError> {
    let Some(ensemble) = &options.ensemble else {
        return Ok(options.clone());
    };
    let arithmetic = match &ensemble.face {
        Some(face) => arithmetic_of(face),
        None => options.arithmetic,
    };
    let squared = ensemble.face.is_none() && ensemble.degree != Degree::Linear;
    let without = [
        ("batch packing", options.packing == Packing::Batch),
        ("several images a query", options.images_per_query > 1),
        (
            "the factors of BGV, which differ from reply to reply: those of BFV do not",
            arithmetic == Arithmetic::Exact,
        ),
        (
            "products of exact replies, which are added up alone",
            arithmetic.is_exact() && squared,
        ),
    ];
    if let Some((what, _)) = without.into_iter().find(|(_, asked)| *asked) {
        return Err(CompileError::EnsembleOption { what });
    }
    let Some(face) = &ensemble.face else {
        // Programs to come may be harder: they get the same parameters.
        let tolerance = match arithmetic.is_exact() {
            true => options.tolerance,
            false => options.tolerance / FINER,
        };
        return Ok(Options {
            tolerance,
            ..options.clone()
        });
    };
    let plan = &face.parameters;
    // The user makes the keys of the face and no others.
    let rotations = match &options.rotations {
        Rotations::Free => Rotations::Within(face.keys.galois.clone()),
        asked => asked.clone(),
    };
    Ok(Options {
        arithmetic,
        security_bits: plan.security_bits,
        table: plan.table,
        ring: plan.ring,
        log_n: Some(plan.log_n),
        input_range: Some((face.input.minimum, face.input.maximum)),
        flooding: face.flood().map(|flood| flood.flooding),
        rotations,
        ..options.clone()
    })
}

fn arithmetic_of(face: &Program) -> Arithmetic {
    match face.parameters.scheme {
        Scheme::Ckks => Arithmetic::Approximate,
        Scheme::Bgv { .. } => Arithmetic::Exact,
        Scheme::Bfv { .. } => Arithmetic::ScaleInvariant,
    }
}

/// That the network takes the images of the ensemble.
///
/// # Errors
/// [`CompileError::EnsembleShape`].
pub(crate) fn check_input(options: &Options, found: &[usize]) -> Result<(), CompileError> {
    face(options).map_or(Ok(()), |face| {
        same_shape("input", &dimensions(found), &face.input.shape)
    })
}

/// That the network gives scores to the classes of the ensemble.
///
/// # Errors
/// [`CompileError::EnsembleShape`].
pub(crate) fn check_output(options: &Options, found: &[usize]) -> Result<(), CompileError> {
    face(options).map_or(Ok(()), |face| {
        same_shape("output", &dimensions(found), &face.output.shape)
    })
}

fn face(options: &Options) -> Option<&Program> {
    options.ensemble.as_ref()?.face.as_deref()
}

/// Whether replies are approximate and only added up and read, so that they can be traced.
pub(crate) fn is_traced(options: &Options) -> bool {
    let trace = |step: &Step| matches!(step.operation, Operation::Trace { .. });
    let Some(ensemble) = &options.ensemble else {
        return false;
    };
    match &ensemble.face {
        Some(face) => face.steps.iter().any(trace),
        None => ensemble.degree == Degree::Linear && !options.arithmetic.is_exact(),
    }
}

impl Ensemble {
    /// What the level pass takes from the face.
    pub(crate) fn common(&self) -> Option<Common> {
        Common::of(self.face.as_ref()?)
    }

    /// Makes a program one of the ensemble's; the scores of the first stay below `largest`, in
    /// units of the reply.
    ///
    /// # Errors
    /// [`CompileError::EnsembleReply`], [`CompileError::EnsembleRange`],
    /// [`CompileError::EnsembleKey`], [`CompileError::EnsembleFace`].
    pub(crate) fn join(
        &self,
        program: &mut Program,
        primes: &[u64],
        largest: f64,
    ) -> Result<(), CompileError> {
        let shapes = program.validate()?;
        let target = self.common().map(|common| common.reply_scale);
        normalise(program, &shapes, primes, target)?;
        if let Some(last) = program.steps.last_mut() {
            let found = last.estimate.max_abs;
            let given = self.face.as_ref().and_then(|face| face.steps.last());
            let bound = given.map_or(largest, |last| last.estimate.max_abs);
            if found > bound {
                let score = |value: f64| (value * program.output.factor).to_string();
                let (found, limit) = (score(found), score(bound));
                return Err(CompileError::EnsembleRange { found, limit });
            }
            last.estimate.max_abs = bound;
        }
        let Some(face) = &self.face else {
            let reply = shapes[program.result.0 as usize].level;
            // Exact replies are added up alone.
            if program.parameters.scheme == Scheme::Ckks {
                add_keys(&mut program.keys, program.output.elements(), reply);
            }
            return Ok(());
        };
        check_keys(&program.keys, &face.keys)?;
        program.keys = face.keys.clone();
        let alike = Program {
            // Names of classes and preprocessing are noted later.
            notes: face.notes.clone(),
            ..program.clone()
        };
        Ok(compare(face, &alike.face(primes)?)?)
    }
}

fn same_shape(what: &'static str, found: &[u32], expected: &[u32]) -> Result<(), CompileError> {
    if found == expected {
        return Ok(());
    }
    let list = |shape: &[u32]| shape.iter().map(|&extent| extent as usize).collect();
    Err(CompileError::EnsembleShape {
        what,
        found: list(found),
        expected: list(expected),
    })
}

/// Adds what combinations of replies of `outputs` scores need: a linear meta-model rotates by every
/// step of a period, and products are relinearised.
fn add_keys(keys: &mut KeyManifest, outputs: usize, level: u32) {
    keys.relinearize = keys.relinearize.max(Some(level));
    for step in 1..outputs.next_power_of_two() as u32 {
        match keys.galois.binary_search_by_key(&step, |key| key.step) {
            Ok(at) => keys.galois[at].level = keys.galois[at].level.max(level),
            Err(at) => keys.galois.insert(at, GaloisStep { step, level }),
        }
    }
}

/// That every key of `own` is among those of `common`, up to its level.
fn check_keys(own: &KeyManifest, common: &KeyManifest) -> Result<(), CompileError> {
    let missing = |key: String, level: u32, held: Option<u32>| {
        Err(CompileError::EnsembleKey {
            key,
            level,
            held: held.map_or("not at all".into(), |held| format!("up to level {held}")),
        })
    };
    if let Some(level) = own
        .relinearize
        .filter(|&level| common.relinearize < Some(level))
    {
        return missing("relinearisation".into(), level, common.relinearize);
    }
    for key in &own.galois {
        let held = common.galois.iter().find(|held| held.step == key.step);
        let held = held.map(|held| held.level);
        if held < Some(key.level) {
            return missing(format!("the rotation by {}", key.step), key.level, held);
        }
    }
    match own.public && !common.public {
        true => missing("the public key".into(), 0, None),
        false => Ok(()),
    }
}

impl Common {
    fn of(face: &Program) -> Option<Common> {
        let last = face.steps.last()?;
        let plan = &face.parameters;
        Some(Common {
            primes: plan.q_bits.iter().rev().map(|&b| f64::from(b)).collect(),
            special: (plan.p_bits.first().copied()?, plan.p_bits.len()),
            input_scale: face.input.scale_log2,
            reply_scale: last.estimate.scale_log2,
            reply_level: last.estimate.level,
            largest: last.estimate.max_abs * face.output.factor,
            exact: plan.scheme.plain_bits().map(|plain_bits| CommonExact {
                plain_bits,
                unit: 0.25 * (4.0 * (last.estimate.scale_log2 - face.output.factor.log2())).round(),
            }),
        })
    }
}

/// The query's layout as a face has it, with the hints of the candidate that lies so.
pub(crate) fn query_layout(face: &Program, candidates: Vec<Layout>) -> Option<Layout> {
    let Gather::Slots(maps) = &face.input.gather else {
        return None;
    };
    let cell = |&element: &u32| if element == NO_ELEMENT { ZERO } else { element };
    let cells: Vec<Vec<u32>> = maps
        .iter()
        .map(|map| map.iter().map(cell).collect())
        .collect();
    let known = candidates.into_iter().find(|layout| layout.cells == cells);
    let elements = face.input.elements();
    Some(known.unwrap_or_else(|| Layout::new(cells, face.slots(), elements, Grid::VECTOR)))
}

/// What the scores of an ensemble's programs stay below, if those of the first have a bound: a
/// power of two, at least twice as much; in exact arithmetic, where a bit more of the plaintext
/// prime costs precision, half as much again.
pub(crate) fn common_bound(first: f64, arithmetic: Arithmetic) -> f64 {
    let first = first.max(f64::MIN_POSITIVE);
    match arithmetic.is_exact() {
        true => LARGER_EXACT * first,
        false => (first.log2().ceil() + 1.0).exp2(),
    }
}

/// Whether a reply repeats its outputs, in order, all over one ciphertext: every `n` slots, with
/// `n` the next power of two, and zeros between.
pub(crate) fn is_common(layout: &Layout) -> bool {
    let elements = layout.elements();
    let period = elements.next_power_of_two();
    let expected = |slot: usize| match slot % period {
        element if element < elements => element as u32,
        _ => ZERO,
    };
    let [cells] = &layout.cells[..] else {
        return false;
    };
    cells
        .iter()
        .enumerate()
        .all(|(slot, &cell)| cell == expected(slot))
}

/// Brings the reply to the scale `target`, or to the nearest that programs can have in common, by
/// that of the last weights. Those of exact programs are integers by now, and their scale is right.
///
/// # Errors
/// [`CompileError::EnsembleReply`] if nothing but slotwise products comes after the last weights.
fn normalise(
    program: &mut Program,
    shapes: &[ValueShape],
    primes: &[u64],
    target: Option<f64>,
) -> Result<(), CompileError> {
    let found = program.scales(shapes, primes)[program.result.0 as usize].log2();
    let by = target.unwrap_or_else(|| common_scale(found)) - found;
    let refused = CompileError::EnsembleReply {
        layer: program
            .steps
            .last()
            .map(|s| s.layer.clone())
            .unwrap_or_default(),
    };
    // A sum and the rotated values that it adds come of one product.
    let mut values = BTreeSet::from([program.result]);
    while let Some(value) = values.pop_last() {
        let Some(index) = (value.0 as usize).checked_sub(1) else {
            return Err(refused);
        };
        let is_sum = rotations::is_sum(&program.steps, index);
        let step = &mut program.steps[index];
        step.estimate.scale_log2 += by;
        match &mut step.operation {
            Operation::Linear(linear) => linear.weight_scale_log2 += by,
            Operation::Square | Operation::Multiply => return Err(refused),
            operation => {
                if let Operation::Flood(flood) = operation {
                    flood.bound_log2 += by.max(0.0);
                }
                let read = if is_sum { step.inputs.len() } else { 1 };
                values.extend(&step.inputs[..read]);
            }
        }
    }
    Ok(())
}
