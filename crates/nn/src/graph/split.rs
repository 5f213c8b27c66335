//! Cutting a network in two: features first, classifier after.

use super::{Graph, Node, NodeId, Op};
use crate::error::{Error, Result};

/// Which layers the second part begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The last layer with weights.
    LastLayer,
    /// The dense layers at the end.
    Classifier,
}

impl Graph {
    /// The node whose value the part reads, if there is one that nothing else of the part depends
    /// on; the network's input if the part is the whole network.
    pub fn input_of(&self, part: Part) -> Option<NodeId> {
        let weighted = |node: &Node| matches!(node.op, Op::Dense { .. } | Op::Conv2d { .. });
        let last = self.nodes.iter().rposition(weighted)?;
        let first = match part {
            Part::LastLayer => last,
            // Dense layers without a convolution between them and the end.
            Part::Classifier => {
                let convolution = |node: &Node| matches!(node.op, Op::Conv2d { .. });
                let after = self.nodes.iter().rposition(convolution).unwrap_or(0);
                let dense = |node: &Node| matches!(node.op, Op::Dense { .. });
                after + self.nodes[after..].iter().position(dense)?
            }
        };
        let input = *self.nodes[first].inputs.first()?;
        self.separates(input).then_some(input)
    }

    /// Feature extractor and classifier.
    ///
    /// # Errors
    /// [`Error::NoClassifier`] if no dense layers end the network or nothing comes before them, or
    /// a later node also uses a value from before the cut.
    pub fn split_classifier(&self) -> Result<(Graph, Graph)> {
        match self.input_of(Part::Classifier) {
            Some(cut) if cut != NodeId(0) => self.split(cut),
            _ => Err(Error::NoClassifier {
                network: self.name.clone(),
            }),
        }
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

    /// Whether every later node depends on earlier ones through `node` or constants alone.
    fn separates(&self, node: NodeId) -> bool {
        let constant = |id: &NodeId| matches!(self.nodes[id.0].op, Op::Constant(_));
        let passes = |id: &NodeId| *id >= node || constant(id);
        self.nodes[node.0 + 1..]
            .iter()
            .all(|later| later.inputs.iter().all(passes))
    }

    /// The network up to `node`, and the network from there on, which reads that node's value.
    ///
    /// # Errors
    /// As [`Graph::validate`]: if a later node depends on more than `node`.
    pub fn split(&self, node: NodeId) -> Result<(Graph, Graph)> {
        let shape = self.shapes()?[node.0].clone();
        let features = Graph {
            name: self.name.clone(),
            nodes: self.nodes[..=node.0].to_vec(),
            output: node,
            preprocess: self.preprocess.clone(),
        };
        let input = Node {
            name: "input".into(),
            op: Op::Input { shape },
            inputs: Vec::new(),
        };
        let mut nodes = vec![input];
        let mut moved = vec![NodeId(0); self.nodes.len()];
        for (index, old) in self.nodes.iter().enumerate() {
            if index <= node.0 && !matches!(old.op, Op::Constant(_)) {
                continue;
            }
            moved[index] = NodeId(nodes.len());
            let inputs = old.inputs.iter().map(|id| moved[id.0]).collect();
            nodes.push(Node {
                inputs,
                ..old.clone()
            });
        }
        let classifier = Graph {
            name: self.name.clone(),
            nodes,
            output: moved[self.output.0],
            preprocess: None,
        };
        features.validate()?;
        classifier.validate()?;
        Ok((features, classifier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphBuilder, Padding, Window};
    use crate::reference;
    use crate::tensor::Tensor;

    fn tensor(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        let data = (0..count).map(|i| (i * 7 % 11) as f32 / 11.0 - 0.4);
        Tensor::new(shape.to_vec(), data.collect()).unwrap()
    }

    fn network() -> Graph {
        let mut net = GraphBuilder::new("net", [1, 4, 4]);
        net.then(Op::Conv2d {
            weight: tensor(&[2, 1, 3, 3]),
            bias: None,
            window: Window {
                kernel: [3, 3],
                stride: [1, 1],
                padding: Padding::default(),
            },
            dilation: [1, 1],
            groups: 1,
        });
        net.then(Op::Relu).then(Op::Flatten);
        net.then(Op::Dense {
            weight: tensor(&[5, 8]),
            bias: None,
        });
        net.then(Op::Square).then(Op::Dense {
            weight: tensor(&[3, 5]),
            bias: Some(tensor(&[3])),
        });
        net.finish().unwrap()
    }

    #[test]
    fn both_parts_together_compute_what_the_whole_computes() {
        let (graph, image) = (network(), tensor(&[1, 4, 4]));
        let whole = reference::run(&graph, &image).unwrap();
        for (part, shape) in [(Part::Classifier, vec![8]), (Part::LastLayer, vec![5])] {
            let cut = graph.input_of(part).unwrap();
            let (features, classifier) = graph.split(cut).unwrap();
            assert_eq!(classifier.input_shape(), shape);
            let middle = reference::run(&features, &image).unwrap();
            assert_eq!(reference::run(&classifier, &middle).unwrap(), whole);
        }
    }

    #[test]
    fn a_shortcut_around_the_classifier_is_no_place_to_cut() {
        let mut net = GraphBuilder::new("shortcut", [4]);
        let input = net.input();
        let square = tensor(&[4, 4]);
        let dense = Op::Dense {
            weight: square.clone(),
            bias: None,
        };
        let first = net.push("first", dense.clone(), &[input]);
        let second = net.push("second", dense, &[first]);
        net.push("sum", Op::Add, &[second, input]);
        let graph = net.finish().unwrap();
        assert_eq!(graph.input_of(Part::LastLayer), None);
        assert_eq!(graph.input_of(Part::Classifier), Some(NodeId(0)));
    }

    #[test]
    fn a_network_is_the_sum_of_its_parts() {
        let whole = network();
        let (features, classifier) = whole.split_classifier().unwrap();
        let joined = features.joined(&classifier).unwrap();
        assert_eq!(joined.nodes, whole.nodes);
        let found = classifier.joined(&whole);
        assert!(matches!(found, Err(Error::InputShape { .. })));
        let alone = classifier.split_classifier();
        assert!(matches!(alone, Err(Error::NoClassifier { .. })));
    }
}
