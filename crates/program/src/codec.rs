//! Canonical bytes of a program.
//!
//! Layout: magic, version, body (little-endian, lengths before contents), BLAKE3 digest of
//! everything before it.
//! Reading allocates no more than a small multiple of the bytes it is given.

mod reader;
mod writer;

use crate::error::ProgramError;
use crate::program::Program;

/// First bytes of a program file.
pub const MAGIC: [u8; 8] = *b"SCUROPRG";
/// The format that this build writes and reads.
pub const FORMAT_VERSION: u16 = 5;
/// Largest program read.
pub const MAX_PROGRAM_BYTES: usize = 2 << 30;
/// Bytes of the digest at the end.
const DIGEST_BYTES: usize = 32;

impl Program {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = writer::write(self);
        let digest = blake3::hash(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        bytes
    }

    /// Reads and validates a program.
    ///
    /// # Errors
    /// Wrong magic, version or digest, truncation, excess bytes, counts above limits, and whatever
    /// [`Program::validate`] finds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Program, ProgramError> {
        check_header(bytes)?;
        let body_end = bytes.len() - DIGEST_BYTES;
        if blake3::hash(&bytes[..body_end]).as_bytes()[..] != bytes[body_end..] {
            return Err(ProgramError::WrongDigest);
        }
        let program = reader::read(&bytes[..body_end])?;
        program.validate()?;
        Ok(program)
    }

    /// Digest of the canonical bytes: the program's identity.
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(&writer::write(self)).as_bytes()
    }
}

fn check_header(bytes: &[u8]) -> Result<(), ProgramError> {
    let start = &bytes[..bytes.len().min(MAGIC.len())];
    if start != &MAGIC[..start.len()] || start.is_empty() {
        return Err(ProgramError::WrongMagic {
            found: start.to_vec(),
        });
    }
    let needed = MAGIC.len() + 2 + DIGEST_BYTES;
    if bytes.len() < needed {
        return Err(ProgramError::Truncated {
            offset: 0,
            needed,
            left: bytes.len(),
        });
    }
    if bytes.len() > MAX_PROGRAM_BYTES {
        let (found, limit) = (bytes.len() as u64, MAX_PROGRAM_BYTES as u64);
        return Err(ProgramError::TooLarge {
            what: "program bytes",
            found,
            limit,
        });
    }
    let version = u16::from_le_bytes([bytes[MAGIC.len()], bytes[MAGIC.len() + 1]]);
    if version != FORMAT_VERSION {
        return Err(ProgramError::WrongVersion {
            found: version,
            expected: FORMAT_VERSION,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
