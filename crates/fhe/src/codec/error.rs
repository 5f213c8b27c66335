//! What can be wrong with bytes from outside.

use super::Kind;
use crate::params::Digest;

/// Bytes that are not a valid object.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Not one of this library's files.
    #[error("not a Scuro file: wrong magic bytes")]
    WrongMagic,
    /// Unknown object kind.
    #[error("unknown object kind {found}")]
    UnknownKind {
        /// Kind byte.
        found: u8,
    },
    /// A valid header of another object.
    #[error("wrong kind of file: {found}; expected: {expected}")]
    WrongKind {
        /// Kind in the header.
        found: Kind,
        /// Kind wanted.
        expected: Kind,
    },
    /// Written by another version of the format.
    #[error("format version {found}; this library reads version {expected}")]
    WrongVersion {
        /// Version in the header.
        found: u16,
        /// Version read.
        expected: u16,
    },
    /// Made under other parameters.
    #[error("made under parameters {found}; expected {expected}")]
    WrongParameters {
        /// Digest in the header.
        found: Digest,
        /// Digest of the context.
        expected: Digest,
    },
    /// The input ends early.
    #[error("truncated: {needed} bytes needed at offset {offset}, {available} left")]
    Truncated {
        /// Where.
        offset: usize,
        /// Bytes needed there.
        needed: usize,
        /// Bytes left.
        available: usize,
    },
    /// The header's length is not the length of the input.
    #[error("the header announces {announced} bytes of content; {found} follow")]
    LengthMismatch {
        /// Length field.
        announced: u64,
        /// Bytes after the header.
        found: u64,
    },
    /// Bytes after the end of the object.
    #[error("{count} bytes after the end of the object")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A count or size above its limit.
    #[error("{what} {found} is above the limit of {max}")]
    AboveLimit {
        /// Field.
        what: &'static str,
        /// Value read.
        found: u64,
        /// Largest accepted.
        max: u64,
    },
    /// A field with a value that is not possible.
    #[error("{what} has the impossible value {found}")]
    BadField {
        /// Field.
        what: &'static str,
        /// Value read.
        found: u64,
    },
    /// A coefficient that is not reduced.
    #[error("coefficient {index} of limb {limb} is not below its prime")]
    NonCanonical {
        /// Limb.
        limb: usize,
        /// Coefficient.
        index: usize,
    },
    /// Entries out of order or twice.
    #[error("{what} {found} is repeated or out of order")]
    NotSorted {
        /// Field.
        what: &'static str,
        /// Value read.
        found: u64,
    },
    /// A ciphertext whose second part is zero, readable by anyone.
    #[error("transparent ciphertext: its secret-dependent parts are all zero")]
    Transparent,
    /// A checksum that does not match.
    #[error("checksum mismatch: the file is damaged")]
    Checksum,
}
