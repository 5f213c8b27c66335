//! Frames by HTTP POST, for cameras on the device's own side: plain HTTP, on an address that only
//! they should reach.
//!
//! `POST /v1/frames` with JSON, a picture or raw bytes. 202 comes only when the frame is on disk;
//! 429 with `retry-after` when the queue or the disk is full; 503 before a model is deployed, and
//! with `retry-after` when as many bytes as the memory is meant for are on their way in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use scuro_wire::https;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::{Acquisition, Source};
use crate::edge::device::Refusal;
use crate::edge::frame::{FrameFault, FrameId, MAX_FRAME_BYTES};
use crate::edge::intake::{Arrival, Form, Intake};
use crate::error::Error;

const NAME: &str = "http";
/// Path of the one route.
const FRAMES: &str = "/v1/frames";
/// Header that names a frame which cannot name itself.
const FRAME_ID: &str = "x-scuro-frame-id";
/// Seconds after which a frame that found no room may come again.
const RETRY_SECONDS: &str = "1";
/// Bytes of frames that are read at the same time.
const BYTES_AT_ONCE: usize = 128 << 20;
/// Time for the body of a frame.
const BODY_TIME: Duration = Duration::from_secs(30);
/// What bytes are counted in.
const KIB: usize = 1 << 10;

/// A listening socket.
#[derive(Debug)]
pub struct Http {
    listener: TcpListener,
    health: Router,
    bytes: usize,
    time: Duration,
}

impl Http {
    /// Listens on `address`; `health` are routes for the same server.
    ///
    /// # Errors
    /// [`Error::Setting`] if the address cannot be listened on.
    pub async fn bind(address: SocketAddr, health: Router) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| Error::Setting {
            what: "the address for HTTP frames",
            found: format!("{address} ({error})"),
            expected: "a free address of this machine",
        })?;
        Ok(Self {
            listener,
            health,
            bytes: BYTES_AT_ONCE,
            time: BODY_TIME,
        })
    }

    /// With other bounds: bytes of frames that are read at the same time, time for one of them.
    pub fn bounded(self, bytes: usize, time: Duration) -> Self {
        Self {
            bytes,
            time,
            ..self
        }
    }

    /// The address.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn address(&self) -> Result<SocketAddr, Error> {
        self.listener
            .local_addr()
            .map_err(Error::io("read the address of", NAME.as_ref()))
    }
}

impl Source for Http {
    fn name(&self) -> &'static str {
        NAME
    }

    fn acquire(self: Box<Self>, intake: Intake) -> Acquisition {
        Box::pin(async move {
            let stop = intake.clone();
            let door = Door {
                intake,
                room: Arc::new(Semaphore::new(self.bytes / KIB)),
                bytes: self.bytes,
                time: self.time,
            };
            let router = Router::new()
                .route(FRAMES, post(take))
                .layer(DefaultBodyLimit::max(MAX_FRAME_BYTES))
                .with_state(door)
                .merge(self.health);
            let until = async move { stop.stopped().await };
            axum::serve(self.listener, router)
                .with_graceful_shutdown(until)
                .await
                .map_err(Error::io("serve", NAME.as_ref()))
        })
    }
}

async fn take(State(door): State<Door>, request: Request) -> Response {
    let taken = match door.admit(request.body()) {
        Ok(_room) => door.take(request).await,
        Err(error) => {
            // A camera that is still writing would see a broken connection instead of the answer.
            let _ = timeout(door.time, https::drain(request.into_body())).await;
            Err(error)
        }
    };
    taken.unwrap_or_else(refuse)
}

/// Where frames come in, and the room that there is for them.
#[derive(Debug, Clone)]
struct Door {
    intake: Intake,
    /// In KiB.
    room: Arc<Semaphore>,
    bytes: usize,
    time: Duration,
}

impl Door {
    /// Room for a body, for as long as the frame is in memory. One that does not tell its length
    /// may be of any.
    fn admit(&self, body: &Body) -> Result<SemaphorePermit<'_>, Error> {
        let limit = MAX_FRAME_BYTES;
        let told = body.size_hint().exact();
        let found = told.map_or(limit, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if found > limit {
            return Err(self.refused(FrameFault::TooLarge { found, limit }.into()));
        }
        let kib = found.div_ceil(KIB).max(1);
        let room = u32::try_from(kib).map(|kib| self.room.try_acquire_many(kib));
        match room {
            Ok(Ok(room)) => Ok(room),
            _ => Err(self.refused(Error::Busy { bytes: self.bytes })),
        }
    }

    async fn take(&self, request: Request) -> Result<Response, Error> {
        let headers = request.headers().clone();
        let bytes = self.read(request).await?.into();
        let id = frame_id(&headers).map_err(|fault| self.refused(fault.into()))?;
        let form = headers
            .get(CONTENT_TYPE)
            .and_then(|form| form.to_str().ok());
        let form = form.map_or(Form::Unknown, Form::of_content_type);
        let arrival = Arrival { id, form, bytes };
        let accepted = self.intake.offer(NAME, &arrival).await?;
        let answer = json!({
            "seq": accepted.seq, "query_id": accepted.query_id, "again": accepted.again,
        });
        Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
    }

    /// The whole body.
    async fn read(&self, request: Request) -> Result<Bytes, Error> {
        let read = tokio::select! {
            read = timeout(self.time, Bytes::from_request(request, &())) => read,
            () = self.intake.stopped() => return Err(Error::Stopping),
        };
        let fault = match read {
            Ok(Ok(bytes)) => return Ok(bytes),
            // It did not tell its length, and is not read further.
            Ok(Err(fault)) if fault.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let limit = MAX_FRAME_BYTES;
                let found = limit + 1;
                FrameFault::TooLarge { found, limit }
            }
            Ok(Err(_)) | Err(_) => FrameFault::Interrupted {
                seconds: self.time.as_secs(),
            },
        };
        Err(self.refused(fault.into()))
    }

    /// Counts and logs.
    fn refused(&self, error: Error) -> Error {
        self.intake.count_refusal(NAME, &error);
        error
    }
}

/// The name in the headers, if there is one.
fn frame_id(headers: &HeaderMap) -> Result<Option<FrameId>, FrameFault> {
    let id = headers.get(FRAME_ID);
    id.map(|id| FrameId::new(id.to_str().unwrap_or_default()))
        .transpose()
}

fn refuse(error: Error) -> Response {
    let waits = matches!(
        error,
        Error::QueueFull { .. }
            | Error::Busy { .. }
            | Error::StorageFull { .. }
            | Error::NoModel
            | Error::Stopping
    );
    // For a camera a full disk is a full queue: come again.
    let full_disk = matches!(error, Error::StorageFull { .. });
    let mut response = Refusal(error).into_response();
    if full_disk {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    }
    if waits && let Ok(seconds) = RETRY_SECONDS.parse() {
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}
