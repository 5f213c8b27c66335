//! What is seen of a program from outside: what all holders of an ensemble have in common.
//!
//! Several holders answer one query, and their replies are added up. That works if they agree on
//! the parameters, the query, the keys, and how a reply is to be read. A [face](Program::face) is a
//! program that says just that: no weights, no layers, nothing that was measured. Faces of programs
//! that fit together are equal, so the digest of one names the ensemble, and whoever has it can
//! make keys, encrypt and decrypt.

use crate::error::ProgramError;
use crate::parameters::{ParameterPlan, Scheme};
use crate::program::{Packing, Program, Weights};
use crate::slots::SlotVector;
use crate::spec::{GaloisStep, KeyManifest, OutputSpec};
use crate::step::{Diagonal, Estimate, Flood, Flooding, Linear, Operation, Step, ValueId};

/// Key of the note that names the classes, one a line, in the order of the outputs.
pub const CLASSES_NOTE: &str = "classes";
/// Notes that belong to a face: classes, and how an image becomes inputs.
const NOTES: [&str; 5] = [
    CLASSES_NOTE,
    "input-scale",
    "input-mean",
    "input-std",
    "input-standardize",
];
/// Name of every face.
const NAME: &str = "ensemble";
/// Scales of replies are whole multiples of this power of two, so that what different programs
/// compute with doubles comes to the same.
const SCALE_STEPS: f64 = 1024.0;
/// Base-two logarithm that a scale may be off its multiple by.
const SCALE_SLACK: f64 = 1e-6;

/// Why two programs cannot answer the same query together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Other encryption parameters.
    #[error("encryption parameters: {found}; expected {expected}")]
    Parameters {
        /// Those found, in words.
        found: String,
        /// Those expected.
        expected: String,
    },
    /// Another query.
    #[error("query: another {what}")]
    Query {
        /// What differs.
        what: &'static str,
    },
    /// Another number of classes, or another class in some place.
    #[error("class {position}: {found:?}; expected {expected:?}")]
    Classes {
        /// The first class that differs.
        position: usize,
        /// Its name there, if any.
        found: Option<String>,
        /// Its name here.
        expected: Option<String>,
    },
    /// Other preprocessing of images.
    #[error("preprocessing {note}: {found:?}; expected {expected:?}")]
    Preprocessing {
        /// Which.
        note: &'static str,
        /// There.
        found: Option<String>,
        /// Here.
        expected: Option<String>,
    },
    /// Another scale of the reply.
    #[error("scale of the reply 2^{found}; expected 2^{expected}")]
    ReplyScale {
        /// Base-two logarithm.
        found: f64,
        /// Base-two logarithm.
        expected: f64,
    },
    /// Another level of the reply.
    #[error("level of the reply {found}; expected {expected}")]
    ReplyLevel {
        /// Level.
        found: u32,
        /// Level.
        expected: u32,
    },
    /// Outputs in other slots, of another shape, or in other units.
    #[error("reply: another {what}")]
    Reply {
        /// What differs.
        what: &'static str,
    },
    /// Other keys.
    #[error("evaluation keys: another {what}")]
    Keys {
        /// What differs.
        what: &'static str,
    },
    /// Another strength of flooding.
    #[error("flooding: {found}; expected {expected}")]
    Flooding {
        /// In words.
        found: String,
        /// In words.
        expected: String,
    },
}

impl Program {
    /// The face of the program; `primes` are the ciphertext primes, lowest level first.
    ///
    /// # Errors
    /// [`ProgramError::FaceScale`] if the reply's scale is not one that programs can have in
    /// common: compile for an ensemble; [`ProgramError::NoFace`] for batch packing; whatever
    /// [`Program::validate`] finds.
    pub fn face(&self, primes: &[u64]) -> Result<Program, ProgramError> {
        if self.packing != Packing::SingleImage {
            return Err(ProgramError::NoFace);
        }
        let shapes = self.validate()?;
        let result = shapes[self.result.0 as usize];
        let found = self.scales(&shapes, primes)[self.result.0 as usize].log2();
        let scale = common_scale(found);
        if (found - scale).abs() > SCALE_SLACK {
            let found = format!("{found:.2}");
            return Err(ProgramError::FaceScale { found });
        }
        let mut steps = Steps {
            scale_log2: scale,
            level: self.input.level,
            largest: self.steps.last().map_or(0.0, |step| step.estimate.max_abs),
            steps: Vec::new(),
        };
        steps.push(map(result.ciphertexts, scale - self.input.scale_log2));
        if result.level < self.input.level {
            steps.level = result.level;
            steps.push(Operation::ModDrop {
                level: result.level,
            });
        }
        if let Some(period) = result.traced {
            let copies = (self.slots() / period as usize) as u32;
            steps.push(Operation::Trace { period, copies });
        }
        if let Some(flood) = self.flood() {
            // The bound is each program's own business.
            steps.push(Operation::Flood(Flood {
                bound_log2: 0.0,
                ..*flood
            }));
        }
        let face = Program {
            name: NAME.into(),
            model_digest: [0; 32],
            notes: NOTES.iter().filter_map(|key| self.own_note(key)).collect(),
            parameters: self.parameters.clone(),
            packing: Packing::SingleImage,
            weights: Weights::Plain,
            input: self.input.clone(),
            result: ValueId(steps.steps.len() as u32),
            steps: steps.steps,
            output: self.output.clone(),
            keys: self.keys.clone(),
        };
        face.validate()?;
        Ok(face)
    }

    fn own_note(&self, key: &str) -> Option<(String, String)> {
        let value = self.note(key)?;
        Some((key.to_string(), value.to_string()))
    }

    /// Names of the classes in the order of the outputs; none if nobody gave them.
    pub fn classes(&self) -> Vec<&str> {
        self.note(CLASSES_NOTE)
            .map(|names| names.split('\n').collect())
            .unwrap_or_default()
    }
}

/// The scale, by its base-two logarithm, that programs can have in common nearest to one.
pub fn common_scale(scale_log2: f64) -> f64 {
    (scale_log2 * SCALE_STEPS).round() / SCALE_STEPS
}

/// Whether a face is the expected one.
///
/// # Errors
/// [`Mismatch`]: the first difference.
pub fn compare(expected: &Program, found: &Program) -> Result<(), Mismatch> {
    compare_parameters(&expected.parameters, &found.parameters)?;
    compare_queries(expected, found)?;
    compare_notes(expected, found)?;
    compare_replies(expected, found)?;
    compare_keys(&expected.keys, &found.keys)?;
    match expected.digest() == found.digest() {
        true => Ok(()),
        // Not a face, or one of another build.
        false => Err(Mismatch::Reply { what: "form" }),
    }
}

fn compare_parameters(expected: &ParameterPlan, found: &ParameterPlan) -> Result<(), Mismatch> {
    if expected == found {
        return Ok(());
    }
    Err(Mismatch::Parameters {
        found: words(found),
        expected: words(expected),
    })
}

fn words(plan: &ParameterPlan) -> String {
    let scheme = match plan.scheme {
        Scheme::Ckks => "CKKS".to_string(),
        Scheme::Bgv { plain_bits } => format!("BGV with {plain_bits} bits"),
        Scheme::Bfv { plain_bits } => format!("BFV with {plain_bits} bits"),
    };
    let (ring, degree) = (plan.ring, plan.log_n);
    let (q, p, bits) = (&plan.q_bits, &plan.p_bits, plan.security_bits);
    format!("{scheme}, {ring:?} ring of degree 2^{degree}, primes {q:?} and {p:?}, {bits} bits")
}

fn compare_queries(expected: &Program, found: &Program) -> Result<(), Mismatch> {
    let (a, b) = (&expected.input, &found.input);
    let differences = [
        ("shape of the images", a.shape != b.shape),
        ("number of images", a.examples != b.examples),
        ("layout", a.gather != b.gather),
        ("level", a.level != b.level),
        ("form", a.traced != b.traced),
        ("scale", a.scale_log2 != b.scale_log2),
        ("range", (a.minimum, a.maximum) != (b.minimum, b.maximum)),
    ];
    match first(&differences) {
        Some(what) => Err(Mismatch::Query { what }),
        None => Ok(()),
    }
}

fn first(differences: &[(&'static str, bool)]) -> Option<&'static str> {
    let found = differences.iter().find(|(_, differs)| *differs);
    found.map(|(what, _)| *what)
}

fn compare_notes(expected: &Program, found: &Program) -> Result<(), Mismatch> {
    let (here, there) = (expected.classes(), found.classes());
    let name = |list: &[&str], at: usize| list.get(at).map(|name| (*name).to_string());
    for position in 0..here.len().max(there.len()) {
        if here.get(position) != there.get(position) {
            return Err(Mismatch::Classes {
                position,
                found: name(&there, position),
                expected: name(&here, position),
            });
        }
    }
    for note in &NOTES[1..] {
        let (here, there) = (expected.note(note), found.note(note));
        if here != there {
            return Err(Mismatch::Preprocessing {
                note,
                found: there.map(str::to_string),
                expected: here.map(str::to_string),
            });
        }
    }
    Ok(())
}

fn compare_replies(expected: &Program, found: &Program) -> Result<(), Mismatch> {
    let (here, there) = (Reply::of(expected), Reply::of(found));
    if here.level != there.level {
        let (found, expected) = (there.level, here.level);
        return Err(Mismatch::ReplyLevel { found, expected });
    }
    if here.scale_log2 != there.scale_log2 {
        let (found, expected) = (there.scale_log2, here.scale_log2);
        return Err(Mismatch::ReplyScale { found, expected });
    }
    let (a, b): (&OutputSpec, &OutputSpec) = (&expected.output, &found.output);
    let differences = [
        ("bound of the outputs", here.largest != there.largest),
        ("shape", a.shape != b.shape),
        ("place of an output", a.addresses != b.addresses),
        ("unit of the outputs", a.factor != b.factor),
        ("last operation", a.post != b.post),
    ];
    if let Some(what) = first(&differences) {
        return Err(Mismatch::Reply { what });
    }
    let flooding = |flood: Option<&Flood>| flood.map(|flood| flood.flooding);
    let (here, there) = (flooding(expected.flood()), flooding(found.flood()));
    if here == there {
        return Ok(());
    }
    let words = |flooding: Option<Flooding>| match flooding {
        Some(flooding) => flooding.to_string(),
        None => "none".to_string(),
    };
    Err(Mismatch::Flooding {
        found: words(there),
        expected: words(here),
    })
}

/// Level, scale and bound of a face's reply.
struct Reply {
    level: u32,
    scale_log2: f64,
    largest: f64,
}

impl Reply {
    fn of(face: &Program) -> Reply {
        match face.steps.last() {
            Some(step) => Reply {
                level: step.estimate.level,
                scale_log2: step.estimate.scale_log2,
                largest: step.estimate.max_abs,
            },
            None => Reply {
                level: face.input.level,
                scale_log2: face.input.scale_log2,
                largest: 0.0,
            },
        }
    }
}

fn compare_keys(expected: &KeyManifest, found: &KeyManifest) -> Result<(), Mismatch> {
    let steps = |a: &[GaloisStep], b: &[GaloisStep]| a != b;
    let differences = [
        (
            "level of the relinearisation",
            expected.relinearize != found.relinearize,
        ),
        ("set of rotations", steps(&expected.galois, &found.galois)),
        (
            "set of rotations after products",
            steps(&expected.relinearized, &found.relinearized),
        ),
        ("wish for a public key", expected.public != found.public),
    ];
    match first(&differences) {
        Some(what) => Err(Mismatch::Keys { what }),
        None => Ok(()),
    }
}

/// Steps of a face, one after the other.
struct Steps {
    scale_log2: f64,
    level: u32,
    /// What the outputs stay below.
    largest: f64,
    steps: Vec<Step>,
}

impl Steps {
    fn push(&mut self, operation: Operation) {
        self.steps.push(Step {
            layer: NAME.into(),
            inputs: vec![ValueId(self.steps.len() as u32)],
            operation,
            estimate: Estimate {
                level: self.level,
                scale_log2: self.scale_log2,
                max_abs: self.largest,
                ..Estimate::default()
            },
        });
    }
}

/// A linear map to so many ciphertexts, all of whose weights are zero.
fn map(ciphertexts: usize, weight_scale_log2: f64) -> Operation {
    let diagonal = |output| Diagonal {
        output,
        operand: 0,
        ciphertext: 0,
        giant: 0,
        baby: 0,
        values: SlotVector::default(),
    };
    let outputs = ciphertexts as u32;
    Operation::Linear(Linear {
        outputs,
        weight_scale_log2,
        diagonals: (0..outputs).map(diagonal).collect(),
    })
}
