//! A photographed or drawn digit as an image like those of MNIST.
//!
//! The paper's brightness is estimated as a smooth surface from the border inward, so that uneven
//! light and either polarity (dark on light, light on dark) are taken; what differs from it enough
//! is ink. The largest connected ink, with parts close to it, is scaled to 20x20 and centred by
//! mass in 28x28.

#[cfg(test)]
mod tests;

use super::picture::Picture;
use super::synthetic::{SIDE, centre_by_mass};
use crate::error::{Error, Result};

/// Longest side of the ink in the result.
const BOX: usize = 20;
/// Pictures are reduced to this longest side first.
const WORKING_SIDE: usize = 400;
/// Smallest contrast between ink and paper, of 255.
const CONTRAST_MIN: f32 = 18.0;
/// Contrast must exceed the noise of the paper by this factor.
const CONTRAST_TO_NOISE: f32 = 4.0;
/// A digit too small to fill half a percent of the picture must stand out by this factor.
const SMALL_CONTRAST_TO_NOISE: f32 = 8.0;
/// A thinner stroke, relative to the digit's longer side, is thickened to this.
const STROKE_MIN: f32 = 0.105;
/// A part is kept from this share of the largest part's area on.
const PART_MIN: f32 = 0.06;

/// Gray values with their extent.
#[derive(Debug, Clone)]
struct Map {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

/// A pixel rectangle, ends excluded.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rectangle {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

/// 28x28 pixels, white on black, of the digit in `picture`.
///
/// A picture that already is a 28x28 digit on an even background is taken as it is (inverted if
/// dark on light).
///
/// # Errors
/// [`Error::NoDigit`] if the picture is too small, blank, or without a connected dark or light
/// shape.
pub fn normalise(picture: &Picture) -> Result<Vec<u8>> {
    let [_, height, width] = picture.shape;
    if let Some(ready) = already_normal(picture) {
        return Ok(ready);
    }
    if width < 8 || height < 8 {
        return Err(Error::NoDigit {
            reason: "it is smaller than 8x8 pixels",
        });
    }
    let gray = reduce(&Map {
        width,
        height,
        values: picture.luminance(),
    });
    let ink = ink_strength(&gray)?;
    let threshold = otsu(&ink.values);
    let mask: Vec<bool> = ink.values.iter().map(|&v| v > threshold).collect();
    let kept = main_parts(&mask, ink.width)?;
    let near = grown(&kept, ink.width, 1);
    let full = percentile(
        ink.values
            .iter()
            .zip(&kept)
            .filter(|(_, k)| **k)
            .map(|(&v, _)| v),
        0.75,
    );
    // Beyond the mask only its soft edge counts; below a third of the threshold is paper.
    let floor = threshold / 3.0;
    let soft = ink.values.iter().zip(&near).map(|(&v, &near)| {
        if near {
            ((v - floor) / (full - floor)).clamp(0.0, 1.0)
        } else {
            0.0
        }
    });
    let soft = Map {
        values: soft.collect(),
        ..ink
    };
    let soft = thickened(soft, &kept);
    let frame = bounds(
        &soft.values.iter().map(|&v| v > 0.3).collect::<Vec<_>>(),
        soft.width,
    )
    .ok_or(Error::NoDigit {
        reason: "no ink is left after cleaning",
    })?;
    Ok(placed(&soft, frame))
}

/// A 28x28 picture without colour and with an even border is taken as a finished image.
fn already_normal(picture: &Picture) -> Option<Vec<u8>> {
    if picture.shape[1..] != [SIDE, SIDE] {
        return None;
    }
    let (pixels, others) = picture.pixels.split_at(SIDE * SIDE);
    if others.chunks(SIDE * SIDE).any(|channel| channel != pixels) {
        return None;
    }
    let edge = |i: usize| {
        [i / SIDE, i % SIDE]
            .iter()
            .any(|&at| at == 0 || at == SIDE - 1)
    };
    let border: Vec<u8> = (0..SIDE * SIDE)
        .filter(|&i| edge(i))
        .map(|i| pixels[i])
        .collect();
    let contrast = pixels.iter().max()?.abs_diff(*pixels.iter().min()?);
    if contrast < 128 {
        return None;
    }
    if border.iter().all(|&p| p < 8) {
        return Some(pixels.to_vec());
    }
    border
        .iter()
        .all(|&p| p > 247)
        .then(|| pixels.iter().map(|&p| 255 - p).collect())
}

/// Averages blocks until the longest side is at most [`WORKING_SIDE`].
fn reduce(map: &Map) -> Map {
    let longest = map.width.max(map.height);
    if longest <= WORKING_SIDE {
        return map.clone();
    }
    let scale = WORKING_SIDE as f32 / longest as f32;
    let size = |side: usize| ((side as f32 * scale).round() as usize).max(1);
    let all = Rectangle {
        left: 0,
        top: 0,
        right: map.width,
        bottom: map.height,
    };
    resample(map, all, size(map.width), size(map.height))
}

/// Mean over the source area of each target pixel, with fractions at its edges.
fn resample(map: &Map, from: Rectangle, width: usize, height: usize) -> Map {
    let across = coverage(from.left, from.right, width);
    let down = coverage(from.top, from.bottom, height);
    let mut values = Vec::with_capacity(width * height);
    for rows in &down {
        for columns in &across {
            let mut sum = 0.0;
            for &(y, share_y) in rows {
                let line = &map.values[y * map.width..];
                sum += share_y
                    * columns
                        .iter()
                        .map(|&(x, share)| share * line[x])
                        .sum::<f32>();
            }
            values.push(sum);
        }
    }
    Map {
        width,
        height,
        values,
    }
}

/// For each of `count` target cells the source positions in it and their shares, which sum to 1.
///
/// Where the source is smaller than the target, shares follow the distance (linear interpolation).
fn coverage(start: usize, end: usize, count: usize) -> Vec<Vec<(usize, f32)>> {
    let step = (end - start) as f32 / count as f32;
    let cell = |i: usize| {
        let middle = start as f32 + (i as f32 + 0.5) * step;
        let reach = step.max(1.0) / 2.0;
        let (low, high) = (middle - reach, middle + reach);
        let first = low.floor().max(start as f32) as usize;
        let last = (high.ceil() as usize).min(end);
        let overlap = |x: usize| (high.min(x as f32 + 1.0) - low.max(x as f32)).max(0.0);
        let shares: Vec<(usize, f32)> = (first..last).map(|x| (x, overlap(x))).collect();
        let total: f32 = shares.iter().map(|s| s.1).sum();
        shares
            .into_iter()
            .map(|(x, share)| (x, share / total.max(1e-6)))
            .collect()
    };
    (0..count).map(cell).collect()
}

/// Difference from the paper, positive for ink whichever is brighter.
fn ink_strength(gray: &Map) -> Result<Map> {
    let paper = Surface::of_paper(gray);
    let residual: Vec<f32> = (0..gray.values.len())
        .map(|i| gray.values[i] - paper.at(gray, i))
        .collect();
    // Ink is the side on which few pixels differ much.
    let noise = spread(&residual);
    let far = |sign: f32| {
        let beyond = residual.iter().map(|r| (r * sign - 3.0 * noise).max(0.0));
        beyond.map(|v| v * v).sum::<f32>()
    };
    let sign = if far(1.0) > far(-1.0) { 1.0 } else { -1.0 };
    let mut ink = Map {
        values: residual.iter().map(|r| (r * sign).max(0.0)).collect(),
        ..*gray
    };
    smooth_if_noisy(&mut ink, noise);
    let stands_out = |part: f32, factor: f32| {
        percentile(ink.values.iter().copied(), part) >= CONTRAST_MIN.max(factor * noise)
    };
    if !stands_out(0.995, CONTRAST_TO_NOISE) && !stands_out(0.9995, SMALL_CONTRAST_TO_NOISE) {
        return Err(Error::NoDigit {
            reason: "it is blank or has too little contrast",
        });
    }
    Ok(ink)
}

/// A quadratic surface over the picture, coordinates in `[-1, 1]`.
struct Surface([f32; 6]);

impl Surface {
    /// Fits the border first, then all pixels close to the fit, three times.
    fn of_paper(gray: &Map) -> Self {
        let margin = (gray.width.min(gray.height) / 12).max(1);
        let (w, h) = (gray.width, gray.height);
        let on_border = |i: usize| {
            let (x, y) = (i % w, i / w);
            x < margin || y < margin || x >= w - margin || y >= h - margin
        };
        let count = gray.values.len();
        let border: Vec<usize> = (0..count).filter(|&i| on_border(i)).collect();
        let mut surface = Self::fit(gray, &border);
        for _ in 0..4 {
            let distance = |i: usize| (gray.values[i] - surface.at(gray, i)).abs();
            let limit = 1.5 * percentile(border.iter().map(|&i| distance(i)), 0.8).max(4.0);
            let close: Vec<usize> = (0..count).filter(|&i| distance(i) < limit).collect();
            if close.len() < border.len() / 2 {
                break;
            }
            surface = Self::fit(gray, &close);
        }
        surface
    }

    fn terms(gray: &Map, i: usize) -> [f64; 6] {
        let along = |at: usize, side: usize| 2.0 * (at as f64 + 0.5) / side as f64 - 1.0;
        let (x, y) = (
            along(i % gray.width, gray.width),
            along(i / gray.width, gray.height),
        );
        [1.0, x, y, x * x, x * y, y * y]
    }

    fn at(&self, gray: &Map, i: usize) -> f32 {
        Self::terms(gray, i)
            .iter()
            .zip(&self.0)
            .map(|(&t, &c)| t as f32 * c)
            .sum()
    }

    /// Least squares over `pixels`.
    fn fit(gray: &Map, pixels: &[usize]) -> Self {
        let mut normal = [[0.0f64; 7]; 6];
        for &i in pixels {
            let terms = Self::terms(gray, i);
            for (row, &a) in normal.iter_mut().zip(&terms) {
                row.iter_mut()
                    .zip(&terms)
                    .for_each(|(sum, &b)| *sum += a * b);
                row[6] += a * f64::from(gray.values[i]);
            }
        }
        // A trace of ridge keeps the system solvable for tiny pictures.
        (0..6).for_each(|k| normal[k][k] += 1e-6 * pixels.len() as f64 + 1e-9);
        Self(solve(normal).map(|c| c as f32))
    }
}

/// Gauss-Jordan elimination of a positive definite system.
fn solve(mut rows: [[f64; 7]; 6]) -> [f64; 6] {
    for k in 0..6 {
        let pivot = rows[k].map(|v| v / rows[k][k]);
        for (i, row) in rows.iter_mut().enumerate() {
            let factor = row[k];
            if i != k {
                row.iter_mut()
                    .zip(&pivot)
                    .for_each(|(v, p)| *v -= factor * p);
            }
        }
        rows[k] = pivot;
    }
    rows.map(|row| row[6])
}

/// Typical deviation of the paper: from the median of magnitudes, which ink does not move.
fn spread(residual: &[f32]) -> f32 {
    1.4826 * percentile(residual.iter().map(|r| r.abs()), 0.5)
}

fn percentile(values: impl Iterator<Item = f32>, part: f32) -> f32 {
    let mut values: Vec<f32> = values.collect();
    if values.is_empty() {
        return 0.0;
    }
    let at = ((values.len() - 1) as f32 * part) as usize;
    *values.select_nth_unstable_by(at, f32::total_cmp).1
}

/// A 3x3 mean, once or twice, where grain is coarse.
fn smooth_if_noisy(map: &mut Map, noise: f32) {
    let rounds = if map.width.min(map.height) < 60 {
        0
    } else {
        (noise / 4.0).min(2.0) as usize
    };
    for _ in 0..rounds {
        let source = map.clone();
        for (i, value) in map.values.iter_mut().enumerate() {
            let around = neighbours(i, source.width, source.height);
            let (sum, count) = around.fold((source.values[i], 1.0), |(sum, count), j| {
                (sum + source.values[j], count + 1.0)
            });
            *value = sum / count;
        }
    }
}

/// The up to eight pixels around `i`.
fn neighbours(i: usize, width: usize, height: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (i % width, i / width);
    let rows = y.saturating_sub(1)..=(y + 1).min(height - 1);
    rows.flat_map(move |row| {
        (x.saturating_sub(1)..=(x + 1).min(width - 1)).map(move |column| row * width + column)
    })
    .filter(move |&j| j != i)
}

/// The threshold that separates two classes best (Otsu 1979).
fn otsu(values: &[f32]) -> f32 {
    const BINS: usize = 256;
    let top = values.iter().copied().fold(0.0, f32::max).max(1e-6);
    let mut histogram = [0.0f64; BINS];
    for &v in values {
        histogram[((v / top * (BINS - 1) as f32) as usize).min(BINS - 1)] += 1.0;
    }
    let total: f64 = histogram.iter().sum();
    let whole: f64 = histogram
        .iter()
        .enumerate()
        .map(|(i, n)| i as f64 * n)
        .sum();
    let (mut below, mut below_sum, mut best) = (0.0, 0.0, (0.0, 0));
    for (i, n) in histogram.iter().enumerate() {
        below += n;
        below_sum += i as f64 * n;
        if below == 0.0 || below == total {
            continue;
        }
        let apart = below_sum / below - (whole - below_sum) / (total - below);
        let between = below * (total - below) * apart * apart;
        if between > best.0 {
            best = (between, i);
        }
    }
    (best.1 as f32 + 0.5) / (BINS - 1) as f32 * top
}

/// Connected parts, each a list of pixels.
fn parts(mask: &[bool], width: usize) -> Vec<Vec<usize>> {
    let height = mask.len() / width;
    let mut seen = vec![false; mask.len()];
    let mut parts = Vec::new();
    for start in 0..mask.len() {
        if !mask[start] || seen[start] {
            continue;
        }
        seen[start] = true;
        let mut part = vec![start];
        let mut next = 0;
        while let Some(&i) = part.get(next) {
            next += 1;
            for j in neighbours(i, width, height).filter(|&j| mask[j]) {
                if !std::mem::replace(&mut seen[j], true) {
                    part.push(j);
                }
            }
        }
        parts.push(part);
    }
    parts
}

/// The main part and those that belong to it: large enough, and close.
fn main_parts(mask: &[bool], width: usize) -> Result<Vec<bool>> {
    let height = mask.len() / width;
    let found = parts(mask, width);
    let edge = |part: &[usize]| {
        let on_edge = |&i: &usize| {
            let (x, y) = (i % width, i / width);
            x == 0 || y == 0 || x == width - 1 || y == height - 1
        };
        part.iter().filter(|i| on_edge(i)).count()
    };
    // What runs along the edge of the picture is rather a shadow or the table than the digit.
    let weight = |part: &Vec<usize>| part.len() / (1 + edge(part) / 4);
    let main = found.iter().max_by_key(|part| weight(part));
    let main = main.ok_or(Error::NoDigit {
        reason: "no ink was found",
    })?;
    let frame = frame_of(main, width);
    let reach = (frame.right - frame.left).max(frame.bottom - frame.top) / 4;
    let mut kept = vec![false; mask.len()];
    for part in &found {
        let own = frame_of(part, width);
        let close = own.left <= frame.right + reach
            && frame.left <= own.right + reach
            && own.top <= frame.bottom + reach
            && frame.top <= own.bottom + reach;
        let large = part.len() as f32 >= PART_MIN * main.len() as f32;
        if close && large && 2 * weight(part) > part.len() {
            part.iter().for_each(|&i| kept[i] = true);
        }
    }
    main.iter().for_each(|&i| kept[i] = true);
    Ok(kept)
}

fn frame_of(part: &[usize], width: usize) -> Rectangle {
    let start = Rectangle {
        left: usize::MAX,
        top: usize::MAX,
        right: 0,
        bottom: 0,
    };
    part.iter().fold(start, |r, &i| {
        let (x, y) = (i % width, i / width);
        Rectangle {
            left: r.left.min(x),
            top: r.top.min(y),
            right: r.right.max(x + 1),
            bottom: r.bottom.max(y + 1),
        }
    })
}

fn bounds(mask: &[bool], width: usize) -> Option<Rectangle> {
    let set: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    (!set.is_empty()).then(|| frame_of(&set, width))
}

/// The mask with its border moved outward by `rounds` pixels.
fn grown(mask: &[bool], width: usize, rounds: usize) -> Vec<bool> {
    let height = mask.len() / width;
    let mut out = mask.to_vec();
    for _ in 0..rounds {
        let before = out.clone();
        for (i, o) in out.iter_mut().enumerate() {
            *o |= neighbours(i, width, height).any(|j| before[j]);
        }
    }
    out
}

/// Thickens a thin pen, which would fade when scaled down.
fn thickened(mut soft: Map, kept: &[bool]) -> Map {
    let Some(frame) = bounds(kept, soft.width) else {
        return soft;
    };
    let longest = (frame.right - frame.left).max(frame.bottom - frame.top) as f32;
    let area = kept.iter().filter(|&&k| k).count() as f32;
    let inside = |i: usize| neighbours(i, soft.width, soft.height).all(|j| kept[j]);
    let outline = (0..kept.len()).filter(|&i| kept[i] && !inside(i)).count() as f32;
    let stroke = 2.0 * area / outline.max(1.0);
    let rounds = ((STROKE_MIN * longest - stroke) / 2.0).round().max(0.0) as usize;
    for _ in 0..rounds {
        let before = soft.values.clone();
        for (i, value) in soft.values.iter_mut().enumerate() {
            let (x, y) = (i % soft.width, i / soft.width);
            let mut take = |j: usize| *value = value.max(before[j]);
            if x > 0 {
                take(i - 1);
            }
            if x + 1 < soft.width {
                take(i + 1);
            }
            if y > 0 {
                take(i - soft.width);
            }
            if y + 1 < soft.height {
                take(i + soft.width);
            }
        }
    }
    soft
}

/// Scales the frame into the box and centres it by mass.
fn placed(soft: &Map, frame: Rectangle) -> Vec<u8> {
    let (w, h) = (frame.right - frame.left, frame.bottom - frame.top);
    let scale = BOX as f32 / w.max(h) as f32;
    let size = |side: usize| ((side as f32 * scale).round() as usize).clamp(1, BOX);
    let (width, height) = (size(w), size(h));
    let small = resample(soft, frame, width, height);
    let brightest = percentile(small.values.iter().copied(), 0.97).max(0.2);
    let mut image = vec![0.0; SIDE * SIDE];
    let (left, top) = ((SIDE - width) / 2, (SIDE - height) / 2);
    for (i, &v) in small.values.iter().enumerate() {
        let at = (top + i / width) * SIDE + left + i % width;
        image[at] = (v / brightest).min(1.0);
    }
    centre_by_mass(&image, SIDE)
        .iter()
        .map(|&v| (v * 255.0 + 0.5) as u8)
        .collect()
}
