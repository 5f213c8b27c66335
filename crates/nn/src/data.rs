//! Images with labels: files of MNIST and CIFAR-10, pictures, and generated digits.

pub mod digit_photo;
mod files;
mod formats;
pub mod picture;
mod preprocess;
pub mod synthetic;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub(crate) use files::read_limited;
pub use formats::{read_cifar10, read_idx_images, read_idx_labels};
pub use preprocess::{Prepared, Preprocess};

use crate::error::{Error, Result};

/// Names that [`DatasetName`] understands, for messages.
pub const KNOWN: &[&str] = &[
    "mnist:test",
    "mnist:train",
    "cifar10:test",
    "cifar10:train",
    "generated:test",
    "generated:train",
];
/// Generated digits when no number is asked for: test, train.
const GENERATED: [usize; 2] = [10_000, 60_000];
/// Most generated digits.
const GENERATED_MAX: usize = 1_000_000;

/// Labelled images of one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Which one.
    pub name: DatasetName,
    /// Shape of one image, `[channels, height, width]`.
    pub shape: [usize; 3],
    /// Pixels, image after image, channel by channel, row by row.
    pub images: Vec<u8>,
    /// One label an image.
    pub labels: Vec<u8>,
    /// Class names in label order.
    pub classes: Vec<String>,
}

/// A family of images and the part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatasetName {
    /// Which family.
    pub family: Family,
    /// Which part.
    pub split: Split,
}

/// The families of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Handwritten digits, 28x28 gray.
    Mnist,
    /// Ten kinds of object, 32x32 RGB.
    Cifar10,
    /// Digits drawn by [`synthetic`], 28x28 gray.
    Generated,
}

/// Training or test part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// For fitting.
    Train,
    /// For scoring.
    Test,
}

impl FromStr for DatasetName {
    type Err = Error;

    /// `NAME` or `NAME:split`; without a split the test part is meant.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::UnknownData {
            name: text.to_owned(),
            known: KNOWN,
        };
        let (family, split) = text.split_once(':').unwrap_or((text, "test"));
        let family = match family {
            "mnist" => Family::Mnist,
            "cifar10" => Family::Cifar10,
            "generated" => Family::Generated,
            _ => return Err(unknown()),
        };
        let split = match split {
            "train" => Split::Train,
            "test" => Split::Test,
            _ => return Err(unknown()),
        };
        Ok(Self { family, split })
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Mnist => "mnist",
            Family::Cifar10 => "cifar10",
            Family::Generated => "generated",
        };
        let split = match self.split {
            Split::Train => "train",
            Split::Test => "test",
        };
        write!(f, "{family}:{split}")
    }
}

impl Dataset {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Pixels of image `index`.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn image(&self, index: usize) -> &[u8] {
        let length = self.shape.iter().product::<usize>();
        &self.images[index * length..(index + 1) * length]
    }

    /// Keeps the first `count` images.
    pub fn truncate(&mut self, count: usize) {
        self.labels.truncate(count);
        self.images
            .truncate(self.labels.len() * self.shape.iter().product::<usize>());
    }

    /// Leaves out the first `count` images, or all there are.
    pub fn drop_first(&mut self, count: usize) {
        let count = count.min(self.len());
        self.labels.drain(..count);
        self.images
            .drain(..count * self.shape.iter().product::<usize>());
    }
}

/// Folders to look in, best first: the one named by the caller, the one in the environment, the
/// shared one beside the checkout, the cache.
pub fn default_search_paths(
    explicit: Option<&Path>,
    environment: Option<&OsStr>,
    cache: Option<&Path>,
) -> Vec<PathBuf> {
    let environment = environment
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let shared = PathBuf::from("../shared/data");
    let explicit = explicit.map(Path::to_path_buf);
    let cache = cache.map(Path::to_path_buf);
    [explicit, environment, Some(shared), cache]
        .into_iter()
        .flatten()
        .collect()
}

/// Reads a data set from the first folder that has it, or draws it; `limit` keeps the first images.
///
/// # Errors
/// [`Error::DataNotFound`] if no folder has the files; the fault of a file that is found but wrong.
pub fn load(name: DatasetName, search: &[PathBuf], limit: Option<usize>) -> Result<Dataset> {
    let mut data = match name.family {
        Family::Generated => {
            let usual = GENERATED[usize::from(name.split == Split::Train)];
            synthetic::dataset(name.split, limit.unwrap_or(usual).min(GENERATED_MAX))
        }
        Family::Mnist => load_mnist(name, search)?,
        Family::Cifar10 => load_cifar10(name, search, limit)?,
    };
    data.truncate(limit.unwrap_or(usize::MAX));
    Ok(data)
}

/// Whether the files of `name` are in one of the folders (generated digits always are).
pub fn is_available(name: DatasetName, search: &[PathBuf]) -> bool {
    match name.family {
        Family::Generated => true,
        Family::Mnist => locate(search, "mnist", mnist_files(name.split)[0]).is_some(),
        Family::Cifar10 => locate(search, "cifar10", cifar10_files(name.split)[0]).is_some(),
    }
}

fn mnist_files(split: Split) -> [&'static str; 2] {
    match split {
        Split::Train => ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"],
        Split::Test => ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"],
    }
}

fn cifar10_files(split: Split) -> &'static [&'static str] {
    match split {
        Split::Test => &["test_batch.bin"],
        Split::Train => &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
    }
}

/// `file`, plain or packed, in a folder of `search` or in its subfolder `family`.
fn locate(search: &[PathBuf], family: &str, file: &str) -> Option<PathBuf> {
    let folders = search
        .iter()
        .flat_map(|folder| [folder.join(family), folder.clone()]);
    let endings = ["", ".gz", ".xz"];
    let candidates = folders.flat_map(|f| endings.map(|ending| f.join(format!("{file}{ending}"))));
    candidates.into_iter().find(|path| path.is_file())
}

fn located(name: DatasetName, search: &[PathBuf], family: &str, file: &str) -> Result<PathBuf> {
    let missing = || Error::DataNotFound {
        name: name.to_string(),
        searched: search.to_vec(),
    };
    locate(search, family, file).ok_or_else(missing)
}

fn load_mnist(name: DatasetName, search: &[PathBuf]) -> Result<Dataset> {
    let [images, labels] = mnist_files(name.split);
    let images = located(name, search, "mnist", images)?;
    let labels = located(name, search, "mnist", labels)?;
    let (shape, pixels) = read_idx_images(&images)?;
    let marks = read_idx_labels(&labels, 10)?;
    formats::check_label_count(
        &labels,
        pixels.len() / shape.iter().product::<usize>(),
        marks.len(),
    )?;
    let classes = (0..10).map(|digit| digit.to_string()).collect();
    Ok(Dataset {
        name,
        shape,
        images: pixels,
        labels: marks,
        classes,
    })
}

fn load_cifar10(name: DatasetName, search: &[PathBuf], limit: Option<usize>) -> Result<Dataset> {
    let classes = formats::CIFAR10_CLASSES.map(str::to_owned).to_vec();
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for file in cifar10_files(name.split) {
        if limit.is_some_and(|limit| labels.len() >= limit) {
            break;
        }
        let (pixels, marks) = read_cifar10(&located(name, search, "cifar10", file)?)?;
        images.extend(pixels);
        labels.extend(marks);
    }
    Ok(Dataset {
        name,
        shape: [3, 32, 32],
        images,
        labels,
        classes,
    })
}
