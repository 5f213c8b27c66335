//! Pass: the graph is well formed, its weights are finite and the calibration data fits.

use scuro_nn::graph::Graph;
use scuro_nn::tensor::Tensor;
use scuro_program::{Packing, Weights};

use crate::error::CompileError;
use crate::normalise::{Network, Stage, StageKind};
use crate::options::{Arithmetic, IMAGES_PER_QUERY_MAX, Options};

/// Examples made up when no calibration data is given.
const SYNTHETIC_EXAMPLES: u64 = 16;

/// Checks the graph and its weights.
///
/// # Errors
/// Shapes that do not fit, or weights that are not finite.
pub(crate) fn graph(graph: &Graph) -> Result<(), CompileError> {
    for node in &graph.nodes {
        for (tensor, values) in node.op.parameters() {
            if let Some(index) = values.first_non_finite() {
                let layer = node.name.clone();
                return Err(CompileError::NotFinite {
                    layer,
                    tensor,
                    index,
                });
            }
        }
    }
    graph.validate()?;
    Ok(())
}

/// The number of images of a query.
///
/// # Errors
/// One that is no power of two or above the limit, or any choice with batch packing.
pub(crate) fn images_per_query(options: &Options) -> Result<(), CompileError> {
    let (found, limit) = (options.images_per_query, IMAGES_PER_QUERY_MAX);
    if !found.is_power_of_two() || found > limit {
        return Err(CompileError::ImagesPerQuery { found, limit });
    }
    if options.packing == Packing::Batch && found > 1 {
        let what = "a number of images per query";
        return Err(CompileError::SingleImageOnly { what });
    }
    Ok(())
}

/// The calibration data (made up from the input range where there is none) and the range of the
/// inputs.
///
/// # Errors
/// Examples of another shape, or a range that is empty or not finite.
pub(crate) fn calibration(
    graph: &Graph,
    options: &Options,
    given: &[Tensor],
) -> Result<(Vec<Tensor>, (f32, f32)), CompileError> {
    let expected = graph.input_shape();
    for (index, example) in given.iter().enumerate() {
        if example.shape != expected {
            let (found, expected) = (example.shape.clone(), expected.to_vec());
            return Err(CompileError::CalibrationShape {
                index,
                found,
                expected,
            });
        }
    }
    let values = || {
        given
            .iter()
            .flat_map(|example| example.data.iter().copied())
    };
    let found = match (options.input_range, given.is_empty()) {
        (Some(range), _) => range,
        (None, true) => (0.0, 1.0),
        (None, false) => (
            values().fold(f32::INFINITY, f32::min),
            values().fold(f32::NEG_INFINITY, f32::max),
        ),
    };
    let (minimum, maximum) = found;
    let ordered = minimum.is_finite() && maximum.is_finite() && minimum <= maximum;
    let inside = values().all(|v| v.is_finite() && v >= minimum && v <= maximum);
    if !ordered || !inside {
        return Err(CompileError::InputRange { minimum, maximum });
    }
    let examples = if given.is_empty() {
        synthetic(expected, found)
    } else {
        given.to_vec()
    };
    Ok((examples, found))
}

/// Fixed pseudo-random examples inside the range.
fn synthetic(shape: &[usize], (minimum, maximum): (f32, f32)) -> Vec<Tensor> {
    let elements: usize = shape.iter().product();
    let value = |example: u64, element: u64| {
        let mut state = (example << 32 | element).wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let unit = ((state ^ (state >> 31)) >> 40) as f32 / (1u64 << 24) as f32;
        minimum + unit * (maximum - minimum)
    };
    let example = |i| Tensor {
        shape: shape.to_vec(),
        data: (0..elements as u64).map(|e| value(i, e)).collect(),
    };
    (0..SYNTHETIC_EXAMPLES).map(example).collect()
}

/// Weights are encrypted under schemes whose products of ciphertexts are cheap.
pub(crate) fn weights(options: &Options) -> Result<(), CompileError> {
    match (options.weights, options.arithmetic) {
        (Weights::Plain, _) | (_, Arithmetic::Approximate | Arithmetic::Exact) => Ok(()),
        (_, Arithmetic::ScaleInvariant) => Err(CompileError::EncryptedWeights),
    }
}

/// No stage adds values of different depth: exact messages are multiplied by a factor at every
/// division, and factors must agree.
pub(crate) fn exact(network: &Network) -> Result<(), CompileError> {
    let adds = |stage: &&Stage| match &stage.kind {
        StageKind::Affine(map) => map.terms.len() > 1,
        StageKind::Combine { .. } => true,
        StageKind::Square(_) | StageKind::Product(..) => false,
    };
    match network.stages.iter().find(adds) {
        Some(stage) => Err(CompileError::ExactSum {
            layer: stage.layer.clone(),
        }),
        None => Ok(()),
    }
}
