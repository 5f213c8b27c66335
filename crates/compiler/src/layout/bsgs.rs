//! Baby-step giant-step split of a set of diagonals.

use std::collections::BTreeSet;

use crate::cost::CostModel;

/// The rotations of an affine stage: per (output, operand, ciphertext) the sorted steps.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepSets {
    pub(crate) modulus: usize,
    pub(crate) outputs: usize,
    pub(crate) groups: Vec<StepGroup>,
}

/// Steps between one input and one output ciphertext.
#[derive(Debug, Clone)]
pub(crate) struct StepGroup {
    pub(crate) output: u32,
    /// Index of the input ciphertext, counted through the operands.
    pub(crate) input: usize,
    pub(crate) steps: Vec<u32>,
}

impl StepSets {
    pub(crate) fn diagonals(&self) -> usize {
        self.groups.iter().map(|g| g.steps.len()).sum()
    }
}

/// How steps are split: `step = giant + baby`, `giant` a multiple of `width`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) width: usize,
    /// Babies in `-width/2 ..` rather than `0 ..`.
    pub(crate) centred: bool,
}

impl Split {
    /// Giant and baby of a step, both in `0 .. modulus`.
    pub(crate) fn apply(self, step: u32, modulus: usize) -> (u32, u32) {
        let (step, width) = (step as usize, self.width);
        let shift = if self.centred { width / 2 } else { 0 };
        let giant = (step + shift) / width * width;
        let baby = (step + modulus - giant % modulus) % modulus;
        ((giant % modulus) as u32, baby as u32)
    }
}

/// What a split costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SplitCost {
    pub(crate) split: Split,
    pub(crate) babies: usize,
    pub(crate) giants: usize,
    pub(crate) micros: f64,
}

/// The cheapest split at a number of limbs.
pub(crate) fn best_split(sets: &StepSets, cost: &CostModel, limbs: usize) -> SplitCost {
    let mut best: Option<SplitCost> = None;
    let mut width = 1;
    while width <= sets.modulus {
        for centred in [false, true] {
            let candidate = price(sets, Split { width, centred }, cost, limbs);
            if best.is_none_or(|b| candidate.micros < b.micros) {
                best = Some(candidate);
            }
        }
        width *= 2;
    }
    // `modulus >= 1`, so the loop ran.
    best.unwrap_or_else(|| {
        price(
            sets,
            Split {
                width: 1,
                centred: false,
            },
            cost,
            limbs,
        )
    })
}

fn price(sets: &StepSets, split: Split, cost: &CostModel, limbs: usize) -> SplitCost {
    let mut babies: BTreeSet<(usize, u32)> = BTreeSet::new();
    let mut giants: BTreeSet<(u32, u32)> = BTreeSet::new();
    let mut steps: BTreeSet<u32> = BTreeSet::new();
    for group in &sets.groups {
        for &step in &group.steps {
            let (giant, baby) = split.apply(step, sets.modulus);
            giants.insert((group.output, giant));
            if baby != 0 {
                babies.insert((group.input, baby));
            }
            steps.extend([giant, baby]);
        }
    }
    let inputs: BTreeSet<usize> = babies.iter().map(|&(input, _)| input).collect();
    let turned = giants.iter().filter(|&&(_, g)| g != 0).count();
    steps.remove(&0);
    let micros = inputs.len() as f64 * cost.decompose(limbs)
        + babies.len() as f64 * cost.baby(limbs)
        + turned as f64 * cost.rotation(limbs)
        + sets.outputs as f64 * cost.mod_down(limbs)
        + sets.diagonals() as f64 * cost.diagonal(limbs)
        + steps.len() as f64 * cost.key_penalty();
    SplitCost {
        split,
        babies: babies.len(),
        giants: turned,
        micros,
    }
}
