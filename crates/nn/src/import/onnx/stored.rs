//! Stored tensors of an ONNX file.

use super::proto::{TensorProto, data_type};
use crate::error::{Error, Result, TensorFault};
use crate::tensor::{Tensor, element_count};

/// Most values of a stored tensor.
const VALUES_MAX: usize = 1 << 28;

/// A value that does not depend on the network's input.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stored {
    /// Numbers.
    Floats(Tensor),
    /// Shapes, axes and the like.
    Ints {
        /// Extents.
        shape: Vec<usize>,
        /// Values; [`BATCH`] stands for the batch size.
        data: Vec<i64>,
    },
}

/// In shape arithmetic: the size of the batch, whatever it is.
pub(super) const BATCH: i64 = i64::MIN;

impl Stored {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Stored::Floats(tensor) => &tensor.shape,
            Stored::Ints { shape, .. } => shape,
        }
    }

    /// The same values under another shape of the same size.
    pub(super) fn with_shape(mut self, to: Vec<usize>) -> Result<Self> {
        let count: usize = self.shape().iter().product();
        if element_count(&to) != Some(count) {
            return Err(Error::TensorLength {
                shape: to,
                found: count,
            });
        }
        match &mut self {
            Stored::Floats(Tensor { shape, .. }) | Stored::Ints { shape, .. } => *shape = to,
        }
        Ok(self)
    }
}

/// Reads `proto`, which goes by `name`.
pub(super) fn read(name: &str, proto: &TensorProto) -> Result<Stored> {
    stored(proto).map_err(|fault| Error::StoredTensor {
        tensor: name.to_owned(),
        fault,
    })
}

fn stored(proto: &TensorProto) -> std::result::Result<Stored, TensorFault> {
    if proto.data_location != 0 {
        return Err(TensorFault::External);
    }
    let shape = extents(&proto.dims)?;
    let raw = proto.raw_data.as_slice();
    let data: Vec<f32> = match proto.data_type {
        data_type::FLOAT if !raw.is_empty() => words(raw, &shape, f32::from_le_bytes)?,
        data_type::FLOAT => proto.float_data.clone(),
        data_type::DOUBLE if !raw.is_empty() => {
            words(raw, &shape, |b| f64::from_le_bytes(b) as f32)?
        }
        data_type::DOUBLE => proto.double_data.iter().map(|&v| v as f32).collect(),
        data_type::FLOAT16 if !raw.is_empty() => {
            words(raw, &shape, |b| half_to_single(u16::from_le_bytes(b)))?
        }
        data_type::FLOAT16 => proto
            .int32_data
            .iter()
            .map(|&bits| half_to_single(bits as u16))
            .collect(),
        data_type::BFLOAT16 if !raw.is_empty() => {
            words(raw, &shape, |b| brain_to_single(u16::from_le_bytes(b)))?
        }
        data_type::BFLOAT16 => proto
            .int32_data
            .iter()
            .map(|&bits| brain_to_single(bits as u16))
            .collect(),
        _ => return integers(proto, shape),
    };
    if element_count(&shape) != Some(data.len()) {
        return Err(TensorFault::Length {
            shape,
            found: data.len(),
        });
    }
    let tensor = Tensor { shape, data };
    match tensor.first_non_finite() {
        Some(position) => Err(TensorFault::NonFinite { position }),
        None => Ok(Stored::Floats(tensor)),
    }
}

fn integers(proto: &TensorProto, shape: Vec<usize>) -> std::result::Result<Stored, TensorFault> {
    let raw = proto.raw_data.as_slice();
    let data: Vec<i64> = match proto.data_type {
        data_type::INT64 if !raw.is_empty() => words(raw, &shape, i64::from_le_bytes)?,
        data_type::INT64 => proto.int64_data.clone(),
        data_type::INT32 if !raw.is_empty() => {
            words(raw, &shape, |b| i32::from_le_bytes(b).into())?
        }
        data_type::UINT8 | data_type::BOOL if !raw.is_empty() => {
            raw.iter().map(|&b| b.into()).collect()
        }
        data_type::INT8 if !raw.is_empty() => words(raw, &shape, |b| i8::from_le_bytes(b).into())?,
        data_type::INT32 | data_type::UINT8 | data_type::INT8 | data_type::BOOL => {
            proto.int32_data.iter().map(|&v| v.into()).collect()
        }
        other => {
            return Err(TensorFault::ElementType {
                found: other.to_string(),
            });
        }
    };
    if element_count(&shape) != Some(data.len()) {
        return Err(TensorFault::Length {
            shape,
            found: data.len(),
        });
    }
    Ok(Stored::Ints { shape, data })
}

fn extents(dims: &[i64]) -> std::result::Result<Vec<usize>, TensorFault> {
    let impossible = || TensorFault::Extents {
        extents: dims.to_vec(),
    };
    let shape: std::result::Result<Vec<usize>, _> =
        dims.iter().map(|&d| usize::try_from(d)).collect();
    let shape = shape.map_err(|_| impossible())?;
    match element_count(&shape) {
        Some(count) if count <= VALUES_MAX => Ok(shape),
        _ => Err(impossible()),
    }
}

fn words<const N: usize, T>(
    raw: &[u8],
    shape: &[usize],
    value: impl Fn([u8; N]) -> T,
) -> std::result::Result<Vec<T>, TensorFault> {
    let (words, rest) = raw.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(TensorFault::Length {
            shape: shape.to_vec(),
            found: words.len(),
        });
    }
    Ok(words.iter().map(|&word| value(word)).collect())
}

/// bfloat16 to binary32: its upper half.
fn brain_to_single(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// IEEE 754 binary16 to binary32, exact.
fn half_to_single(bits: u16) -> f32 {
    let sign = if bits & 0x8000 != 0 { -1.0 } else { 1.0 };
    let fraction = f32::from(bits & 0x3ff);
    match (bits >> 10) & 0x1f {
        0 => sign * fraction * 2f32.powi(-24),
        0x1f if fraction == 0.0 => sign * f32::INFINITY,
        0x1f => f32::NAN,
        exponent => sign * (1024.0 + fraction) * 2f32.powi(i32::from(exponent) - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_converted_exactly() {
        let known = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
        ];
        for (bits, value) in known {
            assert_eq!(half_to_single(bits), value);
        }
        assert!(half_to_single(0x7c01).is_nan() && half_to_single(0xfc00) == f32::NEG_INFINITY);
    }
}
