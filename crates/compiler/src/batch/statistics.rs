//! Sizes of values and matrices.

use scuro_nn::tensor::Tensor;

use crate::normalise::{Network, StageKind};
use crate::ranges;
use crate::sparse::Sparse;
use crate::spread;

/// Calibration examples that are looked at.
const MAX_EXAMPLES: usize = 512;

/// Sizes of the values of one variable over elements and examples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    /// Largest magnitude, margin included.
    pub(super) max_abs: f64,
    /// Root mean square.
    pub(super) rms: f64,
}

/// Sizes of the entries of one matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct MatrixStatistics {
    pub(super) max_abs: f64,
    /// Root mean square over the rows of their Euclidean norms.
    pub(super) norm: f64,
    /// Root mean square over the rows of the norms of their columns' values: what rounded weights
    /// are amplified by.
    pub(super) entries_per_row: f64,
    pub(super) nonzeros: usize,
}

/// What the schedule needs to know of a network.
#[derive(Debug, Clone)]
pub(super) struct Statistics {
    /// Per variable.
    pub(super) spreads: Vec<Spread>,
    /// Per stage and term; empty unless affine.
    pub(super) matrices: Vec<Vec<MatrixStatistics>>,
    /// Per variable: whether a product takes it.
    pub(super) multiplied: Vec<bool>,
    /// How much the outputs of one example differ from one another.
    pub(super) output_deviation: f64,
    /// Outputs of the examples.
    pub(super) outputs: Vec<Vec<f64>>,
}

impl Statistics {
    /// Runs the network in clear on the examples; those with the largest values of all say what
    /// has to fit, and nothing of how large values usually are.
    pub(super) fn measure(
        network: &Network,
        examples: &[Tensor],
        extremes: &[Tensor],
        margin: f64,
    ) -> Statistics {
        let (usual, outputs) = sums(network, examples);
        let (extreme, _) = sums(network, extremes);
        let spreads = usual.iter().zip(&extreme);
        let spreads = spreads.map(|(usual, extreme)| usual.spread(extreme, margin));
        let mut multiplied = vec![false; usual.len()];
        for stage in &network.stages {
            match stage.kind {
                StageKind::Square(of) => multiplied[of] = true,
                StageKind::Product(a, b) => [a, b].into_iter().for_each(|v| multiplied[v] = true),
                _ => {}
            }
        }
        let matrices = network.stages.iter().map(|stage| match &stage.kind {
            StageKind::Affine(map) => map.terms.iter().map(|(_, m)| measure_matrix(m)).collect(),
            _ => Vec::new(),
        });
        Statistics {
            matrices: matrices.collect(),
            spreads: spreads.collect(),
            multiplied,
            output_deviation: spread::deviation(outputs.iter().cloned()),
            outputs,
        }
    }
}

/// What every variable sums up to, and the outputs of the examples.
fn sums(network: &Network, examples: &[Tensor]) -> (Vec<Sum>, Vec<Vec<f64>>) {
    let mut sums = vec![Sum::default(); network.stages.len() + 1];
    let mut outputs = Vec::new();
    for example in examples.iter().take(MAX_EXAMPLES) {
        let values = network.evaluate(&example.data, network.stages.len());
        outputs.push(values[network.output].clone());
        let pairs = sums.iter_mut().zip(&values);
        pairs.for_each(|(sum, values)| sum.add(values));
    }
    (sums, outputs)
}

fn measure_matrix(matrix: &Sparse) -> MatrixStatistics {
    let rows = matrix.rows().max(1) as f64;
    let squares: f64 = matrix.weight.iter().map(|&w| f64::from(w).powi(2)).sum();
    let largest = matrix.weight.iter().fold(0f32, |max, w| max.max(w.abs()));
    MatrixStatistics {
        max_abs: f64::from(largest),
        norm: (squares / rows).sqrt(),
        entries_per_row: matrix.nonzeros() as f64 / rows,
        nonzeros: matrix.nonzeros(),
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: f64,
    squares: f64,
    max_abs: f64,
}

impl Sum {
    fn add(&mut self, values: &[f64]) {
        for &value in values {
            self.count += 1.0;
            self.squares += value * value;
            self.max_abs = self.max_abs.max(value.abs());
        }
    }

    fn spread(&self, extreme: &Sum, margin: f64) -> Spread {
        let rms = (self.squares / self.count.max(1.0)).sqrt();
        // A variable that is zero on all examples still gets room.
        Spread {
            max_abs: ranges::with_margin(margin, self.max_abs, extreme.max_abs).max(1e-9),
            rms: rms.max(1e-9),
        }
    }
}
