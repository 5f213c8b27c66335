//! Identity of a graph.

use scuro_nn::graph::Graph;

/// Digest of everything that the graph computes.
pub(crate) fn graph(graph: &Graph) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for node in &graph.nodes {
        let mut op = node.op.clone();
        hasher.update(op.name().as_bytes());
        for (name, tensor) in node.op.parameters() {
            hasher.update(name.as_bytes());
            tensor.data.iter().for_each(|value| {
                hasher.update(&value.to_le_bytes());
            });
        }
        strip(&mut op);
        hasher.update(format!("{op:?}{:?}", node.inputs).as_bytes());
    }
    hasher.update(&graph.output.0.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// Leaves the attributes and takes the large tensors away.
fn strip(op: &mut scuro_nn::graph::Op) {
    use scuro_nn::graph::Op;
    match op {
        Op::Constant(tensor) => tensor.data.clear(),
        Op::Conv2d { weight, bias, .. } | Op::Dense { weight, bias } => {
            weight.data.clear();
            *bias = None;
        }
        Op::BatchNorm {
            scale,
            shift,
            mean,
            variance,
            ..
        } => {
            [scale, shift, mean, variance]
                .into_iter()
                .for_each(|t| t.data.clear());
        }
        _ => {}
    }
}
