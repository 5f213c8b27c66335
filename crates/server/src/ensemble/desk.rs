//! The door of holder and coordinator: endpoints, users, keys, and the checks of a query.
//!
//! What is cheap to check is checked first, and bodies are read only when there is room for them. A
//! query is entered in the ledger last: one that is refused for lack of keys can come again.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use scuro_fhe::AnyCiphertext;
use scuro_wire::ensemble::{EnsembleStatus, ModelMetadata, SIGNATURE_HEADER, USER_HEADER};
use scuro_wire::mask::{Offer, Release};
use scuro_wire::metrics::Metrics;
use scuro_wire::predict::{self, HEAD_LENGTH_HEADER, PredictQuery, PredictReply};
use scuro_wire::tls::Peer;
use scuro_wire::user::Message;
use scuro_wire::{
    Digest, KeyId, Name, Problem, QueryId, Signature, UserId, WireError, https, limits, paths,
};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::contract::{Contract, Flaw};
use super::counters::{KEY_BYTES, KEY_SETS, QUERIES, RELEASES, STAGE, UPLOADS};
use super::fault::Fault;
use super::keys::{KEY_MEMORY_BYTES, KeyCache, UserKeys};
use super::ledger::{Ledger, Repeats};
use crate::clock;

/// Uploads of keys that are read at the same time.
const UPLOADS_AT_ONCE: usize = 8;
/// Seconds after which a request that found no room may come again.
const RETRY_SECONDS: &str = "1";

/// What holder and coordinator have in common.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) name: Name,
    pub(super) contract: Contract,
    pub(super) ledger: Ledger,
    pub(super) metrics: Arc<Metrics>,
    keys: KeyCache,
    /// Whether uploads are kept to be passed on.
    passes_on: bool,
    queries: Semaphore,
    uploads: Semaphore,
    /// The key that this service's weights are encrypted under: it cannot compute under others.
    weights_key: Option<scuro_fhe::KeyId>,
}

/// A query that may be answered.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) query: PredictQuery,
    /// The message as it came, to be passed on, and the length of its head.
    pub(super) body: Bytes,
    pub(super) head: usize,
    pub(super) keys: Arc<UserKeys>,
    pub(super) images: u32,
    pub(super) ciphertexts: Vec<AnyCiphertext>,
}

/// What makes a holder or a coordinator of a desk.
pub(super) trait Service: Clone + Send + Sync + 'static {
    /// Its desk.
    fn desk(&self) -> &Arc<Desk>;
    /// What it says of itself.
    fn status(&self) -> EnsembleStatus;
    /// The file of rules that answers are combined by.
    fn rules(&self) -> Option<Bytes> {
        None
    }
    /// Whether it can answer.
    fn is_ready(&self) -> bool;
    /// Answers a query; `caller` is who brought it, if there is TLS.
    fn answer(
        &self,
        admitted: Admitted,
        caller: Option<Name>,
    ) -> impl Future<Output = Result<PredictReply, Fault>> + Send;
    /// Whether its predictions leave it masked only: offered first, then released.
    fn masks(&self) -> bool {
        false
    }
    /// Holds the prediction for a query and offers keys for its masks.
    fn offer(
        &self,
        _admitted: Admitted,
        _caller: Option<Name>,
    ) -> impl Future<Output = Result<Offer, Fault>> + Send {
        async { Err(Fault::Unmasked) }
    }
    /// Releases a prediction that it holds; `request` is the digest of the message.
    fn release(
        &self,
        _release: Release,
        _request: Digest,
        _caller: Option<Name>,
    ) -> impl Future<Output = Result<PredictReply, Fault>> + Send {
        async { Err(Fault::Unmasked) }
    }
    /// Sets the gauges.
    fn measure(&self) {}
}

impl Desk {
    /// A desk that takes so many queries at once.
    pub(super) fn new(name: Name, contract: Contract, queries: usize, repeats: Repeats) -> Self {
        Self {
            name,
            contract,
            ledger: Ledger::new(clock::now_ms(), repeats),
            metrics: Arc::default(),
            keys: KeyCache::new(KEY_MEMORY_BYTES),
            passes_on: repeats == Repeats::Refused,
            queries: Semaphore::new(queries),
            uploads: Semaphore::new(UPLOADS_AT_ONCE),
            weights_key: None,
        }
    }

    /// One that serves the user alone under whose key its weights are encrypted, if they are.
    pub(super) fn with_weights_key(self, weights_key: Option<scuro_fhe::KeyId>) -> Self {
        Self {
            weights_key,
            ..self
        }
    }

    /// Checks all of a query but whether it was here before.
    pub(super) fn admit(&self, head_length: Option<&str>, body: Bytes) -> Result<Admitted, Fault> {
        let query = PredictQuery::from_bytes(head_length, &body)?;
        query.verify()?;
        let question = &query.question;
        self.ledger.check_time(question.time_ms, clock::now_ms())?;
        let (found, expected) = (question.parameters, self.contract.parameters());
        if found != expected {
            let (found, expected) = (found.short(), expected.short());
            return Err(Fault::Query(Flaw::OtherEnsemble { found, expected }));
        }
        let keys = self.keys.get(question.keys, question.user)?;
        let key = keys.keys().key_id();
        if question.key_id != KeyId(key.0) {
            let (found, expected) = (scuro_fhe::KeyId(question.key_id.0), key);
            return Err(Fault::Query(Flaw::OtherKey { found, expected }));
        }
        let opened = self.contract.open_query(&query.bundle, key);
        let (images, ciphertexts) = opened.map_err(Fault::Query)?;
        Ok(Admitted {
            head: head_length.and_then(|text| text.parse().ok()).unwrap_or(0),
            query,
            body,
            keys,
            images,
            ciphertexts,
        })
    }

    /// As an upload does.
    #[cfg(test)]
    pub(super) fn bring(&self, digest: Digest, user: UserId, bytes: Bytes) -> Result<(), Fault> {
        let signature = Signature([0; 64]);
        let ticket = Ticket {
            digest,
            user,
            signature,
        };
        self.keep(&ticket, bytes)
    }

    /// Opens and keeps a set of keys.
    fn keep(&self, upload: &Ticket, bytes: Bytes) -> Result<(), Fault> {
        let set = UserKeys::open(&self.contract, upload.digest, upload.user, &bytes)?;
        let found = set.keys().key_id();
        if let Some(expected) = self.weights_key.filter(|key| *key != found) {
            return Err(Fault::KeysOtherWeights { found, expected });
        }
        self.keys.put(match self.passes_on {
            true => set.with_upload(bytes, upload.signature),
            false => set,
        })
    }
}

/// All routes of a service.
pub(super) fn router<S: Service>(service: S) -> Router {
    Router::new()
        .route(paths::LIVE, get(|| async { StatusCode::OK }))
        .route(paths::READY, get(ready::<S>))
        .route(paths::METRICS, get(metrics::<S>))
        .route(paths::FACE, get(face::<S>))
        .route(paths::ENSEMBLE, get(status::<S>))
        .route(paths::RULES, get(rules::<S>))
        .route(paths::MODEL, get(model::<S>))
        .route(paths::KEY_SET, put(put_keys::<S>))
        .route(paths::INFER, post(infer::<S>))
        .route(paths::OFFER, post(offer::<S>))
        .route(paths::RELEASE, post(release::<S>))
        .fallback(unknown)
        .with_state(service)
}

async fn ready<S: Service>(State(service): State<S>) -> StatusCode {
    match service.is_ready() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn metrics<S: Service>(State(service): State<S>) -> Response {
    let desk = service.desk();
    let (sets, bytes) = desk.keys.depth();
    desk.metrics.set(KEY_SETS, &[], sets as f64);
    desk.metrics.set(KEY_BYTES, &[], bytes as f64);
    service.measure();
    let text = "text/plain; version=0.0.4";
    ([(CONTENT_TYPE, text)], desk.metrics.render()).into_response()
}

async fn face<S: Service>(State(service): State<S>) -> Response {
    let face = service.desk().contract.bytes().clone();
    ([(CONTENT_TYPE, predict::CONTENT_TYPE)], face).into_response()
}

async fn rules<S: Service>(State(service): State<S>) -> Response {
    match service.rules() {
        Some(file) => ([(CONTENT_TYPE, "application/json")], file).into_response(),
        None => unknown().await,
    }
}

async fn status<S: Service>(State(service): State<S>) -> Json<EnsembleStatus> {
    Json(service.status())
}

async fn model<S: Service>(State(service): State<S>) -> Json<ModelMetadata> {
    Json(ModelMetadata::of(service.desk().contract.digest()))
}

async fn unknown() -> Response {
    let problem = Problem::new(
        "http.not-found",
        "there is no such endpoint",
        "see docs/reference/ensemble.md",
    );
    (StatusCode::NOT_FOUND, Json(problem)).into_response()
}

/// Who uploads what.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    digest: Digest,
    user: UserId,
    signature: Signature,
}

impl Ticket {
    fn read(digest: &str, headers: &HeaderMap, face: &Digest) -> Result<Self, WireError> {
        let ticket = Self {
            digest: digest.parse()?,
            user: text(headers, USER_HEADER).unwrap_or_default().parse()?,
            signature: text(headers, SIGNATURE_HEADER)
                .unwrap_or_default()
                .parse()?,
        };
        let message = Message::upload(&ticket.digest, face);
        ticket.user.verify(&message, &ticket.signature)?;
        Ok(ticket)
    }
}

async fn put_keys<S: Service>(
    State(service): State<S>,
    Path(digest): Path<String>,
    request: Request,
) -> Result<StatusCode, Fault> {
    let desk = service.desk();
    let (parts, body) = request.into_parts();
    let uploaded = upload(desk, &digest, &parts.headers, body).await;
    let outcome = uploaded.as_ref().map_or_else(Fault::code, |_| "ok");
    desk.metrics.add(UPLOADS, &[("outcome", outcome)], 1);
    match &uploaded {
        Ok(status) => tracing::info!(keys = short(&digest), new = status.as_u16() == 201, "keys"),
        Err(fault) => tracing::warn!(keys = short(&digest), %fault, "keys refused"),
    }
    uploaded
}

async fn upload(
    desk: &Arc<Desk>,
    digest: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<StatusCode, Fault> {
    let ticket = match Ticket::read(digest, headers, &desk.contract.digest()) {
        Ok(ticket) => ticket,
        Err(error) => return refuse(body, error.into()).await,
    };
    match desk.keys.get(ticket.digest, ticket.user) {
        // They were checked when they came first; their name says that these are the same.
        Ok(_) => {
            https::drain(body).await;
            return Ok(StatusCode::OK);
        }
        Err(Fault::KeysUnknown { .. }) => {}
        Err(fault) => return refuse(body, fault).await,
    }
    let Ok(_place) = desk.uploads.acquire().await else {
        return refuse(body, Fault::Full { what: "uploads" }).await;
    };
    let bytes = read(body, "key set", limits::KEY_SET_BYTES).await?;
    let desk = Arc::clone(desk);
    blocking(move || desk.keep(&ticket, bytes)).await?;
    Ok(StatusCode::CREATED)
}

async fn infer<S: Service>(State(service): State<S>, request: Request) -> Result<Response, Fault> {
    let start = Instant::now();
    let answered = async {
        let (admitted, caller, _place) = admit(&service, request, false).await?;
        service.answer(admitted, caller).await
    };
    let answered = answered.await;
    note(
        service.desk(),
        answered.as_ref().map(|reply| reply.id),
        start,
    );
    Ok(respond(&answered?))
}

async fn offer<S: Service>(State(service): State<S>, request: Request) -> Result<Response, Fault> {
    let start = Instant::now();
    let offered = async {
        let (admitted, caller, _place) = admit(&service, request, true).await?;
        let id = admitted.query.question.id;
        Ok((id, service.offer(admitted, caller).await?))
    };
    let offered = offered.await;
    note(service.desk(), offered.as_ref().map(|(id, _)| *id), start);
    let (_, offer) = offered?;
    let json = "application/json";
    Ok(([(CONTENT_TYPE, json)], offer.to_bytes()).into_response())
}

/// Counts an answer and writes it to the log.
fn note(desk: &Desk, answered: Result<QueryId, &Fault>, start: Instant) {
    let outcome = answered.map_or_else(Fault::code, |_| "ok");
    desk.metrics.add(QUERIES, &[("outcome", outcome)], 1);
    let milliseconds = start.elapsed().as_millis() as u64;
    match answered {
        Ok(query) => {
            let labels = [("stage", "whole")];
            desk.metrics.observe(STAGE, &labels, start.elapsed());
            tracing::info!(%query, milliseconds, "answered");
        }
        Err(fault) => tracing::warn!(%fault, milliseconds, "query refused"),
    }
}

fn respond(reply: &PredictReply) -> Response {
    let (head, body) = reply.to_bytes();
    let headers = [
        (CONTENT_TYPE, predict::CONTENT_TYPE.to_string()),
        (
            HeaderName::from_static(HEAD_LENGTH_HEADER),
            head.to_string(),
        ),
    ];
    (headers, body).into_response()
}

async fn release<S: Service>(
    State(service): State<S>,
    request: Request,
) -> Result<Response, Fault> {
    let released = async {
        let (parts, body) = request.into_parts();
        if !service.masks() {
            return refuse(body, Fault::Unmasked).await;
        }
        let what = "release of masked predictions";
        let body = read(body, what, limits::RELEASE_BYTES).await?;
        let (release, digest) = (Release::from_bytes(&body)?, Digest::of(&body));
        service.release(release, digest, caller(&parts)).await
    };
    let released = released.await;
    let outcome = released.as_ref().map_or_else(Fault::code, |_| "ok");
    let metrics = &service.desk().metrics;
    metrics.add(RELEASES, &[("outcome", outcome)], 1);
    match &released {
        Ok(reply) => tracing::info!(query = %reply.id, "released"),
        Err(fault) => tracing::warn!(%fault, "not released"),
    }
    Ok(respond(&released?))
}

/// A query that may be answered, who brought it, and its place among those under way; `masked` if
/// its answer is to be.
async fn admit<S: Service>(
    service: &S,
    request: Request,
    masked: bool,
) -> Result<(Admitted, Option<Name>, SemaphorePermit<'_>), Fault> {
    let desk = service.desk();
    let (parts, body) = request.into_parts();
    match (masked, service.masks()) {
        (false, true) => return refuse(body, Fault::MasksRequired).await,
        (true, false) => return refuse(body, Fault::Unmasked).await,
        _ => {}
    }
    let Ok(place) = desk.queries.try_acquire() else {
        return refuse(body, Fault::Full { what: "queries" }).await;
    };
    let limit = desk.contract.query_bytes() + limits::PREDICT_HEAD_BYTES;
    let body = read(body, "query", limit).await?;
    let head_length = text(&parts.headers, HEAD_LENGTH_HEADER).map(str::to_string);
    let reader = Arc::clone(desk);
    let admitted = blocking(move || reader.admit(head_length.as_deref(), body)).await?;
    Ok((admitted, caller(&parts), place))
}

/// Who asks, if there is TLS.
fn caller(parts: &axum::http::request::Parts) -> Option<Name> {
    parts.extensions.get::<Peer>().map(|peer| peer.name.clone())
}

/// Reads the body away, so that the client sees the refusal.
async fn refuse<T>(body: Body, fault: Fault) -> Result<T, Fault> {
    https::drain(body).await;
    Err(fault)
}

/// A whole body.
async fn read(body: Body, what: &'static str, limit: usize) -> Result<Bytes, Fault> {
    let told = body.size_hint().exact();
    let too_large = |found: u64| WireError::TooLarge {
        what,
        found,
        limit: limit as u64,
    };
    if let Some(found) = told.filter(|found| *found > limit as u64) {
        return refuse(body, too_large(found).into()).await;
    }
    let bytes = axum::body::to_bytes(body, limit).await;
    bytes.map_err(|_| match told {
        // Nobody is there any more to hear it.
        Some(_) => Fault::Message(WireError::Empty { what }),
        None => Fault::Message(too_large(limit as u64 + 1)),
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The start of a digest for the log, whatever it is.
fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// Ciphertexts, keys and hashing take longer than a task may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Fault::Panicked)?
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let problem = Problem::new(self.code(), self.to_string(), self.hint());
        let mut response = (self.status(), Json(problem)).into_response();
        if self.is_worth_a_retry() {
            let seconds = HeaderValue::from_static(RETRY_SECONDS);
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}
