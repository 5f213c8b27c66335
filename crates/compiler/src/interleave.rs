//! Pass: several images in one query.
//!
//! Layouts and steps are found for one image in `S / B` places. With `B` images, place `p` becomes
//! slots `p * B .. (p + 1) * B`, one an image, and every linear step `W` becomes `W (x) I_B`:
//! rotations are multiples of `B`, every weight stands in `B` slots. A rotation then serves `B`
//! images, while the products of an image stay as many as they were.

use scuro_nn::tensor::Tensor;
use scuro_program::{Operation, SlotVector, Step};

use crate::layout::{GARBAGE, Layout, ZERO};
use crate::lower::Skeleton;

/// Turns a skeleton on places into one on slots.
pub(crate) fn skeleton(skeleton: &mut Skeleton, images: usize) {
    steps(&mut skeleton.steps, images);
    skeleton.slots *= images;
    skeleton.periods.iter_mut().for_each(|p| *p *= images);
}

/// Turns steps on places into steps on slots.
fn steps(steps: &mut [Step], images: usize) {
    steps
        .iter_mut()
        .for_each(|step| operation(&mut step.operation, images));
}

fn operation(operation: &mut Operation, images: usize) {
    let widen = |step: &mut u32| *step *= images as u32;
    match operation {
        Operation::Linear(linear) => {
            for diagonal in &mut linear.diagonals {
                widen(&mut diagonal.giant);
                widen(&mut diagonal.baby);
                repeat(&mut diagonal.values, images);
            }
        }
        Operation::Rotate { steps } => steps.iter_mut().for_each(widen),
        Operation::Fold { stages } => stages.iter_mut().flatten().for_each(widen),
        Operation::AddConstant { values } => {
            values.iter_mut().for_each(|vector| repeat(vector, images));
        }
        // Slotwise: the same for every slot.
        _ => {}
    }
}

fn repeat(vector: &mut SlotVector, images: usize) {
    for run in &mut vector.runs {
        run.start *= images as u32;
        run.values = each(&run.values, |&value, _| value, images);
    }
}

/// A layout of places as one of slots: element `e` of image `b` is called `e + b * elements`.
pub(crate) fn layout(layout: &Layout, images: usize) -> Layout {
    let elements = layout.elements();
    let cell = |&cell: &u32, image: usize| match cell {
        ZERO | GARBAGE => cell,
        element => element + (image * elements) as u32,
    };
    let cells = layout.cells.iter().map(|row| each(row, cell, images));
    let (slots, grid) = (layout.slots() * images, layout.grid);
    Layout::new(cells.collect(), slots, elements * images, grid)
}

/// `f(x_0, 0), f(x_0, 1), ..., f(x_0, B - 1), f(x_1, 0), ...`
fn each<T, U>(items: &[T], f: impl Fn(&T, usize) -> U, images: usize) -> Vec<U> {
    let of_item = |item| (0..images).map(move |image| (item, image));
    let pairs = items.iter().flat_map(of_item);
    pairs.map(|(item, image)| f(item, image)).collect()
}

/// Examples taken together as they come, one after the other in each result; the last result is
/// filled up from the front.
pub(crate) fn groups(examples: &[Tensor], images: usize) -> Vec<Tensor> {
    let count = examples.len().div_ceil(images);
    let group = |first: usize| {
        let own = examples.iter().cycle().skip(first * images).take(images);
        let data: Vec<f32> = own.flat_map(|example| &example.data).copied().collect();
        let shape = vec![images, data.len() / images];
        Tensor { shape, data }
    };
    (0..count).map(group).collect()
}

#[cfg(test)]
mod tests {
    use scuro_program::{Diagonal, Estimate, Linear, SlotValue, ValueId, interpret};

    use super::*;

    const PLACES: usize = 32;
    const IMAGES: usize = 4;

    /// Fixed numbers without a pattern.
    fn numbers(seed: u32, count: usize) -> Vec<f32> {
        let number = |i: u32| (f64::from(seed * 977 + i * 613) * 0.731).sin() as f32;
        (0..count as u32).map(number).collect()
    }

    fn a_few_steps() -> Vec<Step> {
        let diagonal = |giant, baby| Diagonal {
            output: 0,
            operand: 0,
            ciphertext: 0,
            giant,
            baby,
            values: SlotVector::from_dense(&numbers(giant + baby, PLACES - 3)),
        };
        let linear = Linear {
            outputs: 1,
            weight_scale_log2: 0.0,
            diagonals: vec![diagonal(0, 1), diagonal(8, 3), diagonal(24, 7)],
        };
        let constant = SlotVector::from_dense(&numbers(5, PLACES));
        let operations = [
            Operation::Linear(linear),
            Operation::Square,
            Operation::Fold {
                stages: vec![vec![4], vec![8, 16, 24]],
            },
            Operation::AddConstant {
                values: vec![constant],
            },
            Operation::Rotate { steps: vec![5] },
        ];
        let step = |(index, operation)| Step {
            layer: String::new(),
            inputs: vec![ValueId(index as u32)],
            operation,
            estimate: Estimate::default(),
        };
        operations.into_iter().enumerate().map(step).collect()
    }

    fn run(steps: &[Step], query: Vec<f64>) -> Vec<f64> {
        let mut value: SlotValue = vec![query];
        for step in steps {
            value = interpret(&step.operation, &[&value]);
        }
        value.swap_remove(0)
    }

    #[test]
    fn every_image_gets_bit_for_bit_what_it_gets_alone() {
        let alone = a_few_steps();
        let mut together = alone.clone();
        steps(&mut together, IMAGES);
        let images: Vec<Vec<f32>> = (0..IMAGES as u32).map(|i| numbers(i, PLACES)).collect();
        let slot = |slot: usize| f64::from(images[slot % IMAGES][slot / IMAGES]);
        let result = run(&together, (0..PLACES * IMAGES).map(slot).collect());
        for (image, values) in images.iter().enumerate() {
            let query = values.iter().copied().map(f64::from).collect();
            let own: Vec<f64> = result.iter().skip(image).step_by(IMAGES).copied().collect();
            assert_eq!(own, run(&alone, query), "image {image}");
        }
    }

    #[test]
    fn a_layout_names_the_elements_image_by_image() {
        let places = vec![vec![1, ZERO, 0, GARBAGE]];
        let one = Layout::new(places, 4, 2, crate::layout::Grid::VECTOR);
        let two = layout(&one, 2);
        assert_eq!(
            two.cells,
            vec![vec![1, 3, ZERO, ZERO, 0, 2, GARBAGE, GARBAGE]]
        );
        assert_eq!(two.elements(), 4);
    }

    #[test]
    fn the_last_group_is_filled_up_from_the_front() {
        let example = |v: f32| Tensor::vector(vec![v, -v]);
        let examples = [1.0, 2.0, 3.0].map(example);
        let groups = groups(&examples, 2);
        let data: Vec<_> = groups.iter().map(|group| group.data.clone()).collect();
        assert_eq!(
            data,
            vec![vec![1.0, -1.0, 2.0, -2.0], vec![3.0, -3.0, 1.0, -1.0]]
        );
    }
}
