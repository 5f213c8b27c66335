//! Keras models: legacy HDF5 (`.h5`) and the archive of Keras 3 (`.keras`).
//!
//! Keras keeps channels last; here they come first. Convolution kernels are transposed as they are
//! read, and where a flatten or reshape makes the order visible a transpose is put before it, which
//! the following dense layer absorbs.

mod config;
mod layers;
#[cfg(test)]
mod tests;
mod weights;

use std::collections::HashMap;

use serde_json::Value;

use super::lowering::Lowering;
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Op};
use config::Layer;
use weights::Weights;

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
    values: HashMap<String, NodeId>,
}

fn lower(config: &Value, weights: &Weights) -> Result<Graph> {
    let model = config::Model::read(config)?;
    if model.layers.len() > LAYERS_MAX {
        return Err(Error::TooManyNodes {
            found: model.layers.len(),
            limit: LAYERS_MAX,
        });
    }
    let lowering = Lowering::new(model.name);
    let mut importer = Importer {
        lowering,
        weights,
        values: HashMap::new(),
    };
    let output = if model.sequential {
        importer.sequence(&model)?
    } else {
        importer.network(&model)?
    };
    importer.lowering.finish(output)
}

impl Importer<'_> {
    fn sequence(&mut self, model: &config::Model<'_>) -> Result<NodeId> {
        let mut last = None;
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

    /// Layers as their operands become known, in as many rounds as it takes.
    fn network(&mut self, model: &config::Model<'_>) -> Result<NodeId> {
        let inputs: Vec<&str> = model.ends("input_layers");
        if inputs.len() != 1 {
            let found = inputs.iter().map(|&name| name.to_owned()).collect();
            return Err(Error::Ends {
                what: "input",
                found,
            });
        }
        let mut waiting: Vec<&Layer<'_>> = model.layers.iter().collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut later = Vec::new();
            for layer in waiting {
                match self.operands(layer)? {
                    Some(operands) => self.define(layer, &operands)?,
                    None => later.push(layer),
                }
            }
            waiting = later;
            if waiting.len() == before {
                return Err(Error::Cycle {
                    node: waiting[0].name.to_owned(),
                });
            }
        }
        match model.ends("output_layers").as_slice() {
            [output] => self.named("output", output),
            outputs => {
                let found = outputs.iter().map(|&name| name.to_owned()).collect();
                Err(Error::Ends {
                    what: "output",
                    found,
                })
            }
        }
    }

    fn define(&mut self, layer: &Layer<'_>, operands: &[NodeId]) -> Result<()> {
        let id = match layer.class {
            "InputLayer" => self.input(layer)?,
            _ => self.layer(layer, operands)?,
        };
        if self.values.insert(layer.name.to_owned(), id).is_some() {
            return Err(Error::DefinedTwice {
                name: layer.name.to_owned(),
            });
        }
        Ok(())
    }

    /// The layer's operands, or none if one is not known yet.
    fn operands(&self, layer: &Layer<'_>) -> Result<Option<Vec<NodeId>>> {
        let names = layer.inbound()?;
        if names.is_empty() && layer.class != "InputLayer" {
            return Err(layer.missing("an operand"));
        }
        Ok(names
            .iter()
            .map(|&name| self.values.get(name).copied())
            .collect())
    }

    fn named(&self, node: &str, name: &str) -> Result<NodeId> {
        let undefined = || Error::UndefinedName {
            node: node.to_owned(),
            name: name.to_owned(),
        };
        self.values.get(name).copied().ok_or_else(undefined)
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
