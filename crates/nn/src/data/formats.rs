//! The idx format of MNIST and the binary format of CIFAR-10.

use std::path::Path;

use super::files::read_unpacked;
use crate::error::{DataFault, Error, Result};
use crate::tensor::element_count;

/// Most bytes of a data file, packed or not.
const FILE_LIMIT: u64 = 256 << 20;
const IDX_IMAGES: u32 = 0x0803;
const IDX_LABELS: u32 = 0x0801;
const CIFAR10_PIXELS: usize = 3 * 32 * 32;

/// Class names of CIFAR-10 in label order.
pub(super) const CIFAR10_CLASSES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// Reads an idx file of gray images, plain, `.gz` or `.xz`: the shape `[1, h, w]` of one image and
/// all pixels.
///
/// # Errors
/// [`Error::DataFile`] on another magic, empty extents, or a length other than the header's.
pub fn read_idx_images(path: &Path) -> Result<([usize; 3], Vec<u8>)> {
    let bytes = read_unpacked(path, FILE_LIMIT)?;
    let (extents, body) = idx_body(path, &bytes, IDX_IMAGES, 3)?;
    Ok(([1, extents[1], extents[2]], body.to_vec()))
}

/// Reads an idx file of labels below `classes`.
///
/// # Errors
/// [`Error::DataFile`] as [`read_idx_images`], or on a label that is no class.
pub fn read_idx_labels(path: &Path, classes: usize) -> Result<Vec<u8>> {
    let bytes = read_unpacked(path, FILE_LIMIT)?;
    let (_, body) = idx_body(path, &bytes, IDX_LABELS, 1)?;
    check_labels(path, body, classes)?;
    Ok(body.to_vec())
}

/// Reads one batch of CIFAR-10's binary version: pixels `[n][3][32][32]` and labels.
///
/// # Errors
/// [`Error::DataFile`] if the length is no whole number of records, or a label is no class.
pub fn read_cifar10(path: &Path) -> Result<(Vec<u8>, Vec<u8>)> {
    let bytes = read_unpacked(path, FILE_LIMIT)?;
    let record = 1 + CIFAR10_PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        let expected = (bytes.len().div_ceil(record).max(1) * record) as u64;
        return Err(fault(
            path,
            DataFault::Length {
                found: bytes.len() as u64,
                expected,
            },
        ));
    }
    let labels: Vec<u8> = bytes.iter().step_by(record).copied().collect();
    check_labels(path, &labels, CIFAR10_CLASSES.len())?;
    let pixels = bytes
        .chunks_exact(record)
        .flat_map(|record| &record[1..])
        .copied()
        .collect();
    Ok((pixels, labels))
}

/// As many labels as images.
pub(super) fn check_label_count(path: &Path, images: usize, labels: usize) -> Result<()> {
    if images == labels {
        return Ok(());
    }
    Err(fault(path, DataFault::LabelCount { images, labels }))
}

fn fault(path: &Path, fault: DataFault) -> Error {
    Error::DataFile {
        path: path.to_path_buf(),
        fault,
    }
}

fn check_labels(path: &Path, labels: &[u8], classes: usize) -> Result<()> {
    match labels
        .iter()
        .position(|&label| usize::from(label) >= classes)
    {
        None => Ok(()),
        Some(position) => Err(fault(
            path,
            DataFault::Label {
                position,
                found: labels[position],
                classes,
            },
        )),
    }
}

/// Checks magic, extents and length; returns extents and data.
fn idx_body<'a>(
    path: &Path,
    bytes: &'a [u8],
    magic: u32,
    rank: usize,
) -> Result<(Vec<usize>, &'a [u8])> {
    let header = 4 * (1 + rank);
    let words = || {
        bytes
            .chunks_exact(4)
            .map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]))
    };
    let found = words().next().unwrap_or(0);
    if found != magic {
        return Err(fault(
            path,
            DataFault::Magic {
                found,
                expected: magic,
            },
        ));
    }
    let length = |expected: usize| {
        fault(
            path,
            DataFault::Length {
                found: bytes.len() as u64,
                expected: expected as u64,
            },
        )
    };
    if bytes.len() < header {
        return Err(length(header));
    }
    let extents: Vec<usize> = words()
        .skip(1)
        .take(rank)
        .map(|word| word as usize)
        .collect();
    let limit = FILE_LIMIT as usize;
    match element_count(&extents).filter(|&count| count > 0 && count <= limit) {
        Some(count) if header + count == bytes.len() => Ok((extents, &bytes[header..])),
        Some(count) => Err(length(header + count)),
        None => Err(fault(
            path,
            DataFault::Extent {
                found: extents,
                limit,
            },
        )),
    }
}
