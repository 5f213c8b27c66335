//! From a style to ink: curves, disturbance, pen.

use rand_core::Rng;

use super::styles::{STYLES, Stroke, Style};
use super::{bell, below, between};

/// Points per span of a curve.
const STEPS: usize = 8;
/// Nodes along each side of the field that bends a digit.
const FIELD: usize = 4;

/// The strokes of one digit as polylines; no unit, y down.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    strokes: Vec<Vec<[f32; 2]>>,
}

/// How the ink gets on the paper.
#[derive(Debug, Clone, PartialEq)]
pub struct Pen {
    /// Half the width of a stroke, in pixels.
    pub radius: f32,
    /// Width of the soft edge, in pixels.
    pub softness: f32,
    /// Brightness of full ink, at most 1.
    pub intensity: f32,
    /// Relative change of the radius at quarters of a stroke.
    pub pressure: [f32; 5],
}

impl Pen {
    /// A pen of a usual width.
    pub fn random(rng: &mut impl Rng) -> Self {
        let radius = (1.29 + bell(rng, 0.30)).clamp(0.7, 2.2);
        let softness = between(rng, 0.8, 1.3);
        let intensity = between(rng, 0.96, 1.12).min(1.0);
        Self {
            radius,
            softness,
            intensity,
            pressure: [(); 5].map(|()| bell(rng, 0.10)),
        }
    }

    fn radius_at(&self, part: f32) -> f32 {
        let at = part * 4.0;
        let i = (at as usize).min(3);
        let rest = at - i as f32;
        let change = self.pressure[i] * (1.0 - rest) + self.pressure[i + 1] * rest;
        self.radius * (1.0 + change)
    }
}

impl Drawing {
    /// `label` in a random hand.
    ///
    /// # Panics
    /// If `label` exceeds 9.
    pub fn random(label: u8, rng: &mut impl Rng) -> Self {
        let style = choose(STYLES[usize::from(label)], rng);
        let aspect = style.aspect * (1.0 + bell(rng, 0.14)).max(0.5);
        let jitter = 0.023;
        let mut stroke = |stroke: &Stroke| {
            let mut disturbed = |points: &[[f32; 2]]| -> Vec<[f32; 2]> {
                let moved = points
                    .iter()
                    .map(|&[x, y]| [(x + bell(rng, jitter)) * aspect, y + bell(rng, jitter)]);
                moved.collect()
            };
            match stroke {
                Stroke::Curve(points) => through(&disturbed(points)),
                Stroke::Line(points) => subdivided(&disturbed(points)),
            }
        };
        let strokes = style.strokes.iter().map(&mut stroke).collect();
        let mut drawing = Self { strokes };
        drawing.bend(aspect, rng);
        drawing.slant(rng);
        drawing
    }

    /// Moves each point by a smooth random field: the elastic distortion, applied to the path.
    fn bend(&mut self, aspect: f32, rng: &mut impl Rng) {
        let strength = between(rng, 0.010, 0.045);
        let field: Vec<[f32; 2]> = (0..FIELD * FIELD)
            .map(|_| [bell(rng, strength), bell(rng, strength)])
            .collect();
        let width = aspect.max(0.3);
        self.map(|[x, y]| {
            let [dx, dy] = sample_field(&field, x / width, y);
            [x + dx, y + dy]
        });
    }

    /// Shear (people lean to the right) and rotation.
    fn slant(&mut self, rng: &mut impl Rng) {
        let shear = 0.14 + bell(rng, 0.20);
        let half = bell(rng, 0.05);
        let (cos, sin) = (
            (1.0 - half * half) / (1.0 + half * half),
            2.0 * half / (1.0 + half * half),
        );
        self.map(|[x, y]| {
            let (x, y) = (x - shear * (y - 0.5), y - 0.5);
            [cos * x - sin * y, sin * x + cos * y]
        });
    }

    fn map(&mut self, moved: impl Fn([f32; 2]) -> [f32; 2]) {
        self.strokes
            .iter_mut()
            .flatten()
            .for_each(|point| *point = moved(*point));
    }

    /// Lowest and highest coordinates.
    fn bounds(&self) -> [[f32; 2]; 2] {
        let start = [[f32::INFINITY; 2], [f32::NEG_INFINITY; 2]];
        self.strokes.iter().flatten().fold(start, |[low, high], p| {
            [
                [low[0].min(p[0]), low[1].min(p[1])],
                [high[0].max(p[0]), high[1].max(p[1])],
            ]
        })
    }

    /// Scaled so that the longer side is `longest`, centred on the origin.
    #[must_use]
    pub fn fit(mut self, longest: f32) -> Self {
        let [low, high] = self.bounds();
        let scale = longest / (high[0] - low[0]).max(high[1] - low[1]).max(1e-6);
        let middle = [(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0];
        self.map(|[x, y]| [(x - middle[0]) * scale, (y - middle[1]) * scale]);
        self
    }

    /// Draws on a square of `side` pixels, the origin in its middle; 0 = paper, 1 = ink.
    pub fn rasterise(&self, side: usize, pen: &Pen) -> Vec<f32> {
        let mut image = vec![0.0f32; side * side];
        let middle = side as f32 / 2.0 - 0.5;
        for stroke in &self.strokes {
            let last = (stroke.len() - 1).max(1) as f32;
            for (i, pair) in stroke.windows(2).enumerate() {
                let ends = [pair[0], pair[1]].map(|[x, y]| [x + middle, y + middle]);
                let radius = pen.radius_at((i as f32 + 0.5) / last);
                segment(&mut image, side, ends, radius, pen);
            }
        }
        image
    }
}

fn choose<'a>(styles: &'a [Style], rng: &mut impl Rng) -> &'a Style {
    let total: u32 = styles.iter().map(|style| style.weight).sum();
    let mut at = below(rng, total as usize) as u32;
    let found = styles.iter().find(|style| {
        let here = at < style.weight;
        at = at.saturating_sub(style.weight);
        here
    });
    found.unwrap_or(&styles[0])
}

/// Catmull-Rom spline through `points`.
fn through(points: &[[f32; 2]]) -> Vec<[f32; 2]> {
    let at = |i: isize| points[i.clamp(0, points.len() as isize - 1) as usize];
    let mut out = vec![points[0]];
    for span in 0..points.len() as isize - 1 {
        let [a, b, c, d] = [at(span - 1), at(span), at(span + 1), at(span + 2)];
        for step in 1..=STEPS {
            let t = step as f32 / STEPS as f32;
            out.push([0, 1].map(|axis| catmull_rom([a[axis], b[axis], c[axis], d[axis]], t)));
        }
    }
    out
}

fn catmull_rom([a, b, c, d]: [f32; 4], t: f32) -> f32 {
    let linear = c - a;
    let square = 2.0 * a - 5.0 * b + 4.0 * c - d;
    let cube = 3.0 * (b - c) + d - a;
    b + 0.5 * t * (linear + t * (square + t * cube))
}

fn subdivided(points: &[[f32; 2]]) -> Vec<[f32; 2]> {
    let mut out = vec![points[0]];
    for pair in points.windows(2) {
        for step in 1..=STEPS {
            let t = step as f32 / STEPS as f32;
            out.push([0, 1].map(|axis| pair[0][axis] + t * (pair[1][axis] - pair[0][axis])));
        }
    }
    out
}

/// Bilinear interpolation of the field at `(x, y)` in the unit square.
fn sample_field(field: &[[f32; 2]], x: f32, y: f32) -> [f32; 2] {
    let cell = |v: f32| {
        let at = v.clamp(0.0, 1.0) * (FIELD - 1) as f32;
        let i = (at as usize).min(FIELD - 2);
        (i, smooth(at - i as f32))
    };
    let ((column, s), (row, t)) = (cell(x), cell(y));
    let corner = |r: usize, c: usize, axis: usize| field[(row + r) * FIELD + column + c][axis];
    [0, 1].map(|axis| {
        let top = corner(0, 0, axis) * (1.0 - s) + corner(0, 1, axis) * s;
        let bottom = corner(1, 0, axis) * (1.0 - s) + corner(1, 1, axis) * s;
        top * (1.0 - t) + bottom * t
    })
}

fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// Inks the pixels near a segment; overlapping strokes do not add up.
fn segment(image: &mut [f32], side: usize, [a, b]: [[f32; 2]; 2], radius: f32, pen: &Pen) {
    let reach = radius + pen.softness;
    let span = |axis: usize| {
        let low = (a[axis].min(b[axis]) - reach).floor().max(0.0) as usize;
        let high = (a[axis].max(b[axis]) + reach)
            .ceil()
            .clamp(-1.0, side as f32 - 1.0);
        low..(high + 1.0) as usize
    };
    for y in span(1) {
        for x in span(0) {
            let distance = distance_to(a, b, [x as f32, y as f32]);
            let ink = (0.5 + (radius - distance) / pen.softness).clamp(0.0, 1.0) * pen.intensity;
            let pixel = &mut image[y * side + x];
            *pixel = pixel.max(ink);
        }
    }
}

fn distance_to(a: [f32; 2], b: [f32; 2], p: [f32; 2]) -> f32 {
    let along = [b[0] - a[0], b[1] - a[1]];
    let to = [p[0] - a[0], p[1] - a[1]];
    let length = along[0] * along[0] + along[1] * along[1];
    let t = ((to[0] * along[0] + to[1] * along[1]) / length.max(1e-12)).clamp(0.0, 1.0);
    let (dx, dy) = (to[0] - t * along[0], to[1] - t * along[1]);
    (dx * dx + dy * dy).sqrt()
}
