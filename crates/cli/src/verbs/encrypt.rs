//! `scuro encrypt model.scuro --keys keys/ digit.png -o query.ct`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use scuro_client::{Bundle, Client, Model, PublicClient};
use scuro_fhe::keys::PublicKey;
use scuro_fhe::owner::SecretKey;
use serde_json::json;

use crate::compiled::{self, Compiled};
use crate::context::Context;
use crate::errors::{At, Failure};
use crate::inputs;
use crate::output::Reply;
use crate::verbs::{keygen, predict};
use crate::{files, secrets, units};

/// Arguments of `scuro encrypt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Compiled model.
    model: PathBuf,
    /// Pictures (PNG or JPEG), any size.
    images: Vec<PathBuf>,
    /// Secret key, public key, or the folder of `scuro keygen`.
    #[arg(long, value_name = "FILE|DIR")]
    keys: PathBuf,
    /// Images of a data set instead of pictures.
    #[arg(long, value_name = "NAME[:split]", conflicts_with = "images")]
    data: Option<String>,
    /// First image of the data set.
    #[arg(long, default_value_t = 0, requires = "data")]
    index: usize,
    /// Number of images of the data set.
    #[arg(long, default_value_t = 1, requires = "data")]
    count: usize,
    /// Layers that run in clear before the compiled model (`features.onnx` of `scuro protect`).
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
    /// The query.
    #[arg(long, short)]
    out: PathBuf,
}

/// Encrypts and writes the query.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let mut compiled = compiled::open_model(&arguments.model)?;
    let network = |path: &PathBuf| inputs::load_network(path, None);
    compiled.features = arguments.features.as_ref().map(network).transpose()?;
    let images = images(context, &arguments, &compiled)?;
    let sealer = Sealer::open(&compiled.model, &arguments.keys)?;
    let start = Instant::now();
    let query = sealer.encrypt(&images)?;
    let elapsed = start.elapsed();
    let bytes = query.to_bytes();
    files::write(&arguments.out, &bytes)?;
    let (count, size) = (images.len(), bytes.len() as u64);
    let data = json!({
        "query": arguments.out, "images": count, "ciphertexts": query.ciphertexts.len(),
        "bytes": size, "milliseconds": elapsed.as_secs_f64() * 1e3,
    });
    let human = format!(
        "encrypted {count} image(s) into {} ({}, {})\n",
        arguments.out.display(),
        units::bytes(size),
        units::duration(elapsed)
    );
    Ok(Reply::new(data, human))
}

fn images(
    context: &Context,
    arguments: &Arguments,
    compiled: &Compiled,
) -> Result<Vec<Vec<f32>>, Failure> {
    if let Some(name) = &arguments.data {
        let end = arguments.index.saturating_add(arguments.count);
        let data = inputs::load(context, name, Some(end))?;
        let examples = compiled.examples(data)?;
        if examples.len() < end {
            let (found, index) = (examples.len(), arguments.index);
            let message = format!(
                "{name} has {found} images, asked for {index} to {}",
                end - 1
            );
            return Err(Failure::bad_input("input.none", message).hint("lower --index or --count"));
        }
        return Ok((arguments.index..examples.len())
            .map(|i| examples.input(i))
            .collect());
    }
    let read = |path: &PathBuf| compiled.input(&predict::read_picture(path, compiled)?);
    arguments.images.iter().map(read).collect()
}

/// Whatever key there is to encrypt with.
enum Sealer {
    Secret(Client),
    Public(PublicClient),
}

impl Sealer {
    fn open(model: &Model, keys: &Path) -> Result<Self, Failure> {
        let file = key_file(keys);
        let bytes = files::read_secret(&file)?;
        let kind = scuro_fhe::codec::describe(&bytes).map_err(scuro_fhe::Error::from);
        match kind.at(file.display())?.kind {
            scuro_fhe::codec::Kind::PublicKey => {
                let public = PublicKey::from_bytes(&bytes, model.context()).at(file.display())?;
                Ok(Self::Public(PublicClient::new(model, public)))
            }
            _ => {
                let secret = SecretKey::from_bytes(&bytes, model.context()).at(file.display())?;
                Ok(Self::Secret(Client::new(model, Arc::new(secret))?))
            }
        }
    }

    fn encrypt(&self, images: &[Vec<f32>]) -> Result<Bundle, Failure> {
        let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        let mut rng = secrets::generator()?;
        Ok(match self {
            Self::Secret(client) => client.encrypt(&images, &mut rng)?,
            Self::Public(client) => client.encrypt(&images, &mut rng)?,
        })
    }
}

/// A key file, or the best key of a folder: secret-key encryption is smaller and faster.
fn key_file(keys: &Path) -> PathBuf {
    if !keys.is_dir() {
        return keys.to_path_buf();
    }
    let secret = keys.join(keygen::SECRET);
    if secret.exists() {
        secret
    } else {
        keys.join(keygen::PUBLIC)
    }
}
