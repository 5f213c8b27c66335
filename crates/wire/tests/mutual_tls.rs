//! Real connections on loopback: who gets in, and what the server says of the others.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router, routing::get};
use hyper::Method;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use scuro_wire::WireError;
use scuro_wire::https::{Client, REFUSED_METRIC, Security, serve};
use scuro_wire::metrics::Metrics;
use scuro_wire::tls::{Identity, Peer, VAULT_NAME};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate().expect("key");
    CertifiedIssuer::self_signed(params, key).expect("authority")
}

fn identity(authority: &Authority, names: &[&str], last_year: i32) -> Identity {
    let key = KeyPair::generate().expect("key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let certificate = params.signed_by(&key, authority).expect("certificate");
    let key = key.serialize_pem();
    Identity::from_pem(
        authority.as_ref().pem().as_bytes(),
        certificate.pem().as_bytes(),
        key.as_bytes(),
    )
    .expect("identity")
}

/// A server that answers with the name of its peer.
struct Server {
    address: String,
    metrics: Arc<Metrics>,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(identity: &Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address").to_string();
        let metrics = Arc::new(Metrics::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let who = |Extension(peer): Extension<Peer>| async move { peer.name.to_string() };
        let router = Router::new().route("/who", get(who));
        let tls = identity.server_config().expect("server");
        let counters = Arc::clone(&metrics);
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve(listener, tls, router, counters, stopped));
        Self {
            address,
            metrics,
            stop: Some(stop),
            task,
        }
    }

    fn client(&self, identity: &Identity) -> Client {
        let tls = identity.client_config().expect("client");
        Client::new(&self.address, VAULT_NAME, tls)
    }

    async fn refused(&self, reason: &str) {
        for _ in 0..100 {
            if self.metrics.count(REFUSED_METRIC, &[("reason", reason)]) > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no refusal for {reason}: {}", self.metrics.render());
    }
}

async fn who(client: &mut Client) -> Result<String, WireError> {
    let answer = client.send(Method::GET, "/who", &[], "").await?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

#[tokio::test]
async fn a_peer_of_the_authority_is_known_by_the_name_in_its_certificate() {
    let ours = authority();
    let server = Server::start(&identity(&ours, &[VAULT_NAME], 2900)).await;
    let mut client = server.client(&identity(&ours, &["cam-7"], 2900));
    for _ in 0..3 {
        assert_eq!(who(&mut client).await.as_deref(), Ok("cam-7"));
    }
}

#[tokio::test]
async fn a_foreign_authority_an_expired_and_an_absent_certificate_are_refused_and_counted() {
    let (ours, theirs) = (authority(), authority());
    let server = Server::start(&identity(&ours, &[VAULT_NAME], 2900)).await;
    let mut expired = server.client(&identity(&ours, &["cam-7"], 2021));
    assert!(who(&mut expired).await.is_err());
    server.refused("expired").await;

    // It trusts our authority but shows a certificate of its own.
    let foreign = identity(&theirs, &["cam-7"], 2900);
    assert!(who(&mut server.client(&foreign)).await.is_err());
    let plain = bare_client(&ours);
    let mut nameless = Client::new(&server.address, VAULT_NAME, plain);
    assert!(who(&mut nameless).await.is_err());
    server.refused("no-certificate").await;
}

#[tokio::test]
async fn a_certificate_of_a_foreign_authority_does_not_get_in() {
    let (ours, theirs) = (authority(), authority());
    let server = Server::start(&identity(&ours, &[VAULT_NAME], 2900)).await;
    let tls = foreign_client(&ours, &theirs);
    assert!(
        who(&mut Client::new(&server.address, VAULT_NAME, tls))
            .await
            .is_err()
    );
    server.refused("foreign-authority").await;
}

#[tokio::test]
async fn a_certificate_with_two_names_is_refused() {
    let ours = authority();
    let server = Server::start(&identity(&ours, &[VAULT_NAME], 2900)).await;
    let mut client = server.client(&identity(&ours, &["cam-7", "cam-8"], 2900));
    assert!(who(&mut client).await.is_err());
    server.refused("name").await;
}

#[tokio::test]
async fn a_client_refuses_a_server_of_another_name() {
    let ours = authority();
    let server = Server::start(&identity(&ours, &["cam-8"], 2900)).await;
    let mut client = server.client(&identity(&ours, &["cam-7"], 2900));
    let found = who(&mut client).await.expect_err("not the vault");
    assert!(matches!(found, WireError::Connection { .. }), "{found}");
}

#[tokio::test]
async fn requests_under_way_are_answered_before_the_server_stops() {
    let ours = authority();
    let mut server = Server::start(&identity(&ours, &[VAULT_NAME], 2900)).await;
    let mut client = server.client(&identity(&ours, &["cam-7"], 2900));
    assert!(who(&mut client).await.is_ok());
    server.stop.take().expect("running").send(()).expect("runs");
    tokio::time::timeout(Duration::from_secs(5), server.task)
        .await
        .expect("an idle connection does not hold it")
        .expect("no panic");
}

/// Trusts the authority and shows no certificate.
fn bare_client(authority: &Authority) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.as_ref().der().clone()).expect("root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// Trusts `ours`, and shows a certificate of `theirs`.
fn foreign_client(ours: &Authority, theirs: &Authority) -> Arc<rustls::ClientConfig> {
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(vec!["cam-7".to_string()]).expect("names");
    let certificate = params.signed_by(&key, theirs).expect("certificate");
    let identity = Identity::from_pem(
        ours.as_ref().pem().as_bytes(),
        certificate.pem().as_bytes(),
        key.serialize_pem().as_bytes(),
    );
    identity.expect("identity").client_config().expect("client")
}

#[test]
fn only_addresses_of_this_machine_go_without_tls() {
    for good in [
        "127.0.0.1:7001",
        "127.8.8.8:1",
        "[::1]:7001",
        "localhost:7001",
    ] {
        let found = Security::<rustls::ClientConfig>::for_address(good, None);
        assert!(matches!(found, Ok(Security::Loopback)), "{good}");
    }
    for bad in [
        "10.0.0.1:7001",
        "0.0.0.0:7001",
        "[::]:7001",
        "holder:7001",
        "",
        "localhost.example:1",
    ] {
        let found = Security::<rustls::ClientConfig>::for_address(bad, None);
        let expected = WireError::NotLoopback {
            address: bad.to_string(),
        };
        assert_eq!(found.expect_err(bad), expected);
    }
}

#[tokio::test]
async fn loopback_without_tls_serves_and_bounds_answers_without_naming_a_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address").to_string();
    let who = |peer: Option<Extension<Peer>>| async move { format!("{}", peer.is_some()) };
    let router = Router::new()
        .route("/who", get(who))
        .route("/large", get(|| async { "x".repeat(1000) }));
    let metrics = Arc::new(Metrics::default());
    let served = serve(
        listener,
        Security::Loopback,
        router,
        metrics,
        std::future::pending(),
    );
    let server = tokio::spawn(served);
    let client = || Client::new(&address, "plain", Security::Loopback);
    let mut ample = client().bounded(1000, Duration::from_secs(60));
    let answer = ample.send(Method::GET, "/who", &[], "").await;
    assert_eq!(answer.expect("an answer").body, "false");
    let answer = ample.send(Method::GET, "/large", &[], "").await;
    assert_eq!(answer.expect("an answer").body.len(), 1000);
    let mut narrow = client().bounded(999, Duration::from_secs(60));
    let found = narrow.send(Method::GET, "/large", &[], "").await;
    let expected = WireError::TooLarge {
        what: "answer",
        found: 1000,
        limit: 999,
    };
    assert_eq!(found.expect_err("too large"), expected);
    server.abort();
}
