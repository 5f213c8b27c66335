//! Primes and modulus switches of exact programs.
//!
//! BGV: after a product the noise is far above what a division leaves of it, so a prime of the size
//! of that distance is divided out. BFV: noise grows by as many bits wherever primes are divided
//! out, so large ones are, whenever the noise has room for one. The primes that stay hold the noise
//! of the result. Sizes follow from the noise and the noise (of key switches) from the sizes, so
//! both are found in turns.
//!
//! Noise is that of the phase divided by t, in the canonical embedding, as in
//! `scuro_fhe::bgv::NoiseModel`: deviations for messages that look random modulo t, which is enough
//! where the model owner decrypts, and bounds for any message where somebody else does. A flooding
//! over the estimated error goes by the deviations too.
//!
//! Replies of an ensemble are added up: their noise has room for as much as their scores have.

use scuro_fhe::bgv::NoiseModel as ExactNoise;
use scuro_fhe::noise::{Noise, NoiseModel};
use scuro_program::{EXACT_WEIGHT_BITS_LEFT_OUT, Operation, Step, Weights};

use super::{NO_SUMS, Scales};
use crate::ensemble::{Common, SUM_BITS_EXACT};
use crate::levels::{Chain, LIMBS_MAX, LevelPlan, PRIME_BITS_MAX, flooded, micros, pattern};
use crate::options::Arithmetic;
use crate::primes::PrimeSet;

/// Deviations of a coefficient of the noise that fit the modulus: a sum of many terms passes them
/// with probability < 2^-64, a few for the model.
const DEVIATIONS: f64 = 12.0;
/// Root mean square of the square of a normal variable of deviation 1.
const SQUARE_STD: f64 = 1.732_050_807_568_877_2;
/// Smallest ciphertext prime; the lowest one is also larger than the plaintext prime.
const PRIME_BITS_MIN: u32 = 28;
/// Sizes of a single special prime, and of several of each number, that are tried.
const SPECIAL_BITS: std::ops::RangeInclusive<u32> = 38..=50;
const SPECIALS: [(u32, usize); 4] = [(44, 2), (50, 2), (50, 3), (50, 4)];
/// Digits of a key for which several special primes are worth it: with fewer, rotations are slower.
const DIGITS_MIN: usize = 2;
/// How far above what a division adds it leaves the noise, in bits.
const SLACKS: [f64; 7] = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0];
/// How much farther it does so where weights multiplied: a prime more would take away little, and
/// the next square has room for twice that.
const WEIGHTED_SLACKS: [f64; 5] = [0.0, 6.0, 9.0, 12.0, 16.0];
/// Sizes from which on primes are divided out; the fewer there are, the faster.
const WORTHWHILE_BITS: [f64; 3] = [30.0, 40.0, 50.0];
/// Turns after which sizes have settled.
const TURNS: usize = 6;
/// Sizes of the primes of BFV that are tried.
const INVARIANT_BITS: std::ops::RangeInclusive<u32> = 36..=PRIME_BITS_MAX;
/// How far above what a division adds these leave the noise at least, in bits.
const INVARIANT_SLACKS: [f64; 3] = [0.0, 2.0, 5.0];
/// The same where the primes are given, with steps in between.
const JOINED_SLACKS: [f64; 12] = [
    -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0,
];
/// Noise budget that is left of a sum of replies, in bits: enough to make it small.
const SUM_BUDGET_BITS: f64 = 1.0;
/// What the first program of an ensemble leaves for others whose noise is larger, in bits.
const OTHERS_BITS: f64 = 2.0;
/// Primes of which the first sizes are guessed.
const GUESS: [u32; 4] = [45; 4];

/// The fastest plan of less than `limit` microseconds, and of the fastest that of the smallest
/// modulus.
pub(super) fn fastest(
    chain: &Chain<'_>,
    scales: &Scales,
    plain_bits: u32,
    limit: f64,
) -> Option<LevelPlan> {
    let single = SPECIAL_BITS.map(|bits| (bits, 1));
    let ways = single.chain(SPECIALS).flat_map(|special| {
        let rules = Rule::all(chain.bounds.arithmetic);
        rules.into_iter().map(move |rule| (special, rule))
    });
    let plans = ways.filter_map(|(special, rule)| {
        let (modulus, schedule) = Modulus::settled(chain, plain_bits, special, rule)?;
        Some(modulus.plan(scales, schedule))
    });
    plans.filter(|plan| plan.micros < limit).min_by(|a, b| {
        a.micros
            .total_cmp(&b.micros)
            .then(bits(a).total_cmp(&bits(b)))
    })
}

/// The fastest plan of less than `limit` microseconds with the primes of an ensemble.
pub(super) fn join(
    chain: &Chain<'_>,
    common: &Common,
    plain_bits: u32,
    scales: &Scales,
    limit: f64,
) -> Option<LevelPlan> {
    let sizes = common.primes.iter().map(|&bits| bits as u32).collect();
    let modulus = Modulus::new(chain, plain_bits, sizes, common.special)?;
    let plans = JOINED_SLACKS.into_iter().filter_map(|slack| {
        let drops = modulus.given(slack, common.reply_level)?;
        let schedule = modulus.schedule(&drops)?;
        Some(modulus.plan(scales, schedule))
    });
    plans
        .filter(|plan| plan.micros < limit)
        .min_by(|a, b| a.micros.total_cmp(&b.micros))
}

/// Bits of the ciphertext modulus.
pub(super) fn bits(plan: &LevelPlan) -> f64 {
    plan.primes.iter().sum()
}

/// When primes are divided out, and what is left then.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Whatever is too much, if it is `worthwhile`.
    Excess {
        slack: f64,
        weighted_slack: f64,
        worthwhile: f64,
    },
    /// Primes of one size, as many as there is noise for.
    Whole { slack: f64, size: u32 },
}

impl Rule {
    fn all(arithmetic: Arithmetic) -> Vec<Rule> {
        if arithmetic == Arithmetic::ScaleInvariant {
            let sizes = |slack| INVARIANT_BITS.map(move |size| Rule::Whole { slack, size });
            return INVARIANT_SLACKS.into_iter().flat_map(sizes).collect();
        }
        let mut rules = Vec::new();
        for slack in SLACKS {
            for weighted_slack in WEIGHTED_SLACKS {
                rules.extend(WORTHWHILE_BITS.map(|worthwhile| Rule::Excess {
                    slack,
                    weighted_slack,
                    worthwhile,
                }));
            }
        }
        rules
    }

    /// Sizes of the primes to divide out after a step whose noise is `excess` bits above what a
    /// division adds.
    fn division(self, chain: &Chain<'_>, step: usize, excess: f64) -> Vec<u32> {
        match self {
            _ if !pattern::may_drop(chain, step) => Vec::new(),
            Rule::Excess {
                slack,
                weighted_slack,
                worthwhile,
            } => {
                let weighted = if chain.weighted[step] {
                    weighted_slack
                } else {
                    0.0
                };
                let excess = excess - slack - weighted;
                match excess < worthwhile {
                    true => Vec::new(),
                    false => parts(excess.round()),
                }
            }
            Rule::Whole { slack, size } => {
                let count = ((excess - slack) / f64::from(size)).floor().max(0.0);
                vec![size; count as usize]
            }
        }
    }
}

/// A value on the way.
#[derive(Debug, Clone, Copy)]
struct Value {
    /// Primes divided out before it.
    dropped: u32,
    noise: Noise,
    /// One in so many coefficients of the noise is not zero: sums over whole cycles of slots lie
    /// in a subring.
    focus: f64,
}

/// Where primes are divided out, and the error that is left.
struct Schedule {
    drops: Vec<u32>,
    worst_error: f64,
}

/// Noise of the values of a chain under primes of given sizes.
struct Modulus<'a> {
    chain: &'a Chain<'a>,
    plain_bits: u32,
    /// The plaintext prime t.
    plain: f64,
    /// Sizes of the ciphertext primes in the order in which they are divided out.
    sizes: Vec<u32>,
    special: (u32, usize),
    primes: PrimeSet,
    /// Base-two logarithm of the modulus at every level.
    log_q: Vec<f64>,
    model: NoiseModel,
    /// The same of messages modulo t.
    exact: ExactNoise,
    /// A message modulo t, of any kind in the worst case, and a weight.
    message: Noise,
    weight: Noise,
}

impl<'a> Modulus<'a> {
    /// With primes of the sizes that the noise asks for, if all values fit and the modulus is
    /// within the bounds.
    fn settled(
        chain: &'a Chain<'a>,
        plain_bits: u32,
        special: (u32, usize),
        rule: Rule,
    ) -> Option<(Self, Schedule)> {
        let mut modulus = Self::new(chain, plain_bits, GUESS.to_vec(), special)?;
        for turn in 0..TURNS {
            let spare = turn.saturating_sub(1) as f64;
            let (sizes, drops) = modulus.wanted(rule, spare)?;
            if !modulus.allows(&sizes) {
                return None;
            }
            modulus = Self::new(chain, plain_bits, sizes, special)?;
            if let Some(schedule) = modulus.schedule(&drops) {
                return Some((modulus, schedule));
            }
        }
        None
    }

    /// Nothing if there is no plaintext prime beside the others.
    fn new(
        chain: &'a Chain<'a>,
        plain_bits: u32,
        sizes: Vec<u32>,
        special: (u32, usize),
    ) -> Option<Self> {
        let (special_bits, count) = special;
        let lowest_first: Vec<u32> = sizes.iter().rev().copied().collect();
        let primes = chain.primes.set(&lowest_first, &vec![special_bits; count]);
        let plain = chain.primes.plain(plain_bits, &primes)?;
        let model = chain.primes.model(&primes);
        let message = Noise {
            std: model.encoding().std,
            bound: model.largest_plaintext(),
        };
        let weight = match chain.bounds.weights {
            Weights::Plain => message,
            _ => message
                .plus(model.fresh_secret())
                .plus(model.left_out(EXACT_WEIGHT_BITS_LEFT_OUT)),
        };
        Some(Self {
            chain,
            plain_bits,
            plain,
            special,
            log_q: (0..sizes.len()).map(|level| primes.log_q(level)).collect(),
            sizes,
            primes,
            exact: ExactNoise::planned(model.clone(), plain),
            model,
            message,
            weight,
        })
    }

    /// Whether security, and the number of primes, allow for these sizes.
    fn allows(&self, sizes: &[u32]) -> bool {
        let special = self.special.0 * self.special.1 as u32;
        let total = sizes.iter().sum::<u32>() + special;
        let fewest = match self.special.1 {
            1 => 1,
            count => DIGITS_MIN * count,
        };
        total <= self.chain.bounds.log_qp && (fewest..=LIMBS_MAX).contains(&sizes.len())
    }

    fn plan(&self, scales: &Scales, schedule: Schedule) -> LevelPlan {
        let limbs = self.sizes.len();
        LevelPlan {
            input_scale: scales.input,
            weight_scales: scales.weights.clone(),
            micros: micros(self.chain, &schedule.drops, limbs, self.special),
            drops: schedule.drops,
            primes: self.sizes.iter().map(|&bits| f64::from(bits)).collect(),
            special: self.special,
            plain_bits: Some(self.plain_bits),
            error: scales.error,
            worst_error: schedule.worst_error,
        }
    }

    /// Sizes of primes that bring the noise down by a rule, in the order in which they are divided
    /// out, with `spare` bits more at the end; and their number after each step.
    fn wanted(&self, rule: Rule, spare: f64) -> Option<(Vec<u32>, Vec<u32>)> {
        let floor = self.model.rescale();
        let mut sizes: Vec<u32> = Vec::new();
        let (drops, result) = self.walk(|index, mut value| {
            let excess = self.ratio_bits(value.noise, floor);
            for bits in rule.division(self.chain, index, excess) {
                let at = value.dropped as usize;
                sizes.resize(sizes.len().max(at + 1), 0);
                sizes[at] = sizes[at].max(bits);
                value = self.divided(value, f64::from(bits).exp2());
            }
            Some(value)
        })?;
        sizes.truncate(result.dropped as usize);
        let others = self.chain.bounds.degree.map_or(0.0, |_| OTHERS_BITS);
        sizes.extend(self.staying((self.reply_bits(result) + others + spare).ceil()));
        Some((sizes, drops))
    }

    /// How many primes are divided out after each step if there is noise for them, and at the end
    /// what is left down to the level of the reply.
    fn given(&self, slack: f64, reply_level: u32) -> Option<Vec<u32>> {
        let floor = self.model.rescale();
        let last = (self.sizes.len() as u32).checked_sub(1 + reply_level)?;
        let drops = self.walk(|index, mut value| {
            let may_drop = pattern::may_drop(self.chain, index);
            let is_result = index + 1 == self.chain.result;
            while value.dropped < last {
                let prime = self.primes.prime(self.level(value.dropped));
                let excess = self.ratio_bits(value.noise, floor) - slack;
                if !is_result && (!may_drop || excess < prime.log2()) {
                    break;
                }
                value = self.divided(value, prime);
            }
            Some(value)
        });
        drops.map(|(drops, _)| drops)
    }

    /// Modulus that the result takes, and what is computed of it.
    fn reply_bits(&self, result: Value) -> f64 {
        let flooded = self.flooded_bits(self.worst_error(result));
        let sums = self
            .chain
            .bounds
            .degree
            .map_or(0.0, |_| SUM_BITS_EXACT + SUM_BUDGET_BITS);
        self.needed(result).max(flooded) + sums
    }

    /// What the phase of the result over t stays below, as it is drowned.
    fn worst_error(&self, result: Value) -> f64 {
        flooded::ROUNDING
            * match self.is_worst_case() {
                true => result.noise.bound,
                false => flooded::ESTIMATED_DEVIATIONS * result.noise.std,
            }
    }

    /// Whether bounds count, and not deviations.
    fn is_worst_case(&self) -> bool {
        let flooding = self.chain.bounds.flooding;
        flooding.is_some_and(|flooding| flooding.is_worst_case())
    }

    /// Sizes of the primes that stay, of `bits` together; the last one holds messages alone.
    fn staying(&self, bits: f64) -> Vec<u32> {
        let smallest = PRIME_BITS_MIN.max(self.plain_bits + 1);
        let average = bits / (bits / f64::from(PRIME_BITS_MAX)).ceil();
        let lowest = (average.ceil() as u32).max(smallest);
        let rest = bits.ceil() - f64::from(lowest);
        let mut sizes = match rest > 0.0 {
            true => parts(rest),
            false => Vec::new(),
        };
        sizes.push(lowest);
        sizes
    }

    /// The drops with what they leave, if all values fit.
    fn schedule(&self, drops: &[u32]) -> Option<Schedule> {
        let (drops, result) = self.walk(|index, mut value| {
            self.fits(value)?;
            for _ in 0..drops[index] {
                let prime = self.primes.prime(self.level(value.dropped));
                value = self.divided(value, prime);
                self.fits(value)?;
            }
            Some(value)
        })?;
        let worst_error = self.worst_error(result);
        let fits = self.reply_bits(result) <= self.modulus(result.dropped);
        fits.then_some(Schedule { drops, worst_error })
    }

    /// Modulus that a flooded result takes, whose phase over t is below `worst_error`; none if it
    /// is not flooded.
    fn flooded_bits(&self, worst_error: f64) -> f64 {
        let Some(flooding) = self.chain.bounds.flooding else {
            return 0.0;
        };
        // The error alone is hidden: the message is known to who decrypts.
        let message = (f64::from(self.chain.bounds.log_n) / 2.0).exp2() / 2.0;
        let error = Noise {
            std: 0.0,
            bound: worst_error + message,
        };
        let flooding = flooded::flooding(flooding);
        let coefficients = self.model.flooded_coefficients(error, flooding);
        (0.5 + coefficients).log2() + self.room_bits() + flooded::ROOM_BITS
    }

    /// All values in turn. `divide` is told a step and its result, and says what is left of that
    /// once primes are divided out.
    ///
    /// Returns the number of primes divided out after each step, and the program's result.
    fn walk(
        &self,
        mut divide: impl FnMut(usize, Value) -> Option<Value>,
    ) -> Option<(Vec<u32>, Value)> {
        let mut values = vec![Value {
            dropped: 0,
            // Queries may be encrypted under the public key.
            noise: self.message.plus(self.model.fresh_public()),
            focus: 1.0,
        }];
        let mut drops = Vec::with_capacity(self.chain.steps.len());
        for (index, step) in self.chain.steps.iter().enumerate() {
            let operands = || step.inputs.iter().map(|id| values[id.0 as usize]);
            let dropped = operands().map(|value| value.dropped).max()?;
            let operands = operands().map(|value| self.aligned(value, dropped));
            let operands: Vec<Value> = operands.collect();
            let noises: Vec<Noise> = operands.iter().map(|value| value.noise).collect();
            let before = Value {
                dropped,
                noise: self.result(index, step, dropped, &noises),
                focus: focus(&step.operation, &operands),
            };
            let value = divide(index, before)?;
            drops.push(value.dropped - dropped);
            values.push(value);
        }
        Some((drops, values[self.chain.result]))
    }

    /// An operand at the level of the others: primes are left out of one of BGV, divided out of one
    /// of BFV.
    fn aligned(&self, mut value: Value, dropped: u32) -> Value {
        while self.scale_invariant() && value.dropped < dropped {
            let prime = self.primes.prime(self.level(value.dropped));
            value = self.divided(value, prime);
        }
        value
    }

    fn scale_invariant(&self) -> bool {
        self.chain.bounds.arithmetic == Arithmetic::ScaleInvariant
    }

    fn divided(&self, value: Value, prime: f64) -> Value {
        Value {
            dropped: value.dropped + 1,
            noise: self.model.divided(value.noise, prime),
            ..value
        }
    }

    /// Noise of a step's result.
    fn result(&self, index: usize, step: &Step, dropped: u32, operands: &[Noise]) -> Noise {
        let switch = self.model.key_switch(self.level(dropped));
        let before = operands[0];
        match &step.operation {
            Operation::Linear(_) => self.linear(index, operands, switch),
            Operation::Fold { stages } => {
                let bound = stages.iter().fold(before.bound, |bound, stage| {
                    (stage.len() as f64 + 1.0) * (bound + switch.bound)
                });
                Noise {
                    std: folded(stages).sqrt() * before.plus(switch).std,
                    bound,
                }
            }
            Operation::AddConstant { .. } => before.plus(self.weight),
            Operation::Square => self.product([before, before], SQUARE_STD, dropped),
            Operation::Multiply => self.product([before, operands[1]], 1.0, dropped),
            Operation::Combine { .. } if self.chain.weighted[index] => unreachable!("{NO_SUMS}"),
            Operation::Combine { .. } => {
                let others = operands[1..].iter().copied();
                others.fold(before, Noise::plus)
            }
            Operation::Rotate { .. } | Operation::Relinearize => before.plus(switch),
            _ => before,
        }
    }

    /// Product of two ciphertexts. `std` of a square, whose factors are the same, is larger than
    /// that of a product of independent ones.
    fn product(&self, [left, right]: [Noise; 2], std: f64, dropped: u32) -> Noise {
        let level = self.level(dropped);
        let product = match self.scale_invariant() {
            true => self.exact.mul_scale_invariant(left, right, level),
            false => self.exact.mul(left, right),
        };
        Noise {
            std: std * product.std,
            ..product
        }
    }

    fn linear(&self, index: usize, operands: &[Noise], switch: Noise) -> Noise {
        let gain = &self.chain.gains[index];
        let worst = self.chain.worst.and_then(|w| w.linear[index].as_ref());
        let product = |(i, noise): (usize, &Noise)| {
            let one = self.exact.mul(noise.plus(switch), self.weight);
            Noise {
                std: gain.diagonals[i].sqrt() * one.std,
                bound: worst.map_or(0.0, |w| w.diagonals[i]) * one.bound,
            }
        };
        let products = operands.iter().enumerate().map(product);
        // Half of the rotations are of inner sums, which may be relinearised too.
        let rotations = gain.diagonals.iter().sum::<f64>().sqrt();
        let switches = Noise {
            std: (2.0 * rotations).sqrt() * switch.std,
            bound: (2.0 * worst.map_or(0.0, |w| w.giants) + 1.0) * switch.bound,
        };
        products.fold(Noise::ZERO, Noise::plus).plus(switches)
    }

    /// Whether a value fits the modulus left: always if the largest error is drowned, else but for
    /// messages of many deviations.
    fn fits(&self, value: Value) -> Option<()> {
        (self.needed(value) <= self.modulus(value.dropped)).then_some(())
    }

    /// Bits of modulus that the largest coefficient of a value takes.
    fn needed(&self, value: Value) -> f64 {
        let coefficient = value.noise.std / self.model.embedding_factor();
        let largest = match self.is_worst_case() {
            true => value.noise.bound,
            false => DEVIATIONS * value.focus.sqrt() * coefficient,
        };
        largest.log2() + self.room_bits()
    }

    /// Bits between two noises, by what has to fit.
    fn ratio_bits(&self, above: Noise, below: Noise) -> f64 {
        match self.is_worst_case() {
            true => (above.bound / below.bound).log2(),
            false => (above.std / below.std).log2(),
        }
    }

    /// Bits of modulus per unit of noise: t, and the sign.
    fn room_bits(&self) -> f64 {
        self.plain.log2() + 1.0
    }

    fn level(&self, dropped: u32) -> usize {
        (self.sizes.len() - 1).saturating_sub(dropped as usize)
    }

    fn modulus(&self, dropped: u32) -> f64 {
        self.log_q[self.level(dropped)]
    }
}

/// Sizes of primes of `bits` together.
fn parts(bits: f64) -> Vec<u32> {
    let total = (bits as u32).max(PRIME_BITS_MIN);
    let count = total.div_ceil(PRIME_BITS_MAX);
    let part = |i: u32| ((total + i) / count).max(PRIME_BITS_MIN);
    (0..count).map(part).collect()
}

/// Slots that a fold sums.
fn folded(stages: &[Vec<u32>]) -> f64 {
    stages.iter().map(|s| s.len() as f64 + 1.0).product()
}

/// The focus of a step's result: a product with weights spreads the noise again, and the square of
/// what is in a subring stays there.
fn focus(operation: &Operation, operands: &[Value]) -> f64 {
    let before = operands.iter().map(|value| value.focus).fold(1.0, f64::max);
    match operation {
        Operation::Linear(_) => 1.0,
        Operation::Fold { stages } => before * folded(stages),
        // Of a value and its rotations.
        Operation::Combine { .. } => before * operands.len() as f64,
        _ => before,
    }
}
