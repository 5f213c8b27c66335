//! Compiled programs compute what the reference executor computes.

mod common;

use common::{Random, cryptonets, outputs, query, run};
use scuro_compiler::{Compilation, Options, compile};
use scuro_nn::graph::Graph;
use scuro_nn::reference;

fn check(graph: &Graph, options: &Options, random: &mut Random) -> Compilation {
    let images: Vec<_> = (0..4).map(|_| random.image(graph.input_shape())).collect();
    let compilation = compile(graph, options, &images).unwrap();
    for image in &images {
        let expected = reference::run(graph, image).unwrap();
        let program = &compilation.program;
        let result = run(program, query(program, &image.data));
        for (got, &want) in outputs(program, &result).iter().zip(&expected.data) {
            let want = f64::from(want);
            assert!((got - want).abs() <= 1e-3 * (1.0 + want.abs()), "{got} for {want}");
        }
    }
    compilation
}

#[test]
fn cryptonets_fits_one_ciphertext_of_degree_8192() {
    let mut random = Random::new(1);
    let graph = cryptonets(&mut random);
    let start = std::time::Instant::now();
    let compilation = check(&graph, &Options::default(), &mut random);
    if std::env::var("SCURO_DUMP").is_ok() {
        println!("{:?}", start.elapsed());
        compilation.dumps.iter().for_each(|d| println!("== {}\n{}", d.pass, d.text));
    }
    assert_eq!(compilation.program.parameters.log_n, 13);
}
