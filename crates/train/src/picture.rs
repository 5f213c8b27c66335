//! How the values of one example make a picture.

use scuro_nn::data::Prepared;

/// Where each pixel of an example lies.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picture {
    /// Height and width.
    pub(crate) extent: [usize; 2],
    /// Whether all channels of a pixel come before the next pixel.
    pub(crate) channels_last: bool,
    /// What surrounds a picture that is moved, one value a channel.
    pub(crate) surround: Vec<f32>,
}

impl Picture {
    /// Values of three axes are channels, rows and columns, zeros around them.
    pub(crate) fn of_shape(shape: &[usize]) -> Option<Self> {
        let [channels, h, w] = *shape else {
            return None;
        };
        Some(Self {
            extent: [h, w],
            channels_last: false,
            surround: vec![0.0; channels],
        })
    }

    /// The inputs that `prepared` makes of images.
    pub(crate) fn of_inputs(prepared: &Prepared) -> Self {
        Self {
            extent: prepared.extent(),
            channels_last: prepared.is_channels_last(),
            surround: prepared.surround(),
        }
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.surround.len() * self.pixels()
    }

    /// Whether there is more than gray.
    pub(crate) fn is_colour(&self) -> bool {
        self.surround.len() > 1
    }

    /// Place of the value of `channel` at pixel `pixel`, counted row by row.
    pub(crate) fn place(&self, channel: usize, pixel: usize) -> usize {
        if self.channels_last {
            pixel * self.surround.len() + channel
        } else {
            channel * self.pixels() + pixel
        }
    }

    fn pixels(&self) -> usize {
        self.extent.iter().product()
    }
}
