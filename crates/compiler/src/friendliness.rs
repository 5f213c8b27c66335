//! Pass: which operators ciphertexts cannot compute, and what would replace them.

use std::fmt;

use scuro_nn::graph::{Graph, NodeId, Op};
use scuro_program::PostOperation;

/// What the pass found; printable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Friendliness {
    /// Operators that must be replaced, in graph order.
    pub findings: Vec<Finding>,
    /// What the key holder computes after decryption, if anything.
    pub after_decryption: Option<String>,
}

/// One operator that cannot run on ciphertexts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Node name.
    pub layer: String,
    /// Operator.
    pub operator: &'static str,
    /// What would replace it.
    pub replacement: &'static str,
}

impl Friendliness {
    /// Whether the network runs as it stands.
    pub fn is_friendly(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Friendliness {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let Finding {
                layer,
                operator,
                replacement,
            } = finding;
            writeln!(out, "  layer `{layer}` ({operator}): {replacement}")?;
        }
        if self.findings.is_empty() {
            writeln!(out, "  every operator runs on ciphertexts")?;
        }
        if let Some(after) = &self.after_decryption {
            writeln!(
                out,
                "  {after} is applied by the key holder after decryption"
            )?;
        }
        Ok(())
    }
}

/// Looks at every operator that the output depends on.
pub fn friendliness(graph: &Graph) -> Friendliness {
    let (output, post) = split_post_operation(graph);
    let findings = graph.nodes.iter().take(output.0 + 1).filter_map(|node| {
        let replacement = replacement(&node.op)?;
        Some(Finding {
            layer: node.name.clone(),
            operator: node.op.name(),
            replacement,
        })
    });
    let after_decryption = match post {
        PostOperation::None => None,
        PostOperation::Softmax { .. } => Some("softmax".to_owned()),
        PostOperation::LogSoftmax { .. } => Some("log-softmax".to_owned()),
        PostOperation::Sigmoid => Some("sigmoid".to_owned()),
    };
    Friendliness {
        findings: findings.collect(),
        after_decryption,
    }
}

fn replacement(op: &Op) -> Option<&'static str> {
    Some(match op {
        Op::Relu => {
            "retrain with a square or learned quadratic activation, or compile with a polynomial \
             fit"
        }
        Op::Sigmoid | Op::Tanh => {
            "compile with a polynomial fit over the calibrated range, or retrain with a quadratic"
        }
        Op::MaxPool { .. } => "use average pooling, or a stride in the convolution before it",
        Op::GlobalMaxPool => "use global average pooling",
        Op::Softmax { .. } | Op::LogSoftmax { .. } => {
            "only the network's last operator may be a softmax (it moves to the key holder)"
        }
        _ => return None,
    })
}

/// The node that is computed on ciphertexts, and what is left for the key holder.
pub(crate) fn split_post_operation(graph: &Graph) -> (NodeId, PostOperation) {
    let last = &graph.nodes[graph.output.0];
    let post = match last.op {
        Op::Softmax { axis } => PostOperation::Softmax { axis: axis as u32 },
        Op::LogSoftmax { axis } => PostOperation::LogSoftmax { axis: axis as u32 },
        Op::Sigmoid => PostOperation::Sigmoid,
        _ => return (graph.output, PostOperation::None),
    };
    (last.inputs[0], post)
}
