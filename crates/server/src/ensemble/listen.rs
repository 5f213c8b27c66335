//! Where a service of an ensemble listens.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use scuro_wire::https::{self, ServerSecurity};
use scuro_wire::metrics::Metrics;
use scuro_wire::tls::Identity;
use tokio::net::TcpListener;

use super::fault::Fault;
use crate::error::Error;

/// A port, and what guards it.
pub(super) struct Door {
    listener: TcpListener,
    address: SocketAddr,
    security: ServerSecurity,
}

impl Door {
    /// Opens a port: without an identity, one of loopback.
    pub(super) async fn open(
        address: SocketAddr,
        identity: Option<&Identity>,
    ) -> Result<Self, Error> {
        let tls = identity.map(Identity::server_config).transpose()?;
        let security = ServerSecurity::for_address(&address.to_string(), tls)?;
        let unusable = |error: std::io::Error| Fault::Setting {
            what: "--listen",
            found: format!("{address} ({error})"),
            expected: "a free address of this machine",
        };
        let listener = TcpListener::bind(address).await.map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        Ok(Self {
            listener,
            address,
            security,
        })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop` is ready, then those under way.
    pub(super) async fn serve(
        self,
        router: Router,
        metrics: Arc<Metrics>,
        stop: impl Future<Output = ()>,
    ) {
        https::serve(self.listener, self.security, router, metrics, stop).await;
    }
}
