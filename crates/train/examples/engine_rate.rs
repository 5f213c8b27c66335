//! Measures the training engine on made-up images: `engine_rate [THREADS [CASE]]` prints the rates
//! quoted in decision 0003. On a busy machine, divide the images of one case by its processor time.

use scuro_nn::graph::{Graph, GraphBuilder, Op, Window};
use scuro_nn::tensor::Tensor;
use scuro_train::architectures::architecture;
use scuro_train::{BatchReport, Examples, Progress, TrainConfig, train};
use std::error::Error;
use std::io::{self, Write};
use std::time::Instant;

struct Watch(Option<Instant>, f64);

impl Progress for Watch {
    fn batch(&mut self, report: &BatchReport) {
        // The first batch allocates the buffers.
        let start = *self.0.get_or_insert_with(Instant::now);
        if report.batch > 1 {
            self.1 = start.elapsed().as_secs_f64() / (report.batch - 1) as f64;
        }
    }
}

/// Conv 6 of 5x5, pool, conv 16 of 5x5, pool, 120, 84, 10: 44,426 weights.
fn survey_net(activation: Op) -> Result<Graph, Box<dyn Error>> {
    let filled = |shape: &[usize]| {
        let len: usize = shape.iter().product();
        let scale = 1.0 / shape.iter().skip(1).product::<usize>().max(1) as f32;
        let value = |i: usize| ((i * 7919 % 211) as f32 / 105.0 - 1.0) * scale;
        Tensor {
            shape: shape.to_vec(),
            data: (0..len).map(value).collect(),
        }
    };
    let mut net = GraphBuilder::new("survey", [1, 28, 28]);
    for (maps, inputs) in [(6, 1), (16, 6)] {
        let window = Window::valid([5, 5], [1, 1]);
        let (weight, bias) = (filled(&[maps, inputs, 5, 5]), Some(filled(&[maps])));
        net.then(Op::Conv2d {
            weight,
            bias,
            window,
            dilation: [1, 1],
            groups: 1,
        });
        let window = Window::valid([2, 2], [2, 2]);
        net.then(activation.clone()).then(Op::AvgPool {
            window,
            count_padding: true,
        });
    }
    net.then(Op::Flatten);
    for (outputs, inputs) in [(120, 256), (84, 120)] {
        let (weight, bias) = (filled(&[outputs, inputs]), Some(filled(&[outputs])));
        net.then(Op::Dense { weight, bias })
            .then(activation.clone());
    }
    net.then(Op::Dense {
        weight: filled(&[10, 84]),
        bias: Some(filled(&[10])),
    });
    Ok(net.finish()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let threads = std::env::args().nth(1).map(|t| t.parse()).transpose()?;
    let cubic = Op::Polynomial {
        coefficients: vec![0.0, 0.5, 0.2, 0.01],
    };
    let mut cases = Vec::new();
    for op in [Op::Tanh, Op::Relu, Op::Square, cubic] {
        cases.push((
            format!("survey net, {}", op.name()),
            survey_net(op)?,
            12_800,
        ));
    }
    for (name, count) in [
        ("cryptonets", 25_600),
        ("lenet", 3_840),
        ("cifar10-cnn", 2_560),
    ] {
        cases.push((name.to_owned(), architecture(name, None, 1)?.graph, count));
    }
    let only = std::env::args().nth(2).unwrap_or_default();
    for (name, graph, count) in cases.into_iter().filter(|case| case.0.contains(&only)) {
        let rate = measure(graph, count, threads)?;
        writeln!(io::stdout(), "{name}: {rate:.0} images/s")?;
    }
    Ok(())
}

fn measure(graph: Graph, count: usize, threads: Option<usize>) -> Result<f64, Box<dyn Error>> {
    let shape = graph.input_shape().to_vec();
    let len = count * shape.iter().product::<usize>();
    let images = (0..len)
        .map(|i| (i * 7919 % 1013) as f32 / 1013.0)
        .collect();
    let examples = Examples::new(shape, images, (0..count).map(|i| i * 31 % 10).collect())?;
    let base = TrainConfig::default();
    let config = TrainConfig {
        epochs: 1,
        learning_rate: 1e-4,
        validation: 0.0,
        threads,
        ..base
    };
    let mut watch = Watch(None, 0.0);
    train(graph, &examples, &config, &mut watch)?;
    Ok(config.batch as f64 / watch.1)
}
