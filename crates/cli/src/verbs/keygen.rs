//! `scuro keygen model.scuro --out keys/`

use std::path::{Path, PathBuf};

use scuro_client::{KeySet, Model};
use serde_json::json;

use crate::context::Context;
use crate::errors::Failure;
use crate::files::{self, Access, Overwrite};
use crate::output::Reply;
use crate::progress::Progress;
use crate::table::Table;
use crate::{compiled, secrets, units};

/// File names in a key folder.
pub(crate) const SECRET: &str = "secret.key";
pub(crate) const EVALUATION: &str = "evaluation.keys";
pub(crate) const PUBLIC: &str = "public.key";

/// Arguments of `scuro keygen`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Compiled model.
    model: PathBuf,
    /// Folder for secret.key, evaluation.keys and public.key.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Replace keys that are there already.
    #[arg(long)]
    force: bool,
}

/// Makes the keys and writes all of them or none.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let overwrite = if arguments.force {
        Overwrite::Allow
    } else {
        Overwrite::Refuse
    };
    let paths = [SECRET, EVALUATION, PUBLIC].map(|name| arguments.out.join(name));
    paths
        .iter()
        .try_for_each(|path| files::refuse_existing(path, overwrite))?;
    let compiled = compiled::open_model(&arguments.model)?;
    let spinner = Progress::spinner(context, "making keys");
    let keys = KeySet::generate(&compiled.model, &mut secrets::generator()?)?;
    drop(spinner);
    let sizes = write(&compiled.model, &keys, &paths, overwrite)?;
    Ok(reply(context, &paths, sizes))
}

/// Writes the three files; their sizes.
fn write(
    model: &Model,
    keys: &KeySet,
    paths: &[PathBuf; 3],
    overwrite: Overwrite,
) -> Result<[u64; 3], Failure> {
    let secret = keys.secret.to_bytes();
    let evaluation = keys.evaluation.to_bytes(model.context());
    let public = keys.public.to_bytes(model.context());
    let contents = [
        (&secret[..], Access::Secret),
        (&evaluation, Access::Shared),
        (&public, Access::Shared),
    ];
    write_all(paths, contents, overwrite)?;
    Ok(contents.map(|(bytes, _)| bytes.len() as u64))
}

/// Writes all files or none: if one fails, those written before are removed.
pub(crate) fn write_all<const N: usize>(
    paths: &[PathBuf; N],
    contents: [(&[u8], Access); N],
    overwrite: Overwrite,
) -> Result<(), Failure> {
    for (index, (bytes, access)) in contents.into_iter().enumerate() {
        if let Err(failure) = files::write_with(&paths[index], bytes, overwrite, access) {
            for path in &paths[..index] {
                let _ = std::fs::remove_file(path);
            }
            return Err(failure);
        }
    }
    Ok(())
}

fn reply(context: &Context, paths: &[PathBuf; 3], sizes: [u64; 3]) -> Reply {
    let holders = [
        "keep it: whoever has it reads everything",
        "for the evaluator",
        "to encrypt",
    ];
    let mut table = Table::new(&["file", "size", ""]);
    let mut rows = Vec::new();
    for ((path, bytes), holder) in paths.iter().zip(sizes).zip(holders) {
        let shown = Path::new(path).display().to_string();
        table.row([&shown, &units::bytes(bytes), holder]);
        rows.push(json!({ "file": path, "bytes": bytes }));
    }
    Reply::new(json!({ "files": rows }), table.render(context.style)).with_rows(rows)
}
