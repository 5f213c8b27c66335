//! The device's server: what the vault's deployment agent calls, over mutual TLS.
//!
//! The contract is [`scuro_wire::deployment`]. Everything but health and metrics needs the vault's
//! certificate.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use scuro_wire::deployment::{ARTEFACT_BYTES_HEADER, ArtefactStatus, DeploymentStatus, RollBack};
use scuro_wire::metrics::Metrics;
use scuro_wire::tls::Peer;
use scuro_wire::{Digest, Problem, limits, paths};
use serde::Deserialize;

use super::artefacts::Artefacts;
use super::counters::{ARTEFACTS, DEPLOYMENTS, DEPTH, LATENCY};
use super::deployments::Deployments;
use super::frame::FrameFault;
use super::spool::Spool;
use crate::error::Error;

/// What the routes share.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) artefacts: Arc<Artefacts>,
    pub(super) deployments: Arc<Deployments>,
    pub(super) spool: Spool,
    pub(super) metrics: Arc<Metrics>,
}

/// All routes of the device's server.
pub(super) fn router(device: Device) -> Router {
    Router::new()
        .route(paths::ARTEFACT, get(artefact).put(put_artefact))
        .route(paths::DEPLOYMENTS, get(list).post(activate))
        .route(paths::ROLLBACK, post(roll_back))
        .layer(DefaultBodyLimit::max(limits::CHUNK_BYTES))
        .with_state(device.clone())
        .merge(health(device))
}

/// Health and metrics: also for the local server of the HTTP source.
pub(super) fn health(device: Device) -> Router {
    Router::new()
        .route(paths::LIVE, get(|| async { StatusCode::OK }))
        .route(paths::READY, get(ready))
        .route(paths::METRICS, get(metrics))
        .with_state(device)
}

async fn ready(State(device): State<Device>) -> StatusCode {
    let has_model = device.deployments.active().borrow().is_some();
    match has_model {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn metrics(State(device): State<Device>) -> String {
    let depth = device.spool.depth();
    for (what, value) in [
        ("frames", depth.frames),
        ("frame-bytes", depth.frame_bytes),
        ("inferences", depth.inferences),
        ("inference-bytes", depth.inference_bytes),
    ] {
        device.metrics.set(DEPTH, &[("what", what)], value as f64);
    }
    if let Some([half, most]) = device.spool.latencies().quantiles([0.5, 0.99]) {
        for (quantile, value) in [("0.5", half), ("0.99", most)] {
            let labels = [("quantile", quantile)];
            device.metrics.set(LATENCY, &labels, value.as_secs_f64());
        }
    }
    device.metrics.render()
}

async fn artefact(
    State(device): State<Device>,
    Extension(peer): Extension<Peer>,
    Path(digest): Path<String>,
) -> Result<Response, Refusal> {
    only_the_vault(&peer)?;
    let digest: Digest = digest.parse().map_err(Error::from)?;
    let status = blocking(move || device.artefacts.status(&digest)).await?;
    if status.bytes_stored == 0 && !status.complete {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    Ok(with_headers(StatusCode::OK, &status))
}

#[derive(Debug, Deserialize)]
struct Offset {
    offset: u64,
}

async fn put_artefact(
    State(device): State<Device>,
    Extension(peer): Extension<Peer>,
    Path(digest): Path<String>,
    Query(Offset { offset }): Query<Offset>,
    headers: HeaderMap,
    piece: Bytes,
) -> Result<Response, Refusal> {
    only_the_vault(&peer)?;
    let digest: Digest = digest.parse().map_err(Error::from)?;
    let total = artefact_bytes(&headers)?;
    let store = device.clone();
    let appended = blocking(move || store.artefacts.append(&digest, offset, total, &piece)).await;
    let outcome = match &appended {
        Ok(_) => "stored",
        Err(Refusal(error)) => error.code(),
    };
    device.metrics.add(ARTEFACTS, &[("outcome", outcome)], 1);
    match appended {
        Ok(status) => {
            if status.complete {
                tracing::info!(%digest, bytes = total, "artefact complete and verified");
            }
            Ok(with_headers(StatusCode::OK, &status))
        }
        Err(Refusal(error @ Error::ArtefactOffset { .. })) => {
            tracing::info!(%digest, %error, "piece out of order");
            let status = blocking(move || device.artefacts.status(&digest)).await?;
            Ok(with_headers(StatusCode::CONFLICT, &status))
        }
        Err(Refusal(error)) => {
            tracing::warn!(%digest, %error, "piece refused");
            Err(Refusal(error))
        }
    }
}

fn artefact_bytes(headers: &HeaderMap) -> Result<u64, Error> {
    let value = headers.get(ARTEFACT_BYTES_HEADER);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    text.parse().map_err(|_| Error::Setting {
        what: ARTEFACT_BYTES_HEADER,
        found: text.chars().take(40).collect(),
        expected: "the number of bytes of the whole artefact",
    })
}

fn with_headers(code: StatusCode, status: &ArtefactStatus) -> Response {
    let headers = [
        (paths::BYTES_STORED_HEADER, status.bytes_stored.to_string()),
        (paths::COMPLETE_HEADER, status.complete.to_string()),
    ];
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), value));
    (code, headers, Json(status)).into_response()
}

async fn list(
    State(device): State<Device>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Refusal> {
    only_the_vault(&peer)?;
    Ok(Json(device.deployments.list()).into_response())
}

async fn activate(
    State(device): State<Device>,
    Extension(peer): Extension<Peer>,
    manifest: Bytes,
) -> Result<Response, Refusal> {
    only_the_vault(&peer)?;
    let deployments = Arc::clone(&device.deployments);
    let outcome = blocking(move || deployments.activate(&manifest)).await;
    answer(&device, "activated", outcome)
}

async fn roll_back(
    State(device): State<Device>,
    Extension(peer): Extension<Peer>,
    Query(RollBack { leave }): Query<RollBack>,
) -> Result<Response, Refusal> {
    only_the_vault(&peer)?;
    let deployments = Arc::clone(&device.deployments);
    let outcome = blocking(move || deployments.roll_back(leave.as_ref())).await;
    answer(&device, "rolled-back", outcome)
}

fn answer(
    device: &Device,
    done: &'static str,
    outcome: Result<DeploymentStatus, Refusal>,
) -> Result<Response, Refusal> {
    let word = match &outcome {
        Ok(status) => {
            let (model, version) = (&status.name, status.version);
            tracing::info!(%model, version, outcome = done, "deployment");
            done
        }
        Err(Refusal(error)) => {
            tracing::warn!(%error, "deployment refused; the version before stays active");
            error.code()
        }
    };
    device.metrics.add(DEPLOYMENTS, &[("outcome", word)], 1);
    outcome.map(|status| Json(status).into_response())
}

fn only_the_vault(peer: &Peer) -> Result<(), Refusal> {
    if peer.is_vault() {
        return Ok(());
    }
    tracing::warn!(peer = %peer.name, "a peer that is not the vault was refused");
    Err(Refusal(Error::NotTheVault {
        peer: peer.name.clone(),
    }))
}

/// Files, hashing and loading keys take longer than a task may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| Error::Panicked)??)
}

/// An error as an answer.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let problem = Problem::new(error.code(), error.to_string(), error.hint());
        (status(&error), Json(problem)).into_response()
    }
}

/// The one place that maps errors to HTTP statuses.
fn status(error: &Error) -> StatusCode {
    match error {
        Error::NotTheVault { .. } => StatusCode::FORBIDDEN,
        Error::Frame(FrameFault::IdReused)
        | Error::ArtefactOffset { .. }
        | Error::ArtefactMissing { .. }
        | Error::NoPrevious => StatusCode::CONFLICT,
        Error::Frame(FrameFault::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
        Error::Frame(FrameFault::Interrupted { .. }) => StatusCode::REQUEST_TIMEOUT,
        Error::Frame(FrameFault::Bug) => StatusCode::INTERNAL_SERVER_ERROR,
        Error::Frame(_) | Error::Wire(_) | Error::Setting { .. } => StatusCode::BAD_REQUEST,
        Error::QueueFull { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::NoModel | Error::Stopping | Error::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::StorageFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
        Error::ArtefactLength { .. }
        | Error::ArtefactBytes { .. }
        | Error::ArtefactDigest { .. }
        | Error::Parameters { .. }
        | Error::ForeignKey { .. }
        | Error::Expired { .. }
        | Error::Features { .. }
        | Error::Packing { .. }
        | Error::Model(_)
        | Error::Runtime(_)
        | Error::Network(_) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
