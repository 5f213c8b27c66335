//! Frames by HTTP POST, for cameras on the device's own side: plain HTTP, on an address that only
//! they should reach.
//!
//! `POST /v1/frames` with JSON, a picture or raw bytes. 202 comes only when the frame is on disk;
//! 429 with `retry-after` when the queue or the disk is full; 503 before a model is deployed.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

use super::{Acquisition, Source};
use crate::edge::device::Refusal;
use crate::edge::frame::{FrameId, MAX_FRAME_BYTES};
use crate::edge::intake::{Arrival, Form, Intake};
use crate::error::Error;

const NAME: &str = "http";
/// Path of the one route.
const FRAMES: &str = "/v1/frames";
/// Header that names a frame which cannot name itself.
const FRAME_ID: &str = "x-scuro-frame-id";
/// Seconds after which a frame that found no room may come again.
const RETRY_SECONDS: &str = "1";

/// A listening socket.
#[derive(Debug)]
pub struct Http {
    listener: TcpListener,
    health: Router,
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
        Ok(Self { listener, health })
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
            let router = Router::new()
                .route(FRAMES, post(take))
                .layer(DefaultBodyLimit::max(MAX_FRAME_BYTES))
                .with_state(intake)
                .merge(self.health);
            let until = async move { stop.stopped().await };
            axum::serve(self.listener, router)
                .with_graceful_shutdown(until)
                .await
                .map_err(Error::io("serve", NAME.as_ref()))
        })
    }
}

async fn take(State(intake): State<Intake>, headers: HeaderMap, body: Bytes) -> Response {
    match offer(&intake, &headers, body).await {
        Ok(answer) => answer,
        Err(error) => refuse(error),
    }
}

async fn offer(intake: &Intake, headers: &HeaderMap, body: Bytes) -> Result<Response, Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let id = headers.get(FRAME_ID);
    let id = id.map(|id| FrameId::new(id.to_str().unwrap_or_default()));
    let id = id
        .transpose()
        .inspect_err(|fault| intake.refuse(NAME, *fault))?;
    let form = match text(CONTENT_TYPE.as_str()).unwrap_or("") {
        "application/json" => Form::Json,
        "application/octet-stream" => Form::Raw,
        "image/png" | "image/jpeg" => Form::Picture,
        _ => Form::Unknown,
    };
    let arrival = Arrival {
        id,
        form,
        bytes: body.to_vec(),
    };
    let accepted = intake.offer(NAME, &arrival).await?;
    let answer = json!({
        "seq": accepted.seq, "query_id": accepted.query_id, "again": accepted.again,
    });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

fn refuse(error: Error) -> Response {
    let waits = matches!(
        error,
        Error::QueueFull { .. } | Error::StorageFull { .. } | Error::NoModel | Error::Stopping
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
