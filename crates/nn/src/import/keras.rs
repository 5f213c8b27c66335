//! Keras models: legacy HDF5 (`.h5`) and the archive of Keras 3 (`.keras`).
//!
//! Keras keeps channels last; here they come first. Convolution kernels are transposed as they are
//! read, and where a flatten or reshape makes the order visible a transpose is put before it, which
//! the following dense layer absorbs.

mod activations;
mod config;
mod layers;
mod shapes;
#[cfg(test)]
mod tests;
mod weights;

use std::collections::HashMap;

use serde_json::Value;

use super::lowering::Lowering;
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Op};
use config::{Layer, Operand};
use weights::{NESTING_MAX, Weights};

/// Most layers of a model.
const LAYERS_MAX: usize = 4096;

/// Reads a legacy `.h5` model.
///
/// # Errors
/// [`Error::Hdf5`], [`Error::Json`], or a fault naming layer or tensor.
pub fn from_h5(bytes: &[u8]) -> Result<Graph> {
    let (weights, config) = Weights::open_h5(bytes)?;
    lower(&config, &weights)
}

/// Reads a `.keras` archive.
///
/// # Errors
/// [`Error::Zip`] and as [`from_h5`].
pub fn from_archive(bytes: &[u8]) -> Result<Graph> {
    let (weights, config) = Weights::open_archive(bytes)?;
    lower(&config, &weights)
}

/// A value under translation: `[h, w, c]` of Keras is held as `[c, h, w]`, all other shapes as they
/// are.
struct Importer<'a> {
    lowering: Lowering,
    weights: &'a Weights,
    /// Names of the models that the layer at hand is nested in.
    scope: Vec<&'a str>,
}

fn lower(config: &Value, weights: &Weights) -> Result<Graph> {
    let model = config::Model::read(config)?;
    let mut importer = Importer {
        lowering: Lowering::new(model.name),
        weights,
        scope: Vec::new(),
    };
    let output = importer.model(&model, None)?;
    importer.lowering.finish(output)
}

impl<'a> Importer<'a> {
    /// All layers of a model; `given` is what it reads if it is nested.
    fn model(&mut self, model: &config::Model<'a>, given: Option<NodeId>) -> Result<NodeId> {
        let found = model.layers.len();
        if found > LAYERS_MAX {
            return Err(Error::TooManyNodes {
                found,
                limit: LAYERS_MAX,
            });
        }
        if model.sequential {
            self.sequence(model, given)
        } else {
            self.network(model, given)
        }
    }

    /// A model used as a layer.
    fn nested(&mut self, layer: &Layer<'a>, input: NodeId) -> Result<NodeId> {
        if self.scope.len() == NESTING_MAX {
            return Err(layer.unsupported("nest models less deeply"));
        }
        self.scope.push(layer.name);
        let answer = self.model(&layer.nested()?, Some(input));
        self.scope.pop();
        answer
    }

    fn sequence(&mut self, model: &config::Model<'a>, given: Option<NodeId>) -> Result<NodeId> {
        let mut last = given;
        for layer in &model.layers {
            let input = match last {
                Some(id) => id,
                None => self.input(layer)?,
            };
            let is_input = layer.class == "InputLayer";
            last = Some(if is_input {
                input
            } else {
                self.layer(layer, &[input])?
            });
        }
        last.ok_or(Error::NoGraph)
    }

    /// Uses of layers as their operands become known, in as many rounds as it takes.
    fn network(&mut self, model: &config::Model<'a>, given: Option<NodeId>) -> Result<NodeId> {
        single("input", &model.ends("input_layers"))?;
        let uses = model
            .layers
            .iter()
            .flat_map(|layer| (0..layer.uses()).map(move |turn| (layer, turn)));
        let mut waiting: Vec<(&Layer<'a>, usize)> = uses.collect();
        let mut values = Values {
            uses: model.layers.iter().map(|l| (l.name, l.uses())).collect(),
            ..Values::default()
        };
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut later = Vec::new();
            for (layer, turn) in waiting {
                let id = match (layer.class, given) {
                    ("InputLayer", Some(given)) => given,
                    ("InputLayer", None) => self.input(layer)?,
                    _ => match values.operands(layer, turn)? {
                        Some(operands) => self.used(layer, &operands)?,
                        None => {
                            later.push((layer, turn));
                            continue;
                        }
                    },
                };
                values.define(layer, turn, id)?;
            }
            waiting = later;
            if waiting.len() == before {
                return Err(Error::Cycle {
                    node: waiting[0].0.name.to_owned(),
                });
            }
        }
        let (name, turn) = single("output", &model.ends("output_layers"))?;
        values.at(name, turn).ok_or_else(|| Error::UndefinedName {
            node: "output".to_owned(),
            name: name.to_owned(),
        })
    }

    fn used(&mut self, layer: &Layer<'a>, operands: &[Fed]) -> Result<NodeId> {
        let values: Option<Vec<NodeId>> = operands
            .iter()
            .map(|operand| match operand {
                Fed::Value(id) => Some(*id),
                Fed::Number(_) => None,
            })
            .collect();
        match values {
            Some(values) => self.layer(layer, &values),
            None => self.arithmetic(layer, operands),
        }
    }

    fn input(&mut self, layer: &Layer<'_>) -> Result<NodeId> {
        let shape = layer.input_shape()?;
        let shape = match *shape.as_slice() {
            [h, w, c] => vec![c, h, w],
            _ => shape,
        };
        let name = if layer.class == "InputLayer" {
            layer.name
        } else {
            "input"
        };
        self.lowering.push(name, Op::Input { shape }, &[])
    }
}

/// What a use of a layer reads.
enum Fed {
    Value(NodeId),
    Number(f32),
}

/// Answers of the layers of one model, by name and use.
#[derive(Default)]
struct Values<'a> {
    answers: HashMap<(&'a str, usize), NodeId>,
    /// How often each layer is used.
    uses: HashMap<&'a str, usize>,
}

impl<'a> Values<'a> {
    fn define(&mut self, layer: &Layer<'a>, turn: usize, id: NodeId) -> Result<()> {
        if self.answers.insert((layer.name, turn), id).is_some() {
            return Err(Error::DefinedTwice {
                name: layer.name.to_owned(),
            });
        }
        Ok(())
    }

    /// The answer of a layer; the use of one that is used once may have any number.
    fn at(&self, name: &'a str, turn: usize) -> Option<NodeId> {
        let turn = match self.uses.get(name) {
            Some(1) => 0,
            _ => turn,
        };
        self.answers.get(&(name, turn)).copied()
    }

    /// The operands of a use, or none if one is not known yet.
    fn operands(&self, layer: &Layer<'a>, turn: usize) -> Result<Option<Vec<Fed>>> {
        let operands = layer.operands(turn)?;
        if operands.is_empty() {
            return Err(layer.missing("an operand"));
        }
        Ok(operands
            .iter()
            .map(|operand| match *operand {
                Operand::Layer(name, turn) => self.at(name, turn).map(Fed::Value),
                Operand::Number(number) => Some(Fed::Number(number as f32)),
            })
            .collect())
    }
}

/// The only end of a model.
fn single<'a>(what: &'static str, ends: &[(&'a str, usize)]) -> Result<(&'a str, usize)> {
    match ends {
        [end] => Ok(*end),
        ends => Err(Error::Ends {
            what,
            found: ends.iter().map(|(name, _)| (*name).to_owned()).collect(),
        }),
    }
}
