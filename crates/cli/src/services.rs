//! What the verbs that run for long have in common: a runtime, and a way to stop.

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::errors::{Exit, Failure};

/// A runtime on all cores.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Runtime::new().map_err(|error| {
        let message = format!("cannot start threads: {error}");
        Failure::new(Exit::JobFailed, "service.runtime", message)
            .hint("raise the limit on threads or files of this user")
    })
}

/// Ready once the process gets SIGINT or SIGTERM.
pub(crate) async fn told_to_stop() {
    let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
    match (signal(interrupt), signal(terminate)) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Without handlers the signals end the process, which loses nothing that was acknowledged.
        _ => std::future::pending().await,
    }
}
