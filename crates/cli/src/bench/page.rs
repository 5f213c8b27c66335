//! A benchmark as an HTML page.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::case::Outcome;
use crate::html;
use crate::machine::Machine;

/// The JSON of `scuro bench`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Machine, commit, kernel.
    pub(crate) header: Machine,
    /// How the times were taken.
    pub(crate) method: String,
    /// All cases.
    pub(crate) cases: Vec<Outcome>,
}

/// The page of a result file.
pub(crate) fn page(value: Value) -> serde_json::Result<String> {
    let results: Results = serde_json::from_value(value)?;
    Ok(html::bench_page(&results))
}
