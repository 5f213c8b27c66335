//! Generated handwritten digits, drawn like those of MNIST.
//!
//! A digit is a style from `styles` (control points of its strokes), disturbed point by point,
//! bent by a smooth random field, slanted, turned and scaled, then drawn with a pen whose width
//! drifts along the stroke. As in MNIST the ink fits a 20x20 box inside 28x28 pixels and its centre
//! of mass is in the middle.
//!
//! Only additions, multiplications, divisions and square roots are used, so that a seed gives the
//! same pixels on every machine.

mod draw;
mod styles;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use super::{Dataset, DatasetName, Family, Split};
pub use draw::{Drawing, Pen};

/// Height and width of a generated image.
pub const SIDE: usize = 28;
/// Longest side of the box that holds the ink.
const BOX: f32 = 20.0;
/// Seed of the sets that have a name; any other seed gives other sets.
const NAMED_SEED: u64 = 0x5343_5552_4f5f_3031;

/// The first `count` images of the generated set named by `split`.
pub fn dataset(split: Split, count: usize) -> Dataset {
    dataset_seeded(split, NAMED_SEED, count)
}

/// `count` generated images; image `i` depends on seed, split and `i` only.
pub fn dataset_seeded(split: Split, seed: u64, count: usize) -> Dataset {
    let drawn = |i: usize| {
        let mut rng = image_rng(split, seed, i as u64);
        let label = below(&mut rng, 10) as u8;
        (digit(label, &mut rng), label)
    };
    let (images, labels): (Vec<_>, Vec<u8>) = (0..count).into_par_iter().map(drawn).unzip();
    Dataset {
        name: DatasetName {
            family: Family::Generated,
            split,
        },
        shape: [1, SIDE, SIDE],
        images: images.concat(),
        labels,
        classes: (0..10).map(|digit| digit.to_string()).collect(),
    }
}

/// One digit in a random hand, 28x28 pixels, white on black.
///
/// # Panics
/// If `label` exceeds 9.
pub fn digit(label: u8, rng: &mut impl Rng) -> Vec<u8> {
    let drawing = Drawing::random(label, rng);
    let pen = Pen::random(rng);
    let ink = drawing.fit(BOX - 2.0 * pen.radius).rasterise(SIDE, &pen);
    centre_by_mass(&ink, SIDE)
        .iter()
        .map(|&v| (v * 255.0 + 0.5) as u8)
        .collect()
}

/// Moves the image by whole pixels so that its centre of mass comes to the middle; what leaves the
/// frame is lost.
pub(crate) fn centre_by_mass(image: &[f32], side: usize) -> Vec<f32> {
    let (mut mass, mut x_sum, mut y_sum) = (0.0f32, 0.0f32, 0.0f32);
    for (i, &v) in image.iter().enumerate() {
        mass += v;
        x_sum += v * (i % side) as f32;
        y_sum += v * (i / side) as f32;
    }
    if mass <= 0.0 {
        return image.to_vec();
    }
    let middle = (side / 2) as f32;
    let shift = |sum: f32| (middle - sum / mass - 0.5).round() as isize;
    let (dx, dy) = (shift(x_sum), shift(y_sum));
    let source = |i: usize| {
        let x = (i % side).checked_add_signed(-dx).filter(|&x| x < side)?;
        let y = (i / side).checked_add_signed(-dy).filter(|&y| y < side)?;
        Some(image[y * side + x])
    };
    (0..image.len()).map(|i| source(i).unwrap_or(0.0)).collect()
}

fn image_rng(split: Split, seed: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = u8::from(split == Split::Train);
    key[9..20].copy_from_slice(b"scuro digit");
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(index);
    rng
}

/// Uniform in `[0, 1)`.
fn unit(rng: &mut impl Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// Uniform in `[low, high)`.
fn between(rng: &mut impl Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * unit(rng)
}

/// Uniform integer in `[0, bound)`.
fn below(rng: &mut impl Rng, bound: usize) -> usize {
    ((u64::from(rng.next_u32()) * bound as u64) >> 32) as usize
}

/// Bell-shaped with mean 0 and the given deviation: the sum of four uniforms, so never beyond 3.5
/// deviations.
fn bell(rng: &mut impl Rng, deviation: f32) -> f32 {
    let sum: f32 = (0..4).map(|_| unit(rng)).sum();
    (sum - 2.0) * deviation * 1.732_050_8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_images_whatever_the_count() {
        let many = dataset(Split::Test, 50);
        let few = dataset(Split::Test, 20);
        assert_eq!(many.images[..few.images.len()], few.images);
        assert_ne!(dataset(Split::Train, 20).images, few.images);
        assert_ne!(dataset_seeded(Split::Test, 1, 20).images, few.images);
    }

    #[test]
    fn statistics_are_those_of_mnist() {
        let data = dataset(Split::Test, 2000);
        let mean = data.images.iter().map(|&p| f64::from(p)).sum::<f64>();
        let mean = mean / data.images.len() as f64 / 255.0;
        assert!((0.11..0.15).contains(&mean), "mean {mean}");
        for i in 0..data.len() {
            let (mut mass, mut x, mut y) = (0.0, 0.0, 0.0);
            for (j, &p) in data.image(i).iter().enumerate() {
                mass += f64::from(p);
                x += f64::from(p) * (j % SIDE) as f64;
                y += f64::from(p) * (j / SIDE) as f64;
            }
            assert!(mass > 0.0);
            assert!(
                (x / mass - 13.5).abs() < 0.6 && (y / mass - 13.5).abs() < 0.6,
                "image {i}"
            );
        }
    }

    #[test]
    fn every_label_appears_about_equally_often() {
        let data = dataset(Split::Test, 5000);
        for label in 0..10 {
            let count = data.labels.iter().filter(|&&l| l == label).count();
            assert!((400..600).contains(&count), "label {label}: {count}");
        }
    }
}
