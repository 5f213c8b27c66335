//! Networks with seeded random weights, and the clear evaluation of programs.

use scuro_nn::graph::{Graph, GraphBuilder, Op, Padding, Window};
use scuro_nn::tensor::Tensor;
use scuro_program::{Gather, Program, SlotValue, interpret};

/// A small deterministic generator.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    pub(crate) fn tensor(&mut self, shape: &[usize], scale: f32) -> Tensor {
        let count = shape.iter().product();
        let data = (0..count)
            .map(|_| (2.0 * self.unit() - 1.0) * scale)
            .collect();
        Tensor::new(shape.to_vec(), data).unwrap()
    }

    pub(crate) fn image(&mut self, shape: &[usize]) -> Tensor {
        let count = shape.iter().product();
        Tensor::new(shape.to_vec(), (0..count).map(|_| self.unit()).collect()).unwrap()
    }
}

/// A convolution with weights of unit gain.
pub(crate) fn conv(
    random: &mut Random,
    maps: usize,
    depth: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: Padding,
    groups: usize,
) -> Op {
    let fan_in = (depth / groups * kernel[0] * kernel[1]) as f32;
    let weight = random.tensor(
        &[maps, depth / groups, kernel[0], kernel[1]],
        (3.0 / fan_in).sqrt(),
    );
    let bias = Some(random.tensor(&[maps], 0.2));
    let window = Window {
        kernel,
        stride,
        padding,
    };
    Op::Conv2d {
        weight,
        bias,
        window,
        dilation: [1, 1],
        groups,
    }
}

pub(crate) fn dense(random: &mut Random, outputs: usize, inputs: usize) -> Op {
    let weight = random.tensor(&[outputs, inputs], (3.0 / inputs as f32).sqrt());
    Op::Dense {
        weight,
        bias: Some(random.tensor(&[outputs], 0.2)),
    }
}

/// Convolution 5x5 stride 2 with 5 maps, square, 100, square, 10.
pub(crate) fn cryptonets(random: &mut Random) -> Graph {
    let mut net = GraphBuilder::new("cryptonets", [1, 28, 28]);
    let padding = Padding {
        top: 1,
        left: 1,
        bottom: 0,
        right: 0,
    };
    net.then(conv(random, 5, 1, [5, 5], [2, 2], padding, 1))
        .then(Op::Square)
        .then(Op::Flatten);
    net.then(dense(random, 100, 845))
        .then(Op::Square)
        .then(dense(random, 10, 100));
    net.finish().unwrap()
}

/// Convolutions 5x5 with 32 and 64 maps, average pools, 512, 10, square activations.
pub(crate) fn lenet(random: &mut Random) -> Graph {
    let mut net = GraphBuilder::new("lenet", [1, 28, 28]);
    let same = Padding {
        top: 2,
        left: 2,
        bottom: 2,
        right: 2,
    };
    let pool = || Op::AvgPool {
        window: Window::valid([2, 2], [2, 2]),
        count_padding: true,
    };
    net.then(conv(random, 32, 1, [5, 5], [1, 1], same, 1))
        .then(Op::Square)
        .then(pool());
    net.then(conv(random, 64, 32, [5, 5], [1, 1], same, 1))
        .then(Op::Square)
        .then(pool());
    net.then(Op::Flatten)
        .then(dense(random, 512, 3136))
        .then(Op::Square);
    net.then(dense(random, 10, 512));
    net.finish().unwrap()
}

/// The query's slots of one image.
pub(crate) fn query(program: &Program, image: &[f32]) -> SlotValue {
    let Gather::Slots(maps) = &program.input.gather else {
        panic!("batch program")
    };
    let cell = |&e: &u32| image.get(e as usize).map_or(0.0, |&v| f64::from(v));
    maps.iter()
        .map(|map| map.iter().map(cell).collect())
        .collect()
}

/// Slots of the result in clear.
pub(crate) fn run(program: &Program, query: SlotValue) -> SlotValue {
    let mut values = vec![query];
    for step in &program.steps {
        let operands: Vec<&SlotValue> = step
            .inputs
            .iter()
            .map(|id| &values[id.0 as usize])
            .collect();
        values.push(interpret(&step.operation, &operands));
    }
    values.swap_remove(program.result.0 as usize)
}

pub(crate) fn outputs(program: &Program, result: &SlotValue) -> Vec<f64> {
    let read = |a: &scuro_program::SlotAddress| result[a.ciphertext as usize][a.slot as usize];
    program.output.addresses.iter().map(read).collect()
}
