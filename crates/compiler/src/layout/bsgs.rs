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

/// How steps are split: `step = giant + middle + baby`, `giant` a multiple of `width`, `middle` one
/// of `inner`.
///
/// Without an inner width there are no middle steps. With one, the operand is first rotated by
/// every middle step, which costs time and saves keys: `m + b` of them instead of `m * b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) width: usize,
    /// Remainders in `-width/2 ..` rather than `0 ..`.
    pub(crate) centred: bool,
    pub(crate) inner: Option<usize>,
}

/// The rotations of one step, each in `0 .. modulus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rotations {
    pub(crate) giant: u32,
    pub(crate) middle: u32,
    pub(crate) baby: u32,
}

impl Split {
    pub(crate) fn apply(self, step: u32, modulus: usize) -> Rotations {
        let below = |value: i64, width: usize| {
            let width = width as i64;
            let shift = if self.centred { width / 2 } else { 0 };
            (value + shift).div_euclid(width) * width
        };
        let giant = below(step.into(), self.width);
        let rest = i64::from(step) - giant;
        let middle = self.inner.map_or(0, |inner| below(rest, inner));
        let wrap = |value: i64| value.rem_euclid(modulus as i64) as u32;
        Rotations {
            giant: wrap(giant),
            middle: wrap(middle),
            baby: wrap(rest - middle),
        }
    }
}

/// What a split costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SplitCost {
    pub(crate) split: Split,
    pub(crate) babies: usize,
    pub(crate) giants: usize,
    pub(crate) keys: usize,
    pub(crate) micros: f64,
}

/// Babies from which on middle steps are considered.
const MANY_BABIES: usize = 24;

/// The cheapest split at a number of limbs; `row` is a likely inner width. `None` if the products
/// alone cost more than `limit`.
pub(crate) fn best_split(
    sets: &StepSets,
    cost: &CostModel,
    limbs: usize,
    row: usize,
    limit: f64,
) -> Option<SplitCost> {
    if sets.diagonals() as f64 * cost.weighted(limbs) > limit {
        return None;
    }
    let mut counter = Counter::new(sets);
    let split = Split {
        width: 1,
        centred: false,
        inner: None,
    };
    let mut best = counter.price(sets, split, cost, limbs);
    let mut width = 1;
    while width <= sets.modulus {
        for centred in [false, true] {
            let plain = Split {
                width,
                centred,
                inner: None,
            };
            let candidate = counter.price(sets, plain, cost, limbs);
            best = cheaper(best, candidate);
            if candidate.babies < MANY_BABIES || candidate.micros > 2.0 * best.micros {
                continue;
            }
            let powers = (2..10).map(|bits| 1 << bits);
            for inner in powers
                .chain([row])
                .filter(|&inner| inner > 1 && inner < width)
            {
                let deeper = Split {
                    inner: Some(inner),
                    ..plain
                };
                best = cheaper(best, counter.price(sets, deeper, cost, limbs));
            }
        }
        width *= 2;
    }
    Some(best)
}

fn cheaper(best: SplitCost, candidate: SplitCost) -> SplitCost {
    if candidate.micros < best.micros {
        candidate
    } else {
        best
    }
}

/// Counts distinct rotations; a mark equal to the current round means seen.
struct Counter {
    round: u32,
    inputs: usize,
    /// By input and rotation.
    babies: Vec<u32>,
    middles: Vec<u32>,
    giants: Vec<u32>,
    keys: Vec<u32>,
}

/// Numbers of distinct rotations.
#[derive(Default)]
struct Counts {
    babies: usize,
    middles: usize,
    giants: usize,
    keys: usize,
    /// Ciphertexts of which babies are taken.
    decomposed: usize,
}

impl Counter {
    fn new(sets: &StepSets) -> Counter {
        let inputs = sets.groups.iter().map(|g| g.input + 1).max().unwrap_or(0);
        Counter {
            round: 0,
            inputs,
            babies: vec![0; inputs * sets.modulus],
            middles: vec![0; inputs * sets.modulus],
            giants: vec![0; sets.outputs * sets.modulus],
            keys: vec![0; sets.modulus],
        }
    }

    fn count(&mut self, sets: &StepSets, split: Split) -> Counts {
        self.round += 1;
        let round = self.round;
        let first = |mark: &mut u32| std::mem::replace(mark, round) != round;
        let mut counts = Counts::default();
        for group in &sets.groups {
            let input = group.input * sets.modulus;
            let output = group.output as usize * sets.modulus;
            for &step in &group.steps {
                let Rotations {
                    giant,
                    middle,
                    baby,
                } = split.apply(step, sets.modulus);
                let [giant, middle, baby] = [giant, middle, baby].map(|r| r as usize);
                // Middle and baby together are one rotated copy of the input.
                if first(&mut self.babies[input + (middle + baby) % sets.modulus]) {
                    counts.babies += usize::from(baby != 0);
                }
                if first(&mut self.middles[input + middle]) {
                    counts.middles += usize::from(middle != 0);
                    counts.decomposed += 1;
                }
                if giant != 0 && first(&mut self.giants[output + giant]) {
                    counts.giants += 1;
                }
                for rotation in [giant, middle, baby] {
                    let new = rotation != 0 && first(&mut self.keys[rotation]);
                    counts.keys += usize::from(new);
                }
            }
        }
        counts
    }

    fn price(
        &mut self,
        sets: &StepSets,
        split: Split,
        cost: &CostModel,
        limbs: usize,
    ) -> SplitCost {
        let Counts {
            babies,
            middles,
            giants,
            keys,
            decomposed,
        } = self.count(sets, split);
        let decomposed = if babies == 0 { 0 } else { decomposed };
        let first_rotations = match middles {
            0 => 0.0,
            _ => {
                self.inputs as f64 * cost.decompose(limbs)
                    + middles as f64 * (cost.baby(limbs) + cost.mod_down(limbs))
            }
        };
        let micros = first_rotations
            + decomposed as f64 * cost.decompose(limbs)
            + babies as f64 * cost.operand_rotation(limbs)
            + giants as f64 * cost.sum_rotation(limbs)
            + sets.outputs as f64 * cost.closing(limbs)
            + sets.diagonals() as f64 * cost.weighted(limbs)
            + keys as f64 * cost.key_penalty(limbs);
        SplitCost {
            split,
            babies,
            giants,
            keys,
            micros,
        }
    }
}
