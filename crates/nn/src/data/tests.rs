use std::io::Write;

use super::*;
use crate::error::DataFault;

fn idx(magic: u32, extents: &[u32], body: &[u8]) -> Vec<u8> {
    let words = std::iter::once(&magic)
        .chain(extents)
        .flat_map(|w| w.to_be_bytes());
    words.chain(body.iter().copied()).collect()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn fault<T: std::fmt::Debug>(result: Result<T>) -> DataFault {
    match result {
        Err(Error::DataFile { fault, .. }) => fault,
        other => panic!("expected a fault of the file, found {other:?}"),
    }
}

#[test]
fn idx_files_are_read_plain_and_packed() {
    let folder = Folder::new();
    let bytes = idx(0x803, &[2, 2, 3], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    let plain = read_idx_images(&folder.file("plain", &bytes)).unwrap();
    let packed = read_idx_images(&folder.file("packed", &gzip(&bytes))).unwrap();
    assert_eq!(plain, packed);
    assert_eq!((plain.0, plain.1.len()), ([1, 2, 3], 12));
}

#[test]
fn a_truncated_or_longer_idx_file_is_an_error() {
    let folder = Folder::new();
    for body in [&[0u8; 11][..], &[0; 13]] {
        let path = folder.file("x", &idx(0x803, &[2, 2, 3], body));
        assert!(matches!(
            fault(read_idx_images(&path)),
            DataFault::Length { expected: 28, .. }
        ));
    }
    let path = folder.file("header", &idx(0x803, &[2, 2], &[]));
    assert!(matches!(
        fault(read_idx_images(&path)),
        DataFault::Length {
            expected: 16,
            found: 12
        }
    ));
    let cut = gzip(&idx(0x803, &[2, 2, 3], &[0; 12]));
    let path = folder.file("cut.gz", &cut[..cut.len() - 9]);
    assert!(matches!(read_idx_images(&path), Err(Error::Io { .. })));
}

#[test]
fn another_magic_and_absurd_extents_are_errors() {
    let folder = Folder::new();
    let path = folder.file("labels", &idx(0x801, &[1], &[3]));
    assert!(matches!(
        fault(read_idx_images(&path)),
        DataFault::Magic { found: 0x801, .. }
    ));
    let path = folder.file("empty", &[]);
    assert!(matches!(
        fault(read_idx_images(&path)),
        DataFault::Magic { found: 0, .. }
    ));
    let path = folder.file("huge", &idx(0x803, &[u32::MAX; 3], &[]));
    assert!(matches!(
        fault(read_idx_images(&path)),
        DataFault::Extent { .. }
    ));
}

#[test]
fn labels_out_of_range_or_of_another_count_are_errors() {
    let folder = Folder::new();
    let path = folder.file("labels", &idx(0x801, &[3], &[3, 10, 1]));
    let found = fault(read_idx_labels(&path, 10));
    assert!(matches!(
        found,
        DataFault::Label {
            position: 1,
            found: 10,
            classes: 10
        }
    ));
    folder.file("t10k-images-idx3-ubyte", &idx(0x803, &[2, 1, 1], &[1, 2]));
    folder.file("t10k-labels-idx1-ubyte", &idx(0x801, &[3], &[1, 2, 3]));
    let search = [folder.0.path().to_path_buf()];
    let found = fault(load("mnist".parse().unwrap(), &search, None));
    assert!(matches!(
        found,
        DataFault::LabelCount {
            images: 2,
            labels: 3
        }
    ));
}

#[test]
fn cifar_records_are_split_and_a_partial_record_is_an_error() {
    let folder = Folder::new();
    let mut bytes = vec![7u8; 2 * 3073];
    bytes[0] = 3;
    bytes[3073] = 9;
    let (pixels, labels) = read_cifar10(&folder.file("ok", &bytes)).unwrap();
    assert_eq!((pixels.len(), labels), (2 * 3072, vec![3, 9]));
    let path = folder.file("cut", &bytes[..bytes.len() - 1]);
    assert!(matches!(
        fault(read_cifar10(&path)),
        DataFault::Length { expected: 6146, .. }
    ));
}

#[test]
fn names_are_parsed_and_printed() {
    for &name in KNOWN {
        assert_eq!(name.parse::<DatasetName>().unwrap().to_string(), name);
    }
    for wrong in ["", "mnist:validation", "MNIST", "cifar100"] {
        assert!(matches!(
            wrong.parse::<DatasetName>(),
            Err(Error::UnknownData { .. })
        ));
    }
}

#[test]
fn missing_files_are_reported_with_the_folders_searched() {
    let search = [PathBuf::from("nowhere"), PathBuf::from("also/nowhere")];
    let found = load("cifar10:train".parse().unwrap(), &search, None);
    let message = found.unwrap_err().to_string();
    assert!(message.contains("nowhere, also/nowhere") && message.contains("generated:test"));
}

#[test]
fn search_paths_keep_their_order_and_skip_what_is_absent() {
    let found = default_search_paths(Some(Path::new("a")), Some(OsStr::new("")), None);
    assert_eq!(found, [PathBuf::from("a"), PathBuf::from("../shared/data")]);
}

#[test]
fn pixels_are_scaled_shifted_and_divided_per_channel() {
    let p = Preprocess {
        scale: 0.5,
        mean: vec![1.0, 2.0, 3.0],
        std: vec![2.0],
        ..Preprocess::default()
    };
    let prepared = p.prepare([3, 1, 2], &[3, 1, 2]).unwrap();
    let mut out = [0.0; 6];
    prepared.fill(&[2, 4, 6, 8, 10, 12], &mut out);
    assert_eq!(out, [0.0, 0.5, 0.5, 1.0, 1.0, 1.5]);
    let last = p.prepare([3, 1, 2], &[1, 2, 3]).unwrap();
    last.fill(&[2, 4, 6, 8, 10, 12], &mut out);
    assert_eq!(out, [0.0, 0.5, 1.0, 0.5, 1.0, 1.5]);
}

#[test]
fn pixels_times_a_fraction_are_pixels_divided() {
    let pixels: Vec<u8> = (0..=255).collect();
    for divisor in [1.0, 255.0, 256.0] {
        let scale = 1.0 / divisor;
        let p = Preprocess {
            scale,
            ..Preprocess::default()
        };
        let mut found = [0.0; 256];
        let prepared = p.prepare([1, 16, 16], &[256]).unwrap();
        prepared.fill(&pixels, &mut found);
        for (&pixel, found) in pixels.iter().zip(found) {
            let expected = f32::from(pixel) / divisor;
            assert_eq!(found.to_bits(), expected.to_bits(), "{pixel} / {divisor}");
        }
    }
}

#[test]
fn a_scale_that_is_no_fraction_stays_as_it_is() {
    for scale in [0.4, 2.0, 3.5, 0.0, -0.3] {
        let p = Preprocess {
            scale,
            ..Preprocess::default()
        };
        let mut found = [0.0];
        let prepared = p.prepare([1, 1, 1], &[1]).unwrap();
        prepared.fill(&[100], &mut found);
        assert_eq!(found, [100.0 * scale], "{scale}");
    }
}

#[test]
fn black_is_what_a_pixel_of_zero_becomes() {
    let p = Preprocess {
        scale: 0.5,
        mean: vec![1.0, 2.0, 3.0],
        std: vec![2.0],
        ..Preprocess::default()
    };
    let prepared = p.prepare([3, 2, 2], &[1, 1, 3]).unwrap();
    assert!(prepared.is_channels_last() && prepared.extent() == [1, 1]);
    assert_eq!(prepared.surround(), [-0.5, -1.0, -1.5]);
}

#[test]
fn a_network_of_half_the_size_gets_block_means() {
    let prepared = Preprocess::raw().prepare([1, 2, 4], &[1, 1, 2]).unwrap();
    assert!(prepared.is_halved());
    let mut out = [0.0; 2];
    prepared.fill(&[0, 1, 10, 20, 2, 4, 30, 40], &mut out);
    assert_eq!(out, [1.75, 25.0]);
}

#[test]
fn images_that_do_not_fit_are_errors_with_a_hint() {
    let gray = Preprocess::default().prepare([1, 32, 32], &[3, 32, 32]);
    assert!(gray.unwrap_err().to_string().contains("takes colour"));
    let size = Preprocess::default().prepare([1, 28, 28], &[1, 32, 32]);
    assert!(matches!(size, Err(Error::ImageShape { .. })));
}

#[test]
fn normalisation_constants_must_match_the_channels_and_divide() {
    for (mean, std) in [
        (vec![0.0; 2], vec![1.0]),
        (vec![0.0], vec![0.0]),
        (vec![f32::NAN], vec![1.0]),
    ] {
        let p = Preprocess {
            scale: 1.0,
            mean,
            std,
            ..Preprocess::default()
        };
        let found = p.prepare([3, 4, 4], &[3, 4, 4]);
        assert!(matches!(found, Err(Error::Normalisation { .. })));
    }
}

#[test]
fn pictures_that_are_not_pictures_are_errors() {
    let folder = Folder::new();
    let path = folder.file("x.png", b"\x89PNG\r\n\x1a\nnothing more");
    assert!(matches!(
        fault(picture::read(&path)),
        DataFault::Picture { .. }
    ));
}

/// A PNG of `pixels`, each red, green, blue and alpha.
fn png(width: u32, height: u32, pixels: &[[u8; 4]]) -> Vec<u8> {
    let image = image::RgbaImage::from_raw(width, height, pixels.concat()).unwrap();
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn what_is_drawn_on_nothing_stays_visible() {
    let clear = [0, 0, 0, 0];
    for (ink, paper) in [(0, 255), (250, 0)] {
        let drawn = [ink, ink, ink, 255];
        let picture = picture::decode(&png(2, 1, &[drawn, clear])).unwrap();
        let luminance = picture.luminance();
        assert_eq!(luminance[0].round() as u8, ink);
        assert_eq!(luminance[1].round() as u8, paper);
    }
}

#[test]
fn a_photograph_is_turned_as_its_camera_says() {
    let dark = [0, 0, 0, 255];
    let light = [255, 255, 255, 255];
    let plain = png(2, 1, &[dark, light]);
    // An eXIf chunk before the pixels: big-endian TIFF with the one tag 0x0112, orientation.
    let turned = |orientation: u8| {
        let mut exif = b"eXIfMM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let mut chunk = ((exif.len() - 4) as u32).to_be_bytes().to_vec();
        chunk.extend(&exif);
        chunk.extend(crc32(&exif).to_be_bytes());
        // Signature and header chunk are 33 bytes.
        [&plain[..33], &chunk, &plain[33..]].concat()
    };
    let shape = |orientation| picture::decode(&turned(orientation)).unwrap();
    for orientation in 1..=8 {
        let bytes = turned(orientation);
        let told = picture::Header::read(&bytes).unwrap().shape();
        assert_eq!(told, shape(orientation).shape, "orientation {orientation}");
    }
    let [_, height, width] = shape(1).shape;
    assert_eq!((height, width), (1, 2));
    let quarter = shape(6);
    assert_eq!(quarter.shape[1..], [2, 1]);
    assert!(quarter.luminance()[0] < 1.0);
    assert!(shape(3).luminance()[0] > 254.0);
}

#[test]
fn the_size_of_a_picture_is_told_before_it_is_decoded() {
    let mut bytes = png(2, 1, &[[9, 9, 9, 255]; 2]);
    // The header chunk: length, name, width, height, five more bytes, checksum.
    bytes[16..20].copy_from_slice(&11_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&12_000u32.to_be_bytes());
    let checksum = crc32(&bytes[12..29]).to_be_bytes();
    bytes[29..33].copy_from_slice(&checksum);
    let header = picture::Header::read(&bytes).unwrap();
    assert_eq!(header.shape(), [3, 12_000, 11_000]);
    assert!(header.decode().is_err(), "the pixels are not there");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
