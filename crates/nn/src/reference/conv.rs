//! Convolution as a matrix product over unfolded windows.

use crate::graph::Window;
use crate::matmul::{Matrix, gemm};
use crate::tensor::Tensor;

use super::ops::Operand;

/// The weights and geometry of one convolution.
pub(super) struct Conv<'a> {
    pub(super) weight: &'a Tensor,
    pub(super) bias: Option<&'a Tensor>,
    pub(super) window: &'a Window,
    pub(super) dilation: &'a [usize; 2],
    pub(super) groups: &'a usize,
}

/// Math:   out[o, y, x] = bias[o] + sum_{c, i, j} weight[o, c, i, j] * in[c, y sy + i dy - top, x
///     sx + j dx - left]
/// Shape:  [images][c][h][w] -> [images][o][oh][ow]
pub(super) fn conv2d(
    conv: &Conv<'_>,
    input: Operand<'_>,
    out_shape: &[usize],
    out: &mut [f32],
    columns: &mut Vec<f32>,
) {
    let in_length: usize = input.shape.iter().product();
    let out_length: usize = out_shape.iter().product();
    for (image, out) in input
        .values
        .chunks_exact(in_length)
        .zip(out.chunks_exact_mut(out_length))
    {
        one_image(conv, image, input.shape, out_shape, out, columns);
    }
}

fn one_image(
    conv: &Conv<'_>,
    image: &[f32],
    in_shape: &[usize],
    out_shape: &[usize],
    out: &mut [f32],
    columns: &mut Vec<f32>,
) {
    let groups = *conv.groups;
    let pixels = out_shape[1] * out_shape[2];
    let maps = out_shape[0] / groups;
    let depth: usize = conv.weight.shape[1..].iter().product();
    match conv.bias {
        Some(bias) => {
            out.chunks_exact_mut(pixels)
                .zip(&bias.data)
                .for_each(|(map, &b)| map.fill(b));
        }
        None => out.fill(0.0),
    }
    let weights = conv.weight.data.chunks_exact(maps * depth);
    let inputs = image.chunks_exact(image.len() / groups);
    for ((weight, input), out) in weights.zip(inputs).zip(out.chunks_exact_mut(maps * pixels)) {
        let weight = Matrix::new(weight, maps, depth);
        if is_plain_product(conv) {
            gemm(1.0, weight, Matrix::new(input, depth, pixels), 1.0, out);
            continue;
        }
        columns.resize(depth * pixels, 0.0);
        unfold(conv, input, &in_shape[1..], &out_shape[1..], columns);
        gemm(1.0, weight, Matrix::new(columns, depth, pixels), 1.0, out);
    }
}

/// A 1x1 convolution without stride or padding needs no unfolding.
fn is_plain_product(conv: &Conv<'_>) -> bool {
    *conv.window == Window::valid([1, 1], [1, 1])
}

/// Writes one row per (channel, kernel row, kernel column) and one column per output position.
fn unfold(conv: &Conv<'_>, input: &[f32], in_hw: &[usize], out_hw: &[usize], columns: &mut [f32]) {
    let [kh, kw] = conv.window.kernel;
    let pixels = out_hw[0] * out_hw[1];
    let mut rows = columns.chunks_exact_mut(pixels);
    for map in input.chunks_exact(in_hw[0] * in_hw[1]) {
        for i in 0..kh {
            for j in 0..kw {
                if let Some(row) = rows.next() {
                    unfold_row(conv, map, in_hw, out_hw[1], [i, j], row);
                }
            }
        }
    }
}

fn unfold_row(
    conv: &Conv<'_>,
    map: &[f32],
    in_hw: &[usize],
    out_w: usize,
    tap: [usize; 2],
    row: &mut [f32],
) {
    let Window {
        stride, padding, ..
    } = *conv.window;
    let down = tap[0] * conv.dilation[0];
    let along = tap[1] * conv.dilation[1];
    for (y, line) in row.chunks_exact_mut(out_w).enumerate() {
        match (y * stride[0] + down)
            .checked_sub(padding.top)
            .filter(|&y| y < in_hw[0])
        {
            Some(y) => {
                let source = &map[y * in_hw[1]..(y + 1) * in_hw[1]];
                unfold_line(source, stride[1], along, padding.left, line);
            }
            None => line.fill(0.0),
        }
    }
}

/// `line[x] = source[x * stride + along - left]`, zero outside.
fn unfold_line(source: &[f32], stride: usize, along: usize, left: usize, line: &mut [f32]) {
    let first = left.saturating_sub(along).div_ceil(stride).min(line.len());
    let past = (source.len() + left)
        .saturating_sub(along)
        .div_ceil(stride)
        .clamp(first, line.len());
    line[..first].fill(0.0);
    line[past..].fill(0.0);
    if first == past {
        return;
    }
    let start = first * stride + along - left;
    if stride == 1 {
        line[first..past].copy_from_slice(&source[start..start + past - first]);
    } else {
        let taken = source[start..].iter().step_by(stride);
        line[first..past]
            .iter_mut()
            .zip(taken)
            .for_each(|(l, &s)| *l = s);
    }
}
