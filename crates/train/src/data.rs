//! Labelled examples in memory.

use crate::error::{Error, Result};
use crate::layers::size;
use crate::picture::Picture;
use crate::random::{Purpose, permutation, stream};
use scuro_nn::data::{Dataset, Preprocess};

/// Examples of one shape with their class numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    shape: Vec<usize>,
    /// Nothing for examples that are no pictures.
    picture: Option<Picture>,
    images: Vec<f32>,
    labels: Vec<usize>,
}

impl Examples {
    /// `labels.len()` examples of `shape`, one after another; with three axes they are pictures,
    /// channels first.
    ///
    /// # Errors
    /// [`Error::ExampleCount`] unless there are as many values as the labels and the shape ask for.
    pub fn new(shape: Vec<usize>, images: Vec<f32>, labels: Vec<usize>) -> Result<Self> {
        let expected = labels.len().checked_mul(size(&shape));
        if expected != Some(images.len()) {
            return Err(Error::ExampleCount {
                shape,
                labels: labels.len(),
                found: images.len(),
            });
        }
        Ok(Self {
            picture: Picture::of_shape(&shape),
            shape,
            images,
            labels,
        })
    }

    /// The images of `dataset` with pixels scaled to 0..1, for a network that takes their shape.
    pub fn from_dataset(dataset: &Dataset) -> Self {
        Self {
            shape: dataset.shape.to_vec(),
            picture: Picture::of_shape(&dataset.shape),
            images: dataset
                .images
                .iter()
                .map(|&pixel| f32::from(pixel) / 255.0)
                .collect(),
            labels: labels(dataset),
        }
    }

    /// The images of `dataset` as a network of input shape `network` takes them. The usual
    /// preprocessing and the images' own shape give [`Examples::from_dataset`].
    ///
    /// # Errors
    /// As [`Preprocess::prepare`].
    pub fn prepared(dataset: &Dataset, preprocess: &Preprocess, network: &[usize]) -> Result<Self> {
        let prepared = preprocess.prepare(dataset.shape, network)?;
        let len = size(network);
        let mut images = vec![0.0; dataset.len() * len];
        for index in 0..dataset.len() {
            prepared.fill(dataset.image(index), &mut images[index * len..][..len]);
        }
        Ok(Self {
            shape: network.to_vec(),
            picture: Some(Picture::of_inputs(&prepared)),
            images,
            labels: labels(dataset),
        })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Shape of one example.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How the values of one example make a picture.
    pub(crate) fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }

    /// Values of example `index`.
    ///
    /// # Panics
    /// If `index >= self.len()`.
    pub fn image(&self, index: usize) -> &[f32] {
        &self.images[index * size(&self.shape)..][..size(&self.shape)]
    }

    /// Values of all examples, one after another.
    pub fn values(&self) -> &[f32] {
        &self.images
    }

    /// Class numbers.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// These examples, then `other`'s.
    ///
    /// # Errors
    /// [`Error::ExampleShape`] if the shapes differ.
    pub fn joined(mut self, other: &Self) -> Result<Self> {
        if self.shape != other.shape {
            let (expected, found) = (self.shape, other.shape.clone());
            return Err(Error::ExampleShape { expected, found });
        }
        self.images.extend_from_slice(&other.images);
        self.labels.extend_from_slice(&other.labels);
        Ok(self)
    }

    /// The examples at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn select(&self, indices: &[usize]) -> Self {
        let images = indices
            .iter()
            .flat_map(|&i| self.image(i))
            .copied()
            .collect();
        let labels = indices.iter().map(|&i| self.labels[i]).collect();
        Self {
            shape: self.shape.clone(),
            picture: self.picture.clone(),
            images,
            labels,
        }
    }

    /// A training part and a validation part with `share` of the examples, chosen by `seed`.
    ///
    /// # Errors
    /// [`Error::TooFewExamples`] if a part that was asked for has none.
    pub fn split(&self, share: f32, seed: u64) -> Result<(Self, Self)> {
        let order = permutation(&mut stream(seed, Purpose::Split, 0), self.len());
        let held_out = (self.len() as f64 * f64::from(share)).round() as usize;
        let (validation, training) = order.split_at(held_out.min(self.len()));
        if training.is_empty() || (share > 0.0 && validation.is_empty()) {
            let part = if training.is_empty() {
                "training"
            } else {
                "validation"
            };
            return Err(Error::TooFewExamples {
                part,
                found: self.len(),
            });
        }
        Ok((self.select(training), self.select(validation)))
    }

    /// Checks that a network for `shape` with `classes` classes can take these examples.
    pub(crate) fn check(&self, shape: &[usize], classes: usize) -> Result<()> {
        if self.shape != shape {
            let (expected, found) = (shape.to_vec(), self.shape.clone());
            return Err(Error::ExampleShape { expected, found });
        }
        match self.labels.iter().position(|&label| label >= classes) {
            Some(example) => Err(Error::Label {
                example,
                found: self.labels[example],
                classes,
            }),
            None => Ok(()),
        }
    }
}

fn labels(dataset: &Dataset) -> Vec<usize> {
    let labels = dataset.labels.iter();
    labels.map(|&label| usize::from(label)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use scuro_nn::data::{Split, synthetic};

    fn examples(count: usize) -> Examples {
        let images = (0..2 * count).map(|v| v as f32).collect();
        Examples::new(vec![2], images, (0..count).collect()).unwrap()
    }

    #[test]
    fn a_split_holds_every_example_once() {
        let (training, validation) = examples(10).split(0.3, 7).unwrap();
        assert_eq!((training.len(), validation.len()), (7, 3));
        let mut all = [training.labels, validation.labels].concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn the_usual_preprocessing_gives_the_bits_of_pixels_divided_by_255() {
        let data = synthetic::dataset(Split::Test, 20);
        let usual = Preprocess::default();
        let prepared = Examples::prepared(&data, &usual, &data.shape).unwrap();
        assert_eq!(prepared, Examples::from_dataset(&data));
    }

    #[test]
    fn images_take_the_preprocessing_and_the_shape_of_the_network() {
        let data = synthetic::dataset(Split::Test, 3);
        let raw = Preprocess::raw();
        for shape in [&[784][..], &[28, 28], &[28, 28, 1], &[1, 28, 28]] {
            let examples = Examples::prepared(&data, &raw, shape).unwrap();
            assert_eq!(examples.shape(), shape);
            let pixels = data.image(2).iter().map(|&pixel| f32::from(pixel));
            assert!(pixels.eq(examples.image(2).iter().copied()), "{shape:?}");
        }
        let half = Examples::prepared(&data, &raw, &[1, 14, 14]).unwrap();
        assert_eq!(half.values().len(), 3 * 14 * 14);
        let colour = Examples::prepared(&data, &raw, &[3, 28, 28]);
        assert!(matches!(colour, Err(Error::Network(_))));
    }

    #[test]
    fn wrong_counts_shapes_and_labels_are_errors() {
        let short = Examples::new(vec![2], vec![0.0; 3], vec![0, 1]);
        assert!(matches!(short, Err(Error::ExampleCount { found: 3, .. })));
        let check = examples(3).check(&[2], 2);
        assert!(matches!(
            check,
            Err(Error::Label {
                example: 2,
                found: 2,
                classes: 2
            })
        ));
        assert!(matches!(
            examples(3).check(&[1, 2], 3),
            Err(Error::ExampleShape { .. })
        ));
        assert!(matches!(
            examples(1).split(1.0, 0),
            Err(Error::TooFewExamples { .. })
        ));
    }
}
