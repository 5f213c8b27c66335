//! The other process: it is given a folder with the compiled model, evaluation keys and encrypted
//! images, and no more.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use scuro_client::{Bundle, KeySet, Model};
use serde_json::Value;

use crate::errors::{At, Exit, Failure};
use crate::files;
use crate::verbs::evaluate::Account;
use crate::verbs::keygen;

const MODEL: &str = "model.scuro";
const WEIGHTS: &str = "weights.ct";
const REPLIES: &str = "replies";

/// Sizes of what was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) program: u64,
    pub(crate) evaluation: u64,
    pub(crate) secret: u64,
    pub(crate) query: u64,
}

/// The evaluator's folder.
pub(crate) struct Workspace {
    folder: PathBuf,
    /// Removes the folder at the end, unless it is to be kept.
    _temporary: Option<tempfile::TempDir>,
}

impl Workspace {
    /// A folder that is removed afterwards, or `keep`.
    pub(crate) fn new(keep: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(folder) = keep {
            std::fs::create_dir_all(&folder).map_err(|e| Failure::io("create", &folder, &e))?;
            return Ok(Self {
                folder,
                _temporary: None,
            });
        }
        let temporary = tempfile::Builder::new()
            .prefix("scuro-evaluator-")
            .tempdir();
        let temporary =
            temporary.map_err(|error| Failure::io("create", &std::env::temp_dir(), &error))?;
        Ok(Self {
            folder: temporary.path().to_path_buf(),
            _temporary: Some(temporary),
        })
    }

    /// Writes what the evaluator may have.
    pub(crate) fn fill(
        &self,
        model: &Model,
        keys: &KeySet,
        queries: &[Vec<u8>],
    ) -> Result<Sizes, Failure> {
        let program = model.program().to_bytes();
        let evaluation = keys.evaluation.to_bytes(model.context());
        files::write(&self.folder.join(MODEL), &program)?;
        files::write(&self.folder.join(keygen::EVALUATION), &evaluation)?;
        for (i, query) in queries.iter().enumerate() {
            files::write(&self.folder.join(query_name(i)), query)?;
        }
        Ok(Sizes {
            program: program.len() as u64,
            evaluation: evaluation.len() as u64,
            secret: keys.secret.to_bytes().len() as u64,
            query: queries.first().map_or(0, |query| query.len() as u64),
        })
    }

    /// Adds the encrypted weights of a protected model.
    pub(crate) fn fill_weights(&self, weights: &Bundle) -> Result<(), Failure> {
        files::write(&self.folder.join(WEIGHTS), &weights.to_bytes())
    }

    /// Starts `scuro evaluate` in the folder and waits for it.
    pub(crate) fn evaluate(&self, threads: usize, queries: usize) -> Result<Account, Failure> {
        let out = if queries > 1 {
            REPLIES.to_string()
        } else {
            reply_name(0)
        };
        let mut arguments = vec![MODEL, "--keys", keygen::EVALUATION, "--out", &out];
        if self.folder.join(WEIGHTS).is_file() {
            arguments.extend(["--weights", WEIGHTS]);
        }
        let names: Vec<String> = (0..queries).map(query_name).collect();
        arguments.extend(names.iter().map(String::as_str));
        let account = self.run("evaluate", &arguments, threads)?;
        serde_json::from_value(account)
            .map_err(|e| Failure::internal(format!("the evaluator's account: {e}")))
    }

    /// Runs a verb as a process of its own in the folder; the data of its answer.
    pub(crate) fn run(
        &self,
        verb: &str,
        arguments: &[&str],
        threads: usize,
    ) -> Result<Value, Failure> {
        let binary = std::env::current_exe()
            .map_err(|error| Failure::internal(format!("where is this program? {error}")))?;
        let mut command = Command::new(binary);
        command.arg(verb).args(arguments);
        command.args(["--format", "json", "--quiet", "--threads"]);
        command.arg(threads.to_string());
        command.current_dir(&self.folder).stdin(Stdio::null());
        let output = command.output().map_err(|error| {
            let message = format!("no second process: {error}");
            Failure::new(Exit::JobFailed, "evaluator.failed", message)
        })?;
        data(verb, &output.stdout, output.status.code())
    }

    /// A file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The reply for query `index`.
    pub(crate) fn reply(&self, index: usize) -> Result<Bundle, Failure> {
        let path = self.folder.join(reply_name(index));
        Bundle::from_bytes(&files::read(&path)?).at(Path::new(&path).display())
    }
}

fn query_name(index: usize) -> String {
    format!("image-{index:03}.ct")
}

fn reply_name(index: usize) -> String {
    format!("{REPLIES}/{}", query_name(index))
}

/// The data in another process's envelope, or its error as ours.
fn data(verb: &str, stdout: &[u8], exit: Option<i32>) -> Result<Value, Failure> {
    let mut envelope: Value = serde_json::from_slice(stdout).unwrap_or(Value::Null);
    if envelope["status"] == "ok" {
        return Ok(envelope["data"].take());
    }
    let said = envelope["message"]
        .as_str()
        .unwrap_or("no message")
        .to_string();
    let message = format!("the process of `scuro {verb}` ended with {exit:?}: {said}");
    Err(Failure::new(Exit::JobFailed, "evaluator.failed", message)
        .hint("run it again with --keep DIR and look at what the evaluator was given"))
}
