//! Average, maximum and global pooling.

use super::{Operands, for_chunks, slice_chunk};
use scuro_nn::graph::{Op, Padding, Window};

pub(super) fn forward(op: &Op, operands: &Operands<'_>, out: &mut [f32]) {
    let pool = Pool::new(op, operands);
    let (input, output) = (operands.size(0), operands.output_size());
    for_chunks(out, output, |chunk, out| {
        let images = operands.chunk(0, chunk).chunks_exact(input);
        for (image, out) in images.zip(out.chunks_exact_mut(output)) {
            let maps = image.chunks_exact(pool.height * pool.width);
            for (map, out) in maps.zip(out.chunks_exact_mut(pool.out_height * pool.out_width)) {
                pool.forward_map(map, out);
            }
        }
    });
}

pub(super) fn backward(op: &Op, operands: &Operands<'_>, upstream: &[f32], out: &mut [f32]) {
    let pool = Pool::new(op, operands);
    let (input, output) = (operands.size(0), operands.output_size());
    for_chunks(out, input, |chunk, out| {
        let images = operands
            .chunk(0, chunk)
            .chunks_exact(pool.height * pool.width);
        let upstream = slice_chunk(upstream, output, chunk);
        let upstream = upstream.chunks_exact(pool.out_height * pool.out_width);
        let maps = out.chunks_exact_mut(pool.height * pool.width);
        for ((map, upstream), out) in images.zip(upstream).zip(maps) {
            out.fill(0.0);
            pool.backward_map(map, upstream, out);
        }
    });
}

/// What a window computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Average { count_padding: bool },
    Maximum,
}

struct Pool {
    kind: Kind,
    window: Window,
    height: usize,
    width: usize,
    out_height: usize,
    out_width: usize,
}

impl Pool {
    fn new(op: &Op, operands: &Operands<'_>) -> Self {
        let (input, output) = (operands.shapes[0], operands.output);
        let whole = Window {
            kernel: [input[1], input[2]],
            stride: [1, 1],
            padding: Padding::default(),
        };
        let (kind, window) = match op {
            Op::AvgPool {
                window,
                count_padding,
            } => (
                Kind::Average {
                    count_padding: *count_padding,
                },
                *window,
            ),
            Op::MaxPool { window } => (Kind::Maximum, *window),
            Op::GlobalMaxPool => (Kind::Maximum, whole),
            _ => (
                Kind::Average {
                    count_padding: true,
                },
                whole,
            ),
        };
        let (height, width) = (input[1], input[2]);
        Self {
            kind,
            window,
            height,
            width,
            out_height: output[1],
            out_width: output[2],
        }
    }

    /// Rows `[from, to)` of the map that output row `index` covers.
    fn rows(&self, index: usize) -> (usize, usize) {
        let start = index * self.window.stride[0];
        clip(
            start,
            self.window.kernel[0],
            self.window.padding.top,
            self.height,
        )
    }

    /// Columns `[from, to)` of the map that output column `index` covers.
    fn columns(&self, index: usize) -> (usize, usize) {
        let start = index * self.window.stride[1];
        clip(
            start,
            self.window.kernel[1],
            self.window.padding.left,
            self.width,
        )
    }

    /// Divisor of the mean of a window that covers `rows` x `columns` real values.
    fn divisor(&self, count_padding: bool, rows: usize, columns: usize) -> f32 {
        let whole = self.window.kernel[0] * self.window.kernel[1];
        (if count_padding { whole } else { rows * columns }).max(1) as f32
    }

    /// Whether windows are 2 x 2, apart, and inside the map: the usual case, worth its own loops.
    fn is_halving(&self) -> bool {
        let window = Window {
            kernel: [2, 2],
            stride: [2, 2],
            padding: Padding::default(),
        };
        self.window == window
    }

    fn halve(&self, map: &[f32], out: &mut [f32]) {
        let rows = map.chunks_exact(2 * self.width);
        for (row, lines) in out.chunks_exact_mut(self.out_width).zip(rows) {
            let (upper, lower) = lines.split_at(self.width);
            let pairs = upper
                .as_chunks::<2>()
                .0
                .iter()
                .zip(lower.as_chunks::<2>().0);
            match self.kind {
                Kind::Average { .. } => row.iter_mut().zip(pairs).for_each(|(o, (a, b))| {
                    *o = 0.25 * ((a[0] + a[1]) + (b[0] + b[1]));
                }),
                Kind::Maximum => row.iter_mut().zip(pairs).for_each(|(o, (a, b))| {
                    *o = a[0].max(a[1]).max(b[0].max(b[1]));
                }),
            }
        }
    }

    /// Every value that is not inside a window is zero already.
    fn halve_back(&self, map: &[f32], upstream: &[f32], out: &mut [f32]) {
        let rows = map.chunks_exact(2 * self.width);
        let lines = out.chunks_exact_mut(2 * self.width).zip(rows);
        for (row, (out, map)) in upstream.chunks_exact(self.out_width).zip(lines) {
            let (upper, lower) = out.split_at_mut(self.width);
            let (above, below) = map.split_at(self.width);
            let out = upper.as_chunks_mut::<2>().0.iter_mut();
            let out = out.zip(lower.as_chunks_mut::<2>().0);
            let map = above
                .as_chunks::<2>()
                .0
                .iter()
                .zip(below.as_chunks::<2>().0);
            for ((gradient, (upper, lower)), (above, below)) in row.iter().zip(out).zip(map) {
                let shares = match self.kind {
                    Kind::Average { .. } => [0.25; 4],
                    Kind::Maximum => first_largest([above[0], above[1], below[0], below[1]]),
                };
                let [a, b, c, d] = shares.map(|share| share * gradient);
                (*upper, *lower) = ([a, b], [c, d]);
            }
        }
    }

    fn forward_map(&self, map: &[f32], out: &mut [f32]) {
        if self.is_halving() {
            return self.halve(map, out);
        }
        for (oy, row) in out.chunks_exact_mut(self.out_width).enumerate() {
            let (top, bottom) = self.rows(oy);
            for (ox, value) in row.iter_mut().enumerate() {
                let (left, right) = self.columns(ox);
                let lines =
                    (top..bottom).map(|y| &map[y * self.width + left..y * self.width + right]);
                *value = match self.kind {
                    Kind::Average { count_padding } => {
                        let sum: f32 = lines.map(|line| line.iter().sum::<f32>()).sum();
                        sum / self.divisor(count_padding, bottom - top, right - left)
                    }
                    Kind::Maximum => lines.flatten().fold(f32::NEG_INFINITY, |m, v| m.max(*v)),
                };
            }
        }
    }

    fn backward_map(&self, map: &[f32], upstream: &[f32], out: &mut [f32]) {
        if self.is_halving() {
            return self.halve_back(map, upstream, out);
        }
        for (oy, row) in upstream.chunks_exact(self.out_width).enumerate() {
            let (top, bottom) = self.rows(oy);
            for (ox, gradient) in row.iter().enumerate() {
                let (left, right) = self.columns(ox);
                let area = (top, bottom, left, right);
                match self.kind {
                    Kind::Average { count_padding } => {
                        let share =
                            gradient / self.divisor(count_padding, bottom - top, right - left);
                        for y in top..bottom {
                            let line = &mut out[y * self.width + left..y * self.width + right];
                            line.iter_mut().for_each(|v| *v += share);
                        }
                    }
                    Kind::Maximum => {
                        if let Some(best) = self.first_maximum(map, area) {
                            out[best] += gradient;
                        }
                    }
                }
            }
        }
    }

    /// Position of the first largest value of a window.
    fn first_maximum(&self, map: &[f32], area: (usize, usize, usize, usize)) -> Option<usize> {
        let (top, bottom, left, right) = area;
        let mut best: Option<usize> = None;
        for y in top..bottom {
            for at in y * self.width + left..y * self.width + right {
                if best.is_none_or(|b| map[at] > map[b]) {
                    best = Some(at);
                }
            }
        }
        best
    }
}

/// One at the first largest value, zero elsewhere; without branches.
fn first_largest(values: [f32; 4]) -> [f32; 4] {
    let [a, b, c, d] = values;
    let (upper, lower) = (a.max(b), c.max(d));
    let share = |yes: bool| f32::from(u8::from(yes));
    let (top, left, low_left) = (upper >= lower, a >= b, c >= d);
    [
        share(top & left),
        share(top & !left),
        share(!top & low_left),
        share(!top & !low_left),
    ]
}

/// The part of `[start, start + kernel)` inside the unpadded axis, in unpadded coordinates.
fn clip(start: usize, kernel: usize, padding: usize, extent: usize) -> (usize, usize) {
    let from = start.saturating_sub(padding).min(extent);
    let to = (start + kernel).saturating_sub(padding).min(extent);
    (from, to.max(from))
}
