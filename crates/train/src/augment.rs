//! Random distortion of images: shift, rotation, scale, shear and a smooth elastic field, in one
//! bilinear pass.

use crate::picture::Picture;
use crate::random::{normal, symmetric, uniform};
use rand_core::Rng;

/// Cells of the coarse grid that carries the elastic displacement, per axis.
const CELLS: usize = 4;

/// Bounds of the distortion of one image; all zero leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Augmentation {
    /// Largest shift of either axis, in pixels.
    pub shift: f32,
    /// Largest rotation, in degrees.
    pub rotation: f32,
    /// Largest relative change of size of either axis.
    pub scale: f32,
    /// Largest horizontal shift per vertical pixel.
    pub shear: f32,
    /// Standard deviation of the elastic displacement, in pixels.
    pub elastic: f32,
    /// Whether half of the images are mirrored left to right.
    pub mirror: bool,
    /// Largest relative change of the contrast: each value's distance from the image's mean.
    pub contrast: f32,
}

impl Augmentation {
    /// A setting for 28 x 28 digits.
    pub fn digits() -> Self {
        Self {
            shift: 1.5,
            rotation: 10.0,
            scale: 0.1,
            shear: 0.15,
            elastic: 0.6,
            ..Self::default()
        }
    }

    /// A setting for 32 x 32 photographs: short trainings gain from little more than mirrors.
    pub fn photographs() -> Self {
        Self {
            shift: 2.0,
            mirror: true,
            ..Self::default()
        }
    }

    /// Writes a distorted copy of `image`, whose values make `picture`, to `out`.
    ///
    /// # Panics
    /// If the lengths are not that of `picture`.
    pub(crate) fn apply_into(
        &self,
        image: &[f32],
        picture: &Picture,
        rng: &mut impl Rng,
        out: &mut [f32],
    ) {
        assert_eq!(
            [image.len(), out.len()],
            [picture.len(); 2],
            "a distorted image has the shape of its source"
        );
        let [h, w] = picture.extent;
        let map = self.draw(h, w, rng);
        for y in 0..h {
            for x in 0..w {
                let point = map.source(x, y);
                for channel in 0..picture.surround.len() {
                    let place = picture.place(channel, y * w + x);
                    out[place] = bilinear(image, picture, channel, point);
                }
            }
        }
        if self.contrast > 0.0 {
            scale_contrast(out, 1.0 + symmetric(rng, self.contrast));
        }
    }

    fn draw(&self, h: usize, w: usize, rng: &mut impl Rng) -> Map {
        let angle = symmetric(rng, self.rotation).to_radians();
        let (sin, cos) = angle.sin_cos();
        let grow = [
            1.0 + symmetric(rng, self.scale),
            1.0 + symmetric(rng, self.scale),
        ];
        let shear = symmetric(rng, self.shear);
        let shift = [symmetric(rng, self.shift), symmetric(rng, self.shift)];
        let flip = if self.mirror && uniform(rng) < 0.5 {
            -1.0
        } else {
            1.0
        };
        let mut grid = [[[0.0; 2]; CELLS + 1]; CELLS + 1];
        if self.elastic > 0.0 {
            for node in grid.iter_mut().flatten() {
                *node = [self.elastic * normal(rng), self.elastic * normal(rng)];
            }
        }
        Map {
            rows: [
                [flip * cos * grow[0], flip * (-sin + shear * cos) * grow[0]],
                [sin * grow[1], (cos + shear * sin) * grow[1]],
            ],
            centre: [(w as f32 - 1.0) / 2.0, (h as f32 - 1.0) / 2.0],
            shift,
            cell: [w as f32 / CELLS as f32, h as f32 / CELLS as f32],
            grid,
        }
    }
}

/// From a pixel of the result to a point of the source.
struct Map {
    rows: [[f32; 2]; 2],
    centre: [f32; 2],
    shift: [f32; 2],
    cell: [f32; 2],
    grid: [[[f32; 2]; CELLS + 1]; CELLS + 1],
}

impl Map {
    fn source(&self, x: usize, y: usize) -> (f32, f32) {
        let (u, v) = (x as f32 - self.centre[0], y as f32 - self.centre[1]);
        let [dx, dy] = self.displacement(x as f32 / self.cell[0], y as f32 / self.cell[1]);
        let sx = self.rows[0][0] * u + self.rows[0][1] * v + self.centre[0] + self.shift[0] + dx;
        let sy = self.rows[1][0] * u + self.rows[1][1] * v + self.centre[1] + self.shift[1] + dy;
        (sx, sy)
    }

    fn displacement(&self, gx: f32, gy: f32) -> [f32; 2] {
        let (cx, cy) = ((gx as usize).min(CELLS - 1), (gy as usize).min(CELLS - 1));
        let (fx, fy) = (gx - cx as f32, gy - cy as f32);
        let mix = |i: usize| {
            let top = self.grid[cy][cx][i] * (1.0 - fx) + self.grid[cy][cx + 1][i] * fx;
            let low = self.grid[cy + 1][cx][i] * (1.0 - fx) + self.grid[cy + 1][cx + 1][i] * fx;
            top * (1.0 - fy) + low * fy
        };
        [mix(0), mix(1)]
    }
}

/// Scales the distance of each value from the mean of all.
fn scale_contrast(image: &mut [f32], factor: f32) {
    let mean = image.iter().sum::<f32>() / image.len().max(1) as f32;
    for value in image {
        *value = mean + factor * (*value - mean);
    }
}

/// The value of `channel` at `(x, y)`; what surrounds it outside the image.
fn bilinear(image: &[f32], picture: &Picture, channel: usize, (x, y): (f32, f32)) -> f32 {
    let [h, w] = picture.extent;
    let (left, top) = (x.floor(), y.floor());
    let (fx, fy) = (x - left, y - top);
    let (left, top) = (left as isize, top as isize);
    let at = |column: isize, row: isize| {
        let inside = (0..w as isize).contains(&column) && (0..h as isize).contains(&row);
        if inside {
            image[picture.place(channel, row as usize * w + column as usize)]
        } else {
            picture.surround[channel]
        }
    };
    let upper = at(left, top) * (1.0 - fx) + at(left + 1, top) * fx;
    let lower = at(left, top + 1) * (1.0 - fx) + at(left + 1, top + 1) * fx;
    upper * (1.0 - fy) + lower * fy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    fn ramp(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i % 23) as f32 / 23.0).collect()
    }

    fn picture(shape: [usize; 3]) -> Picture {
        Picture::of_shape(&shape).unwrap()
    }

    #[test]
    fn no_distortion_returns_the_image() {
        let image = ramp(2 * 7 * 9);
        let mut out = vec![f32::NAN; image.len()];
        let mut rng = stream(1, Purpose::Augmentation, 0);
        Augmentation::default().apply_into(&image, &picture([2, 7, 9]), &mut rng, &mut out);
        for (a, b) in image.iter().zip(&out) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn contrast_scales_about_the_mean() {
        let (image, mut out) = (ramp(3 * 8 * 8), vec![0.0; 3 * 8 * 8]);
        let distortion = Augmentation {
            contrast: 0.5,
            ..Augmentation::default()
        };
        let mean = image.iter().sum::<f32>() / image.len() as f32;
        let mut factors = Vec::new();
        for index in 0..20 {
            let mut rng = stream(1, Purpose::Augmentation, index);
            distortion.apply_into(&image, &picture([3, 8, 8]), &mut rng, &mut out);
            let factor = (out[0] - mean) / (image[0] - mean);
            assert!((0.5..=1.5).contains(&factor), "{factor}");
            for (a, b) in image.iter().zip(&out) {
                assert!((mean + factor * (a - mean) - b).abs() < 1e-4, "{a} {b}");
            }
            factors.push(factor);
        }
        let (low, high) = (
            factors.iter().copied().fold(2.0, f32::min),
            factors.iter().copied().fold(0.0, f32::max),
        );
        assert!(low < 0.8 && high > 1.2, "{low} {high}");
    }

    #[test]
    fn channels_that_come_last_are_distorted_as_those_that_come_first() {
        let first = picture([3, 6, 5]);
        let last = Picture {
            channels_last: true,
            ..first.clone()
        };
        let image = ramp(first.len());
        let mut turned = vec![0.0; image.len()];
        let places = |channel, pixel| [first.place(channel, pixel), last.place(channel, pixel)];
        let all = || (0..3).flat_map(|channel| (0..30).map(move |pixel| (channel, pixel)));
        for [from, to] in all().map(|(channel, pixel)| places(channel, pixel)) {
            turned[to] = image[from];
        }
        let distort = |image: &[f32], picture: &Picture| {
            let mut out = vec![0.0; image.len()];
            let mut rng = stream(1, Purpose::Augmentation, 4);
            Augmentation::photographs().apply_into(image, picture, &mut rng, &mut out);
            out
        };
        let (expected, found) = (distort(&image, &first), distort(&turned, &last));
        assert_ne!(expected, image);
        for [from, to] in all().map(|(channel, pixel)| places(channel, pixel)) {
            assert_eq!(found[to], expected[from]);
        }
    }

    #[test]
    fn a_picture_that_is_moved_stands_on_its_surround() {
        let night = Picture {
            surround: vec![-0.5, 2.0],
            ..picture([2, 5, 5])
        };
        let image: Vec<f32> = (0..50).map(|i| night.surround[i / 25]).collect();
        let far = Augmentation {
            shift: 9.0,
            ..Augmentation::default()
        };
        let mut out = vec![0.0; image.len()];
        let mut rng = stream(1, Purpose::Augmentation, 0);
        far.apply_into(&image, &night, &mut rng, &mut out);
        for (found, expected) in out.iter().zip(&image) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn distortion_depends_on_the_stream_alone_and_keeps_the_range() {
        let image = ramp(28 * 28);
        let draw = |index| {
            let mut out = vec![0.0; image.len()];
            let mut rng = stream(1, Purpose::Augmentation, index);
            Augmentation::digits().apply_into(&image, &picture([1, 28, 28]), &mut rng, &mut out);
            out
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        assert!(draw(5).iter().all(|v| (0.0..=1.0).contains(v)));
    }
}
