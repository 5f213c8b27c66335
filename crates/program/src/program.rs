//! The whole program and its validation.

use crate::error::{KeyName, ProgramError};
use crate::parameters::ParameterPlan;
use crate::slots::SlotVector;
use crate::spec::{GaloisStep, Gather, InputSpec, KeyManifest, NO_ELEMENT, OutputSpec};
use crate::step::{Flood, Flooding, Linear, Operation, ScalarLinear, Step, ValueId};

/// Most steps of a program.
pub const LIMIT_STEPS: usize = 4096;
/// Most ciphertexts of a value.
pub const LIMIT_CIPHERTEXTS: usize = 1 << 17;
/// Most diagonals of a linear step.
pub const LIMIT_DIAGONALS: usize = 1 << 20;
/// Most bits of flooding.
pub const LIMIT_FLOODING_BITS: u32 = 128;
/// Most decryptions that a relaxed flooding is for.
pub const LIMIT_DECRYPTIONS: u32 = 1 << 30;
/// Step index in errors that concern the header, the query or the reply.
const HEADER: usize = usize::MAX;

/// How examples share ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// One example, or a few whose elements lie side by side, in few ciphertexts.
    SingleImage,
    /// One element of many examples per ciphertext.
    Batch,
}

/// Who may read the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Whoever runs the program.
    Plain,
    /// The model owner alone, who holds this copy: diagonals and constants are to be encrypted.
    Private,
    /// Nobody: diagonals and constants are empty here and come as ciphertexts beside the program.
    Withheld,
}

/// A compiled network.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// Name of the network.
    pub name: String,
    /// Digest of the graph it was compiled from.
    pub model_digest: [u8; 32],
    /// Free-form facts for people and clients (labels, preprocessing), by unique key.
    pub notes: Vec<(String, String)>,
    /// Encryption parameters.
    pub parameters: ParameterPlan,
    /// How examples share ciphertexts.
    pub packing: Packing,
    /// Who may read the weights.
    pub weights: Weights,
    /// The query.
    pub input: InputSpec,
    /// The steps.
    pub steps: Vec<Step>,
    /// The value that is the reply.
    pub result: ValueId,
    /// How to read it.
    pub output: OutputSpec,
    /// The keys it needs.
    pub keys: KeyManifest,
}

/// Form of a value, as it follows from the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueShape {
    /// Number of ciphertexts.
    pub ciphertexts: usize,
    /// Parts of each ciphertext: 2, or 3 after a product.
    pub parts: usize,
    /// Level.
    pub level: u32,
    /// Slots after which the value repeats, if it was traced. Its ciphertext is one of the subring
    /// that rotations by so many slots leave alone: the rest of what it decrypts to means nothing.
    /// Sums, rotations and products with what repeats as often go on; products of two do not.
    pub traced: Option<u32>,
}

impl Program {
    /// Checks everything that a runtime relies on and returns the form of every value (the query's
    /// first).
    ///
    /// # Errors
    /// The first broken rule.
    pub fn validate(&self) -> Result<Vec<ValueShape>, ProgramError> {
        check_parameters(&self.parameters)?;
        check_limit("steps", self.steps.len(), LIMIT_STEPS)?;
        self.check_input()?;
        let mut shapes = vec![ValueShape {
            ciphertexts: self.input.ciphertexts(),
            parts: 2,
            level: self.input.level,
            traced: self.input.traced,
        }];
        for (index, step) in self.steps.iter().enumerate() {
            let shape = self.check_step(index, step, &shapes)?;
            shapes.push(shape);
        }
        self.check_output(&shapes)?;
        self.check_weights()?;
        Ok(shapes)
    }

    /// How the reply is flooded: nothing if whoever decrypts it may learn how it was computed.
    pub fn flood(&self) -> Option<&Flood> {
        let step = (self.result.0 as usize).checked_sub(1)?;
        match &self.steps.get(step)?.operation {
            Operation::Flood(flood) => Some(flood),
            _ => None,
        }
    }

    /// Slots of one ciphertext.
    pub fn slots(&self) -> usize {
        self.parameters.slots()
    }

    /// The note of that key.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    fn check_input(&self) -> Result<(), ProgramError> {
        let input = &self.input;
        let finite =
            input.scale_log2.is_finite() && input.minimum.is_finite() && input.maximum.is_finite();
        check_finite(HEADER, "input scale or range", finite)?;
        let levels = self.parameters.q_bits.len() as u64;
        check_index(HEADER, "level of the query", input.level.into(), levels)?;
        let elements = checked_elements("input elements", &input.shape)?;
        check_limit("query ciphertexts", input.ciphertexts(), LIMIT_CIPHERTEXTS)?;
        let (examples, slots) = (input.examples as usize, self.slots());
        let Gather::Slots(maps) = &input.gather else {
            return check_count(HEADER, "examples of a batch", examples, slots);
        };
        check_index(HEADER, "no example", 0, examples as u64)?;
        check_limit("examples of a query", examples, slots)?;
        let elements = (elements * examples) as u64;
        if let Some(period) = input.traced {
            self.check_traced(HEADER, period, 1)?;
        }
        for map in maps {
            check_count(HEADER, "slots of the query map", map.len(), slots)?;
            for &element in map.iter().filter(|&&e| e != NO_ELEMENT) {
                check_index(HEADER, "query element", element.into(), elements)?;
            }
        }
        Ok(())
    }

    /// A trace to `period` slots of what stands `copies` times there.
    fn check_traced(&self, step: usize, period: u32, copies: u32) -> Result<(), ProgramError> {
        let slots = self.slots() as u64;
        for (what, found) in [("period of a trace", period), ("copies of a trace", copies)] {
            check_index(step, what, found.into(), slots + 1)?;
            let uneven = u64::from(!found.is_power_of_two());
            check_index(step, "trace by other than powers of two", uneven, 1)?;
        }
        let places = u64::from(period) * u64::from(copies);
        check_index(step, "places of a trace", places, slots + 1)?;
        let exact = u64::from(self.parameters.scheme.plain_bits().is_some());
        check_index(step, "trace of exact values", exact, 1)
    }

    fn check_output(&self, shapes: &[ValueShape]) -> Result<(), ProgramError> {
        check_index(
            HEADER,
            "result value",
            self.result.0.into(),
            shapes.len() as u64,
        )?;
        let result = shapes[self.result.0 as usize];
        let elements = checked_elements("output elements", &self.output.shape)?;
        let examples = match self.input.gather {
            Gather::Slots(_) => self.input.examples as usize,
            Gather::Batch => 1,
        };
        let (found, expected) = (self.output.addresses.len(), elements * examples);
        check_count(HEADER, "output addresses", found, expected)?;
        let positive = self.output.factor.is_finite() && self.output.factor > 0.0;
        check_finite(HEADER, "factor of the outputs", positive)?;
        for address in &self.output.addresses {
            let ciphertexts = result.ciphertexts as u64;
            check_index(
                HEADER,
                "output ciphertext",
                address.ciphertext.into(),
                ciphertexts,
            )?;
            check_index(
                HEADER,
                "output slot",
                address.slot.into(),
                self.slots() as u64,
            )?;
        }
        Ok(())
    }

    fn check_step(
        &self,
        index: usize,
        step: &Step,
        shapes: &[ValueShape],
    ) -> Result<ValueShape, ProgramError> {
        let estimate = &step.estimate;
        let numbers = [
            estimate.scale_log2,
            estimate.max_abs,
            estimate.error,
            estimate.micros,
        ];
        check_finite(index, "estimate", numbers.iter().all(|v| v.is_finite()))?;
        let operands = operand_shapes(index, step, shapes)?;
        let check = StepCheck {
            program: self,
            index,
            operands: &operands,
        };
        let shape = check.result(&step.operation)?;
        if shape.level != estimate.level {
            return Err(ProgramError::WrongLevel {
                step: index,
                found: estimate.level,
                expected: shape.level,
            });
        }
        check_limit(
            "ciphertexts of a value",
            shape.ciphertexts,
            LIMIT_CIPHERTEXTS,
        )?;
        Ok(shape)
    }
}

/// Looks the operands up and checks that they are of one level.
fn operand_shapes(
    index: usize,
    step: &Step,
    shapes: &[ValueShape],
) -> Result<Vec<ValueShape>, ProgramError> {
    let mut operands = Vec::with_capacity(step.inputs.len());
    for &ValueId(id) in &step.inputs {
        check_index(index, "operand", id.into(), shapes.len() as u64)?;
        operands.push(shapes[id as usize]);
    }
    let Some(first) = operands.first() else {
        return Err(ProgramError::WrongCount {
            step: index,
            what: "operands",
            found: 0,
            expected: 1,
        });
    };
    for operand in &operands {
        if operand.traced != first.traced {
            return Err(ProgramError::Traced { step: index });
        }
        if operand.level != first.level {
            let (found, expected) = (operand.level, first.level);
            return Err(ProgramError::WrongLevel {
                step: index,
                found,
                expected,
            });
        }
    }
    Ok(operands)
}

struct StepCheck<'a> {
    program: &'a Program,
    index: usize,
    operands: &'a [ValueShape],
}

impl StepCheck<'_> {
    fn result(&self, operation: &Operation) -> Result<ValueShape, ProgramError> {
        let first = self.operands[0];
        match operation {
            Operation::Linear(linear) => self.linear(linear),
            Operation::Rotate { steps } => self.rotate(steps),
            Operation::Fold { stages } => self.fold(stages),
            Operation::AddConstant { values } => {
                self.unary()?;
                check_count(self.index, "constants", values.len(), first.ciphertexts)?;
                values.iter().try_for_each(|v| self.runs(v))?;
                Ok(first)
            }
            Operation::AddScalars { values } => {
                self.unary()?;
                check_count(self.index, "constants", values.len(), first.ciphertexts)?;
                let finite = values.iter().all(|v| v.is_finite());
                check_finite(self.index, "constant", finite)?;
                Ok(first)
            }
            Operation::Trace { period, copies } => {
                self.unary()?;
                self.two_parts()?;
                self.untraced()?;
                self.program.check_traced(self.index, *period, *copies)?;
                let traced = Some(*period);
                Ok(ValueShape { traced, ..first })
            }
            Operation::Square => {
                self.unary()?;
                self.two_parts()?;
                self.untraced()?;
                Ok(ValueShape { parts: 3, ..first })
            }
            Operation::Multiply => self.multiply(),
            Operation::Relinearize => self.relinearize(),
            Operation::Rescale => {
                self.unary()?;
                let level = first.level.checked_sub(1);
                let level = level.ok_or(ProgramError::NoLevelLeft { step: self.index })?;
                Ok(ValueShape { level, ..first })
            }
            Operation::ModDrop { level } => {
                self.unary()?;
                if *level >= first.level {
                    return Err(ProgramError::NoLevelLeft { step: self.index });
                }
                Ok(ValueShape {
                    level: *level,
                    ..first
                })
            }
            Operation::Combine {
                weight_scale_log2,
                factors,
            } => self.combine(*weight_scale_log2, factors),
            Operation::ScalarLinear(matrix) => self.scalar_linear(matrix),
            Operation::Flood(flood) => self.flood(flood),
        }
    }

    /// Whatever is computed after a flooding is not hidden by it, so it makes the reply.
    fn flood(&self, flood: &Flood) -> Result<ValueShape, ProgramError> {
        self.unary()?;
        self.two_parts()?;
        check_finite(self.index, "error bound", flood.bound_log2.is_finite())?;
        let (bits, decryptions) = match flood.flooding {
            Flooding::Statistical { bits } => (bits, 1),
            Flooding::Relaxed { bits, decryptions } | Flooding::Estimated { bits, decryptions } => {
                (bits, decryptions)
            }
        };
        let limit = LIMIT_FLOODING_BITS + 1;
        check_index(self.index, "flooding bits", bits.into(), limit.into())?;
        check_index(self.index, "no flooding bit", 0, bits.into())?;
        check_index(self.index, "no decryption", 0, decryptions.into())?;
        let limit = LIMIT_DECRYPTIONS + 1;
        check_index(self.index, "decryptions", decryptions.into(), limit.into())?;
        if self.program.result != ValueId(self.index as u32 + 1) {
            return Err(ProgramError::FloodInside { step: self.index });
        }
        if !self.program.keys.public {
            let (step, what) = (self.index, KeyName::Public);
            let level = self.operands[0].level;
            return Err(ProgramError::MissingKey { step, what, level });
        }
        Ok(self.operands[0])
    }

    fn unary(&self) -> Result<(), ProgramError> {
        check_count(self.index, "operands", self.operands.len(), 1)
    }

    /// What was traced is multiplied with nothing that is encrypted.
    fn untraced(&self) -> Result<(), ProgramError> {
        match self.operands.iter().any(|o| o.traced.is_some()) {
            true => Err(ProgramError::Traced { step: self.index }),
            false => Ok(()),
        }
    }

    fn two_parts(&self) -> Result<(), ProgramError> {
        match self.operands.iter().position(|o| o.parts != 2) {
            Some(operand) => Err(ProgramError::NeedsRelinearize {
                step: self.index,
                operand,
            }),
            None => Ok(()),
        }
    }

    fn runs(&self, vector: &SlotVector) -> Result<(), ProgramError> {
        let slots = self.program.slots();
        let mut free = 0usize;
        for run in &vector.runs {
            let start = run.start as usize;
            let end = start.saturating_add(run.values.len());
            if start < free || run.values.is_empty() || end > slots {
                return Err(ProgramError::BadRuns {
                    step: self.index,
                    slots,
                });
            }
            let finite = run.values.iter().all(|v| v.is_finite());
            check_finite(self.index, "slot value", finite)?;
            free = end;
        }
        Ok(())
    }

    fn rotation(&self, step: u32) -> Result<(), ProgramError> {
        check_index(
            self.index,
            "rotation",
            step.into(),
            self.program.slots() as u64,
        )?;
        if step == 0 {
            return Ok(());
        }
        let held = level_of(&self.program.keys.galois, step);
        self.key(held, KeyName::Rotation(step))
    }

    fn linear(&self, linear: &Linear) -> Result<ValueShape, ProgramError> {
        self.two_parts()?;
        check_finite(
            self.index,
            "weight scale",
            linear.weight_scale_log2.is_finite(),
        )?;
        check_limit("diagonals", linear.diagonals.len(), LIMIT_DIAGONALS)?;
        for diagonal in &linear.diagonals {
            let count = self.operands.len() as u64;
            check_index(
                self.index,
                "diagonal output",
                diagonal.output.into(),
                linear.outputs.into(),
            )?;
            check_index(
                self.index,
                "diagonal operand",
                diagonal.operand.into(),
                count,
            )?;
            let ciphertexts = self.operands[diagonal.operand as usize].ciphertexts as u64;
            check_index(
                self.index,
                "diagonal ciphertext",
                diagonal.ciphertext.into(),
                ciphertexts,
            )?;
            self.rotation(diagonal.giant)?;
            self.rotation(diagonal.baby)?;
            if self.program.weights != Weights::Plain {
                self.private_rotation(diagonal.giant)?;
            }
            self.runs(&diagonal.values)?;
        }
        if linear.outputs == 0 {
            let (found, expected) = (0, 1);
            return Err(ProgramError::WrongCount {
                step: self.index,
                what: "outputs",
                found,
                expected,
            });
        }
        let ciphertexts = linear.outputs as usize;
        Ok(ValueShape {
            ciphertexts,
            parts: 2,
            ..self.operands[0]
        })
    }

    fn rotate(&self, steps: &[u32]) -> Result<ValueShape, ProgramError> {
        self.unary()?;
        self.two_parts()?;
        check_limit("rotations", steps.len(), LIMIT_CIPHERTEXTS)?;
        check_index(self.index, "no rotation", 0, steps.len() as u64)?;
        steps.iter().try_for_each(|&step| self.rotation(step))?;
        let first = self.operands[0];
        Ok(ValueShape {
            ciphertexts: first.ciphertexts * steps.len(),
            ..first
        })
    }

    fn fold(&self, stages: &[Vec<u32>]) -> Result<ValueShape, ProgramError> {
        self.unary()?;
        self.two_parts()?;
        check_limit("fold stages", stages.len(), LIMIT_STEPS)?;
        stages
            .iter()
            .flatten()
            .try_for_each(|&step| self.rotation(step))?;
        Ok(self.operands[0])
    }

    fn multiply(&self) -> Result<ValueShape, ProgramError> {
        check_count(self.index, "operands", self.operands.len(), 2)?;
        self.two_parts()?;
        self.untraced()?;
        let (a, b) = (self.operands[0], self.operands[1]);
        check_count(
            self.index,
            "ciphertexts of operand 1",
            b.ciphertexts,
            a.ciphertexts,
        )?;
        Ok(ValueShape { parts: 3, ..a })
    }

    fn relinearize(&self) -> Result<ValueShape, ProgramError> {
        self.unary()?;
        self.relinearization_key()?;
        Ok(ValueShape {
            parts: 2,
            ..self.operands[0]
        })
    }

    fn relinearization_key(&self) -> Result<(), ProgramError> {
        let held = self.program.keys.relinearize;
        self.key(held, KeyName::Relinearization)
    }

    /// That a key reaches the level of the operands.
    fn key(&self, held: Option<u32>, what: KeyName) -> Result<(), ProgramError> {
        let level = self.operands[0].level;
        if held.is_some_and(|key_level| key_level >= level) {
            return Ok(());
        }
        let step = self.index;
        Err(ProgramError::MissingKey { step, what, level })
    }

    /// Products with encrypted weights have three parts: the rotation of their sum relinearises.
    fn private_rotation(&self, step: u32) -> Result<(), ProgramError> {
        if step == 0 {
            return self.relinearization_key();
        }
        let held = level_of(&self.program.keys.relinearized, step);
        self.key(held, KeyName::RelinearizedRotation(step))
    }

    fn combine(&self, scale_log2: f64, factors: &[f64]) -> Result<ValueShape, ProgramError> {
        check_count(self.index, "factors", factors.len(), self.operands.len())?;
        let finite = scale_log2.is_finite() && factors.iter().all(|f| f.is_finite());
        check_finite(self.index, "factor", finite)?;
        let first = self.operands[0];
        for operand in self.operands {
            let (found, expected) = (operand.ciphertexts, first.ciphertexts);
            check_count(self.index, "ciphertexts of an operand", found, expected)?;
        }
        let parts = self.operands.iter().map(|o| o.parts).max().unwrap_or(2);
        Ok(ValueShape { parts, ..first })
    }

    fn scalar_linear(&self, matrix: &ScalarLinear) -> Result<ValueShape, ProgramError> {
        check_finite(
            self.index,
            "weight scale",
            matrix.weight_scale_log2.is_finite(),
        )?;
        let columns: usize = self.operands.iter().map(|o| o.ciphertexts).sum();
        check_count(
            self.index,
            "matrix columns",
            matrix.columns as usize,
            columns,
        )?;
        check_count(
            self.index,
            "matrix weights",
            matrix.weight.len(),
            matrix.column.len(),
        )?;
        let rows = matrix.row_starts.len().saturating_sub(1);
        check_index(self.index, "empty matrix", 0, rows as u64)?;
        check_count(
            self.index,
            "first row start",
            matrix.row_starts[0] as usize,
            0,
        )?;
        check_count(
            self.index,
            "last row start",
            matrix.row_starts[rows] as usize,
            matrix.column.len(),
        )?;
        for bounds in matrix.row_starts.windows(2) {
            check_index(
                self.index,
                "row start",
                bounds[0].into(),
                u64::from(bounds[1]) + 1,
            )?;
            let end = (bounds[1] as usize).min(matrix.column.len());
            let row = matrix
                .column
                .get(bounds[0] as usize..end)
                .unwrap_or_default();
            for pair in row.windows(2) {
                let (column, next) = (pair[0].into(), pair[1].into());
                check_index(self.index, "matrix column in ascending order", column, next)?;
            }
        }
        for &column in &matrix.column {
            check_index(self.index, "matrix column", column.into(), columns as u64)?;
        }
        let parts = self.operands.iter().map(|o| o.parts).max().unwrap_or(2);
        Ok(ValueShape {
            ciphertexts: rows,
            parts,
            ..self.operands[0]
        })
    }
}

/// Level of the key for a rotation.
fn level_of(keys: &[GaloisStep], step: u32) -> Option<u32> {
    let at = keys.binary_search_by_key(&step, |key| key.step).ok()?;
    Some(keys[at].level)
}

fn check_parameters(plan: &ParameterPlan) -> Result<(), ProgramError> {
    check_index(HEADER, "log2 of the ring degree", plan.log_n.into(), 18)?;
    check_index(
        HEADER,
        "lowest log2 of the ring degree",
        9,
        plan.log_n.into(),
    )?;
    if let Some(plain_bits) = plan.scheme.plain_bits() {
        check_index(HEADER, "bits of the plaintext prime", plain_bits.into(), 47)?;
    }
    check_limit("ciphertext primes", plan.q_bits.len(), 64)?;
    check_limit("special primes", plan.p_bits.len(), 64)?;
    check_index(HEADER, "no ciphertext prime", 0, plan.q_bits.len() as u64)?;
    for &bits in plan.q_bits.iter().chain(&plan.p_bits) {
        check_index(HEADER, "bits of a prime", bits.into(), 62)?;
    }
    Ok(())
}

fn checked_elements(what: &'static str, shape: &[u32]) -> Result<usize, ProgramError> {
    let limit = LIMIT_CIPHERTEXTS as u64 * (1 << 17);
    let product = shape.iter().try_fold(1u64, |p, &d| p.checked_mul(d.into()));
    match product {
        Some(count) if count <= limit => Ok(count as usize),
        _ => Err(ProgramError::TooLarge {
            what,
            found: product.unwrap_or(u64::MAX),
            limit,
        }),
    }
}

fn check_limit(what: &'static str, found: usize, limit: usize) -> Result<(), ProgramError> {
    if found <= limit {
        return Ok(());
    }
    Err(ProgramError::TooLarge {
        what,
        found: found as u64,
        limit: limit as u64,
    })
}

fn check_index(
    step: usize,
    what: &'static str,
    found: u64,
    limit: u64,
) -> Result<(), ProgramError> {
    if found < limit {
        return Ok(());
    }
    Err(ProgramError::OutOfRange {
        step,
        what,
        found,
        limit,
    })
}

fn check_count(
    step: usize,
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), ProgramError> {
    if found == expected {
        return Ok(());
    }
    Err(ProgramError::WrongCount {
        step,
        what,
        found,
        expected,
    })
}

fn check_finite(step: usize, what: &'static str, finite: bool) -> Result<(), ProgramError> {
    if finite {
        Ok(())
    } else {
        Err(ProgramError::NotFinite { step, what })
    }
}
