//! The graph under construction during an import, with the shapes known so far.

use std::collections::HashSet;

use super::simplify::{absorb_in_input, simplify};
use crate::error::Result;
use crate::graph::{Graph, Node, NodeId, Op, Padding, Window};
use crate::tensor::Tensor;

/// Collects nodes, keeps names unique and infers each shape as it comes.
#[derive(Debug)]
pub(super) struct Lowering {
    graph: Graph,
    shapes: Vec<Vec<usize>>,
    names: HashSet<String>,
    /// Whether the file itself turns its input from channels last to channels first.
    channels_last: bool,
    /// Weights made so far by `compose`.
    pub(super) made: usize,
}

impl Lowering {
    pub(super) fn new(name: &str) -> Self {
        let graph = Graph {
            name: name.to_owned(),
            nodes: Vec::new(),
            output: NodeId(0),
            preprocess: None,
        };
        Self {
            graph,
            shapes: Vec::new(),
            names: HashSet::new(),
            channels_last: false,
            made: 0,
        }
    }

    /// Appends a node under `name`, or `name_2`, `name_3`, ... if it is taken.
    pub(super) fn push(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let base = if name.is_empty() {
            op.name().to_lowercase()
        } else {
            name.to_owned()
        };
        let mut name = base.clone();
        let mut count = 1;
        while self.names.contains(&name) {
            count += 1;
            name = format!("{base}_{count}");
        }
        let node = Node {
            name: name.clone(),
            op,
            inputs: inputs.to_vec(),
        };
        let shape = self
            .graph
            .infer_at(&node, self.graph.nodes.len(), &self.shapes)?;
        self.names.insert(name);
        self.graph.nodes.push(node);
        self.shapes.push(shape);
        Ok(NodeId(self.graph.nodes.len() - 1))
    }

    pub(super) fn constant(&mut self, name: &str, value: Tensor) -> Result<NodeId> {
        self.push(name, Op::Constant(value), &[])
    }

    /// Zeros around an image: a 1x1 convolution of each channel with padding, which the next
    /// convolution absorbs.
    pub(super) fn zero_padding(
        &mut self,
        name: &str,
        input: NodeId,
        padding: Padding,
    ) -> Result<NodeId> {
        let channels = self.shape(input).first().copied().unwrap_or(1);
        let op = Op::Conv2d {
            weight: Tensor {
                shape: vec![channels, 1, 1, 1],
                data: vec![1.0; channels],
            },
            bias: None,
            window: Window {
                kernel: [1, 1],
                stride: [1, 1],
                padding,
            },
            dilation: [1, 1],
            groups: channels,
        };
        self.push(name, op, &[input])
    }

    /// A row-major change of shape, left out where it changes nothing.
    pub(super) fn reshape(
        &mut self,
        name: &str,
        input: NodeId,
        shape: Vec<usize>,
    ) -> Result<NodeId> {
        if self.shape(input) == shape {
            return Ok(input);
        }
        let op = if shape.len() == 1 && shape[0] == self.shape(input).iter().product::<usize>() {
            Op::Flatten
        } else {
            Op::Reshape { shape }
        };
        self.push(name, op, &[input])
    }

    pub(super) fn shape(&self, id: NodeId) -> &[usize] {
        &self.shapes[id.0]
    }

    /// Says that the file itself transposes `value`: if that is the input, images come in the
    /// layout that the network turns them to.
    pub(super) fn transposed_in_file(&mut self, value: NodeId) {
        self.channels_last |= matches!(self.graph.nodes[value.0].op, Op::Input { .. });
    }

    /// Simplifies and checks the whole.
    pub(super) fn finish(mut self, output: NodeId) -> Result<Graph> {
        self.graph.output = output;
        self.graph.validate()?;
        if self.channels_last {
            absorb_in_input(&mut self.graph);
        }
        let graph = simplify(self.graph)?;
        graph.validate()?;
        Ok(graph)
    }
}

/// Padding that keeps `ceil(input / stride)` positions along one axis: `(before, after)`.
pub(super) fn same_padding(
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    extra_first: bool,
) -> (usize, usize) {
    let reach = kernel
        .saturating_sub(1)
        .saturating_mul(dilation)
        .saturating_add(1);
    let steps = input.div_ceil(stride.max(1)).saturating_sub(1);
    let total = steps
        .saturating_mul(stride)
        .saturating_add(reach)
        .saturating_sub(input);
    let (small, large) = (total / 2, total - total / 2);
    if extra_first {
        (large, small)
    } else {
        (small, large)
    }
}
