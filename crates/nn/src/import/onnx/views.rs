//! Operators that move values without changing them, and arithmetic on shapes.

use super::{BATCH, Importer, REPLACE, Site, Stored, Value, counted};
use crate::error::Result;
use crate::graph::{NodeId, Op};
use crate::tensor::element_count;

const ONE_EXAMPLE: &str = "reshape each example by itself: the first axis stays the batch";

impl Importer {
    pub(super) fn identity(&mut self, site: &Site<'_>) -> Result<Value> {
        // `Cast` to 32-bit, 64-bit or 16-bit floats; shapes may be cast to any integer.
        let value = self.value(site, 0, "an operand")?.clone();
        let target = site.int("to", 1);
        if matches!(value, Value::Computed(_)) && !matches!(target, 1 | 10 | 11) {
            return Err(site.attribute_error("to", target, "the network computes in floats"));
        }
        Ok(value)
    }

    pub(super) fn flatten(&mut self, site: &Site<'_>) -> Result<Value> {
        let input = self.computed(site, 0)?;
        let shape = self.lowering.shape(input).to_vec();
        let axis = site.int("axis", 1);
        if self.example_axis(site, axis, shape.len().max(1))? != 0 {
            return Err(site.attribute_error("axis", axis, ONE_EXAMPLE));
        }
        self.view(site, input, vec![shape.iter().product()])
    }

    pub(super) fn reshape(&mut self, site: &Site<'_>) -> Result<Value> {
        let target = match site.ints("shape") {
            Some(shape) => shape.to_vec(),
            None => self.integers(site, 1, "the shape")?.to_vec(),
        };
        if let Some(stored) = self.as_stored(site, 0) {
            let shape = resolve(site, &target, stored.shape(), 0)?;
            return Ok(Value::Stored(stored.with_shape(shape)?));
        }
        let input = self.computed(site, 0)?;
        let shape = self.lowering.shape(input).to_vec();
        let open = target.iter().filter(|&&extent| extent == -1).count();
        let batch = target.first().is_some_and(|&first| self.is_batch(first));
        if !batch || target.len() < 2 || open > 1 {
            return Err(site.attribute_error("shape", target, ONE_EXAMPLE));
        }
        let shape = resolve(site, &target[1..], &shape, 1)?;
        self.view(site, input, shape)
    }

    /// Whether an extent can stand for the batch: open, copied, or the size fixed in the file.
    fn is_batch(&self, extent: i64) -> bool {
        let fixed = self.batch.map_or(1, |batch| batch as i64);
        matches!(extent, BATCH | -1 | 0) || extent == fixed
    }

    pub(super) fn squeeze(&mut self, site: &Site<'_>) -> Result<Value> {
        let axes = match (site.ints("axes"), site.operand(1)) {
            (Some(axes), _) => Some(axes.to_vec()),
            (None, Some(_)) => Some(self.integers(site, 1, "the axes")?.to_vec()),
            (None, None) => None,
        };
        let (shape, stored) = match self.value(site, 0, "an operand")? {
            Value::Stored(stored) => (stored.shape().to_vec(), Some(stored.clone())),
            // The batch takes part in counting axes; its extent is never 1 here.
            Value::Computed(id) => {
                let example = self.lowering.shape(*id).iter().copied();
                (std::iter::once(usize::MAX).chain(example).collect(), None)
            }
        };
        let insert = site.proto.op_type == "Unsqueeze";
        let shape = if insert {
            unsqueezed(site, &shape, axes)?
        } else {
            squeezed(site, &shape, axes)?
        };
        match stored {
            Some(stored) => Ok(Value::Stored(stored.with_shape(shape)?)),
            None if shape.first() == Some(&usize::MAX) && shape.len() > 1 => {
                let input = self.computed(site, 0)?;
                self.view(site, input, shape[1..].to_vec())
            }
            None => Err(site.attribute_error("axes", shape, ONE_EXAMPLE)),
        }
    }

    fn view(&mut self, site: &Site<'_>, input: NodeId, shape: Vec<usize>) -> Result<Value> {
        Ok(Value::Computed(
            self.lowering.reshape(site.name, input, shape)?,
        ))
    }

    pub(super) fn transpose(&mut self, site: &Site<'_>) -> Result<Value> {
        let stored = self.as_stored(site, 0);
        let rank = match &stored {
            Some(stored) => stored.shape().len(),
            None => self.lowering.shape(self.computed(site, 0)?).len() + 1,
        };
        let reversed: Vec<i64> = (0..rank as i64).rev().collect();
        let axes = site.ints("perm").unwrap_or(&reversed);
        let permutation: Option<Vec<usize>> =
            axes.iter().map(|&a| usize::try_from(a).ok()).collect();
        let Some(permutation) = permutation else {
            return Err(site.attribute_error("perm", axes, REPLACE));
        };
        match (stored, permutation.split_first()) {
            (Some(Stored::Floats(tensor)), _) => Ok(Value::Stored(Stored::Floats(
                tensor.transposed(&permutation)?,
            ))),
            (None, Some((0, rest))) if rest.iter().all(|&axis| axis > 0) => {
                let permutation = rest.iter().map(|&axis| axis - 1).collect();
                let input = self.computed(site, 0)?;
                self.lowering.transposed_in_file(input);
                self.unary(site, Op::Transpose { permutation })
            }
            _ => Err(site.attribute_error("perm", axes, ONE_EXAMPLE)),
        }
    }

    pub(super) fn shape_of(&mut self, site: &Site<'_>) -> Result<Value> {
        let data: Vec<i64> = match self.value(site, 0, "an operand")? {
            Value::Stored(stored) => stored.shape().iter().map(|&e| e as i64).collect(),
            Value::Computed(id) => {
                let example = self.lowering.shape(*id).iter().map(|&e| e as i64);
                std::iter::once(BATCH).chain(example).collect()
            }
        };
        let rank = data.len() as i64;
        let bound = |name: &str, default: i64| {
            let at = site.int(name, default);
            (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize
        };
        let (start, end) = (bound("start", 0), bound("end", rank));
        let data = data[start.min(end)..end].to_vec();
        Ok(Value::Stored(Stored::Ints {
            shape: vec![data.len()],
            data,
        }))
    }

    pub(super) fn concat(&mut self, site: &Site<'_>) -> Result<Value> {
        let count = site.proto.input.len();
        if count == 0 {
            return Err(site.missing("an operand"));
        }
        if matches!(self.value(site, 0, "an operand")?, Value::Stored(_)) {
            return self.concat_shapes(site, count);
        }
        let ids: Result<Vec<NodeId>> = (0..count).map(|i| self.computed(site, i)).collect();
        let ids = ids?;
        let rank = self.lowering.shape(ids[0]).len();
        let axis = self.example_axis(site, site.int("axis", 1), rank)?;
        self.push(site, Op::Concat { axis }, &ids)
    }

    fn concat_shapes(&self, site: &Site<'_>, count: usize) -> Result<Value> {
        let mut data = Vec::new();
        for index in 0..count {
            data.extend(self.integers(site, index, "an operand")?);
        }
        Ok(Value::Stored(Stored::Ints {
            shape: vec![data.len()],
            data,
        }))
    }
}

/// Replaces 0 by the extent copied and -1 by what is left; `skipped` axes of the source come before
/// `from`.
fn resolve(site: &Site<'_>, target: &[i64], from: &[usize], skipped: usize) -> Result<Vec<usize>> {
    let error = || site.attribute_error("shape", target, ONE_EXAMPLE);
    let copied = site.int("allowzero", 0) == 0;
    let mut shape = Vec::with_capacity(target.len());
    let mut open = None;
    for (axis, &extent) in target.iter().enumerate() {
        shape.push(match extent {
            0 if copied => *from.get(axis).ok_or_else(error)?,
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            extent => usize::try_from(extent).map_err(|_| error())?,
        });
    }
    let total: usize = from.iter().product();
    let known = element_count(&shape)
        .filter(|&known| known > 0)
        .ok_or_else(error)?;
    if let Some(axis) = open {
        shape[axis] = total / known;
    }
    if element_count(&shape) != Some(total) {
        return Err(if skipped == 0 {
            site.attribute_error("shape", target, REPLACE)
        } else {
            error()
        });
    }
    Ok(shape)
}

fn unsqueezed(site: &Site<'_>, shape: &[usize], axes: Option<Vec<i64>>) -> Result<Vec<usize>> {
    let axes = axes.ok_or_else(|| site.missing("axes"))?;
    let rank = shape.len() + axes.len();
    let axes: Result<Vec<usize>> = axes.iter().map(|&axis| counted(site, axis, rank)).collect();
    let axes = axes?;
    let mut rest = shape.iter().copied();
    let fill = (0..rank).map(|axis| {
        if axes.contains(&axis) {
            Some(1)
        } else {
            rest.next()
        }
    });
    fill.collect::<Option<Vec<usize>>>()
        .ok_or_else(|| site.attribute_error("axes", axes, REPLACE))
}

fn squeezed(site: &Site<'_>, shape: &[usize], axes: Option<Vec<i64>>) -> Result<Vec<usize>> {
    let Some(axes) = axes else {
        return Ok(shape
            .iter()
            .copied()
            .filter(|&extent| extent != 1)
            .collect());
    };
    let axes: Result<Vec<usize>> = axes
        .iter()
        .map(|&axis| counted(site, axis, shape.len()))
        .collect();
    let axes = axes?;
    if axes.iter().any(|&axis| shape[axis] != 1) {
        return Err(site.attribute_error("axes", axes, ONE_EXAMPLE));
    }
    let kept = shape
        .iter()
        .enumerate()
        .filter(|(axis, _)| !axes.contains(axis));
    Ok(kept.map(|(_, &extent)| extent).collect())
}
