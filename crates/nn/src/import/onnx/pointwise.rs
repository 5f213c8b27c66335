//! Elementwise operators and softmax.

use super::{Importer, REPLACE, Site, Stored, Value};
use crate::error::Result;
use crate::graph::{NodeId, Op};
use crate::import::compose::scalar;
use crate::tensor::Tensor;

/// Highest power taken as a polynomial.
const POWER_MAX: f32 = 16.0;

impl Importer {
    pub(super) fn binary(&mut self, site: &Site<'_>) -> Result<Value> {
        match (self.as_stored(site, 0), self.as_stored(site, 1)) {
            (Some(_), Some(_)) => Err(site.unsupported(REPLACE)),
            (None, Some(_)) => {
                let a = self.computed(site, 0)?;
                let b = self.weight(site, 1, "an operand")?.clone();
                self.with_constant(site, a, b)
            }
            (Some(_), None) => {
                let a = self.weight(site, 0, "an operand")?.clone();
                let b = self.computed(site, 1)?;
                self.constant_first(site, a, b)
            }
            (None, None) => {
                let (a, b) = (self.computed(site, 0)?, self.computed(site, 1)?);
                let (a, b) = self.equally_wide(site, a, b)?;
                let op = match site.proto.op_type.as_str() {
                    "Add" => Op::Add,
                    "Sub" => Op::Sub,
                    "Mul" if a == b => return self.push(site, Op::Square, &[a]),
                    "Mul" => Op::Mul,
                    _ => return Err(site.unsupported("divide by stored numbers only")),
                };
                self.push(site, op, &[a, b])
            }
        }
    }

    fn with_constant(&mut self, site: &Site<'_>, a: NodeId, mut b: Tensor) -> Result<Value> {
        let op = match site.proto.op_type.as_str() {
            "Add" => Op::Add,
            "Sub" => Op::Sub,
            "Mul" => Op::Mul,
            _ => {
                if b.data.contains(&0.0) {
                    return Err(site.attribute_error("divisor", 0, "divide by other numbers"));
                }
                b.data.iter_mut().for_each(|v| *v = 1.0 / *v);
                Op::Mul
            }
        };
        let b = self.constant_operand(site, 1, a, b)?;
        self.push(site, op, &[a, b])
    }

    fn constant_first(&mut self, site: &Site<'_>, a: Tensor, b: NodeId) -> Result<Value> {
        let op = match site.proto.op_type.as_str() {
            "Add" => return self.swapped(site, Op::Add, a, b),
            "Mul" => return self.swapped(site, Op::Mul, a, b),
            "Sub" => Op::Sub,
            _ => {
                return Err(site.unsupported(
                    "a number divided by data is no polynomial; divide by stored numbers only",
                ));
            }
        };
        let a = self.constant_operand(site, 0, b, a)?;
        self.push(site, op, &[a, b])
    }

    fn swapped(&mut self, site: &Site<'_>, op: Op, a: Tensor, b: NodeId) -> Result<Value> {
        let a = self.constant_operand(site, 0, b, a)?;
        self.push(site, op, &[b, a])
    }

    /// A constant node next to `other`, without the axis of the batch.
    pub(super) fn constant_operand(
        &mut self,
        site: &Site<'_>,
        index: usize,
        other: NodeId,
        mut value: Tensor,
    ) -> Result<NodeId> {
        let rank = self.lowering.shape(other).len();
        while value.shape.len() > rank && value.shape.first() == Some(&1) {
            value.shape.remove(0);
        }
        let name = site.operand(index).unwrap_or_default();
        self.lowering.constant(name, value)
    }

    /// Repeats the one value a map of one operand, `[c, 1, 1]`, over the other's image.
    pub(super) fn equally_wide(
        &mut self,
        site: &Site<'_>,
        a: NodeId,
        b: NodeId,
    ) -> Result<(NodeId, NodeId)> {
        let image = |id: NodeId| match *self.lowering.shape(id) {
            [c, h, w] => Some((c, [h, w])),
            _ => None,
        };
        let (wide_a, wide_b) = (image(a), image(b));
        let name = format!("{}_spread", site.name);
        match (wide_a, wide_b) {
            (Some((c, extent)), Some((d, [1, 1]))) if c == d && extent != [1, 1] => {
                Ok((a, self.lowering.spread(&name, b, extent)?))
            }
            (Some((c, [1, 1])), Some((d, extent))) if c == d && extent != [1, 1] => {
                Ok((self.lowering.spread(&name, a, extent)?, b))
            }
            _ => Ok((a, b)),
        }
    }

    /// Sum or mean of all operands.
    pub(super) fn sum(&mut self, site: &Site<'_>) -> Result<Value> {
        let mut total = self.computed(site, 0)?;
        let count = site.proto.input.len();
        for index in 1..count {
            let next = match self.as_stored(site, index) {
                Some(Stored::Floats(value)) => self.constant_operand(site, index, total, value)?,
                _ => self.computed(site, index)?,
            };
            total = self.lowering.push(site.name, Op::Add, &[total, next])?;
        }
        if site.proto.op_type == "Mean" {
            total = self.lowering.scaled(site.name, total, 1.0 / count as f32)?;
        }
        Ok(Value::Computed(total))
    }

    pub(super) fn scaled(&mut self, site: &Site<'_>, factor: f32) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let factor = scalar(factor);
        let factor = self
            .lowering
            .constant(&format!("{}_factor", site.name), factor)?;
        self.push(site, Op::Mul, &[input, factor])
    }

    pub(super) fn power(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let exponent = match self.stored(site, 1, "the exponent")? {
            Stored::Floats(tensor) => tensor.data.as_slice(),
            Stored::Ints { data, .. } => &[data.first().copied().unwrap_or(0) as f32][..],
        };
        match exponent {
            [1.0] => Ok(Value::Computed(input)),
            [2.0] => self.push(site, Op::Square, &[input]),
            &[e] if e.fract() == 0.0 && (0.0..=POWER_MAX).contains(&e) => {
                let mut coefficients = vec![0.0; e as usize + 1];
                coefficients[e as usize] = 1.0;
                self.push(site, Op::Polynomial { coefficients }, &[input])
            }
            other => {
                let found = other.to_vec();
                Err(site.attribute_error("exponent", found, "use one whole exponent up to 16"))
            }
        }
    }

    pub(super) fn softmax(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let log = site.proto.op_type == "LogSoftmax";
        let op = |axis| {
            if log {
                Op::LogSoftmax { axis }
            } else {
                Op::Softmax { axis }
            }
        };
        let shape = self.lowering.shape(input).to_vec();
        let default = if self.opset < 13 { 1 } else { -1 };
        let axis = self.example_axis(site, site.int("axis", default), shape.len())?;
        if self.opset >= 13 || axis + 1 == shape.len() {
            return self.push(site, op(axis), &[input]);
        }
        // Before operator set 13 softmax is taken over all axes from `axis` on.
        let split = vec![
            shape[..axis].iter().product(),
            shape[axis..].iter().product(),
        ];
        let flat = self
            .lowering
            .reshape(&format!("{}_flat", site.name), input, split)?;
        let soft = self.lowering.push(site.name, op(1), &[flat])?;
        let back = format!("{}_back", site.name);
        Ok(Value::Computed(self.lowering.reshape(&back, soft, shape)?))
    }
}
