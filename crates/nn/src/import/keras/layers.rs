//! Keras layers as operators.

use serde_json::{Value, json};

use super::Importer;
use super::config::{Layer, natural};
use crate::error::{Error, Result, TensorFault};
use crate::graph::{NodeId, Op, Padding, Window};
use crate::import::lowering::same_padding;
use crate::tensor::Tensor;

const ACTIVATIONS: &str = "use linear, relu, sigmoid, tanh or softmax";
const CHANNELS_LAST: &str = "save the model with channels last";

impl Importer<'_> {
    pub(super) fn layer(&mut self, layer: &Layer<'_>, inputs: &[NodeId]) -> Result<NodeId> {
        layer.require("data_format", &json!("channels_last"), CHANNELS_LAST)?;
        let Some(&input) = inputs.first() else {
            return Err(layer.missing("an operand"));
        };
        match layer.class {
            "Conv2D" | "Convolution2D" => self.conv(layer, input),
            "DepthwiseConv2D" => self.depthwise(layer, input),
            "Dense" => self.dense(layer, input),
            "MaxPooling2D" | "AveragePooling2D" => self.pool(layer, input),
            "GlobalAveragePooling2D" => self.global(layer, Op::GlobalAvgPool, input),
            "GlobalMaxPooling2D" => self.global(layer, Op::GlobalMaxPool, input),
            "BatchNormalization" => self.batch_norm(layer, input),
            "ZeroPadding2D" => self.zero_padding(layer, input),
            "Flatten" => self.flatten(layer, input),
            "Reshape" => self.reshape(layer, input),
            "Activation" => self.activation(layer, input),
            "ReLU" => self.relu(layer, input),
            "Softmax" => self.softmax(layer, input),
            "Rescaling" => self.rescaling(layer, input),
            "Dropout"
            | "SpatialDropout2D"
            | "GaussianNoise"
            | "GaussianDropout"
            | "ActivityRegularization"
            | "AlphaDropout" => Ok(input),
            "Add" => self.fold(layer, Op::Add, inputs),
            "Subtract" => self.fold(layer, Op::Sub, inputs),
            "Multiply" if inputs.len() == 2 && inputs[0] == inputs[1] => {
                self.lowering.push(layer.name, Op::Square, &[input])
            }
            "Multiply" => self.fold(layer, Op::Mul, inputs),
            "Concatenate" => self.concat(layer, inputs),
            other => Err(layer.unsupported(hint_for(other))),
        }
    }

    /// The layer's variables: as many as named, each with the axes it needs.
    fn variables<const N: usize>(
        &self,
        layer: &Layer<'_>,
        rank: [usize; N],
    ) -> Result<[Tensor; N]> {
        let stored = self.weights.of(layer.name)?;
        let absent = |name: String| Error::StoredTensor {
            tensor: name,
            fault: TensorFault::Absent,
        };
        if stored.len() != N {
            return Err(absent(format!(
                "{}: variable {} of {N}",
                layer.name,
                stored.len().min(N)
            )));
        }
        for ((name, tensor), &expected) in stored.iter().zip(&rank) {
            if tensor.shape.len() != expected {
                let fault = TensorFault::Rank {
                    expected,
                    found: tensor.shape.clone(),
                };
                return Err(Error::StoredTensor {
                    tensor: name.clone(),
                    fault,
                });
            }
        }
        let tensors: Vec<Tensor> = stored.into_iter().map(|(_, tensor)| tensor).collect();
        tensors
            .try_into()
            .map_err(|_| absent(layer.name.to_owned()))
    }

    /// Kernel and, if the layer has one, bias.
    fn kernel(&self, layer: &Layer<'_>, rank: usize) -> Result<(Tensor, Option<Tensor>)> {
        if layer.flag("use_bias", true) {
            let [kernel, bias] = self.variables(layer, [rank, 1])?;
            return Ok((kernel, Some(bias)));
        }
        let [kernel] = self.variables(layer, [rank])?;
        Ok((kernel, None))
    }

    fn conv(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let (kernel, bias) = self.kernel(layer, 4)?;
        // [h, w, in / groups, out] -> [out, in / groups, h, w]
        let weight = kernel.transposed(&[3, 2, 0, 1])?;
        let groups = match layer.value("groups") {
            Value::Null => 1,
            value => natural(value)
                .ok_or_else(|| layer.setting("groups", value, "give a positive number"))?,
        };
        self.convolution(layer, input, weight, bias, groups)
    }

    fn depthwise(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let (kernel, bias) = self.kernel(layer, 4)?;
        // [h, w, in, multiplier] -> [in * multiplier, 1, h, w]
        let turned = kernel.transposed(&[2, 3, 0, 1])?;
        let [channels, multiplier, h, w] = [0, 1, 2, 3].map(|axis| turned.shape[axis]);
        let weight = turned.reshaped([channels * multiplier, 1, h, w])?;
        self.convolution(layer, input, weight, bias, channels)
    }

    fn convolution(
        &mut self,
        layer: &Layer<'_>,
        input: NodeId,
        weight: Tensor,
        bias: Option<Tensor>,
        groups: usize,
    ) -> Result<NodeId> {
        let kernel = [weight.shape[2], weight.shape[3]];
        let stride = layer.pair("strides", Some([1, 1]))?;
        let dilation = layer.pair("dilation_rate", Some([1, 1]))?;
        let window = self.window(layer, input, kernel, stride, dilation)?;
        let op = Op::Conv2d {
            weight,
            bias,
            window,
            dilation,
            groups,
        };
        let id = self.lowering.push(layer.name, op, &[input])?;
        self.with_activation(layer, id)
    }

    fn window(
        &self,
        layer: &Layer<'_>,
        input: NodeId,
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
    ) -> Result<Window> {
        let padding = match layer.text("padding").unwrap_or("valid") {
            "valid" => Padding::default(),
            "same" => {
                let shape = self.lowering.shape(input);
                let along = |axis: usize| {
                    let extent = shape.get(1 + axis).copied().unwrap_or(0);
                    same_padding(extent, kernel[axis], stride[axis], dilation[axis], false)
                };
                let ((top, bottom), (left, right)) = (along(0), along(1));
                Padding {
                    top,
                    left,
                    bottom,
                    right,
                }
            }
            other => return Err(layer.setting("padding", other, "use valid or same")),
        };
        Ok(Window {
            kernel,
            stride,
            padding,
        })
    }

    fn dense(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let (kernel, bias) = self.kernel(layer, 2)?;
        let weight = kernel.transposed(&[1, 0])?;
        let op = match self.lowering.shape(input).len() {
            // On an image a dense layer mixes the channels of each position.
            3 => {
                let shape = [weight.shape[0], weight.shape[1], 1, 1];
                let weight = weight.reshaped(shape)?;
                let window = Window::valid([1, 1], [1, 1]);
                Op::Conv2d {
                    weight,
                    bias,
                    window,
                    dilation: [1, 1],
                    groups: 1,
                }
            }
            _ => Op::Dense { weight, bias },
        };
        let id = self.lowering.push(layer.name, op, &[input])?;
        self.with_activation(layer, id)
    }

    fn pool(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let kernel = layer.pair("pool_size", Some([2, 2]))?;
        let stride = layer.pair("strides", Some(kernel))?;
        let window = self.window(layer, input, kernel, stride, [1, 1])?;
        let op = match layer.class {
            "MaxPooling2D" => Op::MaxPool { window },
            _ => Op::AvgPool {
                window,
                count_padding: false,
            },
        };
        self.lowering.push(layer.name, op, &[input])
    }

    fn global(&mut self, layer: &Layer<'_>, op: Op, input: NodeId) -> Result<NodeId> {
        let id = self.lowering.push(layer.name, op, &[input])?;
        if layer.flag("keepdims", false) {
            return Ok(id);
        }
        let channels = self.lowering.shape(id)[0];
        self.lowering
            .reshape(&format!("{}_flat", layer.name), id, vec![channels])
    }

    fn batch_norm(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        self.last_axis(layer, input)?;
        let (scaled, shifted) = (layer.flag("scale", true), layer.flag("center", true));
        let channels = self.lowering.shape(input).first().copied().unwrap_or(0);
        let same = |value: f32| Tensor::vector(vec![value; channels]);
        let [scale, shift, mean, variance] = match (scaled, shifted) {
            (true, true) => self.variables(layer, [1; 4])?,
            (true, false) => {
                let [scale, mean, variance] = self.variables(layer, [1; 3])?;
                [scale, same(0.0), mean, variance]
            }
            (false, true) => {
                let [shift, mean, variance] = self.variables(layer, [1; 3])?;
                [same(1.0), shift, mean, variance]
            }
            (false, false) => {
                let [mean, variance] = self.variables(layer, [1; 2])?;
                [same(1.0), same(0.0), mean, variance]
            }
        };
        let epsilon = layer.number("epsilon").unwrap_or(1e-3) as f32;
        self.lowering.push(
            layer.name,
            Op::BatchNorm {
                scale,
                shift,
                mean,
                variance,
                epsilon,
            },
            &[input],
        )
    }

    /// The layer must work along the channels, Keras' last axis.
    fn last_axis(&self, layer: &Layer<'_>, input: NodeId) -> Result<()> {
        let rank = self.lowering.shape(input).len() as i64;
        let axis = match layer.value("axis") {
            Value::Array(axes) if axes.len() == 1 => &axes[0],
            axis => axis,
        };
        match axis.as_i64() {
            None if axis.is_null() => Ok(()),
            Some(axis) if axis == -1 || axis == rank => Ok(()),
            _ => Err(layer.setting("axis", axis, "work along the last axis")),
        }
    }

    fn zero_padding(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let value = layer.value("padding");
        let extent = |v: &Value| v.as_u64().and_then(|v| usize::try_from(v).ok());
        let sides = |v: &Value| match v.as_array().map(Vec::as_slice) {
            Some([a, b]) => extent(a).zip(extent(b)),
            None => extent(v).map(|both| (both, both)),
            _ => None,
        };
        let both = match value.as_array().map(Vec::as_slice) {
            Some([h, w]) => sides(h).zip(sides(w)),
            None => sides(value).map(|side| (side, side)),
            _ => None,
        };
        let Some(((top, bottom), (left, right))) = both else {
            return Err(layer.setting("padding", value, "give rows and columns to add"));
        };
        self.lowering.zero_padding(
            layer.name,
            input,
            Padding {
                top,
                left,
                bottom,
                right,
            },
        )
    }

    /// Images in Keras' order of values, other values as they are.
    fn channels_last(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        match self.lowering.shape(input).len() {
            3 => {
                let op = Op::Transpose {
                    permutation: vec![1, 2, 0],
                };
                self.lowering
                    .push(&format!("{}_channels_last", layer.name), op, &[input])
            }
            _ => Ok(input),
        }
    }

    fn flatten(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let input = self.channels_last(layer, input)?;
        let length = self.lowering.shape(input).iter().product();
        self.lowering.reshape(layer.name, input, vec![length])
    }

    fn reshape(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let target = layer.value("target_shape");
        let input = self.channels_last(layer, input)?;
        let total: usize = self.lowering.shape(input).iter().product();
        let hint = "give extents that keep the number of values, at most one of them -1";
        let error = || layer.setting("target_shape", target, hint);
        let extents = target.as_array().ok_or_else(error)?;
        let open = extents
            .iter()
            .filter(|extent| extent.as_i64() == Some(-1))
            .count();
        let known = extents
            .iter()
            .filter(|extent| extent.as_i64() != Some(-1))
            .map(natural);
        let known: Option<Vec<usize>> = known.collect();
        let count = crate::tensor::element_count(&known.ok_or_else(error)?).ok_or_else(error)?;
        if open > 1 || (open == 1 && !total.is_multiple_of(count)) {
            return Err(error());
        }
        let shape = extents
            .iter()
            .map(|extent| natural(extent).unwrap_or(total / count))
            .collect();
        let id = self.lowering.reshape(layer.name, input, shape)?;
        if self.lowering.shape(id).len() != 3 {
            return Ok(id);
        }
        let op = Op::Transpose {
            permutation: vec![2, 0, 1],
        };
        self.lowering
            .push(&format!("{}_channels_first", layer.name), op, &[id])
    }

    fn activation(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        self.activate(layer, layer.name, input)
    }

    /// The activation that a layer carries itself.
    fn with_activation(&mut self, layer: &Layer<'_>, id: NodeId) -> Result<NodeId> {
        self.activate(layer, &format!("{}_activation", layer.name), id)
    }

    fn activate(&mut self, layer: &Layer<'_>, name: &str, input: NodeId) -> Result<NodeId> {
        let value = layer.value("activation");
        let op = match value.as_str() {
            None if value.is_null() => return Ok(input),
            Some("linear") => return Ok(input),
            Some("relu") => Op::Relu,
            Some("sigmoid") => Op::Sigmoid,
            Some("tanh") => Op::Tanh,
            // Keras takes softmax along the channels, the first axis here.
            Some("softmax") => Op::Softmax { axis: 0 },
            Some("log_softmax") => Op::LogSoftmax { axis: 0 },
            _ => return Err(layer.setting("activation", value, ACTIVATIONS)),
        };
        self.lowering.push(name, op, &[input])
    }

    fn relu(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let hint = "use a plain ReLU";
        for key in ["negative_slope", "threshold"] {
            if layer.number(key).is_some_and(|value| value != 0.0) {
                return Err(layer.setting(key, layer.value(key), hint));
            }
        }
        layer.require("max_value", &Value::Null, hint)?;
        self.lowering.push(layer.name, Op::Relu, &[input])
    }

    fn softmax(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        self.last_axis(layer, input)?;
        self.lowering
            .push(layer.name, Op::Softmax { axis: 0 }, &[input])
    }

    fn rescaling(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let one = |key: &'static str, default: f64| match layer.value(key) {
            Value::Null => Ok(default),
            value => value
                .as_f64()
                .ok_or_else(|| layer.setting(key, value, "give one number")),
        };
        let (scale, offset) = (one("scale", 1.0)?, one("offset", 0.0)?);
        let scalar = |value: f64| Tensor {
            shape: vec![],
            data: vec![value as f32],
        };
        let factor = self
            .lowering
            .constant(&format!("{}_scale", layer.name), scalar(scale))?;
        let scaled = self.lowering.push(layer.name, Op::Mul, &[input, factor])?;
        if offset == 0.0 {
            return Ok(scaled);
        }
        let offset = self
            .lowering
            .constant(&format!("{}_offset", layer.name), scalar(offset))?;
        self.lowering.push(
            &format!("{}_shifted", layer.name),
            Op::Add,
            &[scaled, offset],
        )
    }

    fn fold(&mut self, layer: &Layer<'_>, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let mut total = inputs[0];
        for &next in &inputs[1..] {
            total = self.lowering.push(layer.name, op.clone(), &[total, next])?;
        }
        Ok(total)
    }

    fn concat(&mut self, layer: &Layer<'_>, inputs: &[NodeId]) -> Result<NodeId> {
        let rank = self.lowering.shape(inputs[0]).len() as i64;
        let axis = layer.value("axis").as_i64().unwrap_or(-1);
        let counted = if axis < 0 { axis + rank + 1 } else { axis };
        // Keras counts [batch, h, w, c], here it is [c, h, w].
        let ours = match (rank, counted) {
            (3, 1 | 2) => counted,
            (3, 3) => 0,
            (1 | 2, 1..) if counted <= rank => counted - 1,
            _ => return Err(layer.setting("axis", axis, "join along an axis of the example")),
        };
        self.lowering.push(
            layer.name,
            Op::Concat {
                axis: ours as usize,
            },
            inputs,
        )
    }
}

/// What could stand in for a layer that has no translation.
fn hint_for(class: &str) -> &'static str {
    match class {
        "LeakyReLU" | "PReLU" | "ELU" | "ThresholdedReLU" | "Lambda" => ACTIVATIONS,
        "SeparableConv2D" => "use DepthwiseConv2D and a 1x1 Conv2D",
        "Conv2DTranspose" | "UpSampling2D" | "Cropping2D" => {
            "only Conv2D, pooling and ZeroPadding2D change the image size"
        }
        "LayerNormalization" | "GroupNormalization" => "use BatchNormalization",
        "LSTM" | "GRU" | "SimpleRNN" | "Bidirectional" => "the graph has no state",
        "Sequential" | "Functional" | "Model" => "copy its layers into the outer model",
        "Average" => "use Add and scale the next layer's weights",
        _ => "replace it by supported layers and save again",
    }
}
