//! Keras layers as operators.

use serde_json::{Value, json};

use super::Importer;
use super::config::{Layer, natural};
use crate::error::{Error, Result, TensorFault};
use crate::graph::{NodeId, Op, Padding, Window};
use crate::import::lowering::same_padding;
use crate::tensor::Tensor;

pub(super) const ACTIVATIONS: &str =
    "use linear, relu, leaky_relu, relu6, silu, sigmoid, tanh, square or softmax";
const CHANNELS_LAST: &str = "save the model with channels last";

/// Layers that do nothing once a model is trained.
const DURING_TRAINING: [&str; 15] = [
    "Identity",
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "GaussianNoise",
    "GaussianDropout",
    "ActivityRegularization",
    "AlphaDropout",
    "RandomFlip",
    "RandomRotation",
    "RandomZoom",
    "RandomTranslation",
    "RandomContrast",
    "RandomBrightness",
    "RandomErasing",
];

impl<'a> Importer<'a> {
    pub(super) fn layer(&mut self, layer: &Layer<'a>, inputs: &[NodeId]) -> Result<NodeId> {
        layer.require("data_format", &json!("channels_last"), CHANNELS_LAST)?;
        let Some(&input) = inputs.first() else {
            return Err(layer.missing("an operand"));
        };
        match layer.class {
            "Sequential" | "Functional" | "Model" => self.nested(layer, input),
            "Conv2D" | "Convolution2D" => self.conv(layer, input),
            "Conv1D" => self.over_line(layer, input, Self::conv),
            "DepthwiseConv2D" => self.depthwise(layer, input),
            "SeparableConv2D" => self.separable(layer, input),
            "Dense" => self.dense(layer, input),
            "MaxPooling2D" | "AveragePooling2D" => self.pool(layer, input),
            "MaxPooling1D" | "AveragePooling1D" => self.over_line(layer, input, Self::pool),
            "GlobalAveragePooling2D" => self.global(layer, Op::GlobalAvgPool, input),
            "GlobalMaxPooling2D" => self.global(layer, Op::GlobalMaxPool, input),
            "GlobalAveragePooling1D" => self.global_line(layer, Op::GlobalAvgPool, input),
            "GlobalMaxPooling1D" => self.global_line(layer, Op::GlobalMaxPool, input),
            "BatchNormalization" => self.batch_norm(layer, input),
            "Normalization" => self.normalization(layer, input),
            "Rescaling" => self.rescaling(layer, input),
            _ if DURING_TRAINING.contains(&layer.class) => Ok(input),
            _ => self.shape_or_activation(layer, input, inputs),
        }
    }

    fn shape_or_activation(
        &mut self,
        layer: &Layer<'_>,
        input: NodeId,
        inputs: &[NodeId],
    ) -> Result<NodeId> {
        match layer.class {
            "ZeroPadding2D" => self.zero_padding(layer, input),
            "Cropping2D" => self.cropping(layer, input),
            "Flatten" => self.flatten(layer, input),
            "Reshape" => self.reshape(layer, input),
            "Permute" => self.permute(layer, input),
            "Activation" => self.activate(layer, layer.name, input),
            "ReLU" | "LeakyReLU" => self.relu(layer, input),
            "PReLU" => self.sloped(layer, input),
            "Softmax" => self.softmax(layer, input),
            "Add" => self.fold(layer, Op::Add, inputs),
            "Subtract" => self.fold(layer, Op::Sub, inputs),
            "Multiply" if inputs.len() == 2 && inputs[0] == inputs[1] => {
                self.lowering.push(layer.name, Op::Square, &[input])
            }
            "Multiply" => self.fold(layer, Op::Mul, inputs),
            "Average" => {
                let total = self.fold(layer, Op::Add, inputs)?;
                self.lowering
                    .scaled(layer.name, total, 1.0 / inputs.len() as f32)
            }
            "Maximum" | "Minimum" => self.extreme(layer, inputs),
            "Concatenate" => self.concat(layer, inputs),
            other => match function(other) {
                Some(op) => self.lowering.push(layer.name, op, &[input]),
                None => Err(layer.unsupported(hint_for(other))),
            },
        }
    }

    /// The layer's variables: as many as named, each with the axes it needs.
    pub(super) fn variables<const N: usize>(
        &self,
        layer: &Layer<'_>,
        rank: [usize; N],
    ) -> Result<[Tensor; N]> {
        let stored = self.weights.of(&self.scope, layer.name)?;
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
        let (kernel, bias) = match layer.class {
            // A kernel over one axis is one of height 1.
            "Conv1D" => {
                let (kernel, bias) = self.kernel(layer, 3)?;
                let shape = [&[1], kernel.shape.as_slice()].concat();
                (kernel.reshaped(shape)?, bias)
            }
            _ => self.kernel(layer, 4)?,
        };
        // [h, w, in / groups, out] -> [out, in / groups, h, w]
        let weight = kernel.transposed(&[3, 2, 0, 1])?;
        let groups = match layer.value("groups") {
            Value::Null => 1,
            value => natural(value)
                .ok_or_else(|| layer.setting("groups", value, "give a positive number"))?,
        };
        let id = self.convolution(layer, input, weight, bias, groups)?;
        self.with_activation(layer, id)
    }

    fn depthwise(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let (kernel, bias) = self.kernel(layer, 4)?;
        // [h, w, in, multiplier] -> [in * multiplier, 1, h, w]
        let turned = kernel.transposed(&[2, 3, 0, 1])?;
        let [channels, multiplier, h, w] = [0, 1, 2, 3].map(|axis| turned.shape[axis]);
        let weight = turned.reshaped([channels * multiplier, 1, h, w])?;
        let id = self.convolution(layer, input, weight, bias, channels)?;
        self.with_activation(layer, id)
    }

    /// A depthwise convolution and one of 1x1.
    fn separable(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let (depthwise, pointwise, bias) = if layer.flag("use_bias", true) {
            let [depthwise, pointwise, bias] = self.variables(layer, [4, 4, 1])?;
            (depthwise, pointwise, Some(bias))
        } else {
            let [depthwise, pointwise] = self.variables(layer, [4, 4])?;
            (depthwise, pointwise, None)
        };
        let turned = depthwise.transposed(&[2, 3, 0, 1])?;
        let [channels, multiplier, h, w] = [0, 1, 2, 3].map(|axis| turned.shape[axis]);
        let weight = turned.reshaped([channels * multiplier, 1, h, w])?;
        let maps = self.convolution(layer, input, weight, None, channels)?;
        let op = Op::Conv2d {
            weight: pointwise.transposed(&[3, 2, 0, 1])?,
            bias,
            window: Window::valid([1, 1], [1, 1]),
            dilation: [1, 1],
            groups: 1,
        };
        let name = format!("{}_pointwise", layer.name);
        let id = self.lowering.push(&name, op, &[maps])?;
        self.with_activation(layer, id)
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
        self.lowering.push(layer.name, op, &[input])
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
        let id = match self.lowering.shape(input).len() {
            // On an image a dense layer mixes the channels of each position.
            3 => {
                let shape = [weight.shape[0], weight.shape[1], 1, 1];
                let op = Op::Conv2d {
                    weight: weight.reshaped(shape)?,
                    bias,
                    window: Window::valid([1, 1], [1, 1]),
                    dilation: [1, 1],
                    groups: 1,
                };
                self.lowering.push(layer.name, op, &[input])?
            }
            _ => self.lowering.dense_last(layer.name, input, weight, bias)?,
        };
        self.with_activation(layer, id)
    }

    fn pool(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let kernel = layer.pair("pool_size", Some([2, 2]))?;
        let stride = layer.pair("strides", Some(kernel))?;
        let window = self.window(layer, input, kernel, stride, [1, 1])?;
        let op = match layer.class {
            "MaxPooling2D" | "MaxPooling1D" => Op::MaxPool { window },
            _ => Op::AvgPool {
                window,
                count_padding: false,
            },
        };
        self.lowering.push(layer.name, op, &[input])
    }

    /// Pooling over all of a line `[n, c]`.
    fn global_line(&mut self, layer: &Layer<'_>, op: Op, input: NodeId) -> Result<NodeId> {
        let image = self.line_as_image(layer, input)?;
        let id = self.lowering.push(layer.name, op, &[image])?;
        let channels = self.lowering.shape(id)[0];
        let shape = match layer.flag("keepdims", false) {
            true => vec![1, channels],
            false => vec![channels],
        };
        self.lowering
            .reshape(&format!("{}_flat", layer.name), id, shape)
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
        let channels = self.channels(input);
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
        let op = Op::BatchNorm {
            scale,
            shift,
            mean,
            variance,
            epsilon,
        };
        self.along_channels(layer, input, op)
    }

    /// Fixed means and variances of each channel.
    fn normalization(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        // Without an axis there is one mean and one variance for all values.
        let whole = layer.value("axis").as_array().is_some_and(Vec::is_empty);
        if !whole {
            self.last_axis(layer, input)?;
        }
        layer.require("invert", &json!(false), "normalise only")?;
        let channels = self.channels(input);
        let given = |key: &'static str| numbers(layer.value(key), channels);
        let (mean, variance) = match (given("mean"), given("variance")) {
            (Some(mean), Some(variance)) => (Tensor::vector(mean), Tensor::vector(variance)),
            _ if whole => {
                let [mean, variance, _] = self.variables(layer, [0; 3])?;
                let same = |one: Tensor| Tensor::vector(vec![one.data[0]; channels]);
                (same(mean), same(variance))
            }
            _ => {
                let [mean, variance, _] = self.variables(layer, [1, 1, 0])?;
                (mean, variance)
            }
        };
        // Keras divides by the deviation, or by this where there is next to none.
        const DEVIATION_MIN: f32 = 1e-7;
        let floor = DEVIATION_MIN * DEVIATION_MIN;
        let op = Op::BatchNorm {
            scale: Tensor::vector(vec![1.0; channels]),
            shift: Tensor::vector(vec![0.0; channels]),
            mean,
            variance: Tensor {
                data: variance.data.iter().map(|v| v.max(floor)).collect(),
                ..variance
            },
            epsilon: 0.0,
        };
        self.along_channels(layer, input, op)
    }

    /// Number of channels: Keras' last axis.
    fn channels(&self, input: NodeId) -> usize {
        let shape = self.lowering.shape(input);
        let axis = if shape.len() == 3 { 0 } else { shape.len() - 1 };
        shape[axis]
    }

    /// Applies an operator that works along the first axis to Keras' channels.
    fn along_channels(&mut self, layer: &Layer<'_>, input: NodeId, op: Op) -> Result<NodeId> {
        let rank = self.lowering.shape(input).len();
        if rank == 1 || rank == 3 {
            return self.lowering.push(layer.name, op, &[input]);
        }
        let name = format!("{}_in", layer.name);
        let turned = self.lowering.axis_to_front(&name, input, rank - 1)?;
        let id = self.lowering.push(layer.name, op, &[turned])?;
        let name = format!("{}_out", layer.name);
        self.lowering.front_to_axis(&name, id, rank - 1)
    }

    /// The layer must work along the channels, Keras' last axis.
    pub(super) fn last_axis(&self, layer: &Layer<'_>, input: NodeId) -> Result<()> {
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

    fn rescaling(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let one = |key: &'static str, default: f64| match layer.value(key) {
            Value::Null => Ok(default),
            value => value
                .as_f64()
                .ok_or_else(|| layer.setting(key, value, "give one number")),
        };
        let (scale, offset) = (one("scale", 1.0)? as f32, one("offset", 0.0)? as f32);
        let scaled = self.lowering.scaled(layer.name, input, scale)?;
        self.lowering.shifted(layer.name, scaled, offset)
    }

    fn fold(&mut self, layer: &Layer<'_>, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        if inputs.len() < 2 {
            return Err(layer.missing("a second operand"));
        }
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

/// Functions of `keras.ops` that are operators here.
fn function(class: &str) -> Option<Op> {
    match class {
        "Square" => Some(Op::Square),
        "Relu" => Some(Op::Relu),
        "Sigmoid" => Some(Op::Sigmoid),
        "Tanh" => Some(Op::Tanh),
        _ => None,
    }
}

/// One number for all channels or one for each, however deeply the list is nested.
fn numbers(value: &Value, channels: usize) -> Option<Vec<f32>> {
    let mut list = value;
    while let Some([inner]) = list.as_array().map(Vec::as_slice) {
        list = inner;
    }
    match list {
        Value::Number(one) => Some(vec![one.as_f64()? as f32; channels]),
        Value::Array(items) => items.iter().map(|v| Some(v.as_f64()? as f32)).collect(),
        _ => None,
    }
}

/// What could stand in for a layer that has no translation.
fn hint_for(class: &str) -> &'static str {
    match class {
        "ELU" | "SELU" | "GELU" | "Elu" | "Gelu" | "ThresholdedReLU" | "Lambda" => ACTIVATIONS,
        "Conv2DTranspose" | "UpSampling2D" | "Resizing" => {
            "only Conv2D, pooling, padding and cropping change the image size"
        }
        "LayerNormalization" | "GroupNormalization" => "use BatchNormalization",
        "LSTM" | "GRU" | "SimpleRNN" | "Bidirectional" => "the graph has no state",
        _ => "replace it by supported layers and save again",
    }
}
