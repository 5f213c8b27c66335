//! Pass: programs of several holders whose replies are added up.
//!
//! All of them take one query and one set of keys, and their replies have one level, one scale and
//! one layout. The first program of an ensemble is compiled as any other but for the layout of its
//! reply and room for sums; its [face](Program::face) is what the others are compiled for.

use std::collections::BTreeSet;

use scuro_program::face::{common_scale, compare};
use scuro_program::{
    GaloisStep, Gather, KeyManifest, NO_ELEMENT, Operation, Packing, Program, Step, ValueShape,
    Weights,
};

use crate::compile::dimensions;
use crate::error::CompileError;
use crate::layout::{Grid, Layout, ZERO};
use crate::options::{Arithmetic, Options, Rotations};
use crate::rotations;

/// Bits by which weighted sums of replies may be larger than replies, and bits of the factors of a
/// linear meta-model.
const SUM_BITS: f64 = 8.0;
const FACTOR_BITS: f64 = 12.0;
/// The first program is so many times more precise than it has to be.
const FINER: f64 = 2.0;

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
}

/// The options of a program with this one's face.
///
/// # Errors
/// [`CompileError::EnsembleOption`] for what an ensemble goes without.
pub(crate) fn settled(options: &Options) -> Result<Options, CompileError> {
    let Some(ensemble) = &options.ensemble else {
        return Ok(options.clone());
    };
    let without = [
        ("batch packing", options.packing == Packing::Batch),
        ("several images a query", options.images_per_query > 1),
        ("encrypted weights", options.weights != Weights::Plain),
        (
            "exact arithmetic, whose replies differ by a factor",
            options.arithmetic != Arithmetic::Approximate,
        ),
    ];
    if let Some((what, _)) = without.into_iter().find(|(_, asked)| *asked) {
        return Err(CompileError::EnsembleOption { what });
    }
    let Some(face) = &ensemble.face else {
        // Programs to come may be harder: they get the same parameters.
        let tolerance = options.tolerance / FINER;
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

impl Ensemble {
    /// Whether replies are only added up and read, so that they can be traced.
    pub(crate) fn is_traced(&self) -> bool {
        let trace = |step: &Step| matches!(step.operation, Operation::Trace { .. });
        match &self.face {
            Some(face) => face.steps.iter().any(trace),
            None => self.degree == Degree::Linear,
        }
    }

    /// What the level pass takes from the face.
    pub(crate) fn common(&self) -> Option<Common> {
        Common::of(self.face.as_ref()?)
    }

    /// Makes a program one of the ensemble's.
    ///
    /// # Errors
    /// [`CompileError::EnsembleReply`], [`CompileError::EnsembleRange`],
    /// [`CompileError::EnsembleKey`], [`CompileError::EnsembleFace`].
    pub(crate) fn join(&self, program: &mut Program, primes: &[u64]) -> Result<(), CompileError> {
        let shapes = program.validate()?;
        let common = self.common();
        let target = common.as_ref().map(|common| common.reply_scale);
        normalise(program, &shapes, primes, target)?;
        if let Some(last) = program.steps.last_mut() {
            let found = last.estimate.max_abs;
            let bound = common.map_or(common_bound(found), |common| common.largest);
            if found > bound {
                let (found, limit) = (found.to_string(), bound.to_string());
                return Err(CompileError::EnsembleRange { found, limit });
            }
            last.estimate.max_abs = bound;
        }
        let Some(face) = &self.face else {
            let reply = shapes[program.result.0 as usize].level;
            add_keys(&mut program.keys, program.output.elements(), reply);
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
            largest: last.estimate.max_abs,
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

/// What the scores of an ensemble's programs stay below, if those of the first have a bound:
/// a power of two, at least twice as much.
pub(crate) fn common_bound(first: f64) -> f64 {
    (first.max(f64::MIN_POSITIVE).log2().ceil() + 1.0).exp2()
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
/// that of the last weights.
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
