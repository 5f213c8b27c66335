//! Fully connected layers: `Y = X W^T + b` with `W` of shape `[out, in]`.

use super::{Gradients, Operands};
use rayon::prelude::*;
use scuro_nn::matmul::{Matrix, gemm, transpose_into};

/// Examples (or output rows of the weight gradient) of one task: enough to amortise packing the
/// weights.
const ROWS: usize = 64;

pub(super) fn forward(
    operands: &Operands<'_>,
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let (inputs, outputs) = (operands.size(0), operands.output_size());
    let mut turned = vec![0.0; weight.len()];
    transpose_into(weight, inputs, &mut turned);
    let weight = Matrix::new(&turned, inputs, outputs);
    let examples = operands.values[0].par_chunks(inputs * ROWS);
    out.par_chunks_mut(outputs * ROWS)
        .zip(examples)
        .for_each(|(out, x)| {
            gemm(
                1.0,
                Matrix::new(x, x.len() / inputs, inputs),
                weight,
                0.0,
                out,
            );
            if let Some(bias) = bias {
                for row in out.chunks_exact_mut(outputs) {
                    row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
                }
            }
        });
}

pub(super) fn backward(
    operands: &Operands<'_>,
    weight: &[f32],
    upstream: &[f32],
    gradients: &mut Gradients<'_>,
) {
    let (inputs, outputs) = (operands.size(0), operands.output_size());
    if let Some(out) = &mut gradients.operands[0] {
        let weight = Matrix::new(weight, outputs, inputs);
        let upstream = upstream.par_chunks(outputs * ROWS);
        out.par_chunks_mut(inputs * ROWS)
            .zip(upstream)
            .for_each(|(out, up)| {
                gemm(
                    1.0,
                    Matrix::new(up, up.len() / outputs, outputs),
                    weight,
                    0.0,
                    out,
                );
            });
    }
    if let [weight, bias @ ..] = gradients.parameters {
        weight_gradient(operands, upstream, weight);
        if let [bias, ..] = bias {
            bias.fill(0.0);
            for row in upstream.chunks_exact(outputs) {
                bias.iter_mut().zip(row).for_each(|(b, u)| *b += u);
            }
        }
    }
}

/// `dW = dY^T X`, split over output rows, so that each sum runs over the batch in order.
fn weight_gradient(operands: &Operands<'_>, upstream: &[f32], out: &mut [f32]) {
    let (inputs, outputs, batch) = (operands.size(0), operands.output_size(), operands.batch);
    let mut columns = vec![0.0; upstream.len()];
    transpose_into(upstream, outputs, &mut columns);
    let x = Matrix::new(operands.values[0], batch, inputs);
    let columns = columns.par_chunks(batch * ROWS);
    out.par_chunks_mut(inputs * ROWS)
        .zip(columns)
        .for_each(|(out, up)| {
            gemm(1.0, Matrix::new(up, up.len() / batch, batch), x, 0.0, out);
        });
}
