mod common;
use common::*;
use scuro_compiler::{Options, compile};
use scuro_nn::reference;
use scuro_program::Packing;
#[test]
fn tmpb() {
    let mut random = Random::new(1);
    let graph = cryptonets(&mut random);
    let images: Vec<_> = (0..64).map(|_| random.image(graph.input_shape())).collect();
    for log_n in [None, Some(13)] {
    let start = std::time::Instant::now();
    let c = compile(&graph, &Options { packing: Packing::Batch, log_n, ..Options::default() }, &images).unwrap();
    println!("{:?}", start.elapsed());
    c.dumps.iter().for_each(|d| println!("== {}\n{}", d.pass, d.text));
    let q: Vec<Vec<f64>> = (0..784).map(|e| images.iter().map(|i| f64::from(i.data[e])).collect()).collect();
    let r = run(&c.program, q);
    let mut err = 0f64;
    for (i, image) in images.iter().enumerate() {
        let want = reference::run(&graph, image).unwrap();
        for k in 0..10 { err = err.max((r[k][i] - f64::from(want.data[k])).abs()); }
    }
    println!("max err {err}");
    }
}
