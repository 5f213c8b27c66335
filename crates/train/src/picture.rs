//! How the values of one example make a picture.

use scuro_nn::data::Prepared;

/// Where each pixel of an example lies.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picture {
    /// Height and width.
    pub(crate) extent: [usize; 2],
    /// Whether all channels of a pixel come before the next pixel.
    pub(crate) channels_last: bool,
    /// What black is, one value a channel: it surrounds a picture that is moved.
    pub(crate) black: Vec<f32>,
}

impl Picture {
    /// Values of three axes are channels, rows and columns, and black is zero.
    pub(crate) fn of_shape(shape: &[usize]) -> Option<Self> {
        let [channels, h, w] = *shape else {
            return None;
        };
        Some(Self {
            extent: [h, w],
            channels_last: false,
            black: vec![0.0; channels],
        })
    }

    /// The inputs that `prepared` makes of images.
    pub(crate) fn of_inputs(prepared: &Prepared) -> Self {
        Self {
            extent: prepared.extent(),
            channels_last: prepared.is_channels_last(),
            black: prepared.black(),
        }
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.black.len() * self.pixels()
    }

    /// Whether there is more than gray.
    pub(crate) fn is_colour(&self) -> bool {
        self.black.len() > 1
    }

    /// Place of the value of `channel` at pixel `pixel`, counted row by row.
    pub(crate) fn place(&self, channel: usize, pixel: usize) -> usize {
        if self.channels_last {
            pixel * self.black.len() + channel
        } else {
            channel * self.pixels() + pixel
        }
    }

    fn pixels(&self) -> usize {
        self.extent.iter().product()
    }
}
