//! Building a network node by node.

use super::{Graph, Node, NodeId, Op};
use crate::error::Result;

/// Collects nodes in order; [`GraphBuilder::finish`] checks the whole.
#[derive(Debug, Clone)]
pub struct GraphBuilder {
    graph: Graph,
}

impl GraphBuilder {
    /// A network with its input node, named `input`.
    pub fn new(name: impl Into<String>, input_shape: impl Into<Vec<usize>>) -> Self {
        let op = Op::Input {
            shape: input_shape.into(),
        };
        let input = Node {
            name: "input".into(),
            op,
            inputs: Vec::new(),
        };
        Self {
            graph: Graph {
                name: name.into(),
                nodes: vec![input],
                output: NodeId(0),
                preprocess: None,
            },
        }
    }

    /// The input node.
    pub fn input(&self) -> NodeId {
        NodeId(0)
    }

    /// The node appended last.
    pub fn last(&self) -> NodeId {
        NodeId(self.graph.nodes.len() - 1)
    }

    /// Appends a node. An empty name is replaced by a generated one.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        let mut name = name.into();
        if name.is_empty() {
            name = format!("{}_{}", op.name().to_lowercase(), self.graph.nodes.len());
        }
        self.graph.nodes.push(Node {
            name,
            op,
            inputs: inputs.to_vec(),
        });
        self.last()
    }

    /// Appends a node that takes the one before it, under a generated name.
    pub fn then(&mut self, op: Op) -> &mut Self {
        let last = self.last();
        self.push("", op, &[last]);
        self
    }

    /// Ends with the node appended last as output.
    ///
    /// # Errors
    /// As [`Graph::validate`].
    pub fn finish(self) -> Result<Graph> {
        let output = self.last();
        self.finish_at(output)
    }

    /// Ends with `output` as output.
    ///
    /// # Errors
    /// As [`Graph::validate`].
    pub fn finish_at(mut self, output: NodeId) -> Result<Graph> {
        self.graph.output = output;
        self.graph.validate()?;
        Ok(self.graph)
    }
}
