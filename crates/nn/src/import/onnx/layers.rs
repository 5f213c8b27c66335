//! Convolution, dense layers, pooling, normalisation.

use super::{Importer, Site, Stored, Value, counted};
use crate::error::{Error, Result, TensorFault};
use crate::graph::{NodeId, Op, Padding, Window};
use crate::import::lowering::same_padding;
use crate::tensor::Tensor;

const TWO_AXES: &str = "windows slide over height and width, or over one axis";

impl Importer {
    pub(super) fn conv(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let mut weight = self.weight(site, 1, "the kernel")?.clone();
        // A kernel over one axis is one of height 1.
        if let [outputs, inputs, length] = weight.shape[..] {
            weight = weight.reshaped([outputs, inputs, 1, length])?;
        }
        let &[_, _, kh, kw] = weight.shape.as_slice() else {
            return Err(site.attribute_error("kernel_shape", &weight.shape, TWO_AXES));
        };
        let bias = match site.operand(2) {
            Some(_) => Some(self.weight(site, 2, "the bias")?.clone()),
            None => None,
        };
        let groups = natural(site, "group", site.int("group", 1))?;
        self.over_image(site, input, |importer, image| {
            let dilation = pair(site, "dilations", [1, 1])?;
            let window = importer.window(site, image, [kh, kw], dilation)?;
            Ok(Op::Conv2d {
                weight,
                bias,
                window,
                dilation,
                groups,
            })
        })
    }

    /// Applies an operator to an image; a line `[c, n]` becomes an image of height 1 and the answer
    /// a line again.
    fn over_image(
        &mut self,
        site: &Site<'_>,
        input: NodeId,
        op: impl FnOnce(&Self, NodeId) -> Result<Op>,
    ) -> Result<Value> {
        let line = match *self.lowering.shape(input) {
            [channels, length] => Some(vec![channels, 1, length]),
            _ => None,
        };
        check_axes(site, if line.is_some() { 1 } else { 2 })?;
        let Some(shape) = line else {
            let op = op(self, input)?;
            return self.push(site, op, &[input]);
        };
        let name = format!("{}_image", site.name);
        let image = self.lowering.reshape(&name, input, shape)?;
        let op = op(self, image)?;
        let answer = self.lowering.push(site.name, op, &[image])?;
        let shape = match *self.lowering.shape(answer) {
            [channels, 1, length] => vec![channels, length],
            ref shape => return Err(site.attribute_error("pads", shape, TWO_AXES)),
        };
        let name = format!("{}_line", site.name);
        Ok(Value::Computed(
            self.lowering.reshape(&name, answer, shape)?,
        ))
    }

    pub(super) fn global_pool(&mut self, site: &Site<'_>, op: Op) -> Result<Value> {
        let input = self.computed(site, 0)?;
        self.over_image(site, input, |_, _| Ok(op))
    }

    pub(super) fn pool(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        if site.ints("kernel_shape").is_none() {
            return Err(site.missing("kernel_shape"));
        }
        let kernel = pair(site, "kernel_shape", [1, 1])?;
        if pair(site, "dilations", [1, 1])? != [1, 1] {
            let found = site.ints("dilations").unwrap_or_default();
            return Err(site.attribute_error("dilations", found, "pool without dilation"));
        }
        if site
            .proto
            .output
            .get(1)
            .is_some_and(|name| !name.is_empty())
        {
            return Err(site.attribute_error("Indices", true, "only the maxima are computed"));
        }
        self.over_image(site, input, |importer, image| {
            importer.pool_op(site, image, kernel)
        })
    }

    fn pool_op(&self, site: &Site<'_>, input: NodeId, kernel: [usize; 2]) -> Result<Op> {
        let max = site.proto.op_type == "MaxPool";
        let count_padding = site.int("count_include_pad", 0) != 0;
        let mut window = self.window(site, input, kernel, [1, 1])?;
        if site.int("ceil_mode", 0) != 0 {
            let rounded = self.rounded_up(input, window);
            if rounded != window && !max && count_padding {
                let hint = "use ceil_mode = 0 or count_include_pad = 0";
                return Err(site.attribute_error("ceil_mode", 1, hint));
            }
            window = rounded;
        }
        Ok(if max {
            Op::MaxPool { window }
        } else {
            Op::AvgPool {
                window,
                count_padding,
            }
        })
    }

    /// More padding at the far ends, so that a last window that starts on the image is not dropped.
    fn rounded_up(&self, input: NodeId, window: Window) -> Window {
        let mut out = window;
        let p = window.padding;
        let extra = |axis: usize, before: usize, after: usize| {
            let extent = self
                .lowering
                .shape(input)
                .get(1 + axis)
                .copied()
                .unwrap_or(0);
            let (kernel, stride) = (window.kernel[axis], window.stride[axis].max(1));
            let room = (extent + before + after).saturating_sub(kernel);
            let start = room.div_ceil(stride) * stride;
            // A window that would start beyond the image and the padding before it is not counted.
            if start < extent + before {
                start - room
            } else {
                0
            }
        };
        out.padding.bottom += extra(0, p.top, p.bottom);
        out.padding.right += extra(1, p.left, p.right);
        out
    }

    fn window(
        &self,
        site: &Site<'_>,
        input: NodeId,
        kernel: [usize; 2],
        dilation: [usize; 2],
    ) -> Result<Window> {
        let stride = pair(site, "strides", [1, 1])?;
        let auto = site
            .attribute("auto_pad")
            .map_or(&b""[..], |attribute| &attribute.s);
        let padding = match auto {
            b"" | b"NOTSET" => explicit_padding(site, site.ints("pads").unwrap_or(&[0; 4]))?,
            b"VALID" => Padding::default(),
            b"SAME_UPPER" | b"SAME_LOWER" => {
                let shape = self.lowering.shape(input);
                let along = |axis: usize| {
                    let extent = shape.get(1 + axis).copied().unwrap_or(0);
                    let lower = auto == b"SAME_LOWER";
                    same_padding(extent, kernel[axis], stride[axis], dilation[axis], lower)
                };
                let ((top, bottom), (left, right)) = (along(0), along(1));
                Padding {
                    top,
                    left,
                    bottom,
                    right,
                }
            }
            other => {
                let found = String::from_utf8_lossy(other).into_owned();
                return Err(site.attribute_error("auto_pad", found, "use explicit pads"));
            }
        };
        Ok(Window {
            kernel,
            stride,
            padding,
        })
    }

    pub(super) fn pad(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let mode = site
            .attribute("mode")
            .map_or(&b"constant"[..], |attribute| &attribute.s);
        if mode != b"constant" {
            let found = String::from_utf8_lossy(mode).into_owned();
            return Err(site.attribute_error("mode", found, "pad with zeros"));
        }
        let value = match site.operand(2) {
            Some(_) => self
                .weight(site, 2, "the value")?
                .data
                .first()
                .copied()
                .unwrap_or(0.0),
            None => site.float("value", 0.0),
        };
        if value != 0.0 {
            return Err(site.attribute_error("value", value, "pad with zeros"));
        }
        let pads = match site.ints("pads").or(site.ints("paddings")) {
            Some(pads) => pads.to_vec(),
            None => self.integers(site, 1, "the padding")?.to_vec(),
        };
        let padding = self.image_padding(site, input, pads)?;
        Ok(Value::Computed(
            self.lowering.zero_padding(site.name, input, padding)?,
        ))
    }

    /// The padding of height and width; that of the batch and the channels must be none.
    fn image_padding(&self, site: &Site<'_>, input: NodeId, pads: Vec<i64>) -> Result<Padding> {
        let rank = self.lowering.shape(input).len();
        let axes = match site.operand(3) {
            Some(_) => self.integers(site, 3, "the axes")?.to_vec(),
            None => (0..=rank as i64).collect(),
        };
        let refused = || {
            let hint = "pad height and width of an image only";
            site.attribute_error("pads", &pads, hint)
        };
        if rank != 3 || pads.len() != 2 * axes.len() {
            return Err(refused());
        }
        let (mut before, mut after) = ([0; 4], [0; 4]);
        let sides = pads.iter().zip(&pads[axes.len()..]);
        for (&axis, (&first, &last)) in axes.iter().zip(sides) {
            let axis = counted(site, axis, 4)?;
            (before[axis], after[axis]) = (first, last);
        }
        let ([0, 0, top, left], [0, 0, bottom, right]) = (before, after) else {
            return Err(refused());
        };
        explicit_padding(site, &[top, left, bottom, right])
    }

    pub(super) fn gemm(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        site.require("transA", 0, "the first factor is the batch of examples")?;
        let mut weight = self.matrix(site, 1)?;
        if site.int("transB", 0) == 0 {
            weight = weight.transposed(&[1, 0])?;
        }
        let alpha = site.float("alpha", 1.0);
        weight.data.iter_mut().for_each(|w| *w *= alpha);
        let bias = match site.operand(2) {
            None => None,
            Some(_) => Some(self.gemm_bias(site, weight.shape[0])?),
        };
        self.push(site, Op::Dense { weight, bias }, &[input])
    }

    /// The summand of `Gemm`: one per output, or one for all.
    fn gemm_bias(&self, site: &Site<'_>, outputs: usize) -> Result<Tensor> {
        let stored = self.weight(site, 2, "the bias")?;
        let beta = site.float("beta", 1.0);
        let scaled: Vec<f32> = stored.data.iter().map(|&b| b * beta).collect();
        match (stored.shape.as_slice(), scaled.as_slice()) {
            ([] | [1] | [1, 1], &[one]) => Ok(Tensor::vector(vec![one; outputs])),
            ([count] | [1, count], _) if *count == outputs => Ok(Tensor::vector(scaled)),
            (found, _) => Err(Error::StoredTensor {
                tensor: site.operand(2).unwrap_or_default().to_owned(),
                fault: TensorFault::Shape {
                    expected: vec![outputs],
                    found: found.to_vec(),
                },
            }),
        }
    }

    /// `x w` along the last axis of `x`, or `w x` along the one before it.
    pub(super) fn mat_mul(&mut self, site: &Site<'_>) -> Result<Value> {
        let first = matches!(self.value(site, 0, "an operand")?, Value::Stored(_));
        let second = matches!(self.value(site, 1, "an operand")?, Value::Computed(_));
        let (mut input, weight) = match first && second {
            true => (self.computed(site, 1)?, self.matrix(site, 0)?),
            false => {
                let input = self.computed(site, 0)?;
                (input, self.matrix(site, 1)?.transposed(&[1, 0])?)
            }
        };
        let rank = self.lowering.shape(input).len();
        if !first {
            let id = self.lowering.dense_last(site.name, input, weight, None)?;
            return Ok(Value::Computed(id));
        }
        if rank < 2 {
            let hint = "the first factor is the batch of examples";
            return Err(site.unsupported(hint));
        }
        let mut swap: Vec<usize> = (0..rank).collect();
        swap.swap(rank - 2, rank - 1);
        let name = format!("{}_turned", site.name);
        input = self.lowering.permuted(&name, input, swap.clone())?;
        let id = self.lowering.dense_last(site.name, input, weight, None)?;
        let name = format!("{}_back", site.name);
        Ok(Value::Computed(self.lowering.permuted(&name, id, swap)?))
    }

    fn matrix(&self, site: &Site<'_>, index: usize) -> Result<Tensor> {
        let stored = self.weight(site, index, "the matrix")?;
        if stored.shape.len() == 2 {
            return Ok(stored.clone());
        }
        Err(Error::StoredTensor {
            tensor: site.operand(index).unwrap_or_default().to_owned(),
            fault: TensorFault::Rank {
                expected: 2,
                found: stored.shape.clone(),
            },
        })
    }

    pub(super) fn batch_norm(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        site.require("training_mode", 0, "export the model for inference")?;
        let op = Op::BatchNorm {
            scale: self.weight(site, 1, "the scale")?.clone(),
            shift: self.weight(site, 2, "the shift")?.clone(),
            mean: self.weight(site, 3, "the mean")?.clone(),
            variance: self.weight(site, 4, "the variance")?.clone(),
            epsilon: site.float("epsilon", 1e-5),
        };
        self.push(site, op, &[input])
    }

    /// Mean, sum or maximum over some axes of each example: the others become the maps of an image
    /// over which a global pool goes.
    pub(super) fn reduce(&mut self, site: &Site<'_>, op: Op) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let axes = match (site.ints("axes"), site.operand(1)) {
            (Some(axes), _) => axes.to_vec(),
            (None, Some(_)) => self.integers(site, 1, "the axes")?.to_vec(),
            (None, None) => Vec::new(),
        };
        let shape = self.lowering.shape(input).to_vec();
        let reduced = self.example_axes(site, &axes, shape.len())?;
        if reduced.is_empty() {
            return Err(site.attribute_error("axes", axes, "name axes of each example"));
        }
        let kept: Vec<usize> = (0..shape.len())
            .filter(|axis| !reduced.contains(axis))
            .collect();
        let count: usize = reduced.iter().map(|&axis| shape[axis]).product();
        let mut pooled = if shape.len() == 3 && reduced == [1, 2] {
            self.lowering.push(site.name, op, &[input])?
        } else {
            let order = kept.iter().chain(&reduced).copied().collect();
            let name = format!("{}_turned", site.name);
            let turned = self.lowering.permuted(&name, input, order)?;
            let maps = kept.iter().map(|&axis| shape[axis]).product();
            let name = format!("{}_maps", site.name);
            let image = self.lowering.reshape(&name, turned, vec![maps, count, 1])?;
            self.lowering.push(site.name, op, &[image])?
        };
        if site.proto.op_type == "ReduceSum" {
            pooled = self.lowering.scaled(site.name, pooled, count as f32)?;
        }
        let keep = site.int("keepdims", 1) != 0;
        let mut extents: Vec<usize> = (0..shape.len())
            .filter(|axis| keep || kept.contains(axis))
            .map(|axis| if kept.contains(&axis) { shape[axis] } else { 1 })
            .collect();
        if extents.is_empty() {
            extents.push(1);
        }
        let name = format!("{}_flat", site.name);
        let id = self.lowering.reshape(&name, pooled, extents)?;
        Ok(Value::Computed(id))
    }

    /// Stored values as they are, for callers that fold.
    pub(super) fn as_stored(&self, site: &Site<'_>, index: usize) -> Option<Stored> {
        match self.values.get(site.operand(index)?)? {
            Value::Stored(stored) => Some(stored.clone()),
            Value::Computed(_) => None,
        }
    }
}

/// Refuses settings for another number of axes than the windows slide over.
fn check_axes(site: &Site<'_>, axes: usize) -> Result<()> {
    for (name, values) in [
        ("kernel_shape", axes),
        ("strides", axes),
        ("dilations", axes),
        ("pads", 2 * axes),
    ] {
        match site.ints(name) {
            Some(found) if found.len() != values => {
                return Err(site.attribute_error(name, found, TWO_AXES));
            }
            _ => {}
        }
    }
    Ok(())
}

fn natural(site: &Site<'_>, name: &'static str, value: i64) -> Result<usize> {
    usize::try_from(value)
        .map_err(|_| site.attribute_error(name, value, "give numbers that are not negative"))
}

fn pair(site: &Site<'_>, name: &'static str, default: [usize; 2]) -> Result<[usize; 2]> {
    match site.ints(name) {
        None => Ok(default),
        Some(&[h, w]) => Ok([natural(site, name, h)?, natural(site, name, w)?]),
        // Over one axis: an image of height 1.
        Some(&[w]) => Ok([1, natural(site, name, w)?]),
        Some(found) => Err(site.attribute_error(name, found, TWO_AXES)),
    }
}

fn explicit_padding(site: &Site<'_>, pads: &[i64]) -> Result<Padding> {
    let [top, left, bottom, right] = match *pads {
        [top, left, bottom, right] => [top, left, bottom, right],
        // Over one axis.
        [left, right] => [0, left, 0, right],
        _ => return Err(site.attribute_error("pads", pads, TWO_AXES)),
    };
    let natural = |value| natural(site, "pads", value);
    Ok(Padding {
        top: natural(top)?,
        left: natural(left)?,
        bottom: natural(bottom)?,
        right: natural(right)?,
    })
}
