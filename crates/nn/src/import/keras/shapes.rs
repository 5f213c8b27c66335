//! Keras layers that move, pad or cut values.

use serde_json::Value;

use super::Importer;
use super::config::{Layer, natural};
use crate::error::Result;
use crate::graph::{NodeId, Op, Padding};
use crate::import::compose::Crop;
use crate::tensor::is_permutation;

impl Importer<'_> {
    pub(super) fn zero_padding(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let padding = sides(layer, "padding")?;
        self.lowering.zero_padding(layer.name, input, padding)
    }

    /// Leaves out rows and columns at the edges.
    pub(super) fn cropping(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let cut = sides(layer, "cropping")?;
        let refused = || {
            let hint = "leave something of the image";
            layer.setting("cropping", layer.value("cropping"), hint)
        };
        let &[_, height, width] = self.lowering.shape(input) else {
            return Err(refused());
        };
        let left = |extent: usize, before: usize, after: usize| {
            extent
                .checked_sub(before)?
                .checked_sub(after)
                .filter(|&left| left > 0)
        };
        let extent = left(height, cut.top, cut.bottom).zip(left(width, cut.left, cut.right));
        let (rows, columns) = extent.ok_or_else(refused)?;
        let crop = Crop {
            start: [cut.top, cut.left],
            extent: [rows, columns],
            stride: [1, 1],
        };
        self.lowering.cropped(layer.name, input, crop)
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

    pub(super) fn flatten(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let input = self.channels_last(layer, input)?;
        let length = self.lowering.shape(input).iter().product();
        self.lowering.reshape(layer.name, input, vec![length])
    }

    pub(super) fn reshape(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
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
        if extents.is_empty() || open > 1 || (open == 1 && !total.is_multiple_of(count)) {
            return Err(error());
        }
        let shape = extents
            .iter()
            .map(|extent| natural(extent).unwrap_or(total / count))
            .collect();
        let id = self.lowering.reshape(layer.name, input, shape)?;
        self.channels_first(layer, id)
    }

    /// Undoes [`Self::channels_last`].
    fn channels_first(&mut self, layer: &Layer<'_>, id: NodeId) -> Result<NodeId> {
        if self.lowering.shape(id).len() != 3 {
            return Ok(id);
        }
        let name = format!("{}_channels_first", layer.name);
        self.lowering.permuted(&name, id, vec![2, 0, 1])
    }

    pub(super) fn permute(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let dims = layer.value("dims");
        let axes = dims.as_array().map_or(&[][..], Vec::as_slice).iter();
        let axes: Option<Vec<usize>> = axes.map(|axis| Some(natural(axis)? - 1)).collect();
        let rank = self.lowering.shape(input).len();
        let sound = axes.filter(|axes| is_permutation(axes, rank));
        let axes =
            sound.ok_or_else(|| layer.setting("dims", dims, "name each axis from 1 on once"))?;
        let input = self.channels_last(layer, input)?;
        let id = self.lowering.permuted(layer.name, input, axes)?;
        self.channels_first(layer, id)
    }

    /// A line `[n, c]` of Keras as an image `[c, 1, n]` for `apply`, the answer as a line again.
    pub(super) fn over_line(
        &mut self,
        layer: &Layer<'_>,
        input: NodeId,
        apply: impl FnOnce(&mut Self, &Layer<'_>, NodeId) -> Result<NodeId>,
    ) -> Result<NodeId> {
        let image = self.line_as_image(layer, input)?;
        let answer = apply(self, layer, image)?;
        let shape = self.lowering.shape(answer).to_vec();
        let flat = vec![shape[0], shape.iter().skip(1).product()];
        let name = format!("{}_line", layer.name);
        let line = self.lowering.reshape(&name, answer, flat)?;
        let name = format!("{}_out", layer.name);
        self.lowering.permuted(&name, line, vec![1, 0])
    }

    pub(super) fn line_as_image(&mut self, layer: &Layer<'_>, input: NodeId) -> Result<NodeId> {
        let &[length, channels] = self.lowering.shape(input) else {
            let found = format!("{:?}", self.lowering.shape(input));
            return Err(layer.setting("input", found, "give values of two axes"));
        };
        let name = format!("{}_in", layer.name);
        let turned = self.lowering.permuted(&name, input, vec![1, 0])?;
        let name = format!("{}_image", layer.name);
        self.lowering
            .reshape(&name, turned, vec![channels, 1, length])
    }
}

/// Rows and columns at the edges: one number, one for each axis, or two for each axis.
fn sides(layer: &Layer<'_>, key: &'static str) -> Result<Padding> {
    let value = layer.value(key);
    let extent = |v: &Value| v.as_u64().and_then(|v| usize::try_from(v).ok());
    let pair = |v: &Value| match v.as_array().map(Vec::as_slice) {
        Some([a, b]) => extent(a).zip(extent(b)),
        None => extent(v).map(|both| (both, both)),
        _ => None,
    };
    let both = match value.as_array().map(Vec::as_slice) {
        Some([h, w]) => pair(h).zip(pair(w)),
        None => pair(value).map(|side| (side, side)),
        _ => None,
    };
    let Some(((top, bottom), (left, right))) = both else {
        return Err(layer.setting(key, value, "give numbers of rows and columns"));
    };
    Ok(Padding {
        top,
        left,
        bottom,
        right,
    })
}
