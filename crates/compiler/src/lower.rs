//! Pass: stages with layouts to steps, still without levels.

use std::collections::BTreeSet;

use scuro_program::{Diagonal, Estimate, Linear, Operation, SlotVector, Step, ValueId};

use crate::cost::CostModel;
use crate::error::CompileError;
use crate::layout::Layout;
use crate::layout::assignment::Assignment;
use crate::layout::bsgs::{self, Rotations, Split};
use crate::layout::matching::{self, Operand};
use crate::layout::search::{self, Choice, Plan};
use crate::normalise::{AffineMap, Network, StageKind};

/// Limbs at which splits are priced.
const SPLIT_LIMBS: usize = 4;

/// Steps in which every value is relinearised but nothing is rescaled.
#[derive(Debug, Clone)]
pub(crate) struct Skeleton {
    pub(crate) steps: Vec<Step>,
    /// The value that holds each variable.
    pub(crate) value_of: Vec<ValueId>,
    /// Per step: what the noise model needs to know of a linear step.
    pub(crate) gains: Vec<Gain>,
    /// Per step: what its rotations count modulo, a common period of all that it reads, or all
    /// slots.
    pub(crate) periods: Vec<usize>,
    pub(crate) slots: usize,
    /// Ciphertexts of the query.
    pub(crate) query: usize,
}

/// Weights of a linear step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gain {
    /// Per operand: mean over rows of the sum of squared weights.
    pub(crate) row_energy: Vec<f64>,
    /// Per operand: diagonals per output ciphertext.
    pub(crate) diagonals: Vec<f64>,
    /// Per operand: the largest absolute weight.
    pub(crate) largest: Vec<f64>,
}

/// Lowers a plan.
///
/// # Errors
/// A weight without a place, which the search rules out.
pub(crate) fn run(
    network: &Network,
    plan: &Plan,
    cost: &CostModel,
) -> Result<Skeleton, CompileError> {
    let mut skeleton = Skeleton {
        steps: Vec::new(),
        value_of: vec![ValueId(0)],
        gains: Vec::new(),
        periods: Vec::new(),
        slots: plan.layouts[0].slots(),
        query: plan.layouts[0].ciphertexts(),
    };
    for (index, stage) in network.stages.iter().enumerate() {
        let layer = &stage.layer;
        let value = match &stage.kind {
            StageKind::Affine(map) => lower_affine(&mut skeleton, network, plan, index, map, cost)?,
            StageKind::Square(of) => {
                let operand = skeleton.value_of[*of];
                let product = skeleton.push(layer, vec![operand], Operation::Square);
                skeleton.push(layer, vec![product], Operation::Relinearize)
            }
            StageKind::Product(a, b) => {
                let operands = vec![skeleton.value_of[*a], skeleton.value_of[*b]];
                let product = skeleton.push(layer, operands, Operation::Multiply);
                skeleton.push(layer, vec![product], Operation::Relinearize)
            }
            StageKind::Combine { terms, constant } => {
                let operands = terms
                    .iter()
                    .map(|(var, _)| skeleton.value_of[*var])
                    .collect();
                let factors = terms.iter().map(|(_, factor)| *factor).collect();
                let combine = Operation::Combine {
                    weight_scale_log2: 0.0,
                    factors,
                };
                let sum = skeleton.push(layer, operands, combine);
                let layout = &plan.layouts[index + 1];
                let bias = vec![*constant; layout.elements()];
                skeleton.add_bias(layer, sum, layout, &bias)
            }
        };
        skeleton.value_of.push(value);
    }
    Ok(skeleton)
}

impl Skeleton {
    /// The linear step of an affine stage.
    pub(crate) fn linear_step(&self, stage: usize) -> Option<usize> {
        let steps = self.value_of[stage].0 as usize..self.value_of[stage + 1].0 as usize;
        steps.into_iter().find(|&index| {
            let operation = &self.steps[index].operation;
            matches!(operation, Operation::Linear(_))
        })
    }

    pub(crate) fn push(
        &mut self,
        layer: &str,
        inputs: Vec<ValueId>,
        operation: Operation,
    ) -> ValueId {
        let layer = layer.to_owned();
        self.steps.push(Step {
            layer,
            inputs,
            operation,
            estimate: Estimate::default(),
        });
        self.gains.push(Gain::default());
        self.periods.push(self.slots);
        ValueId(self.steps.len() as u32)
    }

    /// Adds the bias where the layout has elements, if there is any.
    fn add_bias(&mut self, layer: &str, value: ValueId, layout: &Layout, bias: &[f64]) -> ValueId {
        if bias.iter().all(|&b| b == 0.0) {
            return value;
        }
        let cell = |&cell: &u32| bias.get(cell as usize).map_or(0.0, |&b| b as f32);
        let vector = |cells: &Vec<u32>| {
            SlotVector::from_dense(&cells.iter().map(cell).collect::<Vec<f32>>())
        };
        let values = layout.cells.iter().map(vector).collect();
        self.push(layer, vec![value], Operation::AddConstant { values })
    }
}

fn lower_affine(
    skeleton: &mut Skeleton,
    network: &Network,
    plan: &Plan,
    index: usize,
    map: &AffineMap,
    cost: &CostModel,
) -> Result<ValueId, CompileError> {
    let layer = &network.stages[index].layer;
    let layout = &plan.layouts[index + 1];
    let assignment = match &plan.choices[index] {
        Some(Choice::Diagonals { assignment, .. }) => assignment,
        Some(Choice::Rotations(offsets)) => {
            let operand = skeleton.value_of[map.terms[0].0];
            let stages = vec![offsets.clone()];
            let sum = skeleton.push(layer, vec![operand], Operation::Fold { stages });
            return Ok(skeleton.add_bias(layer, sum, layout, &map.bias));
        }
        None => {
            return Err(CompileError::LeakyOutput {
                layer: layer.clone(),
            });
        }
    };
    let operands = search::operands(map, &plan.layouts);
    let Some(split) = split(assignment, &operands, cost) else {
        return Err(CompileError::LeakyOutput {
            layer: layer.clone(),
        });
    };
    let filled = fill(assignment, &operands);
    let gain = gain(assignment, &operands, &filled);
    let turned = Turned::new(&filled, split, assignment.modulus, &operands);
    let diagonals = diagonals(filled, &turned, layout.slots(), assignment.rows.len());
    let outputs = assignment.rows.len() as u32;
    let linear = Linear {
        outputs,
        weight_scale_log2: 0.0,
        diagonals,
    };
    let values: Vec<ValueId> = map
        .terms
        .iter()
        .map(|(var, _)| skeleton.value_of[*var])
        .collect();
    let first = skeleton.steps.len();
    let inputs = skeleton.rotate_operands(layer, &values, &turned);
    let mut value = skeleton.push(layer, inputs, Operation::Linear(linear));
    if let Some(last) = skeleton.gains.last_mut() {
        *last = gain;
    }
    if !assignment.folds.is_empty() {
        let stages = assignment.folds.clone();
        let operation = match plan.traced && index + 1 == network.output {
            // Every slot is a summand: no rotation is needed to read the sum.
            true => Operation::Trace {
                period: layout.period as u32,
                copies: (layout.slots() / assignment.modulus) as u32,
            },
            false => Operation::Fold { stages },
        };
        value = skeleton.push(layer, vec![value], operation);
    }
    skeleton.periods[first..].fill(assignment.modulus);
    Ok(skeleton.add_bias(layer, value, layout, &map.bias))
}

fn gain(assignment: &Assignment, operands: &[Operand<'_>], filled: &[Filled]) -> Gain {
    let energy = |o: &Operand<'_>| {
        let sum: f64 = o.matrix.weight.iter().map(|&w| f64::from(w).powi(2)).sum();
        sum / o.matrix.rows().max(1) as f64
    };
    let outputs = assignment.rows.len() as f64;
    let count = |operand: usize| {
        filled
            .iter()
            .filter(|d| d.operand as usize == operand)
            .count() as f64
            / outputs
    };
    let largest = |o: &Operand<'_>| {
        o.matrix
            .weight
            .iter()
            .fold(0.0f64, |max, &w| max.max(f64::from(w.abs())))
    };
    Gain {
        largest: operands.iter().map(largest).collect(),
        row_energy: operands.iter().map(energy).collect(),
        diagonals: (0..operands.len()).map(count).collect(),
    }
}

/// How the exact set of steps is split.
fn split(assignment: &Assignment, operands: &[Operand<'_>], cost: &CostModel) -> Option<Split> {
    let sets = search::step_sets(assignment, operands, false)?;
    let row = assignment.grid.row;
    Some(bsgs::best_split(&sets, cost, SPLIT_LIMBS, row, f64::INFINITY)?.split)
}

/// Which middle rotations each operand needs.
struct Turned {
    split: Split,
    modulus: usize,
    /// Per operand: the middle rotations, ascending.
    middles: Vec<Vec<u32>>,
    /// Per operand: its ciphertexts.
    ciphertexts: Vec<u32>,
}

impl Turned {
    fn new(filled: &[Filled], split: Split, modulus: usize, operands: &[Operand<'_>]) -> Turned {
        let mut middles = vec![BTreeSet::new(); operands.len()];
        for diagonal in filled {
            let rotations = split.apply(diagonal.step, modulus);
            middles[diagonal.operand as usize].insert(rotations.middle);
        }
        let middles = middles
            .into_iter()
            .map(|set| set.into_iter().collect())
            .collect();
        let ciphertexts = operands
            .iter()
            .map(|o| o.layout.ciphertexts() as u32)
            .collect();
        Turned {
            split,
            modulus,
            middles,
            ciphertexts,
        }
    }

    /// Whether an operand is rotated before the linear step.
    fn is_rotated(&self, operand: usize) -> bool {
        self.middles[operand].iter().any(|&middle| middle != 0)
    }

    /// Ciphertext of the (rotated) operand and the remaining rotations of a step.
    fn place(&self, operand: u32, ciphertext: u32, step: u32) -> (u32, Rotations) {
        let rotations = self.split.apply(step, self.modulus);
        let operand = operand as usize;
        if !self.is_rotated(operand) {
            return (ciphertext, rotations);
        }
        let at = self.middles[operand].partition_point(|&m| m < rotations.middle) as u32;
        (at * self.ciphertexts[operand] + ciphertext, rotations)
    }
}

impl Skeleton {
    fn rotate_operands(
        &mut self,
        layer: &str,
        values: &[ValueId],
        turned: &Turned,
    ) -> Vec<ValueId> {
        let mut rotated = Vec::with_capacity(values.len());
        for (operand, &value) in values.iter().enumerate() {
            let steps = turned.middles[operand].clone();
            rotated.push(match turned.is_rotated(operand) {
                true => self.push(layer, vec![value], Operation::Rotate { steps }),
                false => value,
            });
        }
        rotated
    }
}

/// All diagonals of an affine stage, ordered; a zero diagonal for outputs without weights.
fn diagonals(filled: Vec<Filled>, turned: &Turned, slots: usize, outputs: usize) -> Vec<Diagonal> {
    let mut diagonals: Vec<Diagonal> = filled
        .into_iter()
        .map(|filled| filled.into_diagonal(turned, slots))
        .collect();
    for output in 0..outputs as u32 {
        if !diagonals.iter().any(|d| d.output == output) {
            let values = SlotVector::default();
            let (operand, ciphertext, giant, baby) = (0, 0, 0, 0);
            diagonals.push(Diagonal {
                output,
                operand,
                ciphertext,
                giant,
                baby,
                values,
            });
        }
    }
    diagonals.sort_by_key(|d| (d.output, d.giant, d.operand, d.ciphertext, d.baby));
    diagonals
}

/// A diagonal over one period.
struct Filled {
    output: u32,
    operand: u32,
    ciphertext: u32,
    step: u32,
    values: Vec<f32>,
}

impl Filled {
    fn into_diagonal(self, turned: &Turned, slots: usize) -> Diagonal {
        let (ciphertext, rotations) = turned.place(self.operand, self.ciphertext, self.step);
        let dense: Vec<f32> = self.values.iter().copied().cycle().take(slots).collect();
        Diagonal {
            output: self.output,
            operand: self.operand,
            ciphertext,
            giant: rotations.giant,
            baby: rotations.baby,
            values: SlotVector::from_dense(&dense),
        }
    }
}

fn fill(assignment: &Assignment, operands: &[Operand<'_>]) -> Vec<Filled> {
    let modulus = assignment.modulus;
    let widest = operands
        .iter()
        .map(|o| o.layout.ciphertexts())
        .max()
        .unwrap_or(1);
    let tables = assignment.rows.len() * operands.len() * widest;
    let mut index = vec![u32::MAX; tables * modulus];
    let mut filled: Vec<Filled> = Vec::new();
    matching::place(assignment, operands, false, |p| {
        let (output, operand) = (p.output as usize, p.operand as usize);
        let table = (output * operands.len() + operand) * widest + p.ciphertext as usize;
        let entry = &mut index[table * modulus + p.step as usize];
        if *entry == u32::MAX {
            *entry = filled.len() as u32;
            filled.push(Filled {
                output: p.output,
                operand: p.operand,
                ciphertext: p.ciphertext,
                step: p.step,
                values: vec![0.0; modulus],
            });
        }
        filled[*entry as usize].values[p.slot as usize] += p.weight;
    });
    filled
}
