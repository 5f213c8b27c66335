//! From pixels to network inputs.

use crate::error::{Error, Result};

/// How pixels become inputs: `(pixel * scale - mean) / std`, per channel, where each image may be
/// standardised after scaling.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// Factor on the raw pixel, often 1/255.
    pub scale: f32,
    /// Subtracted after scaling; one value, or one per channel.
    pub mean: Vec<f32>,
    /// Divided by at the end; one value, or one per channel.
    pub std: Vec<f32>,
    /// Standardises each image over all its `n` values after scaling, if there is a number: the
    /// floor `f` of the deviation.
    ///
    /// Math:   y_i = (x_i - m) / max(s, f, 1/sqrt(n)),   m = mean of x,   s^2 = mean of (x - m)^2
    ///
    /// With `f` = 0 that is TensorFlow's `tf.image.per_image_standardization`; a larger one limits
    /// the contrast of strong images and leaves that of others alone.
    pub standardize: Option<f32>,
}

impl Default for Preprocess {
    /// Pixels scaled to `[0, 1]`.
    fn default() -> Self {
        Self {
            scale: 1.0 / 255.0,
            mean: vec![0.0],
            std: vec![1.0],
            standardize: None,
        }
    }
}

/// A [`Preprocess`] checked against the shapes of images and network.
#[derive(Debug, Clone)]
pub struct Prepared {
    scale: f64,
    standardize: Option<f64>,
    /// Mean and deviation of every channel.
    channels: Vec<(f64, f64)>,
    image: [usize; 3],
    halved: bool,
    channels_last: bool,
}

/// Characters of a wrong note that an error shows.
const NOTE_SHOWN: usize = 40;

/// Names under which a program or network notes its preprocessing.
const NOTES: [&str; 4] = [
    "input-scale",
    "input-mean",
    "input-std",
    "input-standardize",
];

impl Preprocess {
    /// The preprocessing as notes, name and text.
    pub fn to_notes(&self) -> Vec<(String, String)> {
        let list = |values: &[f32]| {
            values
                .iter()
                .map(f32::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        let texts = [
            Some(self.scale.to_string()),
            Some(list(&self.mean)),
            Some(list(&self.std)),
            self.standardize.map(|floor| floor.to_string()),
        ];
        let notes = NOTES.into_iter().zip(texts);
        notes
            .filter_map(|(name, text)| Some((name.to_string(), text?)))
            .collect()
    }

    /// The preprocessing of [`Preprocess::to_notes`]; the usual one where a note is missing.
    ///
    /// # Errors
    /// [`Error::Note`] where a note is none of [`Preprocess::to_notes`].
    pub fn from_notes<'a>(note: impl Fn(&str) -> Option<&'a str>) -> Result<Self> {
        let usual = Self::default();
        let [scale, mean, std, standardize] = NOTES;
        let list = |name, usual| match note(name) {
            Some(text) => text.split(',').map(|part| parse(name, part)).collect(),
            None => Ok(usual),
        };
        Ok(Self {
            scale: note(scale).map_or(Ok(usual.scale), |text| parse(scale, text))?,
            mean: list(mean, usual.mean)?,
            std: list(std, usual.std)?,
            standardize: note(standardize)
                .map(|text| parse(standardize, text))
                .transpose()?,
        })
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
            scale: fraction(self.scale),
            standardize: self.standardize.map(f64::from),
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
        check("standardize", &[self.standardize.unwrap_or(0.0)], &|f| {
            f >= 0.0
        })?;
        let of = |values: &[f32], channel: usize| f64::from(values[channel % values.len()]);
        let both = |channel| (of(&self.mean, channel), of(&self.std, channel));
        Ok((0..channels).map(both).collect())
    }
}

fn parse<T: std::str::FromStr>(name: &'static str, text: &str) -> Result<T> {
    text.trim().parse().map_err(|_| Error::Note {
        name,
        text: text.chars().take(NOTE_SHOWN).collect(),
    })
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

    /// What surrounds an image, per channel: what zero becomes, which is a black pixel, or the mean
    /// of a standardised image, as each has a black of its own.
    pub fn surround(&self) -> Vec<f32> {
        let channels = self.channels.iter();
        channels.map(|(mean, std)| (-mean / std) as f32).collect()
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
        let (factor, offset) = self.image_map(pixels);
        for (channel, (mean, std)) in self.channels.iter().enumerate() {
            let (factor, offset) = (factor / std, (offset - mean) / std);
            let out = out[channel * step..].iter_mut().step_by(stride);
            for (i, o) in out.take(h_out * w_out).enumerate() {
                *o = (self.pixel(pixels, channel, i) * factor + offset) as f32;
            }
        }
    }

    /// Factor and offset for all pixels of an image.
    fn image_map(&self, pixels: &[u8]) -> (f64, f64) {
        let Some(floor) = self.standardize else {
            return (self.scale, 0.0);
        };
        let places = self.extent().iter().product();
        let values = || {
            let channels = 0..self.channels.len();
            channels.flat_map(move |c| (0..places).map(move |i| self.pixel(pixels, c, i)))
        };
        let count = (self.channels.len() * places) as f64;
        let mean = values().sum::<f64>() / count;
        let square = values().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        let deviation = square.sqrt() * self.scale.abs();
        let deviation = deviation.max(floor).max(count.sqrt().recip());
        let factor = self.scale / deviation;
        (factor, -mean * factor)
    }

    /// The `i`-th pixel of a channel, or the mean of the `i`-th block.
    fn pixel(&self, pixels: &[u8], channel: usize, i: usize) -> f64 {
        let [_, h, w] = self.image;
        let map = &pixels[channel * h * w..(channel + 1) * h * w];
        match self.halved {
            true => block_mean(map, w, i),
            false => f64::from(map[i]),
        }
    }
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
            standardize: Some(0.25),
        };
        let notes = preprocess.to_notes();
        let find = |name: &str| {
            notes
                .iter()
                .find(|note| note.0 == name)
                .map(|note| &*note.1)
        };
        assert_eq!(Preprocess::from_notes(find).unwrap(), preprocess);
        let usual = Preprocess::from_notes(|_| None).unwrap();
        assert_eq!(usual, Preprocess::default());
    }

    #[test]
    fn a_note_that_is_none_is_an_error_and_not_the_usual_pixels() {
        for name in NOTES {
            let wrong = Preprocess::from_notes(|asked| (asked == name).then_some("0.5,x"));
            assert!(matches!(wrong, Err(Error::Note { name: n, .. }) if n == name));
        }
    }

    #[test]
    fn standardised_images_have_mean_zero_and_deviation_one() {
        let preprocess = Preprocess {
            standardize: Some(0.0),
            ..Preprocess::default()
        };
        let prepared = preprocess.prepare([3, 2, 2], &[2, 2, 3]).unwrap();
        let mut out = [0.0; 12];
        prepared.fill(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 110], &mut out);
        // tf.image.per_image_standardization of the same twelve pixels over 255; their deviation
        // is 0.1144, so that the bound of 1/sqrt(12) holds.
        let mean = 165.0 / 12.0 / 255.0;
        for (place, pixel) in [(0, 0.0), (1, 4.0), (11, 110.0)] {
            let expected = (pixel / 255.0 - mean) * 12f64.sqrt();
            assert!((f64::from(out[place]) - expected).abs() < 1e-6, "{out:?}");
        }
        prepared.fill(&[0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255], &mut out);
        assert_eq!(out.map(f32::abs), [1.0; 12]);
        prepared.fill(&[77; 12], &mut out);
        assert_eq!(out, [0.0; 12]);
        assert_eq!(prepared.surround(), [0.0; 3]);
    }

    #[test]
    fn a_floor_limits_strong_contrast_and_leaves_faint_images_alone() {
        let preprocess = Preprocess {
            mean: vec![0.5],
            std: vec![4.0],
            standardize: Some(0.25),
            ..Preprocess::default()
        };
        let prepared = preprocess.prepare([1, 4, 4], &[1, 2, 2]).unwrap();
        let mut out = [0.0; 4];
        let blocks = |low: u8, high: u8| {
            let row = [[low, low, high, high]; 2].concat();
            [row.clone(), row].concat()
        };
        // Four block means of deviation 0.1, of which 1/sqrt(4) = 0.5 is above the floor.
        prepared.fill(&blocks(51, 102), &mut out);
        let expected = [-0.2f32, 0.2, -0.2, 0.2].map(|v| (v - 0.5) / 4.0);
        assert!(
            out.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6),
            "{out:?}"
        );
        let large = preprocess.prepare([1, 8, 8], &[1, 8, 8]).unwrap();
        let mut out = [0.0; 64];
        // Deviations of 0.2 and 0.5.
        for (low, high, expected) in [(51, 153, 0.2 / 0.25), (0, 255, 1.0)] {
            let image: Vec<u8> = (0..64)
                .map(|i| if i % 2 == 0 { low } else { high })
                .collect();
            large.fill(&image, &mut out);
            assert!((out[1] - (expected - 0.5) / 4.0).abs() < 1e-6, "{}", out[1]);
        }
    }
}
