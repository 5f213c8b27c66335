//! The network of the article, on shares and in clear: results, hops and bytes.
//!
//! Source: "Encrypted deep learning with Syft and Keras", 2019: three convolutions of 3 x 3, each
//!     with an average pool of 2 x 2 and ReLU, and a dense layer

use scuro_mpc::transport::local::Local;
use scuro_mpc::{Error, Session, Share, Summands, fixed};

use crate::common::{random, rng, run};

const FRACTION: u32 = fixed::FRACTION_BITS;
const WINDOW: usize = 3;
const POOL: usize = 2;
const CLASSES: usize = 10;

/// A convolution with the pool behind it.
struct Layer {
    /// Height and width of the input.
    size: usize,
    inputs: usize,
    outputs: usize,
}

const LAYERS: [Layer; 3] = [
    Layer {
        size: 28,
        inputs: 1,
        outputs: 16,
    },
    Layer {
        size: 13,
        inputs: 16,
        outputs: 32,
    },
    Layer {
        size: 5,
        inputs: 32,
        outputs: 64,
    },
];

impl Layer {
    /// Height and width before the pool.
    fn valid(&self) -> usize {
        self.size + 1 - WINDOW
    }

    /// Of the input, by position of the window and place in it; channels are next to each other.
    fn windows(&self) -> Vec<usize> {
        let mut positions = Vec::new();
        for (y, x) in (0..self.valid()).flat_map(|y| (0..self.valid()).map(move |x| (y, x))) {
            for (dy, dx) in (0..WINDOW).flat_map(|dy| (0..WINDOW).map(move |dx| (dy, dx))) {
                let pixel = (y + dy) * self.size + x + dx;
                positions.extend((0..self.inputs).map(|channel| pixel * self.inputs + channel));
            }
        }
        positions
    }

    /// Of the products, by result and term.
    fn pools(&self) -> Vec<usize> {
        let pooled = self.valid() / POOL;
        let mut positions = Vec::new();
        for (y, x) in (0..pooled).flat_map(|y| (0..pooled).map(move |x| (y, x))) {
            for channel in 0..self.outputs {
                for (dy, dx) in (0..POOL).flat_map(|dy| (0..POOL).map(move |dx| (dy, dx))) {
                    let pixel = (POOL * y + dy) * self.valid() + POOL * x + dx;
                    positions.push(pixel * self.outputs + channel);
                }
            }
        }
        positions
    }

    /// Matrix of windows, of weights, of products.
    fn shape(&self) -> [usize; 3] {
        let pixels = self.valid() * self.valid();
        [pixels, WINDOW * WINDOW * self.inputs, self.outputs]
    }
}

fn on_shares(
    session: &mut Session<Local>,
    image: &Share,
    weights: &[Share],
) -> Result<Summands, Error> {
    let mut x = image.clone();
    for (layer, weights) in LAYERS.iter().zip(weights) {
        let windows = x.gather(&layer.windows())?;
        let products = session.matrix_product(&windows, weights, layer.shape())?;
        let sums = products.sums(&layer.pools(), POOL * POOL)?;
        x = session.relu_of(sums, FRACTION + (POOL * POOL).ilog2())?;
    }
    session.matrix_product(&x, &weights[3], [1, x.len(), CLASSES])
}

fn in_clear(image: &[u64], weights: &[Vec<u64>]) -> Vec<f64> {
    let unit = f64::from(1 << FRACTION);
    let real = |values: &[u64]| -> Vec<f64> {
        values
            .iter()
            .map(|&value| value as i64 as f64 / unit)
            .collect()
    };
    let mut x = real(image);
    for (layer, weights) in LAYERS.iter().zip(weights) {
        let [m, k, n] = layer.shape();
        let windows: Vec<f64> = layer.windows().iter().map(|&at| x[at]).collect();
        let products = product(&windows, &real(weights), [m, k, n]);
        let pools = layer.pools();
        let mean = |places: &[usize]| places.iter().map(|&at| products[at]).sum::<f64>() / 4.0;
        x = pools
            .chunks_exact(POOL * POOL)
            .map(|pool| mean(pool).max(0.0))
            .collect();
    }
    product(&x, &real(&weights[3]), [1, x.len(), CLASSES])
}

fn product(x: &[f64], y: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let entry = |at: usize| (0..k).map(|j| x[at / n * k + j] * y[j * n + at % n]).sum();
    (0..m * n).map(entry).collect()
}

#[test]
fn the_network_of_the_article_takes_seventeen_hops_and_a_hundred_kilobytes() {
    let image = random(1, 28 * 28, FRACTION);
    let shapes = LAYERS.iter().map(|layer| layer.shape()[1] * layer.outputs);
    let shapes: Vec<usize> = shapes.chain([64 * CLASSES]).collect();
    let weights: Vec<Vec<u64>> = shapes
        .iter()
        .map(|&len| random(len as u64, len, 15))
        .collect();
    let shared = Share::deal(&image, &mut rng(2));
    let parts: Vec<[Share; 3]> = weights
        .iter()
        .map(|w| Share::deal(w, &mut rng(3)))
        .collect();
    let results = run(4, |session| {
        let i = session.party().index();
        let weights: Vec<Share> = parts.iter().map(|parts| parts[i].clone()).collect();
        let scores = on_shares(session, &shared[i], &weights).unwrap();
        (scores, session.transport().traffic())
    });
    for (_, traffic) in &results {
        // The client's message and the answer to it are two more.
        assert_eq!(traffic.hops, 15);
        assert!(traffic.sent < 108_000, "{traffic:?}");
    }
    let scores = results.map(|(summands, _)| summands);
    let scores = fixed::decode(&Summands::open(&scores).unwrap(), 2 * FRACTION);
    let expected = in_clear(&image, &weights);
    let largest = expected
        .iter()
        .fold(0.0f64, |max, score| max.max(score.abs()));
    for (found, expected) in scores.iter().zip(&expected) {
        let off = (f64::from(*found) - expected).abs();
        assert!(off < 1e-3 && off < largest / 50.0, "{found} for {expected}");
    }
}
