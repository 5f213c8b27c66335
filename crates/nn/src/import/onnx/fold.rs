//! Arithmetic on values known before the network runs: weights and shapes.

use super::{BATCH, Importer, Site, Stored};
use crate::error::{Error, Result, TensorFault};
use crate::tensor::{Tensor, element_count, strides, walk_strided};

/// Most values of a folded result.
const FOLDED_MAX: usize = 1 << 26;

impl Importer {
    /// The value of a node whose operands are all stored, where there is one to compute.
    pub(super) fn folded(&mut self, site: &Site<'_>) -> Result<Option<Stored>> {
        let count = site.proto.input.len();
        let stored: Option<Vec<Stored>> = (0..count).map(|i| self.as_stored(site, i)).collect();
        let Some(stored) = stored.filter(|stored| !stored.is_empty()) else {
            return Ok(None);
        };
        match (site.proto.op_type.as_str(), stored.as_slice()) {
            ("Add" | "Sub" | "Mul" | "Div" | "Pow", [a, b]) => arithmetic(site, a, b).map(Some),
            ("MatMul", [Stored::Floats(a), Stored::Floats(b)]) => product(site, a, b).map(Some),
            ("Sqrt" | "Neg" | "Exp" | "Reciprocal" | "Abs", [Stored::Floats(value)]) => {
                let function = elementwise(site.proto.op_type.as_str());
                let data = value.data.iter().map(|&v| function(v)).collect();
                floats(site, value.shape.clone(), data).map(Some)
            }
            ("Cast", [value]) => Ok(Some(cast(site, value))),
            ("ConstantOfShape", [Stored::Ints { data, .. }]) => filled(site, data).map(Some),
            ("ReduceProd", [Stored::Ints { data, .. }, ..]) => {
                extents_product(site, data).map(Some)
            }
            _ => Ok(None),
        }
    }
}

fn floats(site: &Site<'_>, shape: Vec<usize>, data: Vec<f32>) -> Result<Stored> {
    let tensor = Tensor::new(shape, data)?;
    match tensor.first_non_finite() {
        Some(position) => Err(Error::StoredTensor {
            tensor: site.name.to_owned(),
            fault: TensorFault::NonFinite { position },
        }),
        None => Ok(Stored::Floats(tensor)),
    }
}

fn elementwise(op: &str) -> fn(f32) -> f32 {
    match op {
        "Sqrt" => f32::sqrt,
        "Exp" => f32::exp,
        "Abs" => f32::abs,
        "Reciprocal" => |v| 1.0 / v,
        _ => |v| -v,
    }
}

/// Elementwise arithmetic; axes are aligned at the end and those of extent 1 repeated.
fn arithmetic(site: &Site<'_>, a: &Stored, b: &Stored) -> Result<Stored> {
    let misfit = || Error::StoredTensor {
        tensor: site.name.to_owned(),
        fault: TensorFault::Shape {
            expected: a.shape().to_vec(),
            found: b.shape().to_vec(),
        },
    };
    let shape = joined(a.shape(), b.shape()).ok_or_else(misfit)?;
    match (a, b) {
        (Stored::Floats(a), Stored::Floats(b)) => {
            let function = match site.proto.op_type.as_str() {
                "Add" => |a: f32, b: f32| a + b,
                "Sub" => |a: f32, b: f32| a - b,
                "Mul" => |a: f32, b: f32| a * b,
                "Pow" => f32::powf,
                _ => |a: f32, b: f32| a / b,
            };
            let (left, right) = (
                repeated(&a.shape, &a.data, &shape),
                repeated(&b.shape, &b.data, &shape),
            );
            let data = left.iter().zip(&right).map(|(&a, &b)| function(a, b));
            floats(site, shape, data.collect())
        }
        (Stored::Ints { data: left, .. }, Stored::Ints { data: right, .. }) => {
            let (left, right) = (
                repeated(a.shape(), left, &shape),
                repeated(b.shape(), right, &shape),
            );
            let data = left.iter().zip(&right).map(|(&a, &b)| whole(site, a, b));
            let data = data.collect::<Option<_>>().ok_or_else(misfit)?;
            Ok(Stored::Ints { shape, data })
        }
        _ => Err(misfit()),
    }
}

/// Arithmetic on extents; the batch size is not known, and only 1 times it is still itself.
fn whole(site: &Site<'_>, a: i64, b: i64) -> Option<i64> {
    let op = site.proto.op_type.as_str();
    match (op, a, b) {
        ("Mul", BATCH, 1) | ("Mul", 1, BATCH) | ("Div", BATCH, 1) => Some(BATCH),
        (_, BATCH, _) | (_, _, BATCH) => None,
        ("Add", ..) => a.checked_add(b),
        ("Sub", ..) => a.checked_sub(b),
        ("Mul", ..) => a.checked_mul(b),
        ("Div", ..) => a.checked_div(b),
        _ => a.checked_pow(u32::try_from(b).ok()?),
    }
}

fn joined(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(axis) => shape[axis],
        None => 1,
    };
    let extents = (0..rank).map(|axis| match (at(a, axis), at(b, axis)) {
        (a, b) if a == b || b == 1 => Some(a),
        (1, b) => Some(b),
        _ => None,
    });
    let shape: Vec<usize> = extents.collect::<Option<_>>()?;
    element_count(&shape).filter(|&count| count <= FOLDED_MAX)?;
    Some(shape)
}

/// `data` of shape `from` over all positions of `to`.
fn repeated<T: Copy>(from: &[usize], data: &[T], to: &[usize]) -> Vec<T> {
    let own = strides(from);
    let skipped = to.len() - from.len();
    let steps: Vec<usize> = (0..to.len())
        .map(|axis| match axis.checked_sub(skipped) {
            Some(axis) if from[axis] != 1 => own[axis],
            _ => 0,
        })
        .collect();
    let mut out = Vec::with_capacity(to.iter().product());
    walk_strided(to, &steps, |_, at| out.push(data[at]));
    out
}

fn product(site: &Site<'_>, a: &Tensor, b: &Tensor) -> Result<Stored> {
    let (&[rows, inner], &[depth, columns]) = (a.shape.as_slice(), b.shape.as_slice()) else {
        return Err(site.unsupported("multiply stored matrices of two axes only"));
    };
    let size = rows.checked_mul(columns).filter(|&s| s <= FOLDED_MAX);
    let (Some(size), true) = (size, inner == depth) else {
        return Err(Error::StoredTensor {
            tensor: site.name.to_owned(),
            fault: TensorFault::Shape {
                expected: vec![inner, columns],
                found: b.shape.clone(),
            },
        });
    };
    let mut data = vec![0.0; size];
    for (out, row) in data
        .chunks_exact_mut(columns.max(1))
        .zip(a.data.chunks_exact(inner.max(1)))
    {
        for (&factor, line) in row.iter().zip(b.data.chunks_exact(columns.max(1))) {
            out.iter_mut()
                .zip(line)
                .for_each(|(o, &v)| *o += factor * v);
        }
    }
    floats(site, vec![rows, columns], data)
}

/// To floats or to whole numbers, whichever the target type is.
fn cast(site: &Site<'_>, value: &Stored) -> Stored {
    let to_floats = matches!(site.int("to", 1), 1 | 10 | 11 | 16);
    match value {
        Stored::Ints { shape, data } if to_floats => Stored::Floats(Tensor {
            shape: shape.clone(),
            data: data.iter().map(|&v| v as f32).collect(),
        }),
        Stored::Floats(tensor) if !to_floats => Stored::Ints {
            shape: tensor.shape.clone(),
            data: tensor.data.iter().map(|&v| v as i64).collect(),
        },
        same => same.clone(),
    }
}

/// `ConstantOfShape`.
fn filled(site: &Site<'_>, extents: &[i64]) -> Result<Stored> {
    let shape: Option<Vec<usize>> = extents.iter().map(|&e| usize::try_from(e).ok()).collect();
    let shape = shape.filter(|shape| element_count(shape).is_some_and(|n| n <= FOLDED_MAX));
    let Some(shape) = shape else {
        let found = extents.to_vec();
        return Err(site.attribute_error("shape", found, "give a fixed shape without the batch"));
    };
    let count = shape.iter().product();
    let value = site.attribute("value").and_then(|a| a.t.as_ref());
    Ok(match value {
        None => Stored::Floats(Tensor {
            shape,
            data: vec![0.0; count],
        }),
        Some(proto) => match super::stored::read(site.name, proto)? {
            Stored::Floats(one) => Stored::Floats(Tensor {
                shape,
                data: vec![one.data.first().copied().unwrap_or(0.0); count],
            }),
            Stored::Ints { data, .. } => Stored::Ints {
                shape,
                data: vec![data.first().copied().unwrap_or(0); count],
            },
        },
    })
}

/// The product of a list of extents.
fn extents_product(site: &Site<'_>, extents: &[i64]) -> Result<Stored> {
    let total = extents.iter().try_fold(1i64, |total, &extent| {
        (extent != BATCH)
            .then(|| total.checked_mul(extent))
            .flatten()
    });
    let total = total
        .ok_or_else(|| site.attribute_error("extents", extents.to_vec(), "leave the batch out"))?;
    let keep = site.int("keepdims", 1) != 0;
    Ok(Stored::Ints {
        shape: if keep { vec![1] } else { vec![] },
        data: vec![total],
    })
}
