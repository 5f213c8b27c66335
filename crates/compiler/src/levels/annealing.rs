//! Simulated annealing of a plan that descent found.
//!
//! Once the modulus is spent, a prime grows only as another shrinks, and scales of weights have to
//! follow both: moves of four or five coordinates at once, more than descent can try one by one.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::descent::State;
use super::{Chain, LevelPlan};

/// Sizes of moves, in bits.
const MOVES: [f64; 4] = [-2.0, -1.0, 1.0, 2.0];
/// Coordinates moved at once.
const FEWEST: usize = 2;
const MOST: usize = 5;
/// Temperature at the start, in bits of error; it falls to nothing.
const HEAT: f64 = 0.02;
/// A seed like any other: the same network has the same plan every time.
const SEED: u64 = 1;

/// The best plan among `rounds` random moves within `modulus` bits: `plan` if there is no better.
pub(super) fn run(chain: &Chain<'_>, plan: &LevelPlan, modulus: u32, rounds: u32) -> LevelPlan {
    let mut state = State::new(chain, plan.clone(), modulus);
    let mut random = Random(ChaCha8Rng::seed_from_u64(SEED));
    let mut at = state.objective();
    let (mut best, mut found) = (at, plan.clone());
    let mut moves = Vec::with_capacity(MOST);
    for round in 0..rounds {
        random.moves(state.size(), &mut moves);
        state.shift(&moves);
        let value = match state.allowed() {
            true => state.objective(),
            false => f64::INFINITY,
        };
        let heat = HEAT * (1.0 - f64::from(round) / f64::from(rounds));
        if value < at || random.unit() < ((at - value) / heat).exp() {
            at = value;
        } else {
            state.unshift(&moves);
        }
        if at < best {
            (best, found) = (at, state.plan().clone());
        }
    }
    match State::new(chain, found, modulus).finish() {
        Some(better) if better.error < plan.error => better,
        _ => plan.clone(),
    }
}

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // The bias of the remainder is of no consequence here.
        self.0.next_u32() as usize % bound
    }

    fn unit(&mut self) -> f64 {
        f64::from(self.0.next_u32()) / f64::from(u32::MAX)
    }

    /// Changes of a few of `size` coordinates.
    fn moves(&mut self, size: usize, moves: &mut Vec<(usize, f64)>) {
        moves.clear();
        let count = FEWEST + self.below(MOST - FEWEST + 1);
        moves.extend((0..count).map(|_| (self.below(size), MOVES[self.below(MOVES.len())])));
    }
}

#[cfg(test)]
mod tests {
    use scuro_program::{Estimate, Operation, Ring, SecurityTable, Step, ValueId, Weights};

    use super::super::{Bounds, descent};
    use super::*;
    use crate::lower::Gain;
    use crate::noise::NoiseModel;
    use crate::options::Arithmetic;
    use crate::primes::Primes;
    use crate::ranges::Range;
    use crate::sensitivity::Edge;

    const LOG_QP: u32 = 214;
    const SPECIAL: (u32, usize) = (38, 1);
    const LIMBS: usize = 5;

    /// Four squares of weighted values.
    fn steps() -> Vec<Step> {
        let operations = (0..4).flat_map(|layer| {
            let combine = Operation::Combine {
                weight_scale_log2: 0.0,
                factors: vec![0.5 + f64::from(layer)],
            };
            [combine, Operation::Square, Operation::Relinearize]
        });
        let step = |(index, operation)| Step {
            layer: String::new(),
            inputs: vec![ValueId(index as u32)],
            operation,
            estimate: Estimate::default(),
        };
        operations.enumerate().map(step).collect()
    }

    #[test]
    fn more_than_descent_finds_and_within_the_modulus() {
        let steps = steps();
        let usual = Range {
            max_abs: 4.0,
            live_square: 1.0,
        };
        let values = steps.len() + 1;
        let moved = |step: &Step| match &step.operation {
            Operation::Combine { factors, .. } => factors[0].powi(2),
            Operation::Square => 4.0,
            _ => 1.0,
        };
        let edge = |step| Edge {
            moved: moved(step),
            ..Edge::default()
        };
        let edges: Vec<Vec<Edge>> = steps.iter().map(|step| vec![edge(step)]).collect();
        let (gains, ranges) = (vec![Gain::default(); steps.len()], vec![usual; values]);
        let bounds = Bounds {
            ring: Ring::ConjugateInvariant,
            weights: Weights::Plain,
            arithmetic: Arithmetic::Approximate,
            flooding: None,
            log_n: 13,
            log_qp: LOG_QP,
            security_bits: 128,
            table: SecurityTable::Guideline2024,
            tolerance: 1.0,
            degree: None,
        };
        let chain = Chain {
            steps: &steps,
            gains: &gains,
            ranges: &ranges,
            magnitudes: vec![2.0; values],
            weight_magnitudes: vec![vec![1.0]; steps.len()],
            weighted: (0..steps.len()).map(|step| step % 3 == 0).collect(),
            counts: vec![None; steps.len()],
            exposures: &[],
            edges: &edges,
            worst: None,
            result: steps.len(),
            noise: NoiseModel::new(bounds.ring, bounds.log_n),
            primes: Primes::new(bounds.ring, bounds.log_n),
            common: None,
            bounds,
        };
        let modulus = LOG_QP - SPECIAL.0;
        let drops = [0, 0, 1].repeat(4);
        let descended = descent::run(&chain, &drops, LIMBS, SPECIAL, modulus, None).unwrap();
        let annealed = run(&chain, &descended, modulus, 50_000);
        assert!(annealed.error < 0.95 * descended.error);
        assert!(annealed.primes.iter().sum::<f64>() <= f64::from(modulus));
        let again = run(&chain, &descended, modulus, 50_000);
        assert_eq!(annealed.primes, again.primes);
        assert_eq!(annealed.weight_scales, again.weight_scales);
        // Nothing is lost by moving on.
        assert!(run(&chain, &annealed, modulus, 10).error <= annealed.error);
    }
}
