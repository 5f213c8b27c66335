//! A benchmark as an HTML page.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::case::Outcome;
use super::gomez::Tables;
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
    /// The tables of the group that has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tables: Option<Tables>,
}

/// The page of a result file.
pub(crate) fn page(value: Value) -> serde_json::Result<String> {
    let results: Results = serde_json::from_value(value)?;
    Ok(html::bench_page(&results))
}
