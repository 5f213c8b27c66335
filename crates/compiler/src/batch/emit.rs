//! Writes the steps of a schedule.

use std::collections::HashMap;
use std::fmt::Write as _;

use scuro_program::{
    Estimate, KeyManifest, Operation, ParameterPlan, Ring, ScalarLinear, Scheme, SecurityTable,
    Step, ValueId,
};

use super::model::State;
use super::schedule::{Alignment, Schedule, align_factors, align_matrices};
use super::statistics::Statistics;
use crate::normalise::{AffineMap, Network, StageKind, Var};
use crate::sparse::Sparse;

/// Everything of a program that the batch passes decide.
#[derive(Debug, Clone)]
pub(super) struct BatchPlan {
    pub(super) parameters: ParameterPlan,
    /// Base-two logarithm of the scale of the query.
    pub(super) input_scale_log2: f64,
    pub(super) steps: Vec<Step>,
    pub(super) result: ValueId,
    pub(super) keys: KeyManifest,
    /// For people: the schedule.
    pub(super) dump: String,
}

pub(super) fn run(network: &Network, statistics: &Statistics, schedule: &Schedule) -> BatchPlan {
    let mut emitter = Emitter {
        network,
        statistics,
        schedule,
        steps: Vec::new(),
        values: vec![ValueId(0)],
        dropped: HashMap::new(),
        states: vec![schedule.setting.input()],
        layer: String::new(),
        max_abs: 0.0,
        keys: KeyManifest::default(),
    };
    (0..network.stages.len()).for_each(|stage| emitter.stage(stage));
    emitter.drop_unused_limbs();
    let parameters = parameter_plan(schedule);
    BatchPlan {
        dump: dump(network, schedule, &parameters),
        parameters,
        input_scale_log2: schedule.setting.input_scale_log2,
        result: emitter.values[network.output],
        steps: emitter.steps,
        keys: emitter.keys,
    }
}

fn parameter_plan(schedule: &Schedule) -> ParameterPlan {
    let spec = schedule.setting.parameters.spec();
    ParameterPlan {
        scheme: Scheme::Ckks,
        ring: match spec.ring {
            scuro_fhe::RingKind::ConjugateInvariant => Ring::ConjugateInvariant,
            scuro_fhe::RingKind::Standard => Ring::Standard,
        },
        log_n: spec.log_n,
        q_bits: spec.q_bits.clone(),
        p_bits: spec.p_bits.clone(),
        security_bits: match spec.level {
            scuro_fhe::params::SecurityLevel::Bits128 => 128,
            scuro_fhe::params::SecurityLevel::Bits192 => 192,
            scuro_fhe::params::SecurityLevel::Bits256 => 256,
        },
        table: match spec.table {
            scuro_fhe::params::SecurityTable::Guideline2024 => SecurityTable::Guideline2024,
            scuro_fhe::params::SecurityTable::Standard2018 => SecurityTable::Standard2018,
        },
    }
}

fn dump(network: &Network, schedule: &Schedule, parameters: &ParameterPlan) -> String {
    let mut text = format!(
        "N = 2^{}, q {:?} + p {:?} bits, input scale 2^{}, {:.0} us a batch\n",
        parameters.log_n,
        parameters.q_bits,
        parameters.p_bits,
        schedule.setting.input_scale_log2,
        schedule.micros,
    );
    for (var, (state, treatment)) in schedule.states.iter().zip(&schedule.treatments).enumerate() {
        let _ = writeln!(
            text,
            "x{var}: {} ciphertexts of {} parts, level {}, scale 2^{:.2}, error {:.2e}{}{}",
            network.elements(var),
            state.parts,
            state.level,
            state.scale_log2,
            state.error,
            if treatment.relinearize {
                ", relinearised"
            } else {
                ""
            },
            ", rescaled".repeat(treatment.rescales),
        );
    }
    text
}

struct Emitter<'a> {
    network: &'a Network,
    statistics: &'a Statistics,
    schedule: &'a Schedule,
    steps: Vec<Step>,
    /// per variable
    values: Vec<ValueId>,
    /// copies of variables at lower levels
    dropped: HashMap<(Var, usize), ValueId>,
    /// per value
    states: Vec<State>,
    /// of the current stage
    layer: String,
    max_abs: f64,
    keys: KeyManifest,
}

impl Emitter<'_> {
    fn stage(&mut self, index: usize) {
        let network = self.network;
        let stage = &network.stages[index];
        self.layer.clone_from(&stage.layer);
        self.max_abs = self.statistics.spreads[index + 1].max_abs;
        let value = match &stage.kind {
            StageKind::Affine(map) => self.affine(index, map),
            StageKind::Square(of) => self.product(index, *of, *of),
            StageKind::Product(a, b) => self.product(index, *a, *b),
            StageKind::Combine { terms, constant } => self.combine(index, terms, *constant),
        };
        let value = self.treat(index + 1, value);
        self.values.push(value);
    }

    fn push(
        &mut self,
        inputs: Vec<ValueId>,
        operation: Operation,
        state: State,
        micros: f64,
    ) -> ValueId {
        let estimate = Estimate {
            level: state.level as u32,
            scale_log2: state.scale_log2,
            max_abs: self.max_abs,
            error: state.error,
            micros,
        };
        self.steps.push(Step {
            layer: self.layer.clone(),
            inputs,
            operation,
            estimate,
        });
        self.states.push(state);
        ValueId(self.steps.len() as u32)
    }

    fn state(&self, value: ValueId) -> State {
        self.states[value.0 as usize]
    }

    /// A variable at `level`.
    fn at_level(&mut self, var: Var, level: usize) -> ValueId {
        let value = self.values[var];
        let state = self.state(value);
        if state.level <= level {
            return value;
        }
        if let Some(&copy) = self.dropped.get(&(var, level)) {
            return copy;
        }
        let operation = Operation::ModDrop {
            level: level as u32,
        };
        let copy = self.push(vec![value], operation, State { level, ..state }, 0.0);
        self.dropped.insert((var, level), copy);
        copy
    }

    fn affine(&mut self, index: usize, map: &AffineMap) -> ValueId {
        let states: Vec<State> = map
            .terms
            .iter()
            .map(|&(var, _)| self.schedule.states[var])
            .collect();
        let weight_bits = self.schedule.treatments[index + 1].weight_bits;
        let alignment = align_matrices(&self.statistics.matrices[index], weight_bits, &states);
        let terms: Vec<ValueId> = (0..map.terms.len())
            .map(|term| {
                let (var, matrix) = &map.terms[term];
                self.matrix(*var, matrix, (index, term), &alignment)
            })
            .collect();
        let sum = self.sum(terms, &alignment);
        self.add_constants(sum, map.bias.clone())
    }

    fn matrix(
        &mut self,
        var: Var,
        matrix: &Sparse,
        (index, term): (usize, usize),
        alignment: &Alignment,
    ) -> ValueId {
        let value = self.at_level(var, alignment.level);
        let setting = &self.schedule.setting;
        let scale = alignment.weight_scales[term];
        let operation = Operation::ScalarLinear(quantise(matrix, scale));
        let statistics = &self.statistics.matrices[index][term];
        let state = self.state(value);
        let spread = self.statistics.spreads[var];
        let error = setting.matrix_error(statistics, spread, state.error, scale);
        let micros = setting.matrix_micros(statistics.nonzeros, &state);
        let scale_log2 = state.scale_log2 + scale;
        self.push(
            vec![value],
            operation,
            State {
                scale_log2,
                error,
                ..state
            },
            micros,
        )
    }

    /// The sum of the terms at the alignment's scale.
    fn sum(&mut self, terms: Vec<ValueId>, alignment: &Alignment) -> ValueId {
        if let [only] = terms[..] {
            return only;
        }
        let factors = vec![1.0; terms.len()];
        let states: Vec<State> = terms.iter().map(|&term| self.state(term)).collect();
        self.weighted_sum(terms, factors, &states, alignment.scale_log2)
    }

    fn weighted_sum(
        &mut self,
        terms: Vec<ValueId>,
        factors: Vec<f64>,
        states: &[State],
        scale_log2: f64,
    ) -> ValueId {
        let error = states
            .iter()
            .zip(&factors)
            .fold(0f64, |e, (s, f)| e.hypot(s.error * f));
        let parts = states.iter().map(|state| state.parts).max().unwrap_or(2);
        let state = State {
            parts,
            error,
            scale_log2,
            ..states[0]
        };
        let weight_scale_log2 = scale_log2 - states[0].scale_log2;
        self.push(
            terms,
            Operation::Combine {
                weight_scale_log2,
                factors,
            },
            state,
            0.0,
        )
    }

    fn combine(&mut self, index: usize, terms: &[(Var, f64)], constant: f64) -> ValueId {
        let states: Vec<State> = terms
            .iter()
            .map(|&(var, _)| self.schedule.states[var])
            .collect();
        let factors: Vec<f64> = terms.iter().map(|&(_, factor)| factor).collect();
        let alignment = align_factors(&states, &factors);
        let values = terms
            .iter()
            .map(|&(var, _)| self.at_level(var, alignment.level))
            .collect();
        let states: Vec<State> = states
            .into_iter()
            .map(|s| State {
                level: alignment.level,
                ..s
            })
            .collect();
        let sum = self.weighted_sum(values, factors, &states, alignment.scale_log2);
        self.add_constants(sum, vec![constant; self.network.elements(index + 1)])
    }

    fn product(&mut self, index: usize, left: Var, right: Var) -> ValueId {
        let level = self.schedule.states[left]
            .level
            .min(self.schedule.states[right].level);
        let (a, b) = (self.at_level(left, level), self.at_level(right, level));
        let scale_log2 = self.state(a).scale_log2 + self.state(b).scale_log2;
        let error = self.schedule.states[index + 1].error;
        let state = State {
            level,
            parts: 3,
            scale_log2,
            error,
        };
        let micros = self
            .schedule
            .setting
            .product_micros(self.network.elements(left), &state);
        match left == right {
            true => self.push(vec![a], Operation::Square, state, micros),
            false => self.push(vec![a, b], Operation::Multiply, state, micros),
        }
    }

    fn add_constants(&mut self, value: ValueId, values: Vec<f64>) -> ValueId {
        if values.iter().all(|&v| v == 0.0) {
            return value;
        }
        self.push(
            vec![value],
            Operation::AddScalars { values },
            self.state(value),
            0.0,
        )
    }

    fn treat(&mut self, var: Var, mut value: ValueId) -> ValueId {
        let (schedule, count) = (self.schedule, self.network.elements(var));
        let (setting, treatment) = (&schedule.setting, schedule.treatments[var]);
        if treatment.relinearize {
            let state = self.state(value);
            let level = state.level as u32;
            self.keys.relinearize = Some(self.keys.relinearize.map_or(level, |l| l.max(level)));
            let micros = setting.relinearize_micros(count, &state);
            let state = setting.relinearized(state);
            value = self.push(vec![value], Operation::Relinearize, state, micros);
        }
        for _ in 0..treatment.rescales {
            let state = self.state(value);
            let micros = setting.rescale_micros(count, &state);
            // The search has checked that a level is left.
            let Some(state) = setting.rescaled(state) else {
                break;
            };
            value = self.push(vec![value], Operation::Rescale, state, micros);
        }
        value
    }

    /// The reply needs no more limbs than its values fill.
    fn drop_unused_limbs(&mut self) {
        let output = self.network.output;
        let state = self.state(self.values[output]);
        let max_abs = self.statistics.spreads[output].max_abs;
        let fits = |&level: &usize| {
            self.schedule
                .setting
                .fits(&State { level, ..state }, max_abs)
        };
        if let Some(level) = (0..state.level).find(fits) {
            self.values[output] = self.at_level(output, level);
        }
    }
}

fn quantise(matrix: &Sparse, weight_scale_log2: f64) -> ScalarLinear {
    let scale = weight_scale_log2.exp2();
    let mut quantised = ScalarLinear {
        columns: matrix.columns as u32,
        row_starts: vec![0],
        column: Vec::with_capacity(matrix.nonzeros()),
        weight: Vec::with_capacity(matrix.nonzeros()),
        weight_scale_log2,
    };
    for row in 0..matrix.rows() {
        for (column, weight) in matrix.row(row) {
            quantised.column.push(column as u32);
            quantised
                .weight
                .push((f64::from(weight) * scale).round() as i32);
        }
        quantised.row_starts.push(quantised.column.len() as u32);
    }
    quantised
}
