//! Holders that misbehave: each passes on what a real one does, with a twist.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use hyper::body::Frame;
use scuro_wire::ensemble::{Caller, SIGNATURE_HEADER, USER_HEADER, head_length, predict_headers};
use scuro_wire::https::{self, Answer, Client, ServerSecurity};
use scuro_wire::mask::Offer;
use scuro_wire::predict::{HEAD_LENGTH_HEADER, PredictReply};
use scuro_wire::{limits, paths};
use tokio::net::TcpListener;

use super::{contract, loopback};

/// What becomes of a real answer.
pub(crate) type Twist = Arc<dyn Fn(PredictReply) -> Response + Send + Sync>;
/// What becomes of a real offer of masks.
type OfferTwist = Arc<dyn Fn(Offer) -> Response + Send + Sync>;

#[derive(Clone)]
struct Fake {
    real: SocketAddr,
    twist: Twist,
    offer: OfferTwist,
    delay: Duration,
}

/// How a holder that masks misbehaves in each of the rounds.
pub(crate) struct Masquerade {
    offer: OfferTwist,
    release: Twist,
}

impl Default for Masquerade {
    fn default() -> Self {
        Self {
            offer: Arc::new(|offer| offer.to_bytes().into_response()),
            release: Arc::new(|reply| respond(&reply)),
        }
    }
}

impl Masquerade {
    /// Does so in the first round.
    pub(crate) fn offering(
        mut self,
        twist: impl Fn(Offer) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.offer = Arc::new(twist);
        self
    }

    /// Does so in the second.
    pub(crate) fn releasing(
        mut self,
        twist: impl Fn(PredictReply) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.release = Arc::new(twist);
        self
    }
}

/// A holder that masks, in front of a real one.
pub(crate) async fn masquerade(real: SocketAddr, twists: Masquerade) -> SocketAddr {
    let Masquerade { offer, release } = twists;
    serve(Fake {
        real,
        twist: release,
        offer,
        delay: Duration::ZERO,
    })
    .await
}

/// A holder in front of a real one.
pub(crate) async fn fake(
    real: SocketAddr,
    twist: impl Fn(PredictReply) -> Response + Send + Sync + 'static,
) -> SocketAddr {
    plain(real, Arc::new(twist), Duration::ZERO).await
}

/// One that waits before it answers.
pub(crate) async fn late(real: SocketAddr, delay: Duration) -> SocketAddr {
    plain(real, Arc::new(|reply| respond(&reply)), delay).await
}

async fn plain(real: SocketAddr, twist: Twist, delay: Duration) -> SocketAddr {
    let offer = Masquerade::default().offer;
    serve(Fake {
        real,
        twist,
        offer,
        delay,
    })
    .await
}

async fn serve(fake: Fake) -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.expect("a port");
    let address = listener.local_addr().expect("address");
    let face = || async { contract().bytes().clone() };
    let router = Router::new()
        .route(paths::FACE, get(face))
        .route(paths::KEY_SET, put(pass_keys))
        .route(paths::ENSEMBLE, get(status))
        .route(paths::INFER, post(infer))
        .route(paths::OFFER, post(offer))
        .route(paths::RELEASE, post(release))
        .layer(axum::extract::DefaultBodyLimit::max(limits::KEY_SET_BYTES))
        .with_state(fake);
    let served = https::serve(
        listener,
        ServerSecurity::Loopback,
        router,
        Arc::default(),
        std::future::pending(),
    );
    tokio::spawn(served);
    address
}

/// An answer as a holder sends it.
pub(crate) fn respond(reply: &PredictReply) -> Response {
    let (head, body) = reply.to_bytes();
    ([(HEAD_LENGTH_HEADER, head.to_string())], body).into_response()
}

/// An answer that breaks off.
pub(crate) fn break_off() -> Response {
    Response::new(Body::new(Broken(false)))
}

/// A body that ends in the middle, after one piece.
struct Broken(bool);

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let again = std::mem::replace(&mut self.0, true);
        Poll::Ready(Some(match again {
            false => Ok(Frame::data(Bytes::from_static(b"the beginning"))),
            true => Err(std::io::ErrorKind::BrokenPipe.into()),
        }))
    }
}

impl Fake {
    fn caller(&self) -> Client {
        let address = self.real.to_string();
        Client::new(&address, "real", https::ClientSecurity::Loopback)
    }

    async fn pass_on(&self, path: &str, headers: &HeaderMap, body: Bytes) -> Answer {
        let head = headers[HEAD_LENGTH_HEADER].to_str().expect("text");
        let headers = predict_headers(head.parse().expect("a number"));
        let mut client = self.caller();
        let sent = client.send(Method::POST, path, &headers, body);
        sent.await.expect("an answer")
    }
}

async fn pass_keys(
    State(fake): State<Fake>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name| headers[name].to_str().expect("text").to_string();
    let passed = [
        (USER_HEADER, text(USER_HEADER)),
        (SIGNATURE_HEADER, text(SIGNATURE_HEADER)),
    ];
    let mut caller = Caller::new(fake.caller());
    let sent = caller.send(Method::PUT, uri.path(), &passed, body);
    sent.await.expect("keys");
    "".into_response()
}

async fn status(State(fake): State<Fake>) -> Response {
    let mut caller = Caller::new(fake.caller());
    axum::Json(caller.status().await.expect("a status")).into_response()
}

async fn infer(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = fake.pass_on(paths::INFER, &headers, body).await;
    if !answer.status.is_success() {
        return (answer.status, answer.body).into_response();
    }
    tokio::time::sleep(fake.delay).await;
    (fake.twist)(read(&answer))
}

async fn offer(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = fake.pass_on(paths::OFFER, &headers, body).await;
    if !answer.status.is_success() {
        return (answer.status, answer.body).into_response();
    }
    (fake.offer)(Offer::from_bytes(&answer.body).expect("an offer"))
}

async fn release(State(fake): State<Fake>, body: Bytes) -> Response {
    let mut client = fake.caller();
    let sent = client.send(Method::POST, paths::RELEASE, &[], body);
    (fake.twist)(read(&sent.await.expect("an answer")))
}

fn read(answer: &Answer) -> PredictReply {
    let reply = PredictReply::from_bytes(head_length(answer), &answer.body);
    reply.expect("a good answer")
}
