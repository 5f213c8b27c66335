//! Removal of batch normalisation from a trained network.

use crate::error::Result;
use scuro_nn::graph::{Graph, Node, NodeId, Op};
use scuro_nn::tensor::Tensor;

/// `graph` with every batch normalisation that follows a convolution or dense layer merged into its
/// weights.
///
/// Math:   s (W x + b - m) / sqrt(v + e) + t  =  (f W) x + (f (b - m) + t)  with  f = s / sqrt(v +
/// e), per output
///
/// A normalisation after anything else, or after a layer whose value is also used elsewhere, stays.
///
/// # Errors
/// As [`Graph::validate`].
pub fn fold_batch_norms(graph: &Graph) -> Result<Graph> {
    graph.validate()?;
    let uses = graph.use_counts();
    let mut folded = Graph {
        nodes: Vec::new(),
        ..graph.clone()
    };
    let mut places: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|id| places[id.0]).collect();
        let merged = match node.op {
            Op::BatchNorm { .. } if uses[node.inputs[0].0] == 1 => {
                merge(&mut folded.nodes[inputs[0].0].op, &node.op)
            }
            _ => false,
        };
        if merged {
            places.push(inputs[0]);
        } else {
            places.push(NodeId(folded.nodes.len()));
            folded.nodes.push(Node {
                inputs,
                ..node.clone()
            });
        }
    }
    folded.output = places[graph.output.0];
    folded.validate()?;
    Ok(folded)
}

/// Merges `norm` into `layer`, if that is one with weights per output.
fn merge(layer: &mut Op, norm: &Op) -> bool {
    let Op::BatchNorm {
        scale,
        shift,
        mean,
        variance,
        epsilon,
    } = norm
    else {
        return false;
    };
    let (Op::Conv2d { weight, bias, .. } | Op::Dense { weight, bias }) = layer else {
        return false;
    };
    let outputs = weight.shape[0];
    let bias = bias.get_or_insert_with(|| Tensor::zeros([outputs]));
    let row_len = weight.data.len() / outputs;
    let rows = weight.data.chunks_exact_mut(row_len);
    for (o, (row, b)) in rows.zip(&mut bias.data).enumerate() {
        let factor = scale.data[o] / (variance.data[o] + epsilon).sqrt();
        row.iter_mut().for_each(|w| *w *= factor);
        *b = factor * (*b - mean.data[o]) + shift.data[o];
    }
    true
}
