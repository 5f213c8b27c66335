//! Pass: how strongly the outputs feel errors of each value, by reverse differentiation.
//!
//! White noise of variance `e` in every slot of a value `v` gives the outputs, on average, variance
//! `S(v) e` with `S(v)` the mean over the outputs `y` of `|dy/dv|^2`: correlations between slots
//! count, which sums of squared weights layer by layer know nothing of. Gradients of sums of
//! outputs with random signs have that mean as their expectation (Hutchinson 1989).

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use scuro_nn::tensor::Tensor;
use scuro_program::{
    Diagonal, Linear, Operation, SlotValue, Step, ValueId, exposure, interpret, interpret_all,
};

use crate::layout::Layout;
use crate::ranges;

/// Examples at which gradients are taken, and signs drawn for each.
const EXAMPLES: usize = 4;
const DRAWS: u64 = 2;
/// An example counts for so much of the one with the largest square at least.
const FAINT: f64 = 1e-6;
/// Below any square that matters.
const NOTHING: f64 = 1e-60;

/// What an error of an operand is to the result of a step: both as white noise that the outputs
/// feel as strongly.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Edge {
    /// Variance of the result for that of the operand.
    pub(crate) moved: f64,
    /// The same for errors of the operand's rotations inside a linear step, each with its own.
    pub(crate) turned: f64,
    /// The same for errors of the weights of a linear step.
    pub(crate) weights: f64,
}

/// Per step and operand, on typical examples; `output` is the layout of value `result`.
pub(crate) fn run(
    steps: &[Step],
    input: &Layout,
    result: usize,
    output: &Layout,
    calibration: &[Tensor],
) -> Vec<Vec<Edge>> {
    let count = calibration.len().clamp(1, EXAMPLES);
    let examples = (0..count).map(|i| &calibration[i * calibration.len() / count].data);
    let found: Vec<Squares> = examples
        .collect::<Vec<_>>()
        .par_iter()
        .map(|example| {
            let values = interpret_all(steps, ranges::fill(input, example));
            let mut squares = Squares::new(steps);
            (0..DRAWS).for_each(|draw| squares.add(steps, &values, result, signs(output, draw)));
            squares
        })
        .collect();
    Squares::typical(&found).edges(steps)
}

/// The gradient of a sum of the outputs with random signs, for the value that holds them.
fn signs(output: &Layout, draw: u64) -> SlotValue {
    let mut random = ChaCha8Rng::seed_from_u64(draw);
    let mut gradient = vec![vec![0.0; output.slots()]; output.ciphertexts()];
    let scale = (output.elements() as f64).sqrt().recip();
    for element in 0..output.elements() {
        let (ciphertext, slot) = output.places(element)[0];
        let sign = if random.next_u32() & 1 == 1 {
            scale
        } else {
            -scale
        };
        gradient[ciphertext as usize][slot as usize] = sign;
    }
    gradient
}

/// Sums of squares of gradients.
#[derive(Debug, Clone)]
struct Squares {
    /// Per value.
    values: Vec<f64>,
    /// Per step and operand, as [`Edge`] has them but not yet for the result's.
    uses: Vec<Vec<Edge>>,
}

impl Squares {
    fn new(steps: &[Step]) -> Squares {
        Squares {
            values: vec![0.0; steps.len() + 1],
            uses: steps
                .iter()
                .map(|step| vec![Edge::default(); step.inputs.len()])
                .collect(),
        }
    }

    /// Goes back from the gradient of the result to the query.
    fn add(&mut self, steps: &[Step], values: &[SlotValue], result: usize, signs: SlotValue) {
        let mut gradients: Vec<Option<SlotValue>> = vec![None; values.len()];
        gradients[result] = Some(signs);
        for (index, step) in steps.iter().enumerate().rev() {
            let Some(gradient) = gradients[index + 1].take() else {
                continue;
            };
            self.values[index + 1] += energy(&gradient);
            let operands = step.operands(values);
            for (i, id) in step.inputs.iter().enumerate() {
                let (edge, part) = back(&step.operation, i, &operands, &gradient);
                let sums = &mut self.uses[index][i];
                sums.moved += edge.moved;
                sums.turned += edge.turned;
                sums.weights += edge.weights;
                accumulate(&mut gradients[id.0 as usize], part);
            }
        }
        self.values[0] += gradients[0].as_ref().map_or(0.0, energy);
    }

    /// Geometric means over examples: single ones with strong contrast do not stand for all, nor do
    /// blank ones.
    fn typical(examples: &[Squares]) -> Squares {
        let mean = |of: &dyn Fn(&Squares) -> f64| {
            let found = || examples.iter().map(of);
            let least = (FAINT * found().fold(0.0, f64::max)).max(NOTHING);
            let logarithms = found().map(|square| square.max(least).ln());
            (logarithms.sum::<f64>() / examples.len() as f64).exp()
        };
        let first = &examples[0];
        let values = (0..first.values.len())
            .map(|v| mean(&|s| s.values[v]))
            .collect();
        let edge = |step: usize, i: usize| Edge {
            moved: mean(&|s| s.uses[step][i].moved),
            turned: mean(&|s| s.uses[step][i].turned),
            weights: mean(&|s| s.uses[step][i].weights),
        };
        let uses = first.uses.iter().enumerate();
        let uses = uses.map(|(step, uses)| (0..uses.len()).map(|i| edge(step, i)).collect());
        Squares {
            values,
            uses: uses.collect(),
        }
    }

    /// Squares to ratios: what goes through the uses of a value adds up to what it has in all.
    fn edges(&self, steps: &[Step]) -> Vec<Vec<Edge>> {
        let mut through = vec![0.0; self.values.len()];
        for (step, uses) in steps.iter().zip(&self.uses) {
            let ids = step.inputs.iter().map(|id| id.0 as usize);
            ids.zip(uses)
                .for_each(|(value, edge)| through[value] += edge.moved);
        }
        let edges = |(index, (step, uses)): (usize, (&Step, &Vec<Edge>))| {
            let result = self.values[index + 1].max(NOTHING);
            let edge = |(id, edge): (&ValueId, &Edge)| {
                let value = id.0 as usize;
                Edge {
                    moved: edge.moved / through[value].max(NOTHING) * self.values[value] / result,
                    turned: edge.turned / result,
                    weights: edge.weights / result,
                }
            };
            step.inputs.iter().zip(uses).map(edge).collect()
        };
        steps
            .iter()
            .zip(&self.uses)
            .enumerate()
            .map(edges)
            .collect()
    }
}

fn energy(gradient: &SlotValue) -> f64 {
    gradient.iter().flatten().map(|g| g * g).sum()
}

fn accumulate(sum: &mut Option<SlotValue>, part: SlotValue) {
    let Some(sum) = sum else {
        *sum = Some(part);
        return;
    };
    let slots = sum.iter_mut().flatten().zip(part.iter().flatten());
    slots.for_each(|(sum, part)| *sum += part);
}

/// The gradient for operand `i` of a step from that of its result, and the squares of its use.
fn back(
    operation: &Operation,
    i: usize,
    operands: &[&SlotValue],
    gradient: &SlotValue,
) -> (Edge, SlotValue) {
    let mut edge = Edge::default();
    let part = match operation {
        Operation::Linear(linear) => {
            let (part, turned) = back_linear(linear, i, operands[i], gradient);
            let exposed = exposure(linear, i as u32, operands[i]);
            let slots = gradient.iter().flatten().zip(exposed.iter().flatten());
            edge.turned = turned;
            edge.weights = slots.map(|(g, x)| g * g * x).sum();
            part
        }
        Operation::Rotate { steps } => back_rotate(steps, operands[i].len(), gradient),
        Operation::Fold { stages } => gradient.iter().map(|g| back_fold(stages, g)).collect(),
        // The mean over congruent slots is its own transpose.
        Operation::Trace { .. } => interpret(operation, &[gradient]),
        Operation::Square => product(operands[0], gradient, 2.0),
        Operation::Multiply => product(operands[1 - i], gradient, 1.0),
        Operation::Combine { factors, .. } => {
            let scaled = |g: &Vec<f64>| g.iter().map(|g| factors[i] * g).collect();
            gradient.iter().map(scaled).collect()
        }
        _ => gradient.clone(),
    };
    edge.moved = energy(&part);
    (edge, part)
}

fn product(value: &SlotValue, gradient: &SlotValue, factor: f64) -> SlotValue {
    let slots =
        |(x, g): (&Vec<f64>, &Vec<f64>)| x.iter().zip(g).map(|(x, g)| factor * x * g).collect();
    value.iter().zip(gradient).map(slots).collect()
}

/// `sum[(slot + step) mod S] += gradient[slot]`.
fn add_rotated(sum: &mut [f64], gradient: &[f64], step: usize) {
    let (front, back) = gradient.split_at(gradient.len() - step % gradient.len());
    let (head, tail) = sum.split_at_mut(back.len());
    head.iter_mut().zip(back).for_each(|(s, g)| *s += g);
    tail.iter_mut().zip(front).for_each(|(s, g)| *s += g);
}

fn back_rotate(steps: &[u32], ciphertexts: usize, gradient: &SlotValue) -> SlotValue {
    let mut part = vec![vec![0.0; gradient[0].len()]; ciphertexts];
    for (&step, rotated) in steps.iter().zip(gradient.chunks(ciphertexts)) {
        for (sum, g) in part.iter_mut().zip(rotated) {
            add_rotated(sum, g, step as usize);
        }
    }
    part
}

fn back_fold(stages: &[Vec<u32>], gradient: &[f64]) -> Vec<f64> {
    let mut part = gradient.to_vec();
    for stage in stages.iter().rev() {
        let after = part.clone();
        let steps = stage.iter().map(|&step| step as usize);
        steps.for_each(|step| add_rotated(&mut part, &after, step));
    }
    part
}

/// The gradient for an operand, and its squares summed over the operand's rotations.
fn back_linear(
    linear: &Linear,
    operand: usize,
    value: &SlotValue,
    gradient: &SlotValue,
) -> (SlotValue, f64) {
    let slots = gradient[0].len();
    // By ciphertext and rotation, before the diagonal's weights.
    let mut rotated: BTreeMap<(u32, u32), Vec<f64>> = BTreeMap::new();
    let own = |d: &&Diagonal| d.operand as usize == operand;
    for diagonal in linear.diagonals.iter().filter(own) {
        let place = (diagonal.ciphertext, diagonal.baby);
        let sum = rotated.entry(place).or_insert_with(|| vec![0.0; slots]);
        let gradient = &gradient[diagonal.output as usize];
        let giant = diagonal.giant as usize;
        for (slot, weight) in diagonal.values.iter() {
            sum[(slot + giant) % slots] += f64::from(weight) * gradient[slot];
        }
    }
    let mut part = vec![vec![0.0; slots]; value.len()];
    let mut turned = 0.0;
    for ((ciphertext, baby), sum) in rotated {
        add_rotated(&mut part[ciphertext as usize], &sum, baby as usize);
        if baby != 0 {
            turned += sum.iter().map(|g| g * g).sum::<f64>();
        }
    }
    (part, turned)
}

#[cfg(test)]
mod tests {
    use scuro_program::{Estimate, SlotVector};

    use super::*;
    use crate::layout::{Grid, ZERO};

    const SLOTS: usize = 8;
    const STEP: f64 = 1e-5;

    fn diagonal(giant: u32, baby: u32, first: f32) -> Diagonal {
        let dense: Vec<f32> = (0..SLOTS).map(|i| first - 0.25 * i as f32).collect();
        Diagonal {
            output: 0,
            operand: 0,
            ciphertext: 0,
            giant,
            baby,
            values: SlotVector::from_dense(&dense),
        }
    }

    /// A linear step of an input, squared, times the input, and a sum of windows.
    fn steps() -> Vec<Step> {
        let linear = Operation::Linear(Linear {
            outputs: 1,
            weight_scale_log2: 0.0,
            diagonals: vec![
                diagonal(0, 0, 0.9),
                diagonal(0, 3, -1.1),
                diagonal(4, 1, 0.6),
            ],
        });
        let stages = vec![vec![1, 2], vec![4]];
        let operations = [
            (vec![0], linear),
            (vec![1], Operation::Square),
            (vec![2, 0], Operation::Multiply),
            (vec![3], Operation::Fold { stages }),
        ];
        let step = |(inputs, operation): (Vec<u32>, Operation)| Step {
            layer: String::new(),
            inputs: inputs.into_iter().map(ValueId).collect(),
            operation,
            estimate: Estimate::default(),
        };
        operations.into_iter().map(step).collect()
    }

    /// One element of the input a slot; the first slot of the result is the output.
    fn layouts() -> (Layout, Layout) {
        let grid = Grid {
            row: SLOTS,
            gap_y: 1,
            gap_x: 1,
            span: SLOTS,
            gathered: false,
        };
        let mut output = vec![ZERO; SLOTS];
        output[0] = 0;
        let layout = |cells, elements| Layout::new(vec![cells], SLOTS, elements, grid);
        (
            layout((0..SLOTS as u32).collect(), SLOTS),
            layout(output, 1),
        )
    }

    fn example() -> Vec<f32> {
        (0..SLOTS).map(|i| 0.3 + 0.1 * i as f32).collect()
    }

    fn edges(steps: &[Step], examples: &[Vec<f32>]) -> Vec<Vec<Edge>> {
        let (from, to) = layouts();
        let tensor = |example: &Vec<f32>| Tensor::new(vec![SLOTS], example.clone()).unwrap();
        let tensors: Vec<Tensor> = examples.iter().map(tensor).collect();
        run(steps, &from, steps.len(), &to, &tensors)
    }

    /// The output if one slot of a value is `by` more.
    fn output(steps: &[Step], value: usize, slot: usize, by: f64) -> f64 {
        let query: Vec<f64> = example().into_iter().map(f64::from).collect();
        let mut values = vec![vec![query]];
        for index in 0..=steps.len() {
            if index == value {
                values[index][0][slot] += by;
            }
            let Some(step) = steps.get(index) else { break };
            let result = interpret(&step.operation, &step.operands(&values));
            values.push(result);
        }
        values[steps.len()][0][0]
    }

    /// The gradient of the output, by differences.
    fn gradient(steps: &[Step], value: usize) -> Vec<f64> {
        let moved = |slot, by| output(steps, value, slot, by);
        let slope = |slot| (moved(slot, STEP) - moved(slot, -STEP)) / (2.0 * STEP);
        (0..SLOTS).map(slope).collect()
    }

    fn assert_close(found: f64, expected: f64) {
        let ratio = found / expected;
        assert!((ratio - 1.0).abs() < 1e-4, "{found} for {expected}");
    }

    #[test]
    fn ratios_multiply_to_squared_gradients() {
        let steps = steps();
        let edges = edges(&steps, &[example()]);
        let mut felt = vec![0.0; steps.len() + 1];
        felt[steps.len()] = 1.0;
        for (index, step) in steps.iter().enumerate().rev() {
            for (edge, id) in edges[index].iter().zip(&step.inputs) {
                felt[id.0 as usize] += edge.moved * felt[index + 1];
            }
        }
        for (value, &felt) in felt.iter().enumerate() {
            let squares = gradient(&steps, value).into_iter().map(|g| g * g);
            assert_close(felt, squares.sum());
        }
    }

    #[test]
    fn rotations_and_weights_of_a_linear_step_have_errors_of_their_own() {
        let steps = steps();
        let Operation::Linear(linear) = &steps[0].operation else {
            unreachable!("the first step is linear");
        };
        let gradient = gradient(&steps, 1);
        let energy: f64 = gradient.iter().map(|g| g * g).sum();
        let (mut turned, mut weights) = (0.0, 0.0);
        for diagonal in &linear.diagonals {
            for (slot, weight) in diagonal.values.iter() {
                let from = (slot + (diagonal.giant + diagonal.baby) as usize) % SLOTS;
                weights += (gradient[slot] * f64::from(example()[from])).powi(2);
                if diagonal.baby != 0 {
                    turned += (gradient[slot] * f64::from(weight)).powi(2);
                }
            }
        }
        let edge = edges(&steps, &[example()])[0][0];
        assert_close(edge.turned, turned / energy);
        assert_close(edge.weights, weights / energy);
    }

    #[test]
    fn a_blank_example_does_not_hide_errors() {
        let steps = steps();
        let alone = edges(&steps, &[example()]);
        let blank = edges(&steps, &[example(), vec![0.0; SLOTS]]);
        let felt = |edges: &[Vec<Edge>]| edges.iter().map(|e| e[0].moved).product::<f64>();
        assert!(blank[0][0].weights > 1e-4 * alone[0][0].weights);
        assert!(felt(&blank) > 1e-4 * felt(&alone));
    }
}
