//! Where Keras keeps the weights of a layer.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use hdf5_reader::error::Error as Hdf5Error;
use hdf5_reader::{Dataset, Hdf5File, OpenOptions};
use serde_json::Value;
use zip::ZipArchive;

use crate::error::{Error, Result, TensorFault};
use crate::import::MODEL_LIMIT;
use crate::tensor::Tensor;

/// Most bytes of a `config.json`.
const CONFIG_LIMIT: u64 = 16 << 20;
/// Most values of one tensor.
const VALUES_MAX: u64 = 1 << 28;
/// Most models nested in each other.
pub(super) const NESTING_MAX: usize = 8;
/// Most variables of one layer that are looked for.
const VARIABLES_MAX: usize = 16;

/// The stored variables of a model.
pub(super) struct Weights {
    file: Hdf5File,
    layout: Layout,
}

enum Layout {
    /// `.h5`: `model_weights/<layer>`, order in the attribute `weight_names`.
    Legacy,
    /// `.keras`: `<group>/vars/<i>`; the groups by the layer's name, after those of the models
    /// that it is nested in.
    Archive(HashMap<String, String>),
}

impl Weights {
    /// Opens a legacy file; also returns its `model_config`.
    pub(super) fn open_h5(bytes: &[u8]) -> Result<(Self, Value)> {
        let file = open(bytes)?;
        let root = file.root_group().map_err(|e| hdf5("the root group", e))?;
        let attribute = root.attribute("model_config").and_then(|a| a.read_string());
        let text = attribute.map_err(|e| hdf5("the attribute model_config", e))?;
        let config = json("model_config", text.as_bytes())?;
        Ok((
            Self {
                file,
                layout: Layout::Legacy,
            },
            config,
        ))
    }

    /// Opens an archive; also returns its `config.json`.
    pub(super) fn open_archive(bytes: &[u8]) -> Result<(Self, Value)> {
        let config = json("config.json", &member(bytes, "config.json", CONFIG_LIMIT)?)?;
        let file = open(&member(bytes, "model.weights.h5", MODEL_LIMIT)?)?;
        let groups = archive_groups(&file, &config);
        Ok((
            Self {
                file,
                layout: Layout::Archive(groups),
            },
            config,
        ))
    }

    /// Variables of `layer`, which is nested in the models `scope`, in the order that Keras creates
    /// them.
    pub(super) fn of(&self, scope: &[&str], layer: &str) -> Result<Vec<(String, Tensor)>> {
        match &self.layout {
            Layout::Legacy => self.legacy(scope, layer),
            Layout::Archive(groups) => {
                let path = [scope, &[layer]].concat().join("/");
                let usual = format!("layers/{}", path.replace('/', "/layers/"));
                self.archived(groups.get(&path).unwrap_or(&usual))
            }
        }
    }

    /// A nested model's variables all lie in the group of the outermost model.
    fn legacy(&self, scope: &[&str], layer: &str) -> Result<Vec<(String, Tensor)>> {
        let path = format!("model_weights/{}", scope.first().unwrap_or(&layer));
        let group = self.file.group(&path).map_err(|e| hdf5(&path, e))?;
        let names = group
            .attribute("weight_names")
            .and_then(|a| a.read_strings());
        let names = names.map_err(|e| hdf5(&format!("the attribute weight_names of {path}"), e))?;
        let own = |name: &&String| scope.is_empty() || name.rsplit('/').nth(1) == Some(layer);
        names
            .iter()
            .filter(own)
            .map(|name| self.tensor(&format!("{path}/{name}")))
            .collect()
    }

    fn archived(&self, group: &str) -> Result<Vec<(String, Tensor)>> {
        let path = format!("{group}/vars");
        let vars = self.file.group(&path).map_err(|e| hdf5(&path, e))?;
        let (_, mut names) = vars.member_names().map_err(|e| hdf5(&path, e))?;
        names.retain(|name| {
            name.parse::<usize>()
                .is_ok_and(|index| index < VARIABLES_MAX)
        });
        names.sort_by_key(|name| name.parse::<usize>().unwrap_or(usize::MAX));
        names
            .iter()
            .map(|name| self.tensor(&format!("{path}/{name}")))
            .collect()
    }

    fn tensor(&self, path: &str) -> Result<(String, Tensor)> {
        let set = self.file.dataset(path).map_err(|e| hdf5(path, e))?;
        let fault = |fault| Error::StoredTensor {
            tensor: path.to_owned(),
            fault,
        };
        let extents = || {
            set.shape()
                .iter()
                .map(|&e| e.min(i64::MAX as u64) as i64)
                .collect()
        };
        let count = set.num_elements().map_err(|e| hdf5(path, e))?;
        if count > VALUES_MAX {
            return Err(fault(TensorFault::Extents { extents: extents() }));
        }
        let data = numbers(&set).map_err(|e| hdf5(path, e))?;
        let shape: Vec<usize> = set.shape().iter().map(|&extent| extent as usize).collect();
        let tensor = Tensor::new(shape, data)?;
        match tensor.first_non_finite() {
            Some(position) => Err(fault(TensorFault::NonFinite { position })),
            None => Ok((path.to_owned(), tensor)),
        }
    }
}

/// The values, of whichever type: counters, such as that of `Normalization`, are whole numbers.
fn numbers(set: &Dataset) -> std::result::Result<Vec<f32>, Hdf5Error> {
    let first = match set.read_array::<f32>() {
        Ok(array) => return Ok(array.iter().copied().collect()),
        Err(error) => error,
    };
    if let Ok(array) = set.read_array::<f64>() {
        return Ok(array.iter().map(|&v| v as f32).collect());
    }
    if let Ok(array) = set.read_array::<i32>() {
        return Ok(array.iter().map(|&v| v as f32).collect());
    }
    match set.read_array::<i64>() {
        Ok(array) => Ok(array.iter().map(|&v| v as f32).collect()),
        Err(_) => Err(first),
    }
}

fn open(bytes: &[u8]) -> Result<Hdf5File> {
    let options = OpenOptions::default()
        .with_max_read_bytes(MODEL_LIMIT as usize)
        .with_max_chunk_bytes(MODEL_LIMIT as usize);
    Hdf5File::from_bytes_with_options(bytes, options).map_err(|e| hdf5("the file", e))
}

fn hdf5(what: &str, source: Hdf5Error) -> Error {
    Error::Hdf5 {
        what: what.to_owned(),
        source: Box::new(source),
    }
}

fn json(what: &'static str, text: &[u8]) -> Result<Value> {
    serde_json::from_slice(text).map_err(|source| Error::Json { what, source })
}

fn member(bytes: &[u8], name: &'static str, limit: u64) -> Result<Vec<u8>> {
    let fault = |source| Error::Zip {
        member: name,
        source,
    };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(fault)?;
    let file = archive.by_name(name).map_err(fault)?;
    let mut out = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut out)
        .map_err(|e| fault(e.into()))?;
    if out.len() as u64 > limit {
        return Err(Error::FileTooLarge {
            path: name.into(),
            limit,
        });
    }
    Ok(out)
}

/// Which group of the archive holds which layer.
///
/// Newer Keras writes the layer's name on the group; older numbers the groups by class in the order
/// of the layers.
fn archive_groups(file: &Hdf5File, config: &Value) -> HashMap<String, String> {
    let mut groups = HashMap::new();
    named_groups(file, "layers", "", 0, &mut groups);
    if groups.is_empty() {
        numbered_groups(config, "layers", "", &mut groups);
    }
    groups
}

fn named_groups(
    file: &Hdf5File,
    path: &str,
    scope: &str,
    depth: usize,
    groups: &mut HashMap<String, String>,
) {
    let members = file.group(path).and_then(|layers| layers.member_names());
    for group in members.map_or_else(|_| Vec::new(), |(groups, _)| groups) {
        let path = format!("{path}/{group}");
        let vars = file.group(&format!("{path}/vars"));
        let Ok(name) = vars.and_then(|vars| vars.attribute("name")?.read_string()) else {
            continue;
        };
        let name = format!("{scope}{name}");
        if depth < NESTING_MAX {
            let (path, scope) = (format!("{path}/layers"), format!("{name}/"));
            named_groups(file, &path, &scope, depth + 1, groups);
        }
        groups.insert(name, path);
    }
}

fn numbered_groups(config: &Value, path: &str, scope: &str, groups: &mut HashMap<String, String>) {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let layers = config["config"]["layers"].as_array();
    for layer in layers.map_or(&[][..], Vec::as_slice) {
        let class = snake_case(layer["class_name"].as_str().unwrap_or_default());
        let count = counts.entry(class.clone()).or_default();
        let group = match *count {
            0 => format!("{path}/{class}"),
            count => format!("{path}/{class}_{count}"),
        };
        *count += 1;
        let name = layer["config"]["name"].as_str().unwrap_or_default();
        let name = format!("{scope}{name}");
        numbered_groups(
            layer,
            &format!("{group}/layers"),
            &format!("{name}/"),
            groups,
        );
        groups.insert(name, group);
    }
}

/// `BatchNormalization` to `batch_normalization`, `ReLU` to `re_lu`, `Conv2D` to `conv2d`, as Keras
/// does it.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().collect();
    let mut out = String::new();
    for (i, &letter) in letters.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| letters[i]);
        let after = letters.get(i + 1);
        let starts = letter.is_ascii_uppercase()
            && (before.is_some_and(|b| b.is_ascii_lowercase())
                || (before.is_some() && after.is_some_and(|a| a.is_ascii_lowercase())));
        if starts {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{numbered_groups, snake_case};

    #[test]
    fn class_names_become_group_names_as_keras_writes_them() {
        let known = [
            ("Conv2D", "conv2d"),
            ("BatchNormalization", "batch_normalization"),
            ("ReLU", "re_lu"),
            ("AveragePooling2D", "average_pooling2d"),
            ("DepthwiseConv2D", "depthwise_conv2d"),
            ("Dense", "dense"),
        ];
        for (class, group) in known {
            assert_eq!(snake_case(class), group);
        }
    }

    #[test]
    fn groups_without_names_are_numbered_by_class() {
        let config = serde_json::json!({"config": {"layers": [
            {"class_name": "Dense", "config": {"name": "a"}},
            {"class_name": "Conv2D", "config": {"name": "b"}},
            {"class_name": "Dense", "config": {"name": "c"}},
        ]}});
        let mut groups = HashMap::new();
        numbered_groups(&config, "layers", "", &mut groups);
        assert_eq!(
            (groups["a"].as_str(), groups["b"].as_str()),
            ("layers/dense", "layers/conv2d")
        );
        assert_eq!(groups["c"], "layers/dense_1");
    }
}
