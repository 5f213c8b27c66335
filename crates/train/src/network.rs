//! A graph with the buffers of one batch: values forward, gradients backward.

use crate::error::{Error, Result};
use crate::layers::{self, Gradients, Mode, Operands, Saved, parameters, size};
use crate::random::{Purpose, stream, uniform};
use rayon::prelude::*;
use scuro_nn::graph::{Graph, NodeId, Op};
use std::collections::BTreeMap;

/// Gradients of every node's parameters, by node and by parameter.
pub(crate) type ParameterGradients = Vec<Vec<Vec<f32>>>;

/// A penalty on what enters the activation functions: `weight * sum max(|x| - limit, 0)^2` per
/// example.
///
/// It keeps values inside the range for which an encrypted evaluation is planned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RangePenalty {
    /// Largest magnitude without penalty.
    pub limit: f32,
    /// Multiplier.
    pub weight: f32,
}

/// The differentiator: evaluates a graph on batches and, in training, its gradients.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) graph: Graph,
    shapes: Vec<Vec<usize>>,
    /// The node whose value is compared with labels: the output, or what enters a last softmax.
    logits: usize,
    /// Nodes that a parameter lies before (or that are one): those whose gradient is needed.
    active: Vec<bool>,
    /// Rate of the dropout after each node.
    dropout: BTreeMap<usize, f32>,
    values: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
    masks: Vec<Vec<f32>>,
    saved: Vec<Saved>,
    spare: Vec<Vec<f32>>,
}

impl Network {
    /// Checks `graph` and prepares its buffers; `dropout` holds rates by node name.
    pub(crate) fn new(graph: Graph, dropout: &BTreeMap<String, f32>) -> Result<Self> {
        graph.validate()?;
        let shapes = graph.shapes()?;
        let nodes = graph.nodes.len();
        let logits = logits_node(&graph);
        let [_classes] = shapes[logits][..] else {
            return Err(Error::OutputShape {
                found: shapes[logits].clone(),
            });
        };
        let dropout = dropout_by_node(&graph, dropout)?;
        let mut active = vec![false; nodes];
        let mut graph = graph;
        for i in 0..nodes {
            let node = &mut graph.nodes[i];
            let before = node.inputs.iter().any(|id| active[id.0]);
            active[i] = before || !parameters(&mut node.op).is_empty();
        }
        Ok(Self {
            graph,
            shapes,
            logits,
            active,
            dropout,
            values: vec![Vec::new(); nodes],
            gradients: vec![Vec::new(); nodes],
            masks: vec![Vec::new(); nodes],
            saved: vec![Saved::default(); nodes],
            spare: Vec::new(),
        })
    }

    /// Number of classes.
    pub(crate) fn classes(&self) -> usize {
        size(&self.shapes[self.logits])
    }

    /// Shape of one example.
    pub(crate) fn input_shape(&self) -> &[usize] {
        self.graph.input_shape()
    }

    /// Gradients of the right lengths, all zero.
    ///
    /// An operator without arrays here is not trained: polynomials unless `learn_polynomials`.
    pub(crate) fn zero_gradients(&mut self, learn_polynomials: bool) -> ParameterGradients {
        let zeros = |op: &mut Op| {
            if matches!(op, Op::Polynomial { .. }) && !learn_polynomials {
                return Vec::new();
            }
            parameters(op)
                .iter()
                .map(|p| vec![0.0; p.values.len()])
                .collect()
        };
        self.graph
            .nodes
            .iter_mut()
            .map(|node| zeros(&mut node.op))
            .collect()
    }

    /// Logits of a batch with running statistics and without dropout.
    pub(crate) fn predict(&mut self, images: &[f32]) -> &[f32] {
        self.run(images, Mode::Inference, None);
        &self.values[self.logits]
    }

    /// Logits of a batch in training: batch statistics, and dropout drawn from `(seed, step)`.
    pub(crate) fn forward(&mut self, images: &[f32], seed: u64, step: u64) -> &[f32] {
        self.run(images, Mode::Training, Some((seed, step)));
        &self.values[self.logits]
    }

    fn run(&mut self, images: &[f32], mode: Mode, dropout: Option<(u64, u64)>) {
        let batch = images.len() / size(self.graph.input_shape());
        for i in 0..=self.logits {
            let (before, rest) = self.values.split_at_mut(i);
            let out = &mut rest[0];
            out.resize(batch * size(&self.shapes[i]), 0.0);
            let node = &self.graph.nodes[i];
            if matches!(node.op, Op::Input { .. }) {
                out.copy_from_slice(images);
            }
            let operands = operands(&node.inputs, before, &self.shapes, i, batch);
            layers::forward(node, &operands, out, mode, &mut self.saved[i]);
            if let (Some((seed, step)), Some(rate)) = (dropout, self.dropout.get(&i)) {
                let index = step
                    .wrapping_mul(self.shapes.len() as u64)
                    .wrapping_add(i as u64);
                draw_mask(&mut self.masks[i], out.len(), *rate, seed, index);
                out.iter_mut()
                    .zip(&self.masks[i])
                    .for_each(|(o, m)| *o *= m);
            }
        }
    }

    /// Parameter gradients of the loss whose gradient by the logits of the last
    /// [`forward`](Self::forward) is `upstream`, plus those of the range penalty. Returns the
    /// penalty per example.
    pub(crate) fn backward(
        &mut self,
        upstream: Vec<f32>,
        penalty: Option<RangePenalty>,
        out: &mut ParameterGradients,
    ) -> f64 {
        let batch = upstream.len() / self.classes().max(1);
        self.gradients.iter_mut().for_each(Vec::clear);
        self.gradients[self.logits] = upstream;
        let mut total = 0.0;
        for i in (0..=self.logits).rev() {
            let mut upstream = std::mem::take(&mut self.gradients[i]);
            if self.active[i] && !upstream.is_empty() {
                if self.dropout.contains_key(&i) {
                    upstream
                        .iter_mut()
                        .zip(&self.masks[i])
                        .for_each(|(u, m)| *u *= m);
                }
                total += self.backward_node(i, batch, &upstream, penalty, &mut out[i]);
            }
            self.give_back(upstream);
        }
        total
    }

    fn backward_node(
        &mut self,
        i: usize,
        batch: usize,
        upstream: &[f32],
        penalty: Option<RangePenalty>,
        parameters: &mut [Vec<f32>],
    ) -> f64 {
        let inputs = self.graph.nodes[i].inputs.clone();
        let mut wanted: Vec<Option<Vec<f32>>> = inputs
            .iter()
            .map(|id| self.active[id.0].then(|| self.buffer(id.0, batch)))
            .collect();
        let node = &self.graph.nodes[i];
        let operands = operands(&inputs, &self.values, &self.shapes, i, batch);
        let mut gradients = Gradients {
            operands: &mut wanted,
            parameters,
        };
        layers::backward(node, &operands, upstream, &self.saved[i], &mut gradients);
        let penalty = penalty.filter(|_| node.op.is_pointwise());
        let mut total = 0.0;
        if let (Some(penalty), Some(Some(gradient))) = (penalty, wanted.first_mut()) {
            total = penalise(&self.values[inputs[0].0], batch, penalty, gradient);
        }
        for (id, gradient) in inputs.iter().zip(wanted) {
            if let Some(gradient) = gradient {
                self.accumulate(id.0, gradient);
            }
        }
        total
    }

    /// A buffer for the gradient of node `i`, with arbitrary contents.
    fn buffer(&mut self, i: usize, batch: usize) -> Vec<f32> {
        let len = batch * size(&self.shapes[i]);
        let fitting = self.spare.iter().enumerate();
        let fitting = fitting.filter(|(_, spare)| spare.capacity() >= len);
        let best = fitting.min_by_key(|(_, spare)| spare.capacity());
        let best = best.map(|(at, _)| at);
        let mut buffer = best.map_or_else(Vec::new, |at| self.spare.swap_remove(at));
        buffer.resize(len, 0.0);
        buffer
    }

    fn accumulate(&mut self, i: usize, gradient: Vec<f32>) {
        let sum = &mut self.gradients[i];
        if sum.is_empty() {
            let before = std::mem::replace(sum, gradient);
            self.give_back(before);
        } else {
            sum.par_iter_mut().zip(&gradient).for_each(|(s, g)| *s += g);
            self.give_back(gradient);
        }
    }

    /// Keeps a buffer for the next gradient.
    fn give_back(&mut self, buffer: Vec<f32>) {
        if buffer.capacity() > 0 && self.spare.len() < self.shapes.len() {
            self.spare.push(buffer);
        }
    }

    /// Moves running statistics of batch normalisation towards those of the last batch.
    pub(crate) fn update_statistics(&mut self, momentum: f32) {
        let mix = |running: &mut [f32], batch: &[f32]| {
            let pairs = running.iter_mut().zip(batch);
            pairs.for_each(|(r, b)| *r = momentum * *r + (1.0 - momentum) * b);
        };
        for (node, saved) in self.graph.nodes.iter_mut().zip(&self.saved) {
            if let Op::BatchNorm { mean, variance, .. } = &mut node.op {
                mix(&mut mean.data, &saved.mean);
                mix(&mut variance.data, &saved.variance);
            }
        }
    }

    /// Largest magnitude entering each activation function in the last pass, by node name.
    pub(crate) fn activation_ranges(&self) -> Vec<(String, f32)> {
        let nodes = self.graph.nodes[..=self.logits]
            .iter()
            .filter(|node| node.op.is_pointwise());
        let largest = |id: NodeId| self.values[id.0].iter().fold(0.0f32, |m, v| m.max(v.abs()));
        nodes
            .map(|node| (node.name.clone(), largest(node.inputs[0])))
            .collect()
    }
}

fn operands<'a>(
    inputs: &[NodeId],
    values: &'a [Vec<f32>],
    shapes: &'a [Vec<usize>],
    output: usize,
    batch: usize,
) -> Operands<'a> {
    Operands {
        values: inputs.iter().map(|id| &values[id.0][..]).collect(),
        shapes: inputs.iter().map(|id| &shapes[id.0][..]).collect(),
        output: &shapes[output],
        batch,
    }
}

/// The output, or the operand of an output softmax: losses take logits.
fn logits_node(graph: &Graph) -> usize {
    let output = &graph.nodes[graph.output.0];
    match output.op {
        Op::Softmax { .. } | Op::LogSoftmax { .. } => output.inputs[0].0,
        _ => graph.output.0,
    }
}

fn dropout_by_node(graph: &Graph, rates: &BTreeMap<String, f32>) -> Result<BTreeMap<usize, f32>> {
    let find = |(name, &rate): (&String, &f32)| {
        if !(0.0..1.0).contains(&rate) {
            return Err(Error::DropoutRate {
                node: name.clone(),
                found: rate,
            });
        }
        let position = graph.nodes.iter().position(|node| node.name == *name);
        Ok((
            position.ok_or_else(|| Error::UnknownNode { name: name.clone() })?,
            rate,
        ))
    };
    rates.iter().map(find).collect()
}

/// Inverted dropout: `1 / (1 - rate)` with probability `1 - rate`, else 0.
fn draw_mask(mask: &mut Vec<f32>, len: usize, rate: f32, seed: u64, index: u64) {
    let mut rng = stream(seed, Purpose::Dropout, index);
    let keep = 1.0 / (1.0 - rate);
    mask.clear();
    mask.extend((0..len).map(|_| if uniform(&mut rng) < rate { 0.0 } else { keep }));
}

/// Adds the gradient of the penalty on `values` and returns its sum per example.
fn penalise(values: &[f32], batch: usize, penalty: RangePenalty, gradient: &mut [f32]) -> f64 {
    let scale = penalty.weight / batch.max(1) as f32;
    let mut total = 0.0;
    for (x, g) in values.iter().zip(gradient) {
        let excess = x.abs() - penalty.limit;
        if excess > 0.0 {
            total += f64::from(scale * excess * excess);
            *g += 2.0 * scale * excess * x.signum();
        }
    }
    total
}

#[cfg(test)]
mod tests;
