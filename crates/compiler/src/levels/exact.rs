//! Scales, modulus switches and primes of exact programs (BGV).
//!
//! Values are integers: fixed-point numbers whose scales only grow. First the scales: bits are
//! given to the query and to the weights where they lower the error of rounding most, as many as
//! the plaintext prime has room for at the end; values in between may wrap, since arithmetic
//! modulo t forgives that. Then the modulus: its primes are of one size, and a prime is divided
//! out after a product as soon as the noise can do without it.
//!
//! Noise is that of the phase divided by t, in the canonical embedding, as in
//! `scuro_fhe::bgv::NoiseModel`, for messages that look random modulo t.

use scuro_program::{Operation, Step, Weights};

use super::descent::ValueState;
use super::{Chain, LIMBS_MAX, LevelPlan, is_weighted, pattern, special_choices};

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
        let Some(scales) = Scales::choose(chain, plain_bits) else {
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
    fn choose(chain: &Chain<'_>, plain_bits: u32) -> Option<Scales> {
        let weighted: Vec<usize> = (0..chain.steps.len())
            .filter(|&i| is_weighted(&chain.steps[i].operation))
            .collect();
        let mut scales = Scales {
            input: SCALE_START,
            weights: vec![SCALE_START; chain.steps.len()],
            error: f64::INFINITY,
        };
        let room = f64::from(plain_bits) - OUTPUT_HEADROOM - chain.magnitudes[chain.result];
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
            Operation::Combine { factors, .. } => {
                let operand = |(i, factor): (usize, &f64)| {
                    let rounded = 3.0 * unit(scale - scales[of(i)]);
                    let square = chain.ranges[of(i)].max_abs.powi(2);
                    factor * factor * variances[of(i)] + rounded * square
                };
                factors.iter().enumerate().map(operand).sum()
            }
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
            for slack in SLACKS {
                let noise = Noise::new(chain, plain_bits, f64::from(bits), special, limbs);
                let Some(drops) = noise.drops(scales, slack) else {
                    continue;
                };
                let micros = super::micros(chain, &drops, limbs, special);
                if micros < limit {
                    limit = micros;
                    best = Some(plan(
                        scales, plain_bits, bits, limbs, special, drops, micros,
                    ));
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

fn plan(
    scales: &Scales,
    plain_bits: u32,
    bits: u32,
    limbs: usize,
    special: (u32, usize),
    drops: Vec<u32>,
    micros: f64,
) -> LevelPlan {
    LevelPlan {
        input_scale: scales.input,
        weight_scales: scales.weights.clone(),
        drops,
        primes: vec![f64::from(bits); limbs],
        special,
        plain_bits: Some(plain_bits),
        error: scales.error,
        micros,
    }
}

/// Noise of the values of a chain under primes of one size.
struct Noise<'a> {
    chain: &'a Chain<'a>,
    plain: f64,
    bits: f64,
    special: (u32, usize),
    limbs: usize,
    /// Variance of a message modulo t, of a weight, of a division's rounding.
    message: f64,
    weight: f64,
    floor: f64,
}

impl<'a> Noise<'a> {
    fn new(
        chain: &'a Chain<'a>,
        plain_bits: u32,
        bits: f64,
        special: (u32, usize),
        limbs: usize,
    ) -> Self {
        let model = &chain.noise;
        let weight = match chain.bounds.weights {
            Weights::Plain => model.encoding(),
            _ => model.fresh(),
        };
        Self {
            chain,
            plain: (2.0 * f64::from(plain_bits)).exp2(),
            bits,
            special,
            limbs,
            message: model.encoding(),
            weight,
            floor: model.rounding(),
        }
    }

    /// Primes dropped after each step, or nothing if some value does not fit.
    fn drops(&self, scales: &Scales, slack: f64) -> Option<Vec<u32>> {
        // Queries may be encrypted under the public key.
        let mut values = vec![(0u32, self.chain.noise.fresh_public())];
        let mut drops = Vec::with_capacity(self.chain.steps.len());
        for (index, step) in self.chain.steps.iter().enumerate() {
            let operands = step.inputs.iter().map(|id| values[id.0 as usize]);
            let dropped = operands.clone().map(|(dropped, _)| dropped).max()?;
            let lowered = operands.map(|(_, variance)| variance);
            let mut variance =
                self.result(index, step, dropped, &lowered.collect::<Vec<_>>(), scales);
            self.fits(dropped, variance)?;
            let mut own = 0;
            while super::pattern::may_drop(&step.operation)
                && dropped + own + 1 < self.limbs as u32
                && log2(variance) - self.bits >= log2(self.floor) - slack
            {
                let divided = variance * (-2.0 * self.bits).exp2() + self.floor;
                if self.fits(dropped + own + 1, divided).is_none() {
                    break;
                }
                variance = divided;
                own += 1;
            }
            values.push((dropped + own, variance));
            drops.push(own);
        }
        Some(drops)
    }

    /// Variance of a step's result.
    fn result(
        &self,
        index: usize,
        step: &Step,
        dropped: u32,
        operands: &[f64],
        scales: &Scales,
    ) -> f64 {
        let private = self.chain.bounds.weights != Weights::Plain;
        let switch = self.switching(dropped) + self.floor;
        let before = operands[0];
        match &step.operation {
            Operation::Linear(_) => {
                let gain = &self.chain.gains[index];
                let product = |(i, variance): (usize, &f64)| {
                    gain.diagonals[i] * self.plain * (variance + switch) * self.weight
                };
                let products: f64 = operands.iter().enumerate().map(product).sum();
                let switches = gain.diagonals.iter().sum::<f64>().sqrt() * 2.0;
                products + switches * switch
            }
            Operation::Fold { stages } => {
                let slots: f64 = stages.iter().map(|s| s.len() as f64 + 1.0).product();
                slots * (before + switch)
            }
            Operation::AddConstant { .. } if private => before + self.weight,
            Operation::AddConstant { .. } => before + self.message,
            Operation::Square => 2.0 * self.plain * before * before,
            Operation::Multiply => self.plain * before * operands[1],
            Operation::Combine { factors, .. } => {
                let factor = (2.0 * scales.weights[index]).exp2();
                let terms = factors.iter().zip(operands);
                terms.map(|(f, v)| f * f * factor * v).sum()
            }
            Operation::Rotate { .. } | Operation::Relinearize => before + switch,
            _ => before,
        }
    }

    /// Whether a value fits the modulus left.
    fn fits(&self, dropped: u32, variance: f64) -> Option<()> {
        let modulus = self.bits * f64::from(self.limbs as u32 - dropped);
        let needed = log2(variance) + log2(self.plain) + MARGIN_BITS + 1.0;
        (needed <= modulus).then_some(())
    }

    /// Variance of a key switch before its rounding.
    fn switching(&self, dropped: u32) -> f64 {
        let (special_bits, count) = self.special;
        let live = self.limbs - dropped as usize;
        let digits = live.div_ceil(count) as f64;
        let widest = self.bits * count.min(live) as f64;
        let special = f64::from(special_bits) * count as f64;
        self.chain.noise.key_switch(digits, widest, special)
    }
}

/// log2 of a deviation, given its square.
fn log2(variance: f64) -> f64 {
    variance.log2() / 2.0
}
