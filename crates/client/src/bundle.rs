//! Queries, replies and encrypted weights as bytes: some ciphertexts, and which program they are
//! for.
//!
//! Layout, little-endian: magic `SCUROBND`, version u16, kind u8, program digest, images u32,
//! ciphertexts per evaluation u32, count u32, then `count` times (length u32, bytes), then the
//! BLAKE3 digest of everything before. The ciphertexts themselves are checked by `scuro_fhe` when
//! they are decoded.

use crate::error::BundleError;

/// First bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"SCUROBND";
/// Version that this library reads and writes.
pub const FORMAT_VERSION: u16 = 1;
/// Most images in one bundle.
pub const MAX_IMAGES: u32 = 1 << 20;
/// Most ciphertexts in one bundle.
pub const MAX_CIPHERTEXTS: u32 = 1 << 20;
/// Most bytes of one ciphertext: N = 65536, 64 primes, three parts.
pub const MAX_CIPHERTEXT_BYTES: u32 = 3 * 64 * 65536 * 8 + 4096;

const DIGEST: usize = 32;
const HEADER: usize = MAGIC.len() + 2 + 1 + DIGEST + 3 * 4;

/// What a bundle holds, and who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleKind {
    /// From the data owner to the evaluator.
    Query,
    /// From the evaluator to the key holder.
    Reply,
    /// The weights of a private model, from the model owner to the evaluator.
    Weights,
}

impl BundleKind {
    fn tag(self) -> u8 {
        match self {
            Self::Query => 1,
            Self::Reply => 2,
            Self::Weights => 3,
        }
    }
}

impl std::fmt::Display for BundleKind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Query => "query",
            Self::Reply => "reply",
            Self::Weights => "set of encrypted weights",
        })
    }
}

/// Ciphertexts on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Direction.
    pub kind: BundleKind,
    /// Digest of the program that they are for.
    pub program: [u8; DIGEST],
    /// Images inside.
    pub images: u32,
    /// Ciphertexts that one run of the program takes or gives.
    pub group: u32,
    /// All ciphertexts, run after run, each in the form of `scuro_fhe::codec`.
    pub ciphertexts: Vec<Vec<u8>>,
}

impl Bundle {
    /// The ciphertexts of each run of the program.
    pub fn runs(&self) -> impl Iterator<Item = &[Vec<u8>]> {
        self.ciphertexts.chunks_exact(self.group.max(1) as usize)
    }

    /// The bundle as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let content: usize = self.ciphertexts.iter().map(|bytes| 4 + bytes.len()).sum();
        let mut out = Vec::with_capacity(HEADER + content + DIGEST);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.push(self.kind.tag());
        out.extend_from_slice(&self.program);
        for word in [self.images, self.group, self.ciphertexts.len() as u32] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for bytes in &self.ciphertexts {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        out
    }

    /// Reads a bundle from untrusted bytes.
    ///
    /// # Errors
    /// [`BundleError`]: the first fault.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        let mut reader = Reader { bytes, offset: 0 };
        check_magic(&mut reader)?;
        let kind = read_kind(&mut reader)?;
        let program = reader.array::<DIGEST>()?;
        let images = reader.bounded("images", MAX_IMAGES)?;
        let group = reader.bounded("ciphertexts per evaluation", MAX_CIPHERTEXTS)?;
        let count = reader.bounded("ciphertexts", MAX_CIPHERTEXTS)?;
        let ciphertexts = (0..count)
            .map(|_| reader.ciphertext())
            .collect::<Result<Vec<_>, _>>()?;
        check_end(&mut reader)?;
        if images == 0 || group == 0 || count == 0 || !count.is_multiple_of(group) {
            return Err(BundleError::Counts {
                images,
                group,
                count,
            });
        }
        Ok(Self {
            kind,
            program,
            images,
            group,
            ciphertexts,
        })
    }
}

fn check_magic(reader: &mut Reader<'_>) -> Result<(), BundleError> {
    let found = reader.array::<8>()?;
    if found != MAGIC {
        return Err(BundleError::WrongMagic);
    }
    let version = u16::from_le_bytes(reader.array()?);
    if version != FORMAT_VERSION {
        return Err(BundleError::WrongVersion {
            found: version,
            expected: FORMAT_VERSION,
        });
    }
    Ok(())
}

fn read_kind(reader: &mut Reader<'_>) -> Result<BundleKind, BundleError> {
    match reader.array::<1>()? {
        [1] => Ok(BundleKind::Query),
        [2] => Ok(BundleKind::Reply),
        [3] => Ok(BundleKind::Weights),
        [found] => Err(BundleError::UnknownKind { found }),
    }
}

fn check_end(reader: &mut Reader<'_>) -> Result<(), BundleError> {
    let digest = blake3::hash(&reader.bytes[..reader.offset]);
    let found = reader.array::<DIGEST>()?;
    let left = reader.bytes.len() - reader.offset;
    if left > 0 {
        return Err(BundleError::TrailingBytes { count: left });
    }
    if digest != found {
        return Err(BundleError::Checksum);
    }
    Ok(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, needed: usize) -> Result<&'a [u8], BundleError> {
        let rest = &self.bytes[self.offset..];
        let truncated = BundleError::Truncated {
            offset: self.offset,
            needed,
            available: rest.len(),
        };
        let taken = rest.get(..needed).ok_or(truncated)?;
        self.offset += needed;
        Ok(taken)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], BundleError> {
        let mut array = [0; LENGTH];
        array.copy_from_slice(self.take(LENGTH)?);
        Ok(array)
    }

    fn bounded(&mut self, what: &'static str, max: u32) -> Result<u32, BundleError> {
        let found = u32::from_le_bytes(self.array()?);
        if found > max {
            return Err(BundleError::AboveLimit { what, found, max });
        }
        Ok(found)
    }

    fn ciphertext(&mut self) -> Result<Vec<u8>, BundleError> {
        let length = self.bounded("bytes of a ciphertext", MAX_CIPHERTEXT_BYTES)?;
        Ok(self.take(length as usize)?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Bundle {
        Bundle {
            kind: BundleKind::Query,
            program: [7; 32],
            images: 2,
            group: 1,
            ciphertexts: vec![vec![1, 2, 3], vec![4; 40]],
        }
    }

    #[test]
    fn a_bundle_survives_its_bytes() {
        let bytes = bundle().to_bytes();
        assert_eq!(Bundle::from_bytes(&bytes), Ok(bundle()));
        assert_eq!(bundle().runs().count(), 2);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = bundle().to_bytes();
        for length in 0..bytes.len() {
            assert!(
                Bundle::from_bytes(&bytes[..length]).is_err(),
                "length {length}"
            );
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = bundle().to_bytes();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(Bundle::from_bytes(&changed).is_err(), "byte {place}");
        }
    }

    #[test]
    fn magic_version_and_tail_are_named() {
        let mut bytes = bundle().to_bytes();
        bytes.push(0);
        assert_eq!(
            Bundle::from_bytes(&bytes),
            Err(BundleError::TrailingBytes { count: 1 })
        );
        bytes[8] = 9;
        let version = BundleError::WrongVersion {
            found: 9,
            expected: FORMAT_VERSION,
        };
        assert_eq!(Bundle::from_bytes(&bytes), Err(version));
        bytes[0] = 0;
        assert_eq!(Bundle::from_bytes(&bytes), Err(BundleError::WrongMagic));
    }

    #[test]
    fn groups_that_do_not_divide_the_count_are_refused() {
        let wrong = Bundle {
            group: 3,
            ..bundle()
        };
        let found = Bundle::from_bytes(&wrong.to_bytes());
        assert_eq!(
            found,
            Err(BundleError::Counts {
                images: 2,
                group: 3,
                count: 2
            })
        );
    }
}
