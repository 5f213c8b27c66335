//! Operators that take part of a value: slices, splits and gathers.

use super::{Importer, Site, Stored, Value, counted};
use crate::error::{Error, Result};
use crate::graph::NodeId;
use crate::import::compose::Crop;

/// Longest axis that is cut.
const AXIS_MAX: usize = 1 << 16;

impl Importer {
    pub(super) fn slice(&mut self, site: &Site<'_>) -> Result<Value> {
        let ranges = self.ranges(site)?;
        if let Some(stored) = self.as_stored(site, 0) {
            return sliced_shape(site, &stored, &ranges).map(Value::Stored);
        }
        let mut value = self.computed(site, 0)?;
        let rank = self.lowering.shape(value).len();
        for range in ranges {
            let axis = self.example_axis(site, range.axis, rank)?;
            let kept = range.positions(self.extent(site, value, axis)?);
            value = self.kept(site, value, axis, &kept)?;
        }
        Ok(Value::Computed(value))
    }

    fn ranges(&self, site: &Site<'_>) -> Result<Vec<Range>> {
        let list = |index: usize, name: &'static str| -> Result<Option<Vec<i64>>> {
            match (site.ints(name), site.operand(index)) {
                (Some(ints), _) => Ok(Some(ints.to_vec())),
                (None, Some(_)) => Ok(Some(self.integers(site, index, name)?.to_vec())),
                (None, None) => Ok(None),
            }
        };
        let starts = list(1, "starts")?.ok_or_else(|| site.missing("starts"))?;
        let ends = list(2, "ends")?.ok_or_else(|| site.missing("ends"))?;
        let count = starts.len();
        let axes = list(3, "axes")?.unwrap_or_else(|| (0..count as i64).collect());
        let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; count]);
        if [ends.len(), axes.len(), steps.len()] != [count; 3] {
            return Err(site.attribute_error("starts", starts, "give one start for each axis"));
        }
        if let Some(&step) = steps.iter().find(|&&step| step < 1) {
            return Err(site.attribute_error("steps", step, "step forward"));
        }
        let one = |i: usize| Range {
            axis: axes[i],
            start: starts[i],
            end: ends[i],
            step: steps[i],
        };
        Ok((0..count).map(one).collect())
    }

    /// Equal or stated parts along one axis.
    pub(super) fn split(&mut self, site: &Site<'_>) -> Result<Vec<Value>> {
        let value = self.computed(site, 0)?;
        let rank = self.lowering.shape(value).len();
        let axis = self.example_axis(site, site.int("axis", 0), rank)?;
        let extent = self.extent(site, value, axis)?;
        let parts = site.proto.output.len().max(1);
        let sizes = match (site.ints("split"), site.operand(1)) {
            (Some(sizes), _) => sizes.to_vec(),
            (None, Some(_)) => self.integers(site, 1, "the sizes")?.to_vec(),
            (None, None) => {
                let size = extent.div_ceil(parts);
                let start = |i: usize| (i * size).min(extent);
                (0..parts)
                    .map(|i| (start(i + 1) - start(i)) as i64)
                    .collect()
            }
        };
        let mut start = 0;
        let mut values = Vec::with_capacity(sizes.len());
        for &size in &sizes {
            let end = usize::try_from(size)
                .ok()
                .and_then(|size| size.checked_add(start));
            let Some(end) = end.filter(|&end| end <= extent && end > start) else {
                return Err(site.attribute_error("split", sizes, "give sizes that fit the axis"));
            };
            let kept: Vec<usize> = (start..end).collect();
            values.push(Value::Computed(self.kept(site, value, axis, &kept)?));
            start = end;
        }
        Ok(values)
    }

    pub(super) fn gather(&mut self, site: &Site<'_>) -> Result<Value> {
        let Stored::Ints { shape, data } = self.stored(site, 1, "the indices")?.clone() else {
            return Err(site.unsupported("gather by whole numbers"));
        };
        if let Some(stored) = self.as_stored(site, 0) {
            let Stored::Ints { data: from, .. } = stored else {
                return Err(site.unsupported("only entries of shapes and of images are gathered"));
            };
            let picked = data
                .iter()
                .map(|&at| counted(site, at, from.len()).map(|at| from[at]));
            let data = picked.collect::<Result<_>>()?;
            return Ok(Value::Stored(Stored::Ints { shape, data }));
        }
        let value = self.computed(site, 0)?;
        let rank = self.lowering.shape(value).len();
        let axis = self.example_axis(site, site.int("axis", 0), rank)?;
        let extent = self.extent(site, value, axis)?;
        let kept = data.iter().map(|&at| counted(site, at, extent));
        let kept = kept.collect::<Result<Vec<usize>>>()?;
        let picked = self.kept(site, value, axis, &kept)?;
        match shape.len() {
            1 => Ok(Value::Computed(picked)),
            0 if rank > 1 => {
                let mut rest = self.lowering.shape(picked).to_vec();
                rest.remove(axis);
                let id = self.lowering.reshape(site.name, picked, rest)?;
                Ok(Value::Computed(id))
            }
            _ => Err(site.attribute_error("indices", shape, "gather by a list of numbers")),
        }
    }

    fn extent(&self, site: &Site<'_>, value: NodeId, axis: usize) -> Result<usize> {
        match self.lowering.shape(value)[axis] {
            extent if extent <= AXIS_MAX => Ok(extent),
            extent => Err(site.attribute_error("extent", extent, "cut shorter axes")),
        }
    }

    /// The positions `kept` along `axis`.
    fn kept(
        &mut self,
        site: &Site<'_>,
        value: NodeId,
        axis: usize,
        kept: &[usize],
    ) -> Result<NodeId> {
        let shape = self.lowering.shape(value).to_vec();
        if kept.is_empty() {
            return Err(site.attribute_error("axes", axis + 1, "keep at least one entry"));
        }
        if kept.iter().copied().eq(0..shape[axis]) {
            return Ok(value);
        }
        let stride = kept.get(1).map_or(1, |&next| next.saturating_sub(kept[0]));
        let even = stride > 0 && kept.windows(2).all(|pair| pair[1] == pair[0] + stride);
        if shape.len() == 3 && axis > 0 && even {
            let mut crop = Crop {
                start: [0, 0],
                extent: [shape[1], shape[2]],
                stride: [1, 1],
            };
            crop.start[axis - 1] = kept[0];
            crop.extent[axis - 1] = kept[kept.len() - 1] - kept[0] + 1;
            crop.stride[axis - 1] = stride;
            return self.lowering.cropped(site.name, value, crop);
        }
        let front = self
            .lowering
            .axis_to_front(&format!("{}_in", site.name), value, axis)?;
        let picked = self.lowering.selected(site.name, front, kept)?;
        self.lowering
            .front_to_axis(&format!("{}_out", site.name), picked, axis)
    }
}

/// One axis of a slice, as the file states it.
struct Range {
    axis: i64,
    start: i64,
    end: i64,
    step: i64,
}

impl Range {
    /// Positions kept of `extent`.
    fn positions(&self, extent: usize) -> Vec<usize> {
        let extent = extent as i64;
        let bound = |at: i64| {
            let at = if at < 0 {
                at.saturating_add(extent)
            } else {
                at
            };
            at.clamp(0, extent) as usize
        };
        let step = usize::try_from(self.step).unwrap_or(usize::MAX).max(1);
        (bound(self.start)..bound(self.end)).step_by(step).collect()
    }
}

/// Part of a list of extents.
fn sliced_shape(site: &Site<'_>, stored: &Stored, ranges: &[Range]) -> Result<Stored> {
    let (Stored::Ints { shape, data }, [range]) = (stored, ranges) else {
        return Err(site.unsupported("only lists of extents are sliced before the network runs"));
    };
    if shape.len() != 1 || !matches!(range.axis, 0 | -1) {
        return Err(site.attribute_error("axes", range.axis, "slice along the only axis"));
    }
    let data: Vec<i64> = range
        .positions(data.len())
        .iter()
        .map(|&at| data[at])
        .collect();
    if data.is_empty() {
        return Err(Error::TensorLength {
            shape: shape.clone(),
            found: 0,
        });
    }
    Ok(Stored::Ints {
        shape: vec![data.len()],
        data,
    })
}

impl Importer {
    /// Refuses the batch among axes of a value with the batch; the others count from the example.
    pub(super) fn example_axes(
        &self,
        site: &Site<'_>,
        axes: &[i64],
        rank: usize,
    ) -> Result<Vec<usize>> {
        let mut counted = Vec::with_capacity(axes.len());
        for &axis in axes {
            counted.push(self.example_axis(site, axis, rank)?);
        }
        counted.sort_unstable();
        counted.dedup();
        Ok(counted)
    }
}
