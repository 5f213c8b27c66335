//! The one place that writes: data to standard output, notes to standard error.

use std::io::Write;

use serde_json::{Value, json};

use crate::context::Format;
use crate::errors::Failure;

/// Version of the JSON envelope.
const SCHEMA_VERSION: &str = "1";

/// What a verb answers.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// The answer for programs.
    pub(crate) data: Value,
    /// One object a line for `jsonl`; empty = `data` on one line.
    pub(crate) rows: Vec<Value>,
    /// The answer for people.
    pub(crate) human: String,
    /// Exit code; 0 unless the answer itself is a no.
    pub(crate) exit: u8,
}

impl Reply {
    /// An answer without rows.
    pub(crate) fn new(data: Value, human: impl Into<String>) -> Self {
        Self {
            data,
            rows: Vec::new(),
            human: human.into(),
            exit: 0,
        }
    }

    /// Adds the rows for `jsonl`.
    pub(crate) fn with_rows(mut self, rows: Vec<Value>) -> Self {
        self.rows = rows;
        self
    }
}

/// Writes a reply in the form asked for.
pub(crate) fn emit(reply: &Reply, format: Format) {
    match format {
        Format::Table => write_out(&reply.human),
        Format::Json => {
            let envelope = json!({
                "schema_version": SCHEMA_VERSION, "status": "ok", "data": reply.data
            });
            write_out(&format!("{envelope:#}\n"));
        }
        Format::Jsonl if reply.rows.is_empty() => write_out(&format!("{}\n", reply.data)),
        Format::Jsonl => reply
            .rows
            .iter()
            .for_each(|row| write_out(&format!("{row}\n"))),
    }
}

/// Writes a failure: for people on standard error, as an envelope on standard output.
pub(crate) fn emit_failure(failure: &Failure, format: Format) {
    error_line(&format!("error[{}]: {}", failure.code, failure.message));
    if let Some(hint) = &failure.hint {
        error_line(&format!("  hint: {hint}"));
    }
    let envelope = failure_envelope(failure);
    match format {
        Format::Table => {}
        Format::Json => write_out(&format!("{envelope:#}\n")),
        Format::Jsonl => write_out(&format!("{envelope}\n")),
    }
}

fn failure_envelope(failure: &Failure) -> Value {
    json!({
        "schema_version": SCHEMA_VERSION,
        "status": "error",
        "error_code": failure.code,
        "exit_code": failure.exit.code(),
        "message": failure.message,
        "hint": failure.hint,
    })
}

/// Writes to standard output; a reader that went away is not our error.
pub(crate) fn write_out(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// Writes a line to standard error.
pub(crate) fn error_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
