//! Endpoints.

/// Vault: registers a batch of queries (`POST`, [`crate::query::QueryBatch`]).
pub const QUERIES: &str = "/v1/queries";
/// Vault: forgets queries that will not be answered (`POST`, [`crate::query::WithdrawalBatch`]).
pub const WITHDRAWALS: &str = "/v1/queries/withdrawals";
/// Vault: a batch of encrypted inferences (`POST`, [`crate::inference`]).
pub const INFERENCES: &str = "/v1/inferences";
/// Vault: decrypted results, for backend users only (`GET ?after=SEQ&limit=N`).
pub const RESULTS: &str = "/v1/results";
/// Device: one artefact, `{digest}` in hexadecimal. `HEAD` and `GET` answer
/// [`crate::deployment::ArtefactStatus`], `PUT ?offset=N` appends a piece.
pub const ARTEFACT: &str = "/v1/artefacts/{digest}";
/// Device: `GET` lists deployments, `POST` with the bytes of a manifest activates one.
pub const DEPLOYMENTS: &str = "/v1/deployments";
/// Device: goes back to the deployment before (`POST ?leave=DIGEST`, [`roll_back`]).
pub const ROLLBACK: &str = "/v1/deployments/rollback";
/// Holder and coordinator of an ensemble: the bytes of the face (`GET`).
pub const FACE: &str = "/v1/ensemble/face";
/// Coordinator of an ensemble: the file of rules, if it has one (`GET`).
pub const RULES: &str = "/v1/ensemble/rules";
/// Holder and coordinator: [`crate::ensemble::EnsembleStatus`] (`GET`).
pub const ENSEMBLE: &str = "/v1/ensemble";
/// Holder and coordinator: [`crate::ensemble::ModelMetadata`] (`GET`).
pub const MODEL: &str = "/v2/models/ensemble";
/// Holder and coordinator: an encrypted query (`POST`, [`crate::predict`]).
pub const INFER: &str = "/v2/models/ensemble/infer";
/// Holder that masks: the same query (`POST`); it computes, holds what it computed, and answers
/// [`crate::mask::Offer`].
pub const OFFER: &str = "/v1/masks/offer";
/// Holder that masks: [`crate::mask::Release`] (`POST`); it answers with the masked prediction.
pub const RELEASE: &str = "/v1/masks/release";
/// Holder and coordinator: one set of evaluation keys (`PUT`), `{digest}` in hexadecimal.
pub const KEY_SET: &str = "/v1/keys/{digest}";
/// All: Prometheus' text.
pub const METRICS: &str = "/metrics";
/// All: the process runs.
pub const LIVE: &str = "/v2/health/live";
/// All: the process can take work.
pub const READY: &str = "/v2/health/ready";

/// Path of one artefact.
pub fn artefact(digest: &crate::Digest) -> String {
    format!("/v1/artefacts/{digest}")
}

/// Path of one set of evaluation keys.
pub fn key_set(digest: &crate::Digest) -> String {
    format!("/v1/keys/{digest}")
}

/// Path of a roll-back that leaves this deployment.
pub fn roll_back(leave: &crate::Digest) -> String {
    format!("{ROLLBACK}?leave={leave}")
}

/// Header of a `HEAD` answer: bytes that the device holds of an artefact.
pub const BYTES_STORED_HEADER: &str = "x-scuro-bytes-stored";
/// Header of a `HEAD` answer: `true` once the digest of the whole is verified.
pub const COMPLETE_HEADER: &str = "x-scuro-complete";
