//! The folder that `scuro ensemble train` writes: networks, `rules.json`, `ensemble.json`.

use std::path::{Path, PathBuf};

use scuro_ensemble::Rules;
use scuro_nn::graph::Graph;
use serde::{Deserialize, Serialize};

use crate::errors::{At, Failure};
use crate::{files, inputs};

/// How the ensemble came about.
pub(crate) const MANIFEST: &str = "ensemble.json";
/// The fitted rules.
pub(crate) const RULES: &str = "rules.json";
/// Value of [`Manifest::kind`].
const KIND: &str = "scuro-ensemble";

/// How an ensemble came about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Always `scuro-ensemble`.
    pub(crate) kind: String,
    /// How examples were dealt out.
    pub(crate) split: String,
    /// What decided everything.
    pub(crate) seed: u64,
    /// Data sets.
    pub(crate) data: Vec<String>,
    /// Name of the architecture.
    pub(crate) architecture: String,
    /// Activation function instead of the architecture's own.
    pub(crate) activation: Option<String>,
    /// Whether scores are as training alone leaves them.
    pub(crate) plain: bool,
    /// Passes of each holder over its own examples.
    pub(crate) epochs: usize,
    /// Examples that no holder was trained on, which the rules were fitted on.
    pub(crate) held_out: usize,
    /// Names of the classes.
    pub(crate) classes: Vec<String>,
    /// The holders in order.
    pub(crate) holders: Vec<HolderCard>,
}

/// One holder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HolderCard {
    /// Name, as in the file of rules.
    pub(crate) name: String,
    /// File of its network.
    pub(crate) network: String,
    /// Own examples.
    pub(crate) images: usize,
    /// Own examples of each class.
    pub(crate) histogram: Vec<usize>,
    /// What its scores were divided by.
    pub(crate) temperature: f64,
    /// Accuracy on own examples that it was not trained on.
    pub(crate) own_accuracy: f64,
    /// Accuracy on the examples that were held out from all.
    pub(crate) held_out_accuracy: f64,
}

impl Manifest {
    /// Names the kind of the file.
    pub(crate) fn kind() -> String {
        KIND.to_string()
    }
}

impl HolderCard {
    /// Classes that it has examples of.
    pub(crate) fn classes_seen(&self) -> usize {
        self.histogram.iter().filter(|count| **count > 0).count()
    }
}

/// A folder that was read.
pub(crate) struct Folder {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// `ensemble.json`.
    pub(crate) manifest: Manifest,
    /// `rules.json`.
    pub(crate) rules: Rules,
    /// The networks of the holders, in order.
    pub(crate) networks: Vec<Graph>,
}

impl Folder {
    /// Reads every file and checks that they belong together.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let manifest = path.join(MANIFEST);
        let bytes = files::read(&manifest)?;
        let manifest = parse(&bytes).at(manifest.display())?;
        let rules = path.join(RULES);
        let bytes = files::read(&rules)?;
        let rules = Rules::from_bytes(&bytes).at(rules.display())?;
        let named = manifest.holders.iter().map(|holder| &holder.name);
        if !named.eq(rules.holders()) || manifest.classes != rules.classes() {
            return Err(Failure::bad_input(
                "ensemble.mixed",
                format!("{}: {RULES} is of another ensemble", path.display()),
            )
            .hint("use the files of one `scuro ensemble train` run"));
        }
        let network = |holder: &HolderCard| {
            let file = file_in(path, &holder.network)?;
            inputs::load_network(&file, None)
        };
        let networks = manifest.holders.iter().map(network);
        Ok(Self {
            networks: networks.collect::<Result<_, _>>()?,
            path: path.to_path_buf(),
            manifest,
            rules,
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Manifest, Failure> {
    let broken = |text: String| {
        Failure::bad_input("ensemble.unreadable", text).hint("make it with `scuro ensemble train`")
    };
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| broken(e.to_string()))?;
    match manifest.kind == KIND {
        true => Ok(manifest),
        false => Err(broken(format!("its kind is `{}`", manifest.kind))),
    }
}

/// A file named in the manifest: one of the folder itself.
fn file_in(folder: &Path, name: &str) -> Result<PathBuf, Failure> {
    match Path::new(name).file_name() {
        Some(plain) if plain == name => Ok(folder.join(name)),
        _ => Err(Failure::bad_input(
            "ensemble.path",
            format!("`{name}` is no file of the folder"),
        )
        .hint("networks lie beside ensemble.json")),
    }
}
