//! Convolution by matrix products, image by image: on shifted views where the stride is 1, else by
//! im2col.

use super::direct::{Direct, turn_kernels, with_scratch};
use super::{Gradients, Operands, for_chunks, slice_chunk, sum_over_chunks};
use scuro_nn::graph::Window;
use scuro_nn::matmul::{Matrix, gemm, transpose_into};

/// The geometry of one convolution: everything but its weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Convolution {
    maps_in: usize,
    maps_out: usize,
    groups: usize,
    input: [usize; 2],
    output: [usize; 2],
    window: Window,
    dilation: [usize; 2],
}

impl Convolution {
    pub(crate) fn new(
        operands: &Operands<'_>,
        window: &Window,
        dilation: [usize; 2],
        groups: usize,
    ) -> Self {
        let (input, output) = (operands.shapes[0], operands.output);
        Self {
            maps_in: input[0],
            maps_out: output[0],
            groups,
            input: [input[1], input[2]],
            output: [output[1], output[2]],
            window: *window,
            dilation,
        }
    }

    /// Rows of the im2col matrix of one group: weights per output map.
    fn taps(&self) -> usize {
        self.maps_in / self.groups * self.window.kernel[0] * self.window.kernel[1]
    }

    /// Columns of the im2col matrix: output positions.
    fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn input_size(&self) -> usize {
        self.maps_in * self.input[0] * self.input[1]
    }

    fn output_size(&self) -> usize {
        self.maps_out * self.positions()
    }

    /// `y[o] = w[o] * columns(x) + b[o]` per group.
    pub(crate) fn forward(
        &self,
        operands: &Operands<'_>,
        weight: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        if let Some(direct) = self.direct() {
            return self.forward_direct(direct, operands, weight, bias, out);
        }
        for_chunks(out, self.output_size(), |chunk, out| {
            let mut columns = vec![0.0; self.taps() * self.positions()];
            let images = operands.chunk(0, chunk).chunks_exact(self.input_size());
            for (image, out) in images.zip(out.chunks_exact_mut(self.output_size())) {
                self.forward_image(image, weight, &mut columns, out);
                if let Some(bias) = bias {
                    for (map, b) in out.chunks_exact_mut(self.positions()).zip(bias) {
                        map.iter_mut().for_each(|v| *v += b);
                    }
                }
            }
        });
    }

    /// The geometry of a group, if it can be computed on shifted views.
    fn direct(&self) -> Option<Direct> {
        let padding = self.window.padding;
        (self.window.stride == [1, 1]).then_some(Direct {
            maps_in: self.maps_in / self.groups,
            maps_out: self.maps_out / self.groups,
            input: self.input,
            output: self.output,
            kernel: self.window.kernel,
            dilation: self.dilation,
            before: [padding.top, padding.left],
        })
    }

    /// The same for the gradient by the image, if no padding exceeds the kernel's reach.
    fn direct_back(&self) -> Option<Direct> {
        let direct = self.direct()?;
        let padding = self.window.padding;
        let reach = [0, 1].map(|axis| (direct.kernel[axis] - 1) * direct.dilation[axis]);
        let above = reach[0].checked_sub(padding.top)?;
        let left = reach[1].checked_sub(padding.left)?;
        reach[0].checked_sub(padding.bottom)?;
        reach[1].checked_sub(padding.right)?;
        Some(Direct {
            maps_in: direct.maps_out,
            maps_out: direct.maps_in,
            input: direct.output,
            output: direct.input,
            before: [above, left],
            ..direct
        })
    }

    fn forward_direct(
        &self,
        direct: Direct,
        operands: &Operands<'_>,
        weight: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        for_chunks(out, self.output_size(), |chunk, out| {
            let images = operands.chunk(0, chunk).chunks_exact(self.input_size());
            for (image, out) in images.zip(out.chunks_exact_mut(self.output_size())) {
                for group in 0..self.groups {
                    let bias = bias.map(|bias| part(bias, group, self.groups));
                    let out = part_mut(out, group, self.groups);
                    let (image, weight) = (
                        part(image, group, self.groups),
                        part(weight, group, self.groups),
                    );
                    with_scratch(|scratch| direct.correlate(image, weight, bias, scratch, out));
                }
            }
        });
    }

    fn backward_images_direct(
        &self,
        direct: Direct,
        weight: &[f32],
        upstream: &[f32],
        out: &mut [f32],
    ) {
        let taps = self.window.kernel[0] * self.window.kernel[1];
        let mut turned = vec![0.0; weight.len()];
        for group in 0..self.groups {
            let turned = part_mut(&mut turned, group, self.groups);
            turn_kernels(
                part(weight, group, self.groups),
                direct.maps_out,
                taps,
                turned,
            );
        }
        for_chunks(out, self.input_size(), |chunk, out| {
            let upstream = slice_chunk(upstream, self.output_size(), chunk);
            let images = out.chunks_exact_mut(self.input_size());
            for (image, upstream) in images.zip(upstream.chunks_exact(self.output_size())) {
                for group in 0..self.groups {
                    let upstream = part(upstream, group, self.groups);
                    let kernels = part(&turned, group, self.groups);
                    let out = part_mut(image, group, self.groups);
                    with_scratch(|scratch| {
                        direct.correlate(upstream, kernels, None, scratch, out);
                    });
                }
            }
        });
    }

    fn forward_image(&self, image: &[f32], weight: &[f32], columns: &mut [f32], out: &mut [f32]) {
        let (taps, positions, maps) = (self.taps(), self.positions(), self.maps_out / self.groups);
        for group in 0..self.groups {
            self.gather(image, group, columns);
            let weight = Matrix::new(&weight[group * maps * taps..][..maps * taps], maps, taps);
            let out = &mut out[group * maps * positions..][..maps * positions];
            gemm(1.0, weight, Matrix::new(columns, taps, positions), 0.0, out);
        }
    }

    /// Gradients of weights, bias and, if wanted, the image.
    pub(crate) fn backward(
        &self,
        operands: &Operands<'_>,
        weight: &[f32],
        upstream: &[f32],
        gradients: &mut Gradients<'_>,
    ) {
        if let Some(out) = &mut gradients.operands[0] {
            self.backward_images(weight, upstream, out);
        }
        if let [weight, bias @ ..] = gradients.parameters {
            self.backward_weight(operands, upstream, weight);
            if let [bias, ..] = bias {
                self.backward_bias(operands.batch, upstream, bias);
            }
        }
    }

    /// Sums the transposes `columns(x) * dy`, whose factors need no transposing, and turns each sum
    /// once.
    fn backward_weight(&self, operands: &Operands<'_>, upstream: &[f32], total: &mut [f32]) {
        let (taps, positions, maps) = (self.taps(), self.positions(), self.maps_out / self.groups);
        let direct = self.direct();
        sum_over_chunks(operands.batch, total, |chunk, partial| {
            let mut columns = Vec::new();
            let mut sums = vec![0.0; partial.len()];
            let upstream = slice_chunk(upstream, self.output_size(), chunk);
            let images = operands.chunk(0, chunk).chunks_exact(self.input_size());
            for (image, upstream) in images.zip(upstream.chunks_exact(self.output_size())) {
                for (group, sums) in sums.chunks_exact_mut(maps * taps).enumerate() {
                    let upstream = part(upstream, group, self.groups);
                    if let Some(direct) = direct {
                        let image = part(image, group, self.groups);
                        with_scratch(|scratch| {
                            direct.correlate_maps(image, upstream, scratch, sums);
                        });
                        continue;
                    }
                    columns.resize(taps * positions, 0.0);
                    self.gather(image, group, &mut columns);
                    let upstream = Matrix::new(upstream, maps, positions).transpose();
                    gemm(
                        1.0,
                        Matrix::new(&columns, taps, positions),
                        upstream,
                        1.0,
                        sums,
                    );
                }
            }
            let groups = sums
                .chunks_exact(maps * taps)
                .zip(partial.chunks_exact_mut(maps * taps));
            groups.for_each(|(sums, partial)| transpose_into(sums, maps, partial));
        });
    }

    fn backward_bias(&self, batch: usize, upstream: &[f32], total: &mut [f32]) {
        sum_over_chunks(batch, total, |chunk, partial| {
            let upstream = slice_chunk(upstream, self.output_size(), chunk);
            for image in upstream.chunks_exact(self.output_size()) {
                for (sum, map) in partial.iter_mut().zip(image.chunks_exact(self.positions())) {
                    *sum += sum_in_lanes(map);
                }
            }
        });
    }

    fn backward_images(&self, weight: &[f32], upstream: &[f32], out: &mut [f32]) {
        if let Some(direct) = self.direct_back() {
            return self.backward_images_direct(direct, weight, upstream, out);
        }
        let (taps, positions, maps) = (self.taps(), self.positions(), self.maps_out / self.groups);
        let mut turned = vec![0.0; weight.len()];
        let groups = weight
            .chunks_exact(maps * taps)
            .zip(turned.chunks_exact_mut(maps * taps));
        groups.for_each(|(weight, turned)| transpose_into(weight, taps, turned));
        for_chunks(out, self.input_size(), |chunk, out| {
            let mut columns = vec![0.0; taps * positions];
            let upstream = slice_chunk(upstream, self.output_size(), chunk);
            let images = out.chunks_exact_mut(self.input_size());
            for (image, upstream) in images.zip(upstream.chunks_exact(self.output_size())) {
                image.fill(0.0);
                for group in 0..self.groups {
                    let weight = &turned[group * maps * taps..][..maps * taps];
                    let weight = Matrix::new(weight, taps, maps);
                    let upstream = &upstream[group * maps * positions..][..maps * positions];
                    gemm(
                        1.0,
                        weight,
                        Matrix::new(upstream, maps, positions),
                        0.0,
                        &mut columns,
                    );
                    self.scatter(&columns, group, image);
                }
            }
        });
    }

    /// im2col: row `(map, y, x)` of the kernel, column = output position; zero where the tap lies
    /// in the padding.
    fn gather(&self, image: &[f32], group: usize, columns: &mut [f32]) {
        let mut rows = columns.chunks_exact_mut(self.output[1]);
        self.for_runs(group, |run| {
            let Some(row) = rows.next() else { return };
            row[..run.first].fill(0.0);
            row[run.first + run.len..].fill(0.0);
            let row = &mut row[run.first..][..run.len];
            match run.step {
                _ if run.len == 0 => {}
                1 => row.copy_from_slice(&image[run.start..][..run.len]),
                // A constant step lets the compiler use vector shuffles.
                2 => copy_every(2, &image[run.start..], row),
                step => copy_every(step, &image[run.start..], row),
            }
        });
    }

    /// The transpose of [`gather`](Self::gather): adds each column value to its place in the image.
    fn scatter(&self, columns: &[f32], group: usize, image: &mut [f32]) {
        let mut rows = columns.chunks_exact(self.output[1]);
        self.for_runs(group, |run| {
            let Some(row) = rows.next() else { return };
            if run.len > 0 {
                let target = image[run.start..].iter_mut().step_by(run.step);
                target
                    .zip(&row[run.first..][..run.len])
                    .for_each(|(t, v)| *t += v);
            }
        });
    }

    /// Visits one run per (map, kernel row, kernel column, output row), in that order.
    fn for_runs(&self, group: usize, mut visit: impl FnMut(Run)) {
        let [height, width] = self.input;
        let [kernel_h, kernel_w] = self.window.kernel;
        let maps = self.maps_in / self.groups;
        for map in group * maps..(group + 1) * maps {
            for ky in 0..kernel_h {
                for kx in 0..kernel_w {
                    let (first, len, x) = self.valid_columns(kx, width);
                    for oy in 0..self.output[0] {
                        let y = oy * self.window.stride[0] + ky * self.dilation[0];
                        let inside = (self.window.padding.top..height + self.window.padding.top)
                            .contains(&y);
                        let len = if inside { len } else { 0 };
                        let row = map * height + y.saturating_sub(self.window.padding.top);
                        let start = if len > 0 { row * width + x } else { 0 };
                        visit(Run {
                            first,
                            len,
                            start,
                            step: self.window.stride[1],
                        });
                    }
                }
            }
        }
    }

    /// Output columns for which tap `kx` lies inside the image: first, count, and the image column
    /// of the first.
    fn valid_columns(&self, kx: usize, width: usize) -> (usize, usize, usize) {
        let (stride, left) = (self.window.stride[1], self.window.padding.left);
        let offset = kx * self.dilation[1];
        let first = left
            .saturating_sub(offset)
            .div_ceil(stride)
            .min(self.output[1]);
        // The last column inside satisfies `ox * stride + offset < width + left`.
        let end = (width + left)
            .saturating_sub(offset)
            .div_ceil(stride)
            .min(self.output[1]);
        let len = end.saturating_sub(first);
        (first, len, (first * stride + offset).saturating_sub(left))
    }
}

/// The sum of `values`, in lanes that add up independently.
fn sum_in_lanes(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(s, v)| *s += v);
    }
    sums.iter().chain(rest).sum()
}

/// Part `index` of `values` split into `count` equal parts.
fn part(values: &[f32], index: usize, count: usize) -> &[f32] {
    let len = values.len() / count;
    &values[index * len..][..len]
}

fn part_mut(values: &mut [f32], index: usize, count: usize) -> &mut [f32] {
    let len = values.len() / count;
    &mut values[index * len..][..len]
}

/// A run of image values `start, start + step, ...` that lands in `row[first..first + len]`.
struct Run {
    first: usize,
    len: usize,
    start: usize,
    step: usize,
}

#[inline(always)]
fn copy_every(step: usize, source: &[f32], row: &mut [f32]) {
    let source = &source[..(row.len() - 1) * step + 1];
    for (i, value) in row.iter_mut().enumerate() {
        *value = source[i * step];
    }
}
