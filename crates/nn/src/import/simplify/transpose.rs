//! Transposes left from channels-last sources.

use super::{redirect, used_once};
use crate::error::Result;
use crate::graph::{Graph, NodeId, Op};
use crate::tensor::{Tensor, permuted};

fn permutation(graph: &Graph, id: NodeId) -> Option<Vec<usize>> {
    match &graph.nodes[id.0].op {
        Op::Transpose { permutation } => Some(permutation.clone()),
        _ => None,
    }
}

/// From channels last to channels first.
const CHANNELS_FIRST: [usize; 3] = [2, 0, 1];

/// A channels-last input that is only read through a transpose to channels first is given in that
/// layout instead. For transposes that stand in the file only: one that an import put there says
/// nothing about the layout of images.
pub(in crate::import) fn absorb_in_input(graph: &mut Graph) {
    let uses = graph.use_counts();
    let Some(input) = graph.input().filter(|&input| used_once(&uses, input)) else {
        return;
    };
    let reader = (0..graph.nodes.len()).find(|&i| graph.nodes[i].inputs.contains(&input));
    let Some(reader) = reader.map(NodeId) else {
        return;
    };
    if permutation(graph, reader).is_none_or(|found| found != CHANNELS_FIRST) {
        return;
    }
    if let Op::Input { shape } = &mut graph.nodes[input.0].op {
        *shape = permuted(shape, &CHANNELS_FIRST);
    }
    redirect(graph, reader, input);
}

/// A transpose that only moves axes of extent 1 is a reshape.
pub(super) fn of_unit_axes(graph: &mut Graph) -> Result<bool> {
    let uses = graph.use_counts();
    let shapes = graph.shapes()?;
    for position in (0..graph.nodes.len()).filter(|&p| uses[p] > 0) {
        let Some(permutation) = permutation(graph, NodeId(position)) else {
            continue;
        };
        let from = &shapes[graph.nodes[position].inputs[0].0];
        let moved: Vec<usize> = permutation
            .into_iter()
            .filter(|&axis| from[axis] != 1)
            .collect();
        if moved.is_sorted() {
            graph.nodes[position].op = Op::Reshape {
                shape: shapes[position].clone(),
            };
            return Ok(true);
        }
    }
    Ok(false)
}

/// A transpose of a transpose is one; one that moves nothing is none.
pub(super) fn compose(graph: &mut Graph) -> bool {
    let uses = graph.use_counts();
    for position in (0..graph.nodes.len()).filter(|&p| uses[p] > 0) {
        let Some(outer) = permutation(graph, NodeId(position)) else {
            continue;
        };
        let input = graph.nodes[position].inputs[0];
        if outer.iter().enumerate().all(|(i, &axis)| i == axis) {
            redirect(graph, NodeId(position), input);
            return true;
        }
        if let Some(inner) = permutation(graph, input) {
            graph.nodes[position].inputs[0] = graph.nodes[input.0].inputs[0];
            let permutation = outer.iter().map(|&axis| inner[axis]).collect();
            graph.nodes[position].op = Op::Transpose { permutation };
            return true;
        }
    }
    false
}

/// `f(transpose(x))` becomes `transpose(f(x))`, so that transposes meet and vanish.
pub(super) fn sink_below_pointwise(graph: &mut Graph) -> bool {
    let uses = graph.use_counts();
    for position in (0..graph.nodes.len()).filter(|&p| uses[p] > 0) {
        if !graph.nodes[position].op.is_pointwise() {
            continue;
        }
        let input = graph.nodes[position].inputs[0];
        if permutation(graph, input).is_some() && used_once(&uses, input) {
            let (low, high) = graph.nodes.split_at_mut(position);
            std::mem::swap(&mut low[input.0].op, &mut high[0].op);
            std::mem::swap(&mut low[input.0].name, &mut high[0].name);
            return true;
        }
    }
    false
}

/// `Transpose`, `Flatten`, `Dense` becomes `Flatten`, `Dense` with the columns of the matrix
/// reordered.
pub(super) fn fold_into_dense(graph: &mut Graph) -> Result<bool> {
    let uses = graph.use_counts();
    let shapes = graph.shapes()?;
    for position in (0..graph.nodes.len()).filter(|&p| uses[p] > 0) {
        if !matches!(graph.nodes[position].op, Op::Dense { .. }) {
            continue;
        }
        let flat = graph.nodes[position].inputs[0];
        if !matches!(graph.nodes[flat.0].op, Op::Flatten) || !used_once(&uses, flat) {
            continue;
        }
        let turned = graph.nodes[flat.0].inputs[0];
        let Some(permutation) = permutation(graph, turned).filter(|_| used_once(&uses, turned))
        else {
            continue;
        };
        if let Op::Dense { weight, .. } = &mut graph.nodes[position].op {
            *weight = reorder_columns(weight, &shapes[turned.0], &permutation)?;
        }
        graph.nodes[flat.0].inputs[0] = graph.nodes[turned.0].inputs[0];
        return Ok(true);
    }
    Ok(false)
}

/// The matrix that takes the untransposed values in row-major order.
fn reorder_columns(weight: &Tensor, turned: &[usize], permutation: &[usize]) -> Result<Tensor> {
    let mut split = vec![weight.shape[0]];
    split.extend(turned);
    let mut inverse = vec![0; 1 + permutation.len()];
    for (i, &axis) in permutation.iter().enumerate() {
        inverse[1 + axis] = 1 + i;
    }
    weight
        .clone()
        .reshaped(split)?
        .transposed(&inverse)?
        .reshaped(weight.shape.clone())
}
