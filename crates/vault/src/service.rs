//! The vault's HTTPS API, and the plain one for metrics and health on loopback.
//!
//! Work is bounded before a body is read: so many requests at once, so many a device, and a body
//! limit for each endpoint. What does not fit gets 429 or 503 and when to come back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use hyper::StatusCode;
use hyper::body::Bytes;
use scuro_wire::inference::InferenceBatch;
use scuro_wire::metrics::Metrics;
use scuro_wire::mqtt::Topic;
use scuro_wire::query::{QueryBatch, WithdrawalBatch};
use scuro_wire::tls::Peer;
use scuro_wire::{Name, Problem, WireError, https, limits, paths};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock::{now, now_ms};
use crate::devices::{PeerRecord, PeerRole};
use crate::error::VaultError;
use crate::intake::Intake;
use crate::publish::{self, Source, blocking};
use crate::results::keep_labels_only;
use crate::vault::Vault;

/// Requests that may be worked on at once; each may hold a body in memory.
pub const REQUESTS: usize = 16;
/// Of these, from one device.
pub const REQUESTS_PER_DEVICE: usize = 4;
/// Free bytes below which the vault says that it is not ready.
pub const FREE_BYTES_MIN: u64 = 64 << 20;
/// Seconds that a refused client should wait.
const RETRY_SECONDS: u64 = 1;
/// Time between two looks for queries that nobody answered.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// Time for the sinks to end.
const SINKS_END: Duration = Duration::from_secs(5);
/// Counter of requests by endpoint and status.
pub const REQUESTS_METRIC: &str = "scuro_vault_requests_total";
/// Counter of peers that were refused after the handshake, by reason.
pub const PEERS_REFUSED_METRIC: &str = "scuro_vault_peers_refused_total";

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where devices and users connect, with certificates.
    pub listen: SocketAddr,
    /// Metrics and health without certificates; loopback, or behind something that guards it.
    pub metrics: Option<SocketAddr>,
    /// File of JSON lines.
    pub results_file: Option<PathBuf>,
    /// MQTT topic; the model's name is added to it.
    pub mqtt: Option<Topic>,
    /// Leave the scores out of file, topic and API, and round the confidence.
    pub labels_only: bool,
}

/// Addresses that a started vault listens on.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// For devices and users.
    pub https: SocketAddr,
    /// For metrics and health.
    pub metrics: Option<SocketAddr>,
}

#[derive(Clone)]
struct Service {
    vault: Arc<Vault>,
    intake: Arc<Intake>,
    metrics: Arc<Metrics>,
    requests: Arc<Semaphore>,
    per_device: Arc<Mutex<HashMap<Name, usize>>>,
    news: watch::Sender<u64>,
    labels_only: bool,
}

/// Serves until `stop` is ready, then finishes what is under way. Calls `started` once it listens.
///
/// # Errors
/// [`VaultError::Listen`], [`VaultError::File`] if another process serves this vault.
pub async fn serve(
    vault: Arc<Vault>,
    options: ServeOptions,
    started: impl FnOnce(Listening),
    stop: impl Future<Output = ()>,
) -> Result<(), VaultError> {
    let _lock = vault.lock()?;
    let (news, subscribed) = watch::channel(0);
    let service = Service::new(&vault, news, options.labels_only);
    let tls = vault.identity(now())?.server_config()?;
    let (listener, https) = bind(options.listen).await?;
    let (plain, observed) = match options.metrics {
        Some(address) => bind(address).await.map(|(l, a)| (Some(l), Some(a)))?,
        None => (None, None),
    };
    let metrics = Arc::clone(&service.metrics);
    let source = Source {
        vault,
        metrics: Arc::clone(&metrics),
        news: subscribed,
        labels_only: options.labels_only,
    };
    let mut sinks = start_sinks(source, options);
    let observer = plain.map(|listener| {
        let router = observation().with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, router).await })
    });
    let pruner = tokio::spawn(prune(Arc::clone(&service.intake), PRUNE_EVERY));
    tracing::info!(address = %https, "vault listens");
    started(Listening {
        https,
        metrics: observed,
    });
    https::serve(listener, tls, router(service), metrics, stop).await;
    pruner.abort();
    let _ = pruner.await;
    if let Some(observer) = observer {
        observer.abort();
        let _ = observer.await;
    }
    // The last sender is gone with the routers, and sinks end once they have seen it. One that
    // waits for its broker is cut off: its results wait in the log.
    let _ = timeout(SINKS_END, async {
        while sinks.join_next().await.is_some() {}
    })
    .await;
    tracing::info!("vault stopped");
    Ok(())
}

impl Service {
    fn new(vault: &Arc<Vault>, news: watch::Sender<u64>, labels_only: bool) -> Self {
        let metrics = Arc::new(Metrics::default());
        let intake = Intake::new(Arc::clone(vault), Arc::clone(&metrics));
        Self {
            vault: Arc::clone(vault),
            intake: Arc::new(intake),
            metrics,
            requests: Arc::new(Semaphore::new(REQUESTS)),
            per_device: Arc::default(),
            news,
            labels_only,
        }
    }
}

/// Forgets what nobody answered, now and every `pause`, to the end of the service.
async fn prune(intake: Arc<Intake>, pause: Duration) {
    let mut turns = tokio::time::interval(pause);
    loop {
        turns.tick().await;
        let intake = Arc::clone(&intake);
        match blocking(move || intake.prune(now_ms())).await {
            Ok(0) => {}
            Ok(pruned) => tracing::info!(pruned, "queries without an answer are forgotten"),
            Err(error) => tracing::error!(%error, "old queries could not be forgotten"),
        }
    }
}

fn start_sinks(source: Source, options: ServeOptions) -> JoinSet<()> {
    let mut sinks = JoinSet::new();
    if let Some(path) = options.results_file {
        sinks.spawn(publish::to_file(source.clone(), path));
    }
    if let Some(topic) = options.mqtt {
        sinks.spawn(publish::to_mqtt(source, topic));
    }
    sinks
}

/// Opens a port; gives its address, which matters if port 0 was asked for.
async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), VaultError> {
    let fail = |source| VaultError::Listen {
        address: address.to_string(),
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}

fn router(service: Service) -> Router {
    let bounded = |limit| DefaultBodyLimit::max(limit);
    let work = Router::new()
        .route(
            paths::QUERIES,
            post(register).layer(bounded(limits::QUERY_BATCH_BYTES)),
        )
        .route(
            paths::WITHDRAWALS,
            post(withdraw).layer(bounded(limits::QUERY_BATCH_BYTES)),
        )
        .route(
            paths::INFERENCES,
            post(accept).layer(bounded(limits::INFERENCE_BATCH_BYTES)),
        )
        .route_layer(middleware::from_fn_with_state(
            service.clone(),
            admit_device,
        ));
    let reading = Router::new()
        .route(paths::RESULTS, get(results))
        .route(paths::METRICS, get(metrics))
        .route_layer(middleware::from_fn_with_state(service.clone(), admit_user));
    let health = Router::new()
        .route(paths::LIVE, get(live))
        .route(paths::READY, get(ready));
    let counted = middleware::from_fn_with_state(service.clone(), count);
    work.merge(reading)
        .merge(health)
        .fallback(unknown)
        .layer(counted)
        .with_state(service)
}

/// Without certificates: numbers only.
fn observation() -> Router<Service> {
    Router::new()
        .route(paths::METRICS, get(metrics))
        .route(paths::LIVE, get(live))
        .route(paths::READY, get(ready))
        .fallback(unknown)
}

async fn register(
    State(service): State<Service>,
    Extension(device): Extension<PeerRecord>,
    body: Bytes,
) -> Result<Response, Failed> {
    let batch = QueryBatch::from_bytes(&body)?;
    let intake = Arc::clone(&service.intake);
    let reply = blocking(move || intake.register(&device.name, &batch, now_ms())).await?;
    Ok(Json(reply).into_response())
}

async fn withdraw(
    State(service): State<Service>,
    Extension(device): Extension<PeerRecord>,
    body: Bytes,
) -> Result<Response, Failed> {
    let batch = WithdrawalBatch::from_bytes(&body)?;
    let intake = Arc::clone(&service.intake);
    let reply = blocking(move || intake.withdraw(&device.name, &batch)).await?;
    Ok(Json(reply).into_response())
}

async fn accept(
    State(service): State<Service>,
    Extension(device): Extension<PeerRecord>,
    body: Bytes,
) -> Result<Response, Failed> {
    let intake = Arc::clone(&service.intake);
    let reply = blocking(move || {
        let batch = InferenceBatch::from_bytes(&body)?;
        drop(body);
        intake.accept(&device.name, batch, now_ms())
    })
    .await?;
    let newest = reply.acks.iter().filter_map(|ack| ack.receipt).max();
    if let Some(newest) = newest {
        service.news.send_replace(newest);
    }
    Ok(Json(reply).into_response())
}

/// What `GET /v1/results` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    #[serde(default)]
    after: u64,
    #[serde(default = "full_page")]
    limit: usize,
}

fn full_page() -> usize {
    limits::RESULTS_PER_PAGE
}

async fn results(
    State(service): State<Service>,
    Query(page): Query<PageQuery>,
) -> Result<Response, Failed> {
    let vault = Arc::clone(&service.vault);
    let mut page = blocking(move || vault.results(page.after, page.limit)).await?;
    if service.labels_only {
        keep_labels_only(&mut page.results);
    }
    Ok(Json(page).into_response())
}

async fn metrics(State(service): State<Service>) -> Response {
    let intake = Arc::clone(&service.intake);
    if let Err(error) = blocking(move || intake.measure()).await {
        // The other numbers are all the more wanted.
        tracing::error!(%error, "open queries could not be counted");
    }
    let text = "text/plain; version=0.0.4";
    ([(CONTENT_TYPE, text)], service.metrics.render()).into_response()
}

async fn live() -> StatusCode {
    StatusCode::OK
}

async fn ready(State(service): State<Service>) -> Result<StatusCode, Failed> {
    let vault = Arc::clone(&service.vault);
    blocking(move || {
        vault.last_result()?;
        check_space(&vault)
    })
    .await?;
    Ok(StatusCode::OK)
}

fn check_space(vault: &Vault) -> Result<(), VaultError> {
    let folder = vault.folder();
    let space = rustix::fs::statvfs(folder)
        .map_err(|error| VaultError::file("look at", folder, error.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < FREE_BYTES_MIN {
        let action = format!("{free} bytes are free, {FREE_BYTES_MIN} are needed");
        return Err(VaultError::DiskFull { action });
    }
    Ok(())
}

async fn unknown() -> Failed {
    let problem = Problem::new(
        "http.not-found",
        "there is no such endpoint",
        "see docs/reference/vault.md",
    );
    Failed(StatusCode::NOT_FOUND, problem)
}

/// Lets active devices in, as many at once as there is room for, before their bodies are read.
async fn admit_device(
    State(service): State<Service>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failed> {
    let record = authorise(&service, &peer, PeerRole::Device).await?;
    let Some(_place) = DevicePlace::take(&service, &record.name) else {
        https::drain(request.into_body()).await;
        return Err(Failed::busy(StatusCode::TOO_MANY_REQUESTS));
    };
    let Ok(_permit) = service.requests.try_acquire() else {
        https::drain(request.into_body()).await;
        return Err(Failed::busy(StatusCode::SERVICE_UNAVAILABLE));
    };
    request.extensions_mut().insert(record);
    Ok(next.run(request).await)
}

/// Lets backend users in; a device never reads results.
async fn admit_user(
    State(service): State<Service>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, Failed> {
    authorise(&service, &peer, PeerRole::User).await?;
    Ok(next.run(request).await)
}

async fn authorise(service: &Service, peer: &Peer, role: PeerRole) -> Result<PeerRecord, Failed> {
    let (vault, known) = (Arc::clone(&service.vault), peer.clone());
    let found = blocking(move || vault.authorise(&known, role, now())).await;
    found.map_err(|error| {
        let reason = match &error {
            VaultError::Peer { reason, .. } => reason,
            VaultError::WrongRole { .. } => "role",
            _ => "error",
        };
        let labels = [("reason", reason)];
        service.metrics.add(PEERS_REFUSED_METRIC, &labels, 1);
        tracing::warn!(peer = %peer.name, reason, "peer refused");
        Failed::from(error)
    })
}

async fn count(State(service): State<Service>, request: Request, next: Next) -> Response {
    let known = [
        paths::QUERIES,
        paths::WITHDRAWALS,
        paths::INFERENCES,
        paths::RESULTS,
    ];
    let path = request.uri().path();
    let endpoint = known.into_iter().find(|known| *known == path);
    let response = next.run(request).await;
    let status = response.status();
    let labels = [
        ("endpoint", endpoint.unwrap_or("other")),
        ("status", status.as_str()),
    ];
    service.metrics.add(REQUESTS_METRIC, &labels, 1);
    response
}

/// One of the places of a device; given back when it is dropped.
struct DevicePlace {
    places: Arc<Mutex<HashMap<Name, usize>>>,
    device: Name,
}

impl DevicePlace {
    fn take(service: &Service, device: &Name) -> Option<Self> {
        let places = Arc::clone(&service.per_device);
        let mut taken = places.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(device.clone()).or_insert(0);
        if *count >= REQUESTS_PER_DEVICE {
            return None;
        }
        *count += 1;
        drop(taken);
        let device = device.clone();
        Some(Self { places, device })
    }
}

impl Drop for DevicePlace {
    fn drop(&mut self) {
        let mut taken = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.device) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.device);
            }
        }
    }
}

/// A refusal on its way out.
struct Failed(StatusCode, Problem);

impl Failed {
    fn busy(status: StatusCode) -> Self {
        let problem = Problem::new(
            "vault.busy",
            "too many requests at once",
            "wait for the seconds in Retry-After and send it again",
        );
        Self(status, problem)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Self(status, problem) = self;
        let later = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::INSUFFICIENT_STORAGE
        );
        let mut response = (status, Json(problem)).into_response();
        if later {
            response
                .headers_mut()
                .insert(RETRY_AFTER, RETRY_SECONDS.into());
        }
        response
    }
}

impl From<WireError> for Failed {
    fn from(error: WireError) -> Self {
        VaultError::from(error).into()
    }
}

impl From<VaultError> for Failed {
    fn from(error: VaultError) -> Self {
        let (status, code, hint) = describe(&error);
        if status.is_server_error() {
            // Paths and SQL are for our log, not for a device.
            tracing::error!(%error, code, "request failed");
            return Self(
                status,
                Problem::new(code, "the vault cannot do it now", hint),
            );
        }
        Self(status, Problem::new(code, error.to_string(), hint))
    }
}

/// The one place that maps errors to HTTP.
fn describe(error: &VaultError) -> (StatusCode, &'static str, &'static str) {
    match error {
        VaultError::Wire(WireError::TooLarge { .. } | WireError::AboveLimit { .. }) => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "request.too-large",
            "send fewer at a time",
        ),
        VaultError::Wire(_) => (
            StatusCode::BAD_REQUEST,
            "request.malformed",
            "the two sides must be of one version of Scuro",
        ),
        VaultError::Peer { .. } => (
            StatusCode::FORBIDDEN,
            "peer.refused",
            "enrol it again: `scuro vault enroll`",
        ),
        VaultError::WrongRole { .. } => (
            StatusCode::FORBIDDEN,
            "peer.role",
            "use a certificate of the other role",
        ),
        VaultError::DiskFull { .. } => (
            StatusCode::INSUFFICIENT_STORAGE,
            "vault.disk-full",
            "keep it and send it again",
        ),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "vault.failed",
            "keep it and send it again; see the log of the vault",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::KeySource;

    #[tokio::test]
    async fn old_queries_are_forgotten_while_the_vault_runs() {
        let folder = tempfile::tempdir().expect("folder");
        let key = KeySource::File(Vault::default_key_file(folder.path()));
        let vault = Vault::init(folder.path(), &key, now()).expect("a vault");
        let vault = Arc::new(vault);
        let intake = Arc::new(Intake::new(Arc::clone(&vault), Arc::default()));
        let pruner = tokio::spawn(prune(intake, Duration::from_millis(1)));
        // The first turn comes with the start; the second one only from the timer.
        for _ in 0..2 {
            let sql = "INSERT INTO queries VALUES (x'01', 'cam-7', x'02', x'03', 0, NULL)";
            let stored = vault.database.write(|db| Ok(db.execute_batch(sql)?));
            stored.expect("stored");
            let sql = "SELECT count(*) FROM queries";
            let left = || {
                let count = |db: &rusqlite::Connection| Ok(db.query_row(sql, [], |r| r.get(0))?);
                vault.database.read::<i64>(count).expect("counted")
            };
            while left() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        pruner.abort();
    }
}
