//! What `scuro inspect` prints about a network.

use super::{Graph, Op};
use crate::error::Result;

/// One node in words and numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryRow {
    /// Name of the node.
    pub name: String,
    /// Operator with its window or size.
    pub op: String,
    /// Shape of the value, per example.
    pub shape: Vec<usize>,
    /// Number of stored weights.
    pub parameters: usize,
    /// Multiply-accumulate operations per example.
    pub macs: u64,
}

/// Sums over a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Number of stored weights.
    pub parameters: usize,
    /// Multiply-accumulate operations per example.
    pub macs: u64,
}

impl Graph {
    /// One row a node, in order.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn summary(&self) -> Result<Vec<SummaryRow>> {
        let shapes = self.shapes()?;
        let rows = self
            .nodes
            .iter()
            .zip(&shapes)
            .map(|(node, shape)| SummaryRow {
                name: node.name.clone(),
                op: node.op.to_string(),
                shape: shape.clone(),
                parameters: node
                    .op
                    .parameters()
                    .iter()
                    .map(|(_, tensor)| tensor.len())
                    .sum(),
                macs: macs(&node.op, shape),
            });
        Ok(rows.collect())
    }

    /// Weights and multiply-accumulates of the whole network.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn totals(&self) -> Result<Totals> {
        let rows = self.summary()?;
        Ok(rows.iter().fold(Totals::default(), |sum, row| Totals {
            parameters: sum.parameters + row.parameters,
            macs: sum.macs + row.macs,
        }))
    }
}

fn macs(op: &Op, shape: &[usize]) -> u64 {
    match op {
        Op::Conv2d { weight, .. } => {
            weight.len() as u64 * shape[1..].iter().product::<usize>() as u64
        }
        Op::Dense { weight, .. } => weight.len() as u64,
        _ => 0,
    }
}
