//! The command line: parsing, dispatch, and the way out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::context::{Context, Format};
use crate::errors::{Exit, Failure};
use crate::output::{self, Reply};
use crate::style::Style;
use crate::verbs;

const LONG_ABOUT: &str = "Neural networks that work in the dark.\n\n\
    Scuro compiles a trained network to a program that another machine runs on encrypted data: \
    it sees neither the image nor the answer. Start with `scuro demo`.";

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  the job failed
  2  no connection
  3  it took too long
  4  wrong arguments, or a file that is not what it should be
  5  a bug in Scuro
  6  refused: parameters below the security level, a key or model that does not belong,
     a wrong checksum

Data is looked for in --data-dir, $SCURO_DATA, ../shared/data and the cache (see `scuro data list`).
`--format json` prints {schema_version, status, data}, or
{schema_version, status, error_code, exit_code, message, hint}.";

/// Arguments of `scuro`.
#[derive(Debug, Parser)]
#[command(
    name = "scuro",
    version,
    about = "Neural networks that work in the dark."
)]
#[command(long_about = LONG_ABOUT, after_long_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
struct Global {
    /// Form of the data on standard output.
    #[arg(long, global = true, value_enum, default_value_t)]
    format: Format,
    /// No notes and no progress on standard error.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// More notes; twice for even more.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Folder that holds the data sets, one folder each.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Threads of an evaluation; 0 = all cores.
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    threads: usize,
}

/// Declares the verbs once: the subcommand enum and its dispatch.
///
/// Expands to `enum Verb { Demo(verbs::demo::Arguments), ... }` and a `run` that calls
/// `verbs::demo::run`.
macro_rules! verbs {
    ($($(#[$about:meta])* $variant:ident => $module:ident,)*) => {
        #[derive(Debug, clap::Subcommand)]
        enum Verb {
            $($(#[$about])* $variant(verbs::$module::Arguments),)*
        }

        impl Verb {
            fn run(self, context: &Context) -> Result<Reply, Failure> {
                match self {
                    $(Self::$variant(arguments) => verbs::$module::run(arguments, context),)*
                }
            }
        }
    };
}

verbs! {
    /// Encrypted predictions from start to end, with a report.
    Demo => demo,
    /// Check this machine: processor, memory, data.
    Doctor => doctor,
    /// List, fetch, show or generate data sets.
    Data => data,
    /// Train a network that encryption likes.
    Train => train,
    /// Compare what can stand for ReLU: accuracy before and after fine-tuning.
    Activations => activations,
    /// Read a network of another tool, check it, write it as ONNX.
    Import => import,
    /// Explain any file: network, compiled model, key, ciphertext.
    Inspect => inspect,
    /// Predict what encryption would answer, without encrypting.
    Simulate => simulate,
    /// Predict time, memory, sizes and error before anything costly.
    Plan => plan,
    /// Compile a network to a program that runs on ciphertexts.
    Compile => compile,
    /// Encrypt a network's weights, so that only its owner can read them.
    Protect => protect,
    /// Make secret, evaluation and public keys for a compiled model.
    Keygen => keygen,
    /// Encrypt images into a query.
    Encrypt => encrypt,
    /// Run a compiled model on a query, without the secret key.
    Evaluate => evaluate,
    /// Decrypt a reply.
    Decrypt => decrypt,
    /// Predict pictures of digits, encrypted from end to end.
    Predict => predict,
    /// Score a model on a data set, clear, simulated or encrypted.
    Accuracy => accuracy,
    /// Keep protected models, their keys and devices; decrypt what devices send.
    Vault => vault,
    /// Push a protected model to a device, or take it back.
    Deploy => deploy,
    /// Run a device that computes on encrypted data for a vault.
    Edge => edge,
    /// Answer encrypted queries to one network of an ensemble.
    Holder => holder,
    /// Combine the encrypted predictions of several holders.
    Coordinator => coordinator,
    /// Train networks on parts of the data, combine their predictions, have pictures predicted.
    Ensemble => ensemble,
    /// Measure every figure that Scuro promises.
    Bench => bench,
    /// Turn the JSON of a run or a benchmark into an HTML page.
    Report => report,
    /// Print a completion script for a shell.
    Completion => completion,
}

/// Runs the program.
pub(crate) fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse_arguments(&error),
    };
    let context = context(&arguments.global);
    let outcome = catch_unwind(AssertUnwindSafe(|| arguments.verb.run(&context)));
    let outcome = outcome.unwrap_or_else(|_| {
        Err(Failure::internal(
            "the program panicked; the message stands above",
        ))
    });
    match outcome {
        Ok(reply) => {
            output::emit(&reply, context.format);
            ExitCode::from(reply.exit)
        }
        Err(failure) => {
            output::emit_failure(&failure, context.format);
            ExitCode::from(failure.exit.code())
        }
    }
}

/// The whole command, for completions.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

fn context(global: &Global) -> Context {
    Context {
        format: global.format,
        quiet: global.quiet,
        verbose: global.verbose,
        style: Style::detect(),
        data_dir: global.data_dir.clone(),
        threads: global.threads,
    }
}

/// Help and version go out as they are; wrong arguments leave with our exit code and envelope.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        output::write_out(&error.render().to_string());
        return ExitCode::SUCCESS;
    }
    let wants_json = wanted_format();
    if wants_json == Format::Table {
        output::error_line(error.render().to_string().trim_end());
        return ExitCode::from(Exit::BadInput.code());
    }
    let text = error.render().to_string();
    let first = text
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ");
    let failure = Failure::bad_input("arguments.invalid", first).hint("see `scuro --help`");
    output::emit_failure(&failure, wants_json);
    ExitCode::from(failure.exit.code())
}

/// The format asked for in arguments that could not be parsed.
fn wanted_format() -> Format {
    let words: Vec<String> = std::env::args().collect();
    let asked = |word: &str| {
        words.iter().any(|w| *w == format!("--format={word}"))
            || words
                .windows(2)
                .any(|pair| pair[0] == "--format" && pair[1] == word)
    };
    match (asked("json"), asked("jsonl")) {
        (true, _) => Format::Json,
        (_, true) => Format::Jsonl,
        _ => Format::Table,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
