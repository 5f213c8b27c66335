//! Weights in a safetensors file, the network in a JSON file beside it.
//!
//! The JSON format: `docs/reference/architecture-file.md`.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::lowering::Lowering;
use crate::error::{Error, Result, TensorFault};
use crate::graph::{Graph, NodeId, Op, Padding, Window};
use crate::tensor::Tensor;

/// Most layers of an architecture file.
const LAYERS_MAX: usize = 4096;

/// An architecture file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Architecture {
    #[serde(default)]
    name: String,
    input: Vec<usize>,
    layers: Vec<Entry>,
}

/// A layer, its name and what it reads (the layer before it if not said).
#[derive(Debug, Clone, Deserialize)]
struct Entry {
    name: Option<String>,
    inputs: Option<Vec<String>>,
    #[serde(flatten)]
    layer: Layer,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Layer {
    Conv2d(Convolution),
    Dense {
        weight: String,
        bias: Option<String>,
    },
    BatchNorm(Normalisation),
    AvgPool {
        kernel: Pair,
        stride: Option<Pair>,
        #[serde(default)]
        padding: Sides,
        #[serde(default)]
        count_padding: bool,
    },
    MaxPool {
        kernel: Pair,
        stride: Option<Pair>,
        #[serde(default)]
        padding: Sides,
    },
    GlobalAvgPool {},
    GlobalMaxPool {},
    Flatten {},
    Reshape {
        shape: Vec<usize>,
    },
    Transpose {
        permutation: Vec<usize>,
    },
    Add {},
    Sub {},
    Mul {},
    Concat {
        #[serde(default)]
        axis: usize,
    },
    Relu {},
    Sigmoid {},
    Tanh {},
    Square {},
    Polynomial {
        coefficients: Vec<f32>,
    },
    Softmax {
        #[serde(default)]
        axis: usize,
    },
    LogSoftmax {
        #[serde(default)]
        axis: usize,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Convolution {
    weight: String,
    bias: Option<String>,
    #[serde(default)]
    stride: Pair,
    #[serde(default)]
    padding: Sides,
    #[serde(default)]
    dilation: Pair,
    #[serde(default = "one")]
    groups: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Normalisation {
    weight: String,
    bias: String,
    mean: String,
    variance: String,
    #[serde(default = "usual_epsilon")]
    epsilon: f32,
}

/// One number for both axes, or `[height, width]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Pair {
    Both(usize),
    Each([usize; 2]),
}

/// One number for all sides, `[height, width]`, or `[top, left, bottom, right]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Sides {
    All(usize),
    Axes([usize; 2]),
    Each([usize; 4]),
}

impl Default for Pair {
    fn default() -> Self {
        Pair::Both(1)
    }
}

impl Default for Sides {
    fn default() -> Self {
        Sides::All(0)
    }
}

impl From<Pair> for [usize; 2] {
    fn from(pair: Pair) -> Self {
        match pair {
            Pair::Both(both) => [both, both],
            Pair::Each(each) => each,
        }
    }
}

impl From<Sides> for Padding {
    fn from(sides: Sides) -> Self {
        let [top, left, bottom, right] = match sides {
            Sides::All(all) => [all; 4],
            Sides::Axes([h, w]) => [h, w, h, w],
            Sides::Each(each) => each,
        };
        Padding {
            top,
            left,
            bottom,
            right,
        }
    }
}

fn one() -> usize {
    1
}

fn usual_epsilon() -> f32 {
    1e-5
}

/// Reads a safetensors file with the architecture that goes with it.
///
/// # Errors
/// [`Error::Safetensors`], [`Error::Json`], or a fault naming layer or tensor.
pub fn from_bytes(weights: &[u8], architecture: &[u8]) -> Result<Graph> {
    let json = |source| Error::Json {
        what: "the architecture file",
        source,
    };
    let architecture: Architecture = serde_json::from_slice(architecture).map_err(json)?;
    if architecture.layers.len() > LAYERS_MAX {
        return Err(Error::TooManyNodes {
            found: architecture.layers.len(),
            limit: LAYERS_MAX,
        });
    }
    let weights = SafeTensors::deserialize(weights)?;
    let mut lowering = Lowering::new(&architecture.name);
    let mut last = lowering.push(
        "input",
        Op::Input {
            shape: architecture.input,
        },
        &[],
    )?;
    let mut named = HashMap::from([("input".to_owned(), last)]);
    for entry in architecture.layers {
        let name = entry.name.clone().unwrap_or_default();
        let inputs = operands(&entry, &named, last)?;
        let op = operator(entry.layer, &weights)?;
        let op = if op == Op::Mul && inputs.len() == 2 && inputs[0] == inputs[1] {
            Op::Square
        } else {
            op
        };
        let inputs = if op == Op::Square {
            &inputs[..1]
        } else {
            &inputs[..]
        };
        last = lowering.push(&name, op, inputs)?;
        if !name.is_empty() && named.insert(name.clone(), last).is_some() {
            return Err(Error::DefinedTwice { name });
        }
    }
    lowering.finish(last)
}

fn operands(entry: &Entry, named: &HashMap<String, NodeId>, last: NodeId) -> Result<Vec<NodeId>> {
    let Some(names) = &entry.inputs else {
        return Ok(vec![last]);
    };
    let find = |name: &String| {
        named
            .get(name)
            .copied()
            .ok_or_else(|| Error::UndefinedName {
                node: entry
                    .name
                    .clone()
                    .unwrap_or_else(|| "an unnamed layer".into()),
                name: name.clone(),
            })
    };
    names.iter().map(find).collect()
}

fn operator(layer: Layer, weights: &SafeTensors<'_>) -> Result<Op> {
    Ok(match layer {
        Layer::Conv2d(settings) => convolution(&settings, weights)?,
        Layer::Dense { weight, bias } => Op::Dense {
            weight: tensor(weights, &weight)?,
            bias: optional(weights, bias.as_ref())?,
        },
        Layer::BatchNorm(settings) => normalisation(&settings, weights)?,
        Layer::AvgPool {
            kernel,
            stride,
            padding,
            count_padding,
        } => Op::AvgPool {
            window: window(kernel, stride.unwrap_or(kernel), padding),
            count_padding,
        },
        Layer::MaxPool {
            kernel,
            stride,
            padding,
        } => Op::MaxPool {
            window: window(kernel, stride.unwrap_or(kernel), padding),
        },
        Layer::GlobalAvgPool {} => Op::GlobalAvgPool,
        Layer::GlobalMaxPool {} => Op::GlobalMaxPool,
        Layer::Flatten {} => Op::Flatten,
        Layer::Reshape { shape } => Op::Reshape { shape },
        Layer::Transpose { permutation } => Op::Transpose { permutation },
        Layer::Add {} => Op::Add,
        Layer::Sub {} => Op::Sub,
        Layer::Mul {} => Op::Mul,
        Layer::Concat { axis } => Op::Concat { axis },
        Layer::Relu {} => Op::Relu,
        Layer::Sigmoid {} => Op::Sigmoid,
        Layer::Tanh {} => Op::Tanh,
        Layer::Square {} => Op::Square,
        Layer::Polynomial { coefficients } => Op::Polynomial { coefficients },
        Layer::Softmax { axis } => Op::Softmax { axis },
        Layer::LogSoftmax { axis } => Op::LogSoftmax { axis },
    })
}

fn window(kernel: Pair, stride: Pair, padding: Sides) -> Window {
    Window {
        kernel: kernel.into(),
        stride: stride.into(),
        padding: padding.into(),
    }
}

fn convolution(settings: &Convolution, weights: &SafeTensors<'_>) -> Result<Op> {
    let weight = tensor(weights, &settings.weight)?;
    let &[_, _, h, w] = weight.shape.as_slice() else {
        let fault = TensorFault::Rank {
            expected: 4,
            found: weight.shape,
        };
        return Err(Error::StoredTensor {
            tensor: settings.weight.clone(),
            fault,
        });
    };
    Ok(Op::Conv2d {
        weight,
        bias: optional(weights, settings.bias.as_ref())?,
        window: window(Pair::Each([h, w]), settings.stride, settings.padding),
        dilation: settings.dilation.into(),
        groups: settings.groups,
    })
}

fn normalisation(settings: &Normalisation, weights: &SafeTensors<'_>) -> Result<Op> {
    Ok(Op::BatchNorm {
        scale: tensor(weights, &settings.weight)?,
        shift: tensor(weights, &settings.bias)?,
        mean: tensor(weights, &settings.mean)?,
        variance: tensor(weights, &settings.variance)?,
        epsilon: settings.epsilon,
    })
}

fn optional(weights: &SafeTensors<'_>, name: Option<&String>) -> Result<Option<Tensor>> {
    name.map(|name| tensor(weights, name)).transpose()
}

fn tensor(weights: &SafeTensors<'_>, name: &str) -> Result<Tensor> {
    let fault = |fault| Error::StoredTensor {
        tensor: name.to_owned(),
        fault,
    };
    let view = weights
        .tensor(name)
        .map_err(|_| fault(TensorFault::Absent))?;
    let bytes = view.data();
    let data: Vec<f32> = match view.dtype() {
        Dtype::F32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect(),
        Dtype::F64 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| f64::from_le_bytes(b) as f32)
            .collect(),
        Dtype::BF16 => {
            let widened = |&b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
            bytes.as_chunks().0.iter().map(widened).collect()
        }
        other => {
            return Err(fault(TensorFault::ElementType {
                found: format!("{other:?}"),
            }));
        }
    };
    let tensor = Tensor::new(view.shape(), data)?;
    match tensor.first_non_finite() {
        Some(position) => Err(fault(TensorFault::NonFinite { position })),
        None => Ok(tensor),
    }
}
