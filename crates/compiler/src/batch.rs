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

use scuro_program::{Gather, InputSpec, OutputSpec, Packing, Program, SlotAddress};

use crate::compile::{self, Compilation, Dump, Prepared};
use crate::error::CompileError;
use crate::normalise::{Network, StageKind};
use crate::options::Options;
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
    let statistics = Statistics::measure(network, &prepared.calibration, options.range_margin);
    let schedule = schedule::search(network, &statistics, options)?;
    let plan = emit::run(network, &statistics, &schedule);
    prepared.dumps.push(Dump {
        pass: "batch schedule",
        text: plan.dump.clone(),
    });
    finish(prepared, plan)
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
    let dimensions = |shape: &[usize]| shape.iter().map(|&d| d as u32).collect();
    let addresses = (0..network.elements(network.output) as u32).map(|ciphertext| SlotAddress {
        ciphertext,
        slot: 0,
    });
    let program = Program {
        name: prepared.graph.name.clone(),
        model_digest: crate::digest::graph(&prepared.graph),
        notes: Vec::new(),
        parameters: plan.parameters,
        packing: Packing::Batch,
        input: InputSpec {
            shape: dimensions(&network.input_shape),
            gather: Gather::Batch,
            scale_log2: plan.input_scale_log2,
            minimum: prepared.input_range.0,
            maximum: prepared.input_range.1,
        },
        steps: plan.steps,
        result: plan.result,
        output: OutputSpec {
            shape: dimensions(&network.output_shape),
            addresses: addresses.collect(),
            post: network.post,
        },
        keys: plan.keys,
    };
    compile::conclude(
        program,
        prepared.graph,
        prepared.friendliness,
        prepared.dumps,
    )
}
