//! Names of the metrics; docs/reference/ensemble.md explains them.

/// Queries, by outcome.
pub(super) const QUERIES: &str = "scuro_ensemble_queries_total";
/// Uploads of keys, by outcome.
pub(super) const UPLOADS: &str = "scuro_ensemble_key_uploads_total";
/// Time of each stage of an answer.
pub(super) const STAGE: &str = "scuro_ensemble_stage_seconds";
/// Key sets in memory.
pub(super) const KEY_SETS: &str = "scuro_ensemble_key_sets";
/// Bytes of key sets in memory.
pub(super) const KEY_BYTES: &str = "scuro_ensemble_key_bytes";
/// Queries that were answered to the coordinator again without computing.
pub(super) const REPEATED: &str = "scuro_ensemble_repeated_total";
/// Requests for masked predictions, by outcome.
pub(super) const RELEASES: &str = "scuro_ensemble_releases_total";
/// Answers of a holder, by holder and outcome.
pub(super) const ANSWERS: &str = "scuro_ensemble_holder_answers_total";
/// Time until a holder's answer, by holder.
pub(super) const HOLDER: &str = "scuro_ensemble_holder_seconds";
/// Whether a holder answers and fits, by holder.
pub(super) const HOLDER_UP: &str = "scuro_ensemble_holder_up";
