//! Pass: zeros among private weights keep their place.
//!
//! Which diagonals a linear step has is public. A diagonal is left out when all its weights are
//! zero, so the pruned weights of a network would show. Here every zero becomes a number too small
//! to be encoded as anything but zero, and only the form of the layers decides about diagonals.

use scuro_nn::graph::{Graph, Op};
use scuro_nn::tensor::Tensor;

/// Stands for zero; far below the scale of any weight, far above the smallest single-precision
/// number, so that products with other factors do not vanish.
pub(crate) const PLACE_HOLDER: f32 = 1e-24;

/// The graph with a place for every weight.
pub(crate) fn zeros(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    for node in &mut graph.nodes {
        match &mut node.op {
            Op::Conv2d { weight, bias, .. } | Op::Dense { weight, bias } => {
                fill(weight);
                bias.iter_mut().for_each(fill);
            }
            Op::BatchNorm { scale, .. } => fill(scale),
            _ => {}
        }
    }
    graph
}

fn fill(tensor: &mut Tensor) {
    let zeros = tensor.data.iter_mut().filter(|value| **value == 0.0);
    zeros.for_each(|value| *value = PLACE_HOLDER);
}
