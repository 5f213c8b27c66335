//! Measures the training engine on random data: images per second of the nets of decision 0003.

use scuro_train::architectures::{Activation, architecture};
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

fn main() -> Result<(), Box<dyn Error>> {
    let threads = std::env::args().nth(1).map(|t| t.parse()).transpose()?;
    for (name, activation, count) in [
        ("lenet5", Activation::Tanh, 12_800),
        ("lenet5", Activation::Relu, 12_800),
        ("lenet5", Activation::Square, 12_800),
        ("cryptonets", Activation::Square, 25_600),
        ("lenet", Activation::Square, 3_840),
        ("cifar10-cnn", Activation::Relu, 640),
    ] {
        let made = architecture(name, Some(activation), 1)?;
        let shape = made.graph.input_shape().to_vec();
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
        train(made.graph, &examples, &config, &mut watch)?;
        let rate = config.batch as f64 / watch.1;
        writeln!(io::stdout(), "{name} {activation:?}: {rate:.0} images/s")?;
    }
    Ok(())
}
