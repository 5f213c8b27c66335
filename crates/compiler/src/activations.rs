//! Pass: replaces unfriendly operators by polynomials and averages, on demand.
//!
//! Activations are fitted by least squares in the Chebyshev basis over the calibrated range; max
//! pools become average pools. The result is another network: its accuracy must be looked at before
//! it is used. The fits themselves are those of [`scuro_nn::activation`].

use scuro_nn::activation::{self, Calibration, Plan, Which};
use scuro_nn::graph::Graph;
use scuro_nn::tensor::Tensor;

use crate::error::CompileError;

/// How unfriendly operators are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replacement {
    /// Degree of the polynomials that stand for activations.
    pub degree: usize,
}

/// The graph with every unfriendly operator replaced.
///
/// # Errors
/// Those of [`activation::replace`].
pub fn replace(
    graph: &Graph,
    how: Replacement,
    calibration: &[Tensor],
) -> Result<Graph, CompileError> {
    let degree = how.degree;
    let plan = Plan {
        activation: Some(activation::Replacement::Chebyshev { degree }),
        which: Which::All,
        average_pools: true,
    };
    let calibration = Calibration::Successive(calibration);
    match activation::replace(graph, plan, calibration) {
        // Pools may be all that there is.
        Err(scuro_nn::Error::NothingToReplace { .. }) => {
            let activation = None;
            Ok(activation::replace(
                graph,
                Plan { activation, ..plan },
                calibration,
            )?)
        }
        replaced => Ok(replaced?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scuro_nn::graph::{GraphBuilder, Op, Window};

    #[test]
    fn a_network_of_pools_alone_is_replaced_too() {
        let mut net = GraphBuilder::new("pools", [1, 4, 4]);
        let window = Window::valid([2, 2], [2, 2]);
        net.then(Op::MaxPool { window }).then(Op::GlobalMaxPool);
        let graph = replace(&net.finish().unwrap(), Replacement { degree: 3 }, &[]).unwrap();
        let names: Vec<_> = graph.nodes.iter().map(|node| node.op.name()).collect();
        assert_eq!(names, ["Input", "AvgPool", "GlobalAvgPool"]);
    }
}
