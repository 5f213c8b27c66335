//! The settings that train each architecture well, so that a name and a seed reproduce a network.

use crate::architectures::{Activation, architecture};
use crate::augment::Augmentation;
use crate::config::{Distillation, TrainConfig};
use crate::data::Examples;
use crate::error::Result;
use crate::fold::fold_batch_norms;
use crate::network::RangePenalty;
use crate::optimiser::{Optimiser, Schedule};
use crate::progress::Progress;
use crate::trainer::{Trained, train};

/// A network to train first, whose answers the main network learns from.
#[derive(Debug, Clone, PartialEq)]
pub struct Teacher {
    /// Its recipe; a teacher has no teacher.
    pub recipe: Box<Recipe>,
    /// Softens both networks' answers.
    pub temperature: f32,
    /// Share of the soft answers in the loss.
    pub weight: f32,
}

impl Teacher {
    /// A LeNet with ReLU for digits: about ten times the work of training the CryptoNets network
    /// alone.
    pub fn for_digits(seed: u64) -> Self {
        let base = TrainConfig {
            seed,
            ..TrainConfig::default()
        };
        let config = TrainConfig {
            range_penalty: None,
            ..he_friendly(base, 8, 2e-3)
        };
        let recipe = Recipe {
            architecture: "lenet".into(),
            activation: Some(Activation::Relu),
            config,
            teacher: None,
        };
        Self {
            recipe: Box::new(recipe),
            temperature: 3.0,
            weight: 0.7,
        }
    }
}

/// An architecture with the settings that train it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Name of the architecture.
    pub architecture: String,
    /// Replaces its usual activation function.
    pub activation: Option<Activation>,
    /// Settings; its `seed` also decides the initial weights. Dropout is the architecture's.
    pub config: TrainConfig,
    /// Trained first, if given.
    pub teacher: Option<Teacher>,
}

/// The recipe for the architecture called `name`.
///
/// # Errors
/// [`Error::UnknownArchitecture`](crate::Error::UnknownArchitecture).
pub fn recipe(name: &str, seed: u64) -> Result<Recipe> {
    architecture(name, None, seed)?;
    let config = TrainConfig {
        seed,
        ..TrainConfig::default()
    };
    let config = match name {
        "cryptonets" => TrainConfig {
            batch: 64,
            ..he_friendly(config, 50, 3e-3)
        },
        "lenet" => he_friendly(config, 12, 1e-3),
        "lenet5" => TrainConfig {
            epochs: 15,
            schedule: Schedule::Cosine { floor: 0.0 },
            ..config
        },
        "cifar10-cnn" => photographs(config),
        _ => config,
    };
    let architecture = name.into();
    Ok(Recipe {
        architecture,
        activation: None,
        config,
        teacher: None,
    })
}

/// Trains `recipe` on `examples`: its teacher first, then the network; batch normalisation is
/// folded away.
///
/// # Errors
/// As [`train`].
pub fn cook(
    recipe: &Recipe,
    examples: &Examples,
    progress: &mut (dyn Progress + Send),
) -> Result<Trained> {
    let made = architecture(&recipe.architecture, recipe.activation, recipe.config.seed)?;
    let mut config = TrainConfig {
        dropout: made.dropout,
        ..recipe.config.clone()
    };
    if let Some(Teacher {
        recipe,
        temperature,
        weight,
    }) = &recipe.teacher
    {
        let teacher = cook(recipe, examples, progress)?.graph;
        let (temperature, weight) = (*temperature, *weight);
        config.distillation = Some(Distillation {
            teacher,
            temperature,
            weight,
        });
    }
    let trained = train(made.graph, examples, &config, progress)?;
    Ok(Trained {
        graph: fold_batch_norms(&trained.graph)?,
        ..trained
    })
}

fn he_friendly(config: TrainConfig, epochs: usize, learning_rate: f32) -> TrainConfig {
    TrainConfig {
        epochs,
        learning_rate,
        batch: 128,
        schedule: Schedule::Cosine { floor: 0.0 },
        warm_up_epochs: 1.0,
        weight_decay: 1e-3,
        clip_norm: Some(5.0),
        validation: 0.05,
        augmentation: Some(Augmentation::digits()),
        range_penalty: Some(RangePenalty {
            limit: 4.0,
            weight: 1e-3,
        }),
        ..config
    }
}

fn photographs(config: TrainConfig) -> TrainConfig {
    TrainConfig {
        epochs: 50,
        batch: 64,
        optimiser: Optimiser::rms_prop(),
        learning_rate: 5e-4,
        schedule: Schedule::Cosine { floor: 0.02 },
        augmentation: Some(Augmentation::photographs()),
        patience: Some(15),
        ..config
    }
}
