use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::data::synthetic::{Drawing, Pen};

const LARGE: usize = 240;

/// How a digit is photographed.
#[derive(Clone, Copy)]
struct Scene {
    paper: f32,
    /// Brightness gained from left to right.
    slope: f32,
    ink: f32,
    noise: f32,
    colour: bool,
    thickness: f32,
}

const PLAIN: Scene = Scene {
    paper: 250.0,
    slope: 0.0,
    ink: 20.0,
    noise: 0.0,
    colour: false,
    thickness: 8.0,
};

/// The digit as it would be in MNIST, and photographed.
fn pair(label: u8, seed: u64, scene: Scene) -> (Vec<u8>, Picture) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let drawing = Drawing::random(label, &mut rng);
    let pen = Pen {
        radius: 1.5,
        softness: 1.0,
        intensity: 1.0,
        pressure: [0.0; 5],
    };
    let small = drawing.clone().fit(17.0).rasterise(SIDE, &pen);
    let small = centre_by_mass(&small, SIDE)
        .iter()
        .map(|&v| (v * 255.0) as u8)
        .collect();
    let wide = Pen {
        radius: scene.thickness,
        ..pen
    };
    let ink = drawing.fit(140.0).rasterise(LARGE, &wide);
    let mut grain = || (rng.next_u32() >> 16) as f32 / 65536.0 - 0.5;
    let gray: Vec<u8> = (0..LARGE * LARGE)
        .map(|i| {
            let paper = scene.paper + scene.slope * ((i % LARGE) as f32 / LARGE as f32 - 0.5);
            (paper + (scene.ink - paper) * ink[i] + scene.noise * 2.0 * grain()) as u8
        })
        .collect();
    let channels = if scene.colour { 3 } else { 1 };
    (
        small,
        Picture {
            shape: [channels, LARGE, LARGE],
            pixels: gray.repeat(channels),
        },
    )
}

/// Cosine of the angle between two images, after a slight blur.
fn likeness(a: &[u8], b: &[u8]) -> f32 {
    let blurred = |image: &[u8]| -> Vec<f32> {
        let near = |i: usize| {
            neighbours(i, SIDE, SIDE)
                .map(|j| f32::from(image[j]))
                .sum::<f32>()
        };
        (0..image.len())
            .map(|i| 2.0 * f32::from(image[i]) + near(i))
            .collect()
    };
    let (a, b) = (blurred(a), blurred(b));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

fn check(scene: Scene) {
    for seed in 0..30 {
        let (expected, picture) = pair((seed % 10) as u8, seed, scene);
        let found = normalise(&picture).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let likeness = likeness(&found, &expected);
        assert!(likeness > 0.8, "seed {seed}: likeness {likeness}");
    }
}

#[test]
fn dark_ink_on_white_paper_is_found() {
    check(PLAIN);
}

#[test]
fn light_on_dark_is_inverted() {
    check(Scene {
        paper: 15.0,
        ink: 240.0,
        ..PLAIN
    });
}

#[test]
fn uneven_light_grain_and_colour_do_not_matter() {
    check(Scene {
        paper: 170.0,
        slope: 120.0,
        ink: 60.0,
        noise: 8.0,
        colour: true,
        ..PLAIN
    });
}

#[test]
fn a_thin_pen_is_thickened() {
    check(Scene {
        thickness: 2.0,
        noise: 4.0,
        paper: 200.0,
        ..PLAIN
    });
}

#[test]
fn a_finished_image_stays_as_it_is_and_its_negative_is_inverted() {
    let (digit, _) = pair(5, 1, PLAIN);
    let picture = Picture {
        shape: [1, SIDE, SIDE],
        pixels: digit.clone(),
    };
    assert_eq!(normalise(&picture).unwrap(), digit);
    let negative = digit.iter().map(|&p| 255 - p).collect();
    assert_eq!(
        normalise(&Picture {
            shape: [1, SIDE, SIDE],
            pixels: negative
        })
        .unwrap(),
        digit
    );
}

#[test]
fn blank_noisy_and_tiny_pictures_are_errors() {
    let refused = |width: usize, height: usize, pixel: &dyn Fn(usize) -> u8| {
        let pixels = (0..width * height).map(pixel).collect();
        let found = normalise(&Picture {
            shape: [1, height, width],
            pixels,
        });
        assert!(
            matches!(found, Err(Error::NoDigit { .. })),
            "{width}x{height}: {found:?}"
        );
    };
    refused(100, 80, &|_| 255);
    refused(100, 80, &|i| (i % 100 + 100) as u8);
    refused(100, 80, &|i| (128 + (i * 7919 % 17)) as u8);
    refused(3, 50, &|i| (i * 5) as u8);
    refused(28, 28, &|_| 0);
    refused(9, 9, &|_| 7);
}

#[test]
fn a_small_stroke_in_a_long_strip_is_found() {
    let (width, height) = (640, 130);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let pixel = |i: usize| {
        let (x, y) = (i % width, i / width);
        let stroke = (40..68).contains(&y) && (400..404).contains(&(x + (y - 40) / 8));
        let paper = 60.0 - 40.0 * x as f32 / width as f32 + (rng.next_u32() % 7) as f32;
        if stroke { 210 } else { paper as u8 }
    };
    let picture = Picture {
        shape: [1, height, width],
        pixels: (0..width * height).map(pixel).collect(),
    };
    let found = normalise(&picture).unwrap();
    let column = |x: usize| (0..SIDE).filter(|y| found[y * SIDE + x] > 128).count();
    assert!((12..16).any(|x| column(x) >= 8), "no upright stroke");
}

#[test]
fn noise_alone_is_no_digit() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for amplitude in [4, 20, 60] {
        let pixel = |_| 120 + (rng.next_u32() % amplitude) as u8;
        let picture = Picture {
            shape: [1, 200, 300],
            pixels: (0..200 * 300).map(pixel).collect(),
        };
        assert!(matches!(normalise(&picture), Err(Error::NoDigit { .. })));
    }
}

#[test]
fn a_finished_image_saved_in_colour_is_taken_as_it_is() {
    let (expected, _) = pair(3, 1, PLAIN);
    let picture = Picture {
        shape: [3, SIDE, SIDE],
        pixels: expected.repeat(3),
    };
    assert_eq!(normalise(&picture).unwrap(), expected);
}
