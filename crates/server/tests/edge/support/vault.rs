//! What a device needs of a vault: it registers queries, takes each inference once, and keeps all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use scuro_wire::inference::{
    Inference, InferenceAck, InferenceBatch, InferenceBatchReply, Outcome,
};
use scuro_wire::metrics::Metrics;
use scuro_wire::query::{
    QueryAck, QueryBatch, QueryBatchReply, QueryRegistration, Registration, WithdrawalBatch,
    WithdrawalReply,
};
use scuro_wire::tls::Identity;
use scuro_wire::{Digest, Problem, QueryId, https, limits, paths};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{PATIENCE, Protected};

/// What the vault knows.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    registered: BTreeMap<QueryId, QueryRegistration>,
    /// Registrations that are acknowledged and lost.
    forget: usize,
    forgotten: usize,
    /// In the order of their first arrival.
    inferences: Vec<Inference>,
    known: BTreeSet<QueryId>,
    again: usize,
    refuse: BTreeSet<QueryId>,
    refuse_batches_of_more_than_one: bool,
    knows_no_deployment: bool,
    /// Registrations that were refused for that.
    unknown_deployments: usize,
    full: Full,
    takes_no_inferences: bool,
    /// Deployments of which nothing is decrypted, and the code of why.
    barred: BTreeMap<Digest, &'static str>,
    /// Registrations that were refused for that.
    bars_told: usize,
    withdrawn: BTreeSet<QueryId>,
}

impl Pages {
    fn is_new(&self, query: &QueryRegistration) -> bool {
        !self.registered.contains_key(&query.query_id)
    }

    /// What a registration is told.
    fn register(&mut self, query: &QueryRegistration) -> (Registration, Option<&'static str>) {
        if self.full == Full::Later && self.is_new(query) {
            return (Registration::Later, Some("query.too-many"));
        }
        if self.knows_no_deployment {
            self.unknown_deployments += 1;
            return (Registration::Refused, Some("deployment.not-on-this-device"));
        }
        let status = match self.registered.get(&query.query_id) {
            Some(known) if known == query => Registration::Known,
            Some(known) if known.query_digest != query.query_digest => Registration::Refused,
            // One that is answered stays what it was, however late its frame is registered anew.
            Some(_) if self.known.contains(&query.query_id) => Registration::Refused,
            _ => Registration::Registered,
        };
        let bar = self.barred.get(&query.deployment).copied();
        if let Some(code) = bar.filter(|_| status != Registration::Known) {
            self.bars_told += 1;
            return (Registration::Refused, Some(code));
        }
        if self.forget > 0 {
            self.forget -= 1;
            self.forgotten += 1;
        } else if status == Registration::Registered {
            self.registered.insert(query.query_id, query.clone());
        }
        (status, None)
    }
}

/// What new registrations are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Full {
    /// There is room.
    #[default]
    No,
    /// Each is to come later.
    Later,
    /// The batch that one is in is refused.
    Batch,
}

impl Book {
    /// Everything that was taken, in its order.
    pub(crate) fn inferences(&self) -> Vec<Inference> {
        self.pages.lock().expect("book").inferences.clone()
    }

    /// How many were taken.
    pub(crate) fn count(&self) -> usize {
        self.pages.lock().expect("book").inferences.len()
    }

    /// Queries that are registered for a deployment.
    pub(crate) fn registered(&self, deployment: Digest) -> usize {
        let pages = self.pages.lock().expect("book");
        let of = |query: &&QueryRegistration| query.deployment == deployment;
        pages.registered.values().filter(of).count()
    }

    /// Loses the next registrations after it has acknowledged them.
    pub(crate) fn forget(&self, count: usize) {
        self.pages.lock().expect("book").forget = count;
    }

    /// How many of these are still to be lost.
    pub(crate) fn left_to_forget(&self) -> usize {
        self.pages.lock().expect("book").forget
    }

    /// How often one came that was there already.
    pub(crate) fn again(&self) -> usize {
        self.pages.lock().expect("book").again
    }

    /// Refuses this query from now on.
    pub(crate) fn refuse(&self, query: QueryId) {
        self.pages.lock().expect("book").refuse.insert(query);
    }

    /// Answers 400 to every batch of more than one.
    pub(crate) fn refuse_batches(&self) {
        self.pages
            .lock()
            .expect("book")
            .refuse_batches_of_more_than_one = true;
    }

    /// Whether the deployment that was just made is missing in the books.
    pub(crate) fn knows_deployment(&self, knows: bool) {
        self.pages.lock().expect("book").knows_no_deployment = !knows;
    }

    /// Registrations that were refused because of a missing deployment.
    pub(crate) fn unknown_deployments(&self) -> usize {
        self.pages.lock().expect("book").unknown_deployments
    }

    /// Whether there is room for new queries.
    pub(crate) fn fill(&self, full: Full) {
        self.pages.lock().expect("book").full = full;
    }

    /// Whether inferences are answered with 503.
    pub(crate) fn takes_inferences(&self, takes: bool) {
        self.pages.lock().expect("book").takes_no_inferences = !takes;
    }

    /// Decrypts nothing of a deployment from now on, or does so again.
    pub(crate) fn bar(&self, deployment: Digest, code: Option<&'static str>) {
        let barred = &mut self.pages.lock().expect("book").barred;
        match code {
            Some(code) => drop(barred.insert(deployment, code)),
            None => drop(barred.remove(&deployment)),
        }
    }

    /// How often the device was told at a registration that its deployment is barred.
    pub(crate) fn bars_told(&self) -> usize {
        self.pages.lock().expect("book").bars_told
    }

    /// Queries that the device has withdrawn.
    pub(crate) fn withdrawn(&self) -> BTreeSet<QueryId> {
        self.pages.lock().expect("book").withdrawn.clone()
    }

    /// Decrypted labels of the answers of a version, in their order.
    pub(crate) fn labels(&self, model: &Protected) -> Vec<usize> {
        let deployment = model.manifest.digest();
        let inferences = self.inferences().into_iter();
        let of = inferences.filter(|inference| inference.deployment == deployment);
        of.map(|inference| model.label_of(&inference)).collect()
    }
}

/// A vault that listens.
pub(crate) struct Vault {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Vault {
    /// Listens on `address`, for example the one that it had before.
    pub(crate) async fn start(address: SocketAddr, identity: &Identity, book: &Arc<Book>) -> Self {
        let start = Instant::now();
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{address}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let address = listener.local_addr().expect("address");
        let router = Router::new()
            .route(paths::QUERIES, post(queries))
            .route(paths::WITHDRAWALS, post(withdrawals))
            .route(paths::INFERENCES, post(inferences))
            .route(paths::LIVE, get(|| async { StatusCode::OK }))
            .layer(DefaultBodyLimit::max(limits::INFERENCE_BATCH_BYTES))
            .with_state(Arc::clone(book));
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            let _ = stopped.await;
        };
        let tls = identity.server_config().expect("server");
        let metrics = Arc::new(Metrics::default());
        let task = tokio::spawn(https::serve(listener, tls, router, metrics, until));
        Self {
            address,
            stop: Some(stop),
            task,
        }
    }

    /// Goes away at once, in the middle of whatever it does.
    pub(crate) async fn vanish(mut self) {
        drop(self.stop.take());
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn queries(State(book): State<Arc<Book>>, body: Bytes) -> Response {
    let batch = QueryBatch::from_bytes(&body).expect("a batch of queries");
    let mut pages = book.pages.lock().expect("book");
    if pages.full == Full::Batch && batch.queries.iter().any(|query| pages.is_new(query)) {
        let problem = Problem::new("query.too-many", "too many unanswered queries", "");
        return (StatusCode::TOO_MANY_REQUESTS, Json(problem)).into_response();
    }
    let acks = batch.queries.into_iter().map(|query| {
        let (status, code) = pages.register(&query);
        QueryAck {
            query_id: query.query_id,
            status,
            code: code.map(str::to_string),
        }
    });
    let acks = acks.collect();
    Json(QueryBatchReply { acks }).into_response()
}

async fn withdrawals(State(book): State<Arc<Book>>, body: Bytes) -> Response {
    let batch = WithdrawalBatch::from_bytes(&body).expect("a batch of withdrawals");
    let mut pages = book.pages.lock().expect("book");
    let mut withdrawn = 0;
    for query in batch.queries {
        withdrawn += u64::from(pages.registered.remove(&query).is_some());
        pages.withdrawn.insert(query);
    }
    Json(WithdrawalReply { withdrawn }).into_response()
}

async fn inferences(State(book): State<Arc<Book>>, body: Bytes) -> Response {
    let batch = InferenceBatch::from_bytes(&body).expect("a batch of inferences");
    let mut pages = book.pages.lock().expect("book");
    if pages.takes_no_inferences {
        let problem = Problem::new("vault.busy", "no inferences now", "");
        return (StatusCode::SERVICE_UNAVAILABLE, Json(problem)).into_response();
    }
    if pages.refuse_batches_of_more_than_one && batch.inferences.len() > 1 {
        let problem = Problem::new("batch.bad", "the batch cannot be read", "");
        return (StatusCode::BAD_REQUEST, Json(problem)).into_response();
    }
    let mut acks = Vec::new();
    for inference in batch.inferences {
        let query_id = inference.query_id;
        let registered = pages.registered.get(&query_id);
        let fits = registered.map(|query| query.deployment == inference.deployment);
        let unfit = match fits {
            None => Some("query.unknown"),
            Some(false) => Some("query.other-deployment"),
            Some(true) => None,
        };
        assert!(
            fits.is_some() || pages.forgotten > 0,
            "registered before it is sent"
        );
        let barred = pages.barred.get(&inference.deployment).copied();
        let (outcome, code) = if let Some(code) = unfit.or(barred) {
            (Outcome::Refused, Some(code.to_string()))
        } else if pages.refuse.contains(&query_id) {
            (Outcome::Refused, Some("inference.replayed".to_string()))
        } else if pages.known.insert(query_id) {
            pages.inferences.push(inference);
            (Outcome::Accepted, None)
        } else {
            pages.again += 1;
            (Outcome::Duplicate, None)
        };
        acks.push(InferenceAck {
            query_id,
            outcome,
            receipt: None,
            code,
        });
    }
    Json(InferenceBatchReply { acks }).into_response()
}
