//! Compiles larger networks with random weights.

#[path = "../tests/common/mod.rs"]
mod common;

use scuro_compiler::{Options, compile};

fn main() {
    let mut random = common::Random::new(3);
    let which = std::env::args().nth(1).unwrap_or_default();
    let graph = match which.as_str() {
        "cifar" => common::cifar10_cnn(&mut random),
        "lenet" => common::lenet(&mut random),
        _ => common::cryptonets(&mut random),
    };
    let images: Vec<_> = (0..16).map(|_| random.image(graph.input_shape())).collect();
    let start = std::time::Instant::now();
    match compile(&graph, &Options::default(), &images) {
        Ok(compilation) => {
            for dump in &compilation.dumps {
                println!("== {}\n{}", dump.pass, dump.text);
            }
        }
        Err(error) => println!("{error}"),
    }
    println!("{:?}", start.elapsed());
}
