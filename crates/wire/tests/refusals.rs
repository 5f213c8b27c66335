//! Who sends too much is told so, even a client that reads nothing before it has written all.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::put;
use hyper::StatusCode;
use scuro_wire::https::{Security, drain, serve};
use scuro_wire::limits;
use scuro_wire::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn refuse(body: Body) -> StatusCode {
    drain(body).await;
    StatusCode::PAYLOAD_TOO_LARGE
}

#[tokio::test]
async fn a_body_above_the_largest_limit_is_read_away_and_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let router = Router::new().route("/", put(refuse));
    let metrics = Arc::new(Metrics::default());
    let stop = std::future::pending();
    tokio::spawn(serve(listener, Security::Loopback, router, metrics, stop));

    let body = vec![0; limits::KEY_SET_BYTES.max(limits::INFERENCE_BATCH_BYTES) + 1];
    let head = format!(
        "PUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.expect("connection");
    stream.write_all(head.as_bytes()).await.expect("head");
    stream.write_all(&body).await.expect("body");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answer");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}
