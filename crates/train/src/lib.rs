//! Training of plain and HE-friendly networks on the graph of scuro-nn.
//!
//! [`train`] differentiates a [`Graph`](scuro_nn::graph::Graph) directly: the layer definitions
//! that are trained are the ones that are imported, compiled and evaluated under encryption. See
//! decision record 0003.
//!
//! Layers, lower ones first: `layers` holds the forward and backward pass of each operator,
//! `network` a graph with the buffers of one batch, `trainer` the loop; [`architectures`] makes
//! untrained networks, [`recipes`] the settings that train them, and [`adapt()`] puts polynomials
//! into trained ones. [`split`] deals examples out to the holders of an ensemble, and
//! [`train_holder`] trains their networks so that their scores are comparable.
//!
//! The crate reads no clock and no global random generator: a seed decides order, distortion,
//! dropout and initial weights, and equal seeds give equal weights on any number of threads.

mod adapt;
pub mod architectures;
mod augment;
mod calibrate;
mod config;
pub mod curves;
mod data;
mod error;
pub mod figures;
mod fold;
mod history;
mod holder;
mod layers;
mod loss;
mod network;
mod optimiser;
mod picture;
mod progress;
mod random;
pub mod recipes;
pub mod split;
mod trainer;

pub use adapt::{Adaptation, Adapted, Subject, adapt};
pub use augment::Augmentation;
pub use calibrate::{calibrate, log_prior, silence};
pub use config::{Distillation, TrainConfig};
pub use data::Examples;
pub use error::{Error, Result};
pub use fold::fold_batch_norms;
pub use history::{EpochRecord, History};
pub use holder::{Holder, Scores, train_holder};
pub use network::RangePenalty;
pub use optimiser::{Optimiser, Schedule};
pub use progress::{BatchReport, Progress};
pub use trainer::{Score, Trained, logits, score, train};
