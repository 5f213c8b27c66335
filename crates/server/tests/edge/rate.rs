//! How fast a device is with the demo's network: `cargo test --release -p scuro-server --test edge
//! -- --ignored rate --nocapture`.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scuro_nn::data::{self, Preprocess};
use scuro_nn::tensor::Tensor;
use scuro_server::edge::frame::FrameId;
use scuro_server::edge::intake::{Arrival, Form};
use scuro_server::edge::service::Edge;

use crate::support::vault::Vault;
use crate::support::{FIRST, Protected, World, eventually, run};

/// Frames of the run at full speed.
const FRAMES: usize = 2000;
/// Frames of the run at a fixed pace.
const PACED: usize = 500;

/// The demo's network and images for it.
fn demo() -> (Protected, data::Dataset) {
    let file =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/assets/demo-cryptonets.onnx");
    let bytes = std::fs::read(file).expect("the demo's network");
    let network = scuro_nn::import::onnx::from_bytes(&bytes).expect("a network");
    let name = |split: &str| -> data::DatasetName {
        let shared = std::path::PathBuf::from("../../../shared/data");
        let mnist = format!("mnist:{split}").parse().expect("name");
        match data::is_available(mnist, &[shared]) {
            true => mnist,
            false => format!("generated:{split}").parse().expect("name"),
        }
    };
    let load = |split, count| {
        let search = [std::path::PathBuf::from("../../../shared/data")];
        data::load(name(split), &search, Some(count)).expect("images")
    };
    let train = load("train", 256);
    let preprocess = Preprocess::default();
    let prepared = preprocess
        .prepare(train.shape, network.input_shape())
        .expect("fits");
    let input = |index| {
        let mut values = vec![0.0; network.input_shape().iter().product()];
        prepared.fill(train.image(index), &mut values);
        Tensor::new(network.input_shape(), values).expect("tensor")
    };
    let calibration: Vec<Tensor> = (0..train.len()).map(input).collect();
    let protected = Protected::of(FIRST, None, &network, &calibration);
    (protected, load("test", FRAMES))
}

async fn offer(edge: &Edge, images: &data::Dataset, number: usize) {
    let arrival = Arrival {
        id: Some(FrameId::new(format!("frame-{number}")).expect("id")),
        form: Form::Raw,
        bytes: images.image(number % images.len()).to_vec(),
    };
    edge.intake()
        .offer_until_taken("test", &arrival)
        .await
        .expect("taken");
}

/// What is told: quantiles of the time from frame in to encrypted inference on disk.
fn tell(what: &str, edge: &Edge, frames: usize, took: Duration) {
    let [half, most] = edge
        .spool()
        .latencies()
        .quantiles([0.5, 0.99])
        .expect("latencies");
    let rate = frames as f64 / took.as_secs_f64();
    let mut out = std::io::stderr();
    writeln!(
        out,
        "{what}: {frames} frames, {rate:.1} frames/s, p50 {half:?}, p99 {most:?}"
    )
    .expect("told");
}

#[test]
#[ignore = "a measurement; says nothing about right or wrong"]
fn rate() {
    let (protected, images) = demo();
    for workers in [1, 2] {
        run(async {
            let world = World::new();
            let vault = Vault::start(
                "127.0.0.1:0".parse().expect("address"),
                &world.vendor(),
                Arc::clone(&world.vault),
            )
            .await;
            let mut options = world.options();
            options.workers = workers;
            options.vault = Some(vault.address.to_string());
            let edge = Edge::start(options).await.expect("started");
            protected
                .deploy(&mut world.deployer(edge.addresses().device))
                .await;
            let start = Instant::now();
            for number in 0..PACED {
                offer(&edge, &images, number).await;
                eventually("its turn", || edge.spool().depth().frames < 1).await;
            }
            tell(
                &format!("{workers} worker(s), one at a time"),
                &edge,
                PACED,
                start.elapsed(),
            );
            let start = Instant::now();
            for number in PACED..PACED + FRAMES {
                offer(&edge, &images, number).await;
            }
            eventually("all answers", || world.vault.count() == PACED + FRAMES).await;
            tell(
                &format!("{workers} worker(s), full queue"),
                &edge,
                FRAMES,
                start.elapsed(),
            );
            let bytes = world.vault.inferences()[0].reply.len();
            writeln!(std::io::stderr(), "one reply has {bytes} bytes").expect("told");
            let metrics = edge.metrics().render();
            for line in metrics
                .lines()
                .filter(|line| line.contains("stage_seconds_"))
            {
                if !line.contains("bucket") {
                    writeln!(std::io::stderr(), "{line}").expect("told");
                }
            }
            edge.stop().await;
        });
    }
}
