//! Baby-step giant-step split of a set of diagonals.

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
    let mut counter = Counter::new(sets);
    let split = Split {
        width: 1,
        centred: false,
    };
    let mut best = counter.price(sets, split, cost, limbs);
    let mut width = 1;
    while width <= sets.modulus {
        for centred in [false, true] {
            let candidate = counter.price(sets, Split { width, centred }, cost, limbs);
            if candidate.micros < best.micros {
                best = candidate;
            }
        }
        width *= 2;
    }
    best
}

/// Counts distinct rotations; a mark equal to the current round means seen.
struct Counter {
    round: u32,
    inputs: usize,
    babies: Vec<u32>,
    giants: Vec<u32>,
    keys: Vec<u32>,
}

impl Counter {
    fn new(sets: &StepSets) -> Counter {
        let inputs = sets.groups.iter().map(|g| g.input + 1).max().unwrap_or(0);
        Counter {
            round: 0,
            inputs,
            babies: vec![0; inputs * sets.modulus],
            giants: vec![0; sets.outputs * sets.modulus],
            keys: vec![0; sets.modulus],
        }
    }

    fn price(
        &mut self,
        sets: &StepSets,
        split: Split,
        cost: &CostModel,
        limbs: usize,
    ) -> SplitCost {
        self.round += 1;
        let round = self.round;
        let mut first = |mark: &mut u32| std::mem::replace(mark, round) != round;
        let (mut babies, mut giants, mut keys) = (0, 0, 0);
        let mut rotated = vec![false; self.inputs];
        for group in &sets.groups {
            let (input, output) = (
                group.input * sets.modulus,
                group.output as usize * sets.modulus,
            );
            for &step in &group.steps {
                let (giant, baby) = split.apply(step, sets.modulus);
                let (giant, baby) = (giant as usize, baby as usize);
                if baby != 0 && first(&mut self.babies[input + baby]) {
                    babies += 1;
                    rotated[group.input] = true;
                    keys += usize::from(first(&mut self.keys[baby]));
                }
                if giant != 0 && first(&mut self.giants[output + giant]) {
                    giants += 1;
                    keys += usize::from(first(&mut self.keys[giant]));
                }
            }
        }
        let decomposed = rotated.iter().filter(|&&r| r).count();
        let micros = decomposed as f64 * cost.decompose(limbs)
            + babies as f64 * cost.baby(limbs)
            + giants as f64 * cost.rotation(limbs)
            + sets.outputs as f64 * cost.mod_down(limbs)
            + sets.diagonals() as f64 * cost.diagonal(limbs)
            + keys as f64 * cost.key_penalty();
        SplitCost {
            split,
            babies,
            giants,
            micros,
        }
    }
}
