//! Images in the terminal: two pixels a character with half blocks.

use crate::style::Style;

/// A picture of `height` rows, values 0 (background) to 1.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    height: usize,
    width: usize,
    /// Red, green, blue of each pixel.
    pixels: Vec<[f32; 3]>,
}

impl Picture {
    /// From `[channels, height, width]` values of 0..1; one channel is grey, three are RGB.
    pub(crate) fn from_planes(shape: &[usize], values: &[f32]) -> Option<Self> {
        let (channels, height, width) = match *shape {
            [c, h, w] => (c, h, w),
            [h, w] => (1, h, w),
            _ => return None,
        };
        let plane = height * width;
        if plane == 0 || values.len() != channels * plane || !matches!(channels, 1 | 3) {
            return None;
        }
        let pixel = |i: usize| [0, 1, 2].map(|c| values[c.min(channels - 1) * plane + i]);
        Some(Self {
            height,
            width,
            pixels: (0..plane).map(pixel).collect(),
        })
    }

    /// The middle without an empty border, at most `columns` wide.
    pub(crate) fn fitted(&self, columns: usize) -> Self {
        let trimmed = self.trimmed(columns);
        if trimmed.width <= columns {
            trimmed
        } else {
            trimmed.resampled(columns)
        }
    }

    /// Cuts an equal empty margin off all sides, down to `columns`.
    fn trimmed(&self, columns: usize) -> Self {
        let mut margin = 0;
        let side = self.height.min(self.width);
        while side > 2 * margin + columns && self.ring_is_empty(margin) {
            margin += 1;
        }
        let rows = margin..self.height - margin;
        let of_row = |y: usize| (margin..self.width - margin).map(move |x| (y, x));
        let pixels = rows
            .flat_map(of_row)
            .map(|(y, x)| self.pixels[y * self.width + x])
            .collect();
        Self {
            height: self.height - 2 * margin,
            width: self.width - 2 * margin,
            pixels,
        }
    }

    fn ring_is_empty(&self, margin: usize) -> bool {
        let (last_y, last_x) = (self.height - 1 - margin, self.width - 1 - margin);
        (margin..=last_y).all(|y| {
            (margin..=last_x).all(|x| {
                let on_ring = y == margin || x == margin || y == last_y || x == last_x;
                !on_ring || self.pixels[y * self.width + x].iter().all(|v| *v < 0.05)
            })
        })
    }

    /// Each new pixel is the mean of the area that it covers.
    fn resampled(&self, width: usize) -> Self {
        let height = (self.height * width).div_ceil(self.width).max(1);
        let rows = cover(self.height, height);
        let columns = cover(self.width, width);
        let mean = |y: usize, x: usize| {
            let mut sum = [0.0f32; 3];
            for &(row, a) in &rows[y] {
                for &(column, b) in &columns[x] {
                    let pixel = self.pixels[row * self.width + column];
                    (0..3).for_each(|c| sum[c] += a * b * pixel[c]);
                }
            }
            sum
        };
        let pixels = (0..height * width)
            .map(|i| mean(i / width, i % width))
            .collect();
        Self {
            height,
            width,
            pixels,
        }
    }

    /// One string a text row, `width` columns each.
    pub(crate) fn lines(&self, style: Style) -> Vec<String> {
        (0..self.height.div_ceil(2))
            .map(|row| self.line(row, style))
            .collect()
    }

    fn line(&self, row: usize, style: Style) -> String {
        let at = |y: usize, x: usize| {
            if y < self.height {
                self.pixels[y * self.width + x]
            } else {
                [0.0; 3]
            }
        };
        let mut text = String::new();
        for x in 0..self.width {
            let (top, bottom) = (at(2 * row, x), at(2 * row + 1, x));
            if style.color {
                text.push_str(&colored_cell(top, bottom));
            } else {
                text.push(plain_cell(top, bottom));
            }
        }
        if style.color { text + "\x1b[0m" } else { text }
    }
}

/// For each of `to` cells over `from` pixels: the pixels under it and their shares.
fn cover(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    let step = from as f32 / to as f32;
    let cell = |i: usize| {
        let (start, end) = (i as f32 * step, (i + 1) as f32 * step);
        let last = (end.ceil() as usize).min(from);
        let share = |p: usize| (end.min(p as f32 + 1.0) - start.max(p as f32)).max(0.0) / step;
        (start.floor() as usize..last)
            .map(|p| (p, share(p)))
            .collect()
    };
    (0..to).map(cell).collect()
}

fn colored_cell(top: [f32; 3], bottom: [f32; 3]) -> String {
    let byte = |v: f32| (v.clamp(0.0, 1.0) * 230.0 + 18.0) as u8;
    let [tr, tg, tb] = top.map(byte);
    let [br, bg, bb] = bottom.map(byte);
    format!("\x1b[38;2;{tr};{tg};{tb};48;2;{br};{bg};{bb}m▀")
}

fn plain_cell(top: [f32; 3], bottom: [f32; 3]) -> char {
    let bright = |p: [f32; 3]| p.iter().sum::<f32>() > 1.2;
    match (bright(top), bright(bottom)) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => '·',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_become_one_line_of_half_blocks() {
        let values = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        let picture = Picture::from_planes(&[1, 2, 4], &values).expect("one channel");
        assert_eq!(picture.lines(Style { color: false }), ["█▀▄·"]);
    }

    #[test]
    fn an_empty_border_is_cut_before_shrinking() {
        let mut values = vec![0.0; 28 * 28];
        values[14 * 28 + 14] = 1.0;
        let picture = Picture::from_planes(&[1, 28, 28], &values).expect("one channel");
        let fitted = picture.fitted(20);
        assert_eq!((fitted.height, fitted.width), (20, 20));
        let full = Picture::from_planes(&[1, 28, 28], &[1.0; 784]).expect("one channel");
        let fitted = full.fitted(20);
        assert_eq!((fitted.height, fitted.width), (20, 20));
        assert!(fitted.pixels.iter().all(|p| (p[0] - 1.0).abs() < 1e-4));
    }

    #[test]
    fn shapes_that_are_no_picture_are_refused() {
        assert!(Picture::from_planes(&[10], &[0.0; 10]).is_none());
        assert!(Picture::from_planes(&[1, 2, 2], &[0.0; 3]).is_none());
    }
}
