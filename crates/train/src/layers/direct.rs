//! Convolution with stride 1 as matrix products on shifted views of the padded image.
//!
//! In an image whose rows are padded to width `w`, tap `(ky, kx)` of output position `(y, x)` lies
//! `ky w + kx` after the value at `y w + x`, for every position. So row `tap` of the im2col matrix
//! is the padded image itself, read from an offset: nothing is copied. The price is a few products
//! for positions `x` past the last output column, which are thrown away.

use scuro_nn::matmul::{ROW_MULTIPLE, Rows, gemm_rows};
use std::cell::RefCell;

/// The geometry of one group of a convolution with stride 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Direct {
    pub(super) maps_in: usize,
    pub(super) maps_out: usize,
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) dilation: [usize; 2],
    /// Rows above and columns at the left of the image; those after it follow from the output.
    pub(super) before: [usize; 2],
}

/// Buffers of one task.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    padded: Vec<f32>,
    wide: Vec<f32>,
    starts: Vec<usize>,
    taps: Vec<usize>,
}

/// Lends the buffers of this thread.
pub(super) fn with_scratch(work: impl FnOnce(&mut Scratch)) {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(work);
}

impl Direct {
    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis]
    }

    /// Width of a padded row.
    fn width(&self) -> usize {
        self.output[1] + self.reach(1)
    }

    /// Values of a padded map.
    fn plane(&self) -> usize {
        (self.output[0] + self.reach(0)) * self.width()
    }

    /// Positions from the first to the last output, those past the end of a row included.
    fn span(&self) -> usize {
        (self.output[0] - 1) * self.width() + self.output[1]
    }

    fn taps(&self) -> usize {
        self.maps_in * self.kernel[0] * self.kernel[1]
    }

    /// `out[o][y][x] = sum w[o][i][ky][kx] * image[i][y + ky][x + kx] + bias[o]`.
    pub(super) fn correlate(
        &self,
        image: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        self.pad(image, &mut scratch.padded);
        self.tap_starts(&mut scratch.taps);
        let (span, taps) = (self.span(), self.taps());
        scratch.starts.clear();
        scratch.starts.extend((0..self.maps_out).map(|o| o * taps));
        scratch.wide.resize(self.maps_out * span, 0.0);
        let weight = Rows {
            data: weight,
            starts: &scratch.starts,
        };
        let views = Rows {
            data: &scratch.padded,
            starts: &scratch.taps,
        };
        gemm_rows(weight, views, span, 0.0, &mut scratch.wide);
        let maps = out.chunks_exact_mut(self.output[0] * self.output[1]);
        for (o, (map, wide)) in maps.zip(scratch.wide.chunks_exact(span)).enumerate() {
            let bias = bias.map_or(0.0, |bias| bias[o]);
            let rows = map.chunks_exact_mut(self.output[1]);
            for (row, wide) in rows.zip(wide.chunks(self.width())) {
                row.iter_mut().zip(wide).for_each(|(o, v)| *o = v + bias);
            }
        }
    }

    /// Adds to `sums[tap][o]` the products of `upstream[o]` with the shifted image.
    pub(super) fn correlate_maps(
        &self,
        image: &[f32],
        upstream: &[f32],
        scratch: &mut Scratch,
        sums: &mut [f32],
    ) {
        self.pad(image, &mut scratch.padded);
        self.tap_starts(&mut scratch.taps);
        let stride = self.maps_out.next_multiple_of(ROW_MULTIPLE);
        self.spread(upstream, stride, &mut scratch.wide);
        scratch.starts.clear();
        scratch.starts.extend((0..self.span()).map(|p| p * stride));
        let views = Rows {
            data: &scratch.padded,
            starts: &scratch.taps,
        };
        let upstream = Rows {
            data: &scratch.wide,
            starts: &scratch.starts,
        };
        gemm_rows(views, upstream, self.maps_out, 1.0, sums);
    }

    /// Copies the image between zeros, with as many behind it as the product may read.
    fn pad(&self, image: &[f32], padded: &mut Vec<f32>) {
        let (plane, width) = (self.plane(), self.width());
        padded.clear();
        padded.resize(self.maps_in * plane + ROW_MULTIPLE, 0.0);
        let [height, columns] = self.input;
        let [above, left] = self.before;
        // A kernel that does not reach the last rows or columns leaves them out.
        let (height_used, used) = (
            height.min(self.output[0] + self.reach(0) - above),
            columns.min(width - left),
        );
        let maps = padded.chunks_exact_mut(plane);
        for (map, image) in maps.zip(image.chunks_exact(height * columns)) {
            let rows = map[above * width..].chunks_exact_mut(width);
            let image = image.chunks_exact(columns).take(height_used);
            for (row, image) in rows.zip(image) {
                row[left..left + used].copy_from_slice(&image[..used]);
            }
        }
    }

    /// Where the view of each tap `(map, ky, kx)` starts.
    fn tap_starts(&self, starts: &mut Vec<usize>) {
        starts.clear();
        for map in 0..self.maps_in {
            for ky in 0..self.kernel[0] {
                let row = map * self.plane() + ky * self.dilation[0] * self.width();
                starts.extend((0..self.kernel[1]).map(|kx| row + kx * self.dilation[1]));
            }
        }
    }

    /// The transpose of `maps` in rows of `stride` values, zero between the output's rows.
    fn spread(&self, maps: &[f32], stride: usize, out: &mut Vec<f32>) {
        let [height, columns] = self.output;
        out.clear();
        out.resize(self.span() * stride, 0.0);
        for (o, map) in maps.chunks_exact(height * columns).enumerate() {
            for (y, row) in map.chunks_exact(columns).enumerate() {
                let at = y * self.width() * stride + o;
                let places = out[at..].iter_mut().step_by(stride);
                places.zip(row).for_each(|(place, v)| *place = *v);
            }
        }
    }
}

/// The kernels of the gradient by the image: `out[i][o][ky][kx] = w[o][i][-ky][-kx]`.
pub(super) fn turn_kernels(weight: &[f32], maps_in: usize, taps: usize, out: &mut [f32]) {
    let maps_out = weight.len() / (maps_in * taps).max(1);
    for (at, kernel) in weight.chunks_exact(taps).enumerate() {
        let (o, i) = (at / maps_in, at % maps_in);
        let turned = &mut out[(i * maps_out + o) * taps..][..taps];
        turned
            .iter_mut()
            .zip(kernel.iter().rev())
            .for_each(|(t, w)| *t = *w);
    }
}
