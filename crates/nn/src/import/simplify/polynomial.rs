//! Recognising polynomials written as products and sums. A sum of a value and a polynomial in it is
//! one polynomial too: it saves a level.

use super::scalar;
use crate::graph::{Graph, NodeId, Op};

/// Highest degree that is collected.
const DEGREE_MAX: usize = 63;

/// A value as a polynomial in another value of the graph, lowest degree first.
#[derive(Debug, Clone)]
struct Form {
    base: NodeId,
    coefficients: Vec<f32>,
}

/// Turns each value of degree two or more, made by scalar products and sums of one value, into one
/// `Polynomial`.
pub(super) fn collect(graph: &mut Graph) {
    let forms = forms(graph);
    let mut inside = vec![false; graph.nodes.len()];
    for (position, node) in graph.nodes.iter().enumerate() {
        for id in node.inputs.iter().filter(|id| id.0 < position) {
            inside[id.0] |= forms[position].base == forms[id.0].base && !is_base(&forms, position);
        }
    }
    for position in 0..graph.nodes.len() {
        let form = &forms[position];
        let answer = graph.output.0 == position;
        let plain =
            matches!(graph.nodes[position].op, Op::Square) && form.coefficients == [0.0, 0.0, 1.0];
        if form.coefficients.len() < 3 || plain || (inside[position] && !answer) {
            continue;
        }
        graph.nodes[position].op = Op::Polynomial {
            coefficients: form.coefficients.clone(),
        };
        graph.nodes[position].inputs = vec![form.base];
    }
}

fn is_base(forms: &[Form], position: usize) -> bool {
    forms[position].base.0 == position
}

fn forms(graph: &Graph) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::with_capacity(graph.nodes.len());
    for (position, node) in graph.nodes.iter().enumerate() {
        let form = match (&node.op, node.inputs.as_slice()) {
            (Op::Square, [a]) if forms[a.0].coefficients.len() <= 2 => {
                multiply(&forms[a.0], &forms[a.0])
            }
            (Op::Add | Op::Sub | Op::Mul, [a, b]) => combine(graph, &forms, &node.op, *a, *b),
            _ => None,
        };
        let own = Form {
            base: NodeId(position),
            coefficients: vec![0.0, 1.0],
        };
        forms.push(form.filter(is_sound).unwrap_or(own));
    }
    forms
}

fn is_sound(form: &Form) -> bool {
    form.coefficients.len() <= DEGREE_MAX + 1 && form.coefficients.iter().all(|c| c.is_finite())
}

fn combine(graph: &Graph, forms: &[Form], op: &Op, a: NodeId, b: NodeId) -> Option<Form> {
    let constant = |id: NodeId, other: &Form| {
        let value = scalar(&graph.nodes[id.0].op)?;
        Some(Form {
            base: other.base,
            coefficients: vec![value],
        })
    };
    let (left, right) = (forms[a.0].clone(), forms[b.0].clone());
    let (left, right) = match (constant(a, &right), constant(b, &left)) {
        (Some(_), Some(_)) => return None,
        (Some(left), None) => (left, right),
        (None, Some(right)) => (left, right),
        (None, None) => (left, right),
    };
    if left.base != right.base {
        return None;
    }
    match op {
        Op::Add => Some(sum(&left, &right, 1.0)),
        Op::Sub => Some(sum(&left, &right, -1.0)),
        _ => multiply(&left, &right),
    }
}

fn sum(a: &Form, b: &Form, sign: f32) -> Form {
    let length = a.coefficients.len().max(b.coefficients.len());
    let at = |form: &Form, i: usize| form.coefficients.get(i).copied().unwrap_or(0.0);
    let coefficients = (0..length).map(|i| at(a, i) + sign * at(b, i)).collect();
    Form {
        base: a.base,
        coefficients,
    }
}

fn multiply(a: &Form, b: &Form) -> Option<Form> {
    let length = a.coefficients.len() + b.coefficients.len() - 1;
    if length > DEGREE_MAX + 1 {
        return None;
    }
    let mut coefficients = vec![0.0; length];
    for (i, &x) in a.coefficients.iter().enumerate() {
        for (j, &y) in b.coefficients.iter().enumerate() {
            coefficients[i + j] += x * y;
        }
    }
    Some(Form {
        base: a.base,
        coefficients,
    })
}
