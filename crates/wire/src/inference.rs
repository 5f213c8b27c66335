//! Encrypted inferences on their way from a device to the vault, in a binary frame.
//!
//! Layout, little-endian: magic `SCUROINF`, version u16, count u32, then `count` times (query id,
//! deployment, query digest, image u32, five timings of u64, reply length u32, reply), then the
//! BLAKE3 digest of everything before. A reply is the bytes of `scuro_client::Bundle`.

use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::hex::{Digest, QueryId};
use crate::limits;

/// First bytes of a frame.
pub const MAGIC: [u8; 8] = *b"SCUROINF";
/// Version that this build reads and writes.
pub const FORMAT_VERSION: u16 = 2;
/// Content type of a frame.
pub const CONTENT_TYPE: &str = "application/vnd.scuro.inferences";

const DIGEST: usize = 32;
const HEADER: usize = MAGIC.len() + 2 + 4;
/// Bytes of one inference without its reply.
const ENTRY: usize = 16 + 2 * DIGEST + 4 + 5 * 8 + 4;

/// What a device measured for one query; what several share is counted whole for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// When the frame came in, milliseconds since 1970 by the device's clock.
    pub captured_ms: u64,
    /// Microseconds in the queue.
    pub queue_us: u64,
    /// Microseconds of the clear feature extractor.
    pub features_us: u64,
    /// Microseconds of encoding and encrypting the features.
    pub encrypt_us: u64,
    /// Microseconds of the program.
    pub evaluate_us: u64,
}

impl Timings {
    fn words(&self) -> [u64; 5] {
        [
            self.captured_ms,
            self.queue_us,
            self.features_us,
            self.encrypt_us,
            self.evaluate_us,
        ]
    }
}

/// One encrypted inference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inference {
    /// The registered query.
    pub query_id: QueryId,
    /// Digest of the manifest.
    pub deployment: Digest,
    /// As registered.
    pub query_digest: Digest,
    /// Which image of the reply answers the query, from 0: queries that were run together share a
    /// reply, and each has an image of its own.
    pub image: u32,
    /// What the device measured.
    pub timings: Timings,
    /// The encrypted reply.
    pub reply: Vec<u8>,
}

/// Body of [`crate::paths::INFERENCES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferenceBatch {
    /// At most [`limits::INFERENCES_PER_BATCH`].
    pub inferences: Vec<Inference>,
}

impl InferenceBatch {
    /// The frame.
    pub fn to_bytes(&self) -> Vec<u8> {
        let content: usize = self.inferences.iter().map(Inference::bytes).sum();
        let mut out = Vec::with_capacity(HEADER + content + DIGEST);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(self.inferences.len() as u32).to_le_bytes());
        for inference in &self.inferences {
            inference.write(&mut out);
        }
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        out
    }

    /// Reads a frame from untrusted bytes.
    ///
    /// # Errors
    /// [`WireError`]: the first fault.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        WireError::check_size(
            "frame of inferences",
            bytes.len(),
            limits::INFERENCE_BATCH_BYTES,
        )?;
        let mut reader = Reader { bytes, offset: 0 };
        if reader.array()? != MAGIC {
            return Err(WireError::WrongMagic);
        }
        let found = u16::from_le_bytes(reader.array()?);
        if found != FORMAT_VERSION {
            let expected = FORMAT_VERSION;
            return Err(WireError::WrongVersion { found, expected });
        }
        let count = u32::from_le_bytes(reader.array()?) as usize;
        WireError::check_count("inferences", count, limits::INFERENCES_PER_BATCH)?;
        if count == 0 {
            return Err(WireError::Empty {
                what: "frame of inferences",
            });
        }
        let inferences = (0..count)
            .map(|_| reader.inference())
            .collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        Ok(Self { inferences })
    }
}

impl Inference {
    /// Bytes that it takes in a frame: for filling one up to its limit.
    pub fn bytes(&self) -> usize {
        ENTRY + self.reply.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.query_id.0);
        out.extend_from_slice(&self.deployment.0);
        out.extend_from_slice(&self.query_digest.0);
        out.extend_from_slice(&self.image.to_le_bytes());
        for word in self.timings.words() {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&(self.reply.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.reply);
    }
}

/// What became of one inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Decrypted and on disk: the device may forget it.
    Accepted,
    /// Was answered before: the device may forget it. Nothing was decrypted again.
    Duplicate,
    /// Refused for good: sending it again changes nothing.
    Refused,
    /// Not now: keep it and send it again.
    Retry,
}

/// Acknowledgement of one inference; says nothing about its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferenceAck {
    /// Which.
    pub query_id: QueryId,
    /// What became of it.
    pub outcome: Outcome,
    /// Number of the first result, if accepted now or before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<u64>,
    /// Stable name of the reason, if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Answer to a frame, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferenceBatchReply {
    /// One for each inference.
    pub acks: Vec<InferenceAck>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, needed: usize) -> Result<&'a [u8], WireError> {
        let rest = &self.bytes[self.offset..];
        let truncated = WireError::Truncated {
            offset: self.offset,
            needed,
            available: rest.len(),
        };
        let taken = rest.get(..needed).ok_or(truncated)?;
        self.offset += needed;
        Ok(taken)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], WireError> {
        let mut array = [0; LENGTH];
        array.copy_from_slice(self.take(LENGTH)?);
        Ok(array)
    }

    fn word(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn inference(&mut self) -> Result<Inference, WireError> {
        Ok(Inference {
            query_id: QueryId(self.array()?),
            deployment: Digest(self.array()?),
            query_digest: Digest(self.array()?),
            image: u32::from_le_bytes(self.array()?),
            timings: Timings {
                captured_ms: self.word()?,
                queue_us: self.word()?,
                features_us: self.word()?,
                encrypt_us: self.word()?,
                evaluate_us: self.word()?,
            },
            reply: self.reply()?,
        })
    }

    fn reply(&mut self) -> Result<Vec<u8>, WireError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        WireError::check_size("encrypted reply", length, limits::REPLY_BYTES)?;
        Ok(self.take(length)?.to_vec())
    }

    fn finish(&mut self) -> Result<(), WireError> {
        let digest = blake3::hash(&self.bytes[..self.offset]);
        let found = self.array::<DIGEST>()?;
        let count = self.bytes.len() - self.offset;
        if count > 0 {
            return Err(WireError::TrailingBytes { count });
        }
        if digest != found {
            return Err(WireError::Checksum);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inference(seed: u8, reply: Vec<u8>) -> Inference {
        Inference {
            query_id: QueryId([seed; 16]),
            deployment: Digest([2; 32]),
            query_digest: Digest([3; 32]),
            image: seed.into(),
            timings: Timings {
                captured_ms: 1,
                queue_us: 2,
                features_us: 3,
                encrypt_us: 4,
                evaluate_us: u64::MAX,
            },
            reply,
        }
    }

    fn batch() -> InferenceBatch {
        InferenceBatch {
            inferences: vec![inference(1, vec![9; 20]), inference(2, Vec::new())],
        }
    }

    #[test]
    fn every_truncation_and_every_changed_byte_is_an_error() {
        let bytes = batch().to_bytes();
        assert_eq!(InferenceBatch::from_bytes(&bytes), Ok(batch()));
        for place in 0..bytes.len() {
            assert!(InferenceBatch::from_bytes(&bytes[..place]).is_err());
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(InferenceBatch::from_bytes(&changed).is_err(), "{place}");
        }
    }

    #[test]
    fn counts_and_lengths_above_their_limit_are_named() {
        let mut bytes = batch().to_bytes();
        bytes[10..14].copy_from_slice(&u32::MAX.to_le_bytes());
        let found = InferenceBatch::from_bytes(&bytes);
        assert!(matches!(found, Err(WireError::AboveLimit { .. })));
        let mut bytes = batch().to_bytes();
        let length_at = HEADER + ENTRY - 4;
        bytes[length_at..length_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let found = InferenceBatch::from_bytes(&bytes);
        assert!(matches!(found, Err(WireError::TooLarge { .. })));
        let none = InferenceBatch { inferences: vec![] };
        let found = InferenceBatch::from_bytes(&none.to_bytes());
        assert!(matches!(found, Err(WireError::Empty { .. })));
    }

    proptest! {
        #[test]
        fn a_frame_survives_its_bytes(
            replies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)
        ) {
            let numbered = replies.into_iter().enumerate();
            let inferences = numbered.map(|(i, reply)| inference(i as u8, reply)).collect();
            let batch = InferenceBatch { inferences };
            prop_assert_eq!(InferenceBatch::from_bytes(&batch.to_bytes()), Ok(batch));
        }
    }
}
