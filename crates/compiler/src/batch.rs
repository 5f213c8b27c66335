//! Pass: normal form to steps, with one ciphertext per network element and one example per slot.
//!
//! Linear layers are matrices of small integers over ciphertexts; nothing is rotated. What is left
//! to choose are the primes, the scales, and where to relinearise and rescale: `schedule` searches
//! these, `emit` writes the steps. `statistics` says how large the values of the network are,
//! `model` what a step costs and how wrong it is.

mod emit;
mod model;
mod schedule;
mod statistics;

use std::sync::Arc;

use scuro_nn::tensor::Tensor;
use scuro_program::{
    Gather, InputSpec, OutputSpec, Packing, Program, SlotAddress, SlotValue, Weights, interpret,
};

use crate::compile::{self, Compilation, Prepared, dimensions};
use crate::dumps::Dump;
use crate::error::CompileError;
use crate::normalise::{Network, StageKind};
use crate::options::Options;
use crate::report::Report;
use crate::sparse::Sparse;
use emit::BatchPlan;
use statistics::Statistics;

/// Compiles for batch packing.
pub(crate) fn compile(
    mut prepared: Prepared,
    options: &Options,
) -> Result<Compilation, CompileError> {
    give_constants_an_operand(&mut prepared.network);
    let network = &prepared.network;
    let (examples, extremes) = (&prepared.calibration, &prepared.extremes);
    let statistics = Statistics::measure(network, examples, extremes, options.range_margin);
    let plan = precise_plan(network, &statistics, options, &prepared.calibration)?;
    prepared.dumps.push(Dump {
        pass: "batch schedule",
        text: plan.dump.clone(),
    });
    finish(prepared, plan)
}

/// Examples on which the error of rounded weights is measured.
const MEASURED_EXAMPLES: usize = 64;
/// Searches with a stricter tolerance, before the last result is taken.
const ATTEMPTS: usize = 4;

/// The cheapest plan whose error is tolerable as predicted and also as measured: rounded weights
/// that many positions share err together, which the prediction leaves out.
fn precise_plan(
    network: &Network,
    statistics: &Statistics,
    options: &Options,
    calibration: &[Tensor],
) -> Result<BatchPlan, CompileError> {
    let tolerance = options.tolerance * statistics.output_deviation;
    let mut aim = tolerance;
    let mut plan: Option<BatchPlan> = None;
    for _ in 0..ATTEMPTS {
        let schedule = match (schedule::search(network, statistics, options, aim), plan) {
            (Ok(schedule), _) => schedule,
            // Nothing is stricter: the last plan is the best there is.
            (Err(_), Some(plan)) => return Ok(plan),
            (Err(error), None) => return Err(error),
        };
        let mut next = emit::run(network, statistics, &schedule);
        let measured = rounding_error(&next, statistics, calibration);
        if let Some(step) = (next.result.0 as usize).checked_sub(1) {
            let error = &mut next.steps[step].estimate.error;
            *error = error.hypot(measured);
        }
        if measured <= tolerance {
            return Ok(next);
        }
        aim *= tolerance / measured / 2.0;
        plan = Some(next);
    }
    plan.ok_or(CompileError::TooNoisy {
        predicted: f64::INFINITY,
        tolerance,
    })
}

/// Root mean square error of the outputs in clear.
fn rounding_error(plan: &BatchPlan, statistics: &Statistics, calibration: &[Tensor]) -> f64 {
    let examples = &calibration[..calibration.len().min(MEASURED_EXAMPLES)];
    let elements = examples.first().map_or(0, |example| example.data.len());
    let row = |element: usize| {
        examples
            .iter()
            .map(|x| f64::from(x.data[element]))
            .collect()
    };
    let mut values: Vec<SlotValue> = vec![(0..elements).map(row).collect()];
    for step in &plan.steps {
        let operands: Vec<&SlotValue> = step
            .inputs
            .iter()
            .map(|id| &values[id.0 as usize])
            .collect();
        values.push(interpret(&step.operation, &operands));
    }
    let result = &values[plan.result.0 as usize];
    let exact = |element: usize, slot: usize| statistics.outputs[slot][element];
    let squares = result.iter().enumerate().flat_map(|(element, slots)| {
        slots
            .iter()
            .enumerate()
            .map(move |(slot, v)| (v - exact(element, slot)).powi(2))
    });
    let count = result.len() * examples.len();
    (squares.sum::<f64>() / count.max(1) as f64).sqrt()
}

/// Every step has an operand, so an affine stage without terms gets the input times nothing.
fn give_constants_an_operand(network: &mut Network) {
    let columns = network.elements(0);
    for stage in &mut network.stages {
        if let StageKind::Affine(map) = &mut stage.kind
            && map.terms.is_empty()
        {
            let mut nothing = Sparse::new(columns);
            map.bias.iter().for_each(|_| nothing.push_row([]));
            map.terms.push((0, Arc::new(nothing)));
        }
    }
}

fn finish(prepared: Prepared, plan: BatchPlan) -> Result<Compilation, CompileError> {
    let network = &prepared.network;
    let addresses = (0..network.elements(network.output) as u32).map(|ciphertext| SlotAddress {
        ciphertext,
        slot: 0,
    });
    let slots = plan.parameters.slots() as u32;
    let program = Program {
        name: prepared.graph.name.clone(),
        model_digest: crate::digest::graph(&prepared.graph),
        notes: Vec::new(),
        packing: Packing::Batch,
        weights: Weights::Plain,
        input: InputSpec {
            shape: dimensions(&network.input_shape),
            examples: slots,
            gather: Gather::Batch,
            level: plan.parameters.level_max(),
            traced: None,
            scale_log2: plan.input_scale_log2,
            minimum: prepared.input_range.0,
            maximum: prepared.input_range.1,
        },
        parameters: plan.parameters,
        steps: plan.steps,
        result: plan.result,
        output: OutputSpec {
            shape: dimensions(&network.output_shape),
            addresses: addresses.collect(),
            factor: 1.0,
            post: network.post,
        },
        keys: plan.keys,
    };
    let report = Report::new(&program, prepared.friendliness, None);
    compile::conclude(program, prepared.graph, report, prepared.dumps)
}
