//! Forms of frames, and which one bytes have if nobody says so.
//!
//! A frame that is read in a form that is not its own gives a wrong answer, and nobody is told. So
//! what has the length of a raw frame is raw only if it does not look like anything else. A raw
//! frame that does, by chance, is refused, which is told; who sends raw frames states their form.

use super::{Content, FrameFault, FrameId, Layout, from_json, from_picture, from_raw};

/// First bytes of every PNG.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// First bytes of every JPEG.
const JPEG: &[u8] = b"\xff\xd8\xff";

/// Forms of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `{"id": .., "pixels": [..]}`.
    Json,
    /// One byte a pixel.
    Raw,
    /// PNG or JPEG.
    Picture,
    /// What it looks like: first the bytes that every picture begins with, then the brace of JSON,
    /// then the length of a raw frame.
    Unknown,
}

impl Form {
    /// The form that a content type names; its parameters tell nothing more.
    pub fn of_content_type(text: &str) -> Self {
        let name = text.split(';').next().unwrap_or_default().trim();
        match name.to_ascii_lowercase().as_str() {
            "application/json" => Self::Json,
            "application/octet-stream" => Self::Raw,
            "image/png" | "image/jpeg" => Self::Picture,
            _ => Self::Unknown,
        }
    }

    /// The form that the ending of a file's name tells.
    pub fn of_extension(extension: &str) -> Self {
        match extension.to_ascii_lowercase().as_str() {
            "png" | "jpg" | "jpeg" => Self::Picture,
            "json" => Self::Json,
            "raw" | "bin" => Self::Raw,
            _ => Self::Unknown,
        }
    }

    /// The form that the bytes show, if they show one.
    fn shown(bytes: &[u8], layout: Layout) -> Option<Self> {
        let is_raw_size = bytes.len() == layout.elements();
        if bytes.starts_with(PNG) || bytes.starts_with(JPEG) {
            Some(Self::Picture)
        } else if looks_like_json(bytes, is_raw_size) {
            Some(Self::Json)
        } else {
            is_raw_size.then_some(Self::Raw)
        }
    }
}

/// Reads a frame of any form: the name that it gives itself, and its content.
///
/// # Errors
/// [`FrameFault`]: the first fault.
pub fn read(
    bytes: &[u8],
    form: Form,
    layout: Layout,
) -> Result<(Option<FrameId>, Content), FrameFault> {
    let shown = match form {
        Form::Unknown => Form::shown(bytes, layout),
        known => Some(known),
    };
    match shown {
        Some(Form::Json) => from_json(bytes, layout),
        Some(Form::Raw) => Ok((None, from_raw(bytes, layout)?)),
        Some(Form::Picture) => Ok((None, from_picture(bytes, layout)?)),
        Some(Form::Unknown) | None => Err(FrameFault::Unrecognised {
            found: bytes.len(),
            expected: layout.elements(),
        }),
    }
}

/// Whether bytes begin with a brace. If they have the length of a raw frame, one in 256 of which
/// does, they also begin as an object must, or are text to their end: a frame of JSON that was cut
/// off is no raw one.
fn looks_like_json(bytes: &[u8], is_raw_size: bool) -> bool {
    let Some(inside) = bytes.trim_ascii_start().strip_prefix(b"{") else {
        return false;
    };
    let is_object = matches!(inside.trim_ascii_start().first(), None | Some(b'"' | b'}'));
    is_object || !is_raw_size || is_text(bytes)
}

/// Whether bytes are text, maybe cut off inside its last character.
fn is_text(bytes: &[u8]) -> bool {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(fault) if fault.error_len().is_none() => {
            str::from_utf8(&bytes[..fault.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let is_printed = |char: char| !char.is_control() || char.is_ascii_whitespace();
    text.chars().all(is_printed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scuro_testkit::png;

    const LAYOUT: Layout = Layout { image: [3, 8, 8] };
    const RAW: usize = 192;

    fn unknown(bytes: &[u8]) -> Result<Content, FrameFault> {
        read(bytes, Form::Unknown, LAYOUT).map(|(_, content)| content)
    }

    /// A frame of JSON.
    fn json() -> Vec<u8> {
        format!("{{\"pixels\":{:?}}}", [7; RAW]).into_bytes()
    }

    /// A raw frame that begins with `start`.
    fn raw(start: &[u8]) -> Vec<u8> {
        let mut bytes = start.to_vec();
        bytes.resize(RAW, 200);
        bytes
    }

    #[test]
    fn a_picture_of_as_many_bytes_as_a_raw_frame_is_a_picture() {
        let gray: Vec<u8> = (0..64).collect();
        let bytes = png::stretched(&png::png(8, 8, &gray), RAW);
        assert_eq!(bytes.len(), RAW);
        assert_eq!(unknown(&bytes), Ok(Content::Pixels(gray.repeat(3))));
        // Also if it cannot be read: a wrong answer would be told to nobody.
        for start in [PNG, JPEG] {
            assert_eq!(unknown(&raw(start)), Err(FrameFault::Picture));
        }
    }

    #[test]
    fn json_that_is_cut_off_after_as_many_bytes_as_a_raw_frame_is_not_raw() {
        for whole in [
            json(),
            [&b" \r\n\t"[..], &json()].concat(),
            [&b"{\n  "[..], &json()[1..]].concat(),
        ] {
            let cut = unknown(&whole[..RAW]).expect_err("cut off");
            assert_eq!(cut.code(), "json");
        }
        // Text that no object begins with, cut off inside a character.
        let mut bytes = vec![b'x'; RAW];
        bytes[0] = b'{';
        bytes[RAW - 2..].copy_from_slice(&"\u{20ac}".as_bytes()[..2]);
        assert_eq!(unknown(&bytes).expect_err("text").code(), "json");
    }

    #[test]
    fn json_may_begin_with_blanks() {
        let pixels = Content::Pixels(vec![7; RAW]);
        for blanks in ["", " ", "\r\n\t "] {
            let bytes = [blanks.as_bytes(), &json()].concat();
            assert_eq!(unknown(&bytes), Ok(pixels.clone()), "{blanks:?}");
        }
    }

    #[test]
    fn a_raw_frame_may_begin_with_a_brace_but_not_as_an_object_does() {
        for start in [&b""[..], b"{", b" {", b"\n\t{\x80", b"{x", b"{\0\"", b"["] {
            let bytes = raw(start);
            assert_eq!(unknown(&bytes), Ok(Content::Pixels(bytes)), "{start:?}");
        }
        for start in [&b"{\""[..], b"{}", b" { \""] {
            let bytes = raw(start);
            assert_eq!(unknown(&bytes).expect_err("JSON").code(), "json");
            let stated = read(&bytes, Form::Raw, LAYOUT);
            assert_eq!(stated, Ok((None, Content::Pixels(bytes))), "{start:?}");
        }
    }

    #[test]
    fn what_has_no_form_is_told_what_a_raw_frame_would_have() {
        for bytes in [&b""[..], b"nonsense", &[200; RAW - 1], &[200; RAW + 1]] {
            let fault = FrameFault::Unrecognised {
                found: bytes.len(),
                expected: RAW,
            };
            assert_eq!(unknown(bytes), Err(fault));
        }
        assert_eq!(unknown(b"{").expect_err("cut off").code(), "json");
    }

    #[test]
    fn a_content_type_is_known_with_its_parameters_and_in_any_case() {
        for (text, form) in [
            ("application/json", Form::Json),
            ("application/json; charset=utf-8", Form::Json),
            ("Application/JSON;charset=utf-8", Form::Json),
            ("application/octet-stream", Form::Raw),
            (" image/png ; q=1", Form::Picture),
            ("image/jpeg", Form::Picture),
            ("application/x-www-form-urlencoded", Form::Unknown),
            ("application/jsonx", Form::Unknown),
            ("", Form::Unknown),
        ] {
            assert_eq!(Form::of_content_type(text), form, "{text:?}");
        }
    }
}
