//! Bounded reading and writing of little-endian fields and bit-packed coefficients.

use super::CodecError;

/// Reads fields from the front of a slice; never reads past it, never allocates by an unchecked
/// length.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// Fails unless `needed` bytes are left: to call before an allocation of that order.
    pub(crate) fn require(&self, needed: usize) -> Result<(), CodecError> {
        let (offset, available) = (self.offset, self.remaining());
        if needed > available {
            return Err(CodecError::Truncated {
                offset,
                needed,
                available,
            });
        }
        Ok(())
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        self.require(count)?;
        let start = self.offset;
        self.offset += count;
        Ok(&self.bytes[start..self.offset])
    }

    pub(crate) fn array<const K: usize>(&mut self) -> Result<[u8; K], CodecError> {
        let mut out = [0; K];
        out.copy_from_slice(self.take(K)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, CodecError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of at most `max`, stored in four bytes.
    pub(crate) fn count(&mut self, what: &'static str, max: usize) -> Result<usize, CodecError> {
        let found = self.u32()?;
        match usize::try_from(found) {
            Ok(count) if count <= max => Ok(count),
            _ => Err(CodecError::AboveLimit {
                what,
                found: found.into(),
                max: max as u64,
            }),
        }
    }

    /// A positive, finite scale.
    pub(crate) fn scale(&mut self) -> Result<f64, CodecError> {
        let bits = self.u64()?;
        let scale = f64::from_bits(bits);
        if scale.is_finite() && scale >= 1.0 {
            return Ok(scale);
        }
        Err(CodecError::BadField {
            what: "scale",
            found: bits,
        })
    }

    pub(crate) fn finish(self) -> Result<(), CodecError> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(CodecError::TrailingBytes { count }),
        }
    }
}

/// Bits that a coefficient modulo `modulus` takes.
pub(crate) fn packed_bits(modulus: u64) -> usize {
    (u64::BITS - (modulus - 1).leading_zeros()) as usize
}

/// Bytes that `n` coefficients (a multiple of 8) modulo `modulus` take.
pub(crate) fn packed_len(n: usize, modulus: u64) -> usize {
    n / 8 * packed_bits(modulus)
}

/// Appends coefficients at `packed_bits(modulus)` bits each, lowest bit first.
pub(crate) fn pack(out: &mut Vec<u8>, values: &[u64], modulus: u64) {
    let bits = packed_bits(modulus);
    out.reserve(packed_len(values.len(), modulus));
    for group in values.chunks_exact(8) {
        let (mut pending, mut filled) = (0u128, 0);
        for &value in group {
            pending |= u128::from(value) << filled;
            filled += bits;
            if filled >= 64 {
                out.extend_from_slice(&(pending as u64).to_le_bytes());
                pending >>= 64;
                filled -= 64;
            }
        }
        out.extend_from_slice(&(pending as u64).to_le_bytes()[..filled / 8]);
    }
}

/// Reads coefficients into `out`; each must be below `modulus`.
pub(crate) fn unpack(
    reader: &mut Reader<'_>,
    out: &mut [u64],
    modulus: u64,
    limb: usize,
) -> Result<(), CodecError> {
    let bits = packed_bits(modulus);
    let bytes = reader.take(packed_len(out.len(), modulus))?;
    let mask = (1u64 << bits) - 1;
    for (group, packed) in out.chunks_exact_mut(8).zip(bytes.chunks_exact(bits)) {
        let (mut pending, mut filled, mut rest) = (0u128, 0, packed);
        for value in group {
            if filled < bits {
                let (word, taken) = next_word(rest);
                pending |= u128::from(word) << filled;
                filled += 8 * taken;
                rest = &rest[taken..];
            }
            *value = pending as u64 & mask;
            pending >>= bits;
            filled -= bits;
        }
    }
    match out.iter().position(|&value| value >= modulus) {
        Some(index) => Err(CodecError::NonCanonical { limb, index }),
        None => Ok(()),
    }
}

fn next_word(bytes: &[u8]) -> (u64, usize) {
    let taken = bytes.len().min(8);
    let mut word = [0; 8];
    word[..taken].copy_from_slice(&bytes[..taken]);
    (u64::from_le_bytes(word), taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_round_trips_and_has_the_announced_length() {
        for modulus in [(1u64 << 20) - 3, (1 << 41) - 9, (1 << 50) - 27, 4099] {
            let values: Vec<u64> = (0..64u64)
                .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % modulus)
                .chain([modulus - 1; 8])
                .collect();
            let mut bytes = Vec::new();
            pack(&mut bytes, &values, modulus);
            assert_eq!(bytes.len(), packed_len(values.len(), modulus));
            let mut back = vec![0; values.len()];
            let mut reader = Reader::new(&bytes);
            unpack(&mut reader, &mut back, modulus, 0).unwrap();
            reader.finish().unwrap();
            assert_eq!(back, values);
        }
    }

    #[test]
    fn a_coefficient_equal_to_the_modulus_is_refused() {
        let modulus = (1u64 << 41) - 9;
        let mut values = [5u64; 8];
        values[3] = modulus;
        let mut bytes = Vec::new();
        pack(&mut bytes, &values, modulus);
        let found = unpack(&mut Reader::new(&bytes), &mut [0; 8], modulus, 2);
        assert_eq!(found, Err(CodecError::NonCanonical { limb: 2, index: 3 }));
    }

    #[test]
    fn reading_past_the_end_is_an_error_that_says_where() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u16(), Ok(0x0201));
        assert_eq!(
            reader.u32(),
            Err(CodecError::Truncated {
                offset: 2,
                needed: 4,
                available: 1
            })
        );
    }
}
