//! Validation and shape inference.

use std::collections::HashSet;

use super::{Graph, MAX_NODE_VALUES, MAX_NODES, Node, NodeId, Op, Window};
use crate::error::{Error, NodeFault, Result};
use crate::tensor::{Tensor, element_count, is_permutation, permuted};

type Shape = Vec<usize>;
type Fault<T> = std::result::Result<T, NodeFault>;

impl Graph {
    /// Checks the whole network: order, names, operand counts, shapes, finite weights.
    ///
    /// # Errors
    /// The first fault found, naming its node.
    pub fn validate(&self) -> Result<()> {
        self.shapes()?;
        for node in &self.nodes {
            for (parameter, tensor) in node.op.parameters() {
                if let Some(position) = tensor.first_non_finite() {
                    return Err(at(
                        node,
                        NodeFault::NonFinite {
                            parameter,
                            position,
                        },
                    ));
                }
            }
        }
        Ok(())
    }

    /// Shape of each node's value for one example, in the order of [`Graph::nodes`].
    ///
    /// # Errors
    /// [`Error::Node`] at the first node whose operands do not fit; [`Error::Inputs`],
    /// [`Error::Output`] and [`Error::TooManyNodes`] about the whole.
    pub fn shapes(&self) -> Result<Vec<Shape>> {
        self.check_whole()?;
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for (position, node) in self.nodes.iter().enumerate() {
            let shape = self
                .infer(node, position, &shapes)
                .map_err(|fault| at(node, fault))?;
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// Shape of one example.
    pub fn input_shape(&self) -> &[usize] {
        let shape = self.nodes.iter().find_map(|node| match &node.op {
            Op::Input { shape } => Some(shape.as_slice()),
            _ => None,
        });
        shape.unwrap_or(&[])
    }

    /// Position of the input node, if there is one.
    pub fn input(&self) -> Option<NodeId> {
        self.nodes
            .iter()
            .position(|node| matches!(node.op, Op::Input { .. }))
            .map(NodeId)
    }

    /// How many nodes use each node's value; the output counts as one more use.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for id in self
            .nodes
            .iter()
            .flat_map(|node| &node.inputs)
            .chain([&self.output])
        {
            uses[id.0] += 1;
        }
        uses
    }

    fn check_whole(&self) -> Result<()> {
        let nodes = self.nodes.len();
        if nodes > MAX_NODES {
            return Err(Error::TooManyNodes {
                found: nodes,
                limit: MAX_NODES,
            });
        }
        let found = self
            .nodes
            .iter()
            .filter(|n| matches!(n.op, Op::Input { .. }))
            .count();
        if found != 1 {
            return Err(Error::Inputs { found });
        }
        if self.output.0 >= nodes {
            return Err(Error::Output {
                output: self.output.0,
                nodes,
            });
        }
        let mut names = HashSet::with_capacity(nodes);
        for node in &self.nodes {
            if !names.insert(node.name.as_str()) {
                return Err(at(node, NodeFault::DuplicateName));
            }
        }
        Ok(())
    }

    /// Shape of `node`'s value if it stood at `position`, given the shapes of the nodes before it.
    pub(crate) fn infer_at(&self, node: &Node, position: usize, shapes: &[Shape]) -> Result<Shape> {
        self.infer(node, position, shapes)
            .map_err(|fault| at(node, fault))
    }

    fn infer(&self, node: &Node, position: usize, shapes: &[Shape]) -> Fault<Shape> {
        if let Some(late) = node.inputs.iter().find(|id| id.0 >= position) {
            return Err(NodeFault::OperandOrder {
                operand: late.0,
                position,
            });
        }
        check_operand_count(node)?;
        let operands: Vec<&Shape> = node.inputs.iter().map(|id| &shapes[id.0]).collect();
        let shape = match &node.op {
            Op::Add | Op::Sub | Op::Mul => self.broadcast(node, &operands)?,
            op => infer_op(op, &operands)?,
        };
        match element_count(&shape) {
            Some(count) if count > 0 && count <= MAX_NODE_VALUES => Ok(shape),
            _ => Err(NodeFault::Size {
                shape,
                limit: MAX_NODE_VALUES,
            }),
        }
    }

    /// Equal shapes, or a constant that broadcasts (axes aligned at the end) to the other operand.
    fn broadcast(&self, node: &Node, operands: &[&Shape]) -> Fault<Shape> {
        let constant = |i: usize| matches!(self.nodes[node.inputs[i].0].op, Op::Constant(_));
        let (a, b) = (operands[0], operands[1]);
        if a == b || (constant(1) && broadcasts(b, a)) {
            return Ok(a.clone());
        }
        if constant(0) && broadcasts(a, b) {
            return Ok(b.clone());
        }
        Err(NodeFault::OperandShape {
            expected: a.clone(),
            found: b.clone(),
        })
    }
}

/// Whether a constant of shape `from` broadcasts to `to`: axes aligned at the end, each equal or 1.
pub(crate) fn broadcasts(from: &[usize], to: &[usize]) -> bool {
    from.len() <= to.len()
        && from
            .iter()
            .rev()
            .zip(to.iter().rev())
            .all(|(&f, &t)| f == t || f == 1)
}

fn at(node: &Node, fault: NodeFault) -> Error {
    Error::Node {
        node: node.name.clone(),
        op: node.op.name(),
        fault: Box::new(fault),
    }
}

fn check_operand_count(node: &Node) -> Fault<()> {
    let found = node.inputs.len();
    let (right, expected) = match node.op {
        Op::Input { .. } | Op::Constant(_) => (found == 0, "no"),
        Op::Add | Op::Sub | Op::Mul => (found == 2, "two"),
        Op::Concat { .. } => (found >= 1, "at least one"),
        _ => (found == 1, "one"),
    };
    if right {
        Ok(())
    } else {
        Err(NodeFault::OperandCount { expected, found })
    }
}

fn infer_op(op: &Op, operands: &[&Shape]) -> Fault<Shape> {
    let first = || operands[0].clone();
    match op {
        Op::Input { shape } => Ok(shape.clone()),
        Op::Constant(value) => checked_constant(value),
        Op::Conv2d {
            weight,
            bias,
            window,
            dilation,
            groups,
        } => {
            let shape = conv_shape(operands[0], weight, window, *dilation, *groups)?;
            check_bias(bias.as_ref(), shape[0])?;
            Ok(shape)
        }
        Op::AvgPool { window, .. } | Op::MaxPool { window } => pool_shape(operands[0], window),
        Op::GlobalAvgPool | Op::GlobalMaxPool => {
            let [c, _, _] = image(operands[0])?;
            Ok(vec![c, 1, 1])
        }
        Op::Dense { weight, bias } => dense_shape(operands[0], weight, bias.as_ref()),
        Op::BatchNorm { .. } => batch_norm_shape(op, operands[0]),
        Op::Flatten => Ok(vec![operands[0].iter().product()]),
        Op::Reshape { shape } => {
            if element_count(shape) != element_count(operands[0]) {
                return Err(NodeFault::Reshape {
                    from: first(),
                    to: shape.clone(),
                });
            }
            Ok(shape.clone())
        }
        Op::Transpose { permutation } => {
            let rank = operands[0].len();
            if !is_permutation(permutation, rank) {
                return Err(NodeFault::Permutation {
                    permutation: permutation.clone(),
                    rank,
                });
            }
            Ok(permuted(operands[0], permutation))
        }
        Op::Concat { axis } => concat_shape(operands, *axis),
        Op::Polynomial { coefficients } => check_coefficients(coefficients).map(|()| first()),
        Op::Softmax { axis } | Op::LogSoftmax { axis } => {
            let rank = operands[0].len();
            if *axis < rank {
                Ok(first())
            } else {
                Err(NodeFault::Axis { axis: *axis, rank })
            }
        }
        Op::Relu | Op::Sigmoid | Op::Tanh | Op::Square => Ok(first()),
        Op::Add | Op::Sub | Op::Mul => {
            unreachable!("binary operators are inferred by their caller")
        }
    }
}

fn batch_norm_shape(op: &Op, input: &Shape) -> Fault<Shape> {
    let channels = *input.first().ok_or(rank(1, input))?;
    for (name, tensor) in op.parameters() {
        check_parameter(name, tensor, &[channels])?;
    }
    Ok(input.clone())
}

fn check_coefficients(coefficients: &[f32]) -> Fault<()> {
    match coefficients.iter().position(|c| !c.is_finite()) {
        _ if coefficients.is_empty() => Err(NodeFault::NoCoefficients),
        Some(position) => Err(NodeFault::NonFinite {
            parameter: "coefficients",
            position,
        }),
        None => Ok(()),
    }
}

fn rank(expected: usize, found: &Shape) -> NodeFault {
    NodeFault::Rank {
        expected,
        found: found.clone(),
    }
}

fn image(shape: &Shape) -> Fault<[usize; 3]> {
    <[usize; 3]>::try_from(shape.as_slice()).map_err(|_| rank(3, shape))
}

fn checked_constant(value: &Tensor) -> Fault<Shape> {
    check_parameter("value", value, &value.shape.clone())?;
    Ok(value.shape.clone())
}

/// The declared shape is right and the data has as many values as it says.
fn check_parameter(parameter: &'static str, tensor: &Tensor, expected: &[usize]) -> Fault<()> {
    let found = if element_count(&tensor.shape) == Some(tensor.data.len()) {
        tensor.shape.clone()
    } else {
        vec![tensor.data.len()]
    };
    if tensor.shape == expected && found == expected {
        return Ok(());
    }
    Err(NodeFault::Parameter {
        parameter,
        expected: expected.to_vec(),
        found,
    })
}

fn check_bias(bias: Option<&Tensor>, outputs: usize) -> Fault<()> {
    bias.map_or(Ok(()), |bias| check_parameter("bias", bias, &[outputs]))
}

fn conv_shape(
    input: &Shape,
    weight: &Tensor,
    window: &Window,
    dilation: [usize; 2],
    groups: usize,
) -> Fault<Shape> {
    let [channels, h, w] = image(input)?;
    let Some(&outputs) = weight.shape.first() else {
        return Err(rank(4, &weight.shape));
    };
    if groups == 0 || !channels.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
        return Err(NodeFault::Groups {
            groups,
            inputs: channels,
            outputs,
        });
    }
    let [kh, kw] = window.kernel;
    check_parameter("weight", weight, &[outputs, channels / groups, kh, kw])?;
    let out = window
        .output_extent([h, w], dilation)
        .ok_or_else(|| NodeFault::Window {
            window: *window,
            input: input.clone(),
        })?;
    Ok(vec![outputs, out[0], out[1]])
}

/// Padding smaller than the kernel, so that every window sees at least one real value.
fn pool_shape(input: &Shape, window: &Window) -> Fault<Shape> {
    let [c, h, w] = image(input)?;
    let p = window.padding;
    let sees_input =
        p.top.max(p.bottom) < window.kernel[0] && p.left.max(p.right) < window.kernel[1];
    match window.output_extent([h, w], [1, 1]) {
        Some([oh, ow]) if sees_input => Ok(vec![c, oh, ow]),
        _ => Err(NodeFault::Window {
            window: *window,
            input: input.clone(),
        }),
    }
}

fn dense_shape(input: &Shape, weight: &Tensor, bias: Option<&Tensor>) -> Fault<Shape> {
    let &[inputs] = input.as_slice() else {
        return Err(rank(1, input));
    };
    let Some(&outputs) = weight.shape.first() else {
        return Err(rank(2, &weight.shape));
    };
    check_parameter("weight", weight, &[outputs, inputs])?;
    check_bias(bias, outputs)?;
    Ok(vec![outputs])
}

fn concat_shape(operands: &[&Shape], axis: usize) -> Fault<Shape> {
    let mut out = operands[0].clone();
    if axis >= out.len() {
        return Err(NodeFault::Axis {
            axis,
            rank: out.len(),
        });
    }
    for shape in &operands[1..] {
        let fits =
            shape.len() == out.len() && (0..out.len()).all(|i| i == axis || shape[i] == out[i]);
        let joined = if fits {
            out[axis].checked_add(shape[axis])
        } else {
            None
        };
        out[axis] = joined.ok_or_else(|| NodeFault::OperandShape {
            expected: operands[0].clone(),
            found: shape.to_vec(),
        })?;
    }
    Ok(out)
}
