//! `scuro protect model.onnx --encrypt classifier -o protected/`: a network whose weights nobody
//! but its owner can read, nor, in an ensemble, the machine that holds them.

use std::path::{Path, PathBuf};

use scuro_client::{Protected, protect_for_user};
use scuro_fhe::keys::PublicKey;
use scuro_vault::Vault;
use scuro_vault::registry::{ModelRecord, NewModel};
use scuro_wire::Name;
use serde_json::json;
use zeroize::Zeroizing;

use crate::compiled::{self, CompileArguments, Compiled, EncryptChoice, ModelArguments};
use crate::context::Context;
use crate::errors::{At, Failure};
use crate::files::{self, Access, Overwrite};
use crate::inputs::InputArguments;
use crate::output::Reply;
use crate::progress::Progress;
use crate::table::Table;
use crate::verbs::vault::{self, KeyArguments, Place};
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

/// What is protected, and how.
#[derive(Debug, clap::Args)]
struct Recipe {
    #[command(flatten)]
    model: ModelArguments,
    /// Data set for the ranges, its training part unless a part is named [default: what fits].
    #[arg(long, value_name = "NAME[:split]")]
    data: Option<String>,
    #[command(flatten)]
    input: InputArguments,
    #[command(flatten)]
    compile: CompileArguments,
    /// Days until a vault lets the key expire.
    #[arg(
        long, value_name = "DAYS", default_value_t = 365,
        value_parser = clap::value_parser!(u64).range(1..=3650)
    )]
    expires: u64,
}

/// Arguments of `scuro protect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    recipe: Recipe,
    /// Folder for `device/` (goes to the machine that computes) and `owner/` (stays).
    #[arg(long, short, value_name = "DIR", required_unless_present = "vault")]
    out: Option<PathBuf>,
    /// Replace what is there already: with the old key, old replies cannot be read any more.
    #[arg(long, requires = "out")]
    force: bool,
    /// Encrypt the weights for this user of an ensemble, who decrypts what holders compute with
    /// them: `public.key` of `scuro keygen CONTRACT`. No keys are made.
    #[arg(
        long,
        value_name = "FILE",
        requires = "contract",
        conflicts_with = "vault"
    )]
    public_key: Option<PathBuf>,
    /// Vault that takes model and keys as the next version of `--name`.
    #[arg(long, value_name = "DIR", requires = "name")]
    vault: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArguments,
    /// Name in the vault.
    #[arg(long, requires = "vault")]
    name: Option<Name>,
    /// Names of the classes for the vault's results, with commas between.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", requires = "vault")]
    labels: Vec<String>,
}

/// Arguments of `scuro vault rotate`.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateArguments {
    /// Name in the vault; there must be a version of it.
    name: Name,
    #[command(flatten)]
    recipe: Recipe,
    /// Names of the classes, with commas between [default: those of the version before].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    labels: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// One file of a protected model.
pub(crate) struct File {
    /// Folder and name.
    pub(crate) place: [&'static str; 2],
    /// Content: of some files a secret.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// Who may read it.
    pub(crate) access: Access,
    /// For people.
    pub(crate) meaning: &'static str,
}

/// Compiles with private weights, encrypts them, and writes both folders.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let overwrite = match arguments.force {
        true => Overwrite::Allow,
        false => Overwrite::Refuse,
    };
    if let Some(out) = &arguments.out {
        let last = match arguments.public_key {
            Some(_) => PRIVATE,
            None => keygen::SECRET,
        };
        files::refuse_existing(&out.join(OWNER).join(last), overwrite)?;
    }
    // Asked before the work, not after.
    let vault = match &arguments.vault {
        Some(folder) => Some(Vault::open(folder, &arguments.key.source(folder)?)?),
        None => None,
    };
    let expires = arguments.recipe.expires;
    let user = arguments.public_key.as_deref();
    let (compiled, files) = arguments.recipe.carry_out(context, user)?;
    let mut reply = reply(context, arguments.out.as_deref(), &compiled, &files);
    if let Some(out) = &arguments.out {
        write_all(out, &files, overwrite)?;
    }
    if let (Some(vault), Some(name)) = (vault, arguments.name) {
        let record = store(&vault, name, arguments.labels, &files, expires)?;
        say_stored(&mut reply, &record);
    }
    Ok(reply)
}

/// Protects a model again, under new keys, as the next version of a name.
pub(crate) fn rotate(arguments: RotateArguments, context: &Context) -> Result<Reply, Failure> {
    let vault = vault::open(&arguments.place)?;
    let name = arguments.name;
    let mut versions = vault.models()?.into_iter();
    let Some(before) = versions.find(|record| record.manifest.name == name) else {
        let message = format!("there is no model {name}");
        return Err(Failure::bad_input("vault.not-found", message)
            .hint("see `scuro vault list`; a first version comes from `scuro protect --vault`"));
    };
    let labels = match arguments.labels.is_empty() {
        true => before.manifest.labels,
        false => arguments.labels,
    };
    let expires = arguments.recipe.expires;
    let (compiled, files) = arguments.recipe.carry_out(context, None)?;
    let mut reply = reply(context, None, &compiled, &files);
    let record = store(&vault, name, labels, &files, expires)?;
    say_stored(&mut reply, &record);
    Ok(reply)
}

impl Recipe {
    /// Compiles and encrypts, under new keys or for the user of an ensemble.
    fn carry_out(
        mut self,
        context: &Context,
        user: Option<&Path>,
    ) -> Result<(Compiled, Vec<File>), Failure> {
        let is_member = self.compile.membership.is_member();
        if is_member && user.is_none() {
            let message = "an ensemble's weights are encrypted for its user, who has keys";
            return Err(Failure::bad_input("ensemble.user", message).hint(
                "make the contract first (`scuro compile --ensemble --encrypt all`, `scuro \
                 ensemble contract`), then pass --contract FILE --public-key FILE",
            ));
        }
        let usual = match is_member {
            true => EncryptChoice::All,
            false => EncryptChoice::Classifier,
        };
        let choice = self.compile.encrypt.unwrap_or(usual);
        self.compile.encrypt = Some(choice);
        let compiled = compiled::open(
            context,
            &self.model.source(),
            self.data.as_deref(),
            &self.input,
            &self.compile,
        )?;
        let files = match user {
            Some(key) => files_for_user(context, &compiled, key)?,
            None => protected_files(context, &compiled)?,
        };
        Ok((compiled, files))
    }
}

/// Stores the files as the next version of a name.
fn store(
    vault: &Vault,
    name: Name,
    labels: Vec<String>,
    files: &[File],
    days: u64,
) -> Result<ModelRecord, Failure> {
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
        labels,
        expires: now + days * SECONDS_A_DAY,
    };
    Ok(vault.store(&new, now)?)
}

fn say_stored(reply: &mut Reply, record: &ModelRecord) {
    let (model, deployment) = (record.reference(), record.deployment.to_string());
    reply.data["stored"] = json!({ "model": model, "deployment": deployment });
    reply.human.push_str(&format!("stored as {model}\n"));
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
    let mut files = Vec::new();
    if let Some(features) = &compiled.features {
        let bytes = scuro_nn::export::onnx(features)?;
        files.push(shared(FEATURES, bytes, "layers that run in clear"));
    }
    let evaluation = keys.evaluation.to_bytes(model.context());
    let public = keys.public.to_bytes(model.context());
    let program = model.program().to_bytes();
    let weights = protected.weights.to_bytes();
    let (key, private) = (keys.secret.to_bytes(), Zeroizing::new(private.to_bytes()));
    files.extend([
        shared(PROGRAM, program, "steps, layouts and parameters"),
        shared(WEIGHTS, weights, "encrypted weights"),
        shared(keygen::PUBLIC, public, "encrypts inputs"),
        shared(keygen::EVALUATION, evaluation, "computes, cannot decrypt"),
        secret(PRIVATE, private, "weights in clear: keep it"),
        secret(keygen::SECRET, key, "reads answers and weights: keep it"),
    ]);
    Ok(files)
}

/// Encrypts the weights for the user of an ensemble.
fn files_for_user(
    context: &Context,
    compiled: &Compiled,
    key: &Path,
) -> Result<Vec<File>, Failure> {
    let private = compiled.model.program();
    let public = PublicKey::from_bytes(&files::read(key)?, compiled.model.context());
    let public = public.at(key.display())?;
    let spinner = Progress::spinner(context, "encrypting the weights");
    let (model, weights) = protect_for_user(private, &public, &mut secrets::generator()?)?;
    drop(spinner);
    let program = model.program().to_bytes();
    let private = Zeroizing::new(private.to_bytes());
    Ok(vec![
        shared(PROGRAM, program, "steps, layouts and parameters"),
        shared(WEIGHTS, weights.to_bytes(), "encrypted weights"),
        secret(PRIVATE, private, "weights in clear: keep it"),
    ])
}

fn shared(name: &'static str, bytes: Vec<u8>, meaning: &'static str) -> File {
    File {
        place: [DEVICE, name],
        bytes: Zeroizing::new(bytes),
        access: Access::Shared,
        meaning,
    }
}

fn secret(name: &'static str, bytes: Zeroizing<Vec<u8>>, meaning: &'static str) -> File {
    File {
        place: [OWNER, name],
        bytes,
        access: Access::Secret,
        meaning,
    }
}

fn write_all(folder: &Path, files: &[File], overwrite: Overwrite) -> Result<(), Failure> {
    // The key, or where there is none the weights in clear, comes last: a folder with it is whole.
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
