//! HTTP/1.1 over mutual TLS, and on loopback without: a server loop that knows its peers, and a
//! client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::service::Service;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::error::WireError;
use crate::limits;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::tls::Peer;

/// Counter of connections that ended before the first request, by reason.
pub const REFUSED_METRIC: &str = "scuro_tls_refused_total";

/// What guards a connection. `Config` is that of a server or of a client.
#[derive(Debug)]
pub enum Security<Config> {
    /// Nothing: only for addresses of this machine, which is checked for every connection.
    Loopback,
    /// A certificate on both sides.
    Mutual(Arc<Config>),
}

/// What guards a server's connections.
pub type ServerSecurity = Security<ServerConfig>;
/// What guards a client's connection.
pub type ClientSecurity = Security<ClientConfig>;

impl<Config> Security<Config> {
    /// TLS if there is a configuration, else none, which `address` (`host:port`) must allow.
    ///
    /// # Errors
    /// [`WireError::NotLoopback`].
    pub fn for_address(address: &str, tls: Option<Arc<Config>>) -> Result<Self, WireError> {
        match tls {
            Some(tls) => Ok(Self::Mutual(tls)),
            None if is_loopback(address) => Ok(Self::Loopback),
            None => Err(not_loopback(address)),
        }
    }
}

impl<Config> Clone for Security<Config> {
    fn clone(&self) -> Self {
        match self {
            Self::Loopback => Self::Loopback,
            Self::Mutual(tls) => Self::Mutual(Arc::clone(tls)),
        }
    }
}

impl<Config> From<Arc<Config>> for Security<Config> {
    fn from(tls: Arc<Config>) -> Self {
        Self::Mutual(tls)
    }
}

/// Whether `host:port` is this machine by its spelling.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let address = literal.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn not_loopback(address: &str) -> WireError {
    let address = address.to_string();
    WireError::NotLoopback { address }
}

/// Answers requests until `stop` is ready; then waits for those under way.
///
/// Over mutual TLS every request carries a [`Peer`] as an axum `Extension`. Peers without a
/// certificate of the authority, and without TLS those of other machines, do not get as far: a log
/// line and [`REFUSED_METRIC`] say why.
pub async fn serve(
    listener: TcpListener,
    security: impl Into<Security<ServerConfig>>,
    router: Router,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) {
    let connections = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let graceful = Arc::new(GracefulShutdown::new());
    let security = security.into();
    tokio::pin!(stop);
    loop {
        let permit = tokio::select! {
            () = &mut stop => break,
            permit = Arc::clone(&connections).acquire_owned() => permit,
        };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            // Out of file descriptors, above all: the next try may succeed.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let (security, router) = (security.clone(), router.clone());
        let (metrics, graceful) = (Arc::clone(&metrics), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            match accept(&security, stream, address, &metrics).await {
                None => {}
                Some(Accepted::Plain(stream)) => converse(stream, None, router, graceful).await,
                Some(Accepted::Tls(peer, stream)) => {
                    converse(*stream, Some(peer), router, graceful).await;
                }
            }
        });
    }
    drop(listener);
    if let Some(graceful) = Arc::into_inner(graceful) {
        let _ = timeout(limits::REQUEST, graceful.shutdown()).await;
    }
}

/// Answers the requests of one connection.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Option<Peer>,
    router: Router,
    graceful: Watcher,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::REQUEST_HEAD)
        .serve_connection(TokioIo::new(stream), PeerService { peer, router });
    // A peer that hangs up is no error of ours.
    let _ = graceful.watch(connection).await;
}

/// A connection that may send requests.
enum Accepted {
    Plain(TcpStream),
    Tls(Peer, Box<TlsStream<TcpStream>>),
}

async fn accept(
    security: &Security<ServerConfig>,
    stream: TcpStream,
    address: SocketAddr,
    metrics: &Metrics,
) -> Option<Accepted> {
    let _ = stream.set_nodelay(true);
    let refuse = |reason: &'static str, message: String| {
        metrics.add(REFUSED_METRIC, &[("reason", reason)], 1);
        tracing::warn!(%address, reason, message, "connection refused");
    };
    let tls = match security {
        Security::Mutual(tls) => TlsAcceptor::from(Arc::clone(tls)),
        Security::Loopback if address.ip().is_loopback() => return Some(Accepted::Plain(stream)),
        Security::Loopback => {
            refuse("not-loopback", "another machine without TLS".to_string());
            return None;
        }
    };
    let stream = match timeout(limits::HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            refuse(handshake_fault(&error), error.to_string());
            return None;
        }
        Err(_) => {
            refuse("timeout", "no handshake in time".to_string());
            return None;
        }
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    match Peer::of(chain) {
        Ok(peer) => Some(Accepted::Tls(peer, Box::new(stream))),
        Err(error) => {
            refuse("name", error.to_string());
            None
        }
    }
}

/// One word for why a handshake failed.
fn handshake_fault(error: &std::io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::NoCertificatesPresented) => "no-certificate",
        Some(rustls::Error::InvalidCertificate(fault)) => match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "not-valid-yet"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => "foreign-authority",
            _ => "bad-certificate",
        },
        _ => "handshake",
    }
}

/// Reads the rest of a body away, up to [`limits::DRAINED_BYTES`], before a refusal: a client that
/// is still writing would see a broken connection instead of the answer.
pub async fn drain(body: Body) {
    let mut body = Limited::new(body, limits::DRAINED_BYTES);
    while let Some(Ok(_)) = body.frame().await {}
}

/// Adds the peer, if there is TLS, to every request and bounds its time.
#[derive(Clone)]
struct PeerService {
    peer: Option<Peer>,
    router: Router,
}

impl Service<Request<Incoming>> for PeerService {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = std::pin::Pin<
        Box<dyn Future<Output = Result<Self::Response, std::convert::Infallible>> + Send>,
    >;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        let router = TowerToHyperService::new(self.router.clone());
        Box::pin(async move {
            let answer = router.call(request.map(Body::new));
            match timeout(limits::REQUEST, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(StatusCode::REQUEST_TIMEOUT.into_response()),
            }
        })
    }
}

/// A connection to one named peer, opened when it is first needed and again when it broke.
#[derive(Debug)]
pub struct Client {
    address: String,
    peer: String,
    security: Security<ClientConfig>,
    answer_bytes: usize,
    time: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, at most [`limits::ANSWER_BYTES`] unless the client has another bound.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// [`WireError::Json`].
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, WireError> {
        WireError::json("answer", &self.body)
    }

    /// Why it is not a success.
    pub fn problem(&self) -> Problem {
        self.json().unwrap_or_else(|_| {
            let message = format!("status {}", self.status);
            Problem::new("http.status", message, "see the log of the other side")
        })
    }

    /// Seconds to wait before the next try, if the answer says so.
    pub fn retry_after(&self) -> Option<u64> {
        let value = self.headers.get(hyper::header::RETRY_AFTER)?;
        value.to_str().ok()?.parse().ok()
    }
}

impl Client {
    /// A client of the peer whose certificate is for `peer`, at `address` (`host:port`); without
    /// TLS, `peer` is only what errors call it.
    pub fn new(address: &str, peer: &str, security: impl Into<Security<ClientConfig>>) -> Self {
        Self {
            address: address.to_string(),
            peer: peer.to_string(),
            security: security.into(),
            answer_bytes: limits::ANSWER_BYTES,
            time: limits::REQUEST,
            connection: None,
        }
    }

    /// With other bounds for the body of an answer and for the time of a whole request.
    pub fn bounded(self, answer_bytes: usize, time: Duration) -> Self {
        Self {
            answer_bytes,
            time,
            ..self
        }
    }

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// [`WireError::Connection`], [`WireError::Timeout`], [`WireError::TooLarge`],
    /// [`WireError::NotLoopback`]. The request may then have been carried out: all requests of
    /// Scuro can be sent again (a roll-back names what it leaves).
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, WireError> {
        let body = body.into();
        if let Some(open) = self.connection.take().filter(|open| !open.is_closed()) {
            let request = self.request(method.clone(), path, headers, body.clone())?;
            match self.exchange(open, request).await {
                // The other side may have closed an idle connection meanwhile.
                Err(WireError::Connection { .. }) => {}
                sent => return sent,
            }
        }
        let request = self.request(method, path, headers, body)?;
        let connection = self.connect().await?;
        self.exchange(connection, request).await
    }

    async fn exchange(
        &mut self,
        mut connection: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, WireError> {
        let answer = async {
            let ready = connection.ready().await;
            ready.map_err(|error| self.broken(&error))?;
            let answer = connection.send_request(request).await;
            let answer = answer.map_err(|error| self.broken(&error))?;
            self.collect(answer).await
        };
        let answer = timeout(self.time, answer).await;
        let answer = answer.map_err(|_| self.late(self.time))??;
        self.connection = Some(connection);
        Ok(answer)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, WireError> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(HOST, self.peer.as_str());
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, value.as_str());
        }
        request
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, WireError> {
        let opened = timeout(limits::CONNECT, self.open()).await;
        opened.map_err(|_| self.late(limits::CONNECT))?
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, WireError> {
        let opened = async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            Ok((stream.peer_addr()?, stream))
        };
        let opened = opened.await;
        let (found, stream) = opened.map_err(|error: std::io::Error| self.broken(&error))?;
        match &self.security {
            Security::Mutual(tls) => {
                let name = ServerName::try_from(self.peer.clone()).map_err(|e| self.broken(&e))?;
                let tls = TlsConnector::from(Arc::clone(tls));
                let stream = tls.connect(name, stream).await;
                self.shake(stream.map_err(|error| self.broken(&error))?)
                    .await
            }
            // A name may lead anywhere.
            Security::Loopback if !found.ip().is_loopback() => Err(not_loopback(&self.address)),
            Security::Loopback => self.shake(stream).await,
        }
    }

    async fn shake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<SendRequest<Full<Bytes>>, WireError> {
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| self.broken(&error))?;
        tokio::spawn(async move {
            // Its errors come back through the sender.
            let _ = connection.await;
        });
        Ok(sender)
    }

    async fn collect(&self, answer: hyper::Response<Incoming>) -> Result<Answer, WireError> {
        let (parts, body) = answer.into_parts();
        let announced = body.size_hint().lower();
        let body = Limited::new(body, self.answer_bytes).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => WireError::TooLarge {
                what: "answer",
                found: announced.max(self.answer_bytes as u64 + 1),
                limit: self.answer_bytes as u64,
            },
            false => self.broken(&error),
        })?;
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.to_bytes(),
        })
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> WireError {
        WireError::Connection {
            peer: self.peer.clone(),
            address: self.address.clone(),
            message: error.to_string(),
        }
    }

    fn late(&self, limit: Duration) -> WireError {
        WireError::Timeout {
            peer: self.peer.clone(),
            address: self.address.clone(),
            seconds: limit.as_secs(),
        }
    }
}
