//! From pixels to network inputs.

use crate::error::{Error, Result};

/// How pixels become inputs: `(pixel * scale - mean) / std`, per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// Factor on the raw pixel, often 1/255.
    pub scale: f32,
    /// Subtracted after scaling; one value, or one per channel.
    pub mean: Vec<f32>,
    /// Divided by at the end; one value, or one per channel.
    pub std: Vec<f32>,
}

impl Default for Preprocess {
    /// Pixels scaled to `[0, 1]`.
    fn default() -> Self {
        Self {
            scale: 1.0 / 255.0,
            mean: vec![0.0],
            std: vec![1.0],
        }
    }
}

/// A [`Preprocess`] checked against the shapes of images and network.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Per channel, `pixel * factor + offset`.
    channels: Vec<(f64, f64)>,
    image: [usize; 3],
    halved: bool,
    channels_last: bool,
}

/// Names under which a program notes its preprocessing.
const NOTES: [&str; 3] = ["input-scale", "input-mean", "input-std"];

impl Preprocess {
    /// The preprocessing as notes, name and text.
    pub fn to_notes(&self) -> [(String, String); 3] {
        let list = |values: &[f32]| {
            values
                .iter()
                .map(f32::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        let [scale, mean, std] = NOTES.map(str::to_string);
        [
            (scale, self.scale.to_string()),
            (mean, list(&self.mean)),
            (std, list(&self.std)),
        ]
    }

    /// The preprocessing of [`Preprocess::to_notes`]; the usual one where a note is missing.
    pub fn from_notes<'a>(note: impl Fn(&str) -> Option<&'a str>) -> Self {
        let usual = Self::default();
        let list = |name: &str| -> Option<Vec<f32>> {
            let numbers = note(name)?.split(',').map(|number| number.parse().ok());
            numbers.collect()
        };
        let [scale, mean, std] = NOTES;
        Self {
            scale: note(scale)
                .and_then(|text| text.parse().ok())
                .unwrap_or(usual.scale),
            mean: list(mean).unwrap_or(usual.mean),
            std: list(std).unwrap_or(usual.std),
        }
    }

    /// Raw pixels, 0 to 255, as they are.
    pub fn raw() -> Self {
        Self {
            scale: 1.0,
            ..Self::default()
        }
    }

    /// Checks that images of shape `image` fit a network that takes `network`.
    ///
    /// A network that takes a vector gets the pixels row by row; one that takes half the height and
    /// width gets the mean of each 2x2 block ([`Prepared::is_halved`] tells).
    ///
    /// # Errors
    /// [`Error::ImageShape`] and [`Error::Normalisation`].
    pub fn prepare(&self, image: [usize; 3], network: &[usize]) -> Result<Prepared> {
        let channels = self.channels(image[0])?;
        let full = fits(image, network);
        let half = fits([image[0], image[1] / 2, image[2] / 2], network)
            .filter(|_| image[1].is_multiple_of(2) && image[2].is_multiple_of(2));
        let (channels_last, halved) = match (full, half) {
            (Some(last), _) => (last, false),
            (None, Some(last)) => (last, true),
            (None, None) => {
                let hint = mismatch_hint(image, network);
                return Err(Error::ImageShape {
                    image: image.to_vec(),
                    network: network.to_vec(),
                    hint,
                });
            }
        };
        Ok(Prepared {
            channels,
            image,
            halved,
            channels_last,
        })
    }

    fn channels(&self, channels: usize) -> Result<Vec<(f64, f64)>> {
        let check = |parameter, values: &[f32], sound: &dyn Fn(f32) -> bool| {
            let counts = values.len() == 1 || values.len() == channels;
            if counts && values.iter().all(|&v| v.is_finite() && sound(v)) {
                return Ok(());
            }
            Err(Error::Normalisation {
                parameter,
                found: values.len(),
                channels,
            })
        };
        check("scale", &[self.scale], &|_| true)?;
        check("mean", &self.mean, &|_| true)?;
        check("std", &self.std, &|v| v != 0.0)?;
        let of = |values: &[f32], channel: usize| f64::from(values[channel % values.len()]);
        let scale = fraction(self.scale);
        let linear = |channel| {
            let (mean, std) = (of(&self.mean, channel), of(&self.std, channel));
            (scale / std, -mean / std)
        };
        Ok((0..channels).map(linear).collect())
    }
}

/// `scale`, or `1/n` if it is the float nearest to that: pixels times 1/255 are then what pixels
/// divided by 255 are, bit for bit.
fn fraction(scale: f32) -> f64 {
    let nearest = 1.0 / (1.0 / f64::from(scale)).round();
    if nearest as f32 == scale {
        nearest
    } else {
        f64::from(scale)
    }
}

/// Whether an image fits, and if so, whether its channels go last.
fn fits(image: [usize; 3], network: &[usize]) -> Option<bool> {
    let [c, h, w] = image;
    match *network {
        [length] if length == c * h * w => Some(false),
        [a, b] if c == 1 && [a, b] == [h, w] => Some(false),
        [a, b, d] if [a, b, d] == [c, h, w] => Some(false),
        [a, b, d] if [a, b, d] == [h, w, c] => Some(true),
        _ => None,
    }
}

fn mismatch_hint(image: [usize; 3], network: &[usize]) -> &'static str {
    match (image[0], network.first()) {
        (1, Some(3)) => "the images are gray, the network takes colour",
        (3, Some(1)) => "the images are in colour, the network takes gray",
        _ => "use a data set of the network's size",
    }
}

impl Prepared {
    /// Whether images are reduced to half height and width.
    pub fn is_halved(&self) -> bool {
        self.halved
    }

    /// Whether the network takes all channels of a pixel before the next pixel.
    pub fn is_channels_last(&self) -> bool {
        self.channels_last
    }

    /// Height and width of what the network takes.
    pub fn extent(&self) -> [usize; 2] {
        let [_, h, w] = self.image;
        if self.halved { [h / 2, w / 2] } else { [h, w] }
    }

    /// What a black pixel becomes, per channel.
    pub fn black(&self) -> Vec<f32> {
        let channels = self.channels.iter();
        channels.map(|&channel| value(0.0, channel)).collect()
    }

    /// Writes the network's input for the pixels of one image.
    ///
    /// # Panics
    /// If `pixels` or `out` do not have the lengths that [`Preprocess::prepare`] was given.
    pub fn fill(&self, pixels: &[u8], out: &mut [f32]) {
        let [count, h, w] = self.image;
        assert_eq!(pixels.len(), count * h * w, "pixels of one image");
        let [h_out, w_out] = self.extent();
        assert_eq!(out.len(), count * h_out * w_out, "values of one input");
        let (step, stride) = if self.channels_last {
            (1, count)
        } else {
            (h_out * w_out, 1)
        };
        for (channel, &linear) in self.channels.iter().enumerate() {
            let map = &pixels[channel * h * w..(channel + 1) * h * w];
            let out = out[channel * step..].iter_mut().step_by(stride);
            for (i, o) in out.take(h_out * w_out).enumerate() {
                let pixel = if self.halved {
                    block_mean(map, w, i)
                } else {
                    f64::from(map[i])
                };
                *o = value(pixel, linear);
            }
        }
    }
}

fn value(pixel: f64, (factor, offset): (f64, f64)) -> f32 {
    (pixel * factor + offset) as f32
}

/// Mean of the `i`-th 2x2 block.
fn block_mean(map: &[u8], width: usize, i: usize) -> f64 {
    let first = i / (width / 2) * 2 * width + i % (width / 2) * 2;
    let block = [first, first + 1, first + width, first + width + 1];
    block.iter().map(|&p| f64::from(map[p])).sum::<f64>() / 4.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_keep_the_preprocessing() {
        let preprocess = Preprocess {
            scale: 1.0 / 255.0,
            mean: vec![0.1, 0.2, 0.3],
            std: vec![0.5],
        };
        let notes = preprocess.to_notes();
        let find = |name: &str| {
            notes
                .iter()
                .find(|note| note.0 == name)
                .map(|note| &*note.1)
        };
        assert_eq!(Preprocess::from_notes(find), preprocess);
        assert_eq!(Preprocess::from_notes(|_| None), Preprocess::default());
    }
}
