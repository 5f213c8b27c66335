//! Frames: one image or vector of the data stream, its name, its formats and its form on disk.

mod form;
mod picture;

use std::fmt;

use serde::Deserialize;

pub use form::{Form, read};
pub use picture::from_picture;

/// Most bytes of a frame's name.
pub const MAX_ID_BYTES: usize = 128;
/// Most bytes of a frame as it comes in: a JSON line, a picture, raw bytes.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

const RECORD_VERSION: u8 = 1;
const CHECKSUM: usize = 8;
const TAG_PIXELS: u8 = 1;
const TAG_VALUES: u8 = 2;

/// Why bytes are no frame. Says where, never what stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameFault {
    /// A name that is empty, too long, or holds something other than printable ASCII.
    #[error("the frame's id has {bytes} bytes; expected 1 to {MAX_ID_BYTES} printable characters")]
    Id {
        /// Its length.
        bytes: usize,
    },
    /// Not JSON of the right form.
    #[error(
        "not a JSON frame at column {column}: expected {{\"id\": text, and one of \"pixels\": \
         [0-255, ...], \"values\": [number, ...], \"raw\": base64}}"
    )]
    Json {
        /// Where reading stopped.
        column: usize,
    },
    /// None or several of the three forms of content.
    #[error("{found} of \"pixels\", \"values\" and \"raw\"; expected exactly one")]
    Content {
        /// How many there are.
        found: usize,
    },
    /// Text that is not base64.
    #[error("\"raw\" is not base64 at character {position}")]
    Base64 {
        /// Where reading stopped.
        position: usize,
    },
    /// A frame of another size than the model takes.
    #[error("{found} values; the model takes {expected}")]
    Length {
        /// Values found.
        found: usize,
        /// Values that the model takes.
        expected: usize,
    },
    /// Bytes that have none of the forms of a frame.
    #[error("{found} bytes, neither JSON nor PNG nor JPEG; raw frames have {expected}")]
    Unrecognised {
        /// Bytes found.
        found: usize,
        /// Bytes of a raw frame.
        expected: usize,
    },
    /// A picture that does not decode.
    #[error("not a PNG or JPEG picture that decodes within the limits")]
    Picture,
    /// A picture of another size than the model takes.
    #[error(
        "the picture has {} channel(s), {} x {}; the model takes {} channel(s), {} x {}",
        found[0], found[1], found[2], expected[0], expected[1], expected[2]
    )]
    PictureShape {
        /// Channels, height, width found.
        found: [usize; 3],
        /// Channels, height, width that the model takes.
        expected: [usize; 3],
    },
    /// NaN or infinity.
    #[error("the value at position {position} is not finite")]
    NotFinite {
        /// Row-major position.
        position: usize,
    },
    /// More bytes than any frame may have.
    #[error("{found} bytes; the limit is {limit}")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// Limit.
        limit: usize,
    },
    /// A frame that did not come to its end.
    #[error("the frame broke off, or did not arrive within {seconds} s")]
    Interrupted {
        /// Time that a frame has.
        seconds: u64,
    },
    /// The reader of frames panicked.
    #[error("reading the frame met a bug in Scuro; please report it")]
    Bug,
    /// The same name for another frame.
    #[error("the frame's id was used for another frame before")]
    IdReused,
    /// A record whose checksum or form is wrong.
    #[error("the stored frame is damaged")]
    Record,
    /// A stream that ended inside a frame.
    #[error("the stream ended after {found} of {expected} bytes of a frame")]
    Truncated {
        /// Bytes found.
        found: usize,
        /// Bytes of a frame.
        expected: usize,
    },
}

impl FrameFault {
    /// Short stable name, for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Id { .. } => "id",
            Self::Json { .. } => "json",
            Self::Content { .. } => "content",
            Self::Base64 { .. } => "base64",
            Self::Length { .. } => "length",
            Self::Unrecognised { .. } => "unrecognised",
            Self::Picture => "picture",
            Self::PictureShape { .. } => "picture-shape",
            Self::NotFinite { .. } => "not-finite",
            Self::TooLarge { .. } => "too-large",
            Self::Interrupted { .. } => "interrupted",
            Self::Bug => "bug",
            Self::IdReused => "id-reused",
            Self::Record => "record",
            Self::Truncated { .. } => "truncated",
        }
    }
}

/// Name of a frame: the same name is taken once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FrameId(String);

impl FrameId {
    /// Checks a name: 1 to [`MAX_ID_BYTES`] printable ASCII characters.
    ///
    /// # Errors
    /// [`FrameFault::Id`].
    pub fn new(text: impl Into<String>) -> Result<Self, FrameFault> {
        let text = text.into();
        let good = (1..=MAX_ID_BYTES).contains(&text.len())
            && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if good {
            Ok(Self(text))
        } else {
            Err(FrameFault::Id { bytes: text.len() })
        }
    }

    /// A name made from bytes that come without one: the same bytes are the same frame.
    pub fn of_bytes(prefix: &str, bytes: &[u8]) -> Self {
        let digest = blake3::hash(bytes).to_hex();
        Self(format!("{prefix}:{}", &digest[..32]))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FrameId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What the active model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Channels, height, width; a vector is one row.
    pub image: [usize; 3],
}

impl Layout {
    /// Numbers of one frame.
    pub fn elements(&self) -> usize {
        self.image.iter().product()
    }

    fn check(&self, found: usize) -> Result<(), FrameFault> {
        let expected = self.elements();
        if found == expected {
            Ok(())
        } else {
            Err(FrameFault::Length { found, expected })
        }
    }
}

/// The numbers of a frame, in clear. Zeroed nowhere: the device sees its own camera.
#[derive(Clone, PartialEq)]
pub enum Content {
    /// Pixels from 0 to 255, channel by channel, row by row; the model's preprocessing follows.
    Pixels(Vec<u8>),
    /// The network's input as it is.
    Values(Vec<f32>),
}

impl fmt::Debug for Content {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels(pixels) => write!(out, "Pixels({})", pixels.len()),
            Self::Values(values) => write!(out, "Values({})", values.len()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonFrame {
    id: Option<String>,
    pixels: Option<Vec<u8>>,
    /// Of more range than is kept, so that what does not fit is told from what is no number.
    values: Option<Vec<f64>>,
    raw: Option<String>,
}

/// Reads `{"id": .., "pixels": [..]}`, or `"values"`, or `"raw"` in base64 instead of pixels.
///
/// # Errors
/// [`FrameFault`]: the first fault.
pub fn from_json(bytes: &[u8], layout: Layout) -> Result<(Option<FrameId>, Content), FrameFault> {
    check_size(bytes.len())?;
    // Without names the fields could stand in an array.
    if bytes
        .trim_ascii_start()
        .first()
        .is_some_and(|first| *first != b'{')
    {
        return Err(FrameFault::Json { column: 1 });
    }
    let frame: JsonFrame = serde_json::from_slice(bytes).map_err(|error| FrameFault::Json {
        column: error.column(),
    })?;
    let id = frame.id.map(FrameId::new).transpose()?;
    let content = match (frame.pixels, frame.values, frame.raw) {
        (Some(pixels), None, None) => Content::Pixels(pixels),
        (None, Some(values), None) => {
            Content::Values(values.into_iter().map(|value| value as f32).collect())
        }
        (None, None, Some(raw)) => Content::Pixels(decode_base64(raw.as_bytes())?),
        (pixels, values, raw) => {
            let given = [pixels.is_some(), values.is_some(), raw.is_some()];
            let found = given.iter().filter(|given| **given).count();
            return Err(FrameFault::Content { found });
        }
    };
    check_content(&content, layout)?;
    Ok((id, content))
}

/// Reads one byte a pixel.
///
/// # Errors
/// [`FrameFault::Length`].
pub fn from_raw(bytes: &[u8], layout: Layout) -> Result<Content, FrameFault> {
    layout.check(bytes.len())?;
    Ok(Content::Pixels(bytes.to_vec()))
}

fn check_size(found: usize) -> Result<(), FrameFault> {
    if found <= MAX_FRAME_BYTES {
        return Ok(());
    }
    let limit = MAX_FRAME_BYTES;
    Err(FrameFault::TooLarge { found, limit })
}

fn check_content(content: &Content, layout: Layout) -> Result<(), FrameFault> {
    match content {
        Content::Pixels(pixels) => layout.check(pixels.len()),
        Content::Values(values) => {
            layout.check(values.len())?;
            match values.iter().position(|value| !value.is_finite()) {
                Some(position) => Err(FrameFault::NotFinite { position }),
                None => Ok(()),
            }
        }
    }
}

/// Standard base64 with padding, canonical only: one text for each string of bytes.
fn decode_base64(text: &[u8]) -> Result<Vec<u8>, FrameFault> {
    let fault = |position| FrameFault::Base64 { position };
    if !text.len().is_multiple_of(4) {
        return Err(fault(text.len()));
    }
    let padding = text
        .iter()
        .rev()
        .take(2)
        .take_while(|b| **b == b'=')
        .count();
    let digits = &text[..text.len() - padding];
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0u32);
    for (position, &digit) in digits.iter().enumerate() {
        let value = base64_digit(digit).ok_or_else(|| fault(position))?;
        bits = (bits << 6 | value) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    if bits & ((1 << held) - 1) != 0 {
        return Err(fault(digits.len().saturating_sub(1)));
    }
    Ok(bytes)
}

fn base64_digit(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

impl Content {
    /// How many numbers it holds.
    pub fn elements(&self) -> usize {
        match self {
            Self::Pixels(pixels) => pixels.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// The record on disk: version, tag, numbers (little-endian), first bytes of their BLAKE3.
    pub fn to_record(&self) -> Vec<u8> {
        let mut record = vec![RECORD_VERSION];
        match self {
            Self::Pixels(pixels) => {
                record.push(TAG_PIXELS);
                record.extend_from_slice(pixels);
            }
            Self::Values(values) => {
                record.push(TAG_VALUES);
                values
                    .iter()
                    .for_each(|value| record.extend_from_slice(&value.to_le_bytes()));
            }
        }
        seal(record)
    }

    /// Reads a record from disk.
    ///
    /// # Errors
    /// [`FrameFault::Record`] for damaged bytes.
    pub fn from_record(record: &[u8]) -> Result<Self, FrameFault> {
        let body = open(record).ok_or(FrameFault::Record)?;
        match body {
            [RECORD_VERSION, TAG_PIXELS, pixels @ ..] => Ok(Self::Pixels(pixels.to_vec())),
            [RECORD_VERSION, TAG_VALUES, words @ ..] if words.len().is_multiple_of(4) => {
                let value = |word: &[u8]| {
                    let mut bytes = [0; 4];
                    bytes.copy_from_slice(word);
                    f32::from_le_bytes(bytes)
                };
                Ok(Self::Values(words.chunks_exact(4).map(value).collect()))
            }
            _ => Err(FrameFault::Record),
        }
    }
}

/// Appends the first bytes of the BLAKE3 digest.
pub(super) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(&digest.as_bytes()[..CHECKSUM]);
    bytes
}

/// The bytes before the checksum, if it is theirs.
pub(super) fn open(bytes: &[u8]) -> Option<&[u8]> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    (&blake3::hash(body).as_bytes()[..CHECKSUM] == checksum).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { image: [1, 1, 4] };

    fn json(text: &str) -> Result<(Option<FrameId>, Content), FrameFault> {
        from_json(text.as_bytes(), LAYOUT)
    }

    #[test]
    fn json_frames_hold_pixels_values_or_base64() {
        let (id, content) = json(r#"{"id":"a","pixels":[0,1,2,255]}"#).expect("pixels");
        assert_eq!(id.expect("an id").as_str(), "a");
        assert_eq!(content, Content::Pixels(vec![0, 1, 2, 255]));
        let (id, content) = json(r#"{"values":[0.5,-1,2e3,0]}"#).expect("values");
        assert_eq!(
            (id, content),
            (None, Content::Values(vec![0.5, -1.0, 2e3, 0.0]))
        );
        let (_, content) = json(r#"{"id":"b","raw":"AAEC/w=="}"#).expect("base64");
        assert_eq!(content, Content::Pixels(vec![0, 1, 2, 255]));
    }

    #[test]
    fn malformed_json_frames_name_the_fault() {
        let cases = [
            (r#"{"id":"a","pixels":[0,1,2]}"#, "length"),
            (r#"{"id":"a","pixels":[0,1,2,256]}"#, "json"),
            (r#"{"id":"a","pixels":[0,1,2,0.5]}"#, "json"),
            (r#"{"id":"a","pixels":[0,1,2"#, "json"),
            (r#"{"id":"","pixels":[0,1,2,3]}"#, "id"),
            (r#"{"id":"tab\t","pixels":[0,1,2,3]}"#, "id"),
            (r#"{"id":"a"}"#, "content"),
            (r#"{"pixels":[0,1,2,3],"values":[0,1,2,3]}"#, "content"),
            (r#"{"values":[0,1,2,1e39]}"#, "not-finite"),
            (r#"{"raw":"AAEC/w"}"#, "base64"),
            (r#"{"raw":"AAEC/x=="}"#, "base64"),
            (r#"{"raw":"A*EC/w=="}"#, "base64"),
            (r#"{"pixels":[0,1,2,3],"extra":1}"#, "json"),
            ("", "json"),
            ("[]", "json"),
            (r#"["a",[0,1,2,3],null,null]"#, "json"),
            ("\u{0}", "json"),
        ];
        for (text, expected) in cases {
            let found = json(text).expect_err(text);
            assert_eq!(found.code(), expected, "{text}: {found}");
        }
    }

    #[test]
    fn base64_has_one_spelling() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo")] {
            assert_eq!(
                decode_base64(text.as_bytes()),
                Ok(bytes.as_bytes().to_vec())
            );
        }
        for bad in ["Zh==", "Zg=", "=", "====", "Zg==Zg==", "Zm9=v"] {
            assert!(decode_base64(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn raw_frames_have_exactly_the_models_size() {
        assert!(from_raw(&[1, 2, 3, 4], LAYOUT).is_ok());
        for length in [0, 3, 5] {
            let found = from_raw(&vec![0; length], LAYOUT);
            let expected = FrameFault::Length {
                found: length,
                expected: 4,
            };
            assert_eq!(found, Err(expected));
        }
    }

    #[test]
    fn records_survive_the_disk_and_damage_is_noticed() {
        for content in [
            Content::Pixels(vec![1, 2, 3]),
            Content::Values(vec![1.5, -0.0]),
        ] {
            let record = content.to_record();
            assert_eq!(Content::from_record(&record), Ok(content));
            for place in 0..record.len() {
                let mut damaged = record.clone();
                damaged[place] ^= 1;
                assert!(Content::from_record(&damaged).is_err(), "byte {place}");
                assert!(Content::from_record(&record[..place]).is_err());
            }
        }
    }

    #[test]
    fn frames_show_no_pixel() {
        let shown = format!("{:?}", Content::Pixels(vec![77; 3]));
        assert!(!shown.contains("77"), "{shown}");
    }
}
