//! Piecewise linear activations, written with ReLUs.

use super::{Importer, Site, Stored, Value};
use crate::error::Result;
use crate::graph::{NodeId, Op};
use crate::import::compose::scalar;

impl Importer {
    /// `Clip`: from 0 upward a plain ReLU, else one ReLU for each bound.
    pub(super) fn clip(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let bound = |index: usize, name: &str, open: f32| match self.as_stored(site, index) {
            Some(Stored::Floats(tensor)) => tensor.data.first().copied().unwrap_or(open),
            _ => site.float(name, open),
        };
        let (low, high) = (bound(1, "min", f32::MIN), bound(2, "max", f32::MAX));
        let (low, high) = (
            (low > f32::MIN).then_some(low),
            (high < f32::MAX).then_some(high),
        );
        if low > high && high.is_some() {
            return Err(site.attribute_error("bounds", (low, high), "give them in order"));
        }
        if (low, high) == (Some(0.0), None) {
            return self.push(site, Op::Relu, &[input]);
        }
        let id = self.lowering.clamped(site.name, input, low, high)?;
        Ok(Value::Computed(id))
    }

    pub(super) fn leaky(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let slope = match site.operand(1) {
            Some(_) => self.weight(site, 1, "the slopes")?.clone(),
            None => scalar(site.float("alpha", 0.01)),
        };
        let id = self.lowering.leaky(site.name, input, &slope)?;
        Ok(Value::Computed(id))
    }

    pub(super) fn absolute(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        Ok(Value::Computed(self.lowering.absolute(site.name, input)?))
    }

    /// `Max` or `Min` of values and stored numbers.
    pub(super) fn extreme(&mut self, site: &Site<'_>) -> Result<Value> {
        let mut best = self.computed(site, 0)?;
        for index in 1..site.proto.input.len() {
            best = match self.as_stored(site, index) {
                Some(Stored::Floats(bound)) if bound.len() == 1 => {
                    self.bounded(site, best, bound.data[0])?
                }
                _ => {
                    let next = self.computed(site, index)?;
                    let (a, b) = self.equally_wide(site, best, next)?;
                    match site.proto.op_type.as_str() {
                        "Max" => self.lowering.larger(site.name, a, b)?,
                        _ => self.lowering.smaller(site.name, a, b)?,
                    }
                }
            };
        }
        Ok(Value::Computed(best))
    }

    fn bounded(&mut self, site: &Site<'_>, value: NodeId, bound: f32) -> Result<NodeId> {
        let (low, high) = match site.proto.op_type.as_str() {
            "Max" => (Some(bound), None),
            _ => (None, Some(bound)),
        };
        self.lowering.clamped(site.name, value, low, high)
    }

    /// `HardSigmoid`, and `HardSwish`, which multiplies its input by one.
    pub(super) fn hard(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let swish = site.proto.op_type == "HardSwish";
        let (slope, offset) = match swish {
            true => (1.0 / 6.0, 0.5),
            false => (site.float("alpha", 0.2), site.float("beta", 0.5)),
        };
        let gate = self
            .lowering
            .hard_sigmoid(site.name, input, slope, offset)?;
        if !swish {
            return Ok(Value::Computed(gate));
        }
        self.push(site, Op::Mul, &[input, gate])
    }
}
