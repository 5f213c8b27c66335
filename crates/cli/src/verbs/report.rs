//! `scuro report run.json -o run.html`

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::bench::gomez;
use crate::context::Context;
use crate::ensemble;
use crate::errors::Failure;
use crate::output::Reply;
use crate::report::{RUN_KIND, RunReport};
use crate::{files, html, units};

/// Arguments of `scuro report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// JSON of `scuro demo`, `bench`, `accuracy` or `ensemble evaluate`, with or without the
    /// envelope.
    input: PathBuf,
    /// The page; default: the input's name with `.html`.
    #[arg(long, short)]
    out: Option<PathBuf>,
}

/// Writes the page.
pub(crate) fn run(arguments: Arguments, _context: &Context) -> Result<Reply, Failure> {
    let bytes = files::read(&arguments.input)?;
    let page = render(&bytes).map_err(|failure| failure.at(arguments.input.display()))?;
    let out = arguments
        .out
        .unwrap_or_else(|| arguments.input.with_extension("html"));
    files::write(&out, page.as_bytes())?;
    let data = json!({ "page": out, "bytes": page.len() });
    let size = units::bytes(page.len() as u64);
    Ok(Reply::new(
        data,
        format!("wrote {} ({size})\n", out.display()),
    ))
}

fn render(bytes: &[u8]) -> Result<String, Failure> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|error| unreadable(&error))?;
    if value.get("schema_version").is_some() {
        value = value["data"].take();
    }
    if value.get("kind").and_then(Value::as_str) == Some(RUN_KIND) {
        let run: RunReport = serde_json::from_value(value).map_err(|error| unreadable(&error))?;
        return Ok(html::run_page(&run));
    }
    if value.get("kind").and_then(Value::as_str) == Some(gomez::KIND) {
        let tables = serde_json::from_value(value).map_err(|error| unreadable(&error))?;
        return Ok(html::tables_page(&tables));
    }
    if value.get("kind").and_then(Value::as_str) == Some(ensemble::EVALUATION_KIND) {
        let found = serde_json::from_value(value).map_err(|error| unreadable(&error))?;
        return Ok(html::ensemble_page(&found));
    }
    if value.get("cases").is_some() {
        return crate::bench::page(value).map_err(|error| unreadable(&error));
    }
    if value.get("accuracy").is_some_and(Value::is_number) {
        let machine = serde_json::from_value(value["machine"].take());
        let machine = machine.map_err(|error| unreadable(&error))?;
        let score = serde_json::from_value(value).map_err(|error| unreadable(&error))?;
        return Ok(html::score_page(&score, &machine));
    }
    Err(
        Failure::bad_input("report.unknown", "neither a run, a benchmark nor a scoring")
            .hint("make one with `scuro demo --format json` or `scuro bench he --format json`"),
    )
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::bad_input("report.unreadable", format!("not a report: {error}"))
        .hint("the file must be JSON from `scuro demo`, `scuro bench` or `scuro accuracy`")
}
