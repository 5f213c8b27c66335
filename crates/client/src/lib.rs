//! The side that owns the data: open a compiled model, make keys, encrypt images, read the answer.
//!
//! A [`Model`] is a program with its encryption parameters; both sides open it. The data owner's
//! [`Client`] holds a secret key; [`PublicClient`] can only encrypt. What travels is a [`Bundle`]
//! of ciphertexts: the evaluator opens it with [`Model::open_query`], closes its answer with
//! [`Model::seal_reply`], and may make it short with [`Model::compact_reply`]; none of them can
//! name a secret.
//!
//! Nothing here opens a connection or a file, and all randomness is an argument.

mod bundle;
mod compact;
mod encoding;
mod error;
mod model;
mod owner;
mod prediction;
mod protect;
mod public;
mod scheme;
mod session;

pub use bundle::{
    Bundle, BundleKind, FORMAT_VERSION, MAGIC, MAX_CIPHERTEXT_BYTES, MAX_CIPHERTEXTS, MAX_IMAGES,
};
pub use encoding::{gather, scatter};
pub use error::{BundleError, Error};
pub use model::{Model, parameter_spec};
pub use prediction::Prediction;
pub use protect::{Protected, protect_for_user};
pub use public::PublicClient;
pub use session::{Client, KeySet};
