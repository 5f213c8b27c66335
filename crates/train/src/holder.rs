//! The network of one holder of an ensemble, trained on the holder's own examples alone.

use scuro_nn::graph::Graph;

use crate::calibrate::{calibrate, log_prior, silence};
use crate::config::TrainConfig;
use crate::data::Examples;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::recipes::{Recipe, cook};
use crate::trainer::score;

/// Share of a holder's own examples that its temperature is fitted on.
const OWN_HELD_OUT: f32 = 0.05;
/// Examples that an absent class counts for in the prior: so few that nothing is learned of it.
const UNSEEN: f64 = 1e-3;

/// Whether the scores of a holder are made to be added to those of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// As training alone leaves them.
    Plain,
    /// Comparable with those of holders who saw other classes, or the same in other proportions:
    ///
    /// * training adds the logarithm of how frequent each class is ([`log_prior`]), so that the
    ///   network learns what classes look like and not how frequent they are here;
    /// * classes that were never seen score 0 ([`silence`]);
    /// * scores are divided by a temperature fitted on own examples ([`calibrate`]).
    Comparable,
}

/// A holder's network and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    /// The network.
    pub graph: Graph,
    /// Examples of each class that it has, those for the temperature among them.
    pub histogram: Vec<usize>,
    /// What its scores were divided by; 1 for plain ones.
    pub temperature: f64,
    /// Accuracy on its own examples that it was not trained on.
    pub own_accuracy: f64,
}

/// Trains `recipe` on a holder's `own` examples; its last epoch is kept.
///
/// # Errors
/// [`Error::Label`] for a label that is no class; as [`cook`], [`silence`] and [`calibrate`].
pub fn train_holder(
    recipe: &Recipe,
    own: &Examples,
    classes: usize,
    scores: Scores,
    progress: &mut (dyn Progress + Send),
) -> Result<Holder> {
    if let Some(example) = own.labels().iter().position(|&label| label >= classes) {
        let found = own.labels()[example];
        return Err(Error::Label {
            example,
            found,
            classes,
        });
    }
    // What could choose the best epoch is the temperature's.
    let (training, rest) = own.split(OWN_HELD_OUT, recipe.config.seed)?;
    let prior = match scores {
        Scores::Plain => None,
        Scores::Comparable => Some(log_prior(training.labels(), classes, UNSEEN)),
    };
    let recipe = Recipe {
        config: TrainConfig {
            validation: 0.0,
            log_prior: prior.clone(),
            ..recipe.config.clone()
        },
        ..recipe.clone()
    };
    let mut histogram = vec![0; classes];
    own.labels().iter().for_each(|&label| histogram[label] += 1);
    let trained = cook(&recipe, &training, progress)?.graph;
    let (graph, temperature) = match prior {
        None => (trained, 1.0),
        Some(prior) => {
            let unseen = (0..classes).filter(|&class| histogram[class] == 0);
            let silent = silence(&trained, &unseen.collect::<Vec<_>>())?;
            calibrate(&silent, &rest, Some(&prior))?
        }
    };
    Ok(Holder {
        own_accuracy: score(&graph, &rest)?.accuracy,
        graph,
        histogram,
        temperature,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipes::recipe;
    use scuro_nn::data::{Split, synthetic};

    #[test]
    fn a_class_that_was_never_seen_scores_nothing() {
        let all = Examples::from_dataset(&synthetic::dataset(Split::Train, 600));
        let seen: Vec<usize> = (0..600)
            .filter(|&i| !all.labels()[i].is_multiple_of(3))
            .collect();
        let mut recipe = recipe("mlp", 3).unwrap();
        (recipe.config.epochs, recipe.config.batch) = (15, 32);
        let own = all.select(&seen);
        let of = |scores| train_holder(&recipe, &own, 10, scores, &mut ()).unwrap();
        let (plain, comparable) = (of(Scores::Plain), of(Scores::Comparable));
        assert_eq!(plain.histogram[3], 0);
        assert_eq!(plain.histogram.iter().sum::<usize>(), seen.len());
        let largest = |holder: &Holder| {
            let scores = crate::trainer::logits(&holder.graph, &all).unwrap();
            let rows = scores.chunks_exact(10);
            rows.map(|row| row[3].abs()).fold(0.0, f32::max)
        };
        assert_eq!(largest(&comparable), 0.0);
        assert!(largest(&plain) > 1.0, "{}", largest(&plain));
        assert!(comparable.own_accuracy > 0.6 && comparable.temperature != 1.0);
    }
}
