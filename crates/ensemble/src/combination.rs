//! Rules as programs on the holders' replies.
//!
//! A combination is a program like any other: its query are the replies of the holders that
//! answered, one ciphertext each, and it runs in clear, simulated or on ciphertexts. It reads the
//! replies as a [face](scuro_program::Program::face) lays them out: the scores in order, again and
//! again every `period` slots, with zeros between, `period` the next power of two. Its own reply
//! lies the same way.
//!
//! ```text
//! rule         ciphertext products   rotations     scale of the result, replies at 2^s
//! mean         -                     -             2^s
//! weighted     -                     -             2^s
//! log-opinion  -                     -             2^s
//! stacking     -                     period - 1    2^(s + 12)
//! soft-vote    1 a holder            -             2^2s
//! confidence   2 a holder            -             2^3s
//! ```
//!
//! Products are summed before they are relinearised where nothing multiplies them any more.
//!
//! Exact replies are integers modulo a plaintext prime t of a scheme whose factors follow from the
//! level (BFV), and are added up alone: a product would multiply their noise by t and more. Where t
//! has no room for the weights of a sum they are divided by a common number and rounded:
//!
//! ```text
//! w'_h = round(k w_h),  k = (T - M/2) / sum_h w_h < 1,  T = t / 2^(s + 1) / largest score
//! |k sum_h w_h z_h - sum_h w'_h z_h| <= sum_h |k w_h - w'_h| largest score
//! ```
//!
//! The bound of that error is the step's estimate. The mean is not rounded: replies of programs
//! that were compiled for an ensemble have room for 64 holders.

use scuro_program::{
    Diagonal, Estimate, GaloisStep, Gather, InputSpec, KeyManifest, Linear, NO_ELEMENT, Operation,
    OutputSpec, Packing, Program, ScalarLinear, Scheme, SlotVector, Step, ValueId, Weights,
};

use crate::confidence::Confidence;
use crate::error::{Error, Result};
use crate::linear::Exponents;
use crate::rule::{Rule, RuleKind};
use crate::soft_vote::SoftVote;
use crate::stacking::Stacking;

/// Bits of the meta-model's weights below the point.
const FACTOR_BITS: f64 = 12.0;
/// Bits left free above the largest sum.
const HEADROOM_BITS: f64 = 2.0;
/// Bits by which a compact reply is more precise than its largest score.
const PRECISION_BITS: f64 = 17.0;
/// Bits by which a plaintext prime may be smaller than its size says, which it is nearest to.
const SMALLER_PRIME_BITS: f64 = 0.5;
/// Name of every combination.
const NAME: &str = "combination";

/// The program that combines the replies of `holders` holders; `rule` is
/// [restricted](Rule::restricted) to them, and `face` is theirs.
///
/// # Errors
/// [`Error::NotOnCiphertexts`] for the majority; [`Error::Holders`] for a rule of another number
/// of holders; [`Error::Classes`]; [`Error::Reply`] for a face whose reply is laid out otherwise;
/// [`Error::NoRoom`]; [`Error::Program`].
pub fn program(face: &Program, rule: &Rule, holders: usize) -> Result<Program> {
    let mut builder = Builder::new(face, holders)?;
    builder.check(rule)?;
    let unit = face.output.factor;
    let factor = match rule {
        Rule::Mean => builder.mean(unit),
        Rule::Weighted(weights) => builder.weighted(weights.values(), unit)?,
        Rule::LogOpinion(exponents) => builder.pool(exponents, unit)?,
        Rule::Stacking(stacking) => builder.stacking(stacking),
        Rule::SoftVote(vote) => builder.soft_vote(vote),
        Rule::Confidence(confidence) => builder.confidence(confidence),
        Rule::Majority => return Err(Error::NotOnCiphertexts),
    };
    builder.finish(factor, rule.kind())
}

/// Slots after which the reply of a combination repeats.
pub fn period(program: &Program) -> usize {
    program.output.elements().next_power_of_two()
}

/// The weights of a rule that adds the replies of `holders` holders up as they are, one for each
/// of them, none of them 0, and the same whoever is absent; nothing for any other rule. Whatever is
/// added to the replies and cancels in this sum is not in the result.
///
/// Weights of exact replies are rounded by what those that are there leave room for: a rule whose
/// sum over everybody is rounded has other weights without somebody.
pub fn fixed_weights(face: &Program, rule: &Rule, holders: usize) -> Option<Vec<u8>> {
    let of = |rule: &Rule, count| sum_weights(&program(face, rule, count).ok()?);
    let all = of(rule, holders)?;
    let alone = |at: usize| of(&rule.restricted(&[at], holders).ok()?, 1);
    let same = |at: usize| alone(at).is_some_and(|own| own == all[at..=at]);
    (0..holders).all(same).then_some(all)
}

/// The weights of a program that adds its query's ciphertexts up.
fn sum_weights(program: &Program) -> Option<Vec<u8>> {
    let (first, rest) = program.steps.split_first()?;
    let Operation::ScalarLinear(matrix) = &first.operation else {
        return None;
    };
    let lowers = |step: &Step| matches!(step.operation, Operation::ModDrop { .. });
    let everybody = matrix.column.iter().copied().eq(0..matrix.columns);
    let one_sum = matrix.row_starts == [0, matrix.columns] && matrix.weight_scale_log2 == 0.0;
    if !(everybody && one_sum && first.inputs == [ValueId(0)] && rest.iter().all(lowers)) {
        return None;
    }
    let weight = |&weight: &i32| u8::try_from(weight).ok().filter(|&weight| weight > 0);
    matrix.weight.iter().map(weight).collect()
}

/// What the scores of a combination may be off by when its reply is made small: a share of the
/// largest that they can be.
pub fn precision(program: &Program) -> f64 {
    let largest = program
        .steps
        .last()
        .map_or(1.0, |step| step.estimate.max_abs);
    largest * program.output.factor.abs() * PRECISION_BITS.exp2().recip()
}

struct Builder<'a> {
    face: &'a Program,
    holders: usize,
    classes: usize,
    level: u32,
    /// Base-two logarithm of the scale of a reply.
    scale: f64,
    /// What the scores of a reply stay below.
    largest: f64,
    /// Slots after which a reply repeats and keeps nothing else.
    traced: Option<u32>,
    steps: Vec<Step>,
    /// Scale and bound of each value, the query first.
    values: Vec<(f64, f64)>,
}

impl<'a> Builder<'a> {
    fn new(face: &'a Program, holders: usize) -> Result<Self> {
        let last = face.steps.last().ok_or(Error::Reply { what: "no steps" })?;
        let classes = face.output.elements();
        if let Scheme::Bgv { .. } = face.parameters.scheme {
            let what = "factors that differ from reply to reply";
            return Err(Error::Reply { what });
        }
        let in_order = face.output.addresses.iter().enumerate();
        let laid_out = |(at, address): (usize, &scuro_program::SlotAddress)| {
            address.ciphertext == 0 && address.slot as usize == at
        };
        if classes == 0 || !in_order.into_iter().all(laid_out) {
            return Err(Error::Reply {
                what: "another layout",
            });
        }
        let (scale, largest) = (last.estimate.scale_log2, last.estimate.max_abs);
        Ok(Self {
            face,
            holders,
            classes,
            level: last.estimate.level,
            scale,
            largest,
            traced: face.validate()?[face.result.0 as usize].traced,
            steps: Vec::new(),
            values: vec![(scale, largest)],
        })
    }

    fn check(&self, rule: &Rule) -> Result<()> {
        let kind = rule.kind();
        let added_up = matches!(
            kind,
            RuleKind::Mean | RuleKind::Weighted | RuleKind::LogOpinion
        );
        match rule.holders() {
            _ if self.holders == 0 => Err(Error::NoPredictions),
            _ if kind == RuleKind::Majority => Err(Error::NotOnCiphertexts),
            _ if self.plain_bits().is_some() && !added_up => Err(Error::NoRoom { rule: kind }),
            Some(expected) if expected != self.holders => Err(Error::Holders {
                expected,
                found: self.holders,
            }),
            _ => match rule {
                Rule::Stacking(stacking) if stacking.classes() != self.classes => {
                    Err(Error::Classes {
                        holder: 0,
                        expected: stacking.classes(),
                        found: self.classes,
                    })
                }
                _ => Ok(()),
            },
        }
    }

    /// Adds a step whose result has a scale and a bound; its value.
    fn push(&mut self, inputs: &[u32], operation: Operation, scale: f64, largest: f64) -> u32 {
        self.steps.push(Step {
            layer: NAME.into(),
            inputs: inputs.iter().map(|&id| ValueId(id)).collect(),
            operation,
            estimate: Estimate {
                level: self.level,
                scale_log2: scale,
                max_abs: largest,
                ..Estimate::default()
            },
        });
        self.values.push((scale, largest));
        self.steps.len() as u32
    }

    /// The weighted sum of the ciphertexts of a value.
    fn sum_of(&mut self, value: u32, weights: &[u8]) -> u32 {
        let (scale, largest) = self.values[value as usize];
        let count = weights.len() as u32;
        let matrix = ScalarLinear {
            columns: count,
            row_starts: vec![0, count],
            column: (0..count).collect(),
            weight: weights.iter().map(|&weight| i32::from(weight)).collect(),
            weight_scale_log2: 0.0,
        };
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        self.push(
            &[value],
            Operation::ScalarLinear(matrix),
            scale,
            total * largest,
        )
    }

    fn mean(&mut self, unit: f64) -> f64 {
        self.sum_of(0, &vec![1; self.holders]);
        unit / self.holders as f64
    }

    fn weighted(&mut self, weights: &[u8], unit: f64) -> Result<f64> {
        let (weights, _) = self.rounded_sum(weights, RuleKind::Weighted)?;
        let divisor: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        Ok(unit / divisor)
    }

    fn pool(&mut self, exponents: &Exponents, unit: f64) -> Result<f64> {
        let (_, share) = self.rounded_sum(exponents.multiples(), RuleKind::LogOpinion)?;
        Ok(unit * exponents.unit() / share)
    }

    /// The weighted sum of the replies, with weights that they have room for; those, and the share
    /// of the given ones that they are.
    fn rounded_sum(&mut self, weights: &[u8], rule: RuleKind) -> Result<(Vec<u8>, f64)> {
        let given: Vec<f64> = weights.iter().map(|&weight| f64::from(weight)).collect();
        let total: f64 = given.iter().sum();
        let share = match self.sum_room() {
            Some(room) if room < total => (room - given.len() as f64 / 2.0).max(0.0) / total,
            _ => 1.0,
        };
        let rounded: Vec<u8> = given.iter().map(|w| (share * w).round() as u8).collect();
        if rounded.iter().all(|&weight| weight == 0) {
            return Err(Error::NoRoom { rule });
        }
        let off = |(given, rounded): (&f64, &u8)| (share * given - f64::from(*rounded)).abs();
        let off: f64 = given.iter().zip(&rounded).map(off).sum();
        self.sum_of(0, &rounded);
        if let Some(step) = self.steps.last_mut() {
            step.estimate.error = off * self.largest;
        }
        Ok((rounded, share))
    }

    /// The largest sum of weights that exact replies have room for.
    fn sum_room(&self) -> Option<f64> {
        let bits = self.plain_bits()?;
        let used = self.scale + 1.0 + self.largest.max(f64::MIN_POSITIVE).log2();
        Some((bits - used).exp2())
    }

    /// Base-two logarithm of what the plaintext prime is at least, if replies are exact.
    fn plain_bits(&self) -> Option<f64> {
        let bits = self.face.parameters.scheme.plain_bits()?;
        Some(f64::from(bits) - SMALLER_PRIME_BITS)
    }

    /// One map of all replies: the weight of score `i` of holder `h` for score `c` on the diagonal
    /// `i - c`.
    fn stacking(&mut self, model: &Stacking) -> f64 {
        let period = self.classes.next_power_of_two();
        let mut diagonals = Vec::new();
        for giant in 0..period {
            for holder in 0..self.holders {
                let weight = |class: usize| {
                    let read = (class + giant) % period;
                    let column = holder * self.classes + read;
                    if read < self.classes {
                        model.weights()[class][column]
                    } else {
                        0.0
                    }
                };
                let values = self.everywhere(weight);
                if !values.is_zero() {
                    diagonals.push(Diagonal {
                        output: 0,
                        operand: 0,
                        ciphertext: holder as u32,
                        giant: giant as u32,
                        baby: 0,
                        values,
                    });
                }
            }
        }
        let row = |row: &Vec<f64>| row.iter().map(|weight| weight.abs()).sum::<f64>();
        let gain = model.weights().iter().map(row).fold(0.0, f64::max);
        let operation = Operation::Linear(Linear {
            outputs: 1,
            weight_scale_log2: FACTOR_BITS,
            diagonals,
        });
        let value = self.push(
            &[0],
            operation,
            self.scale + FACTOR_BITS,
            gain * self.largest,
        );
        let unit = self.face.output.factor;
        self.constant(value, |class| model.bias()[class] / unit);
        unit
    }

    fn soft_vote(&mut self, vote: &SoftVote) -> f64 {
        let (bound, shift) = (vote.bound() / self.face.output.factor, vote.shift());
        let shifted = self.constant(0, |_| shift * bound);
        let (scale, largest) = self.values[shifted as usize];
        let square = self.push(
            &[shifted],
            Operation::Square,
            2.0 * scale,
            largest * largest,
        );
        let sum = self.sum_of(square, &vec![1; self.holders]);
        let votes = self.relinearize(sum);
        let factor = vote.factor() / (bound * bound);
        let offset = self.holders as f64 * vote.offset() / factor;
        self.constant(votes, |_| offset);
        factor
    }

    fn confidence(&mut self, confidence: &Confidence) -> f64 {
        let bound = confidence.bound() / self.face.output.factor;
        let (scale, largest) = self.values[0];
        let square = self.push(&[0], Operation::Square, 2.0 * scale, largest * largest);
        let square = self.relinearize(square);
        let ratio = Confidence::LINEAR / Confidence::CUBIC;
        let inner = self.constant(square, |_| ratio * bound * bound);
        let (inner_scale, inner_largest) = self.values[inner as usize];
        let product = self.push(
            &[inner, 0],
            Operation::Multiply,
            inner_scale + scale,
            inner_largest * largest,
        );
        let sum = self.sum_of(product, &vec![1; self.holders]);
        self.relinearize(sum);
        Confidence::CUBIC / bound.powi(3)
    }

    fn relinearize(&mut self, value: u32) -> u32 {
        let (scale, largest) = self.values[value as usize];
        self.push(&[value], Operation::Relinearize, scale, largest)
    }

    /// Adds a number to each score, in every ciphertext of a value.
    fn constant(&mut self, value: u32, of: impl Fn(usize) -> f64) -> u32 {
        let (scale, largest) = self.values[value as usize];
        let most = (0..self.classes)
            .map(|class| of(class).abs())
            .fold(0.0, f64::max);
        let count = self.ciphertexts(value);
        let values = vec![self.everywhere(of); count];
        self.push(
            &[value],
            Operation::AddConstant { values },
            scale,
            largest + most,
        )
    }

    /// Ciphertexts of a value: sums and maps leave one.
    fn ciphertexts(&self, value: u32) -> usize {
        let before = &self.steps[..value as usize];
        let joins = |step: &Step| {
            matches!(
                step.operation,
                Operation::ScalarLinear(_) | Operation::Linear(_)
            )
        };
        if before.iter().any(joins) {
            1
        } else {
            self.holders
        }
    }

    /// A number for each score, wherever it lies.
    fn everywhere(&self, of: impl Fn(usize) -> f64) -> SlotVector {
        let period = self.classes.next_power_of_two();
        let value = |slot: usize| match slot % period {
            class if class < self.classes => of(class) as f32,
            _ => 0.0,
        };
        let dense: Vec<f32> = (0..self.face.slots()).map(value).collect();
        SlotVector::from_dense(&dense)
    }

    /// That every value fits the modulus of the replies; of exact ones, the plaintext prime.
    fn check_room(&self, rule: RuleKind) -> Result<()> {
        let modulus = f64::from(self.face.parameters.log_q(self.level));
        let modulus = self.plain_bits().unwrap_or(modulus);
        let least = match self.plain_bits() {
            Some(_) => f64::MIN_POSITIVE,
            None => 1.0,
        };
        let needed = |(scale, largest): &(f64, f64)| scale + largest.max(least).log2();
        match self
            .values
            .iter()
            .all(|value| needed(value) + 1.0 <= modulus)
        {
            true => Ok(()),
            false => Err(Error::NoRoom { rule }),
        }
    }

    fn finish(mut self, factor: f64, rule: RuleKind) -> Result<Program> {
        self.check_room(rule)?;
        self.lower();
        let program = Program {
            name: NAME.into(),
            model_digest: [0; 32],
            notes: self.face.notes.clone(),
            parameters: self.face.parameters.clone(),
            packing: Packing::SingleImage,
            weights: Weights::Plain,
            input: self.query(),
            result: ValueId(self.steps.len() as u32),
            keys: self.keys(),
            output: OutputSpec {
                factor,
                ..self.face.output.clone()
            },
            steps: self.steps,
        };
        program.validate()?;
        Ok(program)
    }

    /// Leaves out the primes that the result does not need: they would only be sent. Exact replies
    /// keep theirs, which their noise takes.
    fn lower(&mut self) {
        if self.plain_bits().is_some() {
            return;
        }
        let last = self.values.len() - 1;
        let (scale, largest) = self.values[last];
        let needed = scale + largest.max(1.0).log2() + HEADROOM_BITS;
        let fits = |level: &u32| f64::from(self.face.parameters.log_q(*level)) >= needed;
        let level = (0..self.level).find(fits).unwrap_or(self.level);
        if level < self.level {
            self.level = level;
            self.push(&[last as u32], Operation::ModDrop { level }, scale, largest);
        }
    }

    /// The replies side by side, as if the scores of all holders were one image.
    fn query(&self) -> InputSpec {
        let (classes, slots) = (self.classes, self.face.slots());
        let period = classes.next_power_of_two();
        let map = |holder: usize| {
            let element = |slot: usize| match slot % period {
                class if class < classes => (holder * classes + class) as u32,
                _ => NO_ELEMENT,
            };
            (0..slots).map(element).collect()
        };
        InputSpec {
            shape: vec![self.holders as u32, classes as u32],
            examples: 1,
            gather: Gather::Slots((0..self.holders).map(map).collect()),
            level: self.face.steps.last().map_or(0, |step| step.estimate.level),
            traced: self.traced,
            scale_log2: self.scale,
            minimum: f32::MIN,
            maximum: f32::MAX,
        }
    }

    /// The keys that the steps use.
    fn keys(&self) -> KeyManifest {
        let mut keys = KeyManifest::default();
        for step in &self.steps {
            match &step.operation {
                Operation::Relinearize => {
                    let level = step.estimate.level;
                    keys.relinearize = keys.relinearize.max(Some(level));
                }
                Operation::Linear(linear) => {
                    let level = step.estimate.level;
                    let mut giants: Vec<u32> = linear.diagonals.iter().map(|d| d.giant).collect();
                    giants.retain(|&giant| giant > 0);
                    giants.dedup();
                    let key = |step| GaloisStep { step, level };
                    keys.galois = giants.into_iter().map(key).collect();
                }
                _ => {}
            }
        }
        keys
    }
}
