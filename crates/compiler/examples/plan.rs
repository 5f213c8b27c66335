//! Compiles an ONNX file with random calibration data and prints every pass: `plan MODEL.onnx`.

use scuro_compiler::{Options, compile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: plan MODEL.onnx")?;
    let graph = scuro_nn::import::onnx::from_bytes(&std::fs::read(path)?)?;
    let start = std::time::Instant::now();
    let data = scuro_nn::data::synthetic::dataset(scuro_nn::data::Split::Train, 64);
    let images: Vec<_> = (0..data.len())
        .map(|i| {
            let pixels = data
                .image(i)
                .iter()
                .map(|&p| f32::from(p) / 255.0)
                .collect();
            scuro_nn::tensor::Tensor::new(graph.input_shape().to_vec(), pixels)
        })
        .collect::<Result<_, _>>()?;
    let compilation = compile(&graph, &Options::default(), &images)?;
    for dump in &compilation.dumps {
        println!("== {}\n{}", dump.pass, dump.text);
    }
    println!("{:?}", start.elapsed());
    Ok(())
}
