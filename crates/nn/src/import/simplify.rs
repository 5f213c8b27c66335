//! Rewrites that every import ends with: the same function, fewer and more telling nodes.
//!
//! Transposes left from channels-last sources vanish into a dense layer, biases join
//! their layer, padding joins its convolution, and chains of scalar products and sums in one value
//! become one polynomial.

mod polynomial;
mod transpose;

use crate::error::Result;
use crate::graph::{Graph, NodeId, Op, Padding, Window};
use crate::tensor::{Tensor, element_count};

pub(super) use transpose::absorb_in_input;

/// Applies all rewrites until none changes anything.
pub(super) fn simplify(mut graph: Graph) -> Result<Graph> {
    // Each rewrite removes or moves a node toward the input, so the number of rounds is bounded by
    // the nodes.
    for _ in 0..=graph.nodes.len() {
        let mut changed = transpose::compose(&mut graph);
        changed |= transpose::of_unit_axes(&mut graph)?;
        changed |= transpose::sink_below_pointwise(&mut graph);
        changed |= transpose::fold_into_dense(&mut graph)?;
        changed |= join_biases(&mut graph);
        changed |= join_padding(&mut graph);
        changed |= drop_identities(&mut graph)?;
        if !changed {
            break;
        }
    }
    polynomial::collect(&mut graph);
    Ok(without_unused(graph))
}

/// Whether `id` is used by one node only and is not the answer.
fn used_once(uses: &[usize], id: NodeId) -> bool {
    uses[id.0] == 1
}

/// Lets every user of `old` use `new` instead.
fn redirect(graph: &mut Graph, old: NodeId, new: NodeId) {
    let users = graph
        .nodes
        .iter_mut()
        .flat_map(|node| node.inputs.iter_mut());
    users
        .chain([&mut graph.output])
        .filter(|id| **id == old)
        .for_each(|id| *id = new);
}

/// `Dense` or `Conv2d` without bias, then `Add` of one constant per output: the constant becomes
/// the bias.
fn join_biases(graph: &mut Graph) -> bool {
    let uses = graph.use_counts();
    for sum in 0..graph.nodes.len() {
        let Some((layer, constant)) = bias_pattern(graph, &uses, sum) else {
            continue;
        };
        let Op::Constant(value) = &graph.nodes[constant.0].op else {
            continue;
        };
        let value = Tensor::vector(value.data.clone());
        if let Op::Dense { bias, .. } | Op::Conv2d { bias, .. } = &mut graph.nodes[layer.0].op {
            *bias = Some(value);
        }
        redirect(graph, NodeId(sum), layer);
        return true;
    }
    false
}

fn bias_pattern(graph: &Graph, uses: &[usize], sum: usize) -> Option<(NodeId, NodeId)> {
    let node = &graph.nodes[sum];
    if node.op != Op::Add || uses[sum] == 0 {
        return None;
    }
    let [a, b] = [node.inputs[0], node.inputs[1]];
    [(a, b), (b, a)].into_iter().find(|&(layer, constant)| {
        let Op::Constant(value) = &graph.nodes[constant.0].op else {
            return false;
        };
        let fits = match &graph.nodes[layer.0].op {
            Op::Dense { weight, bias: None } => value.shape == [weight.shape[0]],
            Op::Conv2d {
                weight, bias: None, ..
            } => value.shape == [weight.shape[0], 1, 1],
            _ => false,
        };
        fits && used_once(uses, layer)
    })
}

/// Padding written as a 1x1 convolution with ones joins the convolution that follows.
fn join_padding(graph: &mut Graph) -> bool {
    let uses = graph.use_counts();
    for position in 0..graph.nodes.len() {
        if uses[position] == 0 || !matches!(graph.nodes[position].op, Op::Conv2d { .. }) {
            continue;
        }
        let pad = graph.nodes[position].inputs[0];
        let Some(extra) = pure_padding(&graph.nodes[pad.0].op) else {
            continue;
        };
        if !used_once(&uses, pad) {
            continue;
        }
        graph.nodes[position].inputs[0] = graph.nodes[pad.0].inputs[0];
        if let Op::Conv2d { window, .. } = &mut graph.nodes[position].op {
            window.padding.top += extra.top;
            window.padding.left += extra.left;
            window.padding.bottom += extra.bottom;
            window.padding.right += extra.right;
        }
        return true;
    }
    false
}

fn pure_padding(op: &Op) -> Option<Padding> {
    let Op::Conv2d {
        weight,
        bias: None,
        window,
        groups,
        ..
    } = op
    else {
        return None;
    };
    let plain = Window {
        padding: window.padding,
        ..Window::valid([1, 1], [1, 1])
    };
    let ones = weight.data.iter().all(|&w| w == 1.0) && weight.shape == [*groups, 1, 1, 1];
    (ones && *window == plain).then_some(window.padding)
}

/// Views that change nothing, and a view of a view.
fn drop_identities(graph: &mut Graph) -> Result<bool> {
    let shapes = graph.shapes()?;
    let uses = graph.use_counts();
    for position in 0..graph.nodes.len() {
        let node = &graph.nodes[position];
        if uses[position] == 0 || !matches!(node.op, Op::Flatten | Op::Reshape { .. }) {
            continue;
        }
        let input = node.inputs[0];
        if shapes[position] == shapes[input.0] {
            redirect(graph, NodeId(position), input);
            return Ok(true);
        }
        let before = &graph.nodes[input.0];
        if matches!(before.op, Op::Flatten | Op::Reshape { .. }) {
            graph.nodes[position].inputs[0] = before.inputs[0];
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes nodes that the answer does not depend on (the input always stays).
fn without_unused(graph: Graph) -> Graph {
    let mut needed = vec![false; graph.nodes.len()];
    needed[graph.output.0] = true;
    for position in (0..graph.nodes.len()).rev() {
        needed[position] |= matches!(graph.nodes[position].op, Op::Input { .. });
        if needed[position] {
            graph.nodes[position]
                .inputs
                .iter()
                .for_each(|id| needed[id.0] = true);
        }
    }
    let mut renumbered = vec![NodeId(0); graph.nodes.len()];
    let mut nodes = Vec::new();
    for (position, mut node) in graph.nodes.into_iter().enumerate() {
        if needed[position] {
            renumbered[position] = NodeId(nodes.len());
            node.inputs.iter_mut().for_each(|id| *id = renumbered[id.0]);
            nodes.push(node);
        }
    }
    Graph {
        name: graph.name,
        nodes,
        output: renumbered[graph.output.0],
        preprocess: graph.preprocess,
    }
}

/// The value of a constant of one element.
fn scalar(op: &Op) -> Option<f32> {
    match op {
        Op::Constant(value) if element_count(&value.shape) == Some(1) => {
            value.data.first().copied()
        }
        _ => None,
    }
}
