//! Reading trained networks.

mod lowering;
pub mod onnx;
mod simplify;

use std::path::{Path, PathBuf};

use crate::data::read_limited;
use crate::error::{Error, Result};
use crate::graph::Graph;

/// Most bytes of a model file.
pub const MODEL_LIMIT: u64 = 256 << 20;

/// What a model file alone does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The architecture file of a safetensors model; by default the file beside it that ends in `.json`.
    pub architecture: Option<PathBuf>,
}

/// Reads a model file of any known format, told by its content.
///
/// # Errors
/// [`Error::Io`], [`Error::FileTooLarge`], [`Error::UnknownFormat`], or [`Error::Model`] with the file and the fault.
pub fn open(path: &Path, _options: &Options) -> Result<Graph> {
    let bytes = read_limited(path, MODEL_LIMIT)?;
    let in_file = |source| Error::Model {
        path: path.to_path_buf(),
        source: Box::new(source),
    };
    let mut graph = onnx::from_bytes(&bytes).map_err(in_file)?;
    if graph.name.is_empty() {
        graph.name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
    }
    Ok(graph)
}
