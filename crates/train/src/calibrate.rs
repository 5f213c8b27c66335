//! What makes the scores of networks comparable that were trained apart: silence about classes
//! that were never seen, and a temperature.

use scuro_nn::graph::{Graph, Op};

use crate::data::Examples;
use crate::error::{Error, Result};
use crate::trainer::logits;

/// Smallest and largest inverse temperature.
const SHARPNESS: (f64, f64) = (1.0 / 16.0, 16.0);
/// Steps of the search for it.
const STEPS: usize = 50;

/// Logarithms of how frequent each class is: what training adds to the scores so that the network
/// learns what a class looks like and not how frequent it is. A class that is absent counts as if
/// `unseen` of its examples were there.
///
/// # Panics
/// If a label is not below `classes`.
///
/// Source: Menon et al. 2021 (logit adjustment), section 4; Ren et al. 2020 (balanced softmax).
pub fn log_prior(labels: &[usize], classes: usize, unseen: f64) -> Vec<f32> {
    let mut counts = vec![0.0; classes];
    labels.iter().for_each(|&label| counts[label] += 1.0);
    let all = labels.len() as f64;
    let log = |count: f64| (count.max(unseen) / all).ln() as f32;
    counts.into_iter().map(log).collect()
}

/// A network that has no opinion on `classes`: their score is 0, and the scores of all others have
/// mean 0, which changes no choice between them.
///
/// Without it the scores of an unseen class are as low as training could make them, and a mean
/// over networks would never choose a class that most of them have not seen.
///
/// # Errors
/// [`Error::LastLayer`] unless the network ends in a dense layer.
pub fn silence(graph: &Graph, unseen: &[usize]) -> Result<Graph> {
    let mut graph = graph.clone();
    let (weight, bias) = last_layer(&mut graph)?;
    let classes = bias.len();
    let columns = weight.len() / classes.max(1);
    let seen: Vec<usize> = (0..classes)
        .filter(|class| !unseen.contains(class))
        .collect();
    for (values, width) in [(weight, columns), (bias, 1)] {
        for column in 0..width {
            let at = |class: usize| class * width + column;
            let sum: f64 = seen.iter().map(|&class| f64::from(values[at(class)])).sum();
            let mean = (sum / seen.len().max(1) as f64) as f32;
            seen.iter().for_each(|&class| values[at(class)] -= mean);
            let silent = unseen.iter().filter(|class| **class < classes);
            silent.for_each(|&class| values[at(class)] = 0.0);
        }
    }
    Ok(graph)
}

/// The network with its scores divided by the temperature under which the labels of `examples` are
/// most likely, and that temperature. `log_prior` is what training added to the scores.
///
/// Labels count as a little uncertain, as one more example of either kind would make them (Platt
/// 1999), so that a network without errors has a temperature too.
///
/// Source: Guo, Pleiss, Sun, Weinberger 2017, section 4.2.
///
/// # Errors
/// [`Error::LastLayer`] unless the network ends in a dense layer; [`Error`] if the network and the
/// examples do not fit.
pub fn calibrate(
    graph: &Graph,
    examples: &Examples,
    log_prior: Option<&[f32]>,
) -> Result<(Graph, f64)> {
    let scores = logits(graph, examples)?;
    let classes = scores.len() / examples.len().max(1);
    let rows: Vec<(&[f32], usize)> = scores
        .chunks_exact(classes.max(1))
        .zip(examples.labels().iter().copied())
        .collect();
    let sharpness = sharpest(|sharpness| loss(&rows, log_prior, sharpness));
    let mut graph = graph.clone();
    let (weight, bias) = last_layer(&mut graph)?;
    let scaled = weight.iter_mut().chain(bias);
    scaled.for_each(|value| *value = (f64::from(*value) * sharpness) as f32);
    Ok((graph, 1.0 / sharpness))
}

/// Weights and biases of the dense layer at the end.
fn last_layer(graph: &mut Graph) -> Result<(&mut [f32], &mut [f32])> {
    let output = graph.output.0;
    let node = &mut graph.nodes[output];
    match &mut node.op {
        Op::Dense {
            weight,
            bias: Some(bias),
        } => Ok((&mut weight.data, &mut bias.data)),
        _ => Err(Error::LastLayer {
            found: node.name.clone(),
        }),
    }
}

/// Mean cross-entropy of `softmax(sharpness * z + log_prior)` against uncertain labels.
fn loss(rows: &[(&[f32], usize)], log_prior: Option<&[f32]>, sharpness: f64) -> f64 {
    let doubt = 1.0 / (rows.len() as f64 + 2.0);
    let one = |(scores, label): &(&[f32], usize)| -> f64 {
        let added = |class: usize| log_prior.map_or(0.0, |prior| f64::from(prior[class]));
        let score = |(class, z): (usize, &f32)| sharpness * f64::from(*z) + added(class);
        let scores: Vec<f64> = scores.iter().enumerate().map(score).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - top).exp()).sum();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        top + sum.ln() - (1.0 - doubt) * scores[*label] - doubt * mean
    };
    rows.iter().map(one).sum::<f64>() / rows.len().max(1) as f64
}

/// The minimum of a function with one valley, by golden sections of the logarithm.
fn sharpest(loss: impl Fn(f64) -> f64) -> f64 {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (SHARPNESS.0.ln(), SHARPNESS.1.ln());
    for _ in 0..STEPS {
        let width = golden * (high - low);
        let (left, right) = (high - width, low + width);
        if loss(left.exp()) < loss(right.exp()) {
            high = right;
        } else {
            low = left;
        }
    }
    f64::midpoint(low, high).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use scuro_nn::graph::GraphBuilder;
    use scuro_nn::tensor::Tensor;

    /// `weight x`, for examples of as many values as there are classes.
    fn dense(weight: Vec<f32>, bias: Vec<f32>) -> Graph {
        let classes = bias.len();
        let mut builder = GraphBuilder::new("net", [weight.len() / classes]);
        let last = builder.last();
        let op = Op::Dense {
            weight: Tensor::new([classes, weight.len() / classes], weight).unwrap(),
            bias: Some(Tensor::vector(bias)),
        };
        builder.push("dense".to_owned(), op, &[last]);
        builder.finish().unwrap()
    }

    #[test]
    fn priors_are_logarithms_of_frequencies() {
        let prior = log_prior(&[0, 0, 0, 1], 3, 0.5);
        let expected = [0.75f32.ln(), 0.25f32.ln(), 0.125f32.ln()];
        assert_eq!(prior, expected);
    }

    #[test]
    fn a_silenced_class_scores_nothing_and_the_others_keep_their_order() {
        let graph = dense(vec![1.0, 2.0, 3.0, 4.0, -9.0, -9.0], vec![1.0, 0.0, -5.0]);
        let examples = Examples::new(vec![2], vec![1.0, -2.0, 0.5, 0.5], vec![0, 1]).unwrap();
        let before = logits(&graph, &examples).unwrap();
        let after = logits(&silence(&graph, &[2]).unwrap(), &examples).unwrap();
        for (b, a) in before.chunks(3).zip(after.chunks(3)) {
            assert_eq!(a[2], 0.0);
            assert!((a[0] + a[1]).abs() < 1e-6);
            assert!((b[0] - b[1] - (a[0] - a[1])).abs() < 1e-6);
        }
    }

    #[test]
    fn a_temperature_is_found_again() {
        // Scores are the log odds of labels that are drawn by them, times 4.
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for i in 1..20 {
            let share = f64::from(i) / 20.0;
            let score = 2.0 * (share / (1.0 - share)).ln();
            for draw in 0..20 {
                images.extend([score as f32, -score as f32]);
                labels.push(usize::from(draw >= i));
            }
        }
        let examples = Examples::new(vec![2], images, labels).unwrap();
        let graph = dense(vec![1.0, 0.0, 0.0, 1.0], vec![0.0; 2]);
        let (cooler, temperature) = calibrate(&graph, &examples, None).unwrap();
        assert!((temperature - 4.0).abs() < 0.1, "{temperature}");
        let (_, again) = calibrate(&cooler, &examples, None).unwrap();
        assert!((again - 1.0).abs() < 0.01, "{again}");
    }

    #[test]
    fn a_network_without_errors_has_a_temperature() {
        let images = (0..40).flat_map(|i| [f32::from(i % 2 == 0), f32::from(i % 2 == 1)]);
        let labels = (0..40).map(|i| i % 2).collect();
        let examples = Examples::new(vec![2], images.collect(), labels).unwrap();
        let graph = dense(vec![1.0, 0.0, 0.0, 1.0], vec![0.0; 2]);
        let (_, temperature) = calibrate(&graph, &examples, None).unwrap();
        assert!(
            temperature > 1.0 / 16.0 + 0.01 && temperature < 1.0,
            "{temperature}"
        );
    }

    #[test]
    fn a_network_that_does_not_end_in_a_dense_layer_is_refused() {
        let mut builder = GraphBuilder::new("net", [2]);
        let last = builder.last();
        builder.push("square".to_owned(), Op::Square, &[last]);
        let silenced = silence(&builder.finish().unwrap(), &[0]);
        assert!(matches!(silenced, Err(Error::LastLayer { .. })));
    }
}
