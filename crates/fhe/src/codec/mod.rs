//! The one binary format of keys, ciphertexts and parameters.
//!
//! Every object is `magic[6] kind[1] reserved[1] version[2] digest[32] length[8] content[length]
//! checksum[8]`, little-endian. The digest names the parameter set; the checksum (blake3, cut to 8
//! bytes) finds accidents, not attackers: authenticity is the transport's and the signed manifest's
//! job. Coefficients are packed at the width of their prime and must be reduced. Parsing never
//! panics, and allocates no more than a small multiple of the input.

mod bytes;
mod compact;
mod error;
mod exact;
mod objects;
mod parameters;

use std::fmt;

pub use error::CodecError;
pub use parameters::{decode_parameters, encode_parameters};

pub(crate) use bytes::{Reader, pack, packed_len, unpack};

use crate::params::Digest;

/// First bytes of every object that an evaluator may hold.
pub const MAGIC: [u8; 6] = *b"SCURO\0";
/// First bytes of a secret-key file.
pub const SECRET_MAGIC: [u8; 6] = *b"SCURO!";
/// Format version written and read.
pub const VERSION: u16 = 4;
/// Bytes before the content.
pub const HEADER_BYTES: usize = 6 + 1 + 1 + 2 + 32 + 8;
/// Bytes after the content.
pub const CHECKSUM_BYTES: usize = 8;
/// Largest object accepted: full evaluation keys at N = 65536.
pub const OBJECT_BYTES_MAX: u64 = 1 << 36;
/// Most rotation keys in one file.
pub const ROTATION_KEYS_MAX: usize = 4096;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A parameter set.
    Parameters,
    /// A public encryption key.
    PublicKey,
    /// Relinearisation and rotation keys, and the public key where results are re-randomised.
    EvaluationKeys,
    /// A ciphertext with all parts written out.
    Ciphertext,
    /// A fresh secret-key ciphertext whose uniform part is a seed.
    SeededCiphertext,
    /// A ciphertext of integers.
    ExactCiphertext,
    /// A fresh secret-key ciphertext of integers whose uniform part is a seed.
    ExactSeededCiphertext,
    /// A ciphertext of few bits that is only decrypted.
    CompactCiphertext,
    /// A ciphertext of integers, of few bits, that is only decrypted.
    ExactCompactCiphertext,
    /// A secret key (its own magic).
    SecretKey,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Parameters,
        Self::PublicKey,
        Self::EvaluationKeys,
        Self::Ciphertext,
        Self::SeededCiphertext,
        Self::ExactCiphertext,
        Self::ExactSeededCiphertext,
        Self::CompactCiphertext,
        Self::ExactCompactCiphertext,
        Self::SecretKey,
    ];

    fn code(self) -> u8 {
        match self {
            Self::Parameters => 1,
            Self::PublicKey => 2,
            Self::EvaluationKeys => 3,
            Self::Ciphertext => 4,
            Self::SeededCiphertext => 5,
            Self::ExactCiphertext => 6,
            Self::ExactSeededCiphertext => 7,
            Self::CompactCiphertext => 8,
            Self::ExactCompactCiphertext => 9,
            Self::SecretKey => 64,
        }
    }

    fn magic(self) -> [u8; 6] {
        match self {
            Self::SecretKey => SECRET_MAGIC,
            _ => MAGIC,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parameters => "parameter set",
            Self::PublicKey => "public key",
            Self::EvaluationKeys => "evaluation-key set",
            Self::Ciphertext => "ciphertext",
            Self::SeededCiphertext => "seeded ciphertext",
            Self::ExactCiphertext => "ciphertext of integers",
            Self::ExactSeededCiphertext => "seeded ciphertext of integers",
            Self::CompactCiphertext => "compact ciphertext",
            Self::ExactCompactCiphertext => "compact ciphertext of integers",
            Self::SecretKey => "secret key",
        })
    }
}

/// What the header of an object says; needs no key and no parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// What it is.
    pub kind: Kind,
    /// Format version.
    pub version: u16,
    /// Parameter set it belongs to.
    pub parameters: Digest,
    /// Bytes of content.
    pub content_bytes: u64,
}

/// Reads the header of any object and checks its length.
///
/// # Errors
/// [`CodecError`] if the bytes are not one whole object of this version.
pub fn describe(bytes: &[u8]) -> Result<Description, CodecError> {
    let mut reader = Reader::new(bytes);
    let magic: [u8; 6] = reader.array()?;
    if magic != MAGIC && magic != SECRET_MAGIC {
        return Err(CodecError::WrongMagic);
    }
    let code = reader.u8()?;
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.code() == code && kind.magic() == magic)
        .ok_or(CodecError::UnknownKind { found: code })?;
    let reserved = reader.u8()?;
    if reserved != 0 {
        return Err(CodecError::BadField {
            what: "reserved byte",
            found: reserved.into(),
        });
    }
    let version = reader.u16()?;
    if version != VERSION {
        return Err(CodecError::WrongVersion {
            found: version,
            expected: VERSION,
        });
    }
    let parameters = Digest(reader.array()?);
    let announced = reader.u64()?;
    if announced > OBJECT_BYTES_MAX {
        return Err(CodecError::AboveLimit {
            what: "content length",
            found: announced,
            max: OBJECT_BYTES_MAX,
        });
    }
    let found = reader.remaining() as u64;
    if found != announced + CHECKSUM_BYTES as u64 {
        let found = found.saturating_sub(CHECKSUM_BYTES as u64);
        return Err(CodecError::LengthMismatch { announced, found });
    }
    Ok(Description {
        kind,
        version,
        parameters,
        content_bytes: announced,
    })
}

/// Frames `content` as an object.
pub(crate) fn seal(kind: Kind, digest: Digest, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + content.len() + CHECKSUM_BYTES);
    out.extend_from_slice(&kind.magic());
    out.extend_from_slice(&[kind.code(), 0]);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&digest.0);
    out.extend_from_slice(&(content.len() as u64).to_le_bytes());
    out.extend_from_slice(content);
    let checksum = checksum(&out);
    out.extend_from_slice(&checksum);
    out
}

/// The content of an object of `kind` made under the parameters of digest `expected`.
pub(crate) fn open(bytes: &[u8], kind: Kind, expected: Digest) -> Result<Reader<'_>, CodecError> {
    let reader = open_any(bytes, kind)?;
    let found = describe(bytes)?.parameters;
    if found != expected {
        return Err(CodecError::WrongParameters { found, expected });
    }
    Ok(reader)
}

/// The content of an object of `kind`, whatever its parameters.
fn open_any(bytes: &[u8], kind: Kind) -> Result<Reader<'_>, CodecError> {
    let description = describe(bytes)?;
    if description.kind != kind {
        return Err(CodecError::WrongKind {
            found: description.kind,
            expected: kind,
        });
    }
    let (framed, tail) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
    if checksum(framed) != *tail {
        return Err(CodecError::Checksum);
    }
    Ok(Reader::new(&framed[HEADER_BYTES..]))
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut out = [0; CHECKSUM_BYTES];
    out.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM_BYTES]);
    out
}
