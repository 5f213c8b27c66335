//! Keras activations, and arithmetic on layers' answers.

use serde_json::Value;

use super::config::Layer;
use super::layers::ACTIVATIONS;
use super::{Fed, Importer};
use crate::error::Result;
use crate::graph::{NodeId, Op};
use crate::import::compose::scalar;
use crate::tensor::Tensor;

/// Slope of `leaky_relu` given by name, in Keras 3.
const LEAKY_SLOPE: f32 = 0.2;
/// Highest power of a value.
const POWER_MAX: f32 = 16.0;

impl Importer<'_> {
    /// The activation that a layer carries itself.
    pub(super) fn with_activation(&mut self, layer: &Layer<'_>, id: NodeId) -> Result<NodeId> {
        self.activate(layer, &format!("{}_activation", layer.name), id)
    }

    pub(super) fn activate(
        &mut self,
        layer: &Layer<'_>,
        name: &str,
        input: NodeId,
    ) -> Result<NodeId> {
        let value = layer.value("activation");
        // A function that is not one of Keras' own names is written as an object.
        let written = value.as_str().or(value["config"].as_str());
        let axis = self.channel_axis(input);
        let op = match written {
            None if value.is_null() => return Ok(input),
            Some("linear") => return Ok(input),
            Some("relu") => Op::Relu,
            Some("relu6") => return self.lowering.clamped(name, input, Some(0.0), Some(6.0)),
            Some("leaky_relu") => return self.lowering.leaky(name, input, &scalar(LEAKY_SLOPE)),
            Some("silu" | "swish") => {
                let gate = self
                    .lowering
                    .push(&format!("{name}_gate"), Op::Sigmoid, &[input])?;
                return self.lowering.push(name, Op::Mul, &[input, gate]);
            }
            Some("hard_silu" | "hard_swish") => {
                let gate = format!("{name}_gate");
                let gate = self.lowering.hard_sigmoid(&gate, input, 1.0 / 6.0, 0.5)?;
                return self.lowering.push(name, Op::Mul, &[input, gate]);
            }
            Some("sigmoid") => Op::Sigmoid,
            Some("tanh") => Op::Tanh,
            Some("square") => Op::Square,
            Some("softmax") => Op::Softmax { axis },
            Some("log_softmax") => Op::LogSoftmax { axis },
            _ => return Err(layer.setting("activation", value, ACTIVATIONS)),
        };
        self.lowering.push(name, op, &[input])
    }

    /// Keras' last axis: that of the channels, which come first in images here.
    fn channel_axis(&self, input: NodeId) -> usize {
        match self.lowering.shape(input).len() {
            3 => 0,
            rank => rank - 1,
        }
    }

    /// `ReLU` with its slope and bound, and `LeakyReLU`.
    pub(super) fn relu(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        if layer.number("threshold").is_some_and(|value| value != 0.0) {
            let found = layer.value("threshold");
            return Err(layer.setting("threshold", found, "use a threshold of 0"));
        }
        let usual = if layer.class == "LeakyReLU" { 0.3 } else { 0.0 };
        let written = layer.number("negative_slope").or(layer.number("alpha"));
        let slope = written.unwrap_or(usual) as f32;
        let high = match layer.value("max_value") {
            Value::Null => None,
            value => Some(
                layer
                    .number("max_value")
                    .ok_or_else(|| layer.setting("max_value", value, "give one number"))?
                    as f32,
            ),
        };
        if slope == 0.0 {
            return match high {
                None => self.lowering.push(layer.name, Op::Relu, &[input]),
                high => self.lowering.clamped(layer.name, input, Some(0.0), high),
            };
        }
        let id = self.lowering.leaky(layer.name, input, &scalar(slope))?;
        match high {
            None => Ok(id),
            high => self.lowering.clamped(layer.name, id, None, high),
        }
    }

    /// `PReLU`: slopes as trained, one for each value or shared along some axes.
    pub(super) fn sloped(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let rank = self.lowering.shape(input).len();
        let slopes: Tensor = match rank {
            1 => {
                let [slopes] = self.variables(layer, [1])?;
                slopes
            }
            3 => {
                let [slopes] = self.variables(layer, [3])?;
                slopes.transposed(&[2, 0, 1])?
            }
            _ => return Err(layer.unsupported("use LeakyReLU")),
        };
        self.lowering.leaky(layer.name, input, &slopes)
    }

    pub(super) fn softmax(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        self.last_axis(layer, input)?;
        let axis = self.channel_axis(input);
        self.lowering
            .push(layer.name, Op::Softmax { axis }, &[input])
    }

    /// `Maximum` or `Minimum` of several answers.
    pub(super) fn extreme(&mut self, layer: &Layer<'_>, inputs: &[NodeId]) -> Result<NodeId> {
        let mut best = inputs[0];
        for &next in &inputs[1..] {
            best = match layer.class {
                "Maximum" => self.lowering.larger(layer.name, best, next)?,
                _ => self.lowering.smaller(layer.name, best, next)?,
            };
        }
        Ok(best)
    }

    /// An operator between an answer and a number, as `x * 0.5` gives in a functional model.
    pub(super) fn arithmetic(&mut self, layer: &Layer<'_>, operands: &[Fed]) -> Result<NodeId> {
        let (value, number, first) = match operands {
            [Fed::Value(value), Fed::Number(number)] => (*value, *number, true),
            [Fed::Number(number), Fed::Value(value)] => (*value, *number, false),
            _ => return Err(layer.unsupported("use one answer and one number")),
        };
        let name = layer.name;
        let lowering = &mut self.lowering;
        match (layer.class, first) {
            _ if !number.is_finite() => Err(layer.setting("args", number, "use finite numbers")),
            ("Add", _) => lowering.shifted(name, value, number),
            ("Subtract", true) => lowering.shifted(name, value, -number),
            ("Subtract", false) => {
                let turned = lowering.scaled(name, value, -1.0)?;
                lowering.shifted(name, turned, number)
            }
            ("Multiply", _) => lowering.scaled(name, value, number),
            ("Divide" | "TrueDivide", true) if number != 0.0 => {
                lowering.scaled(name, value, 1.0 / number)
            }
            ("Maximum", _) => lowering.clamped(name, value, Some(number), None),
            ("Minimum", _) => lowering.clamped(name, value, None, Some(number)),
            ("Power", true) if number.fract() == 0.0 && (1.0..=POWER_MAX).contains(&number) => {
                let mut coefficients = vec![0.0; number as usize + 1];
                coefficients[number as usize] = 1.0;
                lowering.push(name, Op::Polynomial { coefficients }, &[value])
            }
            _ => Err(layer.setting("args", number, "use sums, products and whole powers")),
        }
    }
}
