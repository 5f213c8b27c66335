//! Convolution, dense layers, pooling, normalisation.

use super::{Importer, Site, Stored, Value};
use crate::error::{Error, Result, TensorFault};
use crate::graph::{NodeId, Op, Padding, Window};
use crate::import::lowering::same_padding;
use crate::tensor::Tensor;

const TWO_AXES: &str = "only windows over height and width are supported";

impl Importer {
    pub(super) fn conv(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let weight = self.weight(site, 1, "the kernel")?.clone();
        let &[_, _, kh, kw] = weight.shape.as_slice() else {
            return Err(site.attribute_error("kernel_shape", &weight.shape, TWO_AXES));
        };
        let bias = match site.operand(2) {
            Some(_) => Some(self.weight(site, 2, "the bias")?.clone()),
            None => None,
        };
        let dilation = pair(site, "dilations", [1, 1])?;
        let window = self.window(site, input, [kh, kw], dilation)?;
        let groups = natural(site, "group", site.int("group", 1))?;
        self.push(
            site,
            Op::Conv2d {
                weight,
                bias,
                window,
                dilation,
                groups,
            },
            &[input],
        )
    }

    pub(super) fn pool(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let max = site.proto.op_type == "MaxPool";
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
        let op = if max {
            Op::MaxPool { window }
        } else {
            Op::AvgPool {
                window,
                count_padding,
            }
        };
        self.push(site, op, &[input])
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
        let &[0, 0, top, left, 0, 0, bottom, right] = pads.as_slice() else {
            return Err(site.attribute_error(
                "pads",
                pads,
                "pad height and width of an image only",
            ));
        };
        let padding = explicit_padding(site, &[top, left, bottom, right])?;
        Ok(Value::Computed(
            self.lowering.zero_padding(site.name, input, padding)?,
        ))
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

    pub(super) fn mat_mul(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let weight = self.matrix(site, 1)?.transposed(&[1, 0])?;
        self.push(site, Op::Dense { weight, bias: None }, &[input])
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

    /// Mean or maximum over height and width.
    pub(super) fn reduce(&mut self, site: &Site<'_>, op: Op) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let rank = self.lowering.shape(input).len();
        let axes = match (site.ints("axes"), site.operand(1)) {
            (Some(axes), _) => axes.to_vec(),
            (None, Some(_)) => self.integers(site, 1, "the axes")?.to_vec(),
            (None, None) => Vec::new(),
        };
        let mut found: Vec<i64> = axes
            .iter()
            .map(|&a| if a < 0 { a + rank as i64 + 1 } else { a })
            .collect();
        found.sort_unstable();
        if rank != 3 || found != [2, 3] {
            let hint = "reduce over height and width, or use global pooling";
            return Err(site.attribute_error("axes", axes, hint));
        }
        let id = self.lowering.push(site.name, op, &[input])?;
        if site.int("keepdims", 1) != 0 {
            return Ok(Value::Computed(id));
        }
        let channels = self.lowering.shape(id)[0];
        let flat = format!("{}_flat", site.name);
        Ok(Value::Computed(self.lowering.reshape(
            &flat,
            id,
            vec![channels],
        )?))
    }

    /// Stored values as they are, for callers that fold.
    pub(super) fn as_stored(&self, site: &Site<'_>, index: usize) -> Option<Stored> {
        match self.values.get(site.operand(index)?)? {
            Value::Stored(stored) => Some(stored.clone()),
            Value::Computed(_) => None,
        }
    }
}

fn natural(site: &Site<'_>, name: &'static str, value: i64) -> Result<usize> {
    usize::try_from(value)
        .map_err(|_| site.attribute_error(name, value, "give numbers that are not negative"))
}

fn pair(site: &Site<'_>, name: &'static str, default: [usize; 2]) -> Result<[usize; 2]> {
    match site.ints(name) {
        None => Ok(default),
        Some(&[h, w]) => Ok([natural(site, name, h)?, natural(site, name, w)?]),
        Some(found) => Err(site.attribute_error(name, found, TWO_AXES)),
    }
}

fn explicit_padding(site: &Site<'_>, pads: &[i64]) -> Result<Padding> {
    let &[top, left, bottom, right] = pads else {
        return Err(site.attribute_error("pads", pads, TWO_AXES));
    };
    let natural = |value| natural(site, "pads", value);
    Ok(Padding {
        top: natural(top)?,
        left: natural(left)?,
        bottom: natural(bottom)?,
        right: natural(right)?,
    })
}
