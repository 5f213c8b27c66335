//! A device's server, small but real: files on disk, mutual TLS, and faults on demand.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use hyper::body::Bytes;
use scuro_wire::deployment::{
    ARTEFACT_BYTES_HEADER, ArtefactStatus, DeploymentList, DeploymentState, DeploymentStatus,
    RollBack,
};
use scuro_wire::metrics::Metrics;
use scuro_wire::tls::{Identity, Peer};
use scuro_wire::{Artefact, Digest, Manifest, limits, paths};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A device that runs until it is dropped.
pub(crate) struct Device {
    pub(crate) identity: Identity,
    pub(crate) state: Arc<Shelf>,
    task: JoinHandle<()>,
}

/// What it holds.
pub(crate) struct Shelf {
    folder: TempDir,
    /// The active one first.
    pub(crate) active: Mutex<Vec<DeploymentStatus>>,
    /// Pieces that it takes before it goes dead; `usize::MAX` for never.
    pub(crate) pieces_left: AtomicUsize,
    /// Pieces that it damages from now on.
    pub(crate) damage: AtomicUsize,
    /// Roll-backs that are carried out and answered by nobody.
    pub(crate) answers_lost: AtomicUsize,
}

impl Device {
    pub(crate) fn start(identity: Identity, listener: TcpListener) -> Self {
        let state = Arc::new(Shelf {
            folder: tempfile::tempdir().expect("folder"),
            active: Mutex::default(),
            pieces_left: AtomicUsize::new(usize::MAX),
            damage: AtomicUsize::new(0),
            answers_lost: AtomicUsize::new(0),
        });
        let router = Router::new()
            .route(paths::ARTEFACT, get(status).put(store))
            .route(paths::DEPLOYMENTS, get(list).post(activate))
            .route(paths::ROLLBACK, post(roll_back))
            .layer(DefaultBodyLimit::max(limits::CHUNK_BYTES))
            .with_state(Arc::clone(&state));
        let tls = identity.server_config().expect("server");
        let metrics = Arc::new(Metrics::default());
        let never = std::future::pending();
        let serve = scuro_wire::https::serve(listener, tls, router, metrics, never);
        Self {
            identity,
            state,
            task: tokio::spawn(serve),
        }
    }

    /// Bytes that it holds of each artefact.
    pub(crate) fn stored(&self, manifest: &Manifest) -> Vec<u64> {
        let stored = |artefact: &Artefact| self.state.read(&artefact.digest).len() as u64;
        manifest.artefacts.iter().map(stored).collect()
    }

    /// Holds these bytes of an artefact, and no others.
    pub(crate) fn keep(&self, digest: &Digest, bytes: &[u8]) {
        std::fs::write(self.state.path(digest), bytes).expect("kept");
    }

    /// The deployment that is active on it.
    pub(crate) fn active(&self) -> Digest {
        self.state.active.lock().expect("lock")[0].deployment
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shelf {
    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.path().join(digest.to_string())
    }

    fn read(&self, digest: &Digest) -> Vec<u8> {
        std::fs::read(self.path(digest)).unwrap_or_default()
    }

    /// Puts a deployment first, as the active one.
    pub(crate) fn switch(&self, status: &DeploymentStatus) -> DeploymentStatus {
        let mut list = self.active.lock().expect("lock");
        list.retain(|other| other.deployment != status.deployment);
        list.iter_mut()
            .for_each(|other| other.state = DeploymentState::Previous);
        let state = DeploymentState::Active;
        let status = DeploymentStatus {
            state,
            ..status.clone()
        };
        list.insert(0, status.clone());
        status
    }

    fn status(&self, digest: &Digest) -> ArtefactStatus {
        let bytes = self.read(digest);
        ArtefactStatus {
            digest: *digest,
            bytes_stored: bytes.len() as u64,
            complete: Digest::of(&bytes) == *digest,
        }
    }
}

/// Takes one of what is left, if there is any.
fn take_one(left: &AtomicUsize) -> bool {
    let order = Ordering::SeqCst;
    let taken = left.fetch_update(order, order, |left| left.checked_sub(1));
    taken.is_ok()
}

type Shared = State<Arc<Shelf>>;

fn digest(path: &str) -> Digest {
    path.parse().expect("a digest")
}

async fn status(
    State(shelf): Shared,
    axum::extract::Path(path): axum::extract::Path<String>,
) -> Response {
    let status = shelf.status(&digest(&path));
    match status.bytes_stored {
        0 => StatusCode::NOT_FOUND.into_response(),
        _ => Json(status).into_response(),
    }
}

#[derive(serde::Deserialize)]
struct Place {
    offset: u64,
}

async fn store(
    State(shelf): Shared,
    axum::extract::Path(path): axum::extract::Path<String>,
    Query(place): Query<Place>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    assert!(peer.is_vault(), "only the vault pushes");
    let whole = headers[ARTEFACT_BYTES_HEADER].to_str().expect("a number");
    let whole: usize = whole.parse().expect("a number");
    if !take_one(&shelf.pieces_left) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let digest = digest(&path);
    let mut bytes = shelf.read(&digest);
    if bytes.len() as u64 != place.offset {
        return (StatusCode::CONFLICT, Json(shelf.status(&digest))).into_response();
    }
    bytes.extend_from_slice(&body);
    if take_one(&shelf.damage) {
        bytes[place.offset as usize] ^= 1;
    }
    std::fs::write(shelf.path(&digest), &bytes).expect("stored");
    if bytes.len() == whole && Digest::of(&bytes) != digest {
        std::fs::remove_file(shelf.path(&digest)).expect("thrown away");
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    Json(shelf.status(&digest)).into_response()
}

async fn activate(State(shelf): Shared, body: Bytes) -> Response {
    let manifest = Manifest::from_bytes(&body).expect("a manifest");
    let whole = |digest: &Digest| shelf.status(digest).complete;
    if !manifest.artefacts.iter().all(|a| whole(&a.digest)) {
        return StatusCode::CONFLICT.into_response();
    }
    let status = DeploymentStatus {
        deployment: manifest.digest(),
        name: manifest.name.clone(),
        version: manifest.version,
        state: DeploymentState::Active,
        activated: 1,
    };
    shelf.switch(&status);
    Json(status).into_response()
}

async fn roll_back(State(shelf): Shared, Query(RollBack { leave }): Query<RollBack>) -> Response {
    let [active, before, ..] = &shelf.active.lock().expect("lock").clone()[..] else {
        return StatusCode::CONFLICT.into_response();
    };
    let status = match leave.is_none_or(|leave| leave == active.deployment) {
        true => shelf.switch(before),
        false => active.clone(),
    };
    match take_one(&shelf.answers_lost) {
        true => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        false => Json(status).into_response(),
    }
}

async fn list(State(shelf): Shared) -> Json<DeploymentList> {
    let deployments = shelf.active.lock().expect("lock").clone();
    Json(DeploymentList { deployments })
}
