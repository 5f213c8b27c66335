//! Replacements inside a network.

use super::{Function, Interval, Replacement};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, NodeId, Op};
use crate::reference::{Executor, Range};
use crate::tensor::Tensor;

/// Widening of a calibrated range on either side, as a share of its width.
const MARGIN: f64 = 0.05;
/// Smallest width of a calibrated range.
const WIDTH_MIN: f64 = 1e-3;

/// Which activations are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The last one before the output.
    Last,
    /// Every one.
    All,
}

/// Where the intervals of the fits come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Calibration<'a> {
    /// The same interval everywhere.
    Given(Interval),
    /// What enters each activation of the original network on these examples: for a network that
    /// is trained afterwards.
    Original(&'a [Tensor]),
    /// What enters each activation once those before it are replaced: for a network that is used as
    /// it is.
    Successive(&'a [Tensor]),
}

/// What is replaced in a network, by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Stands for activations, if any are replaced.
    pub activation: Option<Replacement>,
    /// Which ones.
    pub which: Which,
    /// Whether maximum pools become average pools.
    pub average_pools: bool,
}

/// `graph` with ReLU, sigmoid and tanh replaced as `plan` says. A sigmoid at the very end stays: it
/// is not computed on ciphertexts.
///
/// # Errors
/// Those of the reference executor on the calibration examples; [`Error::Interval`] for a range
/// that is not finite; [`Error::NothingToReplace`] if activations are to be replaced and there are
/// none; [`Error::PolynomialDegree`].
pub fn replace(graph: &Graph, plan: Plan, calibration: Calibration<'_>) -> Result<Graph> {
    let mut replaced = graph.clone();
    if plan.average_pools {
        average_pools(&mut replaced);
    }
    let Some(activation) = plan.activation else {
        return Ok(replaced);
    };
    let places = places(graph, plan.which)?;
    let ranges = match calibration {
        Calibration::Original(examples) => ranges(graph, examples)?,
        _ => Vec::new(),
    };
    for &(index, function) in &places {
        let operand = replaced.nodes[index].inputs[0].0;
        let interval = match calibration {
            Calibration::Given(interval) => interval,
            Calibration::Original(_) => widened(&ranges[operand])?,
            Calibration::Successive(examples) => {
                widened(&self::ranges(&replaced, examples)?[operand])?
            }
        };
        let fit = activation.fit(function, interval)?;
        // The identity is removed below, when no index is needed any more.
        replaced.nodes[index].op = activation.op(&fit).unwrap_or(Op::Polynomial {
            coefficients: vec![0.0, 1.0],
        });
    }
    if activation == Replacement::None {
        let places: Vec<usize> = places.iter().map(|place| place.0).collect();
        replaced = without(&replaced, &places);
    }
    replaced.validate()?;
    Ok(replaced)
}

/// The activations to replace, in graph order.
fn places(graph: &Graph, which: Which) -> Result<Vec<(usize, Function)>> {
    let nodes = graph.nodes.iter().enumerate().take(graph.output.0 + 1);
    let mut places: Vec<(usize, Function)> = nodes
        .filter(|(index, node)| *index != graph.output.0 || node.op != Op::Sigmoid)
        .filter_map(|(index, node)| Some((index, Function::of(&node.op)?)))
        .collect();
    if places.is_empty() {
        let network = graph.name.clone();
        return Err(Error::NothingToReplace { network });
    }
    if which == Which::Last {
        places.drain(..places.len() - 1);
    }
    Ok(places)
}

fn average_pools(graph: &mut Graph) {
    for node in &mut graph.nodes {
        match node.op {
            Op::MaxPool { window } => {
                node.op = Op::AvgPool {
                    window,
                    count_padding: false,
                }
            }
            Op::GlobalMaxPool => node.op = Op::GlobalAvgPool,
            _ => {}
        }
    }
}

/// The range of every node on `examples`.
fn ranges(graph: &Graph, examples: &[Tensor]) -> Result<Vec<Range>> {
    let executor = Executor::new(graph)?;
    let expected = executor.input_shape();
    if let Some(example) = examples.iter().find(|example| example.shape != expected) {
        let (expected, found) = (expected.to_vec(), example.shape.clone());
        return Err(Error::InputShape { expected, found });
    }
    let fill = |i: usize, image: &mut [f32]| image.copy_from_slice(&examples[i].data);
    Ok(executor.ranges(examples.len(), fill))
}

fn widened(range: &Range) -> Result<Interval> {
    let (low, high) = (f64::from(range.min), f64::from(range.max));
    let margin = MARGIN * (high - low).max(WIDTH_MIN);
    Interval::new(low - margin, high + margin)
}

/// `graph` without the nodes at `indices`; their operand takes their place.
fn without(graph: &Graph, indices: &[usize]) -> Graph {
    let mut kept = Graph {
        nodes: Vec::with_capacity(graph.nodes.len()),
        ..graph.clone()
    };
    let mut moved: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|id| moved[id.0]).collect();
        if indices.contains(&index) {
            moved.push(inputs[0]);
        } else {
            moved.push(NodeId(kept.nodes.len()));
            kept.nodes.push(Node {
                inputs,
                ..node.clone()
            });
        }
    }
    kept.output = moved[graph.output.0];
    kept
}
