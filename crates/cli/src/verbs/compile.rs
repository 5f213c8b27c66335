//! `scuro compile model.onnx --data mnist -o model.scuro`

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::compiled::{self, CompileArguments, Compiled, ModelArguments};
use crate::context::Context;
use crate::errors::Failure;
use crate::inputs::InputArguments;
use crate::output::Reply;
use crate::verbs::plan;
use crate::{files, units};

/// Arguments of `scuro compile`.
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
    /// The compiled model.
    #[arg(long, short)]
    out: PathBuf,
    /// Folder for a text file after each pass.
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
}

/// Compiles and writes the model.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let graph = arguments.model.source().network()?;
    let compiled = compiled::compile(
        context,
        graph,
        arguments.data.as_deref(),
        &arguments.input,
        &arguments.compile,
    )?;
    if let Some(folder) = &arguments.dump {
        write_dumps(&compiled, folder)?;
    }
    let bytes = compiled.model.program().to_bytes();
    files::write(&arguments.out, &bytes)?;
    let mut data = plan::to_json(&compiled);
    data["written"] = json!({ "file": arguments.out, "bytes": bytes.len() });
    let size = units::bytes(bytes.len() as u64);
    let mut human = format!(
        "{}\nwrote {} ({size})\n",
        plan::summary(context, &compiled),
        arguments.out.display()
    );
    if let Some(features) = &compiled.features {
        let path = arguments.out.with_extension("features.onnx");
        files::write(&path, &scuro_nn::export::onnx(features)?)?;
        data["features"] = json!(path);
        human.push_str(&format!(
            "wrote {}: the layers before it, for `--features`\n",
            path.display()
        ));
    }
    Ok(Reply::new(data, human))
}

/// `01-shapes.txt`, `02-folding.txt`, ...
fn write_dumps(compiled: &Compiled, folder: &Path) -> Result<(), Failure> {
    let dumps = compiled
        .compilation
        .iter()
        .flat_map(|compilation| &compilation.dumps);
    for (i, dump) in dumps.enumerate() {
        let path = folder.join(format!("{:02}-{}.txt", i + 1, dump.pass));
        files::write(&path, dump.text.as_bytes())?;
    }
    Ok(())
}
