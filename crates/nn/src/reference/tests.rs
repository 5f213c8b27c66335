use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::graph::{GraphBuilder, NodeId, Padding, Window};

/// A fixed, uneven sequence in [-1, 1).
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(shape: &[usize], seed: u32) -> Tensor {
    Tensor::new(shape, values(shape.iter().product(), seed)).unwrap()
}

fn one_op(input: &Tensor, op: Op) -> Tensor {
    let mut b = GraphBuilder::new("one", input.shape.clone());
    b.then(op);
    run(&b.finish().unwrap(), input).unwrap()
}

/// The value at `(c, y, x)` of the padded map, if it lies on the map.
fn at(input: &Tensor, c: usize, y: usize, x: usize, p: Padding) -> Option<f32> {
    let y = y.checked_sub(p.top).filter(|&y| y < input.shape[1])?;
    let x = x.checked_sub(p.left).filter(|&x| x < input.shape[2])?;
    Some(input.data[(c * input.shape[1] + y) * input.shape[2] + x])
}

fn naive_conv(input: &Tensor, op: &Op, shape: &[usize]) -> Vec<f64> {
    let Op::Conv2d {
        weight,
        bias,
        window,
        dilation,
        groups,
    } = op
    else {
        panic!("a convolution")
    };
    let [k, s] = [window.kernel, window.stride];
    let (depth, maps) = (weight.shape[1], shape[0] / groups);
    let mut out = Vec::new();
    for o in 0..shape[0] {
        for (y, x) in (0..shape[1]).flat_map(|y| (0..shape[2]).map(move |x| (y, x))) {
            let mut sum = bias.as_ref().map_or(0.0, |b| f64::from(b.data[o]));
            for (c, i, j) in taps(depth, k) {
                let (row, column) = (y * s[0] + i * dilation[0], x * s[1] + j * dilation[1]);
                let value = at(input, o / maps * depth + c, row, column, window.padding);
                let w = weight.data[((o * depth + c) * k[0] + i) * k[1] + j];
                sum += f64::from(value.unwrap_or(0.0)) * f64::from(w);
            }
            out.push(sum);
        }
    }
    out
}

fn taps(depth: usize, k: [usize; 2]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..depth * k[0] * k[1]).map(move |t| (t / (k[0] * k[1]), t / k[1] % k[0], t % k[1]))
}

fn naive_pool(input: &Tensor, window: &Window, shape: &[usize]) -> Vec<(f64, f64, f32)> {
    let [k, s] = [window.kernel, window.stride];
    let mut out = Vec::new();
    for c in 0..shape[0] {
        for (y, x) in (0..shape[1]).flat_map(|y| (0..shape[2]).map(move |x| (y, x))) {
            let seen = taps(1, k)
                .filter_map(|(_, i, j)| at(input, c, y * s[0] + i, x * s[1] + j, window.padding));
            let seen: Vec<f32> = seen.collect();
            let sum: f64 = seen.iter().map(|&v| f64::from(v)).sum();
            let all = (k[0] * k[1]) as f64;
            let max = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            out.push((sum / seen.len() as f64, sum / all, max));
        }
    }
    out
}

fn assert_close(found: &[f32], expected: impl IntoIterator<Item = f64>, tolerance: f64) {
    for (i, (&f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(f) - e).abs() <= tolerance,
            "value {i}: found {f}, expected {e}"
        );
    }
}

prop_compose! {
    fn windows(largest_pad: usize)(
        kernel in prop::array::uniform2(1usize..5),
        stride in prop::array::uniform2(1usize..5),
        pad in prop::array::uniform4(0..=largest_pad),
    ) -> Window {
        let [top, left, bottom, right] = pad;
        Window { kernel, stride, padding: Padding { top, left, bottom, right } }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn convolution_equals_its_definition(
        window in windows(5),
        dilation in prop::array::uniform2(1usize..4),
        groups in 1usize..4,
        channels in prop::array::uniform2(1usize..4),
        extent in prop::array::uniform2(1usize..14),
        biased: bool,
        seed: u32,
    ) {
        prop_assume!(window.output_extent(extent, dilation).is_some());
        let [inputs, outputs] = channels.map(|c| c * groups);
        let input = tensor(&[inputs, extent[0], extent[1]], seed);
        let weight = tensor(&[outputs, channels[0], window.kernel[0], window.kernel[1]], seed ^ 1);
        let bias = biased.then(|| tensor(&[outputs], seed ^ 2));
        let op = Op::Conv2d { weight, bias, window, dilation, groups };
        let found = one_op(&input, op.clone());
        let expected = naive_conv(&input, &op, &found.shape);
        prop_assert_eq!(found.data.len(), expected.len());
        assert_close(&found.data, expected, 1e-5);
    }

    #[test]
    fn pooling_equals_its_definition(
        window in windows(3),
        channels in 1usize..4,
        extent in prop::array::uniform2(1usize..14),
        seed: u32,
    ) {
        let (mut window, p, [h, w]) = (window, window.padding, window.kernel);
        window.padding =
            Padding { top: p.top % h, bottom: p.bottom % h, left: p.left % w, right: p.right % w };
        prop_assume!(window.output_extent(extent, [1, 1]).is_some());
        let input = tensor(&[channels, extent[0], extent[1]], seed);
        let max = one_op(&input, Op::MaxPool { window });
        let expected = naive_pool(&input, &window, &max.shape);
        prop_assert_eq!(max.data.len(), expected.len());
        assert_close(&max.data, expected.iter().map(|e| f64::from(e.2)), 0.0);
        let mean = one_op(&input, Op::AvgPool { window, count_padding: false });
        assert_close(&mean.data, expected.iter().map(|e| e.0), 1e-6);
        let padded = one_op(&input, Op::AvgPool { window, count_padding: true });
        assert_close(&padded.data, expected.iter().map(|e| e.1), 1e-6);
    }
}

#[test]
fn softmax_sums_to_one_along_its_axis_and_log_softmax_is_its_logarithm() {
    let input = tensor(&[3, 4, 2], 5);
    let soft = one_op(&input, Op::Softmax { axis: 1 });
    for (c, x) in (0..3).flat_map(|c| (0..2).map(move |x| (c, x))) {
        let sum: f32 = (0..4).map(|y| soft.data[(c * 4 + y) * 2 + x]).sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }
    let log = one_op(&input, Op::LogSoftmax { axis: 1 });
    assert_close(
        &log.data,
        soft.data.iter().map(|&v| f64::from(v).ln()),
        1e-6,
    );
}

#[test]
fn softmax_of_large_scores_stays_finite() {
    let input = Tensor::vector(vec![1e30, -1e30, 1e30]);
    assert_eq!(
        one_op(&input, Op::Softmax { axis: 0 }).data,
        [0.5, 0.0, 0.5]
    );
}

#[test]
fn a_polynomial_is_evaluated_lowest_degree_first() {
    let op = Op::Polynomial {
        coefficients: vec![1.0, -2.0, 0.5, 3.0],
    };
    assert_eq!(
        one_op(&Tensor::vector(vec![2.0]), op).data,
        [1.0 - 4.0 + 2.0 + 24.0]
    );
}

#[test]
fn batch_normalisation_scales_each_channel() {
    let vector = |v: [f32; 2]| Tensor::vector(v.to_vec());
    let op = Op::BatchNorm {
        scale: vector([2.0, 1.0]),
        shift: vector([1.0, -1.0]),
        mean: vector([3.0, 0.0]),
        variance: vector([3.0, 0.0]),
        epsilon: 1.0,
    };
    let input = Tensor::new([2, 1, 2], vec![3.0, 5.0, 7.0, -7.0]).unwrap();
    assert_eq!(one_op(&input, op).data, [1.0, 3.0, 6.0, -8.0]);
}

/// A branching network that exercises buffers used twice, constants on either side, views and
/// joins.
fn branching() -> Graph {
    let mut b = GraphBuilder::new("branching", [2, 6, 5]);
    let window = Window {
        kernel: [3, 2],
        stride: [2, 1],
        padding: Padding {
            top: 1,
            ..Padding::default()
        },
    };
    let op = Op::Conv2d {
        weight: tensor(&[4, 2, 3, 2], 3),
        bias: Some(tensor(&[4], 4)),
        window,
        dilation: [1, 1],
        groups: 1,
    };
    let conv = b.push("conv", op, &[NodeId(0)]);
    let relu = b.push("relu", Op::Relu, &[conv]);
    let two = b.push("two", Op::Constant(tensor(&[4, 1, 1], 9)), &[]);
    let less = b.push("less", Op::Sub, &[two, relu]);
    let square = b.push("square", Op::Square, &[less]);
    let joined = b.push("joined", Op::Concat { axis: 1 }, &[conv, square, relu]);
    let turned = b.push(
        "turned",
        Op::Transpose {
            permutation: vec![1, 2, 0],
        },
        &[joined],
    );
    let flat = b.push("flat", Op::Flatten, &[turned]);
    let length = 4 * 9 * 4;
    b.push(
        "dense",
        Op::Dense {
            weight: tensor(&[3, length], 6),
            bias: None,
        },
        &[flat],
    );
    b.finish().unwrap()
}

#[test]
fn a_batch_a_trace_and_single_runs_agree_bit_for_bit() {
    let graph = branching();
    let images: Vec<Tensor> = (0..70).map(|i| tensor(&[2, 6, 5], 100 + i)).collect();
    let batch = run_batch(&graph, &images).unwrap();
    let executor = Executor::new(&graph).unwrap();
    let mut widest = vec![Range::EMPTY; graph.nodes.len()];
    for (image, answer) in images.iter().zip(&batch) {
        let trace = run_traced(&graph, image).unwrap();
        assert_close(
            &trace[graph.output.0].data,
            answer.data.iter().map(|&v| v.into()),
            1e-5,
        );
        for (range, value) in widest.iter_mut().zip(&trace) {
            *range = range.union(range_of(&value.data));
        }
    }
    let ranges = executor.ranges(images.len(), |i, out| out.copy_from_slice(&images[i].data));
    for (found, expected) in ranges.iter().zip(&widest) {
        assert!((found.min - expected.min).abs() < 1e-5 && (found.max - expected.max).abs() < 1e-5);
    }
}

#[test]
fn an_example_of_another_shape_is_an_error() {
    let found = run(&branching(), &Tensor::zeros([2, 5, 6]));
    assert!(matches!(found, Err(Error::InputShape { .. })));
}

#[test]
fn ten_thousand_images_through_lenet_take_seconds() {
    let conv = |maps: usize, inputs: usize, seed| Op::Conv2d {
        weight: tensor(&[maps, inputs, 5, 5], seed),
        bias: Some(tensor(&[maps], seed + 1)),
        window: Window::valid([5, 5], [1, 1]),
        dilation: [1, 1],
        groups: 1,
    };
    let pool = Op::AvgPool {
        window: Window::valid([2, 2], [2, 2]),
        count_padding: false,
    };
    let dense = |o: usize, i: usize| Op::Dense {
        weight: tensor(&[o, i], 7),
        bias: None,
    };
    let mut b = GraphBuilder::new("lenet", [1, 28, 28]);
    b.then(conv(32, 1, 1)).then(Op::Square).then(pool.clone());
    b.then(conv(64, 32, 3))
        .then(Op::Square)
        .then(pool)
        .then(Op::Flatten);
    b.then(dense(512, 1024))
        .then(Op::Square)
        .then(dense(10, 512));
    let graph = b.finish().unwrap();
    let image = values(784, 8);
    let count = 1000;
    let executor = Executor::new(&graph).unwrap();
    let start = Instant::now();
    let answers = executor.run_each(count, |_, input| input.copy_from_slice(&image));
    let seconds = start.elapsed().as_secs_f64();
    assert!(answers.iter().all(|v| v.is_finite()));
    // The figure asked for is 10 s per 10,000 on two idle cores; the bound here allows a busy
    // machine.
    assert!(seconds < 10.0, "{count} images took {seconds:.2} s");
}
