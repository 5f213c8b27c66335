//! `scuro decrypt model.scuro --key keys/secret.key reply.ct`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use scuro_client::{Bundle, Client, Model, Prediction};
use scuro_fhe::owner::SecretKey;
use serde_json::{Value, json};

use crate::context::Context;
use crate::errors::{At, Failure};
use crate::output::Reply;
use crate::table::Table;
use crate::verbs::keygen;
use crate::{compiled, files, machine, units};

/// Arguments of `scuro decrypt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Compiled model.
    model: PathBuf,
    /// The reply of `scuro evaluate`.
    reply: PathBuf,
    /// Secret key, or the folder of `scuro keygen`.
    #[arg(long, value_name = "FILE|DIR")]
    key: PathBuf,
}

/// Decrypts and prints labels and scores.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let compiled = compiled::open_model(&arguments.model)?;
    let client = open_client(&compiled.model, &arguments.key)?;
    let bytes = files::read(&arguments.reply)?;
    let reply = Bundle::from_bytes(&bytes).at(arguments.reply.display())?;
    let predictions = client.decrypt(&reply).at(arguments.reply.display())?;
    Ok(answer(context, &predictions))
}

/// The client that holds the secret key in `key`.
pub(crate) fn open_client(model: &Model, key: &Path) -> Result<Client, Failure> {
    let file = if key.is_dir() {
        key.join(keygen::SECRET)
    } else {
        key.to_path_buf()
    };
    let bytes = files::read_secret(&file)?;
    let secret = SecretKey::from_bytes(&bytes, model.context()).at(file.display())?;
    Client::new(model, Arc::new(secret)).at(file.display())
}

fn answer(context: &Context, predictions: &[Prediction]) -> Reply {
    let mut table = Table::new(&["image", "label", "confidence", "scores"]);
    for (i, prediction) in predictions.iter().enumerate() {
        let scores: Vec<String> = prediction
            .scores
            .iter()
            .map(|s| format!("{s:.2}"))
            .collect();
        let label = match prediction.overflowed {
            true => "overflow".to_string(),
            false => context.style.bold(&prediction.label.to_string()),
        };
        let confidence = units::percent(prediction.confidence);
        table.row([i.to_string(), label, confidence, scores.join(" ")]);
    }
    let rows: Vec<Value> = predictions
        .iter()
        .enumerate()
        .map(|(i, p)| row(i, p))
        .collect();
    let human = table.render(context.style);
    let data = json!({ "predictions": rows, "peak_memory_bytes": machine::peak_memory() });
    Reply::new(data, human).with_rows(rows)
}

/// One prediction as JSON.
pub(crate) fn row(image: usize, prediction: &Prediction) -> Value {
    json!({
        "image": image, "label": prediction.label, "confidence": prediction.confidence,
        "scores": prediction.scores, "overflowed": prediction.overflowed,
    })
}
