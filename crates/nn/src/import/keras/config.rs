//! The JSON that describes a Keras model.

use serde_json::Value;

use crate::error::{Error, Result};

/// A model's layers.
pub(super) struct Model<'a> {
    pub(super) name: &'a str,
    pub(super) sequential: bool,
    pub(super) layers: Vec<Layer<'a>>,
    config: &'a Value,
}

/// One layer.
pub(super) struct Layer<'a> {
    pub(super) class: &'a str,
    pub(super) name: &'a str,
    config: &'a Value,
    nodes: &'a Value,
    json: &'a Value,
}

/// What a layer reads: the answer of a layer at one of its uses, or a number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand<'a> {
    Layer(&'a str, usize),
    Number(f64),
}

impl<'a> Model<'a> {
    pub(super) fn read(json: &'a Value) -> Result<Self> {
        let class = json["class_name"].as_str().unwrap_or_default();
        let sequential = class == "Sequential";
        if !sequential && !matches!(class, "Functional" | "Model") {
            return Err(Error::UnsupportedOp {
                node: "model".into(),
                op: class.to_owned(),
                hint: "save a Sequential or Functional model",
            });
        }
        // The oldest Sequential files hold the list of layers itself.
        let config = &json["config"];
        let list = if config.is_array() {
            config
        } else {
            &config["layers"]
        };
        let layers = list
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(Layer::read);
        let name = config["name"].as_str().unwrap_or("keras");
        Ok(Self {
            name,
            sequential,
            layers: layers.collect::<Result<_>>()?,
            config,
        })
    }

    /// The input or output layers.
    pub(super) fn ends(&self, key: &str) -> Vec<(&'a str, usize)> {
        let mut found = Vec::new();
        operands(&self.config[key], &mut found);
        let layers = found.into_iter().filter_map(|operand| match operand {
            Operand::Layer(name, turn) => Some((name, turn)),
            Operand::Number(_) => None,
        });
        layers.collect()
    }
}

impl<'a> Layer<'a> {
    fn read(json: &'a Value) -> Result<Self> {
        let config = &json["config"];
        let class = json["class_name"].as_str().unwrap_or_default();
        let name = config["name"]
            .as_str()
            .or(json["name"].as_str())
            .unwrap_or(class);
        let layer = Self {
            class,
            name,
            config,
            nodes: &json["inbound_nodes"],
            json,
        };
        if class.is_empty() {
            Err(layer.missing("class_name"))
        } else {
            Ok(layer)
        }
    }

    /// How often the layer is used: once, unless its weights are shared.
    pub(super) fn uses(&self) -> usize {
        self.nodes.as_array().map_or(1, |nodes| nodes.len().max(1))
    }

    /// What it reads at one of its uses, in order.
    pub(super) fn operands(&self, turn: usize) -> Result<Vec<Operand<'a>>> {
        let node = &self.nodes[turn];
        let by_name = node["kwargs"].as_object().is_some_and(|named| {
            named
                .values()
                .any(|value| value.is_object() || value.is_number() || value.is_array())
        });
        if by_name {
            let hint = "call the layer with its operands in order, without names";
            return Err(self.setting("kwargs", &node["kwargs"], hint));
        }
        let mut found = Vec::new();
        operands(node, &mut found);
        Ok(found)
    }

    /// A model used as a layer.
    pub(super) fn nested(&self) -> Result<Model<'a>> {
        Model::read(self.json)
    }

    /// Shape of one example as Keras writes it, channels last.
    pub(super) fn input_shape(&self) -> Result<Vec<usize>> {
        let shape = &self.config["batch_input_shape"];
        let shape = if shape.is_null() {
            &self.config["batch_shape"]
        } else {
            shape
        };
        let open = || Error::OpenShape {
            name: self.name.to_owned(),
            shape: shape.to_string(),
        };
        let (_, example) = shape
            .as_array()
            .and_then(|s| s.split_first())
            .ok_or_else(open)?;
        let extents: Option<Vec<usize>> = example.iter().map(natural).collect();
        extents.filter(|shape| !shape.is_empty()).ok_or_else(open)
    }

    pub(super) fn value(&self, key: &str) -> &'a Value {
        &self.config[key]
    }

    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.config[key].as_str()
    }

    /// A switch; `default` where it is not written.
    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        self.config[key].as_bool().unwrap_or(default)
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.config[key].as_f64()
    }

    /// Two extents, or one for both; `default` where it is `null`.
    pub(super) fn pair(
        &self,
        key: &'static str,
        default: Option<[usize; 2]>,
    ) -> Result<[usize; 2]> {
        let value = &self.config[key];
        let both = match value.as_array().map(Vec::as_slice) {
            Some([h, w]) => natural(h).zip(natural(w)).map(|(h, w)| [h, w]),
            // Layers over one axis are held as images of height 1.
            Some([w]) => natural(w).map(|w| [1, w]),
            Some(_) => None,
            None if self.class.contains("1D") => natural(value).map(|w| [1, w]),
            None => natural(value).map(|both| [both, both]),
        };
        match (both, default) {
            (Some(pair), _) => Ok(pair),
            (None, Some(default)) if value.is_null() => Ok(default),
            _ => Err(self.setting(key, value, "give two positive numbers")),
        }
    }

    /// Refuses a setting other than `default` (or absent).
    pub(super) fn require(
        &self,
        key: &'static str,
        default: &Value,
        hint: &'static str,
    ) -> Result<()> {
        let value = &self.config[key];
        if value.is_null() || value == default {
            return Ok(());
        }
        Err(self.setting(key, value, hint))
    }

    pub(super) fn setting(
        &self,
        attribute: &'static str,
        value: impl ToString,
        hint: &'static str,
    ) -> Error {
        let value = value.to_string();
        Error::UnsupportedAttribute {
            node: self.name.to_owned(),
            op: self.class.to_owned(),
            attribute,
            value,
            hint,
        }
    }

    pub(super) fn unsupported(&self, hint: &'static str) -> Error {
        Error::UnsupportedOp {
            node: self.name.to_owned(),
            op: self.class.to_owned(),
            hint,
        }
    }

    pub(super) fn missing(&self, what: &'static str) -> Error {
        Error::Missing {
            node: self.name.to_owned(),
            op: self.class.to_owned(),
            what,
        }
    }
}

/// A number that is a positive extent.
pub(super) fn natural(value: &Value) -> Option<usize> {
    value
        .as_u64()
        .and_then(|v| usize::try_from(v).ok())
        .filter(|&v| v > 0)
}

/// Collects the layers in `["name", use, tensor, ...]` and in the `__keras_tensor__` objects of
/// Keras 3, and the numbers beside them.
fn operands<'a>(json: &'a Value, found: &mut Vec<Operand<'a>>) {
    match json {
        Value::Array(items) => match items.as_slice() {
            [Value::String(name), Value::Number(turn), ..] => {
                let turn = turn.as_u64().unwrap_or(0) as usize;
                found.push(Operand::Layer(name, turn));
            }
            items => items.iter().for_each(|item| operands(item, found)),
        },
        Value::Object(fields) if fields.contains_key("args") => operands(&fields["args"], found),
        Value::Object(_) => operands(&json["config"]["keras_history"], found),
        Value::Number(number) => {
            found.push(Operand::Number(number.as_f64().unwrap_or(f64::NAN)));
        }
        _ => {}
    }
}
