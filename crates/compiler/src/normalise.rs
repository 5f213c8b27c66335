//! Pass: graph to normal form.
//!
//! A network becomes an alternation of affine maps and slotwise products. Everything affine
//! (convolutions, dense layers, batch norm, average pools, scalars, reshapes, transposes,
//! concatenations, sums) is folded into sparse matrices; quadratics are completed to squares, their
//! constants going to the neighbouring maps.

mod expression;
mod linear_ops;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use scuro_nn::graph::{Graph, NodeId, Op};
use scuro_program::PostOperation;

use crate::error::CompileError;
use crate::friendliness;
use crate::layout::search;
use crate::sparse::Sparse;
use expression::Expression;

/// A variable of the normal form: 0 is the input, `i + 1` the result of stage `i`.
pub(crate) type Var = usize;

/// Largest offset, relative to the range of its argument, with which a quadratic is completed to a
/// square.
const MAX_SQUARE_OFFSET: f32 = 8.0;

/// `sum_i matrix_i * x_i + bias`.
#[derive(Debug, Clone)]
pub(crate) struct AffineMap {
    pub(crate) terms: Vec<(Var, Arc<Sparse>)>,
    pub(crate) bias: Vec<f64>,
}

impl AffineMap {
    /// The matrix, if every row is a plain sum of as many elements of one variable, and a constant.
    pub(crate) fn window_sum(&self) -> Option<&Sparse> {
        let [(_, matrix)] = &self.terms[..] else {
            return None;
        };
        let sums = matrix.weight.iter().all(|&weight| weight == 1.0);
        let windows = matrix.row_entries().is_some_and(|entries| entries > 1);
        (sums && windows).then_some(matrix)
    }

    fn evaluate(&self, values: &[Vec<f64>]) -> Vec<f64> {
        let mut sums = self.bias.clone();
        for (var, matrix) in &self.terms {
            let product = matrix.apply(&values[*var]);
            sums.iter_mut().zip(product).for_each(|(sum, p)| *sum += p);
        }
        sums
    }
}

/// What a stage computes.
#[derive(Debug, Clone)]
pub(crate) enum StageKind {
    Affine(AffineMap),
    Square(Var),
    Product(Var, Var),
    Combine {
        terms: Vec<(Var, f64)>,
        constant: f64,
    },
}

/// One stage of the normal form.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) layer: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) kind: StageKind,
}

/// The network in normal form.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) input_shape: Vec<usize>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) output: Var,
    pub(crate) output_shape: Vec<usize>,
    pub(crate) post: PostOperation,
}

impl Network {
    /// Shape of a variable.
    pub(crate) fn shape(&self, var: Var) -> &[usize] {
        match var.checked_sub(1) {
            None => &self.input_shape,
            Some(stage) => &self.stages[stage].shape,
        }
    }

    /// Elements of a variable.
    pub(crate) fn elements(&self, var: Var) -> usize {
        self.shape(var).iter().product()
    }

    /// Whether there are pools that rotations could compute.
    pub(crate) fn has_window_sums(&self) -> bool {
        let is_sum = |stage: &Stage| match &stage.kind {
            StageKind::Affine(map) => map.window_sum().is_some(),
            _ => false,
        };
        self.stages.iter().any(is_sum)
    }

    /// Most multiplications (weighted sums and products) on a path from the input to the output.
    pub(crate) fn depth(&self) -> u32 {
        let mut depth = vec![0u32];
        for stage in &self.stages {
            let operands = search::operands_of(&stage.kind);
            let deepest = operands
                .into_iter()
                .map(|var| depth[var])
                .max()
                .unwrap_or(0);
            depth.push(deepest + 1);
        }
        depth[self.output]
    }

    /// The values of an input and of the first `stages` stages.
    pub(crate) fn evaluate(&self, input: &[f32], stages: usize) -> Vec<Vec<f64>> {
        let mut values = vec![input.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>()];
        for stage in &self.stages[..stages] {
            let next = match &stage.kind {
                StageKind::Affine(map) => map.evaluate(&values),
                StageKind::Square(of) => values[*of].iter().map(|v| v * v).collect(),
                StageKind::Product(a, b) => values[*a]
                    .iter()
                    .zip(&values[*b])
                    .map(|(x, y)| x * y)
                    .collect(),
                StageKind::Combine { terms, constant } => {
                    let sum = |i: usize| terms.iter().map(|&(v, f)| f * values[v][i]).sum::<f64>();
                    (0..stage.shape.iter().product())
                        .map(|i| sum(i) + constant)
                        .collect()
                }
            };
            values.push(next);
        }
        values
    }

    /// One line per stage.
    pub(crate) fn dump(&self) -> String {
        let mut text = format!("x0 = input {:?}\n", self.input_shape);
        for (index, stage) in self.stages.iter().enumerate() {
            let what = match &stage.kind {
                StageKind::Affine(map) => describe_affine(map),
                StageKind::Square(of) => format!("square(x{of})"),
                StageKind::Product(a, b) => format!("x{a} * x{b}"),
                StageKind::Combine { terms, constant } => {
                    let sum: Vec<_> = terms.iter().map(|(v, f)| format!("{f:.4e} x{v}")).collect();
                    format!("{} + {constant:.4e}", sum.join(" + "))
                }
            };
            let _ = writeln!(
                text,
                "x{} = {what} : {:?}  [{}]",
                index + 1,
                stage.shape,
                stage.layer
            );
        }
        let _ = writeln!(
            text,
            "output x{} {:?} then {:?}",
            self.output, self.output_shape, self.post
        );
        text
    }
}

fn describe_affine(map: &AffineMap) -> String {
    let term = |(var, matrix): &(Var, Arc<Sparse>)| {
        format!(
            "M({}x{}, {} nz) x{var}",
            matrix.rows(),
            matrix.columns,
            matrix.nonzeros()
        )
    };
    map.terms.iter().map(term).collect::<Vec<_>>().join(" + ") + " + b"
}

/// How average pools that are a stage of their own are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pools {
    /// By diagonals, which pack the averages and take a level.
    Packed,
    /// As sums by rotations, which leave gaps; the factors go to what follows.
    InPlace,
}

/// Brings a graph without unfriendly operators to normal form. `magnitudes` holds the largest
/// absolute value of each node on the calibration data.
pub(crate) fn run(
    graph: &Graph,
    magnitudes: &[f32],
    pools: Pools,
) -> Result<Network, CompileError> {
    let shapes = graph.shapes()?;
    let (output, post) = friendliness::split_post_operation(graph);
    let mut builder = Builder {
        graph,
        magnitudes,
        pools,
        stages: Vec::new(),
        nodes: vec![None; graph.nodes.len()],
        variables: HashMap::new(),
        shapes,
    };
    let needed = builder.needed(output);
    for index in (0..graph.nodes.len()).filter(|&i| needed[i]) {
        let expression = builder.node(index)?;
        builder.nodes[index] = Some(expression);
    }
    let result = builder.variable(output.0);
    Ok(Network {
        input_shape: graph.input_shape().to_vec(),
        output_shape: builder.shapes[output.0].clone(),
        stages: builder.stages,
        output: result,
        post,
    })
}

struct Builder<'g> {
    graph: &'g Graph,
    magnitudes: &'g [f32],
    pools: Pools,
    shapes: Vec<Vec<usize>>,
    stages: Vec<Stage>,
    nodes: Vec<Option<Expression>>,
    variables: HashMap<usize, Var>,
}

impl Builder<'_> {
    fn needed(&self, output: NodeId) -> Vec<bool> {
        let mut needed = vec![false; self.graph.nodes.len()];
        needed[output.0] = true;
        for index in (0..=output.0).rev().filter(|&i| i <= output.0) {
            if needed[index] {
                self.graph.nodes[index]
                    .inputs
                    .iter()
                    .for_each(|input| needed[input.0] = true);
            }
        }
        needed
    }

    fn operand(&self, index: usize, position: usize) -> usize {
        self.graph.nodes[index].inputs[position].0
    }

    fn expression(&self, node: usize) -> Expression {
        // Nodes are in topological order and `needed` is closed under operands.
        self.nodes[node]
            .clone()
            .unwrap_or_else(|| Expression::constant(&[]))
    }

    fn push_stage(&mut self, layer: &str, shape: &[usize], kind: StageKind) -> Var {
        self.stages.push(Stage {
            layer: layer.to_owned(),
            shape: shape.to_vec(),
            kind,
        });
        self.stages.len()
    }

    /// The variable that holds a node's value.
    fn variable(&mut self, node: usize) -> Var {
        if let Some(&var) = self.variables.get(&node) {
            return var;
        }
        let expression = self.expression(node);
        let var = match expression.as_variable() {
            Some(var) if var > 0 => var,
            _ => self.materialise(node, &expression),
        };
        self.variables.insert(node, var);
        var
    }

    fn materialise(&mut self, node: usize, expression: &Expression) -> Var {
        let layer = self.graph.nodes[node].name.clone();
        let shape = self.shapes[node].clone();
        self.push_stage(&layer, &shape, StageKind::Affine(expression.to_affine()))
    }

    fn node(&mut self, index: usize) -> Result<Expression, CompileError> {
        let graph = self.graph;
        let node = &graph.nodes[index];
        let shape = self.shapes[index].clone();
        let elements = shape.iter().product();
        let expression = match &node.op {
            Op::Input { .. } => Expression::variable(0, elements),
            Op::Constant(tensor) => Expression::constant(&tensor.data),
            Op::Flatten | Op::Reshape { .. } => self.expression(self.operand(index, 0)),
            Op::Transpose { permutation } => {
                let from = &self.shapes[self.operand(index, 0)];
                let map = linear_ops::transpose_rows(from, permutation);
                self.expression(self.operand(index, 0)).select_rows(&map)
            }
            Op::Concat { axis } => self.concat(index, *axis),
            Op::Add => self.sum(index, 1.0),
            Op::Sub => self.sum(index, -1.0),
            Op::Mul => self.product(index),
            Op::Square => {
                let var = self.variable(self.operand(index, 0));
                let square = self.push_stage(&node.name, &shape, StageKind::Square(var));
                Expression::variable(square, elements)
            }
            Op::Polynomial { coefficients } => self.polynomial(index, coefficients),
            _ => self.linear(index)?,
        };
        Ok(expression)
    }

    /// A linear operator: composed with its operand, or applied to the operand as a variable of its
    /// own where composition would cost more than it saves (linear bottlenecks).
    fn linear(&mut self, index: usize) -> Result<Expression, CompileError> {
        let operand = self.operand(index, 0);
        let node = &self.graph.nodes[index];
        let (matrix, bias) = linear_ops::matrix(node, &self.shapes[operand], &self.shapes[index])?;
        let expression = self.expression(operand);
        if let Some(composed) = expression.composed(&matrix, &bias) {
            return Ok(composed);
        }
        if let Some(composed) = self.pooled(operand, &expression).composed(&matrix, &bias) {
            return Ok(composed);
        }
        let var = self.variable(operand);
        Ok(Expression::mapped(var, Arc::new(matrix), bias))
    }

    /// An average pool by its sums, which become a variable, if that is asked for; anything else as
    /// it is.
    fn pooled(&mut self, node: usize, expression: &Expression) -> Expression {
        let (Op::AvgPool { window, .. }, Pools::InPlace) = (&self.graph.nodes[node].op, self.pools)
        else {
            return expression.clone();
        };
        // Whatever else the expression may have been composed of, weights do not show as structure.
        let Some((sums, factors)) = expression.window_sums(window.kernel.iter().product()) else {
            return expression.clone();
        };
        let var = self.materialise(node, &sums);
        let pool = Expression::variable(var, factors.len()).scaled(&factors);
        self.nodes[node] = Some(pool.clone());
        pool
    }

    fn concat(&self, index: usize, axis: usize) -> Expression {
        let inputs: Vec<usize> = self.graph.nodes[index].inputs.iter().map(|i| i.0).collect();
        let shapes: Vec<&[usize]> = inputs.iter().map(|&i| self.shapes[i].as_slice()).collect();
        let order = linear_ops::concat_rows(&shapes, axis);
        let parts: Vec<Expression> = inputs.iter().map(|&i| self.expression(i)).collect();
        Expression::stacked(&parts).select_rows(&order)
    }

    fn sum(&self, index: usize, sign: f32) -> Expression {
        let (left, right) = (self.broadcast(index, 0), self.broadcast(index, 1));
        left.combined(1.0, &right, sign)
    }

    /// An operand, its rows repeated to the shape of the result.
    fn broadcast(&self, index: usize, position: usize) -> Expression {
        let operand = self.operand(index, position);
        let expression = self.expression(operand);
        let (from, to) = (&self.shapes[operand], &self.shapes[index]);
        if from == to {
            expression
        } else {
            expression.select_rows(&linear_ops::broadcast_rows(from, to))
        }
    }

    fn product(&mut self, index: usize) -> Expression {
        let (left, right) = (self.broadcast(index, 0), self.broadcast(index, 1));
        if let Some(factors) = right.as_constant() {
            return left.scaled(factors);
        }
        if let Some(factors) = left.as_constant() {
            return right.scaled(factors);
        }
        let name = self.graph.nodes[index].name.clone();
        let shape = self.shapes[index].clone();
        let kind = if self.operand(index, 0) == self.operand(index, 1) {
            StageKind::Square(self.variable(self.operand(index, 0)))
        } else {
            // Fresh variables: the layout pass gives both factors one layout.
            let a = self.materialise(self.operand(index, 0), &left);
            StageKind::Product(a, self.materialise(self.operand(index, 1), &right))
        };
        let var = self.push_stage(&name, &shape, kind);
        Expression::variable(var, shape.iter().product())
    }

    fn polynomial(&mut self, index: usize, coefficients: &[f32]) -> Expression {
        let degree = coefficients.iter().rposition(|&c| c != 0.0).unwrap_or(0);
        let operand = self.operand(index, 0);
        let elements: usize = self.shapes[index].iter().product();
        let coefficient = |k: usize| coefficients.get(k).copied().unwrap_or(0.0);
        match degree {
            0 => Expression::constant(&vec![coefficient(0); elements]),
            1 => {
                let scaled = self
                    .expression(operand)
                    .scaled(&vec![f64::from(coefficient(1)); elements]);
                scaled.shifted(f64::from(coefficient(0)))
            }
            2 => self.quadratic(index, [coefficient(0), coefficient(1), coefficient(2)]),
            _ => self.higher_polynomial(index, &coefficients[..=degree]),
        }
    }

    /// `a x^2 + b x + c = a (x + b / 2a)^2 + (c - b^2 / 4a)`.
    fn quadratic(&mut self, index: usize, [c, b, a]: [f32; 3]) -> Expression {
        let operand = self.operand(index, 0);
        let name = self.graph.nodes[index].name.clone();
        let shape = self.shapes[index].clone();
        let elements = shape.iter().product();
        let [c, b, a] = [c, b, a].map(f64::from);
        let offset = b / (2.0 * a);
        let limit = f64::from(MAX_SQUARE_OFFSET * self.magnitudes[operand].max(1e-6));
        if offset.abs() > limit {
            let var = self.variable(operand);
            let square = self.push_stage(&name, &shape, StageKind::Square(var));
            let quadratic = Expression::variable(square, elements).scaled(&vec![a; elements]);
            let linear = Expression::variable(var, elements);
            return quadratic.combined(1.0, &linear, b as f32).shifted(c);
        }
        let var = if offset == 0.0 {
            self.variable(operand)
        } else {
            let shifted = self.expression(operand).shifted(offset);
            self.materialise(operand, &shifted)
        };
        let square = self.push_stage(&name, &shape, StageKind::Square(var));
        let scaled = Expression::variable(square, elements).scaled(&vec![a; elements]);
        scaled.shifted(c - a * offset * offset)
    }

    /// Powers of `x / r` with `|x| <= r` on the calibration data, by halving, then their linear
    /// combination.
    fn higher_polynomial(&mut self, index: usize, coefficients: &[f32]) -> Expression {
        let operand = self.operand(index, 0);
        let name = self.graph.nodes[index].name.clone();
        let shape = self.shapes[index].clone();
        let elements = shape.iter().product();
        let radius = f64::from(self.magnitudes[operand].max(1e-6));
        let unit = self
            .expression(operand)
            .scaled(&vec![1.0 / radius; elements]);
        let unit = self.materialise(operand, &unit);
        let mut powers = HashMap::from([(1usize, unit)]);
        let mut terms = Vec::new();
        for (k, &c) in coefficients
            .iter()
            .enumerate()
            .skip(1)
            .filter(|&(_, &c)| c != 0.0)
        {
            let var = self.power(k, &name, &shape, &mut powers);
            terms.push((var, f64::from(c) * radius.powi(k as i32)));
        }
        let constant = f64::from(coefficients[0]);
        let var = self.push_stage(&name, &shape, StageKind::Combine { terms, constant });
        Expression::variable(var, elements)
    }

    fn power(
        &mut self,
        k: usize,
        name: &str,
        shape: &[usize],
        powers: &mut HashMap<usize, Var>,
    ) -> Var {
        if let Some(&var) = powers.get(&k) {
            return var;
        }
        let low = self.power(k / 2, name, shape, powers);
        let high = self.power(k - k / 2, name, shape, powers);
        let kind = if low == high {
            StageKind::Square(low)
        } else {
            StageKind::Product(low, high)
        };
        let var = self.push_stage(name, shape, kind);
        powers.insert(k, var);
        var
    }
}
