//! The passes in order.

use std::collections::BTreeSet;

use rayon::prelude::*;
use scuro_nn::graph::{Graph, Node};
use scuro_nn::reference::{Executor, Range};
use scuro_nn::tensor::Tensor;
use scuro_program::{
    Gather, InputSpec, NO_ELEMENT, OutputSpec, Packing, Program, SlotAddress, Weights,
};

use crate::agreement::Rounded;
use crate::drafts::{self, Draft, Lowering};
use crate::dumps::{self, Dump};
use crate::ensemble::{Common, Ensemble};
use crate::error::CompileError;
use crate::friendliness::{self, Friendliness};
use crate::layout::search::Plan;
use crate::layout::{Layout, ZERO};
use crate::levels::{self, Bounds, Chain, Emitted, LevelPlan};
use crate::lower::Skeleton;
use crate::normalise::{self, Network, Pools, StageKind};
use crate::options::{Options, Rotations};
use crate::parameters::{self, Degree};
use crate::primes::Primes;
use crate::ranges::{self, Ranges};
use crate::report::Report;
use crate::rotations::Within;
use crate::rounding::{self, Feedback};
use crate::sensitivity::{self, Edge};
use crate::spread::spread;
use crate::worst::Worst;
use crate::{activations, batch, check, conceal, ensemble, interleave, keys};

/// A plan whose error is so many times below the tolerance needs no more precision.
const FINE: f64 = 4.0;
/// An error so many times smaller may take so many times the time.
const FINER: f64 = 2.0;
const PRECISION_COST: f64 = 1.6;
/// A modulus that is short of its bound by fewer bits is spent.
const SPENT_BITS: f64 = 8.0;
/// A level less for pools does not make up for a larger error, in tolerances.
const REACH: f64 = 64.0;

/// What an exact program is made more precise by, in turn, until it keeps enough answers.
const FINER_INTEGERS: [f64; 4] = [1.0, 4.0, 16.0, 64.0];

/// Turns in which levels and the choice of keys for them settle.
const LEVEL_TURNS: usize = 6;

/// Examples that say how large values usually are.
const TYPICAL_EXAMPLES: usize = 64;

/// A compiled network with everything worth telling about it.
#[derive(Debug, Clone)]
pub struct Compilation {
    /// The program.
    pub program: Program,
    /// The graph that it computes (after replacements, if any were asked for).
    pub graph: Graph,
    /// What every pass left behind.
    pub dumps: Vec<Dump>,
    /// Predictions.
    pub report: Report,
}

/// Compiles a network.
///
/// `calibration` are examples of what the network will see: the ranges of all intermediate values
/// are taken from them. Without any, examples are made up inside [`Options::input_range`].
///
/// # Errors
/// [`CompileError`]; every variant says what would help.
pub fn compile(
    graph: &Graph,
    options: &Options,
    calibration: &[Tensor],
) -> Result<Compilation, CompileError> {
    check::images_per_query(options)?;
    let options = &ensemble::settled(options)?;
    check::weights(options)?;
    ensemble::check_input(options, graph.input_shape())?;
    let prepared = prepare(graph, options, calibration)?;
    ensemble::check_output(options, &prepared.network.output_shape)?;
    match options.packing {
        Packing::SingleImage => single_image(prepared, options),
        Packing::Batch if options.weights != Weights::Plain => {
            let what = "encrypted weights";
            Err(CompileError::SingleImageOnly { what })
        }
        Packing::Batch if options.arithmetic.is_exact() => {
            let what = "exact arithmetic";
            Err(CompileError::SingleImageOnly { what })
        }
        Packing::Batch if options.flooding.is_some() => {
            let what = "a decryptor other than the model owner";
            Err(CompileError::SingleImageOnly { what })
        }
        Packing::Batch => batch::compile(prepared, options),
    }
}

/// A network in normal form with its calibration data.
pub(crate) struct Prepared {
    pub(crate) graph: Graph,
    pub(crate) network: Network,
    /// The normal form with pools in place, if there are any and it may serve.
    in_place: Option<Network>,
    pub(crate) friendliness: Friendliness,
    pub(crate) calibration: Vec<Tensor>,
    /// Calibration data with the largest values, those first that are farthest beyond the usual.
    pub(crate) extremes: Vec<Tensor>,
    pub(crate) input_range: (f32, f32),
    /// Exact programs: how errors of rounding are passed on, by stage.
    feedback: Vec<Option<Feedback>>,
    pub(crate) dumps: Vec<Dump>,
}

impl Prepared {
    /// The network that a plan is of.
    fn of(&self, pools: Pools) -> &Network {
        match (&self.in_place, pools) {
            (Some(network), Pools::InPlace) => network,
            _ => &self.network,
        }
    }

    /// Stages whose errors of rounding are passed on, with their linear steps.
    fn feedback<'a>(
        &'a self,
        skeleton: &'a Skeleton,
    ) -> impl Iterator<Item = (usize, usize, &'a Feedback)> {
        let with_step = |(stage, feedback): (usize, &'a Option<Feedback>)| {
            Some((stage, skeleton.linear_step(stage)?, feedback.as_ref()?))
        };
        self.feedback.iter().enumerate().filter_map(with_step)
    }
}

fn prepare(
    graph: &Graph,
    options: &Options,
    calibration: &[Tensor],
) -> Result<Prepared, CompileError> {
    check::graph(graph)?;
    let (calibration, input_range) = check::calibration(graph, options, calibration)?;
    let found = friendliness::friendliness(graph);
    let mut dumps = vec![Dump {
        pass: "friendliness",
        text: found.to_string(),
    }];
    let graph = match options.replace {
        Some(how) if !found.is_friendly() => activations::replace(graph, how, &calibration)?,
        _ => graph.clone(),
    };
    let friendliness = friendliness::friendliness(&graph);
    if !friendliness.is_friendly() {
        return Err(CompileError::NotFriendly(friendliness));
    }
    let magnitudes = magnitudes(&graph, &calibration)?;
    let typical = typical(&graph, &magnitudes)?;
    let extremes = extremes(&magnitudes).into_iter();
    let extremes = extremes.map(|i| calibration[i].clone()).collect();
    let normal = |pools| match options.weights {
        Weights::Plain => normalise::run(&graph, &typical, pools),
        _ => normalise::run(&conceal::zeros(&graph), &typical, pools),
    };
    let network = normal(Pools::Packed)?;
    let approximate = !options.arithmetic.is_exact();
    let in_place = match options.packing {
        Packing::SingleImage if approximate => Some(normal(Pools::InPlace)?),
        _ => None,
    };
    let feedback = match approximate {
        true => Vec::new(),
        false => {
            check::exact(&network)?;
            rounding::run(&network, &calibration)
        }
    };
    dumps.push(Dump {
        pass: "normalise",
        text: network.dump(),
    });
    Ok(Prepared {
        graph,
        network,
        in_place: in_place.filter(Network::has_window_sums),
        friendliness,
        calibration,
        extremes,
        input_range,
        feedback,
        dumps,
    })
}

/// Largest absolute value of every node, by example.
fn magnitudes(graph: &Graph, calibration: &[Tensor]) -> Result<Vec<Vec<f32>>, CompileError> {
    let executor = Executor::new(graph)?;
    let of = |example: &Tensor| {
        let fill = |_: usize, image: &mut [f32]| image.copy_from_slice(&example.data);
        let ranges = executor.ranges(1, fill);
        ranges.iter().map(Range::magnitude).collect()
    };
    Ok(calibration.par_iter().map(of).collect())
}

/// Largest absolute value of every node on the first examples.
fn typical(graph: &Graph, magnitudes: &[Vec<f32>]) -> Result<Vec<f32>, CompileError> {
    let first = &magnitudes[..magnitudes.len().min(TYPICAL_EXAMPLES)];
    let largest = |(index, node): (usize, &Node)| {
        let values = || first.iter().map(|example| example[index]);
        match values().all(f32::is_finite) {
            true => Ok(values().fold(0.0, f32::max)),
            false => Err(CompileError::Overflow {
                layer: node.name.clone(),
                magnitude_log2: f64::INFINITY,
            }),
        }
    };
    graph.nodes.iter().enumerate().map(largest).collect()
}

/// The examples in which some node is larger than in any other, those first in which it is larger
/// than usual by the largest factor: squares blow up what few examples of a network have. What is
/// usual is the median, which such examples do not move wherever they stand.
fn extremes(magnitudes: &[Vec<f32>]) -> Vec<usize> {
    let largest = |node: usize| {
        let mut order: Vec<usize> = (0..magnitudes.len()).collect();
        order.sort_by(|&a, &b| magnitudes[a][node].total_cmp(&magnitudes[b][node]));
        let (&example, &middle) = (order.last()?, order.get(order.len() / 2)?);
        let factor = magnitudes[example][node] / magnitudes[middle][node].max(f32::MIN_POSITIVE);
        Some((factor, example))
    };
    let nodes = magnitudes.first().map_or(0, Vec::len);
    let mut found: Vec<(f32, usize)> = (0..nodes).filter_map(largest).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut seen = BTreeSet::new();
    found.retain(|&(_, example)| seen.insert(example));
    found.into_iter().map(|(_, example)| example).collect()
}

/// One attempt at a ring degree.
struct Attempt {
    degree: Degree,
    /// For one image.
    plan: Plan,
    lowering: Lowering,
    /// Of the query, for all its images.
    input: Layout,
    /// Of the reply, for all its images.
    output: Layout,
    skeleton: Skeleton,
    /// Per step: that of the draft which it was made for.
    made_for: Vec<usize>,
    ranges: Ranges,
    /// Of approximate programs.
    edges: Vec<Vec<Edge>>,
    worst: Option<Worst>,
    /// Of errors, in units of the output.
    tolerance: f64,
    levels: LevelPlan,
}

impl Attempt {
    /// Whether the modulus is spent, and no precision to spare.
    fn is_at_its_limit(&self) -> bool {
        self.levels.log_qp() + SPENT_BITS > f64::from(self.degree.log_qp)
            && FINE * self.levels.error > self.tolerance
    }

    fn bounds(&self, options: &Options) -> Bounds {
        let images = options.images_per_query;
        let spread = spread(&self.output, images, &self.ranges.results);
        bounds(options, self.degree, spread)
    }

    /// The value that is the network's output.
    fn output_value(&self, prepared: &Prepared) -> usize {
        let output = prepared.of(self.plan.pools).output;
        self.skeleton.value_of[output].0 as usize
    }

    /// The largest output, margin included.
    fn largest_output(&self, prepared: &Prepared) -> f64 {
        self.ranges.values[self.output_value(prepared)].max_abs
    }

    /// The final steps.
    fn emitted(&self, prepared: &Prepared, options: &Options) -> Emitted {
        let (skeleton, worst) = (&self.skeleton, self.worst.as_ref());
        let value = self.output_value(prepared);
        let bounds = self.bounds(options);
        let chain = Chain::new(skeleton, &self.ranges, &self.edges, worst, value, bounds);
        let common = options.ensemble.as_ref().and_then(Ensemble::common);
        let chain = joined(chain, options, common.as_ref());
        levels::emit(&chain, &self.levels, self.input.ciphertexts())
    }
}

fn single_image(mut prepared: Prepared, options: &Options) -> Result<Compilation, CompileError> {
    let images = options.images_per_query;
    prepared.calibration = interleave::groups(&prepared.calibration, images);
    prepared.extremes = interleave::groups(&prepared.extremes, images);
    match options.arithmetic.is_exact() {
        false => finish(&prepared, options, search(&prepared, options)?),
        true => exact(&prepared, options),
    }
}

/// The coarsest exact program that keeps enough answers of the network.
fn exact(prepared: &Prepared, options: &Options) -> Result<Compilation, CompileError> {
    let mut best: f64 = 0.0;
    for finer in FINER_INTEGERS {
        let options = Options {
            tolerance: options.tolerance / finer,
            ..options.clone()
        };
        let attempt = match search(prepared, &options) {
            Err(_) if finer > 1.0 => break,
            found => found?,
        };
        let compilation = finish(prepared, &options, attempt)?;
        match compilation.report.agreement {
            Some(found) if found < options.agreement => best = best.max(found),
            _ => return Ok(compilation),
        }
    }
    Err(CompileError::Rounding {
        found: best,
        least: options.agreement,
    })
}

/// The plan at the smallest degree that serves.
fn search(prepared: &Prepared, options: &Options) -> Result<Attempt, CompileError> {
    let depth = prepared.network.depth();
    let (mut last_error, mut near) = (None, None);
    for degree in parameters::degrees(options, depth)? {
        match attempt(prepared, options, degree) {
            Ok(found) => {
                let limit = found.levels.micros;
                return Ok(in_place(prepared, options, near, limit).unwrap_or(found));
            }
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => {
                near = is_in_reach(&error).then_some(degree);
                last_error = Some(error);
            }
        }
    }
    if let Some(found) = in_place(prepared, options, near, f64::INFINITY) {
        return Ok(found);
    }
    // `degrees` never returns an empty list.
    Err(last_error.unwrap_or(CompileError::SecurityLevel {
        found: options.security_bits,
    }))
}

/// A plan with pools in place at a degree where plans without were not precise enough, if it is
/// faster than what a larger degree takes.
fn in_place(
    prepared: &Prepared,
    options: &Options,
    degree: Option<Degree>,
    limit: f64,
) -> Option<Attempt> {
    prepared.in_place.as_ref()?;
    fastest(prepared, options, degree?, Pools::InPlace, limit).ok()
}

/// Whether a larger ring degree would not help.
fn is_final(error: &CompileError) -> bool {
    !matches!(
        error,
        CompileError::TooDeep { .. }
            | CompileError::TooNoisy { .. }
            | CompileError::TooNoisyToFlood { .. }
            | CompileError::NoRoomToFlood { .. }
            | CompileError::TooLarge { .. }
    )
}

/// The fastest plan for a degree; where that has spent its modulus, one that is much more precise
/// if it does not cost too much time, with the sums of pools in place if need be.
fn attempt(
    prepared: &Prepared,
    options: &Options,
    degree: Degree,
) -> Result<Attempt, CompileError> {
    let within = |finer: f64, pools, limit| {
        let options = Options {
            tolerance: options.tolerance / finer,
            ..options.clone()
        };
        fastest(prepared, &options, degree, pools, limit)
    };
    let first = within(1.0, Pools::Packed, f64::INFINITY);
    let plan = match &first {
        Ok(plan) if prepared.in_place.is_some() && plan.is_at_its_limit() => plan,
        _ => return first,
    };
    let finer = FINE.min(FINER * plan.tolerance / plan.levels.error);
    let limit = PRECISION_COST * plan.levels.micros;
    let packed = within(finer, Pools::Packed, limit);
    let in_place = |below| within(finer, Pools::InPlace, limit.min(below));
    faster(packed, in_place).or(first)
}

/// Whether a little more precision would do.
fn is_in_reach(error: &CompileError) -> bool {
    match error {
        CompileError::TooNoisy {
            predicted,
            tolerance,
        } => *predicted <= REACH * tolerance,
        _ => false,
    }
}

/// The fastest of the layouts found for a degree, of less than `limit` microseconds.
fn fastest(
    prepared: &Prepared,
    options: &Options,
    degree: Degree,
    pools: Pools,
    limit: f64,
) -> Result<Attempt, CompileError> {
    let network = prepared.of(pools);
    let (first, others) = drafts::run(network, options, degree, pools)?;
    let settled = |draft, limit| settle(prepared, options, degree, draft, limit);
    let faster = |best, other| faster(best, |below| settled(other, limit.min(below)));
    others.into_iter().fold(settled(first, limit), faster)
}

/// The second attempt if it takes less time than the first, or the first failed and it did not.
fn faster(
    first: Result<Attempt, CompileError>,
    second: impl FnOnce(f64) -> Result<Attempt, CompileError>,
) -> Result<Attempt, CompileError> {
    let limit = first.as_ref().map_or(f64::INFINITY, |a| a.levels.micros);
    second(limit).or(first)
}

/// A plan of layouts with scales and primes, of less than `limit` microseconds. Where keys are
/// given, levels say which of them serve a step, and the step what the levels are.
fn settle(
    prepared: &Prepared,
    options: &Options,
    degree: Degree,
    mut draft: Draft,
    limit: f64,
) -> Result<Attempt, CompileError> {
    let (mut turn, mut too_low) = (1, None);
    loop {
        let attempt = levelled(prepared, options, degree, draft.clone(), limit);
        let attempt = match (attempt, too_low) {
            // There would be rotations enough.
            (Err(CompileError::RotationOutOfReach { .. }), Some(error)) => return Err(error),
            (found, _) => found?,
        };
        if !matches!(options.rotations, Rotations::Within(_)) {
            return Ok(attempt);
        }
        let emitted = attempt.emitted(prepared, options);
        match draft.lowering.check_levels(&attempt.made_for, &emitted) {
            Ok(()) => return Ok(attempt),
            Err(error) if turn == LEVEL_TURNS => return Err(error),
            Err(error) => too_low = Some(error),
        }
        turn += 1;
    }
}

/// A draft with scales and primes.
fn levelled(
    prepared: &Prepared,
    options: &Options,
    degree: Degree,
    draft: Draft,
    limit: f64,
) -> Result<Attempt, CompileError> {
    let images = options.images_per_query;
    let Draft { plan, lowering } = draft;
    let network = prepared.of(plan.pools);
    let Within {
        skeleton,
        of: made_for,
    } = lowering.steps(network, &plan)?;
    let layout = |var: usize| interleave::layout(&plan.layouts[var], images);
    let (input, output) = (layout(0), layout(network.output));
    let calibration = &prepared.calibration;
    let (extremes, margin) = (&prepared.extremes, options.range_margin);
    let exact = options.arithmetic.is_exact();
    let steps = &skeleton.steps;
    let mut ranges = ranges::run(steps, &input, calibration, extremes, margin, exact)?;
    for (_, step, feedback) in prepared.feedback(&skeleton) {
        let exposures = ranges.exposures[step].iter_mut();
        exposures.for_each(|exposure| *exposure *= feedback.gain);
    }
    let worst_case = options.flooding.filter(|flooding| flooding.is_worst_case());
    let worst = worst_case.map(|_| {
        let (low, high) = prepared.input_range;
        Worst::of(
            &skeleton.steps,
            &input,
            f64::from(low.abs().max(high.abs())),
        )
    });
    let bounds = bounds(options, degree, spread(&output, images, &ranges.results));
    let result = skeleton.value_of[network.output].0 as usize;
    let edges = match exact {
        true => Vec::new(),
        false => sensitivity::run(steps, &input, result, &output, calibration),
    };
    let chain = Chain::new(&skeleton, &ranges, &edges, worst.as_ref(), result, bounds);
    let common = options.ensemble.as_ref().and_then(Ensemble::common);
    let chain = joined(chain, options, common.as_ref());
    let chosen = levels::choose(&chain, limit);
    let levels = chosen.map_err(|refusal| levels::failure(&chain, refusal, network.depth()))?;
    Ok(Attempt {
        degree,
        plan,
        lowering,
        input,
        output,
        skeleton,
        made_for,
        ranges,
        edges,
        worst,
        tolerance: bounds.tolerance,
        levels,
    })
}

/// The chain of a program that is one of an ensemble's, if it is.
fn joined<'a>(chain: Chain<'a>, options: &Options, common: Option<&'a Common>) -> Chain<'a> {
    match options.ensemble {
        Some(_) => chain.of_ensemble(common),
        None => chain,
    }
}

/// Limits of the level pass; the tolerance becomes absolute.
pub(crate) fn bounds(options: &Options, degree: Degree, spread: f64) -> Bounds {
    Bounds {
        ring: options.ring,
        weights: options.weights,
        arithmetic: options.arithmetic,
        flooding: options.flooding,
        log_n: degree.log_n,
        log_qp: degree.log_qp,
        security_bits: options.security_bits,
        table: options.table,
        tolerance: options.tolerance * spread,
        degree: options.ensemble.as_ref().map(|ensemble| ensemble.degree),
    }
}

fn finish(
    prepared: &Prepared,
    options: &Options,
    mut attempt: Attempt,
) -> Result<Compilation, CompileError> {
    if options.arithmetic.is_exact() {
        attempt.skeleton = rounded(prepared, &attempt)?;
    }
    let Emitted {
        steps,
        result,
        factor,
        ..
    } = attempt.emitted(prepared, options);
    let bounds = attempt.bounds(options);
    let largest = ensemble::common_bound(attempt.largest_output(prepared), options.arithmetic);
    let Attempt {
        plan,
        input: query,
        output,
        levels,
        ..
    } = attempt;
    let network = prepared.of(plan.pools);
    let images = options.images_per_query;
    let parameters = levels.parameters(&bounds);
    let input = InputSpec {
        level: parameters.level_max(),
        scale_log2: levels.input_scale,
        ..query_spec(prepared, network, &query, images)
    };
    let mut program = Program {
        name: prepared.graph.name.clone(),
        model_digest: crate::digest::graph(&prepared.graph),
        notes: Vec::new(),
        parameters,
        packing: Packing::SingleImage,
        weights: options.weights,
        input,
        keys: keys::run(&steps, options.weights),
        steps,
        result,
        output: OutputSpec {
            shape: dimensions(&network.output_shape),
            addresses: addresses(&output),
            factor,
            post: network.post,
        },
    };
    if let Some(ensemble) = &options.ensemble {
        let primes = Primes::new(bounds.ring, bounds.log_n).of(&program.parameters);
        ensemble.join(&mut program, &primes, largest / factor)?;
    }
    let layouts = Dump {
        pass: "layout",
        text: plan.dump(network),
    };
    tell(prepared, program, [&query, &output], layouts)
}

/// The program with everything worth telling about it.
fn tell(
    prepared: &Prepared,
    program: Program,
    [input, output]: [&Layout; 2],
    layouts: Dump,
) -> Result<Compilation, CompileError> {
    let rounded = Rounded {
        program: &program,
        input,
        output,
    };
    let agreement = match program.parameters.scheme.plain_bits() {
        None => None,
        Some(_) => rounded.agreement(&prepared.graph, &prepared.calibration)?,
    };
    let report = Report::new(&program, prepared.friendliness.clone(), agreement);
    let mut dumps = prepared.dumps.clone();
    dumps.push(layouts);
    conclude(program, prepared.graph.clone(), report, dumps)
}

/// A shape as programs write it.
pub(crate) fn dimensions(shape: &[usize]) -> Vec<u32> {
    shape.iter().map(|&d| d as u32).collect()
}

/// The steps with the weights of dense layers rounded for the scales that were chosen.
fn rounded(prepared: &Prepared, attempt: &Attempt) -> Result<Skeleton, CompileError> {
    let mut network = prepared.network.clone();
    for (stage, step, feedback) in prepared.feedback(&attempt.skeleton) {
        if let StageKind::Affine(map) = &mut network.stages[stage].kind {
            *map = feedback.round(map, attempt.levels.weight_scales[step]);
        }
    }
    Ok(attempt.lowering.steps(&network, &attempt.plan)?.skeleton)
}

/// The query, but for level and scale.
fn query_spec(prepared: &Prepared, network: &Network, query: &Layout, images: usize) -> InputSpec {
    InputSpec {
        shape: dimensions(&network.input_shape),
        examples: images as u32,
        gather: Gather::Slots(query.cells.iter().map(|c| query_map(c)).collect()),
        level: 0,
        traced: None,
        scale_log2: 0.0,
        minimum: prepared.input_range.0,
        maximum: prepared.input_range.1,
    }
}

/// The first place of each output.
fn addresses(output: &Layout) -> Vec<SlotAddress> {
    let address = |e: usize| {
        let (ciphertext, slot) = output.places(e)[0];
        SlotAddress { ciphertext, slot }
    };
    (0..output.elements()).map(address).collect()
}

fn query_map(cells: &[u32]) -> Vec<u32> {
    cells
        .iter()
        .map(|&cell| if cell == ZERO { NO_ELEMENT } else { cell })
        .collect()
}

/// Validates the program and writes down what is told of it.
pub(crate) fn conclude(
    program: Program,
    graph: Graph,
    report: Report,
    mut dumps: Vec<Dump>,
) -> Result<Compilation, CompileError> {
    program.validate()?;
    dumps.push(Dump {
        pass: "levels",
        text: dumps::steps(&program.steps),
    });
    dumps.push(Dump {
        pass: "parameters",
        text: dumps::parameters(&program),
    });
    dumps.push(Dump {
        pass: "keys",
        text: dumps::keys(&program),
    });
    dumps.push(Dump {
        pass: "cost",
        text: report.to_string(),
    });
    Ok(Compilation {
        program,
        graph,
        dumps,
        report,
    })
}

#[cfg(test)]
mod tests {
    use scuro_nn::graph::{GraphBuilder, Op};

    use super::*;

    #[test]
    fn the_most_extreme_example_comes_first() {
        let picks = |weights: [f32; 2]| Op::Dense {
            weight: Tensor::new(vec![1, 2], weights.to_vec()).unwrap(),
            bias: None,
        };
        let mut net = GraphBuilder::new("branches", [2]);
        let input = net.last();
        net.push("first", picks([1.0, 0.0]), &[input]);
        let first = net.last();
        net.push("second", picks([0.0, 1.0]), &[input]);
        let second = net.last();
        net.push("sum", Op::Add, &[first, second]);
        let graph = net.finish().unwrap();
        let example = |values: [f32; 2]| Tensor::new(vec![2], values.to_vec()).unwrap();
        let mut calibration = vec![example([3.0, 1.0]), example([1.0, 9.0])];
        calibration.extend(vec![example([1.0, 1.0]); 5]);
        let count = calibration.len();
        for shift in 0..count {
            let found = extremes(&magnitudes(&graph, &calibration).unwrap());
            assert_eq!(found[..2], [(1 + shift) % count, shift]);
            calibration.rotate_right(1);
        }
    }
}
