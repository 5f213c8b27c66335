//! Cutting a network between its feature extractor and its classifier.

use super::{Graph, Node, NodeId, Op};
use crate::error::{Error, Result};

impl Graph {
    /// The feature extractor (everything before the first dense layer, its flattening included) and
    /// the classifier (the rest, which takes the features as its input).
    ///
    /// # Errors
    /// [`Error::NoClassifier`] if no dense layer follows another layer, or a later node also uses a
    /// value from before the cut; else as [`Graph::validate`].
    pub fn split_classifier(&self) -> Result<(Self, Self)> {
        self.validate()?;
        let refuse = || Error::NoClassifier {
            network: self.name.clone(),
        };
        let is_dense = |node: &Node| matches!(node.op, Op::Dense { .. });
        let first = self.nodes.iter().position(is_dense).ok_or_else(refuse)?;
        let cut = self.nodes[first].inputs[0];
        let shape = self.shapes()?.swap_remove(cut.0);
        let input = Node {
            name: self.nodes[cut.0].name.clone(),
            op: Op::Input { shape },
            inputs: Vec::new(),
        };
        let mut nodes = vec![input];
        for node in &self.nodes[first..] {
            let moved = |id: &NodeId| match id.0 {
                at if at == cut.0 => Some(NodeId(0)),
                at => Some(NodeId(at.checked_sub(first)? + 1)),
            };
            let inputs = node.inputs.iter().map(moved).collect::<Option<Vec<_>>>();
            nodes.push(Node {
                inputs: inputs.ok_or_else(refuse)?,
                ..node.clone()
            });
        }
        let output = self.output.0.checked_sub(first).ok_or_else(refuse)? + 1;
        let classifier = Self {
            name: self.name.clone(),
            nodes,
            output: NodeId(output),
        };
        let features = Self {
            name: self.name.clone(),
            nodes: self.nodes[..=cut.0].to_vec(),
            output: cut,
        };
        classifier.validate()?;
        features.validate()?;
        Ok((features, classifier))
    }

    /// This network, then `classifier` on its answer: the reverse of
    /// [`split_classifier`](Self::split_classifier).
    ///
    /// # Errors
    /// [`Error::InputShape`] if the shapes differ; else as [`Graph::validate`].
    pub fn joined(&self, classifier: &Self) -> Result<Self> {
        let expected = self.shapes()?.swap_remove(self.output.0);
        let found = classifier.input_shape().to_vec();
        if expected != found {
            return Err(Error::InputShape { expected, found });
        }
        let mut whole = self.clone();
        let mut places: Vec<NodeId> = Vec::with_capacity(classifier.nodes.len());
        for node in &classifier.nodes {
            if matches!(node.op, Op::Input { .. }) {
                places.push(self.output);
                continue;
            }
            places.push(NodeId(whole.nodes.len()));
            whole.nodes.push(Node {
                inputs: node.inputs.iter().map(|id| places[id.0]).collect(),
                ..node.clone()
            });
        }
        whole.output = places[classifier.output.0];
        whole.validate()?;
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GraphBuilder, Window};
    use super::*;
    use crate::tensor::Tensor;

    fn network() -> Graph {
        let dense = |outputs: usize, inputs: usize| Op::Dense {
            weight: Tensor {
                shape: vec![outputs, inputs],
                data: (0..outputs * inputs).map(|i| i as f32 * 0.1).collect(),
            },
            bias: None,
        };
        let mut net = GraphBuilder::new("net", [1, 4, 4]);
        let window = Window::valid([2, 2], [2, 2]);
        net.then(Op::MaxPool { window }).then(Op::Flatten);
        net.then(dense(3, 4)).then(Op::Relu).then(dense(2, 3));
        net.finish().unwrap()
    }

    #[test]
    fn a_network_is_the_sum_of_its_parts() {
        let whole = network();
        let (features, classifier) = whole.split_classifier().unwrap();
        assert_eq!(features.nodes.len(), 3);
        assert_eq!(classifier.input_shape(), [4]);
        assert_eq!(features.joined(&classifier).unwrap(), whole);
        assert!(matches!(
            classifier.joined(&whole),
            Err(Error::InputShape { .. })
        ));
    }

    #[test]
    fn a_network_without_dense_layers_or_with_a_bridge_has_no_classifier() {
        let (features, _) = network().split_classifier().unwrap();
        let found = features.split_classifier();
        assert!(
            matches!(found, Err(Error::NoClassifier { .. })),
            "{found:?}"
        );
        let mut bridged = network();
        bridged.nodes[4].inputs[0] = NodeId(2);
        bridged.nodes[4].op = Op::Flatten;
        bridged.nodes[5].op = bridged.nodes[3].op.clone();
        bridged.nodes[5].inputs[0] = NodeId(0);
        assert!(bridged.split_classifier().is_err());
    }
}
