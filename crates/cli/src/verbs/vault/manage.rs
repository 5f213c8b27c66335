//! `scuro vault init | add | list | show | retire | rekey | results`

use std::path::{Path, PathBuf};

use scuro_nn::reference::Executor;
use scuro_program::Program;
use scuro_vault::registry::{ModelRecord, NewModel};
use scuro_vault::{KeySource, Vault};
use scuro_wire::https::Client;
use scuro_wire::results::{InferenceResult, ResultPage};
use scuro_wire::tls::{Identity, VAULT_NAME};
use scuro_wire::{ModelReference, Name, paths};
use serde_json::{Value, json};

use super::{KeyArguments, Place, open};
use crate::context::Context;
use crate::errors::{At, Exit, Failure};
use crate::output::Reply;
use crate::table::Table;
use crate::verbs::{keygen, protect};
use crate::{files, services, units};

const DAY: u64 = 86_400;

/// Makes a vault.
pub(crate) fn init(dir: &Path, key: &KeyArguments, context: &Context) -> Result<Reply, Failure> {
    let source = key.source(dir)?;
    Vault::init(dir, &source, scuro_vault::now())?;
    let place = dir.display();
    if let KeySource::File(path) = &source {
        context.note(format!(
            "its key is {}: back it up apart from the folder; without it every secret is lost",
            path.display()
        ));
    }
    Ok(Reply::new(
        json!({ "dir": dir }),
        format!("made a vault in {place}\n"),
    ))
}

/// Arguments of `scuro vault add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArguments {
    /// Name of the model.
    name: Name,
    /// Compiled model.
    program: PathBuf,
    /// Folder of `scuro keygen` or `scuro protect`.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// ONNX file of a clear feature extractor.
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
    /// Encrypted weights of a program without any: `weights.ct` of `scuro protect`.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Names of the classes, with commas between.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    labels: Vec<String>,
    /// Life of the key.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    #[command(flatten)]
    place: Place,
}

/// Stores a compiled model with its keys.
pub(crate) fn add(arguments: &AddArguments) -> Result<Reply, Failure> {
    let vault = open(&arguments.place)?;
    let read = |path: &Option<PathBuf>| path.as_deref().map(files::read).transpose();
    let (features, weights) = (read(&arguments.features)?, read(&arguments.weights)?);
    let program = files::read(&arguments.program)?;
    if let (Some(path), Some(onnx)) = (&arguments.features, &features) {
        check_features(&program, onnx).at(path.display())?;
    }
    let now = scuro_vault::now();
    let secret_file = key_file(&arguments.keys, protect::OWNER, keygen::SECRET);
    let secret_key = zeroize::Zeroizing::new(files::read(&secret_file)?);
    let shared = |name| files::read(&key_file(&arguments.keys, protect::DEVICE, name));
    let new = NewModel {
        name: arguments.name.clone(),
        program: &program,
        features: features.as_deref(),
        weights: weights.as_deref(),
        public_key: &shared(keygen::PUBLIC)?,
        evaluation_keys: &shared(keygen::EVALUATION)?,
        secret_key: &secret_key,
        labels: arguments.labels.clone(),
        expires: now + arguments.days * DAY,
    };
    let record = vault.store(&new, now)?;
    let human = format!(
        "stored {} ({}); its secret key is sealed in the vault: remove {}\n",
        record.reference(),
        units::bytes(record.manifest.bytes()),
        secret_file.display()
    );
    Ok(Reply::new(row(&record), human))
}

/// Where a key lies: `scuro protect` writes two folders, `scuro keygen` one.
fn key_file(keys: &Path, folder: &str, name: &str) -> PathBuf {
    match keys.join(protect::OWNER).is_dir() {
        true => keys.join(folder).join(name),
        false => keys.join(name),
    }
}

/// A device reads features as ONNX, and gives the program what comes out.
fn check_features(program: &[u8], onnx: &[u8]) -> Result<(), Failure> {
    let expected = Program::from_bytes(program)?.input.elements();
    let graph = scuro_nn::import::onnx::from_bytes(onnx)?;
    let found: usize = Executor::new(&graph)?.output_shape().iter().product();
    if found == expected {
        return Ok(());
    }
    let message = format!("the layers in clear give {found} values; the program takes {expected}");
    Err(Failure::bad_input("model.features", message)
        .hint("pass the features.onnx that `scuro protect` wrote beside this program"))
}

/// Lists protected models.
pub(crate) fn list(place: &Place, context: &Context) -> Result<Reply, Failure> {
    let models = open(place)?.models()?;
    let mut table = Table::new(&[
        "model",
        "state",
        "encrypted",
        "size",
        "expires",
        "deployment",
    ]);
    for record in &models {
        table.row([
            record.reference(),
            record.state.as_str().to_string(),
            word(&record.manifest.encrypted),
            units::bytes(record.manifest.bytes()),
            in_days(record.manifest.expires),
            record.deployment.short(),
        ]);
    }
    let rows: Vec<Value> = models.iter().map(row).collect();
    let human = table.render(context.style);
    Ok(Reply::new(json!({ "models": rows }), human).with_rows(rows))
}

/// Shows one.
pub(crate) fn show(
    model: &ModelReference,
    place: &Place,
    context: &Context,
) -> Result<Reply, Failure> {
    let record = open(place)?.model(model)?;
    let manifest = &record.manifest;
    let mut facts = Table::new(&[]);
    facts
        .row(["model", &record.reference()])
        .row(["state", record.state.as_str()])
        .row(["deployment", &record.deployment.to_string()])
        .row(["key id", &manifest.key_id.to_string()])
        .row(["parameters", &manifest.parameters.to_string()])
        .row(["encrypted weights", &word(&manifest.encrypted)])
        .row(["decryptor", &word(&manifest.decryptor)])
        .row(["key expires", &in_days(manifest.expires)])
        .row(["labels", &manifest.labels.join(", ")]);
    let mut artefacts = Table::new(&["artefact", "size", "BLAKE3"]);
    for artefact in &manifest.artefacts {
        let size = units::bytes(artefact.bytes);
        artefacts.row([artefact.role.as_str(), &size, &artefact.digest.to_string()]);
    }
    let (facts, artefacts) = (facts.render(context.style), artefacts.render(context.style));
    Ok(Reply::new(row(&record), format!("{facts}\n{artefacts}")))
}

/// Takes versions out of use.
pub(crate) fn retire(model: &ModelReference, place: &Place) -> Result<Reply, Failure> {
    let count = open(place)?.retire(model, scuro_vault::now())?;
    let data = json!({ "model": model.to_string(), "versions": count });
    let human =
        format!("retired {count} version(s) of {model}: no longer deployed nor decrypted\n");
    Ok(Reply::new(data, human))
}

/// Arguments of `scuro vault rekey`.
#[derive(Debug, clap::Args)]
pub(crate) struct RekeyArguments {
    #[command(flatten)]
    place: Place,
    /// File for the new key; by default the one that is replaced.
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_file")]
    new_key_file: Option<PathBuf>,
    /// File with the new passphrase (mode 0600).
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

/// Changes the vault key.
pub(crate) fn rekey(arguments: &RekeyArguments) -> Result<Reply, Failure> {
    let mut vault = open(&arguments.place)?;
    let present = arguments.place.key.source(&arguments.place.dir)?;
    let source = match (&arguments.new_key_file, &arguments.new_passphrase_file) {
        (Some(path), _) => KeySource::File(path.clone()),
        (None, Some(path)) => KeySource::passphrase_file(path)?,
        (None, None) => match present {
            KeySource::File(path) => KeySource::File(path),
            KeySource::Passphrase(_) => {
                let message = "the vault is locked with a passphrase, and no new one was given";
                return Err(Failure::bad_input("vault.no-new-passphrase", message)
                    .hint("pass --new-passphrase-file or --new-key-file"));
            }
        },
    };
    let count = vault.rekey(&source)?;
    let human = format!("{count} secrets are under the new key; the old one opens nothing now\n");
    Ok(Reply::new(json!({ "secrets": count }), human))
}

/// Arguments of `scuro vault results`.
#[derive(Debug, clap::Args)]
pub(crate) struct ResultsArguments {
    #[command(flatten)]
    place: Place,
    /// Only results after this number: the oldest come first.
    #[arg(long, default_value_t = 0, value_name = "SEQ")]
    after: u64,
    /// At most so many; whether more follow is said.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Ask a running vault over the network instead of the folder.
    #[arg(long, value_name = "HOST:PORT", requires = "identity")]
    from: Option<String>,
    /// Bundle of `scuro vault enroll --user`.
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
}

/// Prints results.
pub(crate) fn results(arguments: &ResultsArguments, context: &Context) -> Result<Reply, Failure> {
    let (page, more) = match (&arguments.from, &arguments.identity) {
        (Some(address), Some(identity)) => {
            services::runtime()?.block_on(fetch(arguments, address, identity))?
        }
        _ => read(arguments)?,
    };
    let mut table = Table::new(&["seq", "device", "model", "label", "confidence", "query"]);
    for result in &page.results {
        for answer in &result.answers {
            let label = answer.label_name.clone();
            table.row([
                result.seq.to_string(),
                result.device.to_string(),
                format!("{}:{}", result.model, result.version),
                label.unwrap_or_else(|| answer.label.to_string()),
                units::percent(answer.confidence),
                result.query_id.to_string(),
            ]);
        }
    }
    let rows: Vec<Value> = page.results.iter().map(value).collect();
    let data = json!({ "results": rows, "next_after": page.next_after, "more": more });
    let mut human = table.render(context.style);
    if more {
        human.push_str(&format!("more follow: --after {}\n", page.next_after));
    }
    Ok(Reply::new(data, human).with_rows(rows))
}

/// The page asked for, and whether more follow.
fn read(arguments: &ResultsArguments) -> Result<(ResultPage, bool), Failure> {
    let vault = open(&arguments.place)?;
    let page = vault.results(arguments.after, arguments.limit.into())?;
    let more = vault.last_result()? > page.next_after;
    Ok((page, more))
}

/// The same from a running vault.
async fn fetch(
    arguments: &ResultsArguments,
    address: &str,
    identity: &Path,
) -> Result<(ResultPage, bool), Failure> {
    let tls = Identity::load(identity)?.client_config()?;
    let mut client = Client::new(address, VAULT_NAME, tls);
    let page = ask(&mut client, arguments.after, arguments.limit).await?;
    let next = ask(&mut client, page.next_after, 1).await?;
    Ok((page, !next.results.is_empty()))
}

async fn ask(client: &mut Client, after: u64, limit: u16) -> Result<ResultPage, Failure> {
    let path = format!("{}?after={after}&limit={limit}", paths::RESULTS);
    let answer = client.send(hyper::Method::GET, &path, &[], "").await?;
    if !answer.status.is_success() {
        let problem = answer.problem();
        return Err(Failure::new(Exit::Refused, &problem.code, problem.message).hint(problem.hint));
    }
    Ok(answer.json()?)
}

fn value(result: &InferenceResult) -> Value {
    serde_json::to_value(result).unwrap_or_default()
}

/// A model as JSON: its manifest and what became of it.
fn row(record: &ModelRecord) -> Value {
    json!({
        "model": record.reference(), "state": record.state.as_str(),
        "deployment": record.deployment.to_string(), "changed": record.changed,
        "bytes": record.manifest.bytes(), "manifest": record.manifest,
    })
}

/// How long until `time`.
pub(crate) fn in_days(time: u64) -> String {
    match time.checked_sub(scuro_vault::now()) {
        Some(left) => format!("in {} d", left / DAY),
        None => "expired".to_string(),
    }
}

/// The word that stands for a value in a manifest.
fn word<T: serde::Serialize>(value: &T) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_string()
}
