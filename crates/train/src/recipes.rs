//! The settings that train each architecture well, so that a name and a seed reproduce a network.

use crate::adapt::Subject;
use crate::architectures::{Activation, architecture_for};
use crate::augment::Augmentation;
use crate::config::{Distillation, TrainConfig};
use crate::data::Examples;
use crate::error::Result;
use crate::fold::fold_batch_norms;
use crate::network::RangePenalty;
use crate::optimiser::Schedule;
use crate::picture::Picture;
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
            input: None,
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
    /// Shape of one example, where the architecture takes several.
    pub input: Option<Vec<usize>>,
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
    recipe_for(name, None, seed)
}

/// As [`recipe`], for examples of shape `input`.
///
/// # Errors
/// As [`architecture_for`].
pub fn recipe_for(name: &str, input: Option<&[usize]>, seed: u64) -> Result<Recipe> {
    architecture_for(name, input, None, seed)?;
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
        "cifar10-cnn" | "cifar10-he" => {
            let photographs = input.is_none_or(|shape| shape[0] > 1);
            keras_cnn(config, photographs, name == "cifar10-he")
        }
        "cifar10-shallow" => keras_cnn(config, true, true),
        _ => config,
    };
    let architecture = name.into();
    Ok(Recipe {
        architecture,
        input: input.map(<[usize]>::to_vec),
        activation: None,
        config,
        teacher: None,
    })
}

/// The settings that fine-tune `subject` on `examples` after its activations were replaced.
pub fn fine_tuning(subject: &Subject, examples: &Examples, seed: u64) -> TrainConfig {
    let base = TrainConfig {
        seed,
        ..TrainConfig::default()
    };
    let network = subject.network();
    let photographs = examples.picture().is_some_and(Picture::is_colour);
    let config = TrainConfig {
        epochs: 3,
        learning_rate: 5e-4,
        clip_norm: Some(1.0),
        ..keras_cnn(base, photographs, true)
    };
    if !subject.is_classifier() {
        return config;
    }
    // Features are computed once, so images are not distorted; dropping some takes its place.
    let input = network.nodes.first().map(|node| (node.name.clone(), 0.25));
    TrainConfig {
        learning_rate: 3e-4,
        augmentation: None,
        dropout: input.into_iter().collect(),
        ..config
    }
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
    let made = architecture_for(
        &recipe.architecture,
        recipe.input.as_deref(),
        recipe.activation,
        recipe.config.seed,
    )?;
    let mut config = TrainConfig {
        dropout: made.dropout,
        learn_polynomials: recipe.activation.is_none_or(Activation::is_learned),
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

/// The settings of both variants of the Keras network, and of the shallower one for photographs.
/// The polynomial ones keep what enters their activations small, since CKKS will evaluate them:
/// squares blow up photographs of strong contrast, so they see stronger ones than there are.
fn keras_cnn(config: TrainConfig, photographs: bool, friendly: bool) -> TrainConfig {
    let augmentation = match (photographs, friendly) {
        (true, true) => Augmentation {
            contrast: 0.3,
            ..Augmentation::photographs()
        },
        (true, false) => Augmentation::photographs(),
        (false, _) => Augmentation::digits(),
    };
    let penalty = RangePenalty {
        limit: 4.0,
        weight: 1e-3,
    };
    TrainConfig {
        epochs: if photographs { 24 } else { 6 },
        batch: 64,
        learning_rate: 2e-3,
        schedule: Schedule::Cosine { floor: 0.0 },
        warm_up_epochs: 0.5,
        weight_decay: 1e-3,
        clip_norm: Some(5.0),
        validation: 0.0,
        augmentation: Some(augmentation),
        range_penalty: friendly.then_some(penalty),
        ..config
    }
}
