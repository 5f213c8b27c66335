//! Reading trained networks.

mod compose;
pub mod keras;
mod lowering;
pub mod onnx;
pub mod safetensors;
mod simplify;

use std::path::{Path, PathBuf};

use crate::data::read_limited;
use crate::error::{Error, Result};
use crate::graph::Graph;

/// Most bytes of a model file.
pub const MODEL_LIMIT: u64 = 256 << 20;
/// Most bytes of an architecture file.
const ARCHITECTURE_LIMIT: u64 = 16 << 20;

/// What a model file alone does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The architecture file of a safetensors model; by default the file beside it that ends in
    /// `.json`.
    pub architecture: Option<PathBuf>,
}

/// Reads a model file of any known format, told by its content.
///
/// # Errors
/// [`Error::Io`], [`Error::FileTooLarge`], [`Error::UnknownFormat`], or [`Error::Model`] with the
/// file and the fault.
pub fn open(path: &Path, options: &Options) -> Result<Graph> {
    let bytes = read_limited(path, MODEL_LIMIT)?;
    let in_file = |source| Error::Model {
        path: path.to_path_buf(),
        source: Box::new(source),
    };
    let mut graph = match format(path, &bytes) {
        Some(Format::Onnx) => onnx::from_file(&bytes, path).map_err(in_file)?,
        Some(Format::KerasH5) => keras::from_h5(&bytes).map_err(in_file)?,
        Some(Format::KerasArchive) => keras::from_archive(&bytes).map_err(in_file)?,
        Some(Format::Safetensors) => {
            let beside = || path.with_extension("json");
            let architecture = options.architecture.clone().unwrap_or_else(beside);
            let architecture = read_limited(&architecture, ARCHITECTURE_LIMIT)?;
            safetensors::from_bytes(&bytes, &architecture).map_err(in_file)?
        }
        None => {
            return Err(Error::UnknownFormat {
                path: path.to_path_buf(),
            });
        }
    };
    if graph.name.is_empty() {
        graph.name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
    }
    Ok(graph)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Onnx,
    KerasH5,
    KerasArchive,
    Safetensors,
}

/// Told by the first bytes; ONNX and safetensors have no magic, so their extension decides.
fn format(path: &Path, bytes: &[u8]) -> Option<Format> {
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    match (bytes, extension.as_str()) {
        ([0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n', ..], _) => Some(Format::KerasH5),
        ([b'P', b'K', 3, 4, ..], _) => Some(Format::KerasArchive),
        (_, "safetensors") => Some(Format::Safetensors),
        (_, "onnx" | "pb") => Some(Format::Onnx),
        _ => None,
    }
}
