//! `scuro protect model.onnx --encrypt classifier -o protected/`: a network whose weights nobody
//! but its owner can read.

use std::path::{Path, PathBuf};

use scuro_client::Protected;
use scuro_vault::Vault;
use scuro_vault::registry::{ModelRecord, NewModel};
use scuro_wire::Name;
use serde_json::json;

use crate::compiled::{self, CompileArguments, Compiled, EncryptChoice, ModelArguments};
use crate::context::Context;
use crate::errors::Failure;
use crate::files::{self, Access, Overwrite};
use crate::inputs::InputArguments;
use crate::output::Reply;
use crate::progress::Progress;
use crate::table::Table;
use crate::verbs::vault::KeyArguments;
use crate::verbs::{keygen, plan};
use crate::{machine, secrets, units};

/// What goes to the machine that computes.
pub(crate) const DEVICE: &str = "device";
/// What stays with the model owner.
pub(crate) const OWNER: &str = "owner";
/// The layers that run in clear.
pub(crate) const FEATURES: &str = "features.onnx";
/// The program without its weights.
pub(crate) const PROGRAM: &str = "program.scuro";
/// The encrypted weights.
pub(crate) const WEIGHTS: &str = "weights.ct";
/// The program with its weights, to simulate and to score.
pub(crate) const PRIVATE: &str = "private.scuro";

const SECONDS_A_DAY: u64 = 86_400;

/// Arguments of `scuro protect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Data set for the ranges, its training part unless a part is named [default: what fits].
    #[arg(long, value_name = "NAME[:split]")]
    data: Option<String>,
    #[command(flatten)]
    input: InputArguments,
    #[command(flatten)]
    compile: CompileArguments,
    /// Folder for `device/` (goes to the machine that computes) and `owner/` (stays).
    #[arg(long, short, value_name = "DIR", required_unless_present = "vault")]
    out: Option<PathBuf>,
    /// Replace what is there already: with the old key, old replies cannot be read any more.
    #[arg(long, requires = "out")]
    force: bool,
    /// Vault that takes model and keys as the next version of `--name`.
    #[arg(long, value_name = "DIR", requires = "name")]
    vault: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArguments,
    /// Name in the vault.
    #[arg(long, requires = "vault")]
    name: Option<Name>,
    /// Days until the key expires.
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    expires: u64,
}

/// One file of a protected model.
pub(crate) struct File {
    /// Folder and name.
    pub(crate) place: [&'static str; 2],
    /// Content.
    pub(crate) bytes: Vec<u8>,
    /// Who may read it.
    pub(crate) access: Access,
    /// For people.
    pub(crate) meaning: &'static str,
}

/// Compiles with private weights, encrypts them, and writes both folders.
pub(crate) fn run(mut arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let overwrite = match arguments.force {
        true => Overwrite::Allow,
        false => Overwrite::Refuse,
    };
    if let Some(out) = &arguments.out {
        files::refuse_existing(&out.join(OWNER).join(keygen::SECRET), overwrite)?;
    }
    // Asked before the work, not after.
    let vault = match &arguments.vault {
        Some(folder) => Some(Vault::open(folder, &arguments.key.source(folder)?)?),
        None => None,
    };
    let choice = arguments
        .compile
        .encrypt
        .unwrap_or(EncryptChoice::Classifier);
    arguments.compile.encrypt = Some(choice);
    let compiled = compiled::open(
        context,
        &arguments.model.source(),
        arguments.data.as_deref(),
        &arguments.input,
        &arguments.compile,
    )?;
    let files = protected_files(context, &compiled)?;
    let mut reply = reply(context, arguments.out.as_deref(), &compiled, &files);
    if let Some(out) = &arguments.out {
        write_all(out, &files, overwrite)?;
    }
    if let (Some(vault), Some(name)) = (vault, arguments.name) {
        let record = store(&vault, name, &files, arguments.expires)?;
        reply.data["stored"] = json!({
            "model": record.reference(), "deployment": record.deployment.to_string(),
        });
        reply
            .human
            .push_str(&format!("stored as {}\n", record.reference()));
    }
    Ok(reply)
}

/// Stores the files as the next version of a name.
fn store(vault: &Vault, name: Name, files: &[File], days: u64) -> Result<ModelRecord, Failure> {
    let file = |folder, name| {
        let found = files.iter().find(|file| file.place == [folder, name]);
        found.map(|file| file.bytes.as_slice())
    };
    let needed = |folder, name| file(folder, name).unwrap_or_default();
    let now = scuro_vault::now();
    let new = NewModel {
        name,
        program: needed(DEVICE, PROGRAM),
        features: file(DEVICE, FEATURES),
        weights: file(DEVICE, WEIGHTS),
        public_key: needed(DEVICE, keygen::PUBLIC),
        evaluation_keys: needed(DEVICE, keygen::EVALUATION),
        secret_key: needed(OWNER, keygen::SECRET),
        labels: Vec::new(),
        expires: now.saturating_add(days.saturating_mul(SECONDS_A_DAY)),
    };
    Ok(vault.store(&new, now)?)
}

/// Makes keys, encrypts the weights, and gives every file of the protected model.
pub(crate) fn protected_files(
    context: &Context,
    compiled: &Compiled,
) -> Result<Vec<File>, Failure> {
    let spinner = Progress::spinner(context, "making keys and encrypting the weights");
    let private = compiled.model.program();
    let protected = Protected::new(private, &mut secrets::generator()?)?;
    drop(spinner);
    let (model, keys) = (&protected.model, &protected.keys);
    let shared = |name, bytes, meaning| File {
        place: [DEVICE, name],
        bytes,
        access: Access::Shared,
        meaning,
    };
    let secret = |name, bytes, meaning| File {
        place: [OWNER, name],
        bytes,
        access: Access::Secret,
        meaning,
    };
    let mut files = Vec::new();
    if let Some(features) = &compiled.features {
        let bytes = scuro_nn::export::onnx(features)?;
        files.push(shared(FEATURES, bytes, "layers that run in clear"));
    }
    let evaluation = keys.evaluation.to_bytes(model.context());
    let public = keys.public.to_bytes(model.context());
    let program = model.program().to_bytes();
    let weights = protected.weights.to_bytes();
    let key = keys.secret.to_bytes().to_vec();
    files.extend([
        shared(PROGRAM, program, "steps, layouts and parameters"),
        shared(WEIGHTS, weights, "encrypted weights"),
        shared(keygen::PUBLIC, public, "encrypts inputs"),
        shared(keygen::EVALUATION, evaluation, "computes, cannot decrypt"),
        secret(PRIVATE, private.to_bytes(), "weights in clear: keep it"),
        secret(keygen::SECRET, key, "reads answers and weights: keep it"),
    ]);
    Ok(files)
}

fn write_all(folder: &Path, files: &[File], overwrite: Overwrite) -> Result<(), Failure> {
    // The key comes last: a folder with a key is whole.
    for file in files {
        let path = folder.join(file.place[0]).join(file.place[1]);
        files::write_with(&path, &file.bytes, overwrite, file.access)?;
    }
    Ok(())
}

fn reply(context: &Context, folder: Option<&Path>, compiled: &Compiled, files: &[File]) -> Reply {
    let mut table = Table::new(&["file", "size", ""]);
    let mut rows = Vec::new();
    let folder = folder.unwrap_or(Path::new(""));
    for file in files {
        let path = folder.join(file.place[0]).join(file.place[1]);
        let bytes = file.bytes.len() as u64;
        table.row([
            &path.display().to_string(),
            &units::bytes(bytes),
            file.meaning,
        ]);
        rows.push(json!({ "file": path, "bytes": bytes }));
    }
    let mut data = plan::to_json(compiled);
    data["files"] = json!(rows);
    data["peak_memory_bytes"] = json!(machine::peak_memory());
    let human = format!(
        "{}\n{}",
        plan::summary(context, compiled),
        table.render(context.style)
    );
    Reply::new(data, human)
}
