//! PNG and JPEG files as arrays of pixels.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbaImage};

use super::files::read_limited;
use crate::error::{DataFault, Error, Result};

/// Most bytes of a picture file.
const FILE_LIMIT: u64 = 64 << 20;
/// Most pixels along one side.
const SIDE_LIMIT: u32 = 16_384;
/// Most bytes that decoding may take.
const MEMORY_LIMIT: u64 = 512 << 20;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// `[channels, height, width]`; one channel if gray, else three.
    pub shape: [usize; 3],
    /// Pixels, channel by channel, row by row. What is transparent lies over white, or over black
    /// if what is drawn is light.
    pub pixels: Vec<u8>,
}

/// Reads a PNG or JPEG.
///
/// # Errors
/// [`Error::Io`], [`Error::FileTooLarge`], or [`Error::DataFile`] if it does not decode within the
/// limits.
pub fn read(path: &Path) -> Result<Picture> {
    let bytes = read_limited(path, FILE_LIMIT)?;
    decode(&bytes).map_err(|fault| Error::DataFile {
        path: path.to_path_buf(),
        fault,
    })
}

/// Decodes a PNG or JPEG held in memory, turned as its camera says (EXIF).
///
/// # Errors
/// [`DataFault::Picture`].
pub fn decode(bytes: &[u8]) -> std::result::Result<Picture, DataFault> {
    Header::read(bytes)?.decode()
}

/// A PNG or JPEG of which only the header was read: a small file may hold a picture that takes much
/// memory and time, and its size tells before.
pub struct Header<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
    orientation: Orientation,
}

impl<'a> Header<'a> {
    /// Reads the header of a picture held in memory.
    ///
    /// # Errors
    /// [`DataFault::Picture`].
    pub fn read(bytes: &'a [u8]) -> std::result::Result<Self, DataFault> {
        let unreadable = |source| DataFault::Picture {
            source: image::ImageError::IoError(source),
        };
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(unreadable)?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(SIDE_LIMIT);
        limits.max_image_height = Some(SIDE_LIMIT);
        limits.max_alloc = Some(MEMORY_LIMIT);
        reader.limits(limits);
        let mut decoder = reader.into_decoder()?;
        let orientation = decoder.orientation()?;
        Ok(Self {
            decoder: Box::new(decoder),
            orientation,
        })
    }

    /// [`Picture::shape`] of the decoded picture.
    pub fn shape(&self) -> [usize; 3] {
        let (width, height) = self.decoder.dimensions();
        let (width, height) = match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (height, width),
            _ => (width, height),
        };
        let channels = match self.decoder.color_type().has_color() {
            true => 3,
            false => 1,
        };
        [channels, height as usize, width as usize]
    }

    /// Decodes the picture, turned as its camera says (EXIF).
    ///
    /// # Errors
    /// [`DataFault::Picture`].
    pub fn decode(self) -> std::result::Result<Picture, DataFault> {
        let shape = self.shape();
        let mut decoded = DynamicImage::from_decoder(self.decoder)?;
        decoded.apply_orientation(self.orientation);
        let rgba = decoded.into_rgba8();
        let ground = if drawn_light(&rgba) { 0 } else { 255 };
        let mut pixels = Vec::with_capacity(shape.iter().product());
        for channel in 0..shape[0] {
            let over = |p: &image::Rgba<u8>| over_ground(p.0[channel], p.0[3], ground);
            pixels.extend(rgba.pixels().map(over));
        }
        Ok(Picture { shape, pixels })
    }
}

/// Whether what is not transparent is light on the whole, so that it would vanish on white.
fn drawn_light(picture: &RgbaImage) -> bool {
    let (mut light, mut weight) = (0, 0);
    for [r, g, b, alpha] in picture.pixels().map(|p| p.0.map(u64::from)) {
        light += (r + g + b) * alpha;
        weight += 3 * alpha;
    }
    light > 160 * weight
}

fn over_ground(value: u8, alpha: u8, ground: u32) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + ground * (255 - alpha) + 127) / 255) as u8
}

impl Picture {
    /// Brightness of each pixel, 0 to 255 (ITU-R BT.601 weights).
    pub fn luminance(&self) -> Vec<f32> {
        let [channels, h, w] = self.shape;
        let count = h * w;
        let at = |channel: usize, i: usize| f32::from(self.pixels[channel * count + i]);
        match channels {
            1 => (0..count).map(|i| at(0, i)).collect(),
            _ => (0..count)
                .map(|i| 0.299 * at(0, i) + 0.587 * at(1, i) + 0.114 * at(2, i))
                .collect(),
        }
    }
}
