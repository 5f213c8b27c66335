//! Parameter sets as bytes: the specification is written, the primes are found and certified again.

use scuro_polyring::RingKind;

use super::{CodecError, Kind, Reader, open_any, seal};
use crate::error::Error;
use crate::params::{
    P_COUNT_MAX, ParameterSpec, Parameters, Q_COUNT_MAX, SecurityLevel, SecurityTable,
};

/// Bytes of a parameter set.
pub fn encode_parameters(parameters: &Parameters) -> Vec<u8> {
    let spec = parameters.spec();
    let ring = match spec.ring {
        RingKind::Standard => 1u8,
        RingKind::ConjugateInvariant => 2,
    };
    let table = match spec.table {
        SecurityTable::Guideline2024 => 1u8,
        SecurityTable::Standard2018 => 2,
    };
    let mut content = vec![
        ring,
        spec.log_n as u8,
        table,
        parameters.digit_limbs() as u8,
    ];
    content.extend_from_slice(&(spec.level.bits() as u16).to_le_bytes());
    for sizes in [&spec.q_bits, &spec.p_bits] {
        content.push(sizes.len() as u8);
        content.extend(sizes.iter().map(|&bits| bits as u8));
    }
    seal(Kind::Parameters, parameters.digest(), &content)
}

/// Reads a parameter set and certifies it against its security table again.
///
/// # Errors
/// [`Error::Codec`] for bytes that do not parse, [`Error::InsecureParameters`] and the other errors
/// of [`Parameters::new`] for a set that is refused.
pub fn decode_parameters(bytes: &[u8]) -> Result<Parameters, Error> {
    let mut reader = open_any(bytes, Kind::Parameters)?;
    let spec = read_spec(&mut reader)?;
    reader.finish()?;
    let parameters = Parameters::new(spec)?;
    let (found, expected) = (super::describe(bytes)?.parameters, parameters.digest());
    if found != expected {
        return Err(CodecError::WrongParameters { found, expected }.into());
    }
    Ok(parameters)
}

fn read_spec(reader: &mut Reader<'_>) -> Result<ParameterSpec, CodecError> {
    let ring = match reader.u8()? {
        1 => RingKind::Standard,
        2 => RingKind::ConjugateInvariant,
        other => {
            return Err(CodecError::BadField {
                what: "ring kind",
                found: other.into(),
            });
        }
    };
    let log_n = u32::from(reader.u8()?);
    let table = match reader.u8()? {
        1 => SecurityTable::Guideline2024,
        2 => SecurityTable::Standard2018,
        other => {
            return Err(CodecError::BadField {
                what: "security table",
                found: other.into(),
            });
        }
    };
    let digit_limbs = Some(usize::from(reader.u8()?));
    let bits = u32::from(reader.u16()?);
    let level = SecurityLevel::from_bits(bits).ok_or(CodecError::BadField {
        what: "security level",
        found: bits.into(),
    })?;
    let q_bits = read_sizes(reader, "ciphertext primes", Q_COUNT_MAX)?;
    let p_bits = read_sizes(reader, "special primes", P_COUNT_MAX)?;
    Ok(ParameterSpec {
        ring,
        log_n,
        q_bits,
        p_bits,
        digit_limbs,
        level,
        table,
    })
}

fn read_sizes(
    reader: &mut Reader<'_>,
    what: &'static str,
    max: usize,
) -> Result<Vec<u32>, CodecError> {
    let count = usize::from(reader.u8()?);
    if count > max {
        return Err(CodecError::AboveLimit {
            what,
            found: count as u64,
            max: max as u64,
        });
    }
    Ok(reader
        .take(count)?
        .iter()
        .map(|&bits| u32::from(bits))
        .collect())
}
