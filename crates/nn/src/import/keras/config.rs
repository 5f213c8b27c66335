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

    /// Names of the input or output layers.
    pub(super) fn ends(&self, key: &str) -> Vec<&'a str> {
        let mut names = Vec::new();
        references(&self.config[key], &mut names);
        names
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
        };
        if class.is_empty() {
            Err(layer.missing("class_name"))
        } else {
            Ok(layer)
        }
    }

    /// Names of the layers it reads, in order.
    pub(super) fn inbound(&self) -> Result<Vec<&'a str>> {
        let uses = self.nodes.as_array().map_or(0, Vec::len);
        if uses > 1 {
            return Err(self.setting(
                "inbound_nodes",
                uses,
                "use a layer once; copy it to use it again",
            ));
        }
        let mut names = Vec::new();
        references(self.nodes, &mut names);
        Ok(names)
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
            Some(_) => None,
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

/// Collects the layer names in `["name", node, tensor, ...]` and in the `__keras_tensor__` objects
/// of Keras 3.
fn references<'a>(json: &'a Value, names: &mut Vec<&'a str>) {
    match json {
        Value::Array(items) => match items.as_slice() {
            [Value::String(name), Value::Number(_), ..] => names.push(name),
            items => items.iter().for_each(|item| references(item, names)),
        },
        Value::Object(fields) if fields.contains_key("args") => references(&fields["args"], names),
        Value::Object(_) => references(&json["config"]["keras_history"], names),
        _ => {}
    }
}
