//! The demo's network on a device: right, and how fast. For figures:
//! `SCURO_RATE_FRAMES=2000 cargo test --release -p scuro-server --test edge rate -- --nocapture`.

use std::io::Write;
use std::time::Instant;

use scuro_nn::data::{self, Preprocess};
use scuro_nn::graph::Graph;
use scuro_nn::reference::Executor;
use scuro_nn::tensor::Tensor;
use scuro_server::edge::frame::FrameId;
use scuro_server::edge::intake::{Arrival, Form};
use scuro_server::edge::service::Edge;

use crate::support::site::Site;
use crate::support::{FIRST, Protected, World, eventually, run};

/// Number of frames of a measurement.
const FRAMES: &str = "SCURO_RATE_FRAMES";
/// Frames of a test.
const FEW: usize = 12;

/// The demo's network and images for it.
fn demo(frames: usize) -> (Protected, Graph, data::Dataset) {
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
    (protected, network, load("test", frames))
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

/// Tells quantiles of the time from frame in to encrypted inference on disk.
fn tell(what: &str, edge: &Edge) {
    let quantiles = edge.spool().latencies().quantiles([0.5, 0.99]);
    let [half, most] = quantiles.expect("latencies");
    let line = format!("{what}: p50 {half:?}, p99 {most:?}");
    writeln!(std::io::stderr(), "{line}").expect("told");
}

/// What the network says without encryption.
fn clear_labels(network: &Graph, images: &data::Dataset) -> Vec<usize> {
    let prepared = Preprocess::default().prepare(images.shape, network.input_shape());
    let prepared = prepared.expect("fits");
    let executor = Executor::new(network).expect("a network");
    let answer = |index| {
        let mut values = vec![0.0; network.input_shape().iter().product()];
        prepared.fill(images.image(index), &mut values);
        let input = Tensor::new(network.input_shape(), values).expect("tensor");
        executor.run(&input).expect("an answer").argmax()
    };
    (0..images.len()).map(answer).collect()
}

#[test]
fn the_demos_network_answers_as_it_does_in_clear_at_the_rate_that_is_told() {
    let asked = std::env::var(FRAMES)
        .ok()
        .and_then(|frames| frames.parse().ok());
    let frames = asked.unwrap_or(FEW);
    let paced = frames / 4;
    let (protected, network, images) = demo(frames);
    let expected = clear_labels(&network, &images);
    for workers in [1, 2] {
        run(async {
            let site = Site::bare(World::new(), |options| options.workers = workers).await;
            site.deploy(&protected).await;
            for number in 0..paced {
                offer(&site.edge, &images, number).await;
                eventually("its turn", || site.depth().frames == 0).await;
            }
            tell(&format!("{workers} worker(s), one at a time"), &site.edge);
            let start = Instant::now();
            for number in paced..frames {
                offer(&site.edge, &images, number).await;
            }
            let vault = &site.world.vault;
            eventually("all answers", || vault.count() == frames).await;
            let rate = (frames - paced) as f64 / start.elapsed().as_secs_f64();
            let what = format!("{workers} worker(s), full queue: {rate:.1} frames/s");
            tell(&what, &site.edge);
            tell_stages(&site.edge, vault.inferences()[0].reply.len());
            let labels = vault.labels(&protected);
            let agree = labels
                .iter()
                .zip(&expected)
                .filter(|(found, clear)| found == clear)
                .count();
            assert!(
                1000 * agree >= 995 * frames,
                "{agree} of {frames} agree with the clear run"
            );
            site.stop().await;
        });
    }
}

fn tell_stages(edge: &Edge, reply_bytes: usize) {
    let mut out = std::io::stderr();
    writeln!(out, "one reply has {reply_bytes} bytes").expect("told");
    let metrics = edge.metrics().render();
    let stages = metrics
        .lines()
        .filter(|line| line.contains("stage_seconds_"));
    for line in stages.filter(|line| !line.contains("bucket")) {
        writeln!(out, "{line}").expect("told");
    }
}
