//! Search for primes, scales, and places to relinearise and rescale.

use std::collections::HashSet;

use rayon::prelude::*;
use scuro_fhe::RingKind;
use scuro_fhe::params::{
    LOG_N_MAX, LOG_N_MIN, ParameterSpec, Parameters, SecurityLevel, SecurityTable, max_log_qp,
};

use super::model::{Setting, State, weight_scale_log2};
use super::statistics::{MatrixStatistics, Statistics};
use crate::error::CompileError;
use crate::normalise::{Network, StageKind, Var};
use crate::options::Options;

/// Most ciphertext primes that are tried.
const LIMBS_MAX: usize = 12;
/// Prime sizes that are tried.
const PRIME_BITS: [u32; 10] = [28, 30, 32, 34, 36, 38, 40, 41, 42, 44];
/// Bits of an integer weight, sign included, that are tried for each stage.
const WEIGHT_BITS: [u32; 7] = [18, 16, 14, 12, 11, 10, 8];
/// Bits of a weight and a prime together that one multiply-add takes.
const WORD_BITS: u32 = 52;
const INPUT_SCALES: std::ops::RangeInclusive<u32> = 10..=34;
/// Size of the special prime, where the bound leaves room.
const SPECIAL_BITS: u32 = 50;
const SPECIAL_BITS_MIN: u32 = 24;
/// Partial schedules that are kept after each stage.
const BEAM: usize = 512;
/// Bits of a factor where operands of different scales are added.
const FACTOR_BITS: f64 = 11.0;

/// How a stage is computed and what is done with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Treatment {
    /// Bits of its weights, if it has any.
    pub(super) weight_bits: u32,
    pub(super) relinearize: bool,
    pub(super) rescales: usize,
}

/// How one stage's operands are brought to one level and scale.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Alignment {
    pub(super) level: usize,
    /// log2 of the scale of each term's weights or factor.
    pub(super) weight_scales: Vec<f64>,
    /// log2 of the scale of the terms' sum; above that of a term, the term is lifted.
    pub(super) scale_log2: f64,
}

/// A finished schedule.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub(super) setting: Setting,
    /// Per variable, after treatment.
    pub(super) states: Vec<State>,
    /// Per variable; the input has none.
    pub(super) treatments: Vec<Treatment>,
    pub(super) micros: f64,
}

/// The cheapest schedule that is precise enough.
pub(super) fn search(
    network: &Network,
    statistics: &Statistics,
    options: &Options,
    tolerance: f64,
) -> Result<Schedule, CompileError> {
    let mut least_error = f64::INFINITY;
    for limbs in 1..=LIMBS_MAX {
        let run = |setting| {
            let search = Search {
                network,
                statistics,
                setting,
                tolerance,
            };
            search.run()
        };
        let schedules: Vec<Schedule> = settings(limbs, options)?
            .par_iter()
            .filter_map(run)
            .collect();
        let mut best: Option<Schedule> = None;
        for schedule in schedules {
            let error = schedule.states[network.output].error;
            least_error = least_error.min(error);
            if error <= tolerance
                && best
                    .as_ref()
                    .is_none_or(|best| better(&schedule, best, network))
            {
                best = Some(schedule);
            }
        }
        if let Some(best) = best {
            return Ok(best);
        }
    }
    Err(failure(network, options, tolerance, least_error))
}

/// Less time, or about the same time and a smaller error.
fn better(new: &Schedule, old: &Schedule, network: &Network) -> bool {
    let error = |schedule: &Schedule| schedule.states[network.output].error;
    let per_example = |s: &Schedule| s.micros / s.setting.parameters.slots() as f64;
    let ratio = per_example(new) / per_example(old);
    ratio < 0.98 || ratio < 1.02 && error(new) < error(old)
}

fn failure(network: &Network, options: &Options, tolerance: f64, least_error: f64) -> CompileError {
    if least_error.is_finite() {
        return CompileError::TooNoisy {
            predicted: least_error,
            tolerance,
        };
    }
    let log_n = options.log_n.unwrap_or(LOG_N_MAX);
    let bound = security(options)
        .ok()
        .and_then(|(level, table)| max_log_qp(log_n, level, table));
    CompileError::TooDeep {
        depth: network.depth(),
        security_bits: options.security_bits,
        log_n,
        log_qp_bound: bound.unwrap_or(0),
    }
}

fn security(options: &Options) -> Result<(SecurityLevel, SecurityTable), CompileError> {
    let level = match options.security_bits {
        128 => SecurityLevel::Bits128,
        192 => SecurityLevel::Bits192,
        256 => SecurityLevel::Bits256,
        found => return Err(CompileError::SecurityLevel { found }),
    };
    let table = match options.table {
        scuro_program::SecurityTable::Guideline2024 => SecurityTable::Guideline2024,
        scuro_program::SecurityTable::Standard2018 => SecurityTable::Standard2018,
    };
    Ok((level, table))
}

/// Every setting with that many ciphertext primes that the table certifies.
fn settings(limbs: usize, options: &Options) -> Result<Vec<Setting>, CompileError> {
    let (level, table) = security(options)?;
    let ring = match options.ring {
        scuro_program::Ring::ConjugateInvariant => RingKind::ConjugateInvariant,
        scuro_program::Ring::Standard => RingKind::Standard,
    };
    let mut settings = Vec::new();
    for q_bits in PRIME_BITS {
        let total = q_bits * limbs as u32;
        let room = |log_n| max_log_qp(log_n, level, table)?.checked_sub(total);
        let fits = |&log_n: &u32| room(log_n).is_some_and(|room| room >= SPECIAL_BITS_MIN);
        let log_n = options.log_n.or_else(|| (LOG_N_MIN..=LOG_N_MAX).find(fits));
        let Some(log_n) = log_n.filter(fits) else {
            continue;
        };
        let special = room(log_n).unwrap_or(0).min(SPECIAL_BITS);
        let (q, p) = (vec![q_bits; limbs], vec![special]);
        let spec = ParameterSpec {
            ring,
            log_n,
            q_bits: q,
            p_bits: p,
            digit_limbs: None,
            level,
            table,
        };
        // Small primes that are 1 modulo 4N may be too few.
        let Ok(parameters) = Parameters::new(spec) else {
            continue;
        };
        let setting = |scale: u32| Setting::new(parameters.clone(), q_bits, f64::from(scale));
        settings.extend(INPUT_SCALES.map(setting));
    }
    Ok(settings)
}

struct Search<'a> {
    network: &'a Network,
    statistics: &'a Statistics,
    setting: &'a Setting,
    /// Largest error of the outputs.
    tolerance: f64,
}

#[derive(Debug, Clone)]
struct Partial {
    states: Vec<State>,
    treatments: Vec<Treatment>,
    micros: f64,
}

impl Search<'_> {
    fn run(&self) -> Option<Schedule> {
        let input = self.setting.input();
        if !self
            .setting
            .fits(&input, self.statistics.spreads[0].max_abs)
        {
            return None;
        }
        let micros = self.setting.input_micros(self.network.elements(0));
        let start = Partial {
            states: vec![input],
            treatments: vec![Treatment::default()],
            micros,
        };
        let mut beam = vec![start];
        for stage in 0..self.network.stages.len() {
            let extended = beam
                .iter()
                .flat_map(|partial| self.extend(partial, stage))
                .collect();
            beam = prune(extended, &self.live_after(stage));
        }
        // The beam is sorted by time; where nothing is precise enough, the caller is told how far
        // it is off.
        let error = |partial: &Partial| partial.states[self.network.output].error;
        let precise = beam
            .iter()
            .position(|partial| error(partial) <= self.tolerance);
        let closest =
            || (0..beam.len()).min_by(|&a, &b| error(&beam[a]).total_cmp(&error(&beam[b])));
        let best = beam.swap_remove(precise.or_else(closest)?);
        let Partial {
            states,
            treatments,
            micros,
        } = best;
        Some(Schedule {
            setting: self.setting.clone(),
            states,
            treatments,
            micros,
        })
    }

    /// The variables that later stages or the caller still read.
    fn live_after(&self, stage: usize) -> Vec<Var> {
        let mut live = vec![self.network.output];
        self.network.stages[stage + 1..]
            .iter()
            .for_each(|stage| match &stage.kind {
                StageKind::Affine(map) => live.extend(map.terms.iter().map(|&(var, _)| var)),
                StageKind::Square(of) => live.push(*of),
                StageKind::Product(a, b) => live.extend([a, b]),
                StageKind::Combine { terms, .. } => live.extend(terms.iter().map(|&(var, _)| var)),
            });
        live.retain(|&var| var <= stage + 1);
        live.sort_unstable();
        live.dedup();
        live
    }

    /// All ways to go on with a stage.
    fn extend(&self, partial: &Partial, stage: usize) -> Vec<Partial> {
        let bits: &[u32] = match self.network.stages[stage].kind {
            StageKind::Affine(_) => &WEIGHT_BITS,
            _ => &WEIGHT_BITS[WEIGHT_BITS.len() - 1..],
        };
        bits.iter()
            .filter(|&&bits| bits + self.setting.q_bits <= WORD_BITS)
            .flat_map(|&bits| self.extend_with(partial, stage, bits))
            .collect()
    }

    fn extend_with(&self, partial: &Partial, stage: usize, weight_bits: u32) -> Vec<Partial> {
        let Some((raw, micros)) = self.compute(partial, stage, weight_bits) else {
            return Vec::new();
        };
        let var: Var = stage + 1;
        if !self
            .setting
            .fits(&raw, self.statistics.spreads[var].max_abs)
        {
            return Vec::new();
        }
        let count = self.network.elements(var);
        let must = var == self.network.output || self.statistics.multiplied[var];
        let treated = treatments(raw.parts == 3, must, weight_bits)
            .into_iter()
            .map(|treatment| {
                let (state, more) = self.treat(raw, treatment, count)?;
                let mut next = partial.clone();
                next.states.push(state);
                next.treatments.push(treatment);
                next.micros += micros + more;
                Some(next)
            });
        treated.flatten().collect()
    }

    fn treat(&self, raw: State, treatment: Treatment, count: usize) -> Option<(State, f64)> {
        let (mut state, mut micros) = (raw, 0.0);
        if treatment.relinearize {
            micros += self.setting.relinearize_micros(count, &state);
            state = self.setting.relinearized(state);
        }
        for _ in 0..treatment.rescales {
            micros += self.setting.rescale_micros(count, &state);
            state = self.setting.rescaled(state)?;
        }
        Some((state, micros))
    }

    /// The result of a stage before treatment, and its time.
    fn compute(&self, partial: &Partial, stage: usize, weight_bits: u32) -> Option<(State, f64)> {
        match &self.network.stages[stage].kind {
            StageKind::Affine(map) => {
                let vars: Vec<Var> = map.terms.iter().map(|&(var, _)| var).collect();
                self.affine(partial, stage, &vars, weight_bits)
            }
            StageKind::Square(of) => self.product(partial, *of, *of),
            StageKind::Product(a, b) => self.product(partial, *a, *b),
            StageKind::Combine { terms, .. } => self.combine(partial, stage, terms),
        }
    }

    fn affine(
        &self,
        partial: &Partial,
        stage: usize,
        vars: &[Var],
        weight_bits: u32,
    ) -> Option<(State, f64)> {
        let matrices = &self.statistics.matrices[stage];
        let states: Vec<State> = vars.iter().map(|&var| partial.states[var]).collect();
        let alignment = align_matrices(matrices, weight_bits, &states);
        let mut error = 0f64;
        let mut micros = 0.0;
        for (i, state) in states.iter().enumerate() {
            let at = self.dropped(vars[i], *state, alignment.level)?;
            let scale = alignment.weight_scales[i];
            let spread = self.statistics.spreads[vars[i]];
            error =
                error.hypot(
                    self.setting
                        .matrix_error(&matrices[i], spread, state.error, scale),
                );
            micros += self.setting.matrix_micros(matrices[i].nonzeros, &at);
        }
        let (level, scale_log2) = (alignment.level, alignment.scale_log2);
        let parts = states.iter().map(|state| state.parts).max().unwrap_or(2);
        Some((
            State {
                level,
                scale_log2,
                parts,
                error,
            },
            micros,
        ))
    }

    /// A variable's state at a lower level, if its values fit there.
    fn dropped(&self, var: Var, state: State, level: usize) -> Option<State> {
        let state = State { level, ..state };
        self.setting
            .fits(&state, self.statistics.spreads[var].max_abs)
            .then_some(state)
    }

    fn combine(
        &self,
        partial: &Partial,
        stage: usize,
        terms: &[(Var, f64)],
    ) -> Option<(State, f64)> {
        let states: Vec<State> = terms.iter().map(|&(var, _)| partial.states[var]).collect();
        let factors: Vec<f64> = terms.iter().map(|&(_, factor)| factor).collect();
        let alignment = align_factors(&states, &factors);
        for (&(var, _), &state) in terms.iter().zip(&states) {
            self.dropped(var, state, alignment.level)?;
        }
        let error = states
            .iter()
            .zip(&factors)
            .fold(0f64, |e, (s, f)| e.hypot(s.error * f));
        let parts = states.iter().map(|state| state.parts).max().unwrap_or(2);
        let state = State {
            level: alignment.level,
            scale_log2: alignment.scale_log2,
            parts,
            error,
        };
        let products = self.network.elements(stage + 1) * terms.len();
        Some((state, self.setting.matrix_micros(products, &state)))
    }

    fn product(&self, partial: &Partial, left: Var, right: Var) -> Option<(State, f64)> {
        let (a, b) = (partial.states[left], partial.states[right]);
        let (x, y) = (
            self.statistics.spreads[left],
            self.statistics.spreads[right],
        );
        if a.parts == 3 || b.parts == 3 {
            return None;
        }
        let error = match left == right {
            true => 2.0 * x.rms * a.error,
            false => (x.rms * b.error).hypot(y.rms * a.error),
        };
        let level = a.level.min(b.level);
        let state = State {
            level,
            scale_log2: a.scale_log2 + b.scale_log2,
            parts: 3,
            error,
        };
        self.dropped(left, a, level)?;
        self.dropped(right, b, level)?;
        let micros = self
            .setting
            .product_micros(self.network.elements(left), &state);
        Some((state, micros))
    }
}

/// What may be done with a result; one that `must` have two parts is relinearised.
fn treatments(three_parts: bool, must: bool, weight_bits: u32) -> Vec<Treatment> {
    let treatment = |relinearize, rescales| Treatment {
        weight_bits,
        relinearize,
        rescales,
    };
    let mut treatments: Vec<Treatment> = (0..=2).map(|n| treatment(three_parts, n)).collect();
    if three_parts && !must {
        treatments.extend([treatment(false, 0), treatment(false, 1)]);
    }
    treatments
}

/// The cheapest of those that look alike in what is still read, at most [`BEAM`].
fn prune(mut partials: Vec<Partial>, live: &[Var]) -> Vec<Partial> {
    let error = |p: &Partial| p.states.last().map_or(0.0, |state| state.error);
    partials.sort_by(|a, b| {
        a.micros
            .total_cmp(&b.micros)
            .then(error(a).total_cmp(&error(b)))
    });
    let mut seen: HashSet<Vec<[i64; 4]>> = HashSet::new();
    partials.retain(|partial| {
        let fingerprint = |&var: &Var| {
            let state = &partial.states[var];
            let error = (state.error.log2() * 2.0).round() as i64;
            let scale = (state.scale_log2 * 4.0).round() as i64;
            [state.level as i64, state.parts as i64, scale, error]
        };
        seen.insert(live.iter().map(fingerprint).collect())
    });
    partials.truncate(BEAM);
    partials
}

/// Scales of the weights of an affine stage: as many bits as allowed, a few less where that saves a
/// lift.
pub(super) fn align_matrices(
    matrices: &[MatrixStatistics],
    weight_bits: u32,
    states: &[State],
) -> Alignment {
    let most: Vec<f64> = matrices
        .iter()
        .map(|m| weight_scale_log2(m.max_abs, weight_bits))
        .collect();
    let sums: Vec<f64> = states
        .iter()
        .zip(&most)
        .map(|(s, w)| s.scale_log2 + w)
        .collect();
    let low = sums.iter().copied().fold(f64::INFINITY, f64::min);
    let high = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let level = states.iter().map(|state| state.level).min().unwrap_or(0);
    if high - low <= 2.0 {
        let weight_scales = states.iter().map(|state| low - state.scale_log2).collect();
        return Alignment {
            level,
            weight_scales,
            scale_log2: low,
        };
    }
    Alignment {
        level,
        weight_scales: most,
        scale_log2: low.max(high) + FACTOR_BITS,
    }
}

/// Scales of the factors of a slotwise sum: at least [`FACTOR_BITS`] for each.
pub(super) fn align_factors(states: &[State], factors: &[f64]) -> Alignment {
    let needed = states.iter().zip(factors).map(|(s, f)| match *f == 1.0 {
        true => s.scale_log2,
        false => s.scale_log2 + FACTOR_BITS - f.abs().max(1e-12).log2(),
    });
    let scale_log2 = needed.fold(f64::NEG_INFINITY, f64::max);
    let level = states.iter().map(|state| state.level).min().unwrap_or(0);
    let weight_scales = states
        .iter()
        .map(|state| scale_log2 - state.scale_log2)
        .collect();
    Alignment {
        level,
        weight_scales,
        scale_log2,
    }
}
