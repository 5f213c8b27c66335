//! Scales, modulus switches and primes of exact programs (BGV).
//!
//! Values are integers: fixed-point numbers whose scales only grow. First the scales: bits are
//! given to the query and to the weights where they lower the error of rounding most, as many as
//! the plaintext prime has room for at the end; values in between may wrap, since arithmetic
//! modulo t forgives that. Then the modulus: its primes are of one size, and a prime is divided
//! out after a product as soon as the noise can do without it.
//!
//! Noise is that of the phase divided by t, in the canonical embedding, as in
//! `scuro_fhe::bgv::NoiseModel`: deviations for messages that look random modulo t, which is enough
//! where the model owner decrypts, and bounds for any message where somebody else does.

use scuro_fhe::flooding::Flooding;
use scuro_fhe::noise::{Noise, NoiseModel};
use scuro_program::{Operation, Step, Weights};

use super::descent::ValueState;
use super::{Chain, LIMBS_MAX, LevelPlan, flooded, is_weighted, pattern, special_choices};
use crate::primes::PrimeSet;

/// Why some steps cannot be met here.
pub(super) const NO_SUMS: &str = "`check::exact` refuses sums of several values";

/// Sizes of plaintext primes that are tried.
const PLAIN_BITS: std::ops::RangeInclusive<u32> = 20..=46;
/// Bits of the plaintext prime left above the largest output, sign included.
const OUTPUT_HEADROOM: f64 = 1.5;
/// Scale of everything at the start of the search.
const SCALE_START: f64 = 2.0;
/// Largest scale of weights: quantised weights are exact in single precision.
const WEIGHT_SCALE_MAX: f64 = 20.0;
/// Rounding may err by this many tolerances of an approximate program: it is the same for every
/// run and shows in the clear accuracy.
const ROUNDING_TOLERANCES: f64 = 12.0;
/// With the largest plaintext prime it may err by this many.
const ROUNDING_TOLERANCES_MAX: f64 = 1024.0;
/// Deviations of the noise that fit the modulus, in bits: 2^5 of them.
const MARGIN_BITS: f64 = 5.0;
/// Sizes of ciphertext primes that are tried.
const PRIME_BITS: std::ops::RangeInclusive<u32> = 34..=50;
/// How far below the smallest possible noise a division may aim, in bits.
const SLACKS: [f64; 5] = [0.0, 6.0, 12.0, 20.0, 30.0];

/// The fastest plan of less than `limit` microseconds; else the best error reached.
pub(super) fn choose(chain: &Chain<'_>, limit: f64) -> Result<LevelPlan, f64> {
    let mut best_error = f64::INFINITY;
    for plain_bits in PLAIN_BITS {
        let tolerances = match plain_bits == *PLAIN_BITS.end() {
            true => ROUNDING_TOLERANCES_MAX,
            false => ROUNDING_TOLERANCES,
        };
        let Some(plain) = chain.primes.plain(plain_bits, &PrimeSet::NONE) else {
            continue;
        };
        let Some(scales) = Scales::choose(chain, plain.log2()) else {
            continue;
        };
        best_error = best_error.min(scales.error);
        if scales.error <= tolerances * chain.bounds.tolerance {
            return modulus(chain, &scales, plain_bits, limit).ok_or(f64::INFINITY);
        }
    }
    Err(best_error)
}

/// Scales and levels of all values under a plan.
pub(super) fn states(chain: &Chain<'_>, plan: &LevelPlan) -> Vec<ValueState> {
    let weights = &plan.weight_scales;
    let (scales, variances) = rounding(chain, plan.input_scale, weights);
    let dropped = pattern::drop_counts(chain, &plan.drops);
    let state = |((scale, variance), dropped)| ValueState {
        dropped,
        scale,
        variance,
    };
    scales
        .into_iter()
        .zip(variances)
        .zip(dropped)
        .map(state)
        .collect()
}

/// Scales of the query and of the weights.
struct Scales {
    input: f64,
    weights: Vec<f64>,
    error: f64,
}

impl Scales {
    /// The scales with the least error whose output fits the plaintext prime.
    fn choose(chain: &Chain<'_>, plain_bits: f64) -> Option<Scales> {
        let weighted: Vec<usize> = (0..chain.steps.len())
            .filter(|&i| is_weighted(&chain.steps[i].operation))
            .collect();
        let mut scales = Scales {
            input: SCALE_START,
            weights: vec![SCALE_START; chain.steps.len()],
            error: f64::INFINITY,
        };
        let room = plain_bits - OUTPUT_HEADROOM - chain.magnitudes[chain.result];
        if scales.evaluate(chain).0 > room {
            return None;
        }
        while let Some(at) = scales.best_bit(chain, &weighted, room) {
            *scales.coordinate(at) += 1.0;
        }
        scales.error = scales.evaluate(chain).1;
        Some(scales)
    }

    fn coordinate(&mut self, at: Option<usize>) -> &mut f64 {
        match at {
            None => &mut self.input,
            Some(step) => &mut self.weights[step],
        }
    }

    /// Scale and error of the output.
    fn evaluate(&self, chain: &Chain<'_>) -> (f64, f64) {
        let (scales, variances) = rounding(chain, self.input, &self.weights);
        (scales[chain.result], variances[chain.result].sqrt())
    }

    /// Where one more bit lowers the error most for what it adds to the output's scale.
    fn best_bit(
        &mut self,
        chain: &Chain<'_>,
        weighted: &[usize],
        room: f64,
    ) -> Option<Option<usize>> {
        let (scale, error) = self.evaluate(chain);
        let places = std::iter::once(None).chain(weighted.iter().copied().map(Some));
        let mut best = (0.0, None);
        for at in places {
            if at.is_some() && *self.coordinate(at) >= WEIGHT_SCALE_MAX {
                continue;
            }
            *self.coordinate(at) += 1.0;
            let (longer, smaller) = self.evaluate(chain);
            *self.coordinate(at) -= 1.0;
            let gain = (error / smaller).log2() / (longer - scale).max(0.5);
            if longer <= room && gain > best.0 {
                best = (gain, Some(at));
            }
        }
        best.1
    }
}

/// Scale of every value, and variance of its error from rounding inputs, weights and constants.
fn rounding(chain: &Chain<'_>, input: f64, weights: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let unit = |scale: f64| (-2.0 * scale).exp2() / 12.0;
    let mut scales = vec![input];
    let mut variances = vec![unit(input)];
    for (index, step) in chain.steps.iter().enumerate() {
        let of = |i: usize| step.inputs[i].0 as usize;
        let operands = || step.inputs.iter().map(|id| scales[id.0 as usize]);
        let largest = operands().fold(f64::MIN, f64::max);
        let scale = match &step.operation {
            Operation::Square => 2.0 * largest,
            Operation::Multiply => operands().sum(),
            operation if is_weighted(operation) => largest + weights[index],
            _ => largest,
        };
        let live = |i: usize| chain.ranges[of(i)].live_square;
        let before = variances[of(0)];
        let variance = match &step.operation {
            Operation::Linear(_) => {
                let gain = &chain.gains[index];
                let operand = |i: usize| {
                    let weight = unit(scale - scales[of(i)]);
                    gain.row_energy[i] * variances[of(i)] + chain.exposures[index][i] * weight
                };
                (0..step.inputs.len()).map(operand).sum()
            }
            Operation::Combine { .. } => unreachable!("{NO_SUMS}"),
            Operation::AddConstant { .. } => before + unit(scale),
            Operation::Square => 4.0 * live(0) * before,
            Operation::Multiply => live(1) * before + live(0) * variances[of(1)],
            _ => before,
        };
        scales.push(scale);
        variances.push(variance);
    }
    (scales, variances)
}

/// Primes and modulus switches: the fastest of less than `limit` microseconds.
fn modulus(
    chain: &Chain<'_>,
    scales: &Scales,
    plain_bits: u32,
    mut limit: f64,
) -> Option<LevelPlan> {
    let mut best = None;
    for limbs in 2..=LIMBS_MAX {
        let found = best.is_some();
        for (bits, special) in PRIME_BITS.flat_map(|b| {
            let choices = special_choices(limbs).into_iter();
            choices.map(move |special| (b, special))
        }) {
            let total = bits * limbs as u32 + special.0 * special.1 as u32;
            if bits <= plain_bits || total > chain.bounds.log_qp {
                continue;
            }
            let Some(modulus) = Modulus::new(chain, plain_bits, bits, special, limbs) else {
                continue;
            };
            for slack in SLACKS {
                let Some(schedule) = modulus.schedule(slack) else {
                    continue;
                };
                let micros = super::micros(chain, &schedule.drops, limbs, special);
                if micros < limit {
                    limit = micros;
                    best = Some(modulus.plan(scales, schedule, micros));
                }
            }
        }
        // More limbs than needed are slower.
        if found {
            break;
        }
    }
    best
}

/// Where primes are divided out, and the error that is left.
struct Schedule {
    drops: Vec<u32>,
    worst_error: f64,
}

/// Noise of the values of a chain under primes of one size.
struct Modulus<'a> {
    chain: &'a Chain<'a>,
    plain_bits: u32,
    /// The plaintext prime t.
    plain: f64,
    bits: u32,
    special: (u32, usize),
    limbs: usize,
    primes: PrimeSet,
    /// Base-two logarithm of the modulus at every level.
    log_q: Vec<f64>,
    model: NoiseModel,
    /// A message modulo t, of any kind in the worst case, and a weight.
    message: Noise,
    weight: Noise,
}

impl<'a> Modulus<'a> {
    /// Nothing if there is no plaintext prime beside the others.
    fn new(
        chain: &'a Chain<'a>,
        plain_bits: u32,
        bits: u32,
        special: (u32, usize),
        limbs: usize,
    ) -> Option<Self> {
        let (special_bits, count) = special;
        let primes = chain
            .primes
            .set(&vec![bits; limbs], &vec![special_bits; count]);
        let plain = chain.primes.plain(plain_bits, &primes)?;
        let model = chain.primes.model(&primes);
        let message = Noise {
            std: model.encoding().std,
            bound: model.largest_plaintext(),
        };
        let weight = match chain.bounds.weights {
            Weights::Plain => message,
            _ => message.plus(model.fresh_secret()),
        };
        Some(Self {
            chain,
            plain_bits,
            plain,
            bits,
            special,
            limbs,
            log_q: (0..limbs).map(|level| primes.log_q(level)).collect(),
            primes,
            model,
            message,
            weight,
        })
    }

    fn plan(&self, scales: &Scales, schedule: Schedule, micros: f64) -> LevelPlan {
        LevelPlan {
            input_scale: scales.input,
            weight_scales: scales.weights.clone(),
            drops: schedule.drops,
            primes: vec![f64::from(self.bits); self.limbs],
            special: self.special,
            plain_bits: Some(self.plain_bits),
            error: scales.error,
            worst_error: schedule.worst_error,
            micros,
        }
    }

    /// The fastest schedule, if all values fit.
    fn schedule(&self, slack: f64) -> Option<Schedule> {
        let flooding = self.chain.bounds.flooding.map(flooded::flooding);
        // Primes that are left at the end hold the noise of flooding.
        (1..=self.limbs).find_map(|kept| {
            let (drops, (dropped, result)) = self.drops(slack, kept as u32)?;
            let worst_error = flooded::ROUNDING * result.bound;
            let needed = flooding.map_or(0.0, |how| self.flooded_bits(worst_error, how));
            (needed <= self.modulus(dropped)).then_some(Schedule { drops, worst_error })
        })
    }

    /// Modulus that a flooded result takes, whose phase over t is below `worst_error`.
    fn flooded_bits(&self, worst_error: f64, flooding: Flooding) -> f64 {
        // The error alone is hidden: the message is known to who decrypts.
        let message = (f64::from(self.chain.bounds.log_n) / 2.0).exp2() / 2.0;
        let error = Noise {
            std: 0.0,
            bound: worst_error + message,
        };
        let coefficients = self.model.flooded_coefficients(error, flooding);
        (0.5 + coefficients).log2() + self.room_bits() + flooded::ROOM_BITS
    }

    /// Primes dropped after each step, and the result with the primes dropped before it; nothing if
    /// some value does not fit. `kept` primes stay.
    fn drops(&self, slack: f64, kept: u32) -> Option<(Vec<u32>, (u32, Noise))> {
        // Queries may be encrypted under the public key.
        let mut values = vec![(0u32, self.message.plus(self.model.fresh_public()))];
        let mut drops = Vec::with_capacity(self.chain.steps.len());
        let floor = self.model.rescale();
        for (index, step) in self.chain.steps.iter().enumerate() {
            let operands = step.inputs.iter().map(|id| values[id.0 as usize]);
            let dropped = operands.clone().map(|(dropped, _)| dropped).max()?;
            let operands: Vec<Noise> = operands.map(|(_, noise)| noise).collect();
            let mut noise = self.result(index, step, dropped, &operands);
            self.fits(dropped, noise)?;
            let mut own = 0;
            while pattern::may_drop(&step.operation)
                && dropped + own + kept < self.limbs as u32
                && noise.std.log2() - f64::from(self.bits) >= floor.std.log2() - slack
            {
                let prime = self.primes.prime(self.level(dropped + own));
                let divided = self.model.divided(noise, prime);
                if self.fits(dropped + own + 1, divided).is_none() {
                    break;
                }
                noise = divided;
                own += 1;
            }
            values.push((dropped + own, noise));
            drops.push(own);
        }
        Some((drops, values[self.chain.result]))
    }

    /// Noise of a step's result.
    fn result(&self, index: usize, step: &Step, dropped: u32, operands: &[Noise]) -> Noise {
        let switch = self.model.key_switch(self.level(dropped));
        let before = operands[0];
        match &step.operation {
            Operation::Linear(_) => self.linear(index, operands, switch),
            Operation::Fold { stages } => {
                let slots: f64 = stages.iter().map(|s| s.len() as f64 + 1.0).product();
                let bound = stages.iter().fold(before.bound, |bound, stage| {
                    (stage.len() as f64 + 1.0) * (bound + switch.bound)
                });
                Noise {
                    std: slots.sqrt() * before.plus(switch).std,
                    bound,
                }
            }
            Operation::AddConstant { .. } => before.plus(self.weight),
            Operation::Square => self.product(before, before, std::f64::consts::SQRT_2),
            Operation::Multiply => self.product(before, operands[1], 1.0),
            Operation::Combine { .. } => unreachable!("{NO_SUMS}"),
            Operation::Rotate { .. } | Operation::Relinearize => before.plus(switch),
            _ => before,
        }
    }

    /// Phases over t multiply to t times those; `std` of a square is larger than that of a product
    /// of independent ones.
    fn product(&self, left: Noise, right: Noise, std: f64) -> Noise {
        Noise {
            std: std * self.plain * left.std * right.std,
            bound: self.plain * left.bound * right.bound,
        }
    }

    fn linear(&self, index: usize, operands: &[Noise], switch: Noise) -> Noise {
        let gain = &self.chain.gains[index];
        let worst = self.chain.worst.and_then(|w| w.linear[index].as_ref());
        let product = |(i, noise): (usize, &Noise)| {
            let one = self.product(noise.plus(switch), self.weight, 1.0);
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

    /// Whether a value fits the modulus left: always if somebody else decrypts, else but for
    /// messages of many deviations.
    fn fits(&self, dropped: u32, noise: Noise) -> Option<()> {
        let largest = match self.chain.bounds.flooding {
            Some(_) => noise.bound.log2(),
            None => noise.std.log2() + MARGIN_BITS,
        };
        (largest + self.room_bits() <= self.modulus(dropped)).then_some(())
    }

    /// Bits of modulus per unit of noise: t, and the sign.
    fn room_bits(&self) -> f64 {
        self.plain.log2() + 1.0
    }

    fn level(&self, dropped: u32) -> usize {
        self.limbs - 1 - dropped as usize
    }

    fn modulus(&self, dropped: u32) -> f64 {
        self.log_q[self.level(dropped)]
    }
}
