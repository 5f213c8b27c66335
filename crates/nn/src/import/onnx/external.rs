//! Weights that an ONNX file keeps in other files of its folder.

use std::collections::HashMap;
use std::path::{Component, Path};

use super::proto::{GraphProto, TensorProto};
use crate::data::read_limited;
use crate::error::{Error, Result, TensorFault};
use crate::import::MODEL_LIMIT;

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

/// Puts the bytes of weights that lie in files of `folder` into the graph.
pub(super) fn read(graph: &mut GraphProto, folder: &Path) -> Result<()> {
    let mut files = HashMap::new();
    let mut left = MODEL_LIMIT;
    let initializers = graph.initializer.iter_mut();
    let constants = graph
        .node
        .iter_mut()
        .flat_map(|node| node.attribute.iter_mut().filter_map(|a| a.t.as_mut()));
    for tensor in initializers.chain(constants) {
        if tensor.data_location != EXTERNAL {
            continue;
        }
        let place = Place::of(tensor)?;
        if !files.contains_key(&place.file) {
            let path = folder.join(&place.file);
            let bytes = read_limited(&path, left)?;
            left -= bytes.len() as u64;
            files.insert(place.file.clone(), bytes);
        }
        let bytes = &files[&place.file];
        let part = place.part(bytes).ok_or_else(|| Error::StoredTensor {
            tensor: tensor.name.clone(),
            fault: TensorFault::BeyondFile {
                file: place.file.clone(),
                found: bytes.len(),
            },
        })?;
        left = left
            .checked_sub(part.len() as u64)
            .ok_or(Error::FileTooLarge {
                path: place.file.clone().into(),
                limit: MODEL_LIMIT,
            })?;
        tensor.raw_data = part.to_vec();
        tensor.data_location = 0;
    }
    Ok(())
}

/// Where a tensor's bytes lie.
struct Place {
    file: String,
    offset: usize,
    length: Option<usize>,
}

impl Place {
    /// A plain name below the folder: a model file must not make us read anything else.
    fn of(tensor: &TensorProto) -> Result<Self> {
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key);
        let number = |key: &str| entry(key).and_then(|entry| entry.value.parse::<usize>().ok());
        let file = entry("location").map_or("", |entry| entry.value.as_str());
        let inside = Path::new(file)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if file.is_empty() || !inside {
            return Err(Error::StoredTensor {
                tensor: tensor.name.clone(),
                fault: TensorFault::External,
            });
        }
        Ok(Self {
            file: file.to_owned(),
            offset: number("offset").unwrap_or(0),
            length: number("length"),
        })
    }

    fn part<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let rest = bytes.get(self.offset..)?;
        match self.length {
            Some(length) => rest.get(..length),
            None => Some(rest),
        }
    }
}
